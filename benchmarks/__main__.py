"""`./dev bench`: all parts of the benchmark or one, and the table of what was asked and what was reached."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import catalog, decisions, idle, leases, others
from .bench import Bench
from .machine import environment, runtime_folder
from .programs import Programs
from .report import Row, Void, results

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "decisions": decisions.run,
    "leases": leases.run,
    "idle": idle.run,
    "others": others.run,
    "catalog": catalog.run,
}


def main() -> None:
    """Run the parts that were asked for."""
    arguments = _parser().parse_args()
    rows: list[Row] = []
    begun = time.monotonic()
    print(f"{environment()}\n{arguments.rounds} rounds of {arguments.messages:,} messages")
    with tempfile.TemporaryDirectory(prefix="fk-bench-") as compiled:
        tempfile.tempdir = runtime_folder()
        with tempfile.TemporaryDirectory(prefix="fk-") as records:
            for folder in (compiled, records):
                Path(folder).chmod(0o755)  # other users must reach the programs and the sockets
            programs = Programs.build(Path(compiled))
            bench = Bench(programs, Path(records), arguments.rounds, arguments.messages, arguments.python_echo)
            for part in [arguments.part] if arguments.part else PARTS:
                rows += _run(part, bench)
    print(f"\n{results(rows)}\n\n{environment()}; {time.monotonic() - begun:.0f} s")


def _run(part: str, bench: Bench) -> list[Row]:
    print(f"\n== {part}", flush=True)
    try:
        return PARTS[part](bench)
    except Void as failure:
        sys.exit(f"{part}: {failure}; the figures are void")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("part", nargs="?", choices=list(PARTS), help="one part only")
    parser.add_argument("--messages", type=_count, default=60_000, help="messages in a round (default 60000)")
    parser.add_argument("--rounds", type=_count, default=5, help="rounds of everything (default 5)")
    parser.add_argument("--python-echo", action="store_true", help="measure echo servers in Python as well")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError("a number from 1 to 10000000")
    return int(text)


if __name__ == "__main__":
    main()
