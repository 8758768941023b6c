"""The unit of featurekey-agi: what is switched off has its reason in it, and it reaches nothing but the loopback."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.client.agi_settings import CREDENTIAL

if TYPE_CHECKING:
    from tests.house.conftest import House

UNIT = "systemd/featurekey-agi.service"
MOST_EXPOSED = 12
"""Tenths of systemd's exposure: what is left is the loopback, the daemon's socket and Debian's own Python."""

IN_THE_COMMENT = {
    "RootDirectory=/RootImage=": "RootDirectory",
    "RestrictAddressFamilies=~AF_UNIX": "AF_UNIX",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "AF_INET",
}
"""How systemd-analyze calls it, and what the unit's comment calls it where that differs."""

NOTHING_TO_SWITCH = {"DeviceAllow=", "IPAddressDeny="}
"""What systemd-analyze marks though it is as tight as it goes: a clock, and the addresses of the loopback."""


@pytest.fixture
def unit(house: House) -> str:
    return (house.root / UNIT).read_text()


@pytest.fixture
def exposure(unit: str, tmp_path: Path) -> str:
    """What systemd-analyze says of the unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: ./dev test installs it")
    path = tmp_path / "featurekey-agi.service"
    path.write_text(unit)
    command = [program, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_everything_that_is_switched_off_has_its_reason_in_the_unit(unit: str, exposure: str) -> None:
    off = {line.split()[1] for line in exposure.splitlines() if line.startswith("✗")}
    comments = " ".join(line for line in unit.splitlines() if line.startswith("#"))
    unsaid = {it for it in off if IN_THE_COMMENT.get(it, it.rstrip("=")) not in comments}
    assert unsaid <= NOTHING_TO_SWITCH


def test_it_reaches_the_daemon_and_the_loopback_and_nothing_else(unit: str) -> None:
    assert re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE) == ["AF_UNIX AF_INET"]
    assert re.findall(r"^IPAddress\w+=.*$", unit, re.MULTILINE) == ["IPAddressAllow=localhost", "IPAddressDeny=any"]


def test_its_user_is_made_and_may_ask(unit: str, house: House) -> None:
    (user,) = re.findall(r"^User=(.*)$", unit, re.MULTILINE)
    lines = [line.split() for line in house.texts["systemd/featurekeyd.sysusers.conf"].splitlines()]
    assert ["u", user] in [line[:2] for line in lines]
    assert ["m", user, "featurekey"] in lines


def test_the_secret_is_a_credential_and_on_no_command_line(unit: str) -> None:
    assert f"LoadCredential={CREDENTIAL}:/etc/featurekeyd/ami-secret\n" in unit
    assert re.findall(r"^Exec\w+=(.*)$", unit, re.MULTILINE) == ["/usr/bin/featurekey-agi"]
