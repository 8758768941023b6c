"""Catalog files: TOML text to a Catalog, refused with every mistake named by file and dotted key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from .catalog import (
    HOST_COMPONENTS,
    UNIQUE_COMPONENTS,
    UNLIMITED,
    Application,
    CapacityGroup,
    Catalog,
    Cause,
    CheckRule,
    Condition,
    Consequence,
    Feature,
    HostRules,
    LicenseSet,
    MeterRule,
    Mode,
    Part,
    Platform,
    Refill,
)
from .catalogsense import check_groups, check_names, check_resting, check_texts, rests_on
from .licensekey import MAX_FEATURE_CODE, MAX_INSTANCES
from .system import RELEASE, is_after
from .tables import FileMistakes, Mistake, parse_toml, read_table

MAX_FEATURES = MAX_FEATURE_CODE + 1
"""Features of one catalog: each needs a code of its own, and a license key has 12 bits for it."""

MAX_WEIGHT = 100
"""The most that one component of a host weighs: in percent nobody needs it finer."""

LEAST_NEEDED = 51
"""Percent of a host that must be kept at least: two hosts that share one's parts are not both that host."""

_MUST_BE_THERE = frozenset({Cause.FEATURE_KEY_ABSENT, Cause.UNLISTED_LICENSES})
"""Causes that every catalog has a meter for; where it has none for another, nothing follows from that cause."""

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_CIRCLE = "rests on itself through other features"
_UPGRADE_CIRCLE = (
    f"{_CIRCLE}: an upgrade stands before its lower and its higher feature, behind all that these two require, "
    "and behind the upgrades to its lower one"
)

_Stage = str | tuple[str, str]
"""A feature; or, before it, that it is `ready` with all that it rests on, or `fed` by all upgrades to it."""
_Graph = dict[_Stage, set[_Stage]]
"""What must come before each feature and each stage on the way to it."""


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    title: str
    edition: str | None = None
    release: str = "1.0"
    platforms: dict[str, Platform]
    features: dict[str, Feature]
    meters: dict[Cause, MeterRule]
    hardware: dict[str, Part] = {}
    capacity_groups: dict[str, CapacityGroup] = {}
    options: dict[str, str] = {}
    applications: dict[str, Application] = {}
    sets: dict[str, LicenseSet] = {}
    host: HostRules = HostRules()
    checks: CheckRule = CheckRule()


def load_catalog(text: str, name: str) -> Catalog:
    """The catalog in a TOML text; `name` is the file's name in messages; raises FileMistakes."""
    mistakes: list[Mistake] = []
    tables = parse_toml(text, name)
    _refuse_too_many(tables, name)
    mistakes = check_names(tables)
    if mistakes:
        raise FileMistakes(name, mistakes)
    mistakes = check_texts(tables)
    head = read_table(tables, _Head, "", mistakes)
    if head is None or mistakes:
        raise FileMistakes(name, mistakes)
    catalog = _catalog(head)
    order, circles = _ordered(catalog)
    checks = (
        _check_names,
        _check_features,
        _check_platforms,
        _check_hardware,
        check_groups,
        check_resting,
        _check_meters,
        _check_host,
        _check_checks,
        _check_applications,
        _check_sets,
    )
    mistakes = [mistake for check in checks for mistake in check(catalog)] + circles
    if mistakes:
        raise FileMistakes(name, mistakes)
    return msgspec.structs.replace(catalog, order=order)


def _refuse_too_many(tables: dict[str, Any], name: str) -> None:
    features = tables.get("features")
    if isinstance(features, dict) and len(features) > MAX_FEATURES:
        what = (
            f"{len(features)} features; a license key has codes for {MAX_FEATURES}; put the rest into another catalog"
        )
        raise FileMistakes(name, [Mistake("features", what)])


def _catalog(head: _Head) -> Catalog:
    named = {key: msgspec.structs.replace(feature, id=key) for key, feature in head.features.items()}
    return Catalog(
        id=head.id,
        title=head.title,
        edition=head.edition,
        release=head.release,
        platforms=head.platforms,
        features=named,
        meters=head.meters,
        hardware=head.hardware,
        capacity_groups=head.capacity_groups,
        options=head.options,
        applications=head.applications,
        sets=head.sets,
        host=head.host,
        checks=head.checks,
        by_code={feature.code: feature for feature in named.values()},
        order=(),
    )


def _check_names(catalog: Catalog) -> list[Mistake]:
    tables = ("platforms", "features", "hardware", "capacity_groups", "options", "applications", "sets")
    names = {"id": catalog.id}
    names |= {f"{table}.{key}": key for table in tables for key in getattr(catalog, table)}
    bad = [where for where, name in names.items() if not _ID.fullmatch(name)]
    mistakes = [Mistake(where, "a name is lower-case words joined by hyphens") for where in bad]
    if catalog.edition is not None:
        mistakes += _known(catalog, "edition", [catalog.edition])
    return mistakes + _check_release("release", catalog.release)


