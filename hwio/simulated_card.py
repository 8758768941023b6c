"""A simulated SD card in SPI mode: a state machine that gets one byte and gives one byte per eight clocks.

Rules of this module:

* It behaves like a card on the bench: silent until it had its clocks and a CMD0 with a right CRC7, silent when it is
  out or has no power, and back at the beginning when either returns.
* A fault changes what the card sends and never how the reader is called, so a reader cannot tell it from a real one.
* Source: facts/hardware.md section 4, SPI mode.
"""

from __future__ import annotations

import enum

from .sdcard import CHECK_PATTERN, HIGH_CAPACITY, R1, Cid, Command, crc7, crc16

CLOCKS_BEFORE_START = 74
EXAMPLE_CID = Cid.from_hex("035344535530384780deadbeef01363d")
"""The card of the fact sheet: maker 3, OEM SD, SU08G, revision 8.0, made in June 2019."""

_IDLE_LINE = 0xFF
_FRAME_BYTES = 6
_SUPPLY_RANGE = 0x00FF8000
_POWERED_UP = 1 << 31
_ALWAYS_CHECKED = frozenset({Command.GO_IDLE, Command.SEND_IF_COND})


class Garble(enum.StrEnum):
    """What is wrong with the CID that a card sends."""

    CID = "cid"
    """One bit changes on the wire: neither checksum fits."""
    CRC16 = "crc16"
    """The checksum of the data block is wrong."""
    CRC7 = "crc7"
    """The checksum in byte 15 is wrong, and the data block is sent as it should be."""


class Phase(enum.Enum):
    """How far a card has come since it got power."""

    POWERED = enum.auto()
    IDLE = enum.auto()
    READY = enum.auto()


class SimulatedCard:
    """One SD card; `tries` is how many ACMD41 it takes, `old` is a card before version 2 of the standard.

    `answer_gap` (0 to 8) and `data_gap` are the filling bytes before R1 and before the data token.
    """

    def __init__(
        self, cid: Cid = EXAMPLE_CID, *, tries: int = 2, old: bool = False, answer_gap: int = 1, data_gap: int = 2
    ) -> None:
        self.cid = cid
        self.inserted = True
        self.garbled: Garble | None = None
        self.commands: list[int] = []
        """Numbers of the commands the card understood, for those who count what a reader asks."""
        self._tries = tries
        self._old = old
        self._answer_gap = answer_gap
        self._data_gap = data_gap
        self._begin()

    def pull(self) -> None:
        """Take the card out."""
        self.inserted = False

    def put(self, cid: Cid | None = None) -> None:
        """Put the card back, or another one; it waits for its start."""
        self.cid = cid or self.cid
        self.inserted = True
        self._begin()

    def power_off(self) -> None:
        """Cut the power: the card forgets that it was started."""
        self._begin()

    @property
    def ready(self) -> bool:
        """True once the card was started; it then bears a faster clock."""
        return self._phase is Phase.READY

    def exchange(self, byte: int, *, selected: bool) -> int:
        """Eight clocks: take a byte from the host and give one, FF where the card drives nothing."""
        if not self.inserted:
            return _IDLE_LINE
        if not selected:
            self._clocks += 8
            self._frame.clear()
            self._answer.clear()
            return _IDLE_LINE
        given = self._answer.pop(0) if self._answer else _IDLE_LINE
        self._take(byte)
        return given

    def _begin(self) -> None:
        self._phase = Phase.POWERED
        self._clocks = 0
        self._tries_left = self._tries
        self._checks_crc = False
        self._application = False
        self._frame = bytearray()
        self._answer: list[int] = []

    def _take(self, byte: int) -> None:
        if not self._frame and byte & 0xC0 != 0x40:
            return
        self._frame.append(byte)
        if len(self._frame) == _FRAME_BYTES:
            complete = bytes(self._frame)
            self._frame.clear()
            self._answer = self._obey(complete)

    def _obey(self, complete: bytes) -> list[int]:
        number, argument = complete[0] & 0x3F, int.from_bytes(complete[1:5], "big")
        right = complete[5] == crc7(complete[:5]) << 1 | 1
        if self._phase is Phase.POWERED and not (
            number == Command.GO_IDLE and right and self._clocks >= CLOCKS_BEFORE_START
        ):
            return []
        filling = [_IDLE_LINE] * self._answer_gap
        if not right and (self._checks_crc or number in _ALWAYS_CHECKED):
            return [*filling, self._r1(R1.CRC_ERROR)]
        self.commands.append(number)
        return filling + self._answer_to(number, argument)

    def _answer_to(self, number: int, argument: int) -> list[int]:
        application, self._application = self._application, False
        if number == Command.APP_SEND_OP_COND:
            return self._operate(argument) if application else self._illegal()
        answers = {
            Command.GO_IDLE: self._go_idle,
            Command.SEND_IF_COND: self._interface,
            Command.SEND_CID: self._identify,
            Command.SEND_STATUS: self._status,
            Command.APP_COMMAND: self._announce,
            Command.READ_OCR: self._conditions,
            Command.CRC_ON_OFF: self._set_crc,
        }
        answer = answers.get(Command(number)) if number in answers else None
        return answer(argument) if answer else self._illegal()

    def _r1(self, flags: R1 = R1(0)) -> int:  # noqa: B008 - an enumeration member is immutable
        return int(flags | R1.IDLE if self._phase is Phase.IDLE else flags)

    def _illegal(self) -> list[int]:
        return [self._r1(R1.ILLEGAL_COMMAND)]

    def _go_idle(self, _: int) -> list[int]:
        self._phase = Phase.IDLE
        self._tries_left = self._tries
        self._checks_crc = False
        return [self._r1()]

    def _interface(self, argument: int) -> list[int]:
        if self._old:
            return self._illegal()
        return [self._r1(), *(argument & (CHECK_PATTERN | 0xFF)).to_bytes(4, "big")]

    def _announce(self, _: int) -> list[int]:
        self._application = True
        return [self._r1()]

    def _operate(self, argument: int) -> list[int]:
        # A card that addresses blocks stays idle for a host that does not say it can do so.
        if self._old or argument & HIGH_CAPACITY:
            self._tries_left = max(0, self._tries_left - 1)
            if not self._tries_left:
                self._phase = Phase.READY
        return [self._r1()]

    def _conditions(self, _: int) -> list[int]:
        register = _SUPPLY_RANGE
        if self._phase is Phase.READY:
            register |= _POWERED_UP | (0 if self._old else HIGH_CAPACITY)
        return [self._r1(), *register.to_bytes(4, "big")]

    def _set_crc(self, argument: int) -> list[int]:
        self._checks_crc = bool(argument & 1)
        return [self._r1()]

    def _status(self, _: int) -> list[int]:
        return [self._r1(), 0]

    def _identify(self, _: int) -> list[int]:
        if self._phase is not Phase.READY:
            return self._illegal()
        return [self._r1(), *[_IDLE_LINE] * self._data_gap, 0xFE, *self._cid_block()]

    def _cid_block(self) -> bytes:
        data = bytearray(self.cid.raw)
        if self.garbled is Garble.CRC7:
            data[15] ^= 0x02
        checksum = crc16(bytes(data))
        if self.garbled is Garble.CRC16:
            checksum ^= 0x0001
        if self.garbled is Garble.CID:
            data[9] ^= 0x10
        return bytes(data) + checksum.to_bytes(2, "big")
