"""Certifying: the serial follows from the hardware, and the certificate says what is true of it."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend
from featurekeyd.hwio.usbkey import UsbKey
from featurekeyd.issuer.certify import TYPE_DIGITS, preferred_serial
from featurekeyd.issuer.derivation import rescue_code, rescue_seed
from featurekeyd.policy.certificate import Certificate, read_certificate
from featurekeyd.policy.request_text import Request, request_text

if TYPE_CHECKING:
    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk


def certificate(desk: Desk, request_: Request, *options: object) -> Certificate:
    text = desk.run("certify", "-", *options, stdin=request_text(request_)).stdout
    return read_certificate(text, desk.keys())


def test_the_certificate_says_what_the_request_said(desk: Desk, card: Request) -> None:
    made = certificate(desk, card)
    assert (made.kind, made.hardware_id, made.catalog) == ("sd-card", card.hardware_id, "ip-office")
    assert (made.issued, made.test, made.pairs) == (desk.today, False, ())
    assert made.serial == preferred_serial("sd-card", card.hardware_id)


def test_known_serials_do_not_drift(card: Request) -> None:
    assert preferred_serial("sd-card", card.hardware_id) == "110877942912"
    assert preferred_serial("usb-otp", "7654321") == "129344471369"
    assert preferred_serial("host", "ab" * 32) == "130184511198"


def test_a_serial_is_type_digits_and_ten_digits_of_a_hash() -> None:
    fields = (b"featurekeyd serial", b"host", b"ab")
    digest = hashlib.sha256(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).hexdigest()
    assert preferred_serial("host", "ab") == "13" + str(int(digest, 16))[-10:]
    assert TYPE_DIGITS == {"sd-card": "11", "usb-otp": "12", "host": "13"}


def test_the_same_hardware_gets_the_same_serial_and_it_is_said(desk: Desk, register: Register, card: Request) -> None:
    first = desk.run("certify", "-", stdin=request_text(card))
    again = desk.run("certify", "-", stdin=request_text(card))
    assert "had this serial before" not in first.stderr
    assert "It had this serial before." in again.stderr
    serials = {it.serial for it in register.certificates()}
    assert len(register.certificates()) == 2
    assert serials == {register.systems()[0].serial}


def test_test_is_yes_exactly_when_the_request_says_simulated(desk: Desk, card: Request) -> None:
    simulated = certificate(desk, msgspec.structs.replace(card, simulated=True))
    real = certificate(desk, card)
    assert (simulated.test, real.test) == (True, False)
    assert simulated.serial != real.serial


def test_the_rescue_anchor_is_the_end_of_the_chain_of_that_serial_and_day(desk: Desk, card: Request) -> None:
    made = certificate(desk, card)
    seed = rescue_seed(desk.vendor().master, made.serial, desk.today)
    assert (made.rescue_anchor, made.rescue_days) == (rescue_code(seed, 3650), 3650)


def test_a_usb_key_of_nobody_is_not_certified(desk: Desk, register: Register, usb: Request) -> None:
    said = desk.run("certify", "-", stdin=request_text(usb), code=1).stderr
    assert "Simulated key 7654321 does not carry a secret of this vendor" in said
    assert "featurekey-issue program" in said
    assert register.systems() == []


def test_a_simulated_key_does_not_open_the_door_for_a_real_one(desk: Desk, usb: Request, usb_state: Path) -> None:
    desk.run("program", "--simulator", usb_state)
    real = msgspec.structs.replace(usb, simulated=False)
    assert "Key 7654321 does not carry" in desk.run("certify", "-", stdin=request_text(real), code=1).stderr


def test_the_key_itself_answers_every_pair_on_its_certificate(desk: Desk, usb: Request, usb_state: Path) -> None:
    desk.run("program", "--simulator", usb_state)
    made = certificate(desk, usb)
    assert made.test
    assert len({pair.challenge for pair in made.pairs}) == 64
    key = UsbKey.open(SimulatedUsbBackend(usb_state))
    for pair in made.pairs:
        assert made.answered_by(pair.challenge, key.prove(pair.challenge))
    key.close()


def test_a_catalog_that_is_not_shipped_needs_its_file(desk: Desk, tmp_path: Path, card: Request) -> None:
    foreign = msgspec.structs.replace(card, catalog="my-pbx")
    said = desk.run("certify", "-", stdin=request_text(foreign), code=1).stderr
    assert "No catalog 'my-pbx' is shipped" in said
    file = tmp_path / "mine.toml"
    file.write_text(shipped_catalog().replace('id = "ip-office"', 'id = "my-pbx"', 1))
    assert certificate(desk, foreign, "--catalog", file).catalog == "my-pbx"
    wrong = desk.run("certify", "-", "--catalog", file, stdin=request_text(card), code=1).stderr
    assert "is the catalog 'my-pbx', and 'ip-office' is wanted" in wrong
    file.write_text("id = 5")
    assert "mine.toml" in desk.run("certify", "-", "--catalog", file, stdin=request_text(card), code=1).stderr


def shipped_catalog() -> str:
    return (files("featurekeyd.policy") / "catalogs" / "ip-office.toml").read_text()


def test_an_unknown_platform_and_a_foreign_serial_are_pointed_out(desk: Desk, card: Request) -> None:
    odd = msgspec.structs.replace(card, platform="ip600", serial="110000000001")
    said = desk.run("certify", "-", stdin=request_text(odd)).stderr
    assert "no platform 'ip600'" in said
    assert "The host says that its serial is 110000000001" in said


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN FEATUREKEYD REQUEST-----\nKind: x\n"])
def test_a_text_that_is_no_request_is_refused(desk: Desk, text: str) -> None:
    assert "is missing" in desk.run("certify", "-", stdin=text, code=1).stderr


def test_the_output_goes_to_a_new_file_or_nowhere(desk: Desk, register: Register, card: Request) -> None:
    file, output = desk.place / "request.txt", desk.place / "certificate.txt"
    file.write_text(request_text(card))
    result = desk.run("certify", file, "--output", output)
    assert result.stdout == ""
    assert read_certificate(output.read_text(), desk.keys()).hardware_id == card.hardware_id
    before = output.read_bytes()
    said = desk.run("certify", file, "--output", output, code=1).stderr
    assert f"{output} exists already and is not overwritten" in said
    assert output.read_bytes() == before
    assert len(register.certificates()) == 1


def test_a_refused_act_leaves_no_output_file(desk: Desk, usb: Request) -> None:
    output = desk.place / "certificate.txt"
    desk.run("certify", "-", "--output", output, stdin=request_text(usb), code=1)
    assert not output.exists()
    said = desk.run("certify", "-", "--output", desk.place / "no" / "folder", stdin=request_text(usb), code=1).stderr
    assert "cannot be written: No such file or directory" in said
