"""What was refused in the last day: how much, why, and how many more instances would have been enough."""

from __future__ import annotations

from typing import Any

import pytest

from featurekeyd.client.refusals import Day, in_refusals, more_needed, read_day
from featurekeyd.client.uses import Use

NOW = 1_800_000_030
MINUTE = NOW - NOW % 60
STATUS: dict[str, Any] = {"uptime_seconds": 7200, "denials": []}
ROW = {"feature": "x", "title": "X", "limit": 8, "in_use": 2, "peak": 8}
FEATURES = {"features": [ROW]}


def denials(**counts: int) -> dict[str, Any]:
    """A status with so many denials of the feature for each reason."""
    rows = [{"feature": "x", "reason": reason, "denied": count} for reason, count in counts.items()]
    return STATUS | {"denials": rows}


def minute(ago: int, blocked: int) -> Use:
    return Use(MINUTE - 60 * ago, ("feature", "x"), peak=8, blocked=blocked, denied=blocked)


def day(*minutes: Use, granted: int = 0, busy: float = 0.0) -> Day:
    total = sum(use.blocked for use in minutes)
    hour = Use(NOW - 3600, ("feature", "x"), peak=8, granted=granted, blocked=total, busy_seconds=busy)
    return Day([hour], {"x": list(minutes)})


def test_where_nothing_was_refused_there_is_nothing_to_tell() -> None:
    assert list(in_refusals(STATUS, FEATURES, Day(), NOW)) == []
    assert list(in_refusals(STATUS, FEATURES, None, NOW)) == []


def test_the_day_before_the_daemon_was_restarted_counts() -> None:
    (fault,) = in_refusals(denials(limit_reached=1), FEATURES, day(minute(300, 3), minute(1, 1)), NOW)
    assert fault.name == "requests_refused"
    assert fault.what == "4 requests for X were refused in the last day."
    assert fault.cause == "At most 8 were in use at once, and the limit is 8. 3 more would have been enough for all."


def test_the_minute_that_runs_counts_although_the_history_has_it_not_yet() -> None:
    (fault,) = in_refusals(denials(limit_reached=2, reserved=1), FEATURES, Day(), NOW)
    assert fault.what == "3 requests for X were refused in the 2 h 0 min since the daemon started."
    assert "3 more would" in fault.cause
    assert fault.cure.startswith("Order 3 more, if these are real calls: featurekeyctl leases --feature x ")


def test_who_may_not_see_the_history_is_told_what_was_since_the_daemon_started() -> None:
    (fault,) = in_refusals(denials(limit_reached=1) | {"uptime_seconds": 200_000}, FEATURES, None, NOW)
    assert fault.what == "1 request for X was refused in the 2 d 7 h since the daemon started."
    assert "more would" not in fault.cause


def test_what_was_refused_before_the_last_day_is_told_no_more() -> None:
    assert list(in_refusals(denials(limit_reached=9) | {"uptime_seconds": 86_400}, FEATURES, Day(), NOW)) == []


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("not_licensed", "Order one"),
        ("license_expired", "Order a new one"),
        ("license_unlisted", "featurekeyctl import"),
        ("prerequisite_missing", "featurekeyctl features x shows which"),
        ("not_supported", "[product]"),
        ("ceiling_reached", "[ceilings]"),
        ("unknown_feature", "Mend the name"),
        ("unknown_application", "Mend the name"),
        ("too_many_leases", "release"),
    ],
)
def test_what_more_instances_would_not_cure_has_a_cure_of_its_own(reason: str, word: str) -> None:
    (fault,) = in_refusals(denials(**{reason: 2}), FEATURES, Day(), NOW)
    assert fault.name == f"refused_{reason}"
    assert fault.what.startswith("2 requests for X were refused")
    assert word in fault.cure


def test_that_all_is_deactivated_is_told_elsewhere() -> None:
    assert list(in_refusals(denials(deactivated=5), FEATURES, Day(), NOW)) == []


@pytest.mark.parametrize(
    ("minutes", "hold", "more"),
    [
        ([], 60, 0),
        ([(0, 3)], 1, 3),
        ([(0, 3), (60, 2), (120, 2)], 60, 3),
        ([(0, 3), (60, 2), (120, 2)], 120, 5),
        ([(0, 1), (60, 2), (120, 4)], 120, 6),
        ([(0, 3), (3600, 3)], 180, 3),
    ],
)
def test_as_many_more_are_needed_as_were_refused_within_the_time_of_a_call(
    minutes: list[tuple[int, int]], hold: float, more: int
) -> None:
    assert more_needed(minutes, hold) == more


def test_calls_that_last_long_add_up() -> None:
    minutes = (minute(10, 2), minute(6, 2))
    short = in_refusals(STATUS, FEATURES, day(*minutes, granted=10, busy=600.0), NOW)
    long = in_refusals(STATUS, FEATURES, day(*minutes, granted=10, busy=6000.0), NOW)
    assert ["2 more" in next(short).cause, "4 more" in next(long).cause] == [True, True]


class Asked:
    """A daemon that has a row for each question, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        counts = {"peak": 8, "granted": 1, "denied": 2, "blocked": 2, "busy_seconds": 1.0}
        return {"uses": [{"time": "2027-01-15T08:00:00Z", "sort": "feature", "name": "x", **counts}]}


def test_minutes_are_asked_for_only_where_calls_were_refused() -> None:
    asked = Asked()
    found = read_day(asked, NOW)
    assert [(it["step"], it.get("name")) for it in asked.asked] == [("hour", None), ("minute", "x")]
    assert {(it["since"], it["until"]) for it in asked.asked} == {(NOW - 86_400, NOW + 60)}
    assert ([use.blocked for use in found.hours], list(found.minutes)) == ([2], ["x"])
