"""The contract every Feature Key reader fulfills, and the errors it may raise.

Rules of this module:

* A reader reports what it read. Whether that is good enough is decided elsewhere; nothing here knows a license.
* A Feature Key object is one opened reader with one key in it. It is used from one thread at a time.
* After `Absent`, `Garbled` or `DeviceFault` the object is closed by its owner and opened afresh; a key that was
  pulled and put back is found by opening again, never by carrying on.

The errors, all below `FeatureKeyError`:

    FeatureKeyError
    ├── Absent          no key there, or it was pulled
    ├── NoPermission    it is there, and this process may not open it
    ├── Busy            another program holds it, or it asks for more time than it was given
    ├── TouchRequired   the slot answers only when somebody touches the key
    ├── Unconfigured    the key is there, and the slot that should answer is empty
    ├── Garbled         something answers, and it is not what the protocol says
    ├── Unsupported     a device of a kind or firmware that cannot serve, or a question it cannot answer
    │   └── Several     more than one key fits the reader, and none was chosen
    └── DeviceFault     the operating system reports an error that is none of the above
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


LONGEST_LOOK_SECONDS = 45.0
"""What opening, reading and proving may take at most, whatever a device does: every wait has its limit (`Timeouts`,
`Patience`, `TRANSFER_LIMIT_MS`); where every answer comes just in time a serial reader needs 24 s and a USB key 28 s.
What takes longer hangs in the kernel."""


class Kind(enum.StrEnum):
    """The kinds of Feature Key a certificate can name (DESIGN: Feature Key certificate)."""

    USB_OTP = "usb-otp"
    SD_CARD = "sd-card"
    HOST = "host"


class Assurance(enum.StrEnum):
    """How much a kind of key proves (facts/hardware.md section 1); at each level root can still patch the daemon."""

    A0 = "A0"
    """Root can copy it in software."""
    A1 = "A1"
    """A factory number; copying needs special hardware, or root who fakes the bus."""
    A2 = "A2"
    """A secret in hardware whose answers the verifier holds in advance."""


class FeatureKeyError(Exception):
    """A Feature Key could not be read; `reader` says where, `cure` what a technician can do, `errno` is kept if any."""

    state = "fault"
    """Stable word for status answers and logs."""

    def __init__(self, reader: str, what: str, *, cure: str = "", errno: int | None = None) -> None:
        super().__init__(f"{reader}: {what}" + (f"; {cure}" if cure else ""))
        self.reader = reader
        self.what = what
        self.cure = cure
        self.errno = errno


class Absent(FeatureKeyError):
    """No key is there, or it was pulled."""

    state = "absent"


class NoPermission(FeatureKeyError):
    """The device is there and this process may not open it."""

    state = "no-permission"


class Busy(FeatureKeyError):
    """Another program holds the device, or it did not become ready in time."""

    state = "busy"


class TouchRequired(FeatureKeyError):
    """The slot answers only after a touch, so it cannot serve an unattended host."""

    state = "touch-required"


class Unconfigured(FeatureKeyError):
    """The key is there and the slot that should answer is empty."""

    state = "unconfigured"


class Garbled(FeatureKeyError):
    """Something answers, and it is not what the protocol says; the message names the byte or the checksum."""

    state = "garbled"


class Unsupported(FeatureKeyError):
    """A device of a kind or firmware that cannot serve, or a question that this kind of key cannot answer."""

    state = "unsupported"


class Several(Unsupported):
    """More than one key fits the reader, and nothing says which one counts."""

    state = "several"


class DeviceFault(FeatureKeyError):
    """The operating system reports an error that is none of the others."""

    state = "fault"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at a Feature Key found: a frozen value, free of any handle."""

    kind: Kind
    hardware_id: str
    """`sd-card`: 30 hexadecimal digits, the first 15 bytes of the CID. `usb-otp`: the serial number in decimal.
    `host`: 64 hexadecimal digits of SHA-256 (see `hostkey`)."""
    assurance: Assurance
    reader: str
    """Where it was read, e.g. `serial:/dev/ttyUSB0`, `slot:mmc0:aaaa`, `usb:1-4`, `host`."""
    simulated: bool
    """True when the reader sits behind a pty, a foreign sysfs root or a backend other than libusb."""
    detail: str = ""
    """What a technician may want to see, e.g. `maker 03 OEM SD name SU08G revision 8.0 made 2019-06`."""


def no_secret(reader: str, holder: str, challenge: bytes, *, cure: str) -> Unsupported:
    """What a kind of key without a secret raises for a challenge; `holder` names the kind, with its article."""
    what = f"{holder} holds no secret and cannot answer a challenge of {len(challenge)} bytes"
    return Unsupported(reader, what, cure=cure)


def is_same_folder(root: Path, real: Path) -> bool:
    """True when `root` is the very folder `real`, by device and inode; False where either is missing.

    A name does not tell: `/proc/PID/root` reads as `/` whatever root directory that process has (proc(5)).
    """
    try:
        return root.samefile(real)
    except OSError:
        return False


@runtime_checkable
class FeatureKey(Protocol):
    """One opened reader with one key in it."""

    @property
    def reading(self) -> Reading:
        """What was read when the key was opened."""
        ...

    def check(self) -> None:
        """Make sure, as cheaply as the hardware allows, that the same key is still there; raises FeatureKeyError."""
        ...

    def prove(self, challenge: bytes) -> bytes:
        """Answer a challenge of exactly 32 bytes; raises Unsupported where the hardware holds no secret."""
        ...

    def close(self) -> None:
        """Let go of the device; calling it twice is harmless."""
        ...
