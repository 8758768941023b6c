"""The simulated USB key: driven by python-yubico as a second opinion, its memory file, and how Linux treats it."""

from __future__ import annotations

import errno
import hashlib
import hmac
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import usb.backend.libusb1
import usb.core
import usb.util
import yubico
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.hwio.featurekey import Absent, DeviceFault, TouchRequired
from featurekeyd.hwio.otpframes import Slot, Status, answer_reports, encode_frame, encode_status, frame_reports
from featurekeyd.hwio.simulated_otp import Faults, KeyMemory, SimulatedOtp, load_memory, store_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create, plug, unplug
from featurekeyd.hwio.usbkey import UsbKey, WriteRefused

if TYPE_CHECKING:
    from pathlib import Path

SECRET = bytes(range(1, 21))
CODE = b"abcdef"
CHALLENGES = [
    bytes(range(2, 34)),
    b"\xff" * 32,
    bytes(31) + b"\x01",
    hashlib.sha256(b"featurekeyd").digest()[:31] + b"\x99",
]


@pytest.fixture
def backend(state: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedUsbBackend:
    simulated = SimulatedUsbBackend(state)
    # python-yubico names no backend, and pyusb then asks this function first.
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda *_, **__: simulated)
    return simulated


def second_opinion() -> Any:
    return yubico.find_yubikey()


def programmed_by_us(backend: SimulatedUsbBackend) -> None:
    key = UsbKey.open(backend)
    key.program_challenge_response(SECRET, new_access_code=CODE)
    key.close()


# python-yubico.


def test_both_readers_see_the_same_serial_and_firmware(backend: SimulatedUsbBackend) -> None:
    ours = UsbKey.open(backend)
    ours.close()
    theirs = second_opinion()
    assert str(theirs.serial()) == ours.reading.hardware_id == "7654321"
    assert theirs.version() == ours.status.firmware == "5.4.3"


def test_a_key_programmed_by_us_answers_python_yubico_alike(backend: SimulatedUsbBackend) -> None:
    programmed_by_us(backend)
    theirs = second_opinion()
    answers = [theirs.challenge_response(challenge, slot=2) for challenge in CHALLENGES]
    del theirs
    ours = UsbKey.open(backend)
    assert [ours.prove(challenge) for challenge in CHALLENGES] == answers
    assert answers == [hmac.digest(SECRET, challenge, hashlib.sha1) for challenge in CHALLENGES]


def test_padding_with_other_bytes_than_zero_is_stripped_as_well(backend: SimulatedUsbBackend) -> None:
    programmed_by_us(backend)
    # python-yubico pads with FF where a challenge ends in 00.
    challenge = bytes(range(31)) + b"\0"
    assert second_opinion().challenge_response(challenge, slot=2) == hmac.digest(SECRET, challenge, hashlib.sha1)


def test_a_key_programmed_by_python_yubico_answers_us(backend: SimulatedUsbBackend) -> None:
    theirs = second_opinion()
    config = theirs.init_config()
    config.mode_challenge_response(SECRET, type="HMAC", variable=True, require_button=False)
    config.extended_flag("SERIAL_API_VISIBLE", new=True)
    theirs.write_config(config, slot=2)
    del theirs, config
    ours = UsbKey.open(backend)
    assert ours.prove(CHALLENGES[0]) == hmac.digest(SECRET, CHALLENGES[0], hashlib.sha1)


def test_an_access_code_set_by_us_holds_against_python_yubico(backend: SimulatedUsbBackend) -> None:
    programmed_by_us(backend)
    theirs = second_opinion()
    config = theirs.init_config(zap=True)
    with pytest.raises(yubico.yubico_exception.YubicoError, match="not increased"):
        theirs.write_config(config, slot=2)
    config = theirs.init_config()
    config.mode_challenge_response(bytes(20), type="HMAC", variable=True)
    config.unlock_key(CODE)
    theirs.write_config(config, slot=2)
    assert theirs.challenge_response(CHALLENGES[0], slot=2) == hmac.digest(bytes(20), CHALLENGES[0], hashlib.sha1)


