"""Trust over time, joined: looks at the host, runs the checks, and keeps what a restart must not forget.

It runs on the loop's thread; looking at the host and verifying documents happen in others. Whatever fails here is told,
and tried again at its next time: nothing of it holds a decision up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.hostaddress import SiteAddresses
from featurekeyd.policy.hostevidence import Evidence, evidence_of
from featurekeyd.policy.instant import Now
from featurekeyd.policy.localcheck import CheckItem, LocalCheck, Schedule, Trouble
from featurekeyd.policy.trust import Kept

from .facts import Answer, Facts
from .storing import Storing

HOST_SECONDS = 60.0
"""How often the host is looked at: an address that changes without a word is told within a minute. A look reads some
thirty small files of the kernel, in 2 ms."""

Troubles = Callable[[], dict[CheckItem, Trouble]]
"""What is wrong with signatures and state, worked out in a thread."""


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
        answer: Answer | None = None,
    ) -> None:
        self.addresses = addresses
        self.evidence: Evidence | None = None
        """What the last look at the host found."""
        self.answer = answer
        """The vendor's newest answer as it came."""
        self.schedule = Schedule(every=enforcer.catalog.checks.seconds or 0)
        self._enforcer = enforcer
        self._storing = storing
        self._root = host_root
        self._clock = clock
        self._look = look
        self._troubles = troubles
        self._settle = settle
        self._unexpected = unexpected
        self._claims = 0
        """Emergency calls without a listed number that were counted already."""
        self._looked = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()

    def tick(self, now: Now) -> None:
        """Let time pass: look at the host, and check, when it is time."""
        self._count_claims()
        if now.boot - self._looked >= HOST_SECONDS:
            self._looked = now.boot
            self._begin(self.look_at_host(), "while looking at the host")
        if self.schedule.is_due(now.boot) and self._enforcer.licenses.certificate is not None:
            self.schedule = self.schedule.done(now.boot)
            self._begin(self._check_in_time(), "in a check")
        self.keep(now)

    def close(self) -> None:
        """Begin nothing more, and keep what there is."""
        for task in self._tasks:
            task.cancel()
        self.keep(self._clock(), at_once=True)

    def keep(self, now: Now, *, at_once: bool = False) -> None:
        """Store what has changed; the clock alone now and then."""
        self._storing.keep_facts(self.facts, now.boot, now=at_once)

    @property
    def facts(self) -> Facts:
        """What is to be stored."""
        kept = self._enforcer.trust.kept
        return Facts(
            clock=kept.mark,
            host=kept.enrolled,
            announced=kept.announcement,
            rescues=kept.rescues,
            opening=kept.opening,
            answer=self.answer,
            checks=kept.check_numbers,
            nonces=kept.nonces,
            emergency_claims=kept.claims,
            check_failing=kept.check_failing,
        )

    async def look_at_host(self) -> None:
        """Look at the host and take in what is found."""
        evidence = await asyncio.to_thread(read_evidence, self._root)
        self.evidence, now, enforcer = evidence, self._clock(), self._enforcer
        certificate, today = enforcer.licenses.certificate, enforcer.today(now)
        enforcer.trust.see_host(evidence, self.addresses, certificate, now, today)
        self._follow(now)

    async def check(self) -> LocalCheck:
        """Check all that can be verified here, now."""
        await self._look()
        await self.look_at_host()
        troubles = await asyncio.to_thread(self._troubles)
        now, enforcer = self._clock(), self._enforcer
        found = enforcer.trust.take_check(enforcer.feature_key, enforcer.licenses.certificate, troubles, now)
        self.schedule = self.schedule.done(now.boot)
        self._follow(now)
        return found

    async def _check_in_time(self) -> None:
        if self._enforcer.presence.in_doubt:  # a check must not fail for what may be a moment's trouble
            self.schedule = Schedule(every=self.schedule.every)
            return
        await self.check()

    def _follow(self, now: Now) -> None:
        self._enforcer.update(now)
        self._settle()
        self.keep(now)

    def _count_claims(self) -> None:
        claims = self._enforcer.emergency_claims
        if claims > self._claims:
            self._enforcer.trust.note_claims(claims - self._claims)
            self._claims = claims

    def _begin(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(self._told(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _told(self, work: Coroutine[Any, Any, None], what: str) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the daemon goes on, and it is tried again
            self._unexpected(error, what)


def read_evidence(root: Path) -> Evidence:
    """What the host at that root shows now."""
    # Imported when it is first needed: the libraries for network interfaces are a megabyte.
    from featurekeyd.hwio.hostidentity import read_host_identity  # noqa: PLC0415

    return evidence_of(read_host_identity(root))


def host_root(reader: str) -> Path:
    """The root of the host that a reader of the settings looks at: a folder for a simulated one."""
    word, _, place = reader.partition(":")
    return Path(place) if word == "host" and place else Path("/")


def kept_of(facts: Facts, first: Kept) -> Kept:
    """What the Enforcer begins with, from what was stored; `first` is what a host begins with that has nothing."""
    return Kept(
        mark=facts.clock or first.mark,
        enrolled=facts.host,
        announcement=facts.announced,
        rescues=facts.rescues,
        opening=facts.opening,
        nonces=facts.nonces,
        check_numbers=facts.checks,
        claims=facts.emergency_claims,
        check_failing=facts.check_failing,
    )
