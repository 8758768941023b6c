"""What became of keys lately, so that a list that comes late does not undo it.

Boot times by holder and key: when a key was given back, and when a lease that was there already was asked for again.
They live in memory alone and are bounded: what is forgotten sooner is undone by an old list, and put right by the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from .ledger import Lease

MAX_RELEASES = 1024
"""Releases remembered for one holder: 25 s of a system where 40 calls end each second (facts/telephony.md section 3),
and a list is seconds old."""

MAX_ASKED_AGAIN = 2048
"""Leases of one holder of which it is remembered that they were asked for again: 6 s of 20,000 telephones that each
register every 60 s, in some 0.4 MB."""

LONG_AGO = float("-inf")
"""When what is not remembered happened."""

_Moments = dict[str, OrderedDict[str, float]]
"""Boot time by holder and key, the latest last."""


class Lately:
    """When keys were given back, and when their leases were last asked for."""

    def __init__(self) -> None:
        self._given_back: _Moments = {}
        self._asked_again: _Moments = {}

    def note_release(self, holder: str, key: str, boot: float) -> None:
        """Remember that a call is over."""
        moments = self._given_back.get(holder)
        if moments is None:
            moments = self._given_back[holder] = OrderedDict()
        moments[key] = boot
        moments.move_to_end(key)
        if len(moments) > MAX_RELEASES:
            moments.popitem(last=False)

    def note_asked_again(self, lease: Lease, boot: float) -> None:
        """Remember that the holder asked for the lease once more and was allowed to have it so."""
        moments = self._asked_again.get(lease.holder)
        if moments is None:
            moments = self._asked_again[lease.holder] = OrderedDict()
        moments[lease.key] = boot
        moments.move_to_end(lease.key)
        if len(moments) > MAX_ASKED_AGAIN:
            moments.popitem(last=False)

    def given_back(self, holder: str, key: str) -> float:
        """When the key was given back last."""
        moments = self._given_back.get(holder)
        return moments.get(key, LONG_AGO) if moments else LONG_AGO

    def with_key(self, key: str) -> list[tuple[str, str]]:
        """Holder and key wherever that key was given back."""
        return [(holder, key) for holder, moments in self._given_back.items() if key in moments]

    def places(self) -> Iterator[tuple[str, str]]:
        """Holder and key of all that were given back; others may come and go meanwhile."""
        for holder in list(self._given_back):
            for key in list(self._given_back.get(holder, ())):
                yield holder, key

    def asked(self, lease: Lease) -> float:
        """When the lease was granted, or asked for again."""
        moments = self._asked_again.get(lease.holder)
        return max(moments.get(lease.key, LONG_AGO), lease.granted) if moments else lease.granted

    def forget(self, holder: str) -> None:
        """Drop what is known of a holder that is no more."""
        self._given_back.pop(holder, None)
        self._asked_again.pop(holder, None)
