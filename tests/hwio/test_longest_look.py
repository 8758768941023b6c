"""How long a look at a key can take at worst: nothing a device does keeps a reader longer than the stated limit."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from featurekeyd.hwio.featurekey import LONGEST_LOOK_SECONDS, FeatureKeyError
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import SimulatedCard
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_otp import Faults
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend
from featurekeyd.hwio.usbkey import Patience, UsbKey
from featurekeyd.hwio.usbreports import TRANSFER_LIMIT_MS

CHALLENGE = bytes(range(32))

JUST_IN_TIME = 0.99 * TRANSFER_LIMIT_MS / 1000
"""Seconds of a transfer that the kernel does not break off yet."""


class SlowBus(SimulatedUsbBackend):
    """A bus on which every transfer takes all the time it has."""

    def __init__(self, state: Path, faults: Faults) -> None:
        super().__init__(state, faults=faults)
        self.now = 0.0
        self.patience = Patience(clock=lambda: self.now, pause=self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def ctrl_transfer(self, *question: Any) -> int:
        self.now += JUST_IN_TIME
        return super().ctrl_transfer(*question)


@pytest.mark.parametrize("delay", [0.3, 0.5, 1.0, 1.5, 1.9, 1.99, 2.01, 5, 60])
@pytest.mark.parametrize("tries", [2, 10_000])
def test_a_serial_reader_that_answers_late_is_done_with_in_time(delay: float, tries: int) -> None:
    device = SimulatedBusPirate(SimulatedCard(tries=tries))
    device.slow(delay)
    line = SimulatedLine(device.answer)
    with contextlib.suppress(FeatureKeyError):
        SerialCard.on_line(line).close()
    assert line.now() < LONGEST_LOOK_SECONDS


@pytest.mark.parametrize("delay", [0.5, 1.99, 2.01, 60])
def test_a_card_that_becomes_slow_is_asked_in_one_round_trip(delay: float) -> None:
    device = SimulatedBusPirate(SimulatedCard())
    line = SimulatedLine(device.answer)
    key = SerialCard.on_line(line)
    device.slow(delay)
    before = line.now()
    with contextlib.suppress(FeatureKeyError):
        key.check()
    assert line.now() - before <= 2.0


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(busy_polls=10**6),
        Faults(slow_polls=10**6),
        Faults(lag_polls=10**6),
        Faults(busy_polls=1, slow_polls=1, lag_polls=1),
        Faults(silent=True),
        Faults(garbled=True),
        Faults(touch=True),
    ],
)
def test_a_usb_key_on_a_bus_that_drags_is_done_with_in_time(programmed: Path, faults: Faults) -> None:
    bus = SlowBus(programmed, faults)
    with contextlib.suppress(FeatureKeyError):
        key = UsbKey.open(bus, patience=bus.patience)
        key.prove(CHALLENGE)
    assert 0 < bus.now < LONGEST_LOOK_SECONDS
