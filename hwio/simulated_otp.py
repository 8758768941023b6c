"""The inside of a simulated USB key: its memory in a file, and the chip that reads and writes 8-byte reports.

Rules of this module:

* Sans-USB: `simulated_usbkey` puts this chip behind pyusb.
* The memory is one JSON file of mode 0600 (it holds a secret), replaced as a whole at each write, so that the issuer
  may program the key in one process and the daemon read it in another.
* Faults are part of the memory; nothing here waits, slowness is counted in polls.

Source: facts/hardware.md section 2. Not confirmed on hardware: how often a key shows busy, that a fresh key shows its
serial, and that the program sequence goes on at 1 after FF.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import tempfile
from typing import TYPE_CHECKING

import msgspec

from .otpframes import (
    ABORT_FLAG,
    ACCESS_CODE_SIZE,
    ANSWER_FLAG,
    CHUNK_FLAG,
    CHUNK_SIZE,
    CHUNKS,
    FRAME_SIZE,
    RECORD_SIZE,
    RESET_FLAG,
    SERIAL_SIZE,
    TOUCH_FLAG,
    ConfigFlag,
    ExtendedFlag,
    FrameError,
    Slot,
    SlotRecord,
    Status,
    TouchLevel,
    answer_reports,
    decode_frame,
    decode_record,
    encode_status,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOUCH_SECONDS = 15
"""How long the simulated key offers to wait for a touch, shown in its flag byte."""
_TOUCH_REPORT = bytes(CHUNK_SIZE) + bytes([TOUCH_FLAG + TOUCH_SECONDS])
_CAPABILITIES = bytes([0x01, 1, 0x07])
"""Tag, length, value: one-time passwords, FIDO, smart card."""


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the simulated key."""

    unplugged: bool = False
    no_permission: bool = False
    held_elsewhere: bool = False
    """Another program has claimed the interface."""
    silent: bool = False
    """Control transfers time out."""
    busy_polls: int = 0
    """How many reads show busy after each chunk."""
    slow_polls: int = 0
    """How many reads show busy before an answer."""
    lag_polls: int = 0
    """How many reads after an abort still show the report that was shown before it."""
    touch: bool = False
    """Challenges wait for a touch."""
    garbled: bool = False
    """One bit of each answer is wrong."""
    answered_serial: int | None = None
    """The serial to answer instead of the true one."""
    serial_hidden: bool = False
    """The serial is not shown unless a slot makes it visible."""
    kernel_driver: bool = True
    """usbhid owns the interface when the key is plugged in."""


class KeyMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the simulated key keeps, and how it is plugged in."""

    serial: int
    vendor: int = 0x1050
    product: int = 0x0407
    version: tuple[int, int, int] = (5, 4, 3)
    sequence: int = 0
    slot_1: str = ""
    """52 bytes of a slot record in hexadecimal, or empty."""
    slot_2: str = ""
    address: int = 4
    """The USB address, one more at each plugging-in."""
    answer_flag: int = ANSWER_FLAG
    """C0 on makes that set the busy bit in answers too."""
    faults: Faults = Faults()

    def __repr__(self) -> str:
        # The default would print the slots' secrets.
        return f"KeyMemory(serial={self.serial}, sequence={self.sequence})"

    def record(self, slot: int) -> SlotRecord | None:
        """The configuration of slot 1 or 2, None when it is empty."""
        text = self.slot_1 if slot == 1 else self.slot_2
        return decode_record(bytes.fromhex(text)) if text else None

    @property
    def status(self) -> Status:
        """What the key says of itself."""
        level = 0
        for slot, valid, touch in (
            (1, TouchLevel.SLOT_1_VALID, TouchLevel.SLOT_1_TOUCH),
            (2, TouchLevel.SLOT_2_VALID, TouchLevel.SLOT_2_TOUCH),
        ):
            record = self.record(slot)
            if record is not None:
                level |= valid | (touch if record.config & ConfigFlag.TOUCH else 0)
        return Status(version=self.version, sequence=self.sequence, touch_level=level)


def load_memory(path: Path) -> KeyMemory:
    """Read a key's memory; raises FileNotFoundError when it is not plugged in, ValueError when it is no such file."""
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=KeyMemory)
        memory.record(1)
        memory.record(2)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{path} is not a simulated key: {error}") from error
    return memory


def store_memory(path: Path, memory: KeyMemory) -> None:
    """Replace a key's memory as a whole; the file has mode 0600."""
    data = msgspec.json.format(msgspec.json.encode(memory), indent=2) + b"\n"
    # mkstemp makes the file with mode 0600, and a reader sees the old memory or the new one, never half of one.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        path.parent.joinpath(name).replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            path.parent.joinpath(name).unlink()
        raise


