"""The soak in short, whether its check can fail, and decisions that go on while nobody reads the log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import soak
from rig_load import Asked, Beliefs, Client, Held, Profile, Violation

import rig

SEED = 10
KILLS = 12

HOLDERS, FEATURES, CLAIMS = 16, 8, 60
"""Holder names that one user may have; features that it is denied; emergency calls of one holder that are an entry
each. That makes 2048 entries, and there is room for 1000 and for some 400 in a pipe."""

DECISIONS = 2000
"""Decisions while nobody reads the log: far more than its queue and a pipe hold."""

PATIENCE = 5.0
"""Seconds for one answer where it is known not to come: far more than one takes."""

PLACE = ("kamailio", "call-1")
CALL = Held("calls", (("sip-trunk-channels", 1),), "trunk:carrier-a", "7")


def test_twelve_kills_of_all_kinds_lose_no_lease_and_invent_none(tmp_path: Path) -> None:
    ran = soak.soak_for(KILLS, SEED, tmp_path / "site", tmp_path, print, calm_rounds=1)
    assert ran.kills.total() == KILLS
    assert set(ran.kills) == {"SIGKILL", "SIGKILL at start", "SIGTERM", "SIGSTOP"}
    assert ran.decisions > 1000
    assert ran.unanswered > 0
    assert ran.checked > 1000


# The check itself


@pytest.mark.parametrize(
    ("possible", "actual", "sort"),
    [
        ({CALL}, None, "lost"),
        (set(), CALL, "invented"),
        ({None}, CALL, "invented"),
        ({CALL}, Held("calls", (("sip-trunk-channels", 2),), "trunk:carrier-a", "7"), "different"),
        ({CALL}, Held("calls", CALL.wants, "trunk:carrier-a", "8"), "different"),
    ],
)
def test_a_wrong_lease_is_found(possible: set[Held | None], actual: Held | None, sort: str) -> None:
    wrong = soak.differences({PLACE: frozenset(possible)} if possible else {}, {PLACE: actual} if actual else {})
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{sort}: kamailio/call-1: ")


@pytest.mark.parametrize("actual", [CALL, None])
def test_what_was_not_answered_may_be_in_or_out(actual: Held | None) -> None:
    assert soak.differences({PLACE: frozenset({CALL, None})}, {PLACE: actual} if actual else {}) == []


def test_a_sum_that_moved_without_its_lease_is_found() -> None:
    def feature(in_use: int, limit: int = 8) -> list[dict[str, object]]:
        return [{"feature": "sip-trunk-channels", "in_use": in_use, "limit": limit}]

    assert soak.wrong_sums(feature(1), [CALL]) == []
    assert soak.wrong_sums(feature(2), [CALL]) == ["sip-trunk-channels: 2 in use is not the sum of the leases"]
    assert soak.wrong_sums(feature(0), [CALL]) == ["sip-trunk-channels: 0 in use is not the sum of the leases"]
    assert soak.wrong_sums(feature(1, limit=0), [CALL]) == ["sip-trunk-channels: 1 in use is above the limit of 0"]
    assert soak.wrong_sums([], [CALL]) == ["sip-trunk-channels: 1 in use are not listed"]


def test_bad_news_in_the_log_is_found() -> None:
    good = "2026-01-01T00:00:00Z notice started: Nothing unexpected: ready."
    bad = "2026-01-01T00:00:00Z error leases_unreadable: The lease file is not whole."
    assert soak.bad_news([good, bad, "Traceback (most recent call last):"]) == [
        bad,
        "Traceback (most recent call last):",
    ]


def test_a_daemon_that_grows_is_found() -> None:
    growth = soak.Growth(early=2)
    for _ in range(2):
        assert growth.compare("in calm", 40 << 20, 20) == []
    assert growth.compare("in calm", 44 << 20, 22) == []
    assert growth.compare("in calm", 80 << 20, 30) == [
        "memory in calm: 81920 KiB, at first 40960 KiB",
        "descriptors in calm: 30, at first at most 20",
    ]


def test_a_client_holds_what_was_granted_and_no_more_what_it_gave_back() -> None:
    beliefs = Beliefs()
    beliefs.asked.append(Asked("Acquire", {}, {"call-1": frozenset({CALL})}))
    assert beliefs.possible() == {"call-1": {None, CALL}}
    beliefs.answered(done=True)
    assert beliefs.possible() == {"call-1": {CALL}}
    beliefs.asked.append(Asked("Release", {}, {"call-1": frozenset({None})}))
    assert beliefs.possible() == {"call-1": {None, CALL}}
    beliefs.answered(done=True)
    assert beliefs.possible() == {}


def test_a_denied_call_leaves_what_was_known() -> None:
    beliefs = Beliefs()
    beliefs.asked.append(Asked("Acquire", {}, {"call-1": frozenset({CALL})}))
    beliefs.answered(done=False)
    assert beliefs.possible() == {}


def test_a_bound_lease_that_outlives_its_connection_is_one_too_many() -> None:
    bound = Held("calls", CALL.wants, bound=True)
    beliefs = Beliefs()
    beliefs.known = {"call-1": frozenset({bound}), "call-2": frozenset({CALL})}
    beliefs.connection_ended()
    assert beliefs.possible() == {"call-2": {CALL}}
    assert soak.differences({}, {PLACE: bound})[0].startswith("invented: ")


def test_the_soak_stops_at_a_lease_that_was_freed_behind_its_back(licensed: rig.Licensed, tmp_path: Path) -> None:
    running = soak.Soak(licensed.site, SEED, tmp_path)
    try:
        licensed.site.client("kamailio").acquire("stranger", "sip-trunk-channels")
        with pytest.raises(Violation, match="invented: kamailio/stranger: expected nothing; found Held"):
            running.check("now")
        running.clients[0].beliefs.known["stranger"] = frozenset({Held.of(licensed.site.leases()[0])})
        running.check("now")
        licensed.site.client("kamailio").release("stranger")
        with pytest.raises(Violation, match=r"lost: kamailio/stranger: expected Held.*; found nothing"):
            running.check("now")
    finally:
        running.close()


def test_silence_that_a_client_cannot_help_is_excused_and_a_stop_of_the_daemon_is_no_silence() -> None:
    profile = Profile("desk", "switchboard", "sip-trunk-channels", ttl_seconds=2)
    moment = time.monotonic() - 10
    for stops, excused in (([], 1), ([(moment, moment + 9)], 0)):
        client = Client(profile, "seed", stops)
        client.synchronized = True
        client.restarted(moment)
        client.heard()
        assert client.excused == excused


# The moment at which the daemon looks who is silent


@contextlib.contextmanager
def stopped(site: rig.Site) -> Iterator[None]:
    """The daemon is stopped meanwhile, and nobody is heard."""
    os.kill(site.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.pid, signal.SIGCONT)


def test_a_stop_over_that_moment_frees_nobody_s_leases(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.restart()
    due = time.monotonic() + soak.TICK_SECONDS
    listed = {"holder": "kamailio", "scope": "calls", "ttl_seconds": 2}
    listed["leases"] = [{"key": "call-1", "wants": [{"feature": "sip-trunk-channels"}]}]
    with site.connect() as connection:
        soak.let_pass(due - 2.5 - time.monotonic())
        connection.call("License.Sync", listed)
        with stopped(site):
            connection.send("License.Sync", listed)
            soak.let_pass(due + 0.3 - time.monotonic())
        assert connection.reply()["parameters"] == {"adopted": 0, "changed": 0, "freed": 0, "held": 1}


# A log that nobody reads


def unlicensed(site: rig.Site) -> list[str]:
    """Features enough for denials of as many kinds as are entries of their own."""
    features = site.call("License.ListFeatures")["features"]
    return [it["feature"] for it in features if it.get("lack") == "not_licensed"][:FEATURES]


def storm(site: rig.Site, seconds: float = rig.DEADLINE) -> int:
    """Denials and emergency calls of all holders; how many log entries that makes."""
    features, entries = unlicensed(site), 0
    with site.connect(seconds) as connection:
        for holder in (f"holder-{number}" for number in range(HOLDERS)):
            for feature in features:
                wants = [{"feature": feature}]
                answer = connection.call("License.Acquire", {"holder": holder, "key": f"{feature}-1", "wants": wants})
                assert not answer["allowed"]
                entries += 1
            for number in range(CLAIMS):
                call = {"holder": holder, "key": f"help-{number}", "wants": wants, "class": "emergency"}
                assert connection.call("License.Acquire", call)["reason"] == "emergency"
                entries += 2  # the call, and the claim without a listed number
    return entries


def decide(site: rig.Site) -> int:
    """Take and give back a channel again and again; how many of the answers were as they should be."""
    good = 0
    with site.connect() as connection:
        for number in range(DECISIONS // 2):
            wants = [{"feature": "sip-trunk-channels"}]
            lease = {"holder": "holder-1", "key": f"call-{number}"}
            good += connection.call("License.Acquire", {**lease, "wants": wants})["allowed"]
            good += connection.call("License.Release", lease)["released"]
    return good


def lost(lines: Iterable[str]) -> int:
    """Entries that the log says it has lost."""
    found = (re.search(r" log_overflow: .*\[LOST=(\d+)\]$", line) for line in lines)
    return sum(int(match[1]) for match in found if match)


def of_the_storm(lines: Iterable[str]) -> int:
    """Entries about what was asked in the storm."""
    return sum(line.split(" ")[2] in {"denied:", "emergency_call:", "emergency_claim:"} for line in lines)


@pytest.fixture
def unread(licensed: rig.Licensed) -> Iterator[rig.Site]:
    """A site whose standard error nobody reads."""
    licensed.site.log.stop_reading()
    yield licensed.site
    licensed.site.log.read_on()


def test_decisions_go_on_while_nobody_reads_the_log_and_what_is_lost_is_told(unread: rig.Site) -> None:
    mark = unread.log.mark()
    entries = storm(unread)
    assert decide(unread) == DECISIONS
    assert len(unread.log.so_far(mark)) <= 1  # one may have been on its way
    unread.log.read_on()
    unread.log.wait("log_overflow", mark)
    told = unread.log.so_far(mark)
    assert lost(told) > 0
    assert of_the_storm(told) + lost(told) == entries


def test_the_daemon_ends_in_order_although_nobody_reads_the_log(unread: rig.Site) -> None:
    storm(unread)
    assert unread.daemon is not None
    unread.daemon.signal(signal.SIGTERM)
    assert unread.daemon.wait() == 0


# The same with journald, whose socket has a fixed path: the daemon runs where another one is mounted there


_BEHIND = (
    'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'
)


@pytest.fixture
def journal(licensed: rig.Licensed, as_root: None) -> Iterator[socket.socket]:
    """What journald would read from; the daemon of the site logs there."""
    site = licensed.site
    folder = site.short / "journal"
    folder.mkdir()
    behind = ["unshare", "--mount", "sh", "-c", _BEHIND, str(folder)]
    if shutil.which("unshare") is None or rig.run(*behind, "true").status != 0:
        pytest.skip("no mounts of one's own here (unshare(1))")
    site.stop()
    site.write_settings(log={"target": "journal"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(folder / "socket"))
        bound.settimeout(rig.DEADLINE)
        site.spawn([*behind, *site.command])
        yield bound


def journal_entry(journal: socket.socket, name: str) -> str:
    """The first entry of that event; what comes before it is skipped."""
    deadline = time.monotonic() + rig.DEADLINE
    while time.monotonic() < deadline:
        entry = journal.recv(1 << 16).decode()
        if f"EVENT={name}\n" in entry:
            return entry
    raise rig.RigFailure(f"no entry {name}")


def test_a_journal_that_is_read_has_the_events(licensed: rig.Licensed, journal: socket.socket) -> None:
    assert "PRIORITY=5\n" in journal_entry(journal, "started")
    licensed.site.wait_ready()


def test_decisions_go_on_while_journald_does_not_read(licensed: rig.Licensed, journal: socket.socket) -> None:
    licensed.site.wait_ready()
    storm(licensed.site, seconds=PATIENCE)
    assert decide(licensed.site) == DECISIONS
    assert "LOST=" in journal_entry(journal, "log_overflow")
