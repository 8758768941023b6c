"""The 32-character license key: its bits, its terms, and what is said of one that is not good."""

from __future__ import annotations

import datetime
import hashlib
import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.checksymbols import append_checks
from featurekeyd.policy.findings import Finding, Verdict
from featurekeyd.policy.licensekey import (
    ALPHABET,
    EPOCH,
    MAX_FEATURE_CODE,
    MAX_INSTANCES,
    MAX_SEQUENCE,
    LicenseKey,
    Term,
    make_key,
    read_key,
    shorten,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

CATALOG = "ip-office"
SERIAL = "110123456789"
LAST_DAY = datetime.date(2044, 11, 8)
SEED = 20260131
"""Of the 20,000 mistakes; printed, so that a failure can be looked at again."""

KNOWN = [
    (10, 8, "2026-01-31", Term.PERPETUAL, 0, CATALOG, SERIAL, "40A0-0H56-W006-6R90-BTVX-6HFV-M01Z-6V2G"),
    (0, 1, "2000-01-01", Term.TRIAL, 1, "ip-office-server-edition", "120000000000",
     "4000-0200-0G0M-A4AH-713Q-H9B3-9ASS-MXJD"),
    (4095, 16383, "2044-11-08", Term.FIVE_YEARS, 1023, "ayrix", "139999999999",
     "7ZZZ-ZZZZ-YZZN-NHW8-8MS2-5E1B-3MB4-KMNF"),
]  # fmt: skip

ORDERS: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {
        "feature_code": st.integers(0, MAX_FEATURE_CODE),
        "instances": st.integers(1, MAX_INSTANCES),
        "issued": st.dates(EPOCH, LAST_DAY),
        "term": st.sampled_from(Term),
        "sequence": st.integers(0, MAX_SEQUENCE),
        "catalog": st.sampled_from(["ip-office", "ayrix"]),
        "serial": st.from_regex(r"[0-9]{12}", fullmatch=True),
    }
)


def key(**changes: object) -> LicenseKey:
    order: dict[str, object] = {
        "feature_code": 10,
        "instances": 8,
        "issued": datetime.date(2026, 1, 31),
        "term": Term.PERPETUAL,
        "sequence": 0,
        "catalog": CATALOG,
        "serial": SERIAL,
    }
    return make_key(**(order | changes))  # type: ignore[arg-type]


def random_key(chance: random.Random) -> LicenseKey:
    return key(
        feature_code=chance.randrange(MAX_FEATURE_CODE + 1),
        instances=chance.randint(1, MAX_INSTANCES),
        issued=EPOCH + datetime.timedelta(days=chance.randrange(1 << 14)),
        term=chance.choice(list(Term)),
        sequence=chance.randrange(MAX_SEQUENCE + 1),
    )


def plain(text: str) -> str:
    return text.replace("-", "")


def grouped(characters: str) -> str:
    return "-".join(characters[place : place + 4] for place in range(0, 32, 4))


def finding(text: str, *, catalog: str = "", serial: str = "") -> Finding:
    found = read_key(text, catalog=catalog, serial=serial)
    assert isinstance(found, Finding)
    assert not found.accepted
    return found


def from_bits(version: int, feature: int, instances: int, day: int, term: int, sequence: int, digest: int) -> str:
    """A key put together from a string of bits, apart from the module's own shifts."""
    widths = ((version, 3), (feature, 12), (instances, 14), (day, 14), (term, 3), (sequence, 10), (digest, 94))
    bits = "".join(f"{value:0{width}b}" for value, width in widths)
    symbols = append_checks([int(bits[place : place + 5], 2) for place in range(0, 150, 5)])
    return grouped("".join(ALPHABET[symbol] for symbol in symbols))


# The format.


@pytest.mark.parametrize(("feature", "instances", "issued", "term", "sequence", "catalog", "serial", "text"), KNOWN)
def test_known_keys_are_written_and_read_as_ever(
    feature: int, instances: int, issued: str, term: Term, sequence: int, catalog: str, serial: str, text: str
) -> None:
    made = make_key(
        feature_code=feature,
        instances=instances,
        issued=datetime.date.fromisoformat(issued),
        term=term,
        sequence=sequence,
        catalog=catalog,
        serial=serial,
    )
    assert made.text == text
    assert read_key(text) == made
    assert made.made_for(catalog, serial)


