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
    """Cuts what a client sends into requests, each when it is asked for: what waits costs nobody anything."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._end = -1
        """Where the next request ends, below 0 where its end is not there yet."""

    @property
    def waiting(self) -> bool:
        """Whether a whole request is there, or what cannot be one."""
        return self._end >= 0 or self._too_long

    @property
    def unfinished(self) -> bool:
        """Whether a request was begun and is not there to its end, where none waits."""
        return bool(self._received) and not self.waiting

    @property
    def alone(self) -> bool:
        """Whether one whole request is there and nothing else."""
        return self._end >= 0 and self._end + len(_END) == len(self._received)

    def feed(self, data: bytes) -> None:
        """Take in what has come."""
        searched = max(len(self._received) - len(_END) + 1, 0)
        self._received += data
        if self._end < 0:
            self._end = self._received.find(_END, searched)

    def take(self) -> CallRequest:
        """The next request, where one waits; raises BadRequest."""
        if self._end < 0:
            raise BadRequest(f"a request has more than {limits.MAX_CALL_REQUEST_BYTES} bytes and no empty line")
        request = bytes(self._received[: self._end])
        del self._received[: self._end + len(_END)]
        self._end = self._received.find(_END)
        return _read(request)

    def clear(self) -> None:
        """Forget what waits."""
        self._received.clear()
        self._end = -1

    @property
    def _too_long(self) -> bool:
        return len(self._received) > limits.MAX_CALL_REQUEST_BYTES and self._end < 0


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
