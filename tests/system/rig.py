"""The test bench: real processes of featurekeyd, its tools and its simulated Feature Keys, started and ended in order.

Rules of this module:

* Programs come from the environment of the running interpreter. Each process leads a group of its own and is ended by
  group; nothing is awaited without a deadline, and nothing sleeps.
* No fixed port or path. Sockets lie in a short temporary folder, because their paths have at most 107 bytes (unix(7)).
* It works outside pytest as well: what fails raises, with the log of the process in the text.
"""

from __future__ import annotations

import contextlib
import datetime
import inspect
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from click.testing import CliRunner

from featurekeyd.client.license import LicenseClient
from featurekeyd.issuer.command import Office
from featurekeyd.issuer.command import main as featurekey_issue
from featurekeyd.issuer.vendor import PUBLIC_KEY
from rig_process import DEADLINE, Lines, Process, Ran, RigFailure, environment, program, run
from rig_wire import Refused, Varlink, connect_as

__all__ = [
    "DEADLINE",
    "STRANGER",
    "Licensed",
    "Lines",
    "Process",
    "Ran",
    "Refused",
    "RigFailure",
    "Simulator",
    "Site",
    "Varlink",
    "Vendor",
    "Watcher",
    "environment",
    "licensed_site",
    "program",
    "run",
]

STRANGER = 54321
"""A user and group number that no host gives out and no settings name."""


class Watcher:
    """A connection that watches events."""

    def __init__(self, connection: Varlink, *, decisions: bool) -> None:
        self.connection = connection
        self._replies = connection.each("License.Watch", {"decisions": decisions})
        next(self._replies)

    def wait(self, kind: str, text: str = "") -> dict[str, Any]:
        """The next event of that kind whose message has the text; what comes before it is skipped."""
        for reply in self._replies:
            event = reply.get("event") or {}
            if event.get("kind") == kind and text in event["message"]:
                return cast("dict[str, Any]", event)
        raise RigFailure("the daemon ended the subscription")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


class Simulator:
    """A simulated Feature Key in a process of its own; `reader` is the text for the settings."""

    def __init__(self, reader: str, *arguments: str) -> None:
        self.reader = reader
        self.process = Process([program("featurekey-simulator"), *arguments])
        try:
            self.process.output.wait(bool)
        except RigFailure as failure:
            self.process.end()
            raise RigFailure(f"the simulator does not start:\n{self.process.errors}") from failure

    @classmethod
    def sd_serial(cls, link: Path, cid: str | None = None) -> Self:
        """An SD card behind a Bus Pirate on a pty; `link` is where its port will be."""
        return cls(f"serial:{link}", "sd-serial", "--link", str(link), *(("--cid", cid) if cid else ()))

    @classmethod
    def usb_otp(cls, state: Path, serial: int | None = None) -> Self:
        """A USB key whose memory is in the file `state`, made where there is none."""
        return cls(f"usb-simulator:{state}", "usb-otp", str(state), *(("--serial", str(serial)) if serial else ()))

    def tell(self, command: str) -> None:
        """Give a command, such as `unplug`, and wait until it is done; raises RigFailure when it is refused."""
        start = self.process.output.mark()
        self.process.write(command)
        answer = self.process.output.wait(lambda line: line == "ok" or line.startswith("error"), start)
        if answer != "ok":
            raise RigFailure(f"{command}: {answer}")

    def close(self) -> None:
        """Let it take its device down, by the end of its input."""
        if self.process.running:
            self.process.write("quit")
            self.process.wait()
        self.process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_ONE_RUN = threading.Lock()  # a run in this process takes its standard output


