"""Writes the completion of the shells for the programs made with click: completions FOLDER.

`FOLDER/bash/PROGRAM` and `FOLDER/zsh/_PROGRAM`, as click makes them; each asks the program itself what fits.
"""

import importlib
import sys
import tomllib
from pathlib import Path

import click
from click.shell_completion import BashComplete, ZshComplete

SHELLS = ((BashComplete, "bash", ""), (ZshComplete, "zsh", "_"))


def main(folder: Path) -> None:
    """Write one file for each program and shell."""
    scripts = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for name, target in scripts.items():
        found = vars(importlib.import_module(target.partition(":")[0]))
        commands = [it for it in found.values() if isinstance(it, click.Group)]
        if not commands:
            continue
        variable = f"_{name}_COMPLETE".replace("-", "_").upper()
        for shell, place, prefix in SHELLS:
            path = folder / place / f"{prefix}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            source = shell(commands[0], {}, name, variable).source()
            path.write_text((autoloaded(source) if shell is ZshComplete else source) + "\n", encoding="utf-8")


def autoloaded(source: str) -> str:
    """A script for zsh that answers already when it is loaded, which is when the first TAB is pressed.

    Click 8.1.3, which Debian 12 has, only registers its function then; the next TAB goes to the function itself.
    """
    _, found, registered = source.rpartition("\ncompdef ")
    if not found:
        return source
    call = f'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    {registered.split()[0]} "$@"\nfi'
    return f"{source.rstrip()}\n{call}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
