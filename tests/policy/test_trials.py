"""A trial is once for each feature and serial, on the host too, which remembers it after it is gone."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.licensekey import LicenseKey, Term
from featurekeyd.policy.licenses import Licenses, Status

if TYPE_CHECKING:
    from tests.policy.conftest import Site

DAY = datetime.timedelta(days=1)
FIRST, SECOND = datetime.date(2026, 2, 20), datetime.date(2026, 2, 25)


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


def verdict(site: Site, licenses: Licenses, issued: datetime.date, feature: str = "trunk") -> Verdict:
    key = site.key(feature, 8, Term.TRIAL, issued)
    return licenses.with_key(key.text, site.catalog, SECOND)[1].verdict


def status_of(licenses: Licenses, key: LicenseKey, site: Site) -> Status:
    return next(it.status for it in licenses.on(SECOND, site.catalog) if it.key == key)


def test_a_second_trial_of_a_feature_is_refused_also_after_the_first_was_removed(site: Site) -> None:
    first = site.key("trunk", 8, Term.TRIAL, FIRST)
    site.type_in(first)
    without, _ = site.licenses.without_key(first.text)
    assert without.keys() == ()
    assert verdict(site, without, SECOND) is Verdict.TRIAL_USED
    assert without.with_key(first.text, site.catalog, SECOND)[1].verdict is Verdict.UNLISTED


def test_trials_of_other_features_and_full_licenses_are_not_concerned(site: Site) -> None:
    site.type_in(site.key("trunk", 8, Term.TRIAL, FIRST))
    assert verdict(site, site.licenses, SECOND, "phone") is Verdict.UNLISTED
    full = site.key("trunk", 8, Term.YEAR, SECOND)
    assert site.licenses.with_key(full.text, site.catalog, SECOND)[1].verdict is Verdict.UNLISTED


def test_the_vendors_word_on_the_trial_is_the_last(site: Site) -> None:
    typed, listed = site.key("trunk", 8, Term.TRIAL, FIRST), site.key("trunk", 4, Term.TRIAL, SECOND)
    site.type_in(typed)
    code = site.catalog.features["trunk"].code
    licenses, _ = site.licenses.with_list(msgspec.structs.replace(site.list_of(listed), trials={code: SECOND}))
    statuses = {it.key: it.status for it in licenses.on(SECOND, site.catalog)}
    assert statuses == {listed: Status.VALID, typed: Status.INVALID}


def test_another_feature_key_has_trials_of_its_own(site: Site) -> None:
    site.type_in(site.key("trunk", 8, Term.TRIAL, FIRST))
    assert site.licenses.certificate is not None
    other = msgspec.structs.replace(site.licenses.certificate, serial="110123456780")
    assert site.licenses.with_certificate(other).mark.trials == {}
    assert site.licenses.with_certificate(other).with_certificate(site.licenses.certificate).mark.trials


def test_of_two_trials_in_one_text_the_second_is_refused(site: Site) -> None:
    keys = [site.key("trunk", 8, Term.TRIAL, issued) for issued in (FIRST, SECOND)]
    licenses, findings = site.licenses.with_keys([key.text for key in keys], site.catalog, SECOND)
    assert [finding.verdict for finding in findings] == [Verdict.UNLISTED, Verdict.TRIAL_USED]
    assert licenses.keys() == (keys[0],)


def test_a_trial_on_the_list_is_good_whatever_was_typed_before_and_without_a_trial_line(site: Site) -> None:
    site.type_in(site.key("trunk", 8, Term.TRIAL, FIRST))
    listed = site.key("trunk", 4, Term.TRIAL, SECOND)
    licenses, _ = site.licenses.with_list(site.list_of(listed))
    assert status_of(licenses, listed, site) is Status.VALID


def test_a_trial_on_the_list_is_good_also_against_a_trial_line_of_another_day(site: Site) -> None:
    listed = site.key("trunk", 4, Term.TRIAL, SECOND)
    code = site.catalog.features["trunk"].code
    licenses, _ = site.licenses.with_list(msgspec.structs.replace(site.list_of(listed), trials={code: FIRST}))
    assert status_of(licenses, listed, site) is Status.VALID
    assert licenses.mark.trials == {code: SECOND}


def test_a_trial_on_the_list_is_the_one_that_the_system_has_had(site: Site) -> None:
    typed, listed = site.key("trunk", 8, Term.TRIAL, FIRST), site.key("trunk", 4, Term.TRIAL, SECOND)
    site.type_in(typed)
    licenses, _ = site.licenses.with_list(site.list_of(listed))
    assert status_of(licenses, typed, site) is Status.INVALID
    later, _ = licenses.with_list(site.list_of())
    assert verdict(site, later, FIRST) is Verdict.TRIAL_USED


def test_a_revoked_trial_on_the_list_stays_revoked_and_was_the_one(site: Site) -> None:
    revoked = site.key("trunk", 4, Term.TRIAL, FIRST)
    licenses, _ = site.licenses.with_list(site.list_of(revoked=(revoked,)))
    assert status_of(licenses, revoked, site) is Status.INVALID
    assert verdict(site, licenses, SECOND) is Verdict.TRIAL_USED


@pytest.mark.parametrize("backwards", [False, True])
def test_two_trials_of_a_feature_that_are_both_listed_may_come_in_one_text(site: Site, backwards: bool) -> None:
    keys = [site.key("trunk", 8, Term.TRIAL, issued) for issued in (FIRST, SECOND)]
    licenses, _ = site.licenses.with_list(site.list_of(*keys))
    texts = sorted((key.text for key in keys), reverse=backwards)
    _, findings = licenses.with_keys(texts, site.catalog, SECOND)
    assert [finding.verdict for finding in findings] == [Verdict.ALREADY_THERE] * 2


def test_a_listed_trial_that_was_removed_can_be_typed_again_in_a_text_with_another(site: Site) -> None:
    keys = [site.key("trunk", 8, Term.TRIAL, issued) for issued in (FIRST, SECOND)]
    licenses, _ = site.licenses.with_list(site.list_of(*keys))
    for key in keys:
        licenses, _ = licenses.without_key(key.text)
    licenses, findings = licenses.with_keys([key.text for key in keys], site.catalog, SECOND)
    assert [finding.verdict for finding in findings] == [Verdict.VALID] * 2
    assert {it.status for it in licenses.on(SECOND, site.catalog)} == {Status.VALID}


@pytest.mark.parametrize("trial_line", [False, True])
def test_a_plain_text_does_not_stand_against_the_day_that_the_list_says(site: Site, trial_line: bool) -> None:
    typed, listed = site.key("trunk", 8, Term.TRIAL, FIRST), site.key("trunk", 4, Term.TRIAL, SECOND)
    code = site.catalog.features["trunk"].code
    days = {code: SECOND} if trial_line else {}
    licenses, _ = site.licenses.with_list(msgspec.structs.replace(site.list_of(listed), trials=days))
    _, findings = licenses.with_keys([typed.text, listed.text], site.catalog, SECOND)
    assert [finding.verdict for finding in findings] == [Verdict.TRIAL_USED, Verdict.ALREADY_THERE]
