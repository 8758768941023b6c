"""The table `[host]` of a catalog: what may be left out, and every mistake by its dotted key."""

from __future__ import annotations

import pytest

from featurekeyd.policy.catalog import HOST_COMPONENTS, SHIPPED_WEIGHTS, UNIQUE_COMPONENTS, HostRules
from featurekeyd.policy.catalogfile import LEAST_NEEDED, MAX_WEIGHT, load_catalog
from featurekeyd.policy.tables import FileMistakes


def host(catalog_text: str, table: str) -> HostRules:
    return load_catalog(f"{catalog_text}\n[host]\n{table}", "exchange.toml").host


def mistakes(catalog_text: str, table: str) -> list[tuple[str, str]]:
    with pytest.raises(FileMistakes) as caught:
        host(catalog_text, table)
    return [(mistake.where, mistake.what) for mistake in caught.value.mistakes]


def test_a_catalog_without_the_table_binds_nothing(catalog_text: str) -> None:
    rules = load_catalog(catalog_text, "exchange.toml").host
    assert (rules.binds, rules.binds_addresses, rules.needed, rules.weights) == (False, False, 60, SHIPPED_WEIGHTS)
    assert SHIPPED_WEIGHTS.keys() == HOST_COMPONENTS


def test_the_table_is_read_and_its_weights_stand_for_all(catalog_text: str) -> None:
    rules = host(catalog_text, "binds = true\nbinds_addresses = true\nneeded = 51\nweights = { cpu-serial = 100 }")
    assert rules == HostRules(binds=True, binds_addresses=True, needed=51, weights={"cpu-serial": 100})


@pytest.mark.parametrize(
    ("table", "where", "what"),
    [
        ("bind = true", "host.bind", "no such key"),
        ('binds = "yes"', "host.binds", "expected bool"),
        ("binds_addresses = true", "host.binds_addresses", "set binds = true"),
        (f"needed = {LEAST_NEEDED - 1}", "host.needed", "50 is outside 51 to 100 percent; with less, two hosts"),
        ("needed = 101", "host.needed", "101 is outside 51 to 100"),
        (
            "weights = { nic = 2, cpu-serial = 1 }",
            "host.weights.nic",
            "there is no component 'nic', only board-serial",
        ),
        ("weights = { cpu-serial = 0 }", "host.weights.cpu-serial", "0 is outside 1 to 100"),
        (f"weights = {{ cpu-serial = {MAX_WEIGHT + 1} }}", "host.weights.cpu-serial", "101 is outside 1 to 100"),
        ("weights = { cpu-serial = 1.5 }", "host.weights.cpu-serial", "expected int"),
        ("weights = { machine-id = 2 }", "host.weights", "a copied disk would be the same host"),
        ("weights = {}", "host.weights", "a copied disk would be the same host"),
    ],
)
def test_each_mistake_is_named_by_its_dotted_key(catalog_text: str, table: str, where: str, what: str) -> None:
    found = mistakes(catalog_text, table)
    assert any(at == where and what in why for at, why in found), found


@pytest.mark.parametrize("name", sorted(UNIQUE_COMPONENTS))
def test_one_unique_component_is_enough(catalog_text: str, name: str) -> None:
    assert host(catalog_text, f"weights = {{ {name} = {MAX_WEIGHT} }}").weights == {name: MAX_WEIGHT}


def test_all_mistakes_are_named_at_once(catalog_text: str) -> None:
    table = "binds_addresses = true\nneeded = 0\nweights = { nic = 2 }"
    assert {where for where, _ in mistakes(catalog_text, table)} == {
        "host.binds_addresses",
        "host.needed",
        "host.weights",
        "host.weights.nic",
    }
