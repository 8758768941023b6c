"""A simulated Bus Pirate with an SD card, on a pty: of equal rank with a real one, and faulty on command.

Rules of this module:

* A reader opens `port` like any serial port; nothing it can ask tells it from the device, only the pty itself does.
* Faults are set from any thread and hold until `well`; the card and the whole device can be pulled and put back.
* Putting the whole device back gives a new port, as a real adapter may get another number.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from .sdcard import Cid
from .simulated_card import Garble, SimulatedCard
from .simulated_firmware import BusPirateFirmware, Stuck
from .simulated_pty import PtyServer

_MARK = b"BBIO1"


class SimulatedBusPirate:
    """A Bus Pirate on a pty; use it in a `with` statement, the port is open inside."""

    def __init__(self, card: SimulatedCard | None = None) -> None:
        self._card = card or SimulatedCard()
        self._lock = threading.Lock()
        self._server: PtyServer | None = None
        self._firmware = BusPirateFirmware(self._card)
        self._delay = 0.0
        self._foreign: bytes | None = None
        self._second_mark: float | None = None
        self._stuck: Stuck | None = None

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.unplug()

    @property
    def port(self) -> str:
        """Path of the pty that a reader opens; raises RuntimeError while the device is unplugged."""
        if self._server is None:
            raise RuntimeError("the simulated device is unplugged and has no port")
        return self._server.port

    def plug(self) -> None:
        """Connect the whole device, freshly reset, on a new pty; one that is connected stays as it is."""
        if self._server is None:
            self._firmware = BusPirateFirmware(self._card)
            self._firmware.stuck = self._stuck
            self._server = PtyServer(self.answer)

    def unplug(self) -> None:
        """Disconnect the whole device: a reader that has it open sees a hang-up, and the port is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def pull_card(self) -> None:
        """Take the card out."""
        with self._lock:
            self._card.pull()

    def put_card(self, cid: Cid | None = None) -> None:
        """Put the card back, or another one; the reader has to start it."""
        with self._lock:
            self._card.put(cid)

    def garble(self, garble: Garble = Garble.CID) -> None:
        """Let the card send a CID that is wrong in this way."""
        with self._lock:
            self._card.garbled = garble

    def slow(self, seconds: float) -> None:
        """Send each answer this much later."""
        with self._lock:
            self._delay = seconds

    def silence(self) -> None:
        """Answer nothing at all."""
        with self._lock:
            self._foreign = b""

    def stick(self, stuck: Stuck = Stuck.LOW) -> None:
        """Hold the line from the card at one level, as a bent pin or a wet contact does."""
        with self._lock:
            self._firmware.stuck = self._stuck = stuck

    def speak_like(self, banner: bytes) -> None:
        """Answer whatever comes with these bytes, as a device of another kind would."""
        with self._lock:
            self._foreign = banner

    def repeat_mark(self, seconds: float) -> None:
        """Send a second `BBIO1` this much after each first one, as it happens on a loaded host."""
        with self._lock:
            self._second_mark = seconds

    def well(self) -> None:
        """End every fault; the card and the device stay where they are."""
        with self._lock:
            self._card.garbled = None
            self._delay = 0.0
            self._foreign = None
            self._second_mark = None
            self._firmware.stuck = self._stuck = None

    def answer(self, data: bytes) -> list[tuple[float, bytes]]:
        """What the device sends for what a reader wrote, also without a pty: seconds to wait, and bytes."""
        with self._lock:
            if self._foreign is not None:
                return [(self._delay, self._foreign)]
            answer = self._firmware.feed(data)
            if self._second_mark is None or _MARK not in answer:
                return [(self._delay, answer)]
            return [(self._delay, answer), (self._delay + self._second_mark, _MARK)]
