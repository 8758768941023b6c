"""The Feature Key `sd-card` on a serial reader: an SD card behind a Bus Pirate.

Rules of this module:

* Opening starts the card and reads its CID once; a check is one round trip (CMD13) and reads nothing from the card.
* A card that was pulled answers nothing, also after it was put back: both are `Absent`, and the owner opens afresh.
"""

from __future__ import annotations

from .buspirate import BusPirate, Line, Timeouts
from .featurekey import Assurance, Kind, Reading, no_secret
from .serialline import SerialLine
from .spicard import SpiCard


class SerialCard:
    """An SD card on a serial reader; made by `open`."""

    def __init__(self, line: Line, bus: BusPirate, card: SpiCard, reading: Reading) -> None:
        self._line = line
        self._bus = bus
        self._card = card
        self._reading = reading
        self._open = True

    @classmethod
    def open(cls, port: str, *, timeouts: Timeouts | None = None) -> SerialCard:
        """Open the reader on `port`, start its card and read it; raises FeatureKeyError."""
        return cls.on_line(SerialLine.open(port), timeouts=timeouts)

    @classmethod
    def on_line(cls, line: Line, *, timeouts: Timeouts | None = None) -> SerialCard:
        """Start and read the card behind an open line, which is taken over and closed on failure."""
        timeouts = timeouts or Timeouts()
        bus = BusPirate(line, timeouts)
        try:
            bus.enter()
            return cls._start(line, bus, timeouts)
        except BaseException:
            bus.leave()
            line.close()
            raise

    @classmethod
    def _start(cls, line: Line, bus: BusPirate, timeouts: Timeouts) -> SerialCard:
        card = SpiCard(bus)
        card.start(power_up=timeouts.power_up, ready=timeouts.ready)
        cid = card.read_cid()
        reading = Reading(
            kind=Kind.SD_CARD,
            hardware_id=cid.hardware_id,
            assurance=Assurance.A1,
            reader=line.reader,
            simulated=line.simulated,
            detail=f"{cid.detail} {'high' if card.high_capacity else 'standard'} capacity",
        )
        return cls(line, bus, card, reading)

    @property
    def reading(self) -> Reading:
        """What was read when the key was opened."""
        return self._reading

    def check(self) -> None:
        """Make sure in one round trip that the card is still there; raises Absent, Garbled or DeviceFault."""
        self._card.check()

    def prove(self, challenge: bytes) -> bytes:
        """Raise Unsupported: a card has a factory number and no secret."""
        raise no_secret(self._reading.reader, "an SD card", challenge, cure="use a certificate of kind sd-card")

    def close(self) -> None:
        """Cut the card's power and let go of the port; calling it twice is harmless."""
        if self._open:
            self._open = False
            self._bus.leave()
            self._line.close()
