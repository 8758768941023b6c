"""The simulated USB key on the console of `featurekey-simulator`: plug, unplug, and every fault.

Rules of this module:

* The key lives in its file. Ending the console leaves it there, plugged in or not, with its secret and its faults.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .console import Device, SimulatedKind, Verb
from .simulated_otp import Faults, load_memory
from .simulated_usbkey import DEFAULT_SERIAL, create, plug, set_faults, unplug

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

POLLS_MOST = 1_000_000
"""Reads that a fault can last; with 1 ms per read that is a quarter of an hour, and every reader has given up."""

_SWITCHES = {
    "touch": ("touch", "answer challenges only after a touch, which never comes"),
    "garble": ("garbled", "send answers with a wrong bit"),
    "silence": ("silent", "let every transfer time out"),
    "deny": ("no_permission", "refuse to be opened"),
    "hold": ("held_elsewhere", "be in use by another program"),
    "hide": ("serial_hidden", "show no serial unless a slot makes it visible"),
}
_NUMBERS = {
    "busy": ("busy_polls", "POLLS", "be busy for that many reads after each chunk", POLLS_MOST),
    "slow": ("slow_polls", "POLLS", "be busy for that many reads before an answer", POLLS_MOST),
    "lag": ("lag_polls", "POLLS", "heed an abort only after that many reads", POLLS_MOST),
    "serial": ("answered_serial", "NUMBER", "answer with another serial", 0xFFFFFFFF),
}


class UsbDevice:
    """A simulated USB key in a file."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.verbs: Mapping[str, Verb] = {
            "unplug": Verb("unplug", "pull the key", lambda words: _alone(words, lambda: unplug(state))),
            "plug": Verb("plug", "put the key back", lambda words: _alone(words, lambda: plug(state))),
            **{word: self._switch(word, *about) for word, about in _SWITCHES.items()},
            **{word: self._number(word, *about) for word, about in _NUMBERS.items()},
            "well": Verb("well", "end every fault", lambda words: _alone(words, self._well)),
        }

    @property
    def ready(self) -> str:
        """Path of the file."""
        return str(self._state)

    def _switch(self, word: str, field: str, summary: str) -> Verb:
        return Verb(word, summary, lambda words: _alone(words, lambda: self._change(field, value=True)))

    def _number(self, word: str, field: str, unit: str, summary: str, most: int) -> Verb:
        return Verb(f"{word} {unit}", summary, lambda words: self._change(field, value=_count(words, most)))

    def _change(self, field: str, *, value: int) -> None:
        faults = load_memory(self._state).faults
        set_faults(self._state, msgspec.structs.replace(faults, **{field: value}))

    def _well(self) -> None:
        set_faults(self._state, Faults(unplugged=load_memory(self._state).faults.unplugged))


def _alone(words: Sequence[str], act: Callable[[], None]) -> None:
    if words:
        raise ValueError(f"nothing may follow, here is {words[0]!a}")
    act()


def _count(words: Sequence[str], most: int) -> int:
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) > most:
        raise ValueError(f"one whole number from 0 to {most} is needed")
    return int(words[0])


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", metavar="PATH", type=Path, help="the file that is the key; made if it is not there")
    parser.add_argument("--serial", metavar="N", type=int, help=f"serial of a new key ({DEFAULT_SERIAL} unless given)")


@contextlib.contextmanager
def _start(chosen: argparse.Namespace) -> Iterator[Device]:
    _make_or_plug(chosen.state, chosen.serial)
    yield UsbDevice(chosen.state)


def _make_or_plug(state: Path, serial: int | None) -> None:
    """Make a new key, or plug in the one that is there; raises OSError, which the command shows."""
    try:
        if state.exists():
            _plug_in(state, serial)
        else:
            create(state, DEFAULT_SERIAL if serial is None else serial)
    except ValueError as error:
        raise OSError(str(error)) from error


def _plug_in(state: Path, serial: int | None) -> None:
    memory = load_memory(state)
    if serial not in {None, memory.serial}:
        raise ValueError(f"{state} is the key with serial {memory.serial}; choose another path")
    if memory.faults.unplugged:
        plug(state)


USB_OTP = SimulatedKind("usb-otp", "a USB key in a file, for the reader usb-simulator:PATH", _add_arguments, _start)
"""The entry for the simulator's list."""
