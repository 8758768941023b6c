"""The register's file: append-only, whatever statement is tried."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekeyd.issuer.registerschema import TABLES, create_schema
from featurekeyd.policy.licensekey import Term

ROWS = {
    "systems": ("110000000001", "sd-card", "00", 0, "2026-01-31"),
    "programmings": (1, "7654321", 0, "2026-01-31"),
    "certificates": (1, "110000000001", "ip-office", "signer", "digest", "2026-01-31"),
    "license_keys": (
        1, "110000000001", "ip-office", "softconsole", 30, "SoftConsole", 1, "2026-01-31", int(Term.PERPETUAL), 0,
        "KEY", "2026-01-31",
    ),
    "revocations": (1, "", "2026-01-31"),
    "lists": ("110000000001", 1, "ip-office", "signer", "digest", "2026-01-31"),
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
    same_order = (2, *ROWS["license_keys"][1:10], "OTHER", ROWS["license_keys"][11])
    for table, row in (("systems", same_hardware), ("license_keys", same_key), ("license_keys", same_order)):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            insert(database, "REPLACE", table, row)
    assert content(database) == before


@pytest.mark.parametrize("verb", ["INSERT", "REPLACE"])
def test_the_file_itself_takes_no_second_trial(database: sqlite3.Connection, verb: str) -> None:
    def trial(number: int, catalog: str) -> tuple[object, ...]:
        start, end = ROWS["license_keys"][3:7], ("2027-01-31", int(Term.TRIAL), number, f"KEY {number}", "2027-01-31")
        return (number, "110000000001", catalog, *start, *end)

    insert(database, "INSERT", "license_keys", trial(2, "ip-office"))
    with pytest.raises(sqlite3.IntegrityError, match="second trial"):
        insert(database, verb, "license_keys", trial(3, "ip-office"))
    insert(database, verb, "license_keys", trial(4, "other-catalog"))


def test_the_schema_says_its_version_and_whose_it_is(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert database.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"fkis"),)


def test_the_tables_do_not_drift() -> None:
    # A change of them needs a new version, and a way to it from the old one.
    columns = " ".join(" ".join(TABLES.values()).split())
    assert hashlib.sha256(columns.encode()).hexdigest()[:16] == "18c62c3568d22276"


def test_a_register_is_a_file_without_a_second_one_beside_it(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "register", isolation_level=None)) as connection:
        create_schema(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [path.name for path in tmp_path.iterdir()] == ["register"]
