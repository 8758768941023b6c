"""Calls through a real Kamailio, 40 a second, with and without the question: what it adds, and that nothing is lost.

`python tests/system/switch_load.py --seconds 20` prints the figures of benchmarks/README.md. Set-up is timed by calls
between the load, from the INVITE to the 200; the daemon by a process of its own that takes and gives back, so that no
other work of the bench is in its times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import select
import socket as sockets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from rig_kamailio import Callee, Caller, Kamailio
from rig_kamailio_script import CONFIGURATION, scripted, until
from rig_sip import Answerer, Telephone

import rig

RATE, TALKS_MS = 40, 500
CEILING, LICENSED = 4, 128
TRUNK, ASIDE = "sip-trunk-channels", "vcm-channels"
CONTESTED, AMPLE = "100", "900"
"""Numbers on the trunk that has a ceiling, and on the one that has none."""

TIMED_EVERY, ASKED_EVERY = 0.1, 0.01
"""Seconds between two timed calls, and between two questions to the daemon."""


@dataclass
class Load:
    """What came of one run; times in seconds."""

    answered: Counter[int]
    set_ups: list[float] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)
    turns: Counter[float] = field(default_factory=Counter)
    """Turns of the daemon by the microseconds that each took at most."""

    def set_up(self, percent: int) -> float:
        """That percentile of the set-up, in milliseconds."""
        return _percentile(self.set_ups, percent)

    def turns_within(self, microseconds: int) -> float:
        """The part of the daemon's turns that took no longer; no call takes longer than its turn."""
        return sum(count for most, count in self.turns.items() if most <= microseconds) / self.turns.total()

    def decision(self, percent: int) -> float:
        """That percentile of a question and its answer, in milliseconds."""
        return _percentile(self.decisions, percent)


def _percentile(seconds: list[float], percent: int) -> float:
    return quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


@dataclass(frozen=True)
class Bench:
    """A site, and a Kamailio that asks its daemon beside one that does not."""

    site: rig.Site
    asking: Kamailio
    plain: Kamailio
    folder: Path

    def run(self, through: Kamailio, number: str, seconds: float) -> Load:
        """Load, timed calls and questions at once, until the load is over."""
        load, pause, turns = Load(Counter()), threading.Event(), self._turns()
        calls = round(RATE * seconds)
        with (
            Callee(self.folder) as callee,
            Answerer() as timed,
            Telephone(through.port) as caller,
            Caller(
                self.folder, through.port, callee.address, calls=calls, rate=RATE, talks_ms=TALKS_MS, number=number
            ) as telephones,
            rig.Process([sys.executable, __file__, "--ask", str(self.site.socket)]) as asking,
        ):
            while telephones.process.running:
                _timed_call(load, caller, timed.address, number)
                pause.wait(TIMED_EVERY)
            load.answered.update(telephones.finals().counts)
            asking.write("enough")
            load.decisions += json.loads(asking.output.wait("["))
            load.turns = self._turns() - turns
        until(lambda: self.site.feature(TRUNK)["in_use"] == 0, "all is given back")
        return load

    def _turns(self) -> Counter[float]:
        told = self.site.status()["turn_times"]
        return Counter({it.get("microseconds", math.inf): it["turns"] for it in told})


def ask(socket: str) -> None:
    """Take and give back again and again until a line comes in; then write how long each answer took."""
    took: list[float] = []
    lease = {"holder": "beside", "key": "one"}
    connected = sockets.socket(sockets.AF_UNIX)
    connected.connect(socket)
    with rig.Varlink(connected) as connection:
        while not select.select([sys.stdin], [], [], ASKED_EVERY)[0]:
            begun = time.perf_counter()
            connection.call("License.Acquire", {**lease, "wants": [{"feature": ASIDE}]})
            took.append(time.perf_counter() - begun)
            connection.call("License.Release", lease)
    print(json.dumps(took), flush=True)


def _timed_call(load: Load, caller: Telephone, callee: str, number: str) -> None:
    answered = caller.call(callee, number)
    load.answered[answered.status] += 1
    if answered.status == 200:
        load.set_ups.append(answered.seconds)


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """A licensed site whose first trunk has a ceiling, and two switches."""
    orders = (f"{TRUNK}:{LICENSED}", f"{ASIDE}:120")
    with (
        rig.licensed_site(folder, orders, ceilings={"trunk:carrier-a": CEILING}) as licensed,
        scripted(folder, licensed.site) as asking,
        Kamailio(folder, without_license(folder)) as plain,
    ):
        asking.start()
        plain.start()
        yield Bench(licensed.site, asking, plain, folder)


def without_license(folder: Path) -> Path:
    """The configuration that is shipped, without what it adds for the license."""
    text = re.sub(r"^ *# License\n.*?^ *# End\n", "", CONFIGURATION.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    path = folder / "plain.cfg"
    path.write_text(text.replace("route(LICENSED);\n", "\n"), encoding="utf-8")
    return path


def main() -> None:
    """Print the figures, or be the process that asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.ask:
        ask(said.ask)
        return
    compare(said.seconds)


def compare(seconds: float) -> None:
    """Run with and without the question, and print what came of it."""
    print(f"{RATE} calls/s of {TALKS_MS / 1000} s for {seconds:g} s; set-up and decision p50 / p95 / p99 in ms")
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder)) as it:
        runs = {
            "no question": (it.plain, AMPLE),
            "asked, all pass": (it.asking, AMPLE),
            f"asked, {CEILING} channels": (it.asking, CONTESTED),
        }
        for name, (through, number) in runs.items():
            load = it.run(through, number, seconds)
            set_up = " / ".join(f"{load.set_up(percent):.2f}" for percent in (50, 95, 99))
            decision = " / ".join(f"{load.decision(percent):.2f}" for percent in (50, 95, 99))
            turns = f"{load.turns_within(2_000):.2%} of {load.turns.total()} turns within 2 ms"
            print(f"{name}: {dict(load.answered)}; set-up {set_up}; decision {decision}; {turns}")
        (port,) = it.site.status()["ports"]
        print(f"peak {port['peak']} of {port['ceiling']}; {it.site.feature(TRUNK)['in_use']} in use")


if __name__ == "__main__":
    main()
