"""What the licenses together allow, held against a model that was written without looking at the module."""

from __future__ import annotations

import datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.entitlements import Entitlement, entitlements
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.system import System

DAY = datetime.date(2026, 1, 1)


class Bought(NamedTuple):
    """A license as the model sees it."""

    feature: str
    instances: int
    status: Status = Status.VALID


def licenses(catalog: Catalog, *bought: Bought) -> list[License]:
    found = []
    for number, (feature, instances, status) in enumerate(bought):
        key = make_key(
            feature_code=catalog.features[feature].code,
            instances=instances,
            issued=DAY,
            term=Term.PERPETUAL,
            sequence=number,
            catalog=catalog.id,
            serial="110123456789",
        )
        found.append(License(key=key, feature=feature, status=status, finding="", listed=True))
    return found


def allowed(catalog: Catalog, platform: str, *bought: Bought, count_unlisted: bool = True) -> dict[str, Entitlement]:
    return entitlements(catalog, System(platform=platform), licenses(catalog, *bought), count_unlisted=count_unlisted)


def test_licenses_of_one_feature_add_up(catalog: Catalog) -> None:
    trunk = allowed(catalog, "large", Bought("trunk", 3), Bought("trunk", 5), Bought("phone", 7))["trunk"]
    assert (trunk.limit, trunk.licensed, trunk.base, trunk.lack) == (8, 8, 0, None)


@pytest.mark.parametrize(("bought", "limit"), [(3, 3), (4, 4), (5, 4), (16383, 4)])
def test_instances_above_the_capacity_have_no_effect(catalog: Catalog, bought: int, limit: int) -> None:
    trunk = allowed(catalog, "small", Bought("trunk", bought))["trunk"]
    assert (trunk.limit, trunk.licensed, trunk.capacity) == (limit, bought, 4)


def test_what_is_said_to_come_free_is_never_more_than_the_limit(catalog: Catalog) -> None:
    recorder = allowed(catalog, "small", Bought("edition", 1))["recorder"]
    assert (recorder.limit, recorder.base) == (0, 0)


def test_base_instances_come_without_a_license(catalog: Catalog) -> None:
    coder = allowed(catalog, "large")["coder"]
    assert (coder.limit, coder.base, coder.licensed, coder.lack) == (4, 4, 0, None)


def test_a_license_without_its_prerequisite_does_not_count(catalog: Catalog) -> None:
    recorder = allowed(catalog, "large", Bought("recorder", 3))["recorder"]
    assert (recorder.limit, recorder.licensed, recorder.lack) == (0, 0, Reason.PREREQUISITE_MISSING)


def test_the_prerequisite_brings_its_own_instances_and_lets_the_license_count(catalog: Catalog) -> None:
    recorder = allowed(catalog, "large", Bought("recorder", 3), Bought("edition", 1))["recorder"]
    assert (recorder.limit, recorder.base, recorder.licensed) == (1 + 2 * 3, 1, 6)


def test_an_expired_prerequisite_is_a_missing_one(catalog: Catalog) -> None:
    found = allowed(catalog, "large", Bought("recorder", 3), Bought("edition", 1, Status.EXPIRED))
    assert found["recorder"].lack is Reason.PREREQUISITE_MISSING
    assert found["edition"].lack is Reason.LICENSE_EXPIRED


@pytest.mark.parametrize(
    ("status", "count_unlisted", "limit", "lack"),
    [
        (Status.VALID, False, 5, None),
        (Status.UNKNOWN, True, 5, None),
        (Status.UNKNOWN, False, 0, Reason.LICENSE_UNLISTED),
        (Status.EXPIRED, True, 0, Reason.LICENSE_EXPIRED),
        (Status.INVALID, True, 0, Reason.NOT_LICENSED),
    ],
)
def test_the_lack_says_what_is_wrong_with_the_licenses_there_are(
    catalog: Catalog, status: Status, count_unlisted: bool, limit: int, lack: Reason | None
) -> None:
    phone = allowed(catalog, "large", Bought("phone", 5, status), count_unlisted=count_unlisted)["phone"]
    assert (phone.limit, phone.lack) == (limit, lack)


