"""How people name a license key that is installed: by its beginning, or by both ends as listings show it.

A name is taken apart once and held against the bits of each key; the text of a key, which takes ten times as long, is
made only where the bits fit.
"""

from __future__ import annotations

import msgspec

from .checksymbols import CHECKS, LENGTH
from .licensekey import ALPHABET, LicenseKey

LEAST_CHARACTERS = 8
"""Of a key's beginning, to name it: one character typed by mistake shall remove nothing."""

LEAST_AT_EACH_END = 4
"""Of a key's beginning and its end, where an ellipsis stands between: as many as listings show."""

_READ_AS = str.maketrans("OIL", "011")
_BITS = 5 * (LENGTH - CHECKS)


class KeyName(msgspec.Struct, frozen=True):
    """A good name: characters as keys have them, at the beginning and, after an ellipsis, at the end."""

    first: str
    last: str = ""

    def fits(self, key: LicenseKey) -> bool:
        """Whether it names this key."""
        bits, first, last = key.bits, self.first[: LENGTH - CHECKS], self.last[:-CHECKS]
        if bits >> (_BITS - 5 * len(first)) != _value(first) or bits & ((1 << 5 * len(last)) - 1) != _value(last):
            return False
        whole = key.text.replace("-", "")
        return whole.startswith(self.first) and whole.endswith(self.last)


def read_name(text: str) -> KeyName | None:
    """The name that was typed; None where it has too few characters, too many, or one that no key has."""
    first, dots, last = text.replace("...", "…").partition("…")
    name = KeyName(_plain(first), _plain(last))
    ends = (len(name.first), len(name.last))
    enough = min(ends) >= LEAST_AT_EACH_END if dots else ends[0] >= LEAST_CHARACTERS
    return name if enough and max(ends) <= LENGTH and {*name.first, *name.last} <= {*ALPHABET} else None


def _plain(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum()).translate(_READ_AS)


def _value(characters: str) -> int:
    value = 0
    for character in characters:
        value = value << 5 | ALPHABET.index(character)
    return value
