"""The Varlink wire, without any I/O: bytes in, calls out; values in, replies out.

A message is a JSON object and a NUL byte. What this module promises:

* every byte is looked at once and copied at most twice, however a message is cut up on its way;
* a message longer than the limit is refused as soon as it is too long, not when it ends;
* whatever the bytes are, the outcome is a call or a `BadMessage` with the error reply to send.
"""

from __future__ import annotations

from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder()

SERVICE = "org.varlink.service"
LICENSE = "io.featurekey.License"
MANAGE = "io.featurekey.Manage"


class Call(msgspec.Struct, frozen=True, gc=False):
    """One call; the parameters stay undecoded until the method is known."""

    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    oneway: bool = False
    more: bool = False
    upgrade: bool = False


class BadMessage(Exception):
    """The bytes are no call: `reply` says so to the client, and the connection ends after it."""

    def __init__(self, reply: bytes, hint: str) -> None:
        super().__init__(hint)
        self.reply = reply


NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be."""

_decode_call = msgspec.json.Decoder(Call).decode


def read_call(message: bytes) -> Call:
    """The call in one message without its NUL; raises BadMessage."""
    try:
        return _decode_call(message)
    except NOT_JSON as error:
        raise malformed(error) from None


def malformed(error: Exception) -> BadMessage:
    """What is told of bytes that msgspec cannot decode, by the error that it raised."""
    hint = str(error)
    if isinstance(error, RecursionError):
        hint = "JSON is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        hint = "JSON is not UTF-8"
    return BadMessage(error_reply(f"{LICENSE}.MalformedMessage", {"hint": hint}), hint)


def reply(parameters: object) -> bytes:
    """The one reply to a call, or the last of several."""
    return b'{"parameters":' + _ENCODER.encode(parameters) + b"}\0"


def reply_continues(parameters: object) -> bytes:
    """One of several replies, not the last."""
    return b'{"parameters":' + _ENCODER.encode(parameters) + b',"continues":true}\0'


def error_reply(name: str, parameters: dict[str, Any] | None = None) -> bytes:
    """The reply that a call met an error."""
    return b'{"error":' + _ENCODER.encode(name) + b',"parameters":' + _ENCODER.encode(parameters or {}) + b"}\0"


class Messages:
    """Cuts a stream of bytes into messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message was begun and has not ended."""
        return bool(self._parts)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that end within these bytes, each without its NUL; raises BadMessage when one is too long."""
        *ended, rest = data.split(b"\0")
        if not rest and not self._parts and len(data) <= self._limit:
            return ended  # as nearly always: whole messages, none of which can be too long
        if ended and self._parts:
            ended[0] = b"".join([*self._parts, ended[0]])
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._limit or any(len(message) > self._limit for message in ended):
            self._parts.clear()
            raise BadMessage(
                error_reply(f"{LICENSE}.MessageTooLarge", {"limit": self._limit}),
                f"a message is longer than {self._limit} bytes",
            )
        return ended