def _runner() -> CliRunner:
    """A runner that keeps standard error apart, as click 8.1 does only where it is told to."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        return CliRunner(**cast("dict[str, Any]", {"mix_stderr": False}))
    return CliRunner()


class Vendor:
    """The vendor's side: featurekey-issue on a folder of its own, run in this process."""

    def __init__(self, folder: Path, today: datetime.date | None = None) -> None:
        self.folder = folder
        self.today = today
        self._texts = 0
        self.public = folder / "public"
        """The folder with the public key, as hosts have it."""
        self.run("init")
        self.public.mkdir()
        shutil.copy(folder / PUBLIC_KEY, self.public)

    def run(self, *arguments: str, text: str = "") -> str:
        """Run featurekey-issue; its output. Raises RigFailure when it refuses."""
        today = self.today
        office = Office() if today is None else Office(today=lambda: today)
        command = ["--vendor", str(self.folder), *arguments]
        with _ONE_RUN:
            result = _runner().invoke(featurekey_issue, command, input=text, obj=office)
        if result.exit_code != 0:
            raise RigFailure(
                f"featurekey-issue {' '.join(arguments)}: {result.output}{result.stderr}"
            ) from result.exception
        return result.stdout

    def certify(self, request: str) -> str:
        """The certificate for a request."""
        return self._document("certify", "-", text=request)

    def program(self, state: Path) -> None:
        """Write this vendor's secret into a simulated USB key."""
        self.run("program", "--simulator", str(state))

    def issue(self, serial: str, *orders: str, term: str = "perpetual") -> list[str]:
        """New license keys for orders such as `sip-trunk-channels:8`, one for each."""
        rows = json.loads(self.run("issue", serial, *orders, "--term", term, "--json"))
        return [row["key"] for row in rows]

    def license_list(self, serial: str) -> str:
        """The next signed license list."""
        return self._document("list", serial)

    def _document(self, *arguments: str, text: str = "") -> str:
        self._texts += 1
        output = self.folder / f"document-{self._texts}.txt"
        self.run(*arguments, "--output", str(output), text=text)
        return output.read_text(encoding="utf-8")


