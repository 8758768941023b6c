"""Rescue codes: a system goes on for seven days when its Feature Key is dead at night and the vendor is on the phone.

The certificate carries an anchor, H applied N times to a seed that only the vendor knows. The code of day d is H
applied N - d times, shown as 32 characters; whoever has the anchor checks it by hashing forward, and so no host holds a
secret (DESIGN: Rescue code; facts/field.md complaint 10).

* Days count from the day the certificate was issued. Day 0 is the anchor itself, which is no secret, and no code.
* Each certificate has a chain of its own: a code that was read out once is the way to all codes of days before it, and
  in a chain that began anew with a later certificate these would be days to come.
* A code names its day by the number of steps it takes to the anchor. So a host can say which day it was made for, and
  the vendor can make one for the date that a host with a wrong clock believes in.
* 160 bits fill the 32 characters: there is no room for check symbols. A mistyped code is a code of no day, and nobody
  can say which character it is.
"""

from __future__ import annotations

import datetime
import enum
import hashlib

import msgspec

from .certificate import Certificate
from .encoding import length_prefixed
from .licensekey import ALPHABET, MAX_TYPED

RESCUE_SIZE = 20
"""Bytes of a rescue code."""

LENGTH = 32
"""Characters that 20 bytes take, 5 bits each."""

DAYS_OFF = 1
"""How far the code's day may be from the host's: the vendor's day may have begun when the host's has not."""

OPEN_DAYS = 7
"""Days that a code opens: time to bring a new Feature Key."""

OPEN_SECONDS = OPEN_DAYS * 86_400

