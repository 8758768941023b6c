"""The part of io.featurekey.Manage about trust over time: checks, rescue codes, the host, the clock.

Rules of this module:

* What counts is stored before it counts, one change at a time.
* Whatever is refused is a finding with its cure. A rescue code is never logged, stored or given back.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import msgspec

from featurekeyd.policy.checkevidence import (
    NONCE_SIZE,
    CheckEvidence,
    CheckResult,
    judge_check,
    read_check,
)
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Finding, Unreadable, Verdict, accept, refuse
from featurekeyd.policy.request_text import Head, Request, request_text
from featurekeyd.policy.rescue import RescueRefusal, check_rescue
from featurekeyd.policy.timekeeping import ClockState, repaired, state_of
from featurekeyd.policy.trust import answered, asked, enrolled_again, untold

from . import hosting
from .asking import request_of
from .facts import Answer
from .methods import Client, ErrorReply, Method, Nothing, Permission, method, said
from .products import CATALOGS
from .site import Site
from .storing import not_stored
from .trust_status import feature_key_state
from .version import RELEASED
from .wire import MANAGE, error_reply, reply

MAX_CODE = 200
"""Characters of a rescue code as it is typed: six times as many as it has, for blanks and dashes."""

_Done = TypeVar("_Done")

_VERDICTS = {
    CheckResult.PASSED: Verdict.CHECKED,
    CheckResult.TOLD_NO: Verdict.TOLD_NO,
    CheckResult.NOT_ASKED: Verdict.NOT_ASKED,
    CheckResult.OLDER_CHECK: Verdict.OLDER_CHECK,
    CheckResult.CHECK_OVER: Verdict.CHECK_OVER,
    CheckResult.OTHER_SERIAL: Verdict.OTHER_SERIAL,
}
"""What is said of an answer, by what it means; nobody imports that the vendor could not be asked."""


class ImportCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ImportCheck."""

    text: str


class Rescue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of Rescue."""

    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE)]


class EnrollHost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of EnrollHost."""

    permit: str | None = None


class AnnounceAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of AnnounceAddress."""

    address: str


class TrustService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        manage = Permission.MANAGE
        return {
            f"{MANAGE}.CheckNow": method(manage, Nothing, self.check_now),
            f"{MANAGE}.RequestCheck": method(manage, Nothing, self.request_check),
            f"{MANAGE}.ImportCheck": method(manage, ImportCheck, self.import_check),
            f"{MANAGE}.Rescue": method(manage, Rescue, self.rescue),
            f"{MANAGE}.GetHost": method(manage, Nothing, self.get_host),
            f"{MANAGE}.EnrollHost": method(manage, EnrollHost, self.enroll_host),
            f"{MANAGE}.AnnounceAddress": method(manage, AnnounceAddress, self.announce_address),
            f"{MANAGE}.RepairClock": method(manage, Nothing, self.repair_clock),
        }

    # Checks

    async def check_now(self, _: Client, __: Nothing) -> bytes:
        """Check all that can be verified here, and say what was found, of the Feature Key first."""
        found = await self._site.trusting.check()
        key = feature_key_state(self._site, self._site.trusting.feature_key)
        return reply({**key, "passed": found.passed, "findings": found.findings})

    async def request_check(self, _: Client, __: Nothing) -> bytes:
        """What the vendor answers to a check: a text with a nonce that is stored before it leaves."""
        return reply({"text": request_text(await self._alone(self._asked))})

    async def _asked(self) -> Request:
        site, enforcer = self._site, self._site.enforcer
        if enforcer.licenses.serial is None:
            raise ErrorReply(error_reply(f"{MANAGE}.NotCertified", {"hint": _certify_first().message}))
        request = request_of(site)
        if isinstance(request, bytes):
            raise ErrorReply(request)
        site.trusting.count_claims()
        trust, nonce = enforcer.trust, secrets.token_hex(NONCE_SIZE)
        told = untold(trust.kept)
        await site.trusting.keep_first(asked(trust.kept, nonce, told))
        trust.ask(nonce, told)
        newest, enrolled = enforcer.licenses.license_list, trust.kept.enrolled
        return msgspec.structs.replace(
            request,
            nonce=nonce,
            state_head=site.storing.state_head,
            audit_head=site.storing.audit_head,
            audit_since=await self._audit_since(),
            emergency_claims=told.claims,
            tamperings=told.tamperings,
            state_losses=told.losses,
            clock_repairs=told.repairs,
            catalog_digest=await asyncio.to_thread(_catalog_digest, enforcer.catalog.id),
            list_number=newest.number if newest else 0,
            enrolled_host=enrolled.digest if enrolled else None,
        )

    async def _audit_since(self) -> Head | None:
        """The entry of the audit that the newest answer names, as it is here now: the vendor sees that it goes on."""
        enforcer = self._site.enforcer
        answer = enforcer.trust.answer
        if answer is None or answer.audit_head is None or answer.serial != enforcer.licenses.serial:
            return None
        number = answer.audit_head.number
        return await self._site.storing.ask(lambda store: store.audit_at(number))

    async def import_check(self, _: Client, parameters: ImportCheck) -> bytes:
        """Take the vendor's answer to a request for a check."""
        try:
            evidence = await asyncio.to_thread(read_check, parameters.text, self._site.vendor_keys)
        except Unreadable as error:
            return reply({"finding": error.finding})
        finding = await self._alone(lambda: self._answered(evidence, parameters.text))
        if finding.accepted:  # what failed without the answer may pass now
            await self._site.trusting.check_at_once()
        return reply({"finding": finding})

    async def _answered(self, evidence: CheckEvidence, text: str) -> Finding:
        site, enforcer = self._site, self._site.enforcer
        if evidence.catalog != enforcer.catalog.id:
            message = f"The answer is for catalog {evidence.catalog}; this system is {enforcer.catalog.id}."
            return refuse(Verdict.OTHER_CATALOG, message)
        trust, serial, now = enforcer.trust, enforcer.licenses.serial, site.clock()
        kept, wall = trust.kept, trust.dated(now).wall
        judged = judge_check(evidence, serial, kept.nonces, kept.check_numbers.get(serial or "", 0), wall)
        verdict = _VERDICTS[judged.result]
        if judged.evidence is None:
            return refuse(verdict, judged.message, remedy=judged.remedy)
        answer = Answer(serial=evidence.serial, number=evidence.number, text=text)
        await site.trusting.keep_first(answered(kept, evidence), answer=answer)
        site.trusting.answer = answer
        trust.take_answer(evidence)
        self._follow()
        if judged.told_no:
            return refuse(verdict, judged.message, remedy=judged.remedy)
        return accept(verdict, judged.message, remedy=_newer_list(evidence, enforcer))

    # Rescue

    async def rescue(self, client: Client, parameters: Rescue) -> bytes:
        """Open the system with the code that the vendor has read out."""
        finding = await self._alone(lambda: self._rescued(parameters.code, f"uid {client.peer.uid}"))
        enforcer, now = self._site.enforcer, self._site.clock()
        left = enforcer.trust.rescue_left(enforcer.licenses.serial, enforcer.today(now))
        return reply({"finding": finding, "seconds_left": round(left)})

    async def _rescued(self, code: str, by: str) -> Finding:
        site, enforcer = self._site, self._site.enforcer
        certificate = enforcer.licenses.certificate
        if certificate is None:
            return _certify_first()
        kept, today = enforcer.trust.kept, enforcer.today(site.clock())
        used = kept.rescues.get(certificate.serial)
        found = await asyncio.to_thread(check_rescue, code, certificate, used, today)
        if isinstance(found, RescueRefusal):
            verdict = Verdict(str(found.verdict))
            about = {"BY": by, "REASON": str(verdict), "SERIAL": certificate.serial}
            message = f"A rescue code entered by {by} was refused. {found.message}"
            site.tell(Event(name=EventName.RESCUE_REFUSED, message=message, fields=about))
            return refuse(verdict, found.message, remedy=found.remedy, position=found.position)
        rescues = kept.rescues | {certificate.serial: found.mark}
        await site.trusting.keep_first(opening=found.opening, rescues=rescues)
        enforcer.trust.open_up(found.opening, found.mark, by)
        self._follow()
        message = (
            f"The rescue code of {found.opening.day} opens the system for 7 days; it is number {found.mark.count}."
        )
        return accept(Verdict.RESCUED, message, remedy="Get the Feature Key exchanged before they are over.")

    # The host

    async def get_host(self, _: Client, __: Nothing) -> bytes:
        """The host as it is now beside the one that was enrolled."""
        await self._site.trusting.look_at_host()
        return reply(said(hosting.host_shown(self._site)))

    async def enroll_host(self, client: Client, parameters: EnrollHost) -> bytes:
        """Enroll the host as it is now."""
        await self._site.trusting.look_at_host()
        by, permit = f"uid {client.peer.uid}", parameters.permit
        return reply({"finding": await self._alone(lambda: self._enrolled(permit, by))})

    async def _enrolled(self, permit: str | None, by: str) -> Finding:
        site, trust = self._site, self._site.enforcer.trust
        enrolled = hosting.enrollment(site, permit)
        if isinstance(enrolled, Finding):
            return enrolled
        permit_of = site.enforcer.licenses.serial if permit is not None and enrolled.permit else None
        await site.trusting.keep_first(enrolled_again(trust.kept, enrolled, permit_of))
        how = f"by {by}" if permit_of is None else f"by {by} with the vendor's permit {enrolled.permit}"
        trust.enroll(enrolled, how, by, permit_of)
        await site.trusting.look_at_host()
        return accept(Verdict.ENROLLED, f"The host is enrolled {how}.")

    async def announce_address(self, client: Client, parameters: AnnounceAddress) -> bytes:
        """Take note of the address that the host will have."""
        await self._site.trusting.look_at_host()
        by = f"uid {client.peer.uid}"
        return reply({"finding": await self._alone(lambda: self._announced(parameters.address, by))})

    async def _announced(self, address: str, by: str) -> Finding:
        site = self._site
        announced = hosting.announcement(site, address)
        if isinstance(announced, Finding):
            return announced
        await site.trusting.keep_first(announced=announced)
        site.enforcer.trust.announce(announced, by)
        await site.trusting.look_at_host()  # it may be there already
        message = f"The address {announced.address} is announced. It counts if the host has it within 24 hours."
        return accept(Verdict.ANNOUNCED, message)

    # The clock

    async def repair_clock(self, client: Client, _: Nothing) -> bytes:
        """Believe the wall clock from now on."""
        return reply({"finding": await self._alone(lambda: self._repaired(f"uid {client.peer.uid}"))})

    async def _repaired(self, by: str) -> Finding:
        site, enforcer, now = self._site, self._site.enforcer, self._site.clock()
        trust = enforcer.trust
        state = state_of(trust.mark, now, RELEASED)
        if state is ClockState.UNSET:
            return refuse(Verdict.NOT_REPAIRED, "The clock of this host was never set, so it cannot be believed.")
        if state is ClockState.RIGHT:
            return accept(Verdict.ALREADY_THERE, "The clock counts as right already; nothing was changed.")
        floor = max(enforcer.licenses.floor, RELEASED)
        await site.trusting.keep_first(clock=repaired(trust.mark, now, floor))
        trust.repair_clock(now, floor, by)
        self._follow()
        return accept(Verdict.REPAIRED, f"The clock counts as right from now on: it is {enforcer.today(now)}.")

    def _follow(self) -> None:
        """Draw and carry out what follows from what counts now."""
        self._site.enforcer.update(self._site.clock())
        self._site.settle()

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, _Done]]) -> _Done:
        """Do work that changes what is stored; raises ErrorReply where it cannot be stored."""
        try:
            return await self._site.alone(work)
        except sqlite3.Error as error:
            raise ErrorReply(error_reply(f"{MANAGE}.StateNotStored", {"hint": not_stored(error)})) from error


def _certify_first() -> Finding:
    return refuse(Verdict.NO_CERTIFICATE, "No certificate of a Feature Key is imported yet.")


def _newer_list(evidence: CheckEvidence, enforcer: Enforcer) -> str | None:
    """What to do where the vendor has a newer list than is installed."""
    installed = enforcer.licenses.license_list
    number = installed.number if installed else 0
    if evidence.newest_list <= number:
        return None
    return f"The vendor's newest license list is {evidence.newest_list}: featurekeyctl import LIST.csv"


def _catalog_digest(catalog: str) -> str | None:
    """SHA-256 of the shipped catalog file, None where it is not shipped."""
    file = CATALOGS / f"{catalog}.toml"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
