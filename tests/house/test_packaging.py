"""What ships: every room, every unit, every pinned dependency; and the wheel's install when there is one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.version import VERSION

if TYPE_CHECKING:
    from tests.house.conftest import House

ENVIRONMENT = "FEATUREKEYD_WHEEL_ENVIRONMENT"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    return normalized(re.split(r"[^A-Za-z0-9._-]", requirement)[0])


def test_every_room_is_a_package_of_the_wheel_under_its_own_folder(house: House) -> None:
    setuptools = house.project["tool"]["setuptools"]
    names = [f"featurekeyd.{room}" for room in house.rooms]
    assert sorted(setuptools["packages"]) == names
    assert setuptools["package-dir"] == {f"featurekeyd.{room}": room for room in house.rooms}


def test_every_folder_with_an_init_file_is_one_of_the_rooms(house: House) -> None:
    folders = {str(Path(path).parent) for path in house.files if path.endswith("__init__.py")}
    assert folders == set(house.rooms)


def test_every_unit_is_shipped_and_every_shipped_unit_exists(house: House) -> None:
    listed = [path for paths in house.project["tool"]["setuptools"]["data-files"].values() for path in paths]
    tracked = [path for path in house.files if path.startswith("systemd/") and not path.endswith(".md")]
    assert sorted(listed) == sorted(tracked)


def test_every_dependency_is_pinned(house: House) -> None:
    lines = (house.root / "constraints.txt").read_text().splitlines()
    pinned = {normalized(line.partition("==")[0]) for line in lines if "==" in line}
    project = house.project["project"]
    extras = [entry for group in project["optional-dependencies"].values() for entry in group]
    wanted = {
        name_of(entry) for entry in [*project["dependencies"], *extras, *house.project["build-system"]["requires"]]
    }
    assert wanted - pinned == set()
    assert [line for line in lines if line and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_the_daemon_says_the_version_of_the_package(house: House) -> None:
    assert house.project["project"]["version"] == VERSION


def test_every_program_has_its_module_and_function(house: House) -> None:
    modules = {f"featurekeyd.{module.room}.{module.name}": module for module in house.modules}
    for program, target in house.project["project"]["scripts"].items():
        module, _, function = target.partition(":")
        assert module in modules, program
        assert re.search(rf"^(?:async )?def {function}\(|^{function} = ", modules[module].text, re.MULTILINE), program


def test_the_verbs_that_documents_use_exist(house: House) -> None:
    """README.md and the other documents may be missing; what they say must be right."""
    verbs = set(re.findall(r"^    ([a-z| -]+)\)", (house.root / "dev").read_text(), re.MULTILINE))
    known = {verb.strip() for each in verbs for verb in each.split("|")}
    assert {"demo", "test", "bench", "check", "run"} <= known
    wrong = [
        f"{path}: ./dev {verb}"
        for path, text in house.texts.items()
        if path.endswith((".md", ".py", ".toml", ".varlink")) or path.startswith((".ci/", "systemd/"))
        for verb in re.findall(r"\./dev ([a-z]+)", text)
        if verb not in known
    ]
    assert wrong == []


# The installed wheel


@pytest.fixture(scope="session")
def environment() -> Path:
    """The environment into which `./dev test` installed the wheel."""
    path = os.environ.get(ENVIRONMENT)
    if not path:
        pytest.skip(f"{ENVIRONMENT} is not set: ./dev test builds the wheel, installs it and sets it")
    return Path(path)


def shipped(house: House, room: str) -> dict[str, bytes]:
    """What git has of a room and a wheel must bring: by path within the room."""
    suffixes = (".py", ".varlink", ".toml", "py.typed", ".cfg", ".conf", ".c")
    paths = [path for path in house.files if path.startswith(f"{room}/") and path.endswith(suffixes)]
    return {path.removeprefix(f"{room}/"): (house.root / path).read_bytes() for path in paths}


def installed_rooms(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages/featurekeyd")
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("room", ["client", "daemon", "hwio", "issuer", "policy"])
def test_the_wheel_brings_exactly_the_files_of_the_room(house: House, environment: Path, room: str) -> None:
    installed, tracked = files_below(installed_rooms(environment) / room), shipped(house, room)
    assert sorted(installed) == sorted(tracked)
    assert [name for name in tracked if installed[name] != tracked[name]] == []


def test_the_wheel_brings_no_other_room_and_no_plain_name(house: House, environment: Path) -> None:
    folder = installed_rooms(environment)
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == sorted(house.rooms)
    plain = [*house.rooms, "tests", "systemd/featurekeyd.service"]
    assert [name for name in plain if (folder.parent / name).exists()] == []


def test_the_wheel_brings_the_units(house: House, environment: Path) -> None:
    for target, paths in house.project["tool"]["setuptools"]["data-files"].items():
        for path in paths:
            installed = environment / target / Path(path).name
            assert installed.read_bytes() == (house.root / path).read_bytes(), path


def test_the_wheel_brings_the_programs(house: House, environment: Path) -> None:
    for program in house.project["project"]["scripts"]:
        assert os.access(environment / "bin" / program, os.X_OK), program
