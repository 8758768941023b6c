"""The Feature Key as seen, held against its certificate: the right one, another one, a wrong answer, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.presence import NOT_LOOKED_YET, Sighting, judged, refuse_certificate

if TYPE_CHECKING:
    from tests.policy.conftest import Site


@pytest.fixture
def proving(open_site: Callable[..., Site]) -> tuple[Certificate, Sighting]:
    """A certificate with pairs, and the sighting of its key with a right answer."""
    site = open_site()
    certificate = site.certify(proving=True)
    return certificate, msgspec.structs.replace(site.enforcer.feature_key, finding="Read.")


@pytest.fixture
def silent(open_site: Callable[..., Site]) -> tuple[Certificate, Sighting]:
    """A certificate without pairs, and the sighting of its card."""
    site = open_site()
    return site.certify(), msgspec.structs.replace(site.enforcer.feature_key, finding="Read.")


def changed(sighting: Sighting, **fields: object) -> Sighting:
    return msgspec.structs.replace(sighting, **fields)


@pytest.mark.parametrize(
    "state", ["absent", "garbled", "busy", "fault", "no-permission", "touch-required", "not-looked-yet"]
)
def test_what_was_not_read_stays_as_the_reader_said(proving: tuple[Certificate, Sighting], state: str) -> None:
    sighting = Sighting(state=state, finding="As the reader said.", reader="slot")
    assert judged(sighting, proving[0]) is sighting
    assert judged(sighting, None) is sighting


def test_a_key_without_a_certificate_is_uncertified(silent: tuple[Certificate, Sighting]) -> None:
    assert judged(silent[1], None).state == "uncertified"


def test_a_card_with_the_right_number_is_present(silent: tuple[Certificate, Sighting]) -> None:
    certificate, sighting = silent
    seen = judged(sighting, certificate)
    assert (seen.state, certificate.serial in seen.finding) == ("present", True)


def test_a_key_that_answers_right_is_present(proving: tuple[Certificate, Sighting]) -> None:
    seen = judged(proving[1], proving[0])
    assert seen.state == "present"
    assert "proved itself" in seen.finding


WRONG_ANSWERS: list[dict[str, object]] = [
    {"answer": b"wrong"},
    {"answer": b""},
    {"answer": None},
    {"challenge": (8).to_bytes(32, "big")},
    {"challenge": b"one that the vendor never asked", "answer": b"rightone that the vendor never asked"},
]


@pytest.mark.parametrize("fields", WRONG_ANSWERS)
def test_a_key_with_the_right_number_and_no_right_answer_is_told_apart(
    proving: tuple[Certificate, Sighting], fields: dict[str, object]
) -> None:
    certificate, sighting = proving
    assert judged(changed(sighting, **fields), certificate).state == "wrong-answer"


@pytest.mark.parametrize("fields", [{"challenge": None}, {"challenge": None, "answer": None}])
def test_a_key_that_was_not_asked_yet_is_neither_right_nor_wrong(
    proving: tuple[Certificate, Sighting], fields: dict[str, object]
) -> None:
    certificate, sighting = proving
    assert judged(changed(sighting, **fields), certificate).state == "not-looked-yet"


@pytest.mark.parametrize(
    "fields", [{"hardware_id": "4712"}, {"kind": "sd-card"}, {"hardware_id": "4712", "answer": None}]
)
def test_another_key_is_a_wrong_key_whatever_it_answers(
    proving: tuple[Certificate, Sighting], fields: dict[str, object]
) -> None:
    certificate, sighting = proving
    seen = judged(changed(sighting, **fields), certificate)
    assert seen.state == "wrong-key"
    assert certificate.hardware_id in seen.finding


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, None),
        ({"hardware_id": None}, Verdict.KEY_NOT_READABLE),
        ({"hardware_id": "00"}, Verdict.OTHER_HARDWARE),
        ({"kind": "usb-otp"}, Verdict.OTHER_HARDWARE),
        ({"simulated": True}, Verdict.TEST_MISMATCH),
    ],
)
def test_a_certificate_is_refused_with_the_reason(
    silent: tuple[Certificate, Sighting], fields: dict[str, object], verdict: Verdict | None
) -> None:
    certificate, sighting = silent
    refusal = refuse_certificate(certificate, changed(sighting, **fields))
    assert (refusal.verdict if refusal else None) is verdict


def test_a_test_certificate_is_for_simulated_keys_and_for_nothing_else(open_site: Callable[..., Site]) -> None:
    site = open_site()
    certificate = site.certify(test=True)
    sighting = site.enforcer.feature_key
    assert refuse_certificate(certificate, sighting) is None
    real = refuse_certificate(certificate, changed(sighting, simulated=False))
    assert real is not None
    assert real.verdict is Verdict.TEST_MISMATCH
    assert judged(changed(sighting, state="present", simulated=False), certificate).state == "wrong-key"


def test_before_the_first_look_no_certificate_can_be_taken(silent: tuple[Certificate, Sighting]) -> None:
    refusal = refuse_certificate(silent[0], NOT_LOOKED_YET)
    assert refusal is not None
    assert refusal.verdict is Verdict.KEY_NOT_READABLE
