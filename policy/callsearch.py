"""The search for a call by a name that a technician has: a whole key, or the Call-ID that a SIP key begins with.

Whole keys are looked up; only where no lease has the name, all leases are gone through, and only where none of them
begins with it, the keys that were given back lately. That is done a slice at a time, beside those who ask for calls.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from .callrules import TAG
from .lately import Lately
from .ledger import Lease, Ledger

MOST_FOUND = 32
"""Leases and ended keys that one answer names. One or two are usual: a call that passes two switches has two leases;
with the longest names, 32 of them fit into the 256 KiB that a telephony client reads."""

SLICE_SEARCHED = 512
"""Keys that are looked at before others are served, some 0.1 ms."""


class Ended(NamedTuple):
    """A key that its holder had and gave back, or that was freed for it."""

    holder: str
    key: str
    boot: float
    """Boot time at which that was."""


class Found(NamedTuple):
    """What goes by the name; `ended` is looked for only where there is no lease."""

    leases: list[Lease]
    ended: list[Ended]
    omitted: int
    """Leases or ended keys beyond `MOST_FOUND`."""


Search = Generator[None, None, Found]
"""A search on its way: between two slices other requests may be decided."""


def search(ledger: Ledger, lately: Lately, call: str, holder: str | None = None) -> Search:
    """Look for a call, of one holder where one is named."""
    leases = [lease for lease in ledger.with_key(call) if holder in {None, lease.holder}]
    if not leases:
        places = yield from _matching(ledger.places(), call, holder)
        leases = [lease for lease in (ledger.find(*place) for place in places) if lease is not None]
    if leases:
        return Found(leases[:MOST_FOUND], [], max(len(leases) - MOST_FOUND, 0))
    ended = [Ended(*place, lately.given_back(*place)) for place in (yield from _ended(lately, call, holder))]
    ended.sort(key=lambda it: it.boot, reverse=True)
    return Found([], ended[:MOST_FOUND], max(len(ended) - MOST_FOUND, 0))


def _ended(lately: Lately, call: str, holder: str | None) -> Generator[None, None, list[tuple[str, str]]]:
    whole = [(name, key) for name, key in lately.with_key(call) if holder in {None, name}]
    return whole or (yield from _matching(lately.places(), call, holder))


def _matching(
    places: Iterator[tuple[str, str]], call: str, holder: str | None
) -> Generator[None, None, list[tuple[str, str]]]:
    """The places whose key begins with the Call-ID."""
    found, beginning = [], call + TAG
    for number, (name, key) in enumerate(places, 1):
        if key.startswith(beginning) and holder in {None, name}:
            found.append((name, key))
        if number % SLICE_SEARCHED == 0:
            yield
    return found
