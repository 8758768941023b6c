"""docs/faults.md, made from a real run: what doctor and the log said of each staged fault.

With names of faults it prints what was said and writes nothing: `./dev faults key_absent`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import rig_faults
from rig_faults import CannotStage, Said

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """# Faults, and what is said of them

Each of these faults is staged on real processes by a script of its own in `tests/system/faults/`, and
`tests/system/test_faults.py` holds `featurekeyctl doctor` and the log to it: both name cause and cure, and doctor finds
nothing else. Here is what they said. The text after the arrow is the message catalog's, as `journalctl -x` shows it.

    featurekeyctl doctor                    what is wrong, why, and what to do
    journalctl -xu featurekeyd              what happened, in the order of time

This page is made from a run: `./dev faults`. `./dev faults NAME` stages one fault and shows the whole of what was said.
Paths are written as the package has them.

| fault | `doctor` | journal |
|---|---|---|
"""


def row(name: str, said: Said) -> str:
    """The row of a fault."""
    script = rig_faults.load(name)
    fault, entry = said.fault(script.DOCTOR.name), said.entry
    title = (script.__doc__ or "").strip()
    doctor = f"`{fault['name']}` **{fault['what']}** Cause: {fault['cause']} Do: {fault['cure']}"
    journal = f"`{entry.event}` **{entry.message}** → Cause: {entry.cause} Do: {entry.cure}"
    cells = (f"{title} (`{name}`)", doctor, journal)
    return _packaged(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |", said.places)


def _packaged(text: str, places: Mapping[str, str]) -> str:
    """The text with the paths that the package has."""
    for here, place in places.items():
        text = text.replace(here, place)
    return text


def rows(wanted: Sequence[str]) -> Iterator[str]:
    """The rows of these faults; raises CannotStage for the first that cannot be staged here."""
    with tempfile.TemporaryDirectory() as folder:
        for name, said in rig_faults.stage_all(wanted, Path(folder)):
            yield row(name, said())
            print(name, file=sys.stderr)


def show(name: str) -> None:
    """Stage one fault and print what was said."""
    with tempfile.TemporaryDirectory() as folder, rig_faults.Bench(Path(folder)) as bench:
        said = rig_faults.stage(rig_faults.load(name), bench)
    entry = said.entry
    print(f"== {name}: {(rig_faults.load(name).__doc__ or '').strip()}\n\n-- featurekeyctl doctor\n{said.text}")
    print(f"-- journal\n{entry.event}: {entry.message}\n  Cause: {entry.cause}\n  Do:    {entry.cure}\n")


def main(wanted: Sequence[str]) -> int:
    """Show the faults of these names, or write the page; the exit status."""
    unknown = [name for name in wanted if name not in rig_faults.names()]
    if unknown:
        print(f"no such fault: {', '.join(unknown)}; there are {', '.join(rig_faults.names())}", file=sys.stderr)
        return 1
    try:
        for name in wanted:
            show(name)
        if not wanted:
            PAGE.write_text(HEAD + "\n".join(rows(rig_faults.names())) + "\n", encoding="utf-8")
    except CannotStage as reason:
        print(f"it cannot be staged here: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
