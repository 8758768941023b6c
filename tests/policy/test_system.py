"""What a system is decides what its licenses give: platform, release, hardware, options, and what others share."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from featurekeyd.policy.catalog import UNLIMITED, Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.entitlements import Entitlement, entitlements
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.system import System, check_system
from featurekeyd.policy.tables import FileMistakes

Changed = Callable[[str], Catalog]


@pytest.fixture
def changed(catalog_text: str) -> Changed:
    """The test catalog with these lines in its feature `tenant`, and with an option and a part of hardware."""
    more = '[options]\ncharged = "Phones take a license."\n[hardware.card]\ntitle = "Card"\nmost = 3\ndefault = 1\n'
    return lambda lines: load_catalog(
        catalog_text.replace("code = 6\n", f"code = 6\n{lines}\n") + more, "exchange.toml"
    )


def tenants(catalog: Catalog, bought: int = 2, platform: str = "large", **system: Any) -> Entitlement:
    """What a license for that many tenants gives."""
    key = make_key(
        feature_code=6,
        instances=max(bought, 1),
        issued=datetime.date(2026, 1, 1),
        term=Term.PERPETUAL,
        sequence=0,
        catalog=catalog.id,
        serial="110123456789",
    )
    license_ = License(key=key, feature="tenant", status=Status.VALID, finding="", listed=True)
    licenses = [license_] if bought else []
    return entitlements(catalog, System(platform=platform, **system), licenses, count_unlisted=True)["tenant"]


@pytest.mark.parametrize(
    ("release", "limit"),
    [
        ("4", 0),
        ("4.9", 0),
        ("5", 2),
        ("5.0", 2),
        ("5.0.0", 2),
        ("6", 2),
        ("6.2", 2),
        ("6.2.9", 2),
        ("6.3", 0),
        ("10", 0),
    ],
)
def test_a_feature_is_there_from_its_first_release_to_its_last(changed: Changed, release: str, limit: int) -> None:
    found = tenants(changed('from_release = "5.0"\nuntil_release = "6.2"'), release=release)
    assert (found.limit, found.lack) == (limit, None if limit else Reason.NOT_SUPPORTED)


@pytest.mark.parametrize(("release", "missing"), [("7", ()), ("8", ("edition",)), ("8.9", ("edition",)), ("9", ())])
def test_a_condition_holds_for_its_releases_and_platforms_only(
    changed: Changed, release: str, missing: tuple[str, ...]
) -> None:
    condition = '{ features = ["edition"], platforms = ["small"], from_release = "8.0", until_release = "8" }'
    catalog = changed(f"requires_when = [{condition}]")
    assert tenants(catalog, platform="small", release=release).missing == missing
    assert tenants(catalog, platform="large", release=release).missing == ()


@pytest.mark.parametrize(("link", "limit"), [("requires", 2), ("requires_own", 0)])
def test_a_shared_prerequisite_does_where_the_system_need_not_have_its_own(
    changed: Changed, link: str, limit: int
) -> None:
    catalog = changed(f'{link} = ["edition"]')
    assert tenants(catalog).missing == ("edition",)
    assert tenants(catalog, shared=frozenset({"edition"})).limit == limit


def test_a_feature_that_is_free_on_one_platform_is_counted_on_the_others(changed: Changed) -> None:
    catalog = changed('free_on = ["small"]')
    assert tenants(catalog, 0, "small").limit == UNLIMITED
    assert tenants(catalog, 2, "large").limit == 2


def test_an_option_makes_a_free_feature_count(changed: Changed) -> None:
    catalog = changed('free_without = "charged"')
    assert tenants(catalog).limit == UNLIMITED
    assert tenants(catalog, options=frozenset({"charged"})).limit == 2


def test_a_capacity_of_the_feature_holds_where_the_platform_says_nothing(changed: Changed, catalog_text: str) -> None:
    assert tenants(changed("capacity = 1")).limit == 1
    own = catalog_text.replace("{ trunk = 100 }", "{ trunk = 100, tenant = 2 }").replace(
        "code = 6", "code = 6\ncapacity = 1"
    )
    assert tenants(load_catalog(own, "exchange.toml")).limit == 2


@pytest.mark.parametrize(("cards", "limit"), [({}, 8), ({"card": 0}, 0), ({"card": 2}, 16), ({"card": 9}, 24)])
def test_instances_come_with_each_part_up_to_the_most_that_fit(
    changed: Changed, cards: dict[str, int], limit: int
) -> None:
    assert tenants(changed("base_per = { card = 8 }"), 0, hardware=cards).limit == limit


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ('requires_own = ["gold"]', "features.tenant.requires_own"),
        ('requires_own = ["tenant"]', "features.tenant"),
        ('free_on = ["huge"]', "features.tenant.free_on"),
        ("capacity = -1", "features.tenant.capacity"),
        ('free_without = "gold"', "features.tenant.free_without"),
        ("base_per = { wheel = 1 }", "features.tenant.base_per"),
        ("base_each = { wheel = 1 }", "features.tenant.base_each"),
        ("base_each = { edition = 0 }", "features.tenant.base_each.edition"),
        ("base_each = { tenant = 1 }", "features.tenant"),
        ('from_release = "6.1"\nuntil_release = "6.0"', "features.tenant.until_release"),
        ('from_release = "6"\nuntil_release = "5"', "features.tenant.until_release"),
        (
            'requires_when = [{ features = ["edition"], from_release = "2", until_release = "1.9" }]',
            "features.tenant.requires_when.until_release",
        ),
        ('until_release = "five"', "features.tenant.until_release"),
        (
            'requires_when = [{ features = ["edition"], until_release = "x" }]',
            "features.tenant.requires_when.until_release",
        ),
    ],
)
def test_a_mistake_in_a_rule_about_systems_is_named(changed: Changed, lines: str, where: str) -> None:
    with pytest.raises(FileMistakes) as caught:
        changed(lines)
    assert where in {mistake.where for mistake in caught.value.mistakes}


def test_settings_that_the_catalog_does_not_know_are_named(catalog: Catalog) -> None:
    strange = frozenset({"gold"})
    system = System(platform="huge", release="new", hardware={"wheel": 1}, options=strange, shared=strange)
    assert [mistake.where for mistake in check_system(catalog, system)] == [
        "product.platform",
        "product.release",
        "product.options",
        "product.shared",
        "hardware",
    ]


def test_only_what_may_be_shared_is_taken_as_shared_and_the_cure_is_told(changed: Changed) -> None:
    catalog = changed("shareable = true")
    assert check_system(catalog, System(platform="large", shared=frozenset({"tenant"}))) == []
    (mistake,) = check_system(catalog, System(platform="large", shared=frozenset({"tenant", "edition"})))
    assert (mistake.where, mistake.what) == (
        "product.shared",
        "edition is not shared between systems of exchange, tenant is; take it out and enter a license for it here",
    )


def test_of_the_shipped_catalogs_preferred_edition_alone_is_shared(shipped: dict[str, Catalog]) -> None:
    shareable = {
        f"{it.id}:{feature.id}" for it in shipped.values() for feature in it.features.values() if feature.shareable
    }
    assert shareable == {"ip-office:preferred-edition"}


def test_a_part_that_the_platform_does_not_take_brings_nothing_and_is_named_with_the_cure(changed: Changed) -> None:
    catalog = changed("base_per = { card = 8 }")
    card = msgspec.structs.replace(catalog.hardware["card"], platforms=("large",))
    catalog = msgspec.structs.replace(catalog, hardware={"card": card})
    assert (tenants(catalog, 0).limit, tenants(catalog, 0, "small").limit) == (8, 0)
    for count in (0, 1):
        assert check_system(catalog, System(platform="large", hardware={"card": count})) == []
    assert check_system(catalog, System(platform="small", hardware={"card": 0})) == []
    (mistake,) = check_system(catalog, System(platform="small", hardware={"card": 1}))
    assert (mistake.where, mistake.what) == ("hardware.card", "small takes no Card; say 0, or leave it out")


def test_parts_above_the_most_that_one_system_holds_are_named_with_the_cure(changed: Changed) -> None:
    catalog = changed("base_per = { card = 8 }")
    assert check_system(catalog, System(platform="large", hardware={"card": 3})) == []
    (mistake,) = check_system(catalog, System(platform="large", hardware={"card": 4}))
    assert (mistake.where, mistake.what) == ("hardware.card", "4 of Card, and one system holds 3; say 3 or fewer")
