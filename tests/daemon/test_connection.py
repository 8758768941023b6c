"""One connection, turn by turn: order, shares, limits, and what is freed at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon import limits
from featurekeyd.daemon.methods import Client, Slices
from featurekeyd.daemon.wire import LICENSE, MANAGE, SERVICE, reply, reply_continues
from featurekeyd.policy.ending import SLICE_ENDED
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import Caller, House

TELEPHONY, STRANGER = 1000, 4242


def echo(_: Client, parameters: dict[str, Any]) -> bytes:
    return reply(parameters)


def echoes(house: House, *numbers: int) -> list[dict[str, Any]]:
    house.add_method("a.b.Echo", echo)
    return [house.call("a.b.Echo", n=number) for number in numbers]


def list_numbers(_: Client, parameters: dict[str, Any]) -> Iterator[bytes]:
    for number in range(parameters["count"]):
        yield reply_continues({"n": number})
    yield reply({})


def listing(house: House, count: int) -> dict[str, Any]:
    house.add_method("a.b.List", list_numbers, more=True)
    return {**house.call("a.b.List", count=count), "more": True}


class Waiting:
    """A method that answers when the test says so."""

    def __init__(self, house: House) -> None:
        self._loop = house.loop
        self.cancelled = False
        self.answers: list[asyncio.Future[bytes]] = []
        house.add_method("a.b.Wait", self.wait)

    async def wait(self, _: Client, __: dict[str, Any]) -> bytes:
        self.answers.append(self._loop.create_future())
        try:
            return await self.answers[-1]
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def answer(self, **parameters: Any) -> None:
        self.answers[-1].set_result(reply(parameters))
        self._loop.turn(2)


def watch(house: House, **parameters: Any) -> dict[str, Any]:
    return {**house.call("Watch", **parameters), "more": True}


def numbers(caller: Caller) -> list[int]:
    return [parameters["n"] for parameters in caller.parameters]


# Order and shares


def test_answers_come_in_the_order_of_the_calls_and_leave_in_one_write(house: House) -> None:
    caller = house.caller()
    caller.send(*echoes(house, *range(limits.CALLS_PER_TURN)))
    assert numbers(caller) == list(range(limits.CALLS_PER_TURN))
    assert len(caller.wire.writes) == 1


def test_a_pipelining_client_has_its_share_of_a_turn_and_others_come_between(house: House) -> None:
    share, of_user = limits.CALLS_PER_TURN, limits.CALLS_OF_TURN
    caller, other = house.caller(), house.caller()
    caller.send(*echoes(house, *range(share + 2 * of_user)))
    assert len(caller.replies) == share
    assert not caller.wire.is_reading()
    other.send(*echoes(house, 7))
    assert numbers(other) == [7]
    house.loop.turn()
    assert len(caller.replies) == share + of_user
    house.loop.turn()
    assert numbers(caller) == list(range(share + 2 * of_user))
    assert caller.wire.is_reading()


def test_a_client_that_stops_and_goes_on_reading_has_no_second_share_for_it(house: House) -> None:
    share, caller = limits.CALLS_PER_TURN, house.caller()
    caller.send(*echoes(house, *range(6 * share)))
    for _ in range(3):
        caller.connection.pause_writing()
        caller.connection.resume_writing()
    done = len(caller.replies)
    house.loop.turn()
    assert len(caller.replies) - done <= limits.CALLS_OF_TURN
    house.loop.turn(6)
    assert numbers(caller) == list(range(6 * share))


def test_a_listing_stopped_and_resumed_keeps_its_share_and_its_order(house: House) -> None:
    share, caller = limits.REPLIES_PER_TURN, house.caller()
    caller.send(listing(house, 5 * share))
    for _ in range(3):
        caller.connection.pause_writing()
        caller.connection.resume_writing()
    house.loop.turn()
    assert len(caller.replies) <= share
    house.loop.turn(8)
    assert [it["n"] for it in caller.parameters[:-1]] == list(range(5 * share))


def test_a_oneway_call_is_carried_out_and_not_answered(licensed: House) -> None:
    caller = licensed.caller()
    caller.send({**licensed.acquire("silent"), "oneway": True}, licensed.call("ListLeases"))
    assert [reply["error"] for reply in caller.replies] == [f"{SERVICE}.ExpectedMore"]
    assert licensed.recorded() == {"silent"}


def raises(*_: object) -> bytes:
    raise ZeroDivisionError("a secret")


@pytest.mark.parametrize("name", ["a.b.Raise", "a.b.Wait", "a.b.List", "a.b.Nowhere", f"{LICENSE}.Watch"])
def test_a_oneway_call_is_not_answered_whatever_it_calls(name: str, house: House) -> None:
    waiting = Waiting(house)
    house.add_method("a.b.Raise", raises)
    listing(house, 3)
    caller = house.caller()
    caller.send({**house.call(name, **({"count": 3} if name == "a.b.List" else {})), "oneway": True, "more": True})
    house.loop.turn(2)
    if waiting.answers:
        waiting.answer()
    caller.send(*echoes(house, 7))
    house.loop.turn(2)
    assert numbers(caller) == [7]


def test_a_call_that_waits_holds_up_its_own_connection_and_no_other(house: House) -> None:
    waiting, caller, other = Waiting(house), house.caller(), house.caller()
    caller.send(house.call("a.b.Wait"), *echoes(house, 1))
    house.loop.turn(3)
    assert caller.replies == []
    assert not caller.wire.is_reading()
    other.send(*echoes(house, 2))
    assert numbers(other) == [2]
    waiting.answer(n=0)
    assert numbers(caller) == [0, 1]
    assert caller.wire.is_reading()


# Leases and answers


def test_leases_are_recorded_before_their_answers_leave(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []
    caller = licensed.caller()

    def spy(name: str, act: Callable[[Any], None]) -> Callable[[Any], None]:
        def spied(what: Any) -> None:
            acts.append(name)
            act(what)

        return spied

    monkeypatch.setattr(licensed.lease_file, "append", spy("recorded", licensed.lease_file.append))
    monkeypatch.setattr(caller.wire, "write", spy("answered", caller.wire.write))
    caller.send(licensed.acquire("a"), licensed.acquire("b"), licensed.call("Release", holder="kamailio", key="a"))
    assert acts == ["recorded", "answered"]
    assert len(caller.replies) == 3
    assert licensed.recorded() == {"b"}


def test_bound_leases_are_freed_when_their_connection_closes_and_no_others(licensed: House) -> None:
    caller, other = licensed.caller(), licensed.caller()
    caller.send(licensed.acquire("bound", bound=True), licensed.acquire("free"))
    other.send(licensed.acquire("others", bound=True))
    caller.leave()
    assert licensed.recorded() == {"free", "others"}
    assert licensed.enforcer.ledger.in_use("trunk") == 2


def test_a_method_that_raises_is_told_to_the_log_and_not_to_the_client(house: House) -> None:
    house.add_method("a.b.Raise", raises)
    caller = house.caller()
    caller.send(house.call("a.b.Raise"), *echoes(house, 7))
    assert caller.replies[0] == {"error": f"{LICENSE}.UnexpectedCondition", "parameters": {}}
    assert caller.parameters[1] == {"n": 7}
    event = house.log.one(EventName.UNEXPECTED)
    assert "ZeroDivisionError" in event.message
    assert "in raises" in event.fields["TRACEBACK"]


def test_a_method_that_raises_while_it_waits_is_answered_too(house: House) -> None:
    waiting, caller = Waiting(house), house.caller()
    caller.send(house.call("a.b.Wait"), *echoes(house, 7))
    house.loop.turn()
    waiting.answers[-1].set_exception(ZeroDivisionError("a secret"))
    house.loop.turn(3)
    assert [it.get("error") for it in caller.replies] == [f"{LICENSE}.UnexpectedCondition", None]
    assert house.log.names() == [EventName.UNEXPECTED]


def test_a_listing_that_raises_on_its_way_ends_with_the_error(house: House) -> None:
    def breaks(*_: object) -> Iterator[bytes]:
        yield reply_continues({"n": 1})
        raise ZeroDivisionError("a secret")

    house.add_method("a.b.Break", breaks, more=True)
    caller = house.caller()
    caller.send({**house.call("a.b.Break"), "more": True}, *echoes(house, 7))
    house.loop.turn(3)
    assert caller.replies[-2]["error"] == f"{LICENSE}.UnexpectedCondition"
    assert caller.parameters[-1] == {"n": 7}
    assert house.log.names() == [EventName.UNEXPECTED]


# A client that does not read


def test_a_listing_waits_for_a_client_that_does_not_read(house: House) -> None:
    caller, other = house.caller(), house.caller()
    caller.wire.reads = False
    caller.send(listing(house, 200_000), *echoes(house, 7))
    house.loop.turn(2_000)
    most = limits.MAX_UNREAD_BYTES + limits.REPLIES_PER_TURN * 60
    stuck = sum(map(len, caller.wire.writes))
    assert limits.MAX_UNREAD_BYTES < stuck < most
    other.send(*echoes(house, 8))
    assert numbers(other) == [8]
    caller.wire.drain()
    house.loop.turn(2_000)
    assert [it["n"] for it in caller.parameters if it] == [*range(200_000), 7]


def test_a_client_that_reads_nothing_is_given_up_after_the_limit(house: House) -> None:
    caller = house.caller()
    caller.wire.reads = False
    caller.send(listing(house, 200_000))
    house.loop.turn(500)
    house.loop.later(limits.UNREAD_SECONDS - 1)
    assert not caller.wire.was_aborted()
    house.loop.later(1.5)
    assert caller.wire.was_aborted()
    assert "answers were not read for 30 s" in house.log.one(EventName.CLIENT_REFUSED).message
    caller.leave()
    assert house.loop.timers == 0


def test_a_client_that_reads_in_time_is_kept(house: House) -> None:
    caller = house.caller()
    caller.wire.reads = False
    caller.send(listing(house, 20_000))
    house.loop.turn(100)
    house.loop.later(limits.UNREAD_SECONDS - 1)
    caller.wire.drain()
    house.loop.turn(300)
    house.loop.later(limits.UNREAD_SECONDS + 1)
    assert not caller.wire.closed
    assert len(caller.replies) == 20_001


def test_nothing_is_read_from_a_client_that_reads_nothing(house: House) -> None:
    caller = house.caller()
    caller.wire.reads = False
    house.add_method("a.b.Much", lambda *_: reply({"x": "x" * 100_000}))
    sent = 0
    while caller.wire.is_reading() and sent < 50:
        caller.send(house.call("a.b.Much"))
        sent += 1
    assert sent <= limits.MAX_UNREAD_BYTES // 100_000 + 2
    assert not caller.wire.is_reading()
    caller.wire.drain()
    house.loop.turn(2)
    assert caller.wire.is_reading()
    assert len(caller.replies) == sent


# Limits


def test_a_message_begun_and_not_ended_is_told_after_the_limit(house: House) -> None:
    caller = house.caller()
    caller.send(b"{")
    house.loop.later(limits.HALF_MESSAGE_SECONDS - 1)
    caller.send(b'"method"')
    assert caller.replies == []
    house.loop.later(1.5)
    seconds = {"seconds": limits.HALF_MESSAGE_SECONDS}
    assert caller.replies == [{"error": f"{LICENSE}.MessageUnfinished", "parameters": seconds}]
    assert caller.wire.closed


def test_the_time_for_a_message_begins_anew_with_each(house: House) -> None:
    caller = house.caller()
    (data,) = (json.dumps(call).encode() + b"\0" for call in echoes(house, 1))
    caller.send(data[:5])
    for _ in range(4):
        house.loop.later(limits.HALF_MESSAGE_SECONDS - 1)
        caller.send(data[5:] + data[:5])
    caller.send(data[5:])
    house.loop.later(limits.HALF_MESSAGE_SECONDS + 1)
    assert numbers(caller) == [1] * 5
    assert not caller.wire.closed
    assert house.loop.timers == 0


def test_a_half_message_is_not_held_against_a_client_whom_the_daemon_lets_wait(house: House) -> None:
    waiting, caller = Waiting(house), house.caller()
    (data,) = (json.dumps(call).encode() + b"\0" for call in echoes(house, 1))
    caller.send(house.call("a.b.Wait"), data[:5])
    house.loop.turn()
    assert not caller.wire.is_reading()
    house.loop.later(limits.HALF_MESSAGE_SECONDS + 1)
    assert caller.replies == []
    waiting.answer(n=0)
    caller.send(data[5:])
    assert numbers(caller) == [0, 1]
    caller.send(b"{")
    house.loop.later(limits.HALF_MESSAGE_SECONDS + 1)
    house.loop.later(limits.HALF_MESSAGE_SECONDS + 1)
    assert caller.wire.closed


@pytest.mark.parametrize(
    ("uid", "limit"), [(TELEPHONY, limits.MAX_TELEPHONY_BYTES), (0, limits.MAX_MESSAGE_BYTES)], ids=["asks", "manages"]
)
def test_a_message_too_long_is_told_and_the_connection_closed(uid: int, limit: int, house: House) -> None:
    caller = house.caller(uid)
    caller.send(b"x" * limit)
    assert caller.replies == []
    caller.send(b"x")
    assert caller.replies == [{"error": f"{LICENSE}.MessageTooLarge", "parameters": {"limit": limit}}]
    assert caller.wire.closed
    caller.connection.data_received(b"x" * 100 + b"\0")
    assert len(caller.replies) == 1


def test_calls_before_a_bad_one_are_answered_and_those_after_it_are_not(house: House) -> None:
    caller = house.caller()
    first, last = echoes(house, 1, 2)
    caller.send(first, b"[]\0", last)
    house.loop.turn(3)
    assert [it.get("error") for it in caller.replies] == [None, f"{LICENSE}.MalformedMessage"]
    assert caller.wire.closed


def test_a_stranger_is_told_and_closed_and_nothing_of_it_is_served(house: House) -> None:
    stranger = house.caller(STRANGER, 77)
    assert stranger.replies == [{"error": f"{SERVICE}.PermissionDenied", "parameters": {}}]
    assert stranger.wire.closed
    stranger.connection.data_received(json.dumps(house.call("Status")).encode() + b"\0")
    assert len(stranger.replies) == 1
    assert house.log.one(EventName.CLIENT_REFUSED).fields == {"UID": str(STRANGER)}


def test_who_may_ask_may_not_manage(house: House) -> None:
    for caller, errors in (
        (house.caller(TELEPHONY), [None, f"{SERVICE}.PermissionDenied"]),
        (house.caller(STRANGER, 500), [None, f"{SERVICE}.PermissionDenied"]),
        (house.caller(STRANGER, 8, 501), [None, f"{MANAGE}.FeatureKeyNotReadable"]),
        (house.caller(0), [None, f"{MANAGE}.FeatureKeyNotReadable"]),
    ):
        caller.send(house.call("Status"), house.call(f"{MANAGE}.Request"))
        assert [reply.get("error") for reply in caller.replies] == errors


def test_a_user_has_so_many_connections_and_no_more(house: House) -> None:
    callers = [house.caller(TELEPHONY) for _ in range(limits.MAX_CONNECTIONS_PER_USER)]
    assert all(not caller.wire.closed for caller in callers)
    beyond = house.caller(TELEPHONY)
    limit = {"limit": limits.MAX_CONNECTIONS_PER_USER}
    assert beyond.replies == [{"error": f"{LICENSE}.TooManyConnections", "parameters": limit}]
    assert beyond.wire.closed
    assert not house.caller(0).wire.closed
    beyond.leave()
    callers.pop().leave()
    assert not house.caller(TELEPHONY).wire.closed


def test_all_users_together_have_so_many_connections(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 3 + limits.KEPT_FOR_MANAGERS)
    callers = [house.caller(uid, 500) for uid in range(2000, 2003)]
    beyond = house.caller(2003, 500)
    assert beyond.replies == [{"error": f"{LICENSE}.TooManyConnections", "parameters": {"limit": 3}}]
    for caller in (*callers, beyond):
        caller.leave()
    assert not house.caller(2003, 500).wire.closed


def test_clients_that_are_turned_away_leave_no_timer_behind(house: House) -> None:
    for _ in range(50):
        stranger = house.caller(STRANGER)
        stranger.leave()
    assert house.loop.timers == 0


def test_a_client_that_does_not_take_the_refusal_is_cut_off(house: House) -> None:
    stranger = house.caller(STRANGER)
    house.loop.later(limits.UNREAD_SECONDS + 1)
    assert stranger.wire.was_aborted()


def test_a_storm_of_broken_messages_is_told_once_a_minute(house: House) -> None:
    for place in range(200):
        caller = house.caller()
        caller.send(b" " * place + b"x\0")
        caller.leave()
    assert house.log.names() == [EventName.CLIENT_REFUSED]
    house.clock.run(61)
    house.caller().send(b"x\0")
    assert house.log.names() == [EventName.CLIENT_REFUSED] * 2


# Watching


def test_the_first_reply_to_watch_says_that_it_stands(house: House) -> None:
    caller = house.caller()
    caller.send(watch(house))
    assert caller.replies == [{"parameters": {}, "continues": True}]


def test_what_happens_in_the_turn_of_a_watch_comes_behind_the_answers_of_that_turn(licensed: House) -> None:
    caller = licensed.caller()
    licensed.ask(f"{LICENSE}.Acquire", **licensed.acquire("held")["parameters"])
    force = licensed.call(f"{MANAGE}.ReleaseLease", holder="kamailio", key="held")
    caller.send(force, watch(licensed))
    assert caller.parameters[0] == {"released": True}
    assert caller.replies[1] == {"parameters": {}, "continues": True}
    assert [it["event"]["kind"] for it in caller.parameters[2:]] in ([], ["drift"])


def test_a_slow_watcher_loses_events_and_is_told_how_many(licensed: House) -> None:
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send(watch(licensed, decisions=True))
    watcher.connection.pause_writing()
    caller.send(*[licensed.acquire(f"key {number}") for number in range(5)])
    assert len(caller.replies) == 5
    assert len(watcher.replies) == 1
    watcher.connection.resume_writing()
    assert watcher.parameters[1:] == [{"lost": 5}], "the next event may be long in coming"
    caller.send(licensed.acquire("key 5"), licensed.acquire("key 6"))
    assert [(it["event"]["key"], it.get("lost")) for it in watcher.parameters[2:]] == [("key 5", None), ("key 6", None)]


def test_a_watcher_that_reads_nothing_is_given_up(licensed: House) -> None:
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send(watch(licensed, decisions=True))
    watcher.wire.reads = False
    while watcher.connection._unread is None:
        caller.send(licensed.acquire("same"))
    assert sum(map(len, watcher.wire.writes)) < limits.MAX_UNREAD_BYTES + 1000
    house_before = len(licensed.site.subscribers)
    licensed.loop.later(limits.UNREAD_SECONDS + 1)
    assert watcher.wire.was_aborted()
    watcher.leave()
    assert len(licensed.site.subscribers) == house_before - 1


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "later"])
def test_any_call_behind_a_watch_is_told_and_the_connection_closed(together: bool, licensed: House) -> None:
    caller, late = licensed.caller(), licensed.acquire("late")
    if together:
        caller.send(watch(licensed), late)
    else:
        caller.send(watch(licensed))
        assert not caller.wire.closed
        caller.send(late)
    assert caller.replies[0] == {"parameters": {}, "continues": True}
    assert caller.replies[1]["error"] == f"{LICENSE}.MalformedMessage"
    assert "takes no more calls; open another one" in caller.parameters[1]["hint"]
    assert len(caller.replies) == 2
    assert caller.wire.closed
    assert licensed.recorded() == set()
    caller.leave()
    assert len(licensed.site.subscribers) == 0


def test_calls_that_wait_behind_a_watch_are_told_when_its_turn_comes(house: House) -> None:
    waiting, caller = Waiting(house), house.caller()
    caller.send(house.call("a.b.Wait"), watch(house), *echoes(house, 1))
    house.loop.turn()
    assert caller.replies == []
    waiting.answer(n=0)
    assert [it.get("error") for it in caller.replies] == [None, None, f"{LICENSE}.MalformedMessage"]
    assert caller.wire.closed


@pytest.mark.parametrize("before", ["many calls", "a call that waits", "a listing"])
def test_a_watching_connection_is_read_so_that_its_end_is_noticed(before: str, house: House) -> None:
    waiting, caller = Waiting(house), house.caller()
    calls = {
        "many calls": echoes(house, *range(limits.CALLS_PER_TURN + 1)),
        "a call that waits": [house.call("a.b.Wait")],
        "a listing": [listing(house, 3)],
    }
    caller.send(*calls[before], watch(house))
    house.loop.turn(2)
    if waiting.answers:
        waiting.answer(n=1)
    house.loop.turn(3)
    assert len(house.site.subscribers) == 1
    assert caller.wire.is_reading()


def test_so_many_may_watch_and_no_more(house: House) -> None:
    users = range(2000, 2000 + limits.MAX_SUBSCRIBERS // limits.MAX_SUBSCRIBERS_OF_USER)
    callers = [house.caller(uid, 500) for uid in users for _ in range(limits.MAX_SUBSCRIBERS_OF_USER)]
    for caller in callers:
        caller.send(watch(house))
        assert caller.replies == [{"parameters": {}, "continues": True}]
    for uid, limit in ((2000, limits.MAX_SUBSCRIBERS_OF_USER), (TELEPHONY, limits.MAX_SUBSCRIBERS)):
        beyond = house.caller(uid, 500)
        beyond.send(watch(house), *echoes(house, 7))
        assert beyond.replies[0] == {"error": f"{LICENSE}.TooManySubscribers", "parameters": {"limit": limit}}
        assert beyond.parameters[1] == {"n": 7}
    callers[0].leave()
    again = house.caller(2000, 500)
    again.send(watch(house))
    assert again.replies == [{"parameters": {}, "continues": True}]


def test_the_events_of_a_turn_leave_with_it_in_one_write(licensed: House) -> None:
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send(watch(licensed, decisions=True))
    licensed.server.turns.queue(
        caller.connection._share,
        lambda: caller.send(*[licensed.acquire(f"{number}") for number in range(limits.CALLS_PER_TURN)]),
    )
    before = len(watcher.wire.writes)
    licensed.loop.turn()
    assert len(watcher.replies) == 1 + limits.CALLS_PER_TURN
    assert len(watcher.wire.writes) == before + 1


# The end


def test_a_client_that_ends_its_side_gets_its_answers_first(house: House) -> None:
    waiting, caller = Waiting(house), house.caller()
    caller.send(house.call("a.b.Wait"), *echoes(house, 1))
    house.loop.turn()
    assert caller.connection.eof_received() is True
    assert not caller.wire.closed
    waiting.answer(n=0)
    assert numbers(caller) == [0, 1]
    assert caller.wire.closed


def test_a_client_that_ends_its_side_behind_many_calls_gets_all_answers(house: House) -> None:
    caller = house.caller()
    caller.send(*echoes(house, *range(3 * limits.CALLS_PER_TURN)))
    assert caller.connection.eof_received() is True
    house.loop.turn(4)
    assert len(caller.replies) == 3 * limits.CALLS_PER_TURN
    assert caller.wire.closed


def test_a_client_that_ends_its_side_in_a_listing_gets_the_whole_of_it(house: House) -> None:
    caller = house.caller()
    caller.send(listing(house, 3 * limits.REPLIES_PER_TURN))
    assert caller.connection.eof_received() is True
    house.loop.turn(6)
    assert len(caller.replies) == 3 * limits.REPLIES_PER_TURN + 1
    assert caller.wire.closed


def test_a_client_with_nothing_open_is_closed_when_it_ends_its_side(house: House) -> None:
    caller = house.caller()
    caller.send(*echoes(house, 1), b"{")
    assert not caller.connection.eof_received()


def test_the_end_of_a_connection_ends_all_that_it_began(house: House) -> None:
    waiting, caller, watcher = Waiting(house), house.caller(), house.caller()
    caller.send(house.call("a.b.Wait"), b"{")
    watcher.send(watch(house))
    caller.connection.pause_writing()
    house.loop.turn()
    caller.leave()
    watcher.leave()
    house.loop.turn(2)
    assert waiting.cancelled
    assert house.loop.timers == 0
    assert len(house.site.subscribers) == 0
    assert house.server._connections.total() == 0


def test_a_listing_that_finds_nothing_lets_others_be_served_meanwhile(house: House) -> None:
    def nothing(_: Client, __: dict[str, Any]) -> Iterator[bytes]:
        yield b""
        yield b""
        yield reply({"n": 5})

    house.add_method("a.b.Find", nothing, more=True)
    caller, other = house.caller(), house.caller()
    caller.send({**house.call("a.b.Find"), "more": True})
    assert caller.replies == []
    other.send(*echoes(house, 7))
    assert (numbers(other), caller.replies) == ([7], [])
    house.loop.turn(3)
    assert numbers(caller) == [5]


# Slices


def sliced(house: House, slices: int, done: list[int]) -> dict[str, Any]:
    """A call whose work takes so many slices beside the first."""

    def work() -> Iterator[bytes]:
        for number in range(slices):
            done.append(number)
            yield b""
        done.append(slices)
        yield reply({"n": slices})

    house.add_method("a.b.Work", lambda *_: Slices(work()))
    return house.call("a.b.Work")


def test_work_in_slices_is_answered_at_its_end_and_others_come_between(house: House) -> None:
    done: list[int] = []
    caller, other = house.caller(), house.caller()
    caller.send(sliced(house, 3, done), *echoes(house, 7))
    assert done == [0]
    other.send(*echoes(house, 1))
    assert numbers(other) == [1]
    for more in ([0, 1], [0, 1, 2]):
        house.loop.turn()
        assert done == more
        assert caller.replies == []
    house.loop.turn(2)
    assert numbers(caller) == [3, 7], "calls of a connection are answered in their order"


def test_work_in_slices_goes_on_while_its_client_does_not_read(house: House) -> None:
    done: list[int] = []
    caller = house.caller()
    caller.send(sliced(house, 3, done))
    caller.connection.pause_writing()
    house.loop.turn(5)
    assert done == [0, 1, 2, 3]
    caller.connection.resume_writing()
    assert numbers(caller) == [3]


def test_work_in_slices_is_ended_though_its_client_goes_away(house: House) -> None:
    done: list[int] = []
    caller = house.caller()
    caller.send(sliced(house, 3, done))
    caller.leave()
    house.loop.turn(4)
    assert done == [0, 1, 2, 3]
    assert house.server.turns._shares == {}


def test_many_leases_bound_to_a_connection_are_freed_slice_by_slice_and_others_come_between(licensed: House) -> None:
    caller, other = licensed.caller(), licensed.caller()
    count = 3 * SLICE_ENDED
    for number in range(count):
        caller.send(licensed.acquire(f"call {number}", dialed="112", bound=True))
    ledger = licensed.enforcer.ledger
    assert len(ledger) == count
    caller.leave()
    assert 0 < len(ledger) < count
    other.send(licensed.acquire("between"))
    assert other.parameters[0]["allowed"]
    licensed.loop.turn(6)
    assert [lease.key for lease in ledger] == ["between"]
    assert licensed.recorded() == {"between"}


def test_work_in_slices_that_nobody_waits_for_is_done_without_an_answer(house: House) -> None:
    done: list[int] = []
    caller = house.caller()
    caller.send({**sliced(house, 3, done), "oneway": True}, *echoes(house, 7))
    house.loop.turn(6)
    assert done == [0, 1, 2, 3]
    assert numbers(caller) == [7]


def test_a_bug_in_a_slice_is_answered_and_ends_the_work(house: House) -> None:
    def work() -> Iterator[bytes]:
        yield b""
        raise RuntimeError("a secret")

    house.add_method("a.b.Work", lambda *_: Slices(work()))
    caller = house.caller()
    caller.send(house.call("a.b.Work"), *echoes(house, 7))
    house.loop.turn(3)
    assert [it.get("error") for it in caller.replies] == [f"{LICENSE}.UnexpectedCondition", None]
    assert "secret" not in str(caller.replies)
