"""SD cards without I/O: checksums, the card identification register (CID), SPI command frames and their answers.

Rules of this module:

* Nothing here opens, waits or knows a clock: bytes in, values out.
* The identity of a card is the first 15 bytes of its CID. Byte 15 is a checksum that many hosts strip to 00 in sysfs:
  only there may it be 00 unchecked, and it is recomputed where it is shown, so that one card has one identity in a slot
  and on a serial line.
* A card is not refused for a strange name or date, since cheap cards carry both; it is refused for a wrong checksum and
  for a CID of nothing but 00 or FF, which is what a dead line sends (its CRC16 is even right).
* Source: facts/hardware.md section 4.
"""

from __future__ import annotations

import binascii
import enum
import string

import msgspec

CID_BYTES = 16
IDENTITY_BYTES = 15
ANSWER_BYTES = 9
"""Bytes in which R1 must come: up to 8 filling bytes, then R1 itself."""
DATA_GAP_BYTES = 8
"""Filling bytes a card usually takes between R1 and the data token of a register."""
CHECK_PATTERN = 0x1AA
"""Argument of CMD8: 2.7 to 3.6 volts, and AA to be echoed."""
HIGH_CAPACITY = 1 << 30
"""Bit 30: in ACMD41 the host can address blocks, in the OCR the card does."""

_DATA_TOKEN = 0xFE
_FILLING = 0xFF


class CardDataError(ValueError):
    """What came from a card is not what the standard says; the message names the byte, character or checksum."""


