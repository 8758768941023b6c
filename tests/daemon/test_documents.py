"""What was stored is verified anew: nothing is believed because it is in the file."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from featurekeyd.daemon.documents import read_documents, read_vendor_keys, to_store
from featurekeyd.daemon.store import Documents
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.licenses import Licenses, Mark

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.conftest import Vendor


@pytest.fixture
def stored(vendor: Vendor) -> Documents:
    """A certificate, a list of two keys of which one is removed, one typed key, and how far that serial has come."""
    keys = [vendor.key(code=1, instances=1), vendor.key(code=2)]
    return Documents(
        certificate=vendor.certificate(),
        license_list=vendor.list_of(*keys),
        typed=(vendor.key(code=5).text,),
        removed=frozenset({keys[1].text}),
        marks={"110123456789": Mark(1, datetime.date(2026, 12, 1), datetime.date(2026, 1, 1))},
    )


def changed(text: str | None, place: str) -> str:
    """The text with one byte changed behind that word."""
    assert text is not None
    at = text.index(place) + len(place)
    return f"{text[:at]}{'1' if text[at] != '1' else '2'}{text[at + 1 :]}"


def read(documents: Documents, vendor: Vendor) -> tuple[Licenses, list[Event]]:
    licenses, refused = read_documents(documents, vendor.keys, "exchange")
    assert all(event.name is EventName.STATE_REFUSED for event in refused)
    return licenses, refused


def test_what_was_stored_comes_back_whole(stored: Documents, vendor: Vendor) -> None:
    licenses, refused = read(stored, vendor)
    assert refused == []
    assert licenses.serial == "110123456789"
    assert [len(licenses.revocations), len(licenses.typed), len(licenses.removed), len(licenses.keys())] == [2, 1, 1, 2]
    assert to_store(licenses, stored) == stored


def test_nothing_stored_gives_nothing(vendor: Vendor) -> None:
    assert read(Documents(), vendor) == (Licenses(), [])


def test_a_list_with_a_changed_byte_is_refused_and_the_rest_goes_on(stored: Documents, vendor: Vendor) -> None:
    spoiled = msgspec.structs.replace(stored, license_list=changed(stored.license_list, "List: "))
    licenses, refused = read(spoiled, vendor)
    assert licenses.certificate is not None
    assert licenses.license_list is None
    assert len(licenses.typed) == 1
    assert [event.fields["REASON"] for event in refused] == ["bad_signature"]


def test_a_certificate_with_a_changed_byte_is_refused_and_the_rest_goes_on(stored: Documents, vendor: Vendor) -> None:
    spoiled = msgspec.structs.replace(stored, certificate=changed(stored.certificate, "Hardware-Id: "))
    licenses, refused = read(spoiled, vendor)
    assert licenses.certificate is None
    assert len(licenses.typed) == 1
    assert [event.fields["REASON"] for event in refused] == ["bad_signature"]


def test_a_certificate_edited_to_a_test_one_is_refused(stored: Documents, vendor: Vendor) -> None:
    assert stored.certificate is not None
    edited = msgspec.structs.replace(stored, certificate=stored.certificate.replace("Test: no", "Test: yes"))
    licenses, refused = read(edited, vendor)
    assert licenses.certificate is None
    assert len(refused) == 1


def test_a_list_in_place_of_a_certificate_is_refused(stored: Documents, vendor: Vendor) -> None:
    licenses, refused = read(msgspec.structs.replace(stored, certificate=stored.license_list), vendor)
    assert licenses.certificate is None
    assert [event.fields["REASON"] for event in refused] == ["bad_document"]


def test_documents_of_another_vendor_are_refused(stored: Documents, vendor: Vendor) -> None:
    licenses, refused = read(stored, type(vendor)(seed=2))
    assert licenses.certificate is None
    assert [event.fields["REASON"] for event in refused] == ["unknown_signer"]


def test_a_typed_key_with_a_changed_character_is_refused_and_told(stored: Documents, vendor: Vendor) -> None:
    (text,) = stored.typed
    spoiled = msgspec.structs.replace(stored, typed=(changed(text, text[:5]), vendor.key(code=2).text))
    licenses, refused = read(spoiled, vendor)
    assert len(licenses.typed) == 1
    assert [event.fields["REASON"] for event in refused] == ["mistyped"]
    assert text[5:] not in refused[0].message


def test_what_was_taken_before_keeps_older_documents_away(stored: Documents, vendor: Vendor) -> None:
    marks = {"110123456789": Mark(9, datetime.date(2026, 12, 9), datetime.date(2026, 1, 1))}
    licenses, refused = read(msgspec.structs.replace(stored, marks=marks), vendor)
    assert licenses.license_list is None, "it is of a backup: a newer one was imported before"
    assert [event.fields["REASON"] for event in refused] == ["older_list"]
    assert licenses.marks == marks


def test_a_list_that_is_not_believed_stays_stored_until_another_comes(stored: Documents, vendor: Vendor) -> None:
    spoiled = msgspec.structs.replace(stored, license_list=changed(stored.license_list, "List: "))
    licenses, _ = read(spoiled, vendor)
    more = msgspec.structs.replace(licenses, typed=(*licenses.typed, vendor.key(code=2)))
    kept = to_store(more, spoiled)
    assert kept.license_list == spoiled.license_list, "the vendor's public key may only be missing for now"
    assert len(kept.typed) == 2
    assert to_store(more, spoiled, license_list="newer").license_list == "newer"


def test_a_text_goes_when_a_change_says_so(stored: Documents, vendor: Vendor) -> None:
    licenses, _ = read(stored, vendor)
    after = to_store(licenses, stored, certificate="new", license_list=None)
    assert (after.certificate, after.license_list) == ("new", None)
    assert (after.typed, after.removed, after.marks) == (stored.typed, stored.removed, stored.marks)


def test_a_certificate_of_another_catalog_than_the_settings_is_refused_and_told(
    stored: Documents, vendor: Vendor
) -> None:
    licenses, (refused,) = read_documents(stored, vendor.keys, "other-exchange")
    assert licenses.certificate is None
    assert licenses.license_list is None
    assert len(licenses.typed) == 1
    assert (refused.name, refused.fields["REASON"]) == (EventName.STATE_REFUSED, "other_catalog")
    assert "It is for catalog exchange, and the settings say other-exchange." in refused.message


def test_vendor_keys_are_read_and_what_is_none_is_told(tmp_path: Path, vendor: Vendor) -> None:
    pem = vendor.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    rsa = generate_private_key(65537, 2048).public_key()
    (tmp_path / "good.pub").write_bytes(pem)
    (tmp_path / "other.txt").write_bytes(b"ignored")
    (tmp_path / "empty.pub").touch()
    (tmp_path / "folder.pub").mkdir()
    (tmp_path / "rsa.pub").write_bytes(rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    keys, wrong = read_vendor_keys(tmp_path)
    assert list(keys) == [vendor.signer]
    assert [text.partition(" ")[0] for text in wrong] == ["empty.pub", "folder.pub", "rsa.pub"]


def test_no_folder_holds_no_vendor_keys(tmp_path: Path) -> None:
    assert read_vendor_keys(tmp_path / "none") == ({}, [])
