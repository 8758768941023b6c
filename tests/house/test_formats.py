"""docs/formats.md: versions, tables and fields are those of the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.schema import SCHEMA_VERSION, STEPS
from featurekeyd.issuer.registerschema import VERSION
from featurekeyd.policy.request_text import _NAMES_OF_FIELDS

if TYPE_CHECKING:
    from tests.house.conftest import House


@pytest.fixture
def page(house: House) -> str:
    return house.texts["docs/formats.md"]


def test_the_versions_of_state_and_register_are_those_of_the_code(page: str) -> None:
    assert f"the version of the schema, now {SCHEMA_VERSION}." in page
    assert f"`fkis` and the version, now {VERSION};" in page


def test_every_table_of_the_state_is_there_with_the_version_that_brought_it(page: str) -> None:
    state = page.partition("## State")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in state.splitlines() if line.startswith("| `")]
    told = {name: int(row[3]) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    made: dict[str, int] = {}
    for version, statements in STEPS.items():
        for name in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", " ".join(statements)):
            made.setdefault(name, version)
    assert told == made


def test_every_field_of_a_request_is_named(page: str) -> None:
    assert [name for name in _NAMES_OF_FIELDS if f"`{name}`" not in page] == []
