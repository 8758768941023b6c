"""The tables of the register, and the triggers that make them append-only.

Every table refuses UPDATE and DELETE, and a guard before each INSERT refuses what is there already: `INSERT OR REPLACE`
would else delete without any trigger being asked. So a mistake is never mended by changing a row, only by another row.
A serial that was exchanged takes no further license keys and certificates.

A register of an earlier version is upgraded when it is opened, in one transaction; its rows stay as they are.
Whoever may write the file can still drop a trigger; the register guards against programs and hands, not against its
owner.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x666B6973
"""Says in the file's header what it is: `fkis`."""

VERSION = 2
"""PRAGMA user_version of this schema."""

TABLES = {
    "systems": """
        serial TEXT PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        hardware_id TEXT NOT NULL,
        simulated INTEGER NOT NULL CHECK (simulated IN (0, 1)),
        day TEXT NOT NULL,
        UNIQUE (kind, hardware_id, simulated)
    """,
    "programmings": """
        id INTEGER PRIMARY KEY,
        hardware_id TEXT NOT NULL,
        simulated INTEGER NOT NULL CHECK (simulated IN (0, 1)),
        day TEXT NOT NULL
    """,
    "certificates": """
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        catalog TEXT NOT NULL,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL
    """,
    "license_keys": """
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        catalog TEXT NOT NULL,
        feature TEXT NOT NULL,
        feature_code INTEGER NOT NULL,
        title TEXT NOT NULL,
        instances INTEGER NOT NULL,
        issued TEXT NOT NULL,
        term INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        key TEXT NOT NULL UNIQUE,
        day TEXT NOT NULL,
        license_set TEXT,
        UNIQUE (serial, catalog, feature_code, instances, issued, term, sequence)
    """,
    "revocations": """
        license_key INTEGER PRIMARY KEY NOT NULL REFERENCES license_keys (id),
        reason TEXT NOT NULL,
        day TEXT NOT NULL
    """,
    "lists": """
        serial TEXT NOT NULL REFERENCES systems (serial),
        number INTEGER NOT NULL CHECK (number >= 1),
        catalog TEXT NOT NULL,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL,
        PRIMARY KEY (serial, number)
    """,
    "exchanges": """
        old_serial TEXT PRIMARY KEY NOT NULL REFERENCES systems (serial),
        new_serial TEXT NOT NULL UNIQUE REFERENCES systems (serial),
        day TEXT NOT NULL,
        CHECK (old_serial <> new_serial)
    """,
}
"""Table by table, its columns. `day` is the UTC date of the act; `license_set` is NULL for a key ordered by itself."""

_TRIAL = 1
"""Term.TRIAL as it is stored; SQL takes no parameter in an index."""

_TAKEN = {
    "systems": (("serial",), ("kind", "hardware_id", "simulated")),
    "programmings": (("id",),),
    "certificates": (("id",),),
    "license_keys": (
        ("id",),
        ("key",),
        ("serial", "catalog", "feature_code", "instances", "issued", "term", "sequence"),
    ),
    "revocations": (("license_key",),),
    "lists": (("serial", "number"),),
    "exchanges": (("old_serial",), ("new_serial",)),
}
"""Table by table, the columns that no two rows may share."""

_ONE_TRIAL = f"CREATE UNIQUE INDEX one_trial ON license_keys (serial, catalog, feature_code) WHERE term = {_TRIAL}"
_ONE_TRIAL_GUARD = (
    "CREATE TRIGGER license_keys_one_trial BEFORE INSERT ON license_keys "  # noqa: S608 - no foreign text
    f"WHEN NEW.term = {_TRIAL} AND EXISTS (SELECT 1 FROM license_keys WHERE term = {_TRIAL} AND serial = NEW.serial "
    "AND catalog = NEW.catalog AND feature_code = NEW.feature_code) "
    "BEGIN SELECT RAISE(ABORT, 'a second trial of one feature'); END"
)


def create_schema(connection: sqlite3.Connection) -> None:
    """Make all tables and triggers in an empty database, in one transaction."""
    connection.execute("BEGIN EXCLUSIVE")
    for name, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {name} ({columns}) STRICT")
        _create_triggers(connection, name)
    connection.execute(_ONE_TRIAL)
    connection.execute(_ONE_TRIAL_GUARD)
    _guard_retired(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def upgrade_schema(connection: sqlite3.Connection) -> None:
    """Bring a register of version 1 to this one in one transaction; whoever comes second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
            _exchanges_and_sets(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _exchanges_and_sets(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE license_keys ADD COLUMN license_set TEXT")
    connection.execute(f"CREATE TABLE exchanges ({TABLES['exchanges']}) STRICT")
    _create_triggers(connection, "exchanges")
    _guard_retired(connection)
    connection.execute("PRAGMA user_version = 2")


def _guard_retired(connection: sqlite3.Connection) -> None:
    for table in ("certificates", "license_keys"):
        connection.execute(
            f"CREATE TRIGGER {table}_retired BEFORE INSERT ON {table} "  # noqa: S608 - names of this module
            "WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.serial) "
            "BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END"
        )
    # So that the way from a serial to those it replaced comes to an end.
    connection.execute(
        "CREATE TRIGGER exchanges_retired BEFORE INSERT ON exchanges "
        "WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.new_serial) "
        "BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END"
    )


def _create_triggers(connection: sqlite3.Connection, table: str) -> None:
    for verb in ("UPDATE", "DELETE"):
        connection.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END"
        )
    for place, columns in enumerate(_TAKEN[table]):
        same = " AND ".join(f"{column} = NEW.{column}" for column in columns)
        connection.execute(
            f"CREATE TRIGGER {table}_taken_{place} BEFORE INSERT ON {table} "  # noqa: S608 - names of this module
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
            "BEGIN SELECT RAISE(ABORT, 'the register is append-only'); END"
        )
