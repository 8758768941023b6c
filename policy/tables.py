"""TOML tables turned into frozen values, with mistakes that name the file and the dotted key.

tomllib keeps no line numbers of keys, so a mistake says `ip-office.toml: features.softconsole.code: …`. All mistakes of
form are collected before a file is refused, and so are those of sense in a file of good form: whoever edits it mends
them in two goes at most.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")

_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

MAX_TEXT = 262_144
"""Characters of a file: ten times the largest catalog that is shipped, and read in a second."""

MAX_DOTS = 10
"""Dots of one key: twice those of the deepest key of a catalog. The time of tomllib grows faster than their square."""

_ASIDE = re.compile(
    r"""
    \#[^\n]*
    | "{3} (?: [^\\"]+ | \\.? | "(?!"") )* (?: "{3,5} | \Z )
    | '{3} (?: [^']+ | '(?!'') )* (?: '{3,5} | \Z )
    | " (?: [^\\"\n]+ | \\. )* "?
    | ' [^'\n]* '?
    | [\w\ \t-]+
    """,
    re.VERBOSE | re.DOTALL,
)
"""A comment, a string, or bare words: what may stand between the dots of a key. An open string goes to the end,
so that each alternative matches where it has begun and none is gone through twice."""


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
    _refuse_costly(text, name)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides its own error: of a huge number, of thousands of brackets
        raise FileMistakes(name, [Mistake("", f"not TOML: {error}")]) from None


def _refuse_costly(text: str, name: str) -> None:
    """Refuse before the parser sees it what would take it long."""
    if len(text) > MAX_TEXT:
        what = f"{len(text)} characters, and a file has at most {MAX_TEXT}; say less, or say it in two files"
        raise FileMistakes(name, [Mistake("", what)])
    # Without words and strings the dots of one key stand side by side; those of numbers and dates never do.
    bare = _ASIDE.sub(lambda found: "\n" * found[0].count("\n"), text)
    place = bare.find("." * (MAX_DOTS + 1))
    if place >= 0:
        line = bare.count("\n", 0, place) + 1
        what = f"line {line}: a key has at most {MAX_DOTS} dots; join its parts to fewer"
        raise FileMistakes(name, [Mistake("", what)])


def read_table(table: object, type_: type[T], where: str, mistakes: list[Mistake]) -> T | None:
    """The table as a value of that type; a table that does not fit adds all its mistakes and gives None."""
    try:
        return msgspec.convert(table, type_)
    except msgspec.ValidationError as error:
        mistakes += _mistakes_inside(table, type_, where) or [_mistake(where, str(error))]
        return None


def read_duration(text: str) -> int | None:
    """Seconds of a duration such as 90s, 15m, 72h or 15d; None where the text is none."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


def _mistakes_inside(table: object, type_: Any, where: str) -> list[Mistake]:
    # msgspec stops at the first mistake: each key is looked at on its own.
    mistakes: list[Mistake] = []
    if isinstance(table, dict) and isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        unknown = [key for key in table if key not in fields and type_.__struct_config__.forbid_unknown_fields]
        missing = [name for name, field in fields.items() if field.required and name not in table]
        mistakes += [Mistake(_dotted(where, key), "there is no such key") for key in unknown]
        mistakes += [Mistake(_dotted(where, name), "this key is missing") for name in missing]
        for name in [name for name in fields if name in table]:
            read_table(table[name], fields[name].type, _dotted(where, name), mistakes)
    elif isinstance(table, dict) and get_origin(type_) is dict:
        key_type, value_type = get_args(type_)
        for key, value in table.items():
            read_table(key, key_type, _dotted(where, key), mistakes)
            read_table(value, value_type, _dotted(where, key), mistakes)
    return mistakes


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
    return ".".join(filter(None, parts)).replace(".[", "[")
