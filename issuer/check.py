"""Checks: the vendor's signed answer to the request of a host, made from what the register knows.

Rules of this module:

* `make_check` is one plain function from a request to an answer, whoever brings the request: a file today, a license
  server later.
* A serial that was exchanged gets an answer too, and it is no.
* What is odd is told and recorded, and does not keep the answer back: a host that was restored from a backup is an
  honest one most of the time. What proves that the request is of another system is refused.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from featurekeyd.policy.checkevidence import KIND, MAX_GOOD_DAYS, CheckEvidence, check_body, read_check
from featurekeyd.policy.request_text import Head, Request, read_head

from .order import key_of
from .refusal import Refused
from .register import CheckRow, Register
from .vendor import Vendor

_NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, its signed text, and what the vendor should know of the host."""

    evidence: CheckEvidence
    text: str
    told: tuple[str, ...]


def make_check(request: Request, vendor: Vendor, register: Register, now: datetime.datetime, *, days: int) -> Checked:
    """The answer to a request, good for that many days, recorded; raises Refused."""
    if not 1 <= days <= MAX_GOOD_DAYS:
        raise Refused(f"A check is good for 1 to {MAX_GOOD_DAYS} days, not for {days}.")
    if request.serial is None or request.nonce is None:
        missing = "Serial" if request.serial is None else "Nonce"
        raise Refused(f"The request asks for no check: it has no {missing!r}.", "Make it on a certified host.")
    _ = vendor.signer  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        _check_hardware(request, request.serial, register)
        last, answered = register.last_check(request.serial), register.check_of(request.serial, request.nonce)
        # An old request says how far the host was then: it proves nothing about the host of today.
        rolled_back = () if answered else tuple(_rolled_back(request, request.serial, register))
        blank, checked = _of_register(request.serial, register), now.replace(microsecond=0)
        evidence = msgspec.structs.replace(
            blank,
            number=last.number + 1 if last else 1,
            nonce=request.nonce,
            checked=checked,
            until=checked + datetime.timedelta(days=days),
            remarks=(*rolled_back, *blank.remarks),
            audit_head=request.audit_head,
        )
        text = _sealed(evidence, vendor)
        row = _row(request, evidence, text, vendor.signer, rolled_back=bool(rolled_back))
        register.record_check(msgspec.structs.replace(row, state_head=None, audit_head=None) if answered else row)
    told = (*evidence.remarks, *_told(request, evidence), *_compared(request, last, answered))
    return Checked(evidence=evidence, text=text, told=told)


def _of_register(serial: str, register: Register) -> CheckEvidence:
    """What the register knows of a serial, as an answer without number, nonce and times."""
    exchange, catalog = register.exchange_of(serial), register.catalog_of(serial)
    keys = [row for row in register.licenses(serial) if row.catalog == catalog and row.revoked is not None]
    replaced = () if exchange is None else (f"{serial} was exchanged for {exchange.new_serial} on {exchange.day}.",)
    return CheckEvidence(
        serial=serial,
        catalog=catalog,
        number=0,
        nonce="",
        checked=_NEVER,
        until=_NEVER,
        retired=exchange is not None,
        newest_list=register.next_list_number(serial) - 1,
        revoked=tuple(key_of(row) for row in keys),
        remarks=replaced,
    )


def _sealed(evidence: CheckEvidence, vendor: Vendor) -> str:
    text = vendor.seal(KIND, check_body(evidence))
    # What a host could not read must not be given out.
    assert read_check(text, {vendor.signer: vendor.public_key}) == evidence
    return text


def _check_hardware(request: Request, serial: str, register: Register) -> None:
    system = register.system(serial)
    brought = (request.kind, request.hardware_id, request.simulated)
    if brought != (system.kind, system.hardware_id, system.simulated):
        why = (
            f"The request is of {request.kind} {request.hardware_id}, and {serial} was certified for {system.kind} "
            f"{system.hardware_id}."
        )
        raise Refused(why, "Make the request with the certified Feature Key in the host, or exchange the key.")


