"""Catalogs: every mistake is named by file and dotted key, and the shipped ones hold the facts."""

from __future__ import annotations

import copy
import sys
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalog import SCOPE_OF_MODE, Catalog, Cause, Mode, Scope
from featurekeyd.policy.catalogfile import MAX_FEATURES, load_catalog
from featurekeyd.policy.entitlements import entitlements
from featurekeyd.policy.system import System
from featurekeyd.policy.tables import FileMistakes


def mistakes_in(text: str) -> list[tuple[str, str]]:
    with pytest.raises(FileMistakes) as caught:
        load_catalog(text, "exchange.toml")
    assert all(line.startswith("exchange.toml: ") for line in str(caught.value).splitlines())
    return [(mistake.where, mistake.what) for mistake in caught.value.mistakes]


CHANGES = [
    ('id = "exchange"', 'id = "Ex Change"', "id", "lower-case words"),
    ('id = "exchange"', "", "id", "missing"),
    ('edition = "edition"', 'edition = "gold"', "edition", "there is no feature 'gold'"),
    ('edition = "edition"', 'colour = "red"', "colour", "no such key"),
    ('budget = "2h"', 'budget = "two hours"', "meters.feature_key_absent.budget", "a duration is"),
    ('budget = "2h"', 'budget = "0h"', "meters.feature_key_absent.budget", "a duration is"),
    ('refill = "as_drained"', 'refill = "never"', "meters.feature_key_absent.refill", "Invalid enum value 'never'"),
    ('then = "keys_stop"', 'then = "explode"', "meters.unlisted_licenses.then", "Invalid enum value 'explode'"),
    ("[meters.unlisted_licenses]", "[meters.unlisted]", "meters.unlisted", "Invalid enum value 'unlisted'"),
    ("[platforms.large]", "[platforms.Large]", "platforms.Large", "lower-case words"),
    ("{ trunk = 100 }", "{ trunks = 100 }", "platforms.large.capacity.trunks", "there is no feature 'trunks'"),
    ("{ trunk = 100 }", "{ trunk = -1 }", "platforms.large.capacity.trunk", "-1 is outside 0 to 1000000"),
    ("{ trunk = 100 }", '{ trunk = "many" }', "platforms.large.capacity.trunk", "expected int"),
    ("[features.coder]", "[features.coder_]", "features.coder_", "lower-case words"),
    ("code = 2\n", "code = 4096\n", "features.trunk.code", "4096 is outside 0 to 4095"),
    ("code = 2\n", f"code = {10**40}\n", "features.trunk.code", "is outside 0 to 4095"),
    ("code = 2\n", "code = 3\n", "features.trunk.code", "code 3 belongs to coder already"),
    ("code = 2\n", "code = true\n", "features.trunk.code", "expected int, got bool"),
    ("code = 2\n", "", "features.trunk.code", "missing"),
    ('unit = "system"', "", "features.edition.unit", "missing"),
    ('mode = "presence"', 'mode = "lease"', "features.edition.mode", "Invalid enum value 'lease'"),
    ("base = 4", "base = 16384", "features.coder.base", "16384 is outside 0 to 16383"),
    ("yields = 2", "yields = 0", "features.recorder.yields", "0 is outside 1 to 16383"),
    ('requires = ["edition"]', 'requires = ["gold"]', "features.recorder.requires", "there is no feature 'gold'"),
    ('requires = ["edition"]', "requires = [1]", "features.recorder.requires[0]", "expected str, got int"),
    ("{ edition = 1 }", "{ gold = 1 }", "features.recorder.base_with", "there is no feature 'gold'"),
    ("{ edition = 1 }", "{ edition = 0 }", "features.recorder.base_with.edition", "0 is outside 1 to 16383"),
    ("{ coder = 1 }", "{ coders = 1 }", "features.trunk.during_setup", "there is no feature 'coders'"),
    ("{ coder = 1 }", "{ trunk = 1 }", "features.trunk.during_setup", "want two instances instead"),
    ("{ coder = 1 }", "{ edition = 1 }", "features.trunk.during_setup", "edition is of mode presence"),
    ('title = "Coders"', 'title = "Co\\u0007ders"', "features.coder.title", "one line of printable characters"),
    ('unit = "phone"', 'unit = "\\u202ephone"', "features.phone.unit", "one line of printable characters"),
    ('"emergency-calls-only"', '"emergency\\ncalls"', "features.trunk.fallback", "one line of printable characters"),
    ('title = "Large"', 'title = "\\u009b2J"', "platforms.large.title", "one line of printable characters"),
    ("[platforms.large]", '[platforms."la\\u001brge"]', "platforms.la\\x1brge", "64 printable characters"),
    ("[platforms.large]", f"[platforms.{'l' * 65}]", f"platforms.{'l' * 64}...", "64 printable characters"),
    ('mode = "registration"', 'mode = "login"\nduring_setup = { coder = 1 }', "features.phone.during_setup", "only a"),
]


