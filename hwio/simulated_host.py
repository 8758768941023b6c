"""A simulated host: a small folder that looks like a host's root to `hostidentity`, for tests and demonstrations.

Rules of this module:

* Only files that the reader knows are written, in the kernel's own form.
* Whatever is read from such a folder is marked simulated by the reader, because its root is not `/`.
"""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_MARK = ".simulated-host"
"""A file that says that the folder may be written over."""
_ROUTE_HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


class SimulatedNic(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface of a simulated host."""

    name: str
    address: str
    bus: str = "pci"
    """Empty for an interface without a device behind it."""
    origin: int = 0
    """addr_assign_type: 0 permanent, 1 random, 2 stolen, 3 set by hand."""
    kind: int = 1
    """Type: 1 is Ethernet."""
    bridge: bool = False
    metric: int | None = None
    """Metric of the default route through it, None for no route."""


class SimulatedHost(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated host shows; an empty text leaves the file out."""

    product_uuid: str = "3c6f1a52-8d0e-4b7a-9f21-5a0c7e94d6b3"
    product_serial: str = "PBX7-004411"
    board_serial: str = "BRD-22-90817"
    device_tree_serial: str = ""
    cpu_serial: str = ""
    cpu: tuple[tuple[str, str], ...] = (
        ("vendor_id", "GenuineIntel"),
        ("cpu family", "6"),
        ("model", "92"),
        ("stepping", "9"),
        ("flags", "fpu vme de pse"),
    )
    machine_id: str = "7d3f0c9a52be4e61a8a4c1f2d95b6e30"
    nics: tuple[SimulatedNic, ...] = (
        SimulatedNic(name="enp1s0", address="00:1b:21:5e:8a:01", metric=100),
        SimulatedNic(name="enp2s0", address="00:1b:21:5e:8a:02"),
    )
    container: str = ""
    """What run/systemd/container says."""


def write_simulated_host(root: Path, host: SimulatedHost | None = None) -> Path:
    """Make `root` look like the host (a plausible one unless given), in place of what was written there before.

    Returns `root`. Raises FileExistsError when `root` holds anything that was not written here, and other OSErrors.
    """
    root.mkdir(parents=True, exist_ok=True)
    mark = root / _MARK
    if any(root.iterdir()) and not mark.exists():
        raise FileExistsError(errno.EEXIST, "not an empty folder, nor one with a simulated host", str(root))
    mark.touch()
    for folder in ("sys", "proc", "etc", "run"):
        shutil.rmtree(root / folder, ignore_errors=True)
    host = host or SimulatedHost()
    for path, text in _files(host).items():
        if text:
            _write(root / path, text)
    for nic in host.nics:
        _write_nic(root, nic)
    return root


def _files(host: SimulatedHost) -> dict[str, str]:
    cpu = "".join(f"{name}\t: {value}\n" for name, value in (("processor", "0"), *host.cpu))
    serial = f"Serial\t\t: {host.cpu_serial}\n" if host.cpu_serial else ""
    return {
        "sys/class/dmi/id/product_uuid": _ended(host.product_uuid),
        "sys/class/dmi/id/product_serial": _ended(host.product_serial),
        "sys/class/dmi/id/board_serial": _ended(host.board_serial),
        "sys/firmware/devicetree/base/serial-number": _ended(host.device_tree_serial, "\0"),
        "proc/cpuinfo": cpu + serial,
        "proc/net/route": _ROUTE_HEADER + "".join(map(_route, host.nics)),
        "etc/machine-id": _ended(host.machine_id),
        "run/systemd/container": host.container,
    }


def _ended(text: str, end: str = "\n") -> str:
    return text + end if text else ""


def _route(nic: SimulatedNic) -> str:
    if nic.metric is None:
        return ""
    return f"{nic.name}\t00000000\t010200C0\t0003\t0\t0\t{nic.metric}\t00000000\t0\t0\t0\n"


def _write_nic(root: Path, nic: SimulatedNic) -> None:
    folder = root / "sys/class/net" / nic.name
    _write(folder / "address", f"{nic.address}\n")
    _write(folder / "addr_assign_type", f"{nic.origin}\n")
    _write(folder / "type", f"{nic.kind}\n")
    if nic.bridge:
        (folder / "bridge").mkdir()
    if nic.bus:
        bus = root / "sys/bus" / nic.bus
        bus.mkdir(parents=True, exist_ok=True)
        (folder / "device").mkdir()
        (folder / "device/subsystem").symlink_to(f"../../../../bus/{nic.bus}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
