"""License lists: signed, numbered upwards, with every key of the serial."""

from __future__ import annotations

import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.issuer import signedlist
from featurekeyd.policy.licenselist import LicenseList, read_list
from featurekeyd.policy.request_text import Request, request_text

if TYPE_CHECKING:
    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk


@pytest.fixture
def serial(desk: Desk) -> str:
    return desk.certified()


def listed(desk: Desk, serial: str) -> LicenseList:
    return read_list(desk.run("list", serial).stdout, desk.keys())


def test_a_list_has_every_key_with_its_name_and_state(desk: Desk, serial: str) -> None:
    first, second = desk.issued(serial, "sip-trunk-channels:8", "softconsole")
    desk.run("revoke", serial, second)
    licenses = listed(desk, serial)
    assert (licenses.serial, licenses.catalog, licenses.date) == (serial, "ip-office", desk.today)
    assert [(entry.key.text, entry.name, entry.revoked) for entry in licenses.entries] == [
        (first, "SIP Trunk Channels", False),
        (second, "SoftConsole", True),
    ]


def test_the_number_only_advances_even_when_nothing_changed(desk: Desk, register: Register, serial: str) -> None:
    assert [listed(desk, serial).number for _ in range(3)] == [1, 2, 3]
    desk.run("list", "110000000001", code=1)
    assert listed(desk, serial).number == 4
    assert [row.number for row in register.lists(serial)] == [1, 2, 3, 4]


def test_each_serial_has_numbers_of_its_own(desk: Desk, serial: str, card: Request) -> None:
    listed(desk, serial)
    other = desk.certified(msgspec.structs.replace(card, hardware_id="00" * 15))
    assert listed(desk, other).number == 1


def test_a_list_says_the_issue_day_of_each_trial(desk: Desk, serial: str) -> None:
    desk.issued(serial, "softconsole", "--term", "trial", "--date", "2026-01-15")
    desk.issued(serial, "softconsole", "--term", "month", "--date", "2026-01-20")
    desk.issued(serial, "sip-trunk-channels", "--term", "trial")
    assert listed(desk, serial).trials == {30: datetime.date(2026, 1, 15), 10: desk.today}


def test_a_system_without_keys_has_an_empty_list(desk: Desk, serial: str) -> None:
    assert listed(desk, serial).entries == ()


def test_keys_for_an_earlier_catalog_are_left_out_and_counted(desk: Desk, serial: str, card: Request) -> None:
    desk.issued(serial, "softconsole", "sip-trunk-channels")
    shipped = (files("featurekeyd.policy") / "catalogs" / "ip-office.toml").read_text()
    file = desk.place / "other.toml"
    file.write_text(shipped.replace('id = "ip-office"', 'id = "other"', 1))
    moved = msgspec.structs.replace(card, catalog="other")
    (desk.place / "request").write_text(request_text(moved))
    desk.run("certify", desk.place / "request", "--catalog", file, "--output", desk.place / "certificate")
    (key,) = desk.issued(serial, "softconsole", "--catalog", file)
    result = desk.run("list", serial)
    licenses = read_list(result.stdout, desk.keys())
    assert (licenses.catalog, [entry.key.text for entry in licenses.entries]) == ("other", [key])
    assert "2 keys for an earlier catalog are not on it" in result.stderr


def test_a_list_that_no_host_would_read_is_refused(
    desk: Desk, register: Register, serial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.issued(serial, "softconsole", "sip-trunk-channels")
    monkeypatch.setattr(signedlist, "MAX_KEYS", 1)
    assert "has 2 keys, and a list takes 1" in desk.run("list", serial, code=1).stderr
    assert register.lists(serial) == []


def test_a_list_goes_to_a_new_file_and_a_refusal_uses_up_no_number(desk: Desk, register: Register, serial: str) -> None:
    output = desk.place / "list.txt"
    said = desk.run("list", serial, "--output", output).stderr
    assert f"List 1 of {serial}: 0 keys, 0 of them revoked." in said
    assert read_list(output.read_text(), desk.keys()).number == 1
    assert "is not overwritten" in desk.run("list", serial, "--output", output, code=1).stderr
    assert len(register.lists(serial)) == 1
