"""Reservations and the waiting order through the running daemon: they outlive it, or are asked for anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rig

TRUNKS = "sip-trunk-channels"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[rig.Licensed]:
    """A site with 2 trunk channels."""
    with rig.licensed_site(tmp_path, (f"{TRUNKS}:2", "vcm-channels:30")) as it:
        yield it


def acquire(site: rig.Site, key: str, **fields: Any) -> dict[str, Any]:
    return site.call("License.Acquire", {"holder": "kamailio", "key": key, "wants": [{"feature": TRUNKS}], **fields})


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_a_reservation_outlives_the_daemon(two: rig.Licensed, end: str) -> None:
    site = two.site
    made = site.ctl("reserve", TRUNKS, "201", "--instances", "2")
    assert (made.status, made.out.splitlines()[0][:10]) == (0, "reserved: ")
    assert acquire(site, "late")["reason"] == "reserved"
    if end == "kill":
        site.kill()
        site.start()
    else:
        site.restart()
    denied = acquire(site, "late")
    assert (denied["reason"], denied["limit"], denied["in_use"]) == ("reserved", 2, 0)
    assert acquire(site, "201")["allowed"] is True
    listed = json.loads(site.ctl("reservations", "--json").out)["reservations"]
    assert listed == [{"feature": TRUNKS, "key": "201", "instances": 2, "held": 1, "free": 1}]
    assert site.feature(TRUNKS)["reserved"] == 1
    assert site.ctl("unreserve", TRUNKS, "201").status == 0
    assert acquire(site, "late")["allowed"] is True
    site.restart()
    assert site.ctl("reservations").out == "nothing is reserved\n"


def test_too_many_reserved_are_refused_in_words(two: rig.Licensed) -> None:
    refused = two.site.ctl("reserve", TRUNKS, "201", "--instances", "3")
    assert refused.status == 1
    assert "Of 2 instances of " in refused.out
    assert "0 are in use and 0 reserved; 3 more wanted." in refused.out


def test_who_waits_hears_that_its_turn_has_come_and_gets_what_was_freed(two: rig.Licensed) -> None:
    site = two.site
    for key in ("1", "2"):
        assert acquire(site, key)["allowed"] is True
    with site.watch() as events:
        assert [acquire(site, key, wait=True)["place"] for key in ("a", "b")] == [1, 2]
        assert site.call("License.Release", {"holder": "kamailio", "key": "1"})["released"] is True
        turn = events.wait("turn")
        assert (turn["holder"], turn["key"], turn["feature"]) == ("kamailio", "a", TRUNKS)
        assert acquire(site, "late")["reason"] == "others_wait"
        assert acquire(site, "b", wait=True)["reason"] == "others_wait"
        assert acquire(site, "a", wait=True)["allowed"] is True
    explained = site.ctl("explain", TRUNKS, "--holder", "kamailio", "--key", "b", "--wait")
    assert "waits as number 1" in explained.out
