"""From the text of a reader to an opened key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.hwio import search
from featurekeyd.hwio.featurekey import Absent, Busy, FeatureKey
from featurekeyd.hwio.search import FORMS, find_reader, open_feature_key
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_slot import SimulatedSlot


def refusing(error: Exception) -> search.Opener:
    def refuse() -> FeatureKey:
        raise error

    return refuse


def test_a_serial_reader_is_opened(device: SimulatedBusPirate) -> None:
    key = open_feature_key(f"serial:{device.port}")
    assert key.reading.reader == f"serial:{device.port}"
    key.close()


def test_a_slot_below_a_folder_is_opened(tmp_path: Path) -> None:
    slot = SimulatedSlot(tmp_path)
    assert open_feature_key(f"slot:{tmp_path}").reading.reader == f"slot:{slot.name}"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_is_told_is_understood(form: str) -> None:
    assert callable(find_reader(form))


@pytest.mark.parametrize(
    "reader",
    ["", " ", "floppy", "Slot", "serial", "serial:", "serial:ttyUSB0", "slot:", "usb:", "usb:1-4", "usb-simulator",
     "host:rel", "auto:/x", "serial:/dev/tty\0", ":/dev/x", "serial /dev/ttyUSB0"],
)  # fmt: skip
def test_a_bad_reader_is_a_value_error_that_names_the_forms(reader: str) -> None:
    with pytest.raises(ValueError, match="is not a reader") as caught:
        open_feature_key(reader)
    assert all(form in str(caught.value) for form in FORMS)


@given(st.text(max_size=30).filter(lambda text: ":" not in text and text not in FORMS))
def test_any_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a reader"):
        find_reader(text)


def test_auto_takes_the_slot_when_no_usb_key_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    SimulatedSlot(tmp_path)
    monkeypatch.setitem(search._WITHOUT_PLACE, "usb", refusing(Absent("usb", "none")))
    monkeypatch.setitem(search._WITHOUT_PLACE, "slot", find_reader(f"slot:{tmp_path}"))
    assert open_feature_key("auto").reading.reader.startswith("slot:mmc0")


def test_auto_stops_at_a_key_that_is_there_and_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search._WITHOUT_PLACE, "usb", refusing(Busy("usb:1-4", "another program holds it")))
    with pytest.raises(Busy):
        open_feature_key("auto")


def test_auto_without_any_key_names_each_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(search._WITHOUT_PLACE, "usb", refusing(Absent("usb", "nothing plugged in")))
    monkeypatch.setitem(search._WITHOUT_PLACE, "slot", find_reader(f"slot:{tmp_path}"))
    with pytest.raises(Absent, match=r"usb: nothing plugged in.*slot: this host has no mmc slot"):
        open_feature_key("auto")


def test_a_host_key_is_opened_by_its_own_module(tmp_path: Path) -> None:
    pytest.importorskip("featurekeyd.hwio.hostkey")
    with pytest.raises(Exception, match="host"):
        open_feature_key(f"host:{tmp_path}")


def test_a_usb_simulator_is_opened_by_its_own_module(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        open_feature_key(f"usb-simulator:{tmp_path / 'none'}")


def test_a_reader_loads_only_its_own_library(tmp_path: Path) -> None:
    SimulatedSlot(tmp_path)
    program = (
        "import sys\n"
        "from featurekeyd.hwio.search import open_feature_key\n"
        "open_feature_key('slot:' + sys.argv[1])\n"
        "assert not {'serial', 'usb', 'netifaces', 'psutil'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
