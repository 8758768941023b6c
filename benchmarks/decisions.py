"""Decisions per second, as a ratio against a bare echo server in the same run: what `./dev bench` runs.

The daemon is the real one, licensed by a simulated card, with its leases recorded before each answer. The echo servers
do the least that an asyncio server on a Unix socket can do, on uvloop and on the standard loop. The load generator is
one C program for all of them. Rounds are interleaved, because the machine's speed drifts; medians are printed, and the
ratio is taken round by round. Differences under 10 % mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "system"))

import rig  # noqa: E402 - found through the path above

SHAPES = {"1 connection": (1, 1), "50 connections": (50, 1), "8 connections, 16 pipelined": (8, 16)}
"""Connections, and messages that each sends before it waits for the answers."""

ORDERS = ("sip-trunk-channels:128", "vcm-channels:128")


class Measured(NamedTuple):
    """One round against one server."""

    per_second: float
    p50: int
    p99: int
    cpu: float
    """Processor time of the server, microseconds for each message."""


def build_load(folder: Path) -> Path:
    """The load generator, compiled."""
    load = folder / "load"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(load), str(HERE / "load.c")], check=True)
    return load


@contextmanager
def echo_server(loop: str, folder: Path) -> Iterator[tuple[Path, int]]:
    """A bare echo server on that loop: its socket and process id."""
    path = folder / f"echo-{loop}"
    with rig.Process([*on_processor(0), sys.executable, str(HERE / "echo.py"), loop, str(path)]) as process:
        process.output.wait("ready")
        yield path, process.pid


def on_processor(number: int) -> list[str]:
    """What pins a command to the first or second of our processors, where there are several."""
    ours = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(ours[number])] if len(ours) > 1 else []


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(load: Path, server: tuple[Path, int], shape: tuple[int, int], messages: int) -> Measured:
    """One round."""
    path, pid = server
    before = processor_time(pid)
    command = [*on_processor(1), str(load), str(path), str(shape[0]), str(shape[1]), str(messages)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    count, seconds, p50, p99 = done.stdout.split()
    cpu = (processor_time(pid) - before) * 1e6 / int(count)
    return Measured(int(count) / float(seconds), int(p50), int(p99), cpu)


def median(rounds: list[Measured], member: str) -> float:
    """Median of one figure over the rounds."""
    return statistics.median(float(getattr(it, member)) for it in rounds)


def compare(load: Path, servers: dict[str, tuple[Path, int]], messages: int, rounds: int) -> None:
    """Measure every server in every shape, interleaved, and print medians and ratios."""
    ours = next(iter(servers))
    for name, shape in SHAPES.items():
        results: dict[str, list[Measured]] = {server: [] for server in servers}
        for _ in range(rounds):
            for server, place in servers.items():
                results[server].append(measure(load, place, shape, messages))
        print(f"\n{name}")
        print(f"  {'':22}{'messages/s':>12}{'p50 µs':>9}{'p99 µs':>9}{'CPU µs':>9}{'featurekeyd is':>18}")
        for server, its in results.items():
            pairs = zip(results[ours], its, strict=True)
            ratio = statistics.median(one.per_second / other.per_second for one, other in pairs)
            figures = [f"{median(its, member):9.1f}" for member in ("p50", "p99", "cpu")]
            shown = "" if server == ours else f"{ratio:14.2f} times"
            print(f"  {server:22}{median(its, 'per_second'):12,.0f}{''.join(figures)}{shown}")


def environment() -> str:
    """The machine in words."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    words = [model.partition(": ")[2], f"{os.cpu_count()} processors", f"Python {platform.python_version()}"]
    return f"{', '.join(filter(None, words))}, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=60_000, help="messages in a round (default 60000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server and shape (default 5)")
    arguments = parser.parse_args()
    print(environment())
    with tempfile.TemporaryDirectory(prefix="fk-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        load = build_load(folder)
        site = stack.enter_context(rig.licensed_site(folder / "site", ORDERS)).site
        if pinned := on_processor(0):
            subprocess.run(["taskset", "-pac", pinned[-1], str(site.pid)], check=True, capture_output=True)
        servers = {"featurekeyd": (site.socket, site.pid)}
        for loop in ("uvloop", "asyncio"):
            servers[f"echo on {loop}"] = stack.enter_context(echo_server(loop, folder))
        compare(load, servers, arguments.messages, arguments.rounds)
        feature, status = site.feature("sip-trunk-channels"), site.status()
        print(f"\nafterwards: {json.dumps({key: feature[key] for key in ('granted', 'denied', 'in_use')})}")
        if feature["denied"] or feature["in_use"] or status["leases"]:
            sys.exit("the daemon denied or kept something: the figures above are void")


if __name__ == "__main__":
    main()
