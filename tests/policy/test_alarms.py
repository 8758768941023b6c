"""Alarms: raised and cleared at two levels, once, and never for what has no limit worth one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.alarms import CLEAR_SECONDS, AlarmRules, Alarms, Levels, Threshold, check_alarms, levels
from featurekeyd.policy.catalog import UNLIMITED, Catalog
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.requests import Phase
from featurekeyd.policy.usage_history import Sort, UsageHistory

if TYPE_CHECKING:
    from tests.policy.conftest import Site

    Open = Callable[..., Site]

RAISED, CLEARED = EventName.ALARM_RAISED, EventName.ALARM_CLEARED


class Watched:
    """A site with its alarms, looked at after every deed."""

    def __init__(self, site: Site, rules: AlarmRules | None = None) -> None:
        self.site = site
        enforcer = site.enforcer
        self.history = UsageHistory(enforcer.account, tuple(enforcer.rules.ceilings), site.now)
        self.alarms = Alarms(rules or AlarmRules(), self.history)
        self.events: list[Event] = []
        self.tick()

    def look(self) -> None:
        self.history.take(self.site.enforcer.ledger, self.site.now)
        self.events += self.alarms.tell_reached(self.site.enforcer, self.site.now.boot)

    def tick(self) -> None:
        self.look()
        self.events += self.alarms.look(self.site.enforcer, self.site.now)

    def use(self, count: int, feature: str = "trunk", **fields: Any) -> None:
        """Let so many be in use."""
        before = self.site.enforcer.ledger.in_use(feature)
        for number in range(count, before):
            self.site.release(f"{feature}-{number}")
        for number in range(before, count):
            self.site.acquire(f"{feature}-{number}", feature, phase=Phase.ESTABLISHED, **fields)
        assert self.site.enforcer.ledger.in_use(feature) == count
        self.look()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a look every five seconds."""
        while seconds > 0:
            step = min(5.0, seconds)
            self.site.wait(step)
            seconds -= step
            self.tick()

    @property
    def told(self) -> list[EventName]:
        return [event.name for event in self.events]


@pytest.fixture
def watched(open_site: Open) -> Watched:
    return Watched(open_site(licensed={"trunk": 20}))


def test_it_is_raised_at_ninety_percent_and_cleared_a_minute_after_eighty(watched: Watched) -> None:
    watched.use(17)
    watched.wait(10)
    assert watched.told == []
    watched.use(18)
    assert watched.told == [RAISED]
    watched.use(17)
    watched.wait(600)
    assert watched.told == [RAISED], "between the levels it stands"
    watched.use(16)
    watched.wait(CLEAR_SECONDS - 5)
    assert watched.told == [RAISED]
    watched.wait(10)
    assert watched.told == [RAISED, CLEARED]
    assert watched.alarms.raised == {}


def test_it_says_what_is_nearly_full_and_how_much_is_in_use(watched: Watched) -> None:
    watched.use(19)
    (event,) = watched.events
    assert event.message == "Nearly full: 19 of 20 Trunks are in use."
    assert event.fields == {
        "FEATURE": "trunk",
        "LIMIT": "20",
        "IN_USE": "19",
        "STANDING": "licensed",
        "RAISED_AT": "18",
        "CLEARED_AT": "16",
    }
    watched.use(0)
    watched.wait(70)
    assert watched.events[-1].message == "No longer nearly full: 0 of 20 Trunks are in use."


def test_what_goes_up_and_down_around_the_level_is_told_once(watched: Watched) -> None:
    for _ in range(50):
        watched.use(20)
        watched.wait(5)
        watched.use(15)
        watched.wait(30)
    assert watched.told == [RAISED]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12)), max_size=60))
