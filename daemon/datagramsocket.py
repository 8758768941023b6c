"""A datagram socket to one address of this host, for journald and for the service manager alike."""

from __future__ import annotations

import socket


class DatagramSocket:
    """Connects when it is first asked for, and anew after it was closed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def connected(self) -> socket.socket:
        """The socket, connected; raises OSError."""
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                made.connect(self._address)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