_STEP = b"featurekeyd rescue step"
_VALUES = {character: value for value, character in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_SEPARATORS = frozenset(" -\t\u2010\u2011\u2012\u2013\u00a0")
"""What people and mail programs put between the groups; the same as in license keys."""


class RescueVerdict(enum.StrEnum):
    """Why a rescue code is refused; the names are stable."""

    NOT_A_CODE = "not_a_code"
    UNKNOWN_CODE = "unknown_code"
    OTHER_DAY = "other_day"
    ALREADY_USED = "already_used"


_REMEDY = {
    RescueVerdict.NOT_A_CODE: "A rescue code has 32 characters: digits and letters without I, L, O and U.",
    RescueVerdict.UNKNOWN_CODE: "Compare it group by group with what the vendor reads out, and tell the vendor the "
    "serial and the day of the certificate.",
    RescueVerdict.OTHER_DAY: "If this host's date is wrong, set it (timedatectl); else ask the vendor for a code of "
    "this host's date.",
    RescueVerdict.ALREADY_USED: "Ask the vendor for a new code; one is good once, and those of earlier days with it.",
}


class RescueRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """A rescue code that is not taken: why, and the cure; `position` is that of a wrong character, from 1."""

    verdict: RescueVerdict
    message: str
    remedy: str
    position: int | None = None


class RescueMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the rescues of one serial: the day of the latest code, and how many there were; only advances."""

    day: datetime.date
    count: int = 1

    def merged(self, other: RescueMark) -> RescueMark:
        """What both together say, when a backup is restored."""
        return RescueMark(day=max(self.day, other.day), count=max(self.count, other.count))


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rescue code has opened: seven days of running time, which also end with a date.

    The running time is what a clock set back cannot stretch, the date what a host that is switched off cannot save up.
    """

    serial: str
    day: datetime.date
    """The day of the code."""
    drained: float = 0.0
    """Seconds of boot time that are gone."""

    @property
    def last_date(self) -> datetime.date:
        """The last date it may reach, far enough that it takes nothing from a code entered a day after its own."""
        return self.day + datetime.timedelta(days=DAYS_OFF + OPEN_DAYS)

    def advanced(self, elapsed: float) -> Opening:
        """The same after that much boot time."""
        return msgspec.structs.replace(self, drained=min(self.drained + max(elapsed, 0.0), float(OPEN_SECONDS)))

    def seconds_left(self, serial: str | None, today: datetime.date) -> float:
        """Seconds until it closes, 0 when it is closed or was for another serial."""
        if serial != self.serial or today > self.last_date:
            return 0.0
        return OPEN_SECONDS - self.drained


class Rescued(msgspec.Struct, frozen=True, kw_only=True):
    """A rescue code that is taken."""

    opening: Opening
    mark: RescueMark
    """What to keep before the opening counts."""


def rescue_step(value: bytes) -> bytes:
    """One step of the chain, H: SHA-256 over label and value, its first 20 bytes."""
    return hashlib.sha256(length_prefixed(_STEP, value)).digest()[:RESCUE_SIZE]


def write_code(code: bytes) -> str:
    """The 20 bytes as they are read out: 8 groups of 4 characters."""
    bits = int.from_bytes(code, "big")
    characters = "".join(ALPHABET[(bits >> shift) & 31] for shift in range(LENGTH * 5 - 5, -1, -5))
    return "-".join(characters[place : place + 4] for place in range(0, LENGTH, 4))


def read_code(text: str) -> bytes | RescueRefusal:
    """The 20 bytes of a typed code; lower case, blanks, dashes, O for 0 and I or L for 1 are accepted."""
    if len(text) > MAX_TYPED:
        return _refuse(RescueVerdict.NOT_A_CODE, f"The text has {len(text)} characters; a rescue code has {LENGTH}.")
    bits = count = 0
    for character in text.strip():
        if character in _SEPARATORS:
            continue
        # Not text.upper(): that makes two characters of one, and a good one of some foreign ones.
        value = _VALUES.get(character.upper()) if character.isascii() else None
        count += 1
        if value is None:
            message = f"Character {count} is {character!r}, which no rescue code has."
            return _refuse(RescueVerdict.NOT_A_CODE, message, position=count)
        bits = (bits << 5) | value
    if count != LENGTH:
        return _refuse(RescueVerdict.NOT_A_CODE, f"The rescue code has {count} characters instead of {LENGTH}.")
    return bits.to_bytes(RESCUE_SIZE, "big")


def day_of_code(code: bytes, certificate: Certificate) -> datetime.date | None:
    """The day that a code is of, None for a code of no day of this certificate; hashes the chain to its end at most."""
    value = code
    for day in range(1, certificate.rescue_days + 1):
        value = rescue_step(value)
        if value == certificate.rescue_anchor:
            return certificate.issued + datetime.timedelta(days=day)
    return None


def check_rescue(
    text: str, certificate: Certificate, used: RescueMark | None, today: datetime.date
) -> Rescued | RescueRefusal:
    """Whether a typed code opens this system today; `used` is the mark of the certificate's serial.

    `today` is the date that terms are held against. The 3650 steps of a chain take some 5 ms, so that it belongs
    beside the decisions, not between them.
    """
    code = read_code(text)
    if isinstance(code, RescueRefusal):
        return code
    day = day_of_code(code, certificate)
    if day is None:
        return _unknown(certificate)
    if used is not None and day <= used.day:
        message = f"The code is of {day}, and one of {used.day} was used on this system already."
        return _refuse(RescueVerdict.ALREADY_USED, message)
    if abs((day - today).days) > DAYS_OFF:
        return _refuse(RescueVerdict.OTHER_DAY, f"The code is of {day}, and this host takes {today} for today.")
    opening = Opening(serial=certificate.serial, day=day)
    return Rescued(opening=opening, mark=RescueMark(day=day, count=used.count + 1 if used else 1))


def _unknown(certificate: Certificate) -> RescueRefusal:
    message = (
        f"This is no rescue code for serial {certificate.serial} with its certificate of {certificate.issued}. A "
        "character may be mistyped; rescue codes have no check characters, so nobody can say which."
    )
    return _refuse(RescueVerdict.UNKNOWN_CODE, message)


def _refuse(verdict: RescueVerdict, message: str, *, position: int | None = None) -> RescueRefusal:
    return RescueRefusal(verdict=verdict, message=message, remedy=_REMEDY[verdict], position=position)
