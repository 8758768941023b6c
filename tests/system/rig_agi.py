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
PAUSE = 0.01
SYNC_SECONDS = 0.2
TTL_SECONDS = 2


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

    def __init__(self, folder: Path, socket: Path, asterisk: FakeAsterisk, *, login: str = "challenge") -> None:
        self.log = Lines()
        self.port = 0
        self._asterisk = asterisk
        self._process: Process | None = None
        self._folder = folder
        self.secret = folder / "ami-secret"
        self.secret.write_text(asterisk.secret + "\n", encoding="utf-8")
        self._socket = socket
        self._login = login

    @property
    def settings(self) -> Path:
        """The settings, written anew."""
        path = self._folder / "featurekey-agi.toml"
        lines = [
            f"socket = {json.dumps(str(self._socket))}",
            f"[fastagi]\nport = {self.port}",
            f'[ami]\nusername = "featurekey"\nport = {self._asterisk.ami_port}\nlogin = "{self._login}"',
            f"secret_file = {json.dumps(str(self.secret))}",
            f"[sync]\nseconds = {SYNC_SECONDS}\nttl = {TTL_SECONDS}",
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

    def __init__(self, licensed: rig.Licensed, asterisk: FakeAsterisk, agi: Agi) -> None:
        self.licensed = licensed
        self.site = licensed.site
        self.asterisk = asterisk
        self.agi = agi

    def in_use(self, feature: str = TRUNK) -> int:
        """How much of a feature is in use."""
        return int(self.site.feature(feature)["in_use"])

    def keys(self) -> set[str]:
        """The keys of the leases."""
        return {str(lease["key"]) for lease in self.site.leases()}

    def until_in_use(self, number: int) -> None:
        """Wait until so many trunk channels are in use."""
        until(lambda: self.in_use() == number, f"{number} in use")

    def until_keys(self, *channels: Channel) -> None:
        """Wait until the leases are those of these channels."""
        until(lambda: self.keys() == {it.uniqueid for it in channels}, f"leases of {[it.name for it in channels]}")

    def call(self, exten: str = "100", line: str = LINE) -> Channel:
        """A telephone calls out over the trunk: its channel, after the line was run."""
        channel = self.asterisk.channel("PJSIP/alice", exten=exten)
        channel.agi(line)
        return channel

    def calls(self, number: int) -> list[Channel]:
        """So many at once."""
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(lambda _: self.call(), range(number)))

    def wait_synced(self) -> None:
        """Wait for a list that was begun from now on, and until the daemon has taken it."""
        self.asterisk.wait_for("lists", 3)


@contextmanager
def switch(folder: Path, *, gives_challenge: bool = True, login: str = "challenge") -> Iterator[Switch]:
    """Everything running, and AMI logged in."""
    orders = (f"{TRUNK}:{LICENSED}", "vcm-channels:30")
    with rig.licensed_site(folder, orders) as licensed, FakeAsterisk() as asterisk:
        asterisk.gives_challenge = gives_challenge
        agi = Agi(folder, licensed.site.socket, asterisk, login=login)
        try:
            agi.start()
            asterisk.wait_for("logins", 1 - asterisk.logins)
            asterisk.wait_for("lists", 1)
            yield Switch(licensed, asterisk, agi)
        finally:
            agi.close()
            print(f"log of featurekey-agi:\n{agi.log}")
