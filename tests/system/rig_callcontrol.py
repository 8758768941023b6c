"""A switch that asks by call_control, in the hand of a test: the daemon's side is the real one, over real sockets."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import callcontrol, stream
from featurekeyd.daemon.callcontrol import CallControlConnection
from featurekeyd.daemon.callcontrol_service import CallControlService
from featurekeyd.daemon.callcontrol_settings import CallControl
from featurekeyd.daemon.peer import Peer
from featurekeyd.daemon.stream import Stream
from featurekeyd.policy.callrules import CallRule
from featurekeyd.policy.requests import CallClass, Want

if TYPE_CHECKING:
    from tests.daemon.conftest import House

TELEPHONY, STRANGER = 1000, 4242
CARRIER = "192.0.2.7"
LONGEST = 3600.0

RULES = (
    CallRule(
        source=(ipaddress.ip_network("192.0.2.0/24"),), port="trunk:carrier-a", wants=(Want("trunk"), Want("edition"))
    ),
    CallRule(dialed=("0*",), port="trunk:carrier-b", wants=(Want("trunk", 2),)),
    CallRule(dialed=("sos",), call_class=CallClass.EMERGENCY),
    CallRule(dialed=("7*",), wants=(Want("recorder"),)),
    CallRule(dialed=("8*",), wants=(Want("edition"),)),
)


def init(call_id: str = "a@b", tag: str = "1", ruri: str = "sip:100@pbx", source: str = CARRIER) -> bytes:
    """The request at an INVITE."""
    fields = {"ruri": ruri, "diverter": "None", "sourceip": source, "callid": call_id, "fromtag": tag}
    return ask("init", **fields)


def start(call_id: str = "a@b") -> bytes:
    """The request at its answer."""
    return ask("start", callid=call_id, dialogid="1:2")


def stop(call_id: str = "a@b") -> bytes:
    """The request at its end."""
    return ask("stop", callid=call_id)


def ask(verb: str, **fields: str) -> bytes:
    """Any request."""
    return (verb + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode()


class Worker:
    """A process of a switch, with one connection to the daemon."""

    def __init__(self, switch: Switch, pid: int, uid: int = TELEPHONY, sent: bytes = b"") -> None:
        self._switch = switch
        self.pid, self.uid = pid, uid
        switch.workers.append(self)
        self.connect(sent)

    def connect(self, sent: bytes = b"") -> None:
        """Open a connection, as the worker does before it asks; bytes may lie there when it is accepted."""
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.socket.sendall(sent)
        self._switch.peers[theirs.fileno()] = Peer(self.pid, self.uid, frozenset())
        connection = CallControlConnection(self._switch.house.server, self._switch.service)
        Stream(self._switch.house.server.turns, theirs, connection)

    def send(self, *requests: bytes) -> None:
        """As the module does it: where the daemon has closed the connection, over a new one."""
        try:
            self.socket.sendall(b"".join(requests))
        except BrokenPipeError:
            self.socket.close()
            self.connect()
            self.socket.sendall(b"".join(requests))

    def ask(self, *requests: bytes) -> list[str]:
        """The answers to these requests."""
        self.send(*requests)
        return self.answers()

    def answers(self) -> list[str]:
        """What the daemon has answered by now."""
        self._switch.house.loop.turn(6)
        try:
            return self.socket.recv(1 << 16).decode().splitlines()
        except (BlockingIOError, ConnectionResetError):  # nothing, or turned away before it was read
            return []

    @property
    def closed(self) -> bool:
        """Whether the daemon takes nothing more from this connection."""
        try:
            self.socket.send(b"")
            self.socket.sendall(b"\r")
        except BrokenPipeError:
            return True
        return False


class Switch:
    """A switch beside a daemon."""

    def __init__(self, house: House, **control: object) -> None:
        self.house = house
        settings = {"socket": house.place / "cc", "holder": "kamailio", "survive": False, "longest_call": LONGEST}
        self.control = CallControl(**{**settings, "rules": RULES, **control})  # type: ignore[arg-type]
        self.service = CallControlService(house.server, self.control)
        self.peers: dict[int, Peer] = {}
        self.children: list[subprocess.Popen[bytes]] = []
        self.workers: list[Worker] = []

    def process(self, *, apart: bool = False) -> subprocess.Popen[bytes]:
        """A process that lives until its input ends, of the one switch, or apart: of another one."""
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0 if apart else None)
        self.children.append(child)
        return child

    def worker(self, uid: int = TELEPHONY, *, apart: bool = False, sent: bytes = b"") -> Worker:
        """A process with a connection."""
        return Worker(self, self.process(apart=apart).pid, uid, sent)

    @property
    def in_use(self) -> int:
        """Trunks in use."""
        return self.house.enforcer.ledger.in_use("trunk")

    @property
    def keys(self) -> list[str]:
        """The keys of all leases."""
        return sorted(lease.key for lease in self.house.enforcer.ledger)

    def end(self, number: int = 0) -> None:
        """Kill a process."""
        self.children[number].kill()
        self.children[number].wait()
        self.house.loop.turn(6)

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.socket.close()
        self.house.loop.turn(6)
        self.service.close()
        for child in self.children:
            with child:
                child.kill()


Make = Callable[..., Switch]


@contextmanager
def switches(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes switches beside a daemon, and ends them."""
    made: list[Switch] = []

    def peer_of(connected: socket.socket) -> Peer:
        # The latest first: a descriptor of an earlier switch may be used anew.
        return next(it.peers[connected.fileno()] for it in reversed(made) if connected.fileno() in it.peers)

    def make(**control: object) -> Switch:
        made.append(Switch(house, **control))
        return made[-1]

    for module in (callcontrol, stream):
        monkeypatch.setattr(module, "read_peer", peer_of)
    yield make
    for switch in made:
        switch.close()
