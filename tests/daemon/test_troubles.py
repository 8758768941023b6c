"""What has gone wrong lately, as the daemon remembers it: bounded, counted, and forgotten when it is over."""

from __future__ import annotations

from featurekeyd.daemon.troubles import ENDED_BY, MAX_MESSAGE, PrivateField, RecentTrouble, Troubles
from featurekeyd.policy.events import SORT, Event, EventName, Priority


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(name: EventName, message: str = "said", **fields: str) -> Event:
    return Event(name=name, message=message, fields=fields)


def test_the_latest_of_each_kind_is_kept_with_how_many_there_were() -> None:
    clock = Clock()
    troubles = Troubles(clock)
    for message in ("first", "second"):
        troubles.note(event(EventName.SYNC_DRIFT, message))
        clock.now += 10
    troubles.note(event(EventName.STATE_TAMPERED, "edited"))
    clock.now += 5
    assert troubles.listed() == [
        RecentTrouble("state_tampered", "error", "edited", 5, 1),
        RecentTrouble("sync_drift", "warning", "second", 15, 2),
    ]


def test_what_is_no_trouble_is_not_kept() -> None:
    troubles = Troubles(Clock())
    for name in EventName:
        if SORT[name].priority > Priority.WARNING:
            troubles.note(event(name))
    assert troubles.listed() == []


def test_a_trouble_that_is_over_is_forgotten() -> None:
    troubles = Troubles(Clock())
    for begun, end in ENDED_BY.items():
        assert SORT[begun].priority <= Priority.WARNING < SORT[end].priority
        troubles.note(event(begun))
        troubles.note(event(end))
    assert troubles.listed() == []


def test_denials_are_kept_by_their_reason() -> None:
    troubles = Troubles(Clock())
    for reason in ("limit_reached", "not_licensed", "limit_reached"):
        troubles.note(event(EventName.DENIED, reason, REASON=reason, FEATURE="x"))
    assert {(it.message, it.count) for it in troubles.listed()} == {("limit_reached", 2), ("not_licensed", 1)}


def test_what_a_message_says_of_a_call_is_kept_as_fields_too_so_that_it_can_be_left_out() -> None:
    troubles = Troubles(Clock())
    about = {"LEASE": "a84b@host", "DIALED": "0170", "CHANNEL": "", "HOLDER": "kamailio", "TRACEBACK": "long"}
    troubles.note(event(EventName.EMERGENCY_CLAIM, "claims", **about))
    assert troubles.listed()[0].fields == (PrivateField("LEASE", "a84b@host"), PrivateField("DIALED", "0170"))


def test_a_message_that_a_client_made_long_is_cut() -> None:
    troubles = Troubles(Clock())
    troubles.note(event(EventName.CLIENT_REFUSED, "x" * 5000))
    assert len(troubles.listed()[0].message) == MAX_MESSAGE
