"""What a host says of itself: every component and why one is missing, network interfaces, containers, the probes."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import fcntl
import hashlib
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import netifaces
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.hwio import hostprobes
from featurekeyd.hwio.hostidentity import COMPONENT_NAMES, Missing, is_placeholder, read_host_identity
from featurekeyd.hwio.hostnics import NIC_LIMIT, read_nics
from featurekeyd.hwio.hostprobes import IpAddress, Probes, default_interface_of, foreign_root
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host

if TYPE_CHECKING:
    from featurekeyd.hwio.hostidentity import Component, HostIdentity
    from featurekeyd.hwio.hostnics import Nic

ADDRESS = "00:1b:21:5e:8a:01"
OTHER_ADDRESS = "00:1b:21:5e:8a:02"
LOCAL_ADDRESS = "52:54:00:12:34:56"
MACHINE_ID = "7d3f0c9a52be4e61a8a4c1f2d95b6e30"


def look(root: Path, host: SimulatedHost | None = None, **probes: Any) -> HostIdentity:
    write_simulated_host(root, host)
    return read_host_identity(root, probes=dataclasses.replace(foreign_root(root), **probes))


def component(root: Path, name: str, host: SimulatedHost, **probes: Any) -> Component:
    return look(root, host, **probes).component(name)


def nic(root: Path, one: SimulatedNic, **probes: Any) -> Nic:
    return look(root, SimulatedHost(nics=(one,)), **probes).nics[0]


# Components.


def test_a_host_is_read_with_the_source_of_each_component(tmp_path: Path) -> None:
    identity = look(tmp_path)
    found = {one.name: (one.value, one.source) for one in identity.components if one.missing is None}
    digest = found.pop("machine-id")
    assert found == {
        "product-uuid": ("3c6f1a52-8d0e-4b7a-9f21-5a0c7e94d6b3", "sys/class/dmi/id/product_uuid"),
        "product-serial": ("PBX7-004411", "sys/class/dmi/id/product_serial"),
        "board-serial": ("BRD-22-90817", "sys/class/dmi/id/board_serial"),
        "cpu-model": ("vendor_id GenuineIntel cpu family 6 model 92 stepping 9", "proc/cpuinfo"),
    }
    assert digest[1] == "etc/machine-id"
    assert identity.simulated
    assert tuple(one.name for one in identity.components) == COMPONENT_NAMES


def test_only_the_real_root_is_not_simulated(tmp_path: Path) -> None:
    assert read_host_identity(tmp_path).simulated
    assert not read_host_identity(Path("/proc/../")).simulated


def test_a_root_that_only_resolves_to_the_real_one_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_simulated_host(tmp_path)
    # So does /proc/PID/root, whatever root directory that process has: the kernel shows the link as `/`.
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: Path("/"))
    identity = read_host_identity(tmp_path)
    assert identity.simulated
    assert identity.component("board-serial").value == "BRD-22-90817"


def test_another_name_of_the_real_root_is_read_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    identity = read_host_identity(tmp_path / "link")
    assert (identity.root, identity.simulated) == ("/", False)


def test_a_root_that_is_missing_is_simulated_and_empty(tmp_path: Path) -> None:
    identity = read_host_identity(tmp_path / "nowhere")
    assert identity.simulated
    assert {one.missing for one in identity.components} == {Missing.ABSENT}


def test_an_empty_root_misses_everything_and_says_so(tmp_path: Path) -> None:
    identity = read_host_identity(tmp_path)
    assert {one.missing for one in identity.components} == {Missing.ABSENT}
    assert (identity.nics, identity.addresses, identity.primary) == ((), (), None)
    assert (identity.container, identity.virtual_machine) == ("", "")


def test_an_unknown_component_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        read_host_identity(tmp_path).component("shoe-size")


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (errno.EACCES, Missing.NO_PERMISSION),
        (errno.EPERM, Missing.NO_PERMISSION),
        (errno.ENOENT, Missing.ABSENT),
        (errno.ENODEV, Missing.ABSENT),
        (errno.EIO, Missing.UNREADABLE),
    ],
)
def test_the_reason_of_a_failed_read_is_told(tmp_path: Path, error: int, missing: Missing) -> None:
    def refuse(path: Path) -> bytes:
        if path.name == "product_uuid":
            raise OSError(error, "refused")
        return hostprobes.read_file(path)

    identity = look(tmp_path, read_file=refuse)
    assert (identity.component("product-uuid").value, identity.component("product-uuid").missing) == ("", missing)
    assert identity.component("board-serial").missing is None


@pytest.mark.parametrize(
    "filler",
    [
        "To Be Filled By O.E.M.",
        "Default string",
        "System Serial Number",
        "0123456789",
        "Not Specified",
        "None",
        "03000200-0400-0500-0006-000700080009",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "00000000-0000-0000-0000-000000000000",
        "xxxxxxxx",
        "......",
        "  ",
    ],
)
def test_filler_of_makers_is_a_placeholder(tmp_path: Path, filler: str) -> None:
    assert is_placeholder(filler)
    found = component(tmp_path, "product-uuid", SimulatedHost(product_uuid=filler))
    assert found.value == ""
    assert found.missing in {Missing.PLACEHOLDER, Missing.ABSENT}


def test_a_real_serial_is_no_placeholder() -> None:
    assert not is_placeholder("BRD-22-90817")


def test_a_uuid_is_the_same_in_upper_and_lower_case(tmp_path: Path) -> None:
    host = SimulatedHost(product_uuid="3C6F1A52-8D0E-4B7A-9F21-5A0C7E94D6B3")
    assert component(tmp_path, "product-uuid", host).value == "3c6f1a52-8d0e-4b7a-9f21-5a0c7e94d6b3"


def test_an_arm_board_is_known_by_its_device_tree_and_processor(tmp_path: Path) -> None:
    arm = SimulatedHost(
        device_tree_serial="10000000A3B1C2D4",
        cpu_serial="10000000a3b1c2d4",
        cpu=(("CPU implementer", "0x41"), ("CPU variant", "0x0"), ("CPU part", "0xd08"), ("CPU revision", "3")),
    )
    identity = look(tmp_path, arm)
    assert identity.component("device-tree-serial").value == "10000000a3b1c2d4"
    assert identity.component("cpu-serial").value == "10000000a3b1c2d4"
    model = "CPU implementer 0x41 CPU variant 0x0 CPU part 0xd08 CPU revision 3"
    assert identity.component("cpu-model").value == model


def test_a_processor_serial_of_zeros_is_a_placeholder(tmp_path: Path) -> None:
    found = component(tmp_path, "cpu-serial", SimulatedHost(cpu_serial="0000000000000000"))
    assert found.missing is Missing.PLACEHOLDER


def test_the_machine_id_appears_as_a_digest_only(tmp_path: Path) -> None:
    identity = look(tmp_path)
    label = b"featurekeyd machine-id 1"
    parts = [len(part).to_bytes(2, "big") + part for part in (label, MACHINE_ID.encode())]
    assert identity.component("machine-id").value == hashlib.sha256(b"".join(parts)).hexdigest()
    assert MACHINE_ID not in repr(identity)


def test_an_installation_without_a_machine_id_yet_has_a_placeholder(tmp_path: Path) -> None:
    assert component(tmp_path, "machine-id", SimulatedHost(machine_id="uninitialized")).missing is Missing.PLACEHOLDER


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60))
def test_arbitrary_files_are_read_without_an_exception(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = write_simulated_host(tmp_path_factory.getbasetemp() / "arbitrary")
    probes = dataclasses.replace(foreign_root(root), read_file=lambda _: data)
    assert len(read_host_identity(root, probes=probes).components) == len(COMPONENT_NAMES)


# Network interfaces.


def test_eligible_interfaces_are_listed_with_bus_and_primary(tmp_path: Path) -> None:
    identity = look(tmp_path)
    shown = [(one.name, one.permanent, one.bus, one.primary, one.skipped) for one in identity.nics]
    assert shown == [("enp1s0", ADDRESS, "pci", True, ""), ("enp2s0", OTHER_ADDRESS, "pci", False, "")]
    assert identity.permanent_addresses == (ADDRESS, OTHER_ADDRESS)
    assert identity.primary == identity.nics[0]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (SimulatedNic(name="veth1", address=ADDRESS, bus=""), "virtual, no device behind it"),
        (SimulatedNic(name="lo", address="00:00:00:00:00:00", bus="", kind=772), "type 772 is not Ethernet"),
        (SimulatedNic(name="br0", address=ADDRESS, bus="", bridge=True), "a bridge"),
        (SimulatedNic(name="eth0", address=ADDRESS, origin=1), "its address is random"),
        (SimulatedNic(name="vlan5", address=ADDRESS, origin=2), "its address belongs to another interface"),
        (SimulatedNic(name="eth0", address=ADDRESS, origin=3), "no permanent address can be read"),
        (SimulatedNic(name="eth0", address="00:00:00:00:00:00"), "no permanent address can be read"),
        (SimulatedNic(name="eth0", address="01:00:5e:00:00:01"), "no permanent address can be read"),
        (SimulatedNic(name="eth0", address="nonsense"), "no permanent address can be read"),
        (SimulatedNic(name="enx0", address=ADDRESS, bus="usb"), "a USB adapter, which moves between hosts"),
        (SimulatedNic(name="eth0", address=LOCAL_ADDRESS), "its permanent address is locally administered"),
    ],
)
def test_an_interface_that_does_not_count_says_why(tmp_path: Path, one: SimulatedNic, reason: str) -> None:
    identity = look(tmp_path, SimulatedHost(nics=(one,)))
    assert identity.nics[0].skipped == reason
    assert identity.permanent_addresses == ()


def test_the_permanent_address_counts_where_another_was_set_by_hand(tmp_path: Path) -> None:
    one = SimulatedNic(name="eth0", address=LOCAL_ADDRESS, origin=3)
    found = nic(tmp_path, one, permanent_address=lambda name: bytes.fromhex(ADDRESS.replace(":", "")))
    assert (found.address, found.permanent, found.skipped) == (LOCAL_ADDRESS, ADDRESS, "")


def test_a_locally_administered_address_counts_in_a_virtual_machine(tmp_path: Path) -> None:
    cpu = (("vendor_id", "GenuineIntel"), ("flags", "fpu vme hypervisor lahf_lm"))
    host = SimulatedHost(cpu=cpu, nics=(SimulatedNic(name="eth0", address=LOCAL_ADDRESS, bus="virtio"),))
    identity = look(tmp_path, host)
    assert identity.virtual_machine == "hypervisor (/proc/cpuinfo)"
    assert identity.permanent_addresses == (LOCAL_ADDRESS,)


def test_an_interface_of_another_network_namespace_does_not_count(tmp_path: Path) -> None:
    identity = look(tmp_path, interface_names=lambda: ["enp2s0"])
    assert [one.skipped for one in identity.nics] == ["not in this network namespace", ""]


def test_an_address_of_two_interfaces_counts_once(tmp_path: Path) -> None:
    nics = (SimulatedNic(name="eth0", address=ADDRESS), SimulatedNic(name="eth1", address=ADDRESS))
    assert look(tmp_path, SimulatedHost(nics=nics)).permanent_addresses == (ADDRESS,)


def test_the_primary_interface_is_the_default_route_with_the_lowest_metric(tmp_path: Path) -> None:
    nics = (
        SimulatedNic(name="eth0", address=ADDRESS, metric=200),
        SimulatedNic(name="eth1", address=OTHER_ADDRESS, metric=100),
    )
    primary = look(tmp_path, SimulatedHost(nics=nics)).primary
    assert primary is not None
    assert primary.name == "eth1"


def test_no_more_interfaces_than_the_limit_are_looked_at(tmp_path: Path) -> None:
    nics = tuple(SimulatedNic(name=f"v{n:04}", address=ADDRESS, bus="") for n in range(NIC_LIMIT + 1))
    assert len(look(tmp_path, SimulatedHost(nics=nics)).nics) == NIC_LIMIT


# Containers and virtual machines.


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("run/systemd/container", "lxc\n", "lxc (/run/systemd/container)"),
        ("run/host/container-manager", "systemd-nspawn\n", "systemd-nspawn (/run/host/container-manager)"),
        ("run/host/container-manager", "", "container (/run/host/container-manager)"),
        (".dockerenv", "", "docker (/.dockerenv)"),
        ("run/.containerenv", "", "podman (/run/.containerenv)"),
        ("run/secrets/kubernetes.io/token", "", "kubernetes (/run/secrets/kubernetes.io)"),
    ],
)
def test_a_container_is_told_by_its_mark(tmp_path: Path, path: str, text: str, told: str) -> None:
    write_simulated_host(tmp_path)
    assert read_host_identity(tmp_path).container == ""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert read_host_identity(tmp_path).container == told


def test_a_process_namespace_other_than_the_first_is_a_container(tmp_path: Path) -> None:
    told = "process namespace 4026532201 (/proc/self/ns/pid)"
    assert look(tmp_path, pid_namespace=lambda: 4026532201).container == told
    assert look(tmp_path, pid_namespace=lambda: 0xEFFFFFFC).container == ""
    assert look(tmp_path, pid_namespace=lambda: None).container == ""


def test_the_mark_of_a_container_is_told_before_its_process_namespace(tmp_path: Path) -> None:
    identity = look(tmp_path, SimulatedHost(container="lxc"), pid_namespace=lambda: 4026532201)
    assert identity.container == "lxc (/run/systemd/container)"


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("sys/class/dmi/id/sys_vendor", "QEMU\n", "QEMU (/sys/class/dmi/id/sys_vendor)"),
        (
            "sys/firmware/devicetree/base/hypervisor/compatible",
            "x",
            "hypervisor (/sys/firmware/devicetree/base/hypervisor)",
        ),
    ],
)
def test_a_virtual_machine_is_told_by_its_mark(tmp_path: Path, path: str, text: str, told: str) -> None:
    write_simulated_host(tmp_path)
    assert read_host_identity(tmp_path).virtual_machine == ""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert read_host_identity(tmp_path).virtual_machine == told


# The probes.


def test_this_host_is_read_without_an_exception() -> None:
    identity = read_host_identity()
    assert {one.name for one in identity.nics} <= {path.name for path in Path("/sys/class/net").iterdir()}
    assert all(one.skipped for one in identity.nics if one.name == "lo")


def test_the_process_namespace_of_this_host_is_the_one_that_its_link_names() -> None:
    assert hostprobes.running_host().pid_namespace is hostprobes.pid_namespace
    assert f"pid:[{hostprobes.pid_namespace()}]" == str(Path("/proc/self/ns/pid").readlink())


def test_a_host_without_proc_does_not_tell_its_process_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert hostprobes.pid_namespace() is None


def test_a_raw_machine_id_of_this_host_is_never_shown() -> None:
    path = Path("/etc/machine-id")
    raw = path.read_text().strip() if path.exists() else "there is none"
    assert (raw or "there is none") not in repr(read_host_identity())


def test_loopback_and_unknown_interfaces_have_no_permanent_address() -> None:
    assert hostprobes.permanent_address("lo") is None
    assert hostprobes.permanent_address("nosuchinterface") is None


def ethtool(monkeypatch: pytest.MonkeyPatch, size: int, address: bytes) -> list[tuple[int, bytes]]:
    """Stand in for the kernel: note the request, and fill the memory that it points to."""
    asked: list[tuple[int, bytes]] = []

    def ioctl(channel: socket.socket, number: int, ifreq: bytes) -> None:
        name, pointer = struct.unpack_from("16sP", ifreq)
        asked.append((number, name.rstrip(b"\0") + ctypes.string_at(pointer, 8)))
        ctypes.memmove(pointer + 4, struct.pack("=I", size) + address, 4 + len(address))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return asked


def test_the_ethtool_request_is_the_one_for_permanent_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ethtool(monkeypatch, 6, bytes.fromhex("001b215e8a01"))
    assert hostprobes.permanent_address("eth0") == bytes.fromhex("001b215e8a01")
    assert asked == [(0x8946, b"eth0" + struct.pack("=II", 0x20, 32))]


@pytest.mark.parametrize(("size", "address"), [(0, b""), (6, bytes(6)), (20, b"\x01" * 20)])
def test_an_empty_zero_or_other_address_is_none(monkeypatch: pytest.MonkeyPatch, size: int, address: bytes) -> None:
    ethtool(monkeypatch, size, address)
    assert hostprobes.permanent_address("ib0") is None


@pytest.mark.parametrize(
    ("default", "interface"),
    [
        ({netifaces.AF_INET: ("192.0.2.1", "eth0"), netifaces.AF_INET6: ("fe80::1", "eth1")}, "eth0"),
        ({netifaces.AF_INET6: ("fe80::1", "eth1")}, "eth1"),
        ({}, None),
    ],
)
def test_netifaces_names_the_default_interface(
    monkeypatch: pytest.MonkeyPatch, default: dict[int, tuple[str, str]], interface: str | None
) -> None:
    monkeypatch.setattr(netifaces, "gateways", lambda: {"default": default})
    assert hostprobes.default_interface() == interface


def test_a_host_without_netlink_has_no_default_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr(netifaces, "gateways", refuse)
    monkeypatch.setattr(psutil, "net_if_addrs", refuse)
    assert hostprobes.default_interface() is None
    assert hostprobes.ip_addresses() == ()


def test_psutil_names_the_ip_addresses_and_their_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "eth1": [SimpleNamespace(family=socket.AF_INET6, address="fe80::1%eth1")],
        "eth0": [
            SimpleNamespace(family=socket.AF_INET, address="192.0.2.7"),
            SimpleNamespace(family=psutil.AF_LINK, address=ADDRESS),
        ],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)
    assert hostprobes.ip_addresses() == (
        IpAddress("eth0", "ipv4", "192.0.2.7"),
        IpAddress("eth1", "ipv6", "fe80::1"),
    )


@pytest.mark.parametrize(
    "table",
    [
        "",
        "Iface\tDestination\n",
        "header\neth0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n",
        "header\neth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        "header\neth0\t00000000\t010200C0\tzzzz\t0\t0\t0\t00000000\t0\t0\t0\n",
    ],
)
def test_a_table_without_an_active_default_route_names_no_interface(tmp_path: Path, table: str) -> None:
    (tmp_path / "route").write_text(table)
    assert default_interface_of(tmp_path / "route") is None
    assert default_interface_of(tmp_path / "no-such-file") is None


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(hostprobes.FILE_LIMIT + 1))
    assert len(hostprobes.read_file(tmp_path / "long")) == hostprobes.FILE_LIMIT


def test_a_foreign_root_asks_nothing_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> Any:
        pytest.fail("this host was asked")

    for module, name in ((netifaces, "gateways"), (psutil, "net_if_addrs"), (socket, "if_nameindex")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(fcntl, "ioctl", forbidden)
    monkeypatch.setattr(hostprobes, "pid_namespace", forbidden)
    write_simulated_host(tmp_path)
    identity = read_host_identity(tmp_path)
    assert (len(identity.permanent_addresses), identity.container) == (2, "")


def test_the_probes_of_this_host_are_all_real() -> None:
    probes = hostprobes.running_host()
    assert isinstance(probes, Probes)
    assert probes.permanent_address is hostprobes.permanent_address
    assert probes.interface_names is not None
    assert set(probes.interface_names()) == {name for _, name in socket.if_nameindex()}


# The simulated host.


def test_a_simulated_host_replaces_the_one_before(tmp_path: Path) -> None:
    look(tmp_path, SimulatedHost(container="lxc"))
    identity = look(tmp_path, SimulatedHost(board_serial="", nics=()))
    assert (identity.container, identity.nics) == ("", ())
    assert identity.component("board-serial").missing is Missing.ABSENT


def test_a_simulated_host_is_not_written_over_other_things(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("precious")
    with pytest.raises(FileExistsError):
        write_simulated_host(tmp_path)
    assert (tmp_path / "etc/passwd").read_text() == "precious"


@pytest.mark.parametrize(
    ("files", "folders", "detached"),
    [
        ({"type": "772"}, [], True),
        ({"type": "1"}, [], True),
        ({"type": "1"}, ["device"], False),
        ({"type": "1"}, ["lower_eth0"], False),
        ({"type": "1"}, ["bridge"], False),
        ({"type": "65534"}, [], False),
    ],
    ids=["loopback", "dummy", "card", "bond", "bridge", "tunnel"],
)
def test_an_interface_with_nothing_behind_it_is_detached(
    tmp_path: Path, files: dict[str, str], folders: list[str], detached: bool
) -> None:
    folder = tmp_path / "sys/class/net/it0"
    for name in ["", *folders]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    (found,) = read_nics(tmp_path, foreign_root(tmp_path), virtual_machine=False)
    assert found.detached is detached