def test_a_key_is_the_bits_that_the_design_says() -> None:
    payload = int(f"{1:03b}{10:012b}{8:014b}{9527:014b}{0:03b}{0:010b}", 2).to_bytes(7, "big")
    fields = [b"featurekeyd license key", CATALOG.encode(), SERIAL.encode(), payload]
    text = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    digest = int(f"{int(hashlib.sha256(text).hexdigest(), 16):0256b}"[:94], 2)
    assert (EPOCH + datetime.timedelta(days=9527)).isoformat() == "2026-01-31"
    assert from_bits(1, 10, 8, 9527, 0, 0, digest) == KNOWN[0][7]


@relaxed
@given(ORDERS)
def test_what_is_written_is_read_again(order: dict[str, object]) -> None:
    made = make_key(**order)  # type: ignore[arg-type]
    assert read_key(made.text) == made
    assert made.made_for(str(order["catalog"]), str(order["serial"]))
    for name in ("feature_code", "instances", "issued", "term", "sequence"):
        assert getattr(made, name) == order[name]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feature_code", -1), ("feature_code", 4096), ("instances", 0), ("instances", 16384), ("sequence", -1),
        ("sequence", 1024), ("issued", datetime.date(1999, 12, 31)), ("issued", datetime.date(2044, 11, 9)),
    ],
)  # fmt: skip
def test_a_value_that_has_no_room_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        key(**{field: value})


@pytest.mark.parametrize(
    "change",
    [
        {"feature_code": 11}, {"instances": 9}, {"issued": datetime.date(2026, 2, 1)}, {"term": Term.TRIAL},
        {"sequence": 1}, {"catalog": "ayrix"}, {"serial": "110123456780"},
    ],
)  # fmt: skip
def test_every_part_of_an_order_changes_the_digest(change: dict[str, object]) -> None:
    assert key(**change).digest != key().digest


def test_a_key_is_made_for_one_catalog_and_one_serial() -> None:
    made = key()
    assert made.made_for(CATALOG, SERIAL)
    assert not made.made_for("ayrix", SERIAL)
    assert not made.made_for(CATALOG, "110123456780")
    # The border between catalog and serial belongs to the digest.
    assert not made.made_for(CATALOG + SERIAL[0], SERIAL[1:])


def test_the_short_form_shows_the_first_and_last_group_only() -> None:
    assert key().short == shorten(KNOWN[0][7]) == "40A0…6V2G"


# How people write it.


@pytest.mark.parametrize(
    "typed",
    [
        "40a0-0h56-w006-6r90-btvx-6hfv-m01z-6v2g",
        "40A00H56W0066R90BTVX6HFVM01Z6V2G",
        "  40A0 0H56 W006 6R90\tBTVX 6HFV M01Z 6V2G \n",
        "4OAO-oH56-WOO6-6R9o-BTVX-6HFV-MOIZ-6V2G",
        "40A0-0H56-W006-6R90-BTVX-6HFV-M0lZ-6V2G",
        "40A0\u20130H56\u2010W006\u20116R90\u2012BTVX\u00a06HFV-M01Z-6V2G",
    ],
)
def test_case_separators_and_characters_alike_do_not_matter(typed: str) -> None:
    assert read_key(typed, catalog=CATALOG, serial=SERIAL) == key()


@pytest.mark.parametrize("wrong", ["U", "*", "ß", "\u0131", "\uff14", "é", "\ud800", "\0"])
def test_a_character_that_no_key_has_is_named_with_its_position(wrong: str) -> None:
    found = finding("40A0-0H5" + wrong + KNOWN[0][7][9:])
    assert (found.verdict, found.position) == (Verdict.NOT_A_KEY, 8)
    assert repr(wrong) in found.message


@pytest.mark.parametrize(("text", "count"), [("", 0), (KNOWN[0][7][:-1], 31), (KNOWN[0][7] + "0", 33)])
def test_a_key_of_another_length_says_its_length(text: str, count: int) -> None:
    found = finding(text)
    assert found.verdict is Verdict.NOT_A_KEY
    assert f"{count} characters" in found.message


