"""featurekey-agi in the hand of a test: the real program beside the real daemon and a peer in place of Asterisk."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fake_asterisk import Channel, FakeAsterisk

import rig
from rig_process import DEADLINE, Lines, Process, RigFailure, environment, program

LINE = "agi://127.0.0.1/acquire?port=trunk:carrier-a&wants=sip-trunk-channels,vcm-channels"
"""The one line of the dialplan, as docs/asterisk.md has it."""

TRUNK = "sip-trunk-channels"
LICENSED = 4
ORDERS = (f"{TRUNK}:{LICENSED}", "vcm-channels:30")
PAUSE = 0.01
SYNC_SECONDS = 0.2
LONG_TTL = 120
"""Seconds: longer than any test, so that silence frees nothing where a test is about something else."""


def until(holds: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait until that holds; raises RigFailure at the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise RigFailure(f"not within {seconds} s: {what}")
        pause.wait(PAUSE)


class Agi:
    """The program with its settings; started again it listens on the same port."""

    def __init__(self, folder: Path, socket: Path, asterisk: FakeAsterisk, *, login: str, ttl: int) -> None:
        self.log = Lines()
        self.port = 0
        self._asterisk = asterisk
        self._process: Process | None = None
        self._folder = folder
        self.secret = folder / "ami-secret"
        self.secret.write_text(asterisk.secret + "\n", encoding="utf-8")
        self._socket = socket
        self._login = login
        self._ttl = ttl

    @property
    def settings(self) -> Path:
        """The settings, written anew."""
        path = self._folder / "featurekey-agi.toml"
        lines = [
            f"socket = {json.dumps(str(self._socket))}",
            f"[fastagi]\nport = {self.port}",
            f'[ami]\nusername = "featurekey"\nport = {self._asterisk.ami_port}\nlogin = "{self._login}"',
            f"secret_file = {json.dumps(str(self.secret))}",
            f"[sync]\nseconds = {SYNC_SECONDS}\nttl = {self._ttl}",
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def start(self) -> None:
        """Start it and wait until it listens."""
        mark = self.log.mark()
        command = [program("featurekey-agi"), "--settings", str(self.settings)]
        self._process = Process(command, environ=environment(), errors=self.log)
        line = self.log.wait("listens for FastAGI", mark)
        self.port = int(line.rpartition(":")[2].partition(",")[0])
        self._asterisk.agi_port = self.port

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._running().end()
        self._process = None

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        process = self._running()
        process.signal(signal.SIGTERM)
        status = process.wait()
        process.end()
        self._process = None
        return status

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.kill()

    def _running(self) -> Process:
        assert self._process is not None
        return self._process


class Switch:
    """A licensed site, featurekey-agi and the peer, together."""

    def __init__(self, site: rig.Site, asterisk: FakeAsterisk, agi: Agi) -> None:
        self.site = site
        self.asterisk = asterisk
        self.agi = agi

    def in_use(self, feature: str = TRUNK) -> int:
        """How much of a feature is in use."""
        return int(self.site.feature(feature)["in_use"])

    def held(self) -> set[str]:
        """The keys of the leases."""
        return {str(lease["key"]) for lease in self.site.leases()}

    def until_in_use(self, number: int) -> None:
        """Wait until so many trunk channels are in use."""
        until(lambda: self.in_use() == number, f"{number} in use")

    def until_keys(self, *channels: Channel) -> None:
        """Wait until the leases are those of these channels."""
        until(lambda: self.held() == {it.uniqueid for it in channels}, f"leases of {[it.name for it in channels]}")

    def call(self, exten: str = "100", line: str = LINE) -> Channel:
        """A telephone calls out over the trunk: its channel, after the line was run."""
        channel = self.asterisk.channel("PJSIP/alice", exten=exten)
        channel.agi(line)
        return channel

    def calls(self, number: int) -> list[Channel]:
        """So many at once."""
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(lambda _: self.call(), range(number)))

    def put_right(self) -> None:
        """Have everything run again, and no call left."""
        if self.site.daemon is None:
            self.site.start()
        self.asterisk.put_right()
        if not self.agi.is_running:
            self.agi.start()
        # After trouble the client leaves the daemon alone for a second.
        until(lambda: self.call().status in ("allowed", "denied"), "an answer of the daemon")
        for channel in self.asterisk.snapshot():
            channel.hang_up()
        until(lambda: not self.site.leases(), "no lease left")

    def wait_synced(self) -> None:
        """Wait for a list that was begun from now on, and until the daemon has taken it."""
        self.asterisk.wait_for("lists", 3)


@contextmanager
def switch(folder: Path, *, login: str = "challenge", ttl: int = LONG_TTL) -> Iterator[Switch]:
    """Everything running on a licensed site, and AMI logged in."""
    with (
        rig.licensed_site(folder, ORDERS) as licensed,
        asking(folder, licensed.site, login=login, ttl=ttl) as it,
    ):
        yield it


@contextmanager
def asking(folder: Path, site: rig.Site, *, login: str = "challenge", ttl: int = LONG_TTL) -> Iterator[Switch]:
    """A switch beside a daemon that runs, and AMI logged in."""
    with FakeAsterisk() as asterisk:
        asterisk.gives_challenge = login == "challenge"
        agi = Agi(folder, site.socket, asterisk, login=login, ttl=ttl)
        try:
            agi.start()
            asterisk.wait_for("logins", 1 - asterisk.logins)
            asterisk.wait_for("lists", 1)
            yield Switch(site, asterisk, agi)
        finally:
            agi.close()
            print(f"log of featurekey-agi:\n{agi.log}")
