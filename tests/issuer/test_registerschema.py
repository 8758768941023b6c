"""The register's file: append-only, whatever statement is tried."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekeyd.issuer.registerschema import TABLES, create_schema, upgrade_schema
from featurekeyd.policy.licensekey import Term

ROWS = {
    "systems": ("110000000001", "sd-card", "00", 0, "2026-01-31"),
    "programmings": (1, "7654321", 0, "2026-01-31"),
    "certificates": (1, "110000000001", "ip-office", "signer", "digest", "2026-01-31", 3650, "anchor"),
    "license_keys": (
        1, "110000000001", "ip-office", "softconsole", 30, "SoftConsole", 1, "2026-01-31", int(Term.PERPETUAL), 0,
        "KEY", "2026-01-31", None,
    ),
    "revocations": (1, "", "2026-01-31"),
    "lists": ("110000000001", 1, "ip-office", "signer", "digest", "2026-01-31"),
    "exchanges": ("110000000008", "110000000009", "2026-01-31"),
    "rescues": (1, "110000000001", "2026-02-01", "2026-01-31", "anna", "", "2026-01-31T12:00:00+00:00", "2026-01-31"),
    "checks": (
        "110000000001", 1, "00", "2026-01-31T12:00:00+00:00", "2026-02-03T12:00:00+00:00", 0, 0, None, None, None, None,
        None, None, "signer", "digest", "2026-01-31",
    ),
    "permits": (
        "110000000001", 1, "hardware", None, "2026-02-14", "", "signer", "digest", "2026-01-31",
    ),
}  # fmt: skip


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_schema(connection)
        for table, row in ROWS.items():
            insert(connection, "INSERT", table, row)
        yield connection


def insert(connection: sqlite3.Connection, verb: str, table: str, row: tuple[object, ...]) -> None:
    connection.execute(f"{verb} INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def content(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


def test_every_table_has_a_row_to_try() -> None:
    assert set(ROWS) == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET day = '2030-01-01'", "DELETE FROM {}", "UPDATE OR REPLACE {} SET day = ''"]
)
def test_no_row_is_changed_or_deleted(database: sqlite3.Connection, table: str, statement: str) -> None:
    before = content(database)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement.format(table))
    assert content(database) == before


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("verb", ["REPLACE", "INSERT OR REPLACE", "INSERT"])
def test_no_row_is_replaced(database: sqlite3.Connection, table: str, verb: str) -> None:
    before = content(database)
    row = (*ROWS[table][:-1], "2030-01-01")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        insert(database, verb, table, row)
    assert content(database) == before


def test_no_row_is_replaced_through_any_of_its_unique_columns(database: sqlite3.Connection) -> None:
    before = content(database)
    same_hardware = ("110000000002", *ROWS["systems"][1:])
    same_key = (2, *ROWS["license_keys"][1:4], 31, *ROWS["license_keys"][5:])
    same_order = (2, *ROWS["license_keys"][1:10], "OTHER", *ROWS["license_keys"][11:])
    same_replacement = ("110000000007", *ROWS["exchanges"][1:])
    for table, row in (
        ("systems", same_hardware),
        ("license_keys", same_key),
        ("license_keys", same_order),
        ("exchanges", same_replacement),
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            insert(database, "REPLACE", table, row)
    assert content(database) == before


@pytest.mark.parametrize("verb", ["INSERT", "REPLACE"])
def test_the_file_itself_takes_no_second_trial(database: sqlite3.Connection, verb: str) -> None:
    def trial(number: int, catalog: str) -> tuple[object, ...]:
        start = ROWS["license_keys"][3:7]
        end = ("2027-01-31", int(Term.TRIAL), number, f"KEY {number}", "2027-01-31", None)
        return (number, "110000000001", catalog, *start, *end)

    insert(database, "INSERT", "license_keys", trial(2, "ip-office"))
    with pytest.raises(sqlite3.IntegrityError, match="second trial"):
        insert(database, verb, "license_keys", trial(3, "ip-office"))
    insert(database, verb, "license_keys", trial(4, "other-catalog"))


def test_the_file_itself_gives_a_retired_serial_nothing_more(database: sqlite3.Connection) -> None:
    before = content(database)
    retired = "110000000008"
    rows = {
        "certificates": (2, retired, *ROWS["certificates"][2:]),
        "license_keys": (2, retired, *ROWS["license_keys"][2:10], "OTHER", *ROWS["license_keys"][11:]),
        "permits": (retired, *ROWS["permits"][1:]),
        "exchanges": ("110000000001", retired, "2026-02-01"),
        "rescues": (2, retired, *ROWS["rescues"][2:]),
    }
    for table, row in rows.items():
        with pytest.raises(sqlite3.IntegrityError, match="was exchanged"):
            insert(database, "INSERT", table, row)
    assert content(database) == before


def test_no_serial_replaces_itself(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        insert(database, "INSERT", "exchanges", ("110000000001", "110000000001", "2026-02-01"))


def test_the_schema_says_its_version_and_whose_it_is(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA user_version").fetchone() == (4,)
    assert database.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"fkis"),)


def test_the_tables_do_not_drift() -> None:
    # A change of them needs a new version, and a way to it from the old one.
    columns = " ".join(" ".join(TABLES.values()).split())
    assert hashlib.sha256(columns.encode()).hexdigest()[:16] == "2d91da8ede5fa68b"


def test_a_retired_serial_may_still_be_told_no(database: sqlite3.Connection) -> None:
    insert(database, "INSERT", "checks", ("110000000008", *ROWS["checks"][1:]))


# Older registers.

ADDED: dict[int, dict[str, tuple[None, ...]]] = {
    1: {"license_keys": (None,), "certificates": (None, None)},
    2: {"certificates": (None, None)},
    3: {},
}
"""What each row of a table has more after the upgrade from a version."""
ROWS_OF = {
    1: {"systems": 1, "programmings": 0, "certificates": 1, "license_keys": 3, "revocations": 1, "lists": 1},
    2: {
        "systems": 2, "programmings": 0, "certificates": 1, "license_keys": 3, "revocations": 1, "lists": 1,
        "exchanges": 1,
    },
    3: {
        "systems": 2, "programmings": 0, "certificates": 1, "license_keys": 3, "revocations": 1, "lists": 1,
        "exchanges": 1, "rescues": 1, "checks": 1,
    },
}  # fmt: skip


def register_of(version: int) -> sqlite3.Connection:
    """A register as that version wrote it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript((Path(__file__).parent / f"register-v{version}.sql").read_text(encoding="utf-8"))
    return connection


