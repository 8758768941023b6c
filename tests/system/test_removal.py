"""The Feature Key is pulled: what goes on, what stops when the grace is over, and that all is well when it is back.

The grace lasts two hours. A test that needs its end lets the daemon start with a meter that has all but drained, as a
long absence would have left it.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

import rig

GRACE = 7200
"""Seconds that a system works without its key (catalog ip-office)."""

CAUSE = "feature_key_absent"


def drain(site: rig.Site, seconds: float) -> None:
    """Leave a meter in the state file as an absence of that length would; the daemon must not run."""
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        state.execute("INSERT OR REPLACE INTO meter VALUES (?, ?)", (CAUSE, seconds))
    state.close()


def drained(site: rig.Site) -> float:
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        (seconds,) = state.execute("SELECT drained FROM meter WHERE cause = ?", (CAUSE,)).fetchone()
    state.close()
    return float(seconds)


def seconds_left(site: rig.Site) -> int:
    (grace,) = site.status()["grace"]
    assert grace["cause"] == CAUSE
    return int(grace["seconds_left"])


def pull(it: rig.Licensed) -> None:
    with it.site.watch() as events:
        it.simulator.tell("unplug")
        events.wait("standing", "grace")


def test_without_its_key_the_system_goes_on_and_says_for_how_long(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    kamailio.acquire("call-1", "sip-trunk-channels")
    pull(licensed)
    assert licensed.site.status()["feature_key"]["state"] == "absent"
    answer = kamailio.acquire("call-2", "sip-trunk-channels")
    assert (answer.allowed, answer.in_use) == (True, 2)
    denied = kamailio.acquire("call-3", "softconsole")
    for grace in (*answer.grace, *denied.grace):
        assert grace.cause == CAUSE
        assert GRACE - 60 < grace.seconds_left <= GRACE
        assert grace.consequence
        assert "Feature Key" in grace.remedy
    assert (len(answer.grace), len(denied.grace), denied.allowed) == (1, 1, False)


def test_a_key_that_is_put_back_ends_the_grace(licensed: rig.Licensed) -> None:
    pull(licensed)
    with licensed.site.watch() as events:
        licensed.simulator.tell("plug")
        events.wait("standing", "licensed")
    answer = licensed.site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    assert (answer.allowed, answer.grace) == (True, ())
    assert licensed.site.status()["grace"] == []


def test_a_reader_that_is_unplugged_and_plugged_in_again_is_found_again(licensed: rig.Licensed) -> None:
    with licensed.site.watch() as events:
        licensed.simulator.tell("unplug device")
        events.wait("standing", "grace")
        licensed.simulator.tell("plug device")
        events.wait("standing", "licensed")


@pytest.mark.parametrize("kind", ["sd-serial", "usb-otp"])
def test_when_the_grace_is_over_calls_go_on_and_new_ones_are_refused_until_the_key_is_back(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    with rig.licensed_site(tmp_path_factory.mktemp("site"), kind=kind) as it:
        it.site.client("kamailio").acquire("call-1", "sip-trunk-channels")
        it.site.stop()
        it.simulator.tell("unplug")
        drain(it.site, GRACE - 1)
        it.site.start()
        if it.site.status()["standing"] != "deactivated":
            it.site.log.wait("The standing is deactivated (was grace)")
        assert_only_what_must_go_on_goes_on(it.site)
        with it.site.watch() as events:
            it.simulator.tell("plug")
            events.wait("standing", "licensed")
        answer = it.site.client("kamailio").acquire("call-2", "sip-trunk-channels")
        assert (answer.allowed, answer.in_use) == (True, 2)


def assert_only_what_must_go_on_goes_on(site: rig.Site) -> None:
    kamailio = site.client("kamailio")
    assert [lease["key"] for lease in site.leases()] == ["call-1"]
    assert kamailio.acquire("call-1", "sip-trunk-channels").reason == "already_held"
    denied = kamailio.acquire("call-2", "sip-trunk-channels")
    assert (denied.allowed, denied.reason) == (False, "deactivated")
    assert denied.message is not None
    assert CAUSE in denied.message
    assert denied.remedy is not None
    emergency = kamailio.acquire("call-3", "sip-trunk-channels", dialed="911")
    assert (emergency.allowed, emergency.reason, emergency.from_daemon) == (True, "emergency", True)
    assert kamailio.release("call-3") is True


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_gives_no_drained_time_back(licensed: rig.Licensed, end: str) -> None:
    site = licensed.site
    site.stop()
    licensed.simulator.tell("unplug")
    drain(site, 1000)
    for _ in range(3):
        site.start()
        assert seconds_left(site) <= GRACE - 1000
        assert site.status()["standing"] == "grace"
        (site.stop if end == "stop" else site.kill)()
    assert drained(site) >= 1000


def test_an_orderly_end_stores_what_has_drained_since(licensed: rig.Licensed) -> None:
    site = licensed.site
    pull(licensed)
    site.stop()
    before = drained(site)
    site.start()  # the key is known to be absent, so its time runs from the start on
    site.stop()
    assert drained(site) > before > 0


FOUND = {
    "unplug": "absent",
    "deny": "no-permission",
    "hold": "busy",
    "garble": "garbled",
    "serial 42": "wrong-key",
    "touch": "touch-required",
}
"""What is done to a USB key, and what the daemon must say of it when it is opened."""


def await_state(site: rig.Site, events: rig.Watcher, state: str) -> dict[str, Any]:
    """The status as soon as it tells the key in that state."""
    while (status := site.status())["feature_key"]["state"] != state:
        events.wait("feature_key")
    return status


def test_each_way_to_miss_a_key_is_told_by_its_own_name_and_is_over_at_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with rig.licensed_site(tmp_path_factory.mktemp("site"), kind="usb-otp") as it, it.site.watch() as events:
        for fault, state in FOUND.items():
            it.simulator.tell("unplug")
            it.simulator.tell(fault)
            if fault != "unplug":
                it.simulator.tell("plug")
            status = await_state(it.site, events, state)
            assert (status["standing"], [grace["cause"] for grace in status["grace"]]) == ("grace", [CAUSE])
            it.simulator.tell("well")
            it.simulator.tell("unplug")
            it.simulator.tell("plug")
            status = await_state(it.site, events, "present")
            assert (status["standing"], status["grace"]) == ("licensed", [])
            assert "proved itself" in status["feature_key"]["finding"]