def crc7(data: bytes) -> int:
    """The 7-bit checksum of command frames and of the CID: polynomial 09, initial value 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ (0x112 if crc & 0x80 else 0)
    return crc >> 1


def crc16(data: bytes) -> int:
    """The 16-bit checksum of data blocks: polynomial 1021, initial value 0."""
    return binascii.crc_hqx(data, 0)


class Cid(msgspec.Struct, frozen=True):
    """The factory identification of one SD card; raises CardDataError where `identity` cannot be one."""

    identity: bytes
    """The first 15 bytes, most significant first."""

    def __post_init__(self) -> None:
        if len(self.identity) != IDENTITY_BYTES:
            raise CardDataError(f"a CID has {IDENTITY_BYTES} bytes before its CRC7, here are {len(self.identity)}")
        for blank in (0x00, 0xFF):
            if self.identity == bytes([blank]) * IDENTITY_BYTES:
                raise CardDataError(f"bytes 0 to 14 of the CID are all {blank:02x}: a dead line, not a card")

    @classmethod
    def parse(cls, raw: bytes, *, may_be_stripped: bool = False) -> Cid:
        """Read 16 bytes as they come from a card; raises CardDataError.

        Byte 15 is checked; with `may_be_stripped` it may also be 00 (facts/hardware.md section 4, traps).
        """
        if len(raw) != CID_BYTES:
            raise CardDataError(f"a CID has {CID_BYTES} bytes, here are {len(raw)}")
        cid = cls(bytes(raw[:IDENTITY_BYTES]))
        if raw[15] != cid.crc_byte and not (may_be_stripped and raw[15] == 0):
            raise CardDataError(f"CRC7 in byte 15 of the CID is {raw[15]:02x}, computed {cid.crc_byte:02x}")
        return cid

    @classmethod
    def from_hex(cls, text: str) -> Cid:
        """Read 32 hexadecimal digits as sysfs shows them; raises CardDataError that names the character."""
        for place, character in enumerate(text, start=1):
            if character not in string.hexdigits:
                raise CardDataError(f"character {place} of the CID is {character!a}, not a hexadecimal digit")
        if len(text) != 2 * CID_BYTES:
            raise CardDataError(f"a CID has {2 * CID_BYTES} hexadecimal digits, here are {len(text)}")
        return cls.parse(bytes.fromhex(text), may_be_stripped=True)

    @property
    def crc_byte(self) -> int:
        """Byte 15 as the factory wrote it: CRC7 shifted left, plus 1."""
        return crc7(self.identity) << 1 | 1

    @property
    def raw(self) -> bytes:
        """All 16 bytes, with the checksum recomputed."""
        return self.identity + bytes([self.crc_byte])

    @property
    def hardware_id(self) -> str:
        """30 lower-case hexadecimal digits, the same whether the host stripped the checksum or not."""
        return self.identity.hex()

    @property
    def maker(self) -> int:
        """Maker number, assigned by the SD association."""
        return self.identity[0]

    @property
    def oem(self) -> str:
        r"""Two characters of the brand; anything but printable ASCII is shown as `\xNN`."""
        return printable(self.identity[1:3])

    @property
    def product(self) -> str:
        r"""Five characters of the product name; anything but printable ASCII is shown as `\xNN`."""
        return printable(self.identity[3:8])

    @property
    def revision(self) -> str:
        """Product revision n.m."""
        return f"{self.identity[8] >> 4}.{self.identity[8] & 15}"

    @property
    def serial(self) -> int:
        """32-bit serial number of the card; unique only together with maker and product."""
        return int.from_bytes(self.identity[9:13], "big")

    @property
    def year(self) -> int:
        """Year of manufacture."""
        return 2000 + ((self.identity[13] & 15) << 4 | self.identity[14] >> 4)

    @property
    def month(self) -> int:
        """Month of manufacture; 0 and 13 to 15 occur on cheap cards."""
        return self.identity[14] & 15

    @property
    def detail(self) -> str:
        """What a technician may want to see, in one line."""
        return (
            f"maker {self.maker:02x} OEM {self.oem} name {self.product} revision {self.revision}"
            f" serial {self.serial:08x} made {self.year}-{self.month:02}"
        )


def printable(data: bytes, most: int = 80) -> str:
    r"""Show bytes of unknown origin in a message: printable ASCII as it is, all else as `\xNN`, cut after `most`."""
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in data[:most])
    return shown + (f"... ({len(data)} bytes)" if len(data) > most else "")


class Command(enum.IntEnum):
    """The commands of SPI mode that reading a CID needs."""

    GO_IDLE = 0
    SEND_IF_COND = 8
    SEND_CID = 10
    SEND_STATUS = 13
    APP_SEND_OP_COND = 41
    APP_COMMAND = 55
    READ_OCR = 58
    CRC_ON_OFF = 59


class R1(enum.IntFlag):
    """The flags of the first answer byte; bit 7 is always 0."""

    IDLE = 0x01
    ERASE_RESET = 0x02
    ILLEGAL_COMMAND = 0x04
    CRC_ERROR = 0x08
    ERASE_SEQUENCE = 0x10
    ADDRESS_ERROR = 0x20
    PARAMETER_ERROR = 0x40


def frame(command: Command, argument: int = 0) -> bytes:
    """One SPI command: index with the start bits 01, 32-bit argument, CRC7 and the end bit."""
    body = bytes([0x40 | command]) + argument.to_bytes(4, "big")
    return body + bytes([crc7(body) << 1 | 1])


def split_answer(answer: bytes) -> tuple[R1, bytes] | None:
    """R1 and what follows it; None if no answer came in the bytes the standard allows (no card, or one not started)."""
    for place, byte in enumerate(answer[:ANSWER_BYTES]):
        if not byte & 0x80:
            return R1(byte), answer[place + 1 :]
    return None


def split_block(rest: bytes, size: int) -> bytes | None:
    """The data of a block of `size` bytes after R1; None if it is not complete in `rest`; raises CardDataError."""
    start = next((place for place, byte in enumerate(rest) if byte != _FILLING), None)
    if start is None:
        return None
    if rest[start] != _DATA_TOKEN:
        raise CardDataError(f"data token is {rest[start]:02x}, expected {_DATA_TOKEN:02x}")
    data = rest[start + 1 : start + 1 + size]
    tail = rest[start + 1 + size : start + 3 + size]
    if len(tail) < 2:
        return None
    sent = int.from_bytes(tail, "big")
    if sent != crc16(data):
        raise CardDataError(f"CRC16 of the data block is {sent:04x}, computed {crc16(data):04x}")
    return data
