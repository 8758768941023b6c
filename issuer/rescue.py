"""Rescue codes: what the vendor reads out at night for a system whose Feature Key is dead.

Rules of this module:

* Every code is recorded with its day, who gave it out, when and why; the code itself is not.
* Whoever has the code of a day can work out those of all days before it. So none is made for a day to come, beyond the
  one that has begun further east: a host whose clock runs ahead gets its clock set instead.
* A second code within seven days needs to be asked for as such: one is enough for them.
"""

from __future__ import annotations

import datetime

import msgspec

from featurekeyd.policy.rescue import DAYS_OFF, OPEN_DAYS, write_code

from .derivation import RESCUE_DAYS, rescue_code, rescue_seed
from .refusal import Refused
from .register import CertificateRow, Register, RescueRow
from .vendor import Vendor

MAX_REASON = 200
"""Characters of a reason: a sentence."""


class RescueOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a code, for which system and why."""

    serial: str
    issuer: str
    reason: str = ""
    date: datetime.date | None = None
    """The date that the host takes for today, None for that of the act."""
    certified: datetime.date | None = None
    """The day of the certificate on the host, None for the newest one."""
    again: bool = False


class RescueCode(msgspec.Struct, frozen=True, kw_only=True):
    """A rescue code, the day it is of, the certificate it goes with, and how many the serial had before."""

    code: str
    day: datetime.date
    certified: datetime.date
    before: int


def make_rescue(order: RescueOrder, vendor: Vendor, register: Register, now: datetime.datetime) -> RescueCode:
    """The rescue code for a serial, recorded; raises Refused."""
    if len(order.reason) > MAX_REASON:
        raise Refused(f"The reason has more than {MAX_REASON} characters.")
    with register.act():
        register.check_current(order.serial)
        earlier = register.rescues(order.serial)
        _refuse_soon(order, earlier, now.date())
        certificate = _certificate(order, register)
        steps = _steps(order, certificate, now.date())
        days = certificate.rescue_days or RESCUE_DAYS
        day = certificate.day + datetime.timedelta(days=steps)
        code = _code(certificate, vendor.master, days, steps)
        register.record_rescue(
            RescueRow(
                serial=order.serial,
                code_day=day,
                certified=certificate.day,
                issuer=order.issuer,
                reason=order.reason,
                time=now,
                day=now.date(),
            )
        )
    return RescueCode(code=write_code(code), day=day, certified=certificate.day, before=len(earlier))


def _refuse_soon(order: RescueOrder, earlier: list[RescueRow], today: datetime.date) -> None:
    if order.again or not earlier:
        return
    last = earlier[-1]
    ago = (today - last.day).days
    if ago < OPEN_DAYS:
        because = f" ({last.reason})" if last.reason else ""
        why = f"{order.serial} got a rescue code on {last.day}{because}, and one opens {OPEN_DAYS} days."
        raise Refused(why, "If it shall have another all the same: --again")


def _certificate(order: RescueOrder, register: Register) -> CertificateRow:
    rows = register.certificates_of(order.serial)
    if order.certified is None:
        return rows[-1]
    of_day = [row for row in rows if row.day == order.certified]
    if not of_day:
        known = ", ".join(str(row.day) for row in rows)
        raise Refused(f"{order.serial} has no certificate of {order.certified}.", f"There are those of {known}.")
    return of_day[-1]


def _steps(order: RescueOrder, certificate: CertificateRow, today: datetime.date) -> int:
    """The number of the day in the certificate's chain; raises Refused."""
    wanted, last = order.date or today, certificate.rescue_days or RESCUE_DAYS
    if (wanted - today).days > DAYS_OFF:
        why = f"{wanted} is to come, and its code would give away those of all days before it."
        raise Refused(why, "Have the host's clock set instead.")
    day = (wanted - certificate.day).days
    if not 0 <= day <= last:
        end = certificate.day + datetime.timedelta(days=last)
        why = f"The certificate of {certificate.day} has rescue codes until {end}, and {wanted} is none of their days."
        raise Refused(why, "Give the date that the host shows with --date, or certify the Feature Key again.")
    # Day 0 is the anchor, which stands in the certificate; the host takes the code of the next day.
    return max(day, 1)


def _code(certificate: CertificateRow, master: bytes, days: int, steps: int) -> bytes:
    """The code of a day, proved against the anchor that was given out; raises Refused."""
    issued = certificate.day if certificate.rescue_anchor is not None else None
    code = rescue_code(rescue_seed(master, certificate.serial, issued), days - steps)
    if certificate.rescue_anchor not in {None, rescue_code(code, steps).hex()}:
        why = f"The certificate of {certificate.day} was made with another master secret than that of this folder."
        raise Refused(why, "Restore the vendor folder from its backup.")
    return code
