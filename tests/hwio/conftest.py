"""Simulated readers for the tests of this room: on a pty, and in process on a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from featurekeyd.hwio.buspirate import Timeouts
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import SimulatedCard
from featurekeyd.hwio.simulated_line import SimulatedLine


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
