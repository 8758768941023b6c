"""The host as a Feature Key: what the digest covers, where it is refused, what counts as a change."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.hwio.featurekey import Absent, Assurance, FeatureKey, Kind, Unsupported
from featurekeyd.hwio.hostidentity import read_host_identity
from featurekeyd.hwio.hostkey import HostKey, component_digests, hardware_id, strong_components
from featurekeyd.hwio.hostprobes import foreign_root, read_file
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host

if TYPE_CHECKING:
    from pathlib import Path

HOST = SimulatedHost()
BARE = SimulatedHost(product_uuid="", product_serial="", board_serial="", nics=())


def opened(root: Path, host: SimulatedHost = HOST) -> HostKey:
    return HostKey.open(write_simulated_host(root, host))


def changed(**fields: Any) -> SimulatedHost:
    return msgspec.structs.replace(HOST, **fields)


def test_a_host_is_a_feature_key_of_the_lowest_assurance(tmp_path: Path) -> None:
    key = opened(tmp_path)
    assert isinstance(key, FeatureKey)
    assert (key.reading.kind, key.reading.assurance, key.reading.simulated) == (Kind.HOST, Assurance.A0, True)
    assert key.reading.reader == f"host:{tmp_path}"
    assert bytes.fromhex(key.reading.hardware_id) != bytes(32)
    assert key.identity == read_host_identity(tmp_path)


def test_the_detail_names_what_went_in_and_what_did_not(tmp_path: Path) -> None:
    assert opened(tmp_path).reading.detail == (
        "with product-uuid, product-serial, board-serial, machine-id, cpu-model, permanent-addresses; "
        "without device-tree-serial (absent), cpu-serial (absent)"
    )


def prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_the_hardware_id_is_the_digest_of_the_digests_of_its_components(tmp_path: Path) -> None:
    key = opened(tmp_path, msgspec.structs.replace(BARE, board_serial="B1", machine_id="", cpu=()))
    digest = hashlib.sha256(prefixed(b"featurekeyd host component 1", b"board-serial", b"B1")).hexdigest()
    assert component_digests(strong_components(key.identity)) == {"board-serial": (digest,)}
    plain = prefixed(b"featurekeyd host 2", b"board-serial", (1).to_bytes(4, "big"), digest.encode())
    assert key.reading.hardware_id == hashlib.sha256(plain).hexdigest()


def test_the_order_in_which_components_are_found_is_irrelevant() -> None:
    one = {"board-serial": ("B1",), "permanent-addresses": ("00:1b:21:5e:8a:01", "00:1b:21:5e:8a:02")}
    two = {"permanent-addresses": ("00:1b:21:5e:8a:02", "00:1b:21:5e:8a:01"), "board-serial": ("B1",)}
    assert hardware_id(one) == hardware_id(two)


def test_moving_bytes_between_components_changes_the_hardware_id() -> None:
    ids = {
        hardware_id(components)
        for components in (
            {"board-serial": ("ab",)},
            {"board-serial": ("a", "b")},
            {"board-serial": ("a",), "cpu-model": ("b",)},
            {"board-serialab": ()},
            {"cpu-model": ("ab",)},
        )
    }
    assert len(ids) == 5


def test_the_same_host_has_the_same_id_whatever_is_primary_or_named(tmp_path: Path) -> None:
    first, second = HOST.nics
    swapped = (
        msgspec.structs.replace(second, name="a-first", metric=1),
        msgspec.structs.replace(first, name="b-second", metric=None),
    )
    one = opened(tmp_path / "one").reading.hardware_id
    assert opened(tmp_path / "two", changed(nics=swapped)).reading.hardware_id == one


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"product_uuid": "11111111-2222-3333-4444-555555555555"}, "product-uuid is another"),
        ({"board_serial": ""}, r"board-serial \(absent\) now"),
        ({"board_serial": "Default string"}, r"board-serial \(placeholder\) now"),
        ({"device_tree_serial": "10000000a3b1c2d4"}, "device-tree-serial is new"),
        ({"machine_id": "0" * 31 + "1"}, "machine-id is another"),
        ({"cpu": (("vendor_id", "AuthenticAMD"),)}, "cpu-model is another"),
        ({"nics": HOST.nics[:1]}, r"permanent-addresses \(00:1b:21:5e:8a:02 gone\)"),
        (
            {"nics": (HOST.nics[0], SimulatedNic(name="enp2s0", address="00:1b:21:00:00:09"))},
            r"permanent-addresses \(00:1b:21:5e:8a:02 gone, 00:1b:21:00:00:09 new\)",
        ),
        ({"nics": ()}, r"permanent-addresses \(00:1b:21:5e:8a:01 gone, 00:1b:21:5e:8a:02 gone\)"),
    ],
)
def test_a_changed_host_is_absent_and_says_what_changed(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    key = opened(tmp_path)
    key.check()
    write_simulated_host(tmp_path, changed(**fields))
    with pytest.raises(Absent, match=f"the host changed: {told}"):
        key.check()
    write_simulated_host(tmp_path)
    key.check()


def test_several_changes_are_all_told(tmp_path: Path) -> None:
    key = opened(tmp_path)
    write_simulated_host(tmp_path, changed(product_serial="X-1", board_serial="X-2"))
    with pytest.raises(Absent, match="product-serial is another, board-serial is another"):
        key.check()


def test_a_moved_cable_is_no_change(tmp_path: Path) -> None:
    key = opened(tmp_path)
    first, second = HOST.nics
    moved = (msgspec.structs.replace(first, metric=None), msgspec.structs.replace(second, metric=5))
    write_simulated_host(tmp_path, changed(nics=moved))
    key.check()


def test_a_lost_permission_is_told_as_such(tmp_path: Path) -> None:
    refused: list[str] = []

    def read(path: Path) -> bytes:
        if path.name in refused:
            raise PermissionError(13, "Permission denied")
        return read_file(path)

    write_simulated_host(tmp_path)
    key = HostKey.open(tmp_path, probes=dataclasses.replace(foreign_root(tmp_path), read_file=read))
    refused.append("product_uuid")
    with pytest.raises(Absent, match=r"product-uuid \(no permission\) now"):
        key.check()


def test_a_container_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"a container cannot be a Feature Key: lxc \(/run/systemd/container\)"):
        opened(tmp_path, changed(container="lxc"))


def test_a_container_without_a_mark_is_refused_by_its_process_namespace(tmp_path: Path) -> None:
    write_simulated_host(tmp_path)
    probes = dataclasses.replace(foreign_root(tmp_path), pid_namespace=lambda: 4026532201)
    with pytest.raises(Unsupported, match="cannot be a Feature Key: process namespace 4026532201"):
        HostKey.open(tmp_path, probes=probes)


def test_a_host_that_became_a_container_is_refused(tmp_path: Path) -> None:
    key = opened(tmp_path)
    write_simulated_host(tmp_path, changed(container="docker"))
    with pytest.raises(Unsupported, match="docker"):
        key.check()


def test_a_host_without_serial_and_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"neither a serial nor a permanent network address .* none counts") as caught:
        opened(tmp_path, BARE)
    assert "board serial" in caught.value.cure


@pytest.mark.parametrize(
    "fields",
    [
        {"product_uuid": HOST.product_uuid},
        {"product_serial": "S-1"},
        {"board_serial": "S-1"},
        {"device_tree_serial": "10000000a3b1c2d4"},
        {"cpu_serial": "10000000a3b1c2d4"},
        {"nics": HOST.nics},
    ],
)
def test_one_serial_or_address_is_enough(tmp_path: Path, fields: dict[str, Any]) -> None:
    opened(tmp_path, msgspec.structs.replace(BARE, **fields)).check()


def test_addresses_that_do_not_count_stay_out(tmp_path: Path) -> None:
    virtual = SimulatedNic(name="tap0", address="00:1b:21:00:00:77", bus="")
    identity = read_host_identity(write_simulated_host(tmp_path, changed(nics=(*HOST.nics, virtual))))
    assert strong_components(identity)["permanent-addresses"] == ("00:1b:21:5e:8a:01", "00:1b:21:5e:8a:02")


def test_a_usb_adapter_plugged_in_or_out_is_no_change_and_is_told(tmp_path: Path) -> None:
    key = opened(tmp_path)
    adapter = SimulatedNic(name="enx001b21000077", address="00:1b:21:00:00:77", bus="usb")
    write_simulated_host(tmp_path, changed(nics=(*HOST.nics, adapter)))
    key.check()
    with_adapter = HostKey.open(tmp_path).reading
    assert with_adapter.hardware_id == key.reading.hardware_id
    assert with_adapter.detail.endswith("; left out enx001b21000077 (a USB adapter, which moves between hosts)")


def test_a_host_with_nothing_but_a_usb_adapter_is_refused_and_told_why(tmp_path: Path) -> None:
    adapter = SimulatedNic(name="enx0", address="00:1b:21:00:00:77", bus="usb")
    with pytest.raises(Unsupported, match=r"none counts\); left out enx0 \(a USB adapter"):
        opened(tmp_path, msgspec.structs.replace(BARE, nics=(adapter,)))


def test_a_host_answers_no_challenge(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="a host holds no secret"):
        opened(tmp_path).prove(bytes(31) + b"\x01")


def test_closing_twice_is_harmless_and_a_check_still_works(tmp_path: Path) -> None:
    key = opened(tmp_path)
    key.close()
    key.close()
    key.check()