@pytest.mark.parametrize(("old", "new", "where", "what"), CHANGES)
def test_each_kind_of_mistake_is_named_by_its_dotted_key(
    catalog_text: str, old: str, new: str, where: str, what: str
) -> None:
    assert old in catalog_text
    found = mistakes_in(catalog_text.replace(old, new, 1))
    assert any(at == where and what in why for at, why in found), found


@pytest.mark.parametrize(
    ("numbers", "where", "what"),
    [
        ("most = 0", "hardware.card.most", "0 is outside 1 to 1000000"),
        ("most = 2\ndefault = 3", "hardware.card.default", "3 is outside 0 to 2"),
        ("most = 2\ndefault = -1", "hardware.card.default", "-1 is outside 0 to 2"),
    ],
)
def test_a_number_of_parts_that_cannot_be_is_named(catalog_text: str, numbers: str, where: str, what: str) -> None:
    assert mistakes_in(catalog_text + f'[hardware.card]\ntitle = "Card"\n{numbers}\n') == [(where, what)]


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ("yields = -1", "yields", "-1 is outside 0 to 1000000"),
        ("yields = 1000001", "yields", "1000001 is outside 0 to 1000000"),
        ("yields = 1\ncapacity = -1", "capacity", "-1 is outside 0 to 1000000"),
        ("yields = 1\nbase_with = { edition = -1 }", "base_with.edition", "-1 is outside 0 to 1000000"),
        ("yields = 1\nbase_with = { gold = 1 }", "base_with", "there is no feature 'gold'"),
    ],
)
def test_a_measure_that_a_license_would_lower_is_refused(catalog_text: str, lines: str, where: str, what: str) -> None:
    text = catalog_text + f'[features.tenant.measures.storage]\nunit = "hour"\n{lines}\n'
    assert mistakes_in(text) == [(f"features.tenant.measures.storage.{where}", what)]


def test_a_mode_of_an_application_takes_one_of_each_feature_and_has_a_good_name(catalog_text: str) -> None:
    modes = '[{ id = "Big One", title = "B", wants = ["phone", "phone"] }, { id = "lite", title = "L" }]'
    text = catalog_text + f'[applications.desk]\ntitle = "Desk"\nsource = "test"\nmodes = {modes}\n'
    assert mistakes_in(text) == [
        ("applications.desk.modes.Big One.wants", "a feature stands there twice; a mode takes one of each"),
        ("applications.desk.modes", "'Big One' is no name of lower-case words joined by hyphens"),
    ]


def with_group(catalog_text: str, features: str, capacity: str = "{ large = 3 }", name: str = "lines") -> str:
    return catalog_text + (
        f'[capacity_groups.{name}]\ntitle = "Lines"\nfeatures = [{features}]\ncapacity = {capacity}\n'
    )


