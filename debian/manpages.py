"""Writes the manual pages: manpages.py FOLDER.

Those of docs/man are taken as they are. In those that end in `.in`, @OPTIONS@, @COMMANDS@ and @EPILOG@ stand for what
the program's own --help says, and @INTERFACES@ for the comments of the .varlink files: what is said in one place is
written in one place.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import click

PAGES = Path("docs/man")
VARLINK = ("daemon/io.featurekey.License.varlink", "daemon/io.featurekey.Manage.varlink")
_EVERYWHERE = ("help", "json")
"""Options that every command has: the page tells of them once."""
_MEMBER = re.compile(r"(method|error) (\w+)")


def escaped(text: str) -> str:
    """A text of a line, as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(it if it.isascii() else f"\\[u{ord(it):04X}]" for it in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def command_of(program: str) -> click.Group:
    """The command tree of a program that pyproject.toml names."""
    scripts = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module = importlib.import_module(scripts[program].partition(":")[0])
    return next(it for it in vars(module).values() if isinstance(it, click.Group))


def options(context: click.Context, left_out: Collection[str] = ()) -> Iterator[str]:
    """The options of a command, as its --help has them."""
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and parameter.name not in left_out:
            yield ".TP"
            yield f".B {escaped(record[0])}"
            yield escaped(record[1] or "")


def commands(context: click.Context) -> Iterator[str]:
    """Every command below a group, those of groups within it too."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from commands(below)
        else:
            yield from described(below)


def described(context: click.Context) -> Iterator[str]:
    """One command: how it is called, what it does, its options and examples."""
    command = context.command
    path = context.command_path.partition(" ")[2]
    arguments = " ".join(it for it in command.collect_usage_pieces(context) if it != "[OPTIONS]")
    yield f'.SS "{escaped(f"{path} {arguments}".strip())}"'
    _, *first = paragraphs(command.help or command.short_help or "")
    yield from first
    yield from options(context, _EVERYWHERE)
    if command.epilog:
        yield from paragraphs(command.epilog)


def paragraphs(text: str) -> Iterator[str]:
    """A text of click: paragraphs, and lines that stay as they are behind a backspace character."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in paragraph.splitlines()] or [""]
        kept = lines[0].strip() == "\b"
        yield ".PP"
        if kept:
            yield from (".EX", *map(escaped, lines[1:]), ".EE")
        else:
            yield from (escaped(line.strip()) for line in lines)


def interfaces() -> Iterator[str]:
    """The methods and errors of the interfaces, each with its comment."""
    for path in VARLINK:
        yield f".SH {Path(path).stem}"
        comment: list[str] = []
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            found = _MEMBER.match(line)
            if line.startswith("#"):
                comment.append(line.removeprefix("#").strip())
            elif found:
                yield ".TP"
                yield f'.BR {found[2]} " ({found[1]})"'
                yield from (escaped(it) if it else ".sp" for it in comment)
            if not line.startswith("#"):
                comment = []


def page(path: Path) -> str:
    """The text of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".in":
        return text
    if "@INTERFACES@" in text:
        return text.replace("@INTERFACES@", "\n".join(interfaces()))
    program = path.name.partition(".")[0]
    context = click.Context(command_of(program), info_name=program, max_content_width=200)
    parts: dict[str, Iterable[str]] = {
        "@OPTIONS@": options(context),
        "@COMMANDS@": commands(context),
        "@EPILOG@": list(paragraphs(context.command.epilog or ""))[1:],
    }
    for mark, lines in parts.items():
        text = text.replace(mark, "\n".join(lines))
    return text


def main(folder: Path) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(PAGES.iterdir()):
        (folder / path.name.removesuffix(".in")).write_text(page(path), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
