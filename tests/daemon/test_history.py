"""The history in the state file: added up, thinned, paged, and kept through faults."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon import history
from featurekeyd.daemon.history import HOURS_KEPT, MAX_ROWS, MAX_WAITING, MINUTES_KEPT, Listed, Step, Waiting, Wanted
from featurekeyd.daemon.schema import STEPS, transaction
from featurekeyd.daemon.store import Store
from featurekeyd.daemon.storing import Storing
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.usage_history import Minute, Sort, Subject, Use

if TYPE_CHECKING:
    from tests.daemon.conftest import House

TRUNK: Subject = (Sort.FEATURE, "trunk")
PORT: Subject = (Sort.PORT, "trunk:a")
COUNTING: Subject = (Sort.COUNTING, "")
NOON = 60 * 12
"""A minute that begins an hour."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "featurekeyd.db")
    yield opened
    opened.close()


def minute(start: int, peak: int = 3, subject: Subject = TRUNK, busy: int = 1000) -> Minute:
    return Minute(start, {subject: Use(peak, 2, 1, 1, busy), COUNTING: Use(busy=60_000)})


def listed(store: Store, step: Step, **wanted: Any) -> list[Listed]:
    """All pages."""
    rows: list[Listed] = []
    after = None
    while True:
        page = store.load_history(Wanted(step=step, after=after, **wanted))
        rows += page.rows
        after = page.more
        if after is None:
            return rows


def test_minutes_are_listed_in_the_order_of_time_and_added_to_their_hours(store: Store) -> None:
    store.save_minutes([minute(NOON, 3), minute(NOON + 1, 5)])
    store.save_minutes([minute(NOON + 60, 1)])
    assert [(it.start, it.use.peak) for it in listed(store, Step.MINUTE, sort=Sort.FEATURE)] == [
        (NOON * 60, 3),
        (NOON * 60 + 60, 5),
        (NOON * 60 + 3600, 1),
    ]
    assert listed(store, Step.HOUR, sort=Sort.FEATURE) == [
        Listed(NOON * 60, TRUNK, Use(5, 4, 2, 2, 2000)),
        Listed(NOON * 60 + 3600, TRUNK, Use(1, 2, 1, 1, 1000)),
    ]


def test_a_minute_that_comes_twice_is_added_up(store: Store) -> None:
    store.save_minutes([minute(NOON, 3)])
    store.save_minutes([minute(NOON, 2)])
    assert listed(store, Step.MINUTE, sort=Sort.FEATURE) == [Listed(NOON * 60, TRUNK, Use(3, 4, 2, 2, 2000))]
    assert listed(store, Step.HOUR, sort=Sort.COUNTING)[0].use.busy == 120_000


def test_the_filters_go_together(store: Store) -> None:
    store.save_minutes([minute(NOON), minute(NOON + 1, subject=PORT), minute(NOON + 2), minute(NOON + 2, subject=PORT)])
    named = listed(store, Step.MINUTE, sort=Sort.PORT, name="trunk:a", since=NOON * 60 + 61)
    assert [it.start for it in named] == [NOON * 60 + 120]
    assert [it.start for it in listed(store, Step.MINUTE, sort=Sort.FEATURE, until=NOON * 60 + 60)] == [NOON * 60]
    assert listed(store, Step.MINUTE, sort=Sort.FEATURE, name="other") == []


def test_a_page_has_so_many_rows_and_names_the_next(store: Store) -> None:
    store.save_minutes([minute(NOON + number) for number in range(MAX_ROWS)])
    page = store.load_history(Wanted(step=Step.MINUTE))
    assert (len(page.rows), page.more is None) == (MAX_ROWS, False)
    assert len(listed(store, Step.MINUTE)) == 2 * MAX_ROWS
    assert len({(it.start, it.subject) for it in listed(store, Step.MINUTE)}) == 2 * MAX_ROWS


