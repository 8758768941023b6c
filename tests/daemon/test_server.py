"""What connections share: numbers, limits, a log that no client can flood, and their end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import limits, server
from featurekeyd.daemon.peer import Peer
from featurekeyd.daemon.wire import LICENSE
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House


def peer(uid: int) -> Peer:
    return Peer(1, uid, frozenset())


def test_no_two_connections_have_one_number(house: House) -> None:
    assert len({house.server.next_number() for _ in range(1000)}) == 1000


def test_each_user_and_each_mistake_is_told_once_in_a_while(house: House) -> None:
    for _ in range(3):
        for uid in (1, 2):
            for hint in ("more than 256 connections", "JSON is not UTF-8"):
                house.server.turned_away(peer(uid), hint)
    assert house.log.names() == [EventName.CLIENT_REFUSED] * 4
    assert house.log.events[0].message == ("A client of uid 1 (process 1) was turned away: more than 256 connections.")
    house.clock.run(59)
    house.server.turned_away(peer(1), "JSON is not UTF-8")
    assert len(house.log.events) == 4
    house.clock.run(1)
    house.server.turned_away(peer(1), "JSON is not UTF-8")
    assert len(house.log.events) == 5


def test_the_users_that_were_told_of_are_so_many_at_most(house: House) -> None:
    for uid in range(3 * server._MAX_TOLD):
        house.server.turned_away(peer(uid), "this user may not ask")
        assert len(house.server._told) <= server._MAX_TOLD


def test_an_exception_is_told_to_the_log_whole_and_to_the_client_not_at_all(house: House) -> None:
    reply = house.server.unexpected(RuntimeError("the serial of the owner"))
    assert json.loads(reply[:-1]) == {"error": "io.featurekey.License.UnexpectedCondition", "parameters": {}}
    assert "the serial of the owner" in house.log.one(EventName.UNEXPECTED).fields["TRACEBACK"]


def test_connections_are_counted_by_user_and_forgotten_when_there_are_none(house: House) -> None:
    wires = [asyncio.Transport() for _ in range(3)]
    users = [peer(uid) for uid in (1, 2, 2)]
    assert [house.server.admit(*it) for it in zip(users, wires, strict=True)] == [None] * 3
    for user, wire in zip(users, wires, strict=True):
        house.server.dismiss(user, wire)
    assert house.server._connections == {}
    assert house.server._transports == {}


def test_some_connections_are_kept_for_who_may_manage(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", limits.KEPT_FOR_MANAGERS + 2)
    callers = [house.caller(uid, 500) for uid in (2000, 2001)]
    assert not any(caller.wire.closed for caller in callers)
    beyond = house.caller(2002, 500)
    assert beyond.replies == [{"error": f"{LICENSE}.TooManyConnections", "parameters": {"limit": 2}}]
    beyond.leave()
    # Root, and a group that may manage: they have what was kept for them, and no more than all together.
    managers = [house.caller(uid, 501) for uid in range(limits.KEPT_FOR_MANAGERS)]
    assert not any(manager.wire.closed for manager in managers)
    late = house.caller()
    most = {"limit": limits.KEPT_FOR_MANAGERS + 2}
    assert late.replies == [{"error": f"{LICENSE}.TooManyConnections", "parameters": most}]


# The end


def test_the_end_aborts_every_connection_and_grants_nothing_afterwards(licensed: House) -> None:
    bound, busy = licensed.caller(), licensed.caller()
    bound.send(licensed.acquire("bound", bound=True))
    busy.send(*[licensed.acquire(f"{number % 7}") for number in range(limits.CALLS_PER_TURN + 1)])

    async def ended() -> None:
        closing = asyncio.ensure_future(licensed.server.close())
        await asyncio.sleep(0)
        assert all(caller.wire.was_aborted() for caller in (bound, busy))
        for caller in (bound, busy):
            caller.leave()
        await closing

    licensed.loop.run_until_complete(ended())
    held, replies = licensed.recorded(), len(busy.replies)
    assert "bound" not in held
    busy.connection.data_received(json.dumps(licensed.acquire("late")).encode() + b"\0")
    licensed.loop.turn(3)
    assert (licensed.recorded(), len(busy.replies)) == (held, replies)


def test_the_end_waits_for_no_connection_for_ever(house: House) -> None:
    stuck = house.caller()
    house.loop.run_until_complete(house.server.close())
    assert stuck.wire.was_aborted()


def test_a_connection_accepted_just_before_the_end_is_served_nothing(house: House) -> None:
    house.loop.run_until_complete(house.server.close())
    late = house.caller()
    assert late.wire.was_aborted()
    late.leave()
    assert house.server._connections == {}
