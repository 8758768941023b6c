"""Which requests were refused in the last day, why, by how much the limit was too low, and what to do.

Pure: replies and rows of the history in, faults out. The history tells of a day also where the daemon was restarted in
it, and lacks the minute that runs; what is counted since the start has that one, and is all that a user may see who
may not manage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .console import span
from .faults import Fault, Severity, number_of
from .reading import needed, objects
from .uses import read_uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .uses import Asking, Use

DAY = 86_400
"""Seconds: what was refused before is told no more."""

USUAL_HOLD = 180.0
"""Seconds that a call takes where none was granted from which it could be known: the trade's three minutes."""

BLOCKED = frozenset({"limit_reached", "reserved", "others_wait"})
"""Reasons that more instances would have cured."""

_OTHERS = {
    "not_licensed": (
        "There is no license for it that counts.",
        "Order one, and add it: featurekeyctl add KEY. {show} what there is.",
    ),
    "license_expired": ("Its licenses have come to their end.", "Order a new one; featurekeyctl licenses"),
    "license_unlisted": (
        "No list of the vendor has confirmed its licenses in time.",
        "Import the vendor's newest list: featurekeyctl import LIST.csv",
    ),
    "prerequisite_missing": ("Its licenses wait for another one that is not there.", "{show} which; order it."),
    "not_supported": (
        "This platform or release has no use for it.",
        "{show} why; if the platform or release is wrong: [product] in featurekeyd.toml.",
    ),
    "ceiling_reached": (
        "The port was at its ceiling, whatever is licensed: a carrier's contract.",
        "featurekeyctl ports shows the calls; [ceilings] in featurekeyd.toml has the number.",
    ),
    "unknown_feature": (
        "The catalog has no such feature: the switch's configuration has its name wrong.",
        "Mend the name there; the journal has it: journalctl -u featurekeyd EVENT=denied",
    ),
    "unknown_application": (
        "The catalog has no such application: the program's configuration has its name wrong.",
        "Mend the name there; the journal has it: journalctl -u featurekeyd EVENT=denied",
    ),
    "too_many_leases": (
        "One user held too many leases: the switch does not give back what it takes.",
        "See that every end of a call runs the release; featurekeyctl leases shows what is held.",
    ),
}
"""Reasons that more instances would not cure: the cause, and the cure. That all is deactivated is told elsewhere."""


@dataclass(frozen=True)
class Day:
    """What the history has of the last day."""

    hours: list[Use] = field(default_factory=list)
    """Rows of features, by hour."""
    minutes: dict[str, list[Use]] = field(default_factory=dict)
    """Rows by minute of the features that were refused for want of instances."""

    def of(self, feature: object) -> list[Use]:
        """The hours of one feature."""
        return [use for use in self.hours if use.subject[1] == feature]


def read_day(asking: Asking, now: int) -> Day:
    """The last day of the history; raises CallError."""
    wanted = {"since": now - DAY, "until": now + 60, "sort": "feature"}  # not what a clock that was ahead has left
    hours = list(read_uses(asking, "hour", **wanted))
    blocked = sorted({use.subject[1] for use in hours if use.blocked})
    minutes = {name: list(read_uses(asking, "minute", **wanted, name=name)) for name in blocked}
    return Day(hours, minutes)


def in_refusals(status: Mapping[str, Any], features: Mapping[str, Any], day: Day | None, now: int) -> Iterator[Fault]:
    """What was refused; without a `day` that is what was since the daemon started."""
    uptime = needed(status, "uptime_seconds", int)
    since = (
        "in the last day" if day is not None and uptime >= DAY else f"in the {span(uptime)} since the daemon started"
    )
    counted = objects(status, "denials") if uptime < DAY or day is None else []
    rows = {str(row.get("feature")): row for row in objects(features, "features")}
    for name, row in rows.items():
        began = sum(
            needed(it, "denied", int) for it in counted if it.get("feature") == name and it["reason"] in BLOCKED
        )
        yield from _blocked(name, row, began, day, _Since(now, uptime, since))
    for it in counted:
        name = str(it.get("feature") or "a feature that is in no catalog")
        title = str(rows.get(name, {}).get("title") or name)
        yield from _other(str(it.get("reason")), name, title, needed(it, "denied", int), since)


@dataclass(frozen=True)
class _Since:
    now: int
    uptime: int
    words: str


def _blocked(name: str, row: Mapping[str, Any], began: int, day: Day | None, since: _Since) -> Iterator[Fault]:
    hours = [] if day is None else day.of(name)
    stored = sum(use.blocked for use in hours)
    refused = max(stored, began)
    if not refused:
        return
    words = "in the last day" if stored > began else since.words
    recent = [needed(row, "peak", int)] if since.uptime < DAY else []
    peak = max([use.peak for use in hours] + recent, default=0)
    limit = needed(row, "limit", int)
    what = f"{number_of(refused, 'request')} for {row.get('title')} {_were(refused)} refused {words}."
    cause = f"At most {peak} were in use at once, and the limit is {limit}."
    cure = f"featurekeyctl leases --feature {name} shows who holds them; featurekeyctl sizing {name} reckons the need."
    if day is not None:
        more = more_needed(_minutes(name, began, day, since), _hold(hours))
        cause += f" {more} more would have been enough for all."
        cure = f"Order {more} more, if these are real calls: {cure}"
    yield Fault("requests_refused", Severity.WARNING, what, cause, cure)


def _minutes(name: str, began: int, day: Day, since: _Since) -> list[tuple[int, int]]:
    """Start and refusals of each minute, with those of the minute that runs."""
    rows = [(use.start, use.blocked) for use in day.minutes.get(name, [])]
    start = since.now - since.uptime
    running = began - sum(blocked for begin, blocked in rows if begin + 60 > start)
    return [*rows, (since.now - since.now % 60, running)] if running > 0 else rows


def _hold(hours: Sequence[Use]) -> float:
    """Seconds that a request which was granted held what it got, on average."""
    granted = sum(use.granted for use in hours)
    return sum(use.busy_seconds for use in hours) / granted if granted else USUAL_HOLD


def more_needed(minutes: Sequence[tuple[int, int]], hold: float) -> int:
    """How many more instances would have refused nobody, if each one refused was a call of `hold` seconds.

    That is the most that were refused within one such time: one who tries again and again is counted each time.
    """
    length = max(hold, 60.0)
    return max(
        (sum(blocked for start, blocked in minutes if begin <= start < begin + length) for begin, _ in minutes),
        default=0,
    )


def _other(reason: str, name: str, title: str, denied: int, since: str) -> Iterator[Fault]:
    if reason not in _OTHERS:
        return
    cause, cure = _OTHERS[reason]
    what = f"{number_of(denied, 'request')} for {title} {_were(denied)} refused {since}."
    show = f"featurekeyctl features {name} shows"
    yield Fault(f"refused_{reason}", Severity.WARNING, what, cause, cure.format(show=show))


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
