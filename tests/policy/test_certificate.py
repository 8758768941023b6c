"""The Feature Key certificate: every field is read as it was signed, and named when it is wrong."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.certificate import (
    KIND,
    PAIRS,
    Certificate,
    Pair,
    answer_digest,
    certificate_body,
    read_certificate,
)
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.signedtext import key_id, seal

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = key_id(VENDOR.public_key())
KEYS = {SIGNER: VENDOR.public_key()}
ANSWERS = {bytes([number]) * 32: bytes([number]) * 20 for number in range(PAIRS)}
SERIAL = "120123456789"

CARD = Certificate(
    serial="110123456789",
    catalog="ip-office",
    kind="sd-card",
    hardware_id="035344535530384780deadbeef0136",
    issued=datetime.date(2026, 1, 31),
    test=False,
    rescue_anchor=bytes(range(20)),
    rescue_days=3650,
)
USB = Certificate(
    serial=SERIAL,
    catalog="ip-office",
    kind="usb-otp",
    hardware_id="7654321",
    issued=datetime.date(2028, 2, 29),
    test=True,
    rescue_anchor=bytes(20),
    rescue_days=1,
    pairs=tuple(Pair(challenge, answer_digest(SERIAL, answer)) for challenge, answer in ANSWERS.items()),
)


def sealed(body: str) -> str:
    return seal(KIND, body, SIGNER, VENDOR.sign)


def refusal(body: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read_certificate(sealed(body), KEYS)
    return caught.value


@pytest.mark.parametrize("certificate", [CARD, USB], ids=["card", "usb"])
def test_what_is_signed_is_read(certificate: Certificate) -> None:
    assert read_certificate(sealed(certificate_body(certificate)), KEYS) == certificate


def test_the_body_is_written_as_ever() -> None:
    assert certificate_body(CARD) == (
        "Serial: 110123456789\n"
        "Catalog: ip-office\n"
        "Kind: sd-card\n"
        "Hardware-Id: 035344535530384780deadbeef0136\n"
        "Issued: 2026-01-31\n"
        "Test: no\n"
        "Rescue: 000102030405060708090a0b0c0d0e0f10111213 3650"
    )
    assert certificate_body(USB).split("\n")[5] == "Test: yes"
    assert certificate_body(USB).split("\n")[9] == f"Challenge: {'01' * 32}"
    assert certificate_body(USB).split("\n")[10].startswith("Answer: ")
    assert max(len(line) for line in certificate_body(USB).split("\n")) <= 76  # mail programs wrap behind 76


def test_an_answer_is_kept_as_a_digest_over_label_serial_and_answer() -> None:
    fields = (b"featurekeyd answer", SERIAL.encode(), bytes(20))
    text = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert answer_digest(SERIAL, bytes(20)) == hashlib.sha256(text).digest()


def test_only_the_right_answer_to_a_challenge_of_the_certificate_is_good() -> None:
    for challenge, answer in ANSWERS.items():
        assert USB.answered_by(challenge, answer)
        assert not USB.answered_by(challenge, b"\xff" + answer[1:])
    first, second = list(ANSWERS)[:2]
    assert not USB.answered_by(first, ANSWERS[second])
    assert not USB.answered_by(b"\xff" * 32, bytes(20))
    assert not CARD.answered_by(first, ANSWERS[first])


@pytest.mark.parametrize("field", ["Serial", "Catalog", "Kind", "Hardware-Id", "Issued", "Test", "Rescue"])
def test_a_field_missing_or_twice_is_named(field: str) -> None:
    lines = certificate_body(CARD).split("\n")
    mine = next(line for line in lines if line.startswith(f"{field}: "))
    assert f"'{field}' is missing" in str(refusal("\n".join(line for line in lines if line != mine)))
    assert f"'{field}' is there more than once" in str(refusal("\n".join([*lines, mine])))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("110123456789", "11012345678", "'Serial' is '11012345678' instead of 12 digits"),
        ("110123456789", "1101234567890", "instead of 12 digits"),
        ("110123456789", "11012345678\u0669", "instead of 12 digits"),
        ("sd-card", "sd-mmc", "'Kind' is 'sd-mmc'"),
        ("2026-01-31", "2026-02-29", "'Issued' is '2026-02-29' instead of a date"),
        ("Test: no", "Test: No", "'Test' is 'No' instead of yes or no"),
        ("0001020304", "00010203", "'Rescue' is not 40 hexadecimal digits"),
        ("13 3650", "13 -1", "'Rescue' is not"),
        ("13 3650", "13", "'Rescue' is not"),
        ("13 3650", "13 100000", "'Rescue' is not"),
    ],
)
def test_a_wrong_value_is_named(old: str, new: str, said: str) -> None:
    error = refusal(certificate_body(CARD).replace(old, new))
    assert error.finding.verdict is Verdict.BAD_DOCUMENT
    assert said in str(error)


def test_a_key_that_can_answer_has_64_pairs_and_no_other_has_any() -> None:
    lines = certificate_body(USB).split("\n")
    assert "has 64 of each, not 64 challenges and 63 answers" in str(refusal("\n".join(lines[:-1])))
    assert "has 64 of each, not 63 challenges and 63 answers" in str(refusal("\n".join(lines[:-2])))
    assert "has 64 of each, not 65 challenges and 65 answers" in str(refusal("\n".join([*lines, *lines[-2:]])))
    assert "has 0 of each, not 0 challenges and 1 answers" in str(refusal(f"{certificate_body(CARD)}\n{lines[-1]}"))


def test_a_broken_pair_is_named_by_its_line() -> None:
    lines = certificate_body(USB).split("\n")
    lines[10] = lines[10][:-1]
    error = refusal("\n".join(lines))
    assert "'Answer'" in str(error)
    assert error.finding.line == 12  # the BEGIN line is the first


@pytest.mark.parametrize("brought", ["", "hello", certificate_body(CARD)])
def test_a_text_that_is_no_certificate_is_unreadable(brought: str) -> None:
    with pytest.raises(Unreadable, match="missing"):
        read_certificate(brought, KEYS)


FIELD = st.sampled_from(["Serial", "Catalog", "Kind", "Hardware-Id", "Issued", "Test", "Rescue", "Challenge", "Answer"])
VALUE = st.sampled_from(["110123456789", "sd-card", "usb-otp", "2026-01-31", "yes", "00" * 20 + " 5", "ab" * 32])
LINES = st.tuples(FIELD, VALUE | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)).map(": ".join)


@relaxed
@given(st.lists(LINES | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=12).map("\n".join))
def test_no_signed_body_raises_anything_but_unreadable(body: str) -> None:
    try:
        read = read_certificate(sealed(body), KEYS)
    except Unreadable:
        return
    assert isinstance(read, Certificate)
