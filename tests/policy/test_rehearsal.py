"""What if: nothing changes, and what is said is what would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.rehearsal import WhatIf
from featurekeyd.policy.system import System

if TYPE_CHECKING:
    from tests.policy.conftest import Site


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site(licensed={"trunk": 8, "edition": 1})


def changes(site: Site, **supposed: object) -> dict[str, tuple[int, int]]:
    what_if = msgspec.convert({"system": site.enforcer.system, **supposed}, WhatIf)
    return {change.feature: (change.before, change.after) for change in site.enforcer.what_if(what_if)}


def test_nothing_supposed_changes_nothing(site: Site) -> None:
    assert changes(site) == {}


def test_a_license_supposed_adds_up(site: Site) -> None:
    assert changes(site, add={"trunk": 4, "phone": 2}) == {"trunk": (8, 12), "phone": (0, 2)}


def test_a_license_supposed_away_takes_what_rests_on_it(site: Site) -> None:
    installed = site.licenses.keys()
    edition = next(key for key in installed if key.feature_code == 1)
    supposed = WhatIf(remove=frozenset({edition}), system=site.enforcer.system)
    assert {change.feature: change.after for change in site.enforcer.what_if(supposed)} == {"edition": 0, "recorder": 0}


def test_another_platform_has_another_capacity(site: Site) -> None:
    supposed = WhatIf(system=System(platform="small"))
    assert {it.feature: (it.before, it.after) for it in site.enforcer.what_if(supposed)}["trunk"] == (8, 4)


def hours_site(catalog_text: str, make_site: Callable[..., Site]) -> Site:
    """A site whose recorders come with hours, at most 3 of them and 50 hours."""
    hours = 'capacity = 3\nmeasures = { hours = { unit = "hour", yields = 15, capacity = 50 } }\n'
    text = catalog_text.replace("yields = 2\n", hours).replace("base_with = { edition = 1 }\n", "")
    site = make_site(load_catalog(text, "exchange.toml"))
    site.certify()
    return site


def test_measures_and_surplus_are_compared_too(catalog_text: str, make_site: Callable[..., Site]) -> None:
    site = hours_site(catalog_text, make_site)
    site.buy(edition=1, recorder=3)
    (change,) = site.enforcer.what_if(WhatIf(add={"recorder": 2}, system=site.enforcer.system))
    assert (change.before, change.after, change.surplus, change.measures) == (3, 3, (0, 2), {"hours": (45, 50)})
    site.buy(recorder=2)
    (change,) = site.enforcer.what_if(WhatIf(add={"recorder": 1}, system=site.enforcer.system))
    assert (change.before, change.after, change.surplus, change.measures) == (3, 3, (2, 3), {})


@given(st.dictionaries(st.sampled_from(["trunk", "phone", "edition", "recorder"]), st.integers(1, 50), max_size=3))
def test_what_is_rehearsed_is_what_comes_and_nothing_changes_before(
    open_site: Callable[..., Site], add: dict[str, int]
) -> None:
    site = open_site(licensed={"trunk": 8})
    limits = {name: it.limit for name, it in site.enforcer.entitlements.items()}
    said = changes(site, add=add)
    assert {name: it.limit for name, it in site.enforcer.entitlements.items()} == limits
    site.bring(site.list_of(*site.licenses.keys(), *(site.key(name, count) for name, count in add.items())))
    after = {name: it.limit for name, it in site.enforcer.entitlements.items()}
    assert said.keys() >= {name for name in limits if limits[name] != after[name]}
    assert all(after[name] == said[name][1] for name in said)
