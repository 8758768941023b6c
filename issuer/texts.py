"""Texts that people bring and take away: bounded reading, and new files that overwrite nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from .refusal import Refused
from .vendor import create_file

MAX_BROUGHT = 1 << 20
"""Bytes of a text that is read: what policy takes at most, and a bound on memory."""


def read_text(path: Path) -> str:
    """The text in a file, or on standard input for `-`; raises Refused."""
    try:
        if str(path) == "-":
            brought = sys.stdin.buffer.read(MAX_BROUGHT + 1)
        else:
            with path.open("rb") as file:
                brought = file.read(MAX_BROUGHT + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error
    if len(brought) > MAX_BROUGHT:
        raise Refused(f"{path} is longer than {MAX_BROUGHT} bytes.")
    # Around a document a mail may hold anything; inside, a wrong byte is found by whoever reads the document.
    return brought.decode(errors="replace")


@contextlib.contextmanager
def new_text(path: Path | None) -> Iterator[Callable[[str], None]]:
    """What writes one text to a new file, or to standard output for None and `-`; raises Refused where a file is.

    The file is there before anything is recorded, so that nothing is given out that cannot be written; it is removed
    when what happens in between fails.
    """
    if path is None or str(path) == "-":
        yield _print
        return
    try:
        create_file(path, b"", 0o644)
    except FileExistsError:
        raise Refused(f"{path} exists already and is not overwritten.", "Name another file with --output.") from None
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield lambda text: _fill(path, text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
