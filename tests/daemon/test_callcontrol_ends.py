"""Switches that ask by call_control: how a connection ends, and what ends when nobody tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig_callcontrol import LONGEST, TELEPHONY, Make, Switch, Worker, init, start, stop, switches

from featurekeyd.daemon import limits
from featurekeyd.daemon.callcontrol_service import FREED_AT_ONCE, GONE_SECONDS, LOOK_SECONDS
from featurekeyd.daemon.stream import Stream
from featurekeyd.policy.callrules import CallRule
from featurekeyd.policy.events import EventName
from featurekeyd.policy.requests import Want

if TYPE_CHECKING:
    from tests.daemon.conftest import House


@pytest.fixture
def make(licensed: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes switches beside a daemon with 8 trunks."""
    with switches(licensed, monkeypatch) as make:
        yield make


@pytest.fixture
def switch(make: Make) -> Switch:
    return make()


# Connections


def test_the_first_connection_of_a_process_is_shut_at_once_and_the_next_one_stays(switch: Switch) -> None:
    worker = switch.worker()
    first = worker.socket
    assert worker.closed
    assert worker.ask(init("1@b")) == ["Limited"]
    second = worker.socket
    assert worker.ask(init("2@b")) == ["Limited"]
    assert first is not second
    assert worker.socket is second


def test_one_request_that_lies_on_a_first_connection_is_answered(switch: Switch) -> None:
    worker = switch.worker(sent=init("1@b"))
    assert worker.answers() == ["Limited"]
    assert worker.closed
    assert switch.keys == ["1@b;tag=1"]


@pytest.mark.parametrize("sent", [init("1@b") + init("2@b"), stop("0@b") + init("1@b"), init("1@b") + stop()[:-2]])
def test_of_several_requests_on_a_first_connection_none_is_answered_or_granted(switch: Switch, sent: bytes) -> None:
    """Workers that share it would take each other's answers."""
    worker = switch.worker(sent=sent)
    assert worker.answers() == []
    assert worker.closed
    assert switch.keys == []
    assert switch.house.server.turns._streams == {}


def test_a_process_that_cannot_be_known_again_has_one_request_on_each_connection(switch: Switch) -> None:
    worker = Worker(switch, 0)
    assert worker.ask(init("1@b")) == ["Limited"]
    assert worker.closed
    assert worker.ask(init("2@b"), init("3@b")) == ["Limited"] * 2  # what is on its way is still answered
    assert worker.closed


def test_a_connection_of_such_a_process_that_says_nothing_is_closed_after_half_a_second(switch: Switch) -> None:
    worker = Worker(switch, 0)
    switch.house.loop.later(limits.SILENT_MILLISECONDS / 1000 - 0.01)
    switch.house.loop.turn(4)
    assert switch.house.server.turns._streams
    switch.house.loop.later(0.02)
    switch.house.loop.turn(4)
    assert worker.closed
    assert switch.house.server.turns._streams == {}


def test_a_grant_that_is_never_read_is_taken_back(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init("read@b")) == ["Limited"]
    worker.send(init("unread@b"))
    switch.house.loop.turn(6)
    assert switch.keys == ["read@b;tag=1", "unread@b;tag=1"]
    worker.socket.close()
    switch.house.loop.turn(6)
    assert switch.keys == ["read@b;tag=1"]
    assert switch.house.recorded() == {"read@b;tag=1"}


def test_a_call_that_is_asked_about_again_is_not_taken_back(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init()) == ["Limited"]
    worker.send(init())
    switch.house.loop.turn(6)
    worker.socket.close()
    switch.house.loop.turn(6)
    assert switch.in_use == 1


def test_who_has_hung_up_gets_no_lease_and_its_stop_counts(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init("1@b"))
    worker.send(stop("1@b"), init("2@b"))
    worker.socket.close()
    switch.house.loop.turn(6)
    assert switch.keys == []


def test_a_request_that_is_not_ended_is_given_up(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init("1@b"))
    worker.send(init("2@b")[:-2])
    switch.house.loop.turn(4)
    switch.house.loop.later(limits.HALF_MESSAGE_SECONDS - 1)
    worker.send(b"\r\n")
    assert worker.answers() == ["Limited"]
    worker.send(b"stop")
    switch.house.loop.turn(4)
    switch.house.loop.later(limits.HALF_MESSAGE_SECONDS + 0.1)
    switch.house.loop.turn(4)
    assert worker.closed
    assert "not ended within 10 s" in switch.house.log.one(EventName.CLIENT_REFUSED).message


def test_what_came_before_what_is_no_request_is_served_and_answered(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init("1@b"))
    assert worker.ask(stop("1@b"), init("2@b"), b"GET / HTTP/1.1\r\n\r\n", init("3@b")) == ["Ok", "Limited"]
    assert worker.closed
    assert switch.keys == ["2@b;tag=1"]