class SimulatedOtp:
    """The chip of a plugged-in key: takes and shows reports; `load` and `store` reach its memory."""

    def __init__(self, load: Callable[[], KeyMemory], store: Callable[[KeyMemory], None]) -> None:
        self._load = load
        self._store = store
        self.reset()

    def reset(self) -> None:
        """Forget an unfinished question or answer."""
        self._frame = bytearray(FRAME_SIZE)
        self._shown: list[bytes] = []
        self._busy = 0
        self._waits_for_touch = False
        self._lagging = b""
        self._lag = 0

    def read_report(self) -> bytes:
        """The 8 bytes the key shows now."""
        if self._lag > 0:
            self._lag -= 1
            return self._lagging
        if self._busy > 0:
            self._busy -= 1
            return bytes(CHUNK_SIZE) + bytes([CHUNK_FLAG])
        if self._waits_for_touch:
            return _TOUCH_REPORT
        if self._shown:
            # The closing report stays until the host resets the key.
            return self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]
        return encode_status(self._load().status)

    def write_report(self, report: bytes) -> None:
        """Take 8 bytes from the host; what comes while busy, or has another flag, is lost."""
        flag = report[CHUNK_SIZE]
        if flag in {ABORT_FLAG, RESET_FLAG}:
            self._abort()
        elif self._busy == 0 and CHUNK_FLAG <= flag < CHUNK_FLAG + CHUNKS:
            self._take_chunk(flag - CHUNK_FLAG, report[:CHUNK_SIZE])

    def _abort(self) -> None:
        # An abort that is repeated while the first one is not yet heeded does not make the key slower still.
        if self._lag > 0:
            return
        last = _TOUCH_REPORT if self._waits_for_touch else b"".join(self._shown[:1])
        self.reset()
        if last:
            self._lagging, self._lag = last, self._load().faults.lag_polls

    def _take_chunk(self, sequence: int, chunk: bytes) -> None:
        if sequence == 0:
            self.reset()
        self._frame[sequence * CHUNK_SIZE : (sequence + 1) * CHUNK_SIZE] = chunk
        memory = self._load()
        if sequence == CHUNKS - 1:
            self._take_frame(memory)
        self._busy += memory.faults.busy_polls

    def _take_frame(self, memory: KeyMemory) -> None:
        frame = bytes(self._frame)
        self.reset()
        try:
            slot, payload = decode_frame(frame)
        except FrameError:
            return
        if slot in {Slot.WRITE_1, Slot.WRITE_2}:
            self._write_slot(memory, 1 if slot == Slot.WRITE_1 else 2, payload)
        elif slot in {Slot.HMAC_1, Slot.HMAC_2}:
            self._challenge(memory, 1 if slot == Slot.HMAC_1 else 2, payload)
        elif slot == Slot.SERIAL and _shows_serial(memory):
            self._answer(memory, _answered_serial(memory))
        elif slot == Slot.CAPABILITIES:
            body = _CAPABILITIES + bytes([0x02, SERIAL_SIZE]) + _answered_serial(memory)
            self._answer(memory, bytes([len(body)]) + body)

    def _answer(self, memory: KeyMemory, data: bytes) -> None:
        self._shown = answer_reports(data, memory.answer_flag)
        self._busy = memory.faults.slow_polls
        if memory.faults.garbled:
            first = self._shown[0]
            self._shown[0] = bytes([first[0] ^ 0x01]) + first[1:]

    def _challenge(self, memory: KeyMemory, slot: int, payload: bytes) -> None:
        record = memory.record(slot)
        if record is None or not record.answers_hmac:
            return
        if record.config & ConfigFlag.TOUCH or memory.faults.touch:
            self._waits_for_touch = True
            return
        # An LT64 slot takes every trailing byte that equals the last one for padding.
        message = payload.rstrip(payload[-1:]) if record.config & ConfigFlag.LT64 else payload
        self._answer(memory, hmac.digest(record.secret, message, hashlib.sha1))

    def _write_slot(self, memory: KeyMemory, slot: int, payload: bytes) -> None:
        earlier = memory.record(slot)
        access_code = payload[RECORD_SIZE : RECORD_SIZE + ACCESS_CODE_SIZE]
        if earlier is not None and any(earlier.access_code) and earlier.access_code != access_code:
            return
        try:
            record = decode_record(payload[:RECORD_SIZE])
        except FrameError:
            return
        text = "" if record is None else payload[:RECORD_SIZE].hex()
        slots = (text, memory.slot_2) if slot == 1 else (memory.slot_1, text)
        sequence = memory.sequence % 0xFF + 1 if any(slots) else 0
        self._store(msgspec.structs.replace(memory, slot_1=slots[0], slot_2=slots[1], sequence=sequence))


def _shows_serial(memory: KeyMemory) -> bool:
    records = [record for record in (memory.record(1), memory.record(2)) if record is not None]
    return not memory.faults.serial_hidden or any(r.extended & ExtendedFlag.SERIAL_VISIBLE for r in records)


def _answered_serial(memory: KeyMemory) -> bytes:
    answered = memory.faults.answered_serial
    return (memory.serial if answered is None else answered).to_bytes(SERIAL_SIZE, "big")
