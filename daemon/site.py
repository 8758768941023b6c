"""The site: everything that is alive in the daemon, joined.

The Site feeds the Enforcer evidence, requests and the time, and carries out what comes back. `settle` does so after
every batch of calls and every tick: it records the changed leases (before any answer leaves), logs the events, and
tells the subscribers. It runs on the loop's thread only. What may wait runs elsewhere: the Feature Key is looked at by
the thread of `keywatch`, the state file is written by the one of `storing`, the log by the one of `journal`.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import traceback
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, TypeVar

from featurekeyd.policy.audit import act_of
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.draining import Draining
from featurekeyd.policy.enforcer import Enforcer, Silence
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.localcheck import CheckItem, Trouble
from featurekeyd.policy.ports import Ports
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.requests import Request
from featurekeyd.policy.reservations import Reservations
from featurekeyd.policy.signedtext import VendorKeys

from .changes import Change
from .denials import denial, kind_of_denial
from .documents import to_store
from .facts import Answer
from .journal import Log
from .keywatch import KeyWatch
from .measuring import Measuring
from .merging import caught_up
from .primary import FILE, BootRight, PrimaryWatch
from .recording import Recording
from .settings import Settings
from .store import Documents, Kept
from .storing import Storing
from .storms import Storms
from .subscribers import Subscribers
from .trusting import Trusting, find_troubles, host_root, kept_of, read_answer
from .turntimes import TurnTimes

_Done = TypeVar("_Done")

STALE_SECONDS = 60.0
"""A reader that has reported nothing for this long hangs, and the key counts as not there."""

TICK_SECONDS = 5.0
"""How often time is let pass where nothing else happens: the accuracy of meters and of silence."""

GAP_SECONDS = 1.0
"""A tick this much later than due means that nobody was listening, so nobody was silent (DESIGN: Leases)."""

MEASURE_SECONDS = 0.05
"""How often the history takes in what changed while turn follows turn: that a lease is counted as in use up to so much
later, and as given back as well, is nothing in a minute, and what a turn pays for it is nothing either."""

_NEWS_AT_ONCE = 100
"""Changed licenses that are told in one go: some half a millisecond where somebody watches."""

SLICES_AT_ONCE = 8
"""Slices of a silent holder's leases that are freed between two turns, some 0.3 ms."""

LOOK_SECONDS = 20.0
"""How long a technician who asks for a look waits for a slow reader."""


