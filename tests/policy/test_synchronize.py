"""Sync: the holder's list is the truth about one scope, whole or in parts, and about nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.enforcer import NotYours
from featurekeyd.policy.events import EventName
from featurekeyd.policy.lately import MAX_ASKED_AGAIN, MAX_RELEASES
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Phase, SyncLease, Want
from featurekeyd.policy.synchronize import (
    GENERATION_SECONDS,
    MARGIN_SECONDS,
    SLICE_ADOPTED,
    SLICE_COMPARED,
    ListRefused,
    Steps,
    Synced,
    Syncing,
)

if TYPE_CHECKING:
    from tests.policy.conftest import Site


def keys(site: Site, holder: str = "kamailio") -> list[str]:
    return sorted(site.enforcer.ledger.of_holder(holder))


def lease(site: Site, key: str, holder: str = "kamailio") -> Lease:
    found = site.enforcer.ledger.find(holder, key)
    assert found is not None
    return found


def refusal(site: Site, *leases: SyncLease | str, **fields: object) -> str:
    refused = site.enforcer.synchronize(site.listing(*leases, **fields), 1000, site.now)  # type: ignore[arg-type]
    assert isinstance(refused, ListRefused), refused
    return refused.hint


# Adopting and freeing


def test_unknown_leases_are_adopted_above_the_limit_and_then_only_new_calls_are_refused(site: Site) -> None:
    synced = site.sync(*(f"call {number}" for number in range(12)))
    assert (synced.adopted, synced.changed, synced.freed, synced.held) == (12, 0, 0, 12)
    assert (site.in_use("trunk"), site.in_use("coder")) == (12, 0)
    assert site.acquire("new", "trunk").reason is Reason.LIMIT_REACHED
    assert site.enforcer.tallies["trunk"].peak == 12


def test_missing_leases_are_freed_and_listed_ones_stay(site: Site) -> None:
    site.acquire("a", "trunk")
    site.acquire("b", "trunk")
    site.wait(10)
    synced = site.sync("b")
    assert (synced.adopted, synced.changed, synced.freed, synced.held) == (0, 0, 1, 1)
    assert keys(site) == ["b"]


def test_an_empty_list_frees_the_whole_scope(site: Site) -> None:
    site.acquire("a", "trunk")
    site.wait(10)
    assert site.sync().freed == 1
    assert (len(site.enforcer.ledger), site.in_use("trunk")) == (0, 0)


def test_the_same_list_again_changes_nothing(site: Site) -> None:
    site.sync("a", "b")
    changes = len(site.enforcer.ledger.changes)
    site.wait(10)
    assert site.sync("a", "b") == Synced(adopted=0, changed=0, freed=0, held=2)
    assert len(site.enforcer.ledger.changes) == changes


@pytest.mark.parametrize(("ago", "age_ms", "freed"), [(2.0, 0, 0), (2.5, 0, 1), (12.0, 10_000, 0), (12.5, 10_000, 1)])
def test_a_lease_granted_up_to_two_seconds_before_the_list_was_taken_is_spared(
    site: Site, ago: float, age_ms: int, freed: int
) -> None:
    assert MARGIN_SECONDS == 2.0
    site.acquire("a", "trunk")
    site.wait(ago)
    assert site.sync(list_age_ms=age_ms).freed == freed


def test_a_list_says_nothing_about_other_scopes_and_other_holders(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8, "phone": 8, "tenant": 8})
    site.acquire("call", "trunk")
    site.acquire("phone", "phone")
    site.acquire("tenant", "tenant")
    site.acquire("call", "trunk", holder="asterisk")
    site.wait(10)
    assert site.sync(scope=Scope.REGISTRATIONS) == Synced(adopted=0, changed=0, freed=1, held=0)
    assert keys(site) == ["call", "tenant"]
    assert site.sync(scope=Scope.CONFIGURATION).freed == 1
    assert site.sync(scope=Scope.CALLS).freed == 1
    assert keys(site, "asterisk") == ["call"]


# Changing


def test_what_a_call_holds_during_setup_is_no_difference(site: Site) -> None:
    site.acquire("a", "trunk")
    assert site.sync("a") == Synced(adopted=0, changed=0, freed=0, held=1)
    assert lease(site, "a").wants == {"trunk": 1, "coder": 1}


@pytest.mark.parametrize("instances", [1, 4])
def test_a_lease_that_holds_more_or_less_than_the_list_says_is_changed(site: Site, instances: int) -> None:
    site.acquire("a", Want("trunk", 3), phase=Phase.ESTABLISHED)
    since = lease(site, "a").granted
    site.wait(10)
    synced = site.sync(SyncLease(key="a", wants=(Want("trunk", instances),)))
    assert (synced.adopted, synced.changed) == (0, 1)
    assert (site.in_use("trunk"), lease(site, "a").granted) == (instances, since)


def test_a_lease_on_another_channel_is_moved_and_one_without_a_channel_stays_where_it_is(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="1")
    site.wait(10)
    assert site.sync("a").changed == 0
    assert site.sync(SyncLease(key="a", wants=(Want("trunk"),), channel="2")).changed == 1
    assert (lease(site, "a").port, lease(site, "a").channel) == ("x", "2")
    site.sync(SyncLease(key="a", wants=(Want("trunk"),), port="y"))
    assert (lease(site, "a").port, lease(site, "a").channel) == ("y", None)


@pytest.mark.parametrize("instances", [1, 2])
def test_a_bound_lease_that_is_listed_is_bound_no_more(instances: int, site: Site) -> None:
    site.acquire("a", "trunk", bound=7)
    site.wait(10)
    site.told()
    synced = site.sync(SyncLease(key="a", wants=(Want("trunk", instances),)))
    assert synced == Synced(adopted=0, changed=instances - 1, freed=0, held=1)
    assert lease(site, "a").bound is None
    assert site.told() == [EventName.SYNC_DRIFT] * (instances - 1), "to be bound no more is no drift"
    site.enforcer.release_bound(7, site.now)
    assert keys(site) == ["a"]


def test_a_late_list_unbinds_no_lease_that_was_asked_for_again_since(site: Site) -> None:
    site.acquire("a", "trunk", bound=7)
    site.wait(10)
    site.acquire("a", "trunk", bound=8)
    assert site.sync("a", list_age_ms=5000).held == 1
    site.enforcer.release_bound(8, site.now)
    assert keys(site) == []


def test_an_adopted_lease_of_an_unknown_feature_counts_and_can_be_held_and_freed(site: Site) -> None:
    site.sync(SyncLease(key="a", wants=(Want("moon", 3),)))
    assert site.enforcer.ledger.in_use("moon") == 3
    assert site.acquire("a", Want("moon", 2)).reason is Reason.ALREADY_HELD
    assert site.release("a")


# Emergency calls


def test_a_call_that_was_granted_as_an_emergency_stays_one_though_the_list_does_not_know(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112")
    assert site.sync("a") == Synced(adopted=0, changed=0, freed=0, held=1)
    assert (site.in_use("trunk"), site.enforcer.ledger.emergencies) == (0, 1)


def test_an_emergency_call_that_only_the_list_knows_is_adopted_apart_and_raises_the_alarm(site: Site) -> None:
    synced = site.sync(SyncLease(key="a", wants=(Want("trunk"),), call_class=CallClass.EMERGENCY))
    assert (synced.adopted, site.in_use("trunk"), site.enforcer.ledger.emergencies) == (1, 0, 1)
    assert EventName.EMERGENCY_CLAIM in site.told()
    site.sync(SyncLease(key="a", wants=(Want("trunk"),), call_class=CallClass.EMERGENCY))
    assert EventName.EMERGENCY_CLAIM not in site.told()


@pytest.mark.parametrize(("dialed", "alarm"), [("112", False), ("113", True)])
def test_an_emergency_call_that_a_list_brings_with_its_number_raises_the_alarm_only_where_it_is_none(
    site: Site, dialed: str, alarm: bool
) -> None:
    site.sync(SyncLease(key="a", wants=(), call_class=CallClass.EMERGENCY, dialed=dialed, port="trunk:a"))
    assert (EventName.EMERGENCY_CLAIM in site.told()) is alarm
    assert site.enforcer.ledger.emergencies == 1


# Lists in parts


def test_a_list_in_parts_frees_with_its_last_part_only(site: Site) -> None:
    for key in "abcd":
        site.acquire(key, "trunk")
    site.wait(10)
    assert site.sync("a", generation=1, part=1, last=False).freed == 0
    assert site.sync("b", generation=1, part=2, last=False).held == 4
    assert site.sync("c", generation=1, part=3, last=True).freed == 1
    assert keys(site) == ["a", "b", "c"]


def test_a_list_of_1000_calls_in_parts_is_adopted_and_kept(site: Site) -> None:
    names = [f"call {number}" for number in range(1000)]
    for generation in (1, 2):
        for part in (1, 2, 3, 4):
            listed = names[250 * (part - 1) : 250 * part]
            site.sync(*listed, generation=generation, part=part, last=part == 4)
            site.wait(10)
    assert site.in_use("trunk") == 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"last": False},
        {"last": False, "generation": 1},
        {"last": False, "part": 1},
        {"part": 2},
    ],
)
def test_parts_without_a_generation_or_a_number_are_refused(site: Site, fields: dict[str, object]) -> None:
    assert refusal(site, "a", **fields) == "a list in several parts needs a generation, and each part its number"
    assert keys(site) == []


def test_a_list_of_one_part_may_say_so(site: Site) -> None:
    site.sync("a", part=1)
    site.sync("a", "b", part=1, generation=1, last=True)
    assert keys(site) == ["a", "b"]


def test_the_rest_of_a_list_frees_nothing_after_a_restart_in_the_middle_of_it(site: Site) -> None:
    for key in "abc":
        site.acquire(key, "trunk")
    site.wait(60)
    site.sync("a", generation=1, part=1, last=False)
    leases = list(site.enforcer.ledger)
    site = site.restarted()
    site.enforcer.restore(leases, site.now)
    hint = "part 2 came and part 1 did not; send the whole list again"
    assert refusal(site, "b", generation=1, part=2, last=False) == hint
    assert refusal(site, "c", generation=1, part=3, last=True) == hint.replace("2", "3")
    assert keys(site) == ["a", "b", "c"]
    site.sync("a", generation=2, part=1, last=False)
    assert site.sync("c", generation=2, part=2, last=True).freed == 1
    assert keys(site) == ["a", "c"]


def test_a_list_that_lost_a_part_on_the_way_frees_nothing(site: Site) -> None:
    for key in "abc":
        site.acquire(key, "trunk")
    site.wait(60)
    site.sync("a", generation=1, part=1, last=False)
    assert refusal(site, "c", generation=1, part=3) == "part 3 came and part 2 did not; send the whole list again"
    assert keys(site) == ["a", "b", "c"]


def test_a_part_of_an_older_generation_is_refused_and_changes_nothing(site: Site) -> None:
    site.sync("a", generation=5)
    assert refusal(site, "b", generation=4).startswith("generation 4 is older than generation 5; ")
    assert keys(site) == ["a"]


def test_a_client_that_counts_from_the_beginning_again_is_understood_after_a_while(site: Site) -> None:
    assert GENERATION_SECONDS == 60
    site.sync("a", generation=1000, part=1, last=False)
    site.wait(60)
    hint = refusal(site, generation=1)
    assert hint.endswith("where it counts from the beginning again, it is taken 60 s after that one")
    site.wait(1)
    assert "part 1 did not" in refusal(site, "b", generation=1, part=2)
    assert site.sync("b", generation=1, part=1, last=False).adopted == 1
    assert site.sync("c", generation=1, part=2).freed == 1
    assert keys(site) == ["b", "c"]
    site.sync("b", generation=2)
    assert "older than generation 2" in refusal(site, "b", generation=1)


def test_lists_that_are_refused_do_not_keep_the_lower_generation_off_any_longer(site: Site) -> None:
    site.sync("a", generation=1000)
    for generation in range(1, 61):
        site.wait(1)
        refusal(site, "b", generation=generation)
    site.wait(1)
    assert site.sync("b", generation=61).adopted == 1


def test_the_time_that_the_daemon_did_not_read_makes_no_list_older(site: Site) -> None:
    site.sync("a", generation=2)
    site.boot += 500
    site.enforcer.restart_silence(site.now)
    refusal(site, generation=1)


def test_a_newer_generation_abandons_the_one_that_was_not_finished(site: Site) -> None:
    site.acquire("a", "trunk")
    site.wait(10)
    site.sync("a", generation=1, part=1, last=False)
    site.sync("b", generation=2, last=True)
    assert keys(site) == ["b"]
    assert "older" in refusal(site, "a", generation=1, last=True)


def test_a_repeated_part_is_counted_once(open_site: Callable[..., Site]) -> None:
    site = open_site(max_leases=3)
    for _ in range(5):
        site.sync("a", "b", generation=1, part=1, last=False)
    assert site.sync("c", generation=1, part=2, last=True).held == 3


def test_the_last_part_once_more_frees_nothing_of_the_earlier_parts(site: Site) -> None:
    site.sync("a", generation=1, part=1, last=False)
    site.sync("b", generation=1, part=2, last=True)
    site.wait(60)
    assert site.sync("b", generation=1, part=2, last=True).freed == 0
    assert keys(site) == ["a", "b"]


def test_a_part_that_comes_behind_the_last_one_is_adopted_and_frees_nothing(site: Site) -> None:
    site.sync("b", generation=1, last=True)
    site.wait(60)
    assert site.sync("a", generation=1, part=1, last=False).adopted == 1
    assert site.sync("c", generation=2, last=True).freed == 1


def test_a_whole_list_between_two_parts_is_the_newer_truth(site: Site) -> None:
    site.acquire("z", "trunk")
    site.wait(60)
    site.sync("a", generation=1, part=1, last=False)
    site.wait(60)
    site.sync("a", "b", "z")
    site.wait(60)
    assert site.sync("b", generation=1, part=2, last=True).freed == 0
    assert keys(site) == ["a", "b", "z"]


def test_generations_of_two_scopes_and_two_holders_do_not_mix(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8, "phone": 8})
    phone = SyncLease(key="phone", wants=(Want("phone"),))
    site.sync("a", generation=9, part=1, last=False)
    site.sync(phone, scope=Scope.REGISTRATIONS, generation=1, part=1, last=False)
    site.sync("x", holder="asterisk", generation=2, last=True)
    site.wait(60)
    assert site.sync(scope=Scope.REGISTRATIONS, generation=1, part=2, last=True).freed == 0
    assert site.sync("b", generation=9, part=2, last=True).freed == 0
    assert (keys(site), keys(site, "asterisk")) == (["a", "b", "phone"], ["x"])


def test_the_oldest_part_of_a_list_says_when_it_was_taken(site: Site) -> None:
    site.sync("a", generation=1, part=1, last=False)
    site.wait(1)
    site.acquire("new", "trunk")
    site.wait(50)
    assert site.sync(generation=1, part=2, last=True).freed == 0
    assert keys(site) == ["a", "new"]


def test_a_later_part_may_say_that_the_list_was_taken_earlier(site: Site) -> None:
    site.acquire("new", "trunk")
    site.wait(60)
    site.sync("a", generation=1, part=1, last=False)
    assert site.sync(generation=1, part=2, last=True, list_age_ms=58_000).freed == 0
    assert keys(site) == ["a", "new"]


def test_a_list_and_a_holder_have_their_limits(open_site: Callable[..., Site]) -> None:
    site = open_site(max_leases=2)
    assert refusal(site, "a", "b", "c") == "a list has at most 2 leases"
    site.sync("a", "b", generation=1, part=1, last=False)
    assert refusal(site, "c", generation=1) == "a list has at most 2 leases"
    site.sync("c", "d", generation=2, part=1, last=False)
    assert "more than 4 leases" in refusal(site, "e", generation=3, part=1, last=False)
    site.wait(10)
    assert site.sync("a", generation=4).held == 1


def test_a_list_of_which_a_part_was_refused_frees_nothing(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, max_leases=2)
    site.acquire("a", "trunk")
    site.wait(60)
    assert refusal(site, "a", "b", "c", generation=1, part=1, last=False) == "a list has at most 2 leases"
    assert "part 1 did not" in refusal(site, "b", generation=1, part=2)
    assert keys(site) == ["a"]


# Lists that come late


def test_a_list_does_not_bring_back_what_was_released_after_it_was_taken(site: Site) -> None:
    site.acquire("a", "trunk")
    site.acquire("b", "trunk")
    site.wait(10)
    site.release("a")
    assert site.sync("a", "b", list_age_ms=1000) == Synced(adopted=0, changed=0, freed=0, held=1)
    assert keys(site) == ["b"]


@pytest.mark.parametrize(("ago", "adopted"), [(1.5, 0), (2.0, 1)])
def test_a_key_that_a_later_list_still_has_is_adopted_again(site: Site, ago: float, adopted: int) -> None:
    site.acquire("a", "trunk")
    site.release("a")
    site.wait(ago)
    assert site.sync("a").adopted == adopted


def test_a_key_that_was_taken_again_after_its_release_is_held(site: Site) -> None:
    site.acquire("a", "trunk")
    site.release("a")
    site.acquire("a", "trunk")
    assert site.sync("a") == Synced(adopted=0, changed=0, freed=0, held=1)


def test_what_was_not_even_held_when_it_was_released_is_over_all_the_same(site: Site) -> None:
    site.acquire("a", "trunk")
    site.release("never heard of")
    assert site.sync("a", "never heard of").adopted == 0


def test_a_call_that_was_displaced_from_its_channel_is_not_brought_back_by_an_older_list(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="1")
    site.wait(10)
    site.acquire("b", "trunk", port="x", channel="1")
    site.wait(1)
    site.sync(SyncLease(key="a", wants=(Want("trunk"),), port="x", channel="1"), list_age_ms=5000)
    assert keys(site) == ["b"]


def test_a_list_without_a_generation_does_not_bring_back_what_a_newer_one_freed(site: Site) -> None:
    site.acquire("a", "trunk")
    site.wait(60)
    assert site.sync(list_age_ms=1000).freed == 1
    assert site.sync("a", list_age_ms=1500).adopted == 0
    assert site.sync("a", list_age_ms=500).adopted == 1


def test_a_takeover_does_not_bring_back_what_the_earlier_holder_released(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.release("a", holder="old")
    assert site.sync("a", takes_over="old", list_age_ms=1000).adopted == 0
    assert site.sync("a", list_age_ms=1000).adopted == 1


def test_an_emergency_call_that_is_over_raises_no_alarm_when_an_older_list_names_it(site: Site) -> None:
    site.acquire("a", "trunk", dialed="112")
    site.release("a")
    site.told()
    site.sync(SyncLease(key="a", wants=(), call_class=CallClass.EMERGENCY))
    assert (site.told(), site.enforcer.emergencies_total) == ([], 1)


def test_the_releases_of_a_holder_that_are_remembered_are_bounded_and_the_oldest_goes_first(site: Site) -> None:
    assert MAX_RELEASES == 1024
    site.acquire("a", "trunk")
    for number in range(MAX_RELEASES + 1):
        site.release(f"call {number}")
    site.release("call 1", holder="asterisk")  # nobody has used that name: it takes no room
    assert site.sync("call 0", "call 1", list_age_ms=1000).adopted == 1
    assert {holder: len(it) for holder, it in site.enforcer.lately._given_back.items()} == {"kamailio": MAX_RELEASES}


def test_a_late_list_shrinks_no_lease_that_grew_after_it_was_taken(site: Site) -> None:
    site.acquire("a", "trunk", phase=Phase.ESTABLISHED)
    site.wait(60)
    site.acquire("a", Want("trunk", 3), phase=Phase.ESTABLISHED)
    assert site.sync("a", list_age_ms=1000) == Synced(adopted=0, changed=0, freed=0, held=1)
    assert site.in_use("trunk") == 3
    site.wait(2.5)
    assert site.sync("a").changed == 1
    assert site.in_use("trunk") == 1


def test_a_late_list_moves_no_lease_that_moved_after_it_was_taken(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="1")
    site.wait(60)
    site.acquire("a", "trunk", port="x", channel="2")
    assert site.sync(SyncLease(key="a", wants=(Want("trunk"),), port="x", channel="1"), list_age_ms=1000).changed == 0
    assert lease(site, "a").channel == "2"


@pytest.mark.parametrize(("ago", "freed"), [(2.0, 0), (2.5, 1)])
def test_a_late_list_frees_no_lease_that_was_asked_for_again_since(site: Site, ago: float, freed: int) -> None:
    site.acquire("a", "trunk")
    site.wait(60)
    assert site.acquire("a", "trunk").reason is Reason.ALREADY_HELD
    site.wait(ago)
    assert site.sync().freed == freed


def test_a_lease_that_was_denied_more_is_not_spared_because_of_that(site: Site) -> None:
    site.acquire("a", "trunk")
    site.wait(60)
    assert not site.acquire("a", Want("trunk", 100)).allowed
    assert site.sync().freed == 1


def test_a_late_list_makes_an_emergency_call_of_a_newer_lease_all_the_same(site: Site) -> None:
    site.acquire("a", "trunk")
    listed = SyncLease(key="a", wants=(), call_class=CallClass.EMERGENCY)
    assert site.sync(listed, list_age_ms=1000).changed == 1
    assert (site.in_use("trunk"), site.enforcer.ledger.emergencies) == (0, 1)


def test_a_lease_that_is_taken_over_stays_as_it_was_asked_for_after_the_list_was_taken(site: Site) -> None:
    site.acquire("a", "trunk", holder="old", phase=Phase.ESTABLISHED, bound=7)
    site.wait(60)
    site.acquire("a", Want("trunk", 2), holder="old", phase=Phase.ESTABLISHED)
    assert site.sync("a", takes_over="old", list_age_ms=1000).changed == 1
    assert (keys(site), keys(site, "old"), site.in_use("trunk")) == (["a"], [], 2)
    assert lease(site, "a").bound is None
    assert site.sync(list_age_ms=1000).freed == 0, "a list that is older still"


def test_the_leases_that_were_asked_for_again_and_are_remembered_are_bounded(open_site: Callable[..., Site]) -> None:
    assert MAX_ASKED_AGAIN == 2048
    site = open_site(licensed={"phone": 3000})
    for _ in range(2):
        site.wait(60)
        for number in range(MAX_ASKED_AGAIN + 1):
            assert site.acquire(f"phone {number}", "phone").allowed
    assert site.sync(scope=Scope.REGISTRATIONS, list_age_ms=1000).freed == 1
    assert site.enforcer.ledger.find("kamailio", "phone 0") is None


def test_what_a_plain_call_leaves_behind_is_its_release_alone(site: Site) -> None:
    site.acquire("a", "trunk")
    site.release("a")
    assert site.enforcer.lately._asked_again == {}


def test_a_late_list_does_not_bring_back_what_ended_with_its_connection(site: Site) -> None:
    site.acquire("a", "trunk", bound=7)
    site.wait(60)
    site.enforcer.release_bound(7, site.now)
    assert site.sync("a", list_age_ms=1000).adopted == 0
    site.wait(3)
    assert site.sync("a").adopted == 1


def test_a_late_list_does_not_bring_back_what_a_technician_freed(site: Site) -> None:
    site.acquire("a", "trunk")
    site.wait(60)
    site.enforcer.release_by_force("kamailio", "a", "uid 0", site.now)
    assert site.sync("a", list_age_ms=1000).adopted == 0
    site.wait(3)
    assert site.sync("a").adopted == 1


def test_a_release_is_noted_of_an_owner_whose_name_was_not_heard_in_this_run(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, owners={"kamailio": 1000})
    assert site.release("a") is False
    assert site.sync("a", list_age_ms=1000).adopted == 0
    for number in range(100):
        site.release("a", holder=f"nobody's {number}", uid=1001)
    assert [holder.name for holder in site.enforcer.holders] == ["kamailio"]


# Taking over


def test_a_takeover_moves_the_listed_leases_with_their_age(site: Site) -> None:
    site.acquire("a", "trunk", holder="old", port="x", channel="1")
    site.acquire("b", "trunk", holder="old")
    since = lease(site, "a", "old").granted
    site.wait(100)
    synced = site.sync("a", takes_over="old")
    assert (synced.adopted, synced.changed, synced.held) == (0, 1, 1)
    taken = lease(site, "a")
    assert (taken.granted, taken.port, taken.channel) == (since, "x", "1")
    assert (keys(site, "old"), site.in_use("trunk"), synced.freed) == ([], 1, 1)  # the call of b ended in between


def test_a_takeover_leaves_what_the_old_holder_got_after_the_list_was_taken(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.wait(100)
    site.acquire("new call", "trunk", holder="old")
    site.sync("phone", holder="old", scope=Scope.REGISTRATIONS)
    site.sync("a", takes_over="old", generation=1, part=1, last=False)
    assert keys(site, "old") == ["new call", "phone"]
    site.sync(takes_over="old", generation=1, part=2, last=True)
    assert keys(site, "old") == ["new call", "phone"]
    site.wait(100)
    site.sync("a", takes_over="old", generation=2)
    assert (keys(site, "old"), keys(site)) == (["phone"], ["a"])


def test_a_lease_listed_under_another_scope_belongs_to_that_one(site: Site) -> None:
    site.sync("a")
    site.wait(100)
    site.sync("a", scope=Scope.REGISTRATIONS)
    site.sync()
    assert keys(site) == ["a"]


def test_a_call_that_both_holders_have_counts_once_after_the_takeover(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.acquire("a", "trunk")
    assert site.sync("a", takes_over="old").changed == 1
    assert (keys(site), keys(site, "old"), site.in_use("trunk")) == (["a"], [], 1)


def test_a_list_of_the_earlier_holder_from_before_the_takeover_counts_no_call_twice(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.wait(60)
    site.sync("a", takes_over="old", list_age_ms=1000)
    assert site.sync("a", holder="old", list_age_ms=5000).adopted == 0
    assert (keys(site), keys(site, "old"), site.in_use("trunk")) == (["a"], [], 1)
    site.wait(1.5)
    assert site.sync("a", holder="old") == Synced(0, 0, 0, 0), "however new it is"
    assert (keys(site), keys(site, "old"), site.in_use("trunk")) == (["a"], [], 1)


def test_an_earlier_holder_that_takes_over_in_turn_gets_its_calls_back(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.sync("a", takes_over="old")
    site.wait(60)
    assert site.sync("a", holder="old").held == 0
    assert site.sync("a", "b", holder="old", takes_over="kamailio") == Synced(adopted=1, changed=1, freed=0, held=2)
    assert (keys(site), keys(site, "old"), site.in_use("trunk")) == ([], ["a", "b"], 2)
    site.wait(60)
    assert site.sync("a").held == 0, "and now it is the other that gets nothing back"


def test_an_earlier_holder_has_new_calls_and_those_that_its_successor_has_no_more(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.sync("a", takes_over="old")
    site.wait(60)
    assert site.sync("a", "b", holder="old").adopted == 1
    assert site.acquire("a", "trunk", holder="old").allowed, "a question is no list"
    assert site.in_use("trunk") == 3
    site.release("a")
    site.release("a", holder="old")
    site.wait(60)
    assert site.sync("a", "b", holder="old").held == 2


def test_calls_that_went_on_to_a_third_holder_come_back_to_neither(site: Site) -> None:
    site.acquire("a", "trunk", holder="first")
    site.sync("a", holder="second", takes_over="first")
    site.sync("a", holder="third", takes_over="second")
    site.wait(60)
    assert (site.sync("a", holder="first").held, site.sync("a", holder="second").held) == (0, 0)
    assert (keys(site, "third"), site.in_use("trunk")) == (["a"], 1)


def test_who_took_over_is_remembered_over_a_restart(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.sync("a", takes_over="old")
    leases, holders = list(site.enforcer.ledger), site.enforcer.holders.known()
    later = site.restarted()
    later.enforcer.restore(leases, later.now, holders)
    later.wait(60)
    assert later.sync("a", holder="old").held == 0
    assert later.in_use("trunk") == 1


def test_a_successor_whose_name_went_to_another_user_keeps_nothing_back(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.sync(takes_over="old")
    site.enforcer.holders.forget("kamailio")
    site.acquire("a", "trunk", uid=1001)
    site.wait(60)
    assert site.sync("a", holder="old").held == 1


def test_a_takeover_by_an_old_list_forgets_no_later_release(site: Site) -> None:
    site.acquire("a", "trunk", holder="old")
    site.wait(60)
    site.release("a", holder="old")
    site.acquire("a", "trunk", holder="old")
    site.sync("a", takes_over="old", list_age_ms=30_000)
    assert site.sync("a", holder="old", list_age_ms=1000).adopted == 0


def test_an_emergency_call_stays_one_when_it_is_taken_over(site: Site) -> None:
    site.acquire("a", "trunk", holder="old", dialed="112")
    site.sync("a", takes_over="old")
    assert (site.in_use("trunk"), site.enforcer.ledger.emergencies) == (0, 1)


def test_a_lease_that_was_bound_to_a_connection_of_the_earlier_holder_is_not_when_taken_over(site: Site) -> None:
    site.acquire("a", "trunk", holder="old", bound=3)
    site.sync("a", takes_over="old")
    site.enforcer.release_bound(3, site.now)
    assert keys(site) == ["a"]


def test_nobody_takes_over_from_another_user(site: Site) -> None:
    site.acquire("a", "trunk", holder="old", uid=1001)
    refused = site.enforcer.synchronize(site.listing("a", takes_over="old"), 1000, site.now)
    assert refused == NotYours("old")
    assert (keys(site), keys(site, "old")) == ([], ["a"])


def test_taking_over_from_oneself_or_from_nobody_is_a_plain_list(site: Site) -> None:
    site.acquire("a", "trunk")
    assert site.sync("a", takes_over="kamailio") == Synced(adopted=0, changed=0, freed=0, held=1)
    assert site.sync("a", "b", takes_over="nobody").adopted == 1


# Drift and silence


def test_drift_is_counted_and_told_only_when_something_was_mended(site: Site) -> None:
    site.acquire("a", "trunk")
    site.sync("a")
    holder = site.enforcer.holders.find("kamailio")
    assert holder is not None
    assert (holder.drift, site.told()) == (0, [])
    site.sync("a", "b")
    assert (holder.drift, site.told()) == (1, [EventName.SYNC_DRIFT])


@pytest.mark.parametrize(("silent", "held"), [(30.0, 1), (30.5, 0)])
def test_a_holder_that_is_silent_for_longer_than_it_said_loses_that_scope(
    open_site: Callable[..., Site], silent: float, held: int
) -> None:
    site = open_site(licensed={"trunk": 8, "phone": 8})
    site.acquire("phone", "phone")
    site.sync("a", ttl_seconds=30)
    site.told()
    site.wait(silent)
    assert site.in_use("trunk") == held
    assert site.in_use("phone") == 1
    assert site.told() == ([] if held else [EventName.HOLDER_SILENT])
    site.wait(1000)
    assert site.told() == ([EventName.HOLDER_SILENT] if held else [])


def test_any_sign_of_life_keeps_the_leases(site: Site) -> None:
    site.sync("a", ttl_seconds=30)
    site.wait(29)
    site.release("other")
    site.wait(29)
    site.acquire("b", "trunk")
    site.wait(29)
    assert keys(site) == ["a", "b"]


def test_silence_while_the_daemon_did_not_listen_does_not_count(site: Site) -> None:
    site.sync("a", ttl_seconds=30)
    site.boot += 500
    site.enforcer.restart_silence(site.now)
    site.wait(30)
    assert keys(site) == ["a"]
    site.wait(1)
    assert keys(site) == []


def test_a_holder_without_a_ttl_may_be_silent_for_ever(site: Site) -> None:
    site.sync("a")
    site.wait(30 * 86400)
    assert keys(site) == ["a"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=4),
)
def test_after_a_list_in_any_parts_the_scope_is_exactly_what_was_listed(
    open_site: Callable[..., Site], before: list[str], parts: list[list[str]]
) -> None:
    site = open_site(licensed={"trunk": 8})
    for key in before:
        site.acquire(key, "trunk")
    site.wait(10)
    for number, part in enumerate(parts, 1):
        site.sync(*part, generation=1, part=number, last=number == len(parts))
    assert keys(site) == sorted({key for part in parts for key in part})
    assert site.in_use("trunk") == len(keys(site))


# In slices


def begun(site: Site, *leases: str, **fields: Any) -> Syncing:
    """A Sync of which nothing but the beginning is done."""
    syncing = site.enforcer.begin_sync(site.listing(*leases, **fields), 1000, site.now)
    assert isinstance(syncing, Syncing)
    assert syncing.step() is None
    return syncing


def calls(count: int) -> list[str]:
    return [f"call {number}" for number in range(count)]


def test_a_short_list_is_one_slice(site: Site) -> None:
    syncing = site.enforcer.begin_sync(site.listing(*calls(SLICE_ADOPTED)), 1000, site.now)
    assert isinstance(syncing, Syncing)
    assert syncing.step() == Synced(SLICE_ADOPTED, 0, 0, SLICE_ADOPTED)
    assert syncing.step() == syncing.finish()


def test_a_long_list_is_taken_in_slice_by_slice_and_others_are_decided_between(site: Site) -> None:
    syncing = begun(site, *calls(5 * SLICE_ADOPTED))
    assert len(site.enforcer.ledger) == SLICE_ADOPTED
    site.acquire("another", "trunk", holder="asterisk")
    steps = 1
    while syncing.step() is None:
        steps += 1
    assert steps == 4
    assert syncing.finish() == Synced(5 * SLICE_ADOPTED, 0, 0, 5 * SLICE_ADOPTED)


def test_a_call_that_ends_between_two_slices_is_not_brought_back(site: Site) -> None:
    syncing = begun(site, *calls(3 * SLICE_ADOPTED))
    assert not site.release(calls(3 * SLICE_ADOPTED)[-1])
    site.release("call 0")
    synced = syncing.finish()
    assert isinstance(synced, Synced)
    assert (synced.adopted, synced.held) == (3 * SLICE_ADOPTED - 1, 3 * SLICE_ADOPTED - 2)


def test_a_call_that_begins_between_two_slices_is_not_freed(site: Site) -> None:
    count = SLICE_COMPARED + 10
    site.buy(trunk=2 * count)
    for part, place in enumerate(range(0, count, 256), 1):
        listed = calls(count)[place : place + 256]
        site.sync(*listed, generation=1, part=part, last=place + 256 >= count)
    site.wait(60)
    syncing = begun(site)
    site.acquire("new", "trunk")
    site.acquire("call 3", "trunk")
    synced = syncing.finish()
    assert isinstance(synced, Synced)
    assert (synced.freed, synced.held) == (count, 2)


def test_the_next_list_of_a_scope_ends_the_one_under_way_before_it_begins(site: Site) -> None:
    first = begun(site, *calls(3 * SLICE_ADOPTED))
    site.wait(60)
    site.sync("only")
    assert {lease.key for lease in site.enforcer.ledger} == {"only"}
    assert first.step() == Synced(3 * SLICE_ADOPTED, 0, 0, 3 * SLICE_ADOPTED), "its own answer is kept for it"


def test_a_list_that_meets_a_bug_meets_it_for_everybody_who_waits_for_its_end() -> None:
    def steps() -> Steps:
        yield
        raise ArithmeticError

    syncing = Syncing(steps())
    assert syncing.step() is None
    with pytest.raises(ArithmeticError) as first:
        syncing.finish()  # of another caller, as the next list of the scope is one
    for wait in (syncing.step, syncing.finish):
        with pytest.raises(ArithmeticError) as again:
            wait()
        assert again.value is first.value


def test_the_leases_of_a_scope_are_counted_by_holder(site: Site) -> None:
    site.sync("a", "b")
    site.sync("phone", scope=Scope.REGISTRATIONS)
    site.sync("c", holder="asterisk")
    ledger = site.enforcer.ledger
    counts = {(holder, scope): ledger.of_scope(holder, scope) for holder in ("kamailio", "asterisk") for scope in Scope}
    assert {place: count for place, count in counts.items() if count} == {
        ("kamailio", Scope.CALLS): 2,
        ("kamailio", Scope.REGISTRATIONS): 1,
        ("asterisk", Scope.CALLS): 1,
    }


# Lists that are not finished


@pytest.mark.parametrize("ticks", [True, False])
def test_a_list_that_is_not_finished_is_forgotten_after_a_while(ticks: bool, site: Site) -> None:
    lists = site.enforcer._rounds
    site.sync("a", generation=5, part=1, last=False)
    site.boot += GENERATION_SECONDS
    site.sync("b", generation=5, part=2, last=False)
    site.boot += GENERATION_SECONDS + 1
    if ticks:
        site.enforcer.tick(site.now)
        assert (lists._open, lists._newest) == ({}, {})
    hint = refusal(site, "c", generation=5, part=3)
    assert hint == "part 3 came and part 1 did not; send the whole list again"
    assert (lists._open, lists._newest) == ({}, {})
    assert keys(site) == ["a", "b"]
    assert site.sync("c", generation=6).freed == 2


def test_the_time_that_the_daemon_did_not_read_ends_no_list(site: Site) -> None:
    site.sync("a", generation=5, part=1, last=False)
    site.boot += GENERATION_SECONDS + 1
    site.enforcer.restart_silence(site.now)
    site.enforcer.tick(site.now)
    assert site.sync("b", generation=5, part=2).held == 2


def test_the_lists_of_a_user_that_are_not_finished_name_so_many_keys_together(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 8}, max_leases=6)
    site.sync("a", "b", "c", "d", generation=1, part=1, last=False)
    begun: dict[str, Any] = {"scope": Scope.REGISTRATIONS, "generation": 1, "part": 1, "last": False}
    assert refusal(site, "x", "y", "z", **begun) == "lists that are not finished name at most 6 leases of a user"
    site.sync("x", "y", **begun)
    site.sync("x", "y", "z", uid=1001, holder="asterisk", **begun)
    assert site.sync("e", generation=1, part=2).held == 5, "the last part of a list leaves nothing to keep"
    site.sync("z", **{**begun, "part": 2})
    assert sum(len(each.named) for each in site.enforcer._rounds._open.values() if each.uid == 1000) == 3


# When the list was taken


def test_a_list_that_waited_to_be_read_is_as_old_as_it_says(site: Site) -> None:
    site.acquire("old", "trunk")
    site.wait(60)
    taken = round(site.boot * 1000)
    site.wait(5)
    site.acquire("new", "trunk")
    site.release("old")
    site.wait(60)  # the daemon was stopped, and the list lay in its socket
    synced = site.sync("old", taken_ms=taken)
    assert (synced.adopted, synced.freed) == (0, 0)
    assert [lease.key for lease in site.enforcer.ledger] == ["new"]


def test_a_list_cannot_have_been_taken_later_than_now(site: Site) -> None:
    site.acquire("call", "trunk")
    site.wait(1)
    assert site.sync(taken_ms=round(site.boot * 1000) + 10**6).freed == 0, "granted within the margin"
    site.wait(60)
    assert site.sync(taken_ms=round(site.boot * 1000) + 10**6).freed == 1
