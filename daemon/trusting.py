"""Trust over time, joined: looks at the host, runs the checks, and keeps what a restart must not forget.

It runs on the loop's thread; looking at the host (`hostlook`) and verifying documents happen in others. Whatever fails
here is told, and tried again at its next time: nothing of it holds a decision up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from featurekeyd.policy.catalog import LEAST_BETWEEN_CHECKS
from featurekeyd.policy.checkevidence import CheckEvidence, read_check
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.hostaddress import SiteAddresses
from featurekeyd.policy.hostevidence import Evidence, evidence_of
from featurekeyd.policy.instant import Now
from featurekeyd.policy.localcheck import CheckItem, LocalCheck, Schedule, Trouble
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.signedtext import VendorKeys
from featurekeyd.policy.trust import Kept

from .documents import read_documents
from .facts import Answer, Facts
from .hostlook import HostLook, LookHangs
from .primary import PrimaryWatch
from .store import Documents
from .storing import Storing

HOST_SECONDS = 60.0
"""How often the host is looked at: an address that changes without a word is told within a minute. A look reads some
thirty small files of the kernel, in 2 ms."""

CHECK_SECONDS = 900.0
"""How long after its time a check may come to its end: a Feature Key in doubt and a loaded host take a minute or two.
One that takes longer counts as failed, so that a check which never ends costs what one that fails does."""

RETRY_SECONDS = 60.0
"""When a check is tried again that could not be made: as often as the host is looked at."""

Troubles = Callable[[], dict[CheckItem, Trouble]]
"""What is wrong with signatures, worked out in a thread."""


class Trusting:
    """Drives `enforcer.trust`; `look` reads the Feature Key anew, and `settle` carries out what follows."""

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        storing: Storing,
        host_root: Path,
        addresses: SiteAddresses,
        clock: Callable[[], Now],
        look: Callable[[], Awaitable[None]],
        troubles: Troubles,
        settle: Callable[[], None],
        unexpected: Callable[[Exception, str], None],
        primary: PrimaryWatch,
        answer: Answer | None = None,
    ) -> None:
        self.primary = primary
        self.addresses = addresses
        self.evidence: Evidence | None = None
        """What the last look at the host found."""
        self.answer = answer
        """The vendor's newest answer as it came."""
        self.schedule = Schedule(every=enforcer.catalog.checks.seconds or LEAST_BETWEEN_CHECKS)
        self.checked: float | None = None
        """Boot time of the last check of this run."""
        self._enforcer = enforcer
        self._storing = storing
        self._root = host_root
        self._host = HostLook(lambda: read_evidence(self._root))
        self._clock = clock
        self._look = look
        self._troubles = troubles
        self._settle = settle
        self._unexpected = unexpected
        self._claims = 0
        """Emergency calls without a listed number that were counted already."""
        self._loop = asyncio.get_running_loop()
        self._begun = False
        self._looked = float("-inf")
        self._held = False
        """Whether a backup is being restored."""
        self._coming: dict[str, object] = {}
        """Facts that are being stored, and count as soon as they are."""
        self._awaited: float | None = None
        """Boot time at which the check was due that has not come to its end."""
        self._checking = False
        """Whether a check that was due is being made: no other is begun behind one that is stuck."""
        self._picture: object = None
        """What the last check was made of: where a failed one would find another picture, it is made again."""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Look at the host, and check, from the next tick on."""
        self._begun = True

    def tick(self, now: Now) -> None:
        """Let time pass: look at the host, and check, when it is time."""
        self.count_claims()
        if self._begun:
            self._look_in_time(now)
        self.keep(now)

    def _look_in_time(self, now: Now) -> None:
        if now.boot - self._looked >= HOST_SECONDS:
            self._looked = now.boot
            self._begin(self.look_at_host, "while looking at the host")
        if self.primary.is_due(now.boot):
            self._begin(self.primary.look, "while asking for the Primary")
        due = self.schedule.is_due(now.boot) or self._may_pass_now()
        if due and not self._checking and self._enforcer.licenses.certificate is not None:
            self.schedule = self.schedule.done(now.boot)
            self._awaited = now.boot if self._awaited is None else self._awaited
            self._picture = self._pictured()
            self._begin(self._check_in_time, "in a check")
        if self._awaited is not None and now.boot - self._awaited > CHECK_SECONDS:
            self._awaited = now.boot
            self._miss_check("It was due a quarter of an hour ago, and has not come to its end.", now)

    def _miss_check(self, why: str, now: Now) -> None:
        """Let a check that could not be made count as failed, and come again soon, where there is one to make."""
        if self._enforcer.licenses.certificate is None:
            return
        self.schedule = self.schedule.done(now.boot - self.schedule.every + RETRY_SECONDS)
        self._enforcer.trust.miss_check(why)
        self._follow(now)

    def _may_pass_now(self) -> bool:
        """Whether what made the last check fail may be over: nobody waits three hours for a key that is back."""
        last = self._enforcer.trust.check
        return last is not None and not last.passed and self._picture != self._pictured()

    def _pictured(self) -> object:
        enforcer, trust = self._enforcer, self._enforcer.trust
        host = None if trust.host is None else trust.host.verdict
        return enforcer.feature_key.state, enforcer.licenses.serial, host, trust.answer, trust.clock

    def close(self) -> None:
        """Begin nothing more, and keep what there is."""
        self._begun = False
        for task in self._tasks:
            task.cancel()
        self.count_claims()
        self.keep(self._clock(), at_once=True)

    def keep(self, now: Now, *, at_once: bool = False) -> None:
        """Store what has changed; the clock alone now and then."""
        if not self._held:
            self._storing.keep_facts(self.facts, now.boot, now=at_once)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Store nothing meanwhile: what is restored is not overwritten before it counts."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @property
    def facts(self) -> Facts:
        """What is to be stored."""
        lasting = tuple(sorted(str(meter.cause) for meter in self._enforcer.meters.values() if meter.active))
        facts = msgspec.structs.replace(facts_of(self._enforcer.trust.kept, self.answer), lasting=lasting)
        return msgspec.structs.replace(facts, **self._coming) if self._coming else facts

    async def keep_first(self, kept: Kept | None = None, **facts: object) -> None:
        """Store these facts before they count, with what `kept` changes; raises sqlite3.Error, and nothing has changed.

        One at a time. Whoever calls lets them count before anything else is awaited.
        """
        if kept is not None:
            before, after = facts_of(self._enforcer.trust.kept, self.answer), facts_of(kept, self.answer)
            changed = (it for it in Facts.__struct_fields__ if getattr(before, it) != getattr(after, it))
            facts = {name: getattr(after, name) for name in changed} | facts
        self._coming = facts
        try:
            await self._storing.save_facts(self.facts)
        finally:
            self._coming = {}

    async def look_at_host(self) -> None:
        """Look at the host and take in what is found; raises LookHangs."""
        try:
            self.evidence = await self._host.look()
        except LookHangs:
            self._miss_check("A look at the host hangs.", self._clock())
            raise
        evidence, now, enforcer = self.evidence, self._clock(), self._enforcer
        certificate, today = enforcer.licenses.certificate, enforcer.today(now)
        enforcer.trust.see_host(evidence, self.addresses, certificate, now, today)
        self._follow(now)

    async def check(self) -> LocalCheck:
        """Check all that can be verified here, now.

        What is found counts where there is something to check by: not before a certificate is imported, and not while
        the Feature Key is missed for what may be a moment. One that ends with an exception counts as failed.
        """
        try:
            return await self._checked()
        except Exception as error:
            self._miss_check(f"It ended with {type(error).__name__}.", self._clock())
            raise

    async def _checked(self) -> LocalCheck:
        await self._look()
        await self.look_at_host()
        troubles = await asyncio.to_thread(self._troubles)
        now, enforcer = self._clock(), self._enforcer
        seen, certificate = self.feature_key, enforcer.licenses.certificate
        if certificate is None or enforcer.presence.in_doubt:
            return enforcer.trust.judge_check(seen, certificate, troubles, now)
        found = enforcer.trust.take_check(seen, certificate, troubles, now)
        self.schedule, self.checked, self._awaited = self.schedule.done(now.boot), now.boot, None
        self._follow(now)
        self._picture = self._pictured()
        return found

    @property
    def feature_key(self) -> Sighting:
        """What the newest look at the Feature Key found: while it is in doubt, that it is missed."""
        return self._enforcer.presence.missed or self._enforcer.feature_key

    async def check_at_once(self) -> None:
        """Check now, to the end though whoever waits goes away; a check that fails by accident is told."""
        await asyncio.shield(self._begin(self._check_in_time, "in a check"))

    async def _check_in_time(self) -> None:
        if self._enforcer.presence.in_doubt:  # a check must not fail for what may be a moment's trouble
            self.schedule = Schedule(every=self.schedule.every)
            return
        self._checking = True
        try:
            await self.check()
        finally:
            self._checking = False

    def _follow(self, now: Now) -> None:
        self._enforcer.update(now)
        self._settle()
        self.keep(now)

    def count_claims(self) -> None:
        """Take in the emergency calls without a listed number since the last count."""
        claims = self._enforcer.emergency_claims
        if claims > self._claims:
            self._enforcer.trust.note_claims(claims - self._claims)
            self._claims = claims

    def _begin(self, work: Callable[[], Awaitable[None]], what: str) -> asyncio.Task[None]:
        task = self._loop.create_task(self._told(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _told(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        try:
            await work()
        except LookHangs as error:  # until it comes back, that is so each minute
            if error.first:
                self._unexpected(error, what)
        except Exception as error:  # noqa: BLE001 - the daemon goes on, and it is tried again
            self._unexpected(error, what)


def read_evidence(root: Path) -> Evidence:
    """What the host at that root shows now."""
    # Imported when it is first needed: the libraries for network interfaces are a megabyte.
    from featurekeyd.hwio.hostidentity import read_host_identity  # noqa: PLC0415

    return evidence_of(read_host_identity(root))


def find_troubles(documents: Documents, vendor_keys: VendorKeys, catalog: str) -> dict[CheckItem, Trouble]:
    """What is wrong with the stored documents, each verified anew; some time for many keys."""
    _, refused = read_documents(documents, vendor_keys, catalog)
    if not refused:
        return {}
    cure = "Import it again from the vendor's mail; featurekeyctl licenses shows what counts."
    return {CheckItem.SIGNATURES: Trouble(refused[0].message, cure)}


def read_answer(answer: Answer | None, vendor_keys: VendorKeys) -> tuple[CheckEvidence | None, list[Event]]:
    """The stored answer of the vendor, verified anew, and an event where it is refused."""
    if answer is None:
        return None, []
    try:
        evidence = read_check(answer.text, vendor_keys)
    except Unreadable as error:
        return None, [_not_believed(error.finding.message, error.finding.verdict)]
    if (evidence.serial, evidence.number) != (answer.serial, answer.number):
        said = f"Its text is check {evidence.number} of serial {evidence.serial}, and it is stored as another."
        return None, [_not_believed(said, Verdict.BAD_DOCUMENT)]
    return evidence, []


def _not_believed(why: str, verdict: Verdict) -> Event:
    message = f"The stored answer of the vendor is not believed: {why} Ask for another check."
    return Event(name=EventName.STATE_REFUSED, message=message, fields={"REASON": str(verdict)})


def host_root(reader: str) -> Path:
    """The root of the host that a reader of the settings looks at: a folder for a simulated one."""
    word, _, place = reader.partition(":")
    return Path(place) if word == "host" and place else Path("/")


def facts_of(kept: Kept, answer: Answer | None) -> Facts:
    """What is to be stored of what is kept, beside the vendor's newest answer."""
    return Facts(
        clock=kept.mark,
        host=kept.enrolled,
        permits=kept.permits,
        announced=kept.announcement,
        rescues=kept.rescues,
        opening=kept.opening,
        answer=answer,
        checks=kept.check_numbers,
        nonces=kept.nonces,
        told=kept.told,
        retired=kept.retired,
        revoked=kept.revoked,
        emergency_claims=kept.claims,
        tamperings=kept.tamperings,
        state_losses=kept.losses,
        clock_repairs=kept.repairs,
        check_failing=kept.check_failing,
    )


def kept_of(facts: Facts, first: Kept) -> Kept:
    """What the Enforcer begins with, from what was stored; `first` is what a host begins with that has nothing."""
    return Kept(
        mark=facts.clock or first.mark,
        enrolled=facts.host,
        permits=facts.permits,
        announcement=facts.announced,
        rescues=facts.rescues,
        opening=facts.opening,
        nonces=facts.nonces,
        told=facts.told,
        retired=facts.retired,
        revoked=facts.revoked,
        check_numbers=facts.checks,
        claims=facts.emergency_claims,
        tamperings=facts.tamperings,
        losses=facts.state_losses,
        repairs=facts.clock_repairs,
        check_failing=facts.check_failing,
    )
