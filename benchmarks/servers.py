"""The servers that are measured: the daemon, Redis doing the same work, and echo servers as the limit.

Every server listens on a Unix socket, has the first processor to itself, and is ended by its own process group. The
daemon is the real one, licensed by a simulated card, with leases recorded before each answer and the key looked at as
often as the shipped settings say.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .machine import on_processor, pin
from .report import Void

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "system"))

import rig  # noqa: E402 - found through the path above

REDIS = HERE.parent / "build" / "redis"
"""Where ./dev unpacks Debian's packages."""

FEATURE = "sip-trunk-channels"
"""What the load asks for; 128 of it are licensed, in Redis too."""

ORDERS = (f"{FEATURE}:128", "vcm-channels:128")

STRANGERS = range(rig.STRANGER, rig.STRANGER + 10)
"""User numbers that nobody has, for clients of other users."""


@dataclass(frozen=True)
class Server:
    """Something that answers on a socket; `protocol` and `arguments` are for the load generator."""

    name: str
    protocol: str
    socket: Path
    pid: int
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Featurekeyd(Server):
    """The daemon, and the bench that it runs in."""

    site: rig.Site | None = None

    @property
    def bench(self) -> rig.Site:
        """The bench; there always is one."""
        assert self.site is not None
        return self.site

    def check_sums(self, leases: int = 0) -> None:
        """Raise Void unless nothing was denied, nothing is left over, and so many leases are there beside."""
        feature, status = self.bench.feature(FEATURE), self.bench.status()
        if feature["denied"] or feature["in_use"] or status["leases"] != leases:
            seen = f"{feature['denied']} denied, {feature['in_use']} in use, {status['leases']} leases, not {leases}"
            raise Void(f"the daemon's sums are wrong: {seen}")


@contextmanager
def featurekeyd(folder: Path) -> Iterator[Featurekeyd]:
    """The daemon, licensed; the users of STRANGERS may ask."""
    access = {"ask_users": list(STRANGERS), "manage_users": [os.geteuid()]}
    with rig.licensed_site(folder, ORDERS, feature_key={"poll_seconds": 5.0}, access=access) as licensed:
        site = licensed.site
        pin(site.pid, 0)
        yield Featurekeyd("featurekeyd", "varlink", site.socket, site.pid, site=site)


@contextmanager
def echo(program: Path, folder: Path) -> Iterator[Server]:
    """The echo server in C."""
    path = folder / "echo"
    with rig.Process([*on_processor(0), str(program), str(path)]) as process:
        process.output.wait("ready")
        yield Server("echo in C", "echo", path, process.pid)


@contextmanager
def python_echo(loop: str, folder: Path) -> Iterator[Server]:
    """A bare echo server on that loop."""
    path = folder / f"echo-{loop}"
    with rig.Process([*on_processor(0), sys.executable, str(HERE / "echo.py"), loop, str(path)]) as process:
        process.output.wait("ready")
        yield Server(f"echo on {loop}", "echo", path, process.pid)


@contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """Redis as Debian ships it, with its append-only file on the file system that the daemon's records are on."""
    path = folder / "redis"
    data = folder / "redis-data"
    data.mkdir()
    options = {"port": "0", "unixsocket": str(path), "save": "", "dir": str(data)}
    options |= {"appendonly": "yes", "appendfsync": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    libraries = ":".join(str(it) for it in (REDIS / "usr" / "lib").glob("*-linux-gnu*"))
    command = [*on_processor(0), str(REDIS / "usr" / "bin" / "redis-server"), *words]
    with rig.Process(command, environ=rig.environment(LD_LIBRARY_PATH=libraries)) as process:
        process.output.wait("eady to accept connections")
        digests = tuple(_load_script(path, name) for name in ("acquire.lua", "release.lua"))
        server = Server("Redis", "redis", path, process.pid, digests)
        yield server


def check_redis(server: Server) -> None:
    """Raise Void unless no lease is left and nothing is in use."""
    left, used = ask_redis(server.socket, "KEYS", "lease:*"), ask_redis(server.socket, "GET", f"in-use:{FEATURE}")
    if left != "*0" or used != "0":
        raise Void(f"Redis has leases left: {left}, in use {used}")


def ask_redis(path: Path, *words: str) -> str:
    """One command; the first line of the answer, for a string the string itself. Raises Void for an error."""
    call = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(rig.DEADLINE)
        connected.connect(str(path))
        connected.sendall(call.encode())
        with connected.makefile("r", encoding="utf-8", newline="\r\n") as answers:
            first = answers.readline().strip()
            if first.startswith("-"):
                raise Void(f"Redis refuses {words[0]}: {first}")
            return answers.readline().strip() if first.startswith("$") and first != "$-1" else first


def _load_script(path: Path, name: str) -> str:
    return ask_redis(path, "SCRIPT", "LOAD", (HERE / name).read_text(encoding="utf-8"))
