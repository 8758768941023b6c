"""Feature reports over pyusb: finds the key, claims its keyboard interface, reads and writes 8-byte reports.

Rules of this module:

* The only place that calls pyusb for a key; every exception of pyusb is translated here, with its errno kept.
* The kernel driver is detached once and the interface stays claimed until `close`: attaching it again would make the
  kernel emit events that wake the daemon again, and an idle key would type into the console.
* The configuration is never set: that would reset the other interfaces of a composite key.

Source: facts/hardware.md section 2 (identification, transport, traps).
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import usb.backend.libusb1
import usb.core
import usb.util

from .featurekey import Absent, Busy, DeviceFault, FeatureKeyError, Garbled, NoPermission, Several, Unsupported
from .otpframes import REPORT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

VENDOR = 0x1050
PRODUCTS = frozenset(
    {0x0010, 0x0110, 0x0111, 0x0114, 0x0116, 0x0401, 0x0403, 0x0405, 0x0407, 0x0410},
)
"""Products with a one-time-password interface; OnlyKey (1d50:60fc) maps slots of its own and stays off the list."""

TRANSFER_LIMIT_MS = 1000
"""One control transfer of 8 bytes takes a few milliseconds; a device that stalls longer is not answering."""

_KEYBOARD = (3, 1, 1)
"""Interface class, subclass and protocol of the interface that carries the reports."""
_FEATURE_REPORT = 0x0300
_GET_REPORT, _SET_REPORT = 0x01, 0x09
_FROM_INTERFACE = usb.util.build_request_type(
    usb.util.CTRL_IN, usb.util.CTRL_TYPE_CLASS, usb.util.CTRL_RECIPIENT_INTERFACE
)
_TO_INTERFACE = usb.util.build_request_type(
    usb.util.CTRL_OUT, usb.util.CTRL_TYPE_CLASS, usb.util.CTRL_RECIPIENT_INTERFACE
)

_BY_ERRNO: dict[int | None, tuple[type[FeatureKeyError], str, str]] = {
    errno.EACCES: (
        NoPermission,
        "the key may not be opened",
        "install the udev rule, or add the user to its group, and plug the key in again",
    ),
    errno.EPERM: (NoPermission, "the key may not be opened", "allow USB devices in the unit (DeviceAllow=)"),
    errno.EBUSY: (Busy, "another program holds the key", "stop the program that uses it (lsof /dev/bus/usb)"),
    errno.ENODEV: (Absent, "the key was pulled", "plug it in again"),
    errno.ETIMEDOUT: (Busy, "the key did not answer a transfer in time", "plug it in again"),
}
_FAULT = (DeviceFault, "USB transfer failed", "plug the key in again, try another port")


@contextmanager
def translated(reader: str) -> Iterator[None]:
    """Turn what pyusb raises into the errors of the contract; `reader` says where."""
    try:
        yield
    except usb.core.NoBackendError as error:
        raise _no_backend(reader) from error
    except NotImplementedError as error:
        raise Unsupported(
            reader, f"the USB backend cannot do this ({error})", cure="use libusb 1.0 on Linux"
        ) from error
    except OSError as error:
        kind, what, cure = _BY_ERRNO.get(error.errno, _FAULT)
        raise kind(reader, f"{what} ({error.strerror})", cure=cure, errno=error.errno) from error


def _no_backend(reader: str) -> Unsupported:
    return Unsupported(reader, "libusb 1.0 is not installed", cure="install the package libusb-1.0-0")


def _libusb1() -> Any:
    # Without a name pyusb would go on to libusb 0.1 and OpenUSB, which were never tried with these keys.
    backend = usb.backend.libusb1.get_backend()
    if backend is None:
        raise _no_backend("usb")
    return backend


def _is_key(device: Any) -> bool:
    return bool(device.idVendor == VENDOR) and device.idProduct in PRODUCTS


def _name(device: Any) -> str:
    """The kernel's name of the device, e.g. `usb:1-4.2`; it stays the same when a key is put back into its port."""
    if device.port_numbers:
        return f"usb:{device.bus}-{'.'.join(map(str, device.port_numbers))}"
    return f"usb:{device.bus}-address-{device.address}"


