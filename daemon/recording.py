"""Keeps the lease file true to the ledger, and decisions going when it cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.holders import Holders
from featurekeyd.policy.ledger import Change, Lease, Ledger

from .leasefile import LeaseFile


class Recording:
    """Records what changed in a ledger; a file that cannot be written is told once and tried again on each tick.

    What is known of the holders stands in the file too.
    """

    def __init__(self, lease_file: LeaseFile, ledger: Ledger, holders: Holders | None = None) -> None:
        self._file = lease_file
        self._ledger = ledger
        self._holders = holders or Holders({})
        self._works = True
        self._rests = False
        """Whether a new file could not be written: it is tried again on the next tick, not in each turn."""

    def begin(self) -> Event | None:
        """Begin the file anew with what the ledger holds; an event where that fails."""
        try:
            self._file.rewrite([*self._holders.known(), *self._ledger])
        except OSError as error:
            return self._stopped(error)
        return None

    def record(self) -> Event | None:
        """Record the changes since the last time; an event when recording stops working."""
        changes = self._ledger.changes
        if not changes:
            return None
        try:
            if self._works:
                self._file.append(changes)
                self._keep_short()
        except OSError as error:
            return self._stopped(error)
        finally:
            changes.clear()
        return None

    def keep_up(self) -> Event | None:
        """Go on with a new file that was begun, and try again what failed; an event when recording works again."""
        self._rests = False
        if self._works:
            self._keep_short()
            return None
        try:
            self._file.rewrite([*self._holders.known(), *self._ledger])
        except OSError:
            return None  # told already
        self._works = True
        return Event(name=EventName.LEASES_RECORDED_AGAIN, message="The leases are recorded again.")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _keep_short(self) -> None:
        """Begin a new file where the old one has grown too long, or write the next slice of the one that was begun."""
        try:
            if self._file.being_rewritten:
                self._file.write_slice()
            elif self._file.overgrown(len(self._ledger)) and not self._rests:
                self._file.begin_anew(self._as_they_are())
        except OSError:  # the old file only stays long: appending to it works
            self._rests = True

    def _as_they_are(self) -> Iterator[Change]:
        """Each holder and each lease as it is when it is its turn."""
        for name in [it.name for it in self._holders]:
            known = self._holders.find(name)
            if known is not None:
                yield known.known()
        for holder, key in self._ledger.places():
            lease: Lease | None = self._ledger.find(holder, key)
            if lease is not None:
                yield lease

    def _stopped(self, error: OSError) -> Event | None:
        if not self._works:
            return None
        self._works = False
        self._file.put_away()
        message = (
            f"The lease file {self._file.path} cannot be written ({error.strerror or error}). Decisions go on from "
            "memory. Until it works again, a restart of the daemon forgets calls that began since, and brings back "
            "calls that ended since, until the next Sync. Free space there."
        )
        return Event(name=EventName.LEASES_NOT_RECORDED, message=message)
