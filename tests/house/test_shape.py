"""Names, docstrings and sizes: what a reader may rely on in every room."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.house.conftest import House

MAX_FILE = 500
"""Lines of a file: what one reads in one sitting."""

MAX_FUNCTION = 60
"""Lines of a function, docstring and all: what fits on a screen."""

FORBIDDEN = ("Manager", "Handler", "Helper", "Util")


def functions(house: House) -> Iterator[tuple[str, int]]:
    for module in house.modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield f"{module.path}:{node.lineno}: {node.name}", length


def test_every_module_opens_with_a_docstring(house: House) -> None:
    assert [module.path for module in house.python if not (ast.get_docstring(module.tree) or "").strip()] == []


def test_no_file_is_longer_than_500_lines(house: House) -> None:
    lengths = {module.path: module.text.count("\n") for module in house.modules}
    assert {path: length for path, length in lengths.items() if length > MAX_FILE} == {}


def test_no_function_is_longer_than_60_lines_and_most_are_short(house: House) -> None:
    found = list(functions(house))
    assert [place for place, length in found if length > MAX_FUNCTION] == []
    lengths = sorted(length for _, length in found)
    assert statistics.median(lengths) <= 9
    assert lengths[len(lengths) * 9 // 10] < 30


def test_no_module_is_named_like_a_module_that_is_imported(house: House) -> None:
    foreign = {it.top for module in house.modules for it in module.imports if it.room is None}
    wrong = [module.path for module in house.modules if module.name in foreign]
    assert wrong == [], "a reader takes one for the other, and so does Python when the folder is on its path"


def test_nobody_is_a_manager_handler_helper_or_utility(house: House) -> None:
    named = [(module.path, module.name) for module in house.modules]
    named += [
        (f"{module.path}:{node.lineno}", node.name)
        for module in house.modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    wrong = [f"{place}: {name}" for place, name in named for word in FORBIDDEN if has_word(name, word)]
    assert wrong == [], "the word says nothing: name what it is or does\n" + "\n".join(wrong)


def has_word(name: str, word: str) -> bool:
    """Whether the word stands in a name of either style."""
    parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return word.lower() in {part.lower().removesuffix("s") for part in parts}


def test_the_rule_about_words_would_find_them() -> None:
    assert all(has_word(name, "Util") for name in ("Utils", "string_utils", "util", "WireUtil"))
    assert has_word("JournalHandler", "Handler")
    assert not has_word("utilization", "Util")


def test_the_folder_of_units_is_never_a_package(house: House) -> None:
    found = [path.name for path in (house.root / "systemd").rglob("*") if path.suffix == ".py"]
    assert found == [], "a module in systemd/ hides python-systemd from the whole checkout"


def test_packages_are_flat(house: House) -> None:
    deep = [module.path for module in house.modules if module.path.count("/") != 1]
    assert deep == [], "a new sub-package works in the checkout and is left out of the wheel without a warning"


def test_every_room_is_a_typed_package(house: House) -> None:
    for room in house.rooms:
        assert {f"{room}/__init__.py", f"{room}/py.typed"} <= set(house.files)


def test_tests_are_no_packages(house: House) -> None:
    assert [path for path in house.files if path.startswith("tests/") and path.endswith("__init__.py")] == []
