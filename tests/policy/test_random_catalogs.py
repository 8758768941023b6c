"""Random small catalogs with random licenses and requests: what holds of the engine holds of every catalog.

The model below says in its own words what docs/catalogs.md says of limits, and knows nothing of the code: no order of
features, no passes, only a question that asks further questions. Each catalog has at most one upgrade and one group.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekeyd.policy.catalog import UNLIMITED, Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.entitlements import entitlements
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.requests import Want
from featurekeyd.policy.system import System

HEAD = """
id = "random"
title = "Random"
[meters]
feature_key_absent = { budget = "2h", refill = "as_drained", then = "deactivated" }
unlisted_licenses = { budget = "72h", refill = "by_newer_list", then = "keys_stop" }
"""

NAMES = ("a", "b", "c", "d", "e", "f")


class Item(msgspec.Struct, kw_only=True):
    """A feature of a random catalog."""

    mode: str
    free: bool
    base: int
    yields: int
    capacity: int | None
    here: int | None
    """The capacity on the platform, which stands before the other one."""
    requires: dict[str, str]
    """The features it requires, by the key that says so."""
    base_with: dict[str, int]
    base_each: dict[str, int]

    def rests_on(self) -> set[str]:
        return {*self.requires, *self.base_with, *self.base_each}

    def let_go(self, names: set[str]) -> None:
        """Rest on none of these any more."""
        for table in (self.requires, self.base_with, self.base_each):
            for name in names & table.keys():
                del table[name]


class Plan(msgspec.Struct, kw_only=True):
    """A random catalog before it is written down."""

    items: dict[str, Item]
    upgrade: tuple[str, str] | None
    upgrade_requires: str | None
    group: tuple[str, str] | None
    room: int
    """The capacity of the group."""

    def names(self) -> list[str]:
        return [*self.items, *(["up"] if self.upgrade else [])]

    def table(self, name: str) -> str:
        """The table of a feature, as one line."""
        lines = {"code": NAMES.index(name) if name in NAMES else 50, "title": f'"{name}"', "unit": '"one"'}
        lines |= {"source": '"test"'}
        if name == "up":
            assert self.upgrade is not None
            lines |= {
                "mode": '"presence"',
                "converts": f'{{ lower = "{self.upgrade[0]}", higher = "{self.upgrade[1]}" }}',
            }
            lines |= {"requires": f'["{self.upgrade_requires}"]'} if self.upgrade_requires else {}
        else:
            lines |= written(self.items[name])
        return f"[features.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())

    def text(self, order: list[str]) -> str:
        """The catalog as a file, with its features in this order."""
        here = {name: item.here for name, item in self.items.items() if item.here is not None}
        text = HEAD + f'[platforms.only]\ntitle = "Only"\ncapacity = {inline(here)}\n'
        if self.group:
            text += f'[capacity_groups.both]\ntitle = "Both"\nfeatures = ["{self.group[0]}", "{self.group[1]}"]\n'
            text += f"capacity = {{ only = {self.room} }}\n"
        return text + "".join(map(self.table, order))

    def catalog(self, order: list[str] | None = None) -> Catalog:
        return load_catalog(self.text(order or self.names()), "random.toml")


def inline(table: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"


def written(item: Item) -> dict[str, Any]:
    lines: dict[str, Any] = {"mode": f'"{item.mode}"', "free": str(item.free).lower(), "base": item.base}
    lines |= {"yields": item.yields, "base_with": inline(item.base_with), "base_each": inline(item.base_each)}
    lines |= {} if item.capacity is None else {"capacity": item.capacity}
    for key in ("requires", "requires_own"):
        names = ", ".join(f'"{name}"' for name, by in item.requires.items() if by == key)
        lines[key] = f"[{names}]"
    whens = ", ".join(f'{{ features = ["{name}"] }}' for name, by in item.requires.items() if by == "requires_when")
    return lines | {"requires_when": f"[{whens}]"}


def some_of(items: dict[str, Item], values: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*items]), values, max_size=most) if items else st.builds(dict)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Features that rest on earlier ones only, an upgrade and a group on which nothing rests."""
    items: dict[str, Item] = {}
    for name in NAMES[: draw(st.integers(2, len(NAMES)))]:
        counts = some_of(items, st.integers(1, 3), 1)
        items[name] = Item(
            mode=draw(st.sampled_from(["presence", "configuration", "use", "use"])),
            free=draw(st.sampled_from([False] * 7 + [True])),
            base=draw(st.sampled_from([0, 0, 1, 2])),
            yields=draw(st.sampled_from([1, 1, 3])),
            capacity=draw(st.none() | st.integers(0, 9)),
            here=draw(st.none() | st.integers(0, 9)),
            requires=draw(some_of(items, st.sampled_from(["requires", "requires_own", "requires_when"]), 2)),
            base_with=draw(counts),
            base_each=draw(counts),
        )
    shuffled = draw(st.permutations([*items]))
    upgrade = (shuffled[0], shuffled[1]) if draw(st.booleans()) else None
    group = (shuffled[2], shuffled[3]) if len(shuffled) > 3 and draw(st.booleans()) else None
    keep_apart(items, upgrade, group)
    low = None if upgrade is None else [it for it in items if it < upgrade[1] and it not in {*upgrade, *(group or ())}]
    return Plan(
        items=items,
        upgrade=upgrade,
        upgrade_requires=draw(st.none() | st.sampled_from(low)) if low else None,
        group=group,
        room=draw(st.integers(0, 12)),
    )