@pytest.mark.parametrize("feature", ["phone", "recorder"])
def test_without_any_license_the_lack_is_not_licensed_even_where_a_prerequisite_is_missing_too(
    catalog: Catalog, feature: str
) -> None:
    assert allowed(catalog, "large")[feature].lack is Reason.NOT_LICENSED


def test_a_key_of_an_unknown_feature_changes_nothing(catalog: Catalog) -> None:
    (stray,) = licenses(catalog, Bought("phone", 5))
    stray = License(key=stray.key, feature=None, status=Status.INVALID, finding="", listed=True)
    assert entitlements(catalog, System(platform="large"), [stray], count_unlisted=True) == allowed(catalog, "large")


def model(platform: str, bought: list[Bought], count_unlisted: bool) -> dict[str, int]:
    """The limits of the test catalog, written out feature by feature."""
    good = {Status.VALID, Status.UNKNOWN} if count_unlisted else {Status.VALID}

    def total(feature: str) -> int:
        return sum(each.instances for each in bought if each.feature == feature and each.status in good)

    recorders = 1 + 2 * total("recorder") if total("edition") else 0
    return {
        "edition": total("edition"),
        "trunk": min(total("trunk"), 4 if platform == "small" else 100),
        "coder": 4 + total("coder"),
        "phone": total("phone"),
        "recorder": 0 if platform == "small" else recorders,
        "tenant": total("tenant"),
    }


BOUGHT = st.builds(
    Bought,
    st.sampled_from(["edition", "trunk", "coder", "phone", "recorder", "tenant"]),
    st.integers(1, 60) | st.just(16383),
    st.sampled_from(list(Status)),
)
PLATFORMS = st.sampled_from(["small", "large"])


@given(PLATFORMS, st.lists(BOUGHT, max_size=8), st.booleans())
def test_the_limits_are_those_of_the_model(
    catalog: Catalog, platform: str, bought: list[Bought], count_unlisted: bool
) -> None:
    found = allowed(catalog, platform, *bought, count_unlisted=count_unlisted)
    assert {name: entitlement.limit for name, entitlement in found.items()} == model(platform, bought, count_unlisted)
    for entitlement in found.values():
        assert (entitlement.lack is None) == (entitlement.limit > 0)
        assert entitlement.base <= entitlement.limit


@given(PLATFORMS, st.lists(BOUGHT, max_size=6), BOUGHT, st.booleans())
def test_one_license_more_never_lowers_any_limit(
    catalog: Catalog, platform: str, bought: list[Bought], more: Bought, count_unlisted: bool
) -> None:
    before = allowed(catalog, platform, *bought, count_unlisted=count_unlisted)
    after = allowed(catalog, platform, *bought, more, count_unlisted=count_unlisted)
    assert all(after[name].limit >= before[name].limit for name in catalog.features)


# The shipped IP Office


@pytest.mark.parametrize(
    ("feature", "bought", "limit"),
    [
        ("sip-trunk-channels", [], 0),
        ("sip-trunk-channels", [Bought("sip-trunk-channels", 5), Bought("sip-trunk-channels", 20)], 25),
        ("sip-trunk-channels", [Bought("sip-trunk-channels", 100)] * 2, 128),
        ("softconsole", [Bought("softconsole", 1)], 1),
        ("softconsole", [Bought("softconsole", 3), Bought("softconsole", 3)], 4),
        ("embedded-voicemail-ports", [], 0),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1)], 2),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 1)], 4),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 2)], 6),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 3)], 6),
        ("embedded-voicemail-ports", [Bought("embedded-voicemail-ports", 2)], 0),
        ("vcm-channels", [], 4),
        ("vcm-channels", [Bought("vcm-channels", 28)], 32),
    ],
)
def test_the_shipped_ip_office_holds_the_facts(
    shipped: dict[str, Catalog], feature: str, bought: list[Bought], limit: int
) -> None:
    assert allowed(shipped["ip-office"], "ip500-v2", *bought)[feature].limit == limit
