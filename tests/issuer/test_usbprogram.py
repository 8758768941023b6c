"""Programming USB keys: the secret is derived, read back, recorded, and nobody else's slot is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featurekeyd.hwio.simulated_otp import Faults, load_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create, set_faults, unplug
from featurekeyd.hwio.usbkey import UsbKey
from featurekeyd.issuer.derivation import usb_access_code, usb_answer, usb_secret
from featurekeyd.issuer.usbprogram import make_challenge

if TYPE_CHECKING:
    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk

NUMBER = "7654321"


def write_slot(state: Path, secret: bytes, access_code: bytes = bytes(6)) -> None:
    key = UsbKey.open(SimulatedUsbBackend(state), serial_needed=False)
    key.program_challenge_response(secret, new_access_code=access_code)
    key.close()


def secret_in(state: Path) -> bytes:
    record = load_memory(state).record(2)
    assert record is not None
    return record.secret


def test_a_key_is_programmed_and_recorded(desk: Desk, register: Register, usb_state: Path) -> None:
    said = desk.run("program", "--simulator", usb_state).stdout
    assert f"simulated key {NUMBER}" in said
    assert "is programmed" in said
    record = load_memory(usb_state).record(2)
    assert record is not None
    master = desk.vendor().master
    assert record.secret == usb_secret(master, NUMBER, simulated=True)
    assert record.access_code == usb_access_code(master, NUMBER, simulated=True)
    assert record.secret.hex() not in said
    assert register.was_programmed(NUMBER, simulated=True)
    assert not register.was_programmed(NUMBER, simulated=False)


def test_a_programmed_key_answers_as_computed(desk: Desk, usb_state: Path) -> None:
    desk.run("program", "--simulator", usb_state)
    secret = usb_secret(desk.vendor().master, NUMBER, simulated=True)
    key = UsbKey.open(SimulatedUsbBackend(usb_state))
    for challenge in (make_challenge() for _ in range(20)):
        assert key.prove(challenge) == usb_answer(secret, challenge)
    key.close()


def test_a_slot_of_somebody_else_is_kept(desk: Desk, register: Register, usb_state: Path) -> None:
    write_slot(usb_state, bytes(range(20)))
    said = desk.run("program", "--simulator", usb_state, code=1).stderr
    assert "Slot 2 of the key is configured already" in said
    assert "--replace" in said
    assert secret_in(usb_state) == bytes(range(20))
    assert not register.was_programmed(NUMBER, simulated=True)


def test_a_slot_of_somebody_else_is_replaced_when_told_so(desk: Desk, usb_state: Path) -> None:
    write_slot(usb_state, bytes(range(20)))
    desk.run("program", "--replace", "--simulator", usb_state)
    assert secret_in(usb_state) == usb_secret(desk.vendor().master, NUMBER, simulated=True)


def test_a_key_that_is_done_is_not_written_again(desk: Desk, usb_state: Path) -> None:
    desk.run("program", "--simulator", usb_state)
    sequence = load_memory(usb_state).sequence
    for replace in ([], ["--replace"]):
        said = desk.run("program", *replace, "--simulator", usb_state).stdout
        assert "carried this vendor's secret already" in said
    assert load_memory(usb_state).sequence == sequence


def test_an_act_broken_before_it_was_recorded_is_completed(desk: Desk, register: Register, usb_state: Path) -> None:
    master = desk.vendor().master
    write_slot(
        usb_state,
        usb_secret(master, NUMBER, simulated=True),
        usb_access_code(master, NUMBER, simulated=True),
    )
    desk.run("program", "--simulator", usb_state)
    assert register.was_programmed(NUMBER, simulated=True)


def test_another_secret_behind_the_vendors_own_access_code_is_replaced(desk: Desk, usb_state: Path) -> None:
    write_slot(usb_state, bytes(20), usb_access_code(desk.vendor().master, NUMBER, simulated=True))
    desk.run("program", "--replace", "--simulator", usb_state)
    assert secret_in(usb_state) == usb_secret(desk.vendor().master, NUMBER, simulated=True)


def test_a_slot_behind_a_foreign_access_code_is_told(desk: Desk, usb_state: Path) -> None:
    write_slot(usb_state, bytes(20), b"secret")
    said = desk.run("program", "--replace", "--simulator", usb_state, code=1).stderr
    assert "protected by an access code of somebody else" in said
    assert secret_in(usb_state) == bytes(20)


def test_a_key_that_hides_its_serial_is_made_to_show_it(desk: Desk, usb_state: Path) -> None:
    set_faults(usb_state, Faults(serial_hidden=True))
    desk.run("program", "--simulator", usb_state)
    assert secret_in(usb_state) == usb_secret(desk.vendor().master, NUMBER, simulated=True)


def test_a_key_that_does_not_answer_as_programmed_is_not_believed(
    desk: Desk, register: Register, usb_state: Path
) -> None:
    set_faults(usb_state, Faults(touch=True))
    desk.run("program", "--simulator", usb_state, code=1)
    assert not register.was_programmed(NUMBER, simulated=True)


def test_no_key_and_a_key_out_of_reach_are_told_in_a_sentence(desk: Desk, usb_state: Path) -> None:
    set_faults(usb_state, Faults(no_permission=True))
    assert "may not be opened" in desk.run("program", "--simulator", usb_state, code=1).stderr
    unplug(usb_state)
    assert desk.run("program", "--simulator", usb_state, code=1).stderr.startswith("Error: ")
    assert desk.run("program", "--simulator", desk.place / "none", code=1).stderr.startswith("Error: ")


def test_two_keys_get_two_secrets(desk: Desk, tmp_path: Path, usb_state: Path) -> None:
    other = tmp_path / "other-key"
    create(other, 1234567)
    desk.run("program", "--simulator", usb_state)
    desk.run("program", "--simulator", other)
    assert secret_in(usb_state) != secret_in(other)


def test_challenges_end_in_no_byte_that_keys_take_for_padding() -> None:
    challenges = [make_challenge() for _ in range(5000)]
    assert {len(challenge) for challenge in challenges} == {32}
    assert not {challenge[-1] for challenge in challenges} & {0x00, 0x20}
    assert len(set(challenges)) == 5000
