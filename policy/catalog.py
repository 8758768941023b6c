"""Catalogs: what can be licensed in one PBX product, as data.

A catalog is a TOML file. `load_catalog` turns its text into frozen values and refuses it with every mistake named by
file and dotted key. The keys of the file are the attributes of `Platform`, `Feature` and `MeterRule` below.
"""

from __future__ import annotations

import enum
import re

import msgspec

from .licensekey import MAX_FEATURE_CODE, MAX_INSTANCES
from .tables import FileMistakes, Mistake, parse_toml, read_duration, read_table

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Mode(enum.StrEnum):
    """When an instance of a feature is taken (facts/catalog.md section 2)."""

    PRESENCE = "presence"
    CONFIGURATION = "configuration"
    REGISTRATION = "registration"
    LOGIN = "login"
    USE = "use"


class Scope(enum.StrEnum):
    """A part of a holder's leases that is synchronized on its own."""

    CALLS = "calls"
    REGISTRATIONS = "registrations"
    CONFIGURATION = "configuration"


SCOPE_OF_MODE = {
    Mode.PRESENCE: Scope.CONFIGURATION,
    Mode.CONFIGURATION: Scope.CONFIGURATION,
    Mode.REGISTRATION: Scope.REGISTRATIONS,
    Mode.LOGIN: Scope.REGISTRATIONS,
    Mode.USE: Scope.CALLS,
}


class Refill(enum.StrEnum):
    """How a meter gets its budget back."""

    AS_DRAINED = "as_drained"
    """Second by second while the cause is gone."""
    BY_NEWER_LIST = "by_newer_list"
    """All at once, when a newer license list is imported."""


class Consequence(enum.StrEnum):
    """What follows when a meter's budget is spent."""

    DEACTIVATED = "deactivated"
    RESTRICTED = "restricted"
    KEYS_STOP = "keys_stop"
    """Unlisted license keys stop counting; the rest goes on."""


class Cause(enum.StrEnum):
    """What a meter measures."""

    FEATURE_KEY_ABSENT = "feature_key_absent"
    UNLISTED_LICENSES = "unlisted_licenses"


class MeterRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budget, refill and consequence of one cause, under `[meters.CAUSE]`."""

    budget: str
    """A duration: 90s, 15m, 2h, 15d."""
    refill: Refill
    then: Consequence

    @property
    def seconds(self) -> int:
        """The budget in seconds."""
        return read_duration(self.budget) or 0


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A control unit, under `[platforms.ID]`."""

    title: str
    capacity: dict[str, int] = {}
    """The most instances it supports, by feature; instances above have no effect."""


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A thing that can be licensed, under `[features.ID]`."""

    id: str = ""
    """Set from the table's name."""
    code: int
    """Number in license keys, unique in the catalog and never reused."""
    title: str
    unit: str
    """What is counted, singular."""
    mode: Mode
    base: int = 0
    """Instances that come free with the system."""
    base_with: dict[str, int] = {}
    """Instances that come with another feature, once that one is entitled."""
    yields: int = 1
    """Instances that each instance on a license adds."""
    requires: tuple[str, ...] = ()
    """Features that must be entitled for this one's licenses to count."""
    during_setup: dict[str, int] = {}
    """What each instance takes besides while a call is set up."""
    fallback: str | None = None
    """What a refused caller may run as instead."""
    source: str
    """Where the rule comes from."""
    unverified: str | None = None
    """Which part of this entry nobody has confirmed yet."""

    @property
    def scope(self) -> Scope:
        """The scope that its leases belong to."""
        return SCOPE_OF_MODE[self.mode]


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """One product: its platforms, features and meters."""

    id: str
    title: str
    edition: str | None
    """The feature whose absence makes the system show `unlicensed`."""
    platforms: dict[str, Platform]
    features: dict[str, Feature]
    meters: dict[Cause, MeterRule]
    by_code: dict[int, Feature]
    order: tuple[Feature, ...]
    """The features so that each stands behind those it rests on."""


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    title: str
    edition: str | None = None
    platforms: dict[str, Platform]
    features: dict[str, Feature]
    meters: dict[Cause, MeterRule]


