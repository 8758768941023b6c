"""The listening sockets: those that systemd hands over, or made here; and who connects to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from systemd.daemon import listen_fds

from . import limits

BACKLOG = 512
"""Connections that may wait to be accepted: a burst of a hundred workers reconnecting after a restart, and more."""


class SocketTaken(Exception):
    """Another process answers on the socket; the text says which path and what to do."""


def handed_over() -> list[socket.socket]:
    """The sockets that systemd hands over (sd_listen_fds(3)), none where it does not; they are asked for once."""
    return [socket.socket(fileno=descriptor) for descriptor in listen_fds()]


def listening_socket(path: Path, handed: Sequence[socket.socket] = ()) -> socket.socket:
    """The socket at that path among those, else the first, else a new one at that path; raises SocketTaken."""
    return _handed_at(path, handed) or (handed[0] if handed else bound_socket(path))


def calls_socket(path: Path, handed: Sequence[socket.socket] = ()) -> socket.socket:
    """The socket at that path among those, which outlives the daemon, else a new one; raises SocketTaken."""
    return _handed_at(path, handed) or bound_socket(path)


def _handed_at(path: Path, handed: Sequence[socket.socket]) -> socket.socket | None:
    return next((it for it in handed if it.getsockname() == str(path)), None)


def bound_socket(path: Path) -> socket.socket:
    """A new socket at that path, which anybody may connect to; raises SocketTaken."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.is_socket():
        if _answers(path):
            listening.close()
            raise SocketTaken(f"another process answers on {path}; stop it first (systemctl status featurekeyd)")
        path.unlink()
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        # The system does not name the path here, and a path that is too long (unix(7)) has not even an errno.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    # Anybody may connect: access is decided inside, by the peer's credentials, and strangers are told.
    path.chmod(0o666)
    listening.listen(BACKLOG)
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # EAGAIN: too busy to answer; whatever else it is, the socket is not known to be stale
    return True


class Accepting:
    """Accepts connections until it is closed; `connected` gets each new socket, `refused` hears why there is none."""

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        connected: Callable[[socket.socket], object],
        refused: Callable[[OSError], object],
    ) -> None:
        self._listening = listening
        self._loop = loop
        self._connected = connected
        self._refused = refused
        self._again: asyncio.TimerHandle | None = None
        listening.settimeout(0)
        self._begin()

    def close(self) -> None:
        """Accept no more; the socket stays open."""
        self._loop.remove_reader(self._listening)
        if self._again is not None:
            self._again.cancel()

    def _begin(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(limits.ACCEPTED_AT_ONCE):
            try:
                connected, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: those who wait stay in the backlog
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(limits.ACCEPT_AGAIN_SECONDS, self._begin)
                self._refused(error)
                return
            self._connected(connected)
