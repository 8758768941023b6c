"""A shell that completes a command line asks featurekeyctl itself, by a variable of the environment."""

from __future__ import annotations

import pytest

from featurekeyd.client.control import COMPLETION, run


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("featurekeyctl statu", ["plain,status"]),
        ("featurekeyctl status --js", ["plain,--json"]),
        ("featurekeyctl certificate imp", ["plain,import"]),
        ("featurekeyctl nothing-of-that-name", []),
    ],
)
def test_commands_and_options_are_completed(
    line: str, fits: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(COMPLETION, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    assert run([]) == 0
    assert capsys.readouterr().out.split() == fits


def test_a_shell_that_is_not_known_is_told_so_by_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPLETION, "nonsense_complete")
    assert run([]) == 1
