"""How late it is at least: the mark follows time, and no clock fools it for long or harms it for good."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.instant import Now
from featurekeyd.policy.timekeeping import (
    DAY,
    FAR_AHEAD_SECONDS,
    LONGEST_OFF_SECONDS,
    MOST_AHEAD_SECONDS,
    STANDS_SECONDS,
    TOLERANCE_SECONDS,
    ClockState,
    TimeMark,
    advanced,
    date_of,
    first_mark,
    repaired,
    state_of,
)

RELEASED = datetime.date(2026, 11, 21)
NOON = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC).timestamp()
BOOT = "this-boot"
YEAR = 365 * DAY


def mark(**fields: object) -> TimeMark:
    return TimeMark(**({"wall": NOON, "boot": 1000.0, "boot_id": BOOT} | fields))  # type: ignore[arg-type]


def after(seconds: float, *, clock: float = 0.0, since: TimeMark | None = None, boot_id: str = BOOT) -> TimeMark:
    """The mark after boot time has passed, with the wall clock set by `clock` seconds meanwhile."""
    return advanced(since or mark(), Now(NOON + seconds + clock, 1000.0 + seconds), boot_id)


def test_the_first_mark_is_the_wall_clock() -> None:
    assert first_mark(Now(NOON, 5.0), BOOT, RELEASED) == mark(boot=5.0)


def test_the_first_mark_of_a_host_that_booted_in_1970_is_the_day_of_the_release() -> None:
    assert date_of(first_mark(Now(60.0, 60.0), BOOT, RELEASED), Now(60.0, 60.0)) == RELEASED


def test_the_mark_goes_with_a_right_clock() -> None:
    assert after(3600.0).wall == NOON + 3600.0
    assert after(3600.0).ahead == MOST_AHEAD_SECONDS


def test_time_passes_also_for_a_clock_that_is_set_back_again_and_again() -> None:
    moved = mark()
    for day in range(1, 101):
        moved = advanced(moved, Now(NOON - YEAR, 1000.0 + day * DAY), BOOT)
    assert moved.wall == NOON + 100 * DAY


def test_one_jump_forward_moves_the_mark_by_a_day_and_does_no_harm_when_the_clock_is_right_again() -> None:
    jumped = after(1.0, clock=10 * YEAR)
    assert jumped.wall == NOON + 1.0 + MOST_AHEAD_SECONDS
    back = advanced(jumped, Now(NOON + 2.0, 1002.0), BOOT)
    assert back.wall == NOON + 2.0 + MOST_AHEAD_SECONDS
    assert state_of(back, Now(NOON + 2.0, 1002.0), RELEASED) is ClockState.SET_BACK


def test_a_clock_that_stays_ahead_is_followed_by_a_day_for_each_day() -> None:
    moved = mark()
    for day in range(1, 11):
        moved = advanced(moved, Now(NOON + YEAR, 1000.0 + day * DAY), BOOT)
    assert moved.wall == NOON + 20 * DAY


def test_many_jumps_in_one_day_move_the_mark_by_a_day_and_what_passed() -> None:
    moved = mark()
    for jump in range(1, 25):
        moved = advanced(moved, Now(NOON + jump * YEAR, 1000.0 + jump * 60), BOOT)
    assert moved.wall <= NOON + 25 * 60 + MOST_AHEAD_SECONDS + 25 * 60


def test_a_host_that_was_off_follows_its_clock_as_far_as_a_jump_is_followed() -> None:
    assert advanced(mark(), Now(NOON + 3600.0, 7.0), "next-boot").wall == NOON + 3600.0
    months = advanced(mark(), Now(NOON + 90 * DAY, 7.0), "next-boot")
    assert months.wall == NOON + MOST_AHEAD_SECONDS
    assert date_of(months, Now(NOON + 90 * DAY, 7.0)) == datetime.date(2027, 3, 1), "the later of clock and mark"


def test_boot_time_of_another_boot_says_nothing() -> None:
    assert advanced(mark(boot=5_000_000.0), Now(NOON, 7.0), "next-boot").wall == NOON
    assert advanced(mark(boot=7.0), Now(NOON, 5_000_000.0), "next-boot").wall == NOON


@pytest.mark.parametrize(
    ("back", "state"),
    [
        (0.0, ClockState.RIGHT),
        (TOLERANCE_SECONDS, ClockState.RIGHT),
        (TOLERANCE_SECONDS + 1.0, ClockState.SET_BACK),
        (-FAR_AHEAD_SECONDS, ClockState.RIGHT),
        (-FAR_AHEAD_SECONDS - 1.0, ClockState.AHEAD),
        (-YEAR, ClockState.AHEAD),
        (NOON, ClockState.UNSET),
    ],
)
def test_a_clock_is_set_back_from_an_hour_on_and_ahead_from_two_days_on(back: float, state: ClockState) -> None:
    assert state_of(mark(), Now(NOON - back, 1000.0), RELEASED) is state


def test_dates_go_by_the_mark_while_the_clock_is_back() -> None:
    assert date_of(mark(), Now(NOON - YEAR, 1000.0)) == datetime.date(2026, 12, 1)


def test_a_new_host_without_a_battery_believes_the_first_time_it_is_set_to() -> None:
    first = first_mark(Now(5.0, 1000.0), BOOT, RELEASED)
    waiting = advanced(first, Now(65.0, 1060.0), BOOT)
    assert (date_of(waiting, Now(65.0, 1060.0)), waiting.guessed) == (RELEASED, True)
    now = Now(NOON + YEAR, 1070.0)
    right = advanced(waiting, now, BOOT)
    assert (right, state_of(right, now, RELEASED)) == (mark(wall=now.wall, boot=1070.0), ClockState.RIGHT)
    again = Now(now.wall + YEAR, 1071.0)
    assert state_of(advanced(right, again, BOOT), again, RELEASED) is ClockState.AHEAD, "once, and not each time"
    assert not first_mark(Now(NOON, 1000.0), BOOT, RELEASED).guessed


def test_a_repair_sets_the_mark_to_the_clock_counts_and_never_goes_before_what_is_signed() -> None:
    wrong = mark(wall=NOON + 5 * YEAR, ahead=0.0)
    right = repaired(wrong, Now(NOON, 2000.0), RELEASED)
    assert right == mark(boot=2000.0, repairs=1)
    signed = datetime.date(2027, 1, 1)
    assert date_of(repaired(right, Now(NOON, 2000.0), signed), Now(NOON, 2000.0)) == signed


# A host that is off for a part of the time


def lived(since: TimeMark, *boots: tuple[float, float], step: float = 300.0) -> TimeMark:
    """The mark after boots of so many hours on, each after so many hours off, by a right clock that begins at NOON."""
    moved, wall = since, NOON
    for number, (on, off) in enumerate(boots):
        wall += off * 3600.0
        for passed in range(0, int(on * 3600.0) + 1, int(step)):
            moved = advanced(moved, Now(wall + passed, 30.0 + passed), f"boot {number} at {wall}")
        wall += on * 3600.0
    return moved


def lag(moved: TimeMark, *boots: tuple[float, float]) -> float:
    """Days by which the mark is behind the right clock."""
    return (NOON + sum(on + off for on, off in boots) * 3600.0 - moved.wall) / DAY


@pytest.mark.parametrize(
    "boots",
    [
        [(8.0, 16.0)] * 60,
        [(0.5, 23.5)] * 60,
        [(9.0, 63.0), *[(9.0, 15.0)] * 4] * 10,
        [(24.0, 0.1)] * 10,
    ],
    ids=["at night", "half an hour a day", "at night and on weekends", "rebooted every day"],
)
def test_the_mark_stays_with_the_clock_of_a_host_that_is_off_for_a_part_of_the_day(
    boots: list[tuple[float, float]],
) -> None:
    assert lag(lived(mark(), *boots), *boots) == pytest.approx(0.0, abs=0.01)


def test_a_host_that_was_off_for_holidays_catches_up_while_it_is_off_each_night() -> None:
    boots = [(8.0, 16.0 + 14 * 24), *[(8.0, 16.0)] * 45]
    assert lag(lived(mark(), *boots[:1]), *boots[:1]) > 10
    assert lag(lived(mark(), *boots), *boots) == pytest.approx(0.0, abs=0.01)


def test_a_clock_that_the_network_sets_after_the_boot_counts_as_one_that_was_right() -> None:
    moved, wall = mark(), NOON
    for day in range(60):
        wall += 16 * 3600.0
        for passed in range(0, 8 * 3600 + 1, 60):
            says = 5.0 + passed if passed < 900 else wall + passed
            moved = advanced(moved, Now(says, 30.0 + passed), f"boot {day}")
        wall += 8 * 3600.0
    assert abs(wall - moved.wall) < 1.0


def test_a_clock_that_is_far_ahead_for_some_minutes_of_each_boot_gains_no_more_than_a_day_a_day() -> None:
    moved, wall = mark(), NOON
    for boot in range(20):
        for passed in range(0, 3601, 60):
            wrong = 10 * YEAR if passed < STANDS_SECONDS else 0.0
            moved = advanced(moved, Now(wall + passed + wrong, 30.0 + passed), f"boot {boot}")
        wall += 3600.0
    assert moved.wall - wall <= MOST_AHEAD_SECONDS + 20 * 3600.0


@pytest.mark.parametrize(("ahead", "more"), [(LONGEST_OFF_SECONDS, DAY), (LONGEST_OFF_SECONDS + 60.0, 0.0)])
def test_a_clock_that_is_wrong_since_the_boot_is_followed_by_two_days_and_further_off_by_one(
    ahead: float, more: float
) -> None:
    before = lived(mark(), (1.0, 0.0))
    moved, reached = before, NOON + 3600.0
    for passed in range(0, 3601, 60):
        moved = advanced(moved, Now(reached + ahead + passed, 30.0 + passed), "next-boot")
    followed_while_on = 3600.0
    assert moved.wall == pytest.approx(reached + 3600.0 + MOST_AHEAD_SECONDS + followed_while_on + more, abs=60.0)


def test_many_boots_in_a_day_with_a_clock_that_stays_far_ahead_gain_what_has_passed_by_it() -> None:
    moved, wall = lived(mark(), (1.0, 0.0)), NOON + 3600.0
    for boot in range(48):
        for passed in range(0, 1501, 300):
            moved = advanced(moved, Now(wall + 10 * YEAR + passed, 30.0 + passed), f"boot {boot}")
        wall += 1800.0
    assert moved.wall <= wall + MOST_AHEAD_SECONDS + DAY


def test_the_time_off_counts_once_however_often_the_daemon_starts_anew() -> None:
    moved = lived(mark(), (1.0, 0.0))
    back = NOON + 3600.0 + 20 * 3600.0
    moved = advanced(moved, Now(back, 30.0), "next-boot")
    for passed in range(60, 7200, 60):
        moved = advanced(moved, Now(back + passed, 30.0 + passed), "next-boot")
    assert moved.ahead == MOST_AHEAD_SECONDS
    jump = Now(back + 7200 + YEAR, 30.0 + 7200)
    assert advanced(moved, jump, "next-boot").ahead == pytest.approx(0.0, abs=1.0)
    spent = advanced(moved, jump, "next-boot")
    for passed in range(7260, 9000, 60):
        spent = advanced(spent, Now(back + passed + YEAR, 30.0 + passed), "next-boot")
    assert spent.wall <= back + MOST_AHEAD_SECONDS + 9000 + 1800


times = st.floats(0, 50 * YEAR)


@given(st.lists(st.tuples(st.floats(0, 30 * DAY), times)))
def test_the_mark_never_goes_back_and_never_runs_more_than_a_day_a_day_ahead_of_time(
    moves: list[tuple[float, float]],
) -> None:
    moved, passed = mark(), 0.0
    for seconds, wall in moves:
        passed += seconds
        later = advanced(moved, Now(wall, 1000.0 + passed), BOOT)
        assert later.wall >= moved.wall + seconds - 1e-3
        moved = later
    assert NOON + passed - 1e-3 <= moved.wall <= NOON + 2 * passed + MOST_AHEAD_SECONDS + 1e-3
    assert 0 <= moved.ahead <= MOST_AHEAD_SECONDS
