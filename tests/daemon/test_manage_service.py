"""What technicians do: what is stored, what is only said, and what the log tells of it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from featurekeyd.daemon.documents import read_documents
from featurekeyd.daemon.site import Site
from featurekeyd.daemon.store import Documents
from featurekeyd.daemon.wire import MANAGE
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House


class Technician:
    """Calls methods of io.featurekey.Manage."""

    def __init__(self, house: House) -> None:
        self._house = house

    def __call__(self, name: str, **parameters: Any) -> dict[str, Any]:
        (reply,) = self._house.ask(f"{MANAGE}.{name}", **parameters)
        answer: dict[str, Any] = reply["parameters"]
        return answer

    def finding(self, name: str, **parameters: Any) -> dict[str, Any]:
        found: dict[str, Any] = self(name, **parameters)["finding"]
        return found

    def stored(self) -> tuple[int, int]:
        """Typed keys and removed keys in the state file."""
        documents, _ = self._house.store.load()
        return len(documents.typed), len(documents.removed)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Looks at the Feature Key that were asked for; none is really made."""
    made: list[str] = []

    async def look(_: Site) -> None:
        made.append("looked")

    monkeypatch.setattr(Site, "look", look)
    return made


@pytest.fixture
def technician(licensed: House, looks: list[str]) -> Technician:
    return Technician(licensed)


def test_a_certificate_is_taken_stored_told_and_looked_for(house: House, looks: list[str]) -> None:
    technician = Technician(house)
    house.enforcer.see(house.seen(), house.clock())
    assert technician.finding("ImportCertificate", text=house.vendor.certificate())["verdict"] == "imported"
    assert looks == ["looked"]
    assert house.store.load()[0].certificate == house.vendor.certificate()
    assert house.log.one(EventName.CERTIFICATE_IMPORTED).fields == {"SERIAL": "110123456789", "BY": "uid 0"}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", "bad_document"),
        ("test", "test_mismatch"),
        ("catalog", "other_catalog"),
        ("vendor", "unknown_signer"),
    ],
)
def test_a_certificate_that_is_refused_changes_nothing(text: str, verdict: str, house: House, looks: list[str]) -> None:
    house.enforcer.see(house.seen(), house.clock())
    texts = {
        "": "",
        "test": house.vendor.certificate(test=True),
        "catalog": house.vendor.certificate(catalog="other"),
        "vendor": type(house.vendor)(seed=2).certificate(),
    }
    assert Technician(house).finding("ImportCertificate", text=texts[text])["verdict"] == verdict
    assert house.enforcer.licenses.certificate is None
    assert house.store.load()[0].certificate is None
    assert looks == []
    assert EventName.CERTIFICATE_IMPORTED not in house.log.names()


def test_a_certificate_waits_for_its_key(house: House, looks: list[str]) -> None:
    finding = Technician(house).finding("ImportCertificate", text=house.vendor.certificate())
    assert (finding["verdict"], finding["accepted"]) == ("key_not_readable", False)


def test_a_key_typed_in_counts_is_stored_and_told_once(technician: Technician, licensed: House) -> None:
    key = licensed.vendor.key(code=2, instances=3)
    assert technician.finding("AddLicense", key=key.text.lower().replace("-", " "))["verdict"] == "unlisted"
    assert technician.finding("AddLicense", key=key.text)["verdict"] == "already_there"
    assert licensed.enforcer.entitlements["trunk"].limit == 11
    assert technician.stored() == (1, 0)
    event = licensed.log.one(EventName.LICENSE_ADDED)
    assert event.fields["LICENSE"] == key.short
    assert key.text not in str(event)


def test_a_key_with_a_slip_is_refused_with_what_was_meant_and_never_logged(
    technician: Technician, licensed: House
) -> None:
    key = licensed.vendor.key().text
    slip = f"{key[:-1]}{'7' if key[-1] != '7' else '8'}"
    finding = technician.finding("AddLicense", key=slip)
    assert (finding["verdict"], finding["suggestion"], finding["position"]) == ("mistyped", key, 32)
    assert technician.stored() == (0, 0)
    assert licensed.log.events == []


