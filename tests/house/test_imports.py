"""Who may import what, over the syntax tree; each failure says why the rule is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.house.conftest import House, Module

MAY_IMPORT = {
    "policy": set[str](),
    "hwio": set[str](),
    "client": set[str](),
    "issuer": {"policy", "hwio"},
    "daemon": {"policy", "hwio"},
}
WHY = {
    "policy": "policy is pure and a leaf: same input, same answer, whoever calls it",
    "hwio": "hwio is a leaf: it says what it read in its own values, and the daemon translates",
    "client": "client talks through the socket only, so that it can be installed and replaced on its own",
    "issuer": "issuer is the vendor's side: it shares formats and hardware with the host, and nothing that runs there",
    "daemon": "daemon is the roof over policy and hwio; what others need of it comes through the socket",
}

PURE = {
    "__future__",
    "base64",
    "binascii",
    "calendar",
    "collections",
    "csv",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "tomllib",
    "types",
    "typing",
    "unicodedata",
}
"""The part of the standard library that neither waits, nor reads a clock, nor reaches out of the process."""

IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint", "globals"}
CLOCKS = {"now", "today", "utcnow"}

DISTRIBUTIONS = {
    "prometheus_client": "prometheus-client",
    "serial": "pyserial",
    "systemd": "systemd-python",
    "usb": "pyusb",
}
"""Import names that differ from the name of their distribution."""


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(house: House, room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    found = [it for module in house.of(room) for it in module.imports if it.room is not None]
    wrong = [f"{it.place}: imports featurekeyd.{it.room}" for it in found if it.room not in allowed]
    assert wrong == [], f"{WHY[room]}\n" + "\n".join(wrong)


def test_every_room_has_modules_and_a_rule(house: House) -> None:
    assert set(MAY_IMPORT) == set(house.rooms)
    assert all(len(house.of(room)) > 5 for room in house.rooms)


def test_policy_imports_only_what_cannot_reach_out(house: House) -> None:
    allowed = PURE | {"cryptography", "msgspec", "featurekeyd"}
    wrong = [
        f"{it.place}: {it.module}" for module in house.of("policy") for it in module.imports if it.top not in allowed
    ]
    assert wrong == [], (
        "policy takes the time, the files and the randomness as arguments: no clock, no I/O, no log, no threads\n"
        + "\n".join(wrong)
    )


def test_policy_opens_nothing_prints_nothing_and_reads_no_clock(house: House) -> None:
    wrong = [f"{module.path}:{line}: {what}" for module in house.of("policy") for line, what in impure_calls(module)]
    assert wrong == [], "policy gets `now` and texts as arguments, and gives values back\n" + "\n".join(wrong)


def impure_calls(module: Module) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and node.id in IMPURE_NAMES:
            found.append((node.lineno, node.id))
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            owner = ast.unparse(node.value)
            if re.search(r"(^|\.)(date|datetime)$", owner):
                found.append((node.lineno, f"{owner}.{node.attr}"))
    return found


def test_the_rule_about_clocks_would_find_one(house: House) -> None:
    trap = ast.parse("import datetime\ndatetime.datetime.now()\nself.today(now)\nopen('x')\n")
    found = impure_calls(replace(house.modules[0], tree=trap))
    assert sorted(found) == [(2, "datetime.datetime.now"), (4, "open")]


def test_what_a_pbx_imports_of_the_client_needs_the_standard_library_only(house: House) -> None:
    modules = {module.name: module for module in house.of("client")}
    reached, waiting = set[str](), ["license", "kamailio_script"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        inner = [it.module.split(".")[2:3] or list(it.names) for it in modules[name].imports if it.room == "client"]
        waiting += [each for names in inner for each in names if each in modules.keys() - reached]
    wrong = [
        f"{it.place}: {it.module}"
        for name in sorted(reached)
        for it in modules[name].imports
        if not it.standard and it.room != "client"
    ]
    assert {"license", "call"} <= reached
    assert wrong == [], (
        "a dialplan script runs in the PBX's own Python: the client library brings no dependency into it\n"
        + "\n".join(wrong)
    )


def test_python_systemd_is_imported_by_its_members_only(house: House) -> None:
    wrong = [
        f"{it.place}: {it.module}"
        for module in house.python
        for it in module.imports
        if it.top == "systemd" and (not it.names or it.module == "systemd")
    ]
    assert wrong == [], (
        "`import systemd` finds our folder of units in a checkout and succeeds without python-systemd: "
        "write `from systemd.x import y`\n" + "\n".join(wrong)
    )


def test_nothing_is_imported_by_the_plain_name_of_its_folder(house: House) -> None:
    wrong = [f"{it.place}: {it.module}" for module in house.python for it in module.imports if it.top in house.rooms]
    assert wrong == [], (
        "`daemon` is python-daemon elsewhere, and a module under two names is two modules: write featurekeyd.x\n"
        + "\n".join(wrong)
    )


def test_every_foreign_import_is_a_declared_dependency(house: House) -> None:
    declared = {re.split(r"[^A-Za-z0-9-]", entry)[0] for entry in house.project["project"]["dependencies"]}
    wrong = [
        f"{it.place}: {it.module}"
        for module in house.modules
        for it in module.imports
        if not it.standard and it.room is None and DISTRIBUTIONS.get(it.top, it.top) not in declared
    ]
    assert wrong == [], "what is imported and not declared is missing on the first clean host\n" + "\n".join(wrong)


def test_every_module_can_be_imported_and_no_plain_name_is_loaded_by_it(house: House) -> None:
    names = [f"featurekeyd.{module.room}.{module.name}" for module in house.modules if module.name != "__main__"]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted(name for name in sys.modules if name.partition('.')[0] in {set(house.rooms)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=house.root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
