"""The history of the real daemon: it survives a stop, a kill and the clock, and sizing is made of it."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from typing import Any

import pytest

import rig

TRUNKS, PORT = "sip-trunk-channels", "trunk:carrier-a"
HOUR = 3600


def calls(site: rig.Site, count: int, first: int = 0) -> None:
    kamailio = site.client("kamailio")
    for number in range(first, first + count):
        assert kamailio.acquire(f"call-{number}", TRUNKS, port=PORT, phase="established").allowed


def rows(site: rig.Site, *arguments: str) -> list[dict[str, Any]]:
    """What `featurekeyctl history` says, in JSON."""
    ran = site.ctl("history", "--json", *arguments)
    assert (ran.status, ran.err) == (0, "")
    found: list[dict[str, Any]] = ran.json()["rows"]
    return found


def until(good: Callable[[], object]) -> None:
    """Wait until it is so; the daemon looks at its clock every few seconds."""
    deadline = time.monotonic() + rig.DEADLINE
    while not good():
        assert time.monotonic() < deadline, "it never came"


def stored(site: rig.Site) -> list[dict[str, Any]]:
    """What is in the state file, as the interface gives it."""
    uses = site.call("Manage.History", {"step": "hour", "sort": "feature", "name": TRUNKS})["uses"]
    return list(uses)


def test_what_was_in_use_is_there_after_a_stop_and_goes_on(licensed: rig.Licensed) -> None:
    site = licensed.site
    calls(site, 8)
    denied = site.client("kamailio").acquire("one-too-many", TRUNKS, port=PORT)
    assert denied.reason == "limit_reached"
    site.restart()
    trunks = rows(site, "--feature", TRUNKS)
    assert [(it["peak"], it["granted"], it["denied"], it["blocked"]) for it in trunks][-1] == (8, 8, 1, 1)
    assert sum(it["busy_seconds"] for it in trunks) > 0
    (port,) = rows(site, "--port", PORT)
    assert (port["name"], port["peak"], port["granted"], port["blocked"]) == (PORT, 8, 8, 1)
    busy = sum(it["busy_seconds"] for it in trunks)
    site.restart()
    again = rows(site, "--feature", TRUNKS)
    assert sum(it["busy_seconds"] for it in again) > busy, "the calls are still up, and counted on"
    assert max(it["peak"] for it in again) == 8


def test_a_kill_loses_what_came_since_the_last_minute_and_nothing_else(
    licensed: rig.Licensed, set_clock: Callable[[int], None]
) -> None:
    site = licensed.site
    set_clock(0)
    calls(site, 3)
    set_clock(HOUR)  # the minute ends where the clock is set
    until(lambda: stored(site))
    before = stored(site)
    calls(site, 2, first=3)
    site.kill()
    site.start()
    assert stored(site) == before
    assert [(it["peak"], it["granted"]) for it in before] == [(3, 3)]
    assert site.feature(TRUNKS)["in_use"] == 5, "the calls themselves are all there"


def test_days_pass_and_sizing_says_what_to_order(licensed: rig.Licensed, set_clock: Callable[[int], None]) -> None:
    site = licensed.site
    set_clock(0)
    calls(site, 8)
    for _ in range(3):
        assert not site.client("kamailio").acquire("one-too-many", TRUNKS, port=PORT).allowed
    until(lambda: site.status()["uptime_seconds"] >= 1)
    set_clock(HOUR)
    until(lambda: stored(site))
    ran = site.ctl("sizing", TRUNKS)
    assert ran.status == 1
    assert "give the traffic: --erlang" in ran.err, "some seconds of an hour are no busy hour"
    by_hand = site.ctl("sizing", TRUNKS, "--erlang", "6.2", "--json").json()
    assert (by_hand["needs"], by_hand["limit"], by_hand["order"]) == (13, 8, 5)
    assert "to order" in site.ctl("sizing", TRUNKS, "--erlang", "6.2").out


def test_tables_and_spreadsheets_have_the_same_rows(licensed: rig.Licensed) -> None:
    site = licensed.site
    calls(site, 2)
    site.restart()
    table = site.ctl("history", "--by", "minute").out
    assert table.splitlines()[0].startswith("TIME")
    assert TRUNKS in table
    assert PORT in table
    found = list(csv.DictReader(io.StringIO(site.ctl("history", "--by", "minute", "--csv").out)))
    assert {(it["sort"], it["name"]) for it in found} >= {("feature", TRUNKS), ("port", PORT)}
    assert rows(site, "--by", "day", "--feature", TRUNKS)[-1]["granted"] == 2


def test_the_history_is_for_those_who_manage(shared: rig.Licensed, as_root: None) -> None:
    with shared.site.connect_as(rig.STRANGER) as connection, pytest.raises(rig.Refused, match="PermissionDenied"):
        connection.call("Manage.History", {"step": "hour"})
