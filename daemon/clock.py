"""The only clock of the daemon, wall time and boot time read together; and which boot of which machine it is of."""

from __future__ import annotations

import time
from pathlib import Path

from featurekeyd.policy.instant import Now

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")


def now() -> Now:
    """The moment on both clocks; boot time goes on while the host sleeps."""
    return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """What tells this boot of the host from every other."""
    return _BOOT_ID.read_text().strip()


def machine_id() -> str:
    """What tells this installation from every other (machine-id(5)); empty where the host has none."""
    try:
        return _MACHINE_ID.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
