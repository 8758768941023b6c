"""The tables of the register, and the triggers that make them append-only.

Every table refuses UPDATE and DELETE, and a guard before each INSERT refuses what is there already: `INSERT OR REPLACE`
would else delete without any trigger being asked. So a mistake is never mended by changing a row, only by another row.
A serial that was exchanged takes no further license keys, certificates, rescue codes and permits; its checks say no.

A register of an earlier version is upgraded when it is opened, in one transaction; its rows stay as they are.
Whoever may write the file can still drop a trigger; the register guards against programs and hands, not against its
owner.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x666B6973
"""Says in the file's header what it is: `fkis`."""

VERSION = 4
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
        day TEXT NOT NULL,
        rescue_days INTEGER,
        rescue_anchor TEXT
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
    "rescues": """
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL REFERENCES systems (serial),
        code_day TEXT NOT NULL,
        certified TEXT NOT NULL,
        issuer TEXT NOT NULL,
        reason TEXT NOT NULL,
        time TEXT NOT NULL,
        day TEXT NOT NULL
    """,
    "checks": """
        serial TEXT NOT NULL REFERENCES systems (serial),
        number INTEGER NOT NULL CHECK (number >= 1),
        nonce TEXT NOT NULL,
        checked TEXT NOT NULL,
        until TEXT NOT NULL,
        retired INTEGER NOT NULL CHECK (retired IN (0, 1)),
        rolled_back INTEGER NOT NULL CHECK (rolled_back IN (0, 1)),
        state_head TEXT,
        audit_head TEXT,
        emergency_claims INTEGER,
        catalog_digest TEXT,
        list_number INTEGER,
        enrolled_host TEXT,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL,
        PRIMARY KEY (serial, number)
    """,
    "permits": """
        serial TEXT NOT NULL REFERENCES systems (serial),
        number INTEGER NOT NULL CHECK (number >= 1),
        may_change TEXT NOT NULL,
        hardware_id TEXT,
        until TEXT NOT NULL,
        reason TEXT NOT NULL,
        signer TEXT NOT NULL,
        digest TEXT NOT NULL,
        day TEXT NOT NULL,
        PRIMARY KEY (serial, number)
    """,
}
"""Table by table, its columns. `day` is the UTC date of the act; `license_set` is NULL for a key ordered by itself,
the rescue chain NULL for a certificate of a register before version 3. Of a rescue code only its day is kept."""

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
    "rescues": (("id",),),
    "checks": (("serial", "number"),),
    "permits": (("serial", "number"),),
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
    _guard_retired(connection, "certificates", "license_keys", "rescues", "permits")
    _guard_replacements(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def upgrade_schema(connection: sqlite3.Connection) -> None:
    """Bring an earlier register to this version in one transaction; whoever comes second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in _STEPS[version - 1 :]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _exchanges_and_sets(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE license_keys ADD COLUMN license_set TEXT")
    _create_later(connection, "exchanges")
    _guard_retired(connection, "certificates", "license_keys")
    _guard_replacements(connection)


def _rescues_and_checks(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE certificates ADD COLUMN rescue_days INTEGER")
    connection.execute("ALTER TABLE certificates ADD COLUMN rescue_anchor TEXT")
    _create_later(connection, "rescues")
    _create_later(connection, "checks")
    _guard_retired(connection, "rescues")


def _permits(connection: sqlite3.Connection) -> None:
    _create_later(connection, "permits")
    _guard_retired(connection, "permits")


_STEPS = (_exchanges_and_sets, _rescues_and_checks, _permits)
"""What leads from version 1 to 2, from 2 to 3 and so on. A step makes tables as they are now: as long as a table has
not changed since, that is what its version had."""


def _create_later(connection: sqlite3.Connection, table: str) -> None:
    connection.execute(f"CREATE TABLE {table} ({TABLES[table]}) STRICT")
    _create_triggers(connection, table)


def _guard_retired(connection: sqlite3.Connection, *tables: str) -> None:
    for table in tables:
        connection.execute(
            f"CREATE TRIGGER {table}_retired BEFORE INSERT ON {table} "  # noqa: S608 - names of this module
            "WHEN EXISTS (SELECT 1 FROM exchanges WHERE old_serial = NEW.serial) "
            "BEGIN SELECT RAISE(ABORT, 'the serial was exchanged'); END"
        )


def _guard_replacements(connection: sqlite3.Connection) -> None:
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
