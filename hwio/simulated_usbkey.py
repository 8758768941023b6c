"""A simulated USB Feature Key: a pyusb backend that serves keys whose memory is in files.

Rules of this module:

* The backend behaves as Linux and libusb 1.0 do towards a real key: listing works without permission, usbhid owns the
  interface until it is detached, class requests fail until the interface is claimed, and a handle dies with its key.
* A key is plugged in while its file exists and does not say `unplugged`. Plugging it in again, or another key in its
  place, is another device: what was opened before answers with errno 19.
* Claims hold within one backend object: the issuer and the daemon, in two processes, do not shut each other out.

Source: facts/hardware.md section 2.
"""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import msgspec
import usb.backend
import usb.core
import usb.util

from .otpframes import REPORT_SIZE, SERIAL_SIZE
from .simulated_otp import Faults, KeyMemory, SimulatedOtp, load_memory, store_memory

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_SERIAL = 7654321
"""The serial of the traces in facts/hardware.md section 2."""

_KEYBOARD_INTERFACE = 0
_STRINGS = {1: "Simulated", 2: "One-time-password key"}
_ENGLISH = b"\x09\x04"
_READ_REPORT = (0xA1, 0x01, 0x0300, _KEYBOARD_INTERFACE)
_WRITE_REPORT = (0x21, 0x09, 0x0300, _KEYBOARD_INTERFACE)
_GET_DESCRIPTOR = (0x80, 0x06)


def create(state: Path, serial: int = DEFAULT_SERIAL) -> KeyMemory:
    """Make a fresh key with two empty slots and plug it in; raises FileExistsError, or ValueError for the serial."""
    if not 0 < serial < 1 << (8 * SERIAL_SIZE):
        raise ValueError(f"the serial is {serial} and has to be between 1 and {(1 << (8 * SERIAL_SIZE)) - 1}")
    if state.exists():
        raise FileExistsError(errno.EEXIST, "a simulated key is there already", str(state))
    memory = KeyMemory(serial=serial)
    store_memory(state, memory)
    return memory


def set_faults(state: Path, faults: Faults) -> None:
    """Give the key other faults, none with `Faults()`."""
    store_memory(state, msgspec.structs.replace(load_memory(state), faults=faults))


def unplug(state: Path) -> None:
    """Pull the key; its memory stays."""
    memory = load_memory(state)
    store_memory(state, msgspec.structs.replace(memory, faults=msgspec.structs.replace(memory.faults, unplugged=True)))


def plug(state: Path) -> None:
    """Put the key back: a new USB address, so that handles opened before stay dead."""
    memory = load_memory(state)
    faults = msgspec.structs.replace(memory.faults, unplugged=False)
    address = memory.address % 127 + 1
    store_memory(state, msgspec.structs.replace(memory, faults=faults, address=address))


class _Device:
    """One plugging-in of one key, told by serial and address."""

    def __init__(self, path: Path, bus: int, memory: KeyMemory, chip: SimulatedOtp) -> None:
        self.path = path
        self.bus = bus
        self.serial = memory.serial
        self.address = memory.address
        self.chip = chip
        self.driver_attached = memory.faults.kernel_driver
        self.claimed_by: _Handle | None = None

    def same(self, memory: KeyMemory) -> bool:
        return (self.serial, self.address) == (memory.serial, memory.address)


class _Handle:
    """One opening of a device."""

    def __init__(self, device: _Device) -> None:
        self.device = device


