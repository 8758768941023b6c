"""The Enforcer with a clock handed in: what is true now, what follows, and that each change is told once."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.policy.catalog import Catalog, Cause
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.instant import Now
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Want
from featurekeyd.policy.standing import Standing
from featurekeyd.policy.system import System

if TYPE_CHECKING:
    from tests.policy.conftest import Site

HOUR, DAY = 3600, 86400
ABSENT, UNLISTED = Cause.FEATURE_KEY_ABSENT, Cause.UNLISTED_LICENSES


def standing(site: Site) -> Standing:
    return site.enforcer.standing


def graces(site: Site) -> dict[str, int]:
    return {grace.cause: grace.seconds_left for grace in site.enforcer.grace}


# The Feature Key


def test_without_a_certificate_the_system_is_deactivated_and_says_why(fresh: Site) -> None:
    assert standing(fresh) is Standing.DEACTIVATED
    decision = fresh.acquire("a", "coder")
    assert decision.reason is Reason.DEACTIVATED
    assert "no Feature Key certificate is imported" in (decision.message or "")


def test_a_pulled_key_starts_the_grace_and_says_how_long_it_lasts(site: Site) -> None:
    site.pull()
    assert (standing(site), graces(site)) == (Standing.GRACE, {"feature_key_absent": 7200})
    site.wait(100)
    assert graces(site) == {"feature_key_absent": 7100}
    assert site.acquire("a", "trunk").allowed


def test_the_grace_of_two_hours_ends_on_its_second(site: Site) -> None:
    site.pull()
    site.wait(2 * HOUR - 1)
    assert (standing(site), graces(site)) == (Standing.GRACE, {"feature_key_absent": 1})
    assert site.acquire("a", "trunk").allowed
    site.wait(1)
    assert (standing(site), graces(site)) == (Standing.DEACTIVATED, {"feature_key_absent": 0})
    assert site.acquire("b", "trunk").reason is Reason.DEACTIVATED


def test_when_deactivated_leases_stay_and_only_new_ones_are_refused(site: Site) -> None:
    site.acquire("a", "trunk")
    site.pull()
    site.wait(3 * HOUR)
    assert site.in_use("trunk") == 1
    assert site.acquire("a", "trunk").reason is Reason.ALREADY_HELD
    assert site.acquire("a", Want("trunk", 2)).reason is Reason.DEACTIVATED
    assert site.release("a")


def test_a_key_that_is_put_back_makes_all_well_at_once(site: Site) -> None:
    site.pull()
    site.wait(3 * HOUR)
    site.put_back()
    assert (standing(site), graces(site)) == (Standing.LICENSED, {})
    assert site.acquire("a", "trunk").allowed


def test_the_budget_refills_at_half_the_speed_of_draining(site: Site) -> None:
    site.pull()
    site.wait(2 * HOUR)
    site.put_back()
    site.wait(1200)
    site.pull()
    assert graces(site) == {"feature_key_absent": 600}
    site.wait(599)
    assert standing(site) is Standing.GRACE
    site.wait(1)
    assert standing(site) is Standing.DEACTIVATED


def test_a_restart_gives_nothing_of_the_drained_time_back(site: Site) -> None:
    site.pull()
    site.wait(2 * HOUR)
    later = site.restarted()
    later.wait(30)
    later.pull()
    assert standing(later) is Standing.DEACTIVATED
    assert later.drained(ABSENT) == 2 * HOUR


def test_before_the_first_look_nothing_drains(site: Site) -> None:
    later = site.restarted()
    later.wait(3 * HOUR)
    assert (standing(later), graces(later), later.drained(ABSENT)) == (Standing.LICENSED, {}, 0)


def test_boot_time_that_steps_back_drains_nothing(site: Site) -> None:
    site.pull()
    site.boot -= 1000
    site.wait(0)
    assert site.drained(ABSENT) == 0
    site.wait(10)
    assert site.drained(ABSENT) == 10


def test_the_wall_clock_drains_nothing(site: Site) -> None:
    site.pull()
    site.wall += 30 * DAY
    site.wait(0)
    assert graces(site) == {"feature_key_absent": 7200}


def test_wrong_key_wrong_answer_and_garbled_are_told_apart_and_all_drain(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.certify(proving=True)
    right = site.enforcer.feature_key
    assert (right.state, standing(site)) == ("present", Standing.LICENSED)
    for state, sighting in {
        "wrong-key": msgspec.structs.replace(right, hardware_id="4712"),
        "wrong-answer": msgspec.structs.replace(right, answer=b"wrong"),
        "garbled": Sighting(state="garbled", finding="Checksum.", reader="slot"),
    }.items():
        site.enforcer.see(sighting, site.now)
        assert (site.enforcer.feature_key.state, standing(site)) == (state, Standing.GRACE)
        site.wait(60)
    assert site.drained(ABSENT) == 180


def test_a_certificate_is_refused_for_another_catalog_or_other_hardware(site: Site) -> None:
    certificate = site.licenses.certificate
    assert certificate is not None
    assert site.enforcer.refuse_certificate(certificate) is None
    wrong: list[tuple[dict[str, Any], Verdict]] = [
        ({"catalog": "ayrix"}, Verdict.OTHER_CATALOG),
        ({"hardware_id": "00"}, Verdict.OTHER_HARDWARE),
        ({"test": True}, Verdict.TEST_MISMATCH),
    ]
    for changes, verdict in wrong:
        refusal = site.enforcer.refuse_certificate(msgspec.structs.replace(certificate, **changes))
        assert refusal is not None
        assert (refusal.verdict, refusal.accepted) == (verdict, False)
    site.pull()
    refusal = site.enforcer.refuse_certificate(certificate)
    assert refusal is not None
    assert refusal.verdict is Verdict.KEY_NOT_READABLE


# Keys that no list has confirmed


def test_a_typed_key_counts_for_72_hours_and_then_stops(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"phone": 1})
    site.type_in(site.key("trunk", 8))
    assert (standing(site), graces(site)) == (Standing.GRACE, {"unlisted_licenses": 72 * HOUR})
    site.wait(72 * HOUR - 1)
    assert site.acquire("a", "trunk").allowed
    site.wait(1)
    assert standing(site) is Standing.LICENSED
    assert graces(site) == {"unlisted_licenses": 0}
    assert site.acquire("b", "trunk").reason is Reason.LICENSE_UNLISTED
    assert site.acquire("c", "phone").allowed
    assert site.in_use("trunk") == 1


def test_a_newer_list_confirms_the_typed_key_and_refills_the_budget(open_site: Callable[..., Site]) -> None:
    site = open_site()
    key = site.key("trunk", 8)
    site.type_in(key)
    site.wait(80 * HOUR)
    site.bring(site.list_of(key))
    assert (site.drained(UNLISTED), graces(site)) == (0, {})
    assert site.acquire("a", "trunk").allowed


def test_a_newer_list_without_the_key_refills_the_budget_too(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.type_in(site.key("trunk", 8))
    site.wait(80 * HOUR)
    site.bring(site.list_of())
    assert graces(site) == {"unlisted_licenses": 72 * HOUR}
    assert site.acquire("a", "trunk").allowed


def test_the_same_list_again_another_typed_key_and_waiting_refill_nothing(open_site: Callable[..., Site]) -> None:
    site = open_site()
    key = site.key("trunk", 8)
    site.type_in(key)
    site.wait(72 * HOUR)
    assert site.licenses.license_list is not None
    again, _ = site.licenses.with_list(site.licenses.license_list)
    site.enforcer.adopt(again, site.now)
    site.type_in(site.key("trunk", 8))
    without, _ = site.licenses.without_key(key.text)
    site.enforcer.adopt(without, site.now)
    assert site.drained(UNLISTED) == 72 * HOUR
    assert site.acquire("a", "trunk").reason is Reason.LICENSE_UNLISTED


def test_a_removed_key_stops_the_drain_and_typed_again_goes_on_where_it_was(open_site: Callable[..., Site]) -> None:
    site = open_site()
    key = site.key("trunk", 8)
    site.type_in(key)
    site.wait(70 * HOUR)
    without, _ = site.licenses.without_key(key.text)
    site.enforcer.adopt(without, site.now)
    site.wait(100 * HOUR)
    assert graces(site) == {}
    site.type_in(key)
    assert graces(site) == {"unlisted_licenses": 2 * HOUR}


def test_a_restart_gives_unlisted_keys_no_new_budget(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.type_in(site.key("trunk", 8))
    for _ in range(4):
        site.wait(18 * HOUR)
        site = site.restarted()
        site.put_back()
    assert site.drained(UNLISTED) == 72 * HOUR
    assert site.acquire("a", "trunk").reason is Reason.LICENSE_UNLISTED


# Terms


def test_a_trial_ends_by_the_wall_clock_and_is_told_once(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.bring(site.list_of(site.key("trunk", 8, Term.TRIAL)))
    site.told()
    for _ in range(59):
        site.wait(DAY)
    assert site.acquire("a", "trunk").allowed
    soon = [event for event in site.enforcer.events if event.name is EventName.LICENSE_EXPIRES_SOON]
    assert [event.message.partition(" ends in ")[2].split()[0] for event in soon] == ["30", "14", "7", "3", "2", "1"]
    site.told()
    site.wait(DAY)
    assert site.acquire("b", "trunk").reason is Reason.LICENSE_EXPIRED
    site.wait(DAY)
    assert site.told() == [EventName.LICENSE_EXPIRED]
    assert site.in_use("trunk") == 1


def warnings(site: Site) -> list[str]:
    """How long the licenses are said to last that are about to end, since the last time this was called."""
    soon = [event.message for event in site.enforcer.events if event.name is EventName.LICENSE_EXPIRES_SOON]
    site.enforcer.events.clear()
    return [message.partition(" ends in ")[2].partition(", after ")[0] for message in soon]


def test_a_host_that_was_off_on_a_day_of_warning_tells_it_when_it_is_on_again(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.bring(site.list_of(site.key("trunk", 8, Term.TRIAL)))
    site.told()
    told = []
    for days in (29, 1, 2, 1, 8, 12, 1, 4, 1):
        site.wait(days * DAY)
        told.append(warnings(site))
    assert told == [[], ["30 days"], [], [], [], ["7 days"], [], ["2 days"], ["1 day"]]
    site.wait(60)
    assert warnings(site) == []


def test_a_warning_is_not_told_again_when_the_clock_goes_back_or_the_licenses_change(
    open_site: Callable[..., Site],
) -> None:
    site = open_site()
    key = site.key("trunk", 8, Term.TRIAL)
    site.bring(site.list_of(key))
    site.wait(50 * DAY)
    assert warnings(site) == ["10 days"]
    site.wall -= 15 * DAY
    site.wait(1)
    site.buy(phone=1)
    assert warnings(site) == []
    site.wall += 15 * DAY
    site.wait(4 * DAY)
    assert warnings(site) == ["6 days"]


def test_after_a_restart_it_is_told_again_which_licenses_are_about_to_end(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.bring(site.list_of(site.key("trunk", 8, Term.TRIAL), site.key("phone", 1)))
    site.wait(50 * DAY)
    site.told()
    assert warnings(site.restarted()) == ["10 days"]


@pytest.mark.parametrize("year", [1970, 2000, 2025])
def test_a_clock_that_is_set_back_gives_no_trial_back(open_site: Callable[..., Site], year: int) -> None:
    site = open_site()
    key = site.key("trunk", 8, Term.TRIAL, datetime.date(2026, 1, 1))
    site.bring(msgspec.structs.replace(site.list_of(key), date=datetime.date(2026, 3, 2)))
    assert site.enforcer.entitlements["trunk"].limit == 0
    site.wall = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()
    site.wait(1)
    assert site.enforcer.today(site.now) == datetime.date(2026, 3, 2)
    assert site.acquire("a", "trunk").reason is Reason.LICENSE_EXPIRED


def test_no_date_before_the_release_is_believed(catalog: Catalog) -> None:
    now = Now(0.0, 5.0)
    released = datetime.date(2026, 2, 3)
    assert Enforcer(catalog, System(platform="large"), Rules(), now).today(now) == datetime.date(1970, 1, 1)
    assert Enforcer(catalog, System(platform="large"), Rules(), now, released=released).today(now) == released


def test_a_host_that_boots_in_1970_is_not_punished(open_site: Callable[..., Site]) -> None:
    site = open_site()
    dated = site.key("trunk", 8, Term.YEAR, datetime.date(2026, 1, 1))
    site.bring(site.list_of(dated, site.key("phone", 3)))
    later = site.restarted()
    later.wall, later.boot = 10.0, 10.0
    later.enforcer = Enforcer(later.catalog, System(platform="large"), later.rules, later.now)
    later.enforcer.adopt_stored(site.licenses, later.now)
    later.put_back()
    assert standing(later) is Standing.LICENSED
    assert later.acquire("a", "trunk").allowed
    assert later.acquire("b", "phone").allowed
    later.wall = site.wall
    later.wait(1)
    assert (standing(later), later.in_use("trunk")) == (Standing.LICENSED, 1)


# What is told


def test_each_change_is_told_once(site: Site) -> None:
    site.pull()
    assert site.told() == [EventName.FEATURE_KEY_TROUBLE, EventName.STANDING_GRACE]
    for _ in range(3):
        site.pull()
        site.wait(60)
    assert site.told() == []
    site.wait(2 * HOUR)
    assert site.told() == [EventName.STANDING_DEACTIVATED]
    site.wait(2 * HOUR)
    assert site.told() == []
    site.put_back()
    assert site.told() == [EventName.FEATURE_KEY_FOUND, EventName.STANDING_LICENSED]
    site.put_back()
    site.wait(60)
    assert site.told() == []


def test_a_change_of_standing_says_from_what_to_what_why_and_how_long(site: Site) -> None:
    site.pull()
    event = site.enforcer.events[-1]
    assert event.fields == {"STANDING": "grace", "BEFORE": "licensed"}
    assert event.message.startswith("The standing is grace (was licensed). feature_key_absent: 7200 s left; Put ")


def test_a_lease_freed_by_a_technician_is_told_with_who_did_it(site: Site) -> None:
    site.acquire("a", "trunk")
    assert site.enforcer.release_by_force("kamailio", "a", "uid 0", site.now)
    (event,) = site.enforcer.events
    assert (event.name, event.fields) == (
        EventName.LEASE_FORCED,
        {"HOLDER": "kamailio", "LEASE": "a", "BY": "uid 0"},
    )
    assert not site.enforcer.release_by_force("kamailio", "a", "uid 0", site.now)
    assert site.told() == [EventName.LEASE_FORCED]


def test_no_event_holds_a_whole_license_key(open_site: Callable[..., Site]) -> None:
    site = open_site()
    key = site.key("trunk", 8, Term.MONTH)
    site.bring(site.list_of(key))
    site.wait(40 * DAY)
    assert EventName.LICENSE_EXPIRED in [event.name for event in site.enforcer.events]
    assert not any(key.text in str(event) for event in site.enforcer.events)


# Connections and tallies


def test_leases_bound_to_a_connection_end_with_it_and_no_others(site: Site) -> None:
    site.acquire("a", "trunk", bound=1)
    site.acquire("b", "trunk", bound=2)
    site.acquire("c", "trunk")
    site.acquire("a", "trunk", bound=2)
    site.enforcer.release_bound(1, site.now)
    site.enforcer.release_bound(3, site.now)
    assert sorted(lease.key for lease in site.enforcer.ledger) == ["a", "b", "c"]
    site.enforcer.release_bound(2, site.now)
    assert [lease.key for lease in site.enforcer.ledger] == ["c"]


@pytest.mark.parametrize("again", [2, None])
def test_who_asks_again_on_a_new_connection_keeps_the_lease_when_the_old_one_ends(
    again: int | None, site: Site
) -> None:
    site.acquire("a", "trunk", bound=1)
    site.enforcer.ledger.changes.clear()
    assert site.acquire("a", "trunk", bound=again).reason is Reason.ALREADY_HELD
    assert [change.bound for change in site.enforcer.ledger.changes if isinstance(change, Lease)] == [again]
    site.enforcer.release_bound(1, site.now)
    assert site.in_use("trunk") == 1
    site.enforcer.release_bound(2, site.now)
    assert site.in_use("trunk") == (again is None)


def test_a_lease_that_is_asked_for_again_with_bound_is_bound_from_then_on(site: Site) -> None:
    site.acquire("a", "trunk")
    site.acquire("a", "trunk", bound=1)
    site.enforcer.release_bound(1, site.now)
    assert site.in_use("trunk") == 0


def test_a_denied_request_leaves_the_lease_bound_as_it_was(site: Site) -> None:
    site.acquire("a", "trunk", bound=1)
    assert not site.acquire("a", Want("trunk", 9), bound=2).allowed
    site.enforcer.release_bound(2, site.now)
    assert site.in_use("trunk") == 1
    site.enforcer.release_bound(1, site.now)
    assert site.in_use("trunk") == 0


def test_the_tally_counts_grants_denials_and_the_peak(site: Site) -> None:
    for number in range(3):
        site.acquire(f"{number}", Want("trunk", 2))
    site.acquire("0", Want("trunk", 2))
    site.acquire("3", Want("trunk", 3))
    site.acquire("4", "phone")
    site.acquire("5", "trunk", "moon")
    for number in range(3):
        site.release(f"{number}")
    tallies = site.enforcer.tallies
    assert (tallies["trunk"].granted, tallies["trunk"].denied, tallies["trunk"].peak) == (2, 0, 4)
    assert (tallies["coder"].denied, tallies["coder"].peak) == (2, 4)
    assert tallies["phone"].denied == 1


def test_emergencies_and_callbacks_are_no_grants_of_a_feature(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112")
    site.acquire("b", "trunk", call_class=CallClass.CALLBACK)
    assert (site.enforcer.tallies["trunk"].granted, site.enforcer.tallies["trunk"].peak) == (0, 0)
