"""The state that outlives a reboot, in one SQLite file: documents, keys, reservations, leases, meters.

Documents are stored as they came, signature and all, and verified again when they are read: what is in the file is not
believed because it is in the file. Every method may wait for the disk and is called from the storing thread only, but
for those that load, which the daemon calls once before it serves anybody.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.reservations import Reservation, Reservations

_Loaded = TypeVar("_Loaded")

SCHEMA_VERSION = 2
"""1 had no tables for trials, reservations and configuration leases."""

_SCHEMA = """
CREATE TABLE document (kind TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE typed_key (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE removed_key (key TEXT PRIMARY KEY) STRICT;
CREATE TABLE mark (
    serial TEXT PRIMARY KEY, list_number INTEGER NOT NULL, listed TEXT NOT NULL, certified TEXT NOT NULL
) STRICT;
CREATE TABLE trial (
    serial TEXT NOT NULL, code INTEGER NOT NULL, issued TEXT NOT NULL, PRIMARY KEY (serial, code)
) STRICT;
CREATE TABLE reservation (
    place INTEGER PRIMARY KEY, feature TEXT NOT NULL, key TEXT NOT NULL, holder TEXT, instances INTEGER NOT NULL,
    UNIQUE (feature, key)
) STRICT;
CREATE TABLE configuration_lease (
    holder TEXT NOT NULL, key TEXT NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (holder, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE meter (cause TEXT PRIMARY KEY, drained REAL NOT NULL) STRICT;
"""


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought to this system: signed texts as they came, and keys as text."""

    certificate: str | None = None
    license_list: str | None = None
    typed: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()
    marks: dict[str, Mark] = {}
    """How far the documents of each serial have come."""


_decode_lease = msgspec.json.Decoder(Lease).decode


class StateRefused(Exception):
    """The state file is of a later release, or no database; the text says which and what to do."""


class Store:
    """The state file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _open(path)

    def load(self) -> tuple[Documents, dict[str, float]]:
        """The documents, and the drained seconds of each meter by its cause; raises StateRefused."""
        try:
            return self._load()
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error

    def _load(self) -> tuple[Documents, dict[str, float]]:
        texts = dict(self._connection.execute("SELECT kind, text FROM document"))
        documents = Documents(
            certificate=texts.get("certificate"),
            license_list=texts.get("license_list"),
            typed=tuple(row[0] for row in self._connection.execute("SELECT key FROM typed_key ORDER BY place")),
            removed=frozenset(row[0] for row in self._connection.execute("SELECT key FROM removed_key")),
            marks=self._load_marks(),
        )
        return documents, dict(self._connection.execute("SELECT cause, drained FROM meter"))

    def _load_marks(self) -> dict[str, Mark]:
        trials: dict[str, dict[int, datetime.date]] = {}
        for serial, code, issued in self._connection.execute("SELECT serial, code, issued FROM trial"):
            trials.setdefault(serial, {})[code] = _date(issued)
        rows = self._connection.execute("SELECT serial, list_number, listed, certified FROM mark")
        return {row[0]: Mark(row[1], _date(row[2]), _date(row[3]), trials.get(row[0], {})) for row in rows}

    def save_documents(self, documents: Documents) -> None:
        """Keep these documents instead of those before, in one transaction; raises sqlite3.Error."""
        texts = {"certificate": documents.certificate, "license_list": documents.license_list}
        marks = [(serial, it.list_number, str(it.listed), str(it.certified)) for serial, it in documents.marks.items()]
        trials = [
            (serial, code, str(issued)) for serial, it in documents.marks.items() for code, issued in it.trials.items()
        ]
        with self._connection as transaction:
            for table in ("document", "typed_key", "removed_key", "mark", "trial"):
                transaction.execute(f"DELETE FROM {table}")  # noqa: S608 - five names of our own
            present = [(kind, text) for kind, text in texts.items() if text is not None]
            transaction.executemany("INSERT INTO document VALUES (?, ?)", present)
            transaction.executemany("INSERT INTO typed_key (key) VALUES (?)", [(key,) for key in documents.typed])
            transaction.executemany("INSERT INTO removed_key VALUES (?)", [(key,) for key in documents.removed])
            transaction.executemany("INSERT INTO mark VALUES (?, ?, ?, ?)", marks)
            transaction.executemany("INSERT INTO trial VALUES (?, ?, ?)", trials)

    def load_reservations(self) -> tuple[Reservations, list[str]]:
        """The reservations, in the order of their making, and what is wrong with rows; raises StateRefused."""
        rows = "SELECT feature, key, holder, instances FROM reservation ORDER BY place"
        names = ("feature", "key", "holder", "instances")
        found, damaged = self._load_each(
            rows, lambda row: msgspec.convert(dict(zip(names, row, strict=True)), Reservation)
        )
        return Reservations(found), [f"a reservation is damaged and left out: {it}" for it in damaged]

    def save_reservations(self, reservations: Reservations) -> None:
        """Keep these reservations instead of those before, in one transaction; raises sqlite3.Error."""
        rows = [(it.feature, it.key, it.holder, it.instances) for it in reservations]
        with self._connection as transaction:
            transaction.execute("DELETE FROM reservation")
            columns = "INSERT INTO reservation (feature, key, holder, instances) VALUES (?, ?, ?, ?)"
            transaction.executemany(columns, rows)

    def load_leases(self) -> tuple[list[Lease], list[str]]:
        """The leases that outlive a reboot, and what is wrong with rows that hold none; raises StateRefused."""
        found, damaged = self._load_each("SELECT lease FROM configuration_lease", lambda row: _decode_lease(row[0]))
        return found, [f"a lease is damaged and left out; the next Sync mends it: {it}" for it in damaged]

    def _load_each(self, rows: str, load: Callable[[tuple[Any, ...]], _Loaded]) -> tuple[list[_Loaded], list[str]]:
        """What each row holds, and why some hold nothing: one that is damaged takes nothing from the others."""
        found, damaged = [], []
        try:
            for row in self._connection.execute(rows):
                try:
                    found.append(load(row))
                except (msgspec.MsgspecError, ValueError) as error:
                    damaged.append(str(error))
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error
        return found, damaged

    def save_leases(self, changed: Mapping[tuple[str, str], Lease | None]) -> None:
        """Keep these leases by holder and key, forget those that are None, in one transaction; raises sqlite3.Error."""
        kept = [(*place, msgspec.json.encode(lease).decode()) for place, lease in changed.items() if lease is not None]
        with self._connection as transaction:
            gone = [place for place, lease in changed.items() if lease is None]
            transaction.executemany("DELETE FROM configuration_lease WHERE holder = ? AND key = ?", gone)
            transaction.executemany("INSERT OR REPLACE INTO configuration_lease VALUES (?, ?, ?)", kept)

    def save_meters(self, drained: dict[str, float]) -> None:
        """Keep the drained seconds of each meter; raises sqlite3.Error."""
        with self._connection as transaction:
            transaction.executemany("INSERT OR REPLACE INTO meter VALUES (?, ?)", drained.items())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, check_same_thread=False)
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _unusable(path, error) from error
    except Exception:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateRefused(f"{path} was written by a later release (schema {version}); install that release again")
    if version == 0:
        path.chmod(0o600)
    if version < SCHEMA_VERSION:
        # An earlier schema lacks tables and is right in those it has.
        schema = _SCHEMA.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS") if version else _SCHEMA
        connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a date is damaged: {error}") from None


def _unusable(path: Path, error: sqlite3.Error) -> StateRefused:
    # What is wrong with the text of a table has the general code or none; any other operational error is of the
    # place, and the file may be quite well: it is locked, not readable, or its disk is full.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
        return StateRefused(
            f"{path} cannot be opened: {error}; see who owns it (the daemon's user must), whether another program has "
            "it open, and whether its disk is full"
        )
    return StateRefused(f"{path} is damaged: {error}; restore it from a backup, or move it away and import anew")
