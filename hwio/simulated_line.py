"""A serial line without a port: a simulated device in the same thread, on a clock of its own.

Rules of this module:

* Time passes only while somebody waits for bytes, so a reader's deadlines can be tried without waiting for them.
* It keeps what was written, one entry per round trip, for those who count them.
"""

from __future__ import annotations

from collections import deque

from .featurekey import Absent
from .simulated_pty import Responder


class SimulatedLine:
    """A line whose other end is `answer`; it fulfills `buspirate.Line`."""

    reader = "serial:simulated"
    simulated = True

    def __init__(self, answer: Responder) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self._answer = answer
        self._now = 0.0
        self._late: deque[tuple[float, bytes]] = deque()

    def now(self) -> float:
        """Seconds that readers have waited so far."""
        return self._now

    def write(self, data: bytes) -> None:
        """Hand the bytes to the device at once; raises Absent after `close`."""
        if self.closed:
            raise Absent(self.reader, "the reader was closed", cure="open it again")
        self.written.append(data)
        for delay, answer in self._answer(data):
            self._late.append((self._now + delay, answer))

    def read(self, timeout: float) -> bytes:
        """What is due within `timeout` seconds, the clock put forward to it; raises Absent after `close`."""
        if self.closed:
            raise Absent(self.reader, "the reader was closed", cure="open it again")
        while self._late and self._late[0][0] <= self._now + timeout:
            due, data = self._late.popleft()
            self._now = max(self._now, due)
            if data:
                return data
        self._now += timeout
        return b""

    def close(self) -> None:
        """End the line; calling it twice is harmless."""
        self.closed = True
