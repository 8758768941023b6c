"""Rescue codes from the vendor's side: the host takes what is given out, and what is given out is recorded."""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.issuer.derivation import RESCUE_DAYS, rescue_code, rescue_seed
from featurekeyd.issuer.rescue import MAX_REASON
from featurekeyd.policy.certificate import Certificate, read_certificate
from featurekeyd.policy.request_text import Request, request_text
from featurekeyd.policy.rescue import Rescued, RescueRefusal, RescueVerdict, check_rescue

if TYPE_CHECKING:
    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk

DAY = datetime.timedelta(days=1)
ISSUED = datetime.date(2026, 1, 31)


def certificate_of(desk: Desk, request: Request) -> Certificate:
    return read_certificate(desk.run("certify", "-", stdin=request_text(request)).stdout, desk.keys())


@pytest.fixture
def certificate(desk: Desk, card: Request) -> Certificate:
    """The certificate on the host, of the day that the desk begins with."""
    return certificate_of(desk, card)


def code(desk: Desk, certificate: Certificate, *options: object) -> str:
    return desk.run("rescue", certificate.serial, *options).stdout.strip()


def opened(code: str, certificate: Certificate, today: datetime.date) -> Rescued:
    rescued = check_rescue(code, certificate, None, today)
    assert isinstance(rescued, Rescued), rescued
    return rescued


@pytest.mark.parametrize("days", [1, 100, RESCUE_DAYS])
def test_the_host_takes_the_code_of_its_day(desk: Desk, certificate: Certificate, days: int) -> None:
    desk.today = ISSUED + days * DAY
    assert opened(code(desk, certificate), certificate, desk.today).mark.day == desk.today


def test_on_the_day_of_the_certificate_the_code_is_that_of_the_next(desk: Desk, certificate: Certificate) -> None:
    assert opened(code(desk, certificate), certificate, ISSUED).mark.day == ISSUED + DAY


def test_a_chain_has_an_end(desk: Desk, register: Register, certificate: Certificate) -> None:
    desk.today = ISSUED + (RESCUE_DAYS + 1) * DAY
    said = desk.run("rescue", certificate.serial, code=1).stderr
    assert f"has rescue codes until {ISSUED + RESCUE_DAYS * DAY}" in said
    assert "certify the Feature Key again" in said
    assert register.rescues(certificate.serial) == []


def test_a_host_with_a_late_clock_gets_the_code_of_its_date(desk: Desk, certificate: Certificate) -> None:
    desk.today = ISSUED + 300 * DAY
    believed = ISSUED + 2 * DAY
    assert opened(code(desk, certificate, "--date", believed), certificate, believed).mark.day == believed
    assert "--date" in desk.run("rescue", certificate.serial, "--date", ISSUED - DAY, "--again", code=1).stderr


def test_no_code_is_given_for_a_day_to_come(desk: Desk, certificate: Certificate) -> None:
    desk.today = ISSUED + 10 * DAY
    said = desk.run("rescue", certificate.serial, "--date", desk.today + 2 * DAY, code=1).stderr
    assert "would give away those of all days before it" in said
    desk.run("rescue", certificate.serial, "--date", desk.today + DAY)


def test_a_code_goes_with_the_newest_certificate_or_the_one_that_is_named(
    desk: Desk, card: Request, certificate: Certificate
) -> None:
    desk.today = ISSUED + 40 * DAY
    later = certificate_of(desk, card)
    desk.today += DAY
    newest = code(desk, certificate)
    assert opened(newest, later, desk.today).mark.day == desk.today
    refused = check_rescue(newest, certificate, None, desk.today)
    assert isinstance(refused, RescueRefusal)
    assert refused.verdict is RescueVerdict.UNKNOWN_CODE
    opened(code(desk, certificate, "--certified", ISSUED, "--again"), certificate, desk.today)
    said = desk.run("rescue", certificate.serial, "--certified", ISSUED + DAY, "--again", code=1).stderr
    assert f"There are those of {ISSUED}, {ISSUED + 40 * DAY}." in said


@pytest.mark.parametrize(("days", "exit_code"), [(0, 1), (6, 1), (7, 0)])
def test_a_second_code_within_seven_days_must_be_asked_for_as_such(
    desk: Desk, certificate: Certificate, days: int, exit_code: int
) -> None:
    desk.today = ISSUED + 20 * DAY
    code(desk, certificate, "--reason", "key in the river")
    desk.today += days * DAY
    said = desk.run("rescue", certificate.serial, code=exit_code).stderr
    assert ("got a rescue code on 2026-02-20 (key in the river)" in said) == bool(exit_code)


def test_the_vendor_is_told_how_many_a_serial_had(desk: Desk, certificate: Certificate) -> None:
    said = [desk.run("rescue", certificate.serial, "--again").stderr for _ in range(3)]
    assert [f"had {count} before" in line for count, line in enumerate(said)] == [True] * 3


def test_every_code_is_recorded_with_who_when_and_why_and_never_itself(
    desk: Desk, register: Register, certificate: Certificate
) -> None:
    desk.today = ISSUED + 20 * DAY
    given = code(desk, certificate, "--reason", "key in the river", "--date", desk.today - DAY)
    (row,) = register.rescues(certificate.serial)
    assert (row.code_day, row.certified, row.reason) == (desk.today - DAY, ISSUED, "key in the river")
    assert (row.time, row.day) == (desk.time, desk.today)
    assert row.issuer
    content = desk.vendor().register_path.read_bytes()
    assert given.encode() not in content
    assert given.replace("-", "").encode() not in content
    (shown,) = json.loads(desk.run("register", "--json").stdout)
    assert (shown["rescues"], shown["rescued"]) == (1, str(desk.today))


def test_a_retired_or_unknown_serial_gets_none(desk: Desk, card: Request, certificate: Certificate) -> None:
    fresh = msgspec.structs.replace(card, hardware_id="00" * 15, serial=certificate.serial)
    desk.run("exchange", certificate.serial, "-", stdin=request_text(fresh))
    assert "was exchanged for" in desk.run("rescue", certificate.serial, code=1).stderr
    assert "no serial '110000000001'" in desk.run("rescue", "110000000001", code=1).stderr


def test_a_reason_is_a_sentence(desk: Desk, certificate: Certificate) -> None:
    said = desk.run("rescue", certificate.serial, "--reason", "x" * (MAX_REASON + 1), code=1).stderr
    assert f"more than {MAX_REASON} characters" in said
    desk.run("rescue", certificate.serial, "--reason", "x" * MAX_REASON)


def test_another_master_secret_gives_no_code_that_no_host_would_take(
    desk: Desk, register: Register, certificate: Certificate
) -> None:
    secret = desk.folder / "master.secret"
    secret.write_text("00" * 32 + "\n")
    assert "another master secret" in desk.run("rescue", certificate.serial, code=1).stderr
    assert register.rescues(certificate.serial) == []


def test_a_certificate_of_an_earlier_release_is_served_from_the_chain_it_had(desk: Desk) -> None:
    path = desk.vendor().register_path
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "register-v1.sql").read_text(encoding="utf-8"))
    serial, chain = "110877942912", rescue_seed(desk.vendor().master, "110877942912", None)
    certificate = Certificate(
        serial=serial,
        catalog="ip-office",
        kind="sd-card",
        hardware_id="035344535530384780deadbeef0136",
        issued=ISSUED,
        test=False,
        rescue_anchor=rescue_code(chain, RESCUE_DAYS),
        rescue_days=RESCUE_DAYS,
    )
    desk.today = ISSUED + 10 * DAY
    assert opened(code(desk, certificate), certificate, desk.today).mark.day == desk.today
