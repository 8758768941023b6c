"""Checks, rescue codes, host and clock as technicians use them: stored before it counts, refused with a cure."""

from __future__ import annotations

import datetime
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.daemon import trusting
from featurekeyd.daemon.facts import Facts
from featurekeyd.daemon.rehearsal_service import MAX_PART
from featurekeyd.daemon.storing import Storing
from featurekeyd.daemon.trust_service import MAX_CODE
from featurekeyd.daemon.trusting import kept_of, read_evidence
from featurekeyd.daemon.wire import LICENSE, MANAGE
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host
from featurekeyd.policy.checkevidence import KIND as CHECK
from featurekeyd.policy.checkevidence import MAX_OPEN, CheckEvidence, check_body
from featurekeyd.policy.events import EventName
from featurekeyd.policy.hostevidence import HostAddress
from featurekeyd.policy.localcheck import CheckItem
from featurekeyd.policy.permit import KIND as PERMIT
from featurekeyd.policy.permit import MayChange, Permit, permit_body
from featurekeyd.policy.request_text import Head, Request, read_request
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.daemon.conftest import House

    Addresses = Callable[..., None]

SERIAL = "110123456789"
TODAY = datetime.date(2026, 12, 1)
HOURS = 3600.0
NEW_NICS = (
    SimulatedNic(name="enp1s0", address="00:1b:21:5e:8a:77", metric=100),
    SimulatedNic(name="enp2s0", address="00:1b:21:5e:8a:78"),
)
NEW_NIC = msgspec.structs.replace(SimulatedHost(), nics=NEW_NICS)
MUCH_IS_NEW = msgspec.structs.replace(NEW_NIC, product_uuid="11111111-2222-3333-4444-555555555555", machine_id="0" * 32)
OTHER_HOST = msgspec.structs.replace(MUCH_IS_NEW, product_serial="X-1", board_serial="Y-2")


def ask(house: House, name: str, *, uid: int = 0, **parameters: Any) -> dict[str, Any]:
    (reply,) = house.ask(f"{MANAGE}.{name}", uid=uid, **parameters)
    answer: dict[str, Any] = reply["parameters"]
    return answer


