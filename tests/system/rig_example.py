"""The C example client for the test bench: built as strict C99, driven line by line, and lied to.

`build` makes the program plain, or with gcc's address and undefined behavior sanitizers, which end it at the first
fault. A `Liar` is a socket that answers with whatever a test puts in its mouth.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from rig_process import DEADLINE

SOURCE = Path(__file__).parents[2] / "client" / "c" / "featurekey_example.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WAYS = ("plain", "sanitized")
"""The ways to build it."""


def build(folder: Path, way: str) -> Path | str:
    """The built program, or why it cannot be built here; a program that does not compile fails the test."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return "there is no gcc"
    built = folder / "featurekey_example"
    options = SANITIZED if way == "sanitized" else ("-O2",)
    done = subprocess.run(
        [compiler, *STRICT, *options, "-o", str(built), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if way == "sanitized" and "cannot find" in done.stderr:
        return "this gcc has no sanitizers"
    assert (done.returncode, done.stderr) == (0, "")
    return built


class Example:
    """The program under test: one line in, one line out."""

    def __init__(self, program: Path, *arguments: object) -> None:
        command = [str(program), *map(str, arguments)]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._into, self._out, self._errors = self._popen.stdin, self._popen.stdout, self._popen.stderr
        self._said = b""

    def ask(self, *fields: str | bytes) -> list[str]:
        """The fields of the answer."""
        line = b"\t".join(field if isinstance(field, bytes) else field.encode() for field in fields)
        self._into.write(line + b"\n")
        self._into.flush()
        return self.hear()

    def hear(self) -> list[str]:
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._said:
            readable, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._out.fileno(), 65536) if readable else b""
            if not chunk:
                self._popen.kill()
                raise AssertionError(f"no answer: {self._errors.read().decode(errors='replace')}")
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        return line.decode().split("\t")

    def acquire(self, key: str | bytes, *fields: str) -> str:
        """Allowed or denied, and the reason."""
        return " ".join(self.ask("acquire", key, *fields)[:2])

    def end(self) -> None:
        """Let it end by the end of its input; with sanitizers that is also the search for leaks."""
        self._into.close()
        status = self._popen.wait(DEADLINE)
        said = self._errors.read().decode(errors="replace")
        for stream in (self._out, self._errors):
            stream.close()
        assert (status, said) == (0, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self._popen.kill()
            self._popen.communicate()


class Liar:
    """A socket that answers every question with the same bytes and hangs up; or says nothing at all."""

    def __init__(self, path: Path, *, mute: bool = False) -> None:
        self.reply = b""
        self._mute = mute
        self._over = threading.Event()
        self._kept: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connected, _ = self._listener.accept()
            if self._over.is_set():
                connected.close()
                return
            if self._mute:
                self._kept.append(connected)
                continue
            with connected, contextlib.suppress(OSError):
                self._answer(connected)

    def _answer(self, connected: socket.socket) -> None:
        connected.settimeout(DEADLINE)
        asked = b""
        while self.reply and not asked.endswith(b"\0"):
            chunk = connected.recv(65536)
            if not chunk:
                return
            asked += chunk
        connected.sendall(self.reply)

    def close(self) -> None:
        self._over.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._listener.getsockname())
        self._thread.join(DEADLINE)
        for connected in [self._listener, *self._kept]:
            connected.close()
