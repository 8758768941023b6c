"""What the licenses together allow, held against a model that was written without looking at the module."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalog import UNLIMITED, Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.entitlements import Entitlement, entitlements, with_statuses
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.system import System
from featurekeyd.policy.tables import FileMistakes

DAY = datetime.date(2026, 1, 1)


class Bought(NamedTuple):
    """A license as the model sees it."""

    feature: str
    instances: int
    status: Status = Status.VALID


def licenses(catalog: Catalog, *bought: Bought) -> list[License]:
    found = []
    for number, (feature, instances, status) in enumerate(bought):
        key = make_key(
            feature_code=catalog.features[feature].code,
            instances=instances,
            issued=DAY,
            term=Term.PERPETUAL,
            sequence=number,
            catalog=catalog.id,
            serial="110123456789",
        )
        found.append(License(key=key, feature=feature, status=status, finding="", listed=True))
    return found


def allowed(catalog: Catalog, platform: str, *bought: Bought, count_unlisted: bool = True) -> dict[str, Entitlement]:
    return entitlements(catalog, System(platform=platform), licenses(catalog, *bought), count_unlisted=count_unlisted)


def test_licenses_of_one_feature_add_up(catalog: Catalog) -> None:
    trunk = allowed(catalog, "large", Bought("trunk", 3), Bought("trunk", 5), Bought("phone", 7))["trunk"]
    assert (trunk.limit, trunk.licensed, trunk.base, trunk.lack) == (8, 8, 0, None)


@pytest.mark.parametrize(("bought", "limit"), [(3, 3), (4, 4), (5, 4), (16383, 4)])
def test_instances_above_the_capacity_have_no_effect(catalog: Catalog, bought: int, limit: int) -> None:
    trunk = allowed(catalog, "small", Bought("trunk", bought))["trunk"]
    assert (trunk.limit, trunk.licensed, trunk.capacity) == (limit, bought, 4)


def test_what_is_said_to_come_free_is_never_more_than_the_limit(catalog: Catalog) -> None:
    recorder = allowed(catalog, "small", Bought("edition", 1))["recorder"]
    assert (recorder.limit, recorder.base) == (0, 0)


def test_base_instances_come_without_a_license(catalog: Catalog) -> None:
    coder = allowed(catalog, "large")["coder"]
    assert (coder.limit, coder.base, coder.licensed, coder.lack) == (4, 4, 0, None)


def test_a_license_without_its_prerequisite_does_not_count(catalog: Catalog) -> None:
    recorder = allowed(catalog, "large", Bought("recorder", 3))["recorder"]
    assert (recorder.limit, recorder.licensed, recorder.lack) == (0, 0, Reason.PREREQUISITE_MISSING)


def test_the_prerequisite_brings_its_own_instances_and_lets_the_license_count(catalog: Catalog) -> None:
    recorder = allowed(catalog, "large", Bought("recorder", 3), Bought("edition", 1))["recorder"]
    assert (recorder.limit, recorder.base, recorder.licensed) == (1 + 2 * 3, 1, 6)


def test_an_expired_prerequisite_is_a_missing_one(catalog: Catalog) -> None:
    found = allowed(catalog, "large", Bought("recorder", 3), Bought("edition", 1, Status.EXPIRED))
    assert found["recorder"].lack is Reason.PREREQUISITE_MISSING
    assert found["edition"].lack is Reason.LICENSE_EXPIRED


@pytest.mark.parametrize(
    ("status", "count_unlisted", "limit", "lack"),
    [
        (Status.VALID, False, 5, None),
        (Status.UNKNOWN, True, 5, None),
        (Status.UNKNOWN, False, 0, Reason.LICENSE_UNLISTED),
        (Status.EXPIRED, True, 0, Reason.LICENSE_EXPIRED),
        (Status.INVALID, True, 0, Reason.NOT_LICENSED),
    ],
)
def test_the_lack_says_what_is_wrong_with_the_licenses_there_are(
    catalog: Catalog, status: Status, count_unlisted: bool, limit: int, lack: Reason | None
) -> None:
    phone = allowed(catalog, "large", Bought("phone", 5, status), count_unlisted=count_unlisted)["phone"]
    assert (phone.limit, phone.lack) == (limit, lack)


@pytest.mark.parametrize("feature", ["phone", "recorder"])
def test_without_any_license_the_lack_is_not_licensed_even_where_a_prerequisite_is_missing_too(
    catalog: Catalog, feature: str
) -> None:
    assert allowed(catalog, "large")[feature].lack is Reason.NOT_LICENSED


def test_a_key_of_an_unknown_feature_changes_nothing(catalog: Catalog) -> None:
    (stray,) = licenses(catalog, Bought("phone", 5))
    stray = License(key=stray.key, feature=None, status=Status.INVALID, finding="", listed=True)
    assert entitlements(catalog, System(platform="large"), [stray], count_unlisted=True) == allowed(catalog, "large")


def model(platform: str, bought: list[Bought], count_unlisted: bool) -> dict[str, int]:
    """The limits of the test catalog, written out feature by feature."""
    good = {Status.VALID, Status.UNKNOWN} if count_unlisted else {Status.VALID}

    def total(feature: str) -> int:
        return sum(each.instances for each in bought if each.feature == feature and each.status in good)

    recorders = 1 + 2 * total("recorder") if total("edition") else 0
    return {
        "edition": total("edition"),
        "trunk": min(total("trunk"), 4 if platform == "small" else 100),
        "coder": 4 + total("coder"),
        "phone": total("phone"),
        "recorder": 0 if platform == "small" else recorders,
        "tenant": total("tenant"),
    }


BOUGHT = st.builds(
    Bought,
    st.sampled_from(["edition", "trunk", "coder", "phone", "recorder", "tenant"]),
    st.integers(1, 60) | st.just(16383),
    st.sampled_from(list(Status)),
)
PLATFORMS = st.sampled_from(["small", "large"])


@given(PLATFORMS, st.lists(BOUGHT, max_size=8), st.booleans())
def test_the_limits_are_those_of_the_model(
    catalog: Catalog, platform: str, bought: list[Bought], count_unlisted: bool
) -> None:
    found = allowed(catalog, platform, *bought, count_unlisted=count_unlisted)
    assert {name: entitlement.limit for name, entitlement in found.items()} == model(platform, bought, count_unlisted)
    for entitlement in found.values():
        assert (entitlement.lack is None) == (entitlement.limit > 0)
        assert entitlement.base <= entitlement.limit


@given(PLATFORMS, st.lists(BOUGHT, max_size=6), BOUGHT, st.booleans())
def test_one_license_more_that_is_no_upgrade_never_lowers_any_limit(
    catalog: Catalog, platform: str, bought: list[Bought], more: Bought, count_unlisted: bool
) -> None:
    before = allowed(catalog, platform, *bought, count_unlisted=count_unlisted)
    after = allowed(catalog, platform, *bought, more, count_unlisted=count_unlisted)
    assert all(after[name].limit >= before[name].limit for name in catalog.features)


# Upgrades: the one kind of license that lowers a limit, and what is true of them all the same

HEAD = """
id = "exchange"
title = "Profiles"
[meters]
feature_key_absent = { budget = "2h", refill = "as_drained", then = "deactivated" }
unlisted_licenses = { budget = "72h", refill = "by_newer_list", then = "keys_stop" }
[platforms.large]
title = "Large"
[platforms.small]
title = "Small"
capacity = { high = 5, mid = 3 }
[platforms.tiny]
title = "Tiny"
capacity = { high = 0 }
[platforms.foreign]
title = "Foreign"
[options]
charged = "Other profiles take a license."
"""

PROFILES = {
    "edition": (1, ""),
    "permit": (2, ""),
    "other": (3, 'free_without = "charged"'),
    "low": (4, ""),
    "mid": (5, ""),
    "high": (6, 'requires = ["edition"]\nplatforms = ["large", "small", "tiny"]\nbase_with = { edition = 1 }'),
    "side": (7, ""),
    "low-to-mid": (10, 'converts = { lower = "low", higher = "mid" }'),
    "mid-to-high": (11, 'converts = { lower = "mid", higher = "high" }'),
    "side-to-high": (12, 'converts = { lower = "side", higher = "high" }\nrequires = ["permit"]'),
    "rest": (20, 'requires = ["high"]'),
}
"""Features with their codes and lines. Only `rest` rests on a profile, and on one that nothing lowers."""

UPGRADES = {"low-to-mid": ("low", "mid"), "mid-to-high": ("mid", "high"), "side-to-high": ("side", "high")}
FAMILY = ("low", "mid", "high", "side")


def profiles(*order: str, **changed: tuple[int, str]) -> Catalog:
    """The catalog of profiles with its features in that order; further ones and other lines by name, `_` for `-`."""
    features = PROFILES | {name.replace("_", "-"): lines for name, lines in changed.items()}
    tables = (
        f'[features.{name}]\ntitle = "{name}"\nunit = "user"\nmode = "configuration"\nsource = "test"\n'
        f"code = {features[name][0]}\n{features[name][1]}\n"
        for name in order or features
    )
    return load_catalog(HEAD + "".join(tables), "profiles.toml")


LADDER = profiles()


def limits(bought: dict[str, int], platform: str = "large", catalog: Catalog = LADDER, **system: Any) -> dict[str, int]:
    found = entitlements(
        catalog,
        System(platform=platform, **system),
        licenses(catalog, *(Bought(name, count) for name, count in bought.items())),
        count_unlisted=True,
    )
    return {name: entitlement.limit for name, entitlement in found.items()}


def statuses(bought: dict[str, int], platform: str = "large", catalog: Catalog = LADDER) -> dict[str, tuple[str, str]]:
    bare = licenses(catalog, *(Bought(name, count) for name, count in bought.items()))
    found = entitlements(catalog, System(platform=platform), bare, count_unlisted=True)
    return {str(it.feature): (str(it.status), it.finding) for it in with_statuses(bare, found)}


def test_an_upgrade_turns_as_many_instances_as_both_licenses_have() -> None:
    assert limits({"low": 5, "low-to-mid": 3})["mid"] == 3
    few = limits({"low": 2, "low-to-mid": 3})
    assert (few["low"], few["mid"]) == (0, 2)


def test_an_upgrade_that_waits_for_its_own_prerequisite_takes_nothing() -> None:
    bought = {"edition": 1, "side": 4, "side-to-high": 3}
    waiting = limits(bought)
    assert (waiting["side"], waiting["high"]) == (4, 1)
    assert statuses(bought)["side-to-high"] == ("dormant", "Good, and waits for permit.")
    awake = limits(bought | {"permit": 1})
    assert (awake["side"], awake["high"]) == (1, 4)


def test_an_upgrade_to_a_feature_that_waits_for_its_prerequisite_takes_nothing() -> None:
    bought = {"mid": 4, "mid-to-high": 3}
    waiting = limits(bought)
    assert (waiting["mid"], waiting["high"]) == (4, 0)
    assert statuses(bought)["mid-to-high"] == ("dormant", "Good, and waits for edition.")
    awake = limits(bought | {"edition": 1})
    assert (awake["mid"], awake["high"]) == (1, 4)


def test_a_prerequisite_that_another_system_shares_lets_an_upgrade_turn() -> None:
    assert limits({"mid": 4, "mid-to-high": 3}, shared=frozenset({"edition"}))["high"] == 3


@pytest.mark.parametrize(
    ("platform", "finding"),
    [
        ("foreign", "Good, and waits for high, which this system does not use: Foreign does not have it."),
        ("tiny", "Good, and waits for high."),
    ],
)
def test_an_upgrade_to_a_feature_that_the_system_does_not_use_takes_nothing(platform: str, finding: str) -> None:
    bought = {"edition": 1, "mid": 2, "mid-to-high": 2}
    assert (limits(bought, platform)["mid"], limits(bought, platform)["high"]) == (2, 0)
    assert statuses(bought, platform)["mid-to-high"] == ("dormant", finding)


@pytest.mark.parametrize(("own", "turned"), [(0, 4), (1, 3), (3, 1), (4, 0), (9, 0)])
def test_no_lower_instance_is_taken_for_a_higher_one_above_the_capacity(own: int, turned: int) -> None:
    bought = {"edition": 1, "permit": 1, "side": 9, "side-to-high": 9}
    found = limits(bought | ({"high": own} if own else {}), "small")
    assert (found["side"], found["high"]) == (9 - turned, 5)


def test_instances_above_the_capacity_of_the_lower_feature_are_turned_first() -> None:
    found = limits({"edition": 1, "mid": 7, "mid-to-high": 4}, "small")
    assert (found["mid"], found["high"]) == (3, 5)


def test_an_upgrade_to_a_feature_that_is_free_waits_for_nothing_and_turns_nothing() -> None:
    for capacity in (0, 5):
        catalog = profiles(high=(6, f"free = true\ncapacity = {capacity}"))
        found = limits({"edition": 1, "mid": 2, "mid-to-high": 2}, catalog=catalog)
        assert (found["mid"], found["high"], found["mid-to-high"]) == (2, UNLIMITED, 2)


def test_of_upgrades_to_one_feature_those_go_first_that_cost_no_lower_instance() -> None:
    bought = {"edition": 1, "mid": 7, "side": 4, "mid-to-high": 4}
    before = limits(bought, "small")
    assert [before[name] for name in ("mid", "side", "high")] == [3, 4, 5]
    assert limits(bought | {"permit": 1, "side-to-high": 4}, "small") | {"permit": 0, "side-to-high": 0} == before


def test_an_instance_that_waits_or_is_not_used_is_owned_and_is_turned() -> None:
    bought = {"side": 2, "edition": 1, "permit": 1, "side-to-high": 2}
    for line in ('requires = ["other"]', 'platforms = ["foreign"]'):
        catalog = profiles(side=(7, line))
        found = limits(bought, catalog=catalog, options=frozenset({"charged"}))
        assert (found["side"], found["high"]) == (0, 3)


def test_an_upgrade_above_its_own_capacity_has_no_effect() -> None:
    line = 'converts = { lower = "low", higher = "mid" }\ncapacity = 2'
    found = limits({"low": 9, "low-to-mid": 9}, catalog=profiles(low_to_mid=(10, line)))
    assert (found["low"], found["mid"]) == (7, 2)


def test_an_upgrade_that_the_system_does_not_use_takes_nothing() -> None:
    line = 'converts = { lower = "low", higher = "mid" }\nfrom_release = "3"'
    assert limits({"low": 9, "low-to-mid": 9}, catalog=profiles(low_to_mid=(10, line)), release="2")["low"] == 9


def test_nothing_is_turned_into_what_is_free() -> None:
    catalog = profiles(low_to_other=(13, 'converts = { lower = "low", higher = "other" }'))
    bought = {"low": 3, "low-to-other": 3}
    free = limits(bought, catalog=catalog)
    assert (free["low"], free["other"]) == (3, UNLIMITED)
    charged = limits(bought, catalog=catalog, options=frozenset({"charged"}))
    assert (charged["low"], charged["other"]) == (0, 3)


@pytest.mark.parametrize("upwards", [True, False])
def test_upgrades_in_a_chain_turn_from_the_lowest_up_wherever_they_stand(upwards: bool) -> None:
    catalog = profiles(*sorted(PROFILES, reverse=upwards))
    found = limits({"edition": 1, "low": 4, "low-to-mid": 3, "mid-to-high": 2}, catalog=catalog)
    assert [found[name] for name in ("low", "mid", "high")] == [1, 1, 3]


@pytest.mark.parametrize(("code", "mid"), [(9, 0), (13, 2)])
def test_of_two_upgrades_from_one_feature_the_one_with_the_lower_code_goes_first(code: int, mid: int) -> None:
    twin = {"low_to_other": (code, 'converts = { lower = "low", higher = "other" }')}
    bought = {"low": 2, "low-to-mid": 2, "low-to-other": 2}
    for order in ((*PROFILES, "low-to-other"), ("low-to-other", *PROFILES)):
        found = limits(bought, catalog=profiles(*order, **twin), options=frozenset({"charged"}))
        assert (found["mid"], found["other"]) == (mid, 2 - mid)


def test_nothing_may_rest_on_a_lower_feature_and_go_with_its_last_instance() -> None:
    for line in ('requires = ["low"]', "base_with = { low = 1 }", "base_each = { low = 1 }"):
        with pytest.raises(FileMistakes, match=r"features\.rest: rests on low, which the upgrade low-to-mid lowers"):
            profiles(rest=(20, line))


# Capacity groups: what a platform supports of several features together

GROUP = """
[capacity_groups.lines]
title = "Lines"
features = ["{}", "{}"]
capacity = {{ small = 10, tiny = 0 }}
[hardware.card]
title = "Card"
most = 9
"""


def grouped(first: str = "one", second: str = "two") -> Catalog:
    one = 'requires = ["edition"]\nbase_per = { card = 3 }\ncapacity = 8'
    tables = {"edition": (1, ""), "one": (2, one), "two": (3, "base = 2\nyields = 2")}
    text = "".join(
        f'[features.{name}]\ntitle = "{name}"\nunit = "line"\nmode = "use"\nsource = "test"\ncode = {code}\n{lines}\n'
        for name, (code, lines) in tables.items()
    )
    head = HEAD.replace("{ high = 5, mid = 3 }", "{}").replace("{ high = 0 }", "{}")
    return load_catalog(head + text + GROUP.format(first, second), "lines.toml")


@pytest.mark.parametrize(
    ("bought", "cards", "one", "two"),
    [
        ({}, 0, 0, 2),
        ({"edition": 1, "one": 5, "two": 1}, 0, 5, 4),
        ({"edition": 1, "one": 9}, 0, 8, 2),
        ({"edition": 1, "one": 9, "two": 4}, 0, 8, 2),
        ({"edition": 1, "one": 5, "two": 4}, 0, 5, 5),
        ({"one": 5, "two": 4}, 0, 0, 10),
        ({"two": 9}, 2, 6, 4),
        ({"two": 9}, 3, 8, 2),
    ],
)
def test_features_of_a_group_have_its_capacity_together_free_ones_first(
    bought: dict[str, int], cards: int, one: int, two: int
) -> None:
    found = limits(bought, "small", grouped(), hardware={"card": cards})
    assert (found["one"], found["two"]) == (one, two)


def test_the_order_in_a_group_says_whose_licenses_have_an_effect_first() -> None:
    found = limits({"edition": 1, "one": 5, "two": 4}, "small", grouped("two", "one"))
    assert (found["one"], found["two"]) == (0, 10)


def test_a_member_of_a_group_tells_its_capacity_and_what_has_no_effect() -> None:
    catalog = grouped()
    bought = licenses(catalog, Bought("edition", 1), Bought("one", 5), Bought("two", 4))
    found = entitlements(catalog, System(platform="small"), bought, count_unlisted=True)
    assert (found["one"].capacity, found["two"].capacity) == (8, 10)
    assert (found["two"].base, found["two"].licensed, found["two"].surplus) == (2, 8, 5)
    none = entitlements(catalog, System(platform="tiny"), bought, count_unlisted=True)["two"]
    assert (none.limit, none.base, none.surplus, none.lack) == (0, 0, 10, Reason.NOT_SUPPORTED)


def test_a_group_holds_on_its_platforms_only() -> None:
    assert limits({"two": 9}, "large", grouped())["two"] == 20


LINES = st.dictionaries(st.sampled_from(["edition", "one", "two"]), st.integers(1, 9))


@given(
    LINES, st.sampled_from(["edition", "one", "two"]), st.integers(1, 9), st.sampled_from(["large", "small", "tiny"])
)
def test_a_license_more_lowers_others_of_its_group_only_and_never_all_together(
    bought: dict[str, int], more: str, count: int, platform: str
) -> None:
    catalog = grouped()
    before = limits(bought, platform, catalog)
    after = limits(bought | {more: bought.get(more, 0) + count}, platform, catalog)
    assert {name for name in before if after[name] < before[name]} <= {"two"}
    assert after["one"] + after["two"] >= before["one"] + before["two"]


# Instances that come with each instance of another feature


def test_instances_come_with_each_instance_of_another_feature() -> None:
    catalog = profiles(rest=(20, "base_each = { high = 3 }\ncapacity = 20"))
    assert limits({"rest": 2}, catalog=catalog)["rest"] == 2
    assert limits({"rest": 2, "edition": 1, "high": 4}, catalog=catalog)["rest"] == 2 + 3 * 5
    assert limits({"rest": 2, "edition": 1, "high": 9}, catalog=catalog)["rest"] == 20


def test_what_comes_with_each_instance_of_a_free_feature_is_without_limit() -> None:
    catalog = profiles(rest=(20, "base_each = { other = 3 }"))
    assert limits({}, catalog=catalog)["rest"] == UNLIMITED


COUNTS = st.dictionaries(st.sampled_from([*PROFILES]), st.integers(1, 9))
LADDER_PLATFORMS = st.sampled_from(["large", "small", "tiny", "foreign"])


@given(st.permutations([*PROFILES]), COUNTS, LADDER_PLATFORMS)
def test_the_order_of_features_in_the_file_means_nothing(
    order: list[str], bought: dict[str, int], platform: str
) -> None:
    catalog = profiles(*order)
    assert limits(bought, platform, catalog) == limits(bought, platform)
    assert statuses(bought, platform, catalog) == statuses(bought, platform)


@given(COUNTS, st.sampled_from([*UPGRADES]), st.integers(1, 9), LADDER_PLATFORMS)
def test_an_upgrade_more_lowers_its_lower_feature_only_and_never_all_profiles_together(
    bought: dict[str, int], upgrade: str, count: int, platform: str
) -> None:
    before = limits(bought, platform)
    after = limits(bought | {upgrade: bought.get(upgrade, 0) + count}, platform)
    lower, _ = UPGRADES[upgrade]
    assert {name for name in before if after[name] < before[name]} <= {lower}
    assert sum(after[name] for name in FAMILY) >= sum(before[name] for name in FAMILY)


@given(COUNTS, st.integers(1, 9), LADDER_PLATFORMS)
def test_an_upgrade_never_lowers_its_two_features_taken_together(
    bought: dict[str, int], count: int, platform: str
) -> None:
    alone = {name: number for name, number in bought.items() if name not in UPGRADES}
    for upgrade, (lower, higher) in UPGRADES.items():
        before, after = limits(alone, platform), limits(alone | {upgrade: count}, platform)
        assert after[lower] + after[higher] >= before[lower] + before[higher]


@given(
    COUNTS, st.sampled_from([name for name in PROFILES if name not in UPGRADES]), st.integers(1, 9), LADDER_PLATFORMS
)
def test_another_license_lowers_nothing_but_what_an_upgrade_turns_that_it_wakes(
    bought: dict[str, int], more: str, count: int, platform: str
) -> None:
    increased = bought | {more: bought.get(more, 0) + count}
    before, after = limits(bought, platform), limits(increased, platform)
    asleep, awake = statuses(bought, platform), statuses(increased, platform)
    woken = {name for name in UPGRADES if name in bought and asleep[name][0] != awake[name][0]}
    assert {name for name in before if after[name] < before[name]} <= {UPGRADES[name][0] for name in woken}
    assert sum(after[name] for name in FAMILY) >= sum(before[name] for name in FAMILY)


# The shipped IP Office


@pytest.mark.parametrize(
    ("feature", "bought", "limit"),
    [
        ("sip-trunk-channels", [], 0),
        ("sip-trunk-channels", [Bought("sip-trunk-channels", 5), Bought("sip-trunk-channels", 20)], 25),
        ("sip-trunk-channels", [Bought("sip-trunk-channels", 100)] * 2, 128),
        ("softconsole", [Bought("softconsole", 1)], 1),
        ("softconsole", [Bought("softconsole", 3), Bought("softconsole", 3)], 4),
        ("embedded-voicemail-ports", [], 0),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1)], 2),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 1)], 4),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 2)], 6),
        ("embedded-voicemail-ports", [Bought("essential-edition", 1), Bought("embedded-voicemail-ports", 3)], 6),
        ("embedded-voicemail-ports", [Bought("embedded-voicemail-ports", 2)], 0),
        ("vcm-channels", [], 4),
        ("vcm-channels", [Bought("vcm-channels", 28)], 32),
    ],
)
def test_the_shipped_ip_office_holds_the_facts(
    shipped: dict[str, Catalog], feature: str, bought: list[Bought], limit: int
) -> None:
    assert allowed(shipped["ip-office"], "ip500-v2", *bought)[feature].limit == limit


@pytest.mark.parametrize("lower", ["mobile-worker", "office-worker", "teleworker"])
def test_an_upgrade_of_profiles_waits_for_preferred_edition(shipped: dict[str, Catalog], lower: str) -> None:
    catalog, upgrade = shipped["ip-office"], f"upgrade-{lower}"
    bought = [Bought(lower, 5), Bought(upgrade, 2)]
    waiting = allowed(catalog, "ip500-v2", *bought)
    assert (waiting[upgrade].limit, waiting[upgrade].missing) == (0, ("preferred-edition",))
    awake = allowed(catalog, "ip500-v2", *bought, Bought("preferred-edition", 1))
    assert (awake[lower].limit, awake["power-user"].limit) == (3, 2)
