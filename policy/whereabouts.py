"""Where the Feature Key is, and what that makes of licenses: only with the matching key they are valid.

What may be in use goes by the standing, which is patient; the status of a license says what is true of its key. So with
another key there the licenses are invalid at once, and what they allow lasts as long as the grace
(facts/catalog.md sections 8 and 11).
"""

from __future__ import annotations

import enum

import msgspec

from .licenses import License, Status
from .presence import NOT_LOOKED_YET, PRESENT

_GOOD = frozenset({Status.VALID, Status.UNKNOWN, Status.DORMANT, Status.OBSOLETE})


class Whereabouts(enum.Enum):
    """Where the Feature Key is, as far as it matters to a license."""

    THERE = enum.auto()
    NOT_LOOKED_YET = enum.auto()
    AWAY = enum.auto()
    """It cannot be read, and the grace lasts."""
    GONE = enum.auto()
    """It cannot be read, and the grace is over."""
    ANOTHER = enum.auto()
    """A key is there, and it is not the certified one."""


def whereabouts(state: str, *, spent: bool) -> Whereabouts:
    """Where the key is, by the state it was found in; `spent` says whether its grace is over."""
    if state == PRESENT:
        return Whereabouts.THERE
    if state in {"wrong-key", "wrong-answer"}:
        return Whereabouts.ANOTHER
    if spent:
        return Whereabouts.GONE
    return Whereabouts.NOT_LOOKED_YET if state == NOT_LOOKED_YET.state else Whereabouts.AWAY


def under_key(license_: License, where: Whereabouts, serial: str | None, budget: str) -> License:
    """The license with the status that the whereabouts of its key leave it; `budget` is how long the grace is."""
    if where is Whereabouts.THERE or license_.status not in _GOOD:
        return license_
    if where is Whereabouts.ANOTHER:
        finding = f"Another Feature Key is there, and the license is for that of serial {serial}."
        return msgspec.structs.replace(license_, status=Status.INVALID, finding=finding)
    if where is Whereabouts.GONE:
        finding = f"The Feature Key is away, and its time of {budget} is over: put it back."
        return msgspec.structs.replace(license_, status=Status.INVALID, finding=finding)
    doubt = "The Feature Key is away: it counts only as long as the grace lasts."
    if where is Whereabouts.NOT_LOOKED_YET:
        doubt = NOT_LOOKED_YET.finding
    return msgspec.structs.replace(license_, finding=f"{license_.finding} {doubt}")