def finding(house: House, name: str, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(house, name, **parameters)["finding"]
    assert found["accepted"] or found.get("remedy"), "a refusal names its cure"
    return found


def verdict(house: House, name: str, **parameters: Any) -> str:
    return str(finding(house, name, **parameters)["verdict"])


def status(house: House) -> dict[str, Any]:
    (reply,) = house.ask(f"{LICENSE}.Status")
    told: dict[str, Any] = reply["parameters"]
    return told


def stored(house: House) -> Facts:
    return house.loop.run_until_complete(house.storing.ask(lambda store: store.load_facts()))[0]


def enrolled(house: House) -> House:
    house.loop.run_until_complete(house.site.trusting.look_at_host())
    assert house.enforcer.trust.kept.enrolled is not None
    return house


def becomes(house: House, host: SimulatedHost) -> None:
    write_simulated_host(house.place / "host", host)


def pass_time(house: House, seconds: float) -> None:
    house.clock.run(seconds)
    house.enforcer.tick(house.clock())
    house.site.settle()


# Checks


def test_a_check_on_demand_tells_every_item_and_counts(bound: House) -> None:
    reply = ask(bound, "CheckNow")
    assert (reply["state"], reply["hardware_id"], reply["passed"]) == ("present", bound.seen().hardware_id, False)
    assert [it["item"] for it in reply["findings"]] == [str(it) for it in CheckItem]
    assert [it["item"] for it in reply["findings"] if not it["good"]] == ["evidence"]
    told = status(bound)
    assert (told["check_passed"], told["check_seconds"], told["check_due_seconds"]) == (False, 0, 3 * HOURS)


def test_without_a_certificate_a_check_says_so_and_nothing_follows(house: House, tmp_path: Path) -> None:
    house.site.trusting._look, house.site.trusting._root = looks_at_nothing, tmp_path
    house.enforcer.see(house.seen(), house.clock())
    reply = ask(house, "CheckNow")
    assert (reply["passed"], reply["findings"][0]["good"]) == (False, False)
    assert house.enforcer.trust.kept.check_failing is False
    told = status(house)
    assert "check_passed" not in told
    assert "check_due_seconds" not in told


async def looks_at_nothing() -> None:
    """In place of a look at the Feature Key."""


def requested(house: House) -> Request:
    return read_request(ask(house, "RequestCheck")["text"])


def answer(house: House, asked: str | None, **fields: Any) -> str:
    """The vendor's answer, good for ten days."""
    checked = datetime.datetime.fromtimestamp(house.clock().wall, datetime.UTC)
    shipped: dict[str, Any] = {"serial": SERIAL, "catalog": "exchange", "number": 1, "nonce": asked or "0" * 32}
    times = {"checked": checked, "until": checked + datetime.timedelta(days=10)}
    return house.vendor.sealed(CHECK, check_body(CheckEvidence(**(shipped | times | fields))))


def test_a_request_for_a_check_says_how_far_everything_has_come(bound: House) -> None:
    enrolled(bound)
    bound.enforcer.account.emergency_claims = 2
    request = requested(bound)
    assert request.serial == SERIAL
    assert (request.emergency_claims, request.list_number) == (2, 1)
    assert (request.state_head, request.audit_head) == (bound.storing.state_head, bound.storing.audit_head)
    assert request.enrolled_host == bound.enforcer.trust.kept.enrolled.digest  # type: ignore[union-attr]
    assert request.catalog_digest is None, "this catalog is not shipped"
    assert stored(bound).nonces == (request.nonce,)


def test_each_request_has_a_nonce_of_its_own_and_the_newest_are_kept(bound: House) -> None:
    nonces = [requested(bound).nonce for _ in range(MAX_OPEN + 1)]
    assert len(set(nonces)) == MAX_OPEN + 1
    assert list(stored(bound).nonces) == nonces[1:]


def test_a_request_for_a_check_needs_a_certificate(house: House) -> None:
    (reply,) = house.ask(f"{MANAGE}.RequestCheck")
    assert reply["error"] == f"{MANAGE}.NotCertified"


def test_a_request_for_a_check_needs_the_key(bound: House) -> None:
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    (reply,) = bound.ask(f"{MANAGE}.RequestCheck")
    assert reply["error"] == f"{MANAGE}.FeatureKeyNotReadable"
    assert stored(bound).nonces == ()


def test_the_answer_to_a_request_is_taken_once_and_the_check_passes(bound: House) -> None:
    ask(bound, "CheckNow")
    assert [it.cause for it in bound.enforcer.grace] == ["no_check"]
    bound.enforcer.trust.note_claims(1)
    text = answer(bound, requested(bound).nonce)
    assert verdict(bound, "ImportCheck", text=f"> {text}") == "checked"
    facts = stored(bound)
    assert (facts.checks, facts.nonces, facts.told, facts.emergency_claims) == ({SERIAL: 1}, (), {}, 0)
    assert facts.answer is not None
    assert status(bound)["check_passed"] is True, "a check is made at once, and not in three hours"
    assert (stored(bound).check_failing, bound.enforcer.standing) == (False, Standing.LICENSED)
    assert verdict(bound, "ImportCheck", text=text) == "older_check"
    assert bound.log.one(EventName.CHECK_ANSWERED).fields == {"SERIAL": SERIAL, "NUMBER": "1"}


def test_the_vendor_is_told_of_tampering_and_repairs_until_an_answer_covers_them(bound: House) -> None:
    trust = bound.enforcer.trust
    before = requested(bound)
    trust.kept = msgspec.structs.replace(trust.kept, tamperings=1, losses=2)
    trust.repair_clock(bound.clock(), TODAY, "tom")
    asked = requested(bound)
    assert [(it.tamperings, it.state_losses, it.clock_repairs) for it in (before, asked)] == [(0, 0, 0), (1, 2, 1)]
    ask(bound, "ImportCheck", text=answer(bound, before.nonce))
    assert "state" in {it["item"] for it in ask(bound, "CheckNow")["findings"] if not it["good"]}
    ask(bound, "ImportCheck", text=answer(bound, asked.nonce, number=2))
    assert ask(bound, "CheckNow")["passed"] is True
    after = requested(bound)
    assert (after.tamperings, after.state_losses, after.clock_repairs) == (0, 0, 0)
    assert (stored(bound).tamperings, stored(bound).state_losses) == (0, 0)


def test_a_request_shows_the_audit_where_the_newest_answer_knows_it(bound: House) -> None:
    first = requested(bound)
    assert first.audit_since is None
    assert first.audit_head is not None
    ask(bound, "ImportCheck", text=answer(bound, first.nonce, audit_head=first.audit_head))
    ask(bound, "Backup")
    assert requested(bound).audit_since == first.audit_head
    changed = Head(first.audit_head.number, "f" * 64)
    ask(bound, "ImportCheck", text=answer(bound, requested(bound).nonce, number=2, audit_head=changed))
    assert requested(bound).audit_since == first.audit_head, "what it is here, and not what the answer says"
    gone = Head(10**6, "f" * 64)
    ask(bound, "ImportCheck", text=answer(bound, requested(bound).nonce, number=3, audit_head=gone))
    assert requested(bound).audit_since is None


def test_a_claim_between_a_request_and_its_answer_is_told_by_the_next_request(bound: House) -> None:
    bound.enforcer.account.emergency_claims = 2
    asked = requested(bound)
    bound.enforcer.account.emergency_claims = 3
    bound.site.trusting.count_claims()
    assert verdict(bound, "ImportCheck", text=answer(bound, asked.nonce)) == "checked"
    assert (asked.emergency_claims, requested(bound).emergency_claims) == (2, 1)
    assert stored(bound).emergency_claims == 1


def test_a_claim_while_a_request_is_being_stored_is_told_by_the_next_one(
    bound: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Storing.save_facts

    async def slowly(self: Storing, facts: Facts) -> None:
        await save(self, facts)
        bound.enforcer.trust.note_claims(1)

    with monkeypatch.context() as patch:
        patch.setattr(Storing, "save_facts", slowly)
        asked = requested(bound)
    assert verdict(bound, "ImportCheck", text=answer(bound, asked.nonce)) == "checked"
    assert (asked.emergency_claims, requested(bound).emergency_claims) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nonce": "f" * 32}, "not_asked"),
        ({"serial": "110123456790"}, "other_serial"),
        ({"catalog": "other"}, "other_catalog"),
        ({"checked": datetime.datetime(2026, 10, 1, tzinfo=datetime.UTC)}, "check_over"),
    ],
)
def test_an_answer_that_is_not_for_this_request_changes_nothing(
    bound: House, fields: dict[str, Any], said: str
) -> None:
    nonce = requested(bound).nonce
    until = {"until": fields["checked"] + datetime.timedelta(days=1)} if "checked" in fields else {}
    before = stored(bound)
    assert verdict(bound, "ImportCheck", text=answer(bound, nonce, **fields, **until)) == said
    assert (stored(bound), bound.enforcer.trust.answer) == (before, None)


