"""The soak: the real daemon, killed again and again under load, and held to its leases each time.

`./dev soak` runs it. Several clients of several holders take and give back leases as fast as they can; at a random
moment the daemon is killed (SIGKILL), ended in order (SIGTERM), or stopped and continued (SIGSTOP, SIGCONT) for longer
than a holder may be silent. Then its leases must lie between what the clients hold by the answers they have, and that
plus what was unanswered; what was bound to a connection is gone with it, and every count is the sum of its leases. The
first difference ends the run with exit status 1; the lease file from before the restart is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from rig_load import ABSENT, Client, Held, Profile, States, Violation

import rig
from featurekeyd.policy.events import EventName

ORDERS = ("essential-edition", "sip-trunk-channels:40", "vcm-channels:24", "third-party-ip-endpoints:900")
"""Fewer channels than the callers want, so that there are denials; phones as many as a list may bring by mistake."""

SIP, PHONE, USER = "sip-trunk-channels", "third-party-ip-endpoints", "basic-user"

_VCM = (("vcm-channels", 1),)

PROFILES = (
    Profile("carrier-a", "kamailio", SIP, calls=True, during_setup=_VCM),
    Profile("carrier-b", "kamailio", SIP, calls=True, during_setup=_VCM),
    Profile("agents-1", "asterisk", SIP, calls=True, during_setup=_VCM),
    Profile("agents-2", "asterisk", SIP, calls=True, during_setup=_VCM),
    Profile("desk", "switchboard", SIP, calls=True, during_setup=_VCM, most=12, ttl_seconds=2),
    Profile("phones", "registrar", PHONE, "registrations", most=250, ttl_seconds=2, adopts=True),
    Profile("users", "provisioning", USER, "configuration", most=250),
)

LOAD_SECONDS = (0.01, 0.12)
"""How long the clients ask before the daemon is killed, at random between these."""

LONG_LOAD = 0.05, 3.0
"""How often the load lasts until the lease file has grown so far that it is written anew, and how long at most."""

SWITCH_SECONDS = 0.0005
"""How soon a thread of this process gives way: writing the lease file anew takes milliseconds, and must be seen."""

STOP_SECONDS = (2.1, 2.6)
"""How long the daemon is stopped: longer than the holders with a `ttl_seconds` of 2 may be silent."""

TICK_SECONDS = 5.0
"""How often the daemon looks who is silent; a stop that covers such a moment is the one that could free by mistake."""

SHARES = {"SIGTERM": 0.25, "SIGSTOP": 0.05, "SIGKILL at start": 0.05}
"""Parts of all kills; the others are SIGKILL. A stop takes as long as twelve of the others."""

START_SECONDS = 0.25
"""How long a start takes: it is killed at random before that."""

MOST_KILLS = 20_000
"""Kills of one run: some three hours."""

CALM_ROUNDS = 20
"""Rounds at the end in which one daemon lives on under load, to see whether it grows."""

CALM_SECONDS = 0.4

MOST_GROWTH = 1.25, 4 << 20
"""Memory may grow by this factor and these bytes: allocators do not give back what a busy turn took."""

SPARE_DESCRIPTORS = 3
"""Descriptors that may come and go: the state file's journal, a reader's port."""

DEADLINE = 10.0
"""Seconds within which a lease that was bound to a closed connection must be gone."""

BAD_NEWS = (
    EventName.LEASES_UNREADABLE,
    EventName.LEASES_NOT_RECORDED,
    EventName.STATE_NOT_STORED,
    EventName.STATE_REFUSED,
    EventName.CLIENT_REFUSED,
    EventName.UNEXPECTED,
)
"""Events that no kill may be the cause of."""

Place = tuple[str, str]
"""Holder and key."""


def differences(possible: Mapping[Place, States], actual: Mapping[Place, Held]) -> list[str]:
    """What is wrong with the leases that there are, lease by lease; empty where every one may be as it is."""
    wrong = []
    for place in sorted(possible.keys() | actual.keys()):
        states, held = possible.get(place, ABSENT), actual.get(place)
        if held not in states:
            sort = "lost" if held is None else "invented" if states == ABSENT else "different"
            expected = " or ".join(sorted("nothing" if it is None else str(it) for it in states))
            wrong.append(f"{sort}: {'/'.join(place)}: expected {expected}; found {held or 'nothing'}")
    return wrong


def wrong_sums(features: Iterable[Mapping[str, Any]], leases: Iterable[Held]) -> list[str]:
    """Features whose count is not the sum of the leases, or above its limit."""
    sums = Counter[str]()
    for held in leases:
        sums.update(dict(held.wants))
    wrong = []
    for feature in features:
        name, in_use = feature["feature"], feature["in_use"]
        if in_use != sums.pop(name, 0):
            wrong.append(f"{name}: {in_use} in use is not the sum of the leases")
        if in_use > feature["limit"]:
            wrong.append(f"{name}: {in_use} in use is above the limit of {feature['limit']}")
    return wrong + [f"{name}: {count} in use are not listed" for name, count in sums.items()]


def bad_news(lines: Iterable[str]) -> list[str]:
    """Lines of the log that tell of what must not happen."""
    names = {f"{name}:" for name in BAD_NEWS}
    return [line for line in lines if "Traceback" in line or names & set(line.split(" ", 3)[:3])]


class Growth:
    """Memory and descriptors of the daemon over the run, by the circumstances they are measured in."""

    def __init__(self, early: int = 10) -> None:
        self._early = early
        self._seen: dict[str, list[tuple[int, int]]] = {}

    def note(self, circumstances: str, pid: int) -> list[str]:
        """Measure; what is wrong by comparison with the early measures."""
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return self.compare(circumstances, resident, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))

    def compare(self, circumstances: str, resident: int, descriptors: int) -> list[str]:
        """What is wrong with these numbers by comparison with the early ones."""
        seen = self._seen.setdefault(circumstances, [])
        if len(seen) < self._early:
            seen.append((resident, descriptors))
            return []
        usual = statistics.median(bytes_ for bytes_, _ in seen)
        most_open = max(open_ for _, open_ in seen)
        factor, more = MOST_GROWTH
        wrong = []
        if resident > usual * factor + more:
            wrong.append(f"memory {circumstances}: {resident >> 10} KiB, at first {int(usual) >> 10} KiB")
        if descriptors > most_open + SPARE_DESCRIPTORS:
            wrong.append(f"descriptors {circumstances}: {descriptors}, at first at most {most_open}")
        return wrong


class Soak:
    """One run on one site."""

    def __init__(self, site: rig.Site, seed: int, kept: Path) -> None:
        self.site = site
        self.kills = Counter[str]()
        self.checked = 0
        self.unanswered = 0
        """Requests that were on their way when the daemon ended."""
        self.rewriting = 0
        """How often it ended while the lease file was being written anew."""
        self._kept = kept
        """A folder for the lease files of a violation."""
        self._stops: list[tuple[float, float]] = []
        self.clients = [Client(profile, f"{seed} {profile.name}", self._stops) for profile in PROFILES]
        self._chance = random.Random(seed)
        self._threads = ThreadPoolExecutor(len(self.clients))
        self._growth = Growth()
        self._read = 0
        """Lines of the log that were looked at."""
        self._next_tick = 0.0
        self._begun()

    @property
    def decisions(self) -> int:
        """Answers that the clients have."""
        return sum(client.decisions for client in self.clients)

    @property
    def excused(self) -> int:
        """How often this machine kept a client from asking for longer than its holder may be silent."""
        return sum(client.excused for client in self.clients)

    def run(self, kills: int, calm_rounds: int, tell: Callable[[str], object]) -> None:
        """Kill that many times, and let the daemon live on for some rounds in the end; raises Violation."""
        for number, kind in enumerate(self._kinds(kills), 1):
            self._keep_what_shows(f"kill {number} ({kind})", self._rounds[kind])
            self.kills[kind] += 1
            if number % 50 == 0:
                tell(f"{number} kills, {self.decisions} decisions, {self.checked} leases checked")
        for number in range(1, calm_rounds + 1):
            self._keep_what_shows(f"calm round {number}", Soak._live_on)

    def _keep_what_shows(self, name: str, one_round: Callable[[Soak], None]) -> None:
        """Carry a round out; where it fails the lease file and the newest lines of the log are kept."""
        try:
            one_round(self)
        except (rig.RigFailure, OSError) as failure:
            self._keep_lease_file("leases")
            (self._kept / "log").write_text("\n".join(self.site.log.so_far(self._read)), encoding="utf-8")
            raise Violation(f"{name}:\n{failure}") from failure

    def close(self) -> None:
        """Close the connections; the site is the caller's."""
        for client in self.clients:
            client.close()
        self._threads.shutdown()

    def _kinds(self, kills: int) -> list[str]:
        kinds = [kind for kind, share in SHARES.items() for _ in range(max(1, round(kills * share)))]
        kinds += ["SIGKILL"] * (kills - len(kinds))
        self._chance.shuffle(kinds)
        return kinds[:kills]

    # The rounds

    def _kill(self) -> None:
        with _Load(self):
            self._let_ask()
            self.site.kill()
        self._take_note_of_the_end()
        self._restart()

    def _kill_twice(self) -> None:
        """Kill the daemon, and kill it again while it starts."""
        with _Load(self):
            self._let_ask()
            self.site.kill()
        self._take_note_of_the_end()
        self.site.spawn(self.site.command)
        let_pass(self._chance.uniform(0, START_SECONDS))
        self.site.kill()
        self._restart()

    def _end(self) -> None:
        with _Load(self):
            self._let_ask()
            status = self.site.stop()
        self._take_note_of_the_end()
        if status != 0:
            raise Violation(f"the daemon ended with status {status}")
        self._restart()

    def _stop(self) -> None:
        """Stop the daemon so that the moment at which it looks who is silent falls into the pause."""
        pause = self._chance.uniform(*STOP_SECONDS)
        begin = self._next_tick - self._chance.uniform(0.1, pause - 0.05)
        while begin < time.monotonic() + LOAD_SECONDS[0]:
            begin += TICK_SECONDS
        with _Load(self):
            let_pass(begin - time.monotonic())
            self._pause(pause)
            self._let_ask()
        self._all_are_connected()
        self.check("after a stop")
        self._reconnect_some()

    _rounds: ClassVar = {"SIGKILL": _kill, "SIGKILL at start": _kill_twice, "SIGTERM": _end, "SIGSTOP": _stop}

    def _live_on(self) -> None:
        with _Load(self):
            let_pass(CALM_SECONDS)
        self._all_are_connected()
        self.check("in calm")

    def _let_ask(self) -> None:
        often, longest = LONG_LOAD
        if self._chance.random() < often:
            self._await_rewriting(time.monotonic() + longest)
        else:
            let_pass(self._chance.uniform(*LOAD_SECONDS))

    def _await_rewriting(self, deadline: float) -> None:
        fresh = self.site.runtime / "leases.new"
        while not fresh.exists() and time.monotonic() < deadline:
            time.sleep(SWITCH_SECONDS)

    def _pause(self, seconds: float) -> None:
        pid, start = self.site.pid, time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        let_pass(seconds)
        self._stops.append((start, time.monotonic()))
        os.kill(pid, signal.SIGCONT)
        self._next_tick = time.monotonic() + TICK_SECONDS

    def _reconnect_some(self) -> None:
        """Close some connections; what was bound to them must be gone soon, and all else stays.

        It stays also where it was asked for again on a new connection before.
        """
        for client in self._chance.sample(self.clients, 4):
            if self._chance.random() < 0.5:
                client.move(self.site.connect())
                continue
            client.close()
            client.beliefs.connection_ended()
            client.connect(self.site.connect())
        self.check("after connections were closed", patience=DEADLINE)

    def _take_note_of_the_end(self) -> None:
        """Keep the lease file as the daemon left it, and count what was cut off."""
        self.rewriting += (self.site.runtime / "leases.new").exists()
        self._keep_lease_file("leases.before-restart")

    def _keep_lease_file(self, name: str) -> None:
        with contextlib.suppress(OSError):  # there may be none, and that is not what is looked for
            shutil.copy(self.site.runtime / "leases", self._kept / name)

    def _restart(self) -> None:
        moment = time.monotonic()
        self.site.start()
        for client in self.clients:
            self.unanswered += len(client.beliefs.asked)
            client.beliefs.connection_ended()
            client.restarted(moment)
        self.check("after a restart")
        self._begun()

    def _begun(self) -> None:
        self._next_tick = time.monotonic() + TICK_SECONDS
        for client in self.clients:
            client.connect(self.site.connect())

    # What must be true

    def _all_are_connected(self) -> None:
        cut = [client.profile.name for client in self.clients if not client.connected]
        if cut:
            raise Violation(f"the daemon closed the connections of {', '.join(cut)}")

    def check(self, circumstances: str, patience: float = 0.0) -> None:
        """Hold the daemon to what the clients know; raises Violation.

        `patience` is in seconds, for what the daemon frees a moment later.
        """
        deadline = time.monotonic() + patience
        while wrong := self._wrong():
            if time.monotonic() > deadline:
                raise Violation("\n".join(wrong))
        wrong = bad_news(self.site.log.so_far(self._read)) + self._growth.note(circumstances, self.site.pid)
        self._read = self.site.log.mark()
        if wrong:
            raise Violation("\n".join(wrong))

    def _wrong(self) -> list[str]:
        with self.site.connect() as connection:
            leases = [it["lease"] for it in connection.each("License.ListLeases") if "lease" in it]
            features = connection.call("License.ListFeatures")["features"]
        for client in self.clients:
            client.heard()
        actual = {(lease["holder"], lease["key"]): Held.of(lease) for lease in leases}
        possible = {
            (client.profile.holder, key): states
            for client in self.clients
            for key, states in client.beliefs.possible().items()
        }
        wrong = differences(possible, actual) + wrong_sums(features, actual.values())
        self.checked += len(possible.keys() | actual.keys())
        if not wrong:
            self._take_for_known(actual)
        return wrong

    def _take_for_known(self, actual: Mapping[Place, Held]) -> None:
        for client in self.clients:
            mine = client.beliefs.possible()
            client.beliefs.found(
                {key: held for (holder, key), held in actual.items() if holder == client.profile.holder and key in mine}
            )


