"""What tells this host from others: board, processor, network interfaces, installation; and where it is no host.

Rules of this module:

* One table names every source. A component that cannot be read is listed too, with the reason.
* The machine id leaves this module as a digest only; its manual asks applications never to show it.
* Values that makers fill in without meaning (placeholders) count as missing.
* Reading never fails: what is not there is said in the value.

Source: facts/hardware.md section 8.
"""

from __future__ import annotations

import enum
import errno
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .featurekey import is_same_folder
from .hostnics import Nic, read_nics
from .hostprobes import IpAddress, Probes, foreign_root, running_host

if TYPE_CHECKING:
    from collections.abc import Callable

_REAL_ROOT = Path("/")
_MACHINE_ID_LABEL = b"featurekeyd machine-id 1"

_PLACEHOLDERS = frozenset(
    {
        "",
        "none",
        "n/a",
        "na",
        "not specified",
        "not applicable",
        "not available",
        "not settable",
        "no asset tag",
        "unknown",
        "invalid",
        "default",
        "default string",
        "empty",
        "oem",
        "o.e.m.",
        "to be filled by o.e.m.",
        "to be filled by oem",
        "filled by oem",
        "system serial number",
        "product serial number",
        "base board serial number",
        "board serial number",
        "chassis serial number",
        "serial number",
        "serial",
        "uninitialized",
        "0123456789",
        "123456789",
        "1234567890",
        "12345678",
        "03000200-0400-0500-0006-000700080009",
    }
)
"""What boards say when their maker filled in nothing, in lower case; one repeated character counts as well."""


class Missing(enum.StrEnum):
    """Why a component has no value."""

    ABSENT = "absent"
    NO_PERMISSION = "no permission"
    PLACEHOLDER = "placeholder"
    UNREADABLE = "unreadable"


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may tell hosts apart, or why it is not known."""

    name: str
    source: str
    """The file it is read from, below the root."""
    value: str = ""
    missing: Missing | None = None


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found about a host in one look."""

    root: str
    simulated: bool
    """True when the root is not the very folder `/`, by device and inode."""
    components: tuple[Component, ...]
    nics: tuple[Nic, ...]
    addresses: tuple[IpAddress, ...]
    container: str
    """What says that this is a container, empty when nothing does."""
    virtual_machine: str
    """What says that this is a virtual machine, empty when nothing does."""

    def component(self, name: str) -> Component:
        """The component of that name; raises KeyError for a name that is not in the table."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(name)

    @property
    def permanent_addresses(self) -> tuple[str, ...]:
        """The permanent hardware addresses that count, each once, sorted."""
        return tuple(sorted({nic.permanent for nic in self.nics if not nic.skipped}))

    @property
    def primary(self) -> Nic | None:
        """The interface of the default route, None without one."""
        return next((nic for nic in self.nics if nic.primary), None)


class _Source(msgspec.Struct, frozen=True):
    name: str
    path: str
    value: Callable[[str], str]
    """Takes the file's text and returns the value, empty when the file does not hold it."""


def read_host_identity(root: Path = Path("/"), *, probes: Probes | None = None) -> HostIdentity:
    """Look at the host whose root is `root`; a folder other than `/` is a simulated host.

    `probes` replaces the functions it is read with; see `hostprobes`.
    """
    simulated = not is_same_folder(root, _REAL_ROOT)
    # Under another name of `/`, as in /proc/PID/root, other things may be mounted than here.
    root = root if simulated else _REAL_ROOT
    if probes is None:
        probes = foreign_root(root) if simulated else running_host()
    virtual_machine = _virtual_machine(root, probes)
    return HostIdentity(
        root=str(root),
        simulated=simulated,
        components=tuple(_read(root, source, probes) for source in _SOURCES),
        nics=read_nics(root, probes, virtual_machine=bool(virtual_machine)),
        addresses=probes.ip_addresses(),
        container=_container(root, probes),
        virtual_machine=virtual_machine,
    )


def is_placeholder(value: str) -> bool:
    """True for a value that a maker filled in without meaning."""
    plain = value.strip().lower()
    return plain in _PLACEHOLDERS or len(set(plain) - set("-. :")) <= 1


# Values.


def _line(text: str) -> str:
    # Device-tree values end in a zero byte.
    return text.strip("\0 \t\r\n")


def _lower(text: str) -> str:
    # The same board's UUID is shown in upper or lower case, depending on the kernel.
    return _line(text).lower()


