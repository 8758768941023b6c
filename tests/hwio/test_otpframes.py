"""The frames of USB keys against the traces of facts/hardware.md section 2, and against python-yubico."""

from __future__ import annotations

import contextlib
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yubico.yubikey_config import YubiKeyConfig

from featurekeyd.hwio.otpframes import (
    ANSWER_LIMIT,
    CRC_RESIDUE,
    FRAME_SIZE,
    RECORD_SIZE,
    Answer,
    FrameError,
    ReportKind,
    Slot,
    SlotRecord,
    Status,
    answer_reports,
    crc16,
    decode_frame,
    decode_record,
    decode_status,
    encode_frame,
    encode_record,
    encode_status,
    frame_reports,
    hmac_record,
    inverted_crc,
    report_kind,
    write_payload,
)

SECRET = bytes(range(1, 21))
SERIAL_QUESTION = ["0000000000000080", "00106b5b00000089"]
SERIAL_ANSWER = ["0074cbb167950040", "0000000000000040"]
HMAC_QUESTION = ["68656c6c6f000080", "0038603400000089"]
HMAC_ANSWER = [
    "61232556fab86140",
    "c4f772dcc4ae3f41",
    "1968632025a06e42",
    "3a00000000000043",
    "0000000000000040",
]


def collected(reports: list[bytes]) -> Answer:
    answer = Answer()
    assert [answer.feed(report) for report in reports] == [False] * (len(reports) - 1) + [True]
    return answer


def test_the_serial_question_is_the_one_of_the_trace() -> None:
    assert [report.hex() for report in frame_reports(encode_frame(Slot.SERIAL))] == SERIAL_QUESTION


def test_the_hmac_question_is_the_one_of_the_trace() -> None:
    assert [report.hex() for report in frame_reports(encode_frame(Slot.HMAC_2, b"hello"))] == HMAC_QUESTION


def test_the_serial_answer_of_the_trace_is_understood() -> None:
    answer = collected([bytes.fromhex(report) for report in SERIAL_ANSWER])
    assert int.from_bytes(answer.data(4), "big") == 7654321


def test_the_hmac_answer_of_the_trace_is_the_hmac_of_its_challenge() -> None:
    answer = collected([bytes.fromhex(report) for report in HMAC_ANSWER])
    assert answer.data(20) == hmac.digest(SECRET, b"hello", hashlib.sha1)


def test_answers_are_shown_as_in_the_traces() -> None:
    assert [report.hex() for report in answer_reports((7654321).to_bytes(4, "big"))] == SERIAL_ANSWER
    assert [report.hex() for report in answer_reports(hmac.digest(SECRET, b"hello", "sha1"))] == HMAC_ANSWER


def test_answers_with_the_busy_bit_set_are_understood() -> None:
    assert collected(answer_reports(b"abcdefgh", flag=0xC0)).data(8) == b"abcdefgh"


@given(st.binary(max_size=80))
def test_data_and_inverted_checksum_leave_the_residue(data: bytes) -> None:
    assert crc16(data + inverted_crc(data)) == CRC_RESIDUE


@given(st.integers(0, 255), st.binary(max_size=64))
def test_a_frame_survives_the_way_through_its_reports(slot: int, payload: bytes) -> None:
    frame = bytearray(FRAME_SIZE)
    for report in frame_reports(encode_frame(slot, payload)):
        sequence = report[7] - 0x80
        frame[sequence * 7 : sequence * 7 + 7] = report[:7]
    assert decode_frame(bytes(frame)) == (slot, payload.ljust(64, b"\0"))


@given(st.binary(min_size=64, max_size=64), st.integers(0, 64 * 8 - 1))
def test_any_wrong_bit_in_a_payload_is_found(payload: bytes, bit: int) -> None:
    frame = bytearray(encode_frame(Slot.HMAC_2, payload))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError, match="checksum"):
        decode_frame(bytes(frame))


def test_a_frame_of_another_length_is_refused() -> None:
    with pytest.raises(FrameError, match="69 bytes instead of 70"):
        decode_frame(bytes(69))


def test_a_payload_over_64_bytes_is_refused() -> None:
    assert len(encode_frame(Slot.HMAC_2, bytes(64))) == FRAME_SIZE
    with pytest.raises(ValueError, match="65 bytes"):
        encode_frame(Slot.HMAC_2, bytes(65))


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (0x00, ReportKind.STATUS),
        (0x80, ReportKind.BUSY),
        (0x89, ReportKind.BUSY),
        (0x20, ReportKind.TOUCH),
        (0x2F, ReportKind.TOUCH),
        (0x40, ReportKind.CHUNK),
        (0x43, ReportKind.CHUNK),
        (0xC0, ReportKind.CHUNK),
        (0xC3, ReportKind.CHUNK),
    ],
)
def test_the_flag_byte_says_what_a_report_is(flag: int, kind: ReportKind) -> None:
    assert report_kind(bytes(7) + bytes([flag])) is kind


@pytest.mark.parametrize("flag", [0x01, 0x1F, 0x60, 0x7F])
def test_a_flag_without_meaning_is_refused_by_value(flag: int) -> None:
    with pytest.raises(FrameError, match=f"flag byte {flag:02x}"):
        report_kind(bytes(7) + bytes([flag]))


def test_a_chunk_out_of_order_is_refused() -> None:
    answer = Answer()
    answer.feed(bytes(7) + b"\x40")
    with pytest.raises(FrameError, match="chunk 2 came where chunk 1 was due"):
        answer.feed(bytes(7) + b"\x42")