def test_an_access_code_set_by_python_yubico_holds_against_us(backend: SimulatedUsbBackend) -> None:
    theirs = second_opinion()
    config = theirs.init_config()
    config.mode_challenge_response(SECRET, type="HMAC", variable=True)
    config.access_key(CODE)
    theirs.write_config(config, slot=2)
    del theirs, config
    ours = UsbKey.open(backend)
    with pytest.raises(WriteRefused):
        ours.clear_slot_2()
    ours.clear_slot_2(CODE)


def test_a_slot_that_wants_a_touch_is_refused(backend: SimulatedUsbBackend) -> None:
    theirs = second_opinion()
    config = theirs.init_config()
    config.mode_challenge_response(SECRET, type="HMAC", variable=True, require_button=True)
    theirs.write_config(config, slot=2)
    assert theirs.status().touch_level == 2 | 8
    del theirs, config
    with pytest.raises(TouchRequired):
        UsbKey.open(backend).prove(CHALLENGES[0])


def test_a_slot_of_fixed_length_signs_all_64_bytes(backend: SimulatedUsbBackend) -> None:
    theirs = second_opinion()
    config = theirs.init_config()
    config.mode_challenge_response(SECRET, type="HMAC", variable=False)
    theirs.write_config(config, slot=2)
    del theirs, config
    padded = CHALLENGES[0].ljust(64, b"\0")
    assert UsbKey.open(backend).prove(CHALLENGES[0]) == hmac.digest(SECRET, padded, hashlib.sha1)


def test_slot_1_answers_as_well(backend: SimulatedUsbBackend) -> None:
    theirs = second_opinion()
    config = theirs.init_config()
    config.mode_challenge_response(SECRET, type="HMAC", variable=True)
    theirs.write_config(config, slot=1)
    assert theirs.challenge_response(CHALLENGES[0], slot=1) == hmac.digest(SECRET, CHALLENGES[0], hashlib.sha1)
    assert theirs.status().valid_configs() == [1]


# The chip.


def chip(memory: KeyMemory) -> tuple[SimulatedOtp, list[KeyMemory]]:
    kept = [memory]
    return SimulatedOtp(lambda: kept[-1], kept.append), kept


def asked(simulated: SimulatedOtp, slot: int, payload: bytes = b"", count: int = 6) -> list[bytes]:
    for report in frame_reports(encode_frame(slot, payload)):
        simulated.write_report(report)
    return [simulated.read_report() for _ in range(count)]


REST = encode_status(Status(version=(5, 4, 3), sequence=0, touch_level=0))


def test_the_chip_answers_like_the_trace() -> None:
    simulated, _ = chip(KeyMemory(serial=7654321))
    assert [report.hex() for report in asked(simulated, Slot.SERIAL, count=3)] == [
        "0074cbb167950040",
        "0000000000000040",
        "0000000000000040",
    ]
    simulated.write_report(bytes(7) + b"\x8f")
    assert simulated.read_report() == REST


def test_the_capabilities_hold_the_serial() -> None:
    simulated, _ = chip(KeyMemory(serial=7654321))
    body = bytes.fromhex("01010702040074cbb1")
    assert asked(simulated, Slot.CAPABILITIES, count=3) == answer_reports(bytes([len(body)]) + body)


@pytest.mark.parametrize("slot", [Slot.HMAC_1, Slot.HMAC_2, 0x77])
def test_an_empty_or_unknown_slot_shows_the_status_at_once(slot: int) -> None:
    simulated, _ = chip(KeyMemory(serial=1))
    assert asked(simulated, slot, b"challenge", count=1) == [REST]


def test_a_chunk_written_while_busy_is_lost() -> None:
    simulated, _ = chip(KeyMemory(serial=1, faults=Faults(busy_polls=1)))
    assert asked(simulated, Slot.SERIAL, count=2)[1] == REST


