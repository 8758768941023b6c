"""The waiting order: who is next when an instance of a feature is freed.

Rules (facts/catalog.md section 3, refill rule):

* a key waits when its request says so and instances are all that it lacks; it waits for the feature that was denied;
* those who wait are served by the feature's ranks in the catalog, then in the order of asking;
* who asks meanwhile gets none of the instances that as many others wait for, each as many as it lacks; an instance that
  is set aside for a key is outside the order;
* a key that has not asked again within 60 s loses its place, and so does one that gets another answer.

The order lives in memory alone: after a restart of the daemon it is the order of asking again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from .reservations import Shares

PATIENCE_SECONDS = 60.0
"""Boot time within which a key asks again to keep its place: who waits asks more often than a telephone registers."""

MAX_WAITING = 500
"""Keys that wait for one feature: more than the 384 extensions of a whole control unit (facts/catalog.md section 5). A
decision about the feature walks them."""

Place = tuple[int, float]
"""Rank, and number in the order of asking."""

_BEHIND_ALL = (2**31, math.inf)


class Waiter(msgspec.Struct, kw_only=True):
    """One key that waits."""

    holder: str
    key: str
    feature: str
    instances: int
    """How many it lacks."""
    place: Place
    seen: float
    """Boot time at which it last asked."""
    called: bool = False
    """Whether it was told that its turn has come."""

    def lacks(self, shares: Shares) -> int:
        """Instances that it waits for besides those that are set aside for it."""
        return max(self.instances - shares.own(self.holder, self.key), 0)


def rank_of(ranks: tuple[str, ...], rank: str | None) -> int:
    """Where a rank stands in the feature's order; one that is not named there comes last."""
    return ranks.index(rank) if rank in ranks else len(ranks)


class Waiting:
    """Those who wait, by feature."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[tuple[str, str], Waiter]] = {}
        self._feature_of: dict[tuple[str, str], str] = {}
        self._number = 0

    def __iter__(self) -> Iterator[Waiter]:
        for queue in self._queues.values():
            yield from queue.values()

    @property
    def anyone(self) -> bool:
        """Whether somebody waits for anything, or waited until a moment ago."""
        return bool(self._queues)

    def any_for(self, feature: str) -> bool:
        """Whether somebody waits, or waited until a moment ago."""
        return feature in self._queues

    def in_order(self, feature: str, boot: float) -> list[Waiter]:
        """Those who still wait for a feature, the next one first."""
        queue = self._queues.get(feature, {})
        return sorted((it for it in queue.values() if _has_patience(it, boot)), key=lambda it: it.place)

    def before(self, feature: str, holder: str, key: str, rank: int | None, boot: float) -> list[Waiter]:
        """Those who are served before a key, in no order; its `rank` is None where it does not say that it waits."""
        queue, place = self._queues.get(feature, {}), self._place(feature, holder, key, rank, boot)
        others = (it for name, it in queue.items() if name != (holder, key))
        return [it for it in others if it.place < place and _has_patience(it, boot)]

    def has_room(self, feature: str, holder: str, key: str, boot: float) -> bool:
        """Whether the key may wait: it does already, or not too many do."""
        queue = self._queues.get(feature, {})
        if len(queue) < MAX_WAITING or (holder, key) in queue:
            return True
        return sum(_has_patience(it, boot) for it in queue.values()) < MAX_WAITING

    def wait(self, feature: str, holder: str, key: str, instances: int, *, rank: int, boot: float) -> None:
        """Let the key wait for that feature, and for no other; one that waits for it already keeps its number."""
        self._forget_impatient(boot)
        before = self._queues.get(feature, {}).get((holder, key))
        if before is None:
            self.leave(holder, key)
            self._number += 1
        waiter = Waiter(
            holder=holder,
            key=key,
            feature=feature,
            instances=instances,
            place=(rank, before.place[1] if before else self._number),
            seen=boot,
            called=before.called if before else False,
        )
        self._queues.setdefault(feature, {})[holder, key] = waiter
        self._feature_of[holder, key] = feature

    def leave(self, holder: str, key: str) -> str | None:
        """Let the key wait no more; the feature it waited for."""
        feature = self._feature_of.pop((holder, key), None)
        if feature is not None:
            queue = self._queues[feature]
            del queue[holder, key]
            if not queue:
                del self._queues[feature]
        return feature

    def features(self, boot: float) -> list[str]:
        """The features that somebody still waits for."""
        self._forget_impatient(boot)
        return list(self._queues)

    def call(self, feature: str, shares: Shares, boot: float) -> list[Waiter]:
        """Those whose turn has come and who were not told yet."""
        called, left = [], shares.unreserved
        for waiter in self.in_order(feature, boot):
            lacking = waiter.lacks(shares)
            left -= lacking
            turn = left >= 0 or not lacking
            if turn and not waiter.called:
                called.append(waiter)
            waiter.called = turn
        return called

    def restart(self, boot: float) -> None:
        """Count everybody's patience from now on, because nobody was listening before."""
        for waiter in self:
            waiter.seen = boot

    def _place(self, feature: str, holder: str, key: str, rank: int | None, boot: float) -> Place:
        waiter = self._queues.get(feature, {}).get((holder, key))
        if waiter is not None and _has_patience(waiter, boot):
            return waiter.place if rank is None else (rank, waiter.place[1])
        return _BEHIND_ALL if rank is None else (rank, math.inf)

    def _forget_impatient(self, boot: float) -> None:
        for waiter in [it for it in self if not _has_patience(it, boot)]:
            self.leave(waiter.holder, waiter.key)


def _has_patience(waiter: Waiter, boot: float) -> bool:
    return boot - waiter.seen <= PATIENCE_SECONDS
