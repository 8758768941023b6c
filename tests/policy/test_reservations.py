"""Reservations: kept for their key, used up by what it holds, shared in order when a limit falls, never cutting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from featurekeyd.policy import reservations as module
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.ledger import Lease, Ledger
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Phase, Want
from featurekeyd.policy.reservations import (
    MAX_RESERVATIONS,
    MAX_RESERVATIONS_IN_ALL,
    Aside,
    Kept,
    Reservation,
    Reservations,
    Shares,
)

if TYPE_CHECKING:
    from tests.policy.conftest import Site


def reserve(site: Site, key: str, instances: int = 1, holder: str | None = None, feature: str = "phone") -> Finding:
    wanted = Reservation(feature=feature, key=key, holder=holder, instances=instances)
    reservations, finding = site.enforcer.reserve(wanted)
    assert (reservations is not site.enforcer.reservations) == (finding.verdict == "reserved")
    site.enforcer.adopt_reservations(reservations)
    return finding


def unreserve(site: Site, key: str, feature: str = "phone") -> Finding:
    reservations, finding = site.enforcer.reservations.without(feature, key)
    site.enforcer.adopt_reservations(reservations)
    return finding


@pytest.fixture
def phones(open_site: Callable[..., Site]) -> Site:
    """A site with 4 phones."""
    return open_site(licensed={"phone": 4})


def test_a_reserved_instance_is_used_for_others_and_free_for_its_key(phones: Site) -> None:
    assert reserve(phones, "201").message == "Reserved for 201: 1 of Phones."
    assert [phones.acquire(str(number), "phone").allowed for number in range(3)] == [True] * 3
    denied = phones.acquire("late", "phone")
    assert (denied.reason, denied.limit, denied.in_use) == (Reason.RESERVED, 4, 3)
    assert (
        denied.message
        == "3 of 4 licensed instances of Phones are in use, 1 are reserved for others, and 1 more asked for."
    )
    assert "featurekeyctl reservations" in str(denied.remedy)
    assert phones.acquire("201", "phone").in_use == 4
    assert phones.acquire("late", "phone").reason is Reason.LIMIT_REACHED


def test_a_reservation_is_kept_while_its_key_holds_nothing(phones: Site) -> None:
    reserve(phones, "201", 4)
    for _ in range(3):
        assert phones.acquire("201", Want("phone", 4)).allowed
        assert phones.release("201")
        assert phones.acquire("late", "phone").reason is Reason.RESERVED


def test_what_a_key_holds_already_uses_its_reservation_first(phones: Site) -> None:
    phones.acquire("201", Want("phone", 2))
    reserve(phones, "201", 3)
    assert phones.enforcer.shares("phone").reserved == 1
    assert phones.acquire("a", "phone").allowed
    assert phones.acquire("b", "phone").reason is Reason.RESERVED
    assert phones.acquire("201", Want("phone", 3)).allowed


def test_what_a_key_wants_beyond_its_reservation_must_be_free_for_everybody(phones: Site) -> None:
    reserve(phones, "201")
    reserve(phones, "202", 2)
    assert phones.acquire("201", Want("phone", 3)).reason is Reason.RESERVED
    assert phones.acquire("201", Want("phone", 2)).allowed


def test_a_reservation_for_one_holder_is_none_for_the_same_key_of_another(phones: Site) -> None:
    reserve(phones, "201", 4, holder="asterisk")
    assert phones.acquire("201", "phone", holder="kamailio").reason is Reason.RESERVED
    assert phones.acquire("201", "phone", holder="asterisk").allowed


def test_a_reservation_for_any_holder_is_used_up_by_all_of_them_together(phones: Site) -> None:
    reserve(phones, "201", 2)
    phones.acquire("201", "phone", holder="kamailio")
    phones.acquire("201", "phone", holder="asterisk")
    assert phones.enforcer.shares("phone").reserved == 0


def test_a_displaced_call_gives_its_reserved_instance_back_to_its_reservation(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 2})
    reserve(site, "a", feature="trunk")
    place: dict[str, Any] = {"port": "x", "channel": "1", "phase": Phase.ESTABLISHED}
    site.acquire("a", "trunk", **place)
    site.acquire("b", "trunk", phase=Phase.ESTABLISHED)
    assert site.acquire("c", "trunk", **place).reason is Reason.RESERVED
    assert site.acquire("a", "trunk", port="x", channel="1").reason is Reason.ALREADY_HELD


def test_an_emergency_call_needs_no_instance_that_is_reserved(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"trunk": 1})
    reserve(site, "a", feature="trunk")
    assert site.acquire("sos", "trunk", dialed="112").reason is Reason.EMERGENCY
    assert site.acquire("sos 2", "trunk", call_class=CallClass.EMERGENCY).allowed
    assert site.acquire("b", "trunk").reason is Reason.RESERVED


def test_a_feature_without_reservations_is_decided_as_ever(phones: Site) -> None:
    reserve(phones, "201", 4)
    assert phones.acquire("a", "coder").reason is Reason.GRANTED


def test_explain_shows_the_reservation_that_stands_in_the_way(phones: Site) -> None:
    reserve(phones, "201", 4)
    explained = phones.enforcer.explain(phones.ask("a", "phone"), 1000, phones.now)
    assert isinstance(explained, tuple)
    decision, steps = explained
    assert decision.reason is Reason.RESERVED
    assert (steps[-1].step, steps[-1].passed) == ("instances", False)
    assert "4 are reserved for others" in steps[-1].finding


# Making and giving up


def test_a_reservation_needs_free_instances(phones: Site) -> None:
    phones.acquire("a", "phone")
    reserve(phones, "201")
    refused = reserve(phones, "202", 3)
    assert (refused.verdict, refused.accepted) == ("not_free", False)
    assert refused.message == "Of 4 instances of Phones, 1 are in use and 1 reserved; 3 more wanted."
    assert refused.remedy
    assert reserve(phones, "202", 2).accepted
    assert reserve(phones, "203").verdict == "not_free"


def test_a_key_may_reserve_what_it_holds_when_nothing_is_free(phones: Site) -> None:
    phones.acquire("201", Want("phone", 4))
    assert reserve(phones, "201", 4).accepted
    assert reserve(phones, "201", 5).verdict == "not_free"
    assert reserve(phones, "202").verdict == "not_free"


def test_a_second_reservation_for_a_key_replaces_the_first_and_keeps_its_turn(phones: Site) -> None:
    reserve(phones, "201")
    reserve(phones, "202")
    assert reserve(phones, "201", 3).accepted
    assert reserve(phones, "201", 3).verdict == "already_there"
    assert [(it.key, it.instances) for it in phones.enforcer.reservations] == [("201", 3), ("202", 1)]
    assert reserve(phones, "201", 4).verdict == "not_free"


@pytest.mark.parametrize(
    ("feature", "verdict"),
    [("moon", "unknown_feature"), ("recorder", "not_free"), ("edition", "not_limited")],
)
def test_what_nobody_can_take_cannot_be_reserved(phones: Site, feature: str, verdict: str) -> None:
    refused = reserve(phones, "201", feature=feature)
    assert (refused.verdict, refused.accepted, bool(refused.remedy)) == (verdict, False, True)


def test_so_many_keys_may_have_a_reservation_of_one_feature(phones: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_RESERVATIONS == 2_000
    monkeypatch.setattr(module, "MAX_RESERVATIONS", 2)
    reserve(phones, "201")
    reserve(phones, "202")
    assert reserve(phones, "203").verdict == "too_many"
    assert reserve(phones, "202", 2).accepted
    assert reserve(phones, "203", feature="coder").accepted


def test_so_many_reservations_may_be_made_in_all(phones: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_RESERVATIONS_IN_ALL == 5 * MAX_RESERVATIONS == 10_000
    monkeypatch.setattr(module, "MAX_RESERVATIONS_IN_ALL", 2)
    reserve(phones, "201")
    reserve(phones, "201", feature="coder")
    refused = reserve(phones, "202", feature="coder")
    assert refused.verdict == "too_many"
    assert "1 reservations of Coders and 2 in all" in refused.message
    assert reserve(phones, "201", 2).accepted
    unreserve(phones, "201", feature="coder")
    assert reserve(phones, "202", feature="coder").accepted


def test_giving_a_reservation_up_frees_it_for_all_and_leaves_the_lease(phones: Site) -> None:
    reserve(phones, "201", 4)
    phones.acquire("201", "phone")
    assert unreserve(phones, "201").verdict == "removed"
    assert unreserve(phones, "201").verdict == "not_found"
    assert phones.in_use("phone") == 1
    assert phones.acquire("a", Want("phone", 3)).allowed


def test_a_key_that_a_terminal_would_not_show_is_refused() -> None:
    with pytest.raises(ValueError, match="`key` has printable characters only"):
        Reservation(feature="phone", key="a\x1b[2J")


# Limits that fall


def test_a_limit_below_the_reservations_cuts_nothing_and_is_shared_in_the_order_of_their_making(
    open_site: Callable[..., Site],
) -> None:
    site = open_site()
    site.bring(site.list_of(site.key("phone", 2), site.key("phone", 4, Term.TRIAL)))
    for key in ("201", "202", "203", "204"):
        reserve(site, key)
    site.acquire("202", "phone")
    site.wait(61 * 86400)
    assert site.enforcer.entitlements["phone"].limit == 2
    assert site.in_use("phone") == 1
    shares = site.enforcer.shares("phone")
    assert [shares.own("kamailio", key) for key in ("201", "202", "203", "204")] == [1, 0, 0, 0]
    assert site.acquire("203", "phone").reason is Reason.RESERVED
    assert site.acquire("201", "phone").allowed
    assert site.acquire("204", "phone").reason is Reason.LIMIT_REACHED
    site.release("202")
    assert site.acquire("204", "phone").reason is Reason.RESERVED
    assert site.acquire("202", "phone").allowed
    assert reserve(site, "201", 2).verdict == "not_free"


# Carried sums


class Unwalked(dict[str, Kept]):
    """What is kept, to be looked up and never gone through."""

    def __iter__(self) -> Any:
        pytest.fail("the reservations were walked")

    items = values = keys = __iter__


def test_a_decision_walks_neither_reservations_nor_holders_while_as_many_are_free(
    phones: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(phones, "201")
    reserve(phones, "202", holder="asterisk")
    aside = phones.enforcer.ledger.aside["phone"]
    aside.kept = Unwalked(aside.kept)
    monkeypatch.setattr(Ledger, "held", lambda *_: pytest.fail("the holders were walked"))
    assert phones.acquire("201", "phone").allowed
    assert phones.acquire("a", "phone").allowed
    assert phones.acquire("b", "phone", wait=True).allowed
    assert phones.acquire("c", "phone", wait=True).reason is Reason.RESERVED
    assert phones.acquire("202", "phone", holder="asterisk").allowed
    phones.release("201")
    assert phones.acquire("d", "phone").reason is Reason.RESERVED


def test_what_was_restored_before_or_after_counts_for_a_reservation(phones: Site) -> None:
    lease = Lease(holder="kamailio", key="201", uid=1000, scope=Scope.REGISTRATIONS, wants={"phone": 1}, granted=0.0)
    reserve(phones, "201", 2)
    phones.enforcer.restore([lease], phones.now)
    assert phones.enforcer.shares("phone").reserved == 1
    reserve(phones, "201", 3, holder="kamailio")
    assert phones.enforcer.shares("phone").reserved == 2
    reserve(phones, "201", 3, holder="asterisk")
    assert phones.enforcer.shares("phone").reserved == 3


FEATURES, HOLDERS, NAMES = ["phone", "trunk"], ["asterisk", "kamailio"], ["a", "b", "c", "d"]
RESERVED = st.builds(
    Reservation,
    feature=st.sampled_from(FEATURES),
    key=st.sampled_from(NAMES),
    holder=st.sampled_from([*HOLDERS, None]),
    instances=st.integers(1, 4),
)
LEASES = st.builds(
    Lease,
    holder=st.sampled_from(HOLDERS),
    key=st.sampled_from(NAMES),
    uid=st.just(1000),
    scope=st.just(Scope.REGISTRATIONS),
    wants=st.dictionaries(st.sampled_from(FEATURES), st.integers(1, 4), max_size=2),
    granted=st.just(0.0),
)


class CarriedSums(RuleBasedStateMachine):
    """The sums and shares of whatever happened against those of a ledger that is counted anew."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.reservations = Reservations()

    def adopt(self, reservations: Reservations) -> None:
        self.reservations = reservations
        self.ledger.aside = reservations.counted(self.ledger)

    @rule(lease=LEASES)
    def put(self, lease: Lease) -> None:
        self.ledger.put(lease)

    @rule(holder=st.sampled_from(HOLDERS), key=st.sampled_from(NAMES))
    def drop(self, holder: str, key: str) -> None:
        self.ledger.drop(holder, key)

    @rule(wanted=RESERVED)
    def reserve(self, wanted: Reservation) -> None:
        self.adopt(Reservations([*self.reservations, wanted]))

    @rule(feature=st.sampled_from(FEATURES), key=st.sampled_from(NAMES))
    def unreserve(self, feature: str, key: str) -> None:
        self.adopt(self.reservations.without(feature, key)[0])

    def unheld(self, it: Reservation, gone: tuple[Lease, ...] = ()) -> int:
        """What its key does not hold, counted by looking at each lease."""
        leases = [lease for lease in self.ledger if lease not in gone and it.is_for(lease.holder, lease.key)]
        return max(it.instances - sum(lease.wants.get(it.feature, 0) for lease in leases), 0)

    @invariant()
    def the_sums_are_those_of_the_leases(self) -> None:
        assert {*self.ledger.aside} == {it.feature for it in self.reservations}
        for feature, aside in self.ledger.aside.items():
            made = list(self.reservations.of(feature).values())
            assert [kept.reservation for kept in aside.kept.values()] == made
            assert [kept.unheld for kept in aside.kept.values()] == [self.unheld(it) for it in made]
            assert aside.unheld == sum(self.unheld(it) for it in made)
            assert aside.instances == sum(it.instances for it in made)

    @invariant()
    def the_shares_are_given_out_in_the_order_of_making(self) -> None:
        for feature in FEATURES:
            displaced = [tuple(self.ledger.of_holder(holder).values()) for holder in HOLDERS]
            for gone in ((), *displaced, *((it,) for it in self.ledger)):
                for free in (-1, 0, 1, 3, 6, 20):
                    self.shares_are_right(feature, free, gone)

    def shares_are_right(self, feature: str, free: int, gone: tuple[Lease, ...]) -> None:
        shares, left = self.reservations.shares(feature, free, self.ledger, gone), max(free, 0)
        for it in self.reservations.of(feature).values():
            share = min(self.unheld(it, gone), left)
            left -= share
            for holder in HOLDERS:
                assert shares.own(holder, it.key) == (share if it.is_for(holder, it.key) else 0)
        assert (shares.unreserved, shares.reserved) == (left, max(free, 0) - left)
        assert shares.own("kamailio", "nobody") == 0


