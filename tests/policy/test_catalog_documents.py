"""What the documents say about catalogs is so: the example loads, no key is forgotten, and every named test exists."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from featurekeyd.policy import catalog
from featurekeyd.policy.catalog import Catalog, Cause, Consequence, Mode, Refill
from featurekeyd.policy.catalogfile import load_catalog

ROOT = Path(__file__).parents[2]
SCHEMA = (ROOT / "docs" / "catalogs.md").read_text()
RULES = (ROOT / "docs" / "rules.md").read_text()
TYPES = [
    it for it in vars(catalog).values() if isinstance(it, type) and issubclass(it, msgspec.Struct) and it is not Catalog
]
DERIVED = {"Feature.id", "ApplicationMode.id"}
"""Not keys of the file's tables, or explained in the running text."""


def example() -> str:
    (text,) = re.findall(r"```toml\n(.*?)```", SCHEMA, re.DOTALL)
    return str(text)


def test_the_example_of_the_schema_is_a_good_catalog() -> None:
    assert load_catalog(example(), "exchange.toml").id == "exchange"


@pytest.mark.parametrize("table", TYPES, ids=lambda table: table.__name__)
def test_the_schema_explains_every_key(table: type[msgspec.Struct]) -> None:
    keys = [field.name for field in msgspec.structs.fields(table) if f"{table.__name__}.{field.name}" not in DERIVED]
    assert [key for key in keys if f"`{key}`" not in SCHEMA] == []


@pytest.mark.parametrize("words", [Mode, Refill, Consequence, Cause], ids=lambda words: words.__name__)
def test_the_schema_names_every_word_that_a_key_may_hold(words: type[Mode]) -> None:
    assert [str(word) for word in words if f"`{word}`" not in SCHEMA] == []


def test_the_example_of_the_schema_shows_every_key_of_a_feature_that_is_not_a_plain_switch() -> None:
    plain = {
        "id",
        "base",
        "free",
        "free_on",
        "platforms",
        "from_release",
        "until_release",
        "unsupported",
        "group",
        "shareable",
    }
    keys = {field.name for field in msgspec.structs.fields(catalog.Feature)} - plain - {"hidden"}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", example())] == []


def existing_tests() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {
        name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_every_test_that_the_table_of_rules_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", RULES)
    assert len(named) > 60
    assert sorted({*named} - existing_tests()) == []


@pytest.mark.parametrize("seed", ["000", "001", "002", "003", "004"])
def test_every_rule_of_a_source_document_has_its_test_or_a_reason(seed: str) -> None:
    (section,) = re.findall(rf"^## {seed}.*?$(.*?)(?=^## |\Z)", RULES, re.MULTILINE | re.DOTALL)
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows
    for rule, carrier, proof in (tuple(cell.strip() for cell in row) for row in rows):
        assert carrier, rule
        assert "`test_" in proof or proof.startswith("left out: "), rule


def test_the_table_of_rules_names_only_entries_that_are_there(shipped: dict[str, Catalog]) -> None:
    for name, table, entry in re.findall(
        r"`([a-z-]+):(features|sets|applications|hardware|options|capacity_groups)\.([a-z0-9-]+)`", RULES
    ):
        assert entry in getattr(shipped[name], table), f"{name}: {table}.{entry}"
