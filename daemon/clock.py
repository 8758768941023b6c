"""The only clock of the daemon: wall time and boot time, read together."""

from __future__ import annotations

import time
from pathlib import Path

from featurekeyd.policy.instant import Now

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> Now:
    """The moment on both clocks; boot time goes on while the host sleeps."""
    return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """What tells this boot of the host from every other."""
    return _BOOT_ID.read_text().strip()
