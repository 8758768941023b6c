"""Holder names: whose they are, how many there are, and what silence means."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TYPE_CHECKING

from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.enforcer import NotYours
from featurekeyd.policy.events import EventName
from featurekeyd.policy.holders import MAX_HOLDERS, MAX_HOLDERS_OF_USER, Holders, Known
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, SyncLease
from featurekeyd.policy.restoring import ADOPTION_SECONDS
from featurekeyd.policy.synchronize import SLICE_ADOPTED, Syncing

if TYPE_CHECKING:
    from tests.policy.conftest import Site


def test_a_name_belongs_to_the_first_user_that_used_it() -> None:
    holders = Holders({})
    assert holders.owner("pbx") is None
    assert holders.hear("pbx", 1000, 1.0) is not None
    assert holders.hear("pbx", 1001, 2.0) is None
    holder = holders.find("pbx")
    assert holder is not None
    assert (holder.uid, holder.heard, holders.owner("pbx")) == (1000, 1.0, 1000)


def test_a_name_in_the_settings_belongs_to_that_user_from_the_start() -> None:
    holders = Holders({"pbx": 1000})
    assert holders.hear("pbx", 1001, 1.0) is None
    assert len(holders) == 0
    assert holders.owner("pbx") == 1000
    assert holders.hear("pbx", 1000, 2.0) is not None


def test_root_is_a_user_like_any_other() -> None:
    holders = Holders({"pbx": 0})
    assert holders.hear("pbx", 1000, 1.0) is None
    assert holders.hear("pbx", 0, 1.0) is not None
    holders.hear("other", 0, 1.0)
    assert holders.hear("other", 1000, 1.0) is None


def test_each_sign_of_life_is_noted_and_nothing_else_of_the_holder_changes() -> None:
    holders = Holders({})
    holder = holders.hear("pbx", 1000, 1.0)
    assert holder is not None
    holder.drift, holder.ttls = 3, {Scope.CALLS: 30.0}
    assert holders.hear("pbx", 1000, 5.0) is holder
    assert (holder.heard, holder.drift, holder.ttls) == (5.0, 3, {Scope.CALLS: 30.0})


def test_only_scopes_with_a_ttl_fall_silent_and_only_after_it() -> None:
    holders = Holders({})
    holder = holders.hear("pbx", 1000, 100.0)
    holders.hear("other", 1000, 0.0)
    assert holder is not None
    holder.ttls = {Scope.CALLS: 30.0, Scope.REGISTRATIONS: 60.0}
    assert holders.silent(130.0) == []
    assert holders.silent(130.1) == [(holder, Scope.CALLS)]
    assert holders.silent(160.1) == [(holder, Scope.CALLS), (holder, Scope.REGISTRATIONS)]
    holders.restart_silence(160.1)
    assert holders.silent(190.1) == []


# Through the Enforcer


def test_another_user_may_do_nothing_under_a_name_and_the_leases_stay(site: Site) -> None:
    site.acquire("a", "trunk")
    enforcer = site.enforcer
    assert enforcer.acquire(site.ask("a", "trunk"), 1001, site.now) == NotYours("kamailio")
    assert enforcer.release("kamailio", "a", 1001, site.now) == NotYours("kamailio")
    assert enforcer.synchronize(site.listing(), 1001, site.now) == NotYours("kamailio")
    assert site.in_use("trunk") == 1


def test_an_emergency_under_another_users_name_is_granted_and_leaves_that_users_leases_alone(site: Site) -> None:
    site.acquire("a", "trunk", port="x", channel="1")
    changes = len(site.enforcer.ledger.changes)
    site.told()
    request = site.ask("a", dialed="112", port="x", channel="1")
    granted = site.enforcer.acquire(request, 1001, site.now)
    assert granted == Decision(allowed=True, reason=Reason.EMERGENCY)
    assert len(site.enforcer.ledger.changes) == changes
    assert site.in_use("trunk") == 1
    assert site.told() == [EventName.EMERGENCY_CALL]
    assert site.enforcer.emergencies_total == 1
    assert site.acquire("b", "trunk", call_class=CallClass.CALLBACK).reason is Reason.GRANTED


def test_after_16_names_of_a_user_the_idle_one_that_was_silent_longest_makes_room(site: Site) -> None:
    assert MAX_HOLDERS_OF_USER == 16
    site.acquire("call", "trunk", holder="busy")
    for number in range(MAX_HOLDERS_OF_USER - 1):
        site.boot += 1
        site.sync(holder=f"idle {number}")
    holders = site.enforcer.holders
    assert len(holders) == 16
    site.sync(holder="one more")
    assert len(holders) == 16
    assert holders.find("busy") is not None
    assert holders.find("idle 0") is None
    assert holders.find("idle 1") is not None
    site.sync(holder="one more")
    assert holders.find("idle 1") is not None


def test_a_name_is_kept_while_a_list_of_it_is_worked_through(site: Site) -> None:
    site.acquire("call", "trunk", holder="listing")
    for number in range(MAX_HOLDERS_OF_USER - 1):
        site.boot += 1
        site.sync("call", holder=f"busy {number}")
    calls = [f"call {number}" for number in range(2 * SLICE_ADOPTED)]
    syncing = site.enforcer.begin_sync(site.listing(*calls, holder="listing"), 1000, site.now)
    assert isinstance(syncing, Syncing)
    site.release("call", holder="listing")
    wanted = site.ask("a", "trunk", holder="newcomer")
    assert site.enforcer.acquire(wanted, 1000, site.now) == NotYours("newcomer")
    syncing.finish()
    assert site.enforcer.holders.owner("listing") == 1000
    assert len(site.enforcer.ledger.of_holder("listing")) == 2 * SLICE_ADOPTED


def test_a_lease_under_a_name_that_is_nobodys_is_given_back_by_its_own_user_alone(site: Site) -> None:
    site.acquire("a", "trunk")
    site.enforcer.holders.forget("kamailio")
    assert site.enforcer.release("kamailio", "a", 1001, site.now) == NotYours("kamailio")
    assert site.in_use("trunk") == 1
    assert site.release("a")


def test_a_name_that_is_not_ones_own_makes_nobody_leave(open_site: Callable[..., Site]) -> None:
    site = open_site(owners={"asterisk": 1000})
    for number in range(MAX_HOLDERS_OF_USER):
        site.sync(holder=f"idle {number}", uid=1001)
    refused = site.enforcer.acquire(site.ask("a", "trunk", holder="asterisk"), 1001, site.now)
    assert refused == NotYours("asterisk")
    assert site.enforcer.holders.find("idle 0") is not None


def test_a_user_pushes_no_other_users_names_out(site: Site) -> None:
    site.sync(holder="asterisk", uid=1000)
    for uid in range(1001, 1001 + MAX_HOLDERS // MAX_HOLDERS_OF_USER + 1):
        for number in range(2 * MAX_HOLDERS_OF_USER):
            site.boot += 1
            site.enforcer.acquire(site.ask("a", "trunk", holder=f"{uid} {number}"), uid, site.now)
    assert len(site.enforcer.holders) == MAX_HOLDERS
    assert site.enforcer.release("asterisk", "a", 1001, site.now) == NotYours("asterisk")


def test_when_every_name_is_busy_a_new_one_is_refused_but_not_its_emergency_call(
    open_site: Callable[..., Site],
) -> None:
    site = open_site(owners={"asterisk": 1000})
    for number in range(MAX_HOLDERS_OF_USER):
        site.acquire("sos", dialed="112", holder=f"busy {number}", uid=1000)
    wanted = site.ask("a", "trunk", holder="one more")
    assert site.enforcer.acquire(wanted, 1000, site.now) == NotYours("one more")
    assert site.acquire("sos", dialed="112", holder="one more", uid=1000).reason is Reason.EMERGENCY
    assert len(site.enforcer.holders) == MAX_HOLDERS_OF_USER
    assert site.acquire("a", "coder", holder="asterisk", uid=1000).allowed  # a name of the settings finds room


def test_giving_back_what_nobody_holds_makes_no_name_ones_own(site: Site) -> None:
    assert site.enforcer.release("asterisk", "a", 1001, site.now) is False
    assert len(site.enforcer.holders) == 0
    assert site.acquire("a", "trunk", holder="asterisk", uid=1000).reason is Reason.GRANTED


def test_what_another_users_name_would_be_answered_is_not_explained(site: Site) -> None:
    site.acquire("a", "trunk", holder="asterisk", uid=1000)
    assert site.enforcer.explain(site.ask("b", "trunk", holder="asterisk"), 1001, site.now) == NotYours("asterisk")


def test_a_callback_is_granted_after_a_restart_too(site: Site) -> None:
    site.acquire("sos", dialed="112")
    later = site.restarted()
    later.enforcer.restore(list(site.enforcer.ledger), later.now)
    assert later.acquire("back", "trunk", call_class=CallClass.CALLBACK).reason is Reason.EMERGENCY_CALLBACK


def test_leases_bound_to_a_connection_do_not_outlive_the_daemon_that_had_it(site: Site) -> None:
    site.acquire("stays", "trunk")
    site.acquire("goes", "trunk", bound=1)
    later = site.restarted()
    later.enforcer.restore(list(site.enforcer.ledger), later.now)
    assert [lease.key for lease in later.enforcer.ledger] == ["stays"]
    assert later.enforcer.ledger.bound_to(1) == []


def test_a_name_in_the_settings_never_becomes_another_users(open_site: Callable[..., Site]) -> None:
    site = open_site(owners={"asterisk": 1000})
    site.sync(holder="asterisk", uid=1000)
    for number in range(MAX_HOLDERS):
        site.boot += 1
        site.sync(holder=f"idle {number}", uid=1001)
    assert site.enforcer.release("asterisk", "a", 1001, site.now) == NotYours("asterisk")


def test_nothing_piles_up_for_names_that_are_gone(site: Site) -> None:
    for number in range(3 * MAX_HOLDERS_OF_USER):
        site.boot += 1
        name = f"caller {number}"
        site.acquire("sos", dialed="112", holder=name)
        site.acquire("sos", dialed="112", holder=name)
        site.release("sos", holder=name)
        site.sync(holder=name, generation=1, part=1, last=False)
    enforcer = site.enforcer
    lists, lately = enforcer._rounds, enforcer.lately
    kept: list[Sized] = [enforcer.holders, lists._open, lists._newest, lately._given_back, lately._asked_again]
    assert [len(each) for each in kept] == [MAX_HOLDERS_OF_USER] * 5


def test_restored_leases_keep_their_holders_names(site: Site) -> None:
    site.acquire("a", "trunk")
    later = site.restarted()
    later.enforcer.restore(list(site.enforcer.ledger), later.now)
    assert later.enforcer.ledger.changes == []
    assert later.enforcer.release("kamailio", "a", 1001, later.now) == NotYours("kamailio")
    assert later.release("a")


def test_a_lease_of_before_the_last_boot_was_not_granted_in_the_future(site: Site) -> None:
    site.acquire("a", "trunk")
    later = site.restarted()
    later.boot = 60.0
    later.enforcer.restore(list(site.enforcer.ledger), later.now)
    (lease,) = list[Lease](later.enforcer.ledger)
    assert lease.granted == 60.0


def known(site: Site) -> dict[str, Known]:
    """What a file that the changes were appended to knows of the holders."""
    found: dict[str, Known] = {}
    for change in site.enforcer.ledger.changes:
        if isinstance(change, Known):
            found.pop(change.name, None)
            if not change.gone:
                found[change.name] = change
    return found


def test_what_a_restart_shall_not_forget_of_a_holder_is_noted_when_it_changes(site: Site) -> None:
    site.acquire("a", "trunk")
    assert known(site) == {"kamailio": Known(name="kamailio", uid=1000)}
    site.sync(ttl_seconds=60)
    assert known(site) == {"kamailio": Known(name="kamailio", uid=1000, ttls={Scope.CALLS: 60.0})}
    count = len(site.enforcer.ledger.changes)
    site.sync(ttl_seconds=60)
    assert len(site.enforcer.ledger.changes) == count, "nothing is noted twice"


def test_a_holder_of_before_a_restart_falls_silent_after_its_ttl_counted_from_the_restart(site: Site) -> None:
    site.acquire("a", "trunk")
    site.sync("a", ttl_seconds=60)
    later = site.restarted()
    later.boot = site.boot + 1000
    later.enforcer.restore(list(site.enforcer.ledger), later.now, site.enforcer.holders.known())
    later.boot += 60
    later.enforcer.tick(later.now)
    assert len(later.enforcer.ledger) == 1
    later.boot += 1
    later.enforcer.tick(later.now)
    assert len(later.enforcer.ledger) == 0


def callback(site: Site) -> Reason:
    return site.acquire("back", "trunk", call_class=CallClass.CALLBACK).reason


def test_the_right_to_a_callback_outlives_a_restart_after_the_emergency_call_has_ended(site: Site) -> None:
    site.acquire("sos", dialed="112")
    site.release("sos")
    later = site.restarted()
    later.boot += 1800
    later.enforcer.restore([], later.now, list(known(site).values()))
    assert callback(later) is Reason.EMERGENCY_CALLBACK
    later.release("back")
    later.boot += 1
    assert callback(later) is Reason.GRANTED


def test_a_restart_takes_the_newest_emergency_call_for_the_last_one(site: Site) -> None:
    site.acquire("newer", dialed="112")
    site.boot += 1000
    site.acquire("newest", dialed="112")
    leases = list(site.enforcer.ledger)
    later = site.restarted()
    later.boot += 1000
    later.enforcer.restore(leases[::-1], later.now)
    assert callback(later) is Reason.EMERGENCY_CALLBACK


def test_an_emergency_call_that_only_a_list_knows_gives_the_right_to_a_callback(site: Site) -> None:
    site.sync(SyncLease(key="sos", wants=(), call_class=CallClass.EMERGENCY))
    assert known(site)["kamailio"].last_emergency == site.boot
    assert callback(site) is Reason.EMERGENCY_CALLBACK


def test_who_takes_over_has_the_right_to_a_callback_too(site: Site) -> None:
    site.acquire("sos", dialed="112", holder="old")
    site.release("sos", holder="old")
    site.sync(takes_over="old")
    assert callback(site) is Reason.EMERGENCY_CALLBACK


def test_a_restart_does_not_remember_the_terms_of_a_scope_that_fell_silent(site: Site) -> None:
    site.sync("a", ttl_seconds=60)
    site.wait(61)
    assert known(site) == {"kamailio": Known(name="kamailio", uid=1000)}


def test_after_a_restart_earlier_holders_without_leases_keep_their_names_for_a_while(site: Site) -> None:
    for number in range(MAX_HOLDERS_OF_USER):
        site.sync(holder=f"before {number}")
    later = site.restarted()
    later.enforcer.restore([], later.now, site.enforcer.holders.known())

    def finds_room(name: str) -> bool:
        return isinstance(later.enforcer.acquire(later.ask("a", "trunk", holder=name), 1000, later.now), Decision)

    assert not finds_room("newcomer")
    later.boot += ADOPTION_SECONDS
    later.sync(holder="before 0")
    assert finds_room("newcomer")
    assert later.enforcer.holders.find("before 0") is None, "it has come back, and has nothing"
    assert not finds_room("another")
    later.boot += 1
    assert finds_room("another")
    assert Known(name="before 1", uid=1000, gone=True) in later.enforcer.ledger.changes


def test_a_gap_in_which_the_daemon_did_not_read_ends_no_waiting_for_earlier_holders(site: Site) -> None:
    for number in range(MAX_HOLDERS_OF_USER):
        site.sync(holder=f"before {number}")
    later = site.restarted()
    later.enforcer.restore([], later.now, site.enforcer.holders.known())
    later.boot += 10
    later.sync(holder="before 0")
    for _ in range(2):
        later.boot += 5
        later.enforcer.restart_silence(later.now)
    newcomer = later.ask("a", "trunk", holder="newcomer")
    later.boot += 1
    assert isinstance(later.enforcer.acquire(newcomer, 1000, later.now), Decision)
    assert later.enforcer.holders.find("before 0") is None, "it had come back, and had nothing"
    another = later.ask("a", "trunk", holder="another")
    assert later.enforcer.acquire(another, 1000, later.now) == NotYours("another")
    later.boot += ADOPTION_SECONDS
    assert isinstance(later.enforcer.acquire(another, 1000, later.now), Decision)


def test_a_name_that_the_settings_gave_to_another_user_since_is_that_users(open_site: Callable[..., Site]) -> None:
    site = open_site(owners={"asterisk": 1001})
    site.enforcer.restore([], site.now, [Known(name="asterisk", uid=1000, ttls={Scope.CALLS: 60.0})])
    assert site.enforcer.holders.find("asterisk") is None
