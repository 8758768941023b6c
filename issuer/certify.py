"""Certifying a Feature Key: from a host's request to the signed certificate and the serial on it."""

from __future__ import annotations

import datetime
import hashlib

import msgspec

from featurekeyd.policy.certificate import (
    KIND,
    PAIRS,
    PROVING_KINDS,
    Certificate,
    Pair,
    answer_digest,
    certificate_body,
    read_certificate,
)
from featurekeyd.policy.encoding import length_prefixed
from featurekeyd.policy.request_text import Request

from .derivation import RESCUE_DAYS, rescue_code, rescue_seed, usb_answer, usb_secret
from .refusal import Refused
from .register import SERIAL_NUMBERS, CertificateRow, Register, System
from .usbprogram import make_challenge
from .vendor import Vendor

TYPE_DIGITS = {"sd-card": "11", "usb-otp": "12", "host": "13"}
"""First two digits of a serial, by kind of Feature Key (facts/hardware.md section 5)."""

_LABEL = b"featurekeyd serial"


class Certified(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, and whether its hardware had its serial before."""

    certificate: Certificate
    text: str
    known: bool


def preferred_serial(kind: str, hardware_id: str) -> str:
    """Type digits and 10 digits from SHA-256 over label, kind and hardware id: what a system gets if it is free."""
    digest = hashlib.sha256(length_prefixed(_LABEL, kind.encode(), hardware_id.encode())).digest()
    return f"{TYPE_DIGITS[kind]}{int.from_bytes(digest, 'big') % SERIAL_NUMBERS:010}"


def certify(request: Request, vendor: Vendor, register: Register, today: datetime.date) -> Certified:
    """The certificate for the hardware of a request, recorded; raises Refused."""
    check_programmed(request, register)
    _ = vendor.signer, vendor.master  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        return certify_within(request, vendor, register, today)


def check_programmed(request: Request, register: Register) -> None:
    """Raise Refused for hardware that must carry a secret of this vendor and does not."""
    proving = request.kind in PROVING_KINDS
    if proving and not register.was_programmed(request.hardware_id, simulated=request.simulated):
        sort = "Simulated key" if request.simulated else "Key"
        why = f"{sort} {request.hardware_id} does not carry a secret of this vendor."
        raise Refused(why, "Plug it in here and run: featurekey-issue program")


def certify_within(request: Request, vendor: Vendor, register: Register, today: datetime.date) -> Certified:
    """The same inside an act that has begun, for hardware that is programmed; raises Refused."""
    known = register.find_hardware(request.kind, request.hardware_id, simulated=request.simulated) is not None
    system = register.enroll(
        kind=request.kind,
        hardware_id=request.hardware_id,
        simulated=request.simulated,
        preferred=preferred_serial(request.kind, request.hardware_id),
        day=today,
    )
    register.check_current(system.serial)
    certificate = _certificate(system, request.catalog, vendor.master, today)
    text = vendor.seal(KIND, certificate_body(certificate))
    # What a host could not read must not be given out.
    assert read_certificate(text, {vendor.signer: vendor.public_key}) == certificate
    register.record_certificate(
        CertificateRow(
            serial=system.serial,
            catalog=request.catalog,
            signer=vendor.signer,
            digest=hashlib.sha256(text.encode()).hexdigest(),
            day=today,
            rescue_anchor=certificate.rescue_anchor.hex(),
            rescue_days=certificate.rescue_days,
        )
    )
    return Certified(certificate=certificate, text=text, known=known)


def _certificate(system: System, catalog: str, master: bytes, today: datetime.date) -> Certificate:
    return Certificate(
        serial=system.serial,
        catalog=catalog,
        kind=system.kind,
        hardware_id=system.hardware_id,
        issued=today,
        test=system.simulated,
        rescue_anchor=rescue_code(rescue_seed(master, system.serial, today), RESCUE_DAYS),
        rescue_days=RESCUE_DAYS,
        pairs=_pairs(system, master) if system.kind in PROVING_KINDS else (),
    )


def _pairs(system: System, master: bytes) -> tuple[Pair, ...]:
    secret = usb_secret(master, system.hardware_id, simulated=system.simulated)
    challenges = [make_challenge() for _ in range(PAIRS)]
    return tuple(Pair(it, answer_digest(system.serial, usb_answer(secret, it))) for it in challenges)
