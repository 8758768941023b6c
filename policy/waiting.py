"""The waiting order: who is next when an instance of a feature is freed.

Rules (facts/catalog.md section 3, refill rule):

* a key waits when its request says so and instances are all that it lacks; it waits for the feature that was denied,
  and where it lacks two, for one after the other: its place for the second begins once the first is free;
* those who wait are served by the feature's ranks in the catalog, then in the order of asking;
* who asks meanwhile gets none of the instances that as many others wait for, each as many as it lacks; an instance that
  is set aside for a key is outside the order;
* a key that has not asked again within 150 s loses its place, and so does one that gets another answer, gets its
  instances otherwise (as an application, by Sync), or whose lease ends;
* a key whose last question bound the lease to its connection waits no longer than that connection lasts.

The order lives in memory alone: after a restart of the daemon it is the order of asking again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from .reservations import Shares

PATIENCE_SECONDS = 150.0
"""Boot time within which a key asks again to keep its place. Many telephones register every 60 s, and denied ones ask
again at that pace: two such rounds and half of a third, so that one lost message, or a slow one, costs no place."""

MAX_WAITING = 800
"""Keys that wait for one feature: all 384 extensions of a control unit (facts/catalog.md section 5) of two users. A
decision about the feature may walk them."""

MAX_WAITING_OF_USER = 400
"""Keys of one user that wait, for whatever feature: those 384 extensions, and half of the places for one feature, so
that who waits with ever new keys keeps no phone of another user from waiting."""

MAX_WAITING_IN_ALL = 2_000
"""Keys that wait for anything: five users with as many as they may have, in some 2 MB."""

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
    uid: int
    """The user that the holder's name belongs to."""
    place: Place
    seen: float
    """Boot time at which it last asked."""
    called: bool = False
    """Whether it was told that its turn has come."""
    bound: int | None = None
    """Number of the connection whose end takes its place, None for a place that outlives its connection."""

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
        self._waiters: OrderedDict[tuple[str, str], Waiter] = OrderedDict()
        """Everybody by holder and key, who asked longest ago first."""
        self._of_user: dict[int, int] = {}
        self._bound: dict[int, dict[tuple[str, str], None]] = {}
        self._number = 0

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    @property
    def anyone(self) -> bool:
        """Whether somebody waits for anything, or waited until a moment ago."""
        return bool(self._waiters)

    def any_for(self, feature: str) -> bool:
        """Whether somebody waits, or waited until a moment ago."""
        return feature in self._queues

    def in_order(self, feature: str, boot: float) -> list[Waiter]:
        """Those who still wait for a feature, the next one first."""
        queue = self._queues.get(feature, {})
        return sorted((it for it in queue.values() if _has_patience(it, boot)), key=lambda it: it.place)

    def before(self, feature: str, holder: str, key: str, rank: int | None, boot: float) -> Iterator[Waiter]:
        """Those who are served before a key, in no order; its `rank` is None where it does not say that it waits."""
        queue, place = self._queues.get(feature, {}), self._place(feature, holder, key, rank, boot)
        for name, waiter in queue.items():
            if waiter.place < place and name != (holder, key) and _has_patience(waiter, boot):
                yield waiter

    def has_room(self, feature: str, holder: str, key: str, uid: int, boot: float) -> bool:
        """Whether the user's key may wait for that feature: it does already, or not too many do."""
        self._forget_impatient(boot)
        there = self._waiters.get((holder, key))
        if there is not None and there.feature == feature:
            return True
        if len(self._queues.get(feature, ())) >= MAX_WAITING:
            return False
        # A key that waits for another feature gives that place up for this one.
        of_user = self._of_user.get(uid, 0) - (there is not None and there.uid == uid)
        return of_user < MAX_WAITING_OF_USER and len(self._waiters) - (there is not None) < MAX_WAITING_IN_ALL

    def wait(
        self,
        feature: str,
        holder: str,
        key: str,
        instances: int,
        *,
        uid: int,
        rank: int,
        boot: float,
        bound: int | None = None,
    ) -> None:
        """Let the key wait for that feature, and for no other; one that waits for it already keeps its number."""
        self._forget_impatient(boot)
        before = self._queues.get(feature, {}).get((holder, key))
        self.leave(holder, key)
        if before is None:
            self._number += 1
        waiter = Waiter(
            holder=holder,
            key=key,
            feature=feature,
            instances=instances,
            uid=uid,
            place=(rank, before.place[1] if before else self._number),
            seen=boot,
            called=before.called if before else False,
            bound=bound,
        )
        self._queues.setdefault(feature, {})[holder, key] = waiter
        self._waiters[holder, key] = waiter
        self._of_user[uid] = self._of_user.get(uid, 0) + 1
        if bound is not None:
            self._bound.setdefault(bound, {})[holder, key] = None

    def leave(self, holder: str, key: str) -> None:
        """Let the key wait no more."""
        waiter = self._waiters.pop((holder, key), None)
        if waiter is None:
            return
        queue = self._queues[waiter.feature]
        del queue[holder, key]
        if not queue:
            del self._queues[waiter.feature]
        self._of_user[waiter.uid] -= 1
        if not self._of_user[waiter.uid]:
            del self._of_user[waiter.uid]
        if waiter.bound is not None:
            self._unbind(waiter.bound, holder, key)

    def leave_bound(self, connection: int) -> None:
        """Let no key wait any more whose place ends with that connection."""
        for holder, key in list(self._bound.get(connection, ())):
            self.leave(holder, key)

    def leave_all(self, holder: str) -> None:
        """Let no key of that holder wait any more."""
        for waiter in [it for it in self if it.holder == holder]:
            self.leave(holder, waiter.key)

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

    def _unbind(self, connection: int, holder: str, key: str) -> None:
        bound = self._bound[connection]
        del bound[holder, key]
        if not bound:
            del self._bound[connection]

    def _forget_impatient(self, boot: float) -> None:
        """Forget those who have not asked again; they stand before those who have."""
        while self._waiters:
            waiter = next(iter(self._waiters.values()))
            if _has_patience(waiter, boot):
                return
            self.leave(waiter.holder, waiter.key)


def _has_patience(waiter: Waiter, boot: float) -> bool:
    return boot - waiter.seen <= PATIENCE_SECONDS
