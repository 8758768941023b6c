"""What a support bundle leaves out: license keys, what is known of single calls, addresses, passwords.

Rules of this module:

* Structure comes first. What a member or a field of a reply or of the journal says is a call, a number or a channel is
  learned from all of the bundle, and then left out wherever it stands: in messages, in other entries, in the journal.
* Text is looked through as well, for what nobody has named: addresses, telephone numbers, names as SIP makes them.
* What is the same stays the same: the same call gets the same mark everywhere, so that its way can be followed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = frozenset({"LEASE", "KEY", "DIALED", "CHANNEL"})
"""Fields of events that name a call: what a far end or a subscriber chose."""

MEMBERS = frozenset({"lease", "key", "dialed", "channel", "call", "number", "caller", "user"})
"""Members of replies that do so where they are texts."""

LEAST_ELSEWHERE = 4
"""Characters of what is left out also where no field names it: a shorter one, as B7, would be found in other words.
In its field and in the message beside it, it is left out all the same."""

LEAST_ANYWHERE = 8
"""Characters from which it is left out also in the midst of a word."""

MOST_PLAIN = 3
"""Digits that are told: those of 112 or of channel 7 say nothing of anybody, and help who looks into a fault."""

_KEY_GROUP = r"[0-9A-Za-z]{4}"
_LICENSE_KEYS = tuple(
    re.compile(rf"(?<![0-9A-Za-z])({_KEY_GROUP}){rest}({_KEY_GROUP})(?![0-9A-Za-z])")
    for rest in (
        rf"([\W_]{{0,6}}){_KEY_GROUP}(?:\2{_KEY_GROUP}){{5}}\2",
        rf"([\W_]{{0,6}}){_KEY_GROUP}(?:[\W_]{{0,6}}{_KEY_GROUP}){{5,7}}[\W_]{{0,6}}",
    )
)
"""Eight groups of four: with the same between all of them, so that a word beside them is not taken for one, and then
with anything, and such words."""

_SHORT_KEY = re.compile(rf"{_KEY_GROUP}\W{{1,3}}{_KEY_GROUP}")
_MARK = re.compile("call-[0-9a-f]{10}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_FIELD = re.compile(rf"\b({'|'.join(sorted(FIELDS))})=(.*?)(?=\s[A-Z][A-Z_]+=|\]\s*$|$)", re.MULTILINE)
_MEMBER = re.compile(rf"""(["'])({"|".join(sorted(MEMBERS))})\1(\s*:\s*)(["'])((?:\\.|(?!\4)[^\\])+)\4""")
_SIP_NAME = re.compile(r"""(?<![^\s"'<>()\[\],=])[^\s"'<>()\[\],=@]+@[^\s"'<>()\[\],]+""")
_TELEPHONE = re.compile(r"(?<![\w.\-])(?:\+\d{5,15}|00?[1-9]\d{5,13})(?!\w)")
_PASSWORD = re.compile(r"(?m)^(\s*\w*(?:secret|password|token)(?!\w*_file)\w*\s*=\s*).+$")
_MAC = re.compile(
    r"(?<![\w:.\-])(?:[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4})(?![\w:])"
)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-fA-F]{0,4}:)[0-9a-fA-F:.]{2,64}")
_IPV4 = re.compile(r"(?<![\w.])(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}(?![\w])(?!\.\d)")
_LOOPBACK = "127.0"


