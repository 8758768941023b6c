"""The versions of the state file: every earlier one comes up to date without a loss, a later one is left alone."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekeyd.daemon import schema
from featurekeyd.daemon.schema import SCHEMA_VERSION, STEPS, StateDamaged, StateRefused, open_state, transaction
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.reservations import Reservation

HERE = Path(__file__).parent
SERIAL = "110123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "featurekeyd.db"


def restored(path: Path, version: int) -> Path:
    """A state file as the release with that version wrote it."""
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.executescript((HERE / f"state-v{version}.sql").read_text())
    return path


def version_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as state:
        return int(state.execute("PRAGMA user_version").fetchone()[0])


def tables(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as state:
        rows = state.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        return {name: " ".join(sql.replace("IF NOT EXISTS ", "").split()) for name, sql in rows}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store(path, machine_id="this")
    yield store
    store.close()


def test_there_is_a_dump_of_every_earlier_version() -> None:
    assert sorted(path.name for path in HERE.glob("state-v*.sql")) == [
        f"state-v{version}.sql" for version in range(1, SCHEMA_VERSION)
    ]
    assert sorted(STEPS) == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_earlier_file_comes_up_to_date_and_loses_nothing(path: Path, version: int) -> None:
    trials = {} if version == 1 else {7: datetime.date(2026, 1, 5)}
    with opened(restored(path, version)) as store:
        documents, drained = store.load()
        assert documents == Documents(
            certificate="-----BEGIN certificate",
            license_list="the list",
            typed=("B", "A"),
            removed=frozenset({"X"}),
            marks={SERIAL: Mark(7, datetime.date(2026, 1, 2), datetime.date(2025, 12, 31), trials)},
        )
        assert drained == {"feature_key_absent": 12.5}
        reservations, leases = list(store.load_reservations()[0]), store.load_leases()[0]
        assert store.check() is None, "the seal is made along with its version, and holds for the later ones"
    if version >= 2:
        assert reservations == [Reservation(feature="trunk", key="201", holder="asterisk", instances=3)]
        assert [(it.holder, it.key, it.wants) for it in leases] == [("asterisk", "tenant-1", {"tenant": 1})]
    assert version_of(path) == SCHEMA_VERSION


def test_an_update_makes_no_new_seal_for_a_file_that_somebody_else_has_edited(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(restored(path, 3))) as state, state:
        state.execute("UPDATE meter SET drained = 0")
    with opened(path) as store:
        assert store.check() == "it was edited, or comes from another host"


def test_the_audit_is_there_after_an_update(path: Path) -> None:
    with opened(restored(path, 3)) as store:
        assert [entry.message for entry in store.load_audit()] == ["Taken."]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_earlier_file_ends_up_with_the_tables_of_a_new_one(path: Path, version: int, tmp_path: Path) -> None:
    Store(restored(path, version)).close()
    Store(tmp_path / "new.db").close()
    assert {name: sql.split(" (")[1:] for name, sql in tables(path).items()} == {
        name: sql.split(" (")[1:] for name, sql in tables(tmp_path / "new.db").items()
    }


def test_a_file_that_is_up_to_date_is_opened_without_writing(path: Path) -> None:
    Store(path).close()
    before = path.read_bytes()
    with opened(path) as store:
        store.load()
    assert path.read_bytes() == before


def test_a_file_that_is_up_to_date_needs_no_room_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as store:
        store.save_meters({"feature_key_absent": 7.0})
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda name, **options: connect(f"file:{name}?mode=ro", uri=True, **options)
    )
    with opened(path) as store:
        assert store.load()[1] == {"feature_key_absent": 7.0}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_step_that_fails_leaves_the_file_at_a_version_that_goes_on_later(
    path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored(path, version)
    last = STEPS[SCHEMA_VERSION]
    monkeypatch.setitem(schema.STEPS, SCHEMA_VERSION, (*last, "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(StateDamaged, match="no such table: nowhere"):
        Store(path)
    assert version_of(path) == SCHEMA_VERSION - 1
    assert "history_minute" not in tables(path)
    monkeypatch.setitem(schema.STEPS, SCHEMA_VERSION, last)
    with opened(path) as store:
        assert store.load()[0].license_list == "the list"


def test_the_file_of_a_later_release_is_refused_with_the_cure_and_left_alone(path: Path) -> None:
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StateRefused, match=rf"later release \(schema {SCHEMA_VERSION + 1}\); install that") as caught:
        Store(path)
    assert not isinstance(caught.value, StateDamaged), "it would be set aside"
    assert path.read_bytes() == before


def test_what_was_stored_is_synced_in_full_and_one_file_is_left_at_rest(path: Path) -> None:
    connection = open_state(path, lambda _: None)
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with transaction(connection):
        connection.execute("INSERT INTO meter VALUES ('x', 1)")
    assert [it.name for it in path.parent.iterdir()] == [path.name]
    connection.close()


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(path: Path) -> None:
    connection = open_state(path, lambda _: None)
    insert = "INSERT INTO meter VALUES (?, 1)"
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.executemany(insert, [("x",), ("x",)])
    with transaction(connection):
        connection.execute(insert, ("x",))
    assert connection.execute("SELECT count(*) FROM meter").fetchone() == (1,)
    connection.close()
