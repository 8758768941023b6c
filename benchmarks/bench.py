"""What every part of the benchmark is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .programs import Programs

_Key = TypeVar("_Key")
_Figure = TypeVar("_Figure")


@dataclass(frozen=True)
class Bench:
    """The programs, the folder for sockets and records, and how much is measured."""

    programs: Programs
    folder: Path
    rounds: int
    messages: int
    python_echo: bool = False
    """Whether the echo servers in Python are measured as well."""

    def interleaved(self, keys: Iterable[_Key], measure: Callable[[_Key], _Figure]) -> dict[_Key, list[_Figure]]:
        """The figures of each key, measured in turn, round after round, because the machine's speed drifts."""
        figures: dict[_Key, list[_Figure]] = {key: [] for key in keys}
        for _ in range(self.rounds):
            for key, so_far in figures.items():
                so_far.append(measure(key))
        return figures
