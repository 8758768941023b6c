"""Every command of ours that a text names is there: a technician types it as it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest

from featurekeyd.client.control import tree as featurekeyctl
from featurekeyd.issuer.command import main as featurekey_issue

if TYPE_CHECKING:
    from tests.house.conftest import House

TEXTS = (".md", ".py", ".toml", ".varlink", ".catalog", ".service", ".socket", ".cfg", ".conf", ".c", ".txt", ".yml")
PROGRAMS: dict[str, click.Command] = {"featurekeyctl": featurekeyctl, "featurekey-issue": featurekey_issue}
NAMED = re.compile(
    r"(?<![\w/.-])(?P<program>featurekeyctl|featurekey-issue) (?:--json |--(?:socket|vendor) \S+ )?"
    r"(?P<verb>[a-z][a-z-]*)(?: (?P<second>[a-z][a-z-]*))?(?=(?P<rest>[^\n`|]*))"
)
MISTYPED = {"tests/house/test_commands.py", "tests/client/test_completion.py", "tests/system/test_boot.py"}
"""Files that type commands wrong on purpose, or in part."""

PROSE = {
    "shows", "tells", "says", "names", "lists", "and", "as", "on", "of", "is", "with", "for", "run", "in", "has",
    "does", "reads", "or", "the", "a", "to", "explains", "cures", "writes", "keeps", "talks", "when", "that", "waits",
    "from", "prints", "speaks", "it", "itself", "at", "cannot", "against", "can", "refuses", "by", "gives", "makes",
    "about", "sync", "inside", "asks",
}  # fmt: skip
"""Words behind a program's name in a sentence."""


def wrong(text: str) -> list[str]:
    """The commands in a text that are none."""
    return [found[0] for found in NAMED.finditer(text) if found["verb"] not in PROSE and not _is_there(found)]


def _is_there(found: re.Match[str]) -> bool:
    command: click.Command | None = PROGRAMS[found["program"]]
    assert isinstance(command, click.Group)
    command = command.commands.get(found["verb"])
    if command is None:
        return False
    second = found["second"]
    if isinstance(command, click.Group) and second in command.commands:
        command = command.commands[second]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    # What stands behind the end of a sentence, a pipe or a comment belongs to something else.
    rest = re.split(r"[;|#()&\"',]|\. |\$\(", found["rest"])[0]
    return {*re.findall(r"(?<!\S)--[a-z][a-z-]+", rest)} <= {*options, "--help"}


def test_every_command_that_a_text_names_is_there(house: House) -> None:
    texts = {path: text for path, text in house.texts.items() if path.endswith(TEXTS) and path not in MISTYPED}
    assert {path: bad for path, text in texts.items() if (bad := wrong(text))} == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("featurekeyctl check --request FILE", 0),
        ("featurekeyctl check request writes one", 0),
        ("featurekeyctl chek", 1),
        ("featurekeyctl check --reqest FILE", 1),
        ("featurekeyctl host enroll; featurekeyctl hosts", 1),
        ("featurekeyctl catalog check FILE", 0),
        ("see featurekeyctl shows", 0),
        ("featurekey-issue certfy", 1),
    ],
)
def test_a_command_that_is_none_is_found(text: str, count: int) -> None:
    assert len(wrong(text)) == count
