"""Check evidence: what is written is read, one nonce opens one answer, and a no beats everything."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy import checkevidence
from featurekeyd.policy.checkevidence import (
    KIND,
    MAX_OPEN,
    MAX_REMARK,
    MAX_REMARKS,
    CheckEvidence,
    CheckResult,
    check_body,
    could_not_ask,
    judge_check,
    read_check,
    with_nonce,
    without_nonce,
)
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.signedtext import key_id, seal

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = key_id(VENDOR.public_key())
KEYS = {SIGNER: VENDOR.public_key()}
SERIAL = "110123456789"
NONCE = "5f" * 16
CHECKED = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
UNTIL = CHECKED + datetime.timedelta(hours=72)
NOW = CHECKED.timestamp() + 600


def key(sequence: int = 0) -> LicenseKey:
    return make_key(
        feature_code=10,
        instances=8,
        issued=CHECKED.date(),
        term=Term.PERPETUAL,
        sequence=sequence,
        catalog="ip-office",
        serial=SERIAL,
    )


GOOD = CheckEvidence(
    serial=SERIAL,
    catalog="ip-office",
    number=4,
    nonce=NONCE,
    checked=CHECKED,
    until=UNTIL,
    newest_list=7,
    revoked=(key(0), key(1)),
    remarks=("The state is not as far as it was.",),
    audit_head=Head(88, "77" * 32),
)
RETIRED = msgspec.structs.replace(GOOD, retired=True)


def sealed(body: str) -> str:
    return seal(KIND, body, SIGNER, VENDOR.sign)


def refusal(old: str, new: str) -> Unreadable:
    body = check_body(GOOD)
    assert old in body
    with pytest.raises(Unreadable) as caught:
        read_check(sealed(body.replace(old, new)), KEYS)
    return caught.value


# The text


def test_the_text_is_written_as_ever() -> None:
    assert check_body(msgspec.structs.replace(GOOD, revoked=(key(),))) == (
        "Serial: 110123456789\n"
        "Catalog: ip-office\n"
        "Check: 4\n"
        "Nonce: 5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f\n"
        "Checked: 2026-01-31T12:00:00Z\n"
        "Until: 2026-02-03T12:00:00Z\n"
        "Retired: no\n"
        "List: 7\n"
        f"Revoked: {key().text}\n"
        "Remark: The state is not as far as it was.\n"
        "Audit-Head: 88 7777777777777777777777777777777777777777777777777777777777777777"
    )


def test_an_answer_of_an_earlier_release_names_no_audit() -> None:
    without = msgspec.structs.replace(GOOD, audit_head=None)
    assert "Audit-Head" not in check_body(without)
    assert read_check(sealed(check_body(without)), KEYS) == without


def test_an_audit_head_that_is_none_is_refused() -> None:
    message = refusal("Audit-Head: 88 77", "Audit-Head: 88 7x").finding.message
    assert message == "The field 'Audit-Head' is not a number and 64 hexadecimal digits."


@relaxed
@given(
    number=st.integers(0, 999_999_999),
    nonce=st.binary(min_size=16, max_size=16).map(bytes.hex),
    start=st.integers(0, 200_000_000_000),
    seconds=st.integers(1, 30 * 86_400),
    retired=st.booleans(),
    newest_list=st.integers(0, 999_999_999),
    revoked=st.integers(0, 3),
)
def test_what_is_written_is_read_again(
    number: int, nonce: str, start: int, seconds: int, retired: bool, newest_list: int, revoked: int
) -> None:
    checked = datetime.datetime.fromtimestamp(start, datetime.UTC)
    evidence = CheckEvidence(
        serial=SERIAL,
        catalog="ip-office",
        number=number,
        nonce=nonce,
        checked=checked,
        until=checked + datetime.timedelta(seconds=seconds),
        retired=retired,
        newest_list=newest_list,
        revoked=tuple(map(key, range(revoked))),
    )
    assert read_check(sealed(check_body(evidence)), KEYS) == evidence


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f"Serial: {SERIAL}", "Serial: 1", "'Serial' is not 12 digits"),
        ("Check: 4", "Check: 04", "'Check' is not a number"),
        ("Check: 4", "Check: 4\nCheck: 5", "'Check' is there more than once"),
        ("Check: 4\n", "", "'Check' is missing"),
        ("Nonce: 5f", "Nonce: 5F", "'Nonce' is not 32 hexadecimal digits"),
        ("12:00:00Z\nUntil", "12:00Z\nUntil", "'Checked' is not a time such as"),
        ("2026-01-31T", "2026-02-31T", "'Checked' is '2026-02-31T12:00:00Z', which no calendar has"),
        ("2026-02-03T", "2026-01-31T", "'Until' is not within 30 days"),
        ("2026-02-03T12:00:00Z", "2026-03-02T12:00:01Z", "'Until' is not within 30 days"),
        ("Retired: no", "Retired: maybe", "'Retired' is not yes or no"),
        ("List: 7", "List: x", "'List' is not a number"),
        ("Remark: The", "The", "Line 12 is no field"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, said: str) -> None:
    error = refusal(old, new)
    assert error.finding.verdict is Verdict.BAD_DOCUMENT
    assert said in str(error)


def test_thirty_days_are_the_most_that_is_read() -> None:
    most = msgspec.structs.replace(GOOD, until=CHECKED + datetime.timedelta(days=30))
    assert read_check(sealed(check_body(most)), KEYS) == most


def test_a_mistyped_revoked_key_is_named_by_its_line() -> None:
    error = refusal(key(1).text, "5" + key(1).text[1:])
    assert error.finding.verdict is Verdict.MISTYPED
    assert (error.finding.line, "Line 11" in str(error)) == (11, True)


def test_the_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    remarks = ("x" * MAX_REMARK,) * MAX_REMARKS
    most = msgspec.structs.replace(GOOD, remarks=remarks)
    assert read_check(sealed(check_body(most)), KEYS) == most
    for wrong in ((*remarks, "y"), ("x" * (MAX_REMARK + 1),), ("a\x1b[2J",)):
        with pytest.raises(Unreadable, match="remark"):
            read_check(sealed(check_body(msgspec.structs.replace(GOOD, remarks=wrong))), KEYS)
    monkeypatch.setattr(checkevidence, "MAX_KEYS", 2)
    assert read_check(sealed(check_body(GOOD)), KEYS) == GOOD
    monkeypatch.setattr(checkevidence, "MAX_KEYS", 1)
    with pytest.raises(Unreadable, match="more than 1 revoked keys"):
        read_check(sealed(check_body(GOOD)), KEYS)


def test_only_the_vendor_answers_and_no_other_document_passes_for_an_answer() -> None:
    text = sealed(check_body(GOOD))
    with pytest.raises(Unreadable) as caught:
        read_check(text.replace("Check: 4", "Check: 5"), KEYS)
    assert caught.value.finding.verdict is Verdict.BAD_SIGNATURE
    with pytest.raises(Unreadable) as caught:
        read_check(text, {})
    assert caught.value.finding.verdict is Verdict.UNKNOWN_SIGNER
    other = seal("LICENSE LIST", check_body(GOOD), SIGNER, VENDOR.sign)
    with pytest.raises(Unreadable):
        read_check(other.replace("LICENSE LIST", KIND), KEYS)


@relaxed
@given(st.text() | st.lists(st.sampled_from(check_body(GOOD).split("\n")) | st.text(max_size=20)).map("\n".join))
def test_no_text_raises_anything_but_unreadable(body: str) -> None:
    for text in (body, sealed(body)):
        try:
            read = read_check(text, KEYS)
        except Unreadable:
            continue
        assert isinstance(read, CheckEvidence)


# What it means


def test_an_answer_to_an_open_nonce_passes_for_as_long_as_it_says() -> None:
    judgment = judge_check(GOOD, SERIAL, {NONCE}, 3, NOW)
    assert (judgment.result, judgment.passed, judgment.told_no) == (CheckResult.PASSED, True, False)
    assert judgment.seconds == 72 * 3600 - 600
    assert judgment.evidence == GOOD
    assert "good until 2026-02-03T12:00:00Z" in judgment.message


def test_one_nonce_opens_one_answer() -> None:
    open_nonces = with_nonce((), NONCE)
    assert judge_check(GOOD, SERIAL, open_nonces, 3, NOW).passed
    open_nonces = without_nonce(open_nonces, NONCE)
    again = judge_check(GOOD, SERIAL, open_nonces, 4, NOW)
    assert (again.result, again.evidence) == (CheckResult.OLDER_CHECK, None)
    # A second answer to the same request has another number, and comes too late all the same.
    second = msgspec.structs.replace(GOOD, number=5)
    assert judge_check(second, SERIAL, open_nonces, 4, NOW).result is CheckResult.NOT_ASKED


@pytest.mark.parametrize(("last", "result"), [(3, CheckResult.PASSED), (4, CheckResult.OLDER_CHECK)])
def test_the_number_only_advances(last: int, result: CheckResult) -> None:
    assert judge_check(GOOD, SERIAL, {NONCE}, last, NOW).result is result


@pytest.mark.parametrize(
    ("after", "result", "left"),
    [(-1, CheckResult.PASSED, 1), (0, CheckResult.CHECK_OVER, 0), (1, CheckResult.CHECK_OVER, 0)],
)
def test_it_is_good_until_the_second_it_says(after: int, result: CheckResult, left: float) -> None:
    now = UNTIL.timestamp() + after
    judgment = judge_check(GOOD, SERIAL, {NONCE}, 3, now)
    assert (judgment.result, judgment.seconds) == (result, left)
    assert GOOD.seconds_left(SERIAL, now) == left


def test_a_host_whose_clock_is_behind_gains_nothing_by_it() -> None:
    assert judge_check(GOOD, SERIAL, {NONCE}, 3, 0.0).seconds == 72 * 3600


def test_an_answer_for_another_system_changes_nothing() -> None:
    for serial in ("110000000001", None):
        for evidence in (GOOD, RETIRED):
            judgment = judge_check(evidence, serial, {NONCE}, 0, NOW)
            assert (judgment.result, judgment.evidence) == (CheckResult.OTHER_SERIAL, None)
            assert evidence.seconds_left(serial, NOW) == 0
            assert not evidence.says_no_to(serial)


@pytest.mark.parametrize(("nonces", "now"), [({NONCE}, NOW), (set[str](), NOW), ({NONCE}, UNTIL.timestamp() + 1e9)])
def test_a_signed_no_needs_no_nonce_and_never_gets_old(nonces: set[str], now: float) -> None:
    judgment = judge_check(RETIRED, SERIAL, nonces, 3, now)
    assert (judgment.result, judgment.told_no, judgment.passed) == (CheckResult.TOLD_NO, True, False)
    assert judgment.evidence == RETIRED
    assert judgment.seconds == 0
    assert RETIRED.seconds_left(SERIAL, NOW) == 0
    assert RETIRED.says_no_to(SERIAL)


def test_a_no_is_taken_back_only_by_a_newer_answer_to_a_request_of_this_host() -> None:
    again = msgspec.structs.replace(GOOD, number=RETIRED.number + 1)
    took = [judge_check(again, SERIAL, nonces, RETIRED.number, NOW).result for nonces in ([again.nonce], [])]
    assert took == [CheckResult.PASSED, CheckResult.NOT_ASKED]
    older = msgspec.structs.replace(GOOD, number=RETIRED.number)
    assert judge_check(older, SERIAL, [older.nonce], RETIRED.number, NOW).result is CheckResult.OLDER_CHECK
    assert "by mistake" in checkevidence._REMEDY[CheckResult.TOLD_NO]


def test_not_to_be_able_to_ask_is_no_no() -> None:
    judgment = could_not_ask("no route to host.")
    assert (judgment.passed, judgment.told_no, judgment.evidence) == (False, False, None)
    assert judgment.result is CheckResult.COULD_NOT_ASK
    assert "no route to host" in judgment.message
    assert "featurekeyctl check --request FILE" in judgment.remedy, "any other request has no nonce to answer"


def test_every_result_but_a_pass_has_a_cure() -> None:
    cures = {result: checkevidence._REMEDY[result] for result in CheckResult}
    assert [result for result, cure in cures.items() if not cure] == [CheckResult.PASSED]


def test_the_oldest_nonce_is_given_up_and_one_asked_for_twice_counts_once() -> None:
    open_nonces: tuple[str, ...] = ()
    for number in range(MAX_OPEN + 1):
        open_nonces = with_nonce(open_nonces, f"{number:032x}")
    assert open_nonces == tuple(f"{number:032x}" for number in range(1, MAX_OPEN + 1))
    assert with_nonce(open_nonces, open_nonces[0]) == (*open_nonces[1:], open_nonces[0])
    assert without_nonce(open_nonces, "none") == open_nonces
