"""Two check symbols over GF(32) that find a mistyped license key and say where the mistake is.

A key is 32 symbols of 5 bits. Symbol i carries the locator a(i): 0 for the first symbol, then the powers of the field's
generator, so that all 32 elements of the field are locators. The check symbols are the last two, chosen so that

    S0 = sum of c(i)         = 0
    S1 = sum of a(i) * c(i)  = 0

This is a Hamming code over GF(32) of length 32 with one column left out (33 exist), hence distance 3:

* one wrong symbol gives S0 != 0, and S1 / S0 is the locator of the place, S0 the amount to add;
* exchanged symbols give S0 = 0 and S1 != 0, which no single wrong symbol does: the column left out is exactly the
  direction of every exchange.
"""

from __future__ import annotations

import msgspec

LENGTH = 32
"""Symbols in a key, check symbols included."""

CHECKS = 2
"""Check symbols, the last ones."""

_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, primitive over GF(2)."""


def _powers() -> tuple[int, ...]:
    powers = [1]
    while len(powers) < 31:
        double = powers[-1] << 1
        powers.append(double ^ _POLYNOMIAL if double & 0b100000 else double)
    return tuple(powers)


_EXP = _powers()
_LOG = {value: exponent for exponent, value in enumerate(_EXP)}
_LOCATORS = (0, *_EXP)
_PLACE = {locator: place for place, locator in enumerate(_LOCATORS)}


def _times(a: int, b: int) -> int:
    return _EXP[(_LOG[a] + _LOG[b]) % 31] if a and b else 0


def _over(a: int, b: int) -> int:
    return _EXP[(_LOG[a] - _LOG[b]) % 31] if a else 0


def _syndrome(symbols: list[int]) -> tuple[int, int]:
    s0 = s1 = 0
    for locator, symbol in zip(_LOCATORS, symbols, strict=True):
        s0 ^= symbol
        s1 ^= _times(locator, symbol)
    return s0, s1


class WrongSymbol(msgspec.Struct, frozen=True):
    """One symbol is wrong: its place, counted from 0, and the symbol that makes the key consistent."""

    place: int
    symbol: int


class Exchanged(msgspec.Struct, frozen=True):
    """Symbols were exchanged; `places` are the first places of neighbors whose exchange makes the key consistent."""

    places: tuple[int, ...]


def append_checks(symbols: list[int]) -> list[int]:
    """The 30 symbols with the two check symbols behind them."""
    s0, s1 = _syndrome([*symbols, 0, 0])
    first, second = _LOCATORS[LENGTH - 2], _LOCATORS[LENGTH - 1]
    last = _over(s1 ^ _times(first, s0), first ^ second)
    return [*symbols, s0 ^ last, last]


def find_mistake(symbols: list[int]) -> WrongSymbol | Exchanged | None:
    """None for 32 consistent symbols, else the single mistake that explains the inconsistency.

    Two or more wrong symbols can look like one wrong symbol elsewhere: whoever offers the correction to a person checks
    it against something else first (for a license key, its digest).
    """
    s0, s1 = _syndrome(symbols)
    if s0:
        place = _PLACE[_over(s1, s0)]
        return WrongSymbol(place, symbols[place] ^ s0)
    if s1:
        return Exchanged(tuple(place for place in range(LENGTH - 1) if _exchange(symbols, place) == s1))
    return None


def _exchange(symbols: list[int], place: int) -> int:
    difference = symbols[place] ^ symbols[place + 1]
    return _times(difference, _LOCATORS[place] ^ _LOCATORS[place + 1])
