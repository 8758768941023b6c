"""The watchdog: the daemon asks itself for a decision, and tells the service manager only when it is answered.

The question takes the way of every client's: a socket, the wire, the turns, the decision; it is an Explain, which
changes nothing. A loop that hangs, a turn that serves nobody and a decision that fails all end the same way: nothing is
told, and the service manager ends the daemon and starts it anew (systemd.service(5), WatchdogSec=). What every thread
was doing stands in the log then.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import socket
import sys
from collections.abc import Mapping

from featurekeyd.policy.catalog import Catalog, Feature, Mode
from featurekeyd.policy.system import System

from .connection import Connection
from .notices import STATUS_SECONDS, Notices, StatusLine
from .server import Server
from .stream import Stream
from .wire import LICENSE

HOLDER = "featurekeyd"
"""The name under which the daemon asks itself."""

QUESTIONS_PER_WATCHDOG = 3
"""Questions in the time that the service manager allows: two may be late on a loaded host."""

_MOST_BYTES = 64 * 1024
"""Longest answer that is read: an Explain of one feature has some 2 kB."""

_ANSWERS = (b'{"parameters":', b'{"error":"io.featurekey.License.HolderBelongsToAnotherUser"')
"""How an answer begins. A name that somebody took is no reason to end the daemon, or any client could do that."""


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Within what time the service manager wants to hear of this process, None where it does not.

    Source: sd_watchdog_enabled(3).
    """
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or process != str(os.getpid()) or not int(microseconds):
        return None
    return int(microseconds) / 1e6


class Watchdog:
    """Asks, and tells, until it is closed; without a service manager that listens it does nothing."""

    def __init__(self, server: Server, notices: Notices, seconds: float | None) -> None:
        """`seconds` is what `watchdog_seconds` says; without, only the status line is kept up to date."""
        self._server = server
        self._notices = notices
        self._status = StatusLine(server.site)
        self._every = STATUS_SECONDS if seconds is None else seconds / QUESTIONS_PER_WATCHDOG
        self._asks = seconds is not None
        self._question = _question(_feature(server.site.enforcer.catalog, server.site.enforcer.system))
        self._socket: socket.socket | None = None
        """Our end of the connection; None while there is none."""
        self._answer = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to ask."""
        if not self._notices.wanted:
            return
        if self._asks:
            faulthandler.enable(sys.__stderr__ or sys.stderr)  # WatchdogSignal= is SIGABRT
        self._turn()

    def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._hang_up()
        self._notices.close()

    def _turn(self) -> None:
        self._timer = self._server.loop.call_later(self._every, self._turn)
        if self._asks:
            self._ask()
        else:
            self._notices.tell(status=str(self._status))

    def _ask(self) -> None:
        """Put the question; one that was not answered is forgotten with its connection."""
        if self._answer or self._socket is None:
            self._hang_up()
            self._socket = self._connected()
        try:
            self._socket.send(self._question)
        except OSError:  # the other end was closed, or reads nothing: the next turn connects anew
            self._hang_up()

    def _connected(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        Stream(self._server.turns, theirs, Connection(self._server))
        self._server.loop.add_reader(ours, self._read)
        return ours

    def _hang_up(self) -> None:
        self._answer.clear()
        if self._socket is not None:
            self._server.loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        chunk = b""
        with contextlib.suppress(OSError):
            chunk = self._socket.recv(_MOST_BYTES)
        self._answer += chunk
        if not chunk or len(self._answer) > _MOST_BYTES:
            self._hang_up()
        elif self._answer.endswith(b"\0"):
            answered = self._answer.startswith(_ANSWERS)
            self._answer.clear()
            if answered:
                self._notices.tell("WATCHDOG=1", status=str(self._status))


def _feature(catalog: Catalog, system: System) -> str:
    """What calls take on this system, so that its decision goes the whole way; the next best where there is none."""

    def short_of(feature: Feature) -> tuple[bool, bool, bool]:
        return system.unused(catalog, feature) is not None, feature.mode is not Mode.USE, system.is_free(feature)

    return min(catalog.features.values(), key=short_of).id


def _question(feature: str) -> bytes:
    wants = [{"feature": feature}]
    call = {"method": f"{LICENSE}.Explain", "parameters": {"holder": HOLDER, "key": "watchdog", "wants": wants}}
    return json.dumps(call).encode() + b"\0"
