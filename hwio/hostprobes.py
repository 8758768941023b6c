"""What the identity of a host is read with: files, the ethtool ioctl, the default route, IP addresses.

Rules of this module:

* Each probe is a plain function; `Probes` puts them together, so that tests and a simulated root replace any of them.
* A probe that finds nothing returns None or nothing; only `read_file` raises (OSError, which says why).
* What only root may read comes as a credential of the service (systemd.exec(5)), where the unit hands it over.
* `foreign_root` never looks at the running host: what a folder cannot tell is left out.

Source: facts/hardware.md section 8.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import netifaces
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

FILE_LIMIT = 1 << 20
"""Bytes read of one file: /proc/cpuinfo has about 1.5 kB per processor, so this serves some 600 processors."""

CREDENTIALS = {
    "/sys/class/dmi/id/product_uuid": "product-uuid",
    "/sys/class/dmi/id/product_serial": "product-serial",
    "/sys/class/dmi/id/board_serial": "board-serial",
}
"""Files that only root may read, and the credential of the unit that holds a copy."""

NO_CREDENTIAL = b"unreadable"
"""What the unit sets in place of a file that is not there: a credential must not be empty."""

_ADDRESS_SIZE = 6
_SIOCETHTOOL = 0x8946
_ETHTOOL_GPERMADDR = 0x20
_LONGEST_ADDRESS = 32
_ETHTOOL_HEADER = "=II"
_IFREQ = "16sP16x"
"""struct ifreq on 64-bit Linux: name, pointer to the ethtool request, rest of the union; longer than on 32 bit."""
_FAMILIES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
_ROUTE_UP = 0x0001


class IpAddress(msgspec.Struct, frozen=True):
    """One IP address of an interface; a label for technicians, never part of an identity."""

    interface: str
    family: str
    """`ipv4` or `ipv6`."""
    address: str


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The functions that look at a host."""

    read_file: Callable[[Path], bytes]
    """The content of a file; raises OSError."""
    permanent_address: Callable[[str], bytes | None]
    """The 6 bytes burnt into a network interface, None when it has none or does not tell."""
    default_interface: Callable[[], str | None]
    """The interface of the default route with the lowest metric."""
    ip_addresses: Callable[[], tuple[IpAddress, ...]]
    interface_names: Callable[[], Collection[str]] | None
    """The interfaces of this network namespace, None where sysfs is all there is to ask."""
    pid_namespace: Callable[[], int | None]
    """The inode number of this process's pid namespace, None where it cannot be asked for."""


def running_host() -> Probes:
    """The probes of the host this process runs on."""
    return Probes(
        read_file=read_file_or_credential,
        permanent_address=permanent_address,
        default_interface=default_interface,
        ip_addresses=ip_addresses,
        interface_names=lambda: [name for _, name in socket.if_nameindex()],
        pid_namespace=pid_namespace,
    )


def foreign_root(root: Path) -> Probes:
    """The probes of a folder that looks like a host's root: its files, and no call to this host's kernel."""
    return Probes(
        read_file=read_file,
        permanent_address=lambda _: None,
        default_interface=lambda: default_interface_of(root / "proc/net/route"),
        ip_addresses=lambda: (),
        interface_names=None,
        pid_namespace=lambda: None,
    )


def read_file(path: Path) -> bytes:
    """The first `FILE_LIMIT` bytes of a file; raises OSError."""
    with path.open("rb") as file:
        return file.read(FILE_LIMIT)


def read_file_or_credential(path: Path) -> bytes:
    """As `read_file`; where this user may not read the file, the credential that holds a copy of it."""
    try:
        return read_file(path)
    except PermissionError:
        copy = _credential(str(path))
        if copy is None:
            raise
        return copy


def _credential(path: str) -> bytes | None:
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), CREDENTIALS.get(path)
    if not folder or name is None:
        return None
    with contextlib.suppress(OSError):
        content = read_file(Path(folder) / name)
        return content if content.strip() != NO_CREDENTIAL else None
    return None


def permanent_address(interface: str) -> bytes | None:
    """The permanent hardware address by the ethtool ioctl, None when the interface has none or is gone."""
    request = ctypes.create_string_buffer(
        struct.pack(_ETHTOOL_HEADER, _ETHTOOL_GPERMADDR, _LONGEST_ADDRESS) + bytes(_LONGEST_ADDRESS)
    )
    ifreq = struct.pack(_IFREQ, interface.encode(), ctypes.addressof(request))
    # Any socket reaches the ioctl, and the unit allows this family.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(channel, _SIOCETHTOOL, ifreq)
        return _address_in(request.raw)
    return None


def _address_in(answer: bytes) -> bytes | None:
    header = struct.calcsize(_ETHTOOL_HEADER)
    _, size = struct.unpack_from(_ETHTOOL_HEADER, answer)
    address = answer[header : header + _ADDRESS_SIZE]
    return address if size == _ADDRESS_SIZE and any(address) else None


def pid_namespace() -> int | None:
    """The inode number of this process's pid namespace (pid_namespaces(7)); None without /proc."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def default_interface() -> str | None:
    """The interface of the default route by netifaces, IPv4 before IPv6; None without a route or without netlink."""
    try:
        gateways = netifaces.gateways()["default"]
    except (OSError, KeyError):
        return None
    for family in (netifaces.AF_INET, netifaces.AF_INET6):
        if family in gateways:
            return str(gateways[family][1])
    return None


def default_interface_of(table: Path) -> str | None:
    """The interface of the default route with the lowest metric in a file like /proc/net/route; None without one."""
    try:
        lines = read_file(table).decode("ascii", "replace").splitlines()[1:]
    except OSError:
        return None
    routes = [fields for fields in map(str.split, lines) if len(fields) >= 8]
    with contextlib.suppress(ValueError):
        defaults = [(int(r[6]), r[0]) for r in routes if {r[1], r[7]} == {"00000000"} and int(r[3], 16) & _ROUTE_UP]
        return min(defaults)[1]
    return None


def ip_addresses() -> tuple[IpAddress, ...]:
    """The IP addresses of all interfaces by psutil, sorted by interface."""
    try:
        found = psutil.net_if_addrs()
    except OSError:
        return ()
    return tuple(
        IpAddress(name, _FAMILIES[entry.family], entry.address.partition("%")[0])
        for name, entries in sorted(found.items())
        for entry in entries
        if entry.family in _FAMILIES
    )
