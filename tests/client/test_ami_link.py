"""The connection to AMI, over a real socket with a switch that does as the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from featurekeyd.client import ami_link
from featurekeyd.client.agi_log import Log
from featurekeyd.client.agi_settings import AmiSettings
from featurekeyd.client.ami_link import LIST_SECONDS, LOGIN_SECONDS, AmiLink, TakenList
from featurekeyd.client.ami_protocol import Message

Switch = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = 0.05
PATIENCE = 20


async def login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"Asterisk Call Manager/9.0.0\r\n")
    asked = await action(reader)
    writer.write(b"Response: Success\r\nActionID: " + asked + b"\r\n\r\n")


async def action(reader: asyncio.StreamReader) -> bytes:
    """The ActionID of the next action."""
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    return next(line.partition(b": ")[2] for line in lines if line.startswith(b"ActionID"))


async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give a whole list of one channel, to the next who asks."""
    asked = await action(reader)
    mine = b"ActionID: " + asked + b"\r\n"
    writer.write(b"Event: CoreShowChannel\r\n" + mine + b"Uniqueid: 1.1\r\n\r\n")
    end = b"EventList: Complete\r\nListItems: 1\r\n\r\n"
    writer.write(b"Event: CoreShowChannelsComplete\r\n" + mine + end)


class Linked:
    """A link that runs, and what it told."""

    def __init__(self, folder: Path, port: int) -> None:
        secret = folder / "secret"
        secret.write_text("s3cret\n", encoding="utf-8")
        settings = AmiSettings("featurekey", secret, port=port, plain=True)
        self.up = asyncio.Event()
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.link = AmiLink(settings, Log(), self.events.put_nowait, self.up.set)


def linked(folder: Path, switch: Switch, test: Callable[[Linked], Awaitable[None]]) -> None:
    over: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        over.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await switch(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            it = Linked(folder, server.sockets[0].getsockname()[1])
            running = asyncio.create_task(it.link.run())
            async with asyncio.timeout(PATIENCE):
                await test(it)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await asyncio.gather(*over)

    asyncio.run(run())


def test_those_who_ask_during_a_list_share_the_next_one(tmp_path: Path) -> None:
    asked = 0

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await login(reader, writer)
        while True:
            await whole(reader, writer)
            asked += 1

    async def test(it: Linked) -> None:
        await it.up.wait()
        results = await asyncio.gather(*(it.link.channels() for _ in range(5)))
        assert all(isinstance(result, TakenList) and "1.1" in result.channels for result in results)
        assert asked == 2

    linked(tmp_path, switch, test)


def test_a_list_that_does_not_come_is_none_and_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIST_SECONDS == 5
    monkeypatch.setattr(ami_link, "LIST_SECONDS", SHORT)
    ended = asyncio.Event()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await login(reader, writer)
        await action(reader)
        try:
            await reader.read()
        finally:
            ended.set()

    async def test(it: Linked) -> None:
        await it.up.wait()
        assert await it.link.channels() is None
        await ended.wait()

    linked(tmp_path, switch, test)


def test_a_switch_that_does_not_finish_the_login_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert LOGIN_SECONDS == 10
    monkeypatch.setattr(ami_link, "LOGIN_SECONDS", SHORT)
    ended = asyncio.Event()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Asterisk Call Manager/9.0.0\r\n")
        try:
            await reader.read()
        finally:
            ended.set()

    async def test(it: Linked) -> None:
        await ended.wait()
        assert not it.link.is_up
        assert await it.link.channels() is None

    linked(tmp_path, switch, test)
    assert "no login within" in capsys.readouterr().err


def test_whoever_waits_for_a_list_when_the_connection_ends_gets_none(tmp_path: Path) -> None:
    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await login(reader, writer)
        await action(reader)

    async def test(it: Linked) -> None:
        await it.up.wait()
        first, second = await asyncio.gather(it.link.channels(), it.link.channels())
        assert (first, second) == (None, None)

    linked(tmp_path, switch, test)


def test_events_come_through_and_the_connection_is_made_anew(tmp_path: Path) -> None:
    connections = 0

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await login(reader, writer)
        writer.write(b"Event: Hangup\r\nUniqueid: 1.%d\r\n\r\n" % connections)

    async def test(it: Linked) -> None:
        for number in (b"1.1", b"1.2"):
            assert (await it.events.get())["uniqueid"] == number.decode()

    linked(tmp_path, switch, test)
