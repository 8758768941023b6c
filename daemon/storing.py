"""Writes the state file from one thread of its own, so that no decision waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.reservations import Reservations
from featurekeyd.policy.standing import Meter

from .store import Documents, Store

_Saved = TypeVar("_Saved")

METER_SECONDS = 60.0
"""How often drained time is stored while a meter drains (DESIGN: What lives where)."""


def not_stored(error: Exception) -> str:
    """Why the state file could not be written, and what to do."""
    return f"The state file cannot be written ({error}). See whether its disk is full, and who has it open."


class Storing:
    """The state file behind a thread; `tell` hears of what could not be stored."""

    def __init__(self, store: Store, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, "store")
        self._drained: dict[str, float] = {}
        self._stored_at = float("-inf")
        self._lock = threading.Lock()
        self._leases: dict[tuple[str, str], Lease | None] = {}
        """What waits to be stored, the newest state of each; under the lock."""
        self._saving = self._lost = False
        """Whether the thread is at it, and whether it failed the last time; under the lock."""

    async def save_documents(self, documents: Documents) -> None:
        """Store the documents; raises sqlite3.Error, which is told, and nothing has changed then."""
        await self._save(self._store.save_documents, documents)

    async def save_reservations(self, reservations: Reservations) -> None:
        """Store the reservations; raises sqlite3.Error, which is told, and nothing has changed then."""
        await self._save(self._store.save_reservations, reservations)

    async def _save(self, save: Callable[[_Saved], None], what: _Saved) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, save, what)
        except sqlite3.Error as error:
            self._tell(Event(name=EventName.STATE_NOT_STORED, message=f"Nothing was changed. {not_stored(error)}"))
            raise

    def keep_leases(self, changed: Mapping[tuple[str, str], Lease | None]) -> None:
        """Store what changed, by holder and key, and what could not be stored before; nobody waits for it.

        What changes again before it is stored is stored once, as it is then.
        """
        with self._lock:
            self._leases.update(changed)
            if self._saving or not self._leases:
                return
            self._saving = True
        self._thread.submit(self._save_leases)

    def keep_meters(self, meters: list[Meter], boot: float, *, now: bool = False) -> None:
        """Store the drained time where it has changed: now, or when it was last stored long enough ago."""
        drained = {str(meter.cause): meter.drained for meter in meters}
        if drained == self._drained or (not now and boot - self._stored_at < METER_SECONDS):
            return
        self._drained, self._stored_at = drained, boot
        self._thread.submit(self._save_meters, drained)

    def close(self) -> None:
        """Finish what waits, and close the file."""
        self.keep_leases({})
        self._thread.shutdown()
        self._store.close()

    def _save_leases(self) -> None:
        """Store until nothing waits, or until it fails; what is newer than what failed stays."""
        while changed := self._taken_leases():
            try:
                self._store.save_leases(changed)
            except Exception as error:  # noqa: BLE001 - whatever it was, these leases must be tried again
                self._keep_for_later(changed, error)
                return
            with self._lock:
                self._lost = False

    def _taken_leases(self) -> dict[tuple[str, str], Lease | None]:
        with self._lock:
            changed, self._leases = self._leases, {}
            self._saving = bool(changed)
            return changed

    def _keep_for_later(self, changed: dict[tuple[str, str], Lease | None], error: Exception) -> None:
        with self._lock:
            self._leases = changed | self._leases
            told, self._lost, self._saving = self._lost, True, False
        if not told:
            message = f"A reboot would forget leases for what is configured now. {not_stored(error)}"
            self._tell(Event(name=EventName.STATE_NOT_STORED, message=message))

    def _save_meters(self, drained: dict[str, float]) -> None:
        try:
            self._store.save_meters(drained)
        except sqlite3.Error as error:
            self._drained = {}  # so that it is stored next time, though it may stand still by then
            message = f"Drained time could not be stored: {error}. Free space in the state directory."
            self._tell(Event(name=EventName.STATE_NOT_STORED, message=message))
