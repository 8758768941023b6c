"""A raw Varlink connection for the test bench; nothing of the daemon's or the client's code is used here."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from rig_process import DEADLINE

_INTERFACES = "io.featurekey."

_CONNECT_AND_HAND_OVER = """
import socket, sys
connected = socket.socket(socket.AF_UNIX)
connected.connect(sys.argv[1])
with socket.socket(fileno=int(sys.argv[2])) as channel:
    socket.send_fds(channel, [b"."], [connected.fileno()])
"""


class Refused(Exception):
    """The daemon answered with a Varlink error; `error` is its full name."""

    def __init__(self, error: str, parameters: dict[str, Any]) -> None:
        super().__init__(f"{error} {parameters}")
        self.error = error
        self.parameters = parameters


class Varlink:
    """One raw connection: bytes out, replies in; nothing of the daemon's or the client's code is used here."""

    def __init__(self, connected: socket.socket, seconds: float = DEADLINE) -> None:
        self.socket = connected
        self.socket.settimeout(seconds)
        self._received = bytearray()

    def send(self, method: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> None:
        """Send a call, with other members such as `more` or `oneway`; methods may be as short as `License.Status`."""
        full = method if method.count(".") > 1 else _INTERFACES + method
        message = {"method": full, "parameters": dict(parameters or {}), **members}
        # Where the daemon has closed the connection, what it said before is still there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(json.dumps(message).encode() + b"\0")

    def reply(self) -> dict[str, Any]:
        """The next reply as it came; raises EOFError when the daemon has closed the connection."""
        while (end := self._received.find(0)) < 0:
            chunk = self._receive()
            if not chunk:
                raise EOFError("the daemon closed the connection")
            self._received += chunk
        message = bytes(self._received[:end])
        del self._received[: end + 1]
        return cast("dict[str, Any]", json.loads(message))

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The parameters of the one reply; raises Refused."""
        self.send(method, parameters)
        return _good(self.reply())

    def each(self, method: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The parameters of each reply to a call with `more`; raises Refused."""
        self.send(method, parameters, more=True)
        going_on = True
        while going_on:
            reply = self.reply()
            going_on = bool(reply.get("continues"))
            yield _good(reply)

    def at_end(self) -> bool:
        """Wait for the daemon to close the connection: whether it did so without another byte."""
        return not self._received and not self._receive()

    def _receive(self) -> bytes:
        """The next bytes; none at the end, also when the daemon closed without reading all that was sent."""
        try:
            return self.socket.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _good(reply: dict[str, Any]) -> dict[str, Any]:
    parameters = reply.get("parameters") or {}
    if "error" in reply:
        raise Refused(reply["error"], parameters)
    return cast("dict[str, Any]", parameters)


def connect_as(path: Path, user: int, group: int, extra_groups: Sequence[int]) -> Varlink:
    """A connection that a process of another user has opened, as the kernel tells the daemon; needs root."""
    ours, theirs = socket.socketpair()
    # The interpreter itself, not the environment's link to it, which another user may not reach.
    command = [str(Path(sys.executable).resolve()), "-I", "-S", "-c", _CONNECT_AND_HAND_OVER]
    with ours, theirs:
        subprocess.run(
            [*command, str(path), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            user=user,
            group=group,
            extra_groups=list(extra_groups),
            check=True,
            timeout=DEADLINE,
            cwd="/",
        )
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return Varlink(socket.socket(fileno=descriptors[0]))
