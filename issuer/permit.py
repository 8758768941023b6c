"""Permits: the vendor's word that a system may go on with other hardware or another address.

Rules of this module:

* A permit is good for days, not for years: one that lies around would be a spare license. Numbers of a serial only
  advance, and a host takes none twice, so a new permit makes those before it worthless once it is taken.
* Without the hardware id of the one host that it is for, whatever host takes it first has it, and so has every copy of
  that host's state; so one is asked for where the host is the Feature Key.
"""

from __future__ import annotations

import datetime
import hashlib
import re

import msgspec

from featurekeyd.policy.permit import KIND, MAX_NUMBER, MayChange, Permit, permit_body, read_permit

from .refusal import Refused
from .register import PermitRow, Register
from .vendor import Vendor

MAX_DAYS = 90
"""How long a permit is good at most: hardware that is ordered with it comes within a quarter of a year."""

SHIPPED_DAYS = 14
"""The same where nothing is said: a spare part and somebody who fits it take two weeks."""

MAX_REASON = 200
"""Characters of a reason: a sentence."""

HOST_KIND = "host"

_HARDWARE_ID = re.compile(r"[0-9a-f]{64}")


class PermitOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What of which system may change, how long and why."""

    serial: str
    may_change: tuple[MayChange, ...]
    days: int = SHIPPED_DAYS
    hardware_id: str | None = None
    """The hardware id that the host has now, None for whichever takes it."""
    any_host: bool = False
    """Whether a system that is its own Feature Key gets one without a hardware id."""
    reason: str = ""


class Permitted(msgspec.Struct, frozen=True, kw_only=True):
    """A permit, its signed text, and how many the serial had before."""

    permit: Permit
    text: str
    before: int


def make_permit(order: PermitOrder, vendor: Vendor, register: Register, today: datetime.date) -> Permitted:
    """The next permit of a serial, recorded; raises Refused."""
    _check_order(order)
    _ = vendor.signer  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        register.check_current(order.serial)
        _check_host(order, register)
        earlier = register.permits(order.serial)
        permit = _permit(order, earlier[-1].number + 1 if earlier else 1, today)
        text = vendor.seal(KIND, permit_body(permit))
        # What a host could not read must not be given out.
        assert read_permit(text, {vendor.signer: vendor.public_key}) == permit
        register.record_permit(
            PermitRow(
                serial=permit.serial,
                number=permit.number,
                may_change=", ".join(permit.may_change),
                hardware_id=permit.hardware_id,
                until=permit.until,
                reason=order.reason,
                signer=vendor.signer,
                digest=hashlib.sha256(text.encode()).hexdigest(),
                day=today,
            )
        )
    return Permitted(permit=permit, text=text, before=len(earlier))


def _permit(order: PermitOrder, number: int, today: datetime.date) -> Permit:
    if number > MAX_NUMBER:
        raise Refused(f"{order.serial} has had {MAX_NUMBER} permits.", "Exchange its Feature Key for another.")
    return Permit(
        serial=order.serial,
        number=number,
        may_change=tuple(it for it in MayChange if it in order.may_change),
        issued=today,
        until=today + datetime.timedelta(days=order.days),
        hardware_id=order.hardware_id,
    )


def _check_order(order: PermitOrder) -> None:
    if not order.may_change:
        raise Refused("A permit lets something change.", f"Say which: {' or '.join(MayChange)}.")
    if not 1 <= order.days <= MAX_DAYS:
        raise Refused(f"A permit is good for 1 to {MAX_DAYS} days, not for {order.days}.")
    if len(order.reason) > MAX_REASON:
        raise Refused(f"The reason has more than {MAX_REASON} characters.")
    if order.hardware_id is not None and not _HARDWARE_ID.fullmatch(order.hardware_id):
        raise Refused(f"{order.hardware_id[:80]!r} is no hardware id of a host.", "It has 64 hexadecimal digits.")


def _check_host(order: PermitOrder, register: Register) -> None:
    if register.system(order.serial).kind == HOST_KIND and order.hardware_id is None and not order.any_host:
        why = f"{order.serial} is its own Feature Key: a permit for no host in particular fits every copy of it."
        raise Refused(why, "Name the host with --host, as featurekeyctl host shows it; or say --any-host.")
