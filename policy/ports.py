"""Ports that the settings give a ceiling, such as a carrier's contract: how many calls are on each, and were at most.

The count is the ledger's; what is kept here is only the peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .ledger import Ledger


class Port(msgspec.Struct, frozen=True):
    """A port with a ceiling."""

    name: str
    ceiling: int
    in_use: int
    """Calls on it now, emergency calls left out."""
    peak: int
    """Most at once since the daemon started."""


class Ports:
    """The ports with a ceiling, and their peaks."""

    def __init__(self, ceilings: Mapping[str, int], ledger: Ledger) -> None:
        self._ceilings = ceilings
        self._ledger = ledger
        self.peaks = {port: ledger.on_port(port) for port in ceilings}
        """Most calls at once on each port that has a ceiling, as far as was noted."""

    def __iter__(self) -> Iterator[Port]:
        """Each as it is now, in the order of the settings."""
        self.note_all()
        for port, ceiling in self._ceilings.items():
            yield Port(port, ceiling, self._ledger.on_port(port), self.peaks[port])

    def adopt_ceilings(self, ceilings: Mapping[str, int]) -> None:
        """Let other settings count; a port that had a ceiling before keeps its peak."""
        self._ceilings = ceilings
        self.peaks = {port: self.peaks.get(port, self._ledger.on_port(port)) for port in ceilings}

    def note(self, port: str) -> None:
        """Take note that a call was granted on a port with a ceiling."""
        self.peaks[port] = max(self.peaks[port], self._ledger.on_port(port))

    def note_all(self) -> None:
        """Take note that a list of calls has come."""
        for port in self.peaks:
            self.note(port)