def load_catalog(text: str, name: str) -> Catalog:
    """The catalog in a TOML text; `name` is the file's name in messages; raises FileMistakes."""
    mistakes: list[Mistake] = []
    head = read_table(parse_toml(text, name), _Head, "", mistakes)
    if head is None:
        raise FileMistakes(name, mistakes)
    catalog = _catalog(head)
    order, circles = _ordered(catalog)
    checks = (_check_names, _check_features, _check_platforms, _check_meters)
    mistakes = [mistake for check in checks for mistake in check(catalog)] + circles
    if mistakes:
        raise FileMistakes(name, mistakes)
    return msgspec.structs.replace(catalog, order=order)


def _catalog(head: _Head) -> Catalog:
    named = {key: msgspec.structs.replace(feature, id=key) for key, feature in head.features.items()}
    return Catalog(
        id=head.id,
        title=head.title,
        edition=head.edition,
        platforms=head.platforms,
        features=named,
        meters=head.meters,
        by_code={feature.code: feature for feature in named.values()},
        order=(),
    )


def _check_names(catalog: Catalog) -> list[Mistake]:
    names = {"id": catalog.id}
    names |= {f"platforms.{key}": key for key in catalog.platforms}
    names |= {f"features.{key}": key for key in catalog.features}
    bad = [where for where, name in names.items() if not _ID.fullmatch(name)]
    mistakes = [Mistake(where, "a name is lower-case words joined by hyphens") for where in bad]
    if catalog.edition is not None and catalog.edition not in catalog.features:
        mistakes.append(Mistake("edition", f"there is no feature {catalog.edition!r}"))
    return mistakes


def _check_features(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for feature in catalog.features.values():
        where = f"features.{feature.id}"
        mistakes += _check_code(catalog, feature, where)
        mistakes += _check_links(catalog, feature, where)
        mistakes += _bounds(f"{where}.base", feature.base, 0, MAX_INSTANCES)
        mistakes += _bounds(f"{where}.yields", feature.yields, 1, MAX_INSTANCES)
    return mistakes


def _check_code(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    owner = catalog.by_code[feature.code]
    if owner is not feature:
        return [Mistake(f"{where}.code", f"code {feature.code} belongs to {owner.id} already")]
    return _bounds(f"{where}.code", feature.code, 0, MAX_FEATURE_CODE)


def _check_links(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    tables = {"base_with": feature.base_with, "during_setup": feature.during_setup}
    links = [(f"{where}.requires", name) for name in feature.requires]
    links += [(f"{where}.{key}", name) for key, table in tables.items() for name in table]
    mistakes = [Mistake(at, f"there is no feature {name!r}") for at, name in links if name not in catalog.features]
    for key, table in tables.items():
        for name, count in table.items():
            mistakes += _bounds(f"{where}.{key}.{name}", count, 1, MAX_INSTANCES)
    if feature.during_setup and feature.mode is not Mode.USE:
        mistakes.append(Mistake(f"{where}.during_setup", "only a feature of mode use has a set-up"))
    return mistakes


def _check_platforms(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for key, platform in catalog.platforms.items():
        for name, count in platform.capacity.items():
            where = f"platforms.{key}.capacity.{name}"
            if name not in catalog.features:
                mistakes.append(Mistake(where, f"there is no feature {name!r}"))
            mistakes += _bounds(where, count, 0, 1_000_000)
    if not catalog.platforms:
        mistakes.append(Mistake("platforms", "a catalog has at least one platform"))
    return mistakes


def _check_meters(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for cause in Cause:
        rule = catalog.meters.get(cause)
        if rule is None:
            mistakes.append(Mistake(f"meters.{cause}", "this table is missing"))
        elif rule.seconds == 0:
            mistakes.append(Mistake(f"meters.{cause}.budget", "a duration is a number and s, m, h or d, such as 72h"))
    return mistakes


def _bounds(where: str, value: int, least: int, most: int) -> list[Mistake]:
    return [] if least <= value <= most else [Mistake(where, f"{value} is outside {least} to {most}")]


def _ordered(catalog: Catalog) -> tuple[tuple[Feature, ...], list[Mistake]]:
    ordered: list[Feature] = []
    waiting = dict(catalog.features)
    while waiting:
        ready = [feature for feature in waiting.values() if waiting.keys().isdisjoint(_rests_on(feature))]
        if not ready:
            what = "rests on itself through other features"
            return (), [Mistake(f"features.{name}", what) for name in waiting]
        ordered += ready
        for feature in ready:
            del waiting[feature.id]
    return tuple(ordered), []


def _rests_on(feature: Feature) -> set[str]:
    return {*feature.requires, *feature.base_with}
