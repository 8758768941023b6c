"""The meter of the Feature Key counts from the first look that misses it, and what follows waits until it is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.presence import Debounce, Presence, Sighting

if TYPE_CHECKING:
    from tests.policy.conftest import Site

GONE = Sighting(state="absent", finding="Nothing there.", reader="slot")
POLL = 5.0


def doubting(open_site: Callable[..., Site]) -> tuple[Site, Sighting]:
    site = open_site()
    site.certify()
    there = msgspec.structs.replace(site.enforcer.feature_key, finding="Read.")
    site.enforcer.presence = Presence(Debounce.of_polls(POLL))
    site.enforcer.see(there, site.now)
    site.enforcer.events.clear()
    return site, there


def look(site: Site, sighting: Sighting, seconds: float = POLL) -> None:
    site.wait(seconds)
    site.enforcer.see(sighting, site.now)


def test_a_key_that_one_look_misses_is_told_to_nobody(open_site: Callable[..., Site]) -> None:
    site, there = doubting(open_site)
    for sighting in (GONE, GONE, there, GONE, there):
        look(site, sighting)
        assert (str(site.enforcer.standing), site.enforcer.grace, site.enforcer.events) == ("licensed", (), [])


def test_the_time_without_the_key_counts_from_the_first_look_that_missed_it(open_site: Callable[..., Site]) -> None:
    site, _ = doubting(open_site)
    meter = site.enforcer.meters[Cause.FEATURE_KEY_ABSENT]
    for _ in range(3):
        look(site, GONE)
    assert str(site.enforcer.standing) == "grace"
    assert meter.drained == 2 * POLL
    assert site.enforcer.grace[0].seconds_left == meter.rule.seconds - 2 * POLL


def test_the_budget_ends_on_its_second_whatever_was_in_doubt(open_site: Callable[..., Site]) -> None:
    site, _ = doubting(open_site)
    budget = site.enforcer.meters[Cause.FEATURE_KEY_ABSENT].rule.seconds
    for _ in range(3):
        look(site, GONE)
    look(site, GONE, budget - 2 * POLL - 1)
    assert str(site.enforcer.standing) == "grace"
    look(site, GONE, 1)
    assert str(site.enforcer.standing) == "deactivated"


def test_a_key_that_is_shown_at_every_third_look_does_not_keep_a_system_alive(open_site: Callable[..., Site]) -> None:
    site, there = doubting(open_site)
    meter = site.enforcer.meters[Cause.FEATURE_KEY_ABSENT]
    for _ in range(100):
        for sighting in (GONE, GONE, there):
            look(site, sighting)
    assert meter.drained > 100 * POLL / 2


def test_a_key_in_doubt_ends_no_grace_and_begins_none_with_a_spent_budget(open_site: Callable[..., Site]) -> None:
    site, there = doubting(open_site)
    meter = site.enforcer.meters[Cause.FEATURE_KEY_ABSENT]
    meter.drained = float(meter.rule.seconds)
    look(site, GONE)
    assert str(site.enforcer.standing) == "licensed"
    look(site, there)
    assert str(site.enforcer.standing) == "licensed"
