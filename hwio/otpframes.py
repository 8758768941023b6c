"""The frames of USB one-time-password keys: 70-byte frames, 8-byte reports, CRC, answers, status, slot records.

Rules of this module:

* Sans-IO: bytes in, bytes out; no device, no clock. Reports come from `usbkey` or from the simulated key.
* Every report is 8 bytes: 7 of data and 1 flag byte. What the flag says is decided in `report_kind` and nowhere else.
* What does not fit the protocol raises `FrameError`, which names the byte; the reader turns it into `Garbled`.

Source of all layouts and numbers: facts/hardware.md section 2.
"""

from __future__ import annotations

import enum

import msgspec

REPORT_SIZE = 8
CHUNK_SIZE = 7
PAYLOAD_SIZE = 64
FRAME_SIZE = 70
CHUNKS = FRAME_SIZE // CHUNK_SIZE
ANSWER_LIMIT = 16 * CHUNK_SIZE
"""Longest answer taken, in bytes: those asked for have 6 and 22, and a key that never ends must not fill memory."""

CHUNK_FLAG = 0x80
ABORT_FLAG = 0x8F
RESET_FLAG = 0xFF
ANSWER_FLAG = 0x40
TOUCH_FLAG = 0x20
SEQUENCE_MASK = 0x1F

CRC_INIT = 0xFFFF
CRC_RESIDUE = 0xF0B8
_CRC_POLYNOMIAL = 0x8408
"""Reflected form of the CCITT polynomial 1021."""
_CRC_SIZE = 2

ABORT_REPORT = bytes(CHUNK_SIZE) + bytes([ABORT_FLAG])

ACCESS_CODE_SIZE = 6
RECORD_SIZE = 52
SECRET_SIZE = 20
HMAC_SIZE = 20
SERIAL_SIZE = 4


class Slot(enum.IntEnum):
    """The slot byte of a frame: what the key shall do."""

    WRITE_1 = 0x01
    WRITE_2 = 0x03
    SERIAL = 0x10
    CAPABILITIES = 0x13
    HMAC_1 = 0x30
    HMAC_2 = 0x38


class ExtendedFlag(enum.IntFlag):
    """Byte 45 of a slot record."""

    SERIAL_VISIBLE = 0x04


class TicketFlag(enum.IntFlag):
    """Byte 46 of a slot record."""

    CHALLENGE_RESPONSE = 0x40


class ConfigFlag(enum.IntFlag):
    """Byte 47 of a slot record."""

    LT64 = 0x04
    TOUCH = 0x08
    HMAC = 0x22


class TouchLevel(enum.IntFlag):
    """Bits of the touch level in a status report."""

    SLOT_1_VALID = 0x01
    SLOT_2_VALID = 0x02
    SLOT_1_TOUCH = 0x04
    SLOT_2_TOUCH = 0x08


class FrameError(ValueError):
    """A report or record is not what the protocol says; the message names the byte or the checksum."""


class ReportKind(enum.Enum):
    """What a report from the key is, by its flag byte."""

    STATUS = "status"
    BUSY = "busy"
    TOUCH = "touch"
    CHUNK = "chunk"


