"""The Feature Key as seen, held against its certificate: the right one, another one, a wrong answer, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.presence import (
    FLEETING,
    MISSED_LOOKS,
    NOT_LOOKED_YET,
    Debounce,
    Presence,
    Sighting,
    judged,
    refuse_certificate,
)

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


def test_another_key_that_can_prove_nothing_is_told_as_another_key(proving: tuple[Certificate, Sighting]) -> None:
    certificate, sighting = proving
    refusing = changed(sighting, state="touch-required", finding="It wants a touch.", answer=None, challenge=None)
    assert judged(refusing, certificate) is refusing
    assert judged(changed(refusing, hardware_id="4712"), certificate).state == "wrong-key"


def test_what_has_no_number_is_never_the_right_key(silent: tuple[Certificate, Sighting]) -> None:
    assert judged(changed(silent[1], hardware_id=None), silent[0]).state == "wrong-key"


# What a few looks that miss the key amount to

POLL = 5.0
CARD = Sighting(state="present", finding="Read.", reader="slot", kind="sd-card", hardware_id="4711")
GONE = Sighting(state="absent", finding="no card answers", reader="slot")
FAST = [Sighting(state=state, finding="Odd.", reader="slot") for state in sorted(FLEETING)]
CERTAIN = ["touch-required", "unconfigured", "unsupported", "several", "hanging", "present"]


def presence(*looks: tuple[Sighting, float]) -> Presence:
    """The presence after these looks at these boot times, with polls of 5 s."""
    made = Presence(Debounce.of_polls(POLL))
    for sighting, boot in looks:
        made.look(sighting, boot)
    return made


@pytest.mark.parametrize("missed", FAST)
def test_a_key_that_one_look_misses_is_still_believed_in(missed: Sighting) -> None:
    seen = presence((CARD, 100), (missed, 105))
    assert (seen.believed, seen.in_doubt, seen.missed, seen.missed_since) == (CARD, True, missed, 105)


@pytest.mark.parametrize("missed", FAST)
def test_a_key_that_polls_go_on_missing_is_gone_since_the_first_of_them(missed: Sighting) -> None:
    seen = presence((CARD, 100), (missed, 105), (missed, 110))
    assert seen.in_doubt
    seen.look(missed, 115)
    assert (seen.believed, seen.in_doubt, seen.missed_since) == (missed, False, 105)


@pytest.mark.parametrize("misses", [1, 2, 3, 50])
def test_a_key_that_is_back_is_well_at_the_first_look(misses: int) -> None:
    seen = presence((CARD, 100), *[(GONE, 105 + POLL * number) for number in range(misses)])
    seen.look(CARD, 1000)
    assert (seen.believed, seen.in_doubt, seen.missed, seen.missed_since) == (CARD, False, None, None)


def test_each_row_of_misses_is_counted_on_its_own() -> None:
    seen = presence((CARD, 100), (GONE, 105), (GONE, 110), (CARD, 115), (GONE, 120), (GONE, 125))
    assert (seen.in_doubt, seen.missed_since) == (True, 120)


def test_what_is_missed_may_be_missed_in_different_ways() -> None:
    seen = presence((CARD, 100), (FAST[0], 105), (FAST[1], 110), (GONE, 115))
    assert (seen.believed, seen.missed_since) == (GONE, 105)


def test_many_looks_in_one_moment_do_not_make_a_key_gone() -> None:
    seen = presence((CARD, 100), *[(GONE, 105 + number / 10) for number in range(50)])
    assert seen.in_doubt


@pytest.mark.parametrize(("third", "in_doubt"), [(112.4, True), (112.5, False)])
def test_the_looks_that_miss_a_key_span_more_than_one_poll(third: float, in_doubt: bool) -> None:
    assert presence((CARD, 100), (GONE, 105), (GONE, 106), (GONE, third)).in_doubt is in_doubt


@pytest.mark.parametrize("looks", [1, 2])
def test_two_looks_far_apart_are_not_enough(looks: int) -> None:
    assert presence((CARD, 100), *[(GONE, 200.0 * number) for number in range(1, looks + 1)]).in_doubt


@pytest.mark.parametrize("state", CERTAIN)
def test_what_was_read_from_a_key_is_believed_at_once(state: str) -> None:
    other = changed(CARD, state=state, hardware_id="4712")
    seen = presence((CARD, 100), (other, 105))
    assert (seen.believed, seen.in_doubt) == (other, False)


@pytest.mark.parametrize("missed", FAST)
def test_nobody_doubts_that_a_key_is_missing_that_was_never_there(missed: Sighting) -> None:
    seen = presence((missed, 100))
    assert (seen.believed, seen.in_doubt) == (missed, False)
    seen.look(GONE, 105)
    assert (seen.believed, seen.in_doubt, seen.missed_since) == (GONE, False, 100)


def test_before_the_first_look_nothing_is_believed() -> None:
    assert (Presence().believed, Presence().in_doubt) == (NOT_LOOKED_YET, False)


def test_without_a_debounce_every_look_is_believed() -> None:
    seen = Presence()
    for sighting in (CARD, GONE, FAST[0], CARD):
        seen.look(sighting, 0)
        assert (seen.believed, seen.in_doubt) == (sighting, False)


def test_a_key_in_doubt_is_judged_as_it_was_and_the_doubt_is_told(silent: tuple[Certificate, Sighting]) -> None:
    certificate, sighting = silent
    seen = presence((sighting, 100), (GONE, 105)).judged(certificate)
    assert seen.state == "present"
    assert seen.finding.endswith("The newest look did not find it (absent: no card answers).")
    assert certificate.serial in seen.finding


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (CARD, "wrong-key"),
        (changed(CARD, hardware_id=None, state="no-permission"), "no-permission"),
        (changed(CARD, hardware_id=None, state="garbled"), "garbled"),
        (GONE, "absent"),
    ],
)
def test_another_key_none_a_forbidden_and_a_garbled_one_are_told_apart(
    found: Sighting, state: str, silent: tuple[Certificate, Sighting]
) -> None:
    certificate, sighting = silent
    seen = presence((sighting, 100), (found, 105), (found, 110), (found, 115))
    assert seen.judged(certificate).state == state
    seen.look(sighting, 120)
    assert seen.judged(certificate).state == "present"


@given(st.lists(st.tuples(st.sampled_from([CARD, GONE, *FAST]), st.floats(0, 30)), min_size=1))
def test_doubt_never_outlasts_three_looks_that_span_two_polls(looks: list[tuple[Sighting, float]]) -> None:
    seen, boot, missed = presence(), 0.0, list[float]()
    for sighting, later in looks:
        boot += later
        seen.look(sighting, boot)
        missed = [*missed, boot] if sighting is not CARD else []
        assert seen.missed_since == (missed[0] if missed else None)
        if sighting is CARD:
            assert seen.believed is CARD
        if len(missed) >= MISSED_LOOKS and boot - missed[0] >= 2 * POLL:
            assert not seen.in_doubt
            assert seen.believed is sighting
