"""A real Kamailio and real telephones (SIPp) for the test bench, on the loopback address.

Rules of this module:

* The programs are Debian's: those that `./dev test` unpacks into build/switch, else those of the host.
* Kamailio gets a configuration as a site would write it, and around it only what a test needs: a free port, a control
  socket of its own and a line in its log when it takes calls.
* No fixed ports: each is taken by binding port 0 first. Every process leads a group of its own and is ended by group;
  nothing is awaited without a deadline.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rig_process import DEADLINE, Process, RigFailure, environment

CHECKOUT = Path(__file__).parents[2]
UNPACKED = CHECKOUT / "build" / "switch"
SCENARIOS = Path(__file__).parent / "kamailio"
READY = "the test bench sees that calls are taken"

_PORTS: set[int] = set()
"""Ports that were given out: none is given twice, because those who asked may not have bound theirs yet."""

_MOST_PORTS = 1000
"""Tries for a port that was not given out before."""


def free_port() -> int:
    """A UDP port of the loopback address that nobody uses and nobody was given before."""
    for _ in range(_MOST_PORTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _PORTS:
            _PORTS.add(port)
            return port
    raise RigFailure("no free port")


def switch_program(name: str) -> str:
    """Path of a program of the telephony packages; raises RigFailure, which says how to get it."""
    for folder in ("usr/sbin", "usr/bin"):
        if (UNPACKED / folder / name).exists():
            return str(UNPACKED / folder / name)
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RigFailure(f"there is no {name}; run ./dev test once, which unpacks Debian's package into {UNPACKED}")
    return found


def switch_environment(**more: str) -> dict[str, str]:
    """The environment for such a program: with the libraries that were unpacked beside it."""
    places = ("usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/kamailio", "lib/*-linux-gnu")
    libraries = [str(path) for place in places for path in sorted(UNPACKED.glob(place))]
    return environment(**({"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}), **more)


class Kamailio:
    """A real Kamailio with one UDP port.

    `configuration` is the file of a site, without `listen`; `defines` are names that it asks for with `#!ifdef` or uses
    as tokens, e.g. `{"DLG_LIFETIME": "8"}`; a text value has its own quotation marks. `more` is appended to it.
    """

    def __init__(
        self,
        folder: Path,
        configuration: Path,
        defines: Mapping[str, str] | None = None,
        *,
        more: str = "",
        children: int = 4,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.short = Path(tempfile.mkdtemp(prefix="fk-k-"))
        self.configuration = folder / f"kamailio-{self.port}.cfg"
        self.configuration.parent.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(self._around(configuration, children, more), encoding="utf-8")
        self._defines = dict(defines or {})
        self._environ = dict(environ or {})
        self._calls = itertools.count(1)
        self.processes: list[Process] = []

    def _around(self, configuration: Path, children: int, more: str) -> str:
        modules = sorted(UNPACKED.glob("usr/lib/*/kamailio/modules"))
        # A module may be loaded once only.
        has_rpc = '"jsonrpcs.so"' in configuration.read_text(encoding="utf-8")
        return "\n".join(
            [
                "#!KAMAILIO",
                *(f'mpath="{path}"' for path in modules),
                f"listen=udp:127.0.0.1:{self.port}",
                f"children={children}",
                f'include_file "{configuration}"',
                *([] if has_rpc else ['loadmodule "jsonrpcs.so"']),
                'modparam("jsonrpcs", "transport", 4)',
                f'modparam("jsonrpcs", "dgram_socket", "{self.short / "rpc"}")',
                f'event_route[core:worker-one-init] {{ xlog("L_NOTICE", "{READY}\\n"); }}',
                more,
                "",
            ]
        )

    @property
    def process(self) -> Process:
        """The one that runs."""
        return self.processes[-1]

    @property
    def log(self) -> str:
        """What the one that runs has logged."""
        return str(self.process.errors)

    def start(self) -> None:
        """Start it and wait until it takes calls; raises RigFailure with its log otherwise. It may be started again."""
        command = [switch_program("kamailio"), "-DD", "-E", "-m", "64", "-M", "8", "-f", str(self.configuration)]
        command += ["-Y", str(self.short), "-P", str(self.short / "pid")]
        for name, value in self._defines.items():
            command += ["-A", f"{name}={value}" if value else name]
        self.processes.append(Process(command, environ=switch_environment(**self._environ)))
        self.process.errors.wait(READY)

    def stop(self) -> None:
        """End it in order, with SIGTERM; raises RigFailure when it does not end."""
        self._wait_grown_up()
        self.process.signal(signal.SIGTERM)
        self.process.wait()
        self.process.end()

    def _wait_grown_up(self) -> None:
        # A process of it that has only just begun loses the signal, and the first one then waits for it a minute.
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while self.rpc("core.uptime")["uptime"] < 1 and time.monotonic() < deadline:
            pause.wait(0.05)

    def kill(self) -> None:
        """Kill the whole group with SIGKILL."""
        self.process.end()

    def pause(self) -> None:
        """Stop the whole group with SIGSTOP."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the whole group run again."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def rpc(self, method: str, *parameters: object) -> Any:
        """Ask it something, e.g. `dlg.briefing`; raises RigFailure when it refuses."""
        number = next(self._calls)
        question = {"jsonrpc": "2.0", "method": method, "params": list(parameters), "id": number}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.settimeout(DEADLINE)
            asking.bind(str(self.short / f"asks-{number}"))
            asking.sendto(json.dumps(question).encode(), str(self.short / "rpc"))
            answer = json.loads(asking.recv(1 << 20))
        if "error" in answer:
            raise RigFailure(f"{method}: {answer['error']}")
        return answer["result"]

    def dialogs(self) -> int:
        """Dialogs that it knows, of whatever state."""
        return len(self.rpc("dlg.list") or ())

    def close(self) -> None:
        """End what still runs and remove the short folder."""
        for process in self.processes:
            process.end()
        shutil.rmtree(self.short, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None:
            for process in self.processes:
                print(f"log of Kamailio:\n{process.errors}")


def _media_address(port: int) -> str:
    """A loopback address of one SIPp alone, named after its port: it binds several ports for media there."""
    return f"127.64.{port // 250}.{port % 250 + 1}"


class Sipp:
    """One SIPp that runs a scenario of tests/system/kamailio; a context manager that ends it."""

    def __init__(self, scenario: str, *arguments: str, folder: Path, remote: str = "127.0.0.1:9") -> None:
        self.port = free_port()
        self.log = folder / f"sipp-{self.port}.log"
        command = [switch_program("sipp"), remote, "-sf", str(SCENARIOS / f"{scenario}.xml")]
        command += ["-i", "127.0.0.1", "-p", str(self.port), "-mi", _media_address(self.port), "-nostdin"]
        command += ["-trace_logs", "-log_file", str(self.log), *arguments]
        self.process = Process(command, environ=switch_environment())

    def close(self) -> None:
        """End it at once, whatever it is doing."""
        self.process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Callee(Sipp):
    """A telephone that takes calls: `uas` answers, `uas_busy` is busy, `uas_rings` rings until the caller cancels."""

    def __init__(self, folder: Path, scenario: str = "uas") -> None:
        super().__init__(scenario, "-l", "1000", folder=folder)

    @property
    def address(self) -> str:
        """Where it is, for a Request-URI."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Final:
    """How one call was answered at last."""

    status: int
    call_id: str
    reason: str
    """The Reason header, empty where there is none."""
    retry_after: str


@dataclass(frozen=True)
class Finals:
    """How the calls of a caller were answered."""

    all: tuple[Final, ...]

    @property
    def counts(self) -> dict[int, int]:
        """Calls by final status."""
        return dict(Counter(final.status for final in self.all))

    def reasons(self, status: int) -> set[str]:
        """The different Reason headers that came with that status."""
        return {final.reason for final in self.all if final.status == status}


class Caller(Sipp):
    """A telephone that makes calls through a Kamailio; each keeps its line for `talks_ms` and hangs up.

    `callee` is the address in the Request-URI, e.g. that of a Callee, and `number` its user part.
    """

    def __init__(
        self,
        folder: Path,
        through: int,
        callee: str,
        *,
        calls: int = 1,
        rate: int = 100,
        talks_ms: int = 300,
        number: str = "100",
        call_id: str | None = None,
        scenario: str = "uac",
    ) -> None:
        arguments = ["-s", number, "-m", str(calls), "-r", str(rate), "-d", str(talks_ms), "-key", "callee", callee]
        arguments += ["-cid_str", call_id] if call_id else []
        # Workers of Kamailio pass answers on side by side: a 180 may come after the 200, and that is no fault.
        arguments += ["-default_behaviors", "all,-abortunexp"]
        super().__init__(scenario, "-l", "1000", *arguments, folder=folder, remote=f"127.0.0.1:{through}")
        self._calls = calls

    def finals(self) -> Finals:
        """How its calls were answered, once all are over; raises RigFailure unless each ended as its scenario says."""
        status = self.process.wait()
        self.process.end()
        finals = self.so_far()
        if status != 0 or len(finals.all) != self._calls:
            raise RigFailure(
                f"sipp ended with {status}, {finals.counts}:\n{self.process.errors}\n{self.process.output}"
            )
        return finals

    def so_far(self) -> Finals:
        """How its calls were answered up to now."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        return Finals(tuple(_final(line) for line in text.splitlines() if line.startswith("final ")))


def _final(line: str) -> Final:
    status, call_id, reason, retry_after = line.removeprefix("final ").split("|")
    return Final(int(status), call_id, reason.strip(), retry_after.strip())


@contextlib.contextmanager
def dead_telephone() -> Iterator[str]:
    """The address of a port that is open and where nobody ever answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"
