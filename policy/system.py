"""What this system is, as its settings say: platform, release, hardware, options."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from .catalog import Catalog, Condition, Feature
from .tables import Mistake

RELEASE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}")
"""How a release is written: numbers and dots."""


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One system of a product."""

    platform: str
    release: str | None = None
    """The release it runs, None for the catalog's."""
    hardware: dict[str, int] = {}
    """How many there are of each part, where it is not as the catalog says."""
    options: frozenset[str] = frozenset()
    """Options of the catalog that are turned on."""
    shared: frozenset[str] = frozenset()
    """Features that another system of the network has, and that count as prerequisites here."""

    def runs(self, catalog: Catalog) -> str:
        """The release it runs."""
        return self.release or catalog.release

    def parts(self, catalog: Catalog, name: str) -> int:
        """How many of a part there are, at most as many as one system holds; `check_system` refuses more."""
        part = catalog.hardware[name]
        if part.platforms and self.platform not in part.platforms:
            return 0
        return min(self.hardware.get(name, part.default), part.most)

    def unused(self, catalog: Catalog, feature: Feature) -> str | None:
        """Why this system does not use the feature at all, None where it does."""
        release = self.runs(catalog)
        if feature.unsupported is not None:
            return feature.unsupported
        if feature.platforms and self.platform not in feature.platforms:
            return f"{catalog.platforms[self.platform].title} does not have it"
        if _is_before(release, feature.from_release):
            return f"it begins with release {feature.from_release}; this is {release}"
        if is_after(release, feature.until_release):
            return f"it ended with release {feature.until_release}; this is {release}"
        return None

    def required(self, catalog: Catalog, feature: Feature) -> tuple[str, ...]:
        """The features that the feature's licenses need here."""
        here = [condition for condition in feature.requires_when if self._applies(catalog, condition)]
        return (*feature.requires, *feature.requires_own, *(name for it in here for name in it.features))

    def is_free(self, feature: Feature) -> bool:
        """Whether the feature has no limit here."""
        without = feature.free_without is not None and feature.free_without not in self.options
        return feature.free or without or self.platform in feature.free_on

    def _applies(self, catalog: Catalog, condition: Condition) -> bool:
        release = self.runs(catalog)
        outside = _is_before(release, condition.from_release) or is_after(release, condition.until_release)
        return not outside and (not condition.platforms or self.platform in condition.platforms)


def check_system(catalog: Catalog, system: System) -> list[Mistake]:
    """What the settings say of the system that its catalog does not know, by the settings' dotted keys."""
    mistakes = []
    if system.platform not in catalog.platforms:
        what = f"{catalog.id} has no platform {system.platform!r}; it has {', '.join(catalog.platforms)}"
        mistakes.append(Mistake("product.platform", what))
    if system.release is not None and not RELEASE.fullmatch(system.release):
        mistakes.append(
            Mistake("product.release", f"a release is numbers and dots, such as 9.1, not {system.release!r}")
        )
    mistakes += _strange(catalog, "product.options", system.options, catalog.options)
    mistakes += _strange(catalog, "product.shared", system.shared, catalog.features)
    mistakes += _strange(catalog, "hardware", system.hardware, catalog.hardware)
    return mistakes + _not_shared(catalog, system) + _no_place(catalog, system) + _too_many(catalog, system.hardware)


def _not_shared(catalog: Catalog, system: System) -> list[Mistake]:
    shareable = ", ".join(it.id for it in catalog.features.values() if it.shareable) or "nothing"
    names = [it for it in sorted(system.shared & catalog.features.keys()) if not catalog.features[it].shareable]
    what = f"is not shared between systems of {catalog.id}, {shareable} is; take it out and enter a license for it here"
    return [Mistake("product.shared", f"{name} {what}") for name in names]


def _no_place(catalog: Catalog, system: System) -> list[Mistake]:
    strange = []
    for name, count in system.hardware.items():
        part = catalog.hardware.get(name)
        if part and part.platforms and count and system.platform not in part.platforms:
            what = f"{system.platform} takes no {part.title}; say 0, or leave it out"
            strange.append(Mistake(f"hardware.{name}", what))
    return strange


def _too_many(catalog: Catalog, hardware: dict[str, int]) -> list[Mistake]:
    parts = [(catalog.hardware[name], name, count) for name, count in hardware.items() if name in catalog.hardware]
    return [
        Mistake(
            f"hardware.{name}", f"{count} of {part.title}, and one system holds {part.most}; say {part.most} or fewer"
        )
        for part, name, count in parts
        if count > part.most
    ]


def _strange(catalog: Catalog, where: str, names: Iterable[str], known: Iterable[str]) -> list[Mistake]:
    there = ", ".join(known) or "nothing"
    strange = sorted(set(names) - set(known))
    return [Mistake(where, f"{catalog.id} has no {name!r} here; it has {there}") for name in strange]


def _is_before(release: str, first: str) -> bool:
    return _number(release) < _number(first)


def is_after(release: str, last: str | None) -> bool:
    """Whether a release came later than the last one; the last release 5 stands for every 5.x."""
    if last is None:
        return False
    parts = last.count(".") + 1
    return _number(release)[:parts] > _number(last)[:parts]


def _number(release: str) -> tuple[int, int, int]:
    """Three numbers, so that 8 and 8.0 are the same."""
    first, second, third, *_ = (*map(int, release.split(".")), 0, 0)
    return first, second, third
