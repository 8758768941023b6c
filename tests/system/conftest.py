"""What the tests of real processes share: a licensed site, and a client beside it that must notice nothing."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rig

BYSTANDER_PAUSE = 0.005
"""Seconds between two questions of the bystander: as busy as a small site, and the machine stays free for the test."""

BYSTANDER_PATIENCE = 5.0
"""Seconds that it waits for an answer: far more than a disturbed caller would, and little enough to see a halt."""


@pytest.fixture
def licensed(tmp_path: Path) -> Iterator[rig.Licensed]:
    """A site of this test alone."""
    with rig.licensed_site(tmp_path) as it:
        yield it
        print(f"log of the daemon:\n{it.site.log}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Licensed]:
    """One site for all tests of a module, for those that leave it as it was."""
    with rig.licensed_site(tmp_path_factory.mktemp("site"), access={"ask_users": [rig.STRANGER]}) as it:
        yield it
        print(f"log of the daemon:\n{it.site.log}")


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def set_clock(licensed: rig.Licensed, preloaded: Path) -> Callable[[int], None]:
    """Sets the wall clock of the daemon so many seconds ahead; the first time it starts with it."""
    site, ahead = licensed.site, licensed.site.short / "ahead"

    def set_it(seconds: int) -> None:
        if ahead.exists():
            with ahead.open("r+b") as file:
                file.write(struct.pack("=q", seconds))
            return
        ahead.write_bytes(struct.pack("=q", seconds))
        assert site.stop() == 0
        preload = [f"LD_PRELOAD={preloaded}", f"FEATUREKEYD_TEST_CLOCK={ahead}"]
        site.spawn(["env", *preload, *site.command])
        site.wait_ready()

    return set_it


@pytest.fixture(scope="session")
def as_root() -> None:
    """Skip where this user cannot act as another one."""
    if os.geteuid() != 0:
        pytest.skip("only root can connect as another user")


@pytest.fixture
def bystander(shared: rig.Licensed) -> Iterator[None]:
    """Another client that goes on asking during the test, and to whom nothing may happen."""
    asking = _Bystander(shared.site)
    with asking.connection:
        asking.thread.start()
        yield
        asking.end()


class _Bystander:
    """Takes and gives back a channel again and again on one connection."""

    def __init__(self, site: rig.Site) -> None:
        self.connection = site.connect(BYSTANDER_PATIENCE)
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self._over = threading.Event()
        self._rounds = 0
        self._trouble: Exception | None = None
        self._denied: list[object] = []

    def end(self) -> None:
        """End, and fail the test where anything was not as always."""
        self._over.set()
        self.thread.join(rig.DEADLINE)
        assert self._trouble is None, f"the bystander noticed: {self._trouble!r}"
        assert not self._denied
        assert self._rounds > 0

    def _ask(self) -> None:
        try:
            while not self._over.wait(BYSTANDER_PAUSE) or not self._rounds:
                self._one_call()
        except (OSError, EOFError, rig.Refused) as trouble:
            self._trouble = trouble

    def _one_call(self) -> None:
        lease = {"holder": "bystander", "key": f"call-{time.monotonic_ns()}"}
        answer = self.connection.call("License.Acquire", {**lease, "wants": [{"feature": "vcm-channels"}]})
        if not answer["allowed"]:
            self._denied.append(answer)
        elif not self.connection.call("License.Release", lease)["released"]:
            self._denied.append(lease)
        self._rounds += 1
