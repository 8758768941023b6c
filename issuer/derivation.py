"""What is derived from the vendor's master secret: secrets of USB keys, their access codes, and rescue chains.

Rules of this module:

* Pure: same input, same answer; nothing is stored, so a lost register costs no secret.
* Every derivation is HMAC-SHA256 over length-prefixed fields, the first of which names the purpose. A simulated key has
  purposes of its own: whoever holds its file holds the secret of no real key with the same serial number.
"""

from __future__ import annotations

import datetime
import hmac

from featurekeyd.hwio import otpframes
from featurekeyd.policy.encoding import length_prefixed
from featurekeyd.policy.rescue import RESCUE_SIZE, rescue_step

MASTER_SIZE = 32
"""Bytes of the master secret: as strong as the HMAC-SHA256 it keys."""

SECRET_SIZE = otpframes.SECRET_SIZE
"""Bytes of the HMAC-SHA1 secret in slot 2."""

RESCUE_DAYS = 3650
"""Length of a rescue chain: ten years from the certificate's day, longer than such hosts serve."""


def usb_secret(master: bytes, number: str, *, simulated: bool) -> bytes:
    """The 20-byte secret of the USB key with that serial number."""
    return _derived(master, _purpose(b"usb secret", simulated=simulated), number)[:SECRET_SIZE]


def usb_access_code(master: bytes, number: str, *, simulated: bool) -> bytes:
    """The 6-byte access code of the USB key with that serial number."""
    return _derived(master, _purpose(b"usb access code", simulated=simulated), number)[: otpframes.ACCESS_CODE_SIZE]


def usb_answer(secret: bytes, challenge: bytes) -> bytes:
    """What a key with that secret answers: HMAC-SHA1 over the challenge (facts/hardware.md section 2, LT64)."""
    return hmac.digest(secret, challenge, "sha1")


def rescue_seed(master: bytes, serial: str, issued: datetime.date | None) -> bytes:
    """The 20 bytes at the far end of the rescue chain of a certificate: of that serial, issued on that day.

    None stands for the certificates of registers before version 3, whose serials had one chain each. A chain that
    begins anew with a later certificate must be another one: its early codes follow from any late code of the first.
    """
    about = (serial,) if issued is None else (serial, issued.isoformat())
    return _derived(master, b"featurekeyd rescue seed", *about)[:RESCUE_SIZE]


def rescue_code(seed: bytes, steps: int) -> bytes:
    """H applied that many times: the anchor for the chain's length N, the code of day d for N - d."""
    value = seed
    for _ in range(steps):
        value = rescue_step(value)
    return value


def _purpose(what: bytes, *, simulated: bool) -> bytes:
    return b"featurekeyd " + (b"simulated " if simulated else b"") + what


def _derived(master: bytes, purpose: bytes, *about: str) -> bytes:
    return hmac.digest(master, length_prefixed(purpose, *(each.encode() for each in about)), "sha256")
