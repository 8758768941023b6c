"""What can be read of a request that breaks a rule: an emergency call is granted all the same.

Emergency calls come first of all (DESIGN: The decision), so a key that is too long or a member of the wrong type must
keep none back. Each member is read by itself, whatever the others are; only the dialed number and the class decide, and
the others are for the log.
"""

from __future__ import annotations

import msgspec

from .requests import CallClass, Request

MOST_SHOWN = 64
"""Characters of a text that are shown: as many as a holder name or a dialed number has, and enough to find a call."""

_MISSING = msgspec.Raw(b"null")


class Legible(msgspec.Struct, frozen=True):
    """The members that are looked at, each as it came."""

    holder: msgspec.Raw = _MISSING
    key: msgspec.Raw = _MISSING
    port: msgspec.Raw = _MISSING
    dialed: msgspec.Raw = _MISSING
    call_class: msgspec.Raw = msgspec.field(default=_MISSING, name="class")

    def request(self) -> Request:
        """A request that wants nothing and has what can be read, cut short and without what no terminal shows."""
        emergency = _text(self.call_class) == CallClass.EMERGENCY
        return Request(
            holder=_shown(_text(self.holder)) or "?",
            key=_shown(_text(self.key)) or "?",
            wants=(),
            port=_shown(_text(self.port)) or None,
            call_class=CallClass.EMERGENCY if emergency else None,
            dialed=_shown(_text(self.dialed)) or None,
        )

    def has_name(self, holder: str) -> bool:
        """Whether this is the name that it came under, as it stands."""
        return bytes(self.holder).startswith(b'"') and _text(self.holder) == holder


def read_legible(parameters: bytes | msgspec.Raw) -> Legible | None:
    """The members that are looked at; None where the parameters are no JSON object."""
    try:
        return _DECODER.decode(parameters)
    except _NOT_JSON:
        return None


def _text(member: msgspec.Raw) -> str:
    """A text as it is, a whole number in digits, and nothing for anything else."""
    try:
        return str(_TEXT.decode(member))
    except _NOT_JSON:
        return ""


def _shown(text: str) -> str:
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN - 1]}…"
    return "".join(character if character.isprintable() else "?" for character in text)


_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be."""

_DECODER = msgspec.json.Decoder(Legible)
_TEXT: msgspec.json.Decoder[str | int] = msgspec.json.Decoder(str | int)
