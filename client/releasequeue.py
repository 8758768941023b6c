"""Releases that could not be delivered yet, oldest first, in a bounded queue.

Standard library only, since telephony processes import it. Safe to use from several threads: a thread that cannot get
at the connection in time still leaves its release here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUE_LIMIT = 1024
"""Keys kept per process. At 40 call ends a second that is 25 s without the daemon, longer than its restart takes, and
with keys of 100 bytes it is 100 KB. What no longer fits is mended by the next Sync."""


class ReleaseQueue:
    """A set of keys in the order of their release; when it is full, the oldest makes room and is counted in `lost`."""

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._since: dict[str, float] = {}
        self._guard = threading.Lock()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._since)

    def add(self, key: str, now: float) -> None:
        """Put a key at the end; one that is in the queue already moves there."""
        with self._guard:
            self._since.pop(key, None)
            while len(self._since) >= self._limit:
                del self._since[next(iter(self._since))]
                self.lost += 1
            self._since[key] = now

    def discard(self, key: str) -> None:
        """Take a key out: it was delivered, or its call is alive."""
        with self._guard:
            self._since.pop(key, None)

    def discard_older(self, keys: Iterable[str], then: float) -> None:
        """Take out those of the keys that were put in before `then`."""
        with self._guard:
            for key in keys:
                if self._since.get(key, then) < then:
                    del self._since[key]

    def lose(self, key: str) -> None:
        """Give a key up for good and count it."""
        with self._guard:
            if self._since.pop(key, None) is not None:
                self.lost += 1

    def keys(self, first: str | None = None) -> list[str]:
        """The keys, oldest first, but `first` before all others if it is among them."""
        with self._guard:
            return sorted(self._since, key=lambda key: key != first)