def _machine_id_digest(text: str) -> str:
    plain = _line(text)
    if is_placeholder(plain):
        return plain
    digest = hashlib.sha256()
    for part in (_MACHINE_ID_LABEL, plain.encode()):
        digest.update(len(part).to_bytes(2, "big") + part)
    return digest.hexdigest()


def _cpu_fields(text: str) -> dict[str, str]:
    """The first value of each name in /proc/cpuinfo: one processor speaks for all."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _cpu_serial(text: str) -> str:
    return _cpu_fields(text).get("Serial", "").lower()


_CPU_MODEL_FIELDS = (
    ("vendor_id", "cpu family", "model", "stepping"),
    ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
"""x86, then ARM."""


def _cpu_model(text: str) -> str:
    fields = _cpu_fields(text)
    for names in _CPU_MODEL_FIELDS:
        if names[0] in fields:
            return " ".join(f"{name} {fields[name]}" for name in names if name in fields)
    return ""


_SOURCES = (
    _Source("product-uuid", "sys/class/dmi/id/product_uuid", _lower),
    _Source("product-serial", "sys/class/dmi/id/product_serial", _line),
    _Source("board-serial", "sys/class/dmi/id/board_serial", _line),
    _Source("device-tree-serial", "sys/firmware/devicetree/base/serial-number", _lower),
    _Source("cpu-serial", "proc/cpuinfo", _cpu_serial),
    _Source("cpu-model", "proc/cpuinfo", _cpu_model),
    _Source("machine-id", "etc/machine-id", _machine_id_digest),
)

COMPONENT_NAMES = tuple(source.name for source in _SOURCES)
"""The names a component can have, in the order of the table."""

_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM})
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV})


def _read(root: Path, source: _Source, probes: Probes) -> Component:
    try:
        text = probes.read_file(root / source.path).decode("utf-8", "replace")
    except OSError as error:
        return Component(name=source.name, source=source.path, missing=_why(error))
    value = source.value(text)
    if value and not is_placeholder(value):
        return Component(name=source.name, source=source.path, value=value)
    return Component(name=source.name, source=source.path, missing=Missing.PLACEHOLDER if value else Missing.ABSENT)


def _why(error: OSError) -> Missing:
    if error.errno in _NO_PERMISSION:
        return Missing.NO_PERMISSION
    return Missing.ABSENT if error.errno in _NOT_THERE else Missing.UNREADABLE


# Where it is no host.

FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""Inode number of the pid namespace that the kernel boots with, fixed since Linux 3.8 (PROC_PID_INIT_INO)."""

_CONTAINER_MARKS = (
    ("run/systemd/container", ""),
    ("run/host/container-manager", ""),
    (".dockerenv", "docker"),
    ("run/.containerenv", "podman"),
    ("run/secrets/kubernetes.io", "kubernetes"),
)
"""Path below the root, and the container it tells; where that is empty the file names it."""


def _container(root: Path, probes: Probes) -> str:
    for path, name in _CONTAINER_MARKS:
        if (root / path).exists():
            return f"{name or _text(root / path, probes) or 'container'} (/{path})"
    # A container need not leave a mark, and whoever starts it can take the mark away.
    if (namespace := probes.pid_namespace()) not in {None, FIRST_PID_NAMESPACE}:
        return f"process namespace {namespace} (/proc/self/ns/pid)"
    return ""


_MACHINE_VENDORS = ("qemu", "vmware", "innotek", "xen", "bochs", "parallels")
"""Beginnings of the DMI vendor in virtual machines; makers that also sell hardware are not in it."""


def _virtual_machine(root: Path, probes: Probes) -> str:
    if " hypervisor" in _text(root / "proc/cpuinfo", probes):
        return "hypervisor (/proc/cpuinfo)"
    vendor = _text(root / "sys/class/dmi/id/sys_vendor", probes)
    if vendor.lower().startswith(_MACHINE_VENDORS):
        return f"{vendor} (/sys/class/dmi/id/sys_vendor)"
    if (root / "sys/firmware/devicetree/base/hypervisor").exists():
        return "hypervisor (/sys/firmware/devicetree/base/hypervisor)"
    return ""


def _text(path: Path, probes: Probes) -> str:
    try:
        return _line(probes.read_file(path).decode("utf-8", "replace"))
    except OSError:
        return ""
