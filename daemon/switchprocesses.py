"""The processes that have connected to the call_control socket, and those of them that are switches.

A connection that ends proves nothing: a worker lets go of it after every time-out. The end of a process does, and the
kernel tells it by a descriptor of the process (pidfd_open(2)), whichever user it belongs to. Rules of this module:

* A switch is a process group (setpgid(2)): a service or an interactive program has one of its own, which a worker stays
  in, so one worker that ends is not the end of its switch, and two switches are told apart.
* Only a process that has asked as the user of the holder name counts; all others are met and never missed.
* A process that cannot be followed, because it is in another PID namespace or its user has too many, is of no switch.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from . import limits

NO_SWITCH = 0
"""In place of a switch's number."""


class _Followed(NamedTuple):
    descriptor: int
    uid: int


class SwitchProcesses:
    """Those that live, by process id."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gone: Callable[[int], object]) -> None:
        """`gone` gets the number of a switch when the last of its processes that have asked is gone."""
        self._loop = loop
        self._gone = gone
        self._followed: dict[int, _Followed] = {}
        self._places: Counter[int] = Counter()
        """Processes followed of each user: one who may ask keeps nobody else's from being followed."""
        self._switches: dict[int, int] = {}
        """Numbers of switches by process group."""
        self._asked: dict[int, int] = {}
        """Process groups of the processes that have asked."""
        self._last = NO_SWITCH

    def __len__(self) -> int:
        return len(self._followed)

    def meet(self, pid: int, uid: int) -> bool | None:
        """Take note that a process has connected; whether it is the first time, None where nobody can know."""
        if pid in self._followed:
            return False
        if pid <= 0 or self._places[uid] >= limits.MAX_SWITCH_PROCESSES:
            return None
        return True if self._follow(pid, uid) else None

    def note_asked(self, pid: int) -> int:
        """Take note that it has asked as the switch's user; the number of its switch."""
        group = self._asked.get(pid)
        if group is None:
            if pid not in self._followed:
                return NO_SWITCH
            try:
                group = os.getpgid(pid)
            except ProcessLookupError:  # its end is about to be told
                return NO_SWITCH
            self._asked[pid] = group
        if group not in self._switches:
            self._last += 1
            self._switches[group] = self._last
        return self._switches[group]

    def close(self) -> None:
        """Follow nobody any more."""
        for pid in list(self._followed):
            self._forget(pid)
        self._asked.clear()
        self._switches.clear()

    def _follow(self, pid: int, uid: int) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it has ended already, or there are no descriptors left
            return False
        self._followed[pid] = _Followed(descriptor, uid)
        self._places[uid] += 1
        self._loop.add_reader(descriptor, self._has_ended, pid)
        return True

    def _has_ended(self, pid: int) -> None:
        self._forget(pid)
        group = self._asked.pop(pid, None)
        if group is not None and group not in self._asked.values():
            self._gone(self._switches.pop(group))

    def _forget(self, pid: int) -> None:
        descriptor, uid = self._followed.pop(pid)
        self._places[uid] -= 1
        if not self._places[uid]:
            del self._places[uid]
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
