"""What if: the limits as they would be with other licenses or on another system, without changing anything."""

from __future__ import annotations

import datetime

import msgspec

from .catalog import Catalog
from .entitlements import Entitlement, entitlements
from .licensekey import LicenseKey, Term
from .licenses import License, Status
from .reasons import Reason
from .system import System


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """One feature before and after."""

    feature: str
    title: str
    before: int
    after: int
    missing: tuple[str, ...] = ()
    """Features that its licenses would wait for."""
    lack: Reason | None = None
    """Why nothing would be allowed, where `after` is 0."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """What to suppose."""

    add: dict[str, int] = {}
    """Instances of features to suppose on new licenses."""
    remove: frozenset[LicenseKey] = frozenset()
    """Licenses to suppose away."""
    system: System
    """The system to suppose."""


def rehearse(
    catalog: Catalog, system: System, installed: list[License], supposed: WhatIf, *, count_unlisted: bool
) -> list[Rehearsed]:
    """Every feature whose limit, or the reason for having none, would change."""
    kept = [license_ for license_ in installed if license_.key not in supposed.remove]
    added = [_supposed(catalog, feature, count) for feature, count in supposed.add.items()]
    before = entitlements(catalog, system, installed, count_unlisted=count_unlisted)
    after = entitlements(catalog, supposed.system, [*kept, *added], count_unlisted=count_unlisted)
    return [_rehearsed(before[name], after[name]) for name in catalog.features if _differ(before[name], after[name])]


def _supposed(catalog: Catalog, feature: str, instances: int) -> License:
    key = LicenseKey(
        feature_code=catalog.features[feature].code,
        instances=instances,
        issued=datetime.date.min,
        term=Term.PERPETUAL,
        sequence=0,
        digest=0,
    )
    return License(key=key, feature=feature, status=Status.VALID, finding="Supposed.", listed=True)


def _differ(before: Entitlement, after: Entitlement) -> bool:
    return (before.limit, before.lack, before.missing) != (after.limit, after.lack, after.missing)


def _rehearsed(before: Entitlement, after: Entitlement) -> Rehearsed:
    return Rehearsed(
        feature=after.feature.id,
        title=after.feature.title,
        before=before.limit,
        after=after.limit,
        missing=after.missing,
        lack=after.lack,
    )
