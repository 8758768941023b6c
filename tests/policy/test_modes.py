"""Consumption modes: what is taken when, and that presence is looked at and never taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from featurekeyd.policy.catalog import SCOPE_OF_MODE, Mode, Scope
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import SyncLease, Want

if TYPE_CHECKING:
    from tests.policy.conftest import Site

Open = Callable[..., "Site"]


@pytest.fixture
def entitled(open_site: Open) -> Site:
    """A site with the edition, which is of mode presence, 8 trunks and a phone."""
    return open_site(licensed={"edition": 1, "trunk": 8, "phone": 1, "tenant": 2})


def test_every_mode_has_the_scope_in_which_it_is_synchronized() -> None:
    assert SCOPE_OF_MODE == {
        Mode.PRESENCE: Scope.CONFIGURATION,
        Mode.CONFIGURATION: Scope.CONFIGURATION,
        Mode.REGISTRATION: Scope.REGISTRATIONS,
        Mode.LOGIN: Scope.REGISTRATIONS,
        Mode.USE: Scope.CALLS,
    }


@pytest.mark.parametrize(
    ("feature", "scope"), [("trunk", "calls"), ("phone", "registrations"), ("tenant", "configuration")]
)
def test_a_lease_belongs_to_the_scope_of_its_feature(feature: str, scope: str, entitled: Site) -> None:
    entitled.acquire("a", feature)
    (lease,) = entitled.enforcer.ledger
    assert lease.scope == scope


def test_everybody_may_ask_for_a_presence_and_nobody_takes_it(entitled: Site) -> None:
    for key in ("a", "b", "b"):
        decision = entitled.acquire(key, "edition")
        assert (decision.allowed, decision.reason) == (True, Reason.GRANTED)
        assert (decision.feature, decision.limit, decision.in_use) == ("edition", 1, 0)
    assert len(entitled.enforcer.ledger) == 0
    assert not entitled.release("a")


def test_a_presence_that_is_not_licensed_is_denied_by_name(site: Site) -> None:
    decision = site.acquire("a", "edition")
    assert (decision.allowed, decision.reason, decision.feature) == (False, Reason.NOT_LICENSED, "edition")
    assert site.acquire("a", "trunk", "edition").feature == "edition"
    assert site.in_use("trunk") == 0


def test_more_of_a_presence_than_is_licensed_is_denied(entitled: Site) -> None:
    assert entitled.acquire("a", Want("edition", 2)).reason is Reason.LIMIT_REACHED


def test_a_presence_beside_what_is_taken_is_remembered_and_not_counted(entitled: Site) -> None:
    assert entitled.acquire("a", "edition", "trunk").reason is Reason.GRANTED
    assert entitled.acquire("b", "edition", "trunk").reason is Reason.GRANTED
    assert (entitled.in_use("edition"), entitled.in_use("trunk")) == (0, 2)
    assert {lease.scope for lease in entitled.enforcer.ledger} == {Scope.CALLS}
    assert entitled.acquire("a", "edition", "trunk", phase="setup").reason is Reason.ALREADY_HELD


def test_a_call_goes_on_when_the_presence_that_it_asked_for_is_licensed_no_more(entitled: Site) -> None:
    entitled.acquire("a", "edition", "trunk")
    entitled.bring(entitled.list_of(entitled.key("trunk", 8)))
    assert entitled.acquire("a", "edition", "trunk").reason is Reason.ALREADY_HELD
    assert entitled.acquire("b", "edition", "trunk").reason is Reason.NOT_LICENSED
    entitled.acquire("c", "trunk")
    assert entitled.acquire("c", "edition", "trunk").reason is Reason.NOT_LICENSED, "it was not asked for before"


def test_set_up_stays_set_up_beside_a_presence(entitled: Site) -> None:
    entitled.acquire("a", "trunk", "edition")
    entitled.acquire("a", "trunk", "edition")
    assert entitled.in_use("coder") == 1


def test_a_presence_alone_gives_back_what_the_key_held(entitled: Site) -> None:
    entitled.acquire("a", "trunk")
    assert entitled.acquire("a", "edition").allowed
    assert (entitled.in_use("trunk"), len(entitled.enforcer.ledger)) == (0, 0)


def test_a_presence_is_answered_however_full_the_port_and_the_ledger_are(open_site: Open) -> None:
    site = open_site(licensed={"edition": 1, "trunk": 8}, ceilings={"carrier": 1}, max_leases=1)
    site.acquire("a", "trunk", port="carrier")
    assert site.acquire("b", "edition", port="carrier").allowed
    assert site.acquire("c", "trunk").reason is Reason.TOO_MANY_LEASES


def test_an_emergency_call_that_names_a_presence_keeps_the_limit_of_leases(open_site: Open) -> None:
    site = open_site(licensed={"edition": 1}, max_leases=1)
    for key in ("a", "b"):
        assert site.acquire(key, "edition", dialed="112").reason is Reason.EMERGENCY
    assert len(site.enforcer.ledger) == 1


def test_a_list_that_names_a_presence_counts_none(entitled: Site) -> None:
    listed = SyncLease(key="a", wants=(Want("trunk"), Want("edition")))
    assert entitled.sync(listed).adopted == 1
    assert (entitled.in_use("edition"), entitled.in_use("trunk")) == (0, 1)
    assert entitled.sync(listed).changed == 0
    assert entitled.acquire("a", "trunk", "edition").reason is Reason.ALREADY_HELD
