"""The request: composer and reader agree, mail does no harm, and a mistake is named by field and line."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.request_text import (
    MAX_LINES,
    MAX_TEXT,
    MAX_VALUE,
    Head,
    Request,
    read_head,
    read_request,
    request_text,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

CARD = Request(
    kind="sd-card",
    hardware_id="035344535530384780deadbeef0136",
    assurance="A1",
    reader="serial:/dev/ttyUSB0",
    simulated=False,
    catalog="ip-office",
    platform="ip500-v2",
    version="0.1.0",
)
ASKING = msgspec.structs.replace(
    CARD,
    serial="110123456789",
    nonce="5f" * 16,
    state_head=Head(1204, "9b" * 32),
    audit_head=Head(88, "77" * 32),
    audit_since=Head(80, "91" * 32),
    emergency_claims=2,
    tamperings=1,
    state_losses=2,
    clock_repairs=3,
    catalog_digest="c1" * 32,
    list_number=7,
    enrolled_host="0f" * 32,
)
"""A request for a check, with all that there may be."""
TEXT = request_text(CARD)
FIELDS = [line.partition(": ")[0] for line in TEXT.split("\n")[1:-2]]

WORD = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5}){0,2}", fullmatch=True)
SHOWN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp"]), min_size=1).filter(
    lambda text: text == text.strip(">") and len(text) <= MAX_VALUE
)
IDENTITY = st.one_of(
    st.tuples(st.just("usb-otp"), st.integers(0, (1 << 32) - 1).map(str)),
    st.tuples(st.just("sd-card"), st.binary(min_size=15, max_size=15).map(bytes.hex)),
    st.tuples(st.just("host"), st.binary(min_size=32, max_size=32).map(bytes.hex)),
)
DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)
HEAD = st.builds(Head, st.integers(0, 10**12 - 1), DIGEST)
REQUESTS = st.builds(
    lambda identity, **others: Request(kind=identity[0], hardware_id=identity[1], **others),
    identity=IDENTITY,
    assurance=st.sampled_from(["A0", "A1", "A2", "A3"]),
    reader=SHOWN,
    simulated=st.booleans(),
    catalog=WORD,
    platform=WORD,
    version=SHOWN,
    serial=st.none() | st.from_regex(r"[0-9]{12}", fullmatch=True),
    nonce=st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex),
    state_head=st.none() | HEAD,
    audit_head=st.none() | HEAD,
    audit_since=st.none() | HEAD,
    emergency_claims=st.none() | st.integers(0, 10**12 - 1),
    tamperings=st.none() | st.integers(0, 10**12 - 1),
    state_losses=st.none() | st.integers(0, 10**12 - 1),
    clock_repairs=st.none() | st.integers(0, 10**12 - 1),
    catalog_digest=st.none() | DIGEST,
    list_number=st.none() | st.integers(0, 999_999_999),
    enrolled_host=st.none() | DIGEST,
)


def refusal(text: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read_request(text)
    return caught.value


def test_the_text_is_written_as_ever() -> None:
    assert request_text(msgspec.structs.replace(CARD, serial="110123456789")) == (
        "-----BEGIN FEATUREKEYD REQUEST-----\n"
        "Format: 1\n"
        "Kind: sd-card\n"
        "Hardware-Id: 035344535530384780deadbeef0136\n"
        "Assurance: A1\n"
        "Reader: serial:/dev/ttyUSB0\n"
        "Simulated: no\n"
        "Catalog: ip-office\n"
        "Platform: ip500-v2\n"
        "Serial: 110123456789\n"
        "Version: 0.1.0\n"
        "-----END FEATUREKEYD REQUEST-----\n"
    )


def test_a_request_for_a_check_is_written_as_ever() -> None:
    end = request_text(ASKING).partition("Version: 0.1.0\n")[2]
    assert end == (
        "Nonce: " + "5f" * 16 + "\n"
        "State-Head: 1204 " + "9b" * 32 + "\n"
        "Audit-Head: 88 " + "77" * 32 + "\n"
        "Audit-Since: 80 " + "91" * 32 + "\n"
        "Emergency-Claims: 2\n"
        "Tamperings: 1\n"
        "State-Losses: 2\n"
        "Clock-Repairs: 3\n"
        "Catalog-Digest: " + "c1" * 32 + "\n"
        "List: 7\n"
        "Enrolled-Host: " + "0f" * 32 + "\n"
        "-----END FEATUREKEYD REQUEST-----\n"
    )
    assert read_request(request_text(ASKING)) == ASKING


@relaxed
@given(REQUESTS)
def test_what_is_written_is_read_again(request_: Request) -> None:
    assert read_request(request_text(request_)) == request_


@relaxed
@given(
    REQUESTS,
    st.sampled_from(["\n", "\r\n", "\n\n", " \r\n", "\n> ", "\n>> \n>>  "]),
    st.sampled_from(["", "\ufeff", "Please certify:\n\n> "]),
)
def test_line_ends_quoting_and_text_around_do_not_matter(request_: Request, between: str, before: str) -> None:
    carried = before + request_text(request_).rstrip("\n").replace("\n", between) + "\n-- \nA host"
    assert read_request(carried) == request_


def test_a_line_that_mail_broke_is_put_together() -> None:
    host = msgspec.structs.replace(CARD, kind="host", hardware_id="ab" * 32, reader="host behind the door")
    text = request_text(host).replace("Hardware-Id: ", "Hardware-Id:\n").replace("behind the", "behind\n> the")
    assert read_request(text) == host


def test_a_field_of_a_newer_host_is_skipped() -> None:
    assert read_request(TEXT.replace("Kind", "Host-Name: pbx\nKind")) == CARD


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_missing_empty_or_twice_is_named(field: str) -> None:
    lines = TEXT.split("\n")
    place = next(place for place, line in enumerate(lines) if line.startswith(f"{field}:"))
    missing, empty, twice = [*lines], [*lines], [*lines]
    del missing[place]
    empty[place] = f"{field}:"
    twice.insert(place, lines[place])
    assert f"'{field}' is missing" in str(refusal("\n".join(missing)))
    assert f"Line {place + 1}: The field '{field}' is empty" in str(refusal("\n".join(empty)))
    error = refusal("\n".join(twice))
    assert f"Line {place + 2}: The field '{field}' is there more than once" in str(error)
    assert error.finding.line == place + 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sd-card", "sd-mmc", "Line 3: The field 'Kind' is 'sd-mmc' instead of usb-otp, sd-card or host"),
        ("sd-card", "usb-otp", "Line 4: The field 'Hardware-Id' is"),
        ("deadbeef", "DEADBEEF", "30 hexadecimal digits in lower case, as sd-card has"),
        ("deadbeef", "deadbee", "30 hexadecimal digits"),
        ("A1", "high", "Line 5: The field 'Assurance'"),
        ("Simulated: no", "Simulated: NO", "Line 7: The field 'Simulated' is 'NO' instead of yes or no"),
        ("ip-office", "../etc/passwd", "Line 8: The field 'Catalog'"),
        ("ip500-v2", "IP500 V2", "Line 9: The field 'Platform' is 'IP500 V2' instead of lower-case words"),
        ("Version:", "Serial: 12\nVersion:", "Line 10: The field 'Serial' is '12' instead of 12 digits"),
        ("ttyUSB0", "tty\x1b[2J", "Line 6: The field 'Reader' has a character that cannot be printed"),
        ("ttyUSB0", "tty\u202e", "cannot be printed"),
        ("ttyUSB0", "tty\ud800", "cannot be printed"),
        ("Format: 1", "hello", "Line 2: 'hello' is no field"),
        ("Kind: sd-card", "Kind: " + "x" * 99, "'" + "x" * 40 + "…'"),
        ("-----END", "-----ENDE", "is missing"),
    ],
)
def test_a_mistake_is_named_by_field_and_line(old: str, new: str, said: str) -> None:
    error = refusal(TEXT.replace(old, new))
    assert error.finding.verdict is Verdict.BAD_DOCUMENT
    assert said in str(error)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Nonce: 5f", "Nonce: 5F", "'Nonce' is '5F"),
        ("State-Head: 1204 ", "State-Head: ", "'State-Head' is"),
        ("State-Head: 1204 ", "State-Head: 01204 ", "instead of a number and 64 hexadecimal digits"),
        ("Audit-Head: 88 77", "Audit-Head: 88 ", "'Audit-Head' is"),
        ("Claims: 2", "Claims: -2", "'Emergency-Claims' is '-2' instead of a number"),
        ("Digest: c1", "Digest: x1", "'Catalog-Digest' is"),
        ("List: 7", "List: seven", "'List' is 'seven' instead of a number"),
        ("Host: 0f", "Host: ", "'Enrolled-Host' is"),
    ],
)
def test_a_mistake_in_a_request_for_a_check_is_named(old: str, new: str, said: str) -> None:
    text = request_text(ASKING)
    assert old in text
    assert said in str(refusal(text.replace(old, new)))


def test_what_no_vendor_could_read_of_a_check_is_not_written() -> None:
    wrong: dict[str, object] = {
        "nonce": "xyz", "state_head": Head(-1, "00" * 32), "audit_head": Head(1, ""), "emergency_claims": -1,
        "catalog_digest": "", "list_number": 10**9, "enrolled_host": "0" * 63,
    }  # fmt: skip
    for field, value in wrong.items():
        with pytest.raises(ValueError, match="field"):
            request_text(msgspec.structs.replace(ASKING, **{field: value}))


def test_a_head_is_read_as_it_is_written() -> None:
    head = Head(88, "77" * 32)
    assert read_head(str(head)) == head
    for text in ("", "77" * 32, "88", f"88 {'77' * 31}", f"88  {'77' * 32}", f"88 {'77' * 32}\n"):
        with pytest.raises(ValueError, match="not a head"):
            read_head(text)


def test_a_format_to_come_is_told_by_its_number() -> None:
    error = refusal(TEXT.replace("Format: 1", "Format: 2").replace("Kind", "Sort"))
    assert error.finding.verdict is Verdict.UNKNOWN_VERSION
    assert "format '2'; this release reads format 1" in str(error)


def test_an_end_before_the_begin_is_refused() -> None:
    assert "END line stands before" in str(refusal("\n".join(reversed(TEXT.split("\n")))))


def test_the_bounds_hold_and_nothing_below_them_is_refused() -> None:
    assert read_request(TEXT + " " * (MAX_TEXT - len(TEXT))) == CARD
    assert f"longer than {MAX_TEXT}" in str(refusal(TEXT + " " * (MAX_TEXT - len(TEXT) + 1)))
    longest = msgspec.structs.replace(CARD, reader="r" * MAX_VALUE)
    assert read_request(request_text(longest)) == longest
    with pytest.raises(ValueError, match=f"'Reader' is longer than {MAX_VALUE}"):
        request_text(msgspec.structs.replace(CARD, reader="r" * (MAX_VALUE + 1)))
    more = "".join(f"X-{chr(65 + place // 26)}{chr(65 + place % 26)}: y\n" for place in range(MAX_LINES - len(FIELDS)))
    assert read_request(TEXT.replace("Format", f"{more}Format")) == CARD
    assert f"more than {MAX_LINES} lines" in str(refusal(TEXT.replace("Format", f"{more}Zz: y\nFormat")))


@pytest.mark.parametrize("reader", ["", " x", "x>", "a\nSimulated: no", "a\x00b"])
def test_what_no_vendor_could_read_is_not_written(reader: str) -> None:
    with pytest.raises(ValueError, match="field"):
        request_text(msgspec.structs.replace(CARD, reader=reader))


@relaxed
@given(st.text(st.characters()) | st.lists(st.sampled_from(TEXT.split("\n")) | st.text(max_size=20)).map("\n".join))
def test_no_text_raises_anything_but_unreadable(text: str) -> None:
    try:
        read = read_request(text)
    except Unreadable:
        return
    assert isinstance(read, Request)
