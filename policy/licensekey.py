"""The 32-character license key: what it says, how it is written, and what is wrong with one that is not good.

160 bits are written as 32 Crockford base32 characters (DESIGN: License key):

    56 bits payload   version 3, feature code 12, instances 14, issue day 14, term 3, sequence 10
    94 bits digest    SHA-256 over length-prefixed label, catalog id, serial and payload, its first 94 bits
    10 bits check     two symbols, see `checksymbols`

The digest binds a key to one catalog and one serial; it is no signature. What makes a key *valid* is the vendor's
signed list (`licenselist`); the key alone says what was bought and for which serial.
"""

from __future__ import annotations

import calendar
import datetime
import enum
import hashlib

import msgspec

from .checksymbols import CHECKS, LENGTH, Exchanged, append_checks, find_mistake
from .encoding import length_prefixed
from .findings import Finding, Verdict, refuse

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford base32: no I, L, O, U; the first three are read as 1, 1 and 0."""

VERSION = 1
"""The only version of the payload so far."""

EPOCH = datetime.date(2000, 1, 1)
"""Day 0 of the issue day; 14 bits last until 2044."""

TRIAL_DAYS = 60
"""Days a trial lasts, counted from its issue (facts/catalog.md section 7)."""

MAX_FEATURE_CODE = (1 << 12) - 1
MAX_INSTANCES = (1 << 14) - 1
MAX_SEQUENCE = (1 << 10) - 1

MAX_TYPED = 256
"""Characters of a text that is looked at as a key: 32, with whatever people put between them."""

_LABEL = b"featurekeyd license key"
_DIGEST_BITS = 94
_VALUES = {character: value for value, character in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_SEPARATORS = frozenset(" -\t\u2010\u2011\u2012\u2013\u00a0")
"""What people and mail programs put between the groups: blanks, hyphens and the dashes made of them."""


class Term(enum.IntEnum):
    """How long a license lasts, from its issue day."""

    PERPETUAL = 0
    TRIAL = 1
    MONTH = 2
    YEAR = 3
    THREE_YEARS = 4
    FIVE_YEARS = 5


_MONTHS = {Term.MONTH: 1, Term.YEAR: 12, Term.THREE_YEARS: 36, Term.FIVE_YEARS: 60}


class LicenseKey(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed license key, taken apart."""

    feature_code: int
    instances: int
    issued: datetime.date
    term: Term
    sequence: int
    """Tells apart equal orders for one serial."""
    digest: int
    """94 bits that only one catalog and serial give."""

    @property
    def expires(self) -> datetime.date | None:
        """The last day on which it is good, None for a perpetual license."""
        if self.term is Term.PERPETUAL:
            return None
        if self.term is Term.TRIAL:
            return self.issued + datetime.timedelta(days=TRIAL_DAYS - 1)
        return _months_later(self.issued, _MONTHS[self.term]) - datetime.timedelta(days=1)

    def days_left(self, day: datetime.date) -> int | None:
        """Days on which it is good from that day on, that day included; None for a perpetual license.

        A trial never has more than its 60, also before its issue day.
        """
        if self.expires is None:
            return None
        left = max((self.expires - day).days + 1, 0)
        return min(left, TRIAL_DAYS) if self.term is Term.TRIAL else left

    @property
    def bits(self) -> int:
        """The 150 bits before the check symbols, as they are written."""
        return (_payload(self) << _DIGEST_BITS) | self.digest

    @property
    def text(self) -> str:
        """The key as printed: 8 groups of 4."""
        bits = self.bits
        symbols = append_checks([(bits >> shift) & 31 for shift in range(145, -1, -5)])
        characters = "".join(ALPHABET[symbol] for symbol in symbols)
        return "-".join(characters[place : place + 4] for place in range(0, LENGTH, 4))

    @property
    def short(self) -> str:
        """First and last group: enough to find it on an order, and not enough to use it."""
        return shorten(self.text)

    def made_for(self, catalog: str, serial: str) -> bool:
        """Whether this key was issued for that catalog and Feature Key serial."""
        return self.digest == _digest(_payload(self), catalog, serial)


def shorten(key: str) -> str:
    """A key's first and last group with an ellipsis between; the only form that logs and listings may show."""
    return f"{key[:4]}…{key[-4:]}"


def make_key(
    *, feature_code: int, instances: int, issued: datetime.date, term: Term, sequence: int, catalog: str, serial: str
) -> LicenseKey:
    """The key for one order; raises ValueError naming the field that does not fit into its bits."""
    _fits("feature_code", feature_code, 0, MAX_FEATURE_CODE)
    _fits("instances", instances, 1, MAX_INSTANCES)
    _fits("issued", (issued - EPOCH).days, 0, (1 << 14) - 1)
    _fits("sequence", sequence, 0, MAX_SEQUENCE)
    blank = LicenseKey(
        feature_code=feature_code, instances=instances, issued=issued, term=term, sequence=sequence, digest=0
    )
    return msgspec.structs.replace(blank, digest=_digest(_payload(blank), catalog, serial))


