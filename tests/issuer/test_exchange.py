"""Exchange: all good licenses go over to the replacement, nothing gets longer, and the old serial is done."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import Result

from featurekeyd.issuer import exchange as exchange_module
from featurekeyd.issuer.refusal import Refused
from featurekeyd.issuer.register import Exchange, Register
from featurekeyd.policy import signedtext
from featurekeyd.policy.certificate import Certificate, read_certificate
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.licenselist import LicenseList, read_list
from featurekeyd.policy.request_text import Request, request_text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.issuer.conftest import Desk

DAY = datetime.date(2026, 1, 31)

RACER = """
import datetime, sys
from pathlib import Path
from featurekeyd.issuer.catalogfiles import find_catalog
from featurekeyd.issuer.exchange import exchange
from featurekeyd.issuer.order import Item, Order, issue
from featurekeyd.issuer.refusal import Refused
from featurekeyd.issuer.register import Register
from featurekeyd.issuer.vendor import open_vendor
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.request_text import read_request

folder, serial, what = sys.argv[1:]
vendor = open_vendor(Path(folder), lambda: b"")
register = Register.open(vendor.register_path)
catalog, day = find_catalog("ip-office"), datetime.date(2026, 1, 31)
order = Order(serial=serial, items=(Item("softconsole", 1),), term=Term.PERPETUAL, day=day, today=day)
request = None if what == "issue" else read_request(Path(what).read_text())
print("ready", flush=True)
sys.stdin.readline()
try:
    if request is not None:
        print("exchanged", exchange(serial, request, vendor, register, day).carried)
    else:
        for number in range(1, 201):
            issue(order, catalog, register)
            print("issued", number, flush=True)
except Refused as error:
    print("refused", error)
