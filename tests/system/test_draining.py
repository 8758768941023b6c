"""A limit falls while calls are up: none is cut, the over-use is shown and told, and ends when they have ended."""

from __future__ import annotations

import datetime
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import rig

TRUNKS = "sip-trunk-channels"
PORT = "trunk:carrier-a"

GRACE = 7200
"""Seconds that a system works without its key (catalog ip-office)."""


def over_use(site: rig.Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.status()["over_use"]
    return found


def absent_for(site: rig.Site, seconds: float) -> None:
    """Leave the meter of the absent key as an absence of that length would; the daemon must not run."""
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        state.execute("INSERT OR REPLACE INTO meter VALUES ('feature_key_absent', ?)", (seconds,))
    state.close()


def calls(site: rig.Site, count: int) -> None:
    kamailio = site.client("kamailio")
    for number in range(count):
        assert kamailio.acquire(f"call-{number}", TRUNKS, phase="established").allowed


def test_calls_drain_when_their_license_is_removed(licensed: rig.Licensed) -> None:
    site = licensed.site
    calls(site, 3)
    kamailio = site.client("kamailio")
    with site.watch() as events:
        site.accept(site.call("Manage.RemoveLicense", {"key": licensed.keys[0]})["finding"])
        began = events.wait("over_use", "fell from 8 to 0 while 3 are in use")
        assert (began["feature"], began["limit"], began["in_use"]) == (TRUNKS, 0, 3)
        assert over_use(site) == [{"feature": TRUNKS, "limit": 0, "in_use": 3, "over": 3}]
        assert "3 in use, 3 above the limit of 0" in site.ctl("status").out
        assert (
            json.loads(site.ctl("features", "--json").out)["features"] == site.call("License.ListFeatures")["features"]
        )
        assert [kamailio.acquire(f"call-{number}", TRUNKS).allowed for number in range(4)] == [True, True, True, False]
        for number in range(3):
            assert kamailio.release(f"call-{number}")
        events.wait("over_use", "nothing is above it any more")
    assert over_use(site) == []
    site.log.wait("over_use_began: The limit of")
    site.log.wait("over_use_ended: 0 of")


def test_calls_drain_when_a_license_expires(tmp_path: Path) -> None:
    """The vendor's list of a later day proves that the day has come; the clock of this host cannot be moved."""
    with rig.licensed_site(tmp_path, ("sip-trunk-channels:2",)) as it:
        vendor, site = it.vendor, it.site
        vendor.issue(it.serial, "sip-trunk-channels:6", term="month")
        site.import_list(vendor.license_list(it.serial))
        calls(site, 5)
        vendor.today = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=40)
        site.import_list(vendor.license_list(it.serial))
        assert over_use(site) == [{"feature": TRUNKS, "limit": 2, "in_use": 5, "over": 3}]
        site.log.wait("fell from 8 to 2 while 5 are in use, 3 above it")
        kamailio = site.client("kamailio")
        for number in range(3):
            assert kamailio.acquire("late", TRUNKS).reason == "limit_reached"
            kamailio.release(f"call-{number}")
        site.log.wait("over_use_ended")
        assert over_use(site) == []


def test_calls_drain_when_the_feature_key_is_gone_for_too_long_and_count_again_when_it_is_back(
    licensed: rig.Licensed,
) -> None:
    site = licensed.site
    calls(site, 2)
    site.stop()
    licensed.simulator.tell("unplug")
    absent_for(site, GRACE - 1)
    site.start()
    site.log.wait("over_use_began")
    assert over_use(site) == [{"feature": TRUNKS, "limit": 0, "in_use": 2, "over": 2}]
    feature = site.feature(TRUNKS)
    assert (feature["limit"], feature["licensed"], feature["over"], feature["lack"]) == (0, 8, 2, "deactivated")
    assert len(site.leases()) == 2
    with site.watch() as events:
        licensed.simulator.tell("plug")
        events.wait("over_use", "nothing is above it any more")
    assert (over_use(site), site.feature(TRUNKS)["limit"]) == ([], 8)


def test_a_port_with_a_ceiling_is_denied_at_it_and_shown(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, ceilings={PORT: 2}) as it:
        kamailio = it.site.client("kamailio")
        answers = [kamailio.acquire(f"call-{number}", TRUNKS, port=PORT) for number in range(3)]
        assert [answer.reason for answer in answers] == ["granted", "granted", "ceiling_reached"]
        assert answers[2].message == f"2 of at most 2 calls are on port {PORT}."
        assert kamailio.acquire("call-2", TRUNKS, port="trunk:carrier-b").allowed
        kamailio.release("call-0")
        assert it.site.status()["ports"] == [{"port": PORT, "ceiling": 2, "in_use": 1, "peak": 2}]
        shown = it.site.ctl("ports").out.splitlines()
        assert [line.split() for line in shown[1:]] == [[PORT, "2", "1", "2", "-"]]
        kamailio.acquire("call-0", TRUNKS, port=PORT)
        explained = it.site.ctl("explain", TRUNKS, "--holder", "kamailio", "--key", "x", "--port", PORT)
        assert explained.status == 1
        assert f"ceiling      {PORT}  STOPPED  2 of at most 2 calls are on port {PORT}." in explained.out


def test_a_ceiling_that_is_lowered_cuts_no_call(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, ceilings={PORT: 3}) as it:
        kamailio = it.site.client("kamailio")
        for number in range(3):
            kamailio.acquire(f"call-{number}", TRUNKS, port=PORT)
        it.site.write_settings(ceilings={PORT: 1})
        it.site.restart()
        assert it.site.status()["ports"] == [{"port": PORT, "ceiling": 1, "in_use": 3, "peak": 3, "over": 2}]
        assert kamailio.acquire("call-3", TRUNKS, port=PORT).reason == "ceiling_reached"


@pytest.mark.parametrize("forced", [True, False])
def test_a_technician_frees_a_lease_by_hand_and_the_log_says_who(licensed: rig.Licensed, forced: bool) -> None:
    calls(licensed.site, 1)
    release = ("release", "--holder", "kamailio", "--key", "call-0", *(["--force"] if forced else []))
    ran = licensed.site.ctl(*release)
    assert (ran.status, ran.out.startswith("released")) == (0, True)
    assert licensed.site.leases() == []
    again = licensed.site.ctl(*release)
    assert (again.status, again.out) == (0, "nothing to do: kamailio holds nothing under this key\n")
    if forced:
        licensed.site.log.wait("The lease call-0 of kamailio was freed by uid")
