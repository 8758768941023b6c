"""One Varlink connection to the daemon, synchronous, with the standard library only.

Rules of this module:

* The socket is opened at the first call and belongs to the process that opened it: a descriptor that came over a fork
  is closed and never used, since parent and child would take each other's answers.
* A time limit covers the whole call: connecting, sending, a retry, and reading the reply.
* Anything that goes wrong during a call closes the connection, so a late reply is never taken for the next answer.
* A call is repeated once, and only when a connection that had worked before turns out to be gone before the first
  byte of the reply. Every method of the daemon may be repeated; none counts twice.
* A `Connection` is used from one thread at a time.

The errors, all below `CallError`:

    CallError
    ├── DaemonAway          nobody answers: no socket, nobody behind it, or the connection ended
    ├── DaemonSlow          no answer within the time limit
    ├── PermissionRefused   the socket or the daemon refuses this user
    ├── CallRefused         the daemon answered with an error
    └── ReplyGarbled        what came is not a reply, or is longer than allowed
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DEFAULT_SOCKET = "/run/featurekeyd/io.featurekey.License"
"""Where the daemon listens (DESIGN: What lives where)."""

LICENSE = "io.featurekey.License"
MANAGE = "io.featurekey.Manage"

TRY_AGAIN = frozenset({f"{LICENSE}.UnexpectedCondition", f"{LICENSE}.TooManyConnections"})
"""Errors that say nothing about the question; any other would come again each time."""

MAX_SAID = 200
"""Characters of one parameter of an error that are kept: more than any of the daemon's, and a log line stays a line."""

MAX_PARAMETERS = 8
"""Parameters of an error that are kept; the daemon's have two at most."""

IS_IT_RUNNING = "is featurekeyd running?"
"""The cure where nobody answers."""

_CHUNK = 64 * 1024
_NO_SOCKET = "look at its limit on open files, and for what it opens and never closes"
_BACKLOG_PAUSE = 0.005
"""Seconds between two attempts while the daemon's queue of new connections is full."""


class CallError(Exception):
    """A call that brought no answer; `what` says what happened, `cure` what to do, `errno` is kept if there is one.

    `doubtful` is true when the daemon may have carried the call out all the same, `final` when the daemon was asked
    and refused: asking again would bring the same.
    """

    final = False

    def __init__(self, what: str, *, cure: str = "", errno: int | None = None, doubtful: bool = False) -> None:
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what = what
        self.cure = cure
        self.errno = errno
        self.doubtful = doubtful


class DaemonAway(CallError):
    """Nobody answers; `stale` marks a connection that had worked before and was gone before a byte of the reply."""

    def __init__(
        self,
        what: str,
        *,
        cure: str = IS_IT_RUNNING,
        errno: int | None = None,
        doubtful: bool = False,
        stale: bool = False,
    ) -> None:
        super().__init__(what, cure=cure, errno=errno, doubtful=doubtful)
        self.stale = stale


class DaemonSlow(CallError):
    """The daemon did not answer within the time limit."""

    def __init__(self, path: str, *, doubtful: bool = False) -> None:
        cure = "the daemon or the host is overloaded or stopped"
        super().__init__(f"no answer in time at {path}", cure=cure, doubtful=doubtful)


class PermissionRefused(CallError):
    """The socket or the daemon refuses the user of this process."""

    final = True


class CallRefused(CallError):
    """The daemon answered with an error; `error` is its full name, `parameters` what it says beside, shortened."""

    def __init__(self, error: str, parameters: Mapping[str, Any]) -> None:
        kept = itertools.islice(parameters.items(), MAX_PARAMETERS)
        self.parameters = {name[:MAX_SAID]: _kept(value) for name, value in kept}
        said = ", ".join(f"{name}: {value}" for name, value in self.parameters.items())
        # The daemon met this one in the midst of its work; all others are found before any work begins.
        doubtful = error == f"{LICENSE}.UnexpectedCondition"
        super().__init__(f"the daemon answered with {error}" + (f" ({said})" if said else ""), doubtful=doubtful)
        self.error = error
        self.final = error not in TRY_AGAIN


