"""The processes of the switch that has asked: when the last of them is gone, so are the calls it kept in memory.

A connection that ends proves nothing: a worker lets go of it after every time-out. The end of a process does, and the
kernel tells it by a descriptor of the process (pidfd_open(2)), whichever user it belongs to. A process that cannot be
followed, because it is in another PID namespace or there are too many, is never met before and never missed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from . import limits


class SwitchProcesses:
    """Those that live, by process id."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gone: Callable[[], object]) -> None:
        """`gone` is called when the last process that has asked is gone."""
        self._loop = loop
        self._gone = gone
        self._descriptors: dict[int, int] = {}
        self._asked: set[int] = set()

    def __len__(self) -> int:
        return len(self._descriptors)

    @property
    def anyone_asked(self) -> bool:
        """Whether a process lives that has asked."""
        return bool(self._asked)

    def meet(self, pid: int) -> bool:
        """Take note that a process has connected; whether it is the first time, as far as is known."""
        if pid in self._descriptors:
            return False
        if pid > 0 and len(self._descriptors) < limits.MAX_SWITCH_PROCESSES:
            self._follow(pid)
        return True

    def note_asked(self, pid: int) -> None:
        """Take note that it has asked: it belongs to the switch."""
        if pid in self._descriptors:
            self._asked.add(pid)

    def close(self) -> None:
        """Follow nobody any more."""
        for pid in list(self._descriptors):
            self._forget(pid)
        self._asked.clear()

    def _follow(self, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it has ended already, or there are no descriptors left
            return
        self._descriptors[pid] = descriptor
        self._loop.add_reader(descriptor, self._has_ended, pid)

    def _has_ended(self, pid: int) -> None:
        self._forget(pid)
        if pid in self._asked:
            self._asked.discard(pid)
            if not self._asked:
                self._gone()

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
