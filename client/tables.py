"""Tables for people, drawn by rich.

Rules: rich is imported when the first table is drawn, so that verbs without a table and `--json` start quickly. No
value is cut off: on a terminal long ones are folded, and into a pipe or a file each row is one line, however long.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .console import clean, out

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIPE_WIDTH = 65_536
"""Columns where no terminal sets them: more than the longest row, as a message to the daemon is shorter."""


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether it holds numbers."""

    heading: str
    number: bool = False


def out_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write a table, or the sentence `empty` when it has no rows."""
    drawn = [[clean(value) for value in row] for row in rows]
    out(_draw(columns, drawn) if drawn else empty)


def _draw(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    # Here and not above: half of the start-up time would go into it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # No terminal, no colors: also where the environment of a service says otherwise.
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else _PIPE_WIDTH, force_terminal=terminal)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
