"""Names of installed license keys: what names one, and what is too little."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.checksymbols import LENGTH
from featurekeyd.policy.keynames import LEAST_AT_EACH_END, LEAST_CHARACTERS, read_name
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key


def key_of(sequence: int, instances: int = 8, code: int = 2) -> LicenseKey:
    return make_key(
        feature_code=code,
        instances=instances,
        issued=datetime.date(2026, 3, 1),
        term=Term.PERPETUAL,
        sequence=sequence,
        catalog="exchange",
        serial="110123456789",
    )


KEY = key_of(1)
Keys = st.builds(key_of, st.integers(0, 1023), st.integers(1, 16383), st.integers(0, 4095))


def fits(text: str, key: LicenseKey = KEY) -> bool:
    name = read_name(text)
    return name is not None and name.fits(key)


@given(Keys, st.integers(LEAST_CHARACTERS, 32))
def test_every_beginning_of_enough_characters_names_its_key(key: LicenseKey, count: int) -> None:
    assert fits(key.text.replace("-", "")[:count], key)


@given(Keys, st.integers(LEAST_AT_EACH_END, 28), st.integers(LEAST_AT_EACH_END, 28), st.sampled_from(["…", "..."]))
def test_every_two_ends_of_enough_characters_name_their_key(key: LicenseKey, first: int, last: int, dots: str) -> None:
    whole = key.text.replace("-", "")
    assert fits(f"{whole[:first]}{dots}{whole[-last:]}", key)


@given(Keys, Keys, st.integers(LEAST_CHARACTERS, 32), st.integers(0, 28))
def test_a_name_fits_as_the_text_of_a_key_does(key: LicenseKey, other: LicenseKey, first: int, last: int) -> None:
    whole, text = key.text.replace("-", ""), other.text.replace("-", "")
    assert fits(whole[:first], other) is text.startswith(whole[:first])
    if last >= LEAST_AT_EACH_END:
        same = text.startswith(whole[:first]) and text.endswith(whole[-last:])
        assert fits(f"{whole[:first]}…{whole[-last:]}", other) is same


@given(Keys, st.integers(0, 31))
def test_one_other_character_names_another_key(key: LicenseKey, place: int) -> None:
    whole = key.text.replace("-", "")
    wrong = whole[:place] + ("2" if whole[place] != "2" else "3") + whole[place + 1 :]
    assert not fits(wrong, key)
    assert fits(f"{wrong[:8]}…{wrong[-8:]}", key) is (8 <= place < 24)


def test_a_name_may_be_written_like_a_key() -> None:
    begin, end = KEY.text[:9].lower().replace("0", "o").replace("1", "l"), KEY.text[-4:].lower()
    assert fits(f" {begin} ")
    assert fits(f"{begin[:4]} - … - {end}")


@pytest.mark.parametrize("count", range(LEAST_AT_EACH_END))
@pytest.mark.parametrize("dots", ["…", "..."])
def test_with_an_ellipsis_each_end_has_characters_enough_or_names_nothing(count: int, dots: str) -> None:
    whole = KEY.text.replace("-", "")
    assert read_name(f"{whole[:count]}{dots}{whole[-LEAST_AT_EACH_END:]}") is None
    assert read_name(f"{whole[:LEAST_AT_EACH_END]}{dots}{whole[LENGTH - count :]}") is None
    assert fits(f"{whole[:LEAST_AT_EACH_END]}{dots}{whole[-LEAST_AT_EACH_END:]}")


@pytest.mark.parametrize(
    "text", ["", "-", "40A0-0H6", "UUUUUUUU", "\u00df" * 8, "1234567\u0661", "0" * 33, "1234…5678…U9AB"]
)
def test_what_no_key_has_or_is_too_short_or_too_long_names_nothing(text: str) -> None:
    assert not fits(text)


def test_the_key_of_a_text_with_dots_is_told_by_both_ends() -> None:
    name = read_name("40a0…1jy4")
    assert name is not None
    assert (name.first, name.last) == ("40A0", "1JY4")


def test_a_name_is_held_against_ten_thousand_keys_without_writing_each_of_them() -> None:
    keys = [key_of(number % 1024, instances=number // 1024 + 1) for number in range(10_000)]
    wanted = keys[-1]
    name = read_name(wanted.short)
    assert name is not None
    started = time.process_time()
    found = [key for key in keys if name.fits(key)]
    by_name = time.process_time() - started
    started = time.process_time()
    assert len({key.text for key in keys}) == 10_000
    by_text = time.process_time() - started
    assert wanted in found
    assert by_name < by_text / 2
