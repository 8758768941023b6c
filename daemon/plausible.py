"""What a stored number or date can be at most: beyond it no calendar goes on, and no counter has ever been.

State file and backup are texts that anybody may have written. Whatever is read from them is held against this before
anything is reckoned with it, so that nothing in them keeps the daemon from starting or from letting time pass.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import msgspec

LAST_YEAR = 8999
"""Year of the last date: the calendar of the library ends with 9999, and what is reckoned from a date stays within a
lifetime."""

MAX_NUMBER = 221_845_391_999
"""The last second of that year since 1970, which is more than any count, number or time of running comes to; it has as
many digits as a request may tell."""


def find_implausible(value: object) -> str | None:
    """The first number or date in the value that nothing real has, with its place; None where there is none."""
    plain = msgspec.to_builtins(value, builtin_types=(datetime.date,), str_keys=True)
    return next(_found(plain, ""), None)


def _found(value: object, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _found(each, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _found(each, f"{place}[{number}]")
    elif isinstance(value, datetime.date):
        if value.year > LAST_YEAR:
            yield f"{place or 'it'} is {value}, and no date is after {LAST_YEAR}"
    elif isinstance(value, int | float) and not 0 <= value <= MAX_NUMBER:
        # Its digits are not shown: there may be millions of them.
        yield f"{place or 'it'} is a number below 0 or above {MAX_NUMBER}"