def _check_features(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for feature in catalog.features.values():
        where = f"features.{feature.id}"
        for check in _CHECKS_OF_FEATURE:
            mistakes += check(catalog, feature, where)
    return mistakes


def _check_code(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    owner = catalog.by_code[feature.code]
    if owner is not feature:
        return [Mistake(f"{where}.code", f"code {feature.code} belongs to {owner.id} already")]
    return _bounds(f"{where}.code", feature.code, 0, MAX_FEATURE_CODE)


def _check_links(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    tables = {"base_with": feature.base_with, "base_each": feature.base_each, "during_setup": feature.during_setup}
    mistakes = _known(catalog, f"{where}.requires", feature.requires)
    mistakes += _known(catalog, f"{where}.requires_own", feature.requires_own)
    for condition in feature.requires_when:
        mistakes += _known(catalog, f"{where}.requires_when", condition.features)
        mistakes += _platforms(catalog, f"{where}.requires_when", condition.platforms)
        mistakes += _check_releases(f"{where}.requires_when", condition)
    for key, table in tables.items():
        mistakes += _known(catalog, f"{where}.{key}", table)
        for name, count in table.items():
            mistakes += _bounds(f"{where}.{key}.{name}", count, 1, MAX_INSTANCES)
    return mistakes


def _check_setup(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    where, taken = f"{where}.during_setup", feature.during_setup
    mistakes = []
    if taken and feature.mode is not Mode.USE:
        mistakes.append(Mistake(where, "only a feature of mode use has a set-up"))
    if feature.id in taken:
        mistakes.append(Mistake(where, "an instance takes itself once more; want two instances instead"))
    present = [it.id for it in catalog.features.values() if it.id in taken and it.mode is Mode.PRESENCE]
    return mistakes + [Mistake(where, f"{it} is of mode presence, which nobody takes; require it") for it in present]


def _check_measures(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    mistakes = []
    for key, measure in feature.measures.items():
        here = f"{where}.measures.{key}"
        mistakes += _known(catalog, f"{here}.base_with", measure.base_with)
        numbers = {"yields": measure.yields, "capacity": measure.capacity or 0}
        numbers |= {f"base_with.{name}": count for name, count in measure.base_with.items()}
        for name, number in numbers.items():
            mistakes += _bounds(f"{here}.{name}", number, 0, UNLIMITED)
    return mistakes


def _check_conversion(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    if feature.converts is None:
        return []
    where, ends = f"{where}.converts", (feature.converts.lower, feature.converts.higher)
    if unknown := _known(catalog, where, ends):
        return unknown
    lower, higher = (catalog.features[name] for name in ends)
    upgrades = [it.id for it in (lower, higher) if it.converts is not None]
    mistakes = [Mistake(where, f"{it} is an upgrade itself; name the feature that it leads to") for it in upgrades]
    if lower is higher:
        mistakes.append(Mistake(where, "the lower and the higher feature are the same"))
    many = [it for it in (lower, higher) if it.yields != 1]
    what = "for each instance; an upgrade turns one into one, between features that yield 1"
    return mistakes + [Mistake(where, f"{it.id} yields {it.yields} {what}") for it in many]


def _check_numbers(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    mistakes = _bounds(f"{where}.base", feature.base, 0, MAX_INSTANCES)
    mistakes += _bounds(f"{where}.yields", feature.yields, 1, MAX_INSTANCES)
    mistakes += _bounds(f"{where}.capacity", feature.capacity or 0, 0, UNLIMITED)
    for name, count in feature.base_per.items():
        if name not in catalog.hardware:
            mistakes.append(Mistake(f"{where}.base_per", f"there is no hardware {name!r}"))
        mistakes += _bounds(f"{where}.base_per.{name}", count, 1, MAX_INSTANCES)
    return mistakes


def _check_ranks(_: Catalog, feature: Feature, where: str) -> list[Mistake]:
    bad = [rank for rank in feature.ranks if not _ID.fullmatch(rank)]
    mistakes = [Mistake(f"{where}.ranks", f"{rank!r} is no name of lower-case words and hyphens") for rank in bad]
    if len(set(feature.ranks)) < len(feature.ranks):
        mistakes.append(Mistake(f"{where}.ranks", "a rank stands there twice"))
    return mistakes


def _check_where(catalog: Catalog, feature: Feature, where: str) -> list[Mistake]:
    mistakes = _platforms(catalog, f"{where}.platforms", feature.platforms)
    mistakes += _platforms(catalog, f"{where}.free_on", feature.free_on)
    mistakes += _check_releases(where, feature)
    if feature.free_without is not None and feature.free_without not in catalog.options:
        mistakes.append(Mistake(f"{where}.free_without", f"there is no option {feature.free_without!r}"))
    return mistakes


_CHECKS_OF_FEATURE = (
    _check_code,
    _check_links,
    _check_setup,
    _check_measures,
    _check_conversion,
    _check_numbers,
    _check_ranks,
    _check_where,
)


def _check_releases(where: str, rule: Feature | Condition) -> list[Mistake]:
    first, last = rule.from_release, rule.until_release
    mistakes = _check_release(f"{where}.from_release", first)
    mistakes += _check_release(f"{where}.until_release", last or "0")
    if not mistakes and is_after(first, last):
        mistakes.append(Mistake(f"{where}.until_release", f"it ends with {last}, before it begins with {first}"))
    return mistakes


def _check_release(where: str, release: str) -> list[Mistake]:
    good = RELEASE.fullmatch(release)
    return [] if good else [Mistake(where, f"a release is numbers and dots, such as 9.1, and not {release!r}")]


def _known(catalog: Catalog, where: str, names: Iterable[str]) -> list[Mistake]:
    return [Mistake(where, f"there is no feature {name!r}") for name in names if name not in catalog.features]


def _platforms(catalog: Catalog, where: str, names: Iterable[str]) -> list[Mistake]:
    return [Mistake(where, f"there is no platform {name!r}") for name in names if name not in catalog.platforms]


def _check_applications(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for key, application in catalog.applications.items():
        where = f"applications.{key}.modes"
        for mode in application.modes:
            mistakes += _known(catalog, f"{where}.{mode.id}.wants", mode.wants)
            if len(set(mode.wants)) < len(mode.wants):
                what = "a feature stands there twice; a mode takes one of each"
                mistakes.append(Mistake(f"{where}.{mode.id}.wants", what))
            if not _ID.fullmatch(mode.id):
                mistakes.append(Mistake(where, f"{mode.id!r} is no name of lower-case words joined by hyphens"))
        if not application.modes or application.modes[-1].wants:
            mistakes.append(Mistake(where, "the last mode takes nothing, so that the application always runs"))
        if len({mode.id for mode in application.modes}) < len(application.modes):
            mistakes.append(Mistake(where, "two modes have the same id"))
    return mistakes


def _check_sets(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for key, license_set in catalog.sets.items():
        where = f"sets.{key}.adds"
        mistakes += _known(catalog, where, license_set.adds)
        for name, count in license_set.adds.items():
            mistakes += _bounds(f"{where}.{name}", count, 1, MAX_INSTANCES)
        if not license_set.adds:
            mistakes.append(Mistake(where, "a set adds something"))
    return mistakes


def _check_platforms(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for key, platform in catalog.platforms.items():
        for name, count in platform.capacity.items():
            where = f"platforms.{key}.capacity.{name}"
            if name not in catalog.features:
                mistakes.append(Mistake(where, f"there is no feature {name!r}"))
            mistakes += _bounds(where, count, 0, UNLIMITED)
    if not catalog.platforms:
        mistakes.append(Mistake("platforms", "a catalog has at least one platform"))
    return mistakes


def _check_hardware(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for key, part in catalog.hardware.items():
        mistakes += _bounds(f"hardware.{key}.most", part.most, 1, UNLIMITED)
        mistakes += _bounds(f"hardware.{key}.default", part.default, 0, max(0, part.most))
        mistakes += _platforms(catalog, f"hardware.{key}.platforms", part.platforms)
    return mistakes


def _check_meters(catalog: Catalog) -> list[Mistake]:
    mistakes = []
    for cause in Cause:
        rule = catalog.meters.get(cause)
        if rule is None and cause not in _MUST_BE_THERE:
            continue
        if rule is None:
            mistakes.append(Mistake(f"meters.{cause}", "this table is missing"))
        elif rule.seconds == 0:
            mistakes.append(Mistake(f"meters.{cause}.budget", "a duration is a number and s, m, h or d, such as 72h"))
        if rule is not None and cause is not Cause.PRIMARY_UNREACHABLE:
            mistakes += _check_of_primary(cause, rule)
    return mistakes


def _check_of_primary(cause: Cause, rule: MeterRule) -> list[Mistake]:
    """What only the meter of the Primary may say, said by another."""
    said = {"refill": rule.refill is Refill.ON_CONTACT, "then": rule.then is Consequence.SHARED_STOPS}
    said["needs"] = rule.needs is not None
    what = f"only meters.{Cause.PRIMARY_UNREACHABLE} may say so: nobody makes contact with {cause}"
    return [Mistake(f"meters.{cause}.{key}", what) for key, there in said.items() if there]


def _check_checks(catalog: Catalog) -> list[Mistake]:
    if catalog.checks.seconds is not None:
        return []
    return [Mistake("checks.check_every", "a duration from 60s to 7d, such as 3h")]


def _check_host(catalog: Catalog) -> list[Mistake]:
    host, mistakes = catalog.host, []
    for name, weight in host.weights.items():
        if name not in HOST_COMPONENTS:
            what = f"there is no component {name!r}, only {', '.join(sorted(HOST_COMPONENTS))}"
            mistakes.append(Mistake(f"host.weights.{name}", what))
        mistakes += _bounds(f"host.weights.{name}", weight, 1, MAX_WEIGHT)
    if not host.weights.keys() & UNIQUE_COMPONENTS:
        what = f"none of {', '.join(sorted(UNIQUE_COMPONENTS))} counts: a copied disk would be the same host"
        mistakes.append(Mistake("host.weights", what))
    if not LEAST_NEEDED <= host.needed <= 100:
        what = f"{host.needed} is outside {LEAST_NEEDED} to 100 percent; with less, two hosts could each be the same"
        mistakes.append(Mistake("host.needed", what))
    if host.binds_addresses and not host.binds:
        mistakes.append(Mistake("host.binds_addresses", "addresses are bound together with the host: set binds = true"))
    return mistakes


def _bounds(where: str, value: int, least: int, most: int) -> list[Mistake]:
    return [] if least <= value <= most else [Mistake(where, f"{value} is outside {least} to {most}")]


def _ordered(catalog: Catalog) -> tuple[tuple[Feature, ...], list[Mistake]]:
    """The features each behind those it rests on, else by code, never by place in the file; or the circles there are.

    The time it takes grows with the number of features and of links between them.
    """
    graph = _graph(catalog)
    ordered, stuck = _sorted(graph)
    if stuck:
        return (), _circles(catalog, graph, stuck)
    ready = ([catalog.features[it] for it in names if isinstance(it, str)] for names in ordered)
    return tuple(feature for features in ready for feature in sorted(features, key=lambda it: it.code)), []


def _circles(catalog: Catalog, graph: _Graph, stuck: set[_Stage]) -> list[Mistake]:
    """A mistake at each feature of a circle; sorted backward too, what only rests on a circle drops out."""
    backward: _Graph = {it: set() for it in stuck}
    for it in stuck:
        for earlier in graph[it] & stuck:
            backward[earlier].add(it)
    _, circles = _sorted(backward)
    named = {it if isinstance(it, str) else it[0] for it in circles if isinstance(it, str) or it[1] == "ready"}
    return [_circle(feature) for name, feature in catalog.features.items() if name in named]


def _circle(feature: Feature) -> Mistake:
    return Mistake(f"features.{feature.id}", _CIRCLE if feature.converts is None else _UPGRADE_CIRCLE)


def _sorted(graph: _Graph) -> tuple[list[list[_Stage]], set[_Stage]]:
    """What can come first, what can come next and so on; and what can never come."""
    missing = {it: len(earlier) for it, earlier in graph.items()}
    later: dict[_Stage, list[_Stage]] = {it: [] for it in graph}
    for it, earlier in graph.items():
        for each in earlier:
            later[each].append(it)
    ordered = []
    ready = [it for it, count in missing.items() if not count]
    while ready:
        ordered.append(ready)
        ready = _made_ready(ready, missing, later)
    return ordered, {it for it, count in missing.items() if count}


def _made_ready(done: list[_Stage], missing: dict[_Stage, int], later: dict[_Stage, list[_Stage]]) -> list[_Stage]:
    """What misses nothing any more, now that these are done."""
    ready = []
    for it in (each for earlier in done for each in later[earlier]):
        missing[it] -= 1
        if not missing[it]:
            ready.append(it)
    return ready


def _graph(catalog: Catalog) -> _Graph:
    """What must come before what; stages stand between many upgrades of one feature and all that it rests on."""
    features = catalog.features
    graph: _Graph = {}
    for name, feature in features.items():
        ready: set[_Stage] = {other for other in rests_on(feature) if other in features}
        graph[name, "ready"], graph[name, "fed"], graph[name] = ready, set(), {(name, "ready"), (name, "fed")}
    for name, feature in features.items():
        if feature.converts is None or not {feature.converts.lower, feature.converts.higher} <= features.keys():
            continue
        lower, higher = feature.converts.lower, feature.converts.higher
        graph[name] |= {(higher, "ready"), (lower, "ready"), (lower, "fed")}
        graph[higher, "fed"].add(name)
        graph[lower].add((higher, "fed"))
    return graph
