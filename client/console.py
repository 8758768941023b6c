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
import pwd
import sys
from pathlib import Path
from typing import TextIO

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


def is_closed(stream: TextIO | None) -> bool:
    """Whether the process was started without this stream, as by `>&-` in a shell."""
    return stream is None


def out(text: str) -> None:
    """Write one line or several, at once; raises BrokenPipeError, and FileTrouble when there is no room."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise no_room(error) from None


def no_room(error: OSError) -> FileTrouble:
    """The sentence for standard output that cannot be written, as on a full disk; nothing more is written there."""
    mute(sys.stdout)
    return FileTrouble(f"standard output cannot be written: {error.strerror or error}")


def out_json(document: object) -> None:
    """Write one JSON document on one line."""
    out(json.dumps(document))


def complain(sentence: str) -> None:
    """Write one line to standard error."""
    _murmur(f"featurekeyctl: {clean(sentence)}\n")


def warn_simulated() -> None:
    """Say loudly, on standard error, that nothing here is real."""
    _murmur("*** SIMULATED: this Feature Key is not real hardware; only test certificates fit it ***\n")


def _murmur(text: str) -> None:
    """Write to standard error where there is one: that it cannot be written is nothing that could be told."""
    if is_closed(sys.stderr):
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        mute(sys.stderr)


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


def mute(stream: TextIO) -> None:
    """Turn a stream away that cannot be written, so that closing it at the end does not complain.

    Source: the Python library reference, module signal, note on SIGPIPE.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
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
    if not is_closed(sys.stdin) and sys.stdin.isatty():
        _murmur(prompt)
        try:
            return _decode(sys.stdin.buffer.readline(MAX_INPUT))
        except OSError as error:
            raise FileTrouble(f"standard input cannot be read: {error.strerror or error}") from None
    lines = [line for line in read_text("-").splitlines() if line.strip()]
    if len(lines) > 1:
        raise FileTrouble("standard input has more than one line; for several keys use: featurekeyctl import -")
    return lines[0] if lines else ""


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes; yes where nobody sits there, as in a script."""
    if is_closed(sys.stdin) or not sys.stdin.isatty():
        return True
    return read_line(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def user_name() -> str:
    """Who runs this, by number and where there is one by name: the number is what the daemon is told."""
    number = os.geteuid()
    try:
        return f"uid {number} ({pwd.getpwuid(number).pw_name})"
    except KeyError:
        return f"uid {number}"


def write_new(name: str, text: str) -> None:
    """Write a text to a new file that nobody else may read; raises FileTrouble, also where something of that name is.

    Not in one step: a reader may see a part of it. What could not be written whole is removed.
    """
    path = Path(name)
    try:
        target = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except FileExistsError:
        raise FileTrouble(f"{name} exists already and is not overwritten; name another file") from None
    except OSError as error:
        raise FileTrouble(f"{name} cannot be written: {error.strerror or error}") from None
    try:
        with target:
            target.write(text.encode("utf-8", "backslashreplace"))
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise FileTrouble(f"{name} cannot be written: {error.strerror or error}") from None
        raise


def _read_bytes(name: str) -> bytes:
    if name != "-":
        with Path(name).open("rb") as source:
            return source.read(MAX_INPUT + 1)
    if is_closed(sys.stdin):
        raise FileTrouble("standard input is closed")
    return sys.stdin.buffer.read(MAX_INPUT + 1)


def _decode(raw: bytes) -> str:
    """Spreadsheets write UTF-16 or the codes of their country; keys are plain letters in all of them."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
