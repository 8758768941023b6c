"""The simulated USB key on the console: every command reaches the reader, and the key outlives the console."""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING

import pytest

from featurekeyd.hwio.featurekey import (
    Absent,
    Busy,
    FeatureKeyError,
    Garbled,
    NoPermission,
    TouchRequired,
    Unconfigured,
)
from featurekeyd.hwio.search import open_feature_key
from featurekeyd.hwio.simulated_otp import load_memory
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend
from featurekeyd.hwio.simulator import KINDS
from featurekeyd.hwio.usbkey import Patience, UsbKey
from featurekeyd.hwio.usbkey_console import USB_OTP, UsbDevice

if TYPE_CHECKING:
    from pathlib import Path

CHALLENGE = b"\x01" * 32


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    USB_OTP.add_arguments(parser)
    return parser.parse_args(words)


def proved(state: Path) -> bytes:
    ticks = itertools.count(step=0.01)
    patience = Patience(clock=lambda: next(ticks), pause=lambda _: None)
    return UsbKey.open(SimulatedUsbBackend(state), patience=patience).prove(CHALLENGE)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    with USB_OTP.start(arguments(str(path), "--serial", "42")):
        UsbKey.open(SimulatedUsbBackend(path)).program_challenge_response(bytes(20))
    return path


def obey(state: Path, line: str) -> None:
    verb, *words = line.split()
    UsbDevice(state).verbs[verb].run(words)


def test_the_simulator_offers_the_key() -> None:
    assert USB_OTP in KINDS


def test_a_new_key_has_the_serial_asked_for_and_is_found_by_its_reader_text(state: Path) -> None:
    assert open_feature_key(f"usb-simulator:{state}").reading.hardware_id == "42"


def test_the_key_outlives_the_console_and_is_plugged_in_again_by_the_next(state: Path) -> None:
    obey(state, "unplug")
    with USB_OTP.start(arguments(str(state))) as device:
        assert device.ready == str(state)
    memory = load_memory(state)
    assert (memory.serial, memory.address, memory.faults.unplugged) == (42, 5, False)
    assert memory.slot_2


def test_a_key_with_another_serial_is_not_taken(state: Path) -> None:
    with (
        pytest.raises(OSError, match="is the key with serial 42"),
        USB_OTP.start(arguments(str(state), "--serial", "7")),
    ):
        pytest.fail("it started")


def test_a_bad_serial_is_an_error_that_the_command_can_show(tmp_path: Path) -> None:
    words = arguments(str(tmp_path / "new.json"), "--serial", "0")
    with pytest.raises(OSError, match="between 1 and 4294967295"), USB_OTP.start(words):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("unplug", Absent),
        ("deny", NoPermission),
        ("hold", Busy),
        ("silence", Busy),
        ("touch", TouchRequired),
        ("garble", Garbled),
        ("slow 1000000", Busy),
        ("busy 1000000", Busy),
        ("lag 1000000", Garbled),
    ],
)
def test_each_fault_reaches_the_reader_and_ends_again(state: Path, line: str, error: type[FeatureKeyError]) -> None:
    obey(state, line)
    with pytest.raises(error):
        proved(state)
    obey(state, "plug")
    obey(state, "well")
    assert len(proved(state)) == 20


def test_a_hidden_serial_is_shown_again_by_a_slot_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "fresh.json"
    with USB_OTP.start(arguments(str(path))):
        obey(path, "hide")
    with pytest.raises(Unconfigured):
        UsbKey.open(SimulatedUsbBackend(path))


def test_another_serial_is_answered(state: Path) -> None:
    obey(state, "serial 99")
    assert UsbKey.open(SimulatedUsbBackend(state)).reading.hardware_id == "99"


def test_well_leaves_a_pulled_key_pulled(state: Path) -> None:
    obey(state, "unplug")
    obey(state, "garble")
    obey(state, "well")
    faults = load_memory(state).faults
    assert faults.unplugged
    assert not faults.garbled


@pytest.mark.parametrize("line", ["unplug now", "slow", "slow -1", "slow 1000001", "busy x", "serial 4294967296"])
def test_bad_words_are_refused(state: Path, line: str) -> None:
    before = load_memory(state)
    with pytest.raises(ValueError, match=r"nothing may follow|one whole number"):
        obey(state, line)
    assert load_memory(state) == before
