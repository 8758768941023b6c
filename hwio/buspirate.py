"""The Bus Pirate v3 and v4 in its binary SPI mode, as a bus for an SD card.

Rules of this module:

* It speaks through a `Line`, which also owns the clock, so that all of it runs against a line without a device.
* One method call is one round trip, because the latency of a USB adapter is nearly all of the time spent.
* A mark (`BBIO1`, `SPI1`) is waited for by its text and never by a number of bytes: a second `BBIO1` may come late,
  and a terminal may still be printing. Once in SPI mode each request has an answer of known length, and a byte that
  nobody asked for is an error.
* Silence is `Absent`, other bytes are `Garbled`, a newer device is `Unsupported`.
* Source: facts/hardware.md section 4, table of readers, and its timing lessons.
"""

from __future__ import annotations

import contextlib
import re
from typing import Protocol

import msgspec

from .featurekey import Absent, FeatureKeyError, Garbled, Unsupported
from .sdcard import printable

TRANSFER_MOST = 4096
"""Bytes the firmware can write or read in one transfer."""
SEEN_MOST = 256
"""Bytes kept of what a device says before a mark; enough to recognize a banner, and a babbler cannot fill memory."""

_ENTER_BINARY = bytes(20)
_LEAVE_PROMPTS = b"\r" * 10
_ROUND = 0.5
"""Seconds after which the way into binary mode is tried again: a resetting device swallows the first attempt."""
_LEAVE_WITHIN = 0.2
"""Seconds to wait for the farewell; a device that is slower is found by the next `enter` in whatever state it is."""
_SPI, _RESET, _TO_BINARY = b"\x01", b"\x0f", b"\x00"
_BULK_OF_10 = b"\x19"
_TRANSFER = b"\x04"
_OUTPUTS = bytes([0x8A, 0x49, 0x62, 0x03])
"""Push-pull outputs, power on with CS high, 250 kHz (a card may want 400 kHz at most until it is started), CS high.
Four bytes in one go and not more: the firmware's receiver holds four."""
_NEWER = re.compile(rb"BBIO[2-9]|SPI[2-9]|Bus Pirate (?:v|rev)?\.? ?[56]", re.IGNORECASE)


