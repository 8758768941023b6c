"""Leases that end many at once end a slice at a time, and what is asked for meanwhile stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.ending import SLICE_ENDED
from featurekeyd.policy.events import EventName
from featurekeyd.policy.holders import Known
from featurekeyd.policy.requests import Phase

if TYPE_CHECKING:
    from tests.policy.conftest import Site

COUNT = 3 * SLICE_ENDED
KEYS = [f"call {number}" for number in range(COUNT)]


@pytest.fixture
def large(open_site: Callable[..., Site]) -> Site:
    """A site with as many calls as three slices have."""
    site = open_site(licensed={"trunk": 2 * COUNT, "phone": 2})
    for key in KEYS:
        site.acquire(key, "trunk", phase=Phase.ESTABLISHED, bound=1)
    return site


@pytest.fixture
def silent(open_site: Callable[..., Site]) -> Site:
    """The same, where the holder has just been silent for too long."""
    site = open_site(licensed={"trunk": 2 * COUNT, "phone": 2})
    site.acquire("phone", "phone")
    site.sync(*KEYS, ttl_seconds=60)
    site.told()
    site.boot += 61
    return site


def slices(work: Iterator[None]) -> int:
    return sum(1 for _ in work)


def test_what_ends_with_a_connection_ends_slice_by_slice(large: Site) -> None:
    large.acquire("other", "trunk", bound=2)
    ending = large.enforcer.ending_bound(1, large.now)
    for left in (2 * SLICE_ENDED, SLICE_ENDED):
        next(ending)
        assert len(large.enforcer.ledger) == left + 1
    assert slices(ending) == 0
    assert [lease.key for lease in large.enforcer.ledger] == ["other"]
    assert large.sync(KEYS[0], KEYS[-1], list_age_ms=1000).adopted == 0, "an older list brings none of them back"


def test_a_lease_that_is_bound_elsewhere_or_given_back_between_two_slices_stays_so(large: Site) -> None:
    ending = large.enforcer.ending_bound(1, large.now)
    next(ending)
    *_, given_back, unbound, moved = KEYS
    large.acquire(moved, "trunk", phase=Phase.ESTABLISHED, bound=2)
    large.acquire(unbound, "trunk", phase=Phase.ESTABLISHED)
    large.release(given_back)
    assert slices(ending) == 1
    assert {lease.key for lease in large.enforcer.ledger} == {moved, unbound}


def test_a_silent_holder_loses_its_scope_slice_by_slice(silent: Site) -> None:
    freeing = silent.enforcer.freeing_silent(silent.now)
    next(freeing)
    assert len(silent.enforcer.ledger) == COUNT + 1 - SLICE_ENDED + 1, "the phone is one of those that were looked at"
    assert slices(silent.enforcer.freeing_silent(silent.now)) == 1, "it is under way, and nothing is freed beside it"
    assert silent.told() == []
    assert slices(freeing) == 3
    assert [lease.key for lease in silent.enforcer.ledger] == ["phone"]
    assert silent.enforcer.holders.known() == [Known(name="kamailio", uid=1000)]
    (event,) = silent.enforcer.events
    assert event.message == f"kamailio fell silent: its {COUNT} leases of scope calls are freed."


def test_a_holder_that_is_heard_between_two_slices_keeps_what_it_has_left(silent: Site) -> None:
    freeing = silent.enforcer.freeing_silent(silent.now)
    next(freeing)
    left = len(silent.enforcer.ledger)
    silent.release("nothing")
    assert slices(freeing) == 1
    assert len(silent.enforcer.ledger) == left
    (event,) = silent.enforcer.events
    assert event.message.endswith(
        f" {COUNT + 1 - left} of its leases of scope calls are freed, and then it was heard again."
    )
    silent.told()
    silent.wait(61)
    assert [lease.key for lease in silent.enforcer.ledger] == ["phone"], "its word of 60 s still holds"
    assert silent.told() == [EventName.HOLDER_SILENT]


def test_a_name_that_is_given_away_between_two_slices_is_not_written_down_again(silent: Site) -> None:
    freeing = silent.enforcer.freeing_silent(silent.now)
    next(freeing)
    for lease in list(silent.enforcer.ledger):
        silent.enforcer.release_by_force(lease.holder, lease.key, "root", silent.now)
    silent.enforcer.holders.forget("kamailio")
    silent.enforcer.ledger.changes.clear()
    slices(freeing)
    assert silent.enforcer.ledger.changes == []


def test_freeing_that_is_given_up_begins_anew_at_the_next_tick(silent: Site) -> None:
    freeing = silent.enforcer.freeing_silent(silent.now)
    next(freeing)
    del freeing
    silent.enforcer.tick(silent.now)
    assert [lease.key for lease in silent.enforcer.ledger] == ["phone"]


def test_a_second_holder_that_is_heard_before_its_turn_loses_nothing(silent: Site) -> None:
    silent.boot -= 61
    silent.sync("another", holder="asterisk", ttl_seconds=60)
    silent.boot += 61
    freeing = silent.enforcer.freeing_silent(silent.now)
    next(freeing)
    silent.release("nothing", holder="asterisk")
    slices(freeing)
    assert silent.enforcer.ledger.of_scope("asterisk", Scope.CALLS) == 1