class Redaction:
    """What was learned of one bundle; `addresses` leaves those as they are."""

    def __init__(self, *, addresses: bool = False) -> None:
        self._addresses = addresses
        self._salt = secrets.token_bytes(16)  # so that nobody can try all telephone numbers against the marks
        self._names: set[str] = set()
        self._macs: set[str] = set()

    def learn(self, document: Any) -> None:
        """Take note of all that a document, of texts, lists and dictionaries, names as a call."""
        self._names |= {name for name in _named(document) if len(name) >= LEAST_ELSEWHERE}
        self._macs |= {_plain(found[0]) for text in _texts(document) for found in _MAC.finditer(text)}

    def cleaned(self, document: Any) -> Any:
        """The document without what is nobody's business."""
        return self._cleaned(document, ())

    def text(self, text: str, near: tuple[str, ...] = ()) -> str:
        """The text without it; `near` names what is left out whatever its length."""
        for name in sorted({*near, *self._names}, key=len, reverse=True):
            if name in text:
                text = self._without(name, text)
        text = _FIELD.sub(lambda it: f"{it[1]}={self._mark(it[2])}", text)
        text = _MEMBER.sub(lambda it: f"{it[1]}{it[2]}{it[1]}{it[3]}{it[4]}{self._mark(it[5])}{it[4]}", text)
        text = _without_keys(text)
        text = _SIP_NAME.sub(lambda it: self._mark(it[0]), text)
        text = _TELEPHONE.sub(lambda it: self._mark(it[0]), text)
        text = _PASSWORD.sub(r"\1(left out)", text)
        return text if self._addresses else self._without_addresses(text)

    def _cleaned(self, document: Any, near: tuple[str, ...]) -> Any:
        if isinstance(document, str):
            return self.text(document, near)
        if isinstance(document, list):
            return [self._cleaned(each, near) for each in document]
        if not isinstance(document, dict):
            return document
        if "message" in document or "MESSAGE" in document:
            near = (*near, *_named(document))
        private = document.get("name") in FIELDS
        return {
            name: self._mark(value)
            if isinstance(value, str) and (_is_private(name) or (private and name == "value"))
            else self._cleaned(value, near)
            for name, value in document.items()
        }

    def _mark(self, name: str) -> str:
        if not _tells(name):
            return _without_keys(name)
        digest = hashlib.sha256(self._salt + name.encode(errors="replace")).hexdigest()[:10]
        return f"call-{digest}"

    def _without(self, name: str, text: str) -> str:
        if len(name) >= LEAST_ANYWHERE:
            return text.replace(name, self._mark(name))
        alone = rf"(?<![\w@+./-]){re.escape(name)}(?![\w@+/-]|[.:;]\w)"
        return re.sub(alone, lambda _: self._mark(name), text)

    def _without_addresses(self, text: str) -> str:
        text = _MAC.sub(lambda it: f"{_vendor(it[0])}:xx:xx:xx", text)
        for plain in self._macs:
            text = re.sub(rf"(?i)(?<!\w){plain}(?!\w)", f"{_vendor(plain)}:xx:xx:xx", text)
        text = _IPV6.sub(_without_ipv6, text)
        return _IPV4.sub(lambda it: it[0] if it[1] == _LOOPBACK else f"{it[1]}.x.x", text)


def redacted(text: str, *, addresses: bool = False) -> str:
    """One text without what is nobody's business."""
    it = Redaction(addresses=addresses)
    it.learn(text)
    return it.text(text)


def _named(document: Any) -> Iterator[str]:
    """Everything that a document names as a call."""
    if isinstance(document, str):
        found = [it[2] for it in _FIELD.finditer(document)] + [it[5] for it in _MEMBER.finditer(document)]
        yield from filter(_tells, found)
    elif isinstance(document, list):
        for each in document:
            yield from _named(each)
    elif isinstance(document, dict):
        private = document.get("name") in FIELDS
        for name, value in document.items():
            if isinstance(value, str) and (_is_private(name) or (private and name == "value")):
                yield from filter(_tells, [value])
            else:
                yield from _named(value)


def _is_private(member: object) -> bool:
    return member in MEMBERS or member in FIELDS


def _tells(name: str) -> bool:
    """Whether it may tell of somebody: a license key has a rule of its own, and channel 7 and 112 are nobody's."""
    has_rule = any(it.fullmatch(name) for it in (*_LICENSE_KEYS, _SHORT_KEY, _MARK))
    return bool(name) and not has_rule and not (name.isdecimal() and len(name) <= MOST_PLAIN)


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, list | dict):
        for each in document if isinstance(document, list) else document.values():
            yield from _texts(each)


def _without_keys(text: str) -> str:
    for pattern in _LICENSE_KEYS:
        text = pattern.sub(_shortened, text)
    return text


def _shortened(found: re.Match[str]) -> str:
    # 32 hexadecimal digits in one piece are a digest or a MESSAGE_ID; a key is shown in groups or in capitals. Eight
    # words of four letters are a sentence: not one key in 100,000 is without a digit.
    if _DIGEST.fullmatch(found[0]) or not any(letter.isdigit() for letter in found[0]):
        return found[0]
    return f"{found[1]}-…-{found[3]}"


def _plain(mac: str) -> str:
    return re.sub(r"[:.\-]", "", mac).lower()


def _vendor(mac: str) -> str:
    """The part of a hardware address that its maker has for all its devices."""
    plain = _plain(mac)
    return ":".join((plain[0:2], plain[2:4], plain[4:6]))


def _without_ipv6(found: re.Match[str]) -> str:
    text = found[0].rstrip(":.") if not found[0].endswith("::") else found[0]
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return found[0]  # a time of day, or something else with colons
    if address.is_loopback or address.is_unspecified:
        return found[0]
    return f"(IPv6 address){found[0][len(text) :]}"