def test_an_answer_longer_than_the_limit_is_refused() -> None:
    answer = Answer()
    for sequence in range(ANSWER_LIMIT // 7):
        answer.feed(bytes(7) + bytes([0x40 + sequence]))
    with pytest.raises(FrameError, match="longer than 112 bytes"):
        answer.feed(bytes(7) + bytes([0x40 + ANSWER_LIMIT // 7]))


def test_a_short_answer_is_refused() -> None:
    with pytest.raises(FrameError, match="7 bytes, 20 and a checksum were due"):
        collected(answer_reports(b"abcd")).data(20)


def test_a_wrong_bit_in_an_answer_is_found() -> None:
    first, *rest = answer_reports(b"abcdefgh")
    with pytest.raises(FrameError, match="checksum is wrong"):
        collected([bytes([first[0] ^ 0x10]) + first[1:], *rest]).data(8)


@given(st.lists(st.binary(max_size=9), max_size=40), st.integers(0, 80))
def test_arbitrary_reports_raise_nothing_but_frame_errors(reports: list[bytes], size: int) -> None:
    answer = Answer()
    with contextlib.suppress(FrameError):
        for report in reports:
            if report_kind(report) is ReportKind.STATUS:
                decode_status(report)
            elif report_kind(report) is ReportKind.CHUNK:
                answer.feed(report)
        answer.data(size)


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_a_status_is_read_as_it_was_written(version: tuple[int, int, int], sequence: int, level: int) -> None:
    status = Status(version=version, sequence=sequence, touch_level=level)
    assert decode_status(encode_status(status)) == status


def test_a_status_report_that_does_not_begin_with_zero_is_refused() -> None:
    with pytest.raises(FrameError, match="byte 0 of the status report is 07"):
        decode_status(bytes([7, 5, 4, 3, 1, 3, 0, 0]))


def test_a_busy_report_is_no_status() -> None:
    with pytest.raises(FrameError, match="flag byte 80"):
        decode_status(bytes(7) + b"\x80")


def status(sequence: int, level: int = 2) -> Status:
    return Status(version=(5, 4, 3), sequence=sequence, touch_level=level)


@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        (status(0, 0), status(1), True),
        (status(1), status(2), True),
        (status(1), status(1), False),
        (status(1), status(3), False),
        (status(9), status(0, 0), True),
        (status(0, 0), status(0, 0), False),
        (status(9), status(0, 1), False),
        (status(0xFF), status(0), True),
        (status(0xFF), status(1), True),
        (status(0xFF), status(0xFF), False),
    ],
)
def test_the_program_sequence_tells_whether_one_write_was_accepted(
    before: Status, after: Status, accepted: bool
) -> None:
    assert after.follows(before) is accepted


def test_a_slot_record_is_byte_for_byte_that_of_python_yubico() -> None:
    config = YubiKeyConfig(ykver=(5, 4))
    config.mode_challenge_response(SECRET, type="HMAC", variable=True, require_button=False)
    config.extended_flag("SERIAL_API_VISIBLE", new=True)
    config.access_key(b"abcdef")
    config.unlock_key(b"uvwxyz")
    assert write_payload(hmac_record(SECRET, b"abcdef"), b"uvwxyz") == config.to_string()


records = st.builds(
    SlotRecord,
    fixed=st.binary(min_size=16, max_size=16),
    uid=st.binary(min_size=6, max_size=6),
    key=st.binary(min_size=16, max_size=16),
    access_code=st.binary(min_size=6, max_size=6),
    fixed_size=st.integers(0, 16),
    extended=st.integers(0, 255),
    ticket=st.integers(0, 255),
    config=st.integers(0, 255),
)


@given(records)
def test_a_slot_record_is_read_as_it_was_written(record: SlotRecord) -> None:
    data = encode_record(record)
    assert len(data) == RECORD_SIZE
    assert decode_record(data) == record


@given(st.binary(max_size=60))
def test_arbitrary_records_raise_nothing_but_frame_errors(data: bytes) -> None:
    try:
        record = decode_record(data)
    except FrameError:
        return
    assert record is None or encode_record(record)[:46] == data[:46]


def test_all_zeros_delete_a_slot() -> None:
    assert decode_record(bytes(52)) is None
    assert write_payload(None, b"abcdef") == bytes(52) + b"abcdef"


def test_a_record_with_a_wrong_checksum_is_refused() -> None:
    data = encode_record(hmac_record(SECRET, bytes(6)))
    with pytest.raises(FrameError, match="bytes 50 and 51"):
        decode_record(data[:-1] + bytes([data[-1] ^ 1]))


def test_the_secret_lies_in_key_and_uid() -> None:
    record = hmac_record(SECRET, bytes(6))
    assert (record.key, record.uid, record.secret) == (SECRET[:16], SECRET[16:] + bytes(2), SECRET)
    assert record.answers_hmac


def test_wrong_sizes_are_refused_without_showing_the_value() -> None:
    with pytest.raises(ValueError, match="the secret is 19 bytes and has to be 20"):
        hmac_record(SECRET[:19], bytes(6))
    with pytest.raises(ValueError, match="the access code is 5 bytes and has to be 6"):
        hmac_record(SECRET, bytes(5))
    with pytest.raises(ValueError, match="16 bytes fixed"):
        encode_record(SlotRecord(fixed=b"short"))


def test_a_record_does_not_print_its_secret() -> None:
    record = hmac_record(b"S" * 20, b"ACCESS")
    assert "SSSS" not in repr(record)
    assert "ACCESS" not in repr(record)
