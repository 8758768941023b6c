"""What was asked and what was reached, as tables ready to paste.

A figure that misses its target ends nothing: machines are noisy. What ends a benchmark is a wrong sum.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROUNDED = 1.005
"""A reached figure that shows as the target counts as the target."""


class Void(Exception):
    """Somebody was denied, lost or left over: the figures mean nothing."""


@dataclass(frozen=True)
class Target:
    """What a figure is to be: at least or at most so much."""

    figure: float
    at_least: bool = False

    def met(self, reached: float) -> bool:
        """Whether the figure is reached."""
        return reached * ROUNDED >= self.figure if self.at_least else reached <= self.figure * ROUNDED


@dataclass(frozen=True)
class Row:
    """One line of the table of results; `rounds` are the figures that `reached` is the median of."""

    subject: str
    reached: float
    unit: str = "times"
    target: Target | None = None
    rounds: Sequence[float] = ()

    def cells(self) -> list[str]:
        """As it is shown."""
        spread = f" ({shown(min(self.rounds))} to {shown(max(self.rounds))})" if len(self.rounds) > 1 else ""
        reached = f"{shown(self.reached)} {self.unit}{spread}"
        if self.target is None:
            return [self.subject, "", reached, ""]
        asked = f"{'at least' if self.target.at_least else 'under'} {shown(self.target.figure)} {self.unit}"
        return [self.subject, asked, reached, "yes" if self.target.met(self.reached) else "no"]


def at_least(figure: float) -> Target:
    """A target from below."""
    return Target(figure, at_least=True)


def under(figure: float) -> Target:
    """A target from above."""
    return Target(figure)


def ratio(
    subject: str, numerators: Iterable[float], denominators: Iterable[float], target: Target | None = None
) -> Row:
    """A ratio taken round by round, with its median."""
    rounds = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return Row(subject, statistics.median(rounds), "times", target, rounds)


def shown(figure: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that reads well as text and as Markdown."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def results(rows: Iterable[Row]) -> str:
    """The table of results."""
    return table(("what", "asked", "reached", "met"), (row.cells() for row in rows))