def test_a_key_with_a_lag_shows_its_last_report_that_often_after_an_abort() -> None:
    simulated, _ = chip(KeyMemory(serial=7654321, faults=Faults(lag_polls=2)))
    closing = asked(simulated, Slot.SERIAL, count=2)[-1]
    simulated.write_report(bytes(7) + b"\x8f")
    assert [simulated.read_report() for _ in range(3)] == [closing, closing, REST]
    simulated.write_report(bytes(7) + b"\x8f")
    assert simulated.read_report() == REST


def test_a_question_ends_the_lag() -> None:
    simulated, _ = chip(KeyMemory(serial=7654321, faults=Faults(lag_polls=2)))
    first = asked(simulated, Slot.SERIAL, count=2)
    simulated.write_report(bytes(7) + b"\x8f")
    assert asked(simulated, Slot.SERIAL, count=2) == first


def test_a_frame_with_a_wrong_checksum_is_ignored() -> None:
    simulated, _ = chip(KeyMemory(serial=1))
    first, last = frame_reports(encode_frame(Slot.SERIAL))
    simulated.write_report(first)
    simulated.write_report(bytes([last[0], last[1], last[2] ^ 1]) + last[3:])
    assert simulated.read_report() == REST


def test_a_record_with_a_wrong_checksum_is_not_kept() -> None:
    simulated, kept = chip(KeyMemory(serial=1))
    asked(simulated, Slot.WRITE_2, b"\x01" * 52 + bytes(6))
    assert len(kept) == 1


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=30))
def test_arbitrary_reports_do_not_break_the_chip(reports: list[bytes]) -> None:
    simulated, _ = chip(KeyMemory(serial=1))
    for report in reports:
        simulated.write_report(report)
        assert len(simulated.read_report()) == 8
    simulated.write_report(bytes(7) + b"\xff")
    assert simulated.read_report()[7] == 0


# The memory file.


def test_the_memory_is_for_its_owner_only_also_after_a_write(state: Path, backend: SimulatedUsbBackend) -> None:
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    programmed_by_us(backend)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert [entry.name for entry in state.parent.iterdir()] == [state.name]


