"""The Feature Key `sd-card` in a kernel mmc slot, read from sysfs.

Rules of this module:

* Everything is read below one sysfs root, so that a simulated tree is read by the same code; a root that is not the
  very folder /sys (device and inode, not name) makes the reading simulated.
* Only cards of type SD count: an eMMC beside the slot is soldered to the board and has another CID layout.
* A check reads one file. A card that was exchanged or put back is another card: `Absent`, and the owner opens afresh.
* Source: facts/hardware.md section 4, sysfs.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .featurekey import (
    Absent,
    Assurance,
    DeviceFault,
    FeatureKeyError,
    Garbled,
    Kind,
    NoPermission,
    Reading,
    Several,
    is_same_folder,
    no_secret,
)
from .sdcard import CardDataError, Cid

DEVICES = Path("bus/mmc/devices")
ATTRIBUTE_MOST = 4096
"""Bytes read of one file: sysfs attributes fit in one page, and a foreign root may hold anything."""

_REAL_ROOT = Path("/sys")
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})


class SlotCard:
    """An SD card in a kernel mmc slot; made by `open`."""

    def __init__(self, folder: Path, cid: Cid, reading: Reading) -> None:
        self._folder = folder
        self._cid = cid
        self._reading = reading

    @classmethod
    def open(cls, sysfs_root: Path = _REAL_ROOT, *, name: str | None = None) -> SlotCard:
        """Find and read the one SD card, or the one called `name` (`mmc0:aaaa`); raises FeatureKeyError."""
        simulated = not is_same_folder(sysfs_root, _REAL_ROOT)
        # Under another name of /sys, as below /proc/PID/root, other things may be mounted than here.
        folder = _find_card(sysfs_root if simulated else _REAL_ROOT, name)
        reader = f"slot:{folder.name}"
        cid = _read_cid(reader, folder)
        reading = Reading(
            kind=Kind.SD_CARD,
            hardware_id=cid.hardware_id,
            assurance=Assurance.A1,
            reader=reader,
            simulated=simulated,
            detail=cid.detail,
        )
        return cls(folder, cid, reading)

    @property
    def reading(self) -> Reading:
        """What was read when the key was opened."""
        return self._reading

    def check(self) -> None:
        """Make sure that the same card is still in the slot; raises Absent, NoPermission, Garbled or DeviceFault."""
        found = _read_cid(self._reading.reader, self._folder)
        if found != self._cid:
            what = f"the card that was opened is gone; another one ({found.detail}) is in its slot"
            raise Absent(self._reading.reader, what, cure="put the licensed card back")

    def prove(self, challenge: bytes) -> bytes:
        """Raise Unsupported: a card has a factory number and no secret."""
        raise no_secret(self._reading.reader, "an SD card", challenge, cure="use a certificate of kind sd-card")

    def close(self) -> None:
        """Do nothing, since no file is kept open; calling it twice is harmless."""


def _find_card(root: Path, name: str | None) -> Path:
    devices = root / DEVICES
    place = f"slot:{name}" if name else "slot"
    cards = [folder for folder in _list_folders(place, devices) if _is_sd(place, folder)]
    if name is not None:
        cards = [folder for folder in cards if folder.name == name]
    if not cards:
        raise Absent(place, f"no SD card below {devices}", cure="put the card in")
    if len(cards) > 1:
        names = ", ".join(folder.name for folder in cards)
        raise Several(place, f"{len(cards)} SD cards, and no name was chosen: {names}", cure="leave one card in")
    return cards[0]


def _list_folders(place: str, devices: Path) -> list[Path]:
    try:
        return sorted(devices.iterdir())
    except OSError as error:
        if error.errno in _GONE:
            what = f"this host has no mmc slot: {devices} is missing"
            raise Absent(place, what, cure="use a host with an mmc slot", errno=error.errno) from error
        raise _translated(place, devices, error) from error


def _is_sd(place: str, folder: Path) -> bool:
    try:
        return _read_attribute(place, folder / "type") == "SD"
    except Absent:
        # The card left between the listing and the look at it.
        return False


def _read_cid(reader: str, folder: Path) -> Cid:
    text = _read_attribute(reader, folder / "cid")
    try:
        return Cid.from_hex(text)
    except CardDataError as error:
        raise Garbled(reader, f"{folder / 'cid'}: {error}", cure="take the card out and put it in again") from error


def _read_attribute(reader: str, path: Path) -> str:
    try:
        with open(path, "rb", opener=_open_at_once) as attribute:
            return attribute.read(ATTRIBUTE_MOST).decode("latin-1").removesuffix("\n")
    except OSError as error:
        raise _translated(reader, path, error) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: below a foreign root there may be a pipe in place of a file, which nobody ever writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def _translated(reader: str, path: Path, error: OSError) -> FeatureKeyError:
    if error.errno in _GONE:
        return Absent(reader, f"the card is gone: no {path}", cure="put the card in", errno=error.errno)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPermission(reader, f"{path} may not be read", cure="sysfs is world readable", errno=error.errno)
    return DeviceFault(reader, f"{path}: {error.strerror}", errno=error.errno)
