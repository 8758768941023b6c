"""What must stand in no tracked text: other spellings, paths of one machine, addresses of registries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.house.conftest import House

# The words are put together here, so that this file does not hold them itself.
BRITISH = re.compile("licen" + "ce|catalog" + "ue", re.IGNORECASE)
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|home)(?![\w-])")
REGISTRIES = re.compile("py" + r"pi\.|python" + r"hosted\.|npm" + r"js\.|crates" + r"\.io|proxy\.go" + r"lang")


def found_in(house: House, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in house.texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_spelling_is_american(house: House) -> None:
    assert found_in(house, BRITISH) == []


def test_no_path_of_one_machine_is_tracked(house: House) -> None:
    assert found_in(house, MACHINE_PATH) == []


def test_no_registry_is_named(house: House) -> None:
    assert found_in(house, REGISTRIES) == []


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (BRITISH, "Licen" + "ces", "licenses"),
        (BRITISH, "catalog" + "ues", "catalogs"),
        (MACHINE_PATH, "see /wo" + "rk/x", "see network/home"),
        (MACHINE_PATH, '"/ro' + 'ot"', "/rootless"),
        (REGISTRIES, "https://py" + "pi.org", "copying.org"),
    ],
)
def test_each_rule_finds_what_it_is_about(pattern: re.Pattern[str], bad: str, good: str) -> None:
    assert pattern.search(bad)
    assert not pattern.search(good)