def _kept(value: object) -> object:
    """A parameter of an error; a nested one might be too deep to be shown."""
    if isinstance(value, str):
        return value[:MAX_SAID]
    return value if isinstance(value, int | float | None) else f"({type(value).__name__})"


class ReplyGarbled(CallError):
    """What came is not a Varlink reply, or is longer than allowed."""

    def __init__(self, what: str) -> None:
        super().__init__(what, cure="does something else than featurekeyd listen at this socket?", doubtful=True)


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def encode(method: str, parameters: Mapping[str, Any], *, more: bool = False) -> bytes:
    """One call as it goes over the wire; parameters that are None are left out."""
    call: dict[str, Any] = {"method": method}
    call["parameters"] = {name: value for name, value in parameters.items() if value is not None}
    if more:
        call["more"] = True
    return json.dumps(call, separators=(",", ":")).encode() + b"\0"


def decode(raw: bytes) -> tuple[dict[str, Any], bool]:
    """The parameters of one reply and whether more follow; raises CallRefused, PermissionRefused, ReplyGarbled."""
    try:
        reply = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ReplyGarbled(f"the reply is not JSON ({type(error).__name__})") from None
    if not isinstance(reply, dict):
        raise ReplyGarbled("the reply is not a JSON object")
    parameters = reply.get("parameters")
    if parameters is None:
        parameters = {}
    refusal, continues = reply.get("error"), reply.get("continues") or False
    if not (isinstance(parameters, dict) and isinstance(refusal, str | None) and isinstance(continues, bool)):
        raise ReplyGarbled("a member of the reply has the wrong type")
    if refusal is not None:
        raise _refusal(refusal, parameters)
    return parameters, continues


def _refusal(error: str, parameters: dict[str, Any]) -> CallError:
    if error == "org.varlink.service.PermissionDenied":
        return PermissionRefused("the daemon does not serve this user", cure="see section [access] of its settings")
    return CallRefused(error, parameters)


