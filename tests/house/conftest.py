"""The house as its tests see it: the tracked files, and every module of every room as a syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("client", "daemon", "hwio", "issuer", "policy")


@dataclass(frozen=True)
class Import:
    """One import: the whole name of the module it names, what it takes from it, and where it stands."""

    module: str
    names: tuple[str, ...]
    place: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room it reaches into, None where it reaches into none."""
        parts = self.module.split(".")
        if parts[0] != "featurekeyd":
            return None
        return parts[1] if len(parts) > 1 else self.names[0]

    @property
    def standard(self) -> bool:
        return self.top in sys.stdlib_module_names


@dataclass(frozen=True)
class Module:
    """One Python file and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(found for node in ast.walk(self.tree) for found in self._imports_of(node))

    def _imports_of(self, node: ast.AST) -> list[Import]:
        if isinstance(node, ast.Import):
            return [Import(alias.name, (), f"{self.path}:{node.lineno}") for alias in node.names]
        if not isinstance(node, ast.ImportFrom):
            return []
        names = tuple(alias.name for alias in node.names)
        # Packages are flat: one dot is the room itself, two are featurekeyd.
        above = {0: "", 1: f"featurekeyd.{self.room}", 2: "featurekeyd"}[node.level]
        return [Import(".".join(filter(None, (above, node.module))), names, f"{self.path}:{node.lineno}")]


class House:
    """Everything that is tracked."""

    root = ROOT
    rooms = ROOMS

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The tracked files that are there, by their path from the root."""
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        return tuple(path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file())

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The Python files of the rooms."""
        return tuple(module for module in self.python if module.room in ROOMS)

    @cached_property
    def python(self) -> tuple[Module, ...]:
        """Every Python file, tests and tools too."""
        return tuple(self._read(path) for path in self.files if path.endswith(".py"))

    def _read(self, path: str) -> Module:
        text = (ROOT / path).read_text()
        return Module(path, text, ast.parse(text))

    def of(self, room: str) -> list[Module]:
        return [module for module in self.modules if module.room == room]

    @cached_property
    def texts(self) -> dict[str, str]:
        """Every tracked text file but the license text, which is not ours."""
        raw = {path: (ROOT / path).read_bytes() for path in self.files if path != "LICENSE"}
        return {path: content.decode() for path, content in raw.items() if b"\0" not in content}

    @cached_property
    def project(self) -> dict[str, Any]:
        return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def house() -> House:
    return House()