class _Load:
    """The clients ask while this context lasts, and all have ended when it is left."""

    def __init__(self, soak: Soak) -> None:
        self._over = threading.Event()
        self._asking = [soak._threads.submit(client.drive, self._over) for client in soak.clients]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for asking in self._asking:
            asking.result()


def let_pass(seconds: float) -> None:
    """Let the clients ask meanwhile: when the daemon is killed is what is tried here, so there is nothing to await."""
    time.sleep(max(0.0, seconds))


def summary(soak: Soak, seconds: float) -> str:
    """One line of sums."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.kills.items()))
    return (
        f"{soak.kills.total()} kills ({kinds}) in {seconds:.0f} s: {soak.decisions} decisions, "
        f"{soak.unanswered} requests cut off, {soak.rewriting} lease files cut off while written anew, "
        f"{soak.excused} silences excused, {soak.checked} leases checked, lost 0, invented 0."
    )


def soak_for(
    kills: int, seed: int, folder: Path, kept: Path, tell: Callable[[str], object], calm_rounds: int = CALM_ROUNDS
) -> Soak:
    """Run on a site of its own in that folder; raises Violation, of which `kept` has the lease files and the log."""
    found = None
    with rig.licensed_site(folder, ORDERS, feature_key={"poll_seconds": 5}) as licensed:
        soak = Soak(licensed.site, seed, kept)
        try:
            soak.run(kills, calm_rounds, tell)
        except Violation as violation:  # raised below: a site that is left by an exception prints its whole log
            found = violation
        finally:
            soak.close()
    if found is not None:
        raise found
    return soak


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak and tell its sums; the exit status."""
    parser = argparse.ArgumentParser(prog="./dev soak", description="The daemon is killed under load, again and again.")
    parser.add_argument("--kills", type=int, default=500, help=f"how often, up to {MOST_KILLS} (default 500)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the chance it comes by (default: a new one)")
    options = parser.parse_args(arguments)
    if not 1 <= options.kills <= MOST_KILLS:
        parser.error(f"--kills is from 1 to {MOST_KILLS}")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):  # as on a host, where /run is a tmpfs
        tempfile.tempdir = str(memory)
    sys.setswitchinterval(SWITCH_SECONDS)
    print(f"seed {seed}, {options.kills} kills", flush=True)
    kept = Path(tempfile.mkdtemp(prefix="featurekeyd-soak-leases-"))
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="featurekeyd-soak-") as folder:
            soak = soak_for(options.kills, seed, Path(folder), kept, lambda line: print(line, flush=True))
    except Violation as violation:
        print(f"seed {seed}, {violation}")
        print(f"The lease files, now and from before the last restart, and the end of the log are in {kept}")
        return 1
    print(summary(soak, time.monotonic() - begun))
    shutil.rmtree(kept, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
