"""What the README tells a newcomer to type, typed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import rig

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(rig.program("featurekeyctl")).parent
TRIED = "/tmp/try"
"""The folder that the README uses; the test uses another one."""


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="fk-") as name:
        yield name


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def typed(script: str, folder: str, settings: Path) -> list[str]:
    script = script.replace("docs/try.toml", str(settings)).replace(TRIED, folder)
    return ["/bin/sh", "-euc", f"PATH={PROGRAMS}:$PATH\n{script}"]


def test_the_three_terminals_of_the_readme_work_as_printed(folder: str) -> None:
    settings = Path(folder) / "try.toml"
    settings.write_text((ROOT / "docs/try.toml").read_text(encoding="utf-8").replace(TRIED, folder), encoding="utf-8")
    simulate, serve, use = shell_blocks()
    with rig.Process(typed(simulate, folder, settings)) as simulator:
        simulator.output.wait("/dev/pts/")
        with rig.Process(typed(serve, folder, settings)) as daemon:
            daemon.errors.wait("is ready")
            done = rig.run(*typed(use, folder, settings))
    assert done.status == 0, done.err
    assert "denied, as explained" in done.out
    assert re.search(r"Standing +licensed", done.out)
