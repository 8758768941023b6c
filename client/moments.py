"""Times on the command line and on the screen: in the time zone of whoever sits there."""

from __future__ import annotations

import datetime
import re

import click

_AGO = re.compile(r"(\d{1,5})(min|h|d)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days"}

FORMS = "2026-11-22, 2026-11-22T14:30, or so long ago: 90min, 6h, 7d"
"""What can be written, for help texts and complaints."""


def read_moment(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A time on the command line, as seconds since 1970; raises click.BadParameter."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            back = datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return int((datetime.datetime.now(datetime.UTC) - back).timestamp())
        # Without a zone it is the one of this place.
        return max(int(datetime.datetime.fromisoformat(text.strip()).timestamp()), 0)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no time; write {FORMS}", param=parameter) from None


def local(seconds: float) -> datetime.datetime:
    """A time in the zone of this place."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone()


def midnight(day: datetime.date) -> int:
    """When a day of this place begins, as seconds since 1970; a day may have 23 or 25 hours."""
    return int(datetime.datetime.combine(day, datetime.time()).timestamp())


def seconds_of(time: str) -> int:
    """Seconds since 1970 of a time as the daemon writes it; raises ValueError."""
    return int(datetime.datetime.fromisoformat(time).timestamp())
