"""The audit as technicians read it, and a backup that goes from one system to another."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.facts import Facts
from featurekeyd.daemon.wire import MANAGE
from featurekeyd.policy.audit import act_in
from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.events import EventName
from featurekeyd.policy.rescue import RescueMark
from featurekeyd.policy.reservations import Reservation

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from featurekeyd.policy.catalog import Catalog
    from tests.daemon.conftest import House, Loop

SERIAL = "110123456789"


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new certificate makes the site look at the key, which no test has."""

    async def look(_: object) -> None:
        """In place of a look."""

    monkeypatch.setattr("featurekeyd.daemon.site.Site.look", look)


@pytest.fixture
def another(house: House, tmp_path: Path, loop: Loop, catalog: Catalog) -> Iterator[House]:
    """A spare system that trusts the same vendor."""
    place = tmp_path / "another"
    place.mkdir()
    spare = type(house)(place, loop, catalog)
    spare.vendor = house.vendor
    spare.site.vendor_keys = house.vendor.keys
    spare.enforcer.see(spare.seen(), spare.clock())
    yield spare
    spare.close()


def ask(house: House, name: str, *, uid: int = 0, **parameters: Any) -> dict[str, Any]:
    (reply,) = house.ask(f"{MANAGE}.{name}", uid=uid, **parameters)
    answer: dict[str, Any] = reply["parameters"]
    return answer


def listed(house: House, **parameters: Any) -> list[dict[str, Any]]:
    replies = house.ask(f"{MANAGE}.ListAudit", more=True, **parameters)
    return [reply["parameters"]["entry"] for reply in replies if reply["parameters"]]


@pytest.fixture
def running(house: House) -> House:
    """A system that was certified, licensed and used by the ways a technician has."""
    vendor = house.vendor
    house.enforcer.see(house.seen(), house.clock())
    assert ask(house, "ImportCertificate", text=vendor.certificate())["finding"]["accepted"]
    listed_keys = [vendor.key(code=1, instances=1), vendor.key(code=2, instances=8)]
    assert ask(house, "ImportList", text=vendor.list_of(*listed_keys, number=3))["accepted"]
    assert ask(house, "AddLicense", key=vendor.key(code=5).text, uid=1234)["finding"]["accepted"]
    assert ask(house, "Reserve", feature="trunk", key="201", instances=2)["finding"]["accepted"]
    return house


def test_administrative_acts_are_listed_with_who_did_them(running: House) -> None:
    found = listed(running)
    assert [it["number"] for it in found] == list(range(1, len(found) + 1))
    acts = {it["what"]: it for it in found}
    assert {"certificate_imported", "list_imported", "license_added", "reserved"} <= acts.keys()
    assert acts["license_added"]["who"] == "uid 1234"
    assert acts["license_added"]["time"] == "2026-12-01T12:00:00Z"
    assert {"name": "FEATURE", "value": "recorder"} in acts["license_added"]["fields"]
    assert acts["standing_licensed"]["who"] == "featurekeyd"
    assert listed(running, after=len(found) - 1) == found[-1:]
    assert listed(running, after=len(found)) == []


def test_no_whole_license_key_is_recorded(running: House) -> None:
    typed = running.enforcer.licenses.typed[0].text
    assert typed not in str(listed(running))
    assert typed.replace("-", "") not in str(listed(running))


def test_a_number_out_of_bounds_is_refused_by_name(house: House) -> None:
    (reply,) = house.ask(f"{MANAGE}.ListAudit", more=True, after=-1)
    assert reply == {"error": "org.varlink.service.InvalidParameter", "parameters": {"parameter": "after"}}


def test_a_sound_audit_is_said_to_be_and_its_head_named(running: House) -> None:
    entries, head = listed(running), running.storing.audit_head
    assert ask(running, "VerifyAudit") == {
        "sound": True,
        "finding": "Every entry is as it was recorded.",
        "entries": len(entries),
        "head_number": head.number,
        "head_digest": entries[-1]["digest"],
    }


