"""What the licenses together allow, feature by feature: stacking, prerequisites, capacity.

Rules (facts/catalog.md section 2): licenses of one feature add up; instances above the capacity of the platform have no
effect; a license whose prerequisite is missing does not count; some instances come free or with another feature.
"""

from __future__ import annotations

import msgspec

from .catalog import Catalog, Feature
from .licenses import License, Status
from .reasons import Reason


class Entitlement(msgspec.Struct, frozen=True, kw_only=True):
    """What may be in use of one feature, and how that came about."""

    feature: Feature
    limit: int
    base: int = 0
    """Of these, instances that come with the system or with another feature."""
    licensed: int = 0
    """Instances of the licenses that count, before capacity."""
    capacity: int | None = None
    lack: Reason | None = None
    """Why nothing is allowed, where the limit is 0."""


Entitlements = dict[str, Entitlement]
"""One entitlement for each feature of the catalog."""


class _Sums(msgspec.Struct):
    counting: int = 0
    unlisted: int = 0
    expired: int = 0


def entitlements(catalog: Catalog, platform: str, licenses: list[License], *, count_unlisted: bool) -> Entitlements:
    """What these licenses allow on that platform; `count_unlisted` says whether unknown keys still count."""
    sums = {name: _Sums() for name in catalog.features}
    for license_ in licenses:
        if license_.feature is not None:
            _add(sums[license_.feature], license_, count_unlisted=count_unlisted)
    capacity = catalog.platforms[platform].capacity
    found: Entitlements = {}
    for feature in catalog.order:
        found[feature.id] = _entitlement(feature, sums[feature.id], capacity.get(feature.id), found)
    return {name: found[name] for name in catalog.features}


def _add(sums: _Sums, license_: License, *, count_unlisted: bool) -> None:
    if license_.status is Status.VALID or (license_.status is Status.UNKNOWN and count_unlisted):
        sums.counting += license_.key.instances
    elif license_.status is Status.UNKNOWN:
        sums.unlisted += 1
    elif license_.status is Status.EXPIRED:
        sums.expired += 1


def _entitlement(feature: Feature, sums: _Sums, capacity: int | None, found: Entitlements) -> Entitlement:
    missing = [name for name in feature.requires if found[name].limit == 0]
    base = feature.base + sum(count for name, count in feature.base_with.items() if found[name].limit)
    licensed = 0 if missing else sums.counting * feature.yields
    limit = base + licensed if capacity is None else min(base + licensed, capacity)
    lack = None if limit else _lack(sums, prerequisite_missing=bool(missing))
    free = min(base, limit)
    return Entitlement(feature=feature, limit=limit, base=free, licensed=licensed, capacity=capacity, lack=lack)


def _lack(sums: _Sums, *, prerequisite_missing: bool) -> Reason:
    if prerequisite_missing and sums.counting:
        return Reason.PREREQUISITE_MISSING
    if sums.unlisted:
        return Reason.LICENSE_UNLISTED
    if sums.expired:
        return Reason.LICENSE_EXPIRED
    return Reason.NOT_LICENSED
