"""Which port and which features a call takes that a switch asks for by SIP addresses alone: the rules of the site.

Rules of this module:

* The rules are in order, and the first fits whose conditions all do. A condition is a list, and one of it must fit; a
  rule without conditions fits every call.
* Patterns have `*` for any characters and `?` for one. Matching takes at most as many steps as number and pattern have
  characters, multiplied; there are no regular expressions, which may take for ever.
* A key is `CALLID;tag=FROMTAG`, for whatever switch: the far end chooses the Call-ID, so calls may share one (DESIGN:
  Leases). Whatever it chose there is a key for it.

Source: RFC 3261 sections 19.1 (SIP URI), 20.8 (Call-ID); RFC 3966 section 5.1 (visual separators of a number).
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from .catalog import Catalog
from .requests import CallClass, Want

MAX_RULES = 256
"""Rules of a site: each may be looked at for each call."""

MAX_CONDITIONS = 64
"""Entries of one condition of a rule."""

MAX_ENTRIES = 1024
"""Entries of all conditions of all rules: each may be held against each call, some 1 ms for usual ones together."""

MAX_PATTERN = 64
"""Characters of a pattern, and of a number or host that is held against it: those beyond do not count."""

TAG = ";tag="
"""What stands between Call-ID and From-tag in a key."""

MAX_KEY = 512
"""Characters of a key (`requests.LeaseKey`)."""

_HEAD, _HASH = 60, 32
"""Characters of the key at the beginning of its stand-in; hexadecimal digits of SHA-256 behind them and a tilde."""

_STAND_IN = re.compile(f".{{0,{_HEAD}}}~[0-9a-f]{{{_HASH}}}")

_SCHEMES = frozenset({"sip", "sips", "tel"})

_DIGITS = frozenset("0123456789*#+")
_SEPARATORS = str.maketrans("", "", "-.()")

_ESCAPED = re.compile("(?:%[0-9A-Fa-f]{2})+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Target(NamedTuple):
    """What a Request-URI asks for."""

    number: str
    """Its user part without parameters; all of a URN."""
    host: str
    """Its host, in small letters, without the port."""


class Call(NamedTuple):
    """What is known of a call when it begins."""

    target: Target
    source: str
    """IP address that its INVITE came from."""
    diverter: str
    """Who diverted it, empty where nobody did."""


class CallRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its conditions, and what a call takes that meets them."""

    source: tuple[Network, ...] = ()
    dialed: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    diverter: tuple[str, ...] = ()
    port: str | None = None
    wants: tuple[Want, ...] = ()
    """Empty where such calls are not counted."""
    call_class: CallClass | None = None

    @property
    def entries(self) -> int:
        """Entries of its conditions."""
        return len(self.source) + len(self.dialed) + len(self.host) + len(self.diverter)

    def fits(self, call: Call) -> bool:
        """Whether every condition is met."""
        return (
            (not self.source or _is_within(call.source, self.source))
            and (not self.dialed or _matches_one(call.target.number, self.dialed))
            and (not self.host or _matches_one(call.target.host, self.host))
            and (not self.diverter or _matches_one(call.diverter, self.diverter))
        )


def find_rule(rules: tuple[CallRule, ...], call: Call) -> CallRule | None:
    """The first rule that fits."""
    return next((rule for rule in rules if rule.fits(call)), None)


def read_target(uri: str) -> Target:
    """What a Request-URI asks for; one that is none of SIP is taken as it stands, without its parameters."""
    scheme, colon, rest = uri.strip().strip("<>").partition(":")
    if not colon or scheme.lower() not in _SCHEMES:
        return Target(uri.strip().strip("<>").partition(";")[0].lower(), "")
    if scheme.lower() == "tel":
        return Target(_number(rest), "")
    user, at, place = rest.partition("@")  # one in the user part is escaped
    return Target(_number(user), _host(place)) if at else Target("", _host(rest))


def call_key(call_id: str, from_tag: str) -> str:
    """The key of a call's lease; a stand-in where it is too long or not printable, which every client makes alike."""
    key = f"{call_id}{TAG}{from_tag}"
    if len(key) <= MAX_KEY and key.isprintable():
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_printable(key, _HEAD)}~{digest[:_HASH]}"


def call_id_of(key: str) -> str:
    """The Call-ID in a key; all of it where it has no tag."""
    call_id, tag, _ = key.rpartition(TAG)
    return call_id if tag else key


def filed_under(key: str) -> str:
    """What the calls of a Call-ID have in common in their keys: the Call-ID, or as much as a stand-in tells of it."""
    return filed_stand_in(call_id_of(key[: -_HASH - 1])) if _STAND_IN.fullmatch(key) else call_id_of(key)


def filed_stand_in(call_id: str) -> str:
    """What stand-ins for calls of that Call-ID have in common; others may have it too."""
    return f"~{_printable(call_id, _HEAD - len(TAG))}"


def _printable(text: str, most: int) -> str:
    return "".join(itertools.islice(filter(str.isprintable, text), most))


def matches(text: str, pattern: str) -> bool:
    """Whether the whole text fits a pattern with `*` and `?`."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in {"?", text[at]}:
            at, place = at + 1, place + 1
        elif star >= 0:  # let the last star take one character more
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def wants_of_established(catalog: Catalog, held: dict[str, int], present: dict[str, int]) -> tuple[Want, ...]:
    """What was asked for at first by one who holds this: without what its features take besides during set-up."""
    asked = dict(held)
    for name, instances in {**held, **present}.items():
        feature = catalog.features.get(name)
        for besides, count in feature.during_setup.items() if feature is not None else ():
            if besides in asked:
                asked[besides] = asked[besides] - count * instances
    return tuple(Want(name, count) for name, count in {**asked, **present}.items() if count > 0)


def _number(user: str) -> str:
    """A user part as it is dialed: without password and parameters, and a telephone number without separators."""
    number = _ESCAPED.sub(_unescaped, user.partition(":")[0].partition(";")[0])
    bare = number.translate(_SEPARATORS)
    return bare if bare and _DIGITS.issuperset(bare) else number


def _unescaped(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "backslashreplace")


def _host(place: str) -> str:
    bare = place.partition(";")[0].partition("?")[0].lower()
    if bare.startswith("["):
        return bare.partition("]")[0].strip("[]")
    return bare.partition(":")[0]


def _matches_one(text: str, patterns: tuple[str, ...]) -> bool:
    short = text[:MAX_PATTERN]
    return any(matches(short, pattern) for pattern in patterns)


def _is_within(source: str, networks: tuple[Network, ...]) -> bool:
    address = _address(source)
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=64)
def _address(source: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in a text, read once for all rules, None where it is none."""
    try:
        address = ipaddress.ip_address(source.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