def keep_apart(items: dict[str, Item], upgrade: tuple[str, str] | None, group: tuple[str, str] | None) -> None:
    """Mend what `catalog check` would refuse."""
    lowered = {*(group or ()), *(upgrade[:1] if upgrade else ())}
    for item in items.values():
        item.let_go(lowered)
    if upgrade:
        items[upgrade[0]].let_go({*NAMES})
        for name in upgrade:
            items[name].yields = 1
    for name in group or ():
        items[name].free = False


Bought = dict[str, int]
"""Instances on one license for each feature."""


class Model:
    """What a system may use, in the words of docs/catalogs.md."""

    def __init__(self, plan: Plan, bought: Bought) -> None:
        self.plan = plan
        self.bought = bought

    def there(self, name: str) -> bool:
        return self.alone(name) > 0

    def free_ones(self, name: str) -> int:
        item = self.plan.items[name]
        with_others = sum(count for other, count in item.base_with.items() if self.there(other))
        each = sum(min(UNLIMITED, count * self.alone(other)) for other, count in item.base_each.items())
        return item.base + with_others + each

    def most(self, name: str) -> float:
        item = self.plan.items[name]
        given = item.capacity if item.here is None else item.here
        return float("inf") if given is None else given

    def awake(self, name: str) -> bool:
        return all(self.there(other) for other in self.plan.items[name].requires)

    def upgrades(self) -> int:
        """Licenses of the upgrade that count."""
        plan = self.plan
        if plan.upgrade is None or not self.awake(plan.upgrade[1]):
            return 0
        if plan.upgrade_requires and not self.there(plan.upgrade_requires):
            return 0
        higher = plan.items[plan.upgrade[1]]
        return self.bought.get("up", 0) if higher.free or self.most(plan.upgrade[1]) else 0

    def turned(self) -> int:
        if self.plan.upgrade is None or self.plan.items[self.plan.upgrade[1]].free:
            return 0
        lower, higher = self.plan.upgrade
        room = self.most(higher) - self.free_ones(higher) - self.bought.get(higher, 0)
        return int(max(0, min(self.upgrades(), self.bought.get(lower, 0), room)))

    def owned(self, name: str) -> int:
        owned = self.bought.get(name, 0)
        if self.plan.upgrade and name in self.plan.upgrade:
            owned += self.turned() * (1 if name == self.plan.upgrade[1] else -1)
        return owned

    def alone(self, name: str) -> int:
        """Its limit as if it were in no group; nothing that rests on a limit looks at one in a group."""
        if name == "up":
            return self.upgrades()
        item = self.plan.items[name]
        if item.free:
            return UNLIMITED
        licensed = self.owned(name) * item.yields if self.awake(name) else 0
        return int(min(self.free_ones(name) + licensed, self.most(name)))

    def limits(self) -> dict[str, int]:
        limits = {name: self.alone(name) for name in self.plan.names()}
        if self.plan.group:
            one, two = self.plan.group
            free_one, free_two = (min(self.free_ones(name), limits[name]) for name in self.plan.group)
            free_one = min(free_one, self.plan.room)
            free_two = min(free_two, self.plan.room - free_one)
            left = self.plan.room - free_one - free_two
            more = min(left, limits[one] - min(self.free_ones(one), limits[one]))
            rest = min(left - more, limits[two] - min(self.free_ones(two), limits[two]))
            limits |= {one: free_one + more, two: free_two + rest}
        return limits


