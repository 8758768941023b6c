"""Trust joined with the daemon: looks and checks in their time, and what outlives a restart."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.daemon import trusting
from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.store import Documents
from featurekeyd.daemon.storing import Storing
from featurekeyd.daemon.trusting import (
    CHECK_SECONDS,
    HOST_SECONDS,
    RETRY_SECONDS,
    find_troubles,
    host_root,
    kept_of,
    read_answer,
)
from featurekeyd.hwio.simulated_host import SimulatedHost, write_simulated_host
from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.checkevidence import KIND, CheckEvidence, check_body, read_check
from featurekeyd.policy.events import EventName
from featurekeyd.policy.localcheck import CheckItem
from featurekeyd.policy.presence import Debounce
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from tests.daemon.conftest import House, Vendor

HOURS = 3600.0
OTHER_BOARD = msgspec.structs.replace(
    SimulatedHost(), product_uuid="11111111-2222-3333-4444-555555555555", product_serial="X", board_serial="Y"
)


def tick(house: House, seconds: float = 0.0) -> None:
    """Let time pass and a tick come, and wait until all is done that it began."""
    house.clock.run(seconds)
    house.site._due = house.site._reported = house.clock().boot  # neither the loop nor the reader hangs
    house.site._tick()
    house.wait()


def begun(house: House) -> House:
    house.site.trusting.begin()
    tick(house)
    return house


def answer_of(vendor: Vendor, **fields: Any) -> str:
    """A signed answer to a check, good for ten days."""
    checked = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)
    shipped = {"serial": "110123456789", "catalog": "exchange", "number": 1, "nonce": "0" * 32}
    times = {"checked": checked, "until": checked + datetime.timedelta(days=10)}
    return vendor.sealed(KIND, check_body(CheckEvidence(**{**shipped, **times, **fields})))


# In their time


def test_nothing_is_looked_at_before_the_site_begins(bound: House) -> None:
    tick(bound)
    assert (bound.site.trusting.evidence, bound.enforcer.trust.check) == (None, None)


def test_soon_after_the_start_the_host_is_enrolled_and_checked(bound: House) -> None:
    begun(bound)
    trust = bound.enforcer.trust
    assert trust.kept.enrolled is not None
    assert trust.host is not None
    assert trust.check is not None
    assert bound.log.one(EventName.HOST_ENROLLED).fields["HOST"] == trust.kept.enrolled.digest


def test_the_host_is_looked_at_every_minute(bound: House) -> None:
    begun(bound)
    write_simulated_host(bound.place / "host", OTHER_BOARD)
    tick(bound, HOST_SECONDS - 1)
    assert EventName.HOST_CHANGED not in bound.log.names()
    tick(bound, 1)
    assert EventName.HOST_CHANGED in bound.log.names()
    assert bound.enforcer.standing is Standing.GRACE


def test_a_check_is_made_at_the_start_and_then_every_three_hours(bound: House) -> None:
    begun(bound)
    first = bound.site.trusting.checked
    tick(bound, 3 * HOURS - 1)
    assert bound.site.trusting.checked == first
    tick(bound, 1)
    assert bound.site.trusting.checked == bound.clock().boot


def test_without_a_certificate_nothing_is_checked_in_time(house: House) -> None:
    house.site.trusting._root = house.place
    begun(house)
    assert house.enforcer.trust.check is None


def test_a_check_that_failed_is_made_again_as_soon_as_it_may_pass(bound: House) -> None:
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    begun(bound)
    failed = bound.site.trusting.checked
    tick(bound, 60)
    assert bound.site.trusting.checked == failed, "nothing is another than it was"
    bound.enforcer.see(bound.seen(), bound.clock())
    tick(bound)
    assert bound.site.trusting.checked == bound.clock().boot
    check = bound.enforcer.trust.check
    assert check is not None
    assert check.failed == (CheckItem.EVIDENCE,)


def test_a_check_in_time_waits_while_the_key_is_in_doubt(bound: House) -> None:
    bound.enforcer.presence._debounce = Debounce(3, 10.0)
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    begun(bound)
    assert bound.enforcer.trust.check is None
    bound.enforcer.see(bound.seen(), bound.clock())
    tick(bound)
    assert bound.enforcer.trust.check is not None


def test_a_check_on_demand_in_doubt_says_that_the_key_is_missed_and_counts_for_nothing(bound: House) -> None:
    bound.enforcer.presence._debounce = Debounce(3, 10.0)
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    found = bound.loop.run_until_complete(bound.site.trusting.check())
    assert CheckItem.FEATURE_KEY in found.failed
    assert bound.enforcer.trust.check is None


def test_a_check_on_demand_in_doubt_says_all_that_it_finds(bound: House) -> None:
    begun(bound)
    bound.enforcer.presence._debounce = Debounce(3, 10.0)
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    write_simulated_host(bound.place / "host", OTHER_BOARD)
    before = bound.enforcer.trust.check
    trust = bound.enforcer.trust
    trust.kept = msgspec.structs.replace(trust.kept, tamperings=1)
    found = bound.loop.run_until_complete(bound.site.trusting.check())
    everything = {CheckItem.FEATURE_KEY, CheckItem.ANSWER, CheckItem.HOST, CheckItem.STATE, CheckItem.EVIDENCE}
    assert set(found.failed) >= everything - {CheckItem.ANSWER}
    assert trust.check is before


def test_a_check_before_there_is_a_certificate_calls_nothing_good_that_is_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> None:
        """There is no reader to wait for."""

    trust = house.enforcer.trust
    trust.kept = msgspec.structs.replace(trust.kept, tamperings=1)
    house.site.trusting._root = house.place
    monkeypatch.setattr(house.site.trusting, "_look", nothing)
    house.clock.wall -= 3 * 86_400
    found = house.loop.run_until_complete(house.site.trusting.check())
    assert {CheckItem.FEATURE_KEY, CheckItem.STATE} <= set(found.failed)
    assert {it.item for it in found.findings if it.warning} == {CheckItem.HOST, CheckItem.DATES}
    assert trust.check is None


def test_a_look_that_fails_is_told_and_the_next_one_comes(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(trusting, "read_evidence", broken)
        begun(bound)
    told = {event.message for event in bound.log.events if event.name is EventName.UNEXPECTED}
    kind = "Unexpected ZeroDivisionError"
    assert told == {f"{kind} while looking at the host.", f"{kind} in a check."}
    tick(bound, HOST_SECONDS)
    assert bound.site.trusting.evidence is not None


def answered_house(house: House) -> House:
    """A system whose check has just passed, with the vendor's answer for a month."""
    house.enforcer.trust.answer = read_check(answer_of(house.vendor), house.vendor.keys)
    begun(house)
    assert house.enforcer.standing is Standing.LICENSED
    return house