def _find(backend: Any) -> Any:
    with translated("usb"):
        found = list(usb.core.find(find_all=True, backend=backend, custom_match=_is_key))
    if not found:
        raise Absent("usb", "no Feature Key is plugged in", cure="plug it in; lsusb shows it as 1050:xxxx")
    if len(found) > 1:
        places = ", ".join(f"{device.bus:03}-{device.address:03} ({_name(device)})" for device in found)
        raise Several("usb", f"{len(found)} keys are plugged in, bus-address {places}", cure="leave only one")
    return found[0]


def _interface_number(device: Any, reader: str) -> int:
    with translated(reader):
        for interface in device[0]:
            if (interface.bInterfaceClass, interface.bInterfaceSubClass, interface.bInterfaceProtocol) == _KEYBOARD:
                return int(interface.bInterfaceNumber)
    raise Unsupported(reader, "the key has no keyboard interface", cure="switch its OTP function on")


class UsbReports:
    """The report channel of one claimed key."""

    def __init__(self, device: Any, number: int, reader: str) -> None:
        self.reader = reader
        self._device = device
        self._number = number
        self._claimed = False

    @classmethod
    def open(cls, backend: Any = None) -> UsbReports:
        """Find the one key that is plugged in and claim it; `backend` is pyusb's libusb 1.0 unless given.

        Raises Absent for none, Several, Unsupported without libusb, NoPermission, Busy, DeviceFault.
        """
        device = _find(_libusb1() if backend is None else backend)
        reader = _name(device)
        reports = cls(device, _interface_number(device, reader), reader)
        try:
            reports._claim()
        except FeatureKeyError:
            reports.close()
            raise
        return reports

    @property
    def simulated(self) -> bool:
        """True when another backend than pyusb's own libusb 1.0 serves the key."""
        return type(self._device.backend).__module__ != "usb.backend.libusb1"

    def _claim(self) -> None:
        with translated(self.reader):
            if self._device.is_kernel_driver_active(self._number):
                self._detach()
            usb.util.claim_interface(self._device, self._number)
        self._claimed = True

    def _detach(self) -> None:
        try:
            self._device.detach_kernel_driver(self._number)
        except usb.core.USBError as error:
            # ENOENT: the driver went away between the question and the order, which is all that was wanted.
            if error.errno != errno.ENOENT:
                raise

    def read(self) -> bytes:
        """Read one report of 8 bytes; raises Garbled when it is shorter."""
        data = self._transfer(_FROM_INTERFACE, _GET_REPORT, REPORT_SIZE)
        report = bytes(data)
        if len(report) != REPORT_SIZE:
            raise Garbled(self.reader, f"a report of {len(report)} bytes came instead of {REPORT_SIZE}")
        return report

    def write(self, report: bytes) -> None:
        """Write one report of 8 bytes; raises DeviceFault when the key takes less."""
        taken = self._transfer(_TO_INTERFACE, _SET_REPORT, report)
        if taken != len(report):
            raise DeviceFault(self.reader, f"the key took {taken} of {len(report)} bytes", cure="plug it in again")

    def _transfer(self, request_type: int, request: int, data: bytes | int) -> Any:
        # After dispose_resources pyusb would open and claim again without being asked.
        if not self._claimed:
            raise Absent(self.reader, "this reader was closed", cure="open the key again")
        with translated(self.reader):
            return self._device.ctrl_transfer(
                request_type, request, _FEATURE_REPORT, self._number, data, TRANSFER_LIMIT_MS
            )

    def close(self) -> None:
        """Release the interface and the device; twice is harmless, also after the key was pulled."""
        self._claimed = False
        with translated(self.reader):
            usb.util.dispose_resources(self._device)
