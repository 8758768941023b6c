"""Looks whether the socket can still be reached at its path: who cleans a directory or changes a mode tells nobody.

The daemon itself notices nothing of it, since its connections go on. So it looks now and then, and tells what it sees
when that changes. The directory is in memory, so to look waits for no disk.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from featurekeyd.policy.events import Event, EventName

LOOK_SECONDS = 10.0
"""How often it is looked: a technician who has just done it reads of it while still at the screen."""

_RESTART = "systemctl restart featurekeyd.socket featurekeyd.service makes it anew; no lease is lost by that."


class SocketWatch:
    """Looks at the path of a listening socket until it is closed."""

    def __init__(
        self, listening: socket.socket, loop: asyncio.AbstractEventLoop, tell: Callable[[Event], object]
    ) -> None:
        self._path = Path(os.fsdecode(listening.getsockname()))
        self._loop = loop
        self._tell = tell
        self._first = _seen(self._path)
        """Which file it was at the start."""
        self._wrong = ""
        """What was told last."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = self._loop.call_later(LOOK_SECONDS, self.start)
        self.look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Look once, and tell what has changed."""
        wrong = self._find()
        if wrong == self._wrong:
            return
        self._wrong = wrong
        name, said = EventName.SOCKET_TROUBLE, f"{wrong} Programs that connect anew get no answer. {_RESTART}"
        if not wrong:
            name, said = EventName.SOCKET_RIGHT, f"The socket {self._path} can be reached again."
        self._tell(Event(name=name, message=said, fields={"PATH": str(self._path)}))

    def _find(self) -> str:
        """What is wrong, in a sentence; empty where nothing is."""
        now = _seen(self._path)
        if now is None:
            return f"The socket {self._path} is gone: somebody removed it."
        if self._first is not None and (now.st_dev, now.st_ino) != (self._first.st_dev, self._first.st_ino):
            return f"At {self._path} is another file now than the socket that the daemon listens on."
        if now.st_mode & 0o666 != 0o666:
            mode = f"{stat.S_IMODE(now.st_mode):04o}"
            return f"The socket {self._path} has mode {mode}, so that not everybody may connect (chmod 666 opens it)."
        return ""


def _seen(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
