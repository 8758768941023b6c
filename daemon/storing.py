"""Writes the state file from one thread of its own, so that no decision waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from featurekeyd.policy.audit import Act
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.reservations import Reservations
from featurekeyd.policy.standing import Meter
from featurekeyd.policy.usage_history import Minute

from .audit import Waiting
from .facts import Facts
from .history import Waiting as WaitingMinutes
from .store import Documents, Store

_Saved = TypeVar("_Saved")
_Done = TypeVar("_Done")

METER_SECONDS = 60.0
"""How often drained time is stored while a meter drains (DESIGN: What lives where)."""

CLOCK_SECONDS = 600.0
"""How often the facts are stored where only the clock has advanced: a crash costs the mark of the time that much, which
counts in days, and flash memory is written 144 times a day for it."""


def not_stored(error: Exception) -> str:
    """Why the state file could not be written, and what to do."""
    return f"The state file cannot be written ({error}). See whether its disk is full, and who has it open."


def _pause(before: Facts, after: Facts) -> float:
    """Seconds since the last time after which these facts are stored; 0 where more changed than time has passed."""
    passed = msgspec.structs.replace(before, clock=after.clock)
    if passed == after:
        return CLOCK_SECONDS
    was, is_ = before.opening, after.opening
    if was is not None and is_ is not None and (was.serial, was.day) == (is_.serial, is_.day):
        passed = msgspec.structs.replace(passed, opening=is_)
    return METER_SECONDS if passed == after else 0.0


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
        self._acts = Waiting()
        """What waits to be recorded in the audit; under the lock."""
        self._recording = self._unrecorded = False
        """The same of the audit; under the lock."""
        self._minutes = WaitingMinutes()
        """What waits to be added to the history; under the lock."""
        self._counting = self._uncounted = False
        """The same of the history; under the lock."""
        self._facts: Facts | None = None
        """As they were stored last, None where that failed."""
        self._facts_at = float("-inf")
        self._facts_lost = False
        """Whether they could not be stored the last time; of the thread alone."""

    @property
    def audit_head(self) -> Head:
        """The last entry of the audit that is stored."""
        return self._store.audit_head

    @property
    def state_head(self) -> Head:
        """The seal of the state that is stored."""
        return self._store.state_head

    async def ask(self, work: Callable[[Store], _Done]) -> _Done:
        """Do some work with the state file in its thread, after what waits there; raises what the work raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)

    async def save_documents(self, documents: Documents) -> None:
        """Store the documents; raises sqlite3.Error, which is told, and nothing has changed then."""
        await self._save(self._store.save_documents, documents)

    async def save_reservations(self, reservations: Reservations) -> None:
        """Store the reservations; raises sqlite3.Error, which is told, and nothing has changed then."""
        await self._save(self._store.save_reservations, reservations)

    async def save_facts(self, facts: Facts) -> None:
        """Store the facts before they count; raises sqlite3.Error, which is told, and nothing has changed then."""
        await self._save(self._store.save_facts, facts)
        self._facts = facts

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

    def keep_facts(self, facts: Facts, boot: float, *, now: bool = False) -> None:
        """Store the facts where they have changed; time that passed alone, as it always has, now and then or `now`."""
        before = self._facts
        if facts == before:
            return
        pause = 0.0 if now or before is None else _pause(before, facts)
        if pause and boot - self._facts_at < pause:
            return
        self._facts, self._facts_at = facts, boot
        self._thread.submit(self._save_facts, facts)

    def keep_acts(self, *acts: Act) -> None:
        """Record these acts in the audit, after those that could not be recorded before; nobody waits for it."""
        with self._lock:
            self._acts.put(acts)
            if self._recording or not self._acts:
                return
            self._recording = True
        self._thread.submit(self._record)

    def keep_minutes(self, minutes: list[Minute]) -> None:
        """Add these minutes to the history, after those that could not be added before; nobody waits for it."""
        with self._lock:
            self._minutes.put(minutes)
            if self._counting or not self._minutes:
                return
            self._counting = True
        self._thread.submit(self._save_minutes)

    def try_again(self) -> None:
        """Store what could not be stored before and is kept for later."""
        self.keep_leases({})
        self.keep_acts()
        self.keep_minutes([])

    def close(self) -> None:
        """Finish what waits, and close the file."""
        self.try_again()
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

    def _save_facts(self, facts: Facts) -> None:
        try:
            self._store.save_facts(facts)
        except sqlite3.Error as error:
            self._facts = None  # so that they are stored next time
            told, self._facts_lost = self._facts_lost, True
            if not told:  # the clock makes them new with each tick
                message = f"What is known of clock, host and checks could not be stored. {not_stored(error)}"
                self._tell(Event(name=EventName.STATE_NOT_STORED, message=message))
        else:
            self._facts_lost = False

    def _record(self) -> None:
        """Record until nothing waits, or until it fails; what could not be recorded waits on."""
        while acts := self._taken_acts():
            try:
                self._store.append_acts(acts)
            except Exception as error:  # noqa: BLE001 - whatever it was, these acts must be tried again
                self._record_later(acts, error)
                return
            with self._lock:
                self._unrecorded = False

    def _taken_acts(self) -> list[Act]:
        with self._lock:
            acts = self._acts.take()
            self._recording = bool(acts)
            return acts

    def _record_later(self, acts: list[Act], error: Exception) -> None:
        with self._lock:
            self._acts.put_back(acts)
            told, self._unrecorded, self._recording = self._unrecorded, True, False
        if not told:
            message = f"The audit waits in memory, and a stop of the daemon would lose it. {not_stored(error)}"
            self._tell(Event(name=EventName.STATE_NOT_STORED, message=message))

    def _save_minutes(self) -> None:
        """Add minutes until none waits, or until it fails; what could not be added waits on, a day of it at most."""
        while minutes := self._taken_minutes():
            try:
                self._store.save_minutes(minutes)
            except Exception as error:  # noqa: BLE001 - whatever it was, these minutes must be tried again
                self._count_later(minutes, error)
                return
            with self._lock:
                self._uncounted = False

    def _taken_minutes(self) -> list[Minute]:
        with self._lock:
            minutes = self._minutes.take()
            self._counting = bool(minutes)
            return minutes

    def _count_later(self, minutes: list[Minute], error: Exception) -> None:
        with self._lock:
            self._minutes.put_back(minutes)
            told, self._uncounted, self._counting = self._uncounted, True, False
        if not told:
            message = (
                f"The history of a day waits in memory, and a stop of the daemon would lose it. {not_stored(error)}"
            )
            self._tell(Event(name=EventName.STATE_NOT_STORED, message=message))
