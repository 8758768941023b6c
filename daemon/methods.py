"""What a service is made of: its methods, what they take, and the ways they may answer."""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Union

import msgspec

from . import limits
from .peer import Peer
from .subscribers import Subscriber
from .wire import NOT_JSON, SERVICE, BadMessage, Call, error_reply, malformed, read_call, reply, reply_continues

_NAMED = re.compile(
    r"Object (?:contains unknown|missing required) field `(.+)`"
    r"|`(\w+)` (?:has printable characters only|is refused: .+)",
    re.DOTALL,
)
"""What a complaint says that names a member itself, of msgspec or of `policy.requests`."""


_FLAGS = ("oneway", "more", "upgrade")
"""Members of a call beside its method and parameters (the Varlink protocol)."""


class Permission(enum.Enum):
    """What a peer must be allowed to do before a method is run for it."""

    NONE = "none"
    ASK = "ask"
    MANAGE = "manage"

    __hash__ = object.__hash__  # each is there once; an enum's own hash costs every call more than its decoding


class ErrorReply(Exception):
    """A method ends with this error reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("an error reply")
        self.reply = reply


class Client(msgspec.Struct, frozen=True):
    """The connection that a call came on."""

    number: int
    peer: Peer
    push: Callable[[bytes], bool]
    """Sends a reply outside the order of calls, or says that the client reads too slowly."""


class Slices(msgspec.Struct, frozen=True):
    """Work that is done a slice at a time, beside the calls of others."""

    pieces: Iterator[bytes]
    """One for each slice: empty, but for the last, which is the reply."""


Outcome = bytes | Awaitable[bytes] | Iterator[bytes] | Slices | Subscriber
"""A reply, a reply to come, many replies, a reply after some slices of work, or a subscription."""


class Method(msgspec.Struct, frozen=True):
    """One method of an interface."""

    permission: Permission
    run: Callable[[Client, Any], Outcome]
    parameters: msgspec.json.Decoder[Any]
    more: bool = False
    """Whether it answers with many replies and must be called with `more`."""
    unreadable: Callable[[Client, msgspec.Raw], bytes | None] | None = None
    """What is asked for a reply where the parameters cannot be read; without one they are refused."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a method that takes none."""


def method(
    permission: Permission,
    parameters: type,
    run: Callable[[Client, Any], Outcome],
    *,
    more: bool = False,
    unreadable: Callable[[Client, msgspec.Raw], bytes | None] | None = None,
) -> Method:
    """One method that takes these parameters."""
    return Method(permission, run, msgspec.json.Decoder(parameters), more, unreadable)


def call_method(methods: dict[str, Method], call: Call, client: Client, permissions: frozenset[Permission]) -> Outcome:
    """Run the method that the call names, or give the error reply that says why not; raises BadMessage."""
    found = methods.get(call.method)
    if found is None:
        return _no_such_method(methods, call.method)
    if found.permission not in permissions:
        return error_reply(f"{SERVICE}.PermissionDenied")
    if found.more and not call.more:
        return error_reply(f"{SERVICE}.ExpectedMore")
    try:
        parameters = found.parameters.decode(call.parameters)
    except NOT_JSON as error:  # the parameters are looked into only now
        answered = None if found.unreadable is None else found.unreadable(client, call.parameters)
        return answered or _refused(error)
    return found.run(client, parameters)


class Calls:
    """Runs the call in a message; `unexpected` makes a reply of an exception that nobody foresaw.

    A good call, as nearly all are, is decoded in one go with its parameters. What is wrong with any other is found out
    step by step, by `read_call` and `call_method`.
    """

    def __init__(self, methods: dict[str, Method], unexpected: Callable[[Exception], bytes]) -> None:
        self._methods = methods
        self._unexpected = unexpected
        self._of: dict[type, Method] = {}
        for name, found in methods.items():
            fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("parameters", found.parameters.type)]
            fields += [(flag, bool, False) for flag in _FLAGS]
            self._of[msgspec.defstruct("Call", fields, tag_field="method", tag=name, frozen=True, gc=False)] = found
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(Union[tuple(self._of)]).decode  # noqa: UP007

    def run(self, message: bytes, client: Client, permissions: frozenset[Permission]) -> tuple[Outcome, bool]:
        """The outcome of a message without its NUL, and whether nobody waits for an answer; raises BadMessage."""
        try:
            call = self._decode(message) if len(message) < limits.LONG_MESSAGE_BYTES else read_call(message)
        except NOT_JSON:
            call = read_call(message)
        found = self._of.get(call.__class__)
        try:
            if found is None or found.permission not in permissions or (found.more and not call.more):
                return call_method(self._methods, read_call(message), client, permissions), call.oneway
            return found.run(client, call.parameters), call.oneway
        except BadMessage:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one method must not end the daemon
            return self._unexpected(error), call.oneway


def invalid_parameter(parameter: str) -> bytes:
    """The reply that a parameter is missing, unknown, of the wrong type or out of bounds."""
    return error_reply(f"{SERVICE}.InvalidParameter", {"parameter": parameter})


def parameter_of(message: str) -> str:
    """The path to the parameter that msgspec complains of, e.g. `wants[0].instances`."""
    what, _, place = message.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    named = _NAMED.fullmatch(what)
    if named is None:
        return path
    name = named[1] or named[2]
    return f"{path}.{name}" if path else name


def said(fields: dict[str, object]) -> dict[str, object]:
    """The fields that have a value: in Varlink, what is not known is left out."""
    return {name: value for name, value in fields.items() if value is not None}


def one_by_one(member: str, values: Iterable[dict[str, object]]) -> Iterator[bytes]:
    """Each value in a reply of its own under that member; one reply without it where there is none."""
    waiting: dict[str, object] | None = None
    for value in values:
        if waiting is not None:
            yield reply_continues({member: said(waiting)})
        waiting = value
    yield reply({} if waiting is None else {member: said(waiting)})


def _refused(error: Exception) -> bytes:
    if isinstance(error, msgspec.ValidationError):
        return invalid_parameter(parameter_of(str(error)))
    raise malformed(error) from None


def _no_such_method(methods: dict[str, Method], name: str) -> bytes:
    interface, _, _ = name.rpartition(".")
    if interface in {known.rpartition(".")[0] for known in methods}:
        return error_reply(f"{SERVICE}.MethodNotFound", {"method": name[:256]})
    return error_reply(f"{SERVICE}.InterfaceNotFound", {"interface": interface[:256]})
