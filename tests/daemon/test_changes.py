"""Changes of the licenses: worked out without any effect, and what they say to store and to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import changes
from featurekeyd.daemon.changes import Change
from featurekeyd.policy.certificate import read_certificate
from featurekeyd.policy.events import EventName
from featurekeyd.policy.findings import Finding, Verdict
from featurekeyd.policy.licensekey import MAX_TYPED
from featurekeyd.policy.licenselist import TypedKey, read_list, read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.daemon.conftest import House


@pytest.fixture
def site(licensed: House) -> Iterator[House]:
    """A certified site that is as it was when the test is over: no change has an effect by itself."""
    before = (licensed.enforcer.licenses, licensed.site.documents, licensed.store.load())
    yield licensed
    assert (licensed.enforcer.licenses, licensed.site.documents, licensed.store.load()) == before
    assert licensed.log.events == []


def verdicts(findings: list[Finding]) -> list[str]:
    return [str(finding.verdict) for finding in findings]


def added(site: House, text: str) -> Change:
    return changes.added(site.enforcer, text, site.enforcer.today(site.clock()))


def test_a_key_more_is_news_and_to_store(site: House) -> None:
    key = site.vendor.key(code=2, instances=3)
    change = added(site, key.text)
    assert (change.stored, change.event, change.texts) == (True, EventName.LICENSE_ADDED, {})
    assert verdicts(change.news) == ["unlisted"]
    assert change.licenses.typed == (key,)


def test_a_key_that_is_there_or_is_none_changes_nothing_and_is_no_news(site: House) -> None:
    (there, *_) = site.enforcer.licenses.keys()
    for text, verdict in ((there.text, "already_there"), ("no key", "not_a_key")):
        change = added(site, text)
        assert (change.stored, change.news, verdicts(change.findings)) == (False, [], [verdict])
        assert change.licenses is site.enforcer.licenses


def test_a_key_that_was_removed_and_is_typed_again_is_valid_at_once(site: House) -> None:
    (there, *_) = site.enforcer.licenses.keys()
    gone = changes.removed(site.enforcer, there.text)
    back, finding = gone.licenses.with_key(there.text, site.catalog, site.enforcer.today(site.clock()))
    assert (finding.verdict, back.removed) == (Verdict.VALID, frozenset())


def test_a_license_less_is_news_and_to_store(site: House) -> None:
    (there, *_) = site.enforcer.licenses.keys()
    change = changes.removed(site.enforcer, there.text)
    assert (change.stored, change.event, change.texts) == (True, EventName.LICENSE_REMOVED, {})
    assert verdicts(change.news) == ["removed"]
    assert change.licenses.removed == {there}


def test_what_is_not_installed_cannot_be_removed(site: House) -> None:
    change = changes.removed(site.enforcer, site.vendor.key().text)
    assert (change.stored, change.news, verdicts(change.findings)) == (False, [], ["not_found"])


def test_a_text_too_long_for_a_key_is_no_key_whatever_it_begins_with(site: House) -> None:
    (there, *_) = site.enforcer.licenses.keys()
    most = there.text.ljust(MAX_TYPED)
    assert verdicts(changes.removed(site.enforcer, most).findings) == ["removed"]
    assert verdicts(added(site, most).findings) == ["already_there"]
    for change, verdict in (
        (changes.removed(site.enforcer, f"{most} "), "not_found"),
        (added(site, f"{most} "), "not_a_key"),
    ):
        assert (change.stored, change.news, verdicts(change.findings)) == (False, [], [verdict])
        assert "257 characters" in change.findings[0].message


# The certificate


def certified(site: House, text: str) -> Change:
    return changes.certified(site.enforcer, read_certificate(text, site.vendor.keys), text)


def test_a_certificate_of_the_same_serial_leaves_the_list(site: House) -> None:
    text = site.vendor.certificate(issued="2026-02-01")
    change = certified(site, text)
    assert (change.stored, change.event) == (True, EventName.CERTIFICATE_IMPORTED)
    assert change.texts == {"certificate": text}
    assert change.licenses.license_list is site.enforcer.licenses.license_list
    assert change.news[0].message == "The certificate of serial 110123456789 is imported."


def test_a_list_of_another_serial_goes_with_the_certificate_before(site: House) -> None:
    text = site.vendor.certificate(serial="110123456780")
    change = certified(site, text)
    assert change.texts == {"certificate": text, "license_list": None}
    assert change.licenses.license_list is None
    assert verdicts(change.news) == ["imported"]


def test_a_list_that_could_not_be_read_does_not_go_with_a_certificate(house: House) -> None:
    house.enforcer.see(house.seen(), house.clock())
    text = house.vendor.certificate()
    assert certified(house, text).texts == {"certificate": text}


def test_a_certificate_that_is_refused_is_not_to_store(site: House) -> None:
    for text, verdict in (
        (site.vendor.certificate(issued="2025-12-31"), "older_certificate"),
        (site.vendor.certificate(test=True), "test_mismatch"),
        (site.vendor.certificate(catalog="other"), "other_catalog"),
    ):
        change = certified(site, text)
        assert (change.stored, change.news, verdicts(change.findings)) == (False, [], [verdict])


def test_a_test_certificate_is_told_as_one(house: House) -> None:
    house.enforcer.see(house.seen(simulated=True), house.clock())
    change = certified(house, house.vendor.certificate(test=True))
    assert change.news[0].message == "The certificate of serial 110123456789 is imported, for tests only."


# Both in one text, as an exchange gives them

OTHER = "110123456780"


def exchanged(site: House, certificate: str, license_list: str) -> Change:
    text = certificate + license_list
    keys = site.vendor.keys
    return changes.certified_with_list(site.enforcer, read_certificate(text, keys), read_list(text, keys), text)


def test_a_certificate_and_the_list_beside_it_are_taken_in_one_change(site: House) -> None:
    key = site.vendor.key(serial=OTHER)
    certificate, license_list = site.vendor.certificate(serial=OTHER), site.vendor.list_of(key, serial=OTHER)
    change = exchanged(site, certificate, license_list)
    text = certificate + license_list
    assert (change.stored, change.texts) == (True, {"certificate": text, "license_list": text})
    assert (change.licenses.serial, change.licenses.keys()) == (OTHER, (key,))
    told = [(change.event_of(finding), finding.message.split(":")[0]) for finding in change.news]
    assert told == [
        (EventName.CERTIFICATE_IMPORTED, f"The certificate of serial {OTHER} is imported."),
        (EventName.LIST_IMPORTED, "License list 1 of 2026-12-01"),
    ]


def test_neither_is_taken_where_one_of_them_is_refused(site: House) -> None:
    vendor = site.vendor
    own, other = vendor.certificate(issued="2026-02-01"), vendor.certificate(serial=OTHER)
    list_of_other = vendor.list_of(vendor.key(serial=OTHER), serial=OTHER)
    for certificate, license_list, verdict in (
        (vendor.certificate(serial=OTHER, test=True), list_of_other, "test_mismatch"),
        (vendor.certificate(issued="2025-12-31"), vendor.list_of(number=2), "older_certificate"),
        (own, list_of_other, "other_serial"),
        (other, vendor.list_of(number=2), "other_serial"),
        (own, vendor.list_of(vendor.key(), number=1), "older_list"),
    ):
        change = exchanged(site, certificate, license_list)
        assert (change.stored, change.texts, change.list_findings, change.news) == (False, {}, [], [])
        assert change.licenses is site.enforcer.licenses
        assert verdicts(change.findings) == [verdict]
        assert change.findings[0].message.endswith(" Neither the certificate nor the license list is taken.")


def test_a_feature_that_the_catalog_has_not_is_told_with_the_list_beside_a_certificate(site: House) -> None:
    key = site.vendor.key(code=901, serial=OTHER)
    change = exchanged(site, site.vendor.certificate(serial=OTHER), site.vendor.list_of(key, serial=OTHER))
    assert (change.stored, verdicts(change.list_findings)) == (True, ["imported", "unknown_feature"])
    assert verdicts(change.news) == ["imported", "imported"]


# Lists


def listed(site: House, text: str, *, dry_run: bool = False) -> Change:
    return changes.listed(site.enforcer, read_list(text, site.vendor.keys), text, dry_run=dry_run)


def test_a_newer_list_is_news_and_to_store(site: House) -> None:
    text = site.vendor.list_of(site.vendor.key(), number=2)
    change = listed(site, text)
    assert (change.stored, change.event, change.texts) == (True, EventName.LIST_IMPORTED, {"license_list": text})
    assert verdicts(change.news) == ["imported"]


def test_another_list_of_the_same_number_is_refused(site: House) -> None:
    older = listed(site, site.vendor.list_of(site.vendor.key(), number=1))
    assert (older.stored, older.news, verdicts(older.findings)) == (False, [], ["older_list"])


def test_keys_of_features_that_the_catalog_has_not_are_told_each_code_once(site: House) -> None:
    keys = [site.vendor.key(code=code) for code in (902, 901, 902, 2)]
    change = listed(site, site.vendor.list_of(*keys, number=2))
    assert change.stored
    assert verdicts(change.findings) == ["imported", "unknown_feature", "unknown_feature"]
    assert ["code 901" in change.findings[1].message, "code 902" in change.findings[2].message] == [True, True]
    assert verdicts(change.news) == ["imported"]


def test_a_dry_run_of_a_list_finds_the_same_and_stores_nothing(site: House) -> None:
    text = site.vendor.list_of(site.vendor.key(code=901), number=2)
    dry, real = listed(site, text, dry_run=True), listed(site, text)
    assert dry.findings == real.findings
    assert (dry.stored, dry.news, real.stored) == (False, [], True)


# Plain texts


def entered(site: House, *lines: str, dry_run: bool = False, all_or_nothing: bool = False) -> Change:
    read: list[TypedKey | Finding] = list(read_plain("\n".join(lines)))
    today = site.enforcer.today(site.clock())
    return changes.entered(site.enforcer, read, today, dry_run=dry_run, all_or_nothing=all_or_nothing)


def test_each_line_has_its_finding_and_the_good_ones_are_news(site: House) -> None:
    good = [site.vendor.key(), site.vendor.key()]
    change = entered(site, "key,name", good[0].text, ",no key", "no key", f"{good[1].text},b", good[0].text)
    assert [finding.line for finding in change.findings] == [2, 3, 4, 5, 6]
    assert verdicts(change.findings) == ["unlisted", "bad_line", "not_a_key", "unlisted", "already_there"]
    assert (change.stored, change.event, change.texts) == (True, EventName.LICENSE_ADDED, {})
    assert [finding.key for finding in change.news] == [good[0].short, good[1].short]
    assert change.licenses.typed == tuple(good)


@pytest.mark.parametrize(("bad", "stored"), [("no key", False), ("", True)])
def test_all_or_nothing_stores_only_what_is_good_throughout(bad: str, stored: bool, site: House) -> None:
    change = entered(site, site.vendor.key().text, bad, all_or_nothing=True)
    assert change.stored is stored
    assert len(change.news) == stored


def test_a_dry_run_finds_the_same_and_stores_nothing(site: House) -> None:
    lines = (site.vendor.key().text, "no key")
    dry, real = entered(site, *lines, dry_run=True), entered(site, *lines)
    assert dry.findings == real.findings
    assert (dry.stored, dry.news, real.stored) == (False, [], True)


def test_keys_that_are_all_there_already_store_nothing(site: House) -> None:
    installed = site.enforcer.licenses.keys()
    change = entered(site, *(key.text for key in installed))
    assert (change.stored, change.news) == (False, [])
    assert all(finding.accepted for finding in change.findings)


def test_a_key_for_another_shipped_product_is_told_so_typed_and_in_a_text(site: House) -> None:
    key = site.vendor.key(catalog="ip-office")
    said = "A good key for serial 110123456789, and for the product ip-office instead of exchange."
    today = site.enforcer.today(site.clock())
    lines = list(read_plain(f"{key.text},trunks"))
    for change in (
        added(site, key.text),
        changes.entered(site.enforcer, lines, today, dry_run=False, all_or_nothing=False),
    ):
        assert [(it.verdict, it.message) for it in change.findings] == [(Verdict.OTHER_CATALOG, said)]
        assert not change.stored
