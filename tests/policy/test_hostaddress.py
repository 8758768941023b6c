"""Bound addresses: which ones, what is a change of them, and how long an announcement of one is good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.hostaddress import (
    ANNOUNCED_SECONDS,
    AddressState,
    Announcement,
    SiteAddresses,
    adopted,
    announce,
    bound_addresses,
    compare_addresses,
    read_address,
    seconds_left,
)
from featurekeyd.policy.hostevidence import Evidence, HostAddress, HostNic, HostRefused
from featurekeyd.policy.instant import Now
from featurekeyd.policy.timekeeping import TOLERANCE_SECONDS

SITE = SiteAddresses()
BOUND = ("192.0.2.10",)
NOW = Now(1_770_000_000.0, 5_000.0)
ANNOUNCED = Announcement(address="192.0.2.11", wall=NOW.wall, boot=NOW.boot, boot_id="boot-1")


def host(*addresses: str, primary: str | None = "eth0") -> Evidence:
    """A host with addresses such as eth0=192.0.2.10; those without an interface are of eth0."""
    split = [text.rpartition("=") for text in addresses]
    return Evidence(
        components=(),
        nics=tuple(
            HostNic(name=name, primary=name == primary, detached=name == "dummy0")
            for name in ("lo", "eth0", "eth1", "tun0", "bond0", "dummy0")
        ),
        addresses=tuple(
            HostAddress(interface=nic or "eth0", family="ipv6" if ":" in text else "ipv4", address=text)
            for nic, _, text in split
        ),
    )


def state(evidence: Evidence, bound: tuple[str, ...] = BOUND, site: SiteAddresses = SITE) -> AddressState:
    return compare_addresses(bound, evidence, site).state


def test_bound_are_the_ipv4_addresses_of_the_primary_interface() -> None:
    found = bound_addresses(host("lo=127.0.0.1", "192.0.2.11", "192.0.2.10", "eth1=198.51.100.1", "2001:db8::5"), SITE)
    assert found == ("192.0.2.10", "192.0.2.11")


@pytest.mark.parametrize("address", ["169.254.7.7", "127.0.0.2", "0.0.0.0", "224.0.0.1", "nonsense", ""])
def test_an_address_that_is_of_every_host_or_of_none_is_not_bound(address: str) -> None:
    assert bound_addresses(host(address), SITE) == ()


def test_floating_addresses_bind_nothing_and_ipv6_only_where_listed() -> None:
    site = SiteAddresses(floating=frozenset({"192.0.2.11"}), listed=frozenset({"2001:db8::5"}))
    assert bound_addresses(host("192.0.2.10", "192.0.2.11", "2001:db8::5", "2001:db8::6"), site) == (
        "192.0.2.10",
        "2001:db8::5",
    )


def test_without_a_default_route_nothing_is_bound() -> None:
    assert bound_addresses(host("192.0.2.10", primary=None), SITE) == ()


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (host("192.0.2.10"), AddressState.KEPT),
        (host("192.0.2.10", "192.0.2.99"), AddressState.KEPT),
        (host("eth1=192.0.2.10", "198.51.100.1"), AddressState.KEPT),
        (host("192.0.2.10", "tun0=10.8.0.2", primary="tun0"), AddressState.KEPT),
        (host("192.0.2.10", primary=None), AddressState.KEPT),
        (host("bond0=192.0.2.10", "tun0=10.8.0.2", primary="tun0"), AddressState.KEPT),
        (host("dummy0=192.0.2.10", primary="dummy0"), AddressState.KEPT),
        (host("lo=192.0.2.10", "203.0.113.9"), AddressState.CHANGED),
        (host("dummy0=192.0.2.10", "203.0.113.9"), AddressState.CHANGED),
        (host("192.0.2.11"), AddressState.CHANGED),
        (host("tun0=10.8.0.2", primary="tun0"), AddressState.CHANGED),
        (host(), AddressState.CANNOT_TELL),
        (host("169.254.7.7"), AddressState.CANNOT_TELL),
        (host("192.0.2.11", primary=None), AddressState.CANNOT_TELL),
    ],
)
def test_the_address_is_kept_wherever_it_is_and_changed_only_where_another_took_its_place(
    evidence: Evidence, expected: AddressState
) -> None:
    assert state(evidence) is expected


def test_of_several_bound_addresses_one_is_enough() -> None:
    assert state(host("192.0.2.11"), ("192.0.2.10", "192.0.2.11")) is AddressState.KEPT


def test_an_address_that_the_settings_called_floating_since_is_not_missed() -> None:
    site = SiteAddresses(floating=frozenset(BOUND))
    assert state(host("192.0.2.11"), BOUND, site) is AddressState.UNBOUND


@given(st.text() | st.ip_addresses().map(str))
def test_any_text_is_an_address_in_its_usual_form_or_none(text: str) -> None:
    address = read_address(text)
    assert address is None or read_address(address) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2", "is no IP address"),
        ("192.0.2.010", "is no IP address"),
        ("x" * 1000, "is no IP address"),
        ("192.0.2.10", "is bound already"),
        ("192.0.2.50", "is floating"),
        ("127.0.0.1", "is never bound"),
        ("2001:db8::6", "is never bound"),
    ],
)
def test_an_announcement_that_cannot_come_true_is_refused(text: str, why: str) -> None:
    site = SiteAddresses(floating=frozenset({"192.0.2.50"}))
    refusal = announce(text, BOUND, site, NOW, "boot-1")
    assert isinstance(refusal, HostRefused)
    assert why in refusal.why
    assert refusal.remedy
    assert len(refusal.why) < 200


def test_an_announcement_notes_both_clocks_and_the_usual_form() -> None:
    assert announce("192.0.2.11", BOUND, SITE, NOW, "boot-1") == ANNOUNCED
    site = SiteAddresses(listed=frozenset({"2001:db8::5"}))
    found = announce("2001:DB8:0::5", BOUND, site, NOW, "boot-1")
    assert isinstance(found, Announcement)
    assert found.address == "2001:db8::5"


def later(wall: float, boot: float) -> Now:
    return Now(NOW.wall + wall, NOW.boot + boot)


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (later(0, 0), ANNOUNCED_SECONDS),
        (later(ANNOUNCED_SECONDS - 1, ANNOUNCED_SECONDS - 1), 1),
        (later(ANNOUNCED_SECONDS - 1, ANNOUNCED_SECONDS), 0),
        (later(ANNOUNCED_SECONDS, ANNOUNCED_SECONDS - 1), 1),
        (later(ANNOUNCED_SECONDS + 1, ANNOUNCED_SECONDS + 1), 0),
        (later(50 * 365 * 86_400, 60), ANNOUNCED_SECONDS - 60),
        (later(-400 * 86_400, ANNOUNCED_SECONDS - 1), 1),
        (later(-400 * 86_400, ANNOUNCED_SECONDS), 0),
    ],
)
def test_within_one_boot_an_announcement_is_good_for_24_hours_whatever_the_clock_says(now: Now, left: float) -> None:
    assert ANNOUNCED_SECONDS == 24 * 3600
    assert seconds_left(ANNOUNCED, now, "boot-1") == left


@pytest.mark.parametrize(
    ("wall", "boot", "left"),
    [
        (300.0, 60.0, ANNOUNCED_SECONDS - 300),
        (ANNOUNCED_SECONDS - 1, 60.0, 1),
        (ANNOUNCED_SECONDS, 60.0, 0),
        (300.0, ANNOUNCED_SECONDS - 1, 1),
        (300.0, ANNOUNCED_SECONDS, 0),
        (-TOLERANCE_SECONDS, 60.0, ANNOUNCED_SECONDS - 60),
        (-TOLERANCE_SECONDS - 1, 60.0, 0),
    ],
)
def test_after_a_reboot_the_date_counts_and_the_boot_clock_from_the_boot(wall: float, boot: float, left: float) -> None:
    assert seconds_left(ANNOUNCED, Now(NOW.wall + wall, boot), "boot-2") == left


def test_an_announced_address_takes_the_place_of_those_that_are_gone() -> None:
    def after(evidence: Evidence, announcement: Announcement | None = ANNOUNCED) -> tuple[str, ...] | None:
        return adopted(BOUND, compare_addresses(BOUND, evidence, SITE), announcement)

    assert after(host("192.0.2.11")) == ("192.0.2.11",)
    assert after(host("192.0.2.11", "192.0.2.10")) == ("192.0.2.10", "192.0.2.11")
    assert after(host("192.0.2.11", "192.0.2.12")) == ("192.0.2.11",)
    assert after(host("192.0.2.12")) is None
    assert after(host("192.0.2.11"), None) is None
    assert after(host("192.0.2.11", primary=None)) is None
