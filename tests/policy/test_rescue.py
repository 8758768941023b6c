"""Rescue codes on the host: which day a code is of, when it opens, for how long, and that it opens once."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy import rescue
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.licensekey import ALPHABET, MAX_TYPED, read_key
from featurekeyd.policy.rescue import (
    OPEN_SECONDS,
    Opening,
    Rescued,
    RescueMark,
    RescueRefusal,
    RescueVerdict,
    check_rescue,
    day_of_code,
    read_code,
    rescue_step,
    write_code,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

SEED = bytes(range(20))
DAYS = 400
ISSUED = datetime.date(2026, 1, 31)
SERIAL = "110123456789"
DAY = datetime.timedelta(days=1)


def hashed(value: bytes, steps: int) -> bytes:
    for _ in range(steps):
        value = rescue_step(value)
    return value


CERTIFICATE = Certificate(
    serial=SERIAL,
    catalog="ip-office",
    kind="sd-card",
    hardware_id="035344535530384780deadbeef0136",
    issued=ISSUED,
    test=False,
    rescue_anchor=hashed(SEED, DAYS),
    rescue_days=DAYS,
)


def code_of(day: int) -> str:
    return write_code(hashed(SEED, DAYS - day))


def tried(text: str, today: datetime.date, used: RescueMark | None = None) -> Rescued | RescueRefusal:
    return check_rescue(text, CERTIFICATE, used, today)


def verdict(text: str, today: datetime.date, used: RescueMark | None = None) -> RescueVerdict:
    refusal = tried(text, today, used)
    assert isinstance(refusal, RescueRefusal)
    assert refusal.message
    assert refusal.remedy
    return refusal.verdict


# How it is written and read


@given(st.binary(min_size=20, max_size=20))
def test_what_is_written_is_read_again(code: bytes) -> None:
    text = write_code(code)
    assert read_code(text) == code
    assert [len(group) for group in text.split("-")] == [4] * 8


def test_a_code_is_the_same_in_any_of_the_ways_people_write_it() -> None:
    code = bytes(19) + b"\x21"
    assert write_code(code).endswith("0011")
    for text in ("0" * 30 + "11", "o" * 30 + "iL", " 0000\u20130000 0000\t" + "0" * 18 + "l\u00a0I "):
        assert read_code(text) == code


@relaxed
@given(st.text(st.sampled_from(ALPHABET + "abcilo -\t\u2010\u2011\u2012\u2013\u00a0U!\u212a\u0130"), max_size=70))
def test_it_is_read_with_the_tolerance_of_license_keys(text: str) -> None:
    code, key = read_code(text), read_key(text)
    refused_by_form = isinstance(key, Finding) and key.verdict == "not_a_key"
    assert isinstance(code, RescueRefusal) == refused_by_form
    if isinstance(code, RescueRefusal) and isinstance(key, Finding):
        assert (code.verdict, code.position) == (RescueVerdict.NOT_A_CODE, key.position)


@relaxed
@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    assert isinstance(tried(text, ISSUED), RescueRefusal)


def test_a_text_that_is_no_code_is_told_why() -> None:
    assert "2 characters instead of 32" in str(read_code("AB"))
    assert "33 characters instead of 32" in str(read_code(code_of(1) + "0"))
    assert "Character 2 is 'U'" in str(read_code("0U" + "0" * 30))
    assert f"{MAX_TYPED + 1} characters" in str(read_code(" " * (MAX_TYPED + 1)))
    assert read_code("0" * 32 + " " * (MAX_TYPED - 32)) == bytes(20)


# Which day it is of


@given(st.integers(1, DAYS))
@relaxed
def test_a_code_names_its_day(day: int) -> None:
    assert day_of_code(hashed(SEED, DAYS - day), CERTIFICATE) == ISSUED + day * DAY


def test_the_anchor_and_what_lies_beyond_it_or_before_the_seed_are_no_codes() -> None:
    for code in (CERTIFICATE.rescue_anchor, rescue_step(CERTIFICATE.rescue_anchor)):
        assert day_of_code(code, CERTIFICATE) is None
        assert verdict(write_code(code), ISSUED) is RescueVerdict.UNKNOWN_CODE
    longer = msgspec.structs.replace(CERTIFICATE, rescue_days=DAYS - 1)
    assert day_of_code(SEED, CERTIFICATE) == ISSUED + DAYS * DAY
    assert day_of_code(SEED, longer) is None


@relaxed
@given(st.integers(1, DAYS), st.integers(0, 31), st.integers(1, 31))
def test_any_single_wrong_character_is_refused(day: int, place: int, other: int) -> None:
    characters = [*code_of(day).replace("-", "")]
    characters[place] = ALPHABET[(ALPHABET.index(characters[place]) + other) % 32]
    refusal = tried("".join(characters), ISSUED + day * DAY)
    assert isinstance(refusal, RescueRefusal)
    assert refusal.verdict is RescueVerdict.UNKNOWN_CODE
    assert refusal.position is None
    assert "nobody can say which" in refusal.message


def test_the_code_of_another_serial_or_certificate_is_told_with_both() -> None:
    refusal = tried(write_code(bytes(20)), ISSUED)
    assert isinstance(refusal, RescueRefusal)
    assert SERIAL in refusal.message
    assert str(ISSUED) in refusal.message


def test_no_text_costs_more_steps_than_the_chain_has_days(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[bytes] = []

    def counted(value: bytes) -> bytes:
        steps.append(value)
        return rescue_step(value)

    monkeypatch.setattr(rescue, "rescue_step", counted)
    assert verdict("0" * 32, ISSUED) is RescueVerdict.UNKNOWN_CODE
    assert len(steps) == DAYS
    assert verdict("U" * 32, ISSUED) is RescueVerdict.NOT_A_CODE
    assert len(steps) == DAYS


# When it opens


@pytest.mark.parametrize(("off", "opens"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_it_opens_on_its_day_and_one_day_around_it(off: int, opens: bool) -> None:
    today = ISSUED + (100 + off) * DAY
    result = tried(code_of(100), today)
    assert isinstance(result, Rescued) == opens
    if isinstance(result, RescueRefusal):
        assert result.verdict is RescueVerdict.OTHER_DAY
        assert f"is of {ISSUED + 100 * DAY}, and this host takes {today} for today" in result.message


def test_the_first_code_opens_on_the_day_of_the_certificate() -> None:
    assert isinstance(tried(code_of(1), ISSUED), Rescued)


def test_a_host_with_a_wrong_clock_takes_the_code_of_the_date_it_believes_in() -> None:
    today = ISSUED + 3 * DAY  # its battery is empty: it is as late as its newest document says
    assert verdict(code_of(200), today) is RescueVerdict.OTHER_DAY
    assert isinstance(tried(code_of(3), today), Rescued)


def test_a_code_opens_once_and_with_it_go_those_of_all_days_before() -> None:
    used, today = None, ISSUED + 100 * DAY
    first = tried(code_of(100), today, used)
    assert isinstance(first, Rescued)
    assert first.mark == RescueMark(day=today, count=1)
    for day in (100, 99):
        assert verdict(code_of(day), today, first.mark) is RescueVerdict.ALREADY_USED
    # Worked out from the first by hashing on, long after its day too.
    assert verdict(write_code(rescue_step(hashed(SEED, DAYS - 100))), today, first.mark) is RescueVerdict.ALREADY_USED
    second = tried(code_of(101), today, first.mark)
    assert isinstance(second, Rescued)
    assert second.mark == RescueMark(day=today + DAY, count=2)


def test_a_restored_backup_brings_no_used_code_back() -> None:
    older, newer = RescueMark(day=ISSUED, count=5), RescueMark(day=ISSUED + DAY, count=2)
    assert older.merged(newer) == newer.merged(older) == RescueMark(day=ISSUED + DAY, count=5)


def test_codes_of_one_certificate_open_nothing_under_a_later_one() -> None:
    later = msgspec.structs.replace(
        CERTIFICATE, issued=ISSUED + 50 * DAY, rescue_anchor=hashed(b"another chain of 20", DAYS)
    )
    for day in range(1, 101):
        code = write_code(hashed(SEED, DAYS - day))
        assert isinstance(check_rescue(code, later, None, ISSUED + (50 + day) * DAY), RescueRefusal)


# For how long

OPENING = Opening(serial=SERIAL, day=ISSUED)


@pytest.mark.parametrize(
    ("drained", "left"), [(0, OPEN_SECONDS), (OPEN_SECONDS - 1, 1), (OPEN_SECONDS, 0), (OPEN_SECONDS + 1, 0)]
)
def test_it_is_open_for_seven_days_of_running_time(drained: float, left: float) -> None:
    assert OPENING.advanced(drained).seconds_left(SERIAL, ISSUED) == left
    assert OPEN_SECONDS == 7 * 24 * 3600


def test_time_that_seems_to_run_backward_gives_nothing_back() -> None:
    assert OPENING.advanced(100).advanced(-50).seconds_left(SERIAL, ISSUED) == OPEN_SECONDS - 100


@pytest.mark.parametrize(("days", "open_"), [(7, True), (8, True), (9, False)])
def test_it_ends_with_a_date_too_however_long_the_host_was_off(days: int, open_: bool) -> None:
    assert (OPENING.seconds_left(SERIAL, ISSUED + days * DAY) > 0) == open_


def test_the_date_takes_nothing_from_a_code_that_is_entered_a_day_late() -> None:
    late = tried(code_of(10), ISSUED + 11 * DAY)
    assert isinstance(late, Rescued)
    # Entered in the last second of the eleventh day, it runs into the last second of the eighteenth.
    assert late.opening.last_date == ISSUED + 18 * DAY


def test_it_opens_nothing_for_another_serial() -> None:
    assert OPENING.seconds_left("110000000001", ISSUED) == 0
    assert OPENING.seconds_left(None, ISSUED) == 0
