"""The command `featurekey-simulator`: starts a simulated Feature Key and lets standard input make it misbehave.

Rules of this module:

* `KINDS` is the list of what can be started. A new kind of device is one `console.SimulatedKind` in its own module and
  one entry here.
* The device is found where the command says it is (a port, a folder), by readers that need not know it is simulated.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .console import Console, Device, SimulatedKind, Verb, ending_on_signals
from .sdcard import CID_BYTES, IDENTITY_BYTES, CardDataError, Cid
from .simulated_buspirate import SimulatedBusPirate
from .simulated_card import EXAMPLE_CID, Garble, SimulatedCard
from .simulated_firmware import Stuck
from .simulated_slot import SimulatedSlot
from .usbkey_console import USB_OTP

SLOW_MOST = 60.0
"""Seconds by which an answer can be late; every reader has given up long before."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the device that the command line names and run it until the input ends; returns the exit status."""
    parser = argparse.ArgumentParser(prog="featurekey-simulator", description="Simulated Feature Keys.")
    kinds = parser.add_subparsers(required=True, metavar="DEVICE")
    for kind in KINDS:
        command = kinds.add_parser(kind.name, help=kind.summary, description=kind.summary)
        kind.add_arguments(command)
        command.set_defaults(start=kind.start)
    return _run(parser.parse_args(arguments))


def _run(chosen: argparse.Namespace) -> int:
    with ending_on_signals() as stop:
        try:
            with chosen.start(chosen) as device:
                Console(device, sys.stdin.fileno(), sys.stdout.fileno()).run(stop)
        except OSError as error:
            sys.stderr.write(f"featurekey-simulator: {error}\n")
            return 1
    return 0


class SerialDevice:
    """A simulated Bus Pirate with a card, its port behind a symlink that follows it."""

    def __init__(self, device: SimulatedBusPirate, link: Path) -> None:
        self._device = device
        self._link = link
        self.verbs: Mapping[str, Verb] = {
            "unplug": Verb("unplug [card|device]", "pull the card, or the whole reader", self._unplug),
            "plug": Verb("plug [card|device]", "put it back", self._plug),
            "slow": Verb("slow SECONDS", "answer that much later", self._slow),
            "garble": _garble_verb(device.garble),
            "stick": Verb(f"stick [{'|'.join(Stuck)}]", "hold the card's data line at one level", self._stick),
            "silence": Verb("silence", "answer nothing", lambda words: _no_words(words, device.silence)),
            "well": Verb("well", "end every fault", lambda words: _no_words(words, device.well)),
            "card": _card_verb(device.put_card),
        }
        self._relink()

    @property
    def ready(self) -> str:
        """Path of the pty."""
        return self._device.port

    def close(self) -> None:
        """Remove the link, unless it leads elsewhere by now."""
        if self._link.is_symlink() and str(self._link.readlink()) == self._linked:
            self._link.unlink()

    def _unplug(self, words: Sequence[str]) -> None:
        if _card_or_device(words) == "card":
            self._device.pull_card()
        else:
            self.close()
            self._device.unplug()

    def _plug(self, words: Sequence[str]) -> None:
        if _card_or_device(words) == "card":
            self._device.put_card()
        else:
            self._device.plug()
            self._relink()

    def _slow(self, words: Sequence[str]) -> None:
        seconds = float(_one_word(words))
        if not 0 <= seconds <= SLOW_MOST:
            raise ValueError(f"seconds are 0 to {SLOW_MOST:g}")
        self._device.slow(seconds)

    def _stick(self, words: Sequence[str]) -> None:
        self._device.stick(Stuck(_one_word(words or [Stuck.LOW])))

    def _relink(self) -> None:
        """Lead the link to the port in one step; a link that a killed simulator left is replaced, a file is not."""
        self._linked = self._device.port
        if self._link.exists() and not self._link.resolve().is_relative_to("/dev/pts"):
            raise FileExistsError(f"{self._link} exists and is not the link of a simulator; choose another path")
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        fresh.symlink_to(self._linked)
        fresh.replace(self._link)


