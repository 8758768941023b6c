"""What if: what would be allowed with other licenses or on another system, without changing anything.

Both sides are as in good standing: what is planned shall be seen also on a system that is deactivated now. Who shows it
says what the standing is.
"""

from __future__ import annotations

import datetime

import msgspec

from .catalog import Catalog
from .entitlements import Entitlement, entitlements
from .licensekey import LicenseKey, Term
from .licenses import License, Status
from .reasons import Reason
from .system import System

_COMPARED = ("limit", "lack", "missing", "surplus", "measures")


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """One feature before and after."""

    feature: str
    title: str
    before: int
    """The limit."""
    after: int
    surplus: tuple[int, int] = (0, 0)
    """Instances above the capacity, before and after."""
    measures: dict[str, tuple[int, int]] = {}
    """Those of the second quantities that would change, before and after."""
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
    """Every feature of which something would change: limit, surplus, measures, or the reason for having none."""
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
    return any(getattr(before, name) != getattr(after, name) for name in _COMPARED)


def _rehearsed(before: Entitlement, after: Entitlement) -> Rehearsed:
    names = dict.fromkeys([*before.measures, *after.measures])
    measures = {name: (before.measures.get(name, 0), after.measures.get(name, 0)) for name in names}
    return Rehearsed(
        feature=after.feature.id,
        title=after.feature.title,
        before=before.limit,
        after=after.limit,
        surplus=(before.surplus, after.surplus),
        measures={name: (amount, other) for name, (amount, other) in measures.items() if amount != other},
        missing=after.missing,
        lack=after.lack,
    )