@pytest.mark.parametrize(
    ("features", "capacity", "where", "what"),
    [
        ('"phone", "gold"', "{}", "capacity_groups.lines.features", "there is no feature 'gold'"),
        ('"phone"', "{}", "capacity_groups.lines.features", "a group has at least two features, each once"),
        ('"phone", "phone", "coder"', "{}", "capacity_groups.lines.features", "a group has at least two"),
        ('"phone", "tenant"', "{}", "capacity_groups.lines.features", "tenant may be free"),
        ('"phone", "up-0"', "{}", "capacity_groups.lines.features", "up-0 is part of an upgrade"),
        ('"phone", "trunk"', "{}", "capacity_groups.lines.features", "trunk is part of an upgrade"),
        ('"phone", "coder"', "{ huge = 1 }", "capacity_groups.lines.capacity", "there is no platform 'huge'"),
        ('"phone", "coder"', "{ large = -1 }", "capacity_groups.lines.capacity.large", "-1 is outside 0 to 1000000"),
        ('"phone", "edition"', "{}", "edition", "a license more would make the system unlicensed"),
        ('"phone", "edition"', "{}", "features.recorder", "rests on edition, which others of the capacity group lines"),
    ],
)
def test_a_capacity_group_that_makes_no_sense_is_refused(
    catalog_text: str, features: str, capacity: str, where: str, what: str
) -> None:
    text = with_upgrades(catalog_text.replace("code = 6\n", "code = 6\nfree = true\n"), ("trunk", "side"))
    text += '[features.side]\ncode = 50\ntitle = "Side"\nunit = "one"\nmode = "use"\nsource = "test"\n'
    found = mistakes_in(with_group(text, features, capacity))
    assert any(at == where and what in why for at, why in found), found


def test_a_feature_is_in_one_capacity_group_only(catalog_text: str) -> None:
    text = with_group(with_group(catalog_text, '"phone", "coder"'), '"tenant", "coder"', name="more")
    assert mistakes_in(text) == [("capacity_groups.more.features", "coder is in lines already")]


def test_deep_tables_are_refused_and_end_nothing(catalog_text: str) -> None:
    for depth in range(200, 1000, 50):
        for begin, end in (("[", "]"), ("{ a = ", "}")):
            text = "[a.b.c.d.e.f.g.h]\ni.j.k.l.m.n = " + begin * depth + "1" + end * depth
            assert mistakes_in(catalog_text + text)


def test_a_missing_meter_is_named() -> None:
    text = 'id = "x"\ntitle = "X"\n[features]\n[platforms.p]\ntitle = "P"\n[meters]\n'
    assert {where for where, _ in mistakes_in(text)} == {"meters.feature_key_absent", "meters.unlisted_licenses"}


def test_checks_are_an_hour_or_so_apart(catalog_text: str) -> None:
    for wrong in ("59s", "8d", "often"):
        text = catalog_text + f'\n[checks]\ncheck_every = "{wrong}"\n'
        assert mistakes_in(text) == [("checks.check_every", "a duration from 60s to 7d, such as 3h")]


def test_a_catalog_without_a_platform_is_refused(catalog_text: str) -> None:
    begin, end = catalog_text.index("[platforms.large]"), catalog_text.index("[features.edition]")
    text = catalog_text[:begin] + "[platforms]\n" + catalog_text[end:]
    assert mistakes_in(text) == [("platforms", "a catalog has at least one platform")]


def test_all_mistakes_of_form_are_named_at_once(catalog_text: str) -> None:
    text = catalog_text.replace("code = 1\n", 'code = "one"\ncolor = 1\n').replace('title = "Large"', "titel = 1")
    text = text.replace('then = "deactivated"', 'then = "later"').replace('title = "A small exchange"\n', "")
    assert {where for where, _ in mistakes_in(text)} == {
        "title",
        "features.edition.code",
        "features.edition.color",
        "platforms.large.titel",
        "platforms.large.title",
        "meters.feature_key_absent.then",
    }


def test_all_mistakes_of_sense_are_named_at_once_circles_too(catalog_text: str) -> None:
    text = catalog_text.replace("base = 4", 'base = -1\nrequires = ["tenant"]').replace('"2h"', '"2"')
    text = text.replace("{ trunk = 100 }", "{ trunks = 100 }").replace("code = 6", 'code = 5\nrequires = ["coder"]')
    assert {where for where, _ in mistakes_in(text)} == {
        "features.coder.base",
        "features.recorder.code",
        "meters.feature_key_absent.budget",
        "platforms.large.capacity.trunks",
        "features.coder",
        "features.tenant",
    }


@pytest.mark.parametrize("link", ['requires = ["recorder"]', "base_with = { recorder = 1 }"])
def test_features_that_rest_on_themselves_are_refused(catalog_text: str, link: str) -> None:
    found = mistakes_in(catalog_text.replace("code = 1\n", f"code = 1\n{link}\n"))
    assert {where for where, what in found if what.startswith("rests on itself")} == {
        "features.edition",
        "features.recorder",
    }