class Site:
    """One running system."""

    def __init__(
        self,
        *,
        settings: Settings,
        enforcer: Enforcer,
        documents: Documents,
        vendor_keys: VendorKeys,
        recording: Recording,
        storing: Storing,
        log: Log,
        clock: Callable[[], Now],
        answer: Answer | None = None,
    ) -> None:
        """`answer` is the vendor's newest as stored."""
        self.settings = settings
        self.enforcer = enforcer
        self.documents = documents
        """The signed texts and keys as they came, which are stored."""
        self.vendor_keys = vendor_keys
        self.clock = clock
        self._moment: Now | None = None
        self.log = log
        self.subscribers = Subscribers()
        self.turn_times = TurnTimes()
        self.granted = 0
        self.denied = 0
        self.ports = Ports(enforcer.rules.ceilings, enforcer.ledger)
        now = clock()
        self.started = now.boot
        self._storms = Storms()
        self._draining = Draining()
        self._recording = recording
        self.storing = storing
        self.measuring = Measuring(enforcer, settings.alarms, storing.keep_minutes, now)
        self._measuring: asyncio.TimerHandle | None = None
        """Runs while there are changes that were not taken in at once."""
        self._measured = float("-inf")
        """Boot time at which changes were last taken in."""
        self._loop = asyncio.get_running_loop()
        self._watch = KeyWatch(
            settings.reader, settings.poll_seconds, self._challenge, self._report, self._reader_failed
        )
        self._looks = 0
        """Number of the newest look at the Feature Key that was reported."""
        self._awaited: dict[asyncio.Future[None], int] = {}
        """Who waits for which look."""
        self._reported = self.started
        """When the reader last reported."""
        self._due = self.started + TICK_SECONDS
        """When the next tick is due."""
        self._silent: frozenset[Silence] = frozenset()
        """Who was silent at the last tick."""
        self._timer: asyncio.TimerHandle | None = None
        self._changing = asyncio.Lock()
        self.trusting = self._joined(answer)

    def _joined(self, answer: Answer | None) -> Trusting:
        """Trust over time, joined with this site."""
        return Trusting(
            enforcer=self.enforcer,
            storing=self.storing,
            host_root=host_root(self.settings.reader),
            addresses=self.settings.addresses,
            clock=self.clock,
            look=self.look,
            troubles=self._troubles,
            settle=self.settle,
            unexpected=self.tell_unexpected,
            primary=self._primary(),
            answer=answer,
        )

    def _primary(self) -> PrimaryWatch:
        """Who looks for the Primary of the network, with the right of this boot as it was recorded."""
        right = BootRight(self.settings.runtime / FILE, self.enforcer.trust.boot_id)
        return PrimaryWatch(enforcer=self.enforcer, right=right, clock=self.clock, settle=self.settle)

    def start(self) -> None:
        """Begin to look for the Feature Key, and to let time pass."""
        self._watch.start()
        self.trusting.begin()
        self._tick_in(TICK_SECONDS)

    def close(self) -> None:
        """Store what must be kept, and let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._watch.close()
        now = self.clock()
        self.enforcer.tick(now, spared=self.enforcer.silent(now))  # nobody was heard since the connections ended
        self.settle()
        for sum_ in self._storms.ended(float("inf")):
            self._log(sum_, now)
        self.keep_drained()
        if self._measuring is not None:
            self._measuring.cancel()
        self.measuring.close(now)
        self.trusting.close()
        self.storing.close()
        self._recording.close()

    # Decisions

    def moment(self) -> Now:
        """The moment on both clocks, read once for all calls of a turn, which `settle` ends."""
        moment = self._moment
        if moment is None:
            moment = self._moment = self.clock()
        return moment

    def settle(self) -> None:
        """Carry out what the Enforcer left: record leases, log events, tell subscribers."""
        moment, self._moment = self._moment, None
        ledger = self.enforcer.ledger
        if self._measuring is None and ledger.changes:
            self._measure(moment or self.clock())
        failure = self._recording.record()
        if failure is not None:
            self.log.tell(failure)
        if ledger.configured:
            self.storing.keep_leases(ledger.configured)
            ledger.configured.clear()
        if self.enforcer.anyone_waits:
            self.enforcer.call_waiters(self.clock())
        drained = self._draining.look(self.enforcer)
        if drained or self.enforcer.events:
            events = [*self.enforcer.events, *drained]
            self.enforcer.events.clear()
            now = self.clock()
            for event in events:
                self.tell(event, now)

    def _measure(self, now: Now) -> None:
        """Take in what changed among the leases: at once, and what follows soon after a little later, all together."""
        if now.boot < self._measured + MEASURE_SECONDS:
            self._measuring = self._loop.call_later(MEASURE_SECONDS, self._measure_rest)
            return
        self._measured = now.boot
        self.enforcer.events += self.measuring.take(now)

    def _measure_rest(self) -> None:
        now, self._measuring = self.clock(), None
        self._measured = now.boot
        self.enforcer.events += self.measuring.take(now)
        self.settle()

    def note_decision(self, request: Request, decision: Decision, now: Now) -> None:
        """Count a decision, log it where it is a denial, and tell those who watch decisions."""
        if decision.allowed:
            self.granted += 1
            if request.port in self.ports.peaks:
                self.ports.note(request.port)
        else:
            self.denied += 1
            if self._storms.admits(EventName.DENIED, kind_of_denial(request, decision), now.boot):
                self.log.tell(denial(request, decision))
        if self.subscribers.decisions:
            self.subscribers.tell_decision(request, decision, now.wall)

    def note_list(self) -> None:
        """Take note that a holder's list has changed the leases, whatever the limits."""
        self.ports.note_all()
        self._draining.look_at_all()

    def tell(self, event: Event, now: Now | None = None) -> None:
        """Log an event, in a storm as one of many, and tell the subscribers."""
        now = now or self.clock()
        if self._storms.passes(event, now.boot):
            self._log(event, now)
        self.subscribers.tell_event(event, now.wall)

    def _log(self, event: Event, now: Now) -> None:
        """Log an event, and record it in the audit where it belongs there."""
        self.log.tell(event)
        act = act_of(event, now.wall)
        if act is not None:
            self.storing.keep_acts(act)

    def tell_unexpected(self, error: Exception, what: str) -> None:
        """Log an exception nobody foresaw, with its traceback, which goes nowhere else; from any thread."""
        kind = type(error).__name__
        if self._storms.admits(EventName.UNEXPECTED, (kind,), self.clock().boot):
            text = "".join(traceback.format_exception(error))
            fields = {"ERROR": kind, "TRACEBACK": text}
            self.log.tell(Event(name=EventName.UNEXPECTED, message=f"Unexpected {kind} {what}.", fields=fields))

    # Licenses

    async def change(self, make: Callable[[], Change], by: str) -> Change:
        """Work a change of the licenses out, store it, let it count, and tell of it; one change at a time.

        `make` runs in a thread, where it may read what is true and change nothing. Raises sqlite3.Error, and then
        nothing has changed. A client that goes away meanwhile stops nothing: what is stored shall count and be told.
        """
        return await self._to_the_end(self._change(make, by))

    async def change_reservations(
        self, make: Callable[[], tuple[Reservations, Finding]], name: EventName, fields: dict[str, str]
    ) -> Finding:
        """Store a change of the reservations, let it count, and tell of it; one change at a time.

        Raises sqlite3.Error, and then nothing has changed.
        """
        return await self._to_the_end(self._change_reservations(make, name, fields))

    async def _change_reservations(
        self, make: Callable[[], tuple[Reservations, Finding]], name: EventName, fields: dict[str, str]
    ) -> Finding:
        async with self._changing:
            reservations, finding = make()
            if reservations is not self.enforcer.reservations:
                await self.storing.save_reservations(reservations)
                self.enforcer.adopt_reservations(reservations)
                about = {name: value for name, value in fields.items() if value}
                self.tell(Event(name=name, message=finding.message, fields=about))
                self.settle()
        return finding

    async def alone(self, work: Callable[[], Coroutine[Any, Any, _Done]]) -> _Done:
        """Do work that changes what is stored: alone, and to its end, though the client goes away meanwhile."""

        async def locked() -> _Done:
            async with self._changing:
                return await work()

        return await self._to_the_end(locked())

    def keep_drained(self) -> None:
        """Store what is drained, and what is known of clock, host and checks, as it is now."""
        now = self.clock()
        self.storing.keep_meters(list(self.enforcer.meters.values()), now.boot, now=True)
        self.trusting.keep(now, at_once=True)

    def take_back(self, before: Kept, kept: Kept, licenses: Licenses) -> None:
        """Let what was restored count, of which these are the licenses; it refills nothing.

        `before` is what it was merged with; what has happened here since then goes on counting. Stored is `kept`.
        """
        now = self.clock()
        self.documents, trust = kept.documents, self.enforcer.trust
        facts = caught_up(before.facts, kept.facts, self.trusting.facts)
        trust.kept = kept_of(facts, trust.kept)
        self.trusting.answer = facts.answer
        trust.answer, refused = read_answer(facts.answer, self.vendor_keys)
        trust.events += refused
        for cause, meter in self.enforcer.meters.items():
            meter.drained = max(meter.drained, min(kept.drained.get(str(cause), 0.0), float(meter.rule.seconds)))
        self.enforcer.adopt_stored(licenses, now)
        self.enforcer.adopt_reservations(Reservations(kept.reservations))
        self.settle()

    async def _to_the_end(self, work: Coroutine[Any, Any, _Done]) -> _Done:
        """Wait for the work, which goes on when the client goes away."""
        task = self._loop.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._changed_for_nobody)
            raise

    async def _change(self, make: Callable[[], Change], by: str) -> Change:
        async with self._changing:
            # In a thread: ten thousand keys take a third of a second, and decisions go on meanwhile.
            change = await asyncio.to_thread(make)
            if not change.stored:
                return change
            documents = await asyncio.to_thread(to_store, change.licenses, self.documents, **change.texts)
            await self.storing.save_documents(documents)
            self.documents = documents
            self.enforcer.adopt(change.licenses, self.clock())
            self.settle()
        for number, finding in enumerate(change.news):
            if number % _NEWS_AT_ONCE == _NEWS_AT_ONCE - 1:
                await asyncio.sleep(0)  # decisions go on while a long list is told
            fields = {"LICENSE": finding.key, "FEATURE": finding.feature, "SERIAL": change.licenses.serial, "BY": by}
            about = {name: value for name, value in fields.items() if value}
            self.tell(Event(name=change.event_of(finding), message=finding.message, fields=about))
        if "certificate" in change.texts:
            await self.look()  # the key has not proved itself by this certificate yet, and does so only when asked
        return change

    def _changed_for_nobody(self, task: asyncio.Task[Any]) -> None:
        """Take note of how a change ended whose client has gone; what could not be stored is told already."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, sqlite3.Error):
            self.tell_unexpected(error, "in a change of the licenses")

    # The Feature Key

    async def look(self) -> None:
        """Read the Feature Key anew and take in what is found; a reader that hangs is waited for a limited time."""
        await self.wait_for_look(self._watch.look_now())

    async def wait_for_look(self, number: int) -> None:
        """Wait until the look of that number, or a later one, was reported; for a limited time."""
        if self._looks >= number:
            return
        reported = self._loop.create_future()
        self._awaited[reported] = number
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await reported
        except TimeoutError:
            self._hanging(self.clock())
        finally:
            del self._awaited[reported]

    def _challenge(self) -> bytes | None:
        certificate = self.enforcer.licenses.certificate
        return secrets.choice(certificate.pairs).challenge if certificate and certificate.pairs else None

    def _reader_failed(self, error: Exception) -> None:
        self.tell_unexpected(error, "in the reader of the Feature Key")

    def _report(self, sighting: Sighting, number: int) -> None:
        """Hand a sighting from the watching thread to the loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._see, sighting, number)

    def _see(self, sighting: Sighting, number: int) -> None:
        now = self.clock()
        self._reported = now.boot
        self._looks = number
        self.enforcer.see(sighting, now)
        self.settle()
        for reported, awaited in self._awaited.items():
            if awaited <= number and not reported.done():
                reported.set_result(None)

    def _hanging(self, now: Now) -> None:
        seconds = round(now.boot - self._reported)
        finding = f"the reader has not answered for {seconds} s; replug it"
        self.enforcer.see(Sighting(state="hanging", finding=finding, reader=self.settings.reader), now)
        self.settle()

    # Time

    def _tick(self) -> None:
        now, due = self.clock(), self._due
        self._tick_in(self.measuring.history.before_end(now, TICK_SECONDS))  # before anything can fail
        if now.boot - due > GAP_SECONDS:
            # Stopped, or asleep: nobody could be heard in that time, the reader neither.
            self.enforcer.restart_silence(now)
            self._reported = now.boot
        if now.boot - self._reported > STALE_SECONDS + self.settings.poll_seconds:
            self._hanging(now)
        self._let_pass(now)
        self.enforcer.events += self.measuring.tick(now)
        for event in (*self._storms.ended(now.boot), self._recording.keep_up()):
            if event is not None:
                self._log(event, now)
        self.settle()
        self.storing.try_again()
        self.storing.keep_meters(list(self.enforcer.meters.values()), now.boot)
        self.trusting.tick(now)

    def _troubles(self) -> dict[CheckItem, Trouble]:
        """What a check finds wrong with what is stored; for a thread."""
        return find_troubles(self.documents, self.vendor_keys, self.enforcer.catalog.id)

    def _let_pass(self, now: Now) -> None:
        """Let time pass, and free who has been silent; one who falls silent only now is looked at again in a moment.

        What it sent may wait to be read: the daemon may have been stopped until just now, for less than a gap.
        """
        silent = self.enforcer.silent(now)
        news, self._silent = silent - self._silent, silent
        self._free_slowly(self.enforcer.freeing_silent(now, spared=news))
        self.enforcer.update(now)
        if news:
            self._tick_in(GAP_SECONDS)

    def _free_slowly(self, freeing: Iterator[None]) -> None:
        """Free the leases of the silent, some at once and the rest between the turns."""
        slices = sum(1 for _ in islice(freeing, SLICES_AT_ONCE))
        self.settle()
        if slices == SLICES_AT_ONCE:
            self._loop.call_soon(self._free_slowly, freeing)

    def _tick_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self.clock().boot + seconds
        self._timer = self._loop.call_later(seconds, self._tick)
