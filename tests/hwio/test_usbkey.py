"""The USB Feature Key against the simulated one: finding, claiming, opening, presence."""

from __future__ import annotations

import errno
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import usb.backend.libusb1
import usb.core

from featurekeyd.hwio.featurekey import (
    Absent,
    Assurance,
    Busy,
    FeatureKey,
    Garbled,
    Kind,
    NoPermission,
    Several,
    Unconfigured,
    Unsupported,
)
from featurekeyd.hwio.otpframes import Slot, encode_frame, frame_reports
from featurekeyd.hwio.simulated_otp import Faults, load_memory, store_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create, plug, set_faults, unplug
from featurekeyd.hwio.usbkey import UsbKey

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hwio.conftest import Recorder

SECRET = bytes(range(1, 21))
CHALLENGE = bytes(range(1, 32)) + b"\x7f"


def change(state: Path, **fields: Any) -> None:
    store_memory(state, msgspec.structs.replace(load_memory(state), **fields))


def answer(challenge: bytes, secret: bytes = SECRET) -> bytes:
    return hmac.digest(secret, challenge, hashlib.sha1)


# Finding and opening.


def test_a_key_is_found_and_read(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    assert isinstance(key, FeatureKey)
    reading = key.reading
    assert (reading.kind, reading.hardware_id, reading.assurance) == (Kind.USB_OTP, "7654321", Assurance.A2)
    assert (reading.reader, reading.simulated) == ("usb:1-1", True)
    assert reading.detail == "firmware 5.4.3 slot 2 configured"


def test_only_the_libusb1_backend_is_not_simulated(state: Path) -> None:
    libusb1 = type("Libusb1", (SimulatedUsbBackend,), {"__module__": usb.backend.libusb1.__name__})
    assert not UsbKey.open(libusb1(state)).reading.simulated


def test_libusb1_is_asked_when_no_backend_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SimulatedUsbBackend(state)
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda: backend)
    assert UsbKey.open().reading.hardware_id == "7654321"


def test_a_missing_libusb_is_told_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda: None)
    with pytest.raises(Unsupported, match=r"install the package libusb-1\.0-0"):
        UsbKey.open()


