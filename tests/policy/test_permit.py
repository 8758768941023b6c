"""Permits: every field is read as it was signed, and one that is not for this host is refused with the reason."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.certificate import KIND as CERTIFICATE
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.permit import KIND, MAX_NUMBER, MayChange, Permit, permit_body, read_permit, refuse_permit
from featurekeyd.policy.signedtext import key_id, seal

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = key_id(VENDOR.public_key())
KEYS = {SIGNER: VENDOR.public_key()}
HERE = "ab" * 32
PERMIT = Permit(
    serial="130123456789",
    number=7,
    may_change=(MayChange.HARDWARE, MayChange.ADDRESSES),
    issued=datetime.date(2026, 1, 31),
    until=datetime.date(2026, 2, 14),
    hardware_id=HERE,
)


def sealed(body: str, kind: str = KIND) -> str:
    return seal(kind, body, SIGNER, VENDOR.sign)


def refusal(body: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read_permit(sealed(body), KEYS)
    return caught.value


def test_the_body_is_written_as_ever() -> None:
    assert permit_body(PERMIT) == (
        "Serial: 130123456789\n"
        "Number: 7\n"
        "May-Change: hardware, addresses\n"
        f"Hardware-Id: {HERE}\n"
        "Issued: 2026-01-31\n"
        "Until: 2026-02-14"
    )


@relaxed
@given(
    st.builds(
        Permit,
        serial=st.from_regex(r"[0-9]{12}", fullmatch=True),
        number=st.integers(1, MAX_NUMBER),
        may_change=st.sampled_from([(MayChange.HARDWARE,), (MayChange.ADDRESSES,), tuple(MayChange)]),
        issued=st.dates(),
        until=st.dates(),
        hardware_id=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    )
)
def test_what_is_signed_is_read(permit: Permit) -> None:
    assert read_permit(sealed(permit_body(permit)), KEYS) == permit


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Serial: 130123456789", "Serial: 13", "'Serial' is '13' instead of 12 digits"),
        ("Number: 7", "Number: 0", "'Number' is '0' instead of a number"),
        ("Number: 7", "Number: 1000000000", "instead of a number"),
        ("Number: 7\n", "", "'Number' is missing"),
        (
            "hardware, addresses",
            "everything",
            "is 'everything'; this release knows addresses and hardware",
        ),
        ("hardware, addresses", "hardware, hardware", "each once"),
        ("hardware, addresses", "", "'May-Change' is missing"),
        (HERE, "AB" * 32, "instead of 64 hexadecimal digits"),
        (f"Hardware-Id: {HERE}", f"Hardware-Id: {HERE}\nHardware-Id: {HERE}", "more than once"),
        ("Until: 2026-02-14", "Until: soon", "'Until' is 'soon' instead of a date"),
        ("Issued: 2026-01-31\n", "", "'Issued' is missing"),
    ],
)
def test_a_wrong_field_is_named(old: str, new: str, told: str) -> None:
    body = permit_body(PERMIT)
    assert old in body
    error = refusal(body.replace(old, new, 1))
    assert told in str(error)
    assert error.finding.verdict is Verdict.BAD_DOCUMENT


def test_a_permit_that_was_changed_is_refused() -> None:
    text = sealed(permit_body(PERMIT)).replace("Until: 2026-02-14", "Until: 2036-02-14")
    with pytest.raises(Unreadable) as caught:
        read_permit(text, KEYS)
    assert caught.value.finding.verdict is Verdict.BAD_SIGNATURE


def test_a_permit_of_somebody_else_is_refused() -> None:
    with pytest.raises(Unreadable) as caught:
        read_permit(sealed(permit_body(PERMIT)), {})
    assert caught.value.finding.verdict is Verdict.UNKNOWN_SIGNER


def test_no_other_document_passes_for_a_permit() -> None:
    text = sealed(permit_body(PERMIT), CERTIFICATE).replace("FEATUREKEYD CERTIFICATE", "FEATUREKEYD PERMIT")
    with pytest.raises(Unreadable) as caught:
        read_permit(text, KEYS)
    assert caught.value.finding.verdict is Verdict.BAD_SIGNATURE


@relaxed
@given(st.text())
def test_arbitrary_texts_are_unreadable_and_nothing_else(body: str) -> None:
    with pytest.raises(Unreadable):
        read_permit(body, KEYS)
    with pytest.raises(Unreadable):
        read_permit(sealed(body), KEYS)


def verdict(permit: Permit, **changes: object) -> Verdict | None:
    about: dict[str, object] = {
        "serial": PERMIT.serial, "hardware_id": HERE, "last_used": 6, "today": PERMIT.issued, **changes
    }  # fmt: skip
    found = refuse_permit(permit, **about)  # type: ignore[arg-type] # the values are as in the call above
    if found is None:
        return None
    assert not found.accepted
    assert found.remedy
    return found.verdict


def test_a_permit_for_this_host_is_taken() -> None:
    assert verdict(PERMIT) is None
    assert verdict(msgspec.structs.replace(PERMIT, hardware_id=None), hardware_id="cd" * 32) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"serial": "130000000001"}, Verdict.OTHER_SERIAL),
        ({"serial": None}, Verdict.OTHER_SERIAL),
        ({"last_used": 7}, Verdict.ALREADY_THERE),
        ({"last_used": 8}, Verdict.ALREADY_THERE),
        ({"today": PERMIT.until}, None),
        ({"today": PERMIT.until + datetime.timedelta(days=1)}, Verdict.EXPIRED),
        ({"hardware_id": "cd" * 32}, Verdict.OTHER_HARDWARE),
    ],
)
def test_a_permit_that_is_not_for_this_host_is_refused_with_the_reason(
    changes: dict[str, object], expected: Verdict | None
) -> None:
    assert verdict(PERMIT, **changes) is expected
