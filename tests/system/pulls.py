"""The Feature Key is pulled and put back, hundreds of times, while somebody goes on asking for calls.

The key is a simulated SD card in a simulated reader on a pty. It is pulled and put back, alone or with its reader,
quickly or slowly; it comes back garbled, as another card, behind a bad contact, or not at all because the reader is
silent. Each time the daemon must say what is there and stand as that demands, and be well again once the right card is
back. All the while a caller takes and gives back a channel: nothing of this may deny it or keep it waiting. In the end
the daemon has as many descriptors and threads as before, and no more memory than a busy turn leaves. Exit status 0 if
so.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from soak import Growth, bad_news, let_pass

import rig
from rig_process import RigFailure

OTHER_CARD = "035344535530384780deadbef0013600"
"""The simulator's card with another serial number; the last byte as hosts strip it."""

POLL_SECONDS = 0.05
"""The shortest that the settings allow, so that a thousand pulls take minutes."""

CALM_SECONDS = 3.0
"""How long the caller is timed before the first pull."""

CALL_PAUSE = 0.002
"""Seconds between two calls: a thousand decisions and releases in some 2 s, and the machine stays free."""

MOST_P99 = 0.05
"""Seconds that 99 of 100 decisions must stay below however often the key is pulled: to open the reader takes longer, so
a decision that waits for it could not hide. A loaded host may need more; then it is held against its own calm."""

MOST_TIMES_CALM = 3.0

SPARE_THREADS = 2
"""Threads that may come and go: the pool that works changes out."""

TOLD_EVERY = 100
"""Pulls after which the script tells how far it has come."""

BUDGET = 7200
"""Seconds that a system works without its key (catalog ip-office)."""

CAUSE = "feature_key_absent"


class Wrong(RigFailure):
    """The daemon is not as it should be after a pull; the text says what was seen."""


class Caller:
    """Takes and gives back a channel again and again, and times every decision."""

    def __init__(self, site: rig.Site) -> None:
        self.seconds: list[float] = []
        self.wrong: list[object] = []
        self._connection = site.connect()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(rig.DEADLINE)
        self._connection.close()

    def _call(self) -> None:
        number = 0
        try:
            while not self._over.wait(CALL_PAUSE):
                number += 1
                self._one_call({"holder": "kamailio", "key": f"call-{number}"})
        except (OSError, EOFError, rig.Refused) as trouble:
            self.wrong.append(f"the caller got no answer: {trouble!r}")

    def _one_call(self, lease: dict[str, Any]) -> None:
        begun = time.perf_counter()
        answer = self._connection.call("License.Acquire", {**lease, "wants": [{"feature": "sip-trunk-channels"}]})
        self.seconds.append(time.perf_counter() - begun)
        if not answer["allowed"] or not self._connection.call("License.Release", lease)["released"]:
            self.wrong.append(answer)


@dataclass
class Figures:
    """What a run has measured."""

    pulls: Counter[str] = field(default_factory=Counter)
    calm: list[float] = field(default_factory=list)
    pulled: list[float] = field(default_factory=list)
    kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def wrong(self) -> list[str]:
        """What is wrong with the times of the decisions."""
        most = max(MOST_P99, MOST_TIMES_CALM * p99(self.calm))
        if p99(self.pulled) <= most:
            return []
        return [f"p99 of decisions is {1000 * p99(self.pulled):.2f} ms; at most {1000 * most:.2f} ms would do"]


def p99(seconds: Sequence[float]) -> float:
    """What 99 of 100 stay below."""
    return statistics.quantiles(seconds, n=100)[98]