def test_a_check_that_always_ends_by_accident_costs_what_one_that_fails_does(
    bound: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_house(bound)

    def exhausted(_: Path) -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(trusting, "read_evidence", exhausted)
        tick(bound, 3 * HOURS)
        assert bound.site.trusting.facts.check_failing, "also after a restart"
        assert bound.enforcer.trust.check_passed is False
        assert bound.enforcer.meters[Cause.NO_CHECK].active
        assert "OSError" in bound.log.one(EventName.CHECK_FAILED).message
    tick(bound, RETRY_SECONDS - 1)
    assert bound.enforcer.standing is Standing.GRACE
    tick(bound, 1)
    assert (bound.enforcer.standing, bound.enforcer.meters[Cause.NO_CHECK].drained) == (Standing.LICENSED, 0)
    assert bound.enforcer.trust.check_passed


def test_a_check_that_never_comes_to_its_end_counts_as_failed(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    answered_house(bound)
    site = bound.site
    stuck = asyncio.Event()
    monkeypatch.setattr(site.trusting, "_look", stuck.wait)
    for seconds in (3 * HOURS, CHECK_SECONDS):
        bound.clock.run(seconds)
        site.trusting.tick(bound.clock())
        bound.loop.turn(3)
        assert not site.trusting.facts.check_failing
    bound.clock.run(1)
    site.trusting.tick(bound.clock())
    assert site.trusting.facts.check_failing
    assert bound.enforcer.meters[Cause.NO_CHECK].active
    bound.clock.run(RETRY_SECONDS)
    site.trusting.tick(bound.clock())
    stuck.set()
    bound.wait()
    assert bound.enforcer.standing is Standing.LICENSED


def test_after_the_end_nothing_is_begun(bound: House) -> None:
    bound.site.trusting.begin()
    bound.site._tick()
    assert bound.site.trusting._tasks
    bound.site.trusting.close()
    bound.loop.turn(3)
    assert not bound.site.trusting._tasks
    tick(bound, 4 * HOURS)
    assert bound.enforcer.trust.check is None


# What outlives a restart


def test_what_is_known_is_stored_and_begun_with(bound: House) -> None:
    begun(bound)
    bound.enforcer.trust.note_claims(2)
    bound.site.keep_drained()
    stored, damaged = bound.loop.run_until_complete(bound.storing.ask(lambda store: store.load_facts()))
    assert damaged == []
    kept = bound.enforcer.trust.kept
    assert (stored.host, stored.emergency_claims, stored.check_failing) == (kept.enrolled, 2, True)
    assert kept_of(stored, kept) == kept


def test_what_lasts_is_stored_with_what_drained(bound: House) -> None:
    begun(bound)
    bound.site.keep_drained()
    stored, _ = bound.loop.run_until_complete(bound.storing.ask(lambda store: store.load_facts()))
    assert stored.lasting == ("no_check",)


def test_a_tick_does_not_undo_what_is_being_stored_first(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    site, storing = bound.site, bound.storing
    meanwhile: list[Facts] = []
    save = Storing.save_facts

    async def slowly(self: Storing, facts: Facts) -> None:
        meanwhile.append(site.trusting.facts)
        await save(self, facts)

    monkeypatch.setattr(Storing, "save_facts", slowly)
    bound.loop.run_until_complete(site.trusting.keep_first(nonces=("1" * 32,)))
    assert [it.nonces for it in meanwhile] == [("1" * 32,)]
    assert site.trusting.facts.nonces == (), "it counts only when somebody says so"
    assert bound.loop.run_until_complete(storing.ask(lambda store: store.load_facts()))[0].nonces == ("1" * 32,)


def test_what_cannot_be_stored_first_is_forgotten(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Facts) -> None:
        raise sqlite3.OperationalError("full")

    monkeypatch.setattr(bound.store, "save_facts", full)
    with pytest.raises(sqlite3.OperationalError):
        bound.loop.run_until_complete(bound.site.trusting.keep_first(nonces=("1" * 32,)))
    assert bound.site.trusting.facts.nonces == ()


def test_emergency_claims_are_counted_once(bound: House) -> None:
    bound.enforcer.account.emergency_claims = 3
    for _ in range(2):
        tick(bound)
    assert bound.enforcer.trust.kept.claims == 3


def test_emergency_claims_of_the_last_seconds_are_stored_at_the_end(bound: House) -> None:
    bound.enforcer.account.emergency_claims = 3
    bound.site.trusting.close()
    stored, _ = bound.loop.run_until_complete(bound.storing.ask(lambda store: store.load_facts()))
    assert stored.emergency_claims == 3


# What a check finds beside the key


def test_a_stored_document_that_was_edited_fails_a_check(bound: House) -> None:
    bound.site.documents = Documents(certificate=bound.vendor.certificate().replace("exchange", "exchanged"))
    found = bound.loop.run_until_complete(bound.site.trusting.check())
    assert CheckItem.SIGNATURES in found.failed


def test_good_documents_and_an_untouched_state_are_no_trouble(vendor: Vendor) -> None:
    documents = Documents(certificate=vendor.certificate(), license_list=vendor.list_of(vendor.key()))
    assert find_troubles(documents, vendor.keys, "exchange") == {}
    assert set(find_troubles(documents, vendor.keys, "other")) == {CheckItem.SIGNATURES}


def test_a_stored_answer_is_verified_again(vendor: Vendor) -> None:
    assert read_answer(None, vendor.keys) == (None, [])
    text = answer_of(vendor)
    evidence, told = read_answer(Answer(serial="110123456789", number=1, text=text), vendor.keys)
    assert evidence is not None
    assert (evidence.number, told) == (1, [])
    edited = Answer(serial="110123456789", number=1, text=text.replace("Check: 1", "Check: 2"))
    nothing, (event,) = read_answer(edited, vendor.keys)
    assert (nothing, event.name) == (None, EventName.STATE_REFUSED)


@pytest.mark.parametrize("beside", [("110123456789", 999), ("110123456780", 1)])
def test_a_stored_answer_is_not_believed_under_another_number_or_serial(
    vendor: Vendor, beside: tuple[str, int]
) -> None:
    serial, number = beside
    nothing, (event,) = read_answer(Answer(serial=serial, number=number, text=answer_of(vendor)), vendor.keys)
    assert nothing is None
    assert "Its text is check 1 of serial 110123456789, and it is stored as another." in event.message


def test_a_folder_in_the_settings_stands_in_for_the_host() -> None:
    assert host_root("host:/folder") == Path("/folder")
    assert {host_root(reader) for reader in ("host", "auto", "serial:/dev/ttyUSB0")} == {Path("/")}


def test_what_a_restore_brings_back_counts_at_once(bound: House) -> None:
    begun(bound)
    no = Answer(serial="110123456789", number=4, text=answer_of(bound.vendor, number=4, retired=True))
    kept = bound.loop.run_until_complete(bound.storing.ask(lambda store: store.load_kept()))
    facts = msgspec.structs.replace(bound.site.trusting.facts, answer=no, checks={"110123456789": 4})
    bound.site.take_back(kept, msgspec.structs.replace(kept, facts=facts), bound.enforcer.licenses)
    assert bound.enforcer.standing is Standing.DEACTIVATED
    assert bound.site.trusting.facts.answer == no
    assert bound.enforcer.trust.kept.check_numbers == {"110123456789": 4}


def test_subscribers_are_told_of_trust(bound: House) -> None:
    watcher = bound.caller()
    watcher.send({**bound.call("Watch"), "more": True})
    begun(bound)
    events = [reply["parameters"].get("event", {}) for reply in watcher.replies]
    assert {event["message"] for event in events if event.get("kind") == "trust"} >= {
        "The host is enrolled as it was when it was first licensed."
    }
