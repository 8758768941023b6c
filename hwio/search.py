"""From the word in the settings to an opened Feature Key.

Rules of this module:

* A reader's text is understood in one place, `find_reader`, which opens nothing; a text that is no reader is a
  ValueError that names the forms.
* The module of a reader is imported when that reader is used: a host does not load pyusb or netifaces for a key
  that it does not have.
* `auto` means the readers that need no choice, in order: USB, then the slot.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .featurekey import Absent, FeatureKey

FORMS = (
    "auto",
    "usb",
    "slot",
    "slot:/folder/used/as/sysfs",
    "serial:/dev/ttyUSB0",
    "host",
    "host:/folder/used/as/root",
    "usb-simulator:/path/to/state",
)
"""One example of each text that names a reader."""

Opener = Callable[[], FeatureKey]

_AUTO = ("usb", "slot")


def open_feature_key(reader: str) -> FeatureKey:
    """Open the Feature Key that `reader` names; raises ValueError for a bad text and FeatureKeyError otherwise."""
    return find_reader(reader)()


def find_reader(reader: str) -> Opener:
    """What opens the reader of this text, without opening it; raises ValueError that names the forms."""
    word, colon, place = reader.partition(":")
    if not colon and word in _WITHOUT_PLACE:
        return _WITHOUT_PLACE[word]
    if colon and word in _WITH_PLACE and _is_place(place):
        opener = _WITH_PLACE[word]
        return lambda: opener(place)
    raise ValueError(f"{reader!a} is not a reader; the forms are {', '.join(FORMS)}, with absolute paths")


def _is_place(place: str) -> bool:
    return place.startswith("/") and "\0" not in place


def _open_auto() -> FeatureKey:
    missing = []
    for reader in _AUTO:
        try:
            return open_feature_key(reader)
        except Absent as absent:
            missing.append(str(absent))
    raise Absent("auto", f"no Feature Key found ({'; '.join(missing)})")


def _open_usb() -> FeatureKey:
    from .usbkey import UsbKey  # noqa: PLC0415 - loads pyusb

    return UsbKey.open()


def _open_usb_simulator(place: str) -> FeatureKey:
    from .simulated_usbkey import SimulatedUsbBackend  # noqa: PLC0415 - loads pyusb
    from .usbkey import UsbKey  # noqa: PLC0415 - loads pyusb

    return UsbKey.open(backend=SimulatedUsbBackend(Path(place)))


def _open_serial(place: str) -> FeatureKey:
    from .serialcard import SerialCard  # noqa: PLC0415 - loads pyserial

    return SerialCard.open(place)


def _open_slot(place: str = "/sys") -> FeatureKey:
    from .slotcard import SlotCard  # noqa: PLC0415 - as the others

    return SlotCard.open(Path(place))


def _open_host(place: str = "/") -> FeatureKey:
    from .hostkey import HostKey  # noqa: PLC0415 - loads netifaces

    return HostKey.open(Path(place))


_WITHOUT_PLACE: dict[str, Opener] = {"auto": _open_auto, "usb": _open_usb, "slot": _open_slot, "host": _open_host}
_WITH_PLACE: dict[str, Callable[[str], FeatureKey]] = {
    "slot": _open_slot,
    "serial": _open_serial,
    "host": _open_host,
    "usb-simulator": _open_usb_simulator,
}
