"""The command: what it says when it cannot start, from when on it answers, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from featurekeyd.daemon import clock, keywatch, site
from featurekeyd.daemon import main as module
from featurekeyd.daemon.leasefile import LeaseFile
from featurekeyd.daemon.main import main
from featurekeyd.daemon.peer import Access
from featurekeyd.daemon.settings import Settings
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.daemon.version import VERSION
from featurekeyd.hwio.featurekey import Absent
from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.system import System

if TYPE_CHECKING:
    from tests.daemon.conftest import Vendor

DEADLINE = 20

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: its exit status, what it printed, and what it said on standard error."""
    # The command leaves its loop to the end of the process, which a test does not have.

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["featurekeyd", *map(str, arguments)])
        try:
            status = main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return run


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Path]:
    """Writes a settings file with all paths in the test's own folder."""

    def write(catalog: str = "ip-office", platform: str = "ip500-v2", more: str = "", **paths: object) -> Path:
        places = {"socket": tmp_path / "socket", "runtime": tmp_path / "run", "state": tmp_path / "state", **paths}
        lines = [f'{name} = "{place}"' for name, place in {**places, "vendor_keys": tmp_path}.items()]
        path = tmp_path / "site.toml"
        product = f'[product]\ncatalog = "{catalog}"\nplatform = "{platform}"\n'
        reader = f'[feature_key]\nreader = "slot:{tmp_path}"\n'
        path.write_text("\n".join([product, reader, more, "[paths]", *lines]))
        return path

    return write


def test_good_settings_are_checked_without_a_word(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    assert run("--settings", settings(), "--check") == (0, "", "")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["site.toml"]


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"featurekeyd {VERSION}\n", "")