def read_key(text: str, *, catalog: str = "", serial: str = "") -> LicenseKey | Finding:
    """Take a typed key apart, or say what is wrong with it.

    Lower case, blanks, dashes, O for 0 and I or L for 1 are accepted. A correction is suggested when it gives a key for
    the catalog and serial stated, or, when none is stated, on the strength of the check symbols alone.
    """
    symbols = _symbols(text)
    if isinstance(symbols, Finding):
        return symbols
    mistake = find_mistake(symbols)
    if mistake is None:
        return _taken_apart(symbols)
    if isinstance(mistake, Exchanged):
        return _exchanged(symbols, mistake, catalog, serial)
    meant = [*symbols]
    meant[mistake.place] = mistake.symbol
    suggestion = _suggestion(meant, catalog, serial)
    wrong, right = ALPHABET[symbols[mistake.place]], ALPHABET[mistake.symbol]
    message = f"Character {mistake.place + 1} of the key is wrong: {wrong} where {right} was likely meant."
    if suggestion is None:
        message += " Corrected so, it is no key for this Feature Key; perhaps more than one character is wrong."
    return refuse(Verdict.MISTYPED, message, position=mistake.place + 1, suggestion=suggestion)


def _symbols(text: str) -> list[int] | Finding:
    if len(text) > MAX_TYPED:
        return refuse(Verdict.NOT_A_KEY, f"The text has {len(text)} characters; a key has {LENGTH}.")
    symbols: list[int] = []
    for character in text.strip():
        if character in _SEPARATORS:
            continue
        # Not text.upper(): that makes two characters of one ß, and a good I of a foreign one without its dot.
        value = _VALUES.get(character.upper()) if character.isascii() else None
        if value is None:
            place = len(symbols) + 1
            return refuse(Verdict.NOT_A_KEY, f"Character {place} is {character!r}, which no key has.", position=place)
        symbols.append(value)
    if len(symbols) != LENGTH:
        return refuse(Verdict.NOT_A_KEY, f"The key has {len(symbols)} characters instead of {LENGTH}.")
    return symbols


def _exchanged(symbols: list[int], mistake: Exchanged, catalog: str, serial: str) -> Finding:
    candidates = []
    for place in mistake.places:
        meant = [*symbols]
        meant[place], meant[place + 1] = meant[place + 1], meant[place]
        candidates.append((place, _suggestion(meant, catalog, serial)))
    good = [(place, key) for place, key in candidates if key is not None]
    if not good:
        return refuse(Verdict.MISTYPED, "Several characters of the key are wrong.")
    if len(good) > 1:
        pairs = " or ".join(f"{place + 1} and {place + 2}" for place, _ in good)
        return refuse(Verdict.MISTYPED, f"Two neighboring characters of the key are exchanged: {pairs}.")
    place, suggestion = good[0]
    message = f"Characters {place + 1} and {place + 2} of the key are exchanged."
    return refuse(Verdict.MISTYPED, message, position=place + 1, suggestion=suggestion)


def _suggestion(symbols: list[int], catalog: str, serial: str) -> str | None:
    key = _taken_apart(symbols)
    if isinstance(key, Finding) or (serial and not key.made_for(catalog, serial)):
        return None
    return key.text


def _taken_apart(symbols: list[int]) -> LicenseKey | Finding:
    bits = 0
    for symbol in symbols[:-CHECKS]:
        bits = (bits << 5) | symbol
    digest, payload = bits & ((1 << _DIGEST_BITS) - 1), bits >> _DIGEST_BITS
    version, term, instances = payload >> 53, (payload >> 10) & 7, (payload >> 27) & MAX_INSTANCES
    if version != VERSION:
        message = f"The key is of version {version}; this release reads version {VERSION}."
        return refuse(Verdict.UNKNOWN_VERSION, message)
    if term > max(Term) or instances == 0:
        what = "no instances" if instances == 0 else f"term {term}"
        return refuse(Verdict.UNKNOWN_VERSION, f"The key has {what}, which version {VERSION} does not know.")
    return LicenseKey(
        feature_code=(payload >> 41) & MAX_FEATURE_CODE,
        instances=instances,
        issued=EPOCH + datetime.timedelta(days=(payload >> 13) & ((1 << 14) - 1)),
        term=Term(term),
        sequence=payload & MAX_SEQUENCE,
        digest=digest,
    )


def _payload(key: LicenseKey) -> int:
    day = (key.issued - EPOCH).days
    return (
        (VERSION << 53)
        | (key.feature_code << 41)
        | (key.instances << 27)
        | (day << 13)
        | (key.term << 10)
        | key.sequence
    )


def _digest(payload: int, catalog: str, serial: str) -> int:
    text = length_prefixed(_LABEL, catalog.encode(), serial.encode(), payload.to_bytes(7, "big"))
    return int.from_bytes(hashlib.sha256(text).digest(), "big") >> (256 - _DIGEST_BITS)


def _fits(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{field}: {value} is outside {least} to {most}")


def _months_later(day: datetime.date, months: int) -> datetime.date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1, day=min(day.day, calendar.monthrange(year, month + 1)[1]))
