"""Entries for journald, over its native protocol, without holding the interpreter up.

systemd-python's `send` keeps the interpreter lock while it waits for journald, so that no decision is made while it
does not read. A socket of Python's own waits without the lock.

An entry is one datagram of fields: `NAME=value` and a line end, or where the value has line ends `NAME`, a line end,
the length of the value in 8 bytes from the least significant on, the value, and a line end. One that is too long for a
datagram goes into a sealed memory file, whose descriptor is sent instead (systemd, Native Journal Protocol).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Mapping

from .datagramsocket import DatagramSocket

SOCKET = "/run/systemd/journal/socket"

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_LONG = frozenset({errno.EMSGSIZE, errno.ENOBUFS})


def entry(fields: Mapping[str, str]) -> bytes:
    """The datagram of an entry."""
    return b"".join(_field(name.encode(), value.encode(errors="replace")) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return name + b"=" + value + b"\n"
    return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


class JournalSocket:
    """Sends entries to journald, one at a time; connects anew after a failure, as after a restart of journald."""

    def __init__(self, path: str = SOCKET) -> None:
        self._socket = DatagramSocket(path)

    def send(self, fields: Mapping[str, str]) -> None:
        """Send one entry, and wait for journald as long as it takes; raises OSError."""
        data = entry(fields)
        try:
            self._send(data)
        except OSError as error:
            if error.errno not in _TOO_LONG:
                self.close()
                raise
            self._send_file(data)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.connected().send(data)

    def _send_file(self, data: bytes) -> None:
        descriptor = os.memfd_create("featurekeyd-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket.connected(), [b""], [descriptor])
        finally:
            os.close(descriptor)
