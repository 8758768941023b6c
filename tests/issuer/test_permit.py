"""Permits: for one serial and some days, by a number that only advances, all in the register."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.issuer.permit import MAX_DAYS, MAX_REASON, SHIPPED_DAYS, PermitOrder, make_permit
from featurekeyd.issuer.refusal import Refused
from featurekeyd.issuer.register import PermitRow, Register
from featurekeyd.policy.permit import MAX_NUMBER, MayChange, Permit, read_permit
from featurekeyd.policy.request_text import Request, request_text

if TYPE_CHECKING:
    from tests.issuer.conftest import Desk

HERE = "ab" * 32


@pytest.fixture
def serial(desk: Desk) -> str:
    return desk.certified()


@pytest.fixture
def host_serial(desk: Desk, card: Request) -> str:
    host = msgspec.structs.replace(card, kind="host", hardware_id="cd" * 32, assurance="A0", catalog="ayrix")
    return desk.certified(msgspec.structs.replace(host, platform="server"))


def permitted(desk: Desk, *words: object) -> Permit:
    return read_permit(desk.run("permit", *words).stdout, desk.keys())


def test_a_permit_says_what_may_change_and_until_when(desk: Desk, serial: str) -> None:
    assert permitted(desk, serial, "addresses", "hardware", "--host", HERE, "--days", 7) == Permit(
        serial=serial,
        number=1,
        may_change=(MayChange.HARDWARE, MayChange.ADDRESSES),
        issued=desk.today,
        until=desk.today + datetime.timedelta(days=7),
        hardware_id=HERE,
    )


def test_numbers_only_advance_and_everything_is_in_the_register(desk: Desk, serial: str, register: Register) -> None:
    first = permitted(desk, serial, "hardware", "--reason", "board burnt")
    second = permitted(desk, serial, "hardware")
    assert (first.number, second.number, first.hardware_id) == (1, 2, None)
    assert first.until == desk.today + datetime.timedelta(days=SHIPPED_DAYS)
    row, _ = register.permits(serial)
    assert isinstance(row, PermitRow)
    assert (row.may_change, row.reason, row.until, row.day) == ("hardware", "board burnt", first.until, desk.today)
    assert json.loads(desk.run("register", serial, "--json").stdout)["permits"] == 2


def test_the_office_is_told_for_whom_it_is_and_how_many_there_were(desk: Desk, serial: str) -> None:
    desk.run("permit", serial, "hardware")
    said = desk.run("permit", serial, "hardware", "--host", HERE).stderr
    assert f"Permit 2 of {serial}: hardware may change until 2026-02-14, for host {HERE}." in said
    assert f"{serial} had 1 before" in said


def test_a_permit_is_written_to_a_new_file_only(desk: Desk, serial: str, register: Register) -> None:
    file = desk.place / "permit.txt"
    desk.run("permit", serial, "hardware", "--output", file)
    assert read_permit(file.read_text(), desk.keys()).number == 1
    assert "exists already" in desk.run("permit", serial, "hardware", "--output", file, code=1).stderr
    assert len(register.permits(serial)) == 1


def test_a_system_without_feature_key_gets_one_for_a_named_host(desk: Desk, host_serial: str) -> None:
    refused = desk.run("permit", host_serial, "hardware", code=1).stderr
    assert "fits every copy of it" in refused
    assert "--host" in refused
    assert permitted(desk, host_serial, "hardware", "--host", HERE).hardware_id == HERE
    assert permitted(desk, host_serial, "hardware", "--any-host").hardware_id is None


def test_a_serial_that_was_exchanged_or_never_was_gets_none(desk: Desk, serial: str, card: Request) -> None:
    spare = msgspec.structs.replace(card, hardware_id="aa" * 15)
    desk.run("exchange", serial, "-", stdin=request_text(spare))
    assert "was exchanged for" in desk.run("permit", serial, "hardware", code=1).stderr
    assert "has no serial" in desk.run("permit", "110000000000", "hardware", code=1).stderr


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"may_change": ()}, "lets something change"),
        ({"days": 0}, "1 to 90 days, not for 0"),
        ({"days": MAX_DAYS + 1}, "1 to 90 days, not for 91"),
        ({"reason": "x" * (MAX_REASON + 1)}, "more than 200 characters"),
        ({"hardware_id": "AB" * 32}, "is no hardware id"),
    ],
)
def test_an_order_out_of_bounds_is_refused_and_nothing_is_recorded(
    desk: Desk, serial: str, register: Register, fields: dict[str, object], why: str
) -> None:
    good = PermitOrder(serial=serial, may_change=(MayChange.HARDWARE,), days=MAX_DAYS, reason="x" * MAX_REASON)
    with pytest.raises(Refused, match=why):
        make_permit(msgspec.structs.replace(good, **fields), desk.vendor(), register, desk.today)
    assert register.permits(serial) == []
    assert make_permit(good, desk.vendor(), register, desk.today).permit.number == 1


def test_a_serial_has_so_many_permits_and_no_more(desk: Desk, serial: str, register: Register) -> None:
    last = PermitRow(
        serial=serial, number=MAX_NUMBER, may_change="hardware", hardware_id=None, until=desk.today, reason="",
        signer="", digest="", day=desk.today,
    )  # fmt: skip
    with register.act():
        register.record_permit(last)
    order = PermitOrder(serial=serial, may_change=(MayChange.HARDWARE,))
    with pytest.raises(Refused, match="has had 999999999 permits"):
        make_permit(order, desk.vendor(), register, desk.today)


def test_the_command_takes_no_other_words(desk: Desk, serial: str) -> None:
    assert "everything" in desk.run("permit", serial, "everything", code=2).stderr
    assert "91" in desk.run("permit", serial, "hardware", "--days", 91, code=2).stderr