CarriedSums.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestCarriedSums = CarriedSums.TestCase


def test_shares_of_a_feature_without_reservations_are_for_everybody() -> None:
    shares = Shares(3)
    assert (shares.unreserved, shares.reserved, shares.own("kamailio", "a")) == (3, 0, 0)
    shares = Shares(3, Aside([]))
    assert (shares.unreserved, shares.reserved) == (3, 0)


# Against a naive model


class Model:
    """4 phones, counted on fingers: who holds how many, and how many are reserved for whom."""

    LIMIT = 4

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.reserved: dict[str, int] = {}

    def kept(self, *, but: str) -> int:
        """What is kept for others."""
        return sum(max(count - self.held.get(key, 0), 0) for key, count in self.reserved.items() if key != but)

    def reserve(self, key: str, count: int) -> bool:
        more = max(count - self.held.get(key, 0), 0)
        was = max(self.reserved.get(key, 0) - self.held.get(key, 0), 0)
        fits = more <= was or sum(self.held.values()) + self.kept(but=key) + more <= self.LIMIT
        if fits:
            self.reserved[key] = count
        return fits

    def unreserve(self, key: str, _: int) -> bool:
        return self.reserved.pop(key, None) is not None

    def acquire(self, key: str, count: int) -> bool:
        others = sum(held for other, held in self.held.items() if other != key)
        more = count > self.held.get(key, 0)
        fits = not more or others + count + self.kept(but=key) <= self.LIMIT
        if fits:
            self.held[key] = count
        return fits

    def release(self, key: str, _: int) -> bool:
        return self.held.pop(key, None) is not None


