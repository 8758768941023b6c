"""The permit: the vendor's word that a host may change, for hardware that was replaced.

Fields of the signed text:

    Serial        12 digits
    Number        1 and up; a host takes a number once, and none below one that it took
    May-Change    hardware, addresses, or both joined by a comma and a blank
    Hardware-Id   optional: only a host of which this is the hardware id now (64 hexadecimal digits)
    Issued        ISO 8601 date
    Until         ISO 8601 date, the last day that it is good

Without a Hardware-Id it is good for whatever host takes it: so the vendor names one where a request tells it.
"""

from __future__ import annotations

import datetime
import enum
import re

import msgspec

from .certificate import read_date
from .findings import Finding, Unreadable, Verdict, refuse
from .signedtext import SignedText, VendorKeys, one_field, unseal

KIND = "PERMIT"
"""Kind of the signed text."""

MAX_NUMBER = 999_999_999
"""Nine digits, as a license list has: more than any vendor gives out for one serial."""

_SERIAL = re.compile(r"[0-9]{12}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_HARDWARE_ID = re.compile(r"[0-9a-f]{64}")


class MayChange(enum.StrEnum):
    """What of a host a permit lets change."""

    HARDWARE = "hardware"
    ADDRESSES = "addresses"


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """What a permit says, its signature verified."""

    serial: str
    number: int
    may_change: tuple[MayChange, ...]
    issued: datetime.date
    until: datetime.date
    hardware_id: str | None = None


def permit_body(permit: Permit) -> str:
    """The text to sign."""
    lines = [f"Serial: {permit.serial}", f"Number: {permit.number}", f"May-Change: {', '.join(permit.may_change)}"]
    if permit.hardware_id is not None:
        lines.append(f"Hardware-Id: {permit.hardware_id}")
    return "\n".join([*lines, f"Issued: {permit.issued.isoformat()}", f"Until: {permit.until.isoformat()}"])


def read_permit(text: str, vendor_keys: VendorKeys) -> Permit:
    """The permit in a text; raises Unreadable naming the field."""
    document = unseal(KIND, text, vendor_keys)
    number = _field(document, "Number", _NUMBER, "a number")
    hardware_id = None
    if "Hardware-Id" in document.fields:
        hardware_id = _field(document, "Hardware-Id", _HARDWARE_ID, "64 hexadecimal digits in lower case")
    return Permit(
        serial=_field(document, "Serial", _SERIAL, "12 digits"),
        number=int(number),
        may_change=_may_change(one_field(document, "May-Change")),
        issued=read_date("Issued", one_field(document, "Issued")),
        until=read_date("Until", one_field(document, "Until")),
        hardware_id=hardware_id,
    )


def refuse_permit(
    permit: Permit, *, serial: str | None, hardware_id: str, last_used: int, today: datetime.date
) -> Finding | None:
    """Why a permit is not taken by this host, None where it is; `hardware_id` is what the host's is now."""
    named = f"Permit {permit.number}"
    again = "Ask the vendor for a new permit; send the request of this host along: featurekeyctl request"
    if permit.serial != serial:
        message = f"{named} is for serial {permit.serial}, and this system is {serial or 'not certified yet'}."
        return refuse(Verdict.OTHER_SERIAL, message, remedy="Bring it to that system, or ask the vendor for one.")
    if permit.number <= last_used:
        message = f"{named} is used up: permit {last_used} of this serial was taken here before."
        return refuse(Verdict.ALREADY_THERE, message, remedy=again)
    if today > permit.until:
        return refuse(Verdict.EXPIRED, f"{named} was good until {permit.until}.", remedy=again)
    if permit.hardware_id not in {None, hardware_id}:
        message = f"{named} is for the host {permit.hardware_id}, and this one is {hardware_id}."
        return refuse(Verdict.OTHER_HARDWARE, message, remedy=again)
    return None


def _field(document: SignedText, name: str, form: re.Pattern[str], words: str) -> str:
    value = one_field(document, name)
    if not form.fullmatch(value):
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field {name!r} is {value[:80]!r} instead of {words}.")
    return value


def _may_change(value: str) -> tuple[MayChange, ...]:
    words = value.split(", ")
    known = {str(it) for it in MayChange}
    if not set(words) <= known or len(set(words)) < len(words):
        what = f"The field 'May-Change' is {value[:80]!r}; this release knows {' and '.join(sorted(known))}, each once."
        raise Unreadable(Verdict.BAD_DOCUMENT, what)
    return tuple(it for it in MayChange if it in words)
