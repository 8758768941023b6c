"""The manual pages: every program, option, command, settings key and method is in its page, and groff takes them."""

from __future__ import annotations

import argparse
import re
import runpy
import shutil
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import click
import msgspec
import pytest

from featurekeyd.client.agi_server import main as featurekey_agi
from featurekeyd.daemon import main as daemon_main
from featurekeyd.daemon import settings
from featurekeyd.hwio import simulator

if TYPE_CHECKING:
    from tests.house.conftest import House


@pytest.fixture(scope="module")
def pages(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages as the package has them, by name; without the backslashes before dashes."""
    folder = tmp_path_factory.mktemp("man")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(house.root)
        runpy.run_path("debian/manpages.py")["main"](folder)
    return {path.name: path.read_text().replace("\\-", "-").replace("\\e", "\\") for path in folder.iterdir()}


def page_of(pages: dict[str, str], program: str) -> str:
    (name,) = [name for name in pages if re.fullmatch(rf"{program}\.[18]", name)]
    return pages[name]


def test_every_program_has_a_page_that_the_package_brings(house: House, pages: dict[str, str]) -> None:
    brought = {
        Path(line).name
        for path, text in house.texts.items()
        if path.startswith("debian/") and path.endswith(".manpages")
        for line in text.split()
    }
    assert brought == set(pages)
    for program in house.project["project"]["scripts"]:
        assert f".SH NAME\n{program} - " in page_of(pages, program)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


def simulators() -> argparse.ArgumentParser:
    """One parser with the options of every simulated device."""
    parser = argparse.ArgumentParser()
    for kind in simulator.KINDS:
        parser = argparse.ArgumentParser(parents=[parser], add_help=False, conflict_handler="resolve")
        kind.add_arguments(parser)
    return parser


def test_every_option_of_daemon_and_simulator_is_told(pages: dict[str, str]) -> None:
    for program, parser in (("featurekeyd", daemon_main._parser()), ("featurekey-simulator", simulators())):
        found, told = options_of(parser), page_of(pages, program)
        assert len(found) > 4, program
        assert [it for it in found if it not in told] == [], program
    assert [kind.name for kind in simulator.KINDS if kind.name not in page_of(pages, "featurekey-simulator")] == []


def test_every_option_of_the_process_for_asterisk_is_told(pages: dict[str, str]) -> None:
    told = page_of(pages, "featurekey-agi")
    assert isinstance(featurekey_agi, click.Command)
    names = [name for it in featurekey_agi.params for name in it.opts if isinstance(it, click.Option)]
    assert len(names) > 3
    assert [name for name in names if name not in told] == []


def commands_of(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        path = f"{above}{name}"
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{path} ")
        elif not command.hidden:
            yield path, command


@pytest.mark.parametrize("program", ["featurekeyctl", "featurekey-issue"])
def test_every_command_and_option_of_the_tools_is_told(house: House, pages: dict[str, str], program: str) -> None:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(house.root)
        group = runpy.run_path("debian/manpages.py")["command_of"](program)
    told = page_of(pages, program)
    found = dict(commands_of(group))
    assert len(found) > 10
    for path, command in found.items():
        heading = re.search(rf'^\.SS "{re.escape(path)}[" ]', told, re.MULTILINE)
        assert heading is not None, path
        names = [name for it in command.params if isinstance(it, click.Option) for name in it.opts]
        assert [name for name in names if name not in told] == [], path


def test_every_method_and_error_of_the_interfaces_is_told(house: House, pages: dict[str, str]) -> None:
    for path in ("daemon/io.featurekey.License.varlink", "daemon/io.featurekey.Manage.varlink"):
        names = re.findall(r"^(?:method|error) (\w+)", house.texts[path], re.MULTILINE)
        assert [name for name in names if f".BR {name} " not in pages["io.featurekey.License.7"]] == []


def keys_of(struct: Any) -> Iterator[str]:
    """The keys of a table and of those below it."""
    for field in msgspec.structs.fields(struct):
        yield field.encode_name
        for below in structs_in(field.type):
            yield from keys_of(below)


def structs_in(type_: Any) -> Iterator[Any]:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    elif get_origin(type_) in {Union, types.UnionType, dict, tuple} or get_args(type_):
        for inner in get_args(type_):
            yield from structs_in(inner)


def test_every_key_of_the_settings_is_told(pages: dict[str, str]) -> None:
    told = pages["featurekeyd.toml.5"]
    keys = set(keys_of(settings._File))
    assert {"catalog", "poll_seconds", "raise_percent", "longest_call_seconds"} <= keys
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", told)] == []


def test_every_key_of_the_settings_for_asterisk_is_told(house: House, pages: dict[str, str]) -> None:
    names = set(re.findall(r'(?:\.take|\.table)\("(\w+)"', house.texts["client/agi_settings.py"]))
    assert {"holder", "secret_file"} <= names
    told = pages["featurekey-agi.8"]
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", told)] == []


def test_the_example_of_the_settings_is_right(house: House, pages: dict[str, str]) -> None:
    (example,) = re.findall(r"\.EX\n(.*)\n\.EE", pages["featurekeyd.toml.5"], re.DOTALL)
    read = settings.parse_settings(example.replace('kamailio = "kamailio"', "kamailio = 1000"), "example")
    assert read.rules.ceilings == {"trunk:carrier-a": 30}


def test_the_settings_that_the_package_brings_are_right(house: House) -> None:
    read = settings.parse_settings(house.texts["debian/featurekeyd.toml"], "debian/featurekeyd.toml")
    daemon_main._shipped_catalog(read, "debian/featurekeyd.toml")
    assert read.rules.emergency_numbers == {"112", "911"}


def test_groff_has_nothing_to_say_about_the_pages(pages: dict[str, str], tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed: ./dev test installs it with lintian")
    for name, text in pages.items():
        done = subprocess.run(
            [groff, "-man", "-ww", "-z", "-Tutf8"], input=text.encode(), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), name