@pytest.fixture(params=[1, 2, 3])
def older(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(register_of(request.param)) as connection:
        yield connection


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Columns of each table in their order, and the names of all that stands in the schema."""
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    columns = {table: list(connection.execute(f"PRAGMA table_info({table})")) for table in TABLES}
    return {"names": names, "version": connection.execute("PRAGMA user_version").fetchone(), **columns}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_register_becomes_what_a_new_one_is_and_keeps_its_rows(
    version: int, database: sqlite3.Connection
) -> None:
    with contextlib.closing(register_of(version)) as older:
        before = {table: list(older.execute(f"SELECT * FROM {table}")) for table in ROWS_OF[version]}
        assert {table: len(rows) for table, rows in before.items()} == ROWS_OF[version]
        upgrade_schema(older)
        assert shape(older) == shape(database)
        for table, rows in before.items():
            wider = [(*row, *ADDED[version].get(table, ())) for row in rows]
            assert list(older.execute(f"SELECT * FROM {table}")) == wider


def test_an_upgrade_is_made_once_however_often_it_is_asked_for(older: sqlite3.Connection) -> None:
    upgrade_schema(older)
    once = content(older)
    upgrade_schema(older)
    assert content(older) == once


def test_an_upgrade_that_fails_leaves_the_register_as_it_was(older: sqlite3.Connection) -> None:
    older.execute("CREATE TABLE permits (in_the_way)")
    before, version = content(older), older.execute("PRAGMA user_version").fetchone()
    with pytest.raises(sqlite3.OperationalError, match="permits already exists"):
        upgrade_schema(older)
    assert content(older) == before
    assert older.execute("PRAGMA user_version").fetchone() == version


@pytest.mark.parametrize("statement", ["UPDATE {} SET day = '2030-01-01'", "DELETE FROM {}"])
def test_an_upgraded_register_is_append_only_as_well(older: sqlite3.Connection, statement: str) -> None:
    upgrade_schema(older)
    (serial,) = older.execute("SELECT min(serial) FROM systems").fetchone()
    insert(older, "INSERT", "rescues", (1, serial, *ROWS["rescues"][2:]))
    insert(older, "INSERT", "checks", (serial, *ROWS["checks"][1:]))
    insert(older, "INSERT", "permits", (serial, *ROWS["permits"][1:]))
    for table in ("license_keys", "rescues", "checks", "permits"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            older.execute(statement.format(table))


def test_a_register_is_a_file_without_a_second_one_beside_it(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "register", isolation_level=None)) as connection:
        create_schema(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [path.name for path in tmp_path.iterdir()] == ["register"]
