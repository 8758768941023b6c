"""The audit in the state file, and what waits to be recorded there.

The functions work on the tables within a transaction of the storing thread; what an entry is, and how the chain goes,
`policy.audit` says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from featurekeyd.policy.audit import (
    DAEMON,
    KEPT_ENTRIES,
    MAX_ENTRIES,
    START,
    Act,
    Entry,
    checkpoint,
    extended,
)
from featurekeyd.policy.request_text import Head

MAX_WAITING = 1_000
"""Acts that wait while the state file cannot be written: a day of a busy site, in some 500 KB. Those after them are
counted."""

_COLUMNS = "number, wall, who, what, message, fields, digest"
_fields = msgspec.json.Decoder(dict[str, str]).decode


def load_audit(connection: sqlite3.Connection, after: int = 0) -> list[Entry]:
    """The entries after that number in their order; raises sqlite3.Error."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM audit WHERE number > ? ORDER BY number", (after,))  # noqa: S608 - columns of our own
    return [_entry(row) for row in rows]


def audit_head(connection: sqlite3.Connection) -> Head:
    """The last entry; raises sqlite3.Error."""
    row = connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    return Head(*row) if row else START


def head_at(connection: sqlite3.Connection, number: int) -> Head | None:
    """The entry of that number as it is now, None where it was dropped or never was; raises sqlite3.Error."""
    if number == START.number:
        return START
    row = connection.execute("SELECT number, digest FROM audit WHERE number = ?", (number,)).fetchone()
    return Head(*row) if row else None


def append_acts(connection: sqlite3.Connection, acts: Sequence[Act]) -> Head:
    """Record the acts, and drop the oldest entries where there are too many; the head. Raises sqlite3.Error."""
    _insert(connection, extended(audit_head(connection), acts))
    head = audit_head(connection)
    (first,) = connection.execute("SELECT coalesce(min(number), 1) FROM audit").fetchone()
    if acts and head.number - first + 1 > MAX_ENTRIES:
        _shorten(connection, head, acts[-1].wall)
    return audit_head(connection)


def replace_audit(connection: sqlite3.Connection, entries: Sequence[Entry], wall: int) -> None:
    """Keep these entries instead of those before; raises sqlite3.Error."""
    connection.execute("DELETE FROM audit")
    _insert(connection, entries)
    if len(entries) > MAX_ENTRIES:
        _shorten(connection, audit_head(connection), wall)


def _shorten(connection: sqlite3.Connection, head: Head, wall: int) -> None:
    first = head.number + 2 - KEPT_ENTRIES  # with the checkpoint, so many are left
    (before,) = connection.execute("SELECT digest FROM audit WHERE number = ?", (first - 1,)).fetchone()
    _insert(connection, extended(head, [checkpoint(first, before, wall)]))
    connection.execute("DELETE FROM audit WHERE number < ?", (first,))


def _insert(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    rows = [
        (it.number, it.wall, it.who, it.what, it.message, msgspec.json.encode(it.fields).decode(), it.digest)
        for it in entries
    ]
    connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _entry(row: tuple[int, int, str, str, str, str, str]) -> Entry:
    number, wall, who, what, message, fields, digest = row
    try:
        about = _fields(fields)
    except msgspec.MsgspecError:
        about = {"DAMAGED": fields}  # its digest fits no more, which a verification tells
    return Entry(number=number, wall=wall, who=who, what=what, message=message, fields=about, digest=digest)


class Waiting:
    """Acts that wait to be recorded, in their order; bounded."""

    def __init__(self) -> None:
        self._acts: list[Act] = []
        self._lost = 0

    def __bool__(self) -> bool:
        return bool(self._acts)

    def put(self, acts: Iterable[Act]) -> None:
        """Take more, or count them where there is no room."""
        for act in acts:
            if len(self._acts) < MAX_WAITING:
                self._acts.append(act)
            else:
                self._lost += 1

    def take(self) -> list[Act]:
        """All that wait, and how many are lost."""
        acts, self._acts = self._acts, []
        if self._lost:
            message = f"{self._lost} acts more found no room while the state file could not be written."
            fields = {"COUNT": str(self._lost)}
            acts.append(Act(wall=acts[-1].wall, who=DAEMON, what="acts_lost", message=message, fields=fields))
            self._lost = 0
        return acts

    def put_back(self, acts: list[Act]) -> None:
        """Take them back, before those that came since, for later."""
        since, self._acts = self._acts, []
        self.put([*acts, *since])
