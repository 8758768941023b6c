"""The history in the state file: minutes for a week, hours for more than a year.

Each minute is added to its hour in the same transaction, so that an hour is whole as far as it was counted, whatever
happens. A minute that comes twice, because the daemon was restarted in it or the clock was set back, is added to what
is there. Nothing of it is sealed or in a backup: it decides nothing.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from featurekeyd.policy.usage_history import Minute, Sort, Subject, Use

MINUTES_KEPT = 7 * 24 * 60
"""Minutes that are kept as such: a week, in which somebody asks what happened on Monday at ten."""

HOURS_KEPT = 400 * 24
"""Hours that are kept: a year, and the same month of the year before beside it."""

DAY = 86_400
"""Seconds behind the minute that is stored, beyond which a row is of a clock that was ahead: zones and corrections are
below it."""

MAX_WAITING = 1_440
"""Minutes that wait for a disk: a day, in some 2 MB where twenty rows a minute have something in them."""

MAX_ROWS = 1_000
"""Rows of one page of what is listed: some 150 KB, read in 2 ms."""


class Step(enum.StrEnum):
    """How long a row is."""

    MINUTE = "minute"
    HOUR = "hour"


SECONDS = {Step.MINUTE: 60, Step.HOUR: 3600}
"""The same in seconds."""

_ADD = """INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (start, series) DO UPDATE SET peak = max(peak, excluded.peak), granted = granted + excluded.granted,
    denied = denied + excluded.denied, blocked = blocked + excluded.blocked, busy = busy + excluded.busy"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted: all filters together."""

    step: Step
    since: int | None = None
    """Seconds since 1970 UTC: rows that begin then or later."""
    until: int | None = None
    """Rows that begin before."""
    sort: Sort | None = None
    name: str | None = None
    after: tuple[int, int] | None = None
    """Start and series of the last row of the page before."""


class Listed(NamedTuple):
    """A row of the history."""

    start: int
    """Seconds since 1970 UTC."""
    subject: Subject
    use: Use


class Page(NamedTuple):
    """Some rows, in the order of time."""

    rows: list[Listed]
    more: tuple[int, int] | None
    """What to name as `after` for the next page, None where there is none."""


class Waiting:
    """Minutes that wait to be stored, the newest of them where there are too many."""

    def __init__(self) -> None:
        self._minutes: list[Minute] = []

    def __bool__(self) -> bool:
        return bool(self._minutes)

    def put(self, minutes: Iterable[Minute]) -> None:
        """Wait with these, too."""
        self._minutes = [*self._minutes, *minutes][-MAX_WAITING:]

    def put_back(self, minutes: Sequence[Minute]) -> None:
        """Wait with these again, before all others."""
        self._minutes = [*minutes, *self._minutes][-MAX_WAITING:]

    def take(self) -> list[Minute]:
        """All that wait, which then wait no more."""
        taken, self._minutes = self._minutes, []
        return taken


def save_minutes(connection: sqlite3.Connection, minutes: Sequence[Minute]) -> None:
    """Add these minutes, and forget the oldest once an hour; raises sqlite3.Error."""
    numbers = _numbers(connection, {subject for minute in minutes for subject in minute.uses})
    for step, length in SECONDS.items():
        rows = [
            (minute.start * 60 // length, numbers[subject], *msgspec.structs.astuple(use))
            for minute in minutes
            for subject, use in minute.uses.items()
        ]
        connection.executemany(_ADD.format(table=f"history_{step}"), rows)
    if any(minute.start % 60 == 0 for minute in minutes):
        _thin(connection, minutes[-1].start)


def load_page(connection: sqlite3.Connection, wanted: Wanted) -> Page:
    """One page of what is wanted; raises sqlite3.Error."""
    length = SECONDS[wanted.step]
    conditions: dict[str, int | str | None] = {
        "start >= ?": None if wanted.since is None else -(-wanted.since // length),
        "start < ?": None if wanted.until is None else -(-wanted.until // length),
        "sort = ?": wanted.sort,
        "name = ?": wanted.name,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    after = [] if wanted.after is None else ["(start, series) > (?, ?)"]
    where = " AND ".join([*given, *after]) or "TRUE"
    found = connection.execute(
        "SELECT start, series, sort, name, peak, granted, denied, blocked, busy "  # noqa: S608 - names of our own
        f"FROM history_{wanted.step} JOIN history_series ON number = series "
        f"WHERE {where} ORDER BY start, series LIMIT {MAX_ROWS + 1}",
        [*given.values(), *(wanted.after or ())],
    ).fetchall()
    page = found[:MAX_ROWS]
    rows = [Listed(row[0] * length, (Sort(row[2]), row[3]), Use(*row[4:])) for row in page]
    return Page(rows, (page[-1][0], page[-1][1]) if len(found) > MAX_ROWS else None)


def _numbers(connection: sqlite3.Connection, subjects: set[Subject]) -> dict[Subject, int]:
    """The number of each subject; one that is new gets the next."""
    names = sorted((str(sort), name) for sort, name in subjects)
    connection.executemany("INSERT OR IGNORE INTO history_series (sort, name) VALUES (?, ?)", names)
    rows = connection.execute("SELECT sort, name, number FROM history_series")
    return {(Sort(sort), name): number for sort, name, number in rows}


def _thin(connection: sqlite3.Connection, now: int) -> None:
    """Forget minutes and hours beyond those that are kept, and the subjects that nothing is left of.

    They are counted and not reckoned from today: a clock that was ahead for an hour would forget all of them. What it
    has left more than a day behind `now`, the minute that was stored last, goes first, the latest before others: else
    it would stay until that day, and what is counted meanwhile would go. Then go the oldest.
    """
    for step, kept in ((Step.MINUTE, MINUTES_KEPT), (Step.HOUR, HOURS_KEPT)):
        table, horizon = f"history_{step}", (now * 60 + DAY) // SECONDS[step]
        (count,) = connection.execute(f"SELECT count(DISTINCT start) FROM {table}").fetchone()  # noqa: S608 - two names of our own
        order = "start > ? DESC, CASE WHEN start > ? THEN -start ELSE start END"
        first = f"SELECT start FROM (SELECT DISTINCT start FROM {table}) ORDER BY {order} LIMIT ?"  # noqa: S608 - the same
        excess = max(count - kept, 0)
        connection.execute(f"DELETE FROM {table} WHERE start IN ({first})", (horizon, horizon, excess))  # noqa: S608 - the same
    connection.execute(
        "DELETE FROM history_series WHERE number NOT IN (SELECT series FROM history_minute) "
        "AND number NOT IN (SELECT series FROM history_hour)"
    )
