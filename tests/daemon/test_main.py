"""The command: what it says and how it ends when it cannot start; nothing is served here."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from featurekeyd.daemon import main as module
from featurekeyd.daemon.main import main
from featurekeyd.daemon.version import VERSION

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: its exit status, what it printed, and what it said on standard error."""
    # The command leaves its loop to the end of the process, which a test does not have.
    monkeypatch.setattr(module, "_runner", lambda: asyncio.run)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["featurekeyd", *map(str, arguments)])
        try:
            status = main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return run


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Path]:
    """Writes a settings file with all paths in the test's own folder."""

    def write(catalog: str = "ip-office", platform: str = "ip500-v2", more: str = "", **paths: object) -> Path:
        places = {"socket": tmp_path / "socket", "runtime": tmp_path / "run", "state": tmp_path / "state", **paths}
        lines = [f'{name} = "{place}"' for name, place in {**places, "vendor_keys": tmp_path}.items()]
        path = tmp_path / "site.toml"
        product = f'[product]\ncatalog = "{catalog}"\nplatform = "{platform}"\n'
        reader = f'[feature_key]\nreader = "slot:{tmp_path}"\n'
        path.write_text("\n".join([product, reader, more, "[paths]", *lines]))
        return path

    return write


def test_good_settings_are_checked_without_a_word(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    assert run("--settings", settings(), "--check") == (0, "", "")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["site.toml"]


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"featurekeyd {VERSION}\n", "")


@pytest.mark.parametrize("arguments", [["--color"], ["start"], ["--settings"], ["--check=yes"]])
def test_wrong_usage_has_its_own_exit_status(arguments: list[str], run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: featurekeyd")


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_catalog_that_is_not_shipped_is_named_by_its_key(
    check: list[str], run: Run, settings: Callable[..., Path]
) -> None:
    path = settings(catalog="../ip-office")
    status, _, err = run("--settings", path, *check)
    assert status == 1
    assert f"{path}: product.catalog: there is no catalog '../ip-office'; shipped are " in err
    assert "ip-office" in err.partition("shipped are ")[2]


def test_a_platform_that_the_catalog_has_not_is_named_by_its_key(run: Run, settings: Callable[..., Path]) -> None:
    status, _, err = run("--settings", settings(platform="ip500-v9"), "--check")
    assert status == 1
    assert "product.platform: ip-office has no platform 'ip500-v9'; it has ip500" in err


def test_mistakes_in_the_settings_are_told_line_by_line(run: Run, settings: Callable[..., Path]) -> None:
    status, _, err = run("--settings", settings(more="[log]\ntarget = 1\n[ceilings]\na = -1"))
    assert status == 1
    assert err.startswith("featurekeyd cannot start: the settings cannot be used:\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()[1:]] == ["ceilings.a", "log.target"]


def test_a_settings_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert run("--settings", path) == (1, "", f"featurekeyd cannot start: {path}: No such file or directory\n")


def test_settings_that_are_a_folder_are_named(run: Run, tmp_path: Path) -> None:
    assert run("--settings", tmp_path) == (1, "", f"featurekeyd cannot start: {tmp_path}: Is a directory\n")


def test_a_folder_that_cannot_be_made_is_named(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("--settings", settings(state=tmp_path / "file" / "state"))
    assert (status, err) == (1, f"featurekeyd cannot start: {tmp_path / 'file' / 'state'}: Not a directory\n")


def test_a_socket_that_somebody_answers_is_told(run: Run, settings: Callable[..., Path], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "socket"))
        other.listen()
        status, _, err = run("--settings", settings())
    assert status == 1
    assert "another process answers on" in err


@pytest.mark.parametrize("spoil", ["no database", "later release"])
def test_a_state_file_that_is_refused_is_told(
    spoil: str, run: Run, settings: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "featurekeyd.db"
    if spoil == "no database":
        path.write_bytes(b"no database at all" * 100)
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    status, _, err = run("--settings", settings())
    assert status == 1
    assert str(path) in err
    assert "again" in err or "restore it" in err


def test_without_uvloop_the_standard_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert module._runner() is asyncio.run


def test_with_uvloop_its_loop_serves() -> None:
    uvloop = pytest.importorskip("uvloop")
    kinds: list[type] = []

    async def look() -> None:
        kinds.append(type(asyncio.get_running_loop()))

    run = module._runner()
    run(look())
    assert kinds == [uvloop.Loop]
    cast("Any", run).__self__.close()