def test_it_never_flaps(make_site: Open, catalog: Catalog, steps: list[tuple[int, int]]) -> None:
    site = make_site(catalog)
    site.certify()
    site.buy(trunk=20)
    watched, times = Watched(site), []
    for count, looks in steps:
        told = len(watched.events)
        watched.use(count)
        watched.wait(looks * 5.0)
        times += [site.boot] * (len(watched.events) - told)
    assert watched.told == [RAISED, CLEARED] * (len(watched.told) // 2) + [RAISED] * (len(watched.told) % 2)
    for raised, cleared in zip(watched.events[::2], watched.events[1::2], strict=False):
        assert int(raised.fields["IN_USE"]) >= 18
        assert int(cleared.fields["IN_USE"]) <= 16
    assert all(second - first >= CLEAR_SECONDS for first, second in zip(times[::2], times[1::2], strict=False))


def test_a_port_with_a_ceiling_has_one_of_its_own(make_site: Open, catalog: Catalog) -> None:
    site = make_site(catalog, ceilings={"trunk:a": 4})
    site.certify()
    site.buy(trunk=50)
    watched = Watched(site)
    watched.use(4, port="trunk:a")
    (event,) = watched.events
    assert (event.name, event.fields["PORT"], event.fields["LIMIT"]) == (RAISED, "trunk:a", "4")
    assert event.message == "Nearly full: 4 of 4 calls on port trunk:a are in use."
    assert [*watched.alarms.raised] == [(Sort.PORT, "trunk:a")]


def test_a_limit_that_falls_raises_it_and_one_that_rises_clears_it(watched: Watched) -> None:
    watched.use(12)
    newer = watched.site.list_of(watched.site.key("trunk", 13))
    watched.site.bring(newer)
    watched.tick()
    assert watched.told == [RAISED]
    assert watched.events[0].fields["LIMIT"] == "13"
    watched.site.bring(watched.site.list_of(watched.site.key("trunk", 40)))
    watched.wait(70)
    assert watched.told == [RAISED, CLEARED]
    watched.use(36)
    assert watched.told == [RAISED, CLEARED, RAISED]


def test_without_a_limit_it_is_over(watched: Watched) -> None:
    watched.use(20)
    watched.site.bring(watched.site.list_of())
    watched.wait(70)
    assert watched.told == [RAISED, CLEARED]
    assert watched.events[1].message == "No longer nearly full: There is no limit to measure it by any more."


def test_the_settings_may_say_it_for_one_feature_and_turn_it_off_for_another(open_site: Open) -> None:
    site = open_site(licensed={"trunk": 20, "phone": 20})
    rules = AlarmRules(features={"trunk": Threshold(raise_percent=50, clear_percent=40), "phone": Threshold(off=True)})
    watched = Watched(site, rules)
    watched.use(10)
    watched.use(20, "phone")
    assert [event.fields["FEATURE"] for event in watched.events] == ["trunk"]


def test_settings_that_are_read_anew_count_from_the_next_look_on(watched: Watched) -> None:
    watched.use(10)
    watched.alarms.adopt(AlarmRules(usual=Threshold(raise_percent=50, clear_percent=40)))
    watched.tick()
    assert watched.told == [RAISED]


def test_an_alarm_that_the_settings_turn_off_is_not_said_to_be_over(watched: Watched) -> None:
    watched.use(20)
    watched.alarms.adopt(AlarmRules(features={"trunk": Threshold(off=True)}))
    watched.wait(70)
    assert watched.told == [RAISED, CLEARED]
    said = watched.events[1].message
    assert said.startswith("No alarm any more, as the settings say: 20 of 20 ")
    assert said.endswith(" are in use.")


def test_what_is_configured_has_an_alarm_only_where_the_settings_name_it(open_site: Open) -> None:
    site = open_site(licensed={"tenant": 10})
    watched = Watched(site)
    watched.use(10, "tenant")
    assert watched.told == []
    named = Watched(site, AlarmRules(features={"tenant": Threshold()}))
    assert named.told == [RAISED]


def test_leases_from_before_a_restart_raise_it_anew(watched: Watched) -> None:
    watched.use(19)
    again = Watched(watched.site)
    assert again.told == [RAISED]


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (0, None),
        (1, None),
        (2, Levels(2, 1)),
        (3, Levels(3, 2)),
        (10, Levels(9, 8)),
        (11, Levels(10, 8)),
        (100, Levels(90, 80)),
        (UNLIMITED, None),
    ],
)
def test_the_levels_are_whole_instances(limit: int, found: Levels | None) -> None:
    assert levels(Threshold(), limit) == found


@given(st.integers(2, 20_000), st.integers(1, 100), st.integers(0, 99))
def test_the_level_that_clears_is_below_the_one_that_raises(limit: int, raised: int, cleared: int) -> None:
    found = levels(Threshold(raise_percent=raised, clear_percent=cleared), limit)
    assert found is not None
    assert 0 <= found.cleared < found.raised <= limit


def test_what_the_catalog_does_not_know_is_a_mistake_with_its_key(catalog: Catalog) -> None:
    rules = AlarmRules(features={"trunk": Threshold(), "trnk": Threshold(), "edition": Threshold()})
    assert [(it.where, it.what) for it in check_alarms(catalog, rules)] == [
        ("alarms.features.edition", "nobody takes it, so it is never nearly full"),
        ("alarms.features.trnk", "the catalog has no such feature"),
    ]


def test_ceilings_that_the_settings_name_later_have_alarms_too(watched: Watched) -> None:
    watched.use(4, port="trunk:b")
    rules = watched.site.enforcer.rules
    watched.site.enforcer.adopt_rules(Rules(emergency_numbers=rules.emergency_numbers, ceilings={"trunk:b": 4}))
    watched.tick()
    assert [event.fields.get("PORT") for event in watched.events] == ["trunk:b"]
