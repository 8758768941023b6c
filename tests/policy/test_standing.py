"""Meters and standing, with boot time handed in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Cause, Consequence, MeterRule, Refill
from featurekeyd.policy.standing import Meter, Standing, standing_of

ABSENT = MeterRule("2h", Refill.AS_DRAINED, Consequence.DEACTIVATED)
UNLISTED = MeterRule("72h", Refill.BY_NEWER_LIST, Consequence.KEYS_STOP)


def meter(rule: MeterRule = ABSENT, *, active: bool = True, drained: float = 0) -> Meter:
    made = Meter(Cause.FEATURE_KEY_ABSENT, rule, drained)
    made.active = active
    return made


@pytest.mark.parametrize(("elapsed", "spent", "left"), [(7199, False, 1), (7200, True, 0), (7201, True, 0)])
def test_a_meter_is_spent_at_its_budget_and_not_a_second_before(elapsed: float, spent: bool, left: int) -> None:
    absent = meter()
    absent.advance(elapsed)
    assert (absent.spent, absent.left, absent.grace().seconds_left) == (spent, left, left)


def test_a_meter_whose_cause_is_gone_is_not_spent_however_drained() -> None:
    absent = meter(drained=7200)
    assert absent.spent
    absent.active = False
    assert not absent.spent


def test_a_meter_refills_at_half_the_speed_of_draining_and_to_no_more_than_its_budget() -> None:
    absent = meter(drained=100, active=False)
    absent.advance(40)
    assert absent.left == 7200 - 80
    absent.advance(1000)
    assert absent.left == 7200


def days_alive(hosts: int, minutes: int) -> int:
    """For how many days one key that is moved on every so many minutes keeps all hosts alive; 100 for ever."""
    meters = [meter() for _ in range(hosts)]
    for number in range(100 * 24 * 60 // minutes):
        for place, each in enumerate(meters):
            each.active = number % hosts != place
            each.advance(minutes * 60)
            if each.spent:
                return number * minutes // (24 * 60)
    return 100


@pytest.mark.parametrize("minutes", [1, 10, 60, 110])
def test_one_key_moved_between_hosts_keeps_not_all_of_them_alive(minutes: int) -> None:
    assert days_alive(1, minutes) == 100
    assert days_alive(2, minutes) <= 1
    assert days_alive(3, minutes) == 0


def test_a_meter_that_refills_by_a_newer_list_gets_nothing_back_by_waiting() -> None:
    unlisted = meter(UNLISTED, drained=100, active=False)
    unlisted.advance(10**6)
    assert unlisted.drained == 100
    unlisted.refill()
    assert unlisted.drained == 0


@pytest.mark.parametrize(("stored", "drained"), [(-5.0, 0.0), (3600.0, 3600.0), (10**9, 7200.0)])
def test_drained_time_from_the_store_is_taken_within_the_budget(stored: float, drained: float) -> None:
    assert meter(drained=stored).drained == drained


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10_000)), max_size=20))
def test_a_meter_never_leaves_its_budget(turns: list[tuple[bool, float]]) -> None:
    for rule in (ABSENT, UNLISTED):
        each = meter(rule)
        for active, elapsed in turns:
            each.active = active
            each.advance(elapsed)
            assert 0 <= each.left <= rule.seconds
            assert each.grace().seconds_left >= 0


def test_what_is_told_of_a_draining_meter_has_cause_consequence_and_cure() -> None:
    for cause, consequence in itertools.product(Cause, Consequence):
        grace = Meter(cause, MeterRule("1h", Refill.AS_DRAINED, consequence)).grace()
        assert (grace.cause, grace.seconds_left) == (str(cause), 3600)
        assert grace.consequence
        assert "featurekeyctl" in grace.remedy


@pytest.mark.parametrize(
    ("then", "active", "drained", "standing"),
    [
        (Consequence.DEACTIVATED, False, 0, Standing.LICENSED),
        (Consequence.DEACTIVATED, False, 3600, Standing.LICENSED),
        (Consequence.DEACTIVATED, True, 0, Standing.GRACE),
        (Consequence.DEACTIVATED, True, 3600, Standing.DEACTIVATED),
        (Consequence.RESTRICTED, True, 3600, Standing.RESTRICTED),
        (Consequence.KEYS_STOP, True, 3599, Standing.GRACE),
        (Consequence.KEYS_STOP, True, 3600, Standing.LICENSED),
    ],
)
def test_the_standing_follows_the_meter(then: Consequence, active: bool, drained: float, standing: Standing) -> None:
    each = meter(MeterRule("1h", Refill.AS_DRAINED, then), active=active, drained=drained)
    assert standing_of({Cause.FEATURE_KEY_ABSENT: each}, certified=True) is standing
    assert standing_of({Cause.FEATURE_KEY_ABSENT: each}, certified=False) is Standing.DEACTIVATED


def test_the_worst_consequence_gives_the_standing() -> None:
    worst = meter(MeterRule("1h", Refill.AS_DRAINED, Consequence.DEACTIVATED), drained=3600)
    lesser = meter(MeterRule("1h", Refill.AS_DRAINED, Consequence.RESTRICTED), drained=3600)
    for pair in ((worst, lesser), (lesser, worst)):
        meters = dict(zip(Cause, pair, strict=False))
        assert standing_of(meters, certified=True) is Standing.DEACTIVATED
