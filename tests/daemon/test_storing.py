"""Storing: from a thread of its own, as seldom as possible, and failures are told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.store import Documents, Store
from featurekeyd.daemon.storing import METER_SECONDS, Storing
from featurekeyd.policy.catalog import Catalog, Cause
from featurekeyd.policy.events import EventName
from featurekeyd.policy.standing import Meter

if TYPE_CHECKING:
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
