"""Which leases a Call-ID has, and which switch asked about each: what `start`, `stop` and the end of a switch need.

The ledger knows neither. Rules of this module:

* Leases that this index was not told of, restored from before or taken by other ways, are found in the ledger all the
  same: what is put there goes to the end of the holder's leases, so only what is new there is looked at.
* What was freed by other ways is forgotten in time, and never given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from featurekeyd.policy.callrules import call_id_of
from featurekeyd.policy.ledger import Lease, Ledger

from .switchprocesses import NO_SWITCH

SPARE = 32
"""Entries of freed leases that are kept beside twice the leases there are, before all is sorted anew."""


class CallIndex:
    """The leases of one holder by Call-ID."""

    def __init__(self, ledger: Ledger, holder: str) -> None:
        self._ledger = ledger
        self._holder = holder
        self._calls: dict[str, dict[str, int]] = {}
        """By Call-ID the number of the switch that asked, by key."""
        self._known = 0
        """Keys in there."""
        self._latest: Lease | None = None
        """The lease up to which the ledger was looked at."""
        self._heirs: set[int] = set()
        """Switches that asked about a call that was there before them: they are the ones that had it."""

    def __len__(self) -> int:
        return self._known

    def leases(self, call_id: str) -> list[Lease]:
        """The leases of a Call-ID."""
        self._catch_up()
        held = self._held
        return [held[key] for key in self._calls.get(call_id, ()) if key in held]

    def note(self, key: str, switch: int) -> None:
        """Take note that this switch has asked about the call, or was granted it."""
        calls = self._calls.get(call_id_of(key))
        if calls is None or key not in calls:
            self._add(key, switch)
        elif switch != NO_SWITCH:
            if calls[key] == NO_SWITCH:
                self._heirs.add(switch)
            calls[key] = switch
        self._catch_up()

    def freed(self, lease: Lease) -> None:
        """Take note that a lease which was found here is freed."""
        if lease is self._latest:  # then the one before is where to look from: all was looked at to find this one
            self._latest = next(reversed(self._held.values()), None)
        call_id = call_id_of(lease.key)
        calls = self._calls.get(call_id)
        if calls is None or calls.pop(lease.key, None) is None:
            return
        self._known -= 1
        if not calls:
            del self._calls[call_id]

    def ended(self, switch: int) -> Iterator[Lease]:
        """The leases of calls that a switch had which is gone; those of nobody go with the one that has had some."""
        self._catch_up()
        had = {switch, NO_SWITCH} if switch in self._heirs else {switch}
        self._heirs.discard(switch)
        held = self._held
        for calls in list(self._calls.values()):
            yield from (held[key] for key, asked in calls.items() if asked in had and key in held)

    @property
    def _held(self) -> dict[str, Lease]:
        return cast("dict[str, Lease]", self._ledger.of_holder(self._holder))

    def _catch_up(self) -> None:
        """Take in what is new at the end of the holder's leases; of what was looked at nothing is looked at again."""
        held = self._held
        if self._known > 2 * len(held) + SPARE:
            self._sort_anew()
        for key, lease in reversed(held.items()):
            if lease is self._latest:
                break
            self._add(key, NO_SWITCH)
        self._latest = next(reversed(held.values()), None)

    def _add(self, key: str, switch: int) -> None:
        calls = self._calls.setdefault(call_id_of(key), {})
        if key not in calls:
            calls[key] = switch
            self._known += 1

    def _sort_anew(self) -> None:
        held = self._held
        known, self._calls, self._known = self._calls, {}, 0
        for calls in known.values():
            for key, switch in calls.items():
                if key in held:
                    self._add(key, switch)
