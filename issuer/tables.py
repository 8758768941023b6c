"""Tables for people and JSON for programs, of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

NONE = "-"


def as_json(value: Any) -> str:
    """The value as indented JSON, dates in ISO 8601."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def as_table(rows: Sequence[dict[str, object]]) -> str:
    """The rows in columns under the names of their fields; all rows have the same fields."""
    if not rows:
        return ""
    cells = [[name.replace("_", " ") for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(lines) + "\n"


def as_lines(fields: dict[str, object]) -> str:
    """One line for each field: its name and its value."""
    width = max(map(len, fields), default=0)
    return "".join(f"{name.replace('_', ' ').ljust(width)}  {_cell(value)}\n" for name, value in fields.items())


def _cell(value: object) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