def test_a_text_that_is_no_answer_or_was_edited_is_a_finding(bound: House) -> None:
    text = answer(bound, requested(bound).nonce)
    assert verdict(bound, "ImportCheck", text="hello") == "bad_document"
    assert verdict(bound, "ImportCheck", text=text.replace("Check: 1", "Check: 2")) == "bad_signature"


def test_a_signed_no_deactivates_at_once_and_is_told(bound: House) -> None:
    found = finding(bound, "ImportCheck", text=answer(bound, None, retired=True))
    assert (found["verdict"], found["accepted"]) == ("told_no", False)
    assert bound.enforcer.standing is Standing.DEACTIVATED
    assert stored(bound).answer is not None
    assert EventName.CHECK_TOLD_NO in bound.log.names()


def test_what_an_answer_says_is_stored_before_it_counts(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[Facts, Standing]] = []
    save = Storing.save_facts

    async def noted(self: Storing, facts: Facts) -> None:
        saved.append((facts, bound.enforcer.standing))
        await save(self, facts)

    monkeypatch.setattr(Storing, "save_facts", noted)
    ask(bound, "ImportCheck", text=answer(bound, None, retired=True))
    ((facts, standing),) = saved
    assert (facts.retired, facts.checks, standing) == ((SERIAL,), {SERIAL: 1}, Standing.GRACE)
    assert facts.answer is not None


