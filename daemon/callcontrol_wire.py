"""The text protocol of the module call_control of Kamailio and OpenSIPS, without any socket.

A request is a verb and lines `name: value`, each ended by CR LF, and an empty line; the answer is one line. A value may
go on in the next line where that begins with a blank (RFC 3261 section 7.3.1: a header that a far end has folded comes
here as it stood), so nothing in a header can make a field or end a request.

Source: facts/telephony.md section 5.
"""

from __future__ import annotations

import msgspec

from . import limits

NO_LIMIT = b"No limit\r\n"
"""The call goes ahead, and the switch tells nothing more of it."""
LIMITED = b"Limited\r\n"
"""The call goes ahead, and the switch tells of its answer and its end."""
NO_CREDIT = b"No credit\r\n"
LOCKED = b"Locked\r\n"
OK = b"Ok\r\n"
NOT_FOUND = b"Not found\r\n"
ERROR = b"Error\r\n"
"""What the module takes for trouble, without letting go of the connection."""

_END = b"\r\n\r\n"


class BadRequest(Exception):
    """Bytes that are no request: nobody knows where the next one begins."""


class CallRequest(msgspec.Struct, frozen=True):
    """One request."""

    verb: str
    fields: dict[str, str]
    """The first of each name."""


class CallRequests:
    """Cuts what a client sends into requests."""

    def __init__(self) -> None:
        self._received = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether a request was begun and is not there to its end."""
        return bool(self._received)

    def feed(self, data: bytes) -> list[CallRequest]:
        """The requests that end in these bytes; raises BadRequest."""
        searched = max(len(self._received) - len(_END) + 1, 0)
        self._received += data
        requests, begin = [], 0
        while (end := self._received.find(_END, max(searched, begin))) >= 0:
            requests.append(_read(bytes(self._received[begin:end])))
            begin = end + len(_END)
        del self._received[:begin]
        if len(self._received) > limits.MAX_CALL_REQUEST_BYTES:
            raise BadRequest(f"a request has more than {limits.MAX_CALL_REQUEST_BYTES} bytes and no empty line")
        return requests


def _read(request: bytes) -> CallRequest:
    if len(request) > limits.MAX_CALL_REQUEST_BYTES:
        raise BadRequest(f"a request has more than {limits.MAX_CALL_REQUEST_BYTES} bytes")
    text = request.decode("utf-8", "backslashreplace").replace("\r\n ", " ").replace("\r\n\t", " ")
    verb, *lines = text.split("\r\n")
    if len(lines) >= limits.MAX_CALL_REQUEST_LINES:
        raise BadRequest(f"a request has more than {limits.MAX_CALL_REQUEST_LINES} lines")
    if not (verb.isascii() and verb.isalpha() and len(verb) <= limits.MAX_CALL_VERB):
        raise BadRequest("a request begins with no verb")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"a line of {verb} has no colon; leave the module's parameters init, start and stop unset")
        fields.setdefault(name.strip().lower(), value.strip())
    return CallRequest(verb.lower(), fields)
