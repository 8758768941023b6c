"""Counting under load: many callers at once, and a daemon that is killed in the midst of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rig

CHANNELS = 8
CALLS = 12
KILLS = 15
CLIENTS = 4


def ask_all_at_once(site: rig.Site, round_name: str) -> list[tuple[str, dict[str, Any]]]:
    """Ask for 12 calls from 12 threads, each on a connection of its own; keys and replies."""
    barrier = threading.Barrier(CALLS)

    def ask(number: int) -> tuple[str, dict[str, Any]]:
        key = f"{round_name}-{number}"
        with site.connect() as connection:
            barrier.wait(rig.DEADLINE)
            lease = {"holder": "kamailio", "key": key, "wants": [{"feature": "sip-trunk-channels"}]}
            return key, connection.call("License.Acquire", lease)

    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(ask, range(CALLS)))


def held(site: rig.Site) -> set[str]:
    return {lease["key"] for lease in site.leases()}


def assert_eight_of_twelve(answers: list[tuple[str, dict[str, Any]]]) -> set[str]:
    """Exactly 8 are allowed and 4 denied, each with reason, limit and count; the keys of those allowed."""
    allowed = {key for key, answer in answers if answer["allowed"]}
    denied = [answer for _, answer in answers if not answer["allowed"]]
    assert (len(allowed), len(denied)) == (CHANNELS, CALLS - CHANNELS)
    for answer in denied:
        told = answer["feature"], answer["reason"], answer["limit"], answer["in_use"]
        assert told == ("sip-trunk-channels", "limit_reached", CHANNELS, CHANNELS)
        assert answer["fallback"] == "emergency-calls-only"
        assert answer["message"]
        assert answer["remedy"]
    return allowed


def test_eight_channels_carry_eight_of_twelve_calls_that_come_at_once(licensed: rig.Licensed) -> None:
    site = licensed.site
    for number in range(3):
        allowed = assert_eight_of_twelve(ask_all_at_once(site, f"round-{number}"))
        assert held(site) == allowed
        kamailio = site.client("kamailio")
        assert all(kamailio.release(key) for key in allowed)
        assert site.feature("sip-trunk-channels")["in_use"] == 0
        assert site.feature("vcm-channels")["in_use"] == 0
    assert site.feature("sip-trunk-channels")["peak"] == CHANNELS


def test_a_killed_daemon_knows_every_call_that_it_allowed_and_no_other(licensed: rig.Licensed) -> None:
    site = licensed.site
    allowed = assert_eight_of_twelve(ask_all_at_once(site, "call"))
    site.kill()
    site.start()
    assert held(site) == allowed
    kamailio = site.client("kamailio")
    assert kamailio.acquire("one-more", "sip-trunk-channels").reason == "limit_reached"
    assert all(kamailio.release(key) for key in allowed)
    assert site.feature("sip-trunk-channels")["in_use"] == 0
    assert_eight_of_twelve(ask_all_at_once(site, "again"))


@dataclass
class Caller:
    """What one client of the load knows: the leases it was told of, and those it asked about without an answer."""

    name: str
    chance: random.Random
    sure: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    calls: int = 0

    def load(self, site: rig.Site, answered: Callable[[], object]) -> None:
        """Acquire and release until the connection ends."""
        try:
            with site.connect() as connection:
                while True:
                    self._one(connection)
                    answered()
        except (OSError, EOFError):
            return

    def _one(self, connection: rig.Varlink) -> None:
        gives_back = self.sure and self.chance.random() < 0.45
        key = self.chance.choice(sorted(self.sure)) if gives_back else f"{self.name}-{self.calls}"
        lease: dict[str, Any] = {"holder": self.name, "key": key}
        self.calls += 1
        self.sure.discard(key)
        self.doubtful.add(key)
        if gives_back:
            connection.call("License.Release", lease)
        elif connection.call("License.Acquire", {**lease, "wants": [{"feature": "sip-trunk-channels"}]})["allowed"]:
            self.sure.add(key)
        self.doubtful.discard(key)


def test_a_daemon_killed_again_and_again_under_load_loses_no_lease_and_invents_none(licensed: rig.Licensed) -> None:
    site, chance = licensed.site, random.Random(20260731)
    callers = [Caller(f"caller-{number}", random.Random(number)) for number in range(CLIENTS)]
    for _ in range(KILLS):
        kill_under_load(site, callers, after=chance.randrange(1, 250))
        site.start()
        now = held(site)
        sure = set[str]().union(*(caller.sure for caller in callers))
        doubtful = set[str]().union(*(caller.doubtful for caller in callers))
        assert sure <= now <= sure | doubtful
        assert len(now) == site.feature("sip-trunk-channels")["in_use"] <= CHANNELS
        for caller in callers:
            caller.sure, caller.doubtful = {key for key in now if key.startswith(f"{caller.name}-")}, set()
    assert sum(caller.calls for caller in callers) > KILLS * CLIENTS


def kill_under_load(site: rig.Site, callers: list[Caller], after: int) -> None:
    """Let the callers load the daemon, and kill it after so many answers."""
    answers = threading.Semaphore(0)
    with ThreadPoolExecutor(CLIENTS) as pool:
        loads = [pool.submit(caller.load, site, answers.release) for caller in callers]
        try:
            for _ in range(after):
                assert answers.acquire(timeout=rig.DEADLINE)
        finally:
            site.kill()
    for load in loads:
        load.result()


def test_twelve_calls_with_one_call_id_are_twelve_calls(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    answers = [kamailio.acquire(f"same@host;from={number}", "sip-trunk-channels") for number in range(CALLS)]
    assert sum(answer.allowed for answer in answers) == CHANNELS


def test_a_ceiling_of_a_port_holds_below_the_license(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, ceilings={"trunk:carrier-a": 2}) as it:
        kamailio = it.site.client("kamailio")
        reasons = [
            kamailio.acquire(f"call-{number}", "sip-trunk-channels", port="trunk:carrier-a").reason
            for number in range(3)
        ]
        assert reasons == ["granted", "granted", "ceiling_reached"]
        assert kamailio.acquire("call-3", "sip-trunk-channels", port="trunk:carrier-b").allowed
