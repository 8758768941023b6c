"""The self-test: it passes with the libraries as they are, and finds each that lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from featurekeyd.policy import certificate, licensekey, rescue, selftest
from featurekeyd.policy.selftest import self_test


def test_the_libraries_as_they_are_give_the_known_answers() -> None:
    assert self_test() == ()


class _Credulous:
    """A public key that takes every signature."""

    @staticmethod
    def from_public_bytes(_: bytes) -> _Credulous:
        return _Credulous()

    def verify(self, signature: bytes, data: bytes) -> None:
        pass


class _NotThere:
    """A library without the function."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def test_a_library_that_takes_every_signature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "Ed25519PublicKey", _Credulous)
    assert self_test() == ("Ed25519",)


def test_a_library_that_takes_no_signature_or_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "Ed25519PublicKey", _NotThere())
    assert self_test() == ("Ed25519",)


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (licensekey, "license keys"),
        (rescue, "rescue codes"),
        (certificate, "answers of a Feature Key"),
        (selftest, "SHA-256"),
    ],
)
def test_a_digest_that_is_another_one_is_found_wherever_it_is_used(
    monkeypatch: pytest.MonkeyPatch, module: Any, found: str
) -> None:
    monkeypatch.setattr(module, "hashlib", _Hashes(hashlib.sha512))
    assert self_test() == (found,)


class _Hashes:
    """A hashlib whose SHA-256 is another digest, cut to its length."""

    def __init__(self, other: Callable[..., Any]) -> None:
        self._other = other

    def sha256(self, data: bytes = b"") -> Any:
        return _Cut(self._other(data).digest()[:32])

    def __getattr__(self, name: str) -> Any:
        return getattr(hashlib, name)


class _Cut:
    def __init__(self, value: bytes) -> None:
        self._value = value

    def digest(self) -> bytes:
        return self._value

    def hexdigest(self) -> str:
        return self._value.hex()


def test_the_known_signature_is_that_of_the_standard() -> None:
    """RFC 8032, section 7.1, test 2, gives the secret key as well: the public key and the signature follow from it."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signing = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    assert signing.sign(b"\x72").hex().startswith("92a009a9f0d4cab8")
    assert signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex().startswith("3d4017c3e843895a")
