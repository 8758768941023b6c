"""The installed licenses: every finding about a key and a list, and every status a license can have."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.findings import Finding, Verdict
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.licenselist import Entry
from featurekeyd.policy.licenses import License, Licenses, Status

if TYPE_CHECKING:
    from tests.policy.conftest import Site

DAY = datetime.timedelta(days=1)
TODAY = datetime.date(2026, 3, 1)


@pytest.fixture
def empty(open_site: Callable[..., Site]) -> Site:
    """A certified site whose newest list is the first one, without a key."""
    return open_site()


def other(site: Site, **changes: object) -> LicenseKey:
    """A well-formed key that is not quite for this site."""
    fields: dict[str, object] = {
        "feature_code": 2,
        "instances": 8,
        "issued": TODAY,
        "term": Term.PERPETUAL,
        "sequence": 1,
        "catalog": site.catalog.id,
        "serial": "110123456789",
    }
    return make_key(**{**fields, **changes})  # type: ignore[arg-type]


def typed(site: Site, text: str, licenses: Licenses | None = None) -> tuple[Licenses, Finding]:
    return (licenses or site.licenses).with_key(text, site.catalog, TODAY)


def statuses(site: Site, licenses: Licenses, day: datetime.date = TODAY) -> list[tuple[Status, bool]]:
    return [(license_.status, license_.listed) for license_ in licenses.on(day, site.catalog)]


def only(site: Site, licenses: Licenses, day: datetime.date = TODAY) -> License:
    (license_,) = licenses.on(day, site.catalog)
    return license_


# Keys


def test_a_key_typed_by_hand_is_taken_as_unlisted(empty: Site) -> None:
    licenses, finding = typed(empty, empty.key("trunk", 8).text)
    assert (finding.verdict, finding.accepted, finding.feature, finding.instances) == ("unlisted", True, "trunk", 8)
    assert finding.remedy
    assert statuses(empty, licenses) == [(Status.UNKNOWN, False)]


def test_a_key_that_is_on_the_list_already_is_already_there(site: Site) -> None:
    (key,) = site.licenses.keys()
    licenses, finding = typed(site, key.text)
    assert (finding.verdict, finding.accepted) == (Verdict.ALREADY_THERE, True)
    assert licenses == site.licenses


def test_a_key_typed_twice_counts_once(empty: Site) -> None:
    key = empty.key("trunk", 8)
    once, _ = typed(empty, key.text)
    twice, finding = typed(empty, key.text.lower().replace("-", " "), once)
    assert finding.verdict is Verdict.ALREADY_THERE
    assert twice.keys() == (key,)


def test_a_key_that_was_typed_and_then_listed_counts_once(empty: Site) -> None:
    key = empty.key("trunk", 8)
    empty.type_in(key)
    empty.bring(empty.list_of(key))
    assert statuses(empty, empty.licenses) == [(Status.VALID, True)]


def test_a_key_twice_on_a_list_counts_once(empty: Site) -> None:
    key = empty.key("trunk", 8)
    empty.bring(empty.list_of(key, key))
    assert empty.enforcer.entitlements["trunk"].limit == 8


def test_a_revoked_key_is_refused_and_a_typed_one_stops_counting_when_revoked(empty: Site) -> None:
    key = empty.key("trunk", 8)
    empty.type_in(key)
    empty.bring(empty.list_of(revoked=(key,)))
    license_ = only(empty, empty.licenses)
    assert (license_.status, license_.finding) == (Status.INVALID, "The vendor has revoked this key.")
    assert typed(empty, key.text)[1].verdict is Verdict.REVOKED


def test_no_key_is_taken_before_the_certificate(empty: Site) -> None:
    licenses, finding = Licenses().with_key(empty.key("trunk", 8).text, empty.catalog, TODAY)
    assert (finding.verdict, finding.accepted, licenses) == (Verdict.NO_CERTIFICATE, False, Licenses())


REFUSED = [
    ({"serial": "110123456780"}, Verdict.OTHER_SERIAL),
    ({"catalog": "ip-office"}, Verdict.OTHER_SERIAL),
    ({"feature_code": 99}, Verdict.UNKNOWN_FEATURE),
    ({"issued": TODAY + 2 * DAY}, Verdict.NOT_YET_ISSUED),
    ({"term": Term.TRIAL, "issued": TODAY - 60 * DAY}, Verdict.EXPIRED),
]
"""Keys that are refused where no list has come yet."""


@pytest.mark.parametrize(("changes", "verdict"), REFUSED)
def test_a_key_that_is_not_good_here_is_refused_with_the_reason_and_changes_nothing(
    empty: Site, changes: dict[str, object], verdict: Verdict
) -> None:
    key = other(empty, **changes)
    licenses, finding = typed(empty, key.text)
    assert (finding.verdict, finding.accepted) == (verdict, False)
    assert finding.message
    assert finding.remedy
    assert finding.key == key.short
    assert key.text not in str(finding)
    assert licenses == empty.licenses


@pytest.mark.parametrize("code", [2, 99])
def test_a_key_of_this_serial_for_another_product_is_told_with_the_product(empty: Site, code: int) -> None:
    key = other(empty, catalog="ip-office", feature_code=code)
    products = ("ayrix", "exchange", "ip-office")
    licenses, finding = empty.licenses.with_key(key.text, empty.catalog, TODAY, products)
    assert (finding.verdict, licenses) == (Verdict.OTHER_CATALOG, empty.licenses)
    said = "A good key for serial 110123456789, and for the product ip-office instead of exchange."
    assert (finding.message, finding.key) == (said, key.short)


def test_a_key_of_a_product_that_is_not_known_may_be_for_another_serial_or_product(empty: Site) -> None:
    finding = typed(empty, other(empty, catalog="ip-office").text)[1]
    assert finding.message == "A good key, and not for serial 110123456789, or not for the product exchange."
    elsewhere = other(empty, catalog="ip-office", serial="110123456780")
    _, finding = empty.licenses.with_key(elsewhere.text, empty.catalog, TODAY, ("ip-office",))
    assert finding.verdict is Verdict.OTHER_SERIAL


def test_a_key_of_this_product_with_a_feature_of_a_later_release_is_not_for_another_product(empty: Site) -> None:
    key = other(empty, feature_code=99)
    _, finding = empty.licenses.with_key(key.text, empty.catalog, TODAY, ("exchange", "ip-office"))
    assert finding.verdict is Verdict.UNKNOWN_FEATURE


def test_typed_keys_whose_certificate_is_gone_say_so(empty: Site) -> None:
    empty.type_in(empty.key("trunk", 8))
    bare = msgspec.structs.replace(empty.licenses, certificate=None, license_list=None, revocations={})
    assert only(empty, bare).finding == "No Feature Key certificate is imported."


@pytest.mark.parametrize(("count", "said"), [(0, "0 good keys"), (1, "1 good key"), (2, "2 good keys")])
def test_a_list_is_told_with_the_number_of_its_good_keys(empty: Site, count: int, said: str) -> None:
    newer = empty.list_of(*(empty.key("trunk", 1) for _ in range(count)))
    assert empty.licenses.with_list(newer)[1].message == f"License list {newer.number} of 2026-01-01: {said}."


def test_a_mistyped_key_is_refused_with_the_place_and_the_key_that_was_meant(empty: Site) -> None:
    good = empty.key("trunk", 8).text
    wrong = ("2" if good[0] != "2" else "3") + good[1:]
    licenses, finding = typed(empty, wrong)
    assert (finding.verdict, finding.position, finding.suggestion) == (Verdict.MISTYPED, 1, good)
    assert licenses == empty.licenses


@pytest.mark.parametrize("text", ["", "hello", "0" * 31, "0" * 33, "U" * 32])
def test_what_is_no_key_is_refused(empty: Site, text: str) -> None:
    licenses, finding = typed(empty, text)
    assert (finding.verdict, finding.accepted, licenses) == (Verdict.NOT_A_KEY, False, empty.licenses)


@pytest.mark.parametrize(("ahead", "accepted"), [(0, True), (1, True), (2, False)])
def test_an_issue_day_may_lie_one_day_ahead(empty: Site, ahead: int, accepted: bool) -> None:
    key = empty.key("trunk", 8, issued=TODAY + ahead * DAY)
    assert typed(empty, key.text)[1].accepted is accepted


@pytest.mark.parametrize(
    ("term", "last"),
    [
        (Term.TRIAL, datetime.date(2026, 4, 29)),
        (Term.MONTH, datetime.date(2026, 3, 31)),
        (Term.YEAR, datetime.date(2027, 2, 28)),
        (Term.THREE_YEARS, datetime.date(2029, 2, 28)),
        (Term.FIVE_YEARS, datetime.date(2031, 2, 28)),
    ],
)
def test_a_dated_license_is_good_on_its_last_day_and_not_on_the_next(
    empty: Site, term: Term, last: datetime.date
) -> None:
    key = empty.key("trunk", 8, term)
    licenses, _ = empty.licenses.with_list(empty.list_of(key))
    assert only(empty, licenses, last - DAY).status is Status.VALID
    assert only(empty, licenses, last).status is Status.VALID
    assert only(empty, licenses, last + DAY).status is Status.EXPIRED
    assert empty.licenses.with_key(key.text, empty.catalog, last)[1].accepted
    assert empty.licenses.with_key(key.text, empty.catalog, last + DAY)[1].verdict is Verdict.EXPIRED


def test_a_trial_lasts_60_days_with_its_issue_day_the_first(empty: Site) -> None:
    licenses, _ = empty.licenses.with_list(empty.list_of(empty.key("trunk", 8, Term.TRIAL)))
    good = [day for day in range(90) if only(empty, licenses, TODAY + day * DAY).status is Status.VALID]
    assert good == list(range(60))


# Lists


def test_a_key_that_a_newer_list_leaves_out_is_gone(site: Site) -> None:
    site.bring(site.list_of())
    assert site.licenses.keys() == ()


def test_a_typed_key_outlives_a_list_that_leaves_it_out(empty: Site) -> None:
    key = empty.key("trunk", 8)
    empty.type_in(key)
    empty.bring(empty.list_of())
    assert statuses(empty, empty.licenses) == [(Status.UNKNOWN, False)]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"serial": "110123456780"}, Verdict.OTHER_SERIAL),
        ({"catalog": "ip-office"}, Verdict.OTHER_CATALOG),
        ({"number": 0}, Verdict.OLDER_LIST),
        ({"number": 1}, Verdict.OLDER_LIST),
    ],
)
def test_a_list_that_is_not_for_here_or_not_newer_is_refused_and_changes_nothing(
    empty: Site, changes: dict[str, object], verdict: Verdict
) -> None:
    wrong = msgspec.structs.replace(empty.list_of(empty.key("trunk", 8), number=2), **changes)
    licenses, finding = empty.licenses.with_list(wrong)
    assert (finding.verdict, finding.accepted, licenses) == (verdict, False, empty.licenses)


def test_the_same_list_again_is_already_there_and_a_removed_key_stays_away(site: Site) -> None:
    (key,) = site.licenses.keys()
    without, _ = site.licenses.without_key(key.text)
    assert site.licenses.license_list is not None
    again, finding = without.with_list(site.licenses.license_list)
    assert (finding.verdict, finding.accepted) == (Verdict.ALREADY_THERE, True)
    assert again.keys() == ()


def test_no_list_is_taken_before_the_certificate(empty: Site) -> None:
    assert Licenses().with_list(empty.list_of())[1].verdict is Verdict.NO_CERTIFICATE


# Removal


def test_a_removed_key_comes_back_with_a_newer_list_or_when_it_is_typed(site: Site) -> None:
    (key,) = site.licenses.keys()
    without, finding = site.licenses.without_key(key.text)
    assert (finding.verdict, finding.accepted, without.keys()) == (Verdict.REMOVED, True, ())
    retyped, finding = typed(site, key.text, without)
    assert (finding.verdict, retyped.keys()) == (Verdict.VALID, (key,))
    newer, _ = without.with_list(site.list_of(key))
    assert newer.keys() == (key,)


def test_a_typed_key_is_removed_for_good(empty: Site) -> None:
    key = empty.key("trunk", 8)
    empty.type_in(key)
    without, _ = empty.licenses.without_key(key.text)
    assert (without.typed, without.removed) == ((), frozenset())


def test_a_key_is_removed_by_its_beginning_however_it_is_written(site: Site) -> None:
    (key,) = site.licenses.keys()
    begin = key.text[:9].lower().replace("0", "o").replace("1", "l")
    assert site.licenses.without_key(f" {begin} ")[1].verdict is Verdict.REMOVED


def test_a_beginning_that_several_keys_have_is_ambiguous(empty: Site) -> None:
    empty.bring(empty.list_of(empty.key("trunk", 8), empty.key("trunk", 8)))
    keys = empty.licenses.keys()
    first, second = (key.text for key in keys)
    common = next(place for place in range(40) if first[place] != second[place])
    licenses, finding = empty.licenses.without_key(first[:common])
    assert (finding.verdict, finding.accepted, licenses) == (Verdict.AMBIGUOUS, False, empty.licenses)
    assert empty.licenses.without_key(first[: common + 1])[0].keys() == keys[1:]


@pytest.mark.parametrize("text", ["", "-", " ", "\u00df", "ZZZZ-ZZZZ"])
def test_nothing_is_removed_when_no_key_begins_so(site: Site, text: str) -> None:
    licenses, finding = site.licenses.without_key(text)
    assert (finding.verdict, finding.accepted, licenses) == (Verdict.NOT_FOUND, False, site.licenses)


@pytest.mark.parametrize("shown", ["{0}…{1}", " {0}...{1} ", "{0}… {1}"])
def test_a_key_is_removed_by_what_the_listing_shows_of_it(site: Site, shown: str) -> None:
    (key,) = site.licenses.keys()
    text = shown.format(key.short[:4].lower(), key.short[-4:])
    assert site.licenses.without_key(text)[1].verdict is Verdict.REMOVED


@pytest.mark.parametrize("text", ["", "4", "40A0-0H6", "…", "...", "4…{0}", "4...", "{1}…", "…{0}", "{1}…T"])
def test_a_few_characters_remove_nothing(site: Site, text: str) -> None:
    (key,) = site.licenses.keys()
    short = text.format(key.short[-4:], key.short[:4])
    assert site.licenses.without_key(short)[1].verdict is Verdict.NOT_FOUND


# What a newer list leaves out


@pytest.mark.parametrize(("issued", "status"), [(-1, Status.INVALID), (0, Status.UNKNOWN), (1, Status.UNKNOWN)])
def test_a_typed_key_that_a_list_of_a_later_day_leaves_out_counts_no_more(
    empty: Site, issued: int, status: Status
) -> None:
    newer = empty.list_of()
    key = empty.key("trunk", 8, issued=newer.date + issued * DAY)
    licenses, finding = typed(empty, key.text, msgspec.structs.replace(empty.licenses, license_list=None))
    assert finding.verdict is Verdict.UNLISTED
    licenses, _ = licenses.with_list(newer)
    assert statuses(empty, licenses) == [(status, False)]
    refused = licenses.without_key(key.text)[0].with_key(key.text, empty.catalog, TODAY)[1]
    assert refused.verdict is (Verdict.NOT_ON_LIST if status is Status.INVALID else Verdict.UNLISTED)


def test_a_key_once_revoked_on_a_list_is_revoked(empty: Site) -> None:
    key = empty.key("trunk", 8)
    for revoked in (True, False):
        entries = (Entry(key, "", revoked), Entry(key, "", not revoked))
        twice = msgspec.structs.replace(empty.list_of(), entries=entries)
        assert statuses(empty, empty.licenses.with_list(twice)[0]) == [(Status.INVALID, True)]


# What has come once does not come back


def test_no_older_list_comes_back_by_way_of_another_certificate(site: Site) -> None:
    first, second = site.list_of(), site.list_of()
    site.bring(second)
    away = site.licenses.with_certificate(certificate_of(site, serial="110123456780"))
    back = away.with_certificate(certificate_of(site))
    assert back.license_list is None
    assert back.with_list(first)[1].verdict is Verdict.OLDER_LIST
    again, finding = back.with_list(second)
    assert (finding.verdict, again.mark) == (Verdict.IMPORTED, site.licenses.mark)
    assert away.floor == site.licenses.floor


def test_the_same_list_again_gives_no_grace_back(site: Site) -> None:
    newest = site.list_of()
    site.bring(newest)
    site.type_in(site.key("phone", 3, issued=TODAY))
    site.wait(3600)
    drained = site.enforcer.meters[Cause.UNLISTED_LICENSES].drained
    assert drained == 3600
    away = site.licenses.with_certificate(certificate_of(site, serial="110123456780"))
    site.enforcer.adopt(away, site.now)
    site.enforcer.adopt(away.with_certificate(certificate_of(site)).with_list(newest)[0], site.now)
    assert site.enforcer.meters[Cause.UNLISTED_LICENSES].drained == drained


def test_an_older_certificate_of_the_same_serial_is_refused(site: Site) -> None:
    newer = certificate_of(site, issued=TODAY)
    older = certificate_of(site, issued=TODAY - DAY)
    licenses = site.licenses.with_certificate(newer)
    refused = licenses.refuse_certificate(older)
    assert refused is not None
    assert refused.verdict is Verdict.OLDER_CERTIFICATE
    assert licenses.refuse_certificate(newer) is None
    assert licenses.refuse_certificate(certificate_of(site, serial="110123456780", issued=TODAY - DAY)) is None


# Status and floor


def test_a_key_whose_feature_the_catalog_lost_is_invalid(site: Site) -> None:
    smaller = msgspec.structs.replace(site.catalog, by_code={})
    (license_,) = site.licenses.on(TODAY, smaller)
    assert (license_.status, license_.feature) == (Status.INVALID, None)


def certificate_of(site: Site, **changes: object) -> Certificate:
    assert site.licenses.certificate is not None
    return msgspec.structs.replace(site.licenses.certificate, **changes)


def test_under_the_certificate_of_another_key_the_list_is_dropped_and_typed_keys_are_invalid(site: Site) -> None:
    site.type_in(site.key("phone", 3))
    changed = site.licenses.with_certificate(certificate_of(site, serial="110123456780"))
    assert changed.license_list is None
    assert [(it.status, it.finding) for it in changed.on(TODAY, site.catalog)] == [
        (Status.INVALID, "A good key, and not for serial 110123456780, or not for the product exchange.")
    ]


def test_a_newer_certificate_of_the_same_key_keeps_the_list(site: Site) -> None:
    changed = site.licenses.with_certificate(certificate_of(site, issued=TODAY))
    assert statuses(site, changed) == [(Status.VALID, True)]
    assert changed.floor == TODAY


def test_the_floor_is_the_latest_signed_day(site: Site) -> None:
    assert Licenses().floor == datetime.date.min
    later = msgspec.structs.replace(site.list_of(), date=TODAY + DAY)
    assert site.licenses.with_list(later)[0].floor == TODAY + DAY