ACTS: dict[str, Callable[[Site, str, int], bool]] = {
    "reserve": lambda site, key, count: reserve(site, key, count).accepted,
    "unreserve": lambda site, key, _: unreserve(site, key).accepted,
    "acquire": lambda site, key, count: site.acquire(key, Want("phone", count)).allowed,
    "release": lambda site, key, _: site.release(key),
}
KEYS = ["201", "202", "203"]
STORIES = st.lists(st.tuples(st.sampled_from(list(ACTS)), st.sampled_from(KEYS), st.integers(1, 3)), max_size=25)


@settings(max_examples=200, deadline=None)
@given(STORIES)
def test_no_story_takes_more_than_the_limit_and_every_answer_is_that_of_the_naive_model(
    open_site: Callable[..., Site], story: list[tuple[str, str, int]]
) -> None:
    site, model = open_site(licensed={"phone": Model.LIMIT}), Model()
    for act, key, count in story:
        assert ACTS[act](site, key, count) is getattr(model, act)(key, count), (act, key, count)
        assert site.in_use("phone") == sum(model.held.values()) <= Model.LIMIT


@settings(max_examples=100, deadline=None)
@given(STORIES)
def test_a_reserved_key_always_gets_its_instances_while_the_limit_stands(
    open_site: Callable[..., Site], story: list[tuple[str, str, int]]
) -> None:
    site = open_site(licensed={"phone": Model.LIMIT})
    for act, key, count in story:
        ACTS[act](site, key, count)
    for reservation in list(site.enforcer.reservations):
        assert site.acquire(reservation.key, Want("phone", reservation.instances)).allowed


@settings(max_examples=100, deadline=None)
@given(STORIES, st.sampled_from(KEYS), st.sampled_from(KEYS), st.integers(1, 4))
def test_giving_a_reservation_up_and_making_it_again_changes_nothing(
    open_site: Callable[..., Site], story: list[tuple[str, str, int]], again: str, asking: str, count: int
) -> None:
    site = open_site(licensed={"phone": Model.LIMIT})
    for act, key, number in story:
        ACTS[act](site, key, number)
    there = site.enforcer.reservations.of("phone").get(again)
    before = site.enforcer.explain(site.ask(asking, Want("phone", count)), 1000, site.now)
    if there is not None:
        assert unreserve(site, again).accepted
        assert reserve(site, again, there.instances).accepted
    assert site.enforcer.explain(site.ask(asking, Want("phone", count)), 1000, site.now) == before
