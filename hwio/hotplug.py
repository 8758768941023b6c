"""News from the kernel that a device came or went: a reason to look at the Feature Key now, and nothing more.

Rules of this module:

* An event only wakes. What is true is what the look finds, and who never hears an event finds it at the next poll.
* Where no events can be had (no pyudev, no netlink, a container), that is noted once and polling goes on alone.
* Only the sort of device that the reader opens is listened to. Of USB that is the whole device and not its interfaces:
  claiming a key makes the kernel tell of its interfaces, and a look after each would never end. Of a card it is the
  card, which comes before its disk: every mounted image file is news of a disk.
* Many events are one reason: they are waited out, and a storm of them is at most one look a second.
* This is the only module that touches pyudev. Source: facts/hardware.md sections 2 (traps) and 6.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

Sort = tuple[str, str | None]
"""Subsystem and device type as udev names them; None for any type."""

SETTLE_SECONDS = 0.2
"""Without an event until all is told: one device tells of itself in some milliseconds, and a hub of all of its own."""

STORM_SECONDS = 1.0
"""After the first of many events, until a look is due all the same; so a storm causes no more looks than that."""

MOST_AT_ONCE = 1000
"""Events taken in one go, so that a storm cannot keep the thread from its end."""

CLOSE_SECONDS = 3.0
"""How long `close` waits for the thread, which does nothing that lasts."""

_USB: Sort = ("usb", "usb_device")
_CARD: Sort = ("mmc", None)
_PORT: Sort = ("tty", None)
_SORTS: dict[str, tuple[Sort, ...]] = {"auto": (_USB, _CARD), "usb": (_USB,), "slot": (_CARD,), "serial": (_PORT,)}
_UDEV_RUNS = Path("/run/udev/control")
"""Without udevd nobody would pass its events on; the kernel's own come all the same (udev(7))."""


class Monitor(Protocol):
    """Where events come from: what is used of `pyudev.Monitor`."""

    def fileno(self) -> int:
        """A descriptor that is readable while an event waits."""
        ...

    def poll(self, timeout: float) -> object | None:
        """The next event, None where none is left of the sort that was asked for; raises OSError."""
        ...


def sorts_of(reader: str) -> tuple[Sort, ...]:
    """The sorts of device whose coming and going matters to the reader of this text; none for host and simulators."""
    word, colon, _ = reader.partition(":")
    # A slot below another folder than /sys is made of files, which the kernel tells nothing of.
    return () if colon and word != "serial" else _SORTS.get(word, ())


def open_monitor(sorts: tuple[Sort, ...]) -> Monitor:
    """Listen for events of these sorts; raises ImportError without pyudev or libudev, OSError without netlink."""
    # By name, so that a host without pyudev has its polls.
    pyudev: Any = importlib.import_module("pyudev")
    source = "udev" if _UDEV_RUNS.exists() else "kernel"
    monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
    for subsystem, device_type in sorts:
        monitor.filter_by(subsystem, device_type)
    monitor.start()
    opened: Monitor = monitor
    return opened


class HotPlug:
    """Calls `wake` from a thread of its own when a device came or went that may be the reader's key."""

    def __init__(
        self,
        reader: str,
        wake: Callable[[], object],
        note: Callable[[str], object],
        *,
        opened: Callable[[tuple[Sort, ...]], Monitor] = open_monitor,
    ) -> None:
        """`note` gets a sentence, at most once, where there are no events; it may be called from any thread."""
        self._sorts = sorts_of(reader)
        self._wake = wake
        self._note = note
        self._opened = opened
        self._stop = -1
        self._thread = threading.Thread(target=self._run, name="hotplug", daemon=True)

    def start(self) -> None:
        """Begin to listen, where there is anything to listen to."""
        if self._sorts:
            self._stop = os.eventfd(0)
            self._thread.start()

    def close(self) -> None:
        """End the thread; calling it twice is harmless."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._stop)
            self._stop = -1

    def _run(self) -> None:
        try:
            monitor = self._opened(self._sorts)
            poller = select.poll()
            poller.register(self._stop, select.POLLIN)
            poller.register(monitor.fileno(), select.POLLIN)
            while self._await_events(poller, monitor):
                self._wake()
        except Exception as error:  # noqa: BLE001 - whatever happens in a foreign library, polling goes on
            self._note(f"No news of devices that come and go, polls alone find the key: {error!r}")

    def _await_events(self, poller: select.poll, monitor: Monitor) -> bool:
        """Wait for an event and until they are all told; False at the end."""
        due = None
        while True:
            ready = poller.poll(_milliseconds(due))
            if any(descriptor == self._stop for descriptor, _ in ready):
                return False
            if ready and _take(monitor) and due is None:
                due = monotonic() + STORM_SECONDS
            if due is not None and (not ready or monotonic() >= due):
                return True


def _milliseconds(due: float | None) -> int | None:
    """How long to wait for the next event: for ever before the first, and then until all seems told."""
    return None if due is None else int(1000 * max(0.0, min(SETTLE_SECONDS, due - monotonic())))


def _take(monitor: Monitor) -> bool:
    """Take the events that wait; whether there were any of the sort that was asked for."""
    taken = 0
    try:
        while taken < MOST_AT_ONCE and monitor.poll(0) is not None:
            taken += 1
    except OSError as error:
        # More events than the socket holds: some are lost, which is a reason to look too (netlink(7)).
        if error.errno != errno.ENOBUFS:
            raise
        return True
    return taken > 0