class SimulatedUsbBackend(usb.backend.IBackend):  # type: ignore[misc]  # pyusb has no types, so its class is Any
    """A pyusb backend whose bus carries the simulated keys in the files given; `faults` wins over those in the files.

    What tests look at: `configurations_set` counts orders to set the configuration, `detachments` those to detach.
    """

    def __init__(self, state: Path, *more: Path, faults: Faults | None = None) -> None:
        super().__init__()
        self._paths = (state, *more)
        self._devices: dict[Path, _Device] = {}
        self.faults = faults
        self.configurations_set = 0
        self.detachments = 0

    # Listing: needs no permission.

    def enumerate_devices(self) -> Iterator[_Device]:
        """The keys that are plugged in now."""
        for bus, path in enumerate(self._paths, 1):
            memory = self._memory(path)
            if memory is None:
                continue
            known = self._devices.get(path)
            if known is None or not known.same(memory):
                self._devices[path] = self._plugged_in(path, bus, memory)
            yield self._devices[path]

    def _plugged_in(self, path: Path, bus: int, memory: KeyMemory) -> _Device:
        def load() -> KeyMemory:
            return self._present(device)

        def store(changed: KeyMemory) -> None:
            # `changed` may carry the backend's faults; those in the file stay what they are.
            store_memory(path, msgspec.structs.replace(changed, faults=load_memory(path).faults))

        device = _Device(path, bus, memory, SimulatedOtp(load, store))
        return device

    def get_parent(self, device: _Device) -> None:
        """The keys sit on no hub."""

    def get_device_descriptor(self, device: _Device) -> SimpleNamespace:
        """The device descriptor, with bus, address and port."""
        memory = self._present(device)
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=usb.util.DESC_TYPE_DEVICE,
            bcdUSB=0x0200,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=64,
            idVendor=memory.vendor,
            idProduct=memory.product,
            bcdDevice=memory.version[0] << 8 | memory.version[1] << 4 | memory.version[2],
            iManufacturer=1,
            iProduct=2,
            # Real keys have their iSerialNumber switched off: the serial is asked for with slot 10.
            iSerialNumber=0,
            bNumConfigurations=1,
            address=device.address,
            bus=device.bus,
            port_number=1,
            port_numbers=(1,),
            speed=usb.util.SPEED_FULL,
        )

    def get_configuration_descriptor(self, _device: _Device, config: int) -> SimpleNamespace:
        """The one configuration."""
        if config != 0:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=usb.util.DESC_TYPE_CONFIG,
            wTotalLength=34,
            bNumInterfaces=1,
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0x80,
            bMaxPower=15,
            extra_descriptors=[],
        )

    def get_interface_descriptor(self, _device: _Device, interface: int, alt: int, config: int) -> SimpleNamespace:
        """The keyboard interface, number 0."""
        if (interface, alt, config) != (_KEYBOARD_INTERFACE, 0, 0):
            raise IndexError(interface)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=usb.util.DESC_TYPE_INTERFACE,
            bInterfaceNumber=_KEYBOARD_INTERFACE,
            bAlternateSetting=0,
            bNumEndpoints=1,
            bInterfaceClass=3,
            bInterfaceSubClass=1,
            bInterfaceProtocol=1,
            iInterface=0,
            # The HID descriptor: version 1.11, one report descriptor of 71 bytes.
            extra_descriptors=[9, 0x21, 0x11, 0x01, 0, 1, 0x22, 71, 0],
        )

    def get_endpoint_descriptor(
        self, _device: _Device, endpoint: int, _interface: int, _alternate: int, _config: int
    ) -> SimpleNamespace:
        """The interrupt endpoint that types."""
        if endpoint != 0:
            raise IndexError(endpoint)
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=usb.util.DESC_TYPE_ENDPOINT,
            bEndpointAddress=0x81,
            bmAttributes=usb.util.ENDPOINT_TYPE_INTR,
            wMaxPacketSize=8,
            bInterval=10,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    # Opening, claiming, the kernel driver.

    def open_device(self, device: _Device) -> _Handle:
        """A handle; errno 13 without permission."""
        if self._present(device).faults.no_permission:
            _fail(errno.EACCES)
        return _Handle(device)

    def close_device(self, handle: _Handle) -> None:
        """Let go of the handle and its claim."""
        if handle.device.claimed_by is handle:
            handle.device.claimed_by = None

    def claim_interface(self, handle: _Handle, _interface: int) -> None:
        """Claim the interface; errno 16 while usbhid or somebody else has it."""
        device = handle.device
        held = self._present(device).faults.held_elsewhere or device.claimed_by not in {None, handle}
        if held or device.driver_attached:
            _fail(errno.EBUSY)
        device.claimed_by = handle

    def release_interface(self, handle: _Handle, _interface: int) -> None:
        """Give the interface back."""
        self._present(handle.device)
        self.close_device(handle)

    def is_kernel_driver_active(self, handle: _Handle, _interface: int) -> bool:
        """True while usbhid owns the interface."""
        self._present(handle.device)
        return handle.device.driver_attached

    def detach_kernel_driver(self, handle: _Handle, _interface: int) -> None:
        """Detach usbhid; errno 2 when it is not there."""
        self._present(handle.device)
        if not handle.device.driver_attached:
            _fail(errno.ENOENT)
        handle.device.driver_attached = False
        self.detachments += 1

    def attach_kernel_driver(self, handle: _Handle, _interface: int) -> None:
        """Attach usbhid again; errno 16 while the interface is claimed."""
        self._present(handle.device)
        if handle.device.claimed_by is not None:
            _fail(errno.EBUSY)
        handle.device.driver_attached = True

    def get_configuration(self, handle: _Handle) -> int:
        """The active configuration: 1."""
        self._present(handle.device)
        return 1

    def set_configuration(self, handle: _Handle, _value: int) -> None:
        """Set the configuration; errno 16 while an interface is in use."""
        self.configurations_set += 1
        self._present(handle.device)
        if handle.device.driver_attached or handle.device.claimed_by is not None:
            _fail(errno.EBUSY)

    # Transfers.

    # pyusb calls it with these seven.
    def ctrl_transfer(  # noqa: PLR0917
        self, handle: _Handle, request_type: int, request: int, value: int, index: int, data: array[int], _timeout: int
    ) -> int:
        """One control transfer; a request the key does not know stalls (errno 32)."""
        if self._present(handle.device).faults.silent:
            raise usb.core.USBTimeoutError(os.strerror(errno.ETIMEDOUT), errno=errno.ETIMEDOUT)
        question = (request_type, request, value, index)
        if question == _READ_REPORT:
            return _fill(data, self._claimed_chip(handle).read_report())
        if question == _WRITE_REPORT and len(data) == REPORT_SIZE:
            self._claimed_chip(handle).write_report(data.tobytes())
            return REPORT_SIZE
        return _fill(data, _string_descriptor(question))

    def _claimed_chip(self, handle: _Handle) -> SimulatedOtp:
        if handle.device.claimed_by is not handle:
            _fail(errno.EBUSY)
        return handle.device.chip

    # The files.

    def _memory(self, path: Path) -> KeyMemory | None:
        """The memory of a key with the faults that hold, None when it is not plugged in; errno 5 for another file."""
        try:
            memory = load_memory(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise usb.core.USBError(str(error), errno=errno.EIO) from error
        if self.faults is not None:
            memory = msgspec.structs.replace(memory, faults=self.faults)
        return None if memory.faults.unplugged else memory

    def _present(self, device: _Device) -> KeyMemory:
        memory = self._memory(device.path)
        if memory is None or not device.same(memory):
            _fail(errno.ENODEV)
        return memory


def _fill(data: array[int], content: bytes) -> int:
    size = min(len(data), len(content))
    data[:size] = type(data)("B", content[:size])
    return size


def _string_descriptor(question: tuple[int, int, int, int]) -> bytes:
    kind, index = divmod(question[2], 0x100)
    content = _ENGLISH if index == 0 else _STRINGS.get(index, "").encode("utf-16-le")
    if question[:2] != _GET_DESCRIPTOR or kind != usb.util.DESC_TYPE_STRING or not content:
        _fail(errno.EPIPE)
    return bytes([len(content) + 2, usb.util.DESC_TYPE_STRING]) + content


def _fail(number: int) -> NoReturn:
    raise usb.core.USBError(os.strerror(number), errno=number)