def test_a_feature_that_requires_itself_is_refused(catalog_text: str) -> None:
    found = mistakes_in(catalog_text.replace("code = 6", 'code = 6\nrequires = ["tenant"]'))
    assert found == [("features.tenant", "rests on itself through other features")]


def with_upgrades(catalog_text: str, *upgrades: tuple[str, str]) -> str:
    """The test catalog with upgrades `up-0` and so on."""
    for number, (lower, higher) in enumerate(upgrades):
        catalog_text += f'[features.up-{number}]\ntitle = "Up"\nunit = "user"\nmode = "presence"\nsource = "test"\n'
        catalog_text += f'code = {100 + number}\nconverts = {{ lower = "{lower}", higher = "{higher}" }}\n'
    return catalog_text


def with_lines(catalog_text: str, lines: dict[str, str]) -> str:
    """A catalog with a line more in features by name."""
    for name, line in lines.items():
        assert f"[features.{name}]\n" in catalog_text
        catalog_text = catalog_text.replace(f"[features.{name}]\n", f"[features.{name}]\n{line}\n")
    return catalog_text


def test_the_order_puts_an_upgrade_before_its_two_features_and_behind_what_the_higher_one_requires(
    catalog_text: str,
) -> None:
    text = with_upgrades(catalog_text, ("coder", "phone"), ("tenant", "coder"))
    text = with_lines(text, {"phone": 'requires = ["edition"]'})
    places = {feature.id: place for place, feature in enumerate(load_catalog(text, "exchange.toml").order)}
    assert places["edition"] < places["up-0"] < places["phone"]
    assert places["up-1"] < places["up-0"] < places["coder"]


def test_features_that_do_not_rest_on_each_other_stand_in_the_order_of_their_codes(catalog_text: str) -> None:
    text = catalog_text.replace("code = 6\n", "code = 0\n")
    assert load_catalog(text, "exchange.toml").order[0].id == "tenant"


@pytest.mark.parametrize(
    ("upgrades", "lines", "where"),
    [
        ([("phone", "tenant"), ("tenant", "phone")], {}, {"features.up-0", "features.up-1"}),
        (
            [("phone", "tenant"), ("tenant", "coder"), ("coder", "phone")],
            {},
            {"features.up-0", "features.up-1", "features.up-2"},
        ),
        (
            [("phone", "tenant")],
            {"tenant": 'requires = ["phone"]'},
            {"features.up-0", "features.phone", "features.tenant"},
        ),
        (
            [("phone", "tenant")],
            {"phone": 'requires = ["tenant"]'},
            {"features.up-0", "features.phone", "features.tenant"},
        ),
        ([("phone", "tenant")], {"up-0": 'requires = ["phone"]'}, {"features.up-0", "features.phone"}),
        ([("phone", "tenant")], {"up-0": 'requires = ["tenant"]'}, {"features.up-0", "features.tenant"}),
    ],
)
def test_upgrades_that_cannot_be_put_in_an_order_are_refused(
    catalog_text: str, upgrades: list[tuple[str, str]], lines: dict[str, str], where: set[str]
) -> None:
    found = mistakes_in(with_lines(with_upgrades(catalog_text, *upgrades), lines))
    assert where <= {at for at, what in found if what.startswith("rests on itself")}
    assert any("an upgrade stands before" in what for at, what in found if at == "features.up-0")


@pytest.mark.parametrize(
    ("upgrade", "what"),
    [
        (("phone", "gold"), "there is no feature 'gold'"),
        (("phone", "phone"), "the lower and the higher feature are the same"),
        (("phone", "recorder"), "recorder yields 2 for each instance; an upgrade turns one into one"),
        (("phone", "up-0"), "up-0 is an upgrade itself"),
    ],
)
def test_an_upgrade_that_makes_no_sense_is_refused(catalog_text: str, upgrade: tuple[str, str], what: str) -> None:
    first = ("coder", "tenant") if upgrade != ("phone", "gold") else ("coder", "phone")
    found = mistakes_in(with_upgrades(catalog_text, first, upgrade))
    assert any(at == "features.up-1.converts" and what in why for at, why in found), found


