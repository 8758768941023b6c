"""The shipped catalogs hold the facts: what a system of that kind may use with those licenses.

The cases are written as one would say them: the platform, what was bought, what may be used.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from featurekeyd.policy.catalog import UNLIMITED, Catalog, Cause, Consequence, Feature, Mode, Scope
from featurekeyd.policy.entitlements import Entitlements, entitlements, with_statuses
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import SyncLease, Want
from featurekeyd.policy.system import System

SERIAL = "110123456789"
IP_OFFICE = ("ip500", "ip500-v2", "ip500-v2a", "ip412", "ip406-v2", "small-office")


def licenses(catalog: Catalog, bought: str) -> list[License]:
    """Licenses as an order lists them: `preferred-edition power-user:5`."""
    found = []
    for number, item in enumerate(bought.split()):
        feature, _, count = item.partition(":")
        key = make_key(
            feature_code=catalog.features[feature].code,
            instances=int(count or 1),
            issued=datetime.date(2026, 1, 1),
            term=Term.PERPETUAL,
            sequence=number,
            catalog=catalog.id,
            serial=SERIAL,
        )
        found.append(License(key=key, feature=feature, status=Status.VALID, finding="", listed=True))
    return found


def allowed(catalog: Catalog, platform: str, bought: str = "", **system: Any) -> Entitlements:
    """What a system of this platform may use with these licenses."""
    return entitlements(catalog, System(platform=platform, **system), licenses(catalog, bought), count_unlisted=True)


def status(catalog: Catalog, platform: str, bought: str, **system: Any) -> list[str]:
    """The statuses of these licenses in their order."""
    bare = licenses(catalog, bought)
    found = entitlements(catalog, System(platform=platform, **system), bare, count_unlisted=True)
    return [str(license_.status) for license_ in with_statuses(bare, found)]


@pytest.fixture(scope="session")
def ip_office(shipped: dict[str, Catalog]) -> Catalog:
    return shipped["ip-office"]


@pytest.fixture(scope="session")
def server_edition(shipped: dict[str, Catalog]) -> Catalog:
    return shipped["ip-office-server-edition"]


@pytest.fixture(scope="session")
def ayrix(shipped: dict[str, Catalog]) -> Catalog:
    return shipped["ayrix"]


# All of them


def test_three_catalogs_are_shipped_and_each_file_bears_the_name_of_its_catalog(shipped: dict[str, Catalog]) -> None:
    assert sorted(shipped) == ["ayrix", "ip-office", "ip-office-server-edition"]


def test_every_entry_that_states_a_fact_has_a_source(shipped: dict[str, Catalog]) -> None:
    for catalog in shipped.values():
        tables = (catalog.platforms, catalog.hardware, catalog.features, catalog.applications, catalog.sets)
        entries: list[tuple[str, Any]] = [pair for table in tables for pair in table.items()]
        assert [name for name, entry in entries if not entry.source.strip()] == []


def test_a_source_is_a_seed_or_the_sheet_of_facts(shipped: dict[str, Catalog]) -> None:
    for catalog in shipped.values():
        for feature in catalog.features.values():
            assert feature.source.startswith(("seed 00", "facts ", "facts/catalog.md ")), feature.id


def test_what_the_sheet_of_facts_calls_unverified_is_marked(ip_office: Catalog) -> None:
    marked = {feature.id for feature in ip_office.features.values() if feature.unverified}
    assert marked >= {"sip-trunk-channels", "vcm-channels", "softconsole", "advanced-scn", "ccr-agents", "audix"}
    assert ip_office.platforms["ip500"].unverified is not None
    assert ip_office.sets["edition-advanced"].unverified is not None
    assert ip_office.features["embedded-voicemail-ports"].unverified is None


def test_the_codes_of_keys_already_issued_are_unchanged(ip_office: Catalog) -> None:
    codes = {code: ip_office.by_code[code].id for code in (1, 2, 10, 11, 20, 30)}
    assert codes == {
        1: "essential-edition",
        2: "embedded-voicemail-ports",
        10: "sip-trunk-channels",
        11: "vcm-channels",
        20: "third-party-ip-endpoints",
        30: "softconsole",
    }


def test_a_code_belongs_to_one_license_in_both_ip_office_catalogs(ip_office: Catalog, server_edition: Catalog) -> None:
    both = [*ip_office.features.values(), *server_edition.features.values()]
    names: dict[int, set[str]] = {}
    for feature in both:
        names.setdefault(feature.code, set()).add(feature.id)
    assert {code: found for code, found in names.items() if len(found) > 1} == {}
    assert len(ip_office.by_code) == len(ip_office.features)


def test_no_two_licenses_and_no_two_sets_have_one_title(shipped: dict[str, Catalog]) -> None:
    for catalog in shipped.values():
        assert len({feature.title for feature in catalog.features.values()}) == len(catalog.features)
        assert len({license_set.title for license_set in catalog.sets.values()}) == len(catalog.sets)


def test_no_set_has_the_name_of_a_feature(shipped: dict[str, Catalog]) -> None:
    for catalog in shipped.values():
        assert catalog.sets.keys() & catalog.features.keys() == set()


@pytest.mark.parametrize(
    ("catalog", "seconds", "then"),
    [
        ("ip-office", 2 * 3600, Consequence.DEACTIVATED),
        ("ip-office-server-edition", 72 * 3600, Consequence.RESTRICTED),
        ("ayrix", 72 * 3600, Consequence.DEACTIVATED),
    ],
)
def test_each_catalog_says_what_follows_when_its_key_is_away(
    shipped: dict[str, Catalog], catalog: str, seconds: int, then: Consequence
) -> None:
    rule = shipped[catalog].meters[Cause.FEATURE_KEY_ABSENT]
    assert (rule.seconds, rule.then) == (seconds, then)


# IP Office: what comes free

FREE_ON_IP500_V2 = {"vcm-channels": 4}


def test_a_new_ip_office_has_what_comes_free_and_no_more(ip_office: Catalog) -> None:
    found = allowed(ip_office, "ip500-v2")
    counted = {name: it.limit for name, it in found.items() if 0 < it.limit < UNLIMITED}
    free = {name for name, it in found.items() if it.limit == UNLIMITED}
    assert counted == FREE_ON_IP500_V2
    assert free == {"basic-user", "avaya-ip-endpoints", "expansion-modules"}


@pytest.mark.parametrize(
    ("hardware", "free"),
    [
        ({}, {"vcm-channels": 4}),
        ({"vcm-card": 0}, {}),
        ({"vcm-card": 2}, {"vcm-channels": 8}),
        ({"vcm-card": 0, "pri-card": 1}, {"pri-channels-e1": 8}),
        ({"vcm-card": 0, "pri-card-e1-r2": 2}, {"pri-channels-e1-r2": 16}),
        ({"vcm-card": 0, "pri-card-t1": 3}, {"pri-channels-t1": 24}),
    ],
)
def test_cards_bring_free_channels(ip_office: Catalog, hardware: dict[str, int], free: dict[str, int]) -> None:
    found = allowed(ip_office, "ip500-v2", hardware=hardware)
    assert {name: it.limit for name, it in found.items() if 0 < it.limit < UNLIMITED} == free


def test_avaya_phones_are_free_unless_the_settings_say_that_they_count(ip_office: Catalog) -> None:
    assert allowed(ip_office, "ip500-v2")["avaya-ip-endpoints"].limit == UNLIMITED
    counted = frozenset({"avaya-phones-licensed"})
    phones = allowed(ip_office, "ip500-v2", "avaya-ip-endpoints:5", options=counted, hardware={"vcm-card": 2})
    assert phones["avaya-ip-endpoints"].limit == 2 * 12 + 5


def test_a_freed_phone_instance_goes_to_waiting_dect_handsets_first(ip_office: Catalog) -> None:
    assert ip_office.features["avaya-ip-endpoints"].ranks == ("dect-handset",)


def test_lite_versions_and_basic_users_need_no_license(ip_office: Catalog) -> None:
    assert ip_office.features["basic-user"].free
    assert ip_office.applications["phone-manager"].modes[-1].id == "lite"
    assert ip_office.applications["phone-manager"].modes[-1].wants == ()


# IP Office: platform, licenses bought -> what may be used

LIMITS = [
    # Essential Edition brings 2 connections, each further license 2 more, at most 6
    ("ip500-v2", "essential-edition", {"essential-edition": 1, "embedded-voicemail-ports": 2}),
    ("ip500-v2", "essential-edition embedded-voicemail-ports", {"embedded-voicemail-ports": 4}),
    ("ip500-v2", "essential-edition embedded-voicemail-ports:2", {"embedded-voicemail-ports": 6}),
    ("ip500-v2", "essential-edition embedded-voicemail-ports:3", {"embedded-voicemail-ports": 6}),
    # Preferred Edition brings 4 ports, further ones add up to the unit's capacity
    ("ip500-v2", "preferred-edition", {"preferred-edition": 1, "voicemail-pro-ports": 4, "voicemail-pro-database": 1}),
    ("ip500-v2", "preferred-edition voicemail-pro-ports:8", {"voicemail-pro-ports": 12}),
    ("ip500", "preferred-edition voicemail-pro-ports:64", {"voicemail-pro-ports": 40}),
    ("ip412", "preferred-edition voicemail-pro-ports:64", {"voicemail-pro-ports": 30}),
    ("ip406-v2", "preferred-edition voicemail-pro-ports:64", {"voicemail-pro-ports": 20}),
    ("small-office", "preferred-edition voicemail-pro-ports:64", {"voicemail-pro-ports": 10}),
    ("ip500-v2", "voicemail-pro-ports:8", {"voicemail-pro-ports": 0}),
    # SIP trunk channels
    ("ip500-v2", "sip-trunk-channels:5 sip-trunk-channels:20", {"sip-trunk-channels": 25}),
    ("ip500", "sip-trunk-channels:200", {"sip-trunk-channels": 128}),
    # VCM channels: 4 with the card
    ("ip500", "vcm-channels:500", {"vcm-channels": 128}),
    ("ip500-v2", "vcm-channels:500", {"vcm-channels": 148}),
    ("ip500-v2a", "vcm-channels:28", {"vcm-channels": 32}),
    ("ip412", "vcm-channels:500", {"vcm-channels": 60}),
    ("ip406-v2", "vcm-channels:500", {"vcm-channels": 30}),
    ("small-office", "vcm-channels:500 small-office-vcm:9", {"vcm-channels": 16, "small-office-vcm": 12}),
    # Small Office: 3 channels, each license one more, and SIP calls count them
    ("small-office", "", {"vcm-channels": 3, "small-office-vcm": 3}),
    ("small-office", "small-office-vcm:9", {"vcm-channels": 12, "small-office-vcm": 12}),
    ("small-office", "small-office-vcm:13", {"vcm-channels": 16, "small-office-vcm": 16}),
    ("ip500", "small-office-vcm:13", {"vcm-channels": 4, "small-office-vcm": 0}),
    # PRI channels: 240 of all kinds together
    ("ip500-v2", "pri-channels-e1:500", {"pri-channels-e1": 240, "pri-channels-t1": 0, "pri-channels-e1-r2": 0}),
    ("ip500-v2", "pri-channels-t1:500", {"pri-channels-e1": 0, "pri-channels-t1": 192, "pri-channels-e1-r2": 0}),
    (
        "ip500-v2",
        "pri-channels-e1:100 pri-channels-e1-r2:90 pri-channels-t1:500",
        {"pri-channels-e1": 100, "pri-channels-e1-r2": 90, "pri-channels-t1": 50},
    ),
    ("ip500-v2a", "pri-channels-e1:30 pri-channels-e1-r2:500", {"pri-channels-e1": 30, "pri-channels-e1-r2": 210}),
    # Branch System and SM trunks
    ("ip500-v2", "sm-trunk-channels:10", {"sm-trunk-channels": 0}),
    ("ip500-v2", "branch-system sm-trunk-channels:10", {"branch-system": 1, "sm-trunk-channels": 10}),
    # Phones
    ("ip500-v2", "third-party-ip-endpoints:5 third-party-ip-endpoints:20", {"third-party-ip-endpoints": 25}),
    ("ip500-v2", "vpn-remote-phones:5 vpn-remote-phones:3", {"vpn-remote-phones": 8}),
    # Profiles above Basic need Preferred
    ("ip500-v2", "power-user:5 office-worker:5", {"power-user": 0, "office-worker": 0}),
    (
        "ip500-v2",
        "preferred-edition power-user:5 office-worker:4 teleworker:3 mobile-worker:2",
        {"power-user": 5, "office-worker": 4, "teleworker": 3, "mobile-worker": 2},
    ),
    ("ip500-v2", "receptionist:2", {"receptionist": 2}),
    # An upgrade replaces, as far as there is something to replace
    (
        "ip500-v2",
        "preferred-edition mobile-worker:8 power-user:1 upgrade-mobile-worker:5",
        {"mobile-worker": 3, "power-user": 6},
    ),
    (
        "ip500-v2",
        "preferred-edition mobile-worker:2 upgrade-mobile-worker:5",
        {"mobile-worker": 0, "power-user": 2},
    ),
    ("ip500-v2", "preferred-edition upgrade-mobile-worker:5", {"power-user": 0}),
    # Call reporting needs Advanced, which needs Preferred
    ("ip500-v2", "advanced-edition ccr-agents:10 ccr-supervisors:2", {"ccr-agents": 0, "ccr-supervisors": 0}),
    ("ip500-v2", "preferred-edition ccr-agents:10", {"ccr-agents": 0}),
    (
        "ip500-v2",
        "preferred-edition advanced-edition ccr-agents:200 ccr-supervisors:40 customer-service-agent:7",
        {"ccr-agents": 150, "ccr-supervisors": 30, "customer-service-agent": 7},
    ),
    # Applications
    ("ip406-v2", "softconsole:3 softconsole:3", {"softconsole": 4}),
    ("ip500-v2", "phone-manager-pro-ip-audio:5", {"phone-manager-pro-ip-audio": 0}),
    ("ip500-v2", "phone-manager-pro:5 phone-manager-pro-ip-audio:3", {"phone-manager-pro-ip-audio": 3}),
    ("ip500-v2", "wave-user:5", {"wave-user": 0}),
    ("ip500-v2", "cti-link-pro wave-user:5", {"cti-link-pro": 1, "wave-user": 5}),
    ("ip500-v2", "voicemail-pro-tts:8 ums-web-services:5 contactstore one-x-portal:5", {"voicemail-pro-tts": 0}),
    (
        "ip500-v2",
        "preferred-edition voicemail-pro-tts:8 ums-web-services:5 contactstore one-x-portal:5",
        {"voicemail-pro-tts": 8, "ums-web-services": 5, "contactstore": 1, "one-x-portal": 5},
    ),
    ("ip412", "ccc-agents:10", {"ccc-agents": 0}),
    ("ip412", "ccc-server ccc-agents:100 ccc-supervisors:20", {"ccc-agents": 75, "ccc-supervisors": 12}),
    ("ip412", "compact-business-center:2", {"compact-business-center": 2}),
    # A system right twice is still one
    ("ip500-v2", "essential-edition essential-edition", {"essential-edition": 1}),
    # Standard against Professional Edition
    ("ip500", "", {"expansion-modules": 0}),
    ("ip500", "professional-edition", {"expansion-modules": 12}),
    ("ip500-v2", "", {"expansion-modules": UNLIMITED}),
]


@pytest.mark.parametrize(("platform", "bought", "limits"), LIMITS)
def test_licenses_give_what_the_documents_say(
    ip_office: Catalog, platform: str, bought: str, limits: dict[str, int]
) -> None:
    found = allowed(ip_office, platform, bought)
    assert {name: found[name].limit for name in limits} == limits


@pytest.mark.parametrize(
    ("bought", "connections", "hours"),
    [
        ("", 0, 0),
        ("embedded-voicemail-ports:2", 0, 0),
        ("essential-edition", 2, 15),
        ("essential-edition embedded-voicemail-ports", 4, 20),
        ("essential-edition embedded-voicemail-ports embedded-voicemail-ports", 6, 25),
        ("essential-edition embedded-voicemail-ports:2", 6, 25),
        ("essential-edition embedded-voicemail-ports:9", 6, 25),
    ],
)
def test_one_license_gives_connections_and_hours(ip_office: Catalog, bought: str, connections: int, hours: int) -> None:
    voicemail = allowed(ip_office, "ip500-v2", bought)["embedded-voicemail-ports"]
    assert (voicemail.limit, voicemail.measures) == (connections, {"storage": hours})


def test_a_sip_call_takes_a_vcm_channel_at_set_up_on_every_platform_and_release(ip_office: Catalog) -> None:
    assert ip_office.features["sip-trunk-channels"].during_setup == {"vcm-channels": 1}
    for platform, release in itertools.product(IP_OFFICE, ("3.2", "4.0", "5", "6.0", "8.1", "9.1")):
        found = allowed(ip_office, platform, "sip-trunk-channels:3", release=release)
        assert found["sip-trunk-channels"].limit == 3
        assert found["vcm-channels"].limit == (3 if platform == "small-office" else 4)


def test_free_channels_of_pri_cards_go_before_licenses_of_another_kind(ip_office: Catalog) -> None:
    found = allowed(ip_office, "ip500-v2", "pri-channels-e1:500", hardware={"pri-card": 1, "pri-card-t1": 3})
    assert (found["pri-channels-e1"].limit, found["pri-channels-t1"].limit) == (216, 24)


# IP Office: platform and release


@pytest.mark.parametrize(
    ("platform", "release", "bought", "statuses"),
    [
        ("ip500-v2a", "8.0", "preferred-edition", ["dormant"]),
        ("ip500-v2a", "9.1", "preferred-edition power-user:5", ["dormant", "dormant"]),
        ("ip500-v2a", "9.1", "essential-edition preferred-edition power-user:5", ["valid", "valid", "valid"]),
        ("ip500-v2a", "7.0", "preferred-edition", ["valid"]),
        ("ip500-v2", "9.1", "preferred-edition", ["valid"]),
        ("ip500-v2", "5.0", "mobility-features:5", ["valid"]),
        ("ip500-v2", "6.0", "mobility-features:5", ["obsolete"]),
        ("ip500-v2", "9.1", "mobility-features:5 softconsole", ["obsolete", "valid"]),
        ("ip500-v2", "5.0", "receptionist:5", ["obsolete"]),
        ("ip500-v2", "3.2", "advanced-scn", ["obsolete"]),
        ("ip500-v2", "9.1", "basic-edition", ["obsolete"]),
        ("ip500-v2", "9.1", "small-office-wifi professional-edition", ["obsolete", "obsolete"]),
        ("small-office", "9.1", "small-office-wifi", ["valid"]),
        ("ip500", "5.0", "voice-networking-channels:4", ["dormant"]),
        ("ip500", "5.0", "professional-edition voice-networking-channels:4", ["valid", "valid"]),
        ("ip500", "6.0", "voice-networking-channels:4", ["valid"]),
    ],
)
def test_platform_and_release_decide_which_licenses_count(
    ip_office: Catalog, platform: str, release: str, bought: str, statuses: list[str]
) -> None:
    assert status(ip_office, platform, bought, release=release) == statuses


def test_a_dormant_license_wakes_when_its_prerequisite_comes(ip_office: Catalog) -> None:
    before = allowed(ip_office, "ip500-v2", "ccr-agents:10 advanced-edition")["ccr-agents"]
    assert (before.limit, before.missing, before.lack) == (0, ("advanced-edition",), Reason.PREREQUISITE_MISSING)
    after = allowed(ip_office, "ip500-v2", "ccr-agents:10 advanced-edition preferred-edition")["ccr-agents"]
    assert (after.limit, after.missing, after.lack) == (10, (), None)


def test_networking_needs_a_vcm_card(ip_office: Catalog) -> None:
    bare = allowed(ip_office, "ip500-v2", "voice-networking-channels:4", hardware={"vcm-card": 0})
    assert bare["voice-networking-channels"].missing == ("vcm-channels",)


@pytest.mark.parametrize(
    ("feature", "limit"),
    [("power-user", 5), ("ums-web-services", 5), ("contactstore", 1), ("voicemail-pro-ports", 0), ("one-x-portal", 0)],
)
def test_a_shared_preferred_edition_serves_profiles_and_not_a_voicemail_server(
    ip_office: Catalog, feature: str, limit: int
) -> None:
    found = allowed(ip_office, "ip500", f"{feature}:5", shared=frozenset({"preferred-edition"}))
    assert found[feature].limit == limit


@pytest.mark.parametrize(
    ("mode", "features"),
    [
        (Mode.PRESENCE, "essential-edition preferred-edition professional-edition branch-system cti-link-pro"),
        (Mode.CONFIGURATION, "power-user mobile-worker mobility-features pri-channels-t1 pri-channels-e1-r2"),
        (Mode.REGISTRATION, "third-party-ip-endpoints avaya-ip-endpoints vpn-remote-phones"),
        (Mode.LOGIN, "ccr-agents ccr-supervisors ccc-agents customer-service-agent"),
        (Mode.USE, "sip-trunk-channels pri-channels-e1 phone-manager-pro voicemail-pro-ports wave-user"),
    ],
)
def test_an_instance_is_taken_when_the_documents_say_so(ip_office: Catalog, mode: Mode, features: str) -> None:
    assert {ip_office.features[name].mode for name in features.split()} == {mode}


# IP Office: applications and sets


def test_phone_manager_falls_back_from_softphone_to_pro_to_lite(ip_office: Catalog) -> None:
    modes = ip_office.applications["phone-manager"].modes
    assert [(mode.id, mode.wants) for mode in modes] == [
        ("pc-softphone", ("phone-manager-pro", "phone-manager-pro-ip-audio")),
        ("pro", ("phone-manager-pro",)),
        ("lite", ()),
    ]


@pytest.mark.parametrize("users", [20, 25, 30, 50])
def test_a_small_business_set_adds_three_licenses_for_so_many_users(ip_office: Catalog, users: int) -> None:
    adds = ip_office.sets[f"uc-small-business-{users}"].adds
    names = ("mobility-features", "phone-manager-pro", "phone-manager-pro-ip-audio")
    assert adds == dict.fromkeys(names, users)


def test_small_business_sets_are_combined_for_the_number_of_users(ip_office: Catalog) -> None:
    adds = [ip_office.sets[name].adds.items() for name in ("uc-small-business-20", "uc-small-business-25")]
    bought = " ".join(f"{name}:{count}" for items in adds for name, count in items)
    found = allowed(ip_office, "ip500-v2", bought, release="5.0")
    assert {found[name].limit for name in ip_office.sets["uc-small-business-20"].adds} == {45}


@pytest.mark.parametrize(
    ("item", "adds"),
    [
        ("edition-essential", {"essential-edition": 1}),
        ("edition-preferred", {"preferred-edition": 1}),
        ("mobile-worker-1", {"mobile-worker": 1}),
        ("mobile-worker-5", {"mobile-worker": 5}),
        ("mobile-worker-20", {"mobile-worker": 20}),
        ("mobile-worker-to-power-user-5", {"upgrade-mobile-worker": 5}),
        ("sip-trunk-channels-10", {"sip-trunk-channels": 10}),
        ("voicemail-pro-ports-16", {"voicemail-pro-ports": 16}),
        ("third-party-ip-endpoints-50", {"third-party-ip-endpoints": 50}),
    ],
)
def test_an_order_item_adds_its_licenses(ip_office: Catalog, item: str, adds: dict[str, int]) -> None:
    assert ip_office.sets[item].adds == adds


def test_the_sets_of_the_editions_give_what_the_documents_say(ip_office: Catalog) -> None:
    sets = ("edition-essential", "edition-preferred", "edition-advanced")
    bought = " ".join(f"{name}:{count}" for item in sets for name, count in ip_office.sets[item].adds.items())
    found = allowed(ip_office, "ip500-v2a", bought)
    limits = {"embedded-voicemail-ports": 2, "voicemail-pro-ports": 4, "ccr-supervisors": 1, "voicemail-pro-tts": 8}
    assert {name: found[name].limit for name in limits} == limits


# Server Edition

UNSUPPORTED = (
    "essential-edition preferred-edition voice-networking-channels teleworker mobile-worker embedded-voicemail-ports "
    "ccr-agents ccr-supervisors voicemail-pro-networked-messaging voicemail-pro-database voicemail-pro-vbscript "
    "ccc-server ccc-agents ccc-supervisors vcm-channels mobility-features"
)


@pytest.mark.parametrize("name", UNSUPPORTED.split())
def test_a_license_that_server_edition_does_not_use_is_obsolete_and_gives_nothing(
    server_edition: Catalog, name: str
) -> None:
    found = allowed(server_edition, "primary", f"server-edition {name}:5")[name]
    assert (found.limit, found.lack, found.unused) == (
        0,
        Reason.NOT_SUPPORTED,
        server_edition.features[name].unsupported,
    )
    assert status(server_edition, "primary", f"server-edition {name}:5") == ["valid", "obsolete"]


@pytest.mark.parametrize(
    ("platform", "bought", "limits"),
    [
        ("primary", "", {"voicemail-pro-ports": 0, "network-links": 0}),
        ("primary", "server-edition", {"server-edition": 1, "voicemail-pro-ports": 2, "network-links": 1}),
        ("secondary", "server-edition", {"voicemail-pro-ports": 2}),
        ("secondary", "server-edition voicemail-pro-ports:8", {"voicemail-pro-ports": 10}),
        ("expansion", "server-edition", {"server-edition": 1, "voicemail-pro-ports": 0, "network-links": 1}),
        ("primary", "server-edition sip-trunk-channels:50", {"sip-trunk-channels": 50}),
        ("primary", "basic-user:100", {"basic-user": 0}),
        ("primary", "server-edition basic-user:100 power-user:10", {"basic-user": 100, "power-user": 10}),
        ("primary", "", {"one-x-portal": 0}),
        ("primary", "one-x-portal:5", {"one-x-portal": 5, "server-edition": 0}),
    ],
)
def test_server_edition_gives_what_the_document_says(
    server_edition: Catalog, platform: str, bought: str, limits: dict[str, int]
) -> None:
    found = allowed(server_edition, platform, bought)
    assert {name: found[name].limit for name in limits} == limits


def test_a_server_of_one_x_portal_is_no_system_that_a_server_edition_license_is_asked_of(
    server_edition: Catalog,
) -> None:
    assert [*server_edition.platforms] == ["primary", "secondary", "expansion"]
    assert server_edition.features["one-x-portal"].requires == ()


@pytest.mark.parametrize(
    ("release", "limit"), [("5.0", 0), ("6.0", 1), ("8.1", 1), ("9.1", 1), ("9.1.7", 1), ("10.0", 0), ("11", 0)]
)
def test_the_server_edition_license_works_from_release_6_to_9_1(
    server_edition: Catalog, release: str, limit: int
) -> None:
    assert allowed(server_edition, "primary", "server-edition", release=release)["server-edition"].limit == limit


def test_both_ip_office_catalogs_name_the_edition_that_they_are_unlicensed_without(
    server_edition: Catalog, ip_office: Catalog
) -> None:
    assert server_edition.edition == "server-edition"
    assert ip_office.edition == "essential-edition"


# Ayrix


def in_class(ayrix: Catalog, group: str) -> list[Feature]:
    return [feature for feature in ayrix.features.values() if feature.group == group]


def test_general_features_are_counted_per_thing_created(ayrix: Catalog) -> None:
    general = in_class(ayrix, "general")
    assert [feature.id for feature in general] == ["users", "extensions", "voicemail", "announcements"]
    assert {feature.mode for feature in general} == {Mode.CONFIGURATION}


def test_instance_features_are_counted_by_function_ring_group_and_queue(ayrix: Catalog) -> None:
    shown = [feature.id for feature in in_class(ayrix, "instance") if not feature.hidden]
    assert shown == ["functions", "ring-groups", "queues"]
    found = allowed(ayrix, "server", "functions:3 ring-groups:2 queues:2 queues:1")
    assert [found[name].limit for name in shown] == [3, 2, 3]


def test_core_features_are_free_and_always_on(ayrix: Catalog) -> None:
    found = allowed(ayrix, "server")
    core = {feature.id for feature in in_class(ayrix, "core")}
    assert core == {"registrations", "calls"}
    assert {name for name, it in found.items() if it.limit} == core
    assert {found[name].limit for name in core} == {UNLIMITED}


def test_some_features_are_hidden_from_the_customer(ayrix: Catalog) -> None:
    assert [feature.id for feature in ayrix.features.values() if feature.hidden] == ["hidden-functions"]


def test_every_feature_of_ayrix_is_in_one_of_three_classes(ayrix: Catalog) -> None:
    assert {feature.group for feature in ayrix.features.values()} == {"general", "instance", "core"}


def test_when_ayrix_is_deactivated_phones_stay_registered_and_calls_are_locked(
    ayrix: Catalog, make_site: Callable[..., Any]
) -> None:
    site = make_site(ayrix, "server")
    site.certify()
    phone = SyncLease(key="phone", wants=(Want("registrations"),))
    assert site.acquire("phone", "registrations").allowed
    assert site.acquire("call", "calls").allowed
    site.pull()
    site.wait(72 * 3600 - 1)
    assert site.acquire("later", "calls").allowed
    site.wait(2)
    assert site.acquire("another", "calls").reason is Reason.DEACTIVATED
    assert site.acquire("phone", "registrations").reason is Reason.ALREADY_HELD
    site.sync(phone, scope=Scope.REGISTRATIONS)
    assert (site.in_use("registrations"), site.in_use("calls")) == (1, 2)
