"""What the licenses together allow, feature by feature: stacking, prerequisites, capacity.

Rules (facts/catalog.md section 2): licenses of one feature add up; instances above the capacity of the platform have no
effect; a license whose prerequisite is missing is dormant and does not count, one that this release or platform does
not use is obsolete; some instances come free, with another feature, or with a part of the hardware.

An upgrade turns licensed instances of a lower feature into ones of a higher, and only into such as have an effect here:
while the upgrade itself waits, or the higher feature is not used, waits or is at its capacity, the lower ones stay. The
catalog's order puts each upgrade before both features.

The features of a capacity group are cut last, to what the platform supports of them together; nothing rests on them.
"""

from __future__ import annotations

import datetime

import msgspec

from .catalog import UNLIMITED, CapacityGroup, Catalog, Conversion, Feature
from .licensekey import MAX_INSTANCES
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
    expires: datetime.date | None = None
    """The first day on which one of its licenses that count ends; None where none has a term."""


Entitlements = dict[str, Entitlement]
"""One entitlement for each feature of the catalog."""


_Upgrades = list[tuple[Feature, Conversion]]
"""All upgrades to one feature, the lowest code first."""

_ANY = MAX_INSTANCES * 1_000_000
"""Instances where there is no capacity: more than a million license keys carry."""


class _Sums(msgspec.Struct):
    counting: int = 0
    unlisted: int = 0
    expired: int = 0
    expires: datetime.date | None = None


def entitlements(catalog: Catalog, system: System, licenses: list[License], *, count_unlisted: bool) -> Entitlements:
    """What these licenses allow on that system; `count_unlisted` says whether unknown keys still count."""
    sums = {name: _Sums() for name in catalog.features}
    for license_ in licenses:
        if license_.feature is not None:
            _add(sums[license_.feature], license_, count_unlisted=count_unlisted)
    upgrades = _upgrades(catalog)
    found: Entitlements = {}
    for feature in catalog.order:
        found[feature.id] = _entitlement(catalog, system, feature, sums[feature.id], found)
        _convert(catalog, system, upgrades.get(feature.id, []), sums, found)
    for group in catalog.capacity_groups.values():
        _divide(group, group.capacity.get(system.platform), found)
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
        finding = f"Good, and waits for {', '.join(_awaited(name, found) for name in entitlement.missing)}."
        return msgspec.structs.replace(license_, status=Status.DORMANT, finding=finding)
    return license_


def _awaited(name: str, found: Entitlements) -> str:
    unused = found[name].unused
    return name if unused is None else f"{name}, which this system does not use: {unused}"


def _add(sums: _Sums, license_: License, *, count_unlisted: bool) -> None:
    if license_.status is Status.VALID or (license_.status is Status.UNKNOWN and count_unlisted):
        sums.counting += license_.key.instances
        ends = license_.key.expires
        if ends is not None and (sums.expires is None or ends < sums.expires):
            sums.expires = ends
    elif license_.status is Status.UNKNOWN:
        sums.unlisted += 1
    elif license_.status is Status.EXPIRED:
        sums.expired += 1


def _upgrades(catalog: Catalog) -> dict[str, _Upgrades]:
    """The upgrades to one feature together, by that of them which comes last in the catalog's order."""
    last: dict[str, str] = {}
    groups: dict[str, _Upgrades] = {}
    for upgrade in catalog.order:
        if upgrade.converts is not None:
            last[upgrade.converts.higher] = upgrade.id
            groups.setdefault(upgrade.converts.higher, []).append((upgrade, upgrade.converts))
    return {last[higher]: sorted(group, key=lambda it: it[0].code) for higher, group in groups.items()}


def _convert(
    catalog: Catalog, system: System, upgrades: _Upgrades, sums: dict[str, _Sums], found: Entitlements
) -> None:
    """Let upgrades to one feature turn instances: those first that have no effect as they are, then the others."""
    if not upgrades:
        return
    left = {it.id: min(found[it.id].licensed, found[it.id].limit) for it, _ in upgrades}
    higher = sums[upgrades[0][1].higher]
    most = _effective(catalog, system, upgrades[0][1].higher, found)
    steps = [(upgrade, ends.lower, idle_only) for idle_only in (True, False) for upgrade, ends in upgrades]
    for upgrade, name, idle_only in steps:
        lower = sums[name]
        kept = _effective(catalog, system, name, found) if idle_only else 0
        turned = max(0, min(left[upgrade.id], lower.counting - kept, most - higher.counting))
        left[upgrade.id] -= turned
        lower.counting -= turned
        higher.counting += turned


