"""The status of a license, as it is shown: with its Feature Key and without, in time and after it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.licensekey import LicenseKey, Term
from featurekeyd.policy.licenses import License, Licenses, Status
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from tests.policy.conftest import Site

HOUR, DAY = 3600, datetime.timedelta(days=1)
TODAY = datetime.date(2026, 3, 1)


def only(site: Site) -> tuple[Status, str]:
    (license_,) = site.enforcer.installed(site.now)
    return license_.status, license_.finding


def of(site: Site, feature: str) -> tuple[Status, str]:
    ((status, finding),) = [
        (it.status, it.finding) for it in site.enforcer.installed(site.now) if it.feature == feature
    ]
    return status, finding


def put_another(site: Site) -> None:
    """A Feature Key of the same kind, and not the certified one."""
    site.put_back()
    other = msgspec.structs.replace(site.enforcer.feature_key, state="present", hardware_id="00" * 15)
    site.enforcer.see(other, site.now)


# The Feature Key


def test_only_with_the_matching_feature_key_are_licenses_valid(site: Site) -> None:
    assert only(site) == (Status.VALID, "On the vendor's list.")
    put_another(site)
    status, finding = only(site)
    assert status is Status.INVALID
    assert finding == "Another Feature Key is there, and the license is for that of serial 110123456789."
    site.put_back()
    assert only(site)[0] is Status.VALID


def test_the_licenses_of_a_lost_feature_key_become_invalid_when_its_grace_is_over(site: Site) -> None:
    site.pull()
    status, finding = only(site)
    assert status is Status.VALID
    assert finding == "On the vendor's list. The Feature Key is away: it counts only as long as the grace lasts."
    site.wait(2 * HOUR - 1)
    assert only(site)[0] is Status.VALID
    site.wait(1)
    assert site.enforcer.standing is Standing.DEACTIVATED
    assert only(site) == (Status.INVALID, "The Feature Key is away, and its time of 2h is over: put it back.")
    site.put_back()
    assert only(site) == (Status.VALID, "On the vendor's list.")


def test_a_key_that_cannot_prove_itself_is_another_one(site: Site) -> None:
    site.enforcer.see(msgspec.structs.replace(site.enforcer.feature_key, state="wrong-answer"), site.now)
    site.certify(proving=True)
    assert only(site)[0] is Status.VALID
    site.enforcer.see(msgspec.structs.replace(site.enforcer.feature_key, state="present", answer=b"wrong"), site.now)
    assert site.enforcer.feature_key.state == "wrong-answer"
    assert only(site)[0] is Status.INVALID


def test_after_a_restart_a_license_is_valid_until_the_first_look_says_otherwise(site: Site) -> None:
    later = site.restarted()
    status, finding = only(later)
    assert status is Status.VALID
    assert finding.endswith("Nobody has looked for the Feature Key yet.")


def test_after_a_restart_a_spent_grace_is_spent_before_the_first_look(site: Site) -> None:
    site.pull()
    site.wait(2 * HOUR)
    assert only(site.restarted())[0] is Status.INVALID


def test_what_is_wrong_with_the_license_itself_is_said_whether_the_key_is_there_or_not(
    open_site: Callable[..., Site],
) -> None:
    site = open_site()
    old, gone = site.key("trunk", 8, Term.MONTH, datetime.date(2026, 1, 1)), site.key("phone", 1)
    site.bring(site.list_of(old, revoked=(gone,)))
    there = site.enforcer.installed(site.now)
    put_another(site)
    assert site.enforcer.installed(site.now) == there
    assert {it.status for it in there} == {Status.EXPIRED, Status.INVALID}


def test_a_dormant_license_is_invalid_too_without_its_feature_key(open_site: Callable[..., Site]) -> None:
    site = open_site(licensed={"recorder": 1})
    assert only(site)[0] is Status.DORMANT
    put_another(site)
    assert only(site)[0] is Status.INVALID


# The time of a key that no list has


def test_an_unlisted_key_says_when_its_72_hours_are_over(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.type_in(site.key("trunk", 8))
    assert only(site) == (Status.UNKNOWN, "Not on the vendor's list yet; it counts for a limited time.")
    site.wait(72 * HOUR)
    over = "Not on the vendor's list, and its time of 72h is over: import the vendor's newest list."
    assert only(site) == (Status.UNKNOWN, over)
    site.bring(site.list_of())
    assert only(site) == (Status.UNKNOWN, "Not on the vendor's list yet; it counts for a limited time.")


def test_an_unlisted_key_whose_time_is_over_is_not_shown_as_waiting_for_a_license(
    open_site: Callable[..., Site],
) -> None:
    site = open_site()
    site.type_in(site.key("recorder", 1))
    assert only(site)[0] is Status.DORMANT
    site.wait(72 * HOUR)
    status, finding = only(site)
    assert (status, "is over" in finding) == (Status.UNKNOWN, True)


# Days


@pytest.mark.parametrize(("ahead", "counts"), [(0, True), (1, True), (2, False), (5000, False)])
@pytest.mark.parametrize("term", [Term.TRIAL, Term.YEAR])
def test_a_dated_license_on_the_list_counts_from_its_issue_day(
    open_site: Callable[..., Site], term: Term, ahead: int, counts: bool
) -> None:
    site = open_site()
    key = site.key("trunk", 8, term, TODAY + ahead * DAY)
    site.bring(site.list_of(key))
    status, finding = only(site)
    assert site.enforcer.entitlements["trunk"].limit == (8 if counts else 0)
    assert status is (Status.VALID if counts else Status.INVALID)
    if not counts:
        assert finding == f"The key was issued on {key.issued.isoformat()}; here it is 2026-03-01."
        site.wait((ahead - 1) * 24 * HOUR)
        assert only(site)[0] is Status.VALID


def test_a_perpetual_license_on_the_list_counts_whatever_day_it_is(open_site: Callable[..., Site]) -> None:
    site = open_site()
    key = site.key("trunk", 8, issued=TODAY + 100 * DAY)
    site.bring(site.list_of(key))
    assert only(site)[0] is Status.VALID
    without, _ = site.licenses.without_key(key.text)
    assert without.with_key(key.text, site.catalog, TODAY)[1].verdict is Verdict.VALID


# Removing and adding


Terms = st.sampled_from([Term.PERPETUAL, Term.TRIAL, Term.MONTH, Term.YEAR])
Sorts = st.sampled_from(["listed", "typed", "both", "revoked", "typed before the list"])
Bought = st.tuples(
    st.sampled_from(["edition", "trunk", "phone", "recorder"]), st.integers(1, 60), Terms, st.integers(-70, 1), Sorts
)


def installed(site: Site, bought: list[tuple[str, int, Term, int, str]]) -> None:
    """Licenses of every sort, as many of them as are taken."""
    keys = [(site.key(name, count, term, TODAY + age * DAY), sort) for name, count, term, age, sort in bought]
    for key, sort in keys:
        if sort == "typed before the list":
            type_in(site, key)
    listed = [key for key, sort in keys if sort in {"listed", "both"}]
    site.bring(site.list_of(*listed, revoked=tuple(key for key, sort in keys if sort == "revoked")))
    for key, sort in keys:
        if sort in {"typed", "both"}:
            type_in(site, key)


def type_in(site: Site, key: LicenseKey) -> None:
    licenses, _ = site.licenses.with_key(key.text, site.catalog, TODAY)
    site.enforcer.adopt(licenses, site.now)


def shown(site: Site) -> tuple[dict[LicenseKey, License], dict[str, object]]:
    """Statuses and findings by key, and what is allowed."""
    rows = site.enforcer.installed(site.now)
    assert len({it.key for it in rows}) == len(rows)
    return {it.key: it for it in rows}, dict(site.enforcer.entitlements)


@given(st.lists(Bought, min_size=1, max_size=8), st.data())
def test_a_license_that_is_removed_and_added_again_is_as_it_was(
    open_site: Callable[..., Site], bought: list[tuple[str, int, Term, int, str]], data: st.DataObject
) -> None:
    site = open_site()
    installed(site, bought)
    before = shown(site)
    good = [it.key for it in before[0].values() if it.status not in {Status.INVALID, Status.EXPIRED}]
    for key in data.draw(st.lists(st.sampled_from(good), unique=True)) if good else ():
        licenses, removed = site.licenses.without_key(key.text)
        assert removed.verdict is Verdict.REMOVED
        site.enforcer.adopt(licenses, site.now)
        assert key not in shown(site)[0]
        licenses, added = site.licenses.with_key(key.text, site.catalog, TODAY)
        assert added.accepted, added.message
        site.enforcer.adopt(licenses, site.now)
        assert shown(site) == before


@given(st.lists(Bought, min_size=1, max_size=8))
def test_a_license_that_does_not_count_changes_nothing_by_its_removal_and_is_not_taken_again(
    open_site: Callable[..., Site], bought: list[tuple[str, int, Term, int, str]]
) -> None:
    site = open_site()
    installed(site, bought)
    licenses: Licenses = site.licenses
    for it in site.enforcer.installed(site.now):
        if it.status in {Status.INVALID, Status.EXPIRED}:
            before = site.enforcer.entitlements
            without, _ = licenses.without_key(it.key.text)
            site.enforcer.adopt(without, site.now)
            after = site.enforcer.entitlements
            assert {name: one.limit for name, one in after.items()} == {name: one.limit for name, one in before.items()}
            assert not without.with_key(it.key.text, site.catalog, TODAY)[1].accepted
            site.enforcer.adopt(licenses, site.now)
