"""The state file: what is in it, who may read it, and which files are refused."""

from __future__ import annotations

import datetime
import sqlite3
from pathlib import Path

import pytest

from featurekeyd.daemon.store import SCHEMA_VERSION, Documents, StateRefused, Store
from featurekeyd.policy.licenses import Mark

FULL = Documents(
    certificate="-----BEGIN\nü\0",
    license_list="list",
    typed=("B", "A", "C"),
    removed=frozenset({"X", "Y"}),
    marks={
        "110123456789": Mark(7, datetime.date(2026, 1, 2), datetime.date(2025, 12, 31)),
        "110123456780": Mark(certified=datetime.date(2024, 2, 29)),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "featurekeyd.db"


def kept(path: Path) -> tuple[Documents, dict[str, float]]:
    """What another run finds."""
    store = Store(path)
    found = store.load()
    store.close()
    return found


def test_a_new_file_holds_nothing(path: Path) -> None:
    assert kept(path) == (Documents(), {})


def test_documents_and_meters_come_back_as_they_were(path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    store.save_meters({"feature_key_absent": 1.25, "unlisted_licenses": 0.0})
    store.save_meters({"feature_key_absent": 2.5})
    store.close()
    assert kept(path) == (FULL, {"feature_key_absent": 2.5, "unlisted_licenses": 0.0})


def test_documents_replace_those_before(path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    later = Documents(certificate="other", typed=("C",), marks={"110123456789": Mark(8)})
    store.save_documents(later)
    store.close()
    assert kept(path)[0] == later


def test_documents_are_stored_all_or_none(path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    twice = Documents(certificate="other", typed=("A", "A"))
    with pytest.raises(sqlite3.IntegrityError):
        store.save_documents(twice)
    assert store.load()[0] == FULL
    store.close()
    assert kept(path)[0] == FULL


def test_what_fails_in_the_middle_leaves_all_as_it_was(path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    store._connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON removed_key BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(sqlite3.Error, match="disk full"):
        store.save_documents(Documents(certificate="other", removed=frozenset({"Z"})))
    store.close()
    assert kept(path)[0] == FULL


def test_the_file_is_its_owners_alone(path: Path) -> None:
    Store(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_there_and_empty_becomes_its_owners_alone(path: Path) -> None:
    path.touch(0o644)
    Store(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_of_a_later_release_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        StateRefused, match=rf"later release \(schema {SCHEMA_VERSION + 1}\); install that release again"
    ):
        Store(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_with_the_cure(path: Path) -> None:
    path.write_bytes(b"this is no database, and longer than a header of one has to be" * 20)
    with pytest.raises(StateRefused, match="is damaged: file is not a database; restore it") as caught:
        Store(path)
    assert str(path) in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateRefused, match="cannot be opened: unable to open database file; see who owns it"):
        Store(tmp_path / "none" / "featurekeyd.db")


def test_a_database_of_somebody_else_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE document (something TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateRefused, match="is damaged: table document already exists"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("begin", [100, 4096])
def test_a_database_spoiled_inside_is_refused_with_the_cure(begin: int, path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    store.close()
    data = bytearray(path.read_bytes())
    data[begin:] = b"\xff" * (len(data) - begin)
    path.write_bytes(data)
    with pytest.raises(StateRefused, match=r"is damaged: .*; restore it from a backup, or move it away"):
        kept(path)


def test_a_table_that_is_gone_is_refused_with_the_cure(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE meter")
    connection.close()
    with pytest.raises(StateRefused, match="is damaged: no such table: meter; restore it"):
        kept(path)


def spoil(path: Path, statement: str, *values: object) -> None:
    """Change something in the file of a daemon that has ended."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def full(path: Path) -> None:
    store = Store(path)
    store.save_documents(FULL)
    store.close()


@pytest.mark.parametrize("column", ["listed", "certified"])
@pytest.mark.parametrize("day", ["", "yesterday", "2026-02-30", "0"])
def test_a_damaged_mark_is_refused_with_the_cure(column: str, day: str, path: Path) -> None:
    full(path)
    spoil(path, f"UPDATE mark SET {column} = ?", day)
    with pytest.raises(StateRefused, match=r"is damaged: a date is damaged: .*; restore it from a backup"):
        kept(path)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE mark RENAME COLUMN certified TO other",
        "ALTER TABLE meter RENAME COLUMN cause TO other",
        "UPDATE document SET text = CAST(x'ff' AS TEXT)",
    ],
)
def test_tables_that_are_not_ours_inside_are_damage(statement: str, path: Path) -> None:
    full(path)
    spoil(path, statement)
    with pytest.raises(StateRefused, match=r"is damaged: .*; restore it"):
        kept(path)


def test_a_file_that_another_program_has_locked_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(path)
    connect = sqlite3.connect
    other = connect(path)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda name, **options: connect(name, timeout=0, **options))
    with pytest.raises(StateRefused, match="cannot be opened: database is locked; see who owns it") as caught:
        kept(path)
    assert "restore" not in str(caught.value)
    other.close()
    assert kept(path)[0] == FULL


def test_a_file_that_cannot_be_written_yet_is_not_called_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    path.touch()
    monkeypatch.setattr(
        sqlite3, "connect", lambda name, **options: connect(f"file:{name}?mode=ro", uri=True, **options)
    )
    with pytest.raises(StateRefused, match="cannot be opened: attempt to write a readonly database; see who owns it"):
        Store(path)


def test_a_full_disk_is_not_called_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(name: Path, *, check_same_thread: bool) -> sqlite3.Connection:
        connection = connect(name, check_same_thread=check_same_thread)
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StateRefused, match=r"cannot be opened: database or disk is full; .* whether its disk is full"):
        Store(path)
    monkeypatch.undo()
    assert kept(path) == (Documents(), {})
