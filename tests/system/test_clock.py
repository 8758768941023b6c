"""The real daemon with a wall clock that is set, by a preloaded library, while it runs and before it starts."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import rig

HOUR = 3_600


def call(site: rig.Site, key: str) -> bool:
    wants = [{"feature": "sip-trunk-channels"}]
    allowed: bool = site.call("License.Acquire", {"holder": "kamailio", "key": key, "wants": wants})["allowed"]
    return allowed


def test_a_clock_set_back_is_told_calls_go_on_and_a_command_repairs_it(
    licensed: rig.Licensed, set_clock: Callable[[int], None]
) -> None:
    site = licensed.site
    set_clock(0)
    assert site.status()["clock"] == "right"
    set_clock(-2 * HOUR)  # not before the day of the release, which no clock is believed to be
    site.log.wait("warning clock_set_back")
    assert site.status()["clock"] == "set_back"
    assert call(site, "a")
    assert site.call("Manage.RepairClock")["finding"]["verdict"] in {"repaired", "not_repaired"}
    set_clock(0)
    site.log.wait("notice clock_right")
    assert (site.status()["clock"], site.status()["standing"]) == ("right", "licensed")


def test_a_host_that_boots_in_1970_is_not_punished(licensed: rig.Licensed, set_clock: Callable[[int], None]) -> None:
    site = licensed.site
    set_clock(-round(datetime.datetime.now(datetime.UTC).timestamp()))
    site.log.wait("notice clock_unset")
    assert (site.status()["clock"], site.status()["standing"]) == ("unset", "licensed")
    assert call(site, "a")
    set_clock(0)
    site.log.wait("notice clock_right")
    assert call(site, "b")
