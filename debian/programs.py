"""Writes the programs that pyproject.toml names: programs FOLDER VENDORED.

They start Python isolated (-I): neither the environment nor the current folder says what is imported. What the package
carries comes before anything of its name that somebody has installed beside Debian's packages.
"""

import sys
import tomllib
from pathlib import Path

PROGRAM = """\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "{vendored}")

from {module} import {function}

sys.exit({function}())
"""


def main(folder: Path, vendored: str) -> None:
    """Write one file for each program."""
    scripts = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        path = folder / name
        path.write_text(PROGRAM.format(vendored=vendored, module=module, function=function), encoding="utf-8")
        path.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
