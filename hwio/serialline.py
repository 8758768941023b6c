"""A serial line with deadlines: opened, configured and locked by pyserial, read and written by poll.

Rules of this module:

* This is the only module that touches pyserial; its exceptions end here, errno kept.
* Reading and writing do not go through pyserial, because it waits with select(), which fails in a process with more
  than 1023 open descriptors, and because its write spins while a device takes no bytes.
* A line is used from one thread at a time and belongs to the one who opened it, who closes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import termios
import time
from pathlib import Path

import serial

from .featurekey import Absent, Busy, DeviceFault, FeatureKeyError, NoPermission, Unsupported

BAUD = 115200
READ_BYTES = 4096
WRITE_WITHIN = 2.0
"""Seconds a device may take to accept what is written; at 115200 baud that is 23,000 bytes, and we send under 100."""

_PTY_MAJORS = frozenset({3, *range(136, 144)})
"""Device numbers of pty slaves (Linux admin-guide/devices): 3 is the BSD kind, 136 to 143 are /dev/pts."""

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOTDIR, errno.EBADF})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TAKEN = frozenset({errno.EBUSY, errno.EAGAIN})
_NO_SERIAL_PORT = frozenset({errno.ENOTTY, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG})


class SerialLine:
    """One open serial port at 115200 8N1, held exclusively."""

    def __init__(self, reader: str, port: serial.Serial) -> None:
        self.reader = reader
        self.simulated = _is_pty(port.fileno(), str(port.port))
        self._port = port
        self._poll = select.poll()
        self._poll.register(port.fileno(), select.POLLIN)

    @classmethod
    def open(cls, port: str) -> SerialLine:
        """Open and lock a port; raises Absent, NoPermission, Busy, Unsupported (no serial port) or DeviceFault."""
        reader = f"serial:{port}"
        try:
            opened = serial.Serial(port, BAUD, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, termios.error) as error:
            raise _translated(reader, error) from error
        except ValueError as error:
            raise Unsupported(reader, "is not a path", cure="name the port of the reader") from error
        # An FTDI adapter keeps an answer back for 16 ms unless told otherwise; a port that cannot be told is slower.
        with contextlib.suppress(ValueError, OSError):
            opened.set_low_latency_mode(True)
        return cls(reader, opened)

    def now(self) -> float:
        """Seconds on the clock of this line's deadlines."""
        return time.monotonic()

    def write(self, data: bytes) -> None:
        """Send all bytes; raises Absent if the device is gone, Busy if it takes nothing for `WRITE_WITHIN` seconds."""
        end = self.now() + WRITE_WITHIN
        while data:
            data = data[self._write_some(data) :]
            if data:
                self._await_room(end)

    def read(self, timeout: float) -> bytes:
        """What has arrived, at most 4096 bytes, waiting for the first; empty after `timeout` seconds; raises Absent."""
        if not self._port.is_open:
            raise Absent(self.reader, "the reader was closed", cure="open it again")
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return b""
        try:
            data = os.read(self._port.fileno(), READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _translated(self.reader, error) from error
        if not data:
            # A hung-up terminal is always ready and always empty.
            raise Absent(self.reader, "the device was unplugged", cure="plug it in again", errno=errno.EIO)
        return data

    def close(self) -> None:
        """Let go of the port without waiting for unsent bytes; calling it twice is harmless."""
        if self._port.is_open:
            # The kernel waits up to 30 s for unsent bytes when a port is closed, also for a device that takes none.
            with contextlib.suppress(OSError, termios.error):
                self._port.reset_output_buffer()
            self._port.close()

    def _write_some(self, data: bytes) -> int:
        if not self._port.is_open:
            raise Absent(self.reader, "the reader was closed", cure="open it again")
        try:
            return os.write(self._port.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _translated(self.reader, error) from error

    def _await_room(self, end: float) -> None:
        room = select.poll()
        room.register(self._port.fileno(), select.POLLOUT)
        if not room.poll(max(0.0, end - self.now()) * 1000):
            raise Busy(self.reader, f"the device took no bytes for {WRITE_WITHIN:g} s", cure="plug it out and in again")


def _is_pty(descriptor: int, port: str) -> bool:
    # The number of the opened device tells it even where a second mount of devpts gives a pty another path.
    numbered = os.major(os.fstat(descriptor).st_rdev) in _PTY_MAJORS
    return numbered or Path(port).resolve().is_relative_to("/dev/pts")


def _number(error: OSError | termios.error) -> int | None:
    """The errno of an exception or of the one it was raised for, since pyserial drops that of termios."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    cause = error if isinstance(error, termios.error) else error.__context__
    if isinstance(cause, termios.error) and cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    return None


def _translated(reader: str, error: OSError | termios.error) -> FeatureKeyError:
    number = _number(error)
    if number in _GONE:
        return Absent(reader, "no such device, or it was unplugged", cure="plug it in", errno=number)
    if number in _FORBIDDEN:
        return NoPermission(reader, "may not be opened", cure="add the user to the group of the port", errno=number)
    if number in _TAKEN:
        return Busy(reader, "another program holds the port", cure="stop that program", errno=number)
    if number in _NO_SERIAL_PORT:
        return Unsupported(reader, "is not a serial port", cure="name the port of the reader", errno=number)
    return DeviceFault(reader, str(error), errno=number)