def _rolled_back(request: Request, serial: str, register: Register) -> Iterator[str]:
    """A sentence for each record of the host that was further at an earlier check."""
    if request.state_head is not None and _is_back(request.state_head, serial, "state_head", register):
        yield "The state is not as far as it was at an earlier check."
    if request.audit_head is not None and _is_back(request.audit_head, serial, "audit_head", register):
        yield "The audit is not as far as it was at an earlier check."
    elif request.audit_since is not None and _goes_through_another(request.audit_since, serial, register):
        yield "The audit does not go on from where it was at an earlier check."


def _is_back(head: Head, serial: str, record: Literal["state_head", "audit_head"], register: Register) -> bool:
    last = register.last_head(serial, record)
    if last is None or last == str(head):
        return False
    # The number alone could be made up, the digest alone says nothing of a host that went on from a backup.
    return head.number <= read_head(last).number or register.head_seen(serial, record, head.digest)


def _goes_through_another(since: Head, serial: str, register: Register) -> bool:
    """Whether the audit of the host has another entry at that number than it had at each check that named it."""
    known = [read_head(row.audit_head) for row in register.checks(serial) if row.audit_head is not None]
    return since not in known and since.number in {head.number for head in known}


def _told(request: Request, evidence: CheckEvidence) -> Iterator[str]:
    """What else the vendor should know of the request."""
    if request.catalog != evidence.catalog:
        yield f"The host runs the catalog {request.catalog!r}, and its certificate is for {evidence.catalog!r}."
    installed, newest = request.list_number, evidence.newest_list
    if installed is not None and installed < newest:
        yield f"The host has list {installed}, and the newest is {newest}."
    if installed is not None and installed > newest:
        yield f"The host has list {installed}, and this register has made {newest} only: is it the newest register?"
    if request.emergency_claims:
        yield f"{request.emergency_claims} emergency calls without a listed number since the check before."
    if request.tamperings:
        yield f"Somebody else had changed the state of the host at {request.tamperings} starts since the check before."
    if request.state_losses:
        yield f"The state of the host was damaged, and begun anew, {request.state_losses} times since the check before."
    if request.clock_repairs:
        yield f"The clock of the host was repaired by command {request.clock_repairs} times since the check before."


def _compared(request: Request, last: CheckRow | None, answered: CheckRow | None) -> Iterator[str]:
    """What is another than at the check before."""
    if answered is not None:
        yield f"The request was answered before: check {answered.number} of {answered.day}."
    if answered is not None or last is None:
        return
    if request.audit_head is not None and last.audit_head is not None and not _shows(request, last.audit_head):
        yield (
            f"The host does not show its audit at check {last.number}: that answer was not imported, or the state was "
            "put back since."
        )
    for what, now, before in (
        ("The enrolled host", request.enrolled_host, last.enrolled_host),
        ("The catalog file", request.catalog_digest, last.catalog_digest),
    ):
        if now != before and None not in {now, before}:
            yield f"{what} is another than at check {last.number}."
    for record, head, known in (
        ("state", request.state_head, last.state_head),
        ("audit", request.audit_head, last.audit_head),
    ):
        if head is None and known is not None:
            yield f"The request says nothing of the {record}, and the one before did."


def _shows(request: Request, head: str) -> bool:
    """Whether the request has the entry of an earlier check, or one of that number (which is compared elsewhere)."""
    return request.audit_since is not None and request.audit_since.number == read_head(head).number


def _row(request: Request, evidence: CheckEvidence, text: str, signer: str, *, rolled_back: bool) -> CheckRow:
    return CheckRow(
        serial=evidence.serial,
        number=evidence.number,
        nonce=evidence.nonce,
        checked=evidence.checked,
        until=evidence.until,
        retired=evidence.retired,
        rolled_back=rolled_back,
        state_head=_written(request.state_head),
        audit_head=_written(request.audit_head),
        emergency_claims=request.emergency_claims,
        catalog_digest=request.catalog_digest,
        list_number=request.list_number,
        enrolled_host=request.enrolled_host,
        signer=signer,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        day=evidence.checked.date(),
    )


def _written(head: Head | None) -> str | None:
    return None if head is None else str(head)
