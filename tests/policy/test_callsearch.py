"""The search for a call: whole keys first, then the Call-ID that a SIP key begins with, then what ended lately."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from featurekeyd.policy.callsearch import MOST_FOUND, SLICE_SEARCHED, Found, search
from featurekeyd.policy.requests import Phase

if TYPE_CHECKING:
    from tests.policy.conftest import Site


def looked_for(site: Site, call: str, holder: str | None = None) -> Found:
    searching = search(site.enforcer.ledger, site.enforcer.lately, call, holder)
    while True:
        try:
            next(searching)
        except StopIteration as end:
            found: Found = end.value
            return found


def keys(found: Found) -> list[tuple[str, str]]:
    return [(lease.holder, lease.key) for lease in found.leases]


def test_a_call_id_finds_the_legs_that_begin_with_it(site: Site) -> None:
    for key in ("abc@host;tag=1", "abc@host;tag=2", "abc@host2;tag=1", "xabc@host;tag=1", "abc@host;other=1"):
        assert site.acquire(key, "trunk", phase=Phase.ESTABLISHED).allowed
    assert keys(looked_for(site, "abc@host")) == [("kamailio", "abc@host;tag=1"), ("kamailio", "abc@host;tag=2")]


def test_a_whole_key_counts_before_those_that_begin_with_it(site: Site) -> None:
    for key in ("1700.12", "1700.12;tag=1"):
        site.acquire(key, "trunk")
    assert keys(looked_for(site, "1700.12")) == [("kamailio", "1700.12")]
    assert keys(looked_for(site, "1700.12;tag=1")) == [("kamailio", "1700.12;tag=1")]


def test_all_holders_are_searched_unless_one_is_named(site: Site) -> None:
    for holder in ("kamailio", "asterisk"):
        site.acquire("a;tag=1", "trunk", holder=holder)
        site.acquire("b", "trunk", holder=holder)
    assert len(keys(looked_for(site, "a"))) == len(keys(looked_for(site, "b"))) == 2
    assert keys(looked_for(site, "a", "asterisk")) == [("asterisk", "a;tag=1")]
    assert keys(looked_for(site, "b", "asterisk")) == [("asterisk", "b")]
    assert looked_for(site, "b", "freeswitch") == Found([], [], 0)


def test_what_was_given_back_lately_is_told_where_there_is_no_lease(site: Site) -> None:
    for key in ("a;tag=1", "a;tag=2", "b"):
        site.acquire(key, "trunk")
        site.wait(10)
        site.release(key)
    ended = looked_for(site, "a").ended
    assert [(it.key, site.boot - it.boot) for it in ended] == [("a;tag=2", 10), ("a;tag=1", 20)]
    assert [it.key for it in looked_for(site, "b").ended] == ["b"]
    assert looked_for(site, "b", "asterisk").ended == []
    assert looked_for(site, "c") == Found([], [], 0)


def test_what_ended_is_not_told_beside_a_leg_that_goes_on(site: Site) -> None:
    for key in ("a;tag=1", "a;tag=2"):
        site.acquire(key, "trunk")
    site.release("a;tag=1")
    found = looked_for(site, "a")
    assert keys(found) == [("kamailio", "a;tag=2")]
    assert found.ended == []


@pytest.fixture
def crowded(open_site: Callable[..., Site]) -> Site:
    """A site with more legs of one call than are shown, and more leases than one slice looks at."""
    site = open_site(platform="large", licensed={"trunk": 8, "phone": 4 * SLICE_SEARCHED})
    for number in range(2 * SLICE_SEARCHED):
        site.acquire(f"phone-{number}", "phone")
    for number in range(MOST_FOUND + 3):
        assert site.acquire(f"a;tag={number}", "phone").allowed
    return site


def test_so_many_are_named_and_the_others_counted(crowded: Site) -> None:
    found = looked_for(crowded, "a")
    assert (len(found.leases), found.omitted) == (MOST_FOUND, 3)
    for number in range(MOST_FOUND + 3):
        crowded.release(f"a;tag={number}")
    found = looked_for(crowded, "a")
    assert (found.leases, len(found.ended), found.omitted) == ([], MOST_FOUND, 3)


def test_others_are_served_between_two_slices_and_what_ends_meanwhile_is_not_found(crowded: Site) -> None:
    searching = search(crowded.enforcer.ledger, crowded.enforcer.lately, "a")
    slices = 0
    while True:
        try:
            next(searching)
        except StopIteration as end:
            found = end.value
            break
        slices += 1
        crowded.release("a;tag=0")
    assert slices >= 2
    assert "a;tag=0" not in {lease.key for lease in found.leases}
