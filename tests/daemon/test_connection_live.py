"""Connections over real sockets, on both loops that may serve."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon import limits
from featurekeyd.daemon.connection import Connection
from featurekeyd.daemon.methods import Client
from featurekeyd.daemon.stream import Stream
from featurekeyd.daemon.wire import LICENSE, SERVICE, reply, reply_continues
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House

DEADLINE = 20


class Talker:
    """One end of a socket; the daemon has the other."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._rest = b""
        self.socket: socket.socket

    async def connect(self, *, first: bytes = b"") -> Talker:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        if first:
            self.socket.send(first)
        Stream(self._house.server.turns, theirs, Connection(self._house.server))
        return self

    async def send(self, *calls: dict[str, Any] | bytes) -> None:
        data = b"".join(it if isinstance(it, bytes) else json.dumps(it).encode() + b"\0" for it in calls)
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def replies(self, count: int) -> list[dict[str, Any]]:
        """The next replies; fewer where the daemon closes before."""
        got: list[dict[str, Any]] = []
        while len(got) < count and (reply := await self._reply()) is not None:
            got.append(reply)
        return got

    async def closed(self) -> bool:
        """Wait until the daemon has closed, and say whether it said nothing before."""
        return await self._reply() is None

    async def _reply(self) -> dict[str, Any] | None:
        while b"\0" not in self._rest:
            try:
                more = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            except ConnectionResetError:  # what the daemon had not read any more when it closed
                more = b""
            if not more:
                return None
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read


Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run(live: House) -> Run:
    """Runs a conversation within the deadline."""

    def run(conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        live.loop.run_until_complete(asyncio.wait_for(conversation(), DEADLINE))

    return run


def list_numbers(_: Client, parameters: dict[str, Any]) -> Iterator[bytes]:
    for number in range(parameters["count"]):
        yield reply_continues({"n": number})
    yield reply({})


def echo(_: Client, parameters: dict[str, Any]) -> bytes:
    return reply(parameters)


def test_calls_cut_into_single_bytes_are_answered_in_order(live: House, run: Run) -> None:
    live.add_method("a.b.Echo", echo)
    data = b"".join(json.dumps(live.call("a.b.Echo", n=n)).encode() + b"\0" for n in range(20))

    async def talk() -> None:
        client = await Talker(live).connect()
        for place in range(len(data)):
            await client.send(data[place : place + 1])
        assert [it["parameters"]["n"] for it in await client.replies(20)] == list(range(20))
        client.socket.close()

    run(talk)


def test_many_pipelined_calls_are_all_answered_and_the_rest_is_served_meanwhile(live: House, run: Run) -> None:
    live.add_method("a.b.Echo", echo)

    async def talk() -> None:
        busy, other = await Talker(live).connect(), await Talker(live).connect()
        sending = asyncio.ensure_future(busy.send(*[live.call("a.b.Echo", n=n) for n in range(20_000)]))
        await other.send(live.call("a.b.Echo", n=-1))
        assert (await other.replies(1))[0]["parameters"] == {"n": -1}
        assert [it["parameters"]["n"] for it in await busy.replies(20_000)] == list(range(20_000))
        await sending
        for client in (busy, other):
            client.socket.close()

    run(talk)


def test_a_client_that_does_not_read_is_waited_for_and_nobody_else_notices(live: House, run: Run) -> None:
    live.add_method("a.b.List", list_numbers, more=True)
    count = 100_000

    async def talk() -> None:
        slow, other = await Talker(live).connect(), await Talker(live).connect()
        await slow.send({**live.call("a.b.List", count=count), "more": True})
        for number in range(100):
            await other.send(live.acquire(f"{number % 8}"))
            assert (await other.replies(1))[0]["parameters"]["allowed"] is True
        replies = await slow.replies(count + 1)
        assert [it["parameters"]["n"] for it in replies[:-1]] == list(range(count))
        for client in (slow, other):
            client.socket.close()

    run(talk)


def test_a_client_that_never_reads_is_given_up(live: House, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.05)
    live.add_method("a.b.List", list_numbers, more=True)

    async def talk() -> None:
        slow, other = await Talker(live).connect(), await Talker(live).connect()
        await slow.send({**live.call("a.b.List", count=1_000_000), "more": True})
        while live.server._connections.total() > 1:
            await other.send(live.call("ListFeatures"))
            await other.replies(1)
        for client in (slow, other):
            client.socket.close()

    run(talk)
    assert "answers were not read" in live.log.one(EventName.CLIENT_REFUSED).message


def test_a_client_that_ends_its_side_gets_all_its_answers(live: House, run: Run) -> None:
    live.add_method("a.b.Echo", echo)

    async def talk() -> None:
        client = await Talker(live).connect()
        await client.send(*[live.call("a.b.Echo", n=n) for n in range(500)])
        client.socket.shutdown(socket.SHUT_WR)
        assert len(await client.replies(500)) == 500
        assert await client.closed()
        client.socket.close()

    run(talk)
    assert live.server._connections.total() == 0


@pytest.mark.parametrize("first", [b"", b'{"method":"org.varlink.service.GetInfo"}\0' * 100], ids=["silent", "talking"])
def test_a_stranger_is_told_and_closed(first: bytes, live: House, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.server, "permissions", lambda _: frozenset())

    async def talk() -> None:
        client = await Talker(live).connect(first=first)
        assert await client.replies(1) == [{"error": f"{SERVICE}.PermissionDenied", "parameters": {}}]
        assert await client.closed()
        client.socket.close()

    run(talk)
    assert live.server._connections.total() == 0


def test_who_sends_too_much_is_told_and_closed(live: House, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MESSAGE_BYTES", 10_000)

    async def talk() -> None:
        client = await Talker(live).connect()
        try:
            for _ in range(100):
                await client.send(b"x" * 1000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert [it["error"] for it in await client.replies(1)] == [f"{LICENSE}.MessageTooLarge"]
        assert await client.closed()
        client.socket.close()

    run(talk)


def test_a_half_message_is_told_and_the_connection_closed(
    live: House, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF_MESSAGE_SECONDS", 0.01)

    async def talk() -> None:
        client = await Talker(live).connect()
        await client.send(b"{")
        assert [it["error"] for it in await client.replies(1)] == [f"{LICENSE}.MessageUnfinished"]
        assert await client.closed()
        client.socket.close()

    run(talk)


def test_bound_leases_are_freed_when_their_client_dies(live: House, run: Run) -> None:
    async def talk() -> None:
        dying, other = await Talker(live).connect(), await Talker(live).connect()
        await dying.send(*[live.acquire(f"{n}", bound=True) for n in range(8)])
        assert all(it["parameters"]["allowed"] for it in await dying.replies(8))
        dying.socket.close()
        while True:
            await other.send(live.acquire("next"))
            if (await other.replies(1))[0]["parameters"]["allowed"]:
                break
        other.socket.close()

    run(talk)
    assert live.recorded() == {"next"}


def test_a_watcher_that_dies_is_forgotten(live: House, run: Run) -> None:
    async def talk() -> None:
        other, watcher = await Talker(live).connect(), await Talker(live).connect()
        await watcher.send({**live.call("Watch", decisions=True), "more": True})
        await watcher.replies(1)
        await other.send(live.acquire("a"))
        assert (await watcher.replies(1))[0]["parameters"]["event"]["key"] == "a"
        watcher.socket.close()
        while len(live.site.subscribers):
            await other.send(live.call("ListFeatures"))
            await other.replies(1)
        other.socket.close()

    run(talk)


def test_a_client_that_dies_in_the_middle_of_everything_leaves_nothing_behind(live: House, run: Run) -> None:
    live.add_method("a.b.List", list_numbers, more=True)

    async def wait(_: Client, __: dict[str, Any]) -> bytes:
        await asyncio.sleep(0.02)
        return reply({})

    live.add_method("a.b.Wait", wait)
    calls: list[list[dict[str, Any] | bytes]] = [
        [{**live.call("a.b.List", count=100_000), "more": True}],
        [live.call("a.b.Wait"), live.call("Status")],
        [live.acquire("bound", bound=True), b'{"method'],
        [{**live.call("Watch"), "more": True}, live.call("Status")],
        [live.call("Status")] * 500,
    ]

    async def talk() -> None:
        for sent in calls:
            client = await Talker(live).connect()
            await client.send(*sent)
            client.socket.close()
        other = await Talker(live).connect()
        while live.server._connections.total() > 1:
            await other.send(live.call("ListFeatures"))
            await other.replies(1)
        other.socket.close()

    run(talk)
    assert len(live.site.subscribers) == 0
    assert live.enforcer.ledger.in_use("trunk") == 0
    assert EventName.UNEXPECTED not in live.log.names()


def test_the_kernel_says_who_calls(live: House, run: Run) -> None:
    async def talk() -> None:
        client = await Talker(live).connect()
        await client.send(live.acquire("a"), live.call("Status"))
        _, status = await client.replies(2)
        assert status["parameters"]["holders"][0]["uid"] == os.getuid()
        client.socket.close()

    run(talk)


def test_the_end_closes_every_connection_and_frees_what_was_bound(live: House, run: Run) -> None:
    live.add_method("a.b.List", list_numbers, more=True)

    async def talk() -> None:
        clients = [await Talker(live).connect() for _ in range(3)]
        await clients[0].send(live.acquire("bound", bound=True), live.acquire("free"))
        await clients[0].replies(2)
        await clients[1].send({**live.call("Watch"), "more": True})
        await clients[1].replies(1)
        await clients[2].send({**live.call("a.b.List", count=1_000_000), "more": True})
        await clients[2].replies(1)
        await live.server.close()
        assert live.server._connections.total() == 0
        for client in clients:
            client.socket.close()

    run(talk)
    assert live.recorded() == {"free"}
    assert len(live.site.subscribers) == 0