def test_requests_that_take_long_leave_the_turn_to_others(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, loop = switch.worker(), switch.house.loop
    worker.ask(init())
    answer = switch.service.answer

    def slow(*said: Any) -> Any:
        loop.moment += limits.TURN_MICROSECONDS / 2e6
        return answer(*said)

    monkeypatch.setattr(switch.service, "answer", slow)
    worker.send(*(stop(f"{n}@x") for n in range(6)))
    calls = switch.house.server.turns.calls
    loop.turn(1)
    assert 0 < switch.house.server.turns.calls - calls <= 4
    assert worker.answers() == ["Not found"] * 6


def test_what_is_no_request_ends_the_connection(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init())
    assert worker.ask(b"GET / HTTP/1.1\r\n\r\n") == []
    assert worker.closed
    assert switch.in_use == 1


def test_a_pipelining_client_has_its_share_of_a_turn_and_all_is_answered(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init())
    requests = limits.CALLS_PER_TURN * 5
    worker.send(*(stop(f"{n}@x") for n in range(requests)))
    calls = switch.house.server.turns.calls
    switch.house.loop.turn(1)
    assert switch.house.server.turns.calls - calls <= limits.CALLS_OF_TURN + limits.CALLS_PER_TURN
    switch.house.loop.turn(20)
    assert worker.answers() == ["Not found"] * requests


def test_a_client_that_reads_no_answers_is_turned_away(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init())
    worker.ask(stop())
    unsent = stop("x@y") * 20_000
    while unsent:
        try:
            unsent = unsent[worker.socket.send(unsent) :]
        except BlockingIOError:
            switch.house.loop.turn(10)
        except BrokenPipeError:
            break
    assert "answers were not read" in switch.house.log.one(EventName.CLIENT_REFUSED).message


def test_a_lease_is_recorded_before_it_is_answered(switch: Switch) -> None:
    worker = switch.worker()
    recorded: list[set[str]] = []
    write = Stream.write

    def watched(sends: Stream, data: bytes) -> None:
        recorded.append(switch.house.recorded())
        write(sends, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "write", watched)
        assert worker.ask(init()) == ["Limited"]
    assert recorded == [{"a@b;tag=1"}]


def test_a_bug_in_a_verb_is_an_error_and_ends_nothing(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = switch.worker()
    worker.ask(init())
    with monkeypatch.context() as patch:
        patch.setattr(switch.service, "answer", lambda *_: 1 / 0)
        assert worker.ask(stop()) == ["Error"]
    assert worker.ask(stop()) == ["Ok"]
    assert EventName.UNEXPECTED in switch.house.log.names()


NOISE = st.lists(st.binary(max_size=40) | st.sampled_from([init(), start(), stop(), b"\r\n", b"init\r\n"]), max_size=9)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NOISE)
def test_whatever_a_client_sends_nobody_else_notices(switch: Switch, pieces: list[bytes]) -> None:
    bystander, noisy = switch.worker(), switch.worker()
    bystander.ask(stop("before@b"))
    for piece in pieces:
        noisy.ask(piece)
    assert bystander.ask(init("mine@b"), stop("mine@b")) == ["Limited", "Ok"]
    assert EventName.UNEXPECTED not in switch.house.log.names()
    noisy.socket.close()
    bystander.socket.close()
    switch.house.loop.turn(4)


# Ends that nobody tells


def test_the_calls_of_a_switch_whose_last_process_ends_are_given_back(switch: Switch) -> None:
    first, second = switch.worker(), switch.worker()
    first.ask(init("1@b"))
    second.ask(init("2@b"))
    switch.end(0)
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.in_use == 2
    switch.end(1)
    assert switch.in_use == 2
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.in_use == 0
    event = switch.house.log.one(EventName.CALLS_ENDED_UNTOLD)
    assert event.fields == {"HOLDER": "kamailio", "COUNT": "2"}
    assert switch.house.recorded() == set()


def test_a_connection_that_ends_proves_nothing(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init())
    worker.socket.close()
    switch.house.loop.turn(4)
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.in_use == 1


def test_a_process_that_never_asked_is_not_the_switch(switch: Switch) -> None:
    switch.worker().ask(init())
    switch.worker()
    switch.end(1)
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.in_use == 1


def after_gone(switch: Switch) -> None:
    switch.house.loop.later(GONE_SECONDS + 0.1)
    switch.house.loop.turn(3)


def test_a_process_of_another_user_is_never_the_switch(switch: Switch) -> None:
    """Neither does its end free calls nor its life keep those of a switch that is dead."""
    switch.worker().ask(init())
    stranger, other = switch.worker(0), switch.worker(0, apart=True)
    for asking in (stranger, other):
        assert asking.ask(stop("nobody")) == ["Not found"]
        assert asking.ask(init("x@y")) == ["Locked"]
    switch.end(2)
    after_gone(switch)
    assert switch.in_use == 1
    switch.end(0)
    after_gone(switch)
    assert switch.in_use == 0


def test_after_a_restart_of_the_daemon_only_who_knows_an_earlier_call_is_its_switch(make: Make) -> None:
    make().worker().ask(init("1@b"), init("2@b"))
    again = make()
    program = again.worker(apart=True)
    assert program.ask(stop("nobody")) == ["Not found"]
    assert program.ask(init("3@b")) == ["Limited"]
    again.end(0)
    after_gone(again)
    assert again.keys == ["1@b;tag=1", "2@b;tag=1"]
    assert again.worker().ask(start("1@b")) == ["Ok"]
    again.end(1)
    after_gone(again)
    assert again.keys == []


def test_of_two_switches_that_overlap_each_keeps_its_calls(switch: Switch) -> None:
    old, new = switch.worker(), switch.worker(apart=True)
    old.ask(init("1@b"))
    new.ask(init("2@b"))
    old.ask(init("3@b"))
    switch.end(0)
    after_gone(switch)
    assert switch.keys == ["2@b;tag=1"]
    switch.end(1)
    after_gone(switch)
    assert switch.keys == []


def test_what_ended_meanwhile_is_not_counted_among_what_is_given_back(switch: Switch) -> None:
    switch.worker().ask(init("1@b"), init("2@b"))
    switch.house.clock.run(1)
    switch.end(0)
    switch.house.enforcer.release("kamailio", "1@b;tag=1", TELEPHONY, switch.house.clock())
    after_gone(switch)
    assert switch.house.log.one(EventName.CALLS_ENDED_UNTOLD).fields["COUNT"] == "1"


def test_calls_that_begin_after_the_end_of_the_old_switch_stay(switch: Switch) -> None:
    switch.worker().ask(init("old@b"))
    switch.house.clock.run(10)
    switch.end(0)
    switch.house.clock.run(1)
    switch.worker().ask(init("new@b"))
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.keys == ["new@b;tag=1"]


def test_calls_in_a_database_outlive_the_switch(make: Make) -> None:
    switch = make(survive=True)
    switch.worker().ask(init())
    switch.end(0)
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.in_use == 1


def test_leases_of_other_scopes_and_holders_stay(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init())
    caller = switch.house.caller(TELEPHONY)
    caller.send(switch.house.acquire(key="x", holder="asterisk"))
    caller.send(switch.house.acquire(key="y", feature="tenant"))
    switch.end(0)
    switch.house.loop.later(GONE_SECONDS + 0.1)
    assert switch.keys == ["x", "y"]


def test_many_calls_are_given_back_slice_by_slice(make: Make) -> None:
    switch = make(rules=(CallRule(wants=(Want("trunk"),)),))
    worker = switch.worker()
    worker.ask(*(init(f"{n}@b", ruri="sip:112@pbx") for n in range(FREED_AT_ONCE + 5)))
    switch.house.loop.turn(10)
    assert len(switch.keys) == FREED_AT_ONCE + 5
    switch.end(0)
    switch.house.loop.moment += GONE_SECONDS + 0.1
    switch.house.loop.turn(1)
    assert len(switch.keys) == 5
    switch.house.loop.turn(3)
    assert switch.keys == []


def test_a_call_longer_than_the_switch_lets_any_last_is_given_back(switch: Switch) -> None:
    switch.worker().ask(init("long@b"))
    switch.house.clock.run(LONGEST - 1)
    switch.house.loop.later(LOOK_SECONDS)
    assert switch.in_use == 1
    switch.worker().ask(init("new@b"))
    switch.house.clock.run(2)
    switch.house.loop.later(LOOK_SECONDS)
    switch.house.loop.turn(3)
    assert switch.keys == ["new@b;tag=1"]
    assert "longest call" in switch.house.log.one(EventName.CALLS_ENDED_UNTOLD).message


def test_so_many_processes_of_each_user_are_followed(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SWITCH_PROCESSES", 2)
    processes = switch.service.processes
    children = [switch.process().pid for _ in range(3)]
    met = [processes.meet(pid, TELEPHONY) for pid in (*children, *children)]
    assert met == [True, True, None, False, False, None]
    assert len(processes) == 2
    assert processes.meet(0, TELEPHONY) is None
    assert processes.meet(switch.process().pid, 0) is True


def test_a_process_that_has_ended_already_is_not_followed(switch: Switch) -> None:
    child = switch.process()
    child.kill()
    child.wait()
    assert switch.service.processes.meet(child.pid, TELEPHONY) is None
    assert len(switch.service.processes) == 0


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_after_the_end_of_the_daemon_nobody_is_followed_and_no_timer_runs(make: Make) -> None:
    timers, descriptors = make().house.loop.timers, open_descriptors()
    switch = make()
    switch.service.processes.meet(switch.process().pid, TELEPHONY)
    assert open_descriptors() > descriptors
    switch.service.close()
    assert switch.house.loop.timers == timers
    assert len(switch.service.processes) == 0
