"""The programs in C that ask the servers: compiled, run on a processor of their own, and ended in time.

Each of them ends by itself: after so many messages or seconds, at SIGTERM, with its parent, or after ten minutes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from .machine import on_processor, processor_time
from .report import Void
from .servers import HERE, Server

SECONDS = 600
"""The longest that any program runs."""

ONE = (1, 1)
FIFTY = (50, 1)
PIPELINED = (8, 16)

SHAPES = {"1 connection": ONE, "50 connections": FIFTY, "8 connections, 16 pipelined": PIPELINED}
"""Connections, and messages that each sends before it waits for the answers."""

FLOOD = (50, 16)


class Measured(NamedTuple):
    """One round against one server; times in microseconds."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    """Processor time of the server for each message."""


class Synced(NamedTuple):
    """What a program that synchronizes did; times in microseconds."""

    lists: int
    seconds: float
    p50: float
    longest: float


class Program:
    """A program that runs, as this user or as another one (which needs root)."""

    def __init__(self, command: list[str], *, processor: int, user: int | None = None) -> None:
        groups: list[int] | None = None if user is None else []
        self._name = Path(command[0]).name
        self._popen = subprocess.Popen(
            [*on_processor(processor), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=user,
            extra_groups=groups,
            cwd="/",
        )

    def wait_begun(self) -> None:
        """Wait until it says that it is at work; raises Void when it ends instead."""
        assert self._popen.stdout is not None
        if self._popen.stdout.readline() != "begun\n":
            self.wait()
            raise Void(f"{self._name} did not begin")

    def wait(self) -> list[str]:
        """The words of its last line; raises Void when it failed."""
        try:
            output, errors = self._popen.communicate(timeout=SECONDS + 10)
        finally:
            self.kill()
        if self._popen.returncode:
            raise Void(f"{self._name} ended with status {self._popen.returncode}: {errors.strip()}")
        return output.splitlines()[-1].split()

    def end(self) -> list[str]:
        """Let it come to its end; the words of its last line."""
        self._popen.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it whatever it does; harmless when it has ended."""
        self._popen.kill()
        self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True)
class Programs:
    """The compiled programs."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Compile them into a folder that every user can reach."""
        for name in ("echo", "load", "sync"):
            source = str(HERE / f"{name}.c")
            subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(folder / name), source], check=True)
        return cls(folder)

    @property
    def echo(self) -> Path:
        """The echo server."""
        return self.folder / "echo"

    def measure(self, server: Server, shape: tuple[int, int], messages: int, seconds: int = SECONDS) -> Measured:
        """One round: so many messages, or as many as are answered in that time."""
        before = processor_time(server.pid)
        with Program(self._load(server, "bench", shape, messages, seconds), processor=1) as load:
            count, took, p50, p99 = map(float, load.wait())
        cpu = (processor_time(server.pid) - before) * 1e6 / count
        return Measured(count / took, p50, p99, cpu)

    @contextmanager
    def flooding(self, server: Server, user: int | None, figures: list[float]) -> Iterator[None]:
        """Another user asks as fast as it can meanwhile; its messages a second are added to the figures."""
        command = self._load(server, "flood", FLOOD, 1 << 40, SECONDS)
        with Program(command, processor=2, user=user) as load:
            load.wait_begun()
            yield
            count, took, *_ = map(float, load.end())
            figures.append(count / took)

    def adopt(self, server: Server, holder: str, leases: int, user: int | None = None) -> None:
        """Have the daemon adopt so many leases of a holder."""
        with Program(self._sync(server, holder, leases, 1), processor=1, user=user) as sync:
            sync.wait()

    @contextmanager
    def synchronizing(
        self, server: Server, holder: str, leases: int, user: int | None, done: list[Synced]
    ) -> Iterator[None]:
        """A holder sends its list again and again meanwhile; what it did is added to `done`."""
        with Program(self._sync(server, holder, leases, 0), processor=2, user=user) as sync:
            sync.wait_begun()
            yield
            lists, took, p50, longest = map(float, sync.end())
            done.append(Synced(int(lists), took, p50, longest))

    def _load(self, server: Server, holder: str, shape: tuple[int, int], messages: int, seconds: int) -> list[str]:
        numbers = [*shape, messages, seconds]
        head = [str(self.folder / "load"), str(server.socket), server.protocol, holder]
        return [*head, *map(str, numbers), *server.arguments]

    def _sync(self, server: Server, holder: str, leases: int, lists: int) -> list[str]:
        return [str(self.folder / "sync"), str(server.socket), holder, str(leases), str(lists)]


def other_user(number: int) -> int | None:
    """A user number that is not ours, None where we may not become one."""
    return number if os.geteuid() == 0 else None
