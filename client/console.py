"""What featurekeyctl reads and writes: standard output, standard error, files and standard input.

Rules: answers go to standard output, errors to standard error. Text that came from elsewhere (a far end chooses its
Call-ID) is written with its control characters spelled out, so that nobody can paint on a technician's terminal.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from pathlib import Path

from .exits import FileTrouble

MAX_INPUT = 4 * 1024 * 1024
"""Bytes read from one file. A license list has some 60 bytes a key: this is room for 60,000 keys, and a wrong file,
such as a disk image, is refused before it fills the memory."""


def clean(value: object) -> str:
    """Text for a terminal, a dash for what is left out."""
    if value is None:
        return "-"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def out(text: str) -> None:
    """Write one line or several, at once; raises BrokenPipeError."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def out_json(document: object) -> None:
    """Write one JSON document on one line."""
    out(json.dumps(document))


def complain(sentence: str) -> None:
    """Write one line to standard error."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"featurekeyctl: {clean(sentence)}\n")


def warn_simulated() -> None:
    """Say loudly, on standard error, that nothing here is real."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write("*** SIMULATED: this Feature Key is not real hardware; only test certificates fit it ***\n")


def out_fields(fields: list[tuple[str, object]]) -> None:
    """Write names and values in two columns."""
    width = max(len(name) for name, _ in fields)
    out("\n".join(f"{name:<{width}}  {clean(value)}".rstrip() for name, value in fields))


def span(seconds: int) -> str:
    """A time span as people say it: `2 d 3 h`, `1 h 5 min`, `40 s`."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def forgive_encoding() -> None:
    """Let a terminal that lacks a letter show its number instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mute_output() -> None:
    """Turn standard output away after its reader left, so that closing it at the end does not complain.

    Source: the Python library reference, module signal, note on SIGPIPE.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def read_text(name: str) -> str:
    """The text of a file, or of standard input for `-`; UTF-8, UTF-16 with a mark, or else Latin-1.

    Raises FileTrouble, also for more than 4 MiB.
    """
    try:
        raw = _read_bytes(name)
    except OSError as error:
        raise FileTrouble(f"{name} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_INPUT:
        raise FileTrouble(f"{name} is longer than {MAX_INPUT} bytes and cannot be a license list or a certificate")
    return _decode(raw)


def read_line(prompt: str) -> str:
    """One line from standard input, asked for where a person sits there; FileTrouble when there is more than one."""
    if sys.stdin.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return sys.stdin.readline()
    lines = [line for line in read_text("-").splitlines() if line.strip()]
    if len(lines) > 1:
        raise FileTrouble("standard input has more than one line; for several keys use: featurekeyctl import -")
    return lines[0] if lines else ""


def write_text(name: str, text: str) -> None:
    """Write a file whole; raises FileTrouble."""
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileTrouble(f"{name} cannot be written: {error.strerror or error}") from None


def _read_bytes(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(MAX_INPUT + 1)
    with Path(name).open("rb") as source:
        return source.read(MAX_INPUT + 1)


def _decode(raw: bytes) -> str:
    """Spreadsheets write UTF-16 or the codes of their country; keys are plain letters in all of them."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
