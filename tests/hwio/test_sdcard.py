"""Checksums, CID, frames and answers of SD cards against the known values of the fact sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.hwio.sdcard import (
    R1,
    CardDataError,
    Cid,
    Command,
    crc7,
    crc16,
    frame,
    printable,
    split_answer,
    split_block,
)

EXAMPLE = bytes.fromhex("035344535530384780deadbeef01363d")


@pytest.mark.parametrize(
    ("command", "argument", "bytes_on_wire"),
    [
        (Command.GO_IDLE, 0, "400000000095"),
        (Command.SEND_IF_COND, 0x1AA, "48000001aa87"),
        (Command.CRC_ON_OFF, 1, "7b0000000183"),
        (Command.APP_COMMAND, 0, "770000000065"),
        (Command.APP_SEND_OP_COND, 1 << 30, "694000000077"),
        (Command.READ_OCR, 0, "7a00000000fd"),
        (Command.SEND_CID, 0, "4a000000001b"),
        (Command.SEND_STATUS, 0, "4d000000000d"),
    ],
)
def test_frames_are_those_of_the_fact_sheet(command: Command, argument: int, bytes_on_wire: str) -> None:
    assert frame(command, argument).hex() == bytes_on_wire


def test_crc16_has_the_check_value_of_its_polynomial() -> None:
    assert crc16(b"123456789") == 0x31C3
    assert crc16(b"\xff" * 512) == 0x7FA1


def test_crc7_has_the_check_value_of_its_polynomial() -> None:
    assert crc7(b"123456789") == 0x75


def test_the_example_card_is_read_field_by_field() -> None:
    cid = Cid.parse(EXAMPLE)
    assert (cid.maker, cid.oem, cid.product, cid.revision) == (3, "SD", "SU08G", "8.0")
    assert (cid.serial, cid.year, cid.month) == (0xDEADBEEF, 2019, 6)
    assert cid.hardware_id == "035344535530384780deadbeef0136"
    assert cid.detail == "maker 03 OEM SD name SU08G revision 8.0 serial deadbeef made 2019-06"


def test_a_stripped_checksum_is_recomputed() -> None:
    stripped = Cid.parse(EXAMPLE[:15] + b"\x00", may_be_stripped=True)
    assert stripped == Cid.parse(EXAMPLE) == Cid.from_hex(EXAMPLE[:15].hex() + "00")
    assert stripped.raw == EXAMPLE


def test_a_checksum_of_00_is_wrong_where_nobody_strips_it() -> None:
    with pytest.raises(CardDataError, match="CRC7 in byte 15 of the CID is 00, computed 3d"):
        Cid.parse(EXAMPLE[:15] + b"\x00")


def test_a_wrong_checksum_names_byte_15_and_both_values() -> None:
    with pytest.raises(CardDataError, match="CRC7 in byte 15 of the CID is 3f, computed 3d"):
        Cid.parse(EXAMPLE[:15] + b"\x3f")


def test_a_checksum_without_its_end_bit_is_wrong() -> None:
    with pytest.raises(CardDataError, match="byte 15"):
        Cid.parse(EXAMPLE[:15] + b"\x3c")


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32])
def test_another_length_is_told(size: int) -> None:
    with pytest.raises(CardDataError, match=f"16 bytes, here are {size}"):
        Cid.parse(bytes(range(1, size + 1)))


@pytest.mark.parametrize("blank", [0x00, 0xFF])
def test_a_dead_line_is_no_card(blank: int) -> None:
    raw = bytes([blank]) * 15
    with pytest.raises(CardDataError, match=f"all {blank:02x}"):
        Cid.parse(raw + bytes([crc7(raw) << 1 | 1]))


def test_a_strange_digit_is_named_with_its_place() -> None:
    text = EXAMPLE.hex()
    with pytest.raises(CardDataError, match="character 5 of the CID is 'z'"):
        Cid.from_hex(text[:4] + "z" + text[5:])


@pytest.mark.parametrize("digit", ["٣", "é", "\n", " ", "\x00"])
def test_only_ascii_digits_are_digits(digit: str) -> None:
    with pytest.raises(CardDataError, match="character 32"):
        Cid.from_hex(EXAMPLE.hex()[:31] + digit)


@pytest.mark.parametrize("text", ["", "03", "035344535530384780deadbeef01363d00"])
def test_another_number_of_digits_is_told(text: str) -> None:
    with pytest.raises(CardDataError, match=f"here are {len(text)}"):
        Cid.from_hex(text)


def test_upper_case_digits_give_the_same_card() -> None:
    assert Cid.from_hex(EXAMPLE.hex().upper()).hardware_id == EXAMPLE[:15].hex()


def test_names_that_are_not_text_are_shown_as_bytes() -> None:
    cid = Cid(b"\x03\x00\xff" + b"A\\\x1b\x80 " + EXAMPLE[8:15])
    assert cid.oem == "\\x00\\xff"
    assert cid.product == "A\\x5c\\x1b\\x80 "


def test_what_is_shown_is_cut() -> None:
    assert printable(b"a" * 81) == "a" * 80 + "... (81 bytes)"
    assert printable(b"a" * 80) == "a" * 80


identities = st.binary(min_size=15, max_size=15).filter(lambda raw: raw not in (bytes(15), b"\xff" * 15))


@given(identities)
def test_every_identity_survives_both_ways_of_writing(identity: bytes) -> None:
    cid = Cid(identity)
    assert Cid.parse(cid.raw) == Cid.from_hex(cid.raw.hex()) == Cid.from_hex(identity.hex() + "00") == cid
    assert bytes.fromhex(cid.hardware_id) == identity
    assert cid.detail.isprintable()
    assert cid.detail.isascii()


@given(identities, st.integers(0, 15 * 8 - 1))
def test_any_single_wrong_bit_is_found_by_crc7(identity: bytes, bit: int) -> None:
    raw = bytearray(Cid(identity).raw)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CardDataError):
        Cid.parse(bytes(raw))


@given(st.binary(max_size=40))
def test_garbage_is_a_cid_or_a_card_data_error(data: bytes) -> None:
    try:
        cid = Cid.parse(data)
    except CardDataError:
        return
    assert cid.identity == data[:15]


@given(st.text(max_size=40))
def test_garbage_text_is_a_cid_or_a_card_data_error(text: str) -> None:
    try:
        cid = Cid.from_hex(text)
    except CardDataError:
        return
    assert cid.hardware_id == text[:30].lower()


def test_an_answer_is_found_behind_filling_bytes() -> None:
    assert split_answer(b"\xff\xff\x05rest") == (R1.IDLE | R1.ILLEGAL_COMMAND, b"rest")


def test_an_answer_may_come_after_eight_filling_bytes_and_not_later() -> None:
    assert split_answer(b"\xff" * 8 + b"\x01") == (R1.IDLE, b"")
    assert split_answer(b"\xff" * 9 + b"\x01") is None


def test_a_block_is_found_behind_its_token_and_checked() -> None:
    block = b"\xff\xff\xfe" + EXAMPLE + crc16(EXAMPLE).to_bytes(2, "big")
    assert split_block(block + b"\xff", 16) == EXAMPLE
    assert split_block(block[:-1], 16) is None
    assert split_block(b"\xff" * 30, 16) is None
    with pytest.raises(CardDataError, match="CRC16"):
        split_block(block[:-1] + bytes([block[-1] ^ 1]), 16)


def test_another_token_is_named() -> None:
    with pytest.raises(CardDataError, match="data token is 09, expected fe"):
        split_block(b"\xff\x09\xff", 16)


@given(st.binary(max_size=64))
def test_garbage_instead_of_a_block_is_none_or_a_card_data_error(data: bytes) -> None:
    try:
        block = split_block(data, 16)
    except CardDataError:
        return
    assert block is None or len(block) == 16
