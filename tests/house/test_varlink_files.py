"""The interface files: an independent parser reads them, and everything in them is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from varlink import scanner

if TYPE_CHECKING:
    from tests.house.conftest import House

FOLDER = Path(__file__).parents[2] / "daemon"
FILES = sorted(path.name for path in FOLDER.glob("*.varlink"))
MEMBER = re.compile(r"^(type|method|error) ([A-Za-z0-9]+)", re.MULTILINE)
BUILT_IN = {"bool", "int", "float", "string", "object"}


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


def parsed(name: str) -> tuple[str, dict[str, Any]]:
    """The interface's name and its members, as the `varlink` package reads them."""
    reader = scanner.Scanner(text_of(name))
    reader.expect("interface")
    interface = reader.expect("interface-name")
    members = {}
    while not reader.end():
        member = reader.read_member()
        assert member.name not in members, f"{member.name} stands there twice"
        members[member.name] = member
    return interface, members


def undocumented(text: str) -> list[str]:
    """Members that have no comment right above them."""
    lines = text.splitlines()
    begins = {text[: match.start()].count("\n"): match[2] for match in MEMBER.finditer(text)}
    return [name for number, name in begins.items() if number == 0 or not lines[number - 1].startswith("# ")]


def types_used(text: str) -> Iterator[str]:
    """The names of types that fields have."""
    code = "\n".join(line.partition("#")[0] for line in text.splitlines())
    for match in re.finditer(r":\s*(?:\?|\[\]|\[string\])*([A-Za-z]+)", code):
        yield match[1]


def test_the_files_are_those_that_are_tracked(house: House) -> None:
    assert [f"daemon/{name}" for name in FILES] == sorted(path for path in house.files if path.endswith(".varlink"))
    assert {"io.featurekey.License.varlink", "io.featurekey.Manage.varlink"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_an_independent_parser_reads_the_file_to_its_end(name: str) -> None:
    interface, members = parsed(name)
    assert f"{interface}.varlink" == name
    assert sorted(members) == sorted(match[2] for match in MEMBER.finditer(text_of(name)))
    assert members


@pytest.mark.parametrize("name", FILES)
def test_every_member_has_a_comment_and_so_has_the_interface(name: str) -> None:
    assert undocumented(text_of(name)) == []
    assert text_of(name).startswith("# ")


def test_the_rule_about_comments_would_find_a_bare_member() -> None:
    text = "# An interface.\ninterface a.b\n\n# Good.\ntype A (x: int)\n\nmethod B() -> ()\n# Too late.\n"
    assert undocumented(text) == ["B"]


@pytest.mark.parametrize("name", FILES)
def test_every_type_that_is_used_is_defined_and_every_type_that_is_defined_is_used(name: str) -> None:
    text = text_of(name)
    defined = {match[2] for match in MEMBER.finditer(text) if match[1] == "type"}
    used = set(types_used(text)) - BUILT_IN
    assert used == defined


@pytest.mark.parametrize("name", FILES)
def test_words_of_the_interface_are_written_as_words_of_the_interface(name: str) -> None:
    code = "\n".join(line.partition("#")[0] for line in text_of(name).splitlines())
    fields = re.findall(r"\b(\w+)\s*:", code)
    assert [field for field in fields if not re.fullmatch(r"[a-z]+(_[a-z]+)*", field)] == []
    assert [match[2] for match in MEMBER.finditer(code) if not re.fullmatch(r"([A-Z][a-z]+)+", match[2])] == []
