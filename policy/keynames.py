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
    last: str
    shift: int
    """Bits of a key behind those of the beginning."""
    high: int
    """The bits of the beginning."""
    mask: int
    low: int
    """The bits of the end that are no check symbols, under their mask."""

    def fits(self, key: LicenseKey) -> bool:
        """Whether it names this key."""
        bits = key.bits
        if bits >> self.shift != self.high or bits & self.mask != self.low:
            return False
        whole = key.text.replace("-", "")
        return whole.startswith(self.first) and whole.endswith(self.last)


def read_name(text: str) -> KeyName | None:
    """The name that was typed; None where it has too few characters, too many, or one that no key has."""
    first, dots, last = text.replace("...", "…").partition("…")
    first, last = _plain(first), _plain(last)
    ends = (len(first), len(last))
    enough = min(ends) >= LEAST_AT_EACH_END if dots else ends[0] >= LEAST_CHARACTERS
    return _name(first, last) if enough and max(ends) <= LENGTH and {*first, *last} <= {*ALPHABET} else None


def _name(first: str, last: str) -> KeyName:
    written, low = first[: LENGTH - CHECKS], last[:-CHECKS]
    shift, mask = _BITS - 5 * len(written), (1 << 5 * len(low)) - 1
    return KeyName(first, last, shift, _value(written), mask, _value(low))


def _plain(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum()).translate(_READ_AS)


def _value(characters: str) -> int:
    value = 0
    for character in characters:
        value = value << 5 | ALPHABET.index(character)
    return value