class SlotDevice:
    """A simulated mmc slot below a folder."""

    def __init__(self, slot: SimulatedSlot) -> None:
        self._slot = slot
        self.verbs: Mapping[str, Verb] = {
            "unplug": Verb("unplug", "pull the card", lambda words: _no_words(words, slot.remove)),
            "plug": Verb("plug", "put the card back", lambda words: _no_words(words, slot.insert)),
            "slow": Verb("slow SECONDS", "not here: files are never late", self._slow),
            "garble": _garble_verb(slot.garble),
            "well": Verb("well", "end every fault", lambda words: _no_words(words, slot.well)),
            "card": _card_verb(slot.insert),
        }

    @property
    def ready(self) -> str:
        """The folder that stands in for /sys."""
        return str(self._slot.root)

    def _slow(self, _words: Sequence[str]) -> None:
        raise ValueError("a slot is read from files, which are never late")


def _garble_verb(garble: Callable[[Garble], None]) -> Verb:
    kinds = "|".join(Garble)
    return Verb(f"garble [{kinds}]", "send a wrong CID", lambda words: garble(Garble(_one_word(words or ["cid"]))))


def _card_verb(put: Callable[[Cid], None]) -> Verb:
    return Verb("card HEX", "put another card in", lambda words: put(read_cid(_one_word(words))))


def _one_word(words: Sequence[str]) -> str:
    if len(words) != 1:
        raise ValueError(f"one word is needed, here are {len(words)}")
    return words[0]


def _no_words(words: Sequence[str], act: Callable[[], None]) -> None:
    if words:
        raise ValueError(f"nothing may follow, here is {words[0]!a}")
    act()


def _card_or_device(words: Sequence[str]) -> str:
    word = _one_word(words or ["card"])
    if word not in ("card", "device"):
        raise ValueError(f"card or device, not {word!a}")
    return word


def read_cid(text: str) -> Cid:
    """A CID as people type it: 32 hexadecimal digits, or 30 without the checksum; raises CardDataError."""
    return Cid.from_hex(text + "00" if len(text) == 2 * IDENTITY_BYTES else text)


def _cid_argument(text: str) -> Cid:
    try:
        return read_cid(text)
    except CardDataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_cid(parser: argparse.ArgumentParser) -> None:
    digits = f"{2 * CID_BYTES} or {2 * IDENTITY_BYTES} hexadecimal digits"
    parser.add_argument("--cid", metavar="HEX", type=_cid_argument, default=EXAMPLE_CID, help=f"the card: {digits}")


def _add_serial_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--link", metavar="PATH", type=Path, required=True, help="symlink to make to the port")
    _add_cid(parser)


def _add_slot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder that stands in for /sys")
    _add_cid(parser)


@contextlib.contextmanager
def _start_serial(chosen: argparse.Namespace) -> Iterator[Device]:
    with SimulatedBusPirate(SimulatedCard(chosen.cid)) as simulated:
        device = SerialDevice(simulated, chosen.link)
        try:
            yield device
        finally:
            device.close()


@contextlib.contextmanager
def _start_slot(chosen: argparse.Namespace) -> Iterator[Device]:
    slot = SimulatedSlot(chosen.root, chosen.cid)
    try:
        yield SlotDevice(slot)
    finally:
        slot.remove()


KINDS: tuple[SimulatedKind, ...] = (
    SimulatedKind("sd-serial", "an SD card behind a Bus Pirate on a pty", _add_serial_arguments, _start_serial),
    SimulatedKind("sd-slot", "an SD card in a slot, as a sysfs tree", _add_slot_arguments, _start_slot),
    USB_OTP,
)


if __name__ == "__main__":
    raise SystemExit(main())