@relaxed
@given(st.text(st.characters(), max_size=60) | st.text(ALPHABET + "-oil ", max_size=60), st.sampled_from(["", SERIAL]))
def test_no_text_upsets_the_reader(text: str, serial: str) -> None:
    assert isinstance(read_key(text, catalog=CATALOG, serial=serial), LicenseKey | Finding)


@relaxed
@given(st.lists(st.integers(0, 31), min_size=30, max_size=30))
def test_a_text_with_good_check_symbols_is_a_key_or_of_a_version_to_come(data: list[int]) -> None:
    text = "".join(ALPHABET[symbol] for symbol in append_checks(data))
    found = read_key(text)
    if isinstance(found, LicenseKey):
        assert plain(found.text) == text
    else:
        assert found.verdict is Verdict.UNKNOWN_VERSION


def test_another_version_is_told_by_its_number() -> None:
    found = finding(from_bits(2, 10, 8, 9527, 0, 0, 0))
    assert found.verdict is Verdict.UNKNOWN_VERSION
    assert "version 2" in found.message


def test_no_instances_and_an_unknown_term_are_no_key_of_this_version() -> None:
    assert "no instances" in finding(from_bits(1, 10, 0, 9527, 0, 0, 0)).message
    assert "term 6" in finding(from_bits(1, 10, 8, 9527, 6, 0, 0)).message


# Mistyped.


def with_wrong_character(text: str, chance: random.Random) -> tuple[str, int]:
    place = chance.randrange(32)
    other = chance.choice([character for character in ALPHABET if character != text[place]])
    return text[:place] + other + text[place + 1 :], place


def with_neighbors_exchanged(text: str, chance: random.Random) -> tuple[str, int]:
    place = chance.choice([place for place in range(31) if text[place] != text[place + 1]])
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :], place


def test_20000_random_mistakes_are_all_found_and_put_right() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for _ in range(10_000):
        made = random_key(chance)
        right = plain(made.text)

        wrong, place = with_wrong_character(right, chance)
        found = finding(wrong, catalog=CATALOG, serial=SERIAL)
        assert (found.verdict, found.position, found.suggestion) == (Verdict.MISTYPED, place + 1, made.text)
        assert f"Character {place + 1} of the key is wrong: {wrong[place]} where {right[place]}" in found.message

        wrong, place = with_neighbors_exchanged(right, chance)
        found = finding(wrong, catalog=CATALOG, serial=SERIAL)
        assert (found.verdict, found.position, found.suggestion) == (Verdict.MISTYPED, place + 1, made.text)
        assert f"Characters {place + 1} and {place + 2} of the key are exchanged." in found.message


def test_a_wrong_character_is_put_right_without_knowing_the_serial() -> None:
    chance = random.Random(SEED)
    for _ in range(500):
        made = random_key(chance)
        wrong, place = with_wrong_character(plain(made.text), chance)
        found = finding(wrong)
        assert found.position == place + 1
        assert found.suggestion == made.text


def test_exchanged_neighbors_are_never_put_wrong_without_knowing_the_serial() -> None:
    chance = random.Random(SEED)
    several = 0
    for _ in range(1000):
        made = random_key(chance)
        wrong, place = with_neighbors_exchanged(plain(made.text), chance)
        found = finding(wrong)
        assert found.verdict is Verdict.MISTYPED
        assert f"{place + 1} and {place + 2}" in found.message
        assert found.suggestion in {made.text, None}
        assert (found.suggestion is None) == (found.position is None)
        several += found.suggestion is None
    assert several, "this seed shows no exchange that could be two"


def test_nothing_is_suggested_when_more_than_one_character_is_wrong() -> None:
    chance = random.Random(SEED)
    for _ in range(2000):
        wrong, first = with_wrong_character(plain(random_key(chance).text), chance)
        second = (first + 1 + chance.randrange(31)) % 32
        wrong = wrong[:second] + ALPHABET[(ALPHABET.index(wrong[second]) + 7) % 32] + wrong[second + 1 :]
        found = finding(wrong, catalog=CATALOG, serial=SERIAL)
        assert (found.verdict, found.suggestion) == (Verdict.MISTYPED, None)


def test_a_mistyped_key_of_another_serial_is_not_suggested() -> None:
    text = KNOWN[0][7].replace("BTVX", "BTVY")
    assert finding(text, catalog=CATALOG, serial=SERIAL).suggestion == KNOWN[0][7]
    found = finding(text, catalog=CATALOG, serial="110123456780")
    assert (found.verdict, found.position, found.suggestion) == (Verdict.MISTYPED, 20, None)


