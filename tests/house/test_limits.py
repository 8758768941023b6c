"""docs/limits.md: its numbers are those of the code, its tests are there, and no limit of the wire is missing."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec
import pytest

if TYPE_CHECKING:
    from tests.house.conftest import House

ROW = re.compile(
    r"\| (?P<what>[^|]+) \| (?P<number>[\d,]+) \| `(?P<code>[\w.]+)` \| [^|]+ \| [^|]+ \| `(?P<test>[^`]+)` \|"
)


@pytest.fixture(scope="module")
def rows(house: House) -> list[dict[str, str]]:
    """The rows that have a number."""
    return [found.groupdict() for found in ROW.finditer(house.texts["docs/limits.md"])]


def number_of(path: str) -> object:
    """What the code has under `room.module.name`: a constant, the default of a field, or how long a text may be."""
    room, module, name, *rest = path.split(".")
    value: Any = getattr(importlib.import_module(f"featurekeyd.{room}.{module}"), name)
    if rest:
        (field,) = [field for field in msgspec.structs.fields(value) if field.name == rest[0]]
        return field.default
    if get_origin(value) is not None:
        (meta,) = [meta for meta in get_args(value) if isinstance(meta, msgspec.Meta)]
        return meta.max_length
    return value


def test_every_number_is_that_of_the_code(rows: list[dict[str, str]]) -> None:
    wrong = {
        row["code"]: (row["number"], number_of(row["code"]))
        for row in rows
        if int(row["number"].replace(",", "")) != number_of(row["code"])
    }
    assert wrong == {}


def test_every_test_that_is_named_is_there(rows: list[dict[str, str]], house: House) -> None:
    places = [row["test"].split("::") for row in rows]
    assert [f"{path}::{name}" for path, name in places if f"def {name}(" not in house.texts.get(path, "")] == []


def test_every_row_of_a_table_is_read(rows: list[dict[str, str]], house: House) -> None:
    lines = [line for line in house.texts["docs/limits.md"].splitlines() if line.startswith("| ")]
    heads = sum(line.startswith("| what |") for line in lines)
    without_number = sum("| what the parser takes |" in line for line in lines)
    assert len(rows) == len(lines) - heads - without_number
    assert len(rows) > 40


def test_no_limit_is_missing(rows: list[dict[str, str]], house: House) -> None:
    told = {row["code"] for row in rows}
    for module in ("daemon/limits", "daemon/storms", "policy/requests", "policy/holders", "policy/waiting"):
        names = re.findall(r"^((?:MAX_|KEPT_)?[A-Z][A-Z_]*) = [\d(]", house.texts[f"{module}.py"], re.MULTILINE)
        names = [name for name in names if name not in {"PATIENCE_SECONDS"}]
        assert {f"{module.replace('/', '.')}.{name}" for name in names} <= told
