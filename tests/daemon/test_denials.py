"""Denials: the first of a kind at once, a storm in one sum, and no client makes the kinds many."""

from __future__ import annotations

import pytest

from featurekeyd.daemon.denials import MAX_KINDS, WINDOW_SECONDS, Denials
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request, Want


@pytest.fixture
def denials() -> Denials:
    return Denials()


def request(key: str = "call", holder: str = "kamailio") -> Request:
    return Request(holder=holder, key=key, wants=(Want("trunk"),), port="trunk:a", channel="7")


def denied(feature: str | None = "trunk", reason: Reason = Reason.LIMIT_REACHED) -> Decision:
    return Decision(
        allowed=False, reason=reason, feature=feature, limit=8, in_use=8, message="8 of 8 are in use.", remedy="Wait."
    )


def test_the_first_of_a_kind_is_told_at_once_with_all_that_is_known(denials: Denials) -> None:
    event = denials.note(request(), denied(), 100.0)
    assert event is not None
    assert event.name is EventName.DENIED
    assert event.message == "Denied to kamailio: 8 of 8 are in use. Wait."
    assert {
        "FEATURE": "trunk",
        "HOLDER": "kamailio",
        "LEASE": "call",
        "REASON": "limit_reached",
        "LIMIT": "8",
        "IN_USE": "8",
        "PORT": "trunk:a",
        "CHANNEL": "7",
    }.items() <= event.fields.items()


def test_a_storm_is_one_sum_when_its_window_ends(denials: Denials) -> None:
    assert denials.note(request(), denied(), 100.0) is not None
    assert all(denials.note(request(f"{number}"), denied(), 101.0) is None for number in range(5000))
    assert denials.ended(100.0 + WINDOW_SECONDS - 0.1) == []
    (sum_,) = denials.ended(100.0 + WINDOW_SECONDS)
    assert sum_.name is EventName.DENIALS_SUMMARIZED
    assert sum_.fields == {"HOLDER": "kamailio", "FEATURE": "trunk", "REASON": "limit_reached", "COUNT": "5000"}
    assert denials.ended(1e9) == []


def test_a_window_begins_anew_with_the_next_denial(denials: Denials) -> None:
    denials.note(request(), denied(), 100.0)
    assert denials.ended(100.0 + WINDOW_SECONDS) == []
    assert denials.note(request(), denied(), 100.0 + WINDOW_SECONDS) is not None
    assert denials.note(request(), denied(), 100.0 + 2 * WINDOW_SECONDS) is None
    assert len(denials.ended(100.0 + 2 * WINDOW_SECONDS)) == 1


def test_holder_feature_and_reason_make_a_kind(denials: Denials) -> None:
    kinds = [
        (request(), denied()),
        (request(holder="asterisk"), denied()),
        (request(), denied("recorder")),
        (request(), denied(reason=Reason.NOT_LICENSED)),
        (request(), denied(None, Reason.DEACTIVATED)),
    ]
    assert all(denials.note(asked, decision, 1.0) is not None for asked, decision in kinds)
    assert all(denials.note(asked, decision, 1.0) is None for asked, decision in kinds)


def test_kinds_without_end_are_counted_together(denials: Denials) -> None:
    told = [denials.note(request(), denied(f"feature {number}"), 1.0) for number in range(10 * MAX_KINDS)]
    assert sum(event is not None for event in told) == MAX_KINDS + 1
    assert len(denials._windows) == MAX_KINDS + 1
    (sum_,) = denials.ended(1.0 + WINDOW_SECONDS)
    assert sum_.fields["COUNT"] == str(10 * MAX_KINDS - MAX_KINDS - 1)
    assert sum_.message.startswith("2303 more requests of other holders for various features")
    assert denials._windows == {}
