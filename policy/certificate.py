"""The Feature Key certificate: the vendor's word on which hardware carries which serial.

Fields of the signed text (DESIGN: Feature Key certificate):

    Serial        12 digits
    Catalog       product, e.g. ip-office
    Kind          usb-otp, sd-card or host
    Hardware-Id   identifier that the hardware gives (see the reader of that kind)
    Issued        ISO 8601 date
    Test          yes or no; yes for simulated hardware, which takes no other, and for nothing else
    Rescue        anchor of the chain of rescue codes, 40 hexadecimal digits, and its length in days
    Challenge     64 hexadecimal digits, and behind each
    Answer        the digest of its answer, 64 more; 64 such pairs for usb-otp, each line short enough for mail
"""

from __future__ import annotations

import datetime
import hashlib
import re

import msgspec

from .encoding import length_prefixed
from .findings import Unreadable, Verdict
from .signedtext import Line, SignedText, VendorKeys, one_field, unseal

KIND = "CERTIFICATE"
"""Kind of the signed text."""

PAIRS = 64
"""Pairs of challenge and answer on the certificate of a key that can answer one."""

PROVING_KINDS = frozenset({"usb-otp"})
"""Kinds of Feature Key that can answer a challenge."""

_LABEL = b"featurekeyd answer"
_SERIAL = re.compile(r"[0-9]{12}")
_KINDS = frozenset({"usb-otp", "sd-card", "host"})


class Pair(msgspec.Struct, frozen=True):
    """A challenge of 32 bytes and the digest of the right answer."""

    challenge: bytes
    digest: bytes


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate says, its signature verified."""

    serial: str
    catalog: str
    kind: str
    hardware_id: str
    issued: datetime.date
    test: bool
    rescue_anchor: bytes
    rescue_days: int
    pairs: tuple[Pair, ...] = ()

    def answered_by(self, challenge: bytes, answer: bytes) -> bool:
        """Whether the answer to one of the certificate's challenges is the right one."""
        return Pair(challenge, answer_digest(self.serial, answer)) in self.pairs


def answer_digest(serial: str, answer: bytes) -> bytes:
    """SHA-256 over label, serial and answer: what a pair holds in place of the answer."""
    return hashlib.sha256(length_prefixed(_LABEL, serial.encode(), answer)).digest()


def certificate_body(certificate: Certificate) -> str:
    """The text to sign."""
    lines = [
        f"Serial: {certificate.serial}",
        f"Catalog: {certificate.catalog}",
        f"Kind: {certificate.kind}",
        f"Hardware-Id: {certificate.hardware_id}",
        f"Issued: {certificate.issued.isoformat()}",
        f"Test: {'yes' if certificate.test else 'no'}",
        f"Rescue: {certificate.rescue_anchor.hex()} {certificate.rescue_days}",
        *(f"Challenge: {pair.challenge.hex()}\nAnswer: {pair.digest.hex()}" for pair in certificate.pairs),
    ]
    return "\n".join(lines)


def read_certificate(text: str, vendor_keys: VendorKeys) -> Certificate:
    """The certificate in a text; raises Unreadable naming the field."""
    document = unseal(KIND, text, vendor_keys)
    serial, kind = one_field(document, "Serial"), one_field(document, "Kind")
    if not _SERIAL.fullmatch(serial):
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field 'Serial' is {serial!r} instead of 12 digits.")
    if kind not in _KINDS:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field 'Kind' is {kind!r}, which this release does not know.")
    anchor, days = _rescue(one_field(document, "Rescue"))
    return Certificate(
        serial=serial,
        catalog=one_field(document, "Catalog"),
        kind=kind,
        hardware_id=one_field(document, "Hardware-Id"),
        issued=read_date("Issued", one_field(document, "Issued")),
        test=_yes_or_no("Test", one_field(document, "Test")),
        rescue_anchor=anchor,
        rescue_days=days,
        pairs=_pairs(document, kind),
    )


def read_date(field: str, value: str) -> datetime.date:
    """An ISO 8601 date in a field of a document; raises Unreadable."""
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field {field!r} is {value!r} instead of a date.") from None


def _yes_or_no(field: str, value: str) -> bool:
    if value not in {"yes", "no"}:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field {field!r} is {value!r} instead of yes or no.")
    return value == "yes"


def _rescue(value: str) -> tuple[bytes, int]:
    anchor, _, days = value.partition(" ")
    if not re.fullmatch(r"[0-9a-f]{40}", anchor) or not re.fullmatch(r"[0-9]{1,5}", days):
        raise Unreadable(Verdict.BAD_DOCUMENT, "The field 'Rescue' is not 40 hexadecimal digits and a number of days.")
    return bytes.fromhex(anchor), int(days)


def _pairs(document: SignedText, kind: str) -> tuple[Pair, ...]:
    challenges, digests = document.fields.get("Challenge", []), document.fields.get("Answer", [])
    wanted = PAIRS if kind in PROVING_KINDS else 0
    if not len(challenges) == len(digests) == wanted:
        counts = f"{len(challenges)} challenges and {len(digests)} answers"
        raise Unreadable(Verdict.BAD_DOCUMENT, f"A certificate of kind {kind} has {wanted} of each, not {counts}.")
    pairs = zip(challenges, digests, strict=True)
    return tuple(Pair(_digits("Challenge", challenge), _digits("Answer", digest)) for challenge, digest in pairs)


def _digits(field: str, line: Line) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{64}", line.text):
        message = f"A field {field!r} is not 64 hexadecimal digits."
        raise Unreadable(Verdict.BAD_DOCUMENT, message, line=line.number)
    return bytes.fromhex(line.text)
