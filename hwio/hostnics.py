"""The network interfaces of a host: which of them have an address that tells hosts apart, and why the others do not.

Rules of this module:

* Every interface that sysfs shows is listed; one that does not count says why in `skipped`.
* The address that counts is the permanent one. The current one stands in only where the kernel says that it is the
  permanent one (addr_assign_type 0) and the driver does not tell.
* All that count are kept, not only the primary: a moved cable changes the primary.
* An interface on USB never counts: a host with an adapter plugged in is still the same host.

Source: facts/hardware.md section 8.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .hostprobes import Probes

NIC_LIMIT = 256
"""Interfaces looked at: a host with more is a container host, whose extra ones are virtual and do not count."""

USB = "usb"
"""The bus of interfaces that are plugged in and out."""

_ETHERNET = 1
_LOOPBACK = 772
_ADDRESS_SIZE = 6
_LOCALLY_ADMINISTERED = 0x02
_GROUP = 0x01


class AddressOrigin(enum.IntEnum):
    """The values of addr_assign_type in sysfs."""

    PERMANENT = 0
    RANDOM = 1
    STOLEN = 2
    SET = 3


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface."""

    name: str
    address: str
    """The current hardware address, empty when it cannot be read."""
    permanent: str
    """The permanent hardware address, empty when there is none."""
    bus: str
    """`pci`, `usb`, `virtio`, ...; empty for virtual interfaces."""
    primary: bool
    """True for the interface of the default route."""
    skipped: str = ""
    """Why its address does not count, empty when it does."""
    detached: bool = False
    """True where nothing is behind it (loopback, dummy): it can have any IP address and reaches nobody with it."""


def read_nics(root: Path, probes: Probes, *, virtual_machine: bool) -> tuple[Nic, ...]:
    """The interfaces under sys/class/net, by name; locally administered addresses count in virtual machines only."""
    folder = root / "sys/class/net"
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())[:NIC_LIMIT]
    except OSError:
        return ()
    primary = probes.default_interface()
    present = None if probes.interface_names is None else probes.interface_names()
    nics = [_read_nic(folder / name, probes, primary=name == primary) for name in names]
    return tuple(_judged(nic, folder / nic.name, probes, present, local=virtual_machine) for nic in nics)


def _read_nic(folder: Path, probes: Probes, *, primary: bool) -> Nic:
    address = _text(folder / "address", probes)
    burnt = probes.permanent_address(folder.name)
    permanent = burnt.hex(":") if burnt else ""
    by_kernel = _number(folder / "addr_assign_type", probes) == AddressOrigin.PERMANENT
    if not permanent and by_kernel and _address_bytes(address):
        permanent = address
    bus = folder / "device/subsystem"
    return Nic(
        name=folder.name,
        address=address,
        permanent=permanent,
        bus=bus.resolve().name if bus.exists() else "",
        primary=primary,
        detached=_is_detached(folder, probes),
    )


def _is_detached(folder: Path, probes: Probes) -> bool:
    """Whether it is a loopback, or virtual Ethernet above no other; a bond, a VLAN and a bridge are above some."""
    kind = _number(folder / "type", probes)
    if kind != _ETHERNET:
        return kind == _LOOPBACK
    held_up = (folder / "device").exists() or (folder / "bridge").exists()
    return not held_up and not any(folder.glob("lower_*"))


def _judged(nic: Nic, folder: Path, probes: Probes, present: Collection[str] | None, *, local: bool) -> Nic:
    reason = (
        _elsewhere(nic, present)
        or _not_hardware(folder, probes)
        or _not_built_in(nic)
        or _not_unique(nic, folder, probes, local=local)
    )
    return msgspec.structs.replace(nic, skipped=reason)


def _elsewhere(nic: Nic, present: Collection[str] | None) -> str:
    # In a new network namespace sysfs may still show the interfaces of the old one.
    return "" if present is None or nic.name in present else "not in this network namespace"


def _not_hardware(folder: Path, probes: Probes) -> str:
    kind = _number(folder / "type", probes)
    if kind != _ETHERNET:
        return f"type {kind} is not Ethernet" if kind is not None else "its type cannot be read"
    if (folder / "bridge").exists():
        return "a bridge"
    if not (folder / "device").exists():
        return "virtual, no device behind it"
    return ""


def _not_built_in(nic: Nic) -> str:
    return "a USB adapter, which moves between hosts" if nic.bus == USB else ""


def _not_unique(nic: Nic, folder: Path, probes: Probes, *, local: bool) -> str:
    origin = _number(folder / "addr_assign_type", probes)
    if origin == AddressOrigin.RANDOM:
        return "its address is random"
    if origin == AddressOrigin.STOLEN:
        return "its address belongs to another interface"
    address = _address_bytes(nic.permanent)
    if address is None:
        return "no permanent address can be read"
    if address[0] & _LOCALLY_ADMINISTERED and not local:
        return "its permanent address is locally administered"
    return ""


def _address_bytes(text: str) -> bytes | None:
    try:
        address = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return None
    usable = len(address) == _ADDRESS_SIZE and any(address) and not address[0] & _GROUP
    return address if usable else None


def _text(path: Path, probes: Probes) -> str:
    try:
        return probes.read_file(path).decode("ascii", "replace").strip().lower()
    except OSError:
        return ""


def _number(path: Path, probes: Probes) -> int | None:
    try:
        return int(_text(path, probes))
    except ValueError:
        return None