def _effective(catalog: Catalog, system: System, name: str, found: Entitlements) -> int:
    """How many instances on licenses would have an effect, were there any number."""
    feature = catalog.features[name]
    if system.unused(catalog, feature) is not None or system.is_free(feature):
        return 0
    if _missing(catalog, system, feature, found):
        return 0
    capacity = _capacity(catalog, system, feature)
    return _ANY if capacity is None else max(0, capacity - _base(catalog, system, feature, found))


def _entitlement(catalog: Catalog, system: System, feature: Feature, sums: _Sums, found: Entitlements) -> Entitlement:
    unused = system.unused(catalog, feature)
    if unused is not None:
        return Entitlement(feature=feature, limit=0, unused=unused, lack=Reason.NOT_SUPPORTED)
    if system.is_free(feature):
        return Entitlement(feature=feature, limit=UNLIMITED, base=UNLIMITED)
    missing = _missing(catalog, system, feature, found)
    base = _base(catalog, system, feature, found)
    licensed = 0 if missing else sums.counting * feature.yields
    capacity = _capacity(catalog, system, feature)
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
        expires=None if missing else sums.expires,
    )


def _divide(group: CapacityGroup, most: int | None, found: Entitlements) -> None:
    """Let a group have so many instances together: first what comes free, then licenses in the group's order."""
    if most is None:
        return
    members = [found[name] for name in group.features if found[name].unused is None]
    free = _dealt([it.base for it in members], most)
    licensed = _dealt([it.limit - it.base for it in members], most - sum(free))
    for member, base, more in zip(members, free, licensed, strict=True):
        cut = member.limit - base - more
        found[member.feature.id] = msgspec.structs.replace(
            member,
            limit=base + more,
            base=base,
            capacity=most if member.capacity is None else min(member.capacity, most),
            surplus=member.surplus + cut,
            lack=Reason.NOT_SUPPORTED if cut and not base + more else member.lack,
        )


def _dealt(wanted: list[int], most: int) -> list[int]:
    """How many each gets, in their order, until there are no more."""
    dealt: list[int] = []
    for each in wanted:
        dealt.append(min(each, most - sum(dealt)))
    return dealt


def _capacity(catalog: Catalog, system: System, feature: Feature) -> int | None:
    return catalog.platforms[system.platform].capacity.get(feature.id, feature.capacity)


def _base(catalog: Catalog, system: System, feature: Feature, found: Entitlements) -> int:
    """The instances that come free, before capacity."""
    base = feature.base + sum(count for name, count in feature.base_with.items() if found[name].limit)
    base += sum(min(count * found[name].limit, UNLIMITED) for name, count in feature.base_each.items())
    return base + sum(count * system.parts(catalog, name) for name, count in feature.base_per.items())


def _missing(catalog: Catalog, system: System, feature: Feature, found: Entitlements) -> tuple[str, ...]:
    """The features that the feature's licenses wait for; an upgrade's wait for what the higher feature's do, too."""
    missing = _lacking(catalog, system, feature, found)
    if feature.converts is not None:
        missing += _missing_higher(catalog, system, catalog.features[feature.converts.higher], found)
    return tuple(dict.fromkeys(missing))


def _missing_higher(catalog: Catalog, system: System, higher: Feature, found: Entitlements) -> tuple[str, ...]:
    """What an upgrade to this feature waits for: the feature itself where the system has no use for it."""
    no_room = _capacity(catalog, system, higher) == 0 and not system.is_free(higher)
    if system.unused(catalog, higher) is not None or no_room:
        return (higher.id,)
    return _lacking(catalog, system, higher, found)


def _lacking(catalog: Catalog, system: System, feature: Feature, found: Entitlements) -> tuple[str, ...]:
    """The required features that are not there; of those that may be shared, one elsewhere is enough."""
    elsewhere = system.shared - {*feature.requires_own}
    needed = (name for name in system.required(catalog, feature) if not found[name].limit)
    return tuple(name for name in needed if name not in elsewhere)


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