def crc16(data: bytes, crc: int = CRC_INIT) -> int:
    """Checksum of frames, answers and records; over data and its inverted checksum it gives `CRC_RESIDUE`."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CRC_POLYNOMIAL if crc & 1 else 0)
    return crc


def inverted_crc(data: bytes) -> bytes:
    """The two checksum bytes (low byte first) that make `data` and them together leave the residue."""
    return (crc16(data) ^ 0xFFFF).to_bytes(_CRC_SIZE, "little")


def encode_frame(slot: int, payload: bytes = b"") -> bytes:
    """The 70 bytes of one question: payload padded with 00 to 64, slot byte, checksum of the payload, three zeros.

    Raises ValueError when the payload is longer than 64 bytes.
    """
    if len(payload) > PAYLOAD_SIZE:
        raise ValueError(f"the payload is {len(payload)} bytes, a frame holds {PAYLOAD_SIZE}")
    padded = payload.ljust(PAYLOAD_SIZE, b"\0")
    return (padded + bytes([slot]) + crc16(padded).to_bytes(_CRC_SIZE, "little")).ljust(FRAME_SIZE, b"\0")


def decode_frame(frame: bytes) -> tuple[int, bytes]:
    """The slot byte and the 64 payload bytes of a frame; raises FrameError on a wrong length or checksum."""
    if len(frame) != FRAME_SIZE:
        raise FrameError(f"the frame is {len(frame)} bytes instead of {FRAME_SIZE}")
    payload = frame[:PAYLOAD_SIZE]
    checksum = int.from_bytes(frame[PAYLOAD_SIZE + 1 : PAYLOAD_SIZE + 1 + _CRC_SIZE], "little")
    if crc16(payload) != checksum:
        raise FrameError(f"the frame's checksum (bytes 65 and 66) is {checksum:04x} instead of {crc16(payload):04x}")
    return frame[PAYLOAD_SIZE], payload


def frame_reports(frame: bytes) -> list[bytes]:
    """The reports to write for a frame; all-zero chunks are left out except the first and the last."""
    chunks = [frame[start : start + CHUNK_SIZE] for start in range(0, FRAME_SIZE, CHUNK_SIZE)]
    return [
        chunk + bytes([CHUNK_FLAG + sequence])
        for sequence, chunk in enumerate(chunks)
        if any(chunk) or sequence in {0, CHUNKS - 1}
    ]


def report_kind(report: bytes) -> ReportKind:
    """What a report from the key is; raises FrameError on a wrong length or a flag byte of no known meaning.

    Answer chunks carry 40 + sequence, or C0 + sequence where a maker sets the busy bit as well.
    """
    if len(report) != REPORT_SIZE:
        raise FrameError(f"the report is {len(report)} bytes instead of {REPORT_SIZE}")
    flag = report[CHUNK_SIZE]
    if flag == 0:
        return ReportKind.STATUS
    if flag & ANSWER_FLAG and not flag & TOUCH_FLAG:
        return ReportKind.CHUNK
    if flag & CHUNK_FLAG:
        return ReportKind.BUSY
    if flag & TOUCH_FLAG and not flag & ANSWER_FLAG:
        return ReportKind.TOUCH
    raise FrameError(f"flag byte {flag:02x} of the report has no meaning")


class Answer:
    """Puts the chunks of one answer together, in order, up to `ANSWER_LIMIT` bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._next = 0
        self._complete = False

    @property
    def started(self) -> bool:
        """True once the first chunk came."""
        return self._next > 0

    def feed(self, report: bytes) -> bool:
        """Take one chunk report; True when the answer is complete (sequence 0 came again).

        Raises FrameError when a chunk is out of order, or when the answer never ends.
        """
        sequence = report[CHUNK_SIZE] & SEQUENCE_MASK
        if self.started and sequence == 0:
            self._complete = True
        elif sequence != self._next:
            raise FrameError(f"answer chunk {sequence} came where chunk {self._next} was due")
        elif len(self._data) >= ANSWER_LIMIT:
            raise FrameError(f"the answer is longer than {ANSWER_LIMIT} bytes")
        else:
            self._data += report[:CHUNK_SIZE]
            self._next += 1
        return self._complete

    def data(self, size: int) -> bytes:
        """The `size` data bytes of a complete answer; raises FrameError when it is shorter or its checksum is wrong."""
        checked = bytes(self._data[: size + _CRC_SIZE])
        if len(checked) < size + _CRC_SIZE:
            raise FrameError(f"the answer is {len(self._data)} bytes, {size} and a checksum were due")
        if crc16(checked) != CRC_RESIDUE:
            raise FrameError(f"the answer's checksum is wrong: residue {crc16(checked):04x}, not {CRC_RESIDUE:04x}")
        return checked[:size]


