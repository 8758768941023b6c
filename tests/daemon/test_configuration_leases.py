"""Leases for what is configured outlive a reboot: stored behind the decisions, brought back when the host was down."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.leasefile import LeaseFile, forget_others, with_stored
from featurekeyd.daemon.site import TICK_SECONDS
from featurekeyd.daemon.store import Store
from featurekeyd.daemon.storing import Storing
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.events import EventName
from featurekeyd.policy.ledger import Lease, Ledger
from featurekeyd.policy.requests import CallClass

if TYPE_CHECKING:
    from tests.daemon.conftest import House, Told

DEADLINE = 10
BOOT = 77.0
"""Boot time of the later run."""

Changed = dict[tuple[str, str], Lease | None]


def lease(key: str, **fields: Any) -> Lease:
    whole: dict[str, Any] = {"scope": Scope.CONFIGURATION, "holder": "asterisk", "uid": 1000, "wants": {"tenant": 1}}
    return Lease(key=key, **(whole | {"granted": 12.5} | fields))


def changed(*leases: Lease) -> Changed:
    return {(it.holder, it.key): it for it in leases}


def stored(place: Path) -> set[str]:
    """The keys that another run would find."""
    store = Store(place / "featurekeyd.db")
    found = {it.key for it in store.load_leases()[0]}
    store.close()
    return found


# The state file


def test_leases_come_back_as_they_were_and_go_when_they_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "featurekeyd.db")
    full = lease("b", port="ü:1", channel="2", present={"edition": 1})
    store.save_leases(changed(lease("a"), full))
    store.save_leases({("asterisk", "a"): None, ("asterisk", "none"): None})
    store.close()
    later = Store(tmp_path / "featurekeyd.db")
    assert later.load_leases() == ([full], [])
    later.close()


def test_a_lease_that_is_damaged_is_left_out_and_told_and_the_others_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "featurekeyd.db")
    store.save_leases(changed(lease("a"), lease("z")))
    with store._connection as transaction:
        transaction.execute("INSERT INTO configuration_lease VALUES ('a', 'b', '{}')")
    found, damaged = store.load_leases()
    assert {it.key for it in found} == {"a", "z"}
    (told,) = damaged
    assert told.startswith("a lease is damaged and left out; the next Sync mends it: Object missing required field")
    store.close()


# The thread that stores


class Slow(Store):
    """A store that waits for a gate, fails on demand, and remembers what it was given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saved: list[Changed] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.fails = False

    def save_leases(self, changed: Mapping[tuple[str, str], Lease | None]) -> None:
        self.begun.set()
        assert self.gate.wait(DEADLINE)
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        self.saved.append(dict(changed))
        super().save_leases(changed)


@pytest.fixture
def store(tmp_path: Path) -> Slow:
    return Slow(tmp_path / "featurekeyd.db")


@pytest.fixture
def storing(store: Slow, told: Told) -> Storing:
    return Storing(store, told.tell)


def idle(storing: Storing) -> None:
    """Wait until the thread has nothing to do."""
    storing._thread.submit(int).result(DEADLINE)


def test_nobody_waits_for_the_disk_and_the_newest_state_wins(storing: Storing, store: Slow, tmp_path: Path) -> None:
    store.gate.clear()
    storing.keep_leases(changed(lease("a")))
    assert store.begun.wait(DEADLINE)
    for number in range(100):
        storing.keep_leases(changed(lease("b", port=str(number))))
    storing.keep_leases({("asterisk", "a"): None})
    store.gate.set()
    storing.close()
    assert len(store.saved) == 2, "what changed meanwhile is stored at once"
    assert store.saved[1] == {("asterisk", "b"): lease("b", port="99"), ("asterisk", "a"): None}
    assert stored(tmp_path) == {"b"}


def test_a_failing_disk_is_told_once_and_tried_again_with_the_newest_state(
    storing: Storing, store: Slow, told: Told, tmp_path: Path
) -> None:
    store.fails = True
    for port in ("1", "2"):
        storing.keep_leases(changed(lease("a", port=port), lease("b")))
        idle(storing)
    assert "disk is full" in told.one(EventName.STATE_NOT_STORED).message
    store.fails = False
    storing.keep_leases({("asterisk", "b"): None})
    idle(storing)
    assert store.saved == [{("asterisk", "a"): lease("a", port="2"), ("asterisk", "b"): None}]
    store.fails = True
    storing.keep_leases(changed(lease("c")))
    idle(storing)
    assert len(told.events) == 2, "it worked in between, so this is news"
    store.fails = False
    storing.close()
    assert stored(tmp_path) == {"a", "c"}, "the end tries once more"


def test_where_nothing_changes_nothing_is_stored(storing: Storing, store: Slow) -> None:
    storing.keep_leases({})
    storing.close()
    assert store.saved == []


# The site