class Site:
    """One host with its settings, its state and its daemon.

    A keyword names a table of the settings and gives keys of it that differ from the bench's own, for example
    `Site(folder, feature_key={"reader": "usb"}, ceilings={"trunk:carrier-a": 4})`.
    """

    def __init__(self, folder: Path, **tables: Mapping[str, object]) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.short = Path(tempfile.mkdtemp(prefix="fk-"))
        self.short.chmod(0o755)  # other users must reach the socket
        self.runtime = self.short / "run"
        self.socket = self.runtime / "sock"
        self.state = folder / "state"
        self.settings = folder / "featurekeyd.toml"
        self.log = Lines()
        self.daemon: Process | None = None
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(self.short / "notify"))
        self._ended: list[Process] = []
        self._tables: dict[str, dict[str, object]] = {}
        self._clients: list[LicenseClient] = []
        self.write_settings(
            product={"catalog": "ip-office", "platform": "ip500-v2"},
            feature_key={"reader": f"serial:{folder / 'no-such-port'}", "poll_seconds": 0.1},
            paths={
                "socket": str(self.socket),
                "runtime": str(self.runtime),
                "state": str(self.state),
                "vendor_keys": str(folder / "vendor" / "public"),
            },
            # Root manages anyway; without it the bench works too.
            access={"manage_users": [os.geteuid()]},
            log={"target": "stderr"},
        )
        self.write_settings(**tables)

    def write_settings(self, **tables: Mapping[str, object]) -> None:
        """Write the settings anew with these keys changed; they count from the next start on."""
        for name, keys in tables.items():
            self._tables.setdefault(name, {}).update(keys)
        text = "".join(_toml_table(name, keys) for name, keys in self._tables.items())
        self.settings.write_text(text, encoding="utf-8")

    # The daemon

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the daemon: where it tells that it is ready."""
        return environment(NOTIFY_SOCKET=str(self.short / "notify"))

    @property
    def command(self) -> list[str]:
        """The command that runs the daemon."""
        return [program("featurekeyd"), "--settings", str(self.settings)]

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self._running().pid

    def start(self) -> None:
        """Start the daemon and wait until it says that it is ready; raises RigFailure with its log otherwise."""
        self.spawn(self.command)
        self.wait_ready()

    def spawn(self, command: Sequence[str]) -> Process:
        """Start a command that is or becomes the daemon, without waiting for it."""
        self._forget_notices()
        self.daemon = Process(command, environ=self.environ, errors=self.log)
        self._ended.append(self.daemon)
        return self.daemon

    def wait_ready(self) -> None:
        """Wait for READY=1 (sd_notify(3)); raises RigFailure when the daemon ends instead, or at the deadline."""
        daemon = self._running()
        ended = os.pidfd_open(daemon.pid)
        deadline = time.monotonic() + DEADLINE
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                readable, _, _ = select.select([self._notified.fileno(), ended], [], [], left)
                if self._notified.fileno() in readable:
                    if b"READY=1" in self._notified.recv(4096).split(b"\n"):
                        return
                    continue
                status = daemon.end()
                raise RigFailure(f"the daemon is not ready (status {status}):\n{self.log}")
        finally:
            os.close(ended)

    def kill(self) -> None:
        """Kill the daemon with SIGKILL."""
        self._running().end()
        self.daemon = None

    def stop(self) -> int:
        """Ask the daemon to end with SIGTERM; its exit status."""
        daemon = self._running()
        daemon.signal(signal.SIGTERM)
        status = daemon.wait()
        daemon.end()
        self.daemon = None
        return status

    def restart(self) -> None:
        """Stop the daemon in order and start it again; raises RigFailure unless it ended with status 0."""
        status = self.stop()
        if status != 0:
            raise RigFailure(f"the daemon ended with status {status}:\n{self.log}")
        self.start()

    def run_daemon(self, *arguments: str) -> Ran:
        """Run the daemon where it is expected to end by itself."""
        return run(*self.command, *arguments, environ=self.environ)

    # Asking it

    def connect(self, seconds: float = DEADLINE) -> Varlink:
        """A new raw connection."""
        connected = socket.socket(socket.AF_UNIX)
        # Not settimeout: with that a full queue of connections is refused at once instead of waited for (unix(7)).
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(DEADLINE), 0))
        try:
            connected.connect(str(self.socket))
        except OSError:
            connected.close()
            raise
        return Varlink(connected, seconds)

    def connect_when_listening(self) -> Varlink:
        """A raw connection to a daemon that was only just spawned: as soon as it listens."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self.connect()
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                os.sched_yield()

    def connect_as(self, user: int, group: int | None = None, extra_groups: Sequence[int] = ()) -> Varlink:
        """A raw connection that another user has opened, as the kernel tells the daemon (needs root)."""
        return connect_as(self.socket, user, user if group is None else group, extra_groups)

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask on a connection of its own, for example `License.Status`; raises Refused."""
        with self.connect() as connection:
            return connection.call(method, parameters)

    def each(self, method: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All replies to a call with `more` that comes to an end; raises Refused."""
        with self.connect() as connection:
            return list(connection.each(method, parameters))

    def client(self, holder: str, seconds: float = 10.0) -> LicenseClient:
        """The Python client, with a time limit for loaded machines; closed with the site."""
        client = LicenseClient(holder, str(self.socket), seconds)
        self._clients.append(client)
        return client

    def ctl(
        self,
        *arguments: str,
        text: str = "",
        user: int | None = None,
        group: int | None = None,
        extra_groups: Sequence[int] | None = None,
    ) -> Ran:
        """Run featurekeyctl to its end."""
        command = (program("featurekeyctl"), "--socket", str(self.socket), *arguments)
        return run(*command, text=text, user=user, group=group, extra_groups=extra_groups)

    def start_ctl(self, *arguments: str) -> Process:
        """Start featurekeyctl and leave it running; a context manager that ends it."""
        return Process([program("featurekeyctl"), "--socket", str(self.socket), *arguments])

    def watch(self, *, decisions: bool = False) -> Watcher:
        """Watch events from now on; a context manager."""
        return Watcher(self.connect(), decisions=decisions)

    # What is asked often

    def status(self) -> dict[str, Any]:
        """The reply to Status."""
        return self.call("License.Status")

    def feature(self, name: str) -> dict[str, Any]:
        """One feature of ListFeatures."""
        features = self.call("License.ListFeatures")["features"]
        return next(cast("dict[str, Any]", it) for it in features if it["feature"] == name)

    def leases(self, **filters: str) -> list[dict[str, Any]]:
        """The leases."""
        return [it["lease"] for it in self.each("License.ListLeases", filters) if "lease" in it]

    def licenses(self) -> list[dict[str, Any]]:
        """The installed licenses."""
        return [it["license"] for it in self.each("Manage.ListLicenses") if "license" in it]

    def certify(self, vendor: Vendor) -> str:
        """Have the Feature Key that is there certified, and import the certificate; the serial."""
        text = vendor.certify(self.call("Manage.Request")["text"])
        self.accept(self.call("Manage.ImportCertificate", {"text": text})["finding"])
        return str(self.status()["serial"])

    def accept(self, *findings: dict[str, Any]) -> None:
        """Raise RigFailure unless every finding says that it was taken."""
        refused = [finding for finding in findings if not finding["accepted"]]
        if refused:
            raise RigFailure(f"not accepted: {refused}")

    def import_list(self, text: str) -> None:
        """Import a list that must be good."""
        self.accept(*self.call("Manage.ImportList", {"text": text})["findings"])

    # The end

    def close(self) -> None:
        """End what still runs and remove the short folder."""
        for client in self._clients:
            client.close()
        for process in self._ended:
            process.end()
        self._notified.close()
        shutil.rmtree(self.short, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()
        if kind is not None:
            print(f"log of the daemon:\n{self.log}", file=sys.stderr)

    def _running(self) -> Process:
        if self.daemon is None:
            raise RigFailure("the daemon is not running")
        return self.daemon

    def _forget_notices(self) -> None:
        self._notified.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notified.recv(4096)


def _toml_table(name: str, keys: Mapping[str, object]) -> str:
    lines = (f"{json.dumps(key)} = {_toml_value(value)}" for key, value in keys.items())
    return "\n".join([f"[{name}]", *lines, ""])


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(it)}" for key, it in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value)  # what JSON has for text and numbers is TOML too