def test_a_backend_that_pyusb_does_not_take_is_told_the_same_way(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(**_: Any) -> None:
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", find)
    with pytest.raises(Unsupported, match=r"install the package libusb-1\.0-0"):
        UsbKey.open(SimulatedUsbBackend(state))


def test_no_key_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no Feature Key is plugged in"):
        UsbKey.open(SimulatedUsbBackend(tmp_path / "key.json"))


@pytest.mark.parametrize(
    ("vendor", "product"), [(0x1D50, 0x60FC), (0x1050, 0x0120), (0x1050, 0x0402), (0x046D, 0x0407)]
)
def test_other_devices_are_not_keys(state: Path, vendor: int, product: int) -> None:
    change(state, vendor=vendor, product=product)
    with pytest.raises(Absent):
        UsbKey.open(SimulatedUsbBackend(state))


@pytest.mark.parametrize("product", [0x0010, 0x0110, 0x0111, 0x0114, 0x0116, 0x0401, 0x0403, 0x0405, 0x0407, 0x0410])
def test_every_product_with_an_otp_interface_is_a_key(state: Path, product: int) -> None:
    change(state, product=product)
    assert UsbKey.open(SimulatedUsbBackend(state)).reading.hardware_id == "7654321"


def test_several_keys_are_refused_with_the_address_of_each(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    create(other, serial=42)
    change(other, address=9)
    with pytest.raises(Several, match=r"2 keys .* 001-004 \(usb:1-1\), 002-009 \(usb:2-1\); leave only one"):
        UsbKey.open(SimulatedUsbBackend(state, other))


def test_a_key_without_permission_is_listed_and_not_opened(state: Path) -> None:
    set_faults(state, Faults(no_permission=True))
    backend = SimulatedUsbBackend(state)
    assert usb.core.find(backend=backend, idVendor=0x1050) is not None
    with pytest.raises(NoPermission, match="udev rule") as caught:
        UsbKey.open(backend)
    assert caught.value.errno == errno.EACCES


def test_a_key_that_another_program_holds_is_busy(state: Path) -> None:
    backend = SimulatedUsbBackend(state)
    first = UsbKey.open(backend)
    with pytest.raises(Busy, match="another program holds the key") as caught:
        UsbKey.open(backend)
    assert caught.value.errno == errno.EBUSY
    first.close()
    UsbKey.open(backend)


def test_a_claim_held_elsewhere_is_busy(state: Path) -> None:
    set_faults(state, Faults(held_elsewhere=True))
    with pytest.raises(Busy):
        UsbKey.open(SimulatedUsbBackend(state))


def test_the_kernel_driver_is_detached_once_and_the_configuration_never_set(programmed: Path) -> None:
    backend = SimulatedUsbBackend(programmed)
    key = UsbKey.open(backend)
    key.prove(CHALLENGE)
    key.check()
    key.close()
    UsbKey.open(backend).prove(CHALLENGE)
    assert (backend.detachments, backend.configurations_set) == (1, 0)


def test_a_key_without_a_kernel_driver_is_opened_as_well(state: Path) -> None:
    set_faults(state, Faults(kernel_driver=False))
    backend = SimulatedUsbBackend(state)
    UsbKey.open(backend)
    assert backend.detachments == 0


def test_a_kernel_driver_that_goes_by_itself_does_no_harm(state: Path) -> None:
    class Hasty(SimulatedUsbBackend):
        def detach_kernel_driver(self, handle: Any, interface: int) -> None:
            super().detach_kernel_driver(handle, interface)
            super().detach_kernel_driver(handle, interface)

    assert UsbKey.open(Hasty(state)).reading.hardware_id == "7654321"


def test_a_driver_that_cannot_be_detached_is_translated(state: Path) -> None:
    class Fixed(SimulatedUsbBackend):
        def detach_kernel_driver(self, handle: Any, interface: int) -> None:
            raise usb.core.USBError("Access denied", errno=errno.EACCES)

    with pytest.raises(NoPermission):
        UsbKey.open(Fixed(state))


def test_what_the_backend_cannot_do_is_unsupported(state: Path) -> None:
    class Foreign(SimulatedUsbBackend):
        def is_kernel_driver_active(self, handle: Any, interface: int) -> bool:
            raise NotImplementedError("is_kernel_driver_active")

    with pytest.raises(Unsupported, match=r"use libusb 1\.0 on Linux"):
        UsbKey.open(Foreign(state))


def test_a_key_with_its_keyboard_switched_off_is_unsupported(state: Path) -> None:
    class Silent(SimulatedUsbBackend):
        def get_interface_descriptor(self, *place: Any) -> Any:
            descriptor = super().get_interface_descriptor(*place)
            descriptor.bInterfaceSubClass = descriptor.bInterfaceProtocol = 0
            return descriptor

    with pytest.raises(Unsupported, match="no keyboard interface"):
        UsbKey.open(Silent(state))


def test_a_firmware_without_hmac_is_unsupported(state: Path) -> None:
    change(state, version=(2, 1, 9))
    with pytest.raises(Unsupported, match=r"firmware 2\.1\.9 has no HMAC-SHA1"):
        UsbKey.open(SimulatedUsbBackend(state))
    change(state, version=(2, 2, 0))
    UsbKey.open(SimulatedUsbBackend(state))


def test_a_key_that_hides_its_serial_is_unconfigured(state: Path) -> None:
    set_faults(state, Faults(serial_hidden=True))
    with pytest.raises(Unconfigured, match="does not show its serial"):
        UsbKey.open(SimulatedUsbBackend(state))


def test_a_failed_opening_leaves_the_key_free(state: Path) -> None:
    backend = SimulatedUsbBackend(state)
    set_faults(state, Faults(garbled=True))
    # The error is kept: its traceback would keep a forgotten reader alive, as a log does.
    with pytest.raises(Garbled) as caught:
        UsbKey.open(backend)
    set_faults(state, Faults())
    assert UsbKey.open(backend).reading.hardware_id == "7654321"
    assert caught.value.reader == "usb:1-1"


def test_a_refused_claim_leaves_no_handle_open(state: Path) -> None:
    class Counting(SimulatedUsbBackend):
        handles = 0

        def open_device(self, device: Any) -> Any:
            self.handles += 1
            return super().open_device(device)

        def close_device(self, handle: Any) -> None:
            self.handles -= 1
            super().close_device(handle)

    backend = Counting(state, faults=Faults(held_elsewhere=True))
    with pytest.raises(Busy) as caught:
        UsbKey.open(backend)
    assert backend.handles == 0
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("faults", [Faults(), Faults(touch=True), Faults(slow_polls=3)])
def test_what_an_earlier_program_left_unfinished_is_aborted(programmed: Path, faults: Faults) -> None:
    class Left(SimulatedUsbBackend):
        def claim_interface(self, handle: Any, interface: int) -> None:
            super().claim_interface(handle, interface)
            self.faults = faults
            for report in frame_reports(encode_frame(Slot.HMAC_2, CHALLENGE)):
                handle.device.chip.write_report(report)
            self.faults = None

    assert UsbKey.open(Left(programmed)).prove(CHALLENGE) == answer(CHALLENGE)


# Presence.


def test_a_check_costs_one_transfer(programmed: Path, recorder: type[Recorder]) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend)
    before = backend.transfers
    key.check()
    assert backend.transfers - before == 1


def test_a_pulled_key_is_absent(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    unplug(programmed)
    for question in (key.check, lambda: key.prove(CHALLENGE)):
        with pytest.raises(Absent, match="the key was pulled") as caught:
            question()
        assert caught.value.errno == errno.ENODEV
    key.close()


def test_a_key_that_was_put_back_is_found_by_opening_again(programmed: Path) -> None:
    backend = SimulatedUsbBackend(programmed)
    key = UsbKey.open(backend)
    unplug(programmed)
    plug(programmed)
    with pytest.raises(Absent):
        key.check()
    key.close()
    assert UsbKey.open(backend).prove(CHALLENGE) == answer(CHALLENGE)


def test_another_key_in_the_place_of_the_first_is_absent(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    change(programmed, serial=42)
    with pytest.raises(Absent):
        key.check()


def test_a_key_programmed_meanwhile_is_still_the_same_key(programmed: Path, recorder: type[Recorder]) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend)
    change(programmed, sequence=9)
    key.check()
    before = backend.transfers
    key.check()
    assert backend.transfers - before == 1


def test_a_changed_status_with_another_serial_is_absent(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    change(programmed, sequence=9, faults=Faults(answered_serial=42))
    with pytest.raises(Absent, match="another key answers, serial 42"):
        key.check()


def test_a_changed_status_with_a_hidden_serial_is_absent(state: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(state))
    change(state, sequence=9, faults=Faults(serial_hidden=True))
    with pytest.raises(Absent, match="does not show its serial any more"):
        key.check()


def test_a_key_file_of_another_user_is_told_as_a_missing_permission(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(NoPermission):
        UsbKey.open(SimulatedUsbBackend(state))


def test_closing_twice_or_after_the_key_was_pulled_is_harmless(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    unplug(programmed)
    key.close()
    key.close()


def test_a_closed_key_does_not_open_itself_again(programmed: Path) -> None:
    backend = SimulatedUsbBackend(programmed)
    key = UsbKey.open(backend)
    key.close()
    with pytest.raises(Absent, match="this reader was closed"):
        key.check()
    UsbKey.open(backend)
