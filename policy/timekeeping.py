"""Timekeeping: how late it is at least, whatever the wall clock says.

Leases and meters run on boot time, which nobody sets. Dates need the wall clock, which anybody may set and which small
hosts do not have until the network comes. So a mark is kept: the latest time that is believed to have been reached.

* The mark advances with boot time, also while the wall clock stands before it: time passes all the same.
* It follows a wall clock that is ahead of it, at most a day for each day: one jump forward, however far, moves the mark
  by a day, and does no harm once the clock is right again. Who says that it is right repairs it by command.
* How long the host was off, its wall clock tells after the next boot, once it has stood for some minutes: these days
  count as passed too, so that the mark keeps up on a host that is off at night. That the clock was set after the boot
  makes no difference; that it is further ahead than holidays last does.
* Dates are held against the later of wall clock and mark, and never before the day of this release.
* A wall clock that stands before this release says nothing: the host has booted in 1970, which is no attack. On a new
  host, the first time that comes after it is believed whole.

Rules: DESIGN, Time; facts/field.md complaint 8 (an hour of tolerance, a command that repairs).
"""

from __future__ import annotations

import datetime
import enum

import msgspec

from .instant import Now

DAY = 86_400.0

TOLERANCE_SECONDS = 3600.0
"""How far the wall clock may stand before the mark: a correction of a clock that ran fast is no set-back."""

MOST_AHEAD_SECONDS = DAY
"""How far the mark follows a jump at once; as much again is given back with each day that passes."""
STANDS_SECONDS = 600.0
"""How long the wall clock must go evenly after a boot before it is believed how long the host was off: a clock that the
network corrects is corrected by then."""

LONGEST_OFF_SECONDS = 7 * DAY
"""How long a host can have been off for that: holidays of a week. A clock that is further ahead may be wrong: the mark
follows it by a day a day."""

_EVEN_SECONDS = 60.0
"""By how much wall clock and boot clock may differ in their course: more is a clock that was set."""

FAR_AHEAD_SECONDS = 2 * DAY
"""How far the wall clock may stand ahead of the mark untold: a host that was off for a weekend catches up by itself."""


class ClockState(enum.StrEnum):
    """What the wall clock is good for."""

    RIGHT = "right"
    SET_BACK = "set_back"
    """It stands more than the tolerance before the mark."""
    AHEAD = "ahead"
    """It stands further ahead of the mark than the time explains that has passed here."""
    UNSET = "unset"
    """It stands before the day of this release."""


class TimeMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How late it was at least, and when in which boot that was."""

    wall: float
    """Seconds since 1970-01-01 UTC."""
    boot: float
    """Boot time at which it was that late."""
    boot_id: str
    """Which boot of the host that is a time of."""
    ahead: float = MOST_AHEAD_SECONDS
    """Seconds by which the mark may still follow a wall clock that is ahead of it, beside what passes."""
    repairs: int = 0
    """How often it was set back by command."""
    guessed: bool = False
    """Whether the clock was never set since the mark was made: the first time that it shows is believed as it is."""
    seen: float = 0.0
    """What the wall clock said last where it was not before the mark, 0 where it has not said so yet."""
    left: float = 0.0
    """What it had said when the host went off, 0 where that has been reckoned with."""
    even: float = 0.0
    """Seconds for which it has gone evenly in this boot."""


def first_mark(now: Now, boot_id: str, released: datetime.date) -> TimeMark:
    """The mark of a host that has none: its wall clock is believed where it is not before this release."""
    earliest = _seconds(released)
    return TimeMark(wall=max(now.wall, earliest), boot=now.boot, boot_id=boot_id, guessed=now.wall < earliest)


def advanced(mark: TimeMark, now: Now, boot_id: str) -> TimeMark:
    """The mark as it is now; how long the host was off is known only as far as its wall clock is followed."""
    passed = max(now.boot - mark.boot, 0.0) if boot_id == mark.boot_id else 0.0
    if mark.guessed and now.wall >= mark.wall + passed:
        return TimeMark(wall=now.wall, boot=now.boot, boot_id=boot_id, repairs=mark.repairs)
    mark = _watched(mark, now, boot_id, passed)
    ahead = min(mark.ahead + passed, MOST_AHEAD_SECONDS)
    follows = min(max(now.wall - (mark.wall + passed), 0.0), ahead)
    return msgspec.structs.replace(
        mark, wall=mark.wall + passed + follows, boot=now.boot, boot_id=boot_id, ahead=ahead - follows
    )


def _watched(mark: TimeMark, now: Now, boot_id: str, passed: float) -> TimeMark:
    """The mark with what the wall clock tells; once that goes evenly, the time off counts as passed."""
    left, even, ahead = mark.left, mark.even + passed, mark.ahead
    if boot_id != mark.boot_id:
        # A boot too short to believe its clock belongs to the time off.
        left, even = left or mark.seen, 0.0
    elif abs(now.wall - (mark.seen + passed)) > _EVEN_SECONDS:
        even = 0.0
    seen = now.wall if now.wall >= mark.wall + passed - TOLERANCE_SECONDS else mark.seen
    if left and even >= STANDS_SECONDS and now.wall > left:
        off = max(now.wall - left - even, 0.0)
        ahead += off if off <= LONGEST_OFF_SECONDS else 0.0
        left = 0.0
    return msgspec.structs.replace(mark, seen=seen, left=left, even=even, ahead=min(ahead, MOST_AHEAD_SECONDS))


def repaired(mark: TimeMark, now: Now, floor: datetime.date) -> TimeMark:
    """The mark set to the wall clock, on behalf of a technician who says that it is right; never before `floor`."""
    wall = max(now.wall, _seconds(floor))
    return msgspec.structs.replace(
        mark,
        wall=wall,
        boot=now.boot,
        ahead=MOST_AHEAD_SECONDS,
        repairs=mark.repairs + 1,
        guessed=False,
        seen=0.0,
        left=0.0,
        even=0.0,
    )


def state_of(mark: TimeMark, now: Now, released: datetime.date) -> ClockState:
    """What the wall clock is good for now."""
    if now.wall < _seconds(released):
        return ClockState.UNSET
    if now.wall > mark.wall + FAR_AHEAD_SECONDS:
        return ClockState.AHEAD
    return ClockState.SET_BACK if now.wall < mark.wall - TOLERANCE_SECONDS else ClockState.RIGHT


def date_of(mark: TimeMark, now: Now) -> datetime.date:
    """The date that terms are held against: of the later of wall clock and mark, in UTC."""
    return datetime.datetime.fromtimestamp(max(mark.wall, now.wall), datetime.UTC).date()


def _seconds(date: datetime.date) -> float:
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp()
