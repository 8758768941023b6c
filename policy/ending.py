"""Leases that end many at once: with the connection that they are bound to, or because their holder fell silent.

There may be 20,000 of them, so they end a slice at a time, and others are served between two slices. What is asked for
meanwhile is later than the end and stays as it was decided: a lease that is bound to another connection by then stays,
and a holder that is heard again keeps what it has left.
"""

from __future__ import annotations

from collections.abc import Iterator

from .account import Account
from .catalog import Scope
from .decision import Situation
from .events import EventName
from .holders import Holder
from .instant import Now

SLICE_ENDED = 32
"""Leases that end before others are served, some 0.05 ms."""


class Ending:
    """Ends leases, one by one or slice by slice."""

    def __init__(self, situation: Situation, account: Account) -> None:
        self._situation = situation
        self._account = account
        self._freeing: set[tuple[str, Scope]] = set()
        """Holders and scopes that are being freed."""

    def end(self, holder: str, key: str) -> bool:
        """Free a lease, whose key then waits for nothing any more; False where there is none."""
        if self._situation.ledger.drop(holder, key) is None:
            return False
        self._situation.waiting.leave(holder, key)
        return True

    def bound(self, connection: int, now: Now) -> Iterator[None]:
        """Free what ends with a connection, and first the places of keys that wait no longer than it lasts."""
        self._situation.waiting.leave_bound(connection)
        for number, (holder, key) in enumerate(self._situation.ledger.places_bound(connection)):
            if number and number % SLICE_ENDED == 0:
                yield
            lease = self._situation.ledger.find(holder, key)
            if lease is not None and lease.bound == connection:
                self.end(holder, key)
                self._situation.lately.note_release(holder, key, now.boot)

    def silent(self, holder: Holder, scope: Scope) -> Iterator[None]:
        """Free a scope of a holder that fell silent, until it is heard again; nothing where that is under way."""
        place = holder.name, scope
        if place in self._freeing:
            return
        self._freeing.add(place)
        try:
            yield from self._free(holder, scope)
        finally:
            self._freeing.discard(place)

    def _free(self, holder: Holder, scope: Scope) -> Iterator[None]:
        ledger, heard, freed = self._situation.ledger, holder.heard, 0
        for number, key in enumerate(list(ledger.of_holder(holder.name))):
            if number and number % SLICE_ENDED == 0:
                yield
                if self._is_back(holder, heard):
                    said = f"{freed} of its leases of scope {scope} are freed, and then it was heard again."
                    self._tell(holder, scope, said)
                    return
            lease = ledger.find(holder.name, key)
            if lease is not None and lease.scope is scope:
                freed += self.end(holder.name, key)
        holder.ttls = {other: ttl for other, ttl in holder.ttls.items() if other is not scope}
        ledger.changes.append(holder.known())
        counted = "1 lease" if freed == 1 else f"{freed} leases"
        self._tell(holder, scope, f"its {counted} of scope {scope} {'is' if freed == 1 else 'are'} freed.")

    def _is_back(self, holder: Holder, heard: float) -> bool:
        """Whether the holder was heard since, or its silence counts anew, or the name is another one's by now."""
        return holder.heard != heard or self._situation.holders.find(holder.name) is not holder

    def _tell(self, holder: Holder, scope: Scope, what: str) -> None:
        message = f"{holder.name} fell silent: {what}"
        self._account.tell(EventName.HOLDER_SILENT, message, HOLDER=holder.name, SCOPE=str(scope))
