"""Storing: from a thread of its own, as seldom as possible, and failures are told."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.daemon.facts import Facts
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.daemon.storing import CLOCK_SECONDS, METER_SECONDS, Storing
from featurekeyd.policy.audit import Act, verify
from featurekeyd.policy.catalog import Catalog, Cause
from featurekeyd.policy.events import EventName
from featurekeyd.policy.rescue import Opening
from featurekeyd.policy.standing import Meter
from featurekeyd.policy.timekeeping import TimeMark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.daemon.conftest import Told


class Kept(Store):
    """A store that remembers what it was given, and fails on demand."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saved: list[dict[str, float]] = []
        self.threads: set[int] = set()
        self.fails = False

    def save_meters(self, drained: dict[str, float]) -> None:
        self.threads.add(threading.get_ident())
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        self.saved.append(drained)
        super().save_meters(drained)


@pytest.fixture
def store(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "db")


@pytest.fixture
def storing(store: Kept, told: Told) -> Storing:
    return Storing(store, told.tell)


@pytest.fixture
def meter(catalog: Catalog) -> Meter:
    cause = Cause.FEATURE_KEY_ABSENT
    return Meter(cause, catalog.meters[cause])


def test_meters_are_stored_every_minute_while_they_drain(storing: Storing, store: Kept, meter: Meter) -> None:
    for second in range(0, 200, 5):
        meter.drained = float(second)
        storing.keep_meters([meter], 1000.0 + second)
    storing.close()
    assert [it["feature_key_absent"] for it in store.saved] == [0.0, 60.0, 120.0, 180.0]
    assert METER_SECONDS == 60
    assert threading.get_ident() not in store.threads


def test_meters_that_stand_still_are_stored_once(storing: Storing, store: Kept, meter: Meter) -> None:
    for second in range(0, 600, 5):
        storing.keep_meters([meter], 1000.0 + second)
    storing.keep_meters([meter], 5000.0, now=True)
    storing.close()
    assert len(store.saved) == 1


def test_the_end_of_the_daemon_stores_what_drained_since(storing: Storing, store: Kept, meter: Meter) -> None:
    storing.keep_meters([meter], 1000.0)
    meter.drained = 3.0
    storing.keep_meters([meter], 1001.0, now=True)
    storing.close()
    assert [it["feature_key_absent"] for it in store.saved] == [0.0, 3.0]


def test_what_could_not_be_stored_is_told_and_stored_later(
    storing: Storing, store: Kept, meter: Meter, told: Told
) -> None:
    store.fails = True
    storing.keep_meters([meter], 1000.0)
    storing._thread.submit(int).result()
    event = told.one(EventName.STATE_NOT_STORED)
    assert "database or disk is full" in event.message
    store.fails = False
    storing.keep_meters([meter], 1000.0 + METER_SECONDS)
    storing.close()
    assert len(store.saved) == 1, "a meter that stands still is stored all the same when it could not be before"


def test_documents_that_could_not_be_stored_raise_and_are_told(storing: Storing, store: Kept, told: Told) -> None:
    with pytest.raises(sqlite3.Error):
        asyncio.run(storing.save_documents(Documents(typed=("A", "A"))))
    event = told.one(EventName.STATE_NOT_STORED)
    assert event.message.startswith("Nothing was changed. The state file cannot be written (UNIQUE constraint failed")
    asyncio.run(storing.save_documents(Documents(typed=("A",))))
    assert store.load()[0].typed == ("A",)
    storing.close()


# Facts


def clock_at(wall: float) -> Facts:
    return Facts(clock=TimeMark(wall=wall, boot=wall, boot_id="boot"), emergency_claims=1)


