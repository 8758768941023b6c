"""What the site measures: history, alarms, denials, meters and the time of turns, from calls to the state file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.history import Step, Wanted
from featurekeyd.daemon.measuring import MAX_IDLE, Measuring
from featurekeyd.daemon.site import MEASURE_SECONDS, TICK_SECONDS
from featurekeyd.daemon.turntimes import BOUNDS, TurnTimes
from featurekeyd.policy.alarms import AlarmRules
from featurekeyd.policy.events import EventName
from featurekeyd.policy.instant import Now
from featurekeyd.policy.ledger import Ledger
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.usage_history import Minute, Sort, Use

if TYPE_CHECKING:
    from tests.daemon.conftest import House


@pytest.fixture
def kept(licensed: House) -> list[Minute]:
    """The minutes that were handed to the storing thread."""
    minutes: list[Minute] = []
    licensed.site.measuring._keep = minutes.extend
    return minutes


def run(house: House, seconds: float) -> None:
    """Let time pass, with its ticks."""
    while seconds > 0:
        step = min(TICK_SECONDS, seconds)
        house.clock.run(step)
        house.site._tick()
        seconds -= step


def call(house: House, key: str, **fields: Any) -> bool:
    (reply,) = house.ask("io.featurekey.License.Acquire", **house.acquire(key, **fields)["parameters"])
    house.site.settle()
    return bool(reply["parameters"]["allowed"])


def status(house: House) -> dict[str, Any]:
    (reply,) = house.ask("io.featurekey.License.Status")
    found: dict[str, Any] = reply["parameters"]
    return found


def test_a_minute_in_use_is_handed_over_when_it_is_over(licensed: House, kept: list[Minute]) -> None:
    call(licensed, "one", port="trunk:a")
    run(licensed, 60)
    (minute,) = kept
    assert minute.uses[Sort.FEATURE, "trunk"] == Use(peak=1, granted=1, busy=60_000)
    assert minute.uses[Sort.PORT, "trunk:a"] == Use(peak=1, granted=1, busy=60_000)


def test_idle_minutes_wait_for_others(licensed: House, kept: list[Minute]) -> None:
    run(licensed, 60 * (MAX_IDLE - 1))
    assert kept == []
    run(licensed, 60)
    assert len(kept) == MAX_IDLE
    run(licensed, 120)
    assert len(kept) == MAX_IDLE
    call(licensed, "one")
    run(licensed, 60)
    assert len(kept) == MAX_IDLE + 3, "what was in use does not wait"


def test_calls_that_follow_one_another_are_taken_in_together_a_moment_later(
    licensed: House, kept: list[Minute], monkeypatch: pytest.MonkeyPatch
) -> None:
    history, looks = licensed.site.measuring.history, list[float]()
    take = history.take

    def counted(ledger: Ledger, now: Now) -> None:
        looks.append(now.boot)
        take(ledger, now)

    monkeypatch.setattr(history, "take", counted)
    for number in range(6):
        call(licensed, f"call-{number}")
        licensed.clock.run(MEASURE_SECONDS / 10)
    assert len(looks) == 1
    series = history.find(Sort.FEATURE, "trunk")
    assert series is not None
    assert series.level == 1
    licensed.loop.later(MEASURE_SECONDS)
    assert (len(looks), series.level) == (2, 6)


def test_the_tick_comes_at_the_end_of_the_minute(licensed: House) -> None:
    licensed.clock.run(57)
    licensed.site._tick()
    assert licensed.site._due - licensed.clock.boot == pytest.approx(3, abs=0.01)
    licensed.clock.run(4)
    licensed.site._tick()
    assert licensed.site._due - licensed.clock.boot == TICK_SECONDS


def test_a_stop_stores_the_minute_that_runs(licensed: House) -> None:
    call(licensed, "one")
    licensed.clock.run(20)
    licensed.site.measuring.close(licensed.clock())
    licensed.storing.close()
    licensed.storing.__init__(type(licensed.store)(licensed.place / "featurekeyd.db"), licensed.log.tell)  # type: ignore[misc]
    page = licensed.storing._store.load_history(Wanted(step=Step.MINUTE, sort=Sort.FEATURE))
    assert [(row.use.peak, row.use.busy) for row in page.rows] == [(1, 20_000)]


def test_what_is_nearly_full_from_before_a_restart_is_told_at_the_first_change(licensed: House) -> None:
    for number in range(8):
        call(licensed, f"call-{number}")
    minutes: list[Minute] = []
    anew = Measuring(licensed.site.enforcer, AlarmRules(), minutes.extend, licensed.site.clock())
    assert [event.name for event in anew.take(licensed.site.clock())] == [EventName.ALARM_RAISED]
    assert anew.take(licensed.site.clock()) == []


def test_an_alarm_is_logged_watched_and_shown(licensed: House) -> None:
    watcher = licensed.caller()
    watcher.send({"method": "io.featurekey.License.Watch", "more": True})
    licensed.loop.turn()
    run(licensed, 5)
    for number in range(8):
        call(licensed, f"call-{number}")
        licensed.clock.run(1)
    licensed.log.one(EventName.ALARM_RAISED)
    licensed.loop.turn()
    (event,) = [it["event"] for it in watcher.parameters if it.get("event", {}).get("kind") == "alarm"]
    assert (event["feature"], event["limit"], event["in_use"]) == ("trunk", 8, 8)
    run(licensed, 10)
    assert status(licensed)["alarms"] == [{"feature": "trunk", "limit": 8, "in_use": 8, "seconds": 11}]
    for number in range(8):
        licensed.ask("io.featurekey.License.Release", holder="kamailio", key=f"call-{number}")
    licensed.site.settle()
    run(licensed, 70)
    licensed.log.one(EventName.ALARM_CLEARED)
    assert status(licensed)["alarms"] == []


def test_denials_are_counted_by_feature_and_reason(licensed: House) -> None:
    for number in range(10):
        call(licensed, f"call-{number}")
    call(licensed, "other", feature="made-up-name")
    assert status(licensed)["denials"] == [
        {"reason": "unknown_feature", "denied": 1},
        {"feature": "trunk", "reason": "limit_reached", "denied": 2},
    ]
    assert status(licensed)["denied"] == 3


def test_every_meter_is_shown_with_what_is_left(licensed: House) -> None:
    assert status(licensed)["meters"] == [
        {"cause": "feature_key_absent", "draining": False, "seconds_left": 7200, "budget_seconds": 7200},
        {"cause": "unlisted_licenses", "draining": False, "seconds_left": 259_200, "budget_seconds": 259_200},
    ]


def test_turns_are_counted_by_how_long_they_took(licensed: House) -> None:
    caller = licensed.caller()
    for number in range(5):
        caller.send(licensed.acquire(f"call-{number}"))
        licensed.loop.turn()
    times = status(licensed)["turn_times"]
    assert [it.get("microseconds") for it in times] == [*BOUNDS, None]
    assert times[0]["turns"] == 5, "the clock of this loop stands still"


@pytest.mark.parametrize(
    ("seconds", "place"), [(0.0, 0), (0.00005, 0), (0.000051, 1), (0.05, len(BOUNDS) - 1), (0.06, len(BOUNDS))]
)
def test_a_turn_counts_where_it_is_not_longer_than_the_bound(seconds: float, place: int) -> None:
    times = TurnTimes()
    times.note(seconds)
    assert times.turns.index(1) == place
    assert times.seconds == seconds


def test_a_feature_says_when_the_first_of_its_licenses_ends(house: House) -> None:
    vendor = house.vendor
    house.licensed(vendor.key(1, 1), vendor.key(2, 4), vendor.key(2, 4, Term.MONTH), vendor.key(2, 4, Term.YEAR))
    (reply,) = house.ask("io.featurekey.License.ListFeatures")
    ends = {it["feature"]: it.get("expires") for it in reply["parameters"]["features"]}
    assert ends["trunk"] is not None
    assert ends["trunk"].startswith("2027-01-0") or ends["trunk"].startswith("2026-12-3")
    assert ends["edition"] is None
