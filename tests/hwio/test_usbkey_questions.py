"""Questions to the simulated USB key: challenges, slowness, faults, and reports against the protocol."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import usb.core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.hwio.featurekey import (
    Busy,
    DeviceFault,
    FeatureKeyError,
    Garbled,
    TouchRequired,
    Unconfigured,
)
from featurekeyd.hwio.otpframes import ABORT_FLAG, ABORT_REPORT, CHUNK_FLAG
from featurekeyd.hwio.simulated_otp import Faults, load_memory, store_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create, set_faults
from featurekeyd.hwio.usbkey import Patience, UsbKey

if TYPE_CHECKING:
    from array import array
    from pathlib import Path

    from tests.hwio.conftest import Clock, Recorder

SECRET = bytes(range(1, 21))
CHALLENGE = bytes(range(1, 32)) + b"\x7f"


def change(state: Path, **fields: Any) -> None:
    store_memory(state, msgspec.structs.replace(load_memory(state), **fields))


def answer(challenge: bytes, secret: bytes = SECRET) -> bytes:
    return hmac.digest(secret, challenge, hashlib.sha1)


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
def test_a_challenge_that_ends_like_padding_is_refused_unasked(
    programmed: Path, last: int, recorder: type[Recorder]
) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend)
    before = backend.transfers
    with pytest.raises(ValueError, match=f"byte 31 of the challenge is {last:02x}"):
        key.prove(CHALLENGE[:31] + bytes([last]))
    assert backend.transfers == before


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_challenge_of_another_length_is_refused(programmed: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"the challenge is {size} bytes and has to be 32"):
        UsbKey.open(SimulatedUsbBackend(programmed)).prove(b"\x01" * size)


def test_an_unconfigured_slot_is_told_at_once(state: Path, clock: Clock) -> None:
    key = UsbKey.open(SimulatedUsbBackend(state), patience=clock.patience)
    with pytest.raises(Unconfigured, match="slot 2 holds no HMAC-SHA1 secret"):
        key.prove(CHALLENGE)
    assert clock.now == 1000.0


def test_a_wanted_touch_is_refused_and_the_question_aborted(programmed: Path, recorder: type[Recorder]) -> None:
    backend = recorder(programmed)
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


def test_a_busy_key_is_waited_for_before_each_chunk(programmed: Path, clock: Clock) -> None:
    set_faults(programmed, Faults(busy_polls=7))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=clock.patience)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    assert clock.now > 1000.0


def test_a_key_that_stays_busy_is_given_up_after_the_vendors_limit(
    programmed: Path, clock: Clock, recorder: type[Recorder]
) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend, patience=clock.patience)
    set_faults(programmed, Faults(busy_polls=10**9))
    before = clock.now
    with pytest.raises(Busy, match="stayed busy"):
        key.prove(CHALLENGE)
    assert clock.now - before == pytest.approx(1.15, abs=0.01)
    assert backend.written[-1] == ABORT_REPORT


def test_a_slow_answer_is_waited_for(programmed: Path, clock: Clock) -> None:
    set_faults(programmed, Faults(slow_polls=900))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=clock.patience)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    assert clock.now - 1000.0 == pytest.approx(2 * 1.8, abs=0.01)


def test_an_answer_that_never_comes_is_given_up_after_the_limit_of_a_question(programmed: Path, clock: Clock) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=clock.patience)
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


def test_a_short_report_is_garbled_and_the_question_aborted(
    programmed: Path, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend)
    transfer = backend.ctrl_transfer

    def short(handle: Any, *question: Any) -> int:
        cut = question[0] == 0xA1 and backend.written[-1] != ABORT_REPORT
        return transfer(handle, *question) - cut

    monkeypatch.setattr(backend, "ctrl_transfer", short)
    with pytest.raises(Garbled, match="a report of 7 bytes"):
        key.prove(CHALLENGE)
    assert backend.written[-1] == ABORT_REPORT


def test_a_question_is_aborted_whatever_ends_it(
    programmed: Path, recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = recorder(programmed)
    key = UsbKey.open(backend)
    transfer = backend.ctrl_transfer
    before = len(backend.written)

    def interrupted(handle: Any, *question: Any) -> int:
        if question[0] == 0xA1 and backend.written[-1] != ABORT_REPORT:
            raise KeyboardInterrupt
        return transfer(handle, *question)

    monkeypatch.setattr(backend, "ctrl_transfer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        key.prove(CHALLENGE)
    assert [report[7] for report in backend.written[before:]] == [CHUNK_FLAG, ABORT_FLAG]


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


# It writes files, and the machine may be loaded; the clock is read before each example.
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(likely_reports, min_size=1, max_size=40), st.integers(0, 12))
def test_arbitrary_reports_raise_nothing_but_feature_key_errors_and_never_hang(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, reports: list[bytes], sound: int
) -> None:
    state = tmp_path_factory.getbasetemp() / "scripted.json"
    if not state.exists():
        create(state)
    before = clock.now
    opening = [STATUS, STATUS, STATUS, STATUS, *SERIAL_ANSWER]
    with contextlib.suppress(FeatureKeyError):
        key = UsbKey.open(Scripted(state, opening[:sound] + reports), patience=clock.patience)
        with contextlib.suppress(FeatureKeyError):
            key.prove(CHALLENGE)
        with contextlib.suppress(FeatureKeyError):
            key.check()
        with contextlib.suppress(FeatureKeyError):
            key.program_challenge_response(SECRET, replace=True)
    # One question for opening, proving, checking and programming each.
    assert clock.now - before <= 4 * 3.1


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


def test_a_key_that_does_not_heed_the_abort_is_garbled_after_the_limit_of_a_question(state: Path, clock: Clock) -> None:
    with pytest.raises(Garbled, match="flag byte 40 after the abort, 00 was due"):
        UsbKey.open(Scripted(state, SERIAL_ANSWER), patience=clock.patience)
    assert clock.now - 1000.0 == pytest.approx(3.0, abs=0.01)


def test_a_key_that_wants_a_touch_in_spite_of_the_abort_is_told_after_the_limit_of_a_question(
    state: Path, clock: Clock
) -> None:
    with pytest.raises(TouchRequired):
        UsbKey.open(Scripted(state, [bytes(7) + b"\x2f"]), patience=clock.patience)
    assert clock.now - 1000.0 == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("lag", [1, 2, 3, 1000])
def test_a_key_that_heeds_the_abort_late_is_waited_for(programmed: Path, lag: int, clock: Clock) -> None:
    set_faults(programmed, Faults(lag_polls=lag))
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=clock.patience)
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
    key.check()


def test_a_wanted_touch_that_goes_late_is_waited_for(programmed: Path, clock: Clock) -> None:
    key = UsbKey.open(SimulatedUsbBackend(programmed), patience=clock.patience)
    set_faults(programmed, Faults(touch=True, lag_polls=3))
    with pytest.raises(TouchRequired):
        key.prove(CHALLENGE)
    set_faults(programmed, Faults())
    assert key.prove(CHALLENGE) == answer(CHALLENGE)
