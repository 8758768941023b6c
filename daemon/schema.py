"""The tables of the state file, version by version, and the way from each version to the next.

* A step to a version never changes after its release: files of every earlier version are out there. The step and the
  number of the version are stored in one transaction, so that a step that fails leaves the file as it was.
* A file of a later version is refused and left alone.
* The journal is a rollback journal (DELETE), synced in full with its folder (EXTRA). What a technician was told is
  stored is there after a power cut; at rest there is one file and nothing beside it, so that what is copied or set
  aside is whole; and reading takes no room on the disk. What a write-ahead log is faster at, readers beside a writer
  and many commits, nobody needs here: one thread writes, a few times a minute.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

SCHEMA_VERSION = 4
"""1 had no tables for trials, reservations and configuration leases; 2 none for facts, audit and seal; 3 none for the
history."""

SEALED_SINCE = 3
"""The version that brought the seal: it is made along with that one, and no later step makes it anew, because a file
that somebody else has edited shall be told from then on, also after an update."""

STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE document (kind TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT",
        "CREATE TABLE typed_key (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT",
        "CREATE TABLE removed_key (key TEXT PRIMARY KEY) STRICT",
        """CREATE TABLE mark (
            serial TEXT PRIMARY KEY, list_number INTEGER NOT NULL, listed TEXT NOT NULL, certified TEXT NOT NULL
        ) STRICT""",
        "CREATE TABLE meter (cause TEXT PRIMARY KEY, drained REAL NOT NULL) STRICT",
    ),
    # IF NOT EXISTS: version 1 got these one after another while it was made, and some files have a few of them.
    2: (
        """CREATE TABLE IF NOT EXISTS mark (
            serial TEXT PRIMARY KEY, list_number INTEGER NOT NULL, listed TEXT NOT NULL, certified TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE IF NOT EXISTS trial (
            serial TEXT NOT NULL, code INTEGER NOT NULL, issued TEXT NOT NULL, PRIMARY KEY (serial, code)
        ) STRICT""",
        """CREATE TABLE IF NOT EXISTS reservation (
            place INTEGER PRIMARY KEY, feature TEXT NOT NULL, key TEXT NOT NULL, holder TEXT,
            instances INTEGER NOT NULL, UNIQUE (feature, key)
        ) STRICT""",
        """CREATE TABLE IF NOT EXISTS configuration_lease (
            holder TEXT NOT NULL, key TEXT NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (holder, key)
        ) STRICT, WITHOUT ROWID""",
    ),
    3: (
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        """CREATE TABLE audit (
            number INTEGER PRIMARY KEY, wall INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
            message TEXT NOT NULL, fields TEXT NOT NULL, digest TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE seal (
            one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, digest TEXT NOT NULL
        ) STRICT""",
    ),
    # Starts are minutes and hours since 1970, busy time is in milliseconds: small numbers make short rows. New rows
    # come to the end of a table, so that a minute writes few pages.
    4: (
        """CREATE TABLE history_series (
            number INTEGER PRIMARY KEY, sort TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (sort, name)
        ) STRICT""",
        """CREATE TABLE history_minute (
            start INTEGER NOT NULL, series INTEGER NOT NULL, peak INTEGER NOT NULL, granted INTEGER NOT NULL,
            denied INTEGER NOT NULL, blocked INTEGER NOT NULL, busy INTEGER NOT NULL, PRIMARY KEY (start, series)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE history_hour (
            start INTEGER NOT NULL, series INTEGER NOT NULL, peak INTEGER NOT NULL, granted INTEGER NOT NULL,
            denied INTEGER NOT NULL, blocked INTEGER NOT NULL, busy INTEGER NOT NULL, PRIMARY KEY (start, series)
        ) STRICT, WITHOUT ROWID""",
    ),
}
"""The statements that lead to each version from the one before; 0 is an empty file."""


class StateRefused(Exception):
    """The state file cannot be used as it is; the text says why and what to do."""


class StateDamaged(StateRefused):
    """What is in the state file is no state, or not whole."""


def open_state(path: Path, upgraded: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    """The file at this version of the schema; raises StateRefused.

    `upgraded` runs at the end of the transaction in which the file comes to the version that brought the seal.
    """
    try:
        connection = sqlite3.connect(path, check_same_thread=False)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    try:
        connection.isolation_level = None  # transactions begin and end where it says so
        _prepare(connection, path, upgraded)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Look the file through, page by page; raises StateDamaged naming the first thing that is wrong.

    The quick check: what it leaves out, whether each index has each row, no reader here depends on. 1 ms for a usual
    file, some 100 ms for one of 50 MB.
    """
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    if found != "ok":
        raise _damaged(path, found.replace("\n", " "))


def unusable(path: Path, error: sqlite3.Error) -> StateRefused:
    """What an error of the database means for the state file."""
    # What is wrong with the text of a table has the general code or none; any other operational error is of the
    # place, and the file may be quite well: it is locked, not readable, or its disk is full.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
        return StateRefused(
            f"{path} cannot be opened: {error}; see who owns it (the daemon's user must), whether another program has "
            "it open, and whether its disk is full"
        )
    return _damaged(path, str(error))


def _damaged(path: Path, what: str) -> StateDamaged:
    return StateDamaged(f"{path} is damaged: {what}; restore it from a backup, or move it away and import anew")


def _prepare(connection: sqlite3.Connection, path: Path, upgraded: Callable[[sqlite3.Connection], object]) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateRefused(f"{path} was written by a later release (schema {version}); install that release again")
    if version == 0:
        path.chmod(0o600)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    for number in range(version + 1, SCHEMA_VERSION + 1):
        with transaction(connection):
            for statement in STEPS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            if number == SEALED_SINCE:
                upgraded(connection)
