"""License lists, signed ones and plain texts of keys."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.findings import Finding, Unreadable, Verdict
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.licenselist import (
    HEADER,
    KIND,
    MAX_KEYS,
    Entry,
    LicenseList,
    TypedKey,
    list_body,
    read_list,
    read_plain,
)
from featurekeyd.policy.signedtext import key_id, seal

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = key_id(VENDOR.public_key())
KEYS = {SIGNER: VENDOR.public_key()}
SERIAL = "110123456789"
DAY = datetime.date(2026, 1, 31)


def key(code: int = 10, sequence: int = 0) -> LicenseKey:
    return make_key(
        feature_code=code,
        instances=8,
        issued=DAY,
        term=Term.PERPETUAL,
        sequence=sequence,
        catalog="ip-office",
        serial=SERIAL,
    )


LIST = LicenseList(
    serial=SERIAL,
    catalog="ip-office",
    number=7,
    date=DAY,
    entries=(
        Entry(key(10), "SIP Trunk Channels", revoked=False),
        Entry(key(30), "SoftConsole", revoked=True, license_set="office-20"),
    ),
    trials={30: DAY, 4: datetime.date(2025, 12, 1)},
)


def sealed(body: str) -> str:
    return seal(KIND, body, SIGNER, VENDOR.sign)


def refusal(body: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read_list(sealed(body), KEYS)
    return caught.value


def plain(text: str) -> list[TypedKey | Finding]:
    return list(read_plain(text))


# Signed lists.


def test_what_is_signed_is_read() -> None:
    assert read_list(sealed(list_body(LIST)), KEYS) == LIST


def test_the_body_is_written_as_ever() -> None:
    assert list_body(LIST) == (
        "Serial: 110123456789\n"
        "Catalog: ip-office\n"
        "List: 7\n"
        "Date: 2026-01-31\n"
        "Trial: 4 2025-12-01\n"
        "Trial: 30 2026-01-31\n"
        "key,name,state,set\n"
        "40A0-0H56-W006-6R90-BTVX-6HFV-M01Z-6V2G,SIP Trunk Channels,valid,\n"
        f"{key(30).text},SoftConsole,revoked,office-20"
    )


def test_a_list_without_keys_says_that_there_are_none() -> None:
    empty = LicenseList(serial=SERIAL, catalog="ip-office", number=1, date=DAY, entries=(), trials={})
    assert read_list(sealed(list_body(empty)), KEYS) == empty


@relaxed
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_name_of_any_characters_leaves_a_list_that_can_be_read(name: str) -> None:
    licenses = LicenseList(
        serial=SERIAL, catalog="ip-office", number=1, date=DAY, entries=(Entry(key(), name, revoked=False),), trials={}
    )
    (entry,) = read_list(sealed(list_body(licenses)), KEYS).entries
    assert (entry.key, entry.revoked) == (key(), False)


@pytest.mark.parametrize("field", ["Serial", "Catalog", "List", "Date"])
def test_a_field_missing_or_twice_is_named(field: str) -> None:
    lines = list_body(LIST).split("\n")
    mine = next(line for line in lines if line.startswith(f"{field}: "))
    assert f"'{field}' is missing" in str(refusal("\n".join(line for line in lines if line != mine)))
    assert f"'{field}' is there more than once" in str(refusal("\n".join([mine, *lines])))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("List: 7", "List: 0", "'List' is '0' instead of a number"),
        ("List: 7", "List: 07", "'List' is '07'"),
        ("List: 7", "List: -7", "'List' is '-7'"),
        ("List: 7", "List: 1234567890", "'List' is '1234567890'"),
        ("2026-01-31\nTrial", "31.01.2026\nTrial", "'Date' is '31.01.2026' instead of a date"),
        ("Trial: 4 ", "Trial: four ", "'Trial' is not a code and a date"),
        ("2025-12-01", "2025-13-01", "'Trial' is '2025-13-01' instead of a date"),
        (HEADER, "name,key,state", f"{HEADER!r} is missing"),
        (",valid,", ",good,", "Line 9 is not a key, a name, a state and a set"),
        (",valid,", ",valid", "Line 9 is not"),
        (",office-20", ",office 20", "Line 10 is not"),
        (",office-20", ",office-20,", "Line 10 is not"),
        (",SIP Trunk Channels,", ",SIP Trunk, Channels,", "Line 9 is not"),
        (",SoftConsole,", ',"SoftConsole,', "Line 10 is not"),
    ],
)
def test_a_wrong_value_is_named(old: str, new: str, said: str) -> None:
    assert said in str(refusal(list_body(LIST).replace(old, new)))


def test_a_list_without_a_header_line_is_refused() -> None:
    assert "header line" in str(refusal(list_body(LIST).partition(f"\n{HEADER}")[0]))


def test_a_mistyped_key_is_named_by_line_and_character() -> None:
    error = refusal(list_body(LIST).replace("BTVX", "BTVY"))
    assert error.finding.verdict is Verdict.MISTYPED
    assert error.finding.line == 9
    assert "Line 9: Character 20 of the key is wrong: Y where X" in str(error)


def test_a_list_takes_10000_keys_and_not_one_more() -> None:
    head, rows = "\n".join(list_body(LIST).split("\n")[:-2]), [f"{key().text},name,valid,"] * MAX_KEYS
    assert len(read_list(sealed("\n".join([head, *rows])), KEYS).entries) == MAX_KEYS
    assert f"more than {MAX_KEYS} keys" in str(refusal("\n".join([head, *rows, rows[0]])))


HEAD = ["Serial: 110123456789", "Catalog: ip-office", "List: 7", "Date: 2026-01-31"]
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROW = ANY | st.tuples(ANY, ANY, ANY).map(",".join) | ANY.map(lambda text: f"{key().text},{text},valid,")


@relaxed
@given(st.lists(ANY.map(lambda text: f"Trial: {text}") | ROW, max_size=3), st.lists(ROW, max_size=4))
def test_no_signed_body_raises_anything_but_unreadable(fields: list[str], rows: list[str]) -> None:
    try:
        read = read_list(sealed("\n".join([*HEAD, *fields, HEADER, *rows])), KEYS)
    except Unreadable:
        return
    assert isinstance(read, LicenseList)


@relaxed
@given(st.text(st.characters()))
def test_no_text_raises_anything_but_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        read_list(text, KEYS)


# Plain texts.


def test_a_key_stands_in_the_first_column_and_the_rest_is_ignored() -> None:
    text = f'{key().text}\n"{key(30).text}","Soft, Console",8\n  {key(4).text.lower()}  ,,,'
    assert [it.text.strip() for it in plain(text) if isinstance(it, TypedKey)] == [
        key().text,
        key(30).text,
        key(4).text.lower(),
    ]


def test_a_key_is_given_as_it_was_typed_with_its_line() -> None:
    assert plain("\nno key at all,x\n") == [TypedKey(2, "no key at all")]


@pytest.mark.parametrize("header", ["key", "Key,Name", '"License Key";x'.replace(";", ","), "LICENSE,x", HEADER])
def test_header_comments_empty_lines_and_a_byte_order_mark_are_no_keys(header: str) -> None:
    assert plain(f"\ufeff{header}\r\n# mine\r\n   # also mine\r\n\r\n \t\r\nABCD\r\n") == [TypedKey(6, "ABCD")]


@pytest.mark.parametrize("line", [",name", '"', '"abc', '"abc"d,e', " ,x"])
def test_a_line_without_a_key_is_found_by_its_number(line: str) -> None:
    (found,) = plain(f"# head\n{line}")
    assert isinstance(found, Finding)
    assert (found.verdict, found.line, found.accepted) == (Verdict.BAD_LINE, 2, False)


def test_a_text_takes_10000_lines_and_not_one_more() -> None:
    assert len(plain("AB\n" * MAX_KEYS)) == MAX_KEYS
    with pytest.raises(Unreadable, match=str(MAX_KEYS)):
        plain("AB\n" * (MAX_KEYS + 1))


@relaxed
@given(st.text(st.characters()) | st.lists(ROW).map("\n".join))
def test_no_plain_text_raises_anything(text: str) -> None:
    for found in plain(text):
        assert isinstance(found, TypedKey | Finding)


@pytest.mark.parametrize(
    "line",
    [
        '{key},"SIP "big" trunk"',
        '{key},"an unclosed quote',
        "{key};SIP Trunk Channels",
        '"{key}";"SIP; Trunk"',
        "{key}\tSIP Trunk Channels",
        '  "{key}"  , SIP',
        "{key}," + "x" * 200_000,
        "{key},a name with a \u2028 in it",
        "{key},a name with a \f in it",
    ],
)
def test_whatever_stands_behind_a_key_takes_nothing_from_it(line: str) -> None:
    text = "Key;Name\r\n" + line.format(key=key().text) + "\r\n" + key(30).text + "\r"
    assert [it.text for it in read_plain(text) if isinstance(it, TypedKey)] == [key().text, key(30).text]
    assert len(list(read_plain(text))) == 2


@given(st.text(st.characters(exclude_characters="\r\n")), st.sampled_from(",;\t"))
def test_no_name_takes_a_key_away(name: str, separator: str) -> None:
    assert list(read_plain(f"{key().text}{separator}{name}\n")) == [TypedKey(1, key().text)]
