"""Keeps the lease file true to the ledger, and decisions going when it cannot be."""

from __future__ import annotations

from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Ledger

from .leasefile import LeaseFile


class Recording:
    """Records what changed in a ledger; a file that cannot be written is told once and tried again on each tick."""

    def __init__(self, lease_file: LeaseFile, ledger: Ledger) -> None:
        self._file = lease_file
        self._ledger = ledger
        self._works = True

    def begin(self) -> Event | None:
        """Begin the file anew with what the ledger holds; an event where that fails."""
        try:
            self._file.rewrite(list(self._ledger))
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
        except OSError as error:
            return self._stopped(error)
        finally:
            changes.clear()
        return None

    def keep_up(self) -> Event | None:
        """Rewrite the file where it has grown too long or could not be written; an event when that changes anything."""
        if self._works and not self._file.overgrown(len(self._ledger)):
            return None
        try:
            self._file.rewrite(list(self._ledger))
        except OSError:
            return None  # told already, or the file only stays long: appending to it works
        if self._works:
            return None
        self._works = True
        return Event(name=EventName.LEASES_RECORDED_AGAIN, message="The leases are recorded again.")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _stopped(self, error: OSError) -> Event | None:
        if not self._works:
            return None
        self._works = False
        message = (
            f"The lease file {self._file.path} cannot be written ({error.strerror or error}). Decisions go on from "
            "memory. Until it works again, a restart of the daemon forgets calls that began since, and brings back "
            "calls that ended since, until the next Sync. Free space there."
        )
        return Event(name=EventName.LEASES_NOT_RECORDED, message=message)
