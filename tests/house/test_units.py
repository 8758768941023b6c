"""The units: systemd finds nothing wrong with them, and what is switched off has its reason beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.hwio.hostprobes import CREDENTIALS, NO_CREDENTIAL
from featurekeyd.hwio.usbreports import PRODUCTS, VENDOR

if TYPE_CHECKING:
    from tests.house.conftest import House

MOST_EXPOSED = 15
"""Tenths of systemd's exposure: what is left is what the daemon lives from, each with its reason in the unit."""

DRIVERS = {"usb_device": "usbcore", "ttyUSB": "usbserial", "ttyACM": "cdc_acm"}
"""What registers each kind of device: systemd knows no number of one that is not registered."""

ALWAYS_OPEN = {
    "RestrictAddressFamilies=~AF_UNIX": "AF_UNIX",
    "RestrictAddressFamilies=~AF_NETLINK": "AF_NETLINK",
    "RootDirectory=/RootImage=": "RootDirectory, RootImage",
}
"""How systemd-analyze calls it, and what the unit's comment calls it where that differs."""


@pytest.fixture
def units(house: House, tmp_path: Path) -> Path:
    """The units in a folder, with a program in place of each that is not installed here."""
    for path in house.files:
        if path.startswith("systemd/") and path.endswith((".service", ".socket", ".timer")):
            text = house.texts[path].replace("/usr/bin/featurekey", "/usr/bin/true featurekey")
            (tmp_path / Path(path).name).write_text(text)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: ./dev test installs it")
    return program


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_has_nothing_to_say_about_the_units(analyze: str, units: Path) -> None:
    done = run(analyze, "verify", "--man=no", *sorted(units.iterdir()))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_word_that_systemd_does_not_know_would_be_seen(analyze: str, units: Path) -> None:
    unit = units / "featurekeyd.service"
    unit.write_text(unit.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in run(analyze, "verify", "--man=no", unit).stderr


def test_the_daemon_is_exposed_to_1_5_at_most(analyze: str, units: Path) -> None:
    unit = units / "featurekeyd.service"
    done = run(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout


def test_everything_that_is_switched_off_has_its_reason_in_the_unit(analyze: str, units: Path) -> None:
    unit = units / "featurekeyd.service"
    lines = run(analyze, "security", "--offline=true", "--no-pager", unit).stdout.splitlines()
    off = {line.split()[1] for line in lines if line.startswith("✗")}
    comments = " ".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    assert len(off) > 3
    assert [it for it in off if ALWAYS_OPEN.get(it, it.rstrip("=")) not in comments.replace("DevicePolicy", "")] == [
        it for it in off if it == "DeviceAllow="
    ], "DeviceAllow= lists what the unit's comment on PrivateDevices explains"


def test_the_daemon_has_no_user_namespace_and_no_network_family(house: House) -> None:
    unit = house.texts["systemd/featurekeyd.service"]
    assert "\nPrivateUsers=" not in unit
    assert re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE) == ["AF_UNIX AF_NETLINK"]


def test_the_driver_of_each_kind_of_device_is_loaded_before_the_daemon(house: House) -> None:
    unit = house.texts["systemd/featurekeyd.service"]
    kinds = re.findall(r"^DeviceAllow=char-(\S+) rw$", unit, re.MULTILINE)
    wanted = {f"modprobe@{DRIVERS[kind]}.service" for kind in kinds}
    for directive in ("Wants", "After"):
        (line,) = re.findall(rf"^{directive}=(modprobe@.*)$", unit, re.MULTILINE)
        assert set(line.split()) == wanted, directive


def test_each_credential_is_one_that_is_read_and_has_a_default(house: House) -> None:
    unit = house.texts["systemd/featurekeyd.service"]
    loaded = {path: name for name, path in re.findall(r"^LoadCredential=(.+?):(.+)$", unit, re.MULTILINE)}
    defaults = dict(re.findall(r"^SetCredential=(.+?):(.+)$", unit, re.MULTILINE))
    assert loaded == {f"/run/featurekeyd-identifiers/{name}": name for name in CREDENTIALS.values()}
    assert defaults == dict.fromkeys(loaded.values(), NO_CREDENTIAL.decode())


def test_each_credential_is_copied_where_it_can_be_read_and_else_is_not_there(house: House) -> None:
    unit = house.texts["systemd/featurekeyd-identifiers.service"]
    copied = re.findall(r"^ExecStart=-/bin/sh -c 'cat (\S+) >part && mv part (\S+)'$", unit, re.MULTILINE)
    assert dict(copied) == CREDENTIALS
    assert unit.count("\nExec") == len(copied), "a command that may fail keeps nothing from being started"
    daemon = house.texts["systemd/featurekeyd.service"]
    assert "\nWants=featurekeyd-identifiers.service\nAfter=featurekeyd-identifiers.service\n" in daemon


def test_the_udev_rules_name_the_keys_that_are_known(house: House) -> None:
    rules = house.texts["systemd/70-featurekeyd.rules"].replace("\\\n", "")
    (line,) = [line for line in rules.splitlines() if 'GROUP="featurekeyd"' in line]
    (products,) = re.findall(r'ATTR\{idProduct\}=="([^"]+)"', line)
    assert f'ATTR{{idVendor}}=="{VENDOR:04x}"' in line
    assert {int(product, 16) for product in products.split("|")} == PRODUCTS


def test_every_udev_rule_is_made_of_assignments_and_matches(house: House) -> None:
    rules = house.texts["systemd/70-featurekeyd.rules"].replace("\\\n", "")
    part = r'[A-Z]+(?:\{\w+\})?(?:==|!=|\+=|:=|=)"[^"]*"'
    lines = [line for line in rules.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(rf"{part}(?:,\s*{part})*", line)] == []
    assert len(lines) > 8


def test_the_rule_in_the_docs_leaves_an_adapter_wholly_as_it_was(house: House) -> None:
    (own,) = re.findall(r'^    SUBSYSTEM=="(\S+)", .*NO_READER\}="1"$', house.texts["docs/installing.md"], re.MULTILINE)
    rules = house.texts["systemd/70-featurekeyd.rules"].replace("\\\n", "")
    _, way_out, behind = rules.partition('ENV{FEATUREKEYD_NO_READER}=="1", GOTO="featurekeyd_end"\n')
    lines = [line for line in behind.splitlines() if line and not line.startswith(("#", "LABEL"))]
    matched = {name for line in lines for name in re.findall(r'^SUBSYSTEM=="(\S+)",', line) or ["any"]}
    assert way_out
    assert matched == set(own.split("|"))
    assert "ID_MM" not in rules.partition(way_out)[0]
