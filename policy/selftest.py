"""The self-test: known answers for all the cryptography that a license rests on, before any license is believed.

A library that was replaced by another, a processor that computes wrong or a file that was damaged shows here, and not
as a license that nobody issued or one that nobody believes. The values are those of the standards where there are
such, and else what the first release of this program computed: what is stored and printed must mean the same for ever.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .certificate import answer_digest
from .licensekey import LicenseKey, Term, make_key, read_key
from .rescue import rescue_step

_ABC = bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
"""SHA-256 of `abc` (FIPS 180-4, the example of NIST)."""

_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
_SIGNED = b"\x72"
_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
"""RFC 8032, section 7.1, test 2."""

_SERIAL = "110123456789"
_KEY = "41A0-0H53-403K-N72S-33SP-PJGA-9DVB-FE67"
_STEP = bytes.fromhex("30fe0baa32a0c78e158f06ec23affdc25c03afa0")
_ANSWER = bytes.fromhex("9f3b7b94717e6a9efd5ba98812ce186a5bb8126a216f899d9aac64e9517a6463")


def self_test() -> tuple[str, ...]:
    """The names of the functions that do not give the known answer; empty where all is well."""
    return tuple(name for name, check in _CHECKS.items() if not _holds(check))


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # noqa: BLE001 - whatever a broken library raises, it does not give the known answer
        return False


def _hashes() -> bool:
    return hashlib.sha256(b"abc").digest() == _ABC


def _verifies() -> bool:
    """A good signature is taken, and one bit off in the text, the signature or the key is not."""
    wrong = (
        (_PUBLIC, _SIGNATURE, b"\x73"),
        (_PUBLIC, bytes([_SIGNATURE[0] ^ 1]) + _SIGNATURE[1:], _SIGNED),
        (_PUBLIC, _SIGNATURE[:32] + bytes([_SIGNATURE[32] ^ 1]) + _SIGNATURE[33:], _SIGNED),
        (_PUBLIC, bytes(64), _SIGNED),
    )
    return _is_good(_PUBLIC, _SIGNATURE, _SIGNED) and not any(_is_good(*each) for each in wrong)


def _is_good(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _keys_are_read() -> bool:
    """A key of the first release is made and read as it was, and not for another serial, nor with a character off."""
    made = make_key(
        feature_code=42,
        instances=8,
        issued=datetime.date(2026, 1, 1),
        term=Term.PERPETUAL,
        sequence=7,
        catalog="ip-office",
        serial=_SERIAL,
    )
    read = read_key(_KEY, catalog="ip-office", serial=_SERIAL)
    mistyped = read_key("1" + _KEY[1:], catalog="ip-office", serial=_SERIAL)
    return (
        made.text == _KEY
        and isinstance(read, LicenseKey)
        and read == made
        and read.made_for("ip-office", _SERIAL)
        and not read.made_for("ip-office", _SERIAL[:-1] + "0")
        and not isinstance(mistyped, LicenseKey)
    )


_CHECKS: dict[str, Callable[[], bool]] = {
    "SHA-256": _hashes,
    "Ed25519": _verifies,
    "license keys": _keys_are_read,
    "rescue codes": lambda: rescue_step(bytes(20)) == _STEP,
    "answers of a Feature Key": lambda: answer_digest(_SERIAL, bytes(20)) == _ANSWER,
}