def test_a_removed_key_stays_away_and_calls_go_on(technician: Technician, licensed: House) -> None:
    licensed.ask("io.featurekey.License.Acquire", **licensed.acquire("a")["parameters"])
    (trunks,) = [key for key in licensed.enforcer.licenses.revocations if key.feature_code == 2]
    assert technician.finding("RemoveLicense", key=trunks.text)["verdict"] == "removed"
    assert technician.finding("RemoveLicense", key=trunks.text)["verdict"] == "not_found"
    assert technician.stored() == (0, 1)
    assert licensed.enforcer.entitlements["trunk"].limit == 0
    assert licensed.enforcer.ledger.in_use("trunk") == 1
    assert licensed.log.names() == [EventName.OVER_USE_BEGAN, EventName.LICENSE_REMOVED]


def test_a_dry_run_says_the_same_and_stores_nothing(technician: Technician, licensed: House) -> None:
    vendor = licensed.vendor
    texts = (vendor.list_of(vendor.key(2, 5), number=2), f"{vendor.key(2, 3).text},trunks\n{vendor.key(5, 1).text}\n")
    for text in texts:
        before = (licensed.enforcer.licenses, licensed.store.load())
        dry = technician("ImportList", text=text, dry_run=True)
        assert (licensed.enforcer.licenses, licensed.store.load()) == before
        assert licensed.log.events == []
        real = technician("ImportList", text=text)
        assert (dry["stored"], real["stored"]) == (False, True)
        assert {**real, "stored": False} == dry
        assert licensed.enforcer.licenses is not before[0]
        licensed.log.events.clear()


@pytest.mark.parametrize(("all_or_nothing", "stored"), [(False, 2), (True, 0)])
def test_a_text_with_a_bad_line_is_taken_line_by_line_or_not_at_all(
    all_or_nothing: bool, stored: int, technician: Technician, licensed: House
) -> None:
    good = [licensed.vendor.key(2, 1).text, licensed.vendor.key(2, 1).text]
    text = f"key,name\r\n{good[0]},a\r\n\r\nno key\r\n{good[1]}\r\n"
    answer = technician("ImportList", text=text, all_or_nothing=all_or_nothing)
    assert answer["accepted"] is False
    assert answer["stored"] is (stored > 0)
    assert [(it["line"], it["accepted"]) for it in answer["findings"]] == [(2, True), (4, False), (5, True)]
    assert technician.stored() == (stored, 0)
    assert licensed.log.names().count(EventName.LICENSE_ADDED) == stored


def test_an_older_list_is_refused_and_the_same_one_changes_nothing(technician: Technician, licensed: House) -> None:
    vendor = licensed.vendor
    newer, older = vendor.list_of(vendor.key(2, 5), number=7), vendor.list_of(vendor.key(2, 99), number=6)
    for text, verdict, accepted, stored in (
        (newer, "imported", True, True),
        (older, "older_list", False, False),
        (newer, "already_there", True, False),
    ):
        answer = technician("ImportList", text=text)
        assert answer["findings"][0]["verdict"] == verdict
        assert (answer["accepted"], answer["stored"]) == (accepted, stored)
    assert licensed.enforcer.entitlements["trunk"].limit == 5
    assert licensed.store.load()[0].license_list == newer
    assert licensed.log.names().count(EventName.LIST_IMPORTED) == 1


def test_what_if_says_the_standing_and_what_would_be_above_its_limit(technician: Technician, licensed: House) -> None:
    for name in ("a", "b", "c"):
        licensed.ask("io.featurekey.License.Acquire", **licensed.acquire(name)["parameters"])
    (trunks,) = [key for key in licensed.enforcer.licenses.revocations if key.feature_code == 2]
    answer = technician("WhatIf", remove=[trunks.short])
    (change,) = answer["changes"]
    assert (answer["standing"], change["before"], change["after"], change["over"]) == ("licensed", 8, 0, 3)
    licensed.enforcer.see(licensed.seen("absent"), licensed.clock())
    licensed.clock.run(2 * 3600)
    licensed.enforcer.tick(licensed.clock())
    answer = technician("WhatIf", add=[{"feature": "trunk"}])
    (change,) = answer["changes"]
    assert (answer["standing"], change["before"], change["after"]) == ("deactivated", 8, 9)
    assert change.keys() == {"feature", "title", "before", "after"}


