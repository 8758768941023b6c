"""The waiting order: ranks before the order of asking, nobody past those who wait, and places kept by asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.policy import enforcer as enforcer_module
from featurekeyd.policy import waiting as module
from featurekeyd.policy.catalog import Catalog, Scope
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Phase, SyncLease, Want
from featurekeyd.policy.reservations import Reservation
from featurekeyd.policy.tables import FileMistakes
from featurekeyd.policy.waiting import (
    MAX_WAITING,
    MAX_WAITING_IN_ALL,
    MAX_WAITING_OF_USER,
    PATIENCE_SECONDS,
    rank_of,
)

if TYPE_CHECKING:
    from tests.policy.conftest import Site

RANKED = 'code = 4\nranks = ["dect", "phone"]\n'


@pytest.fixture(scope="session")
def ranked(catalog_text: str) -> Catalog:
    """The catalog in which those who wait for a phone are ranked."""
    return load_catalog(catalog_text.replace("code = 4\n", RANKED), "exchange.toml")


@pytest.fixture(scope="session")
def full(ranked: Catalog, make_site: Callable[..., Site]) -> Callable[[int], Site]:
    """Makes sites whose phones are all taken, by the keys from `0` on."""

    def made(phones: int) -> Site:
        site = make_site(ranked)
        site.certify()
        site.buy(phone=phones)
        for number in range(phones):
            assert site.acquire(str(number), "phone").allowed
        site.told()
        return site

    return made


def waits(site: Site, key: str, rank: str | None = None, instances: int = 1, *, bound: int | None = None) -> Decision:
    return site.acquire(key, Want("phone", instances), wait=True, rank=rank, bound=bound)


def order(site: Site) -> list[str]:
    return [waiter.key for waiter in site.enforcer._situation.waiting.in_order("phone", site.boot)]


def called(site: Site) -> list[str]:
    """The keys whose turn was told since the last time this was called."""
    site.enforcer.call_waiters(site.now)
    keys = [event.fields["LEASE"] for event in site.enforcer.events if event.name is EventName.TURN]
    site.enforcer.events.clear()
    return keys


def test_a_freed_instance_goes_to_who_waits_and_others_are_told_so(full: Callable[[int], Site]) -> None:
    site = full(2)
    first = waits(site, "a")
    assert (first.reason, first.place) == (Reason.LIMIT_REACHED, 1)
    site.release("0")
    late = site.acquire("late", "phone")
    assert (late.reason, late.limit, late.in_use, late.place) == (Reason.OTHERS_WAIT, 2, 1, None)
    assert late.message == (
        "1 of 2 licensed instances of Phones are in use, 1 go to others who wait for them, and 1 more asked for."
    )
    assert waits(site, "a").reason is Reason.GRANTED
    assert order(site) == []
    assert site.acquire("late", "phone").reason is Reason.LIMIT_REACHED


def test_a_call_that_displaces_another_on_its_channel_takes_what_that_one_held(full: Callable[[int], Site]) -> None:
    site = full(1)
    site.release("0")
    site.acquire("over", "phone", port="p", channel="7")
    assert waits(site, "w").place == 1
    assert site.acquire("next", "phone", port="p", channel="7").reason is Reason.GRANTED
    assert [lease.key for lease in site.enforcer.ledger] == ["next"]
    site.release("next")
    assert site.acquire("late", "phone").reason is Reason.OTHERS_WAIT
    assert waits(site, "w").reason is Reason.GRANTED


def test_who_wants_more_than_the_reservations_leave_keeps_nobody_off(
    full: Callable[[int], Site],
) -> None:
    site = full(4)
    for number in range(4):
        site.release(str(number))
    site.enforcer.adopt_reservations(site.enforcer.reserve(Reservation(feature="phone", key="r", instances=2))[0])
    big = site.acquire("big", Want("phone", 3), wait=True)
    assert (big.reason, big.place) == (Reason.RESERVED, 1)  # the reservation may be given up
    assert site.acquire("small", "phone").reason is Reason.GRANTED


def test_a_reservation_for_the_same_key_of_another_holder_leaves_no_more_for_who_waits(
    full: Callable[[int], Site],
) -> None:
    site = full(4)
    for number in range(4):
        site.release(str(number))
    reserved = Reservation(feature="phone", key="big", holder="asterisk", instances=2)
    site.enforcer.adopt_reservations(site.enforcer.reserve(reserved)[0])
    assert waits(site, "big", instances=3).place == 1
    assert site.acquire("small", "phone").reason is Reason.GRANTED


def test_who_does_not_say_wait_has_no_place(full: Callable[[int], Site]) -> None:
    site = full(1)
    assert site.acquire("a", "phone").place is None
    site.release("0")
    assert site.acquire("b", "phone").allowed


def test_those_who_wait_are_served_by_rank_then_in_the_order_of_asking(full: Callable[[int], Site]) -> None:
    site = full(3)
    ranks = [("a", None), ("b", "phone"), ("c", "dect"), ("d", "moon"), ("e", "dect"), ("f", "phone")]
    assert [waits(site, key, rank).place for key, rank in ranks] == [1, 1, 1, 4, 2, 4]
    assert order(site) == ["c", "e", "b", "f", "a", "d"]
    for number in range(3):
        site.release(str(number))
    asked = {key: waits(site, key, rank) for key, rank in reversed(ranks)}
    assert {key for key, answer in asked.items() if answer.allowed} == {"c", "e", "b"}
    assert (asked["f"].reason, asked["f"].place) == (Reason.OTHERS_WAIT, 4)


def test_who_begins_to_wait_in_a_better_rank_comes_first_and_who_does_not_wait_comes_last(
    full: Callable[[int], Site],
) -> None:
    site = full(1)
    waits(site, "a", "phone")
    site.release("0")
    assert site.acquire("b", "phone", rank="dect").reason is Reason.OTHERS_WAIT
    assert waits(site, "c", "phone").reason is Reason.OTHERS_WAIT
    assert waits(site, "d", "dect").allowed


def test_asking_again_keeps_the_place_and_may_change_the_rank(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a", "phone")
    waits(site, "b", "phone")
    assert waits(site, "a", "phone").place == 1
    assert waits(site, "b", "dect").place == 1
    assert waits(site, "b", "phone").place == 2


def test_a_place_is_lost_when_nothing_is_asked_for_over_150_seconds(full: Callable[[int], Site]) -> None:
    assert PATIENCE_SECONDS == 150
    site = full(1)
    waits(site, "a")
    site.wait(150)
    assert order(site) == ["a"]
    waits(site, "b")
    site.release("0")
    assert waits(site, "b").reason is Reason.OTHERS_WAIT
    site.wait(1)
    assert order(site) == ["b"]
    assert waits(site, "a").reason is Reason.OTHERS_WAIT
    assert waits(site, "b").allowed


def test_time_in_which_nobody_was_heard_costs_no_place(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a")
    site.boot += 1000
    site.enforcer.restart_silence(site.now)
    assert order(site) == ["a"]


def test_whoever_gets_another_answer_gives_back_or_stops_waiting_loses_its_place(full: Callable[[int], Site]) -> None:
    site = full(1)
    for end in (
        lambda: site.acquire("a", "phone"),
        lambda: site.acquire("a", "moon", wait=True),
        lambda: site.acquire("a", "phone", wait=True, dialed="112"),
        lambda: site.release("a"),
    ):
        assert waits(site, "a").place == 1
        end()
        assert order(site) == []
        site.release("a")


def test_a_key_waits_for_one_feature_at_a_time(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a")
    site.acquire("b", Want("coder", 4))
    site.release("0")
    answer = site.acquire("a", "coder", "phone", wait=True)
    assert (answer.feature, answer.place) == ("coder", 1)
    assert order(site) == []
    assert site.acquire("c", "phone").allowed


def test_an_emergency_call_never_waits(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a")
    site.release("0")
    answer = site.acquire("sos", "phone", wait=True, dialed="112")
    assert (answer.reason, answer.place) == (Reason.EMERGENCY, None)
    assert order(site) == ["a"]


def test_who_wants_more_than_there_ever_is_does_not_wait_and_keeps_nobody_off(full: Callable[[int], Site]) -> None:
    site = full(2)
    assert waits(site, "a", instances=3).place is None
    assert waits(site, "b", instances=2).place == 1
    site.release("0")
    late = site.acquire("late", "phone")
    assert late.reason is Reason.OTHERS_WAIT
    assert "1 go to others who wait for them" in (late.message or "")
    site.release("1")
    assert waits(site, "b", instances=2).allowed


def test_others_get_what_is_free_beyond_those_who_wait(full: Callable[[int], Site]) -> None:
    site = full(3)
    waits(site, "a")
    for number in range(3):
        site.release(str(number))
    assert site.acquire("b", Want("phone", 3)).reason is Reason.OTHERS_WAIT
    assert site.acquire("b", Want("phone", 2)).allowed
    assert site.acquire("c", "phone").reason is Reason.OTHERS_WAIT


# How many may wait


def test_so_many_may_wait_for_one_feature(full: Callable[[int], Site], monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAITING == 800
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    site = full(1)
    assert [waits(site, key).place for key in ("a", "b", "c", "a")] == [1, 2, None, 1]
    site.wait(151)
    assert waits(site, "c").place == 1


def test_a_user_that_asks_with_ever_new_keys_keeps_no_phone_of_another_from_waiting(
    full: Callable[[int], Site],
) -> None:
    assert (MAX_WAITING_OF_USER, MAX_WAITING) == (400, 800)
    site = full(1)
    places = [waits(site, f"flood {number}").place for number in range(500)]
    assert places == [*range(1, 401), *[None] * 100]
    phones = [site.acquire(f"{number}", "phone", holder="asterisk", uid=1001, wait=True) for number in range(384)]
    assert [it.place for it in phones] == [*range(401, 785)]


def test_so_many_keys_of_one_user_may_wait_whatever_for(
    full: Callable[[int], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_OF_USER", 2)
    site = full(1)
    site.acquire("all", Want("coder", 4))
    assert waits(site, "a").place == 1
    assert site.acquire("b", "coder", wait=True).place == 1
    assert waits(site, "c").place is None
    assert site.acquire("c", "coder", holder="other name", wait=True).place is None
    assert waits(site, "b").place == 2  # in place of its waiting for a coder
    assert waits(site, "a").place == 1
    site.release("a")
    assert waits(site, "c").place == 2


def test_so_many_keys_may_wait_in_all(full: Callable[[int], Site], monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAITING_IN_ALL == 2_000
    monkeypatch.setattr(module, "MAX_WAITING_IN_ALL", 2)
    site = full(1)
    site.acquire("all", Want("coder", 4))
    assert waits(site, "a").place == 1
    assert site.acquire("a", "phone", holder="asterisk", uid=1001, wait=True).place == 2
    assert site.acquire("b", "coder", holder="asterisk", uid=1001, wait=True).place is None
    assert site.acquire("a", "coder", holder="asterisk", uid=1001, wait=True).place == 1
    site.wait(151)
    assert site.acquire("b", "coder", holder="asterisk", uid=1001, wait=True).place == 1


def test_those_who_asked_longest_ago_are_forgotten_first_and_only_they_are_looked_at(
    full: Callable[[int], Site],
) -> None:
    site = full(1)
    waiting = site.enforcer._situation.waiting
    for key in ("a", "b", "c", "d"):
        waits(site, key)
        site.wait(10)
    waits(site, "a")
    site.wait(135)
    assert [waiter.key for waiter in waiting] == ["b", "c", "d", "a"]
    waits(site, "e")
    assert [waiter.key for waiter in waiting] == ["d", "a", "e"]
    assert order(site) == ["a", "d", "e"]


def test_nothing_is_left_behind_when_nobody_waits_any_more(full: Callable[[int], Site]) -> None:
    site = full(1)
    for key in ("a", "b", "c"):
        waits(site, key)
    site.release("a")
    site.wait(151)
    site.enforcer.call_waiters(site.now)
    waiting = site.enforcer._situation.waiting
    assert not waiting.anyone
    assert [name for name, value in vars(waiting).items() if value] == ["_number"]


# Leases that come or end otherwise


def extended(site: Site, **fields: Any) -> None:
    """A lease under `a` that holds a trunk, while its key waits for a phone besides."""
    site.acquire("a", "trunk", phase=Phase.ESTABLISHED, **fields)
    assert site.acquire("a", "trunk", "phone", wait=True, phase=Phase.ESTABLISHED, **fields).place == 1
    assert order(site) == ["a"]


@pytest.fixture
def busy(full: Callable[[int], Site]) -> Site:
    """A site with trunks whose only phone is taken."""
    site = full(1)
    site.buy(trunk=4)
    return site


def test_a_key_whose_lease_a_technician_frees_waits_no_more(busy: Site) -> None:
    extended(busy)
    assert busy.enforcer.release_by_force("kamailio", "a", "uid 0", busy.now)
    assert order(busy) == []


def test_a_technician_frees_no_place_where_there_is_no_lease(busy: Site) -> None:
    waits(busy, "a")
    assert not busy.enforcer.release_by_force("kamailio", "a", "uid 0", busy.now)
    assert order(busy) == ["a"]


def test_a_key_whose_lease_ends_with_its_connection_waits_no_more(busy: Site) -> None:
    extended(busy, bound=7)
    busy.enforcer.release_bound(7, busy.now)
    assert order(busy) == []


def test_a_key_that_only_waits_waits_no_longer_than_the_connection_it_bound_itself_to(busy: Site) -> None:
    waits(busy, "a", bound=7)
    waits(busy, "b", bound=8)
    waits(busy, "c")
    busy.enforcer.release_bound(7, busy.now)
    assert order(busy) == ["b", "c"]
    waits(busy, "b", bound=9)
    busy.enforcer.release_bound(8, busy.now)
    assert order(busy) == ["b", "c"], "it has asked again on another connection"
    waits(busy, "b")
    busy.enforcer.release_bound(9, busy.now)
    assert order(busy) == ["b", "c"]
    assert busy.enforcer._situation.waiting._bound == {}


def test_a_key_whose_lease_is_displaced_waits_no_more(busy: Site) -> None:
    extended(busy, port="p", channel="1")
    assert busy.acquire("b", "trunk", port="p", channel="1", phase=Phase.ESTABLISHED).allowed
    assert order(busy) == []


def test_a_key_whose_holder_falls_silent_waits_no_more(busy: Site) -> None:
    extended(busy)
    busy.sync("a", ttl_seconds=60)
    extended(busy)
    busy.wait(61)
    assert order(busy) == []


def test_a_key_that_a_list_adopts_waits_no_more(busy: Site) -> None:
    waits(busy, "a")
    waits(busy, "b")
    busy.sync(SyncLease(key="a", wants=(Want("phone"),)), scope=Scope.REGISTRATIONS)
    assert order(busy) == ["b"]


def test_a_key_that_a_list_only_confirms_goes_on_waiting_and_one_that_it_leaves_out_does_not(busy: Site) -> None:
    extended(busy)
    busy.wait(10)
    busy.sync("a")
    assert order(busy) == ["a"]
    busy.sync()
    assert order(busy) == []


def test_a_key_that_another_holder_takes_over_waits_no_more(busy: Site) -> None:
    extended(busy)
    busy.sync("a", holder="standby", takes_over="kamailio")
    assert order(busy) == []


def test_the_keys_of_a_holder_that_makes_room_for_another_name_wait_no_more(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits(busy, "a")
    for key in ("a", "b"):
        busy.acquire(key, "phone", holder="idle", wait=True)
    monkeypatch.setattr(enforcer_module, "MAX_HOLDERS_OF_USER", 2)
    busy.wait(1)
    waits(busy, "a")
    busy.acquire("x", "phone", holder="new")
    assert busy.enforcer.holders.find("idle") is None
    assert order(busy) == ["a"]


def test_a_reserved_instance_is_outside_the_order(full: Callable[[int], Site]) -> None:
    site = full(2)
    reservations, finding = site.enforcer.reserve(Reservation(feature="phone", key="0"))
    assert finding.accepted
    site.enforcer.adopt_reservations(reservations)
    site.release("0")
    answer = waits(site, "a")
    assert (answer.reason, answer.place) == (Reason.RESERVED, 1)
    assert called(site) == []
    assert site.acquire("0", "phone").allowed
    site.release("0")
    site.enforcer.adopt_reservations(site.enforcer.reservations.without("phone", "0")[0])
    assert called(site) == ["a"]


def test_a_turn_is_told_once_and_again_when_it_comes_again(full: Callable[[int], Site]) -> None:
    site = full(2)
    for key, rank in (("a", "phone"), ("b", "phone")):
        waits(site, key, rank)
    assert called(site) == []
    site.release("0")
    assert called(site) == ["a"]
    assert called(site) == []
    waits(site, "c", "dect")
    assert waits(site, "c", "dect").allowed
    assert called(site) == []
    site.release("1")
    assert called(site) == ["a"]
    site.release("c")
    assert called(site) == ["b"]


def test_the_next_is_called_when_the_first_has_lost_its_place(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a")
    site.wait(100)
    waits(site, "b")
    site.release("0")
    assert called(site) == ["a"]
    site.wait(51)
    assert called(site) == ["b"]


def test_nobody_is_called_while_everything_is_denied(full: Callable[[int], Site]) -> None:
    site = full(1)
    site.pull()
    site.wait(7170)
    waits(site, "a")
    site.wait(30)
    site.release("0")
    assert called(site) == []


def test_explain_shows_the_place_and_takes_none(full: Callable[[int], Site]) -> None:
    site = full(1)
    waits(site, "a", "phone")
    site.release("0")
    for request in (site.ask("b", "phone", wait=True), site.ask("b", "phone"), site.ask("a", "phone", wait=True)):
        explained = site.enforcer.explain(request, 1000, site.now)
        assert isinstance(explained, tuple)
        assert order(site) == ["a"]
        if request.key == "b":
            assert explained[1][-1].finding.endswith("1 go to others who wait for them, and 1 more asked for.")
            assert explained[0] == site.enforcer.acquire(request, 1000, site.now)
            site.release("b")
        else:
            assert explained[0].allowed


# Ranks in the catalog


@pytest.mark.parametrize(("rank", "place"), [("dect", 0), ("phone", 1), ("moon", 2), (None, 2)])
def test_a_rank_that_the_catalog_does_not_name_comes_last(rank: str | None, place: int) -> None:
    assert rank_of(("dect", "phone"), rank) == place
    assert rank_of((), rank) == 0


@pytest.mark.parametrize(
    ("ranks", "what"),
    [
        ('["DECT"]', "'DECT' is no name of lower-case words and hyphens"),
        ('["dect", ""]', "'' is no name of lower-case words and hyphens"),
        ('["dect", "dect"]', "a rank stands there twice"),
    ],
)
def test_ranks_are_names_and_each_stands_there_once(catalog_text: str, ranks: str, what: str) -> None:
    text = catalog_text.replace("code = 4\n", f"code = 4\nranks = {ranks}\n")
    with pytest.raises(FileMistakes) as wrong:
        load_catalog(text, "exchange.toml")
    assert [(it.where, it.what) for it in wrong.value.mistakes] == [("features.phone.ranks", what)]


def test_the_shipped_catalog_serves_dect_handsets_before_other_phones(shipped: dict[str, Catalog]) -> None:
    assert shipped["ip-office"].features["avaya-ip-endpoints"].ranks == ("dect-handset",)


# Any story

STORIES = st.lists(
    st.tuples(
        st.sampled_from(["wait", "ask", "release", "pass"]),
        st.sampled_from(["a", "b", "c", "d", "0", "1"]),
        st.sampled_from(["dect", "phone", None]),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STORIES)
def test_nobody_is_served_before_those_who_wait_and_whoever_is_called_is_granted(
    full: Callable[[int], Site], story: list[tuple[str, str, str | None]]
) -> None:
    site = full(2)
    since: dict[str, int] = {}
    for step, (act, key, rank) in enumerate(story):
        before = [(it.key, it.place[0]) for it in site.enforcer._situation.waiting.in_order("phone", site.boot)]
        free = 2 - site.in_use("phone")
        if act == "release":
            site.release(key)
        elif act == "pass":
            site.wait(65)
        else:
            wait, new = act == "wait", site.enforcer.ledger.find("kamailio", key) is None
            answer = site.acquire(key, "phone", wait=wait or None, rank=rank if wait else None)
            mine = rank_of(("dect", "phone"), rank) if wait else 9
            names = [name for name, _ in before]
            if key in names and not wait:
                mine = before[names.index(key)][1]
            if key not in names:
                since[key] = step
            ahead = [name for name, theirs in before if name != key and (theirs, since[name]) < (mine, since[key])]
            assert answer.allowed is (not new or free > len(ahead))
        assert site.in_use("phone") <= 2
    site.enforcer.call_waiters(site.now)
    for waiter in [it for it in site.enforcer._situation.waiting.in_order("phone", site.boot) if it.called]:
        assert site.acquire(waiter.key, "phone", wait=True, rank=("dect", "phone", None)[waiter.place[0]]).allowed