def test_an_edited_audit_is_told_with_the_place(running: House) -> None:
    listed(running)
    with sqlite3.connect(running.store.path) as state:
        state.execute("UPDATE audit SET who = 'uid 5' WHERE what = 'license_added'")
    state.close()
    found = ask(running, "VerifyAudit")
    (edited,) = [it["number"] for it in listed(running) if it["what"] == "license_added"]
    assert (found["sound"], found["broken_at"]) == (False, edited)


# Backup and restore


def backup(house: House) -> str:
    text: str = ask(house, "Backup")["text"]
    return text


def restore(house: House, text: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
    found = ask(house, "Restore", text=text, **more)
    return found["finding"], found["changes"]


def test_a_backup_is_told_with_who_took_it_and_says_what_it_has(running: House) -> None:
    entries = len(listed(running))
    answer = ask(running, "Backup", uid=77)
    assert (answer["serial"], answer["audit_entries"]) == (SERIAL, entries)
    assert running.log.one(EventName.STATE_BACKED_UP).fields == {"SERIAL": SERIAL, "BY": "uid 77"}
    assert listed(running)[-1]["who"] == "uid 77"


def test_a_spare_system_takes_all_of_a_backup(running: House, another: House) -> None:
    finding, changes = restore(another, backup(running))
    assert (finding["verdict"], finding["accepted"]) == ("restored", True)
    assert finding["message"] == f"The backup of 2026-12-01T12:00:00Z, serial {SERIAL} is restored."
    assert changes[:2] == ["certificate from the backup", "license list from the backup"]
    assert another.enforcer.standing == running.enforcer.standing == "grace", "a typed key waits for its list"
    assert another.enforcer.licenses == running.enforcer.licenses
    assert list(another.enforcer.reservations) == [Reservation(feature="trunk", key="201", instances=2)]
    assert another.store.load()[0] == running.store.load()[0]
    names = [it["what"] for it in listed(another)]
    assert "list_imported" in names
    assert names[-1] == "state_restored"
    assert ask(another, "VerifyAudit")["sound"]
    assert another.store.check() is None


def test_leases_are_not_restored(running: House, another: House) -> None:
    lease: dict[str, Any] = {"holder": "asterisk", "key": "t1", "wants": [{"feature": "tenant"}]}
    assert running.ask("io.featurekey.License.Acquire", **lease)[0]["parameters"]["allowed"]
    running.site.settle()
    text = backup(running)
    assert running.store.load_leases()[0] != []
    restore(another, text)
    assert another.store.load_leases()[0] == []
    assert len(another.enforcer.ledger) == 0


def test_a_dry_run_says_the_same_and_changes_nothing(running: House, another: House) -> None:
    text = backup(running)
    finding, changes = restore(another, text, dry_run=True)
    assert finding["message"].endswith("would be restored.")
    assert another.enforcer.licenses.serial is None
    assert another.store.load()[0].certificate is None
    assert another.log.events == []
    assert restore(another, text)[1] == changes


def test_to_restore_twice_changes_nothing_more(running: House) -> None:
    text = backup(running)
    for _ in range(2):
        finding, changes = restore(running, text)
        assert (finding["accepted"], changes) == (True, [])
    acts = [it["what"] for it in listed(running)]
    assert acts.count("state_restored") == 2


def drain(house: House, seconds: float) -> None:
    house.enforcer.meters[Cause.FEATURE_KEY_ABSENT].drained = seconds
    house.site.keep_drained()


def test_a_restored_backup_refills_no_meter(running: House) -> None:
    drain(running, 60.0)
    text = backup(running)
    drain(running, 3000.0)
    restore(running, text)
    assert running.enforcer.meters[Cause.FEATURE_KEY_ABSENT].drained == pytest.approx(3000.0)
    assert running.store.load()[1]["feature_key_absent"] == pytest.approx(3000.0)


def test_what_had_drained_elsewhere_counts_here(running: House, another: House) -> None:
    drain(running, 3000.0)
    restore(another, backup(running))
    assert another.enforcer.meters[Cause.FEATURE_KEY_ABSENT].drained == pytest.approx(3000.0)
    assert another.store.load()[1]["feature_key_absent"] == pytest.approx(3000.0)


def test_an_older_list_does_not_come_back(running: House) -> None:
    text, vendor = backup(running), running.vendor
    assert ask(running, "ImportList", text=vendor.list_of(vendor.key(code=1), number=4))["accepted"]
    restore(running, text)
    newest = running.enforcer.licenses.license_list
    assert newest is not None
    assert newest.number == 4


def test_facts_come_back_to_what_decides(running: House, another: House) -> None:
    day: datetime.date = running.clock().date
    facts = Facts(rescues={SERIAL: RescueMark(day=day)}, permits={SERIAL: 5}, emergency_claims=2)
    running.loop.run_until_complete(running.storing.save_facts(facts))
    restore(another, backup(running))
    kept = another.enforcer.trust.kept
    assert (kept.rescues, kept.permits, kept.claims) == ({SERIAL: RescueMark(day=day)}, {SERIAL: 5}, 2)


def test_a_backup_of_another_serial_is_refused(running: House, another: House) -> None:
    vendor = another.vendor
    certificate = vendor.certificate(serial="110123456780")
    assert ask(another, "ImportCertificate", text=certificate)["finding"]["accepted"]
    finding, changes = restore(another, backup(running))
    assert (finding["verdict"], finding["accepted"], changes) == ("other_serial", False, [])
    assert another.enforcer.licenses.serial == "110123456780"
    finding, _ = restore(running, backup(another))
    assert finding["verdict"] == "other_serial"


def test_a_backup_of_nothing_is_refused_where_something_is(running: House, another: House) -> None:
    assert restore(running, backup(another))[0]["verdict"] == "other_serial"
    assert restore(another, backup(another))[0]["accepted"]


SPOILED: dict[str, Callable[[str], str]] = {
    "bad_backup": lambda text: text.replace("Serial: 110123456789", "Serial: 110123456780"),
    "cut": lambda text: text[: len(text) // 2],
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_backup_is_refused(running: House, another: House, how: str) -> None:
    finding, _ = restore(another, SPOILED[how](backup(running)))
    assert (finding["verdict"], finding["accepted"]) == ("bad_backup", False)
    assert another.store.load()[0].certificate is None


def test_a_backup_whose_documents_are_not_signed_by_the_vendor_is_refused(running: House, another: House) -> None:
    another.site.vendor_keys = {}
    finding, _ = restore(another, backup(running))
    assert finding["verdict"] == "bad_backup"
    assert finding["message"].startswith("What is in the backup is not believed: The stored document is not believed:")
    assert another.store.load()[0].certificate is None


@pytest.mark.parametrize("method", ["ListAudit", "VerifyAudit", "Backup", "Restore"])
def test_a_state_that_cannot_be_read_or_written_is_told_and_nothing_changes(
    running: House, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    parameters: dict[str, Any] = {"text": backup(running)} if method == "Restore" else {}
    before = running.enforcer.licenses

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    for name in ("load_audit", "load_kept", "save_kept"):
        if (method, name) != ("Restore", "load_kept"):
            monkeypatch.setattr(running.store, name, full)
    if method == "Restore":
        monkeypatch.undo()
        monkeypatch.setattr(running.store, "save_kept", full)
    (reply,) = running.ask(f"{MANAGE}.{method}", more=True, **parameters)
    assert reply["error"] == f"{MANAGE}.StateNotStored"
    assert "database or disk is full" in reply["parameters"]["hint"]
    assert running.enforcer.licenses is before


def test_decisions_go_on_while_the_audit_cannot_be_written(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(running.store, "append_acts", full)
        assert running.ask("io.featurekey.License.Acquire", **running.acquire()["parameters"])[0]["parameters"][
            "allowed"
        ]
        assert ask(running, "ReleaseLease", holder="kamailio", key="call")["released"]
        running.site.settle()
        running.storing._thread.submit(int).result()
    running.storing.try_again()
    assert listed(running)[-1]["what"] == "lease_forced"


def test_what_was_restored_is_as_it_was_recorded_there(running: House, another: House) -> None:
    there = [act_in(it) for it in running.store.load_audit()]
    listed(running)
    restore(another, backup(running))
    here = [act_in(it) for it in another.store.load_audit()]
    assert here[: len(there)] == there