def test_a_listed_license_says_where_its_feature_key_is(technician: Technician, licensed: House) -> None:
    licensed.enforcer.see(licensed.seen("absent"), licensed.clock())
    (first, *_) = licensed.ask(f"{MANAGE}.ListLicenses", more=True)
    assert "The Feature Key is away" in first["parameters"]["license"]["finding"]
    licensed.enforcer.see(licensed.seen(hardware_id="00" * 15), licensed.clock())
    rows = licensed.ask(f"{MANAGE}.ListLicenses", more=True)
    assert {row["parameters"]["license"]["status"] for row in rows} == {"invalid"}


def test_a_lease_freed_by_a_technician_is_told_with_who_did_it(technician: Technician, licensed: House) -> None:
    licensed.ask("io.featurekey.License.Acquire", **licensed.acquire("a")["parameters"])
    assert technician("ReleaseLease", holder="kamailio", key="a") == {"released": True}
    assert technician("ReleaseLease", holder="kamailio", key="a") == {"released": False}
    licensed.site.settle()
    assert licensed.log.one(EventName.LEASE_FORCED).fields == {"HOLDER": "kamailio", "LEASE": "a", "BY": "uid 0"}


def test_no_answer_holds_a_whole_key_of_what_is_installed(technician: Technician, licensed: House) -> None:
    keys = [key.text for key in licensed.enforcer.licenses.revocations]
    said = str(licensed.ask(f"{MANAGE}.ListLicenses", more=True))
    assert all(key not in said and key.replace("-", "") not in said for key in keys)
    assert all(key.short in said for key in licensed.enforcer.licenses.revocations)


@pytest.mark.parametrize(
    "text", ["", "key,name\n\n# nothing\n", "-----BEGIN FEATUREKEYD LICENSE LIST-----\nSerial: 1\n"]
)
def test_a_text_without_anything_to_take_is_neither_accepted_nor_stored(
    text: str, technician: Technician, licensed: House
) -> None:
    answer = technician("ImportList", text=text)
    assert (answer["accepted"], answer["stored"]) == (False, False)
    assert [it["verdict"] for it in answer["findings"]] == ["bad_document"]
    assert technician.stored() == (0, 0)


def test_a_typed_key_deletes_no_list_that_could_not_be_verified(technician: Technician, licensed: House) -> None:
    """The vendor's public key may only be missing for now: the text stays stored until a list is imported."""
    site, licenses = licensed.site, licensed.enforcer.licenses
    site.documents = msgspec.structs.replace(site.documents, license_list="a list of an unknown signer")
    unverified = msgspec.structs.replace(licenses, license_list=None, revocations={})
    licensed.enforcer.adopt_stored(unverified, licensed.clock())
    assert technician.finding("AddLicense", key=licensed.vendor.key().text)["accepted"] is True
    assert licensed.store.load()[0].license_list == "a list of an unknown signer"


def test_a_certificate_of_another_serial_takes_the_list_before_it_away(technician: Technician, licensed: House) -> None:
    listed = licensed.vendor.list_of(licensed.vendor.key(), number=2)
    technician("ImportList", text=listed)
    assert licensed.store.load()[0].license_list == listed
    other = licensed.vendor.certificate(serial="110123456780")
    assert technician.finding("ImportCertificate", text=other)["accepted"] is True
    documents, _ = licensed.store.load()
    assert (documents.certificate, documents.license_list) == (other, None)
    assert documents.marks["110123456789"].list_number == 2, "it is remembered how far the one before had come"


