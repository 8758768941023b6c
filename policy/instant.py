"""The time as policy is told it: wall clock and boot clock together, always an argument."""

from __future__ import annotations

import datetime

import msgspec


class Now(msgspec.Struct, frozen=True, gc=False):
    """One moment on both clocks (DESIGN: Time)."""

    wall: float
    """Seconds since 1970-01-01 UTC. It may be wrong: small hosts boot in 1970. Only dates are reckoned by it."""
    boot: float
    """Seconds since the host booted, time asleep included (CLOCK_BOOTTIME). Leases and meters run on it."""

    @property
    def date(self) -> datetime.date:
        """The wall clock's date in UTC."""
        return datetime.datetime.fromtimestamp(self.wall, datetime.UTC).date()
