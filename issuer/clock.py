"""The issuer's one clock: UTC dates, handed in wherever a date is needed."""

from __future__ import annotations

import datetime
from collections.abc import Callable

Today = Callable[[], datetime.date]


def utc_today() -> datetime.date:
    """The date in UTC, whatever the time zone of this host."""
    return datetime.datetime.now(datetime.UTC).date()
