"""A PBX host with a real systemd, a simulated reader behind its serial device, and a vendor outside."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rig_nspawn import Container

import rig
from rig_process import Ran, RigFailure

SERVICE = "featurekeyd.service"
SOCKET = "featurekeyd.socket"
IDENTIFIERS = "featurekeyd-identifiers.service"
SETTINGS = "/etc/featurekeyd/featurekeyd.toml"
READER = "/dev/ttyUSB0"
MEMBER, TECHNICIAN, STRANGER = "member", "technician", "stranger"
"""Users of the host: in the group that may ask, in the group that may manage, in none."""

DIALOUT = 20
"""Number of the group of serial ports on every Debian (base-passwd)."""

INSTALLING = 120.0
"""Seconds in which packages must be installed or removed."""

WATCHDOG_SECONDS = 10
"""The test's own WatchdogSec: nobody waits for the 20 s of the unit, and a loaded machine is no daemon that hangs."""

_DROP_IN = f"""
[Service]
# The simulated reader is a pseudo-terminal.
DeviceAllow=char-pts rw
WatchdogSec={WATCHDOG_SECONDS}s
"""

_SITE = f"""
[product]
catalog = "ip-office"
platform = "ip500-v2"

[feature_key]
reader = "serial:{READER}"
poll_seconds = 0.5
"""


@dataclass
class Host:
    """The host, its card and its vendor."""

    container: Container
    simulator: rig.Simulator
    vendor: rig.Vendor
    figures: dict[str, str] = field(default_factory=dict)
    """What was measured on the way."""

    # The package

    def install(self, packages: Sequence[Path]) -> str:
        """Install packages by apt, as an administrator does; what it said."""
        folder = self.container.root / "packages"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for package in packages:
            shutil.copy(package, folder)
        names = [f"/packages/{package.name}" for package in packages]
        return self.container.do("apt-get", "install", "-q", "-y", *names, seconds=INSTALLING)

    def installed(self, package: str) -> str:
        """Status and version of a package, as dpkg has them; empty where it never was there."""
        return self.container.run("dpkg-query", "-W", "-f=${Status} ${Version}", package).out

    # The daemon

    @property
    def pid(self) -> int:
        """Process id of the daemon as the container has it, 0 while it does not run."""
        return int(self.container.shows(SERVICE, "MainPID"))

    @property
    def status_line(self) -> str:
        """What `systemctl status` shows as the status."""
        return self.container.shows(SERVICE, "StatusText")

    def wait_for_another(self, before: int) -> int:
        """Wait for a daemon that is another process than before and has said READY; its id."""
        self.container.wait_until(lambda: self.pid not in {0, before} and self.is_active(), "no new daemon is ready")
        return self.pid

    def is_active(self) -> bool:
        """Whether the service is ready, as systemd has it."""
        return self.container.shows(SERVICE, "ActiveState") == "active"

    def write_settings(self, more: str = "") -> None:
        """Write the site's settings, which name the reader."""
        self.container.put(SETTINGS, _SITE + more)

    # Asking it

    def ctl(self, *arguments: str, user: str = "", text: str = "") -> Ran:
        """Run featurekeyctl inside, as root or as a user."""
        return self.container.run("featurekeyctl", *arguments, user=user, text=text)

    def status(self) -> dict[str, Any]:
        """The state of the system, as featurekeyctl tells it to programs."""
        return cast("dict[str, Any]", json.loads(self._told("status", "--json")))

    def host(self) -> dict[str, Any]:
        """What the daemon has found of the host."""
        return cast("dict[str, Any]", json.loads(self._told("host", "--json")))

    def keys(self) -> set[str]:
        """The keys of all leases."""
        return {lease["key"] for lease in json.loads(self._told("leases", "--json"))["leases"]}

    def signal(self, number: int) -> None:
        """Send the daemon a signal, as root inside does."""
        self.container.do("sh", "-c", f"kill -{number} {self.pid}")

    def call(self, key: str, user: str = MEMBER, *more: str) -> Ran:
        """Take a channel for a call, and leave it taken."""
        return self.ctl("acquire", "sip-trunk-channels", "--holder", "pbx", "--key", key, *more, user=user)

    def asks(self, key: str, port: str) -> int:
        """What such a call would be told, without taking anything: the exit status."""
        words = ("explain", "sip-trunk-channels", "--holder", "pbx", "--key", key, "--port", port)
        return self.ctl(*words, user=MEMBER).status

    def license(self, *orders: str) -> str:
        """Go the way of a new host: request, certificate, license list; the serial."""
        request = self._told("request")
        certificate = self.vendor.certify(request)
        self.container.do("featurekeyctl", "certificate", "import", "-", text=certificate)
        serial = next(line.partition(": ")[2] for line in certificate.splitlines() if line.startswith("Serial: "))
        self.vendor.issue(serial, *orders)
        self.container.do("featurekeyctl", "import", "-", text=self.vendor.license_list(serial))
        return serial

    def _told(self, *arguments: str) -> str:
        ran = self.ctl(*arguments)
        if ran.status:
            raise RigFailure(f"featurekeyctl {' '.join(arguments)}: {ran.err}\n{self.container.journal()}")
        return ran.out


@contextlib.contextmanager
def new_host(archive: Path, folder: Path) -> Iterator[Host]:
    """A booted host without the package, whose vendor's key is in place and whose reader is plugged in."""
    with contextlib.ExitStack() as stack:
        vendor = rig.Vendor(folder / "vendor")
        simulator = stack.enter_context(rig.Simulator.sd_serial(folder / "card"))
        port = (folder / "card").resolve()
        shutil.chown(port, 0, DIALOUT)
        port.chmod(0o660)
        container = stack.enter_context(Container(archive, folder))
        container.binds.append((str(port), READER))
        container.boot()
        host = Host(container, simulator, vendor)
        container.put("/usr/share/featurekeyd/vendor/vendor.pub", (vendor.public / "vendor.pub").read_text())
        container.put(f"/etc/systemd/system/{SERVICE}.d/test.conf", _DROP_IN)
        yield host


def add_users(host: Host) -> None:
    """Add the users of the host; the package has made the groups."""
    for name, groups in ((MEMBER, "featurekey"), (TECHNICIAN, "featurekey-admin"), (STRANGER, "")):
        host.container.do("useradd", "--create-home", *(("--groups", groups) if groups else ()), name)
