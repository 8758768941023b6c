"""A connected Unix stream socket as asyncio's protocols know their transport, served in turns.

It differs from asyncio's own transports in one thing: what it reads, and what it is told to go on with, happens within
a turn (`daemon.turns`), whose answers leave together after they were recorded.
"""

from __future__ import annotations

import asyncio
import socket
from select import EPOLLIN, EPOLLOUT

from .peer import read_peer
from .turns import Turns

READ_BYTES = 64 * 1024
"""Bytes taken at once: a Sync of 256 leases with names of a usual length."""


class Stream(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, turns: Turns, connected: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": connected})
        connected.settimeout(0)
        self._turns = turns
        self._socket = connected
        self._descriptor = connected.fileno()
        self._share = turns.join(read_peer(connected).uid)
        self._protocol = protocol
        self._unsent = bytearray()
        self._high = 0
        self._full = False
        """Whether the protocol was told that the client does not read."""
        self._reading = True
        self._queued = False
        """Whether a read waits for its turn."""
        self._eof = False
        self._closing = self._lost = False
        self._watched = 0
        protocol.connection_made(self)
        self._watch()

    # What the turns call

    def ready(self, events: int) -> None:
        """Send what is left over, and read in a share of the user's."""
        if self._unsent and events & ~EPOLLIN:
            self._send_rest()
        if self._watched & EPOLLIN and not self._queued and events & ~EPOLLOUT:
            self._queued = True
            self._share.queue.append(self._read)

    def _read(self) -> None:
        self._queued = False
        if not self._watched & EPOLLIN:  # closed or paused since
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._end_of_file()

    def _end_of_file(self) -> None:
        self._eof = True
        if self._protocol.eof_received():
            self._watch()
        else:
            self.close()

    # What the protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the bytes, as far as the client takes them, and the rest when it reads."""
        if self._closing:
            return
        if self._unsent:
            self._unsent += data
        else:
            sent = self._send(data)
            if sent == len(data) or self._closing:
                return
            self._unsent += memoryview(data)[sent:]
            self._watch()
        if len(self._unsent) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        """Say from how many unsent bytes on the protocol shall pause; it goes on when all are sent, whatever `low`."""
        self._high = high or 0

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the client to read."""
        return len(self._unsent)

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Take from the client again."""
        self._reading = True
        self._watch()

    def is_reading(self) -> bool:
        """Whether the client is read."""
        return self._reading and not self._closing

    def is_closing(self) -> bool:
        """Whether the connection has ended or is about to."""
        return self._closing

    def close(self) -> None:
        """Read no more, and end once all is sent."""
        if self._closing:
            return
        self._closing = True
        self._watch()
        if not self._unsent:
            self._turns.loop.call_soon(self._finish, None)

    def abort(self) -> None:
        """End now."""
        self._lose(None)

    # Sending and ending

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes the system took; none where the connection is lost."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _send_rest(self) -> None:
        del self._unsent[: self._send(self._unsent)]
        if self._unsent or self._lost:
            return
        self._watch()
        if self._full:
            self._full = False
            self._protocol.resume_writing()
        if self._closing:
            self._turns.loop.call_soon(self._finish, None)

    def _lose(self, error: OSError | None) -> None:
        """The connection is gone, and what was not sent with it."""
        self._closing = self._lost = True
        self._unsent.clear()
        self._watch()
        self._turns.loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            self._protocol.connection_lost(error)
        finally:
            self._turns.leave(self._share)
            self._socket.close()

    def _watch(self) -> None:
        """Be woken for what there is to do, and for nothing else: a socket that has ended is ready all the time."""
        reading = self._reading and not self._eof and not self._closing
        events = (EPOLLIN if reading else 0) | (EPOLLOUT if self._unsent else 0)
        if events != self._watched:
            self._watched = events
            self._turns.watch(self._descriptor, self, events)
