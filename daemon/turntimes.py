"""How long turns took, counted by a few bounds: from their beginning until the answers had left.

A turn is measured as a whole, because a clock that is read for each call would cost each call more than this tells. All
calls of a turn are answered together, so none of them took longer than its turn.
"""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000)
"""Microseconds: a turn of one call takes some 50, a full one some 300; beyond 50 ms something is wrong."""

_SECONDS = tuple(bound / 1e6 for bound in BOUNDS)


class TurnTimes:
    """Turns by how long they took."""

    def __init__(self) -> None:
        self.turns = [0] * (len(BOUNDS) + 1)
        """Turns that took at most as long as each bound and longer than the one before; the last are all others."""
        self.seconds = 0.0
        """The sum of their times."""

    def note(self, seconds: float) -> None:
        """Take note of a turn."""
        self.turns[bisect_left(_SECONDS, seconds)] += 1
        self.seconds += seconds