def test_an_exchanged_key_brings_its_licenses_with_its_certificate(technician: Technician, licensed: House) -> None:
    vendor, other = licensed.vendor, "110123456780"
    typed = vendor.key(code=2, instances=3)
    technician.finding("AddLicense", key=typed.text)
    licensed.log.events.clear()
    license_list = vendor.list_of(vendor.key(2, 5, serial=other), serial=other)
    text = f"Dear technician,\r\n{vendor.certificate(serial=other)}\r\nand\r\n{license_list}"
    answer = technician("ImportCertificate", text=text)
    assert answer["finding"]["verdict"] == "imported"
    assert [it["message"] for it in answer["list_findings"]] == ["License list 1 of 2026-12-01: 1 good key."]
    documents, _ = licensed.store.load()
    assert (documents.certificate, documents.license_list) == (text, text)
    assert documents.typed == (typed.text,), "keys of the Feature Key before are kept"
    assert licensed.enforcer.entitlements["trunk"].limit == 5
    names = [name for name in licensed.log.names() if name.endswith("_imported")]
    assert names == [EventName.CERTIFICATE_IMPORTED, EventName.LIST_IMPORTED]
    again, refused = read_documents(documents, vendor.keys, "exchange")
    assert (again, refused) == (licensed.enforcer.licenses, [])
    twice = technician("ImportCertificate", text=text)
    assert [twice["finding"]["verdict"], twice["list_findings"][0]["verdict"]] == ["imported", "already_there"]
    assert licensed.enforcer.licenses == again


def test_a_list_that_cannot_be_read_keeps_the_certificate_beside_it_out(
    technician: Technician, licensed: House
) -> None:
    vendor, other = licensed.vendor, "110123456780"
    damaged = vendor.list_of(vendor.key(2, 5, serial=other), serial=other).replace("List: 1", "List: 2")
    before = (licensed.enforcer.licenses, licensed.store.load())
    answer = technician("ImportCertificate", text=vendor.certificate(serial=other) + damaged)
    assert answer["finding"]["verdict"] == "bad_signature"
    assert "Neither the certificate nor the license list is taken." in answer["finding"]["message"]
    assert "list_findings" not in answer
    assert (licensed.enforcer.licenses, licensed.store.load()) == before


def test_who_imports_only_the_list_of_such_a_text_is_told_to_take_both(technician: Technician, licensed: House) -> None:
    vendor, other = licensed.vendor, "110123456780"
    text = vendor.certificate(serial=other) + vendor.list_of(vendor.key(serial=other), serial=other)
    (finding,) = technician("ImportList", text=text)["findings"]
    assert finding["verdict"] == "other_serial"
    assert "featurekeyctl certificate import FILE" in finding["remedy"]


def test_a_license_names_the_set_that_it_came_with(technician: Technician, licensed: House) -> None:
    vendor = licensed.vendor
    technician("ImportList", text=vendor.list_of(vendor.key(2, 20), number=2, license_set="office-20"))
    technician.finding("AddLicense", key=vendor.key(2, 3).text)
    rows = [it["parameters"]["license"] for it in licensed.ask(f"{MANAGE}.ListLicenses", more=True)]
    assert [(row["source"], row.get("set")) for row in rows] == [("list 2", "office-20"), ("typed", None)]


@pytest.mark.parametrize("name", ["AddLicense", "RemoveLicense", "ImportList", "ImportCertificate"])
def test_what_cannot_be_stored_is_told_and_changes_nothing(
    name: str, licensed: House, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Documents) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(licensed.store, "save_documents", full)
    vendor, before = licensed.vendor, (licensed.enforcer.licenses, licensed.site.documents)
    parameters = {
        "AddLicense": {"key": vendor.key().text},
        "RemoveLicense": {"key": before[0].keys()[0].text},
        "ImportList": {"text": vendor.list_of(vendor.key(), number=2)},
        "ImportCertificate": {"text": vendor.certificate(issued="2026-02-01")},
    }
    (answer,) = licensed.ask(f"{MANAGE}.{name}", **cast("Any", parameters[name]))
    assert answer["error"] == f"{MANAGE}.StateNotStored"
    assert "database or disk is full" in answer["parameters"]["hint"]
    assert (licensed.enforcer.licenses, licensed.site.documents) == before
    assert licensed.log.names() == [EventName.STATE_NOT_STORED]
    assert looks == []
