"""A license key as somebody typed it, with the wrong character marked.

The daemon counts the characters of a key from 1 to 32 without dashes and spaces (io.featurekey.Manage, `position`);
people see what they typed, so the mark goes below that.
"""

from __future__ import annotations

_PLAIN = str.maketrans("\t\u00a0\u2010\u2011\u2012\u2013\u2014", "  -----")
"""What word processors and mail programs make of spaces and dashes."""


def shown(typed: str) -> str:
    """The key as typed, with plain spaces and dashes, and one sign for each letter, so that a caret stands right."""
    return "".join(letter if letter.isprintable() else "?" for letter in typed.translate(_PLAIN))


def mark(typed: str, position: int) -> str:
    """A line with a caret below the character of that position; behind the text when it has fewer characters."""
    places = [place for place, letter in enumerate(shown(typed)) if letter not in "- "]
    place = places[position - 1] if 1 <= position <= len(places) else len(typed)
    return " " * place + "^"