def test_the_last_page_is_said_to_be_the_last(store: Store) -> None:
    store.save_minutes([minute(NOON + number) for number in range(MAX_ROWS // 2)])
    assert store.load_history(Wanted(step=Step.MINUTE)).more is None
    store.save_minutes([minute(0)])
    assert store.load_history(Wanted(step=Step.MINUTE)).more is not None


def test_a_week_of_minutes_and_400_days_of_hours_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MINUTES_KEPT", 120)
    monkeypatch.setattr(history, "HOURS_KEPT", 4)
    for hour in range(8):
        store.save_minutes([minute(hour * 60 + number) for number in range(60)])
    store.save_minutes([minute(8 * 60)])
    assert len(listed(store, Step.MINUTE, sort=Sort.FEATURE)) == 120
    assert [it.start // 3600 for it in listed(store, Step.HOUR, sort=Sort.FEATURE)] == [5, 6, 7, 8]
    assert (MINUTES_KEPT, HOURS_KEPT) == (10_080, 9_600)


def test_a_subject_of_which_nothing_is_left_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MINUTES_KEPT", 1)
    monkeypatch.setattr(history, "HOURS_KEPT", 1)
    store.save_minutes([minute(0, subject=(Sort.PORT, "gone"))])
    store.save_minutes([minute(60)])
    rows = store._connection.execute("SELECT name FROM history_series ORDER BY name").fetchall()
    assert rows == [("",), ("trunk",)]


def test_what_a_clock_that_was_ahead_has_left_goes_before_what_is_counted_since(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MINUTES_KEPT", 120)
    monkeypatch.setattr(history, "HOURS_KEPT", 2)
    ahead = NOON + 10 * 365 * 1440
    store.save_minutes([minute(ahead + number) for number in range(120)])
    for hour in range(2):
        store.save_minutes([minute(NOON + hour * 60 + number) for number in range(60)])
    assert [it.start // 60 for it in listed(store, Step.MINUTE, sort=Sort.FEATURE)] == [
        NOON + number for number in range(120)
    ]
    assert [it.start // 60 for it in listed(store, Step.HOUR, sort=Sort.FEATURE)] == [NOON, NOON + 60]


def test_a_clock_that_was_far_ahead_forgets_nothing(store: Store) -> None:
    store.save_minutes([minute(NOON + number) for number in range(60)])
    store.save_minutes([minute(NOON + 60 * 24 * 365 * 20)])
    store.save_minutes([minute(NOON + 120)])
    assert len(listed(store, Step.MINUTE, sort=Sort.FEATURE)) == 62


MINUTES = st.lists(
    st.builds(
        Minute,
        st.integers(0, 200),
        st.dictionaries(
            st.sampled_from([TRUNK, PORT, COUNTING]), st.builds(Use, *[st.integers(0, 9)] * 4, st.integers(0, 99))
        ),
    ),
    max_size=20,
)


@given(MINUTES)
def test_hours_are_the_sums_of_their_minutes(minutes: list[Minute]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in STEPS[4]:
            connection.execute(statement)
        for each in minutes:
            history.save_minutes(connection, [each])
        sums: dict[tuple[int, Subject], list[int]] = {}
        for each in minutes:
            for subject, use in each.uses.items():
                so_far = sums.setdefault((each.start // 60 * 3600, subject), [0] * 5)
                so_far[0] = max(so_far[0], use.peak)
                for place, value in enumerate((use.granted, use.denied, use.blocked, use.busy), 1):
                    so_far[place] += value
        page = history.load_page(connection, Wanted(step=Step.HOUR))
        assert {(it.start, it.subject): it.use for it in page.rows} == {at: Use(*it) for at, it in sums.items()}


# The storing thread


class Failing(Store):
    """A store that cannot add minutes while `fails`."""

    fails = True

    def save_minutes(self, minutes: Any) -> None:
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        super().save_minutes(minutes)


def test_minutes_that_cannot_be_stored_wait_and_it_is_told_once(tmp_path: Path) -> None:
    told: list[Event] = []
    store = Failing(tmp_path / "featurekeyd.db")
    storing = Storing(store, told.append)
    for number in range(3):
        storing.keep_minutes([minute(NOON + number)])
        done(storing)
    assert [event.name for event in told] == [EventName.STATE_NOT_STORED]
    assert "history" in told[0].message
    store.fails = False
    storing.try_again()
    done(storing)
    assert len(listed(store, Step.MINUTE, sort=Sort.FEATURE)) == 3
    storing.close()


def done(storing: Storing) -> None:
    """Wait for what the storing thread has been given."""
    over = threading.Event()
    storing._thread.submit(over.set)
    assert over.wait(30)


def test_a_day_of_minutes_waits_at_most() -> None:
    waiting = Waiting()
    waiting.put([minute(number) for number in range(MAX_WAITING + 10)])
    taken = waiting.take()
    assert (len(taken), taken[0].start) == (MAX_WAITING, 10)
    assert not waiting
    waiting.put([minute(9999)])
    waiting.put_back(taken)
    assert [it.start for it in waiting.take()][-1] == 9999


def test_a_year_of_a_busy_site_takes_the_room_that_the_documents_say(tmp_path: Path) -> None:
    """Twelve rows a minute, round the clock; a tenth of the time here, and rows are alike all the year."""
    path = tmp_path / "featurekeyd.db"
    store = Store(path)
    use = Use(120, 40, 2, 2, 5_400_000)
    subjects: list[Subject] = [(Sort.FEATURE, f"feature-{n}") for n in range(8)]
    subjects += [(Sort.PORT, f"trunk:carrier-{n}") for n in range(4)]
    base = 29_000_000
    store.save_minutes([Minute(base + n, dict.fromkeys(subjects, use)) for n in range(1, MINUTES_KEPT // 10)])
    minutes = path.stat().st_size
    connection = store._connection
    rows = [(500_000 + n, s, 120, 2400, 120, 120, 324_000_000) for n in range(HOURS_KEPT // 10) for s in range(1, 13)]
    with transaction(connection):
        connection.execute("DELETE FROM history_hour")
        connection.executemany("INSERT INTO history_hour VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    whole = path.stat().st_size
    store.close()
    assert minutes * 10 < 4_500_000
    assert whole * 10 < 9_000_000


# The service


def test_a_page_of_the_history_is_asked_for_by_those_who_manage(house: House) -> None:
    house.store.save_minutes([minute(NOON), minute(NOON + 1)])
    (reply,) = house.ask("io.featurekey.Manage.History", step="minute", sort="feature")
    assert reply["parameters"] == {
        "uses": [
            {
                "time": f"1970-01-01T12:0{number}:00Z",
                "sort": "feature",
                "name": "trunk",
                "peak": 3,
                "granted": 2,
                "denied": 1,
                "blocked": 1,
                "busy_seconds": 1.0,
            }
            for number in range(2)
        ]
    }


def test_the_pages_follow_one_another(house: House) -> None:
    house.store.save_minutes([minute(NOON + number) for number in range(MAX_ROWS)])
    (first,) = house.ask("io.featurekey.Manage.History", step="minute")
    more = first["parameters"]["more"]
    (second,) = house.ask("io.featurekey.Manage.History", step="minute", after=more)
    assert len(first["parameters"]["uses"]) + len(second["parameters"]["uses"]) == 2 * MAX_ROWS
    assert "more" not in second["parameters"]


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        ({"step": "day"}, "step"),
        ({"step": "hour", "sort": "holder"}, "sort"),
        ({"step": "hour", "since": -1}, "since"),
        ({"step": "hour", "after": "1;2"}, "after"),
        ({"step": "hour", "until": "now"}, "until"),
    ],
)
def test_what_cannot_be_wanted_is_named(house: House, wrong: dict[str, Any], parameter: str) -> None:
    (reply,) = house.ask("io.featurekey.Manage.History", **wrong)
    assert reply["parameters"] == {"parameter": parameter}


def test_a_state_file_that_cannot_be_read_is_told_with_the_cure(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Wanted) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(house.store, "load_history", broken)
    (reply,) = house.ask("io.featurekey.Manage.History", step="hour")
    assert reply["error"] == "io.featurekey.Manage.StateNotStored"
    assert "disk I/O error" in reply["parameters"]["hint"]
