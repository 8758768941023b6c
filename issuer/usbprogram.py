"""Programming a USB key: a secret derived from its serial number into slot 2, read back before it is believed.

Rules of this module:

* A slot that holds this vendor's secret already is done, not written again; so an act broken between writing and
  recording is completed by repeating it.
* A slot that holds anything else is replaced only when the caller says so.
"""

from __future__ import annotations

import datetime
import hmac
import secrets
from typing import Any

import msgspec

from featurekeyd.hwio.featurekey import FeatureKeyError, TouchRequired, Unconfigured
from featurekeyd.hwio.usbkey import (
    AMBIGUOUS_LAST_BYTES,
    CHALLENGE_SIZE,
    SlotOccupied,
    UsbKey,
    WriteRefused,
)

from .derivation import SECRET_SIZE, usb_access_code, usb_answer, usb_secret
from .refusal import Refused
from .register import Register


class Programmed(msgspec.Struct, frozen=True, kw_only=True):
    """A USB key that carries this vendor's secret."""

    hardware_id: str
    simulated: bool
    detail: str
    written: bool
    """False when it carried the secret before."""


def make_challenge() -> bytes:
    """A random challenge that every make of key takes as it is (facts/hardware.md section 2, padding)."""
    while True:
        challenge = secrets.token_bytes(CHALLENGE_SIZE)
        if challenge[-1] not in AMBIGUOUS_LAST_BYTES:
            return challenge


def program(
    master: bytes, register: Register, today: datetime.date, *, backend: Any = None, replace: bool = False
) -> Programmed:
    """Program the one USB key that is plugged in, and record it; raises Refused.

    `backend` is a pyusb backend, libusb 1.0 unless given.
    """
    try:
        key = UsbKey.open(backend, serial_needed=False)
    except FeatureKeyError as error:
        raise _refused(error) from error
    try:
        programmed = _programmed(key, master, replace=replace)
    except FeatureKeyError as error:
        raise _refused(error) from error
    finally:
        key.close()
    with register.act():
        if programmed.written or not register.was_programmed(programmed.hardware_id, simulated=programmed.simulated):
            register.record_programming(programmed.hardware_id, simulated=programmed.simulated, day=today)
    return programmed


def _programmed(key: UsbKey, master: bytes, *, replace: bool) -> Programmed:
    if not key.reading.hardware_id:
        replace = _show_serial(key, replace=replace)
    number, simulated = key.reading.hardware_id, key.reading.simulated
    secret = usb_secret(master, number, simulated=simulated)
    written = not _carries(key, secret)
    if written:
        _write(key, secret, usb_access_code(master, number, simulated=simulated), replace=replace)
        if key.reading.hardware_id != number or not _carries(key, secret):
            raise Refused(f"Key {number} does not answer as programmed.", "Program it again, or take another key.")
    return Programmed(hardware_id=number, simulated=simulated, detail=key.reading.detail, written=written)


def _show_serial(key: UsbKey, *, replace: bool) -> bool:
    """Make a key show its serial, from which its secret is derived; gives whether slot 2 may be replaced now."""
    # The switch is part of a slot's configuration, so a secret that nobody knows goes there first.
    key.program_challenge_response(secrets.token_bytes(SECRET_SIZE), replace=replace)
    if not key.reading.hardware_id:
        raise Refused("The key does not show its serial number.", "Take another key.")
    return True


def _carries(key: UsbKey, secret: bytes) -> bool:
    challenge = make_challenge()
    try:
        answer = key.prove(challenge)
    except (Unconfigured, TouchRequired):
        return False
    return hmac.compare_digest(answer, usb_answer(secret, challenge))


def _write(key: UsbKey, secret: bytes, access_code: bytes, *, replace: bool) -> None:
    # A slot has no access code, or the vendor's own when its secret was removed with that code in place.
    try:
        key.program_challenge_response(secret, new_access_code=access_code, replace=replace)
    except WriteRefused:
        key.program_challenge_response(secret, access_code=access_code, replace=replace)


def _refused(error: FeatureKeyError) -> Refused:
    if isinstance(error, SlotOccupied):
        return Refused("Slot 2 of the key is configured already.", "To lose what it holds: --replace")
    if isinstance(error, WriteRefused):
        return Refused(
            f"{error.reader}: slot 2 is protected by an access code of somebody else.", "Take another key, or reset it."
        )
    return Refused(f"{error}.")
