"""Storms of log entries: what is told at once, what is summed up, and that no client makes either without end."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import storms as module
from featurekeyd.daemon.storms import (
    BOUNDS,
    BUG_ENTRIES,
    CARE_ENTRIES,
    DEED_ENTRIES,
    EMERGENCY_ENTRIES,
    MAX_KINDS,
    WINDOW_SECONDS,
    Storms,
)
from featurekeyd.policy.events import Event, EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House

KIND = ("kamailio", "trunk", "limit_reached", "")


@pytest.fixture
def storms() -> Storms:
    return Storms()


def drift(holder: str = "kamailio", lease: str = "call") -> Event:
    return Event(name=EventName.CHANNEL_DRIFT, message="Drift.", fields={"HOLDER": holder, "LEASE": lease})


def emergency(holder: str = "kamailio") -> Event:
    return Event(name=EventName.EMERGENCY_CALL, message="Emergency.", fields={"HOLDER": holder})


def test_a_storm_is_one_entry_and_one_sum_when_its_window_ends(storms: Storms) -> None:
    assert storms.admits(EventName.DENIED, KIND, 100.0)
    assert not any(storms.admits(EventName.DENIED, KIND, 101.0) for _ in range(5000))
    assert storms.ended(100.0 + WINDOW_SECONDS - 0.1) == []
    (sum_,) = storms.ended(100.0 + WINDOW_SECONDS)
    assert sum_.name is EventName.DENIALS_SUMMARIZED
    assert sum_.message == "5000 more requests of kamailio for trunk were denied (limit_reached)."
    assert sum_.fields == {
        "HOLDER": "kamailio",
        "FEATURE": "trunk",
        "REASON": "limit_reached",
        "PORT": "",
        "COUNT": "5000",
    }
    assert storms.ended(1e9) == []


def test_a_ceiling_is_named_by_its_port(storms: Storms) -> None:
    kind = ("kamailio", "trunk", "ceiling_reached", "trunk:carrier-a")
    for _ in range(3):
        storms.admits(EventName.DENIED, kind, 0.0)
    (sum_,) = storms.ended(WINDOW_SECONDS)
    assert sum_.message.endswith("were denied (ceiling_reached) on port trunk:carrier-a.")


def test_a_window_begins_anew_with_the_next_event(storms: Storms) -> None:
    assert storms.passes(drift(), 100.0)
    assert storms.ended(100.0 + WINDOW_SECONDS) == []
    assert storms.passes(drift(), 100.0 + WINDOW_SECONDS)
    assert not storms.passes(drift(), 100.0 + 2 * WINDOW_SECONDS)
    assert len(storms.ended(100.0 + 2 * WINDOW_SECONDS)) == 1


def test_the_fields_that_are_named_make_a_kind_and_others_do_not(storms: Storms) -> None:
    assert storms.passes(drift("kamailio", "a"), 1.0)
    assert not storms.passes(drift("kamailio", "b"), 1.0)
    assert storms.passes(drift("asterisk", "a"), 1.0)
    (sum_,) = storms.ended(1.0 + WINDOW_SECONDS)
    assert (sum_.name, sum_.fields) == (EventName.CHANNEL_DRIFT, {"HOLDER": "kamailio", "COUNT": "1"})


def test_emergency_calls_are_an_entry_each_up_to_the_number_and_then_summed(storms: Storms) -> None:
    told = [storms.passes(emergency(), 0.0) for _ in range(EMERGENCY_ENTRIES + 7)]
    assert told == [True] * EMERGENCY_ENTRIES + [False] * 7
    assert storms.passes(emergency("asterisk"), 0.0), "one holder's storm hides nobody else's calls"
    (sum_,) = storms.ended(WINDOW_SECONDS)
    assert sum_.name is EventName.EMERGENCY_CALL
    assert sum_.message == "7 more emergency calls of kamailio: granted."


@pytest.mark.parametrize("name", BOUNDS)
def test_kinds_without_end_are_counted_together(name: EventName, storms: Storms) -> None:
    bound = BOUNDS[name]
    events = [
        Event(name=name, message="It happened.", fields=dict.fromkeys(bound.by, f"{number}"))
        for number in range(MAX_KINDS + 50)
        for _ in range(bound.at_once + 1)
    ]
    told = sum(storms.passes(event, 1.0) for event in events)
    kinds = MAX_KINDS + 1 if bound.by else 1
    assert told == kinds * bound.at_once
    assert len(storms._windows[name]) == kinds
    sums = storms.ended(1.0 + WINDOW_SECONDS)
    assert told + sum(int(sum_.fields["COUNT"]) for sum_ in sums) == len(events)
    assert storms._windows[name] == {}


def test_a_storm_of_one_event_makes_no_other_event_wait(storms: Storms) -> None:
    for number in range(2 * MAX_KINDS):
        storms.passes(drift(f"holder {number}"), 0.0)
    assert storms.passes(emergency("new"), 0.0)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_sum_says_how_many_and_of_what(name: EventName) -> None:
    bound = BOUNDS[name]
    named = {field for _, field, _, _ in string.Formatter().parse(bound.more) if field}
    assert "count" in named
    assert named - {"count"} <= set(bound.by)
    others = module._sum(name, module._OTHERS if bound.by else (), 3)
    assert "3" in others.message
    assert "{" not in others.message


def test_what_is_not_named_is_an_entry_each_time(storms: Storms) -> None:
    event = Event(name=EventName.STARTED, message="Started.")
    assert all(storms.passes(event, 0.0) for _ in range(1000))
    assert storms.ended(1e9) == []


# In the daemon


def test_a_storm_of_emergency_claims_is_summed_up_in_the_log_and_told_whole_to_who_watches(licensed: House) -> None:
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send({**licensed.call("Watch"), "more": True})
    for number in range(200):
        caller.send(licensed.acquire(f"{number}", **{"class": "emergency"}))
    names = licensed.log.names()
    assert names.count(EventName.EMERGENCY_CALL) == names.count(EventName.EMERGENCY_CLAIM) == EMERGENCY_ENTRIES
    assert len(watcher.replies) == 1 + 200
    licensed.site.close()
    sums = [event.fields["COUNT"] for event in licensed.log.events if "COUNT" in event.fields]
    assert sums == [str(200 - EMERGENCY_ENTRIES)] * 2


def test_a_channel_that_is_taken_again_and_again_is_one_entry_a_minute(licensed: House) -> None:
    caller = licensed.caller()
    for number in range(50):
        caller.send(licensed.acquire(f"{number}", port="p", channel="1"))
    assert licensed.log.names().count(EventName.CHANNEL_DRIFT) == 1
    assert licensed.enforcer.ledger.in_use("trunk") == 1


def test_lists_that_always_differ_are_one_entry_a_minute(licensed: House) -> None:
    caller = licensed.caller()
    for number in range(20):
        lease = {"key": f"{number}", "wants": [{"feature": "trunk"}]}
        caller.send(licensed.call("Sync", holder="asterisk", scope="calls", leases=[lease]))
    assert licensed.log.names().count(EventName.SYNC_DRIFT) == 1
    licensed.site.close()
    assert licensed.log.events[-1].message == "19 more lists of asterisk for calls differed."


def test_a_big_import_is_so_many_entries_and_a_sum(house: House) -> None:
    house.licensed(house.vendor.key(code=1, instances=1))
    keys = [house.vendor.key() for _ in range(DEED_ENTRIES + 40)]
    (said,) = house.ask(
        "io.featurekey.Manage.ImportList", text="key,name\n" + "".join(f"{key.text},\n" for key in keys)
    )
    assert said["parameters"]["accepted"] is True
    assert house.log.names().count(EventName.LICENSE_ADDED) == DEED_ENTRIES
    house.site.close()
    assert house.log.events[-1].message == "40 more licenses were added by uid 0."


def test_a_bug_that_is_met_again_and_again_is_so_many_entries_and_a_sum(house: House) -> None:
    for _ in range(1000):
        house.server.unexpected(ZeroDivisionError())
    assert house.log.names() == [EventName.UNEXPECTED] * BUG_ENTRIES
    house.server.unexpected(KeyError())
    assert len(house.log.events) == BUG_ENTRIES + 1
    house.site.close()
    assert house.log.events[-1].fields == {"ERROR": "ZeroDivisionError", "COUNT": str(1000 - BUG_ENTRIES)}


CARE = sorted(name for name, bound in BOUNDS.items() if bound.at_once == CARE_ENTRIES and bound.by == ("BY",))


@pytest.mark.parametrize("name", CARE)
def test_acts_of_care_are_an_entry_each_as_far_as_a_hand_does_them_and_then_a_sum(
    storms: Storms, name: EventName
) -> None:
    event = Event(name=name, message="Done.", fields={"BY": "uid 7"})
    passed = sum(storms.passes(event, 0.0) for _ in range(10_100))
    assert passed == CARE_ENTRIES
    assert storms.passes(Event(name=name, message="Done.", fields={"BY": "uid 8"}), 0.0), "nobody hides another"
    sums = {sum_.fields["BY"]: sum_ for sum_ in storms.ended(WINDOW_SECONDS)}
    assert sums["uid 7"].fields["COUNT"] == str(10_100 - CARE_ENTRIES)
    assert "uid 7" in sums["uid 7"].message


def test_every_act_of_care_that_is_recorded_is_bounded() -> None:
    assert {
        EventName.RESCUE_REFUSED,
        EventName.STATE_BACKED_UP,
        EventName.STATE_RESTORED,
        EventName.HOST_ENROLLED,
        EventName.ADDRESS_ANNOUNCED,
        EventName.CLOCK_REPAIRED,
    } <= set(CARE)
