"""Simulated readers for the tests of this room: serial ones on a pty and in process, and a USB key in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekeyd.hwio.buspirate import Timeouts
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import SimulatedCard
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create
from featurekeyd.hwio.usbkey import Patience, UsbKey

SECRET = bytes(range(1, 21))
CODE = b"abcdef"


@pytest.fixture
def card() -> SimulatedCard:
    return SimulatedCard()


@pytest.fixture
def bench(card: SimulatedCard) -> SimulatedBusPirate:
    """A Bus Pirate with `card`, not on a pty: for `line`, where time passes only while a reader waits."""
    return SimulatedBusPirate(card)


@pytest.fixture
def line(bench: SimulatedBusPirate) -> SimulatedLine:
    return SimulatedLine(bench.answer)


@pytest.fixture
def device(card: SimulatedCard) -> Iterator[SimulatedBusPirate]:
    """The same Bus Pirate on a pty."""
    with SimulatedBusPirate(card) as running:
        yield running


@pytest.fixture
def hasty() -> Timeouts:
    """Short waits, for devices that will never answer; too short for one that should on a loaded host."""
    return Timeouts(answer=0.2, ready=0.2, power_up=0.02, quiet=0.01)


class Clock:
    """A clock that only pauses move; `patience` is that of a reader on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.patience = Patience(clock=lambda: self.now, pause=self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Recorder(SimulatedUsbBackend):
    """A simulated bus that notes every report written and counts the transfers."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.written: list[bytes] = []
        self.transfers = 0

    def ctrl_transfer(self, handle: Any, *question: Any) -> int:
        self.transfers += 1
        if question[0] == 0x21:
            self.written.append(question[4].tobytes())
        return super().ctrl_transfer(handle, *question)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The file of a fresh USB key."""
    path = tmp_path / "key.json"
    create(path)
    return path


@pytest.fixture
def programmed(state: Path) -> Path:
    """The file of a USB key with `SECRET` in slot 2, protected by `CODE`."""
    key = UsbKey.open(SimulatedUsbBackend(state))
    key.program_challenge_response(SECRET, new_access_code=CODE)
    key.close()
    return state


@pytest.fixture
def recorder() -> type[Recorder]:
    """What makes a simulated bus that notes what a reader does."""
    return Recorder