@pytest.mark.parametrize("arguments", [["--color"], ["start"], ["--settings"], ["--check=yes"]])
def test_wrong_usage_has_its_own_exit_status(arguments: list[str], run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: featurekeyd")


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_catalog_that_is_not_shipped_is_named_by_its_key(
    check: list[str], run: Run, settings: Callable[..., Path]
) -> None:
    path = settings(catalog="../ip-office")
    status, _, err = run("--settings", path, *check)
    assert status == 1
    assert f"{path}: product.catalog: there is no catalog '../ip-office'; shipped are " in err
    assert "ip-office" in err.partition("shipped are ")[2]


def test_a_platform_that_the_catalog_has_not_is_named_by_its_key(run: Run, settings: Callable[..., Path]) -> None:
    status, _, err = run("--settings", settings(platform="ip500-v9"), "--check")
    assert status == 1
    assert "product.platform: ip-office has no platform 'ip500-v9'; it has ip500" in err


def test_mistakes_in_the_settings_are_told_line_by_line(run: Run, settings: Callable[..., Path]) -> None:
    status, _, err = run("--settings", settings(more="[log]\ntarget = 1\n[ceilings]\na = -1"))
    assert status == 1
    assert err.startswith("featurekeyd cannot start: the settings cannot be used:\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()[1:]] == ["ceilings.a", "log.target"]


def test_a_settings_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert run("--settings", path) == (1, "", f"featurekeyd cannot start: {path}: No such file or directory\n")


def test_settings_that_are_a_folder_are_named(run: Run, tmp_path: Path) -> None:
    assert run("--settings", tmp_path) == (1, "", f"featurekeyd cannot start: {tmp_path}: Is a directory\n")


def test_a_folder_that_cannot_be_made_is_named(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("--settings", settings(state=tmp_path / "file" / "state"))
    assert (status, err) == (1, f"featurekeyd cannot start: {tmp_path / 'file' / 'state'}: Not a directory\n")


def test_under_systemd_the_journal_is_told_why_it_cannot_start(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Event] = []
    monkeypatch.setattr(module, "sink_for", lambda target: sent.append)
    assert run("--settings", tmp_path / "none.toml") == (1, "", "")
    (event,) = sent
    assert event.name is EventName.NOT_STARTED
    assert event.message == f"featurekeyd cannot start: {tmp_path / 'none.toml'}: No such file or directory"


@pytest.mark.parametrize("written", ["[log]\ntarget = 1\n", None])
def test_a_check_tells_standard_error_alone_what_is_wrong_because_nothing_fails_to_start(
    written: str | None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Event] = []
    monkeypatch.setattr(module, "sink_for", lambda target: sent.append)
    path = tmp_path / "site.toml"
    if written is not None:
        path.write_text(written)
    status, out, err = run("--settings", path, "--check")
    assert (status, out, sent) == (1, "", [])
    assert err.startswith("featurekeyd: ")
    assert ("log.target" if written else f"{path}: No such file or directory") in err
    assert "cannot start" not in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with another user's eyes")
@pytest.mark.parametrize(("account", "status"), [("nobody", 1), ("root", 0), ("no-such-account", 0)])
def test_a_check_by_root_tells_that_the_user_of_the_daemon_cannot_read_the_file(
    account: str, status: int, run: Run, settings: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings()
    path.chmod(0o600)
    monkeypatch.setattr(module, "ACCOUNT", account)
    monkeypatch.setattr(module, "DEFAULT_PATH", path)
    cure = f"cure: chmod a+r {path}, and a+x its directories"
    said = f"featurekeyd: {path}: the daemon runs as {account}, which cannot read it; {cure}\n"
    assert run("--settings", path, "--check") == (status, "", said if status else "")


def test_a_check_by_root_of_a_file_in_another_place_is_of_its_text_alone(
    run: Run, settings: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings()
    path.chmod(0o600)
    monkeypatch.setattr(module, "ACCOUNT", "nobody")
    assert run("--settings", path, "--check") == (0, "", "")


def test_where_the_journal_cannot_be_reached_standard_error_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Event) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(module, "sink_for", lambda target: fail)
    assert run("--settings", tmp_path) == (1, "", f"featurekeyd cannot start: {tmp_path}: Is a directory\n")


def test_a_socket_that_somebody_answers_is_told(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "socket"))
        other.listen()
        status, _, err = run("--settings", settings())
    assert status == 1
    assert "another process answers on" in err


def test_a_state_file_of_a_later_release_is_refused(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "featurekeyd.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    status, _, err = run("--settings", settings())
    assert status == 1
    assert str(path) in err
    assert "install that release again" in err


# Serving: with readers that are held by the test


class Service:
    """A daemon that runs in the loop of the test, on a real socket, with a reader that the test lets go."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> None:
        self.gate = threading.Event()
        self.opening = threading.Event()
        self.notes: list[str] = []
        self.told: list[Event] = []
        self.ready = asyncio.Event()
        access = Access(manage_users=frozenset({os.geteuid()}))
        self.settings = Settings(
            catalog="exchange",
            system=System(platform="large"),
            reader="slot",
            poll_seconds=60.0,
            access=access,
            rules=Rules(),
            socket=place / "socket",
            runtime=place / "run",
            state=place / "state",
            vendor_keys=place / "vendor",
            log_target="stderr",
        )
        self.catalog = catalog
        monkeypatch.setattr(keywatch, "open_feature_key", self._open)
        monkeypatch.setattr(keywatch, "CLOSE_SECONDS", 0.0)
        monkeypatch.setattr(module, "_notify", self._note)
        monkeypatch.setattr(module, "sink_for", lambda _: self.told.append)

    def run(self, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Serve until the conversation is over, then end by SIGTERM."""
        asyncio.run(asyncio.wait_for(self._run(conversation), DEADLINE))
        self.gate.set()

    async def _run(self, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        serving = asyncio.ensure_future(module._serve(self.settings, self.catalog, Path("unread.toml")))
        assert await asyncio.to_thread(self.opening.wait, DEADLINE)
        await conversation()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    async def ask(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The parameters of the reply to one call on a connection of its own."""
        reader, writer = await asyncio.open_unix_connection(self.settings.socket)
        call = {"method": f"io.featurekey.License.{name}", "parameters": parameters}
        writer.write(json.dumps(call).encode() + b"\0")
        answer: dict[str, Any] = json.loads((await reader.readuntil(b"\0"))[:-1])["parameters"]
        writer.close()
        await writer.wait_closed()
        return answer

    def names(self) -> list[EventName]:
        return [event.name for event in self.told]

    def _open(self, reader: str) -> Any:
        self.opening.set()
        assert self.gate.wait(DEADLINE)
        raise Absent(reader, "no card there")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        if text.startswith("READY=1"):
            self.ready.set()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> Service:
    return Service(tmp_path, monkeypatch, catalog)


LOOKING = "STATUS=looking for the Feature Key"
EMERGENCY = {"holder": "kamailio", "key": "sos", "wants": [{"feature": "trunk"}], "dialed": "112"}


def test_calls_are_answered_before_the_first_look_is_over(service: Service) -> None:
    async def talk() -> None:
        assert (await service.ask("Acquire", **EMERGENCY))["allowed"] is True
        assert (await service.ask("Status"))["feature_key"]["state"] == "not-looked-yet"
        assert service.notes == [LOOKING]
        service.gate.set()
        await service.ready.wait()
        assert (await service.ask("Status"))["feature_key"]["state"] == "absent"

    service.run(talk)
    assert [note.partition("\n")[0] for note in service.notes] == [LOOKING, "READY=1", "STOPPING=1"]
    assert [it for it in service.names() if it in {EventName.STARTED, EventName.STOPPED}] == ["started", "stopped"]


def test_a_reader_that_hangs_delays_ready_for_a_limited_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "LOOK_SECONDS", 0.01)

    async def talk() -> None:
        await service.ready.wait()
        assert (await service.ask("Status"))["feature_key"]["state"] == "hanging"

    service.run(talk)
    assert service.notes[1].startswith("READY=1\nSTATUS=deactivated, Feature Key hanging")


def test_the_end_is_obeyed_also_before_the_first_look_is_over(service: Service) -> None:
    async def nothing() -> None:
        """The daemon is told to end at once."""

    service.run(nothing)
    assert service.notes == [LOOKING, "STOPPING=1"]
    assert service.names() == [EventName.VENDOR_KEY_TROUBLE, EventName.STOPPED]


def test_connections_end_before_the_site_does(service: Service) -> None:
    """What was bound to them is freed while the lease file is still open, and nothing is granted behind it."""
    call = {"method": "io.featurekey.License.Acquire", "parameters": {**EMERGENCY, "bound": True}}

    def leases() -> list[Lease]:
        return LeaseFile(service.settings.runtime / "leases", clock.boot_id()).recover().leases

    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)

        async def talk() -> None:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, str(service.settings.socket))
            await loop.sock_sendall(client, json.dumps(call).encode() + b"\0")
            assert b'"allowed":true' in await loop.sock_recv(client, 4096)
            assert [lease.key for lease in leases()] == ["sos"]

        service.run(talk)
        assert leases() == []
        assert client.recv(1) == b""


def test_the_path_of_the_socket_stays_when_the_daemon_ends(service: Service) -> None:
    """It may be systemd's, which goes on listening on it and would not make it anew."""

    async def nothing() -> None:
        """The daemon is told to end at once."""

    service.run(nothing)
    assert service.settings.socket.is_socket()


def test_a_vendor_key_that_is_missing_or_damaged_is_told_once_with_its_cure(service: Service) -> None:
    async def nothing() -> None:
        """The daemon is told to end at once."""

    service.run(nothing)
    service.settings.vendor_keys.mkdir()
    (service.settings.vendor_keys / "vendor.pub").write_text("no key")
    service.run(nothing)
    missing, damaged = (it.message for it in service.told if it.name is EventName.VENDOR_KEY_TROUBLE)
    assert missing.startswith(f"There is no public key of the vendor in {service.settings.vendor_keys}: ")
    assert "vendor.pub is no public key" in damaged
    cure = "Install the vendor's public key (*.pub) there, then systemctl reload featurekeyd."
    assert all(told.endswith(cure) for told in (missing, damaged))
    assert all("stay believed" not in told for told in (missing, damaged))


def certified(service: Service, vendor: Vendor, drained: float = 0.0) -> None:
    """Leave the state of an earlier run that had a certificate, its key absent for that long."""
    settings = service.settings
    for folder in (settings.state, settings.vendor_keys):
        folder.mkdir()
    pem = vendor.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (settings.vendor_keys / "vendor.pub").write_bytes(pem)
    store = Store(settings.state / "featurekeyd.db")
    store.save_documents(Documents(certificate=vendor.certificate()))
    store.save_meters({"feature_key_absent": drained})
    store.close()


def first_steps(service: Service) -> str:
    """What the entry of the start says is next."""

    async def talk() -> None:
        service.gate.set()
        await service.ready.wait()

    service.run(talk)
    (told,) = (event.message for event in service.told if event.name is EventName.STARTED)
    return told.partition(". ")[2]


def test_a_new_host_is_told_what_to_do_first(service: Service) -> None:
    said = first_steps(service)
    assert said.startswith("No certificate is imported yet; next: featurekeyctl request --output request.txt, ")
    assert f"put the vendor's public key (*.pub) into {service.settings.vendor_keys}, then systemctl reload" in said


def test_without_the_vendors_key_a_certificate_that_is_stored_is_not_said_to_be_missing(
    service: Service, vendor: Vendor
) -> None:
    certified(service, vendor)
    (service.settings.vendor_keys / "vendor.pub").unlink()
    place = service.settings.vendor_keys
    assert first_steps(service) == (
        "The stored certificate is not believed without the vendor's public key; next: put the key (*.pub) into "
        f"{place}, then systemctl reload featurekeyd."
    )


def test_a_certificate_of_another_vendor_is_not_said_to_be_missing_either(service: Service, vendor: Vendor) -> None:
    certified(service, type(vendor)(seed=2))
    pem = vendor.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (service.settings.vendor_keys / "vendor.pub").write_bytes(pem)
    assert first_steps(service) == "The stored certificate is not believed; next: featurekeyctl doctor."


def test_cryptography_that_gives_wrong_answers_makes_nothing_signed_believed_and_lets_emergency_calls_pass(
    service: Service, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(service, vendor)
    monkeypatch.setattr(module, "self_test", lambda: ("Ed25519",))
    wants = [{"feature": "sip-trunk-channels"}]

    async def talk() -> None:
        service.gate.set()
        await service.ready.wait()
        assert (await service.ask("Status"))["standing"] == "deactivated"
        assert not (await service.ask("Acquire", holder="pbx", key="1", wants=wants))["allowed"]
        assert (await service.ask("Acquire", holder="pbx", key="2", wants=wants, dialed="112"))["allowed"]

    service.run(talk)
    (started,) = (event.message for event in service.told if event.name is EventName.STARTED)
    assert started.endswith("The stored certificate is not believed; next: featurekeyctl doctor.")
    told = [event.message for event in service.told if event.name is EventName.SELF_TEST_FAILED]
    assert told == ["The self-test failed (Ed25519): no license is believed until the program is whole again."]
    store = Store(service.settings.state / "featurekeyd.db")
    assert store.load()[0].certificate is not None
    store.close()


@pytest.mark.parametrize(("drained", "standing"), [(0.0, "licensed"), (60.0, "grace"), (7200.0, "deactivated")])
def test_what_had_drained_before_a_restart_stays_drained_until_the_first_look(
    drained: float, standing: str, service: Service, vendor: Vendor
) -> None:
    certified(service, vendor, drained)

    async def talk() -> None:
        assert (await service.ask("Status"))["standing"] == standing
        service.gate.set()
        await service.ready.wait()
        absent = "deactivated" if standing == "deactivated" else "grace"
        assert (await service.ask("Status"))["standing"] == absent

    service.run(talk)