def acquire(house: House, key: str, feature: str = "tenant", **fields: object) -> None:
    (reply,) = house.ask("io.featurekey.License.Acquire", **house.acquire(key, feature, **fields)["parameters"])
    assert reply["parameters"]["allowed"]
    house.site.settle()


def test_only_leases_of_the_scope_configuration_are_stored(licensed: House) -> None:
    acquire(licensed, "extension")
    acquire(licensed, "call", "trunk")
    acquire(licensed, "until-it-hangs-up", bound=True)
    acquire(licensed, "help", dialed="112")
    idle(licensed.storing)
    assert stored(licensed.place) == {"extension"}
    licensed.ask("io.featurekey.License.Release", holder="kamailio", key="extension")
    licensed.site.settle()
    idle(licensed.storing)
    assert stored(licensed.place) == set()


def test_a_lease_that_changes_its_scope_is_stored_no_more(licensed: House) -> None:
    acquire(licensed, "a")
    acquire(licensed, "a", "trunk")
    idle(licensed.storing)
    assert stored(licensed.place) == set()


def test_a_tick_tries_again_what_could_not_be_stored(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(licensed.store, "save_leases", full)
        acquire(licensed, "extension")
        idle(licensed.storing)
    assert licensed.log.names() == [EventName.STATE_NOT_STORED]
    licensed.clock.run(TICK_SECONDS)
    licensed.site._tick()
    idle(licensed.storing)
    assert stored(licensed.place) == {"extension"}


# The next start


def restarted(place: Path, boot_id: str) -> Ledger:
    """The ledger of a later run, as `main` makes it."""
    store = Store(place / "featurekeyd.db")
    found, _ = store.load_leases()
    store.close()
    ledger = Ledger()
    for it in with_stored(LeaseFile(place / "leases", boot_id).recover(), found, BOOT):
        ledger.put(it)
    forget_others(ledger, found)
    return ledger


def test_after_a_reboot_what_is_configured_is_there_and_calls_are_gone(licensed: House) -> None:
    acquire(licensed, "extension")
    acquire(licensed, "call", "trunk")
    idle(licensed.storing)
    ledger = restarted(licensed.place, "another-boot")
    assert [(it.key, it.granted) for it in ledger] == [("extension", BOOT)]
    (licensed.place / "leases").unlink()
    assert [it.key for it in restarted(licensed.place, "another-boot")] == ["extension"]


def test_within_a_boot_the_lease_file_is_newer_than_the_state_file(
    licensed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(licensed, "ended")
    acquire(licensed, "stays")
    idle(licensed.storing)
    # Killed before the thread came to it: nothing from here on is stored.
    monkeypatch.setattr(Storing, "keep_leases", lambda *_: None)
    acquire(licensed, "newer")
    licensed.ask("io.featurekey.License.Release", holder="kamailio", key="ended")
    licensed.site.settle()
    assert stored(licensed.place) == {"ended", "stays"}
    ledger = restarted(licensed.place, "this-boot")
    assert {it.key for it in ledger} == {"newer", "stays"}
    assert ledger.configured["kamailio", "ended"] is None, "the state file is told to forget it"
    assert {key for (_, key), it in ledger.configured.items() if it} == {"newer", "stays"}


def test_a_damaged_lease_file_is_completed_from_the_state_file(licensed: House) -> None:
    acquire(licensed, "extension")
    acquire(licensed, "call", "trunk")
    idle(licensed.storing)
    lines = (licensed.place / "leases").read_bytes().splitlines(keepends=True)
    (licensed.place / "leases").write_bytes(lines[0] + b"00000000 spoiled\n" + lines[2])
    assert {it.key for it in restarted(licensed.place, "this-boot")} == {"extension", "call"}


def test_what_is_configured_is_believed_of_the_state_file_where_recording_had_stopped(
    licensed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(licensed, "ended")
    acquire(licensed, "stays")
    acquire(licensed, "call", "trunk")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        acquire(licensed, "newer")
        licensed.ask("io.featurekey.License.Release", holder="kamailio", key="ended")
        licensed.site.settle()
    idle(licensed.storing)
    ledger = restarted(licensed.place, "this-boot")
    assert {it.key: it.granted for it in ledger} == {
        "stays": licensed.clock.boot,
        "call": licensed.clock.boot,
        "newer": BOOT,
    }


@pytest.mark.parametrize(
    ("fields", "outlives"),
    [
        ({}, True),
        ({"scope": Scope.REGISTRATIONS}, False),
        ({"scope": Scope.CALLS}, False),
        ({"bound": 7}, False),
        ({"call_class": CallClass.EMERGENCY}, False),
    ],
)
def test_what_outlives_a_reboot_is_configured_and_neither_bound_nor_an_emergency(
    fields: dict[str, Any], outlives: bool
) -> None:
    ledger = Ledger()
    ledger.put(lease("a", **fields))
    assert bool(ledger.configured) is outlives
    ledger.configured.clear()
    ledger.drop("asterisk", "a")
    assert ledger.configured == ({("asterisk", "a"): None} if outlives else {})
