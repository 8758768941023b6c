"""Catalogs: what can be licensed in one PBX product, as frozen values.

A catalog is a TOML file, which `catalogfile` reads and checks. The keys of the file are the attributes of the types
below; docs/catalogs.md explains them to vendors.
"""

from __future__ import annotations

import enum

import msgspec

from .tables import read_duration

UNLIMITED = 1_000_000
"""The limit of what is free: more than any platform has."""


LEAST_BETWEEN_CHECKS = 60
"""Between two checks: more often says nothing new and wears the key."""

MOST_BETWEEN_CHECKS = 7 * 86_400
"""Between two checks: beyond a week it is no check any more."""


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
    """While the cause is gone, at half the speed at which it drained."""
    BY_NEWER_LIST = "by_newer_list"
    """All at once, when a newer license list is imported."""
    BY_CHECK = "by_check"
    """All at once, when a check passes."""
    ON_CONTACT = "on_contact"
    """All at once, when the Primary is reached."""


class Consequence(enum.StrEnum):
    """What follows when a meter's budget is spent."""

    DEACTIVATED = "deactivated"
    RESTRICTED = "restricted"
    KEYS_STOP = "keys_stop"
    """Unlisted license keys stop counting; the rest goes on."""
    SHARED_STOPS = "shared_stops"
    """What the settings take from another system of the network stops counting; the rest goes on."""


class Cause(enum.StrEnum):
    """What a meter measures."""

    FEATURE_KEY_ABSENT = "feature_key_absent"
    UNLISTED_LICENSES = "unlisted_licenses"
    HOST_CHANGED = "host_changed"
    NO_CHECK = "no_check"
    PRIMARY_UNREACHABLE = "primary_unreachable"


class Need(enum.StrEnum):
    """What a meter's budget needs besides time, without which there is no grace."""

    THIS_BOOT = "this_boot"
    """That the cause was absent once since the host booted: a reboot voids the budget."""


class MeterRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budget, refill and consequence of one cause, under `[meters.CAUSE]`."""

    budget: str
    """A duration: 90s, 15m, 2h, 15d."""
    refill: Refill
    then: Consequence
    needs: Need | None = None
    """What there must be for any grace; nothing for most."""

    @property
    def seconds(self) -> int:
        """The budget in seconds."""
        return read_duration(self.budget) or 0


PERMANENT_ADDRESSES = "permanent-addresses"
"""The component of a host that has several values: the permanent addresses of its network interfaces."""

UNIQUE_COMPONENTS = frozenset(
    {"product-uuid", "product-serial", "board-serial", "device-tree-serial", "cpu-serial", PERMANENT_ADDRESSES}
)
"""Components that no other host has by nature; the rest goes along with a copied disk or is that of a whole model."""

HOST_COMPONENTS = UNIQUE_COMPONENTS | {"machine-id", "cpu-model"}
"""What a host can be known by (facts/hardware.md section 8)."""

SHIPPED_WEIGHTS = {
    "product-uuid": 3,
    "product-serial": 2,
    "board-serial": 3,
    "device-tree-serial": 3,
    "cpu-serial": 3,
    PERMANENT_ADDRESSES: 2,
    "machine-id": 2,
    "cpu-model": 1,
}
"""Weights where a catalog has none (facts/hardware.md section 8, E); the serial of a chassis is often filler."""


class CheckRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a catalog wants its systems checked, under `[checks]`."""

    check_every: str = "3h"
    """A duration from 60s to 7d."""
    evidence: bool = False
    """Whether the vendor's signed answer is required besides."""

    @property
    def seconds(self) -> int | None:
        """Seconds between two checks, None where `check_every` is no duration within the bounds."""
        seconds = read_duration(self.check_every)
        return seconds if seconds is not None and LEAST_BETWEEN_CHECKS <= seconds <= MOST_BETWEEN_CHECKS else None


class HostRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How licenses are bound to the host they were issued for, under `[host]`."""

    binds: bool = False
    """Whether a changed host drains the meter `host_changed`; a certificate of the kind `host` binds in any case."""
    binds_addresses: bool = False
    """Whether the IPv4 addresses of the primary interface are bound as well."""
    needed: int = 60
    """Percent of the enrolled weight that must be kept."""
    weights: dict[str, int] = msgspec.field(default_factory=lambda: dict(SHIPPED_WEIGHTS))
    """What each component counts; one that is not named counts nothing."""
    source: str = ""
    """Where the rule comes from."""
    unverified: str | None = None
    """Which part of it nobody has confirmed yet."""


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A control unit, under `[platforms.ID]`."""

    title: str
    capacity: dict[str, int] = {}
    """The most instances it supports, by feature; instances above have no effect."""
    source: str = ""
    """Where its capacities come from."""
    unverified: str | None = None
    """Which of them nobody has confirmed yet."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of hardware that a site may have several of, under `[hardware.ID]`; the settings say how many."""

    title: str
    most: int
    """The most that one system holds."""
    default: int = 0
    """How many there are where the settings say nothing."""
    platforms: tuple[str, ...] = ()
    """The platforms that it fits; all where nothing is said."""
    source: str = ""
    """Where the numbers come from."""
    unverified: str | None = None
    """Which of them nobody has confirmed yet."""


class CapacityGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Features that a platform supports so many of together, under `[capacity_groups.ID]`."""

    title: str
    features: tuple[str, ...]
    """Whose licenses have an effect first where there is no room for all; what comes free goes before all licenses."""
    capacity: dict[str, int]
    """The most instances of all of them, by platform."""
    source: str = ""
    """Where the numbers come from."""
    unverified: str | None = None
    """Which of them nobody has confirmed yet."""


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A second quantity that a feature's licenses give, under `[features.ID.measures.NAME]`, e.g. hours of storage."""

    unit: str
    yields: int
    """How much each instance on a license adds."""
    base_with: dict[str, int] = {}
    """How much comes with another feature."""
    capacity: int | None = None
    """The most there can be."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Features that are required on some platforms or from some release on only."""

    features: tuple[str, ...]
    platforms: tuple[str, ...] = ()
    """On these platforms; on all where nothing is said."""
    from_release: str = "0"
    until_release: str | None = None
    """The last release that it holds for; 5 stands for every 5.x."""


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each instance turns an instance of one feature into one of another: an upgrade that replaces."""

    lower: str
    higher: str


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
    base_each: dict[str, int] = {}
    """Instances that come with each instance of another feature."""
    base_per: dict[str, int] = {}
    """Instances that come with each part of the hardware."""
    free: bool = False
    """Whether there is no limit and no license."""
    free_without: str | None = None
    """An option of the settings: without it the feature is free."""
    yields: int = 1
    """Instances that each instance on a license adds."""
    free_on: tuple[str, ...] = ()
    """The platforms on which it is free."""
    capacity: int | None = None
    """The most instances on any platform; a platform's own number stands before it."""
    requires: tuple[str, ...] = ()
    """Features that must be entitled, here or shared from another system, for this one's licenses to count."""
    shareable: bool = False
    """Whether one that another system of the network has may stand in for it where it is required."""
    requires_own: tuple[str, ...] = ()
    """The same for features that this system itself must have; a shared one does not do."""
    requires_when: tuple[Condition, ...] = ()
    """The same, on some platforms or from some release on."""
    platforms: tuple[str, ...] = ()
    """The platforms that have it; all where nothing is said."""
    from_release: str = "0"
    """The first release that has it."""
    until_release: str | None = None
    """The last release that has it; 5 stands for every 5.x."""
    unsupported: str | None = None
    """Why this product does not use it at all, though licenses for it exist."""
    measures: dict[str, Measure] = {}
    converts: Conversion | None = None
    during_setup: dict[str, int] = {}
    """What each instance takes besides while a call is set up."""
    fallback: str | None = None
    """What a refused caller may run as instead."""
    ranks: tuple[str, ...] = ()
    """In which order those who wait for an instance get one; who names none of these ranks comes last."""
    group: str | None = None
    """The class that it is sold in, for lists."""
    hidden: bool = False
    """Whether lists leave it out until there is a license for it."""
    source: str
    """Where the rule comes from."""
    unverified: str | None = None
    """Which part of this entry nobody has confirmed yet."""

    @property
    def scope(self) -> Scope:
        """The scope that its leases belong to."""
        return SCOPE_OF_MODE[self.mode]


class ApplicationMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way an application may run, and what it takes."""

    id: str
    title: str
    wants: tuple[str, ...] = ()


class Application(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An application that falls back from mode to mode, under `[applications.ID]`; the last mode takes nothing."""

    title: str
    modes: tuple[ApplicationMode, ...]
    source: str


class LicenseSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One order item that gives several licenses, under `[sets.ID]`."""

    title: str
    adds: dict[str, int]
    """Instances on the license of each feature."""
    source: str
    unverified: str | None = None


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """One product: its platforms, features, meters, applications and sets."""

    id: str
    title: str
    edition: str | None
    """The feature whose absence makes the system show `unlicensed`."""
    release: str
    """The release that a system runs where the settings say nothing."""
    platforms: dict[str, Platform]
    features: dict[str, Feature]
    meters: dict[Cause, MeterRule]
    hardware: dict[str, Part]
    capacity_groups: dict[str, CapacityGroup]
    options: dict[str, str]
    """What the settings may turn on, with what it means."""
    applications: dict[str, Application]
    sets: dict[str, LicenseSet]
    by_code: dict[int, Feature]
    order: tuple[Feature, ...]
    """The features so that each stands behind those it rests on."""
    host: HostRules = HostRules()
    checks: CheckRule = CheckRule()