def test_only_the_features_of_a_circle_are_named_and_not_those_that_rest_on_them(catalog_text: str) -> None:
    requires = {"tenant": "phone", "phone": "coder", "coder": "phone"}
    text = with_lines(catalog_text, {name: f'requires = ["{other}"]' for name, other in requires.items()})
    assert {where for where, _ in mistakes_in(text)} == {"features.phone", "features.coder"}


def features_of(catalog_text: str, length: int, *, linked: bool) -> str:
    """A catalog with so many features in as few characters as can be; where linked, each requires the next."""
    head = catalog_text[: catalog_text.index("[platforms.large]")].replace('edition = "edition"\n', "")
    head += '[platforms.only]\ntitle = "Only"\n[features]\n'
    link = [f',requires=["f{number}"]' if linked and number < length else "" for number in range(1, length + 1)]
    tables = (
        f'f{number}={{code={number},title="F",unit="u",mode="use",source="t"{link[number]}}}\n'
        for number in range(length)
    )
    return head + "".join(tables)


def test_a_catalog_may_have_as_many_features_as_there_are_codes(catalog_text: str) -> None:
    assert MAX_FEATURES == 2**12
    order = load_catalog(features_of(catalog_text, MAX_FEATURES, linked=False), "exchange.toml").order
    assert [feature.code for feature in order] == [*range(MAX_FEATURES)]


def test_a_chain_of_features_may_be_as_long_as_a_file_has_room_for(catalog_text: str) -> None:
    order = load_catalog(features_of(catalog_text, 3000, linked=True), "exchange.toml").order
    assert [feature.code for feature in order] == [*reversed(range(3000))]


def test_more_features_than_codes_are_refused_before_anything_else_is_looked_at(catalog_text: str) -> None:
    text = features_of(catalog_text, MAX_FEATURES + 1, linked=False).replace('title = "A small exchange"', "colour = 1")
    assert mistakes_in(text) == [
        ("features", "4097 features; a license key has codes for 4096; put the rest into another catalog")
    ]


def calls_to_load(text: str) -> int:
    """How many function calls it takes to load a catalog: what time depends on, without the time."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    earlier = sys.getprofile()
    sys.setprofile(count)
    try:
        load_catalog(text, "exchange.toml")
    finally:
        sys.setprofile(earlier)
    return calls


def test_the_time_to_load_grows_with_the_number_of_features_and_not_with_its_square(catalog_text: str) -> None:
    few, many = (calls_to_load(features_of(catalog_text, length, linked=True)) for length in (100, 800))
    assert many < 12 * few


def test_the_order_puts_each_feature_behind_those_it_rests_on(catalog: Catalog) -> None:
    places = {feature.id: place for place, feature in enumerate(catalog.order)}
    assert len(places) == len(catalog.features)
    assert places["edition"] < places["recorder"]


def test_every_mode_has_a_scope() -> None:
    assert SCOPE_OF_MODE.keys() == set(Mode)
    assert set(SCOPE_OF_MODE.values()) == set(Scope)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.just("edition")
)
NAMES = st.sampled_from(
    [
        "id",
        "title",
        "edition",
        "platforms",
        "features",
        "meters",
        "capacity",
        "code",
        "mode",
        "base",
        "requires",
        "trunk",
    ]
)
TABLES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)


def as_toml(value: Any) -> str:
    """TOML for arbitrary tables: inline, so that nesting needs no headers; None is written as what TOML lacks."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(str(key))} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08X}" for character in value) + '"'
    return str(value)


