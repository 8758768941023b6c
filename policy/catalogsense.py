"""What a catalog of good form must not say: texts that deceive, and rules by which a license takes something away.

"One license more never allows less" is what a vendor relies on. It has two exceptions, upgrades and capacity groups,
and goes no further because nothing may rest on a feature that one of these can lower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .catalog import UNLIMITED, CapacityGroup, Catalog, Feature
from .tables import Mistake

MAX_NAME = 64
"""Characters of a key or name: what a request can say of a feature, an application or a mode."""


def check_names(table: object, where: str = "") -> list[Mistake]:
    """The keys of tables, however deep, that no person could read; shown so that one can."""
    mistakes = []
    for key, value in _inside(table):
        here = f"{where}.{_shown(key)}".lstrip(".")
        if len(key) > MAX_NAME or not key.isprintable():
            mistakes.append(Mistake(here, f"a name is at most {MAX_NAME} printable characters"))
        mistakes += check_names(value, here)
    return mistakes


def check_texts(table: object, where: str = "") -> list[Mistake]:
    """The texts of tables with good names that a terminal or a list would not show as they are."""
    if isinstance(table, str):
        good = table.isprintable()
        what = "a text is one line of printable characters; take out line ends and other control characters"
        return [] if good else [Mistake(where, what)]
    mistakes = []
    for key, value in _inside(table):
        mistakes += check_texts(value, f"{where}.{key}".lstrip("."))
    return mistakes


def _inside(table: object) -> Iterator[tuple[str, Any]]:
    if isinstance(table, dict):
        yield from table.items()
    elif isinstance(table, list):
        yield from ((str(place), value) for place, value in enumerate(table))


def _shown(key: str) -> str:
    return ascii(key[:MAX_NAME])[1:-1] + ("..." if len(key) > MAX_NAME else "")


def rests_on(feature: Feature) -> set[str]:
    """The features that this one requires, or comes with."""
    conditions = (name for condition in feature.requires_when for name in condition.features)
    measured = (name for measure in feature.measures.values() for name in measure.base_with)
    return {*feature.requires, *feature.requires_own, *conditions, *feature.base_with, *feature.base_each, *measured}


def check_resting(catalog: Catalog) -> list[Mistake]:
    """What rests on a feature that an upgrade or a capacity group lowers, and would go with its last instance."""
    lowered = {it.converts.lower: f"the upgrade {it.id} lowers" for it in catalog.features.values() if it.converts}
    for key, group in catalog.capacity_groups.items():
        lowered |= dict.fromkeys(group.features, f"others of the capacity group {key} lower")
    mistakes = []
    for feature in catalog.features.values():
        for name in sorted(rests_on(feature) & lowered.keys()):
            what = f"rests on {name}, which {lowered[name]}: a license more would allow less; require something else"
            mistakes.append(Mistake(f"features.{feature.id}", what))
    if catalog.edition in lowered:
        what = f"{lowered[catalog.edition]} it: a license more would make the system unlicensed; name another feature"
        mistakes.append(Mistake("edition", what))
    return mistakes


def check_groups(catalog: Catalog) -> list[Mistake]:
    """What is wrong with capacity groups."""
    mistakes = []
    group_of: dict[str, str] = {}
    for key, group in catalog.capacity_groups.items():
        where = f"capacity_groups.{key}"
        mistakes += _members(catalog, group, f"{where}.features")
        mistakes += _capacities(catalog, group, f"{where}.capacity")
        twice = [name for name in group.features if group_of.setdefault(name, key) != key]
        mistakes += [Mistake(f"{where}.features", f"{name} is in {group_of[name]} already") for name in twice]
    return mistakes


def _members(catalog: Catalog, group: CapacityGroup, where: str) -> list[Mistake]:
    mistakes = []
    if len(set(group.features)) < max(2, len(group.features)):
        mistakes.append(Mistake(where, "a group has at least two features, each once"))
    upgrades = [it.converts for it in catalog.features.values() if it.converts]
    upgraded = {end for it in upgrades for end in (it.lower, it.higher)}
    for name in group.features:
        member = catalog.features.get(name)
        if member is None:
            mistakes.append(Mistake(where, f"there is no feature {name!r}"))
        elif member.free or member.free_on or member.free_without is not None:
            mistakes.append(Mistake(where, f"{name} may be free, and what is free has no capacity; leave it out"))
        elif member.converts is not None or name in upgraded:
            mistakes.append(Mistake(where, f"{name} is part of an upgrade, which needs a capacity of its own"))
    return mistakes


def _capacities(catalog: Catalog, group: CapacityGroup, where: str) -> list[Mistake]:
    mistakes = [Mistake(where, f"there is no platform {it!r}") for it in group.capacity if it not in catalog.platforms]
    for platform, most in group.capacity.items():
        if not 0 <= most <= UNLIMITED:
            mistakes.append(Mistake(f"{where}.{platform}", f"{most} is outside 0 to {UNLIMITED}"))
    return mistakes
