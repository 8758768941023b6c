"""What outlives a reboot of the host, which takes the runtime directory with it: configuration, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import rig

ORDERS = ("receptionist:2", "third-party-ip-endpoints:2", "sip-trunk-channels:2", "vcm-channels:8")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[rig.Site]:
    """A site with something of each scope in use."""
    with rig.licensed_site(tmp_path, ORDERS) as licensed:
        switch = licensed.site.client("asterisk")
        assert switch.acquire("201", "receptionist").allowed
        assert switch.acquire("phone-201", "third-party-ip-endpoints").allowed
        assert switch.acquire("call-1", "sip-trunk-channels").allowed
        yield licensed.site


def reboot(site: rig.Site) -> None:
    """Start the daemon on a host that has just booted."""
    shutil.rmtree(site.runtime)
    site.start()


def keys(site: rig.Site) -> list[str]:
    return sorted(lease["key"] for lease in site.leases())


def test_after_a_reboot_configuration_is_there_and_calls_and_registrations_are_gone(site: rig.Site) -> None:
    assert site.stop() == 0
    reboot(site)
    assert keys(site) == ["201"]
    assert site.feature("receptionist")["in_use"] == 1
    switch = site.client("asterisk")
    assert switch.acquire("201", "receptionist").reason == "already_held"
    assert switch.acquire("202", "receptionist").allowed
    assert switch.acquire("203", "receptionist").reason == "limit_reached"


def test_what_ended_before_the_reboot_stays_ended(site: rig.Site) -> None:
    assert site.client("asterisk").release("201")
    assert site.stop() == 0
    reboot(site)
    assert keys(site) == []


def test_a_second_reboot_finds_what_the_first_did(site: rig.Site) -> None:
    for _ in range(2):
        assert site.stop() == 0
        reboot(site)
    assert keys(site) == ["201"]


def test_kill_right_after_an_answer_loses_nothing_and_invents_nothing_while_the_boot_lasts(site: rig.Site) -> None:
    switch = site.client("asterisk")
    for number in range(3):
        assert switch.acquire("202", "receptionist").allowed
        site.kill()
        site.start()
        assert keys(site) == ["201", "202", "call-1", "phone-201"], number
        assert switch.release("202")
        site.kill()
        site.start()
        assert keys(site) == ["201", "call-1", "phone-201"], number
    # What the state file did not hear of because of a kill it heard of at the next start.
    assert site.stop() == 0
    reboot(site)
    assert keys(site) == ["201"]
