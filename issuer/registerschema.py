"""The tables of the register, and the triggers that make them append-only.

Every table refuses UPDATE and DELETE, and a guard before each INSERT refuses what is there already: `INSERT OR REPLACE`
would else delete without any trigger being asked. So a mistake is never mended by changing a row, only by another row.
Whoever may write the file can still drop a trigger; the register guards against programs and hands, not against its
owner.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x666B6973
"""Says in the file's header what it is: `fkis`."""

VERSION = 1
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
}
"""Table by table, its columns. `day` is the UTC date of the act."""

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
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


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