def test_an_answer_is_taken_though_the_check_after_it_goes_wrong(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text = answer(bound, requested(bound).nonce)

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(trusting, "read_evidence", broken)
    assert verdict(bound, "ImportCheck", text=text) == "checked"
    assert bound.log.one(EventName.UNEXPECTED).message == "Unexpected ZeroDivisionError in a check."


def test_an_answer_tells_of_a_newer_list_and_ends_the_trouble_of_the_state(bound: House) -> None:
    trust = bound.enforcer.trust
    trust.kept = msgspec.structs.replace(trust.kept, tamperings=1)
    assert "state" in {it["item"] for it in ask(bound, "CheckNow")["findings"] if not it["good"]}
    bound.site.keep_drained()
    kept = kept_of(stored(bound), bound.enforcer.trust.kept)
    bound.enforcer.trust.kept = kept  # as after a restart
    assert "state" in {it["item"] for it in ask(bound, "CheckNow")["findings"] if not it["good"]}
    found = finding(bound, "ImportCheck", text=answer(bound, requested(bound).nonce, newest_list=3))
    assert "license list is 3" in found["remedy"]
    assert ask(bound, "CheckNow")["passed"] is True


# Rescue


def deactivated(house: House) -> House:
    house.enforcer.see(house.seen("absent"), house.clock())
    pass_time(house, 2 * HOURS + 1)
    assert house.enforcer.standing is Standing.DEACTIVATED
    return house


def test_a_rescue_code_opens_a_deactivated_system_for_seven_days_and_once(bound: House) -> None:
    deactivated(bound)
    code = bound.vendor.rescue_code(TODAY)
    reply = ask(bound, "Rescue", uid=7, code=code.lower().replace("-", " "))
    assert (reply["finding"]["verdict"], reply["seconds_left"]) == ("rescued", 7 * 86_400)
    assert status(bound)["standing"] == "grace"
    facts = stored(bound)
    assert facts.opening is not None
    assert facts.rescues[SERIAL].count == 1
    assert status(bound)["rescue_seconds_left"] == 7 * 86_400
    assert bound.log.one(EventName.RESCUE_OPENED).fields["BY"] == "uid 7"
    assert verdict(bound, "Rescue", code=code) == "already_used"
    pass_time(bound, 7 * 86_400)
    assert status(bound)["standing"] == "deactivated"
    assert "rescue_seconds_left" not in status(bound)


def test_a_refused_code_is_told_and_never_written_anywhere(bound: House) -> None:
    code = bound.vendor.rescue_code(TODAY + datetime.timedelta(days=3))
    assert verdict(bound, "Rescue", code=code) == "other_day"
    assert verdict(bound, "Rescue", code="0" * 32) == "unknown_code"
    found = finding(bound, "Rescue", code="4Q7U")
    assert (found["verdict"], found["position"]) == ("not_a_code", 4)
    refused = [event for event in bound.log.events if event.name is EventName.RESCUE_REFUSED]
    assert [event.fields["REASON"] for event in refused] == ["other_day", "unknown_code", "not_a_code"]
    assert not any(code[:9] in str(event) for event in bound.log.events)
    assert stored(bound).rescues == {}


def test_a_rescue_needs_a_certificate_and_a_code_of_some_length(house: House) -> None:
    assert verdict(house, "Rescue", code="x" * MAX_CODE) == "no_certificate"
    (reply,) = house.ask(f"{MANAGE}.Rescue", code="x" * (MAX_CODE + 1))
    assert reply["error"].endswith(".InvalidParameter")


# The host


def test_a_host_that_is_not_enrolled_is_shown_as_it_is(house: House, tmp_path: Path) -> None:
    house.site.trusting._root = write_simulated_host(tmp_path / "host")
    host = ask(house, "GetHost")
    assert (host["verdict"], host["addresses_bound"], host["simulated"]) == ("not_enrolled", [], True)
    assert {it["state"] for it in host["parts"]} == {"new", "not_enrolled"}
    assert "enrolled_on" not in host
    assert verdict(house, "EnrollHost") == "no_certificate"


def test_the_enrolled_host_is_shown_with_its_score_and_its_interfaces(bound: House) -> None:
    enrolled(bound)
    host = ask(bound, "GetHost")
    assert (host["verdict"], host["binds"], host["binds_addresses"]) == ("same", True, True)
    assert (host["kept"], host["lost"]) == (host["total"], 0)
    assert [(it["name"], it["primary"]) for it in host["nics"]] == [("enp1s0", True), ("enp2s0", False)]
    assert (host["enrolled_on"], host["renewals"], host["max_renewals"]) == ("2026-12-01", 0, 3)
    assert host["hardware_id"] == host["enrolled_hardware_id"]


def test_replaced_hardware_is_told_and_enrolled_again_by_command(bound: House) -> None:
    enrolled(bound)
    becomes(bound, MUCH_IS_NEW)
    host = ask(bound, "GetHost")
    assert (host["verdict"], host["changed_on"], host["window_days_left"]) == ("changed", "2026-12-01", 30)
    assert {it["name"] for it in host["parts"] if it["state"] == "changed"} >= {"permanent-addresses", "product-uuid"}
    assert status(bound)["host"] == "changed"
    assert verdict(bound, "EnrollHost", uid=7) == "enrolled"
    assert stored(bound).host == bound.enforcer.trust.kept.enrolled
    told = [event for event in bound.log.events if event.name is EventName.HOST_ENROLLED]
    assert told[-1].fields["BY"] == "uid 7"
    again = ask(bound, "GetHost")
    assert (again["renewals"], again["lost"]) == (1, 0)
    assert "changed_on" not in again


def permit_for(house: House, number: int = 5) -> str:
    """A permit for the host as it is now."""
    permit = Permit(
        serial=SERIAL,
        number=number,
        may_change=(MayChange.HARDWARE,),
        issued=TODAY,
        until=TODAY,
        hardware_id=ask(house, "GetHost")["hardware_id"],
    )
    return house.vendor.sealed(PERMIT, permit_body(permit))


def test_a_used_permit_comes_never_again_whatever_was_enrolled_since(bound: House) -> None:
    enrolled(bound)
    becomes(bound, OTHER_HOST)
    text = permit_for(bound)
    assert verdict(bound, "EnrollHost", permit=text) == "enrolled"
    assert stored(bound).permits == {SERIAL: 5}
    becomes(bound, msgspec.structs.replace(OTHER_HOST, board_serial="Z-3"))
    ask(bound, "EnrollHost")
    trust = bound.enforcer.trust
    trust.kept = msgspec.structs.replace(trust.kept, enrolled=None)  # as when its record was damaged
    enrolled(bound)
    becomes(bound, OTHER_HOST)
    assert verdict(bound, "EnrollHost", permit=text) == "already_there"
    assert verdict(bound, "EnrollHost", permit=permit_for(bound, 4)) == "already_there"
    assert verdict(bound, "EnrollHost", permit=permit_for(bound, 6)) == "enrolled"
    assert stored(bound).permits == {SERIAL: 6}


def test_a_permit_that_an_earlier_release_has_taken_is_used_up_too(bound: House) -> None:
    enrolled(bound)
    trust = bound.enforcer.trust
    before = msgspec.structs.replace(trust.kept.enrolled, permit=5)  # type: ignore[type-var]
    trust.kept = msgspec.structs.replace(trust.kept, enrolled=before)
    becomes(bound, OTHER_HOST)
    assert verdict(bound, "EnrollHost", permit=permit_for(bound)) == "already_there"


def test_a_host_of_which_nothing_is_left_needs_the_vendors_permit(bound: House) -> None:
    enrolled(bound)
    becomes(bound, OTHER_HOST)
    found = finding(bound, "EnrollHost")
    assert (found["verdict"], "permit" in found["remedy"]) == ("not_enrolled", True)
    text = permit_for(bound)
    assert verdict(bound, "EnrollHost", permit="no permit") == "bad_document"
    assert verdict(bound, "EnrollHost", permit=text) == "enrolled"
    assert verdict(bound, "EnrollHost", permit=text) == "already_there"
    assert ask(bound, "GetHost")["permit"] == 5


def test_what_is_enrolled_already_uses_nothing_up(bound: House, with_addresses: Addresses) -> None:
    enrolled(bound)
    with_addresses("192.0.2.1")
    assert verdict(bound, "EnrollHost") == "already_there"
    assert bound.enforcer.trust.kept.enrolled.renewals == 0  # type: ignore[union-attr]


# Addresses


@pytest.fixture
def with_addresses(bound: House, monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """Lets the primary interface have addresses, which a folder cannot show."""

    def have(*addresses: str) -> None:
        def read(root: Path) -> Any:
            found = tuple(HostAddress(interface="enp1s0", family="ipv4", address=it) for it in addresses)
            return msgspec.structs.replace(read_evidence(root), addresses=found)

        monkeypatch.setattr(trusting, "read_evidence", read)
        bound.loop.run_until_complete(bound.site.trusting.look_at_host())

    return have


def test_an_announced_address_is_adopted_when_it_comes(bound: House, with_addresses: Addresses) -> None:
    with_addresses("192.0.2.1")
    assert verdict(bound, "AnnounceAddress", address="192.0.2.7", uid=7) == "announced"
    host = ask(bound, "GetHost")
    assert (host["announced"], host["announced_seconds_left"]) == ("192.0.2.7", 86_400)
    assert stored(bound).announced is not None
    assert bound.log.one(EventName.ADDRESS_ANNOUNCED).fields == {"BY": "uid 7", "ADDRESS": "192.0.2.7"}
    with_addresses("192.0.2.7")
    host = ask(bound, "GetHost")
    assert (host["verdict"], host["addresses_bound"], "announced" in host) == ("same", ["192.0.2.7"], False)


def test_an_address_that_was_announced_in_1970_is_adopted_when_the_clock_was_set(
    bound: House, with_addresses: Addresses
) -> None:
    right = bound.clock.wall
    bound.clock.wall = 1000.0
    with_addresses("192.0.2.1")
    assert verdict(bound, "AnnounceAddress", address="192.0.2.7") == "announced"
    bound.clock.wall = right
    assert ask(bound, "GetHost")["announced_seconds_left"] == 86_400
    with_addresses("192.0.2.7")
    assert ask(bound, "GetHost")["addresses_bound"] == ["192.0.2.7"]


def test_an_address_that_changed_without_a_word_is_cured_by_announcing_it(
    bound: House, with_addresses: Addresses
) -> None:
    with_addresses("192.0.2.1")
    with_addresses("192.0.2.7")
    assert ask(bound, "GetHost")["verdict"] == "changed"
    found = finding(bound, "EnrollHost")
    assert (found["verdict"], "change-address" in found["remedy"]) == ("not_enrolled", True)
    assert verdict(bound, "AnnounceAddress", address="192.0.2.7") == "announced"
    assert ask(bound, "GetHost")["verdict"] == "same"


def test_a_product_that_is_bound_to_no_address_needs_no_word(licensed: House, tmp_path: Path) -> None:
    licensed.site.trusting._root = write_simulated_host(tmp_path / "host")
    assert verdict(licensed, "AnnounceAddress", address="192.0.2.7") == "already_there"
    assert stored(licensed).announced is None


def test_an_address_that_cannot_be_announced_is_a_finding(bound: House) -> None:
    assert verdict(bound, "AnnounceAddress", address="192.0.2.7") == "announced", "it enrolls the host by looking"
    assert verdict(bound, "AnnounceAddress", address="nonsense") == "not_announced"
    assert verdict(bound, "AnnounceAddress", address="127.0.0.1") == "not_announced"


def test_what_if_says_what_a_lost_interface_would_mean(bound: House, with_addresses: Addresses) -> None:
    with_addresses("192.0.2.1")
    said = ask(bound, "WhatIf", without_host_part="enp2s0")
    assert (said["host"], said["changes"], said["findings"]) == ("same", [], [])
    assert ask(bound, "WhatIf", without_host_part="enp1s0")["host"] == "cannot_tell", "no default route is left"
    (unknown,) = ask(bound, "WhatIf", without_host_part="eth9")["findings"]
    assert (unknown["verdict"], "enp1s0" in unknown["remedy"]) == ("not_found", True)
    assert bound.enforcer.trust.host is not None
    assert str(bound.enforcer.trust.host.verdict) == "same", "nothing was changed by supposing it"


def test_the_name_of_a_part_has_a_limit(bound: House) -> None:
    assert len(ask(bound, "WhatIf", without_host_part="x" * MAX_PART)["findings"]) == 1
    (reply,) = bound.ask(f"{MANAGE}.WhatIf", without_host_part="x" * (MAX_PART + 1))
    assert reply["error"].endswith(".InvalidParameter")


# The clock


def test_a_clock_that_was_set_back_is_believed_again_by_command(bound: House) -> None:
    assert verdict(bound, "RepairClock") == "already_there"
    bound.clock.wall -= 7200
    pass_time(bound, 1)
    assert status(bound)["clock"] == "set_back"
    assert verdict(bound, "RepairClock", uid=7) == "repaired"
    assert status(bound)["clock"] == "right"
    clock = stored(bound).clock
    assert clock is not None
    assert clock.repairs == 1
    assert bound.log.one(EventName.CLOCK_REPAIRED).fields["BY"] == "uid 7"


def test_a_clock_that_is_far_ahead_is_shown_and_believed_by_command(bound: House) -> None:
    bound.clock.wall += 10 * 86_400
    pass_time(bound, 1)
    assert status(bound)["clock"] == "ahead"
    assert bound.log.one(EventName.CLOCK_AHEAD).message.endswith("featurekeyctl clock repair.")
    assert verdict(bound, "RepairClock") == "repaired"
    assert status(bound)["clock"] == "right"


def test_a_clock_that_was_never_set_is_not_believed_by_command(bound: House) -> None:
    bound.clock.wall = 1000.0
    mark = bound.enforcer.trust.mark
    assert verdict(bound, "RepairClock") == "not_repaired"
    assert bound.enforcer.trust.mark.repairs == mark.repairs == 0


# Stored before it counts


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("RequestCheck", lambda _: {}),
        ("ImportCheck", lambda house: {"text": answer(house, None, retired=True)}),
        ("Rescue", lambda house: {"code": house.vendor.rescue_code(TODAY)}),
        ("EnrollHost", lambda _: {}),
        ("AnnounceAddress", lambda _: {"address": "192.0.2.7"}),
        ("RepairClock", lambda _: {}),
    ],
)
def test_what_cannot_be_stored_does_not_count(
    bound: House, name: str, parameters: Callable[[House], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(bound)
    becomes(bound, MUCH_IS_NEW)
    ask(bound, "GetHost")
    bound.clock.wall -= 7200
    pass_time(bound, 1)

    def full(_: Facts) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(bound.store, "save_facts", full)
    before = msgspec.structs.replace(bound.enforcer.trust.kept, mark=None)
    (reply,) = bound.ask(f"{MANAGE}.{name}", **parameters(bound))
    assert reply["error"] == f"{MANAGE}.StateNotStored"
    assert msgspec.structs.replace(bound.enforcer.trust.kept, mark=None) == before
    assert bound.enforcer.trust.mark.repairs == 0
