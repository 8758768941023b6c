"""Switches that ask by call_control: what is answered to a call, to an emergency call, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from rig_callcontrol import STRANGER, TELEPHONY, Make, Switch, ask, init, start, stop, switches

from featurekeyd.client.limits import key_text
from featurekeyd.daemon import limits
from featurekeyd.policy.events import EventName

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


# Answers


def test_a_call_is_followed_to_its_end(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init()) == ["Limited"]
    assert switch.keys == ["a@b;tag=1"]
    assert worker.ask(start()) == ["Ok"]
    assert switch.in_use == 1
    assert worker.ask(stop()) == ["Ok"]
    assert switch.in_use == 0
    assert worker.ask(stop()) == ["Not found"]
    assert worker.ask(start()) == ["Not found"]


def test_a_call_that_no_rule_fits_or_that_wants_nothing_is_not_counted(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init(source="10.0.0.1")) == ["No limit"]
    assert worker.ask(init(ruri="sip:800@pbx", source="10.0.0.1")) == ["No limit"]
    assert switch.keys == []


def test_at_the_limit_there_is_no_credit_and_after_an_end_there_is(switch: Switch) -> None:
    worker = switch.worker()
    answers = [worker.ask(init(f"{n}@b"))[0] for n in range(9)]
    assert answers == ["Limited"] * 8 + ["No credit"]
    assert worker.ask(stop("3@b"), init("8@b")) == ["Ok", "Limited"]
    assert switch.in_use == 8


def test_the_rule_says_port_and_wants(switch: Switch) -> None:
    assert switch.worker().ask(init(ruri="sip:030@gw", source="10.0.0.1")) == ["Limited"]
    (lease,) = switch.house.enforcer.ledger
    assert (lease.port, lease.wants) == ("trunk:carrier-b", {"trunk": 2})


def test_without_a_license_calls_are_locked(switch: Switch) -> None:
    assert switch.worker().ask(init(ruri="sip:700@pbx", source="10.0.0.1")) == ["Locked"]


def test_an_init_that_comes_again_has_the_same_answer_and_takes_nothing_more(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init()) + worker.ask(init()) + worker.ask(start(), init()) == [
        "Limited",
        "Limited",
        "Ok",
        "Limited",
    ]
    assert switch.in_use == 1


def test_calls_that_share_a_call_id_are_counted_each(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(*(init(tag=str(n)) for n in range(9))) == ["Limited"] * 8 + ["No credit"]
    assert worker.ask(start(), stop(), stop()) == ["Ok"] * 3
    assert switch.keys == [f"a@b;tag={n}" for n in range(2, 8)]


def test_stop_frees_the_oldest_of_a_call_id(switch: Switch) -> None:
    worker = switch.worker()
    for tag in ("z", "m", "a"):
        worker.ask(init(tag=tag))
        switch.house.clock.run(1)
    assert worker.ask(start(), stop()) == ["Ok", "Ok"]
    assert switch.keys == ["a@b;tag=a", "a@b;tag=m"]


@pytest.mark.parametrize("first", ["sip:100@pbx", "sip:112@pbx"])
def test_of_calls_that_share_a_call_id_an_emergency_call_ends_first(switch: Switch, first: str) -> None:
    """It takes nothing: were it left, a call that takes a trunk would go on uncounted."""
    worker = switch.worker()
    worker.ask(init(tag="1", ruri=first))
    switch.house.clock.run(1)
    worker.ask(init(tag="2", ruri="sip:100@pbx"), init(tag="3", ruri="sip:112@pbx"))
    while switch.house.enforcer.ledger.emergencies:
        trunks = switch.in_use
        assert worker.ask(stop()) == ["Ok"]
        assert switch.in_use == trunks


def test_start_marks_each_call_of_a_call_id_once(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(init(tag="1"), init(tag="2"))
    worker.ask(start())
    assert [lease.established for lease in switch.house.enforcer.ledger].count(True) == 1
    worker.ask(start(), start())
    assert all(lease.established for lease in switch.house.enforcer.ledger)


def test_calls_of_an_earlier_run_and_of_a_list_are_found_by_their_call_id(make: Make) -> None:
    first = make()
    first.worker().ask(init())
    again = make()
    assert again.worker().ask(start(), stop()) == ["Ok", "Ok"]
    assert again.in_use == 0


def test_what_is_freed_by_other_ways_is_not_remembered_for_ever(switch: Switch) -> None:
    worker = switch.worker()
    for n in range(500):
        assert worker.ask(init(f"{n}@b")) == ["Limited"]
        switch.house.enforcer.release("kamailio", f"{n}@b;tag=1", TELEPHONY, switch.house.clock())
    assert len(switch.service._index) < 100


def test_requests_without_a_call_id_and_unknown_verbs_are_errors(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(ask("stop"), ask("start", callid=""), ask("debug", show="sessions")) == ["Error"] * 3
    assert worker.ask(init(call_id="")) == ["Locked"]


@pytest.mark.parametrize("call_id", ["x" * 600, "a\x1bb@c", "x" * 58 + "\x1b", "x" * 509])
def test_a_call_whose_key_no_client_can_carry_is_followed_under_the_stand_in_that_all_have(
    make: Make, call_id: str
) -> None:
    switch = make()
    worker = switch.worker()
    assert worker.ask(init("other@b"), init(call_id), start(call_id)) == ["Limited", "Limited", "Ok"]
    key = key_text(f"{call_id};tag=1")
    assert switch.keys == sorted(["other@b;tag=1", key])
    again = make()  # a later run, which knows the keys alone
    assert again.worker().ask(stop(call_id), stop(call_id)) == ["Ok", "Not found"]
    assert switch.keys == ["other@b;tag=1"]


def test_calls_with_stand_ins_that_begin_alike_are_told_apart(switch: Switch) -> None:
    worker = switch.worker()
    first, second = "x" * 600 + "1", "x" * 600 + "2"
    worker.ask(init(first), init(second))
    assert worker.ask(stop(second)) == ["Ok"]
    assert switch.keys == [key_text(f"{first};tag=1")]


def test_a_call_without_a_key_is_locked_and_an_emergency_call_passes(switch: Switch) -> None:
    worker = switch.worker()
    assert worker.ask(init("")) == ["Locked"]
    assert worker.ask(init("", ruri="sip:112@pbx")) == ["No limit"]
    assert worker.ask(init("", ruri="sip:sos@pbx", source="10.0.0.1")) == ["No limit"]
    assert switch.house.enforcer.emergencies_total == 2
    assert switch.keys == []
    assert EventName.CLIENT_REFUSED in switch.house.log.names()


# Emergency calls


def test_an_emergency_call_passes_at_the_limit_and_is_followed(switch: Switch) -> None:
    worker = switch.worker()
    worker.ask(*(init(f"{n}@b") for n in range(8)))
    assert worker.ask(init("sos@b", ruri="sip:112@pbx")) == ["Limited"]
    assert (switch.in_use, switch.house.enforcer.ledger.emergencies) == (8, 1)
    assert worker.ask(start("sos@b"), stop("sos@b")) == ["Ok", "Ok"]
    assert switch.house.enforcer.ledger.emergencies == 0
    assert switch.house.enforcer.emergency_claims == 0


def test_an_emergency_call_passes_where_nothing_is_licensed(switch: Switch) -> None:
    switch.house.enforcer.see(switch.house.seen("absent"), switch.house.clock())
    switch.house.clock.run(3 * 3600)
    switch.house.enforcer.tick(switch.house.clock())
    switch.house.clock.run(3 * 3600)
    switch.house.enforcer.tick(switch.house.clock())
    assert switch.house.enforcer.standing == "deactivated"
    worker = switch.worker()
    assert worker.ask(init()) == ["Locked"]
    assert worker.ask(init("e@b", ruri="tel:911", source="10.0.0.1")) == ["Limited"]


def test_a_rule_may_give_the_emergency_class(switch: Switch) -> None:
    assert switch.worker().ask(init(ruri="sip:sos@pbx", source="10.0.0.1")) == ["Limited"]
    assert switch.house.enforcer.ledger.emergencies == 1


@pytest.mark.parametrize(
    "ruri",
    [
        "urn:service:sos",
        "urn:service:sos.police",
        "URN:service:SOS.fire",
        "urn:service:sos." + "x" * 80,
        "sip:%31%31%32@pbx",
        "sip:1-1-2@pbx",
        "tel:112;phone-context=+49",
        "sip:112;phone-context=+49@pbx;user=phone",
    ],
)
def test_an_emergency_call_is_one_in_every_form(switch: Switch, ruri: str) -> None:
    assert switch.worker().ask(init(ruri=ruri)) == ["Limited"]
    assert (switch.house.enforcer.ledger.emergencies, switch.house.enforcer.emergency_claims) == (1, 0)


# Who asks


def test_a_stranger_is_turned_away_and_told_in_the_log(switch: Switch) -> None:
    assert switch.worker(STRANGER).ask(init()) == []
    assert "may not ask" in switch.house.log.one(EventName.CLIENT_REFUSED).message


def test_the_holder_name_of_another_user_is_locked_and_told_in_the_log(switch: Switch) -> None:
    assert switch.worker().ask(init()) == ["Limited"]
    other = switch.worker(0)
    assert other.ask(init("x@y")) == ["Locked"]
    assert other.ask(stop()) == ["Not found"]
    assert "another user" in switch.house.log.one(EventName.CLIENT_REFUSED).message
    assert switch.in_use == 1


def test_connections_count_with_those_to_the_other_socket(switch: Switch) -> None:
    callers = [switch.house.caller(TELEPHONY) for _ in range(limits.MAX_CONNECTIONS_PER_USER)]
    assert switch.worker().ask(init()) == []
    callers[0].leave()
    worker = switch.worker()
    switch.house.loop.turn(4)  # its first connection is at an end then
    assert worker.ask(init()) == ["Limited"]