def test_a_failed_write_leaves_the_old_memory_and_no_litter(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state.read_bytes()

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        store_memory(state, KeyMemory(serial=42))
    assert state.read_bytes() == before
    assert [entry.name for entry in state.parent.iterdir()] == [state.name]


def test_a_key_is_not_made_over_another(state: Path) -> None:
    with pytest.raises(FileExistsError):
        create(state, serial=42)
    assert load_memory(state).serial == 7654321


@pytest.mark.parametrize("serial", [0, -1, 1 << 32])
def test_a_serial_that_does_not_fit_four_bytes_is_refused(tmp_path: Path, serial: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 4294967295"):
        create(tmp_path / "key.json", serial=serial)


def test_the_largest_serial_is_read_back(tmp_path: Path) -> None:
    create(tmp_path / "key.json", serial=(1 << 32) - 1)
    assert UsbKey.open(SimulatedUsbBackend(tmp_path / "key.json")).reading.hardware_id == "4294967295"


@pytest.mark.parametrize("text", ["", "{", '{"serial": 1, "colour": 2}', '{"serial": 1, "slot_2": "00"}'])
def test_a_file_that_is_no_memory_is_a_fault_that_names_it(state: Path, text: str) -> None:
    state.write_text(text)
    with pytest.raises(DeviceFault, match="is not a simulated key"):
        UsbKey.open(SimulatedUsbBackend(state))


def test_memory_and_faults_do_not_print_secrets(state: Path, backend: SimulatedUsbBackend) -> None:
    programmed_by_us(backend)
    assert SECRET[:16].hex() not in repr(load_memory(state))


def test_a_key_programmed_in_one_process_is_read_in_another(state: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend\n"
        "from featurekeyd.hwio.usbkey import UsbKey\n"
        "key = UsbKey.open(SimulatedUsbBackend(pathlib.Path(sys.argv[1])))\n"
        "key.program_challenge_response(bytes(range(1, 21)))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(state)], check=True, timeout=60)
    key = UsbKey.open(SimulatedUsbBackend(state))
    assert key.prove(CHALLENGES[0]) == hmac.digest(SECRET, CHALLENGES[0], hashlib.sha1)


def test_faults_of_the_backend_win_and_are_not_stored(state: Path) -> None:
    backend = SimulatedUsbBackend(state, faults=Faults(busy_polls=1))
    programmed_by_us(backend)
    assert load_memory(state).faults == Faults()
    backend.faults = Faults(unplugged=True)
    with pytest.raises(Absent):
        UsbKey.open(backend)
    backend.faults = None
    UsbKey.open(backend)


def test_pulling_keeps_the_memory_and_putting_back_changes_the_address(state: Path) -> None:
    before = load_memory(state)
    unplug(state)
    assert usb.core.find(backend=SimulatedUsbBackend(state)) is None
    plug(state)
    after = load_memory(state)
    assert after == msgspec.structs.replace(before, address=before.address + 1)


# What Linux does.


def test_class_requests_fail_until_the_interface_is_claimed_and_claiming_until_usbhid_is_detached(
    backend: SimulatedUsbBackend,
) -> None:
    device = usb.core.find(backend=backend)
    with pytest.raises(usb.core.USBError) as caught:
        device.ctrl_transfer(0xA1, 0x01, 0x0300, 0, 8)
    assert caught.value.errno == errno.EBUSY
    handle = backend.open_device(next(backend.enumerate_devices()))
    backend.detach_kernel_driver(handle, 0)
    with pytest.raises(usb.core.USBError) as caught:
        backend.ctrl_transfer(handle, 0xA1, 0x01, 0x0300, 0, usb.util.create_buffer(8), 100)
    assert caught.value.errno == errno.EBUSY
    backend.claim_interface(handle, 0)
    assert backend.ctrl_transfer(handle, 0xA1, 0x01, 0x0300, 0, usb.util.create_buffer(8), 100) == 8


def test_the_kernel_driver_comes_back_only_to_a_free_interface(backend: SimulatedUsbBackend) -> None:
    key = UsbKey.open(backend)
    handle = backend.open_device(next(backend.enumerate_devices()))
    with pytest.raises(usb.core.USBError) as caught:
        backend.attach_kernel_driver(handle, 0)
    assert caught.value.errno == errno.EBUSY
    key.close()
    backend.attach_kernel_driver(handle, 0)
    assert backend.is_kernel_driver_active(handle, 0)


def test_usbhid_owns_a_key_that_was_put_back(state: Path, backend: SimulatedUsbBackend) -> None:
    UsbKey.open(backend).close()
    unplug(state)
    plug(state)
    UsbKey.open(backend).close()
    assert backend.detachments == 2


def test_an_unknown_request_stalls(backend: SimulatedUsbBackend) -> None:
    device = usb.core.find(backend=backend)
    with pytest.raises(usb.core.USBError) as caught:
        device.ctrl_transfer(0xC0, 0x55, 0, 0, 8)
    assert caught.value.errno == errno.EPIPE


def test_pyusb_reads_every_descriptor(backend: SimulatedUsbBackend) -> None:
    device = usb.core.find(backend=backend)
    assert (device.manufacturer, device.product, device.serial_number) == ("Simulated", "One-time-password key", None)
    assert device.get_active_configuration().bNumInterfaces == 1
    assert device.parent is None
    assert "Interrupt IN" in str(device)
    endpoint = device[0][0, 0][0]
    assert usb.util.endpoint_type(endpoint.bmAttributes) == usb.util.ENDPOINT_TYPE_INTR


def test_setting_the_configuration_is_counted_and_refused_while_in_use(backend: SimulatedUsbBackend) -> None:
    device = usb.core.find(backend=backend)
    with pytest.raises(usb.core.USBError) as caught:
        device.set_configuration()
    assert caught.value.errno == errno.EBUSY
    assert backend.configurations_set == 1
