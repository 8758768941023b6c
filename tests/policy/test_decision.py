"""The decision: its order, its numbers, and that Explain says the same and does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.decision import ALLOWING, CALLBACK_SECONDS, STEPS, Decision
from featurekeyd.policy.enforcer import NotYours
from featurekeyd.policy.events import EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Phase, Request, SyncLease, Want
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from tests.policy.conftest import Site

TRUNK, CODER, PHONE = Want("trunk"), Want("coder"), Want("phone")


def held(site: Site, key: str = "call") -> Lease:
    lease = site.enforcer.ledger.find("kamailio", key)
    assert lease is not None
    return lease


def deactivate(site: Site) -> None:
    site.pull()
    site.wait(2 * 3600)
    assert site.enforcer.standing is Standing.DEACTIVATED


# Counting


def test_eight_licensed_and_twelve_asked_gives_exactly_eight(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8, "coder": 100})
    answers = [site.acquire(f"call {number}", "trunk") for number in range(12)]
    assert [answer.allowed for answer in answers] == [True] * 8 + [False] * 4
    assert [(it.limit, it.in_use) for it in answers] == [(8, count) for count in [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]]
    assert {answer.reason for answer in answers[8:]} == {Reason.LIMIT_REACHED}
    assert site.in_use("trunk") == 8


def test_after_all_releases_nothing_is_in_use(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8, "coder": 100})
    for number in range(8):
        site.acquire(f"call {number}", "trunk", port="x", channel=str(number))
    assert [site.release(f"call {number}") for number in range(12)] == [True] * 8 + [False] * 4
    assert (site.in_use("trunk"), site.in_use("coder"), len(site.enforcer.ledger)) == (0, 0, 0)
    assert site.enforcer.ledger.on_port("x") == 0


def test_a_denial_names_feature_limit_count_fallback_message_and_remedy(site: Site) -> None:
    site.acquire("a", Want("trunk", 4))
    assert site.acquire("b", Want("trunk", 5), phase=Phase.ESTABLISHED) == Decision(
        allowed=False,
        reason=Reason.LIMIT_REACHED,
        feature="trunk",
        limit=8,
        in_use=4,
        fallback="emergency-calls-only",
        message="4 of 8 licensed instances of Trunks are in use, and 5 more asked for.",
        remedy="Wait until a channel is free, see who holds them (featurekeyctl leases --feature trunk), "
        "or order more.",
    )


def test_a_grant_has_no_words(site: Site) -> None:
    decision = site.acquire("a", "trunk")
    assert decision == Decision(allowed=True, reason=Reason.GRANTED, feature="trunk", limit=8, in_use=1)


def test_the_same_feature_wanted_twice_adds_up(site: Site) -> None:
    assert site.acquire("a", Want("trunk", 5), Want("trunk", 4), phase=Phase.ESTABLISHED).allowed is False
    assert site.acquire("a", Want("trunk", 5), Want("trunk", 3), phase=Phase.ESTABLISHED).in_use == 8


@pytest.mark.parametrize("wants", [("trunk", Want("phone", 3)), (Want("phone", 3), "trunk")])
def test_all_wants_are_granted_together_or_none_is(
    open_site: Callable[..., Site], wants: tuple[str | Want, ...]
) -> None:
    site = open_site(licensed={"trunk": 8, "phone": 2})
    decision = site.acquire("a", *wants)
    assert (decision.allowed, decision.feature, decision.limit, decision.in_use) == (False, "phone", 2, 0)
    assert (site.in_use("trunk"), site.in_use("phone"), len(site.enforcer.ledger)) == (0, 0, 0)


def test_a_denial_names_the_feature_that_was_denied_though_another_was_wanted_first(site: Site) -> None:
    decision = site.acquire("a", "trunk", "moon")
    assert (decision.reason, decision.feature) == (Reason.UNKNOWN_FEATURE, "moon")
    decision = site.acquire("a", "trunk", "phone")
    assert (decision.reason, decision.feature, decision.fallback) == (Reason.NOT_LICENSED, "phone", "lite")


def test_what_setup_takes_besides_can_be_what_is_denied(site: Site) -> None:
    for number in range(4):
        assert site.acquire(f"{number}", "trunk").allowed
    decision = site.acquire("5", "trunk")
    assert (decision.reason, decision.feature, decision.limit) == (Reason.LIMIT_REACHED, "coder", 4)
    assert site.in_use("trunk") == 4


# The same key again


def test_asking_again_is_already_held_and_takes_nothing(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="1")
    before, changes = held(site, "a"), len(site.enforcer.ledger.changes)
    site.wait(60)
    again = site.acquire("a", "trunk", port="x", channel="1")
    assert (again.reason, again.in_use) == (Reason.ALREADY_HELD, 1)
    assert held(site, "a") is before
    assert len(site.enforcer.ledger.changes) == changes


def test_an_established_call_gives_the_coder_of_its_setup_back_at_once(site: Site) -> None:
    site.acquire("a", "trunk")
    assert (site.in_use("trunk"), site.in_use("coder")) == (1, 1)
    decision = site.acquire("a", "trunk", phase=Phase.ESTABLISHED)
    assert (decision.reason, decision.in_use) == (Reason.ALREADY_HELD, 1)
    assert (site.in_use("trunk"), site.in_use("coder")) == (1, 0)


def test_what_is_given_back_is_counted_in_the_answer(site: Site) -> None:
    site.acquire("a", Want("trunk", 3))
    assert site.acquire("a", "trunk", phase=Phase.ESTABLISHED).in_use == 1


def test_only_what_is_added_must_be_free(site: Site) -> None:
    site.acquire("a", Want("trunk", 7), phase=Phase.ESTABLISHED)
    assert site.acquire("a", Want("trunk", 8), phase=Phase.ESTABLISHED).in_use == 8
    assert site.acquire("a", Want("trunk", 9), phase=Phase.ESTABLISHED).reason is Reason.LIMIT_REACHED


def test_a_denied_addition_leaves_the_lease_as_it_was(site: Site) -> None:
    site.acquire("a", "trunk", Want("coder", 2), port="x", channel="1")
    before = held(site, "a")
    decision = site.acquire("a", "trunk", "phone", port="y", channel="2")
    assert decision.reason is Reason.NOT_LICENSED
    assert held(site, "a") is before


def test_two_holders_may_use_the_same_key(site: Site) -> None:
    site.acquire("a", "trunk")
    site.acquire("a", "trunk", holder="asterisk")
    assert site.in_use("trunk") == 2


# The order. For each pair of neighbors one request that both would rule on.


def test_the_steps_are_those_that_are_documented() -> None:
    assert [name for name, _, _ in STEPS] == [
        "emergency",
        "held",
        "standing",
        "entitlement",
        "instances",
        "ceiling",
        "leases",
    ]


def test_emergency_comes_before_held(site: Site) -> None:
    site.acquire("a", "trunk")
    assert site.acquire("a", "trunk", dialed="112").reason is Reason.EMERGENCY


def test_held_comes_before_standing(site: Site) -> None:
    site.acquire("a", "trunk")
    deactivate(site)
    assert site.acquire("a", "trunk").reason is Reason.ALREADY_HELD


def test_standing_comes_before_entitlement(site: Site) -> None:
    deactivate(site)
    decision = site.acquire("a", "phone")
    assert (decision.reason, decision.feature, decision.fallback) == (Reason.DEACTIVATED, "phone", "lite")
    assert "feature_key_absent for longer than 2h" in (decision.message or "")


def test_entitlement_of_any_want_comes_before_instances_of_any(site: Site) -> None:
    decision = site.acquire("a", Want("trunk", 9), "phone")
    assert decision.reason is Reason.NOT_LICENSED


def test_instances_come_before_the_ceiling(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"x": 0})
    assert site.acquire("a", Want("trunk", 9), port="x", phase=Phase.ESTABLISHED).reason is Reason.LIMIT_REACHED
    assert site.acquire("a", "trunk", port="x").reason is Reason.CEILING_REACHED


def test_the_ceiling_comes_before_the_number_of_leases(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"x": 1}, max_leases=1)
    site.acquire("a", "trunk", port="x")
    assert site.acquire("b", "trunk", port="x").reason is Reason.CEILING_REACHED
    assert site.acquire("b", "trunk", port="y").reason is Reason.TOO_MANY_LEASES


# Emergency calls


def test_an_emergency_call_is_granted_with_no_certificate_no_license_and_an_unknown_feature(
    fresh: Site,
) -> None:
    assert fresh.enforcer.standing is Standing.DEACTIVATED
    assert fresh.acquire("a", "trunk").reason is Reason.DEACTIVATED
    decision = fresh.acquire("b", "moon", dialed="112")
    assert decision == Decision(allowed=True, reason=Reason.EMERGENCY)
    assert fresh.enforcer.ledger.emergencies == 1


def test_an_emergency_call_is_granted_when_deactivated_without_wants_and_over_every_limit(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(licensed={"trunk": 1}, ceilings={"x": 0}, max_leases=1)
    site.acquire("a", "trunk")
    deactivate(site)
    for number in range(20):
        assert site.acquire(f"sos {number}", port="x", channel="1", dialed="911").allowed
        assert site.acquire(f"help {number}", Want("trunk", 99), call_class=CallClass.EMERGENCY).allowed
    assert (site.in_use("trunk"), len(site.enforcer.ledger)) == (1, 1)
    assert site.enforcer.emergencies_total == 40


def test_an_emergency_call_takes_no_instance_and_no_place_below_a_ceiling(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"x": 1})
    site.acquire("sos", "trunk", dialed="112", port="x", channel="1")
    assert site.in_use("trunk") == 0
    assert site.acquire("a", "trunk", port="x", channel="2").allowed


def test_a_call_that_turns_out_to_be_an_emergency_gives_its_instances_back(site: Site) -> None:
    site.acquire("a", "trunk")
    site.acquire("a", "trunk", call_class=CallClass.EMERGENCY)
    assert (site.in_use("trunk"), site.in_use("coder"), site.enforcer.ledger.emergencies) == (0, 0, 1)


def test_a_claim_without_a_listed_number_is_granted_and_raises_one_alarm(site: Site) -> None:
    site.told()
    for _ in range(3):
        assert site.acquire("a", "trunk", call_class=CallClass.EMERGENCY, dialed="4711").allowed
    assert site.told() == [EventName.EMERGENCY_CALL, EventName.EMERGENCY_CLAIM]
    assert (site.enforcer.emergencies_total, site.enforcer.emergency_claims) == (1, 1)


def test_a_call_to_a_listed_number_raises_no_alarm(site: Site) -> None:
    site.acquire("a", "trunk", call_class=CallClass.EMERGENCY, dialed="112")
    assert site.told() == [EventName.EMERGENCY_CALL]
    assert site.enforcer.emergency_claims == 0


@pytest.mark.parametrize("urn", ["urn:service:sos", "urn:service:sos.police", "URN:Service:SOS.ambulance"])
def test_an_emergency_service_by_its_urn_is_one_whatever_the_list_says(site: Site, urn: str) -> None:
    assert site.acquire("a", "trunk", dialed=urn).reason is Reason.EMERGENCY
    assert site.enforcer.emergency_claims == 0


@pytest.mark.parametrize(
    "number", ["", "1122", "0112", "112 ", "+112", "urn:service:sosimple", "urn:service:counseling", "xurn:service:sos"]
)
def test_a_number_that_is_not_on_the_list_is_no_emergency(site: Site, number: str) -> None:
    assert site.acquire("a", "trunk", dialed=number).reason is Reason.GRANTED


def test_the_settings_say_which_numbers_are_emergency_numbers(open_site: Callable[..., Site]) -> None:
    site = open_site(emergency_numbers=frozenset({"999"}))
    assert site.acquire("a", "trunk", dialed="999").reason is Reason.EMERGENCY
    assert site.acquire("b", "trunk", dialed="112").reason is Reason.NOT_LICENSED


@pytest.mark.parametrize("later", [0, 1800])
def test_a_callback_within_half_an_hour_is_granted_whatever_it_wants(site: Site, later: int) -> None:
    assert CALLBACK_SECONDS == 1800
    site.acquire("a", "trunk", dialed="112")
    site.release("a")
    site.wait(later)
    decision = site.acquire("b", Want("trunk", 99), "moon", call_class=CallClass.CALLBACK)
    assert decision.reason is Reason.EMERGENCY_CALLBACK
    assert (site.in_use("trunk"), site.enforcer.ledger.emergencies) == (0, 1)


def test_a_callback_after_half_an_hour_and_one_second_is_a_normal_call(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112")
    site.wait(1801)
    assert site.acquire("b", "trunk", call_class=CallClass.CALLBACK).reason is Reason.GRANTED
    assert site.acquire("c", "moon", call_class=CallClass.CALLBACK).reason is Reason.UNKNOWN_FEATURE
    assert held(site, "b").call_class is CallClass.NORMAL


def test_a_callback_counts_only_after_an_emergency_call_of_the_same_holder(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112", holder="asterisk")
    assert site.acquire("b", "trunk", call_class=CallClass.CALLBACK).reason is Reason.GRANTED


def test_a_callback_does_not_open_the_half_hour_anew(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112")
    site.wait(1700)
    site.acquire("b", "trunk", call_class=CallClass.CALLBACK)
    site.wait(200)
    assert site.acquire("c", "trunk", call_class=CallClass.CALLBACK).reason is Reason.GRANTED


@pytest.mark.parametrize("call_class", [CallClass.NORMAL, CallClass.CALLBACK])
def test_a_call_that_wants_nothing_and_is_no_emergency_is_denied(site: Site, call_class: CallClass) -> None:
    assert not site.acquire("a", call_class=call_class).allowed
    assert (len(site.enforcer.ledger), site.enforcer.ledger.emergencies) == (0, 0)


# Channels and ceilings


def test_a_new_call_on_a_channel_replaces_the_earlier_one_and_tells_it(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 1})
    site.acquire("a", "trunk", port="x", channel="7")
    decision = site.acquire("b", "trunk", port="x", channel="7")
    assert (decision.reason, decision.in_use) == (Reason.GRANTED, 1)
    assert [lease.key for lease in site.enforcer.ledger] == ["b"]
    (event,) = site.enforcer.events
    assert event.name is EventName.CHANNEL_DRIFT
    assert event.fields == {"HOLDER": "kamailio", "LEASE": "a", "PORT": "x", "CHANNEL": "7"}


@pytest.mark.parametrize("place", [{"port": "x"}, {"channel": "7"}, {"port": "y", "channel": "7"}])
def test_only_the_same_port_and_channel_of_the_same_holder_is_replaced(site: Site, place: dict[str, Any]) -> None:
    site.acquire("a", "trunk", port="x", channel="7")
    site.acquire("b", "trunk", **place)
    site.acquire("c", "trunk", holder="asterisk", port="x", channel="7")
    assert [lease.key for lease in site.enforcer.ledger] == ["a", "b", "c"]


def test_a_denied_call_displaces_nothing(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="7")
    assert not site.acquire("b", Want("trunk", 9), port="x", channel="7", phase=Phase.ESTABLISHED).allowed
    assert [lease.key for lease in site.enforcer.ledger] == ["a"]
    assert site.told() == []


def test_a_call_that_moves_to_another_port_leaves_its_channel_behind(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="7")
    site.acquire("b", "trunk", port="y", channel="7")
    site.acquire("a", "trunk", port="y")
    assert (held(site, "a").port, held(site, "a").channel) == ("y", None)
    assert [lease.key for lease in site.enforcer.ledger.on_channel("kamailio", "y", "7")] == ["b"]


def test_a_call_that_moves_on_its_port_displaces_who_was_on_that_channel(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="7")
    site.acquire("b", "trunk", port="x", channel="8")
    site.acquire("a", "trunk", channel="8")
    assert [(lease.key, lease.port, lease.channel) for lease in site.enforcer.ledger] == [("a", "x", "8")]


def test_a_ceiling_counts_the_calls_of_all_holders_on_the_port(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"x": 2})
    site.acquire("a", "trunk", port="x")
    site.acquire("b", "trunk", port="x", holder="asterisk")
    decision = site.acquire("c", "trunk", port="x")
    assert (decision.reason, decision.limit, decision.in_use) == (Reason.CEILING_REACHED, 2, 2)
    assert (decision.feature, decision.fallback) == ("trunk", "emergency-calls-only")
    assert decision.message == "2 of at most 2 calls are on port x."
    assert site.acquire("c", "trunk", port="y").allowed
    assert site.acquire("d", "trunk").allowed


def test_no_call_moves_to_a_port_whose_ceiling_is_reached(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"line": 1})
    site.acquire("a", "trunk", port="line", phase=Phase.ESTABLISHED)
    site.acquire("b", "trunk", phase=Phase.ESTABLISHED)
    denied = site.acquire("b", "trunk", phase=Phase.ESTABLISHED, port="line")
    assert (denied.reason, denied.limit, denied.in_use) == (Reason.CEILING_REACHED, 1, 1)
    assert (held(site, "b").port, site.enforcer.ledger.on_port("line")) == (None, 1)
    site.release("a")
    assert site.acquire("b", "trunk", phase=Phase.ESTABLISHED, port="line").reason is Reason.ALREADY_HELD
    assert site.acquire("b", "trunk", phase=Phase.ESTABLISHED, port="line").allowed


def test_a_call_moves_to_a_full_port_where_it_displaces_the_one_on_its_channel(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"line": 1})
    site.acquire("a", "trunk", port="line", channel="1")
    site.acquire("b", "trunk")
    assert site.acquire("b", "trunk", port="line", channel="1").reason is Reason.ALREADY_HELD
    assert [lease.key for lease in site.enforcer.ledger] == ["b"]


def test_of_several_calls_that_a_list_put_on_one_channel_none_that_is_there_ends_another(site: Site) -> None:
    site.sync(*(SyncLease(key=key, wants=(Want("trunk"),), port="x", channel="1") for key in "abc"))
    for _ in range(2):
        assert site.acquire("a", "trunk", port="x", channel="1", phase=Phase.ESTABLISHED).allowed
    assert len(site.enforcer.ledger) == 3


def test_a_new_call_ends_all_others_that_a_list_put_on_its_channel(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 3}, ceilings={"x": 3})
    site.sync(*(SyncLease(key=key, wants=(Want("trunk"),), port="x", channel="1") for key in "abc"))
    site.told()
    granted = site.acquire("d", Want("trunk", 3), port="x", channel="1", phase=Phase.ESTABLISHED)
    assert (granted.reason, granted.in_use) == (Reason.GRANTED, 3)
    assert [lease.key for lease in site.enforcer.ledger] == ["d"]
    assert site.told() == [EventName.CHANNEL_DRIFT] * 3
    assert site.sync("a", "b", "c", "d", list_age_ms=1000).adopted == 0, "they are over"


def test_at_the_ceiling_a_call_may_change_and_a_channel_may_be_taken_over(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, ceilings={"x": 1})
    site.acquire("a", "trunk", port="x", channel="1")
    assert site.acquire("a", Want("trunk", 2), port="x", channel="1").allowed
    assert site.acquire("b", "trunk", port="x", channel="1").allowed
    assert site.acquire("c", "trunk", port="x", channel="2").reason is Reason.CEILING_REACHED
    assert site.acquire("d", "trunk").allowed
    assert site.acquire("d", Want("trunk", 2), port="x").reason is Reason.CEILING_REACHED


@pytest.mark.parametrize("call_class", [CallClass.EMERGENCY, CallClass.CALLBACK])
def test_an_emergency_call_stays_one_whatever_is_asked_about_it_later(
    open_site: Callable[..., Site], call_class: CallClass
) -> None:
    site = open_site(licensed={"trunk": 1}, ceilings={"x": 1})
    site.acquire("sos", "trunk", dialed="112", port="x")
    site.acquire("back", "trunk", call_class=call_class, port="x")
    site.acquire("a", "trunk", port="x")
    for key, reason in (("sos", Reason.EMERGENCY), ("back", site.acquire("back", "trunk").reason)):
        assert site.acquire(key, "trunk", port="x", phase=Phase.ESTABLISHED).reason is reason
        assert reason in {Reason.EMERGENCY, Reason.EMERGENCY_CALLBACK}
        assert held(site, key).emergency
    assert site.in_use("trunk") == 1
    site.pull()
    site.wait(7200)
    assert site.acquire("sos", "trunk").reason is Reason.EMERGENCY


def test_one_user_may_have_so_many_leases_under_whatever_names_and_another_as_many(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(licensed={"trunk": 8}, max_leases=2)
    site.acquire("a", "trunk")
    site.acquire("b", "trunk", port="x", channel="1")
    decision = site.acquire("c", "trunk")
    assert (decision.reason, decision.limit, decision.in_use) == (Reason.TOO_MANY_LEASES, 2, 2)
    assert site.acquire("b", Want("trunk", 2)).allowed
    assert site.acquire("c", "trunk", port="x", channel="1").allowed
    assert site.acquire("c", "trunk", holder="another name").reason is Reason.TOO_MANY_LEASES
    assert site.acquire("c", "trunk", holder="asterisk", uid=1001).allowed


def test_where_no_phase_is_named_a_lease_stays_in_the_phase_it_is_in(site: Site) -> None:
    site.acquire("a", "trunk")
    assert held(site, "a").wants == {"trunk": 1, "coder": 1}
    assert site.acquire("a", "trunk").reason is Reason.ALREADY_HELD  # asked again: the answer got lost
    assert held(site, "a").wants == {"trunk": 1, "coder": 1}
    site.acquire("a", "trunk", phase=Phase.ESTABLISHED)
    assert site.acquire("a", "trunk").reason is Reason.ALREADY_HELD  # a re-INVITE: no set-up begins anew
    assert held(site, "a").wants == {"trunk": 1}
    site.acquire("a", Want("trunk", 2))
    assert held(site, "a").wants == {"trunk": 2}


def test_a_lease_that_grows_in_set_up_takes_what_set_up_takes_for_all_of_it(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 100})  # and 4 coders, which come free
    site.acquire("a", "trunk")
    denied = site.acquire("a", Want("trunk", 100))
    assert (denied.reason, denied.feature) == (Reason.LIMIT_REACHED, "coder")
    assert held(site, "a").wants == {"trunk": 1, "coder": 1}
    assert site.acquire("a", Want("trunk", 4)).reason is Reason.GRANTED
    assert held(site, "a").wants == {"trunk": 4, "coder": 4}


def test_a_call_denied_for_what_it_takes_during_setup_has_the_fallback_of_what_it_wanted(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(licensed={"trunk": 20})
    for number in range(4):
        site.acquire(str(number), "coder")
    decision = site.acquire("a", "trunk")
    assert (decision.feature, decision.fallback) == ("coder", "emergency-calls-only")


def test_a_request_that_wants_nothing_is_told_so(site: Site) -> None:
    decision = site.acquire("a")
    assert decision.reason is Reason.UNKNOWN_FEATURE
    assert "the request wants nothing" in str(decision.message)


# Limits that fall


def test_when_a_limit_falls_below_use_no_lease_is_cut_and_only_more_is_refused(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(licensed={"coder": 20})
    site.bring(site.list_of(*site.licenses.keys(), site.key("trunk", 2), site.key("trunk", 6, Term.TRIAL)))
    for number in range(8):
        site.acquire(f"{number}", "trunk")
    site.wait(61 * 86400)
    assert site.enforcer.entitlements["trunk"].limit == 2
    assert site.in_use("trunk") == 8
    assert site.acquire("0", "trunk").reason is Reason.ALREADY_HELD
    assert site.acquire("0", "trunk", "coder").allowed
    for number in range(7):
        decision = site.acquire("new", "trunk")
        assert (decision.reason, decision.limit, decision.in_use) == (Reason.LIMIT_REACHED, 2, 8 - number)
        site.release(f"{number}")
    assert site.acquire("new", "trunk").allowed


def test_removed_licenses_cut_no_call_and_a_call_may_still_change(site: Site) -> None:
    site.acquire("a", "trunk", phase=Phase.ESTABLISHED)
    site.bring(site.list_of())
    assert site.in_use("trunk") == 1
    assert site.acquire("a", "trunk", "coder", phase=Phase.ESTABLISHED).reason is Reason.GRANTED
    assert site.acquire("b", "trunk").reason is Reason.NOT_LICENSED
    assert site.release("a")


def test_restricted_allows_what_comes_free(catalog_text: str, make_site: Callable[..., Site]) -> None:
    text = catalog_text.replace('then = "deactivated"', 'then = "restricted"')
    site = make_site(load_catalog(text, "restricted.toml"))
    site.certify()
    site.buy(trunk=8, coder=10)
    site.acquire("a", "trunk")
    site.pull()
    site.wait(7200)
    assert site.enforcer.standing is Standing.RESTRICTED
    decision = site.acquire("b", "trunk", phase=Phase.ESTABLISHED)
    assert (decision.reason, decision.limit, decision.in_use) == (Reason.LIMIT_REACHED, 0, 1)
    assert site.acquire("c", Want("coder", 3)).limit == 4
    assert site.acquire("d", "coder").reason is Reason.LIMIT_REACHED
    assert site.in_use("trunk") == 1


# Explain


REQUESTS = st.builds(
    Request,
    holder=st.sampled_from(["kamailio", "asterisk"]),
    key=st.sampled_from(["a", "b", "c", "d"]),
    wants=st.lists(
        st.builds(Want, st.sampled_from(["trunk", "coder", "phone", "recorder", "moon"]), st.integers(1, 3)), max_size=3
    ).map(tuple),
    port=st.none() | st.sampled_from(["x", "y", "trunk"]),
    channel=st.none() | st.sampled_from(["1", "2"]),
    call_class=st.sampled_from([CallClass.NORMAL] * 4 + [CallClass.EMERGENCY, CallClass.CALLBACK]),
    dialed=st.none() | st.sampled_from(["100", "112"]),
    phase=st.sampled_from(list(Phase)),
)


def state_of(site: Site) -> object:
    enforcer = site.enforcer
    return (
        sorted(enforcer.ledger, key=str),
        list(enforcer.ledger.changes),
        list(enforcer.events),
        [(it.name, it.uid, it.heard, dict(it.ttls), it.last_emergency) for it in enforcer.holders],
        {name: (it.granted, it.denied, it.peak) for name, it in enforcer.tallies.items()},
        (enforcer.emergencies_total, enforcer.emergency_claims, enforcer.standing),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, max_size=12), REQUESTS, st.sampled_from(["certified", "absent", "deactivated", "bare"]))
def test_explain_answers_as_acquire_does_and_changes_nothing(
    open_site: Callable[..., Site],
    make_site: Callable[..., Site],
    catalog: Catalog,
    before: list[Request],
    request_: Request,
    way: str,
) -> None:
    rules = {"ceilings": {"x": 2}, "max_leases": 3}
    bought = {"trunk": 4, "edition": 1, "recorder": 1}
    site = make_site(catalog, **rules) if way == "bare" else open_site(licensed=bought, **rules)
    for each in before:
        site.enforcer.acquire(each, 1000, site.now)
    if way in {"absent", "deactivated"}:
        site.pull()
        site.wait(7200 if way == "deactivated" else 60)
    unchanged = state_of(site)
    explanation = site.enforcer.explain(request_, 1000, site.now)
    assert not isinstance(explanation, NotYours)
    explained, steps = explanation
    assert state_of(site) == unchanged
    answered = site.enforcer.acquire(request_, 1000, site.now)
    assert explained == answered
    assert explained.allowed == (explained.reason in ALLOWING)
    assert [step.step for step in steps] == [name for name, _, _ in STEPS][: len(steps)]
    assert all(step.passed for step in steps[:-1])
    assert steps[-1].passed is explained.allowed
    for feature in site.catalog.features:
        site.in_use(feature)
