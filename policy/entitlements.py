"""What the licenses together allow, feature by feature: stacking, prerequisites, capacity.

Rules (facts/catalog.md section 2): licenses of one feature add up; instances above the capacity of the platform have no
effect; a license whose prerequisite is missing is dormant and does not count, one that this release or platform does
not use is obsolete; some instances come free, with another feature, or with a part of the hardware.
"""

from __future__ import annotations

import msgspec

from .catalog import UNLIMITED, Catalog, Feature
from .licenses import License, Status
from .reasons import Reason
from .system import System


class Entitlement(msgspec.Struct, frozen=True, kw_only=True):
    """What may be in use of one feature, and how that came about."""

    feature: Feature
    limit: int
    base: int = 0
    """Of these, instances that come free: with the system, its hardware or another feature."""
    licensed: int = 0
    """Instances of the licenses that count, before capacity."""
    capacity: int | None = None
    measures: dict[str, int] = {}
    """The second quantities, by name."""
    missing: tuple[str, ...] = ()
    """Features that its licenses wait for."""
    unused: str | None = None
    """Why this system does not use the feature at all."""
    surplus: int = 0
    """Instances above the capacity, which have no effect."""
    lack: Reason | None = None
    """Why nothing is allowed, where the limit is 0."""


Entitlements = dict[str, Entitlement]
"""One entitlement for each feature of the catalog."""


class _Sums(msgspec.Struct):
    counting: int = 0
    unlisted: int = 0
    expired: int = 0


def entitlements(catalog: Catalog, system: System, licenses: list[License], *, count_unlisted: bool) -> Entitlements:
    """What these licenses allow on that system; `count_unlisted` says whether unknown keys still count."""
    sums = {name: _Sums() for name in catalog.features}
    for license_ in licenses:
        if license_.feature is not None:
            _add(sums[license_.feature], license_, count_unlisted=count_unlisted)
    _convert(catalog, system, sums)
    found: Entitlements = {}
    for feature in catalog.order:
        found[feature.id] = _entitlement(catalog, system, feature, sums[feature.id], found)
    return {name: found[name] for name in catalog.features}


def with_statuses(licenses: list[License], found: Entitlements) -> list[License]:
    """The licenses with the statuses that depend on others: dormant and obsolete."""
    return [_with_status(license_, found) for license_ in licenses]


def _with_status(license_: License, found: Entitlements) -> License:
    entitlement = found.get(license_.feature or "")
    if entitlement is None or license_.status not in {Status.VALID, Status.UNKNOWN}:
        return license_
    if entitlement.unused is not None:
        finding = f"Good, and not used on this system: {entitlement.unused}."
        return msgspec.structs.replace(license_, status=Status.OBSOLETE, finding=finding)
    if entitlement.missing:
        finding = f"Good, and waits for {', '.join(entitlement.missing)}."
        return msgspec.structs.replace(license_, status=Status.DORMANT, finding=finding)
    return license_


def _add(sums: _Sums, license_: License, *, count_unlisted: bool) -> None:
    if license_.status is Status.VALID or (license_.status is Status.UNKNOWN and count_unlisted):
        sums.counting += license_.key.instances
    elif license_.status is Status.UNKNOWN:
        sums.unlisted += 1
    elif license_.status is Status.EXPIRED:
        sums.expired += 1


def _convert(catalog: Catalog, system: System, sums: dict[str, _Sums]) -> None:
    """Let upgrades turn instances of the lower feature into ones of the higher, as far as there are any."""
    for feature in catalog.order:
        if feature.converts is None or system.unused(catalog, feature) is not None:
            continue
        lower, higher = sums[feature.converts.lower], sums[feature.converts.higher]
        turned = min(sums[feature.id].counting, lower.counting)
        lower.counting -= turned
        higher.counting += turned


def _entitlement(catalog: Catalog, system: System, feature: Feature, sums: _Sums, found: Entitlements) -> Entitlement:
    unused = system.unused(catalog, feature)
    if unused is not None:
        return Entitlement(feature=feature, limit=0, unused=unused, lack=Reason.NOT_SUPPORTED)
    if system.is_free(feature):
        return Entitlement(feature=feature, limit=UNLIMITED, base=UNLIMITED)
    missing = _missing(catalog, system, feature, found)
    base = feature.base + sum(count for name, count in feature.base_with.items() if found[name].limit)
    base += sum(count * system.parts(catalog, name) for name, count in feature.base_per.items())
    licensed = 0 if missing else sums.counting * feature.yields
    capacity = catalog.platforms[system.platform].capacity.get(feature.id, feature.capacity)
    limit = base + licensed if capacity is None else min(base + licensed, capacity)
    if capacity == 0:
        return Entitlement(feature=feature, limit=0, capacity=0, surplus=base + licensed, lack=Reason.NOT_SUPPORTED)
    return Entitlement(
        feature=feature,
        limit=limit,
        base=min(base, limit),
        licensed=licensed,
        capacity=capacity,
        measures=_measures(feature, 0 if missing else sums.counting, found),
        missing=missing,
        surplus=base + licensed - limit,
        lack=None if limit else _lack(sums, prerequisite_missing=bool(missing)),
    )


def _missing(catalog: Catalog, system: System, feature: Feature, found: Entitlements) -> tuple[str, ...]:
    """The features that the feature's licenses wait for; of those that may be shared, one elsewhere is enough."""
    elsewhere = system.shared - {*feature.requires_own}
    needed = (name for name in system.required(catalog, feature) if not found[name].limit)
    return tuple(name for name in dict.fromkeys(needed) if name not in elsewhere)


def _measures(feature: Feature, counting: int, found: Entitlements) -> dict[str, int]:
    amounts = {}
    for name, measure in feature.measures.items():
        amount = counting * measure.yields
        amount += sum(count for other, count in measure.base_with.items() if found[other].limit)
        amounts[name] = amount if measure.capacity is None else min(amount, measure.capacity)
    return amounts


def _lack(sums: _Sums, *, prerequisite_missing: bool) -> Reason:
    if prerequisite_missing and sums.counting:
        return Reason.PREREQUISITE_MISSING
    if sums.unlisted:
        return Reason.LICENSE_UNLISTED
    if sums.expired:
        return Reason.LICENSE_EXPIRED
    return Reason.NOT_LICENSED
