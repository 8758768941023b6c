"""The history as the daemon gives it, page by page, and its sums; the verbs `history` and `sizing` are made of this."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .call import MANAGE, ReplyGarbled
from .moments import local, midnight, seconds_of
from .reading import member, needed, objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class Asking(Protocol):
        """What asks the daemon: a Session."""

        def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
            """The reply to one call; raises CallError."""
            ...


LENGTHS = {"minute": 60, "hour": 3600, "day": 86_400}
"""Periods that a row may be about, with their usual seconds."""

COUNTING = "counting"
"""The sort of the rows that say for how long the daemon counted."""

Subject = tuple[str, str]
"""Sort and name, which is empty where a row stands for several."""


@dataclass
class Use:
    """What was in use of one subject in one period."""

    start: int
    """Seconds since 1970 UTC."""
    subject: Subject
    peak: int = 0
    granted: int = 0
    denied: int = 0
    blocked: int = 0
    busy_seconds: float = 0.0

    def add(self, other: Use) -> None:
        """Take in another one of the same period."""
        self.peak = max(self.peak, other.peak)
        self.granted += other.granted
        self.denied += other.denied
        self.blocked += other.blocked
        self.busy_seconds += other.busy_seconds


@dataclass
class Counted:
    """Rows of one kind of period, in the order of time, and the seconds of each period that were counted."""

    length: int
    uses: list[Use] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    """By the start of the period."""

    def erlangs(self, use: Use) -> float:
        """The traffic carried, while it was counted."""
        return use.busy_seconds / (self.seconds.get(use.start) or self.whole(use.start))

    def whole(self, start: int) -> int:
        """Seconds of the period that begins then."""
        if self.length != LENGTHS["day"]:
            return self.length
        return midnight(local(start).date() + datetime.timedelta(days=1)) - start


def read_uses(asking: Asking, step: str, **wanted: Any) -> Iterator[Use]:
    """Every row that is wanted, as io.featurekey.Manage.History takes it; raises CallError."""
    more: str | None = None
    while True:
        reply = asking.ask(f"{MANAGE}.History", step=step, after=more, **wanted)
        yield from map(_use, objects(reply, "uses"))
        more = member(reply, "more", str)
        if more is None:
            return


def read_counted(asking: Asking, step: str, since: int, until: int, subject: Subject | None) -> Counted:
    """Rows of one subject or of all, in periods of that name; raises CallError."""
    stored = "hour" if step == "day" else step
    about: dict[str, str] = {} if subject is None else {"sort": subject[0], "name": subject[1]}
    rows = list(read_uses(asking, stored, since=since, until=until, **about))
    if subject is not None:
        rows += read_uses(asking, stored, since=since, until=until, sort=COUNTING)
    return counted(rows, step)


def counted(rows: Iterable[Use], step: str) -> Counted:
    """The rows by period: as they are, or hours summed up to days of this place."""
    found = Counted(LENGTHS[step])
    sums: dict[tuple[int, Subject], Use] = {}
    for row in rows:
        start = _day(row.start) if step == "day" else row.start
        if row.subject[0] == COUNTING:
            found.seconds[start] = found.seconds.get(start, 0.0) + row.busy_seconds
            continue
        sums.setdefault((start, row.subject), Use(start, row.subject)).add(row)
    found.uses = [use for _, use in sorted(sums.items())]
    return found


def _day(start: int) -> int:
    return midnight(local(start).date())


def _use(row: dict[str, Any]) -> Use:
    try:
        start = seconds_of(needed(row, "time", str))
        busy = float(row["busy_seconds"])
    except (ValueError, KeyError, TypeError):
        raise ReplyGarbled("reply: a row of the history has no time, or no busy time") from None
    counts = {name: needed(row, name, int) for name in ("peak", "granted", "denied", "blocked")}
    return Use(start, (needed(row, "sort", str), member(row, "name", str) or ""), busy_seconds=busy, **counts)
