"""A telephone made of bytes, for what SIPp cannot do: time a set-up to the microsecond, register, send what is no text.

Rules of this module: one UDP socket of the loopback address, nothing is awaited without a deadline, and an answer that
is not to the last question is skipped.
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from rig_process import DEADLINE, RigFailure

_RECEIVED = 65_536
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Answered:
    """A final answer, and the seconds from the question to it."""

    status: int
    text: bytes
    seconds: float

    def header(self, name: str) -> str:
        """The value of a header, empty where there is none."""
        found = re.search(rf"^{name}: *(.*?)\r$".encode(), self.text, re.MULTILINE | re.IGNORECASE)
        return found[1].decode() if found else ""


@dataclass(frozen=True)
class Call:
    """A call as it was answered; one that was refused is over, and to hang it up does nothing."""

    answered: Answered
    hang_up: Callable[[], object]


class Telephone:
    """Makes one call at a time through a proxy, and registers there; a context manager that closes its socket."""

    def __init__(self, through: int, user: str = "201", patience: float = DEADLINE) -> None:
        self.user = user
        self._opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._opened.bind(("127.0.0.1", 0))
        self._opened.connect(("127.0.0.1", through))
        self._patience = patience
        self.port = int(self._opened.getsockname()[1])

    def register(self, expires: int = 3600) -> Answered:
        """Register this telephone, or with 0 seconds give its registration up."""
        number = next(_NUMBERS)
        address = f"<sip:{self.user}@127.0.0.1>".encode()
        more = [b"Contact: <sip:%b@127.0.0.1:%d>" % (self.user.encode(), self.port), b"Expires: %d" % expires]
        return self._ask(b"REGISTER", b"sip:127.0.0.1", address, address + b";tag=%d" % number, b"%d" % number, more)

    def call(self, callee: str, number: str = "100", call_id: bytes = b"") -> Answered:
        """Call, acknowledge, and hang up at once; the answer to the INVITE."""
        call = self.invite(callee, number, call_id)
        call.hang_up()
        return call.answered

    def invite(
        self,
        callee: str,
        number: str = "100",
        call_id: bytes = b"",
        *,
        acknowledges: bool = True,
        reached_at: str = "",
        copies: int = 1,
    ) -> Call:
        """Call and acknowledge.

        `call_id` where the far end would choose it; `reached_at` where another telephone answers what comes in the
        call, since this one does not; `copies` of the INVITE at once, as of a network that delivers twice.
        """
        unique = b"%d-%d" % (self.port, next(_NUMBERS))
        target = f"sip:{number}@{callee}".encode()
        from_ = b"<sip:%b@127.0.0.1>;tag=%b" % (self.user.encode(), unique)
        contact = [f"Contact: <sip:{self.user}@{reached_at or f'127.0.0.1:{self.port}'}>".encode()]
        answered = self._ask(b"INVITE", target, b"<%b>" % target, from_, call_id or unique, contact, copies)
        to = answered.header("To").encode()
        if answered.status != 200:
            self._send(b"ACK", target, to, from_, call_id or unique, (), again=True)
            return Call(answered, lambda: None)
        routes = [b"Route: " + route for route in re.findall(rb"^Record-Route: *(.*?)\r$", answered.text, re.MULTILINE)]
        target = re.findall(rb"<([^>]*)>", answered.header("Contact").encode())[0]
        if acknowledges:
            self._send(b"ACK", target, to, from_, call_id or unique, routes)
        return Call(answered, lambda: self._ask(b"BYE", target, to, from_, call_id or unique, routes))

    def ask(self, uri: str) -> Answered:
        """Ask for a URI of any scheme; for one that is refused."""
        target, unique = uri.encode(), b"%d-%d" % (self.port, next(_NUMBERS))
        from_ = b"<sip:%b@127.0.0.1>;tag=%b" % (self.user.encode(), unique)
        contact = [b"Contact: <sip:%b@127.0.0.1:%d>" % (self.user.encode(), self.port)]
        answered = self._ask(b"INVITE", target, b"<%b>" % target, from_, unique, contact)
        self._send(b"ACK", target, answered.header("To").encode(), from_, unique, (), again=True)
        return answered

    def _ask(
        self,
        method: bytes,
        target: bytes,
        to: bytes,
        from_: bytes,
        call_id: bytes,
        more: Sequence[bytes],
        copies: int = 1,
    ) -> Answered:
        begun = time.perf_counter()
        branch = self._send(method, target, to, from_, call_id, more, copies=copies)
        deadline = time.monotonic() + self._patience
        while (left := deadline - time.monotonic()) > 0:
            self._opened.settimeout(left)
            try:
                text = self._opened.recv(_RECEIVED)
            except TimeoutError:
                break
            status = int(text[8:11]) if text.startswith(b"SIP/2.0 ") else 0
            if status >= 200 and branch in text:
                return Answered(status, text, time.perf_counter() - begun)
        raise RigFailure(f"no answer to {method.decode()} within {self._patience} s")

    def _send(
        self,
        method: bytes,
        target: bytes,
        to: bytes,
        from_: bytes,
        call_id: bytes,
        more: Sequence[bytes],
        *,
        again: bool = False,
        copies: int = 1,
    ) -> bytes:
        """Send a request; `again` for the ACK of a refusal, which has the branch of its INVITE."""
        number = next(_NUMBERS) - (1 if again else 0)
        branch = b"z9hG4bK%d-%d" % (self.port, number)
        lines = [
            b"%b %b SIP/2.0" % (method, target),
            b"Via: SIP/2.0/UDP 127.0.0.1:%d;branch=%b" % (self.port, branch),
            b"From: " + from_,
            b"To: " + to,
            b"Call-ID: " + call_id,
            b"CSeq: 1 " + method if method in (b"INVITE", b"ACK") else b"CSeq: %d %b" % (number, method),
            b"Max-Forwards: 70",
            *more,
            b"Content-Length: 0",
            b"",
            b"",
        ]
        for _ in range(copies):
            self._opened.send(b"\r\n".join(lines))
        return branch

    def close(self) -> None:
        """Close the socket."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Answerer:
    """A telephone in a thread that answers each request with 200 at once; a context manager that ends it."""

    def __init__(self) -> None:
        self._opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._opened.bind(("127.0.0.1", 0))
        self.port = int(self._opened.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it is, for a Request-URI."""
        return f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            request, peer = self._opened.recvfrom(_RECEIVED)
            if not request:
                return
            if not request.startswith((b"ACK", b"SIP/2.0")):
                self._opened.sendto(self._answer(request), peer)

    def _answer(self, request: bytes) -> bytes:
        kept = re.findall(rb"^((?:Via|Record-Route|From|Call-ID|CSeq): .*?)\r$", request, re.MULTILINE)
        to = re.findall(rb"^To: (.*?)\r$", request, re.MULTILINE)[0]
        to += b"" if b";tag=" in to else b";tag=callee"
        contact = b"Contact: <sip:127.0.0.1:%d>" % self.port
        return b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"To: " + to, contact, b"Content-Length: 0", b"", b""])

    def close(self) -> None:
        """End the thread with an empty datagram, and close the socket."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(DEADLINE)
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