def key_for(catalog: Catalog, name: str, count: int) -> Any:
    return make_key(
        feature_code=catalog.features[name].code,
        instances=count,
        issued=datetime.date(2026, 1, 1),
        term=Term.PERPETUAL,
        sequence=0,
        catalog=catalog.id,
        serial="110123456789",
    )


def limits(catalog: Catalog, bought: Bought) -> dict[str, int]:
    licenses = [
        License(key=key_for(catalog, name, count), feature=name, status=Status.VALID, finding="", listed=True)
        for name, count in bought.items()
    ]
    found = entitlements(catalog, System(platform="only"), licenses, count_unlisted=True)
    for it in found.values():
        assert 0 <= it.base <= it.limit
        assert (it.lack is None) == (it.limit > 0)
    return {name: it.limit for name, it in found.items()}


@st.composite
def purchases(draw: st.DrawFn) -> tuple[Plan, Bought]:
    plan = draw(plans())
    return plan, draw(st.dictionaries(st.sampled_from(plan.names()), st.integers(1, 9)))


@settings(max_examples=200)
@given(purchases())
def test_the_limits_of_any_catalog_are_those_of_the_model(purchase: tuple[Plan, Bought]) -> None:
    plan, bought = purchase
    assert limits(plan.catalog(), bought) == Model(plan, bought).limits()


@settings(max_examples=150)
@given(purchases(), st.data())
def test_a_license_more_lowers_nothing_but_in_a_group_and_where_an_upgrade_wakes(
    purchase: tuple[Plan, Bought], data: st.DataObject
) -> None:
    plan, bought = purchase
    more = data.draw(st.sampled_from([*plan.items]))
    catalog = plan.catalog()
    before = limits(catalog, bought)
    after = limits(catalog, bought | {more: bought.get(more, 0) + data.draw(st.integers(1, 9))})
    upgraded = plan.upgrade if "up" in bought else None
    assert {name for name in before if after[name] < before[name]} <= {*(plan.group or ()), *(upgraded or ())[:1]}
    for pair in filter(None, (plan.group, upgraded)):
        assert sum(after[name] for name in pair) >= sum(before[name] for name in pair)


@settings(max_examples=60)
@given(purchases(), st.data())
def test_the_order_of_the_features_of_any_catalog_means_nothing(
    purchase: tuple[Plan, Bought], data: st.DataObject
) -> None:
    plan, bought = purchase
    order = data.draw(st.permutations(plan.names()))
    assert limits(plan.catalog(order), bought) == limits(plan.catalog(), bought)


@settings(max_examples=50)
@given(purchases(), st.data())
def test_a_license_that_goes_and_comes_back_changes_nothing(
    make_site: Callable[..., Any], purchase: tuple[Plan, Bought], data: st.DataObject
) -> None:
    plan, bought = purchase
    site = make_site(plan.catalog(), "only")
    site.certify()
    keys = [site.key(name, count) for name, count in bought.items()]
    site.bring(site.list_of(*keys))
    before = {name: it.limit for name, it in site.enforcer.entitlements.items()}
    gone = data.draw(st.sampled_from(keys)) if keys else None
    site.bring(site.list_of(*(key for key in keys if key is not gone)))
    site.bring(site.list_of(*data.draw(st.permutations(keys))))
    assert {name: it.limit for name, it in site.enforcer.entitlements.items()} == before


@settings(max_examples=60)
@given(purchases(), st.data())
def test_requests_are_granted_up_to_the_limits_of_the_model(
    make_site: Callable[..., Any], purchase: tuple[Plan, Bought], data: st.DataObject
) -> None:
    plan, bought = purchase
    site = make_site(plan.catalog(), "only")
    site.certify()
    site.buy(**bought)
    most = Model(plan, bought).limits()
    held: dict[str, Bought] = {}
    wants = st.dictionaries(st.sampled_from(plan.names()), st.integers(1, 4), min_size=1, max_size=2)
    for number, wanted in enumerate(data.draw(st.lists(wants, max_size=8))):
        taken = {name: count for name, count in wanted.items() if name != "up" and plan.items[name].mode != "presence"}
        used = {name: sum(each.get(name, 0) for each in held.values()) for name in wanted}
        may = all(used[name] + count <= most[name] for name, count in wanted.items())
        answer = site.acquire(f"call-{number}", *(Want(name, count) for name, count in wanted.items()))
        assert answer.allowed == may, (wanted, used, most, answer)
        if may:
            held[f"call-{number}"] = taken
        if len(held) > 3:
            site.release(next(iter(held)))
            del held[next(iter(held))]
    for name in plan.items:
        assert site.in_use(name) == sum(each.get(name, 0) for each in held.values())
