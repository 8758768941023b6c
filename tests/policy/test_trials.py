"""A trial is once for each feature and serial, on the host too, which remembers it after it is gone."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.licensekey import Term
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
