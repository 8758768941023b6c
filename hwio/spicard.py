"""An SD card on an SPI bus: how it is started, identified and asked whether it is still there.

Rules of this module:

* It speaks through a `Bus`, one call per round trip, and asks nothing of the card that is not needed.
* A card that answers nothing is `Absent`, at any point: it was pulled, or put back and waits for its start. The owner
  opens afresh; nothing here starts a card a second time.
* Each frame carries CRC7, and the card is told to check it (CMD59); CRC7 and CRC16 of what comes back are checked.
* Source: facts/hardware.md section 4, SPI mode.
"""

from __future__ import annotations

from typing import Protocol

from .featurekey import Absent, Busy, Garbled, Unsupported
from .sdcard import (
    ANSWER_BYTES,
    CHECK_PATTERN,
    CID_BYTES,
    DATA_GAP_BYTES,
    HIGH_CAPACITY,
    R1,
    CardDataError,
    Cid,
    Command,
    frame,
    split_answer,
    split_block,
)

RETRY_PAUSE = 0.005
"""Seconds between two tries of a command that a card may refuse at first; without it a fast bus would be kept busy."""

_GAP = b"\xff"
"""Eight clocks before a frame, in which a card finishes the command before."""
_STATUS_BYTES = 1
"""What follows R1 in the answer to CMD13."""
_RELEASE_BYTES = 1
_RELEASED = 0xFF
"""What is read while no card drives the line."""
_BLOCK_BYTES = 1 + CID_BYTES + 2
_CID_WINDOWS = (ANSWER_BYTES + DATA_GAP_BYTES + _BLOCK_BYTES, 512)
"""Bytes to read after CMD10: what cards usually need, then once more for a slow one."""


class Bus(Protocol):
    """What carries bytes to and from the card; all methods raise FeatureKeyError."""

    @property
    def reader(self) -> str:
        """Where the bus is, for messages."""
        ...

    def now(self) -> float:
        """Seconds on a clock that only advances."""
        ...

    def clock(self) -> None:
        """Give at least 74 clocks with the card not selected."""
        ...

    def transfer(self, data: bytes, count: int) -> bytes:
        """Select the card, write `data`, read `count` bytes, deselect it."""
        ...

    def pause(self, seconds: float) -> None:
        """Let the card work for a while."""
        ...