register.close()
"""
"""One of two issuers: it exchanges the serial, or orders for it until it is refused."""


@pytest.fixture
def serial(desk: Desk) -> str:
    return desk.certified()


@pytest.fixture
def spare(card: Request) -> Request:
    """The request of a replacement, in the host whose certificate names the old serial still."""
    return msgspec.structs.replace(card, hardware_id="aa" * 15)


def exchanged(desk: Desk, serial: str, request: Request, *options: object) -> tuple[Certificate, LicenseList]:
    text = desk.run("exchange", serial, "-", *options, stdin=request_text(request)).stdout
    return read_certificate(text, desk.keys()), read_list(text, desk.keys())


def refused(desk: Desk, serial: str, request: Request, *options: object) -> str:
    """What an exchange says that is refused; it records nothing."""
    path = desk.vendor().register_path
    before = path.read_bytes()
    said: Result = desk.run("exchange", serial, "-", *options, stdin=request_text(request), code=1)
    assert path.read_bytes() == before
    assert said.stdout == ""
    return said.stderr


# What goes over.


def test_one_text_holds_the_certificate_and_the_list_of_the_replacement(
    desk: Desk, serial: str, spare: Request
) -> None:
    desk.issued(serial, "sip-trunk-channels:8", "softconsole:2")
    certificate, licenses = exchanged(desk, serial, spare)
    assert (certificate.hardware_id, certificate.issued) == (spare.hardware_id, desk.today)
    assert certificate.serial == licenses.serial != serial
    assert (licenses.number, licenses.date, licenses.catalog) == (1, desk.today, "ip-office")
    carried = [(entry.key.feature_code, entry.key.instances, entry.name, entry.revoked) for entry in licenses.entries]
    assert carried == [(10, 8, "SIP Trunk Channels", False), (30, 2, "SoftConsole", False)]
    assert all(entry.key.made_for("ip-office", certificate.serial) for entry in licenses.entries)


@pytest.mark.parametrize(
    ("term", "last_day"),
    [("trial", "2026-03-31"), ("month", "2026-02-27"), ("year", "2027-01-30"), ("perpetual", "None")],
)
def test_nothing_gets_longer_by_an_exchange(desk: Desk, serial: str, spare: Request, term: str, last_day: str) -> None:
    desk.issued(serial, "softconsole", "--term", term)
    desk.today += datetime.timedelta(days=20)
    (entry,) = exchanged(desk, serial, spare)[1].entries
    assert (entry.key.issued, str(entry.key.expires)) == (DAY, last_day)


def test_equal_licenses_stay_as_many_as_they_were(desk: Desk, serial: str, spare: Request) -> None:
    desk.issued(serial, "softconsole", "softconsole", "softconsole")
    entries = exchanged(desk, serial, spare)[1].entries
    assert sorted(entry.key.sequence for entry in entries) == [0, 1, 2]
    assert len({entry.key for entry in entries}) == 3


def test_a_license_on_its_last_day_goes_over_and_a_day_later_it_stays_behind(
    desk: Desk, register: Register, serial: str, spare: Request, card: Request
) -> None:
    desk.issued(serial, "softconsole", "--term", "month")
    desk.today = datetime.date(2026, 2, 27)
    certificate, licenses = exchanged(desk, serial, spare)
    assert len(licenses.entries) == 1
    desk.today += datetime.timedelta(days=1)
    third = msgspec.structs.replace(card, hardware_id="bb" * 15)
    said = desk.run("exchange", certificate.serial, "-", stdin=request_text(third))
    assert read_list(said.stdout, desk.keys()).entries == ()
    assert "1 keys that were revoked, expired or for an earlier catalog stay behind" in said.stderr


def test_revoked_keys_stay_behind_with_the_reason_they_had(
    desk: Desk, register: Register, serial: str, spare: Request
) -> None:
    returned, _ = desk.issued(serial, "softconsole", "sip-trunk-channels")
    desk.run("revoke", serial, returned)
    desk.today += datetime.timedelta(days=1)
    (entry,) = exchanged(desk, serial, spare)[1].entries
    assert entry.key.feature_code == 10
    assert [row.revoked for row in register.licenses(serial)] == [DAY, desk.today]


def test_the_set_of_a_license_goes_over(desk: Desk, serial: str, spare: Request, pair: Path) -> None:
    desk.issued(serial, "set:test-pair", "softconsole", "--catalog", pair)
    entries = exchanged(desk, serial, spare)[1].entries
    assert [entry.license_set for entry in entries] == ["test-pair", "test-pair", None]


def test_keys_for_an_earlier_catalog_stay_behind(
    desk: Desk, serial: str, spare: Request, card: Request, other_catalog: Path
) -> None:
    desk.issued(serial, "softconsole")
    moved = request_text(msgspec.structs.replace(card, catalog="other"))
    desk.run("certify", "-", "--catalog", other_catalog, stdin=moved)
    desk.issued(serial, "sip-trunk-channels:3", "--catalog", other_catalog)
    request = msgspec.structs.replace(spare, catalog="other")
    certificate, licenses = exchanged(desk, serial, request, "--catalog", other_catalog)
    assert (certificate.catalog, licenses.catalog) == ("other", "other")
    assert [(entry.key.feature_code, entry.key.instances) for entry in licenses.entries] == [(10, 3)]


def test_a_system_without_licenses_is_exchanged_as_well(desk: Desk, serial: str, spare: Request) -> None:
    assert exchanged(desk, serial, spare)[1].entries == ()


def test_a_replacement_may_be_replaced_in_turn(desk: Desk, serial: str, spare: Request, card: Request) -> None:
    desk.issued(serial, "softconsole", "--term", "year")
    second, _ = exchanged(desk, serial, spare)
    third = msgspec.structs.replace(card, hardware_id="bb" * 15, serial=second.serial)
    (entry,) = exchanged(desk, second.serial, third)[1].entries
    assert entry.key.issued == DAY


def test_a_replacement_that_was_certified_before_keeps_its_serial_and_its_numbers(
    desk: Desk, serial: str, spare: Request
) -> None:
    known = desk.certified(spare)
    desk.run("list", known)
    certificate, licenses = exchanged(desk, serial, spare)
    assert (certificate.serial, licenses.number) == (known, 2)


# Trials.


def test_a_trial_goes_on_and_is_used_up_on_the_replacement(
    desk: Desk, register: Register, serial: str, spare: Request
) -> None:
    desk.issued(serial, "softconsole:2", "--term", "trial")
    desk.today += datetime.timedelta(days=10)
    certificate, licenses = exchanged(desk, serial, spare)
    assert licenses.trials == {30: DAY}
    assert [row.term for row in register.licenses(certificate.serial)] == [Term.TRIAL]
    said = desk.run("issue", certificate.serial, "softconsole", "--term", "trial", code=1).stderr
    assert f"SoftConsole had its trial on {certificate.serial}, issued 2026-01-31" in said
    desk.issued(certificate.serial, "sip-trunk-channels", "--term", "trial")


@pytest.mark.parametrize("how", ["over", "revoked"])
def test_a_trial_that_is_over_comes_not_back_with_any_replacement(
    desk: Desk, serial: str, spare: Request, card: Request, how: str
) -> None:
    (key,) = desk.issued(serial, "softconsole:2", "--term", "trial")
    if how == "revoked":
        desk.run("revoke", serial, key)
    else:
        desk.today += datetime.timedelta(days=60)
    second, licenses = exchanged(desk, serial, spare)
    assert (licenses.entries, licenses.trials) == ((), {30: DAY})
    third = msgspec.structs.replace(card, hardware_id="bb" * 15, serial=second.serial)
    last, licenses = exchanged(desk, second.serial, third)
    assert licenses.trials == {30: DAY}
    said = desk.run("issue", last.serial, "softconsole", "--term", "trial", code=1).stderr
    assert f"had its trial on {serial}" in said


# The old serial.


def test_a_retired_serial_gets_no_license_and_no_certificate(
    desk: Desk, register: Register, serial: str, spare: Request, card: Request
) -> None:
    (key,) = desk.issued(serial, "softconsole")
    new = exchanged(desk, serial, spare)[0].serial
    done = f"{serial} was exchanged for {new} on 2026-01-31"
    cure = f"Go on with the Feature Key {new}."
    for words, text in (
        (["issue", serial, "softconsole"], ""),
        (["certify", "-"], request_text(card)),
        (["exchange", new, "-"], request_text(msgspec.structs.replace(card, serial=None))),
    ):
        said = desk.run(*words, stdin=text, code=1).stderr
        assert f"{done} and gets nothing more. {cure}" in said
    assert "was revoked on 2026-01-31" in desk.run("revoke", serial, key).stdout
    assert len(register.licenses(serial)) == len(register.certificates()) - 1 == 1


def test_a_list_of_a_retired_serial_takes_everything_from_it(desk: Desk, serial: str, spare: Request) -> None:
    desk.issued(serial, "softconsole", "sip-trunk-channels")
    desk.issued(serial, "softconsole", "--term", "trial")
    new = exchanged(desk, serial, spare)[0].serial
    said = desk.run("list", serial)
    licenses = read_list(said.stdout, desk.keys())
    assert [entry.revoked for entry in licenses.entries] == [True] * 3
    assert licenses.trials == {30: DAY}
    assert f"{serial} was exchanged for {new}: this list takes everything from it." in said.stderr


def test_the_register_shows_who_replaces_whom(desk: Desk, serial: str, spare: Request) -> None:
    desk.issued(serial, "softconsole")
    new = exchanged(desk, serial, spare)[0].serial
    old_row, new_row = json.loads(desk.run("register", "--json").stdout)
    assert (old_row["exchanged_for"], old_row["exchanged"], old_row["replaces"]) == (new, "2026-01-31", None)
    assert (new_row["exchanged_for"], new_row["exchanged"], new_row["replaces"]) == (None, None, serial)
    assert f"exchanged for  {new}\n" in desk.run("register", serial).stdout


def test_what_an_exchange_gave_can_be_given_again(desk: Desk, serial: str, spare: Request) -> None:
    desk.issued(serial, "softconsole")
    certificate, licenses = exchanged(desk, serial, spare)
    said = refused(desk, serial, spare)
    assert f"{serial} was exchanged for {certificate.serial} on 2026-01-31 already." in said
    assert f"featurekey-issue certify REQUEST, featurekey-issue list {certificate.serial}" in said
    assert desk.certified(spare) == certificate.serial
    again = read_list(desk.run("list", certificate.serial).stdout, desk.keys())
    assert (again.number, again.entries) == (2, licenses.entries)


# What is refused, with nothing recorded.


def test_a_serial_that_is_not_there_is_refused(desk: Desk, serial: str, spare: Request) -> None:
    assert "no serial '110000000001'" in refused(desk, "110000000001", spare)


def test_the_old_key_is_no_replacement_of_itself(desk: Desk, serial: str, card: Request) -> None:
    said = refused(desk, serial, card)
    assert f"The request is of {serial} itself. Put the replacement into the host" in said


def test_a_replacement_with_licenses_of_its_own_is_refused(desk: Desk, serial: str, spare: Request) -> None:
    desk.issued(desk.certified(spare), "softconsole")
    assert "has license keys of its own. Take a Feature Key without any" in refused(desk, serial, spare)


def test_a_replacement_replaces_one_serial_only(desk: Desk, serial: str, spare: Request, card: Request) -> None:
    new = exchanged(desk, serial, spare)[0].serial
    other = desk.certified(msgspec.structs.replace(card, hardware_id="bb" * 15))
    said = refused(desk, other, spare, "--other-host")
    assert f"{new} replaces {serial} already. Take another Feature Key." in said


def test_a_real_key_is_not_exchanged_for_a_simulated_one(desk: Desk, serial: str, spare: Request) -> None:
    said = refused(desk, serial, msgspec.structs.replace(spare, simulated=True))
    assert "A simulated Feature Key and a real one are not exchanged for each other." in said


def test_licenses_stay_with_their_catalog(desk: Desk, serial: str, spare: Request, other_catalog: Path) -> None:
    said = refused(desk, serial, msgspec.structs.replace(spare, catalog="other"), "--catalog", other_catalog)
    assert f"The licenses of {serial} are for the catalog 'ip-office', and the request is for 'other'." in said
    assert "Set [product] catalog" in said


def test_a_host_of_a_third_serial_is_taken_only_when_told_so(desk: Desk, serial: str, spare: Request) -> None:
    third = msgspec.structs.replace(spare, serial="110000000001")
    said = refused(desk, serial, third)
    assert f"says that its serial is 110000000001, not {serial}" in said
    assert "--other-host" in said
    assert exchanged(desk, serial, third, "--other-host")[0].hardware_id == spare.hardware_id


@pytest.mark.parametrize("certified", [False, True])
def test_a_host_that_names_the_old_or_the_new_serial_is_taken(
    desk: Desk, serial: str, spare: Request, certified: bool
) -> None:
    named = desk.certified(spare) if certified else serial
    exchanged(desk, serial, msgspec.structs.replace(spare, serial=named))


def test_a_usb_key_of_nobody_is_no_replacement(desk: Desk, usb: Request, card: Request) -> None:
    simulated = desk.certified(msgspec.structs.replace(card, simulated=True))
    assert "does not carry a secret of this vendor" in refused(desk, simulated, usb)


def test_a_text_that_no_host_would_read_is_refused(
    desk: Desk, serial: str, spare: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.issued(serial, "softconsole")
    text = desk.run("certify", "-", stdin=request_text(spare)).stdout
    most = max(len(text), len(desk.run("list", serial).stdout)) + 100
    monkeypatch.setattr(signedtext, "MAX_BYTES", most)
    assert f"The text is longer than {most} characters." in refused(desk, serial, spare)
    monkeypatch.undo()
    exchanged(desk, serial, spare)


def test_an_exchange_that_breaks_off_records_nothing_and_leaves_no_file(
    desk: Desk, register: Register, serial: str, spare: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.issued(serial, "softconsole")
    output = desk.place / "exchange.txt"

    def full(*_: object) -> None:
        raise Refused("The disk is full.")

    monkeypatch.setattr(exchange_module, "list_within", full)
    refused(desk, serial, spare, "--output", output)
    assert not output.exists()
    assert register.exchange_of(serial) is None
    assert [row.revoked for row in register.licenses(serial)] == [None]
    monkeypatch.undo()
    desk.run("exchange", serial, "-", "--output", output, stdin=request_text(spare))
    assert read_list(output.read_text(), desk.keys()).number == 1
    assert "is not overwritten" in refused(desk, serial, spare, "--output", output)


# Two issuers at once.


def race(desk: Desk, serial: str, *what: str) -> list[list[str]]:
    """The lines of issuers that begin together."""
    issuers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(desk.folder), serial, it],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for it in what
    ]  # fmt: skip
    for issuer in issuers:
        assert issuer.stdout is not None
        assert issuer.stdout.readline() == "ready\n", issuer.communicate()[1]
    for issuer in issuers:
        assert issuer.stdin is not None
        issuer.stdin.write("go\n")
        issuer.stdin.flush()
    said = [issuer.communicate(timeout=100) for issuer in issuers]
    assert [issuer.returncode for issuer in issuers] == [0] * len(issuers), said
    return [out.splitlines() for out, _ in said]


def request_file(desk: Desk, name: str, request: Request) -> str:
    path = desk.place / name
    path.write_text(request_text(request), encoding="utf-8")
    return str(path)


def test_of_two_exchanges_at_once_one_is_refused(
    desk: Desk, register: Register, serial: str, spare: Request, card: Request
) -> None:
    desk.issued(serial, "softconsole:2")
    other = msgspec.structs.replace(card, hardware_id="bb" * 15)
    said = race(desk, serial, request_file(desk, "one", spare), request_file(desk, "two", other))
    assert sorted(lines[-1].split()[0] for lines in said) == ["exchanged", "refused"]
    assert len(register.systems()) == 2
    done = register.exchange_of(serial)
    assert done is not None
    assert done == Exchange(old_serial=serial, new_serial=done.new_serial, day=DAY)
    assert [row.instances for row in register.licenses(done.new_serial)] == [2]


def test_no_order_slips_between_an_exchange_and_the_end_of_the_old_serial(
    desk: Desk, register: Register, serial: str, spare: Request
) -> None:
    ordering, exchanging = race(desk, serial, "issue", request_file(desk, "one", spare))
    issued = sum(line.startswith("issued") for line in ordering)
    assert exchanging == [f"exchanged {issued}"]
    assert ordering[-1].startswith(f"refused {serial} was exchanged") or issued == 200
    done = register.exchange_of(serial)
    assert done is not None
    assert len(register.licenses(done.new_serial)) == len(register.licenses(serial)) == issued
    assert all(row.revoked == DAY for row in register.licenses(serial))
