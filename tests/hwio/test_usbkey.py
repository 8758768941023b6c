"""The reader of the USB Feature Key against the simulated key: finding, asking, every fault, programming."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import usb.backend.libusb1
import usb.core
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.hwio.featurekey import (
    Absent,
    Assurance,
    Busy,
    DeviceFault,
    FeatureKey,
    FeatureKeyError,
    Garbled,
    Kind,
    NoPermission,
    TouchRequired,
    Unconfigured,
    Unsupported,
)
from featurekeyd.hwio.otpframes import ABORT_REPORT, CHUNK_FLAG, Slot, encode_frame, frame_reports
from featurekeyd.hwio.simulated_otp import Faults, KeyMemory, load_memory, store_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create, plug, set_faults, unplug
from featurekeyd.hwio.usbkey import Patience, SlotOccupied, UsbKey, WriteRefused

if TYPE_CHECKING:
    from array import array
    from pathlib import Path

SECRET = bytes(range(1, 21))
OTHER_SECRET = bytes(range(101, 121))
CODE = b"abcdef"
CHALLENGE = bytes(range(1, 32)) + b"\x7f"


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Recorder(SimulatedUsbBackend):
    """A simulated bus that notes every report written and counts the transfers."""

    def __init__(self, *states: Path) -> None:
        super().__init__(*states)
        self.written: list[bytes] = []
        self.transfers = 0

    def ctrl_transfer(self, handle: Any, *question: Any) -> int:
        self.transfers += 1
        if question[0] == 0x21:
            self.written.append(question[4].tobytes())
        return super().ctrl_transfer(handle, *question)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    create(path)
    return path


@pytest.fixture
def programmed(state: Path) -> Path:
    key = UsbKey.open(SimulatedUsbBackend(state))
    key.program_challenge_response(SECRET, new_access_code=CODE)
    key.close()
    return state


def patience(clock: Clock) -> Patience:
    return Patience(clock=clock, pause=clock.pause)


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
    with pytest.raises(Unsupported, match=r"2 keys .* 001-004 \(usb:1-1\), 002-009 \(usb:2-1\); leave only one"):
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


# Challenges.


@settings(deadline=None)  # it writes files, and the machine may be loaded
@given(st.binary(min_size=31, max_size=31), st.integers(1, 255).filter(lambda last: last != 0x20))
def test_the_answer_is_the_hmac_of_the_32_bytes(
    tmp_path_factory: pytest.TempPathFactory, begin: bytes, last: int
) -> None:
    state = tmp_path_factory.getbasetemp() / "padding.json"
    if not state.exists():
        create(state)
        UsbKey.open(SimulatedUsbBackend(state)).program_challenge_response(SECRET)
    challenge = begin + bytes([last])
    assert UsbKey.open(SimulatedUsbBackend(state)).prove(challenge) == answer(challenge)


@pytest.mark.parametrize("last", [0x00, 0x20])
def test_a_challenge_that_ends_like_padding_is_refused_unasked(programmed: Path, last: int) -> None:
    backend = Recorder(programmed)
    key = UsbKey.open(backend)
    before = backend.transfers
    with pytest.raises(ValueError, match=f"byte 31 of the challenge is {last:02x}"):
        key.prove(CHALLENGE[:31] + bytes([last]))
    assert backend.transfers == before


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_challenge_of_another_length_is_refused(programmed: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"the challenge is {size} bytes and has to be 32"):
        UsbKey.open(SimulatedUsbBackend(programmed)).prove(b"\x01" * size)


def test_an_unconfigured_slot_is_told_at_once(state: Path) -> None:
    clock = Clock()
    key = UsbKey.open(SimulatedUsbBackend(state), patience=patience(clock))
    with pytest.raises(Unconfigured, match="slot 2 holds no HMAC-SHA1 secret"):
        key.prove(CHALLENGE)
    assert clock.now == 1000.0


def test_a_wanted_touch_is_refused_and_the_question_aborted(programmed: Path) -> None:
    backend = Recorder(programmed)
    key = UsbKey.open(backend)
    set_faults(programmed, Faults(touch=True))
    with pytest.raises(TouchRequired, match="without touch"):
        key.prove(CHALLENGE)
    assert backend.written[-1] == ABORT_REPORT
    set_faults(programmed, Faults())
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_a_garbled_answer_is_told_and_the_key_stays_usable(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    set_faults(programmed, Faults(garbled=True))
    with pytest.raises(Garbled, match="the answer's checksum is wrong"):
        key.prove(CHALLENGE)
    set_faults(programmed, Faults())
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_a_busy_key_is_waited_for_before_each_chunk(programmed: Path) -> None:
    clock = Clock()
    set_faults(programmed, Faults(busy_polls=7))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=patience(clock))
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    assert clock.now > 1000.0


def test_a_key_that_stays_busy_is_given_up_after_the_vendors_limit(programmed: Path) -> None:
    clock = Clock()
    backend = Recorder(programmed)
    key = UsbKey.open(backend, patience=patience(clock))
    set_faults(programmed, Faults(busy_polls=10**9))
    before = clock.now
    with pytest.raises(Busy, match="stayed busy"):
        key.prove(CHALLENGE)
    assert clock.now - before == pytest.approx(1.15, abs=0.01)
    assert backend.written[-1] == ABORT_REPORT


def test_a_slow_answer_is_waited_for(programmed: Path) -> None:
    clock = Clock()
    set_faults(programmed, Faults(slow_polls=900))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=patience(clock))
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    assert clock.now - 1000.0 == pytest.approx(2 * 1.8, abs=0.01)


def test_an_answer_that_never_comes_is_given_up_after_the_limit_of_a_question(programmed: Path) -> None:
    clock = Clock()
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=patience(clock))
    set_faults(programmed, Faults(slow_polls=10**9))
    before = clock.now
    with pytest.raises(Busy, match="did not finish its answer in time"):
        key.prove(CHALLENGE)
    assert clock.now - before == pytest.approx(3.0, abs=0.01)
    set_faults(programmed, Faults())
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_the_default_patience_is_two_seconds_or_more() -> None:
    assert Patience().question >= 2
    assert Patience().chunk == 1.15


def test_a_transfer_without_answer_is_busy(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    set_faults(programmed, Faults(silent=True))
    with pytest.raises(Busy, match="did not answer a transfer") as caught:
        key.prove(CHALLENGE)
    assert caught.value.errno == errno.ETIMEDOUT


def test_answers_with_the_busy_bit_set_are_taken(programmed: Path) -> None:
    change(programmed, answer_flag=0xC0)
    assert UsbKey.open(SimulatedUsbBackend(programmed)).prove(CHALLENGE) == answer(CHALLENGE)


def test_another_operating_system_error_is_a_fault_with_its_number(programmed: Path) -> None:
    class Worn(SimulatedUsbBackend):
        worn = False

        def ctrl_transfer(self, handle: Any, *question: Any) -> int:
            if self.worn:
                raise usb.core.USBError("Input/Output Error", errno=errno.EIO)
            return super().ctrl_transfer(handle, *question)

    backend = Worn(programmed)
    key = UsbKey.open(backend)
    backend.worn = True
    with pytest.raises(DeviceFault) as caught:
        key.check()
    assert caught.value.errno == errno.EIO


def test_a_short_report_is_garbled_and_the_question_aborted(programmed: Path) -> None:
    class Short(Recorder):
        short = False

        def ctrl_transfer(self, handle: Any, *question: Any) -> int:
            cut = self.short and question[0] == 0xA1 and self.written[-1] != ABORT_REPORT
            return super().ctrl_transfer(handle, *question) - cut

    backend = Short(programmed)
    key = UsbKey.open(backend)
    backend.short = True
    with pytest.raises(Garbled, match="a report of 7 bytes"):
        key.prove(CHALLENGE)
    assert backend.written[-1] == ABORT_REPORT


def test_a_question_is_aborted_whatever_ends_it(programmed: Path) -> None:
    class Interrupted(Recorder):
        interrupted = False

        def ctrl_transfer(self, handle: Any, *question: Any) -> int:
            if self.interrupted and question[0] == 0xA1 and self.written[-1] != ABORT_REPORT:
                raise KeyboardInterrupt
            return super().ctrl_transfer(handle, *question)

    backend = Interrupted(programmed)
    key = UsbKey.open(backend)
    backend.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        key.prove(CHALLENGE)
    assert len(backend.written) > 2
    assert backend.written[-1] == ABORT_REPORT


class Scripted(SimulatedUsbBackend):
    """A key that shows the reports it is given, the last one for ever, whatever is written."""

    def __init__(self, state: Path, reports: list[bytes]) -> None:
        super().__init__(state)
        self._reports = reports
        self._shown = 0
        self.written: list[bytes] = []

    def ctrl_transfer(self, handle: Any, request_type: int, *rest: Any) -> int:
        data: array[int] = rest[3]
        if request_type == 0x21:
            self.written.append(data.tobytes())
            return len(data)
        report = self._reports[min(self._shown, len(self._reports) - 1)]
        self._shown += 1
        data[: len(report)] = type(data)("B", report)
        return len(report)


STATUS = bytes([0, 5, 4, 3, 1, 2, 0, 0])
SERIAL_ANSWER = [b"\x00\x74\xcb\xb1\x67\x95\x00\x40", bytes(7) + b"\x40"]
likely_reports = st.one_of(
    st.just(STATUS),
    st.builds(lambda data, flag: data + bytes([flag]), st.binary(min_size=7, max_size=7), st.integers(0, 255)),
    st.builds(lambda data, seq: data + bytes([seq]), st.binary(min_size=7, max_size=7), st.integers(0x40, 0x50)),
    st.binary(max_size=8),
)


@settings(deadline=None)  # it writes files, and the machine may be loaded
@given(st.lists(likely_reports, min_size=1, max_size=40), st.integers(0, 12))
def test_arbitrary_reports_raise_nothing_but_feature_key_errors_and_never_hang(
    tmp_path_factory: pytest.TempPathFactory, reports: list[bytes], sound: int
) -> None:
    state = tmp_path_factory.getbasetemp() / "scripted.json"
    if not state.exists():
        create(state)
    clock = Clock()
    opening = [STATUS, STATUS, STATUS, STATUS, *SERIAL_ANSWER]
    with contextlib.suppress(FeatureKeyError):
        key = UsbKey.open(Scripted(state, opening[:sound] + reports), patience=patience(clock))
        with contextlib.suppress(FeatureKeyError):
            key.prove(CHALLENGE)
        with contextlib.suppress(FeatureKeyError):
            key.check()
        with contextlib.suppress(FeatureKeyError):
            key.program_challenge_response(SECRET, replace=True)
    # One question for opening, proving, checking and programming each.
    assert clock.now - 1000.0 <= 4 * 3.1


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ([SERIAL_ANSWER[0], bytes(7) + b"\x42"], "chunk 2 came where chunk 1 was due"),
        ([SERIAL_ANSWER[0], STATUS], "the answer broke off"),
        ([bytes(7) + b"\x7f"], "flag byte 7f"),
    ],
)
def test_an_answer_against_the_protocol_is_garbled_and_aborted(state: Path, reports: list[bytes], told: str) -> None:
    backend = Scripted(state, [STATUS, STATUS, STATUS, STATUS, *reports])
    with pytest.raises(Garbled, match=told):
        UsbKey.open(backend)
    assert backend.written[-1] == ABORT_REPORT


def test_an_answer_before_the_question_is_written_is_garbled(state: Path) -> None:
    with pytest.raises(Garbled, match="before the question was written"):
        UsbKey.open(Scripted(state, [STATUS, STATUS, *SERIAL_ANSWER]))


def test_a_key_that_does_not_heed_the_abort_is_garbled_after_the_limit_of_a_question(state: Path) -> None:
    clock = Clock()
    with pytest.raises(Garbled, match="flag byte 40 after the abort, 00 was due"):
        UsbKey.open(Scripted(state, SERIAL_ANSWER), patience=patience(clock))
    assert clock.now - 1000.0 == pytest.approx(3.0, abs=0.01)


def test_a_key_that_wants_a_touch_in_spite_of_the_abort_is_told_after_the_limit_of_a_question(state: Path) -> None:
    clock = Clock()
    with pytest.raises(TouchRequired):
        UsbKey.open(Scripted(state, [bytes(7) + b"\x2f"]), patience=patience(clock))
    assert clock.now - 1000.0 == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("lag", [1, 2, 3, 1000])
def test_a_key_that_heeds_the_abort_late_is_waited_for(programmed: Path, lag: int) -> None:
    clock = Clock()
    set_faults(programmed, Faults(lag_polls=lag))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=patience(clock))
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    key.check()


def test_a_wanted_touch_that_goes_late_is_waited_for(programmed: Path) -> None:
    clock = Clock()
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=patience(clock))
    set_faults(programmed, Faults(touch=True, lag_polls=3))
    with pytest.raises(TouchRequired):
        key.prove(CHALLENGE)
    set_faults(programmed, Faults())
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


# Presence.


def test_a_check_costs_one_transfer(programmed: Path) -> None:
    backend = Recorder(programmed)
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


def test_a_key_programmed_meanwhile_is_still_the_same_key(programmed: Path) -> None:
    backend = Recorder(programmed)
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


# Programming.


def test_a_fresh_key_is_programmed_and_answers(state: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(state))
    key.program_challenge_response(SECRET, new_access_code=CODE)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    assert key.reading.detail.endswith("slot 2 configured")
    key.check()
    memory = load_memory(state)
    record = memory.record(2)
    assert record is not None
    assert (record.extended, record.ticket, record.config) == (0x04, 0x40, 0x26)
    assert (record.access_code, memory.sequence) == (CODE, 1)


def test_a_key_that_hides_its_serial_shows_it_once_programmed(state: Path) -> None:
    set_faults(state, Faults(serial_hidden=True))
    key = UsbKey.open(SimulatedUsbBackend(state), serial_needed=False)
    before = key.reading
    key.program_challenge_response(SECRET)
    assert (before.hardware_id, key.reading.hardware_id) == ("", "7654321")


def test_a_configured_slot_is_not_overwritten_unasked(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    with pytest.raises(SlotOccupied, match="configured already"):
        key.program_challenge_response(OTHER_SECRET, access_code=CODE)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_a_configured_slot_is_replaced_when_asked_and_keeps_its_access_code(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    key.program_challenge_response(OTHER_SECRET, access_code=CODE, replace=True)
    assert key.prove(CHALLENGE) == answer(CHALLENGE, OTHER_SECRET)
    with pytest.raises(WriteRefused):
        key.program_challenge_response(SECRET, replace=True)


def test_a_wrong_access_code_changes_nothing_and_says_so(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    with pytest.raises(WriteRefused, match="program sequence 1, then 1; give the access code") as caught:
        key.program_challenge_response(OTHER_SECRET, access_code=b"wrong!", replace=True)
    assert "wrong!" not in str(caught.value)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_the_access_code_can_be_changed(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    key.program_challenge_response(SECRET, access_code=CODE, new_access_code=b"uvwxyz", replace=True)
    with pytest.raises(WriteRefused):
        key.clear_slot_2(CODE)
    key.clear_slot_2(b"uvwxyz")


def test_a_cleared_slot_is_unconfigured(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    key.clear_slot_2(CODE)
    with pytest.raises(Unconfigured):
        key.prove(CHALLENGE)
    assert load_memory(programmed).sequence == 0
    assert key.reading.detail.endswith("slot 2 empty")


def test_clearing_needs_the_access_code(programmed: Path) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    with pytest.raises(WriteRefused):
        key.clear_slot_2()
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_clearing_an_empty_slot_writes_nothing(state: Path) -> None:
    backend = Recorder(state)
    key = UsbKey.open(backend)
    before = len(backend.written)
    key.clear_slot_2()
    assert len(backend.written) == before


def test_slot_1_is_left_alone(programmed: Path) -> None:
    change(programmed, slot_1=load_memory(programmed).slot_2)
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    key.clear_slot_2(CODE)
    memory = load_memory(programmed)
    assert memory.slot_1
    assert not memory.slot_2
    assert memory.sequence == 2


def test_the_program_sequence_may_wrap(programmed: Path) -> None:
    change(programmed, sequence=0xFF)
    key = UsbKey.open(SimulatedUsbBackend(programmed))
    key.program_challenge_response(OTHER_SECRET, access_code=CODE, replace=True)
    assert load_memory(programmed).sequence == 1


@pytest.mark.parametrize(
    ("secret", "access_code", "new_access_code"),
    [(SECRET[:19], CODE, CODE), (SECRET + b"x", CODE, CODE), (SECRET, b"five5", CODE), (SECRET, CODE, b"seven77")],
)
def test_wrong_sizes_are_refused_before_anything_is_written(
    state: Path, secret: bytes, access_code: bytes, new_access_code: bytes
) -> None:
    backend = Recorder(state)
    key = UsbKey.open(backend)
    before = len(backend.written)
    with pytest.raises(ValueError, match="has to be"):
        key.program_challenge_response(secret, access_code=access_code, new_access_code=new_access_code)
    assert len(backend.written) == before


def test_a_busy_key_is_programmed_too(state: Path) -> None:
    clock = Clock()
    set_faults(state, Faults(busy_polls=20))
    key = UsbKey.open(SimulatedUsbBackend(state), patience=patience(clock))
    key.program_challenge_response(SECRET)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)


def test_chunks_are_written_only_when_the_key_is_not_busy(state: Path) -> None:
    class Strict(SimulatedUsbBackend):
        def ctrl_transfer(self, handle: Any, *question: Any) -> int:
            chunk = question[0] == 0x21 and CHUNK_FLAG <= question[4][7] < CHUNK_FLAG + 10
            assert not (chunk and handle.device.chip._busy), "a chunk was written while the key was busy"
            return super().ctrl_transfer(handle, *question)

    set_faults(state, Faults(busy_polls=3))
    UsbKey.open(Strict(state)).program_challenge_response(SECRET)


def test_memories_of_different_keys_do_not_mix(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    store_memory(other, KeyMemory(serial=42))
    unplug(other)
    backend = SimulatedUsbBackend(state, other)
    UsbKey.open(backend).program_challenge_response(SECRET)
    assert not load_memory(other).slot_2