class SpiCard:
    """One SD card on a bus; `start` first, then it can be read and asked."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.high_capacity = False
        """Whether the card addresses blocks; known after `start`."""

    def start(self, *, power_up: float, ready: float) -> None:
        """Bring a card from power-on to ready, within these seconds; raises Absent, Busy, Garbled or Unsupported."""
        self._bus.clock()
        self._go_idle(power_up)
        modern = self._is_modern()
        self._expect(Command.CRC_ON_OFF, R1.IDLE, argument=1)
        self._await_ready(HIGH_CAPACITY if modern else 0, ready)
        ocr = self._expect(Command.READ_OCR, R1(0), extra=4)[:4]
        self.high_capacity = bool(int.from_bytes(ocr, "big") & HIGH_CAPACITY)

    def read_cid(self) -> Cid:
        """Read the identification, both checksums checked; raises Absent or Garbled."""
        for window in _CID_WINDOWS:
            rest = self._expect(Command.SEND_CID, R1(0), extra=window - ANSWER_BYTES)
            try:
                block = split_block(rest, CID_BYTES)
                if block is not None:
                    return Cid.parse(block)
            except CardDataError as error:
                raise Garbled(self._bus.reader, str(error), cure="check the contacts of the card") from error
        raise Garbled(self._bus.reader, f"no CID within {_CID_WINDOWS[-1]} bytes after CMD10")

    def check(self) -> None:
        """Ask for the status (CMD13); raises Absent if the card is gone or is not the one that was started.

        An answer of 00 00 alone is no proof, since a line held low reads so too: Garbled unless the card lets go of the
        line after it.
        """
        r1, rest = self._ask(Command.SEND_STATUS, extra=_STATUS_BYTES + _RELEASE_BYTES)
        if R1.IDLE in r1:
            raise Absent(self._bus.reader, "the card was reset or exchanged", cure="open the reader again")
        if r1 or rest[:1] == b"\xff":
            raise self._wrong(Command.SEND_STATUS, r1, R1(0))
        if (after := rest[_STATUS_BYTES]) != _RELEASED:
            what = (
                f"the byte after the answer to CMD13 is {after:02x}, expected {_RELEASED:02x}: something holds the line"
            )
            raise Garbled(self._bus.reader, what, cure="check the contacts of the card")

    def _go_idle(self, power_up: float) -> None:
        """CMD0 until the card answers 01; one that was powered just now may miss the first ones."""
        end = self._bus.now() + power_up
        while (answer := self._try(Command.GO_IDLE)) is None or answer[0] != R1.IDLE:
            if self._bus.now() >= end:
                raise self._silent() if answer is None else self._wrong(Command.GO_IDLE, answer[0], R1.IDLE)
            self._bus.pause(RETRY_PAUSE)

    def _is_modern(self) -> bool:
        """CMD8: cards before version 2 of the standard do not know it."""
        r1, rest = self._ask(Command.SEND_IF_COND, CHECK_PATTERN, extra=4)
        if r1 == R1.IDLE | R1.ILLEGAL_COMMAND:
            return False
        if r1 != R1.IDLE:
            raise self._wrong(Command.SEND_IF_COND, r1, R1.IDLE)
        if (echo := int.from_bytes(rest[:4], "big")) != CHECK_PATTERN:
            raise Garbled(self._bus.reader, f"CMD8 echoed {echo:08x}, expected {CHECK_PATTERN:08x}")
        return True

    def _await_ready(self, argument: int, ready: float) -> None:
        end = self._bus.now() + ready
        while (r1 := self._operate(argument)) == R1.IDLE:
            if self._bus.now() >= end:
                raise Busy(self._bus.reader, f"the card was not ready within {ready:g} s", cure="put in another card")
            self._bus.pause(RETRY_PAUSE)
        if R1.ILLEGAL_COMMAND in r1:
            raise Unsupported(self._bus.reader, "the card refuses ACMD41: not an SD card", cure="put in an SD card")
        if r1:
            raise self._wrong(Command.APP_SEND_OP_COND, r1, R1(0))

    def _operate(self, argument: int) -> R1:
        """CMD55 and ACMD41 in one round trip; a refused CMD55 shows as ACMD41 being illegal."""
        prefix = frame(Command.APP_COMMAND) + _GAP * (ANSWER_BYTES + 1)
        answer = self._bus.transfer(_GAP + prefix + frame(Command.APP_SEND_OP_COND, argument), ANSWER_BYTES)
        if (found := split_answer(answer)) is None:
            raise self._silent()
        return found[0]

    def _expect(self, command: Command, expected: R1, *, argument: int = 0, extra: int = 0) -> bytes:
        r1, rest = self._ask(command, argument, extra=extra)
        if r1 != expected:
            raise self._wrong(command, r1, expected)
        return rest

    def _ask(self, command: Command, argument: int = 0, *, extra: int = 0) -> tuple[R1, bytes]:
        if (answer := self._try(command, argument, extra=extra)) is None:
            raise self._silent()
        return answer

    def _try(self, command: Command, argument: int = 0, *, extra: int = 0) -> tuple[R1, bytes] | None:
        return split_answer(self._bus.transfer(_GAP + frame(command, argument), ANSWER_BYTES + extra))

    def _silent(self) -> Absent:
        return Absent(self._bus.reader, "no card answers", cure="put the card in")

    def _wrong(self, command: Command, r1: R1, expected: R1) -> Garbled:
        flags = ", ".join(str(flag.name).lower().replace("_", " ") for flag in R1 if flag in r1) or "no flag"
        what = f"CMD{int(command)} was answered with {int(r1):02x} ({flags}), expected {int(expected):02x}"
        return Garbled(self._bus.reader, what, cure="check the contacts of the card")