def test_a_good_key_of_another_serial_is_read_and_not_made_for_this_one() -> None:
    read = read_key(KNOWN[0][7], catalog=CATALOG, serial="110123456780")
    assert isinstance(read, LicenseKey)
    assert not read.made_for(CATALOG, "110123456780")


# Terms: the last good day; the first bad one is the day after.


@pytest.mark.parametrize(
    ("term", "issued", "last_good"),
    [
        (Term.TRIAL, "2026-01-31", "2026-03-31"),
        (Term.TRIAL, "2026-12-31", "2027-02-28"),
        (Term.TRIAL, "2028-01-01", "2028-02-29"),
        (Term.MONTH, "2026-03-01", "2026-03-31"),
        (Term.MONTH, "2026-03-15", "2026-04-14"),
        (Term.MONTH, "2026-12-01", "2026-12-31"),
        (Term.MONTH, "2026-12-15", "2027-01-14"),
        (Term.MONTH, "2026-01-28", "2026-02-27"),
        (Term.MONTH, "2026-01-29", "2026-02-27"),
        (Term.MONTH, "2026-01-31", "2026-02-27"),
        (Term.MONTH, "2028-01-31", "2028-02-28"),
        (Term.MONTH, "2026-02-01", "2026-02-28"),
        (Term.MONTH, "2026-02-28", "2026-03-27"),
        (Term.MONTH, "2028-02-29", "2028-03-28"),
        (Term.MONTH, "2026-03-31", "2026-04-29"),
        (Term.YEAR, "2026-01-01", "2026-12-31"),
        (Term.YEAR, "2026-07-15", "2027-07-14"),
        (Term.YEAR, "2027-03-01", "2028-02-29"),
        (Term.YEAR, "2028-02-29", "2029-02-27"),
        (Term.YEAR, "2028-03-01", "2029-02-28"),
        (Term.THREE_YEARS, "2026-11-30", "2029-11-29"),
        (Term.THREE_YEARS, "2028-02-29", "2031-02-27"),
        (Term.FIVE_YEARS, "2027-02-28", "2032-02-27"),
        (Term.FIVE_YEARS, "2028-02-29", "2033-02-27"),
        (Term.FIVE_YEARS, "2044-11-08", "2049-11-07"),
    ],
)
def test_the_last_good_day_of_a_term(term: Term, issued: str, last_good: str) -> None:
    assert key(term=term, issued=datetime.date.fromisoformat(issued)).expires == datetime.date.fromisoformat(last_good)


def test_a_perpetual_license_has_no_last_day() -> None:
    assert key(term=Term.PERPETUAL).expires is None


def test_a_trial_lasts_60_days_with_its_first_and_its_last() -> None:
    trial = key(term=Term.TRIAL)
    assert trial.expires is not None
    assert (trial.expires - trial.issued).days + 1 == 60


@relaxed
@given(st.dates(EPOCH, LAST_DAY - datetime.timedelta(days=1)), st.sampled_from([it for it in Term if it]))
def test_a_license_issued_a_day_later_never_ends_earlier(issued: datetime.date, term: Term) -> None:
    first = key(issued=issued, term=term).expires
    second = key(issued=issued + datetime.timedelta(days=1), term=term).expires
    assert first is not None
    assert second is not None
    assert first <= second


@pytest.mark.parametrize(("age", "left"), [(-5000, 60), (-1, 60), (0, 60), (1, 59), (59, 1), (60, 0), (900, 0)])
def test_a_trial_never_has_more_days_left_than_a_trial_has(age: int, left: int) -> None:
    key = make_key(
        feature_code=2,
        instances=1,
        issued=datetime.date(2026, 3, 1),
        term=Term.TRIAL,
        sequence=0,
        catalog="exchange",
        serial="110123456789",
    )
    assert key.days_left(key.issued + datetime.timedelta(days=age)) == left
    assert msgspec.structs.replace(key, term=Term.PERPETUAL).days_left(key.issued) is None
    assert msgspec.structs.replace(key, term=Term.YEAR).days_left(key.issued - datetime.timedelta(days=1)) == 366