class Connection:
    """One connection to the socket at `path`; opened when needed, dropped after a fork and after any trouble.

    `max_reply` in bytes: a longer reply is a fault, and who asks knows how long an honest one may be.
    """

    def __init__(self, path: str, *, max_reply: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._max_reply = max_reply
        self._clock = clock
        self._socket: socket.socket | None = None
        self._process = 0
        self._worked = False
        self._buffer = bytearray()

    def call(self, method: str, parameters: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """Ask and return the parameters of the one reply; `timeout` in seconds for all of it; raises CallError."""
        answer, continues = self._ask(encode(method, parameters), self._clock() + timeout)
        if continues:
            self.close()
            raise ReplyGarbled("several replies to a call that asked for one")
        return answer

    def replies(
        self, method: str, parameters: Mapping[str, Any], *, timeout: float, endless: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Ask with `more` and yield the parameters of each reply; raises CallError.

        `timeout` in seconds holds for all replies together, with `endless` for the first one only.
        """
        deadline = self._clock() + timeout
        try:
            answer, continues = self._ask(encode(method, parameters, more=True), deadline)
            yield answer
            while continues:
                answer, continues = self._reply(math.inf if endless else deadline)
                yield answer
        except (CallRefused, PermissionRefused):
            raise
        except BaseException:
            # Also when the caller stops reading early: what is still to come must not meet the next call.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        opened, self._socket = self._socket, None
        self._worked = False
        self._buffer.clear()
        if opened is not None:
            with contextlib.suppress(OSError):  # it is gone either way
                opened.close()

    def _ask(self, message: bytes, deadline: float) -> tuple[dict[str, Any], bool]:
        try:
            return self._attempt(message, deadline)
        except DaemonAway as away:
            if not away.stale:
                raise
            doubtful = away.doubtful
        try:
            return self._attempt(message, deadline)
        except CallError as error:
            error.doubtful = error.doubtful or doubtful
            raise

    def _attempt(self, message: bytes, deadline: float) -> tuple[dict[str, Any], bool]:
        try:
            self._open(deadline)
            self._send(message, deadline)
            answer, continues = self._reply(deadline)
        except (CallRefused, PermissionRefused):
            self._worked = True
            raise
        except BaseException:
            self.close()
            raise
        self._worked = True
        return answer, continues

    def _open(self, deadline: float) -> None:
        if self._socket is not None and not self._is_fit(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect(deadline)
            self._process = os.getpid()

    def _is_fit(self, opened: socket.socket) -> bool:
        """Whether this process opened it, and it is open with nothing in it: neither an end nor a stray reply."""
        if self._buffer or self._process != os.getpid():
            return False
        try:
            opened.settimeout(0)
            opened.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _connect(self, deadline: float) -> socket.socket:
        try:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            what = f"this process cannot open a socket ({error.strerror or error})"
            raise DaemonAway(what, cure=_NO_SOCKET, errno=error.errno) from None
        try:
            self._connect_by(opened, deadline)
        except BaseException:
            opened.close()
            raise
        return opened

    def _connect_by(self, opened: socket.socket, deadline: float) -> None:
        while True:
            try:
                opened.settimeout(self._left(deadline, doubtful=False))
                opened.connect(self.path)
            except BlockingIOError:
                # The kernel does not let a caller wait for room in the queue and keep a time limit.
                time.sleep(_BACKLOG_PAUSE)
            except TimeoutError:
                raise DaemonSlow(self.path) from None
            except PermissionError as error:
                what = f"this user may not open {self.path}"
                cure = "see the permissions of the socket and its folder"
                raise PermissionRefused(what, cure=cure, errno=error.errno) from None
            except (OSError, ValueError) as error:
                raise self._nobody(error) from None
            else:
                return

    def _nobody(self, error: OSError | ValueError) -> DaemonAway:
        if isinstance(error, FileNotFoundError):
            return DaemonAway(f"there is no socket {self.path}", errno=error.errno)
        if isinstance(error, ConnectionRefusedError):
            return DaemonAway(f"nobody listens at {self.path}", errno=error.errno)
        reason = (isinstance(error, OSError) and error.strerror) or error
        return DaemonAway(f"{self.path} cannot be reached ({reason})", errno=getattr(error, "errno", None))

    def _send(self, message: bytes, deadline: float) -> None:
        opened = self._opened()
        try:
            opened.settimeout(self._left(deadline, doubtful=False))
            # No signal: an interpreter inside a switch may not have SIGPIPE ignored.
            opened.sendall(message, socket.MSG_NOSIGNAL)
        except TimeoutError:
            raise DaemonSlow(self.path) from None
        except OSError as error:
            if not self._worked:
                self._hear_last_words()
            what = f"the connection to {self.path} ended while asking"
            raise DaemonAway(what, errno=error.errno, stale=self._worked) from None

    def _hear_last_words(self) -> None:
        """Raise what the daemon said before it closed a new connection, as it does to strangers, where it said so."""
        opened = self._opened()
        try:
            opened.settimeout(0)
            said = opened.recv(_CHUNK)
        except OSError:
            return
        if b"\0" in said:
            decode(said[: said.index(0)])

    def _reply(self, deadline: float) -> tuple[dict[str, Any], bool]:
        searched = 0
        while (end := self._buffer.find(0, searched)) < 0:
            searched = len(self._buffer)
            if searched > self._max_reply:
                break
            self._buffer += self._receive(deadline)
        if end > self._max_reply or end < 0:
            raise ReplyGarbled(f"the reply is longer than {self._max_reply} bytes")
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return decode(raw)

    def _receive(self, deadline: float) -> bytes:
        opened = self._opened()
        errno = None
        try:
            opened.settimeout(self._left(deadline, doubtful=True))
            chunk = opened.recv(_CHUNK)
        except TimeoutError:
            raise DaemonSlow(self.path, doubtful=True) from None
        except OSError as error:
            chunk, errno = b"", error.errno
        if chunk:
            return chunk
        stale = self._worked and not self._buffer
        raise DaemonAway(f"the daemon closed {self.path} without an answer", errno=errno, doubtful=True, stale=stale)

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise DaemonAway(f"the connection to {self.path} is closed", doubtful=True)
        return self._socket

    def _left(self, deadline: float, *, doubtful: bool) -> float | None:
        """Seconds until the deadline, None for never."""
        if deadline == math.inf:
            return None
        left = deadline - self._clock()
        if left <= 0:
            raise DaemonSlow(self.path, doubtful=doubtful)
        return left
