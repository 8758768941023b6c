"""The Feature Key in an mmc slot, read from simulated sysfs trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.hwio import slotcard
from featurekeyd.hwio.featurekey import (
    Absent,
    Assurance,
    DeviceFault,
    FeatureKey,
    FeatureKeyError,
    Garbled,
    Kind,
    NoPermission,
    Several,
    Unsupported,
)
from featurekeyd.hwio.sdcard import Cid
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.simulated_card import EXAMPLE_CID, Garble
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_slot import SimulatedSlot
from featurekeyd.hwio.slotcard import ATTRIBUTE_MOST, SlotCard

OTHER_CID = Cid.from_hex("275048534433324760a1b2c3d4014900")


@pytest.fixture
def slot(tmp_path: Path) -> SimulatedSlot:
    return SimulatedSlot(tmp_path / "sys")


def test_a_card_is_read(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    assert isinstance(key, FeatureKey)
    assert key.reading.kind is Kind.SD_CARD
    assert key.reading.hardware_id == "035344535530384780deadbeef0136"
    assert key.reading.assurance is Assurance.A1
    assert key.reading.reader == f"slot:{slot.name}"
    assert key.reading.detail == EXAMPLE_CID.detail


def test_a_card_has_one_identity_in_a_slot_and_on_a_serial_reader(slot: SimulatedSlot, line: SimulatedLine) -> None:
    assert SlotCard.open(slot.root).reading.hardware_id == SerialCard.on_line(line).reading.hardware_id


@pytest.mark.parametrize("strip_crc", [True, False])
def test_the_checksum_may_be_stripped_or_real(tmp_path: Path, strip_crc: bool) -> None:
    slot = SimulatedSlot(tmp_path, strip_crc=strip_crc)
    assert (tmp_path / "bus/mmc/devices" / slot.name / "cid").read_text().endswith("00\n" if strip_crc else "3d\n")
    assert SlotCard.open(tmp_path).reading.hardware_id == EXAMPLE_CID.hardware_id


def test_a_root_other_than_sys_is_simulated(slot: SimulatedSlot, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(slot.root)
    assert SlotCard.open(slot.root).reading.simulated
    assert SlotCard.open(tmp_path / "link").reading.simulated


def test_an_empty_slot_is_absent(slot: SimulatedSlot) -> None:
    slot.remove()
    with pytest.raises(Absent, match="no SD card below"):
        SlotCard.open(slot.root)


def test_a_host_without_slots_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no mmc slot") as caught:
        SlotCard.open(tmp_path)
    assert caught.value.errno == 2


def test_an_emmc_is_not_a_card(slot: SimulatedSlot) -> None:
    slot.add_emmc()
    assert SlotCard.open(slot.root).reading.hardware_id == EXAMPLE_CID.hardware_id
    slot.remove()
    with pytest.raises(Absent):
        SlotCard.open(slot.root)


def test_two_cards_are_named_and_one_can_be_chosen(slot: SimulatedSlot) -> None:
    second = SimulatedSlot(slot.root, OTHER_CID, host=2)
    with pytest.raises(Several, match=f"2 SD cards, and no name was chosen: {slot.name}, {second.name}"):
        SlotCard.open(slot.root)
    key = SlotCard.open(slot.root, name=second.name)
    assert key.reading.hardware_id == OTHER_CID.hardware_id
    with pytest.raises(Absent, match="slot:mmc9:0001"):
        SlotCard.open(slot.root, name="mmc9:0001")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "here are 0"),
        ("0353", "here are 4"),
        (EXAMPLE_CID.raw.hex() + "00", "here are 34"),
        ("x" + EXAMPLE_CID.raw.hex()[1:], "character 1 of the CID is 'x'"),
        (EXAMPLE_CID.raw.hex()[:30] + "3f", "CRC7 in byte 15 of the CID is 3f, computed 3d"),
        ("0" * 32, "all 00"),
        ("f" * 32, "all ff"),
        (EXAMPLE_CID.raw.hex()[:30] + "00\x00", "character 33"),
    ],
)
def test_garbage_in_the_cid_is_named(slot: SimulatedSlot, text: str, words: str) -> None:
    key = SlotCard.open(slot.root)
    slot.write_cid(text)
    with pytest.raises(Garbled, match=words):
        SlotCard.open(slot.root)
    with pytest.raises(Garbled, match=words):
        key.check()


@pytest.mark.parametrize("garble", Garble)
def test_a_garbled_slot_is_garbled_until_it_is_well(slot: SimulatedSlot, garble: Garble) -> None:
    slot.garble(garble)
    with pytest.raises(Garbled):
        SlotCard.open(slot.root)
    slot.well()
    SlotCard.open(slot.root).check()


def test_a_huge_attribute_is_read_only_in_part(slot: SimulatedSlot) -> None:
    slot.write_cid("0" * 100_000)
    with pytest.raises(Garbled, match=f"here are {ATTRIBUTE_MOST}"):
        SlotCard.open(slot.root)


def test_a_pulled_card_is_absent_at_the_next_check_and_found_when_put_back(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    key.check()
    slot.remove()
    with pytest.raises(Absent, match="the card is gone"):
        key.check()
    slot.insert()
    SlotCard.open(slot.root).check()


def test_an_exchanged_card_is_absent(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    slot.insert(OTHER_CID)
    with pytest.raises(Absent):
        key.check()


def test_another_card_under_the_same_name_is_told(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    slot.write_cid(OTHER_CID.raw.hex())
    with pytest.raises(Absent, match=r"is gone; another one \(maker 27 OEM PH name SD32G"):
        key.check()


def test_a_pipe_in_place_of_a_file_is_garbled_and_waits_for_nobody(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    cid = slot.root / "bus/mmc/devices" / slot.name / "cid"
    cid.unlink()
    os.mkfifo(cid)
    with pytest.raises(Garbled):
        key.check()


def test_a_check_reads_one_file(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    for attribute in (slot.root / "bus/mmc/devices" / slot.name).iterdir():
        if attribute.name != "cid":
            attribute.unlink()
    key.check()


@pytest.mark.parametrize(("number", "error"), [(13, NoPermission), (1, NoPermission), (19, Absent), (5, DeviceFault)])
def test_the_errno_of_a_read_decides(
    monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot, number: int, error: type[FeatureKeyError]
) -> None:
    key = SlotCard.open(slot.root)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    # The tests may run as root, to whom nothing is forbidden: the refusal is the operating system's, given by hand.
    monkeypatch.setattr(slotcard, "_open_at_once", refuse)
    with pytest.raises(error) as caught:
        key.check()
    assert caught.value.errno == number


def test_a_folder_that_may_not_be_listed_needs_permission(monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(NoPermission):
        SlotCard.open(slot.root)


def test_a_root_that_is_a_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Absent):
        SlotCard.open(tmp_path / "file")


def test_a_card_cannot_prove(slot: SimulatedSlot) -> None:
    key = SlotCard.open(slot.root)
    with pytest.raises(Unsupported, match="no secret"):
        key.prove(bytes(32))
    key.close()
    key.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80))
def test_any_content_of_the_cid_is_a_reading_or_a_feature_key_error(slot: SimulatedSlot, content: bytes) -> None:
    (slot.root / "bus/mmc/devices" / slot.name / "cid").write_bytes(content)
    try:
        key = SlotCard.open(slot.root)
    except FeatureKeyError:
        return
    assert key.reading.hardware_id == content[:30].decode().lower()


def test_only_the_real_sys_is_not_simulated(monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot) -> None:
    monkeypatch.setattr(slotcard, "_REAL_ROOT", slot.root.resolve())
    assert not SlotCard.open(slot.root).reading.simulated


def test_a_root_that_only_resolves_to_sys_is_simulated(monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot) -> None:
    # So does /proc/PID/root/sys, whatever root directory that process has: the kernel shows the link as `/`.
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: Path("/sys"))
    assert SlotCard.open(slot.root).reading.simulated


def test_another_name_of_the_real_root_is_read_by_its_own(
    monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot, tmp_path: Path
) -> None:
    monkeypatch.setattr(slotcard, "_REAL_ROOT", slot.root)
    (tmp_path / "link").symlink_to(slot.root)
    key = SlotCard.open(tmp_path / "link")
    (tmp_path / "link").unlink()
    key.check()
    assert not key.reading.simulated


def test_without_the_real_root_everything_is_simulated(
    monkeypatch: pytest.MonkeyPatch, slot: SimulatedSlot, tmp_path: Path
) -> None:
    monkeypatch.setattr(slotcard, "_REAL_ROOT", tmp_path / "nowhere")
    assert SlotCard.open(slot.root).reading.simulated
    with pytest.raises(Absent, match="no mmc slot"):
        SlotCard.open(tmp_path / "nowhere")


def test_the_shipped_root_is_sys() -> None:
    assert Path("/sys") == slotcard._REAL_ROOT
