"""A stand-in for the daemon: a Varlink server in threads that answers, fails and dawdles as a test tells it.

No test sleeps: a slow answer waits for an event that the test sets, or that the end of the test sets.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reaction = Callable[["Peer"], None]

PATIENCE = 20.0
"""Seconds after which a test that waits for something fails; never reached when things are right."""

GRANTED = {"allowed": True, "reason": "granted", "feature": "sip-trunk-channels", "limit": 4, "in_use": 1}
DENIED = {
    "allowed": False,
    "reason": "limit_reached",
    "feature": "sip-trunk-channels",
    "limit": 4,
    "in_use": 4,
    "fallback": "emergency-calls-only",
    "message": "all 4 sip-trunk-channels are in use",
    "remedy": "wait, or buy more",
}


class Peer:
    """One accepted connection, seen from the stand-in."""

    def __init__(self, opened: socket.socket, over: threading.Event) -> None:
        self.opened = opened
        self.over = over
        self.call: dict[str, Any] = {}
        self._buffer = b""

    def hear(self) -> dict[str, Any] | None:
        """The next call, None when the client is gone."""
        while b"\0" not in self._buffer:
            chunk = self.opened.recv(65536)
            if not chunk:
                return None
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        self.call = json.loads(raw)
        return self.call

    def say(self, raw: bytes) -> None:
        self.opened.sendall(raw)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.opened.shutdown(socket.SHUT_RDWR)


class StandIn:
    """The server; reactions to a method are used up one by one, and the last one stays."""

    GRANTED = GRANTED
    DENIED = DENIED
    PATIENCE = PATIENCE

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.over = threading.Event()
        self.changed = threading.Condition()
        self.calls: list[dict[str, Any]] = []
        self.connections = 0
        self.greeting: Callable[[Peer], None] | None = None
        self._reactions: defaultdict[str, list[Reaction]] = defaultdict(list)
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    # What it can be told to do.

    @staticmethod
    def says(*replies: dict[str, Any]) -> Reaction:
        """Answer; several replies go out with `continues`."""
        last = len(replies) - 1
        texts = [
            json.dumps({"parameters": reply} | ({"continues": True} if n < last else {})).encode() + b"\0"
            for n, reply in enumerate(replies)
        ]
        return lambda peer: peer.say(b"".join(texts))

    @staticmethod
    def refuses(error: str, **parameters: Any) -> Reaction:
        """Answer with an error."""
        return lambda peer: peer.say(json.dumps({"error": error, "parameters": parameters}).encode() + b"\0")

    @staticmethod
    def raw(text: bytes) -> Reaction:
        """Answer with these bytes as they are."""
        return lambda peer: peer.say(text)

    @staticmethod
    def hangs_up(after: bytes = b"") -> Reaction:
        """Close the connection, after saying these bytes."""

        def react(peer: Peer) -> None:
            peer.say(after)
            peer.hang_up()

        return react

    def waits(self, until: threading.Event, then: Reaction) -> Reaction:
        """React when the event is set; the client may be gone by then."""

        def react(peer: Peer) -> None:
            assert until.wait(PATIENCE)
            if not self.over.is_set():
                then(peer)

        return react

    def never(self) -> Reaction:
        """No reaction until the test is over."""
        return self.waits(self.over, self.hangs_up())

    def on(self, method: str, *reactions: Reaction | dict[str, Any]) -> None:
        """React so to calls of the method, given without its interface."""
        self._reactions[method] = [r if callable(r) else self.says(r) for r in reactions]

    # Being there and not being there.

    def appear(self, backlog: int = 32) -> StandIn:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(backlog)
        self._start(self._accept, self._listener)
        return self

    def vanish(self) -> None:
        """Go as a killed daemon does: the listener and every connection close, the socket file is gone."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(FileNotFoundError):
                Path(self.path).unlink()
        for peer in self._peers:
            peer.hang_up()

    def end(self) -> None:
        self.over.set()
        self.vanish()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    # What it heard.

    def asked(self) -> list[str]:
        """The methods called so far, without their interface, with the key where there is one."""
        with self.changed:
            return [" ".join([_short(c["method"]), *_key(c)]) for c in self.calls]

    def await_calls(self, number: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= number, PATIENCE), self.calls
        return self.asked()

    def parameters(self, index: int = -1) -> dict[str, Any]:
        with self.changed:
            found: dict[str, Any] = self.calls[index]["parameters"]
            return found

    def _start(self, target: Callable[[socket.socket], None], opened: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(opened,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    opened, _ = listener.accept()
                except OSError:
                    return
                self._start(self._serve, opened)

    def _serve(self, opened: socket.socket) -> None:
        peer = Peer(opened, self.over)
        with opened, contextlib.suppress(OSError):
            with self.changed:
                self.connections += 1
                self._peers.append(peer)
                self.changed.notify_all()
            if self._listener is None:
                return
            if self.greeting is not None:
                self.greeting(peer)
            while (call := peer.hear()) is not None:
                self._react(call)(peer)

    def _react(self, call: dict[str, Any]) -> Reaction:
        with self.changed:
            self.calls.append(call)
            self.changed.notify_all()
            reactions = self._reactions[_short(call["method"])]
            if not reactions:
                return self.refuses("org.varlink.service.MethodNotFound", method=call["method"])
            return reactions.pop(0) if len(reactions) > 1 else reactions[0]


def _short(method: str) -> str:
    return method.rpartition(".")[2]


def _key(call: dict[str, Any]) -> list[str]:
    return [call["parameters"]["key"]] if "key" in call["parameters"] else []


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in that is not there yet."""
    stand_in = StandIn(tmp_path / "socket")
    stand_in.on("Acquire", GRANTED)
    stand_in.on("Release", {"released": True})
    yield stand_in
    stand_in.end()


@pytest.fixture
def daemon(absent: StandIn) -> StandIn:
    """A stand-in that listens, grants and releases."""
    return absent.appear()
