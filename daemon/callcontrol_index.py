"""Which leases a Call-ID has, and which switch asked about each: what `start`, `stop` and the end of a switch need.

The ledger knows neither. Rules of this module:

* Leases that this index was not told of, restored from before or taken by other ways, are found in the ledger all the
  same: what is put there goes to the end of the holder's leases, so only what is new there is looked at.
* What was freed by other ways is forgotten in time, and never given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from featurekeyd.policy.callrules import filed_stand_in, filed_under
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
        """By Call-ID the number of the switch that asked, by key; stand-ins of before by what they tell of it."""
        self._places: dict[str, str] = {}
        """By key where it is in there."""
        self._seen: dict[str, Lease] = {}
        """By key the leases that were looked at, as they were then."""
        self._heirs: set[int] = set()
        """Switches that asked about a call that was there before them: they are the ones that had it."""

    def __len__(self) -> int:
        return len(self._places)

    def leases(self, call_id: str) -> list[Lease]:
        """The leases of a Call-ID."""
        self._catch_up()
        held = self._held
        for place in (call_id, filed_stand_in(call_id)):
            found = [held[key] for key in self._calls.get(place, ()) if key in held]
            if found:
                return found
        return []

    def note(self, key: str, call_id: str, switch: int) -> None:
        """Take note that this switch has asked about the call, or was granted it."""
        place = self._places.get(key)
        if place is None:
            self._add(key, call_id, switch)
        elif switch != NO_SWITCH:
            if self._calls[place][key] == NO_SWITCH:
                self._heirs.add(switch)
            self._calls[place][key] = switch
        self._catch_up()

    def freed(self, key: str, switch: int) -> None:
        """Take note that this switch has ended the call."""
        self._seen.pop(key, None)
        place = self._places.pop(key, None)
        if place is None:
            return
        if self._calls[place].pop(key) == NO_SWITCH != switch:
            self._heirs.add(switch)
        if not self._calls[place]:
            del self._calls[place]

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
        if len(self._places) > 2 * len(held) + SPARE:
            self._sort_anew()
        for key, lease in reversed(held.items()):
            if self._seen.get(key) is lease:  # and so are all before it
                break
            self._seen[key] = lease
            if key not in self._places:
                self._add(key, filed_under(key), NO_SWITCH)

    def _add(self, key: str, place: str, switch: int) -> None:
        self._calls.setdefault(place, {})[key] = switch
        self._places[key] = place

    def _sort_anew(self) -> None:
        held = self._held
        known, places, self._calls, self._places = self._calls, self._places, {}, {}
        self._seen = {key: lease for key, lease in self._seen.items() if key in held}
        for key, place in places.items():
            if key in held:
                self._add(key, place, known[place][key])
