"""TOML tables turned into frozen values, with mistakes that name the file and the dotted key.

tomllib keeps no line numbers of keys, so a mistake says `ip-office.toml: features.softconsole.code: …`. All mistakes of
a file are collected before anything is refused: whoever edits the file mends them in one go.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Mistake(msgspec.Struct, frozen=True):
    """One mistake in a file: the dotted key it stands at (empty for the whole file), and what is wrong."""

    where: str
    what: str


class FileMistakes(ValueError):
    """A TOML file cannot be used; `mistakes` holds every mistake that was found, and the text shows them by line."""

    def __init__(self, name: str, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(": ".join(filter(None, (name, it.where, it.what))) for it in mistakes))
        self.name = name
        self.mistakes = mistakes


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text; raises FileMistakes with the parser's line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileMistakes(name, [Mistake("", f"not TOML: {error}")]) from None


def read_table(table: object, type_: type[T], where: str, mistakes: list[Mistake]) -> T | None:
    """The table as a value of that type; a table that does not fit adds a mistake and gives None."""
    try:
        return msgspec.convert(table, type_)
    except msgspec.ValidationError as error:
        mistakes.append(_mistake(where, str(error)))
        return None


def read_duration(text: str) -> int | None:
    """Seconds of a duration such as 90s, 15m, 72h or 15d; None where the text is none."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


def _mistake(where: str, message: str) -> Mistake:
    what, _, path = message.partition(" - at `$")
    inner = path.rstrip("`").removesuffix("[...]").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    if unknown:
        return Mistake(_dotted(where, inner, unknown[1]), "there is no such key")
    missing = re.fullmatch(r"Object missing required field `(.+)`", what)
    if missing:
        return Mistake(_dotted(where, inner, missing[1]), "this key is missing")
    return Mistake(_dotted(where, inner), what.replace("`", "").replace("Expected ", "expected "))


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))
