"""A vendor at a desk: a folder, a clock that stands still, and the command line in this process."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from featurekeyd.hwio import simulated_usbkey
from featurekeyd.issuer.command import Office, main
from featurekeyd.issuer.register import Register
from featurekeyd.issuer.vendor import Vendor, create_vendor, open_vendor
from featurekeyd.policy.request_text import Request, request_text
from featurekeyd.policy.signedtext import VendorKeys

CARD = Request(
    kind="sd-card",
    hardware_id="035344535530384780deadbeef0136",
    assurance="A1",
    reader="serial:/dev/ttyUSB0",
    simulated=False,
    catalog="ip-office",
    platform="ip500-v2",
    version="0.1.0",
)
USB = Request(
    kind="usb-otp",
    hardware_id="7654321",
    assurance="A2",
    reader="usb:1-4",
    simulated=True,
    catalog="ip-office",
    platform="ip500-v2",
    version="0.1.0",
)


SETS = """
[sets.test-pair]
title = "A pair for tests"
source = "these tests"
adds = { sip-trunk-channels = 4, softconsole = 2 }
"""


def shipped_catalog() -> str:
    """The text of the catalog of IP Office."""
    return (files("featurekeyd.policy") / "catalogs" / "ip-office.toml").read_text(encoding="utf-8")


def runner() -> CliRunner:
    """A runner that keeps standard error apart, as click 8.1 does only where it is told to."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        return CliRunner(**cast("dict[str, Any]", {"mix_stderr": False}))
    return CliRunner()


class Desk:
    """Runs featurekey-issue on one vendor folder; `today` may be moved."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "vendor"
        self.today = datetime.date(2026, 1, 31)
        create_vendor(self.folder, None)

    def run(self, *arguments: object, stdin: str = "", code: int = 0) -> Result:
        """One command; fails the test when it ends with another code than expected."""
        words = ["--vendor", str(self.folder), *map(str, arguments)]
        office = Office(today=lambda: self.today, time=lambda: self.time)
        result = runner().invoke(main, words, input=stdin, obj=office)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    @property
    def time(self) -> datetime.datetime:
        """Noon of that day."""
        return datetime.datetime.combine(self.today, datetime.time(12), datetime.UTC)

    def vendor(self) -> Vendor:
        return open_vendor(self.folder, lambda: b"")

    def keys(self) -> VendorKeys:
        vendor = self.vendor()
        return {vendor.signer: vendor.public_key}

    def certified(self, request: Request = CARD) -> str:
        """The serial of a freshly certified system."""
        said = self.run("certify", "-", stdin=request_text(request)).stderr
        return said.partition("Serial ")[2][:12]

    def issued(self, *arguments: object) -> list[str]:
        """The keys that an order gave."""
        return [line.partition(",")[0] for line in self.run("issue", *arguments).stdout.splitlines()[1:]]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def register(desk: Desk) -> Iterator[Register]:
    opened = Register.open(desk.vendor().register_path)
    yield opened
    opened.close()


@pytest.fixture
def card() -> Request:
    return CARD


@pytest.fixture
def usb() -> Request:
    return USB


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """The shipped catalog with one set more: 4 trunks and 2 SoftConsoles."""
    file = tmp_path / "with-a-pair.toml"
    file.write_text(shipped_catalog() + SETS, encoding="utf-8")
    return file


@pytest.fixture
def other_catalog(tmp_path: Path) -> Path:
    """The shipped catalog under another id."""
    file = tmp_path / "other.toml"
    file.write_text(shipped_catalog().replace('id = "ip-office"', 'id = "other"', 1), encoding="utf-8")
    return file


@pytest.fixture
def usb_state(tmp_path: Path) -> Path:
    """The state file of a simulated USB key with two empty slots and the serial 7654321."""
    state = tmp_path / "usb-key"
    simulated_usbkey.create(state)
    return state