def answer_reports(data: bytes, flag: int = ANSWER_FLAG) -> list[bytes]:
    """The reports a key shows for an answer, with the closing report of sequence 0."""
    checked = data + inverted_crc(data)
    padded = checked.ljust(-(-len(checked) // CHUNK_SIZE) * CHUNK_SIZE, b"\0")
    chunks = [padded[start : start + CHUNK_SIZE] for start in range(0, len(padded), CHUNK_SIZE)]
    reports = [chunk + bytes([flag + sequence]) for sequence, chunk in enumerate(chunks)]
    return [*reports, bytes(CHUNK_SIZE) + bytes([flag])]


class Status(msgspec.Struct, frozen=True):
    """What a key says of itself in the report with flag 00."""

    version: tuple[int, int, int]
    sequence: int
    """Program sequence: rises by one per write, 0 when both slots are empty."""
    touch_level: int

    @property
    def slot_2_valid(self) -> bool:
        """True when slot 2 holds a configuration."""
        return bool(self.touch_level & TouchLevel.SLOT_2_VALID)

    @property
    def any_slot_valid(self) -> bool:
        """True when at least one slot holds a configuration."""
        return bool(self.touch_level & (TouchLevel.SLOT_1_VALID | TouchLevel.SLOT_2_VALID))

    @property
    def firmware(self) -> str:
        """The version as people write it, e.g. `5.4.3`."""
        return ".".join(map(str, self.version))

    def follows(self, earlier: Status) -> bool:
        """True when exactly one write was accepted between `earlier` and this status.

        A deleted last slot shows sequence 0. What comes after FF is not documented, so both 0 and 1 are taken.
        """
        if self.sequence == 0 and not self.any_slot_valid:
            return earlier.any_slot_valid
        if earlier.sequence == 0xFF:
            return self.sequence in {0, 1}
        return self.sequence == earlier.sequence + 1


def decode_status(report: bytes) -> Status:
    """The status in a report of kind STATUS; raises FrameError when its first byte is not 00."""
    if report_kind(report) is not ReportKind.STATUS:
        raise FrameError(f"flag byte {report[CHUNK_SIZE]:02x} instead of 00 in a status report")
    if report[0] != 0:
        raise FrameError(f"byte 0 of the status report is {report[0]:02x} instead of 00")
    version = (report[1], report[2], report[3])
    return Status(version=version, sequence=report[4], touch_level=int.from_bytes(report[5:7], "little"))


def encode_status(status: Status) -> bytes:
    """The report that shows `status`."""
    return bytes([0, *status.version, status.sequence]) + status.touch_level.to_bytes(2, "little") + b"\0"


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one slot: 52 bytes on the wire."""

    fixed: bytes = bytes(16)
    uid: bytes = bytes(6)
    key: bytes = bytes(16)
    access_code: bytes = bytes(ACCESS_CODE_SIZE)
    fixed_size: int = 0
    extended: int = 0
    ticket: int = 0
    config: int = 0

    def __repr__(self) -> str:
        # The default would print the secret into tracebacks and logs.
        return f"SlotRecord(extended={self.extended:02x}, ticket={self.ticket:02x}, config={self.config:02x})"

    @property
    def secret(self) -> bytes:
        """The 20 bytes of the HMAC secret: the key field and the first 4 bytes of the uid field."""
        return self.key + self.uid[:4]

    @property
    def answers_hmac(self) -> bool:
        """True when the slot answers HMAC-SHA1 challenges."""
        return bool(self.ticket & TicketFlag.CHALLENGE_RESPONSE) and self.config & ConfigFlag.HMAC == ConfigFlag.HMAC


def encode_record(record: SlotRecord) -> bytes:
    """The 52 bytes of a slot record; raises ValueError when a field has a wrong length."""
    flags = bytes([record.fixed_size, record.extended, record.ticket, record.config, 0, 0])
    body = record.fixed + record.uid + record.key + record.access_code + flags
    if [len(record.fixed), len(record.uid), len(record.key), len(record.access_code)] != [16, 6, 16, ACCESS_CODE_SIZE]:
        raise ValueError("a slot record has 16 bytes fixed, 6 uid, 16 key and 6 access code")
    return body + inverted_crc(body)


def decode_record(data: bytes) -> SlotRecord | None:
    """The record in 52 bytes, or None for all zeros, which deletes the slot; raises FrameError on a wrong checksum."""
    if len(data) != RECORD_SIZE:
        raise FrameError(f"the slot record is {len(data)} bytes instead of {RECORD_SIZE}")
    if not any(data):
        return None
    if crc16(data) != CRC_RESIDUE:
        raise FrameError("the slot record's checksum (bytes 50 and 51) is wrong")
    fixed, uid, key, access_code = data[:16], data[16:22], data[22:38], data[38:44]
    return SlotRecord(
        fixed=fixed,
        uid=uid,
        key=key,
        access_code=access_code,
        fixed_size=data[44],
        extended=data[45],
        ticket=data[46],
        config=data[47],
    )


def hmac_record(secret: bytes, access_code: bytes) -> SlotRecord:
    """The record of an HMAC-SHA1 slot as licenses need it: LT64, no touch, serial visible.

    Raises ValueError when the secret is not 20 bytes or the access code not 6; the message holds neither.
    """
    require_size("secret", secret, SECRET_SIZE)
    require_size("access code", access_code, ACCESS_CODE_SIZE)
    return SlotRecord(
        uid=secret[16:].ljust(6, b"\0"),
        key=secret[:16],
        access_code=access_code,
        extended=ExtendedFlag.SERIAL_VISIBLE,
        ticket=TicketFlag.CHALLENGE_RESPONSE,
        config=ConfigFlag.HMAC | ConfigFlag.LT64,
    )


def write_payload(record: SlotRecord | None, access_code: bytes) -> bytes:
    """The payload that writes a slot (None deletes it): 52 bytes of record, 6 of the access code that holds now."""
    require_size("access code", access_code, ACCESS_CODE_SIZE)
    return (bytes(RECORD_SIZE) if record is None else encode_record(record)) + access_code


def require_size(name: str, value: bytes, size: int) -> None:
    """Raise ValueError, without the value, unless `value` is exactly `size` bytes."""
    if len(value) != size:
        raise ValueError(f"the {name} is {len(value)} bytes and has to be {size}")
