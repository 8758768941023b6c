"""The console of a simulated device: one command per line in, `ok` or `error: …` per line out.

Rules of this module:

* It knows no device. A kind of device is a `SimulatedKind`; what runs is a `Device` with its verbs.
* It ends on `quit`, at the end of its input, on SIGTERM and SIGINT and when nobody reads its answers, and the device is
  always taken down in order. Signals only write to a descriptor, so none of them can interrupt that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

LINE_MOST = 4096
"""Bytes of one command line; the longest useful one names a file. A longer one is refused."""

_READ_BYTES = 4096
_QUIT = "quit"


@dataclass(frozen=True)
class Verb:
    """One command of a device: `run` gets its words and raises ValueError, RuntimeError or OSError where it fails."""

    usage: str
    summary: str
    run: Callable[[Sequence[str]], None]


class Device(Protocol):
    """One simulated device that is running."""

    @property
    def ready(self) -> str:
        """The line that tells where the device can be found."""
        ...

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """What can be done to it, by the first word of a command."""
        ...


@dataclass(frozen=True)
class SimulatedKind:
    """One kind of device that the simulator can start; `start` gives it as a context, which ends with the command."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    start: Callable[[argparse.Namespace], AbstractContextManager[Device]]


class Console:
    """Runs one device on a pair of descriptors until told to end."""

    def __init__(self, device: Device, source: int, sink: int) -> None:
        self._device = device
        self._source = source
        self._sink = sink
        self._pending = b""

    def run(self, stop: int) -> None:
        """Tell where the device is, then obey lines until the input ends or `stop` becomes readable."""
        # An answer that nobody reads ends the console: whoever started the simulator has gone.
        with contextlib.suppress(BrokenPipeError):
            self._tell(self._device.ready)
            while (lines := self._read_lines(stop)) is not None:
                for line in lines:
                    if line.split() == [_QUIT]:
                        self._tell("ok")
                        return
                    self._tell(self.obey(line))

    def obey(self, line: str) -> str:
        """Carry out one command and give the answer to print."""
        words = line.split()
        if not words:
            return "error: no command; try help"
        if words == ["help"]:
            return self._help()
        verb = self._device.verbs.get(words[0])
        if verb is None:
            return f"error: unknown command {words[0]!a}; try help"
        try:
            verb.run(words[1:])
        except (ValueError, RuntimeError, OSError) as error:
            return f"error: {error} (usage: {verb.usage})".replace("\n", " ")
        return "ok"

    def _help(self) -> str:
        lines = [f"{verb.usage}: {verb.summary}" for verb in self._device.verbs.values()]
        return "\n".join([*lines, f"{_QUIT}: end", "ok"])

    def _tell(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        while data:
            data = data[os.write(self._sink, data) :]

    def _read_lines(self, stop: int) -> list[str] | None:
        """The lines that have come, waiting for the next bytes; None at the end."""
        poller = select.poll()
        poller.register(self._source, select.POLLIN)
        poller.register(stop, select.POLLIN)
        if any(descriptor == stop for descriptor, _ in poller.poll()):
            return None
        if not (data := os.read(self._source, _READ_BYTES)):
            return None
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LINE_MOST:
            self._pending = b""
            self._tell(f"error: a line has at most {LINE_MOST} bytes")
        return [line.decode("utf-8", "backslashreplace") for line in lines]


@contextlib.contextmanager
def ending_on_signals() -> Iterator[int]:
    """A descriptor that becomes readable on SIGTERM and SIGINT; the signals do nothing else meanwhile."""
    stop = os.eventfd(0)
    former = {
        number: signal.signal(number, lambda *_: os.eventfd_write(stop, 1))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, action in former.items():
            signal.signal(number, action)
        os.close(stop)
