"""Programming the simulated USB key: access codes, what is left alone, and what a key refuses."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.hwio.featurekey import (
    Unconfigured,
)
from featurekeyd.hwio.otpframes import CHUNK_FLAG
from featurekeyd.hwio.simulated_otp import Faults, KeyMemory, load_memory, store_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, set_faults, unplug
from featurekeyd.hwio.usbkey import SlotOccupied, UsbKey, WriteRefused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hwio.conftest import Clock, Recorder

SECRET = bytes(range(1, 21))
OTHER_SECRET = bytes(range(101, 121))
CODE = b"abcdef"
CHALLENGE = bytes(range(1, 32)) + b"\x7f"


def change(state: Path, **fields: Any) -> None:
    store_memory(state, msgspec.structs.replace(load_memory(state), **fields))


def answer(challenge: bytes, secret: bytes = SECRET) -> bytes:
    return hmac.digest(secret, challenge, hashlib.sha1)


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


def test_clearing_an_empty_slot_writes_nothing(state: Path, recorder: type[Recorder]) -> None:
    backend = recorder(state)
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
    state: Path, secret: bytes, access_code: bytes, new_access_code: bytes, recorder: type[Recorder]
) -> None:
    backend = recorder(state)
    key = UsbKey.open(backend)
    before = len(backend.written)
    with pytest.raises(ValueError, match="has to be"):
        key.program_challenge_response(secret, access_code=access_code, new_access_code=new_access_code)
    assert len(backend.written) == before


def test_a_busy_key_is_programmed_too(state: Path, clock: Clock) -> None:
    set_faults(state, Faults(busy_polls=20))
    key = UsbKey.open(SimulatedUsbBackend(state), patience=clock.patience)
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
