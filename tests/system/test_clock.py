"""The real daemon with a wall clock that is set, by a preloaded library, while it runs and before it starts."""

from __future__ import annotations

import datetime
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import rig

HOUR = 3_600


@pytest.fixture(scope="module")
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


def call(site: rig.Site, key: str) -> bool:
    wants = [{"feature": "sip-trunk-channels"}]
    allowed: bool = site.call("License.Acquire", {"holder": "kamailio", "key": key, "wants": wants})["allowed"]
    return allowed


def test_a_clock_set_back_is_told_calls_go_on_and_a_command_repairs_it(
    licensed: rig.Licensed, set_clock: Callable[[int], None]
) -> None:
    site = licensed.site
    set_clock(0)
    assert site.status()["clock"] == "right"
    set_clock(-2 * HOUR)  # not before the day of the release, which no clock is believed to be
    site.log.wait("warning clock_set_back")
    assert site.status()["clock"] == "set_back"
    assert call(site, "a")
    assert site.call("Manage.RepairClock")["finding"]["verdict"] in {"repaired", "not_repaired"}
    set_clock(0)
    site.log.wait("notice clock_right")
    assert (site.status()["clock"], site.status()["standing"]) == ("right", "licensed")


def test_a_host_that_boots_in_1970_is_not_punished(licensed: rig.Licensed, set_clock: Callable[[int], None]) -> None:
    site = licensed.site
    set_clock(-round(datetime.datetime.now(datetime.UTC).timestamp()))
    site.log.wait("notice clock_unset")
    assert (site.status()["clock"], site.status()["standing"]) == ("unset", "licensed")
    assert call(site, "a")
    set_clock(0)
    site.log.wait("notice clock_right")
    assert call(site, "b")