class Counting(Kept):
    """A store that counts what is stored of facts and acts, and fails on demand."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.facts: list[Facts] = []

    def save_facts(self, facts: Facts) -> None:
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        self.facts.append(facts)
        super().save_facts(facts)

    def append_acts(self, acts: Sequence[Act]) -> None:
        self.threads.add(threading.get_ident())
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        super().append_acts(acts)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "counting")


def done(storing: Storing) -> None:
    """Wait until what was handed over is done."""
    storing._thread.submit(int).result()


def test_the_clock_alone_is_stored_now_and_then_and_a_fact_at_once(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    for second in range(0, 1500, 5):
        storing.keep_facts(clock_at(second), float(second))
    done(storing)
    assert [it.clock.wall for it in counting.facts if it.clock] == [0.0, CLOCK_SECONDS, 2 * CLOCK_SECONDS]
    storing.keep_facts(msgspec.structs.replace(clock_at(1500), emergency_claims=2), 1500.0)
    storing.keep_facts(msgspec.structs.replace(clock_at(1505), emergency_claims=2), 1505.0)
    storing.keep_facts(msgspec.structs.replace(clock_at(1510), emergency_claims=2), 1510.0, now=True)
    storing.close()
    assert [it.clock.wall for it in counting.facts[3:] if it.clock] == [1500.0, 1510.0]


def test_the_time_of_a_rescue_is_stored_every_minute_and_its_end_at_once(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    opening = Opening(serial="110123456789", day=datetime.date(2026, 12, 1))
    for second in range(0, 130, 5):
        opened = opening.advanced(float(second))
        storing.keep_facts(msgspec.structs.replace(clock_at(second), opening=opened), float(second))
    storing.keep_facts(clock_at(130), 130.0)
    storing.close()
    stored = [it.opening.drained if it.opening else None for it in counting.facts]
    assert stored == [0.0, METER_SECONDS, 2 * METER_SECONDS, None]


def test_facts_that_could_not_be_stored_are_told_and_stored_later(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    for round_ in range(2):
        counting.fails = True
        for second in range(3):
            storing.keep_facts(clock_at(second), float(second), now=True)
            done(storing)
        assert len(told.events) == round_ + 1, "told once, and again when it had worked in between"
        counting.fails = False
        storing.keep_facts(clock_at(1), 6.0)
        done(storing)
    assert "database or disk is full" in told.events[0].message
    storing.close()
    assert counting.facts == [clock_at(1)] * 2


def test_facts_are_stored_before_they_count_where_somebody_waits(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    asyncio.run(storing.save_facts(clock_at(1)))
    assert counting.load_facts() == (clock_at(1), [])
    counting.fails = True
    with pytest.raises(sqlite3.Error):
        asyncio.run(storing.save_facts(clock_at(2)))
    assert told.one(EventName.STATE_NOT_STORED).message.startswith("Nothing was changed.")
    counting.fails = False
    storing.keep_facts(clock_at(1), 1.0)
    storing.close()
    assert counting.facts == [clock_at(1)], "they were stored already"


# The audit


def act(number: int) -> Act:
    return Act(wall=number, who="uid 0", what="reserved", message=f"Act {number}.")


def recorded(path: Path) -> list[int]:
    store = Store(path)
    entries = store.load_audit()
    assert verify(entries, store.audit_head).sound
    store.close()
    return [it.wall for it in entries]


def test_acts_are_recorded_in_their_order_by_the_thread(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    for number in range(200):
        storing.keep_acts(act(number))
    done(storing)
    assert storing.audit_head.number == 200
    assert storing.state_head.number == counting.state_head.number > 0
    storing.close()
    assert recorded(counting.path) == list(range(200))
    assert threading.get_ident() not in counting.threads


def test_a_full_disk_holds_the_audit_up_and_loses_nothing(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    counting.fails = True
    for number in range(5):
        storing.keep_acts(act(number))
        done(storing)
    assert told.names() == [EventName.STATE_NOT_STORED], "told once"
    counting.fails = False
    storing.try_again()
    storing.keep_acts(act(5))
    storing.close()
    assert recorded(counting.path) == list(range(6))


def test_what_waits_is_recorded_when_the_daemon_ends(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    counting.fails = True
    storing.keep_acts(act(0))
    done(storing)
    counting.fails = False
    storing.close()
    assert recorded(counting.path) == [0]


def test_work_is_done_after_what_was_handed_over_before(counting: Counting, told: Told) -> None:
    storing = Storing(counting, told.tell)
    storing.keep_acts(act(0))
    assert len(asyncio.run(storing.ask(lambda store: store.load_audit()))) == 1
    storing.close()