@given(st.dictionaries(NAMES, TABLES, max_size=8))
def test_arbitrary_tables_give_nothing_but_file_mistakes(tables: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {as_toml(value)}" for key, value in tables.items())
    with pytest.raises(FileMistakes):
        load_catalog(text, "any.toml")


def places_in(table: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in table.items():
        found.append((*path, key))
        found += places_in(value, (*path, key)) if isinstance(value, dict) else []
    return found


@given(st.data())
def test_a_good_catalog_with_anything_at_any_place_loads_or_gives_file_mistakes(
    catalog_text: str, data: st.DataObject
) -> None:
    good = tomllib.loads(catalog_text)
    table = copy.deepcopy(good)
    for path in data.draw(st.lists(st.sampled_from(places_in(good)), min_size=1, max_size=3)):
        inner: Any = table
        for key in path[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = data.draw(TABLES)
    try:
        loaded = load_catalog("\n".join(f"{key} = {as_toml(value)}" for key, value in table.items()), "any.toml")
    except FileMistakes:
        return
    for platform in loaded.platforms:
        assert entitlements(loaded, System(platform=platform), [], count_unlisted=True).keys() == loaded.features.keys()


# What is shipped


def test_the_shipped_ip_office_has_its_meters_as_decided(shipped: dict[str, Catalog]) -> None:
    meters = shipped["ip-office"].meters
    assert meters[Cause.FEATURE_KEY_ABSENT].seconds == 2 * 3600
    assert meters[Cause.FEATURE_KEY_ABSENT].then == "deactivated"
    assert meters[Cause.UNLISTED_LICENSES].seconds == 72 * 3600
    assert meters[Cause.UNLISTED_LICENSES].refill == "by_newer_list"


def test_every_entry_of_a_shipped_catalog_says_where_it_comes_from(shipped: dict[str, Catalog]) -> None:
    assert "ip-office" in shipped
    for catalog in shipped.values():
        assert [feature.id for feature in catalog.features.values() if not feature.source.strip()] == []


def test_third_party_phones_count_and_avaya_phones_are_free(shipped: dict[str, Catalog]) -> None:
    features = shipped["ip-office"].features
    assert features["third-party-ip-endpoints"].mode is Mode.REGISTRATION
    assert features["avaya-ip-endpoints"].free_without == "avaya-phones-licensed"


SHEET = {
    "4.1": "essential-edition embedded-voicemail-ports preferred-edition voicemail-pro-ports advanced-edition "
    "professional-edition branch-system software-upgrade basic-edition",
    "4.2": "sip-trunk-channels sm-trunk-channels voice-networking-channels advanced-scn pri-channels-t1 "
    "pri-channels-e1 pri-channels-e1-r2 vcm-channels channel-migration ipsec-tunneling small-office-vcm "
    "small-office-wifi",
    "4.3": "avaya-ip-endpoints third-party-ip-endpoints vpn-remote-phones avaya-softphone",
    "4.4": "basic-user office-worker teleworker mobile-worker power-user upgrade-mobile-worker "
    "upgrade-office-worker upgrade-teleworker receptionist customer-service-agent customer-service-supervisor "
    "mobility-features",
    "4.5": "phone-manager-pro phone-manager-pro-ip-audio softconsole cti-link-pro wave-user voicemail-pro-vbscript "
    "voicemail-pro-database voicemail-pro-networked-messaging voicemail-pro-tts ums-web-services contactstore "
    "one-x-portal ccc-server ccc-agents ccc-supervisors ccc-designer ccc-wallboards ccc-chat ccc-report-viewer "
    "compact-business-center ccr-agents ccr-supervisors conferencing-center integrated-messaging ms-crm audix "
    "ras-lrq proactive-reporting web-collaboration mac-softphone third-party-api accs",
}
"""The licenses of the sheet of facts, by section; Server Edition's own stands in its own catalog."""


@pytest.mark.parametrize("section", SHEET)
def test_each_license_of_the_sheet_of_facts_is_in_the_catalog(shipped: dict[str, Catalog], section: str) -> None:
    assert [name for name in SHEET[section].split() if name not in shipped["ip-office"].features] == []
    assert "server-edition" in shipped["ip-office-server-edition"].features


def test_the_catalog_has_no_license_that_the_sheet_of_facts_does_not_know(shipped: dict[str, Catalog]) -> None:
    known = {name for names in SHEET.values() for name in names.split()}
    assert shipped["ip-office"].features.keys() - known == {"expansion-modules"}


GENERAL = (
    "phone-manager-pro",
    "preferred-edition",
    "softconsole",
    "third-party-ip-endpoints",
    "vpn-remote-phones",
    "sip-trunk-channels",
)


@pytest.mark.parametrize("name", GENERAL)
def test_general_licenses_count_on_every_control_unit(shipped: dict[str, Catalog], name: str) -> None:
    catalog = shipped["ip-office"]
    feature = catalog.features[name]
    assert [it for it in catalog.platforms if System(platform=it).unused(catalog, feature) is not None] == []
