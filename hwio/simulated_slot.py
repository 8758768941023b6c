"""A simulated mmc slot: a sysfs tree below a folder, shaped like the kernel's, with a card that can be pulled.

Rules of this module:

* What a reader may see appears and goes in one step (rename), since the kernel never shows half a card.
* The folder is created if need be and everything but the simulated mmc devices in it is left alone.
* Source: facts/hardware.md section 4, sysfs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .sdcard import Cid, crc16
from .simulated_card import EXAMPLE_CID, Garble

_DEVICES = Path("bus/mmc/devices")
_HOSTS = Path("devices/platform/simulated/mmc_host")
_EMMC_CID = "15010038474e443352010a1b2c3d4f00"


class SimulatedSlot:
    """A folder that can stand in for /sys, with one SD slot; the card is in from the beginning.

    `strip_crc` writes 00 for the checksum in byte 15, as SDHCI hosts do.
    """

    def __init__(self, root: Path, cid: Cid = EXAMPLE_CID, *, strip_crc: bool = True, host: int = 0) -> None:
        self.root = root
        self.cid = cid
        self._strip_crc = strip_crc
        self._host = f"mmc{host}"
        (root / _DEVICES).mkdir(parents=True, exist_ok=True)
        self.insert(cid)

    @property
    def name(self) -> str:
        """Name of the card's device, `mmcN:RRRR`; the relative address follows from the CID."""
        return f"{self._host}:{crc16(self.cid.identity) or 1:04x}"

    def insert(self, cid: Cid | None = None) -> None:
        """Put a card in, or exchange the one that is in."""
        self.remove()
        self.cid = cid or self.cid
        self._add(self.name, self._attributes())

    def remove(self) -> None:
        """Take the card out; an empty slot stays empty."""
        self._drop(self.name)

    def garble(self, garble: Garble = Garble.CID) -> None:
        """Let `cid` be wrong: a character that is no digit (`cid`), or a wrong checksum (`crc7`, `crc16`)."""
        text = self.cid.raw.hex()
        self._rewrite("g" + text[1:] if garble is Garble.CID else f"{text[:30]}{self.cid.raw[15] ^ 2:02x}")

    def write_cid(self, text: str) -> None:
        """Let `cid` hold this text; raises FileNotFoundError while the slot is empty."""
        self._rewrite(text)

    def well(self) -> None:
        """Let `cid` be right again; an empty slot stays empty."""
        if (self.root / _DEVICES / self.name).exists():
            self._rewrite(self._attributes()["cid"])

    def add_emmc(self, host: int = 1) -> None:
        """Put an eMMC on another host, as boards have them soldered in."""
        name = f"mmc{host}:0001"
        self._drop(name)
        self._add(name, {"type": "MMC", "cid": _EMMC_CID, "name": "8GND3R", "manfid": "0x000015"})

    def _attributes(self) -> dict[str, str]:
        cid = self.cid
        return {
            "type": "SD",
            "cid": cid.identity.hex() + ("00" if self._strip_crc else f"{cid.crc_byte:02x}"),
            "manfid": f"0x{cid.maker:06x}",
            "oemid": f"0x{cid.identity[1:3].hex()}",
            "name": cid.identity[3:8].decode("latin-1"),
            "serial": f"0x{cid.serial:08x}",
            "date": f"{cid.month:02}/{cid.year}",
            "hwrev": f"0x{cid.identity[8] >> 4:x}",
            "fwrev": f"0x{cid.identity[8] & 15:x}",
        }

    def _add(self, name: str, attributes: dict[str, str]) -> None:
        place = self.root / _HOSTS / name.partition(":")[0] / name
        place.mkdir(parents=True, exist_ok=True)
        for attribute, text in attributes.items():
            (place / attribute).write_text(f"{text}\n", encoding="latin-1")
        (self.root / _DEVICES / name).symlink_to(place.resolve(), target_is_directory=True)

    def _drop(self, name: str) -> None:
        # The link goes first: the card is gone for every reader before its files are.
        (self.root / _DEVICES / name).unlink(missing_ok=True)
        shutil.rmtree(self.root / _HOSTS / name.partition(":")[0] / name, ignore_errors=True)

    def _rewrite(self, text: str) -> None:
        folder = self.root / _DEVICES / self.name
        fresh = folder / "cid.new"
        fresh.write_text(f"{text}\n", encoding="latin-1")
        fresh.replace(folder / "cid")
