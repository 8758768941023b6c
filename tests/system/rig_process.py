"""Processes of the test bench: each leads a group of its own, is ended by group, and is never awaited for ever."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast

DEADLINE = 30.0
"""Seconds for anything that ought to happen at once: ample on two loaded cores, and far below a test's own limit."""

PROGRAMS = Path(sys.executable).parent
"""Where the programs of this environment are."""

_NOT_INHERITED = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "FEATUREKEYD_SOCKET")


class RigFailure(Exception):
    """A process or an answer is not as it should be; the text says what was seen."""


def program(name: str) -> str:
    """Path of a program of this environment."""
    return str(PROGRAMS / name)


def environment(**more: str) -> dict[str, str]:
    """The environment for a process: this one's, without what belongs to a service, and with wide uncolored output."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return kept | {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"} | more


class Lines:
    """Lines that a process writes, gathered by a thread; safe to wait on from any other."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open = 0
        self._changed = threading.Condition()
        self._reading = threading.Event()
        self._reading.set()

    def gather(self, stream: IO[str]) -> threading.Thread:
        """Take the lines of a stream until its end; the thread that does so, started."""
        with self._changed:
            self._open += 1
        thread = threading.Thread(target=self._gather, args=(stream,), daemon=True)
        thread.start()
        return thread

    def stop_reading(self) -> None:
        """Leave what the processes write in their pipes, until `read_on`; a line that is on its way is taken in."""
        self._reading.clear()

    def read_on(self) -> None:
        """Take in again what the processes write."""
        self._reading.set()

    def so_far(self, start: int = 0) -> list[str]:
        """The lines from number `start` on."""
        with self._changed:
            return self._lines[start:]

    def mark(self) -> int:
        """Number of the next line: where a later `wait` may start."""
        with self._changed:
            return len(self._lines)

    def wait(self, wanted: Callable[[str], object] | str, start: int = 0, seconds: float = DEADLINE) -> str:
        """The first line from `start` on that is wanted or contains the text; raises RigFailure at the deadline."""
        fits = (lambda line: wanted in line) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[start:]:
                    if fits(line):
                        return line
                start = max(start, len(self._lines))
                if not self._open or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise RigFailure(f"no such line ({wanted}) within {seconds} s among:\n{self._text()}")

    def _text(self) -> str:
        return "\n".join(self._lines)

    def __str__(self) -> str:
        with self._changed:
            return self._text()

    def _gather(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._reading.wait()
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


class Process:
    """A process that leads its own group; its output and its errors are gathered line by line."""

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str] | None = None, errors: Lines | None = None
    ) -> None:
        self.output = Lines()
        self.errors = Lines() if errors is None else errors
        self._popen = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            process_group=0,
            env=environment() if environ is None else dict(environ),
        )
        streams = (self.output, self._popen.stdout), (self.errors, self._popen.stderr)
        self._readers = [lines.gather(cast("IO[str]", stream)) for lines, stream in streams]
        self._ended: int | None = None

    @property
    def pid(self) -> int:
        """Process id, which is the id of the group too."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    def write(self, line: str) -> None:
        """Send a line to standard input."""
        source = cast("IO[str]", self._popen.stdin)
        source.write(line + "\n")
        source.flush()

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """The exit status; raises RigFailure when the process has not ended in time."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RigFailure(f"{self._popen.args!r} has not ended within {seconds} s:\n{self.errors}") from None

    def end(self) -> int:
        """Kill the whole group, and gather the last lines; the exit status. Calling it twice is harmless."""
        if self._ended is not None:  # its number may be another group's by now
            return self._ended
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        status = self.wait()
        with contextlib.suppress(BrokenPipeError):
            cast("IO[str]", self._popen.stdin).close()
        for reader in self._readers:
            reader.join(DEADLINE)
        self._ended = status
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass(frozen=True)
class Ran:
    """A program that has run to its end."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


def run(
    *command: str,
    text: str = "",
    environ: Mapping[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    extra_groups: Sequence[int] | None = None,
) -> Ran:
    """Run a program to its end, with `text` as its input; as another user where one is given (needs root)."""
    if user is not None:
        group, extra_groups = user if group is None else group, () if extra_groups is None else extra_groups
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
        process_group=0,
        env=environment() if environ is None else dict(environ),
        user=user,
        group=group,
        extra_groups=extra_groups,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
