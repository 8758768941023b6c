"""The servers that are measured: the daemon, Redis doing the same work, and echo servers as the limit.

Every server listens on a Unix socket, has the first processor to itself, and is ended by its own process group. The
daemon is the real one, licensed by a simulated card, with leases recorded before each answer and the key looked at as
often as the shipped settings say.
"""

from __future__ import annotations

import os
import re
import shutil
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

REDIS = HERE.parent / "build" / "redis" / "usr"
"""Where the packages of Debian are unpacked."""

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


@dataclass(frozen=True)
class Redis(Server):
    """Redis; `data` is where its append-only file is."""

    data: Path = Path()

    @property
    def version(self) -> str:
        """Its version, and what it was told."""
        answer = ask_redis(self.socket, "INFO", "server")
        found = re.search(r"redis_version:(\S+)", answer)
        return f"Redis {found[1] if found else 'of unknown version'}, append-only file on, never synced to a disk"

    def indexed(self) -> Server:
        """The same Redis, keeping as much of each lease as the daemon does."""
        return Server("Redis, indexed", "redis", self.socket, self.pid, _load_scripts(self.socket, "_indexed"))

    def check_sums(self) -> None:
        """Raise Void unless no lease is left, nothing is in use, and what happened is on record."""
        left, used = ask_redis(self.socket, "KEYS", "lease:*"), ask_redis(self.socket, "GET", f"in-use:{FEATURE}")
        if left != "*0" or used != "0":
            raise Void(f"Redis has leases left: {left}, in use {used}")
        if not any(it.stat().st_size for it in self.data.rglob("*.incr.aof")):
            raise Void("Redis has recorded nothing")


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
    path.unlink()


@contextmanager
def python_echo(loop: str, folder: Path) -> Iterator[Server]:
    """A bare echo server on that loop."""
    path = folder / f"echo-{loop}"
    with rig.Process([*on_processor(0), sys.executable, str(HERE / "echo.py"), loop, str(path)]) as process:
        process.output.wait("ready")
        yield Server(f"echo on {loop}", "echo", path, process.pid)


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """Redis as Debian ships it, with its append-only file on the file system that the daemon's records are on."""
    path, data = folder / "redis", folder / "redis-data"
    data.mkdir()
    options = {"port": "0", "unixsocket": str(path), "dir": str(data), "save": ""}
    options |= {"appendonly": "yes", "appendfsync": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    libraries = rig.environment(LD_LIBRARY_PATH=":".join(map(str, (REDIS / "lib").glob("*-linux-gnu*"))))
    command = [*on_processor(0), str(REDIS / "bin" / "redis-server"), *words]
    with rig.Process(command, environ=libraries) as process:
        process.output.wait("eady to accept connections")
        ask_redis(path, "HSET", "limits", FEATURE, "128")
        yield Redis("Redis", "redis", path, process.pid, _load_scripts(path, ""), data)
    shutil.rmtree(data)


def ask_redis(path: Path, *words: str) -> str:
    """One command; of the answer the text, or its first line where it is no text. Raises Void for an error."""
    call = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(rig.DEADLINE)
        connected.connect(str(path))
        connected.sendall(call.encode())
        with connected.makefile("rb") as answers:
            first = answers.readline().decode().strip()
            if first.startswith("-"):
                raise Void(f"Redis refuses {words[0]}: {first}")
            return answers.read(int(first[1:])).decode() if first.startswith("$") and first != "$-1" else first


def _load_scripts(path: Path, kind: str) -> tuple[str, ...]:
    """The digests of the scripts that take and give back a lease, after Redis has loaded them."""
    texts = ((HERE / f"{verb}{kind}.lua").read_text(encoding="utf-8") for verb in ("acquire", "release"))
    return tuple(ask_redis(path, "SCRIPT", "LOAD", text) for text in texts)