class Pulls:
    """One run on one site."""

    def __init__(self, it: rig.Licensed, seed: int) -> None:
        self.figures = Figures()
        self._site, self._tell = it.site, it.simulator.tell
        self._card = it.site.status()["feature_key"]["hardware_id"]
        self._chance = random.Random(seed)
        self._growth = Growth()
        self._most_threads: int | None = None
        self._rounds: dict[str, tuple[float, Callable[[], None]]] = {
            "pulled": (30, self._pull),
            "pulled for a moment": (20, self._pull_for_a_moment),
            "reader unplugged": (15, self._unplug_reader),
            "back garbled": (12, self._back_garbled),
            "another card": (10, self._other_card),
            "back slow": (8, self._back_slow),
            "bad contact": (4, self._bad_contact),
            "silent": (1, self._silent),
        }
        """How often each is drawn, and what it does."""

    def run(self, pulls: int, tell: Callable[[str], object]) -> None:
        """Pull so many times, and tell how far it has come; raises Wrong, with the number and the kind of the pull."""
        begun = time.monotonic()
        with Caller(self._site) as caller, self._site.watch() as self._events:
            let_pass(CALM_SECONDS)
            calm = len(caller.seconds)
            for number, kind in enumerate(self._drawn(pulls), start=1):
                self._round(number, kind)
                if number % TOLD_EVERY == 0:
                    tell(f"{number} pulls")
        self.figures.calm, self.figures.pulled = caller.seconds[:calm], caller.seconds[calm:]
        self.figures.seconds = time.monotonic() - begun
        wrong = [*map(str, caller.wrong), *self.figures.wrong(), *bad_news(self._site.log.so_far())]
        if wrong:
            raise Wrong("; ".join(wrong))

    def _drawn(self, pulls: int) -> list[str]:
        """Each kind as often as its weight says, and at least once where there are enough pulls, in any order."""
        weights = [weight for weight, _ in self._rounds.values()]
        kinds = [*self._rounds, *self._chance.choices(list(self._rounds), weights, k=pulls)][:pulls]
        self._chance.shuffle(kinds)
        return kinds

    def _round(self, number: int, kind: str) -> None:
        try:
            self._rounds[kind][1]()
            self._await("present")
            self._measure()
        except RigFailure as failure:
            raise Wrong(f"pull {number} ({kind}): {failure}") from failure
        self.figures.pulls[kind] += 1

    # What happens to the key

    def _pull(self) -> None:
        self._tell("unplug")
        self._await("absent")
        self._tell("plug")

    def _pull_for_a_moment(self) -> None:
        """Whether anybody looks meanwhile is chance; a look that is asked for must find it."""
        self._tell("unplug")
        self._tell("plug")
        self._site.call("Manage.CheckNow")
        found = self._site.status()["feature_key"]
        if found["state"] != "present":
            raise Wrong(f"a check right after it was put back found {found}")

    def _unplug_reader(self) -> None:
        self._tell("unplug device")
        self._await("absent")
        self._tell("plug device")

    def _back_garbled(self) -> None:
        self._tell("unplug")
        self._tell("garble " + self._chance.choice(["cid", "crc16", "crc7"]))
        self._tell("plug")
        self._await("garbled")
        self._tell("well")

    def _other_card(self) -> None:
        self._tell(f"card {OTHER_CARD}")
        self._await("wrong-key")
        self._tell(f"card {self._card}")

    def _back_slow(self) -> None:
        self._tell("unplug")
        self._tell(f"slow {self._chance.uniform(0.01, 0.06):.3f}")
        self._await("absent")
        self._tell("plug")
        self._await("present")
        self._tell("well")

    def _bad_contact(self) -> None:
        self._tell("stick " + self._chance.choice(["low", "high"]))
        self._await("garbled", "absent")
        self._tell("well")

    def _silent(self) -> None:
        self._tell("silence")
        self._await("absent")
        self._tell("well")

    # What the daemon must say

    def _await(self, *states: str) -> None:
        """Wait until the key is told to be in one of these states; the standing must then be what that demands."""
        while (status := self._site.status())["feature_key"]["state"] not in states:
            self._events.wait("feature_key")
        well = status["feature_key"]["state"] == "present"
        standing, causes = ("licensed", []) if well else ("grace", [CAUSE])
        if (status["standing"], [grace["cause"] for grace in status["grace"]]) != (standing, causes):
            raise Wrong(f"the key is {status['feature_key']}, and the standing {status['standing']} {status['grace']}")
        if any(not 0 < grace["seconds_left"] <= BUDGET for grace in status["grace"]):
            raise Wrong(f"the grace is {status['grace']}")

    def _measure(self) -> None:
        pid = self._site.pid
        threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
        self.figures.descriptors.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
        self.figures.kib.append(resident_kib(pid))
        if self._most_threads is None:
            self._most_threads = threads + SPARE_THREADS
        wrong = self._growth.note("with its key", pid)
        if threads > self._most_threads:
            wrong.append(f"{threads} threads, at most {self._most_threads} were due")
        if wrong:
            raise Wrong("; ".join(wrong))


def resident_kib(pid: int) -> int:
    """Memory of a process, in KiB."""
    (line,) = [it for it in Path(f"/proc/{pid}/status").read_text().splitlines() if it.startswith("VmRSS:")]
    return int(line.split()[1])


def summary(figures: Figures) -> str:
    """The figures of a run, for people."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures.pulls.most_common())
    lines = [f"{figures.pulls.total()} pulls in {figures.seconds:.0f} s: {kinds}."]
    for name, seconds in (("calm", figures.calm), ("pulled", figures.pulled)):
        middle, most = (f"{1000 * it:.2f} ms" for it in (statistics.median(seconds), max(seconds)))
        row = f"p50 {middle}, p99 {1000 * p99(seconds):.2f} ms, max {most}"
        lines.append(f"decisions, {name}: {len(seconds)}, {row}")
    first, last = figures.kib[min(9, len(figures.kib) - 1)], figures.kib[-1]
    lines.append(f"memory: {first} KiB after ten pulls, {last} KiB at the end")
    lines.append(f"descriptors: {figures.descriptors[0]} after the first, {figures.descriptors[-1]} at the end")
    return "\n".join(lines)


def pull_for(pulls: int, seed: int, folder: Path, tell: Callable[[str], object]) -> Figures:
    """Pull so many times on a site below `folder`; raises Wrong."""
    with rig.licensed_site(folder, feature_key={"poll_seconds": POLL_SECONDS}) as it:
        run = Pulls(it, seed)
        run.run(pulls, tell)
        return run.figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Pull and tell the figures; the exit status."""
    parser = argparse.ArgumentParser(prog="pulls.py", description="The Feature Key is pulled, again and again.")
    parser.add_argument("--pulls", type=int, default=1000, help="how often (default 1000)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the chance it comes by (default: a new one)")
    options = parser.parse_args(arguments)
    if options.pulls < 1:
        parser.error("--pulls is 1 at least")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.pulls} pulls", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="featurekeyd-pulls-") as folder:
            print(summary(pull_for(options.pulls, seed, Path(folder), lambda line: print(line, flush=True))))
    except Wrong as wrong:
        print(f"seed {seed}, {wrong}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
