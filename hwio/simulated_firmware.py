"""The firmware of a Bus Pirate v3 as a state machine: bytes from the host in, bytes to the host out.

Rules of this module:

* Outputs are open drain and the supply is off until the host says otherwise (8x, 4x), as on the real device: a host
  that forgets it clocks nothing into the card and reads FF. So does one in another SPI mode than a card's, or too fast.
* No garbage makes it fail, and enough zeros lead back to binary mode from everywhere.
* Source: facts/hardware.md section 4, table of readers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from .simulated_card import SimulatedCard

BANNER = b"Bus Pirate v3b\r\nFirmware v6.1 r1676  Bootloader v4.4\r\n"
PROMPT = b"HiZ>"
ZEROS_TO_BINARY = 20
TRANSFER_MOST = 4096
TYPED_MOST = 80
"""Characters of a typed line that the terminal keeps; the real one has a ring of a few hundred."""

START_SPEED_MOST = 2
"""The speed setting of 250 kHz: a card may want 400 kHz at most until it is ready."""
READY_SPEED_MOST = 4
"""The speed setting of 2 MHz, above which the firmware is broken up to version 6.1."""

_DONE, _REFUSED = b"\x01", b"\x00"
_UNDRIVEN = 0xFF
_CARD_MODE = 0x0A
"""Push-pull outputs, clock idle low (CKP 0), data out on the falling edge (CKE 1), sampled in the middle (SMP 0)."""


class Mode(enum.Enum):
    """Who the firmware is talking to."""

    TERMINAL = enum.auto()
    BINARY = enum.auto()
    SPI = enum.auto()


class Stuck(enum.StrEnum):
    """The level at which the line from the card to the host is held."""

    LOW = "low"
    HIGH = "high"

    @property
    def byte(self) -> int:
        """What the host reads."""
        return 0x00 if self is Stuck.LOW else 0xFF


class BusPirateFirmware:
    """One Bus Pirate with a card on its SPI pins."""

    def __init__(self, card: SimulatedCard) -> None:
        self.stuck: Stuck | None = None
        """A fault of the line from the card, which the card does not notice."""
        self._card = card
        self._modes = {Mode.TERMINAL: self._terminal, Mode.BINARY: self._binary, Mode.SPI: self._spi}
        self._mode = Mode.TERMINAL
        self._zeros = 0
        self._typed = b""
        self._wanted = 0
        self._held = b""
        self._complete: Callable[[bytes], bytes] = bytes
        self._release_pins()

    @property
    def mode(self) -> Mode:
        """Where the firmware is now."""
        return self._mode

    def feed(self, data: bytes) -> bytes:
        """Take what the host sent and give what the device answers."""
        return b"".join(self._take(byte) for byte in data)

    def _take(self, byte: int) -> bytes:
        if not self._wanted:
            return self._modes[self._mode](byte)
        self._held += bytes([byte])
        if len(self._held) < self._wanted:
            return b""
        complete, self._held, self._wanted = self._held, b"", 0
        return self._complete(complete)

    def _collect(self, count: int, complete: Callable[[bytes], bytes]) -> bytes:
        """Let the next `count` bytes be data for `complete`."""
        if not count:
            return complete(b"")
        self._wanted, self._complete = count, complete
        return b""

    def _reset(self) -> None:
        self._mode = Mode.TERMINAL
        self._typed = b""
        self._release_pins()

    def _release_pins(self) -> None:
        self._spi_mode = 0
        self._speed = 0
        self._power = False
        self._selected = False
        self._card.power_off()

    def _terminal(self, byte: int) -> bytes:
        if byte == 0:
            self._zeros += 1
            return self._enter_binary() if self._zeros == ZEROS_TO_BINARY else b""
        self._zeros = 0
        if byte != 0x0D:
            self._typed = (self._typed + bytes([byte]))[-TYPED_MOST:]
            return bytes([byte])
        typed, self._typed = self._typed, b""
        return b"\r\n" + (BANNER if typed in (b"i", b"#") else b"") + PROMPT

    def _enter_binary(self) -> bytes:
        self._mode = Mode.BINARY
        self._zeros = 0
        self._release_pins()
        return b"BBIO1"

    def _binary(self, byte: int) -> bytes:
        if byte == 0x00:
            return b"BBIO1"
        if byte == 0x01:
            self._mode = Mode.SPI
            return b"SPI1"
        if byte == 0x0F:
            self._reset()
            return _DONE + b"\r\n" + BANNER + PROMPT
        return _REFUSED

    def _spi(self, byte: int) -> bytes:
        if byte >> 4:
            return self._spi_setting(byte)
        if byte == 0x00:
            return self._enter_binary()
        if byte == 0x01:
            return b"SPI1"
        if byte in (0x02, 0x03):
            self._selected = byte == 0x02
            return _DONE
        if byte in (0x04, 0x05):
            return self._collect(4, lambda lengths: self._begin_transfer(lengths, select=byte == 0x04))
        return _REFUSED

    def _spi_setting(self, byte: int) -> bytes:
        command, value = byte >> 4, byte & 15
        if command == 1:
            return _DONE + self._begin_bulk(value + 1)
        if command == 4:
            self._power = bool(value & 8)
            self._selected = not value & 1
            if not self._power:
                self._card.power_off()
            return _DONE
        if command == 8:
            self._spi_mode = value
            return _DONE
        if command == 6:
            self._speed = value & 7
            return _DONE
        return _REFUSED

    def _begin_bulk(self, count: int) -> bytes:
        def one(data: bytes) -> bytes:
            nonlocal count
            count -= 1
            if count:
                self._collect(1, one)
            return bytes([self._exchange(data[0])])

        return self._collect(1, one)

    def _begin_transfer(self, lengths: bytes, *, select: bool) -> bytes:
        write, read = int.from_bytes(lengths[:2], "big"), int.from_bytes(lengths[2:], "big")
        if max(write, read) > TRANSFER_MOST:
            return _REFUSED
        return self._collect(write, lambda data: self._transfer(data, read, select=select))

    def _transfer(self, data: bytes, read: int, *, select: bool) -> bytes:
        self._selected = self._selected or select
        for byte in data:
            self._exchange(byte)
        answer = bytes(self._exchange(0xFF) for _ in range(read))
        self._selected = self._selected and not select
        return _DONE + answer

    def _exchange(self, byte: int) -> int:
        given = self._card.exchange(byte, selected=self._selected) if self._reaches_card() else _UNDRIVEN
        return given if self.stuck is None else self.stuck.byte

    def _reaches_card(self) -> bool:
        most = READY_SPEED_MOST if self._card.ready else START_SPEED_MOST
        return self._power and self._spi_mode == _CARD_MODE and self._speed <= most
