"""The status line, and notices that nobody waits for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.notices import Notices, StatusLine, notice_socket
from featurekeyd.policy.presence import Sighting

if TYPE_CHECKING:
    from tests.daemon.conftest import House


def test_the_line_tells_standing_key_licenses_and_counts(house: House) -> None:
    house.licensed(house.vendor.key(), house.vendor.key(code=1, instances=1))
    house.site.granted, house.site.denied = 12, 3
    line = str(StatusLine(house.site))
    assert line == "licensed, Feature Key present; 2 licenses, 0 leases, 12 granted, 3 denied"


def test_the_line_tells_the_time_that_is_left_and_what_is_only_simulated(house: House) -> None:
    house.licensed(house.vendor.key())
    house.enforcer.see(Sighting(state="absent", finding="nothing there", reader="slot"), house.clock())
    line = str(StatusLine(house.site))
    assert line.startswith("grace, Feature Key absent; feature_key_absent: ")
    assert " left; 1 licenses" in line


def test_licenses_are_counted_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.licensed(house.vendor.key())
    line = StatusLine(house.site)
    first = str(line)
    monkeypatch.setattr(type(house.enforcer.licenses), "keys", None)
    assert str(line) == first


def test_a_socket_in_the_abstract_namespace_is_reached(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"featurekeyd-test-{tmp_path}"
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        notices = Notices(f"@{name}")
        notices.tell("READY=1", status="well")
        assert listening.recv(100) == b"READY=1\nSTATUS=well"
        notices.close()


def test_nobody_who_listens_is_no_failure(tmp_path: Path) -> None:
    Notices(str(tmp_path / "nobody")).tell("WATCHDOG=1", status="well")
    Notices("").tell("WATCHDOG=1")


def test_a_status_that_was_not_heard_is_told_again(tmp_path: Path) -> None:
    notices = Notices(str(tmp_path / "notify"))
    notices.tell(status="well")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        notices.tell(status="well")
        assert listening.recv(100) == b"STATUS=well"
        notices.close()


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert notice_socket() == "/run/systemd/notify"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert notice_socket() == ""
