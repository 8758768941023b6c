"""One run of featurekeyctl: its connection, its way of writing, and the option that every verb has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from .call import MANAGE, Connection
from .reading import member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME_LIMIT = 10.0
"""Seconds for one question of a technician: nobody sits much longer before a silent screen."""

LOOK_TIME_LIMIT = 30.0
"""Seconds for a question that has the daemon read the Feature Key anew: it waits 20 s for a slow reader, and what it
says of one that hangs is the answer that is wanted."""

_LOOKING = frozenset(
    f"{MANAGE}.{name}" for name in ("CheckNow", "ImportCertificate", "ImportCheck", "ImportList", "Restore")
)

MAX_REPLY = 64 * 1024 * 1024
"""Bytes of one reply. The longest is the findings of a list: 60,000 keys, as many as one file may hold, of 1 KB."""

_Verb = TypeVar("_Verb", bound="Callable[..., Any]")


class Session:
    """What the verbs share: the socket at `path`, whether answers are JSON, and the method that was asked last."""

    def __init__(self, path: str, *, as_json: bool) -> None:
        self.as_json = as_json
        self.path = path
        self.asked = ""
        self._connection = Connection(path, max_reply=MAX_REPLY)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The reply to one call; raises CallError."""
        self.asked = method
        timeout = LOOK_TIME_LIMIT if method in _LOOKING else TIME_LIMIT
        return self._connection.call(method, parameters, timeout=timeout)

    def each(self, method: str, *, endless: bool = False, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The replies to one call with `more`; raises CallError."""
        self.asked = method
        yield from self._connection.replies(method, parameters, timeout=TIME_LIMIT, endless=endless)

    def collect(self, method: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The object `name` of each reply that has one; raises CallError."""
        found = [member(reply, name, dict) for reply in self.each(method, **parameters)]
        return [value for value in found if value is not None]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def examples(*lines: str) -> str:
    """The examples at the end of a verb's help, each on a line of its own."""
    # The backspace tells click to leave the line breaks of the paragraph alone.
    return "\b\n" + "\n".join([f"Example{'s' * (len(lines) > 1)}:", *(f"  {line}" for line in lines)])


def json_option(verb: _Verb) -> _Verb:
    """Give a verb the option --json, with the same meaning as before the verb."""

    def remember(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it so
        session = context.find_object(Session)
        if wanted and session is not None:
            session.as_json = True

    text = "Write the answer as JSON, for programs."
    return click.option("--json", is_flag=True, expose_value=False, callback=remember, help=text)(verb)
