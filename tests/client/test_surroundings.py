"""What doctor sees of this host without the daemon: its socket, who may ask, who has the reader, what systemd says."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import surroundings
from featurekeyd.client.faults import Fault, Severity
from featurekeyd.client.surroundings import (
    Access,
    ProcessSeen,
    access_of,
    agi_faults,
    group_faults,
    port_faults,
    processes,
    socket_faults,
    unit_faults,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def names(faults: Iterable[Fault]) -> list[str]:
    return [fault.name for fault in faults]


def test_a_socket_that_was_removed_under_a_running_daemon_is_not_taken_for_a_daemon_that_was_not_started(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.unlink()
        (fault,) = socket_faults(str(path))
    assert (fault.name, "restart" in fault.cure) == ("socket_removed", True)
    assert names(socket_faults(str(path))) == ["socket_missing"]
    assert names(socket_faults(str(path), tmp_path)) == ["socket_missing"]  # where nothing can be seen


def test_a_socket_that_is_missing_no_socket_closed_or_deserted_is_told_apart(tmp_path: Path) -> None:
    assert names(socket_faults(str(tmp_path / "none"))) == ["socket_missing"]
    (tmp_path / "file").write_text("")
    assert names(socket_faults(str(tmp_path / "file"))) == ["socket_replaced"]
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        assert names(socket_faults(str(path))) == ["daemon_away"]
        listening.listen()
        assert names(socket_faults(str(path))) == []
        path.chmod(0o660)
        assert names(socket_faults(str(path))) == ["socket_closed"]


def process(number: int, name: str, uid: int, *groups: int) -> ProcessSeen:
    return ProcessSeen(number, name, uid, frozenset(groups))


ALLOWED = Access(frozenset(), frozenset({900}))


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users kamailio and asterisk, and a group featurekey that kamailio is in."""
    numbers = {"kamailio": 101, "asterisk": 102}
    names_of = {number: name for name, number in numbers.items()}
    group = grp.struct_group(("featurekey", "x", 900, ["kamailio"]))

    def getpwuid(number: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((names_of[number], "x", number, number, "", "/", "/bin/false"))

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.setattr("grp.getgrnam", {"featurekey": group}.__getitem__)
    monkeypatch.setattr("grp.getgrgid", {900: group}.__getitem__)


@pytest.mark.usefixtures("accounts")
def test_a_switch_whose_user_may_not_ask_is_named() -> None:
    (fault,) = group_faults([process(7, "asterisk", 102, 102)], ALLOWED)
    assert (fault.name, fault.severity) == ("user_not_in_group", Severity.FAULT)
    assert "adduser asterisk featurekey" in fault.cure


@pytest.mark.usefixtures("accounts")
def test_a_service_that_was_started_before_its_user_was_in_the_group_is_named() -> None:
    (fault,) = group_faults([process(7, "kamailio", 101, 101)], ALLOWED)
    assert fault.name == "service_not_restarted"
    assert "process 7" in fault.what


@pytest.mark.usefixtures("accounts")
def test_a_service_in_the_group_and_users_without_a_process_are_no_fault() -> None:
    seen = [process(7, "kamailio", 101, 101, 900), process(8, "asterisk", 102, 900), process(9, "opensips", 0)]
    assert names(group_faults(seen, ALLOWED)) == []
    assert names(group_faults([], ALLOWED)) == []


@pytest.mark.usefixtures("accounts")
def test_who_may_ask_by_the_settings_is_no_fault_whatever_its_groups() -> None:
    settings = access_of({"ask_users": [102], "ask_groups": [800]})
    seen = [process(7, "asterisk", 102, 102), process(8, "kamailio", 101, 800), process(9, "opensips", 103, 103)]
    (fault,) = group_faults(seen, settings)
    assert (fault.name, fault.what.split()[0]) == ("user_not_in_group", "opensips")


@pytest.mark.usefixtures("accounts")
def test_asterisk_asks_nothing_itself_where_our_program_asks_for_it() -> None:
    seen = [process(7, "asterisk", 102, 102), process(8, "featurekey-agi", 103, 900)]
    assert names(group_faults(seen, ALLOWED)) == []
    assert names(group_faults([seen[0], process(8, "featurekey-agi", 101, 101)], ALLOWED)) == ["service_not_restarted"]


@pytest.mark.usefixtures("accounts")
def test_other_processes_of_the_user_of_a_switch_are_not_judged() -> None:
    assert names(group_faults([process(7, "bash", 102, 102), process(8, "cron", 101, 101)], ALLOWED)) == []


@pytest.mark.usefixtures("accounts")
def test_where_the_daemon_does_not_tell_who_may_ask_it_is_a_warning() -> None:
    (fault,) = group_faults([process(7, "asterisk", 102, 102)], access_of(None))
    assert (fault.name, fault.severity) == ("user_not_in_group", Severity.WARNING)


@pytest.mark.usefixtures("accounts")
def test_a_host_without_the_group_is_told_unless_others_may_ask() -> None:
    assert names(group_faults([], None)) == []
    assert names(group_faults([], None, group="none")) == ["group_missing"]
    assert names(group_faults([], Access(frozenset(), frozenset()), group="none")) == ["group_missing"]
    assert names(group_faults([], Access(frozenset({102}), frozenset()), group="none")) == []


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A root with a serial port that is none, and a process that has it open."""
    folder = tmp_path / "proc/42"
    (folder / "fd").mkdir(parents=True)
    (folder / "status").write_text("Name:\tModemManager\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 20\n")
    (tmp_path / "ttyUSB0").write_text("")
    (folder / "fd/7").symlink_to(tmp_path / "ttyUSB0")
    (tmp_path / "proc/43").mkdir()
    return tmp_path


def test_processes_are_read_and_those_that_are_gone_left_out(host: Path) -> None:
    assert list(processes(host)) == [process(42, "ModemManager", 0, 0, 20)]


def test_a_program_that_holds_the_port_of_the_reader_is_named(host: Path) -> None:
    reader = f"serial:{host}/ttyUSB0"
    assert names(port_faults(reader, list(processes(host)), 990, host)) == ["port_held"]
    assert names(port_faults(reader, list(processes(host)), 0, host)) == ["modem_manager"]
    assert names(port_faults("slot", list(processes(host)), 990, host)) == []


@pytest.mark.parametrize("mark", ["ID_MM_PORT_IGNORE", "ID_MM_DEVICE_IGNORE"])
def test_a_modem_manager_that_is_kept_away_is_no_fault(host: Path, mark: str) -> None:
    (host / "proc/42/fd/7").unlink()
    reader, seen = f"serial:{host}/ttyUSB0", list(processes(host))
    assert names(port_faults(reader, seen, 990, host)) == ["modem_manager"]
    number = (host / "ttyUSB0").stat().st_rdev
    record = host / "run/udev/data" / f"c{os.major(number)}:{os.minor(number)}"
    record.parent.mkdir(parents=True)
    record.write_text(f"E:ID_BUS=usb\nE:{mark}=1\n")
    assert names(port_faults(reader, seen, 990, host)) == []


def test_a_daemon_whose_settings_are_bad_is_told_with_what_it_says_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "featurekeyd"
    said = "featurekeyd: the settings cannot be used:\\nproduct.platform: is missing"
    program.write_text(f"#!/bin/sh\nprintf '{said}' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    fault = next(iter(unit_faults()))
    assert (fault.name, fault.cause) == ("settings_bad", "product.platform: is missing")


def test_settings_that_this_user_may_not_read_are_not_called_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "featurekeyd"
    program.write_text("#!/bin/sh\necho cannot be read >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    settings = tmp_path / "featurekeyd.toml"
    settings.write_text("")
    assert "settings_bad" in names(unit_faults(settings=settings))

    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "settings_bad" not in names(unit_faults(settings=settings))


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("LoadState=loaded\nActiveState=active\nUnitFileState=enabled", []),
        (
            "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nUnitFileState=disabled",
            ["agi_down"],
        ),
        ("LoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=enabled", ["agi_down"]),
        ("LoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=disabled", []),
        ("LoadState=not-found\nActiveState=inactive", []),
    ],
)
def test_the_program_that_asks_for_asterisk_is_looked_at_where_it_is_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, found: list[str]
) -> None:
    for name, text in (("systemctl", told), ("journalctl", "ami.secret_file is not there")):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert names(agi_faults(tmp_path)) == [], "without systemd there are no units"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    faults = list(agi_faults(tmp_path))
    assert names(faults) == found
    assert all("ami.secret_file is not there" in fault.cause for fault in faults)


def test_a_command_that_is_not_there_or_hangs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "COMMAND_SECONDS", 0.05)
    assert surroundings.command("no-such-program-anywhere") is None
    assert surroundings.command("sh", "-c", "while :; do :; done") is None
