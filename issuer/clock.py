"""The issuer's one clock: dates and times in UTC, handed in wherever one is needed."""

from __future__ import annotations

import datetime
from collections.abc import Callable

Today = Callable[[], datetime.date]
Time = Callable[[], datetime.datetime]


def utc_today() -> datetime.date:
    """The date in UTC, whatever the time zone of this host."""
    return datetime.datetime.now(datetime.UTC).date()


def utc_time() -> datetime.datetime:
    """The time in UTC in whole seconds, as signed texts have it."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