class Line(Protocol):
    """A byte stream with deadlines; all methods raise FeatureKeyError."""

    @property
    def reader(self) -> str:
        """Where the line goes, for messages."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether something other than a real port is behind it."""
        ...

    def now(self) -> float:
        """Seconds on the clock of this line's deadlines."""
        ...

    def write(self, data: bytes) -> None:
        """Send all bytes."""
        ...

    def read(self, timeout: float) -> bytes:
        """What has arrived, waiting `timeout` seconds for the first byte; empty if none came."""
        ...

    def close(self) -> None:
        """Let go of the line."""
        ...


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a reader waits, in seconds; the defaults hold on a loaded host with two cores."""

    answer: float = 2.0
    """For one answer, and for the way into binary mode."""
    ready: float = 2.0
    """For a card to finish its start; real cards take up to 1 s."""
    power_up: float = 0.1
    """For the first answer of a card after power is on; the supply may rise for 35 ms."""
    quiet: float = 0.05
    """Without a byte until a line counts as quiet."""


class BusPirate:
    """One Bus Pirate on a line; `enter` first, then the bus is usable until `leave`."""

    def __init__(self, line: Line, timeouts: Timeouts) -> None:
        self._line = line
        self._timeouts = timeouts
        self._seen = b""
        """What came since the last mark; after `enter` a byte in it is one that nobody asked for."""
        self._entered = False

    @property
    def reader(self) -> str:
        """Where the bus is, for messages."""
        return self._line.reader

    def now(self) -> float:
        """Seconds on the clock of the line."""
        return self._line.now()

    def enter(self) -> None:
        """Bring the device from any state to SPI mode with a powered card; raises Absent, Garbled or Unsupported."""
        self._enter_binary()
        self._drain()
        self._entered = True
        self._line.write(_SPI)
        if not self._await(b"SPI1", self.now() + self._timeouts.answer):
            raise self._strange("no SPI mode")
        if (answer := self._exchange(_OUTPUTS, len(_OUTPUTS))) != b"\x01" * len(_OUTPUTS):
            raise Garbled(self.reader, f"output settings were answered with {answer.hex(' ')}")

    def clock(self) -> None:
        """Give the card 80 clocks with CS high, which it needs after power is on (the standard wants 74)."""
        self._exchange(_BULK_OF_10 + b"\xff" * 10, 1 + 10)

    def transfer(self, data: bytes, count: int) -> bytes:
        """Select the card, write `data`, read `count` bytes, deselect it: one round trip for one command."""
        if max(len(data), count) > TRANSFER_MOST:
            raise ValueError(f"a transfer has at most {TRANSFER_MOST} bytes each way")
        lengths = len(data).to_bytes(2, "big") + count.to_bytes(2, "big")
        return self._exchange(_TRANSFER + lengths + data, 1 + count)[1:]

    def pause(self, seconds: float) -> None:
        """Let the card work for a while; a byte that comes meanwhile is kept as one that nobody asked for."""
        self._keep(self._line.read(seconds))

    def leave(self) -> None:
        """Cut the card's power and give the device back to its terminal; a device that is gone is not an error."""
        if not self._entered:
            return
        self._entered = False
        with contextlib.suppress(FeatureKeyError):
            self._line.write(_TO_BINARY + _RESET)
            # The answer shows that the bytes are out: closing a port throws away what is still unsent.
            self._await(b"BBIO1\x01", self.now() + min(_LEAVE_WITHIN, self._timeouts.answer))

    def _enter_binary(self) -> None:
        end = self.now() + self._timeouts.answer
        self._line.write(_ENTER_BINARY)
        while not self._await(b"BBIO1", min(end, self.now() + _ROUND)):
            if self.now() >= end or _NEWER.search(self._seen):
                raise self._strange("no binary mode")
            # Carriage returns lead out of a menu that an interrupted session may have left open.
            self._line.write(_LEAVE_PROMPTS + _ENTER_BINARY)

    def _await(self, mark: bytes, end: float) -> bool:
        """Read until the mark has come; False if it has not by `end`, with what came instead in `_seen`."""
        tail = self._seen
        while mark not in tail:
            if (left := end - self.now()) <= 0:
                return False
            data = self._line.read(left)
            self._keep(data)
            tail = tail[-len(mark) :] + data
        self._seen = tail.partition(mark)[2]
        return True

    def _keep(self, data: bytes) -> None:
        self._seen = (self._seen + data)[:SEEN_MOST]

    def _drain(self) -> None:
        end = self.now() + self._timeouts.answer
        while data := self._line.read(self._timeouts.quiet):
            self._keep(data)
            if self.now() >= end:
                raise self._strange("never silent")
        self._seen = b""

    def _strange(self, what: str) -> FeatureKeyError:
        if not self._seen:
            return Absent(self.reader, f"{what}: nothing answers", cure="is the Bus Pirate on this port?")
        seen = f"{what}: the device says '{printable(self._seen)}'"
        if _NEWER.search(self._seen):
            return Unsupported(self.reader, seen, cure="use a Bus Pirate v3 or v4")
        return Garbled(self.reader, seen, cure="is the Bus Pirate on this port?")

    def _exchange(self, request: bytes, count: int) -> bytes:
        """Send a request of SPI mode and read its answer of `count` bytes, the first of which must be 01."""
        self._keep(self._line.read(0))
        if self._seen:
            raise Garbled(self.reader, f"bytes that nobody asked for: '{printable(self._seen)}'")
        self._line.write(request)
        answer = self._read_answer(count)
        if answer[0] != 0x01:
            raise Garbled(self.reader, f"request {request[0]:02x} was answered with '{printable(answer)}', expected 01")
        if len(answer) != count:
            raise Garbled(self.reader, f"answer to {request[0]:02x} has {len(answer)} bytes, expected {count}")
        return answer

    def _read_answer(self, count: int) -> bytes:
        end = self.now() + self._timeouts.answer
        answer = b""
        while len(answer) < count and (left := end - self.now()) > 0:
            answer += self._line.read(left)
            if answer[:1] not in (b"", b"\x01"):
                break
        if not answer:
            raise Absent(self.reader, f"silent for {self._timeouts.answer:g} s", cure="plug it in again")
        return answer