@dataclass(frozen=True)
class Licensed:
    """A site with its Feature Key and its vendor, certified and licensed."""

    site: Site
    simulator: Simulator
    vendor: Vendor
    serial: str
    keys: list[str]
    """The license keys, in the order of the orders."""


@contextlib.contextmanager
def licensed_site(
    folder: Path,
    orders: Sequence[str] = ("sip-trunk-channels:8", "vcm-channels:30"),
    *,
    kind: str = "sd-serial",
    **tables: Mapping[str, object],
) -> Iterator[Licensed]:
    """A running daemon that went the whole way: key read, certified, license list imported.

    `kind` is `sd-serial` or `usb-otp`; other keywords are tables of the settings, as for Site.
    """
    vendor = Vendor(folder / "vendor")
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(_simulator(folder, kind, vendor))
        reader = {"reader": simulator.reader} | dict(tables.pop("feature_key", {}))
        site = stack.enter_context(Site(folder, feature_key=reader, **tables))
        site.start()
        serial = site.certify(vendor)
        keys = vendor.issue(serial, *orders) if orders else []
        if keys:
            site.import_list(vendor.license_list(serial))
        yield Licensed(site, simulator, vendor, serial, keys)


def _simulator(folder: Path, kind: str, vendor: Vendor) -> Simulator:
    if kind == "sd-serial":
        return Simulator.sd_serial(folder / "card")
    state = folder / "usb-key"
    simulator = Simulator.usb_otp(state)
    vendor.program(state)
    return simulator
