"""A pty with a simulated device behind it, served by one thread that sleeps until there is something to do.

Rules of this module:

* The thread waits in poll without a time limit, or until the next late byte is due; it never looks around on its own.
* Bytes leave in the order they were made, however late each of them is: a serial line cannot overtake itself, so the
  first in the queue holds back all behind it.
* The slave end stays open here, so that readers may come and go; `close` ends the thread and both ends, and a reader
  that still has the port open sees a device that was unplugged.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable

Responder = Callable[[bytes], Iterable[tuple[float, bytes]]]
"""Gets what the reader wrote, gives what is sent back: pairs of seconds to wait and bytes."""

BACKLOG_MOST = 65536
"""Bytes that wait for a reader who does not read; above it, the device takes no more commands until they are read."""

_RECEIVE_BYTES = 4096


class PtyServer:
    """One pty whose other end is answered by `answer`, in a thread of its own; `close` it."""

    def __init__(self, answer: Responder) -> None:
        self._answer = answer
        self._late: deque[tuple[float, bytes]] = deque()
        self._backlog = 0
        self._blocked = False
        self._master, self._slave = os.openpty()
        # Without this the terminal would echo the first bytes of a reader that has not yet configured the port.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._stop = os.eventfd(0)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve, name=f"pty {self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and hang up; calling it twice is harmless."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for descriptor in (self._slave, self._master, self._stop):
            os.close(descriptor)
        self._stop = -1

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._stop, select.POLLIN)
        while True:
            poller.register(self._master, self._events())
            ready = dict(poller.poll(self._milliseconds()))
            if self._stop in ready:
                return
            if ready.get(self._master, 0) & select.POLLIN:
                self._receive()
            self._send()

    def _events(self) -> int:
        wanted = select.POLLIN if self._backlog < BACKLOG_MOST else 0
        return wanted | (select.POLLOUT if self._blocked else 0)

    def _milliseconds(self) -> int | None:
        if self._blocked or not self._late:
            return None
        return max(0, math.ceil((self._late[0][0] - time.monotonic()) * 1000))

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for delay, data in self._answer(os.read(self._master, _RECEIVE_BYTES)):
                self._late.append((time.monotonic() + delay, data))
                self._backlog += len(data)

    def _send(self) -> None:
        self._blocked = False
        while self._late and not self._blocked and self._late[0][0] <= time.monotonic():
            due, data = self._late.popleft()
            sent = self._write(data)
            self._backlog -= sent
            if sent < len(data):
                self._late.appendleft((due, data[sent:]))
                self._blocked = True

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0
