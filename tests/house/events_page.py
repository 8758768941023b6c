"""docs/events.md, made from where events are defined: policy/events.py, policy/reasons.py and the message catalog.

Run as a program it writes the page; `tests/house/test_message_catalog.py` fails when the page is another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from featurekeyd.policy.events import SORT, EventName, Priority
from featurekeyd.policy.reasons import MEANING, Reason

ROOT = Path(__file__).parents[2]
CATALOG = "systemd/featurekeyd.catalog"
PAGE = "docs/events.md"
LABELS = ("Cause", "Calls", "Do")

GRANTS = {Reason.GRANTED, Reason.ALREADY_HELD, Reason.EMERGENCY, Reason.EMERGENCY_CALLBACK, Reason.FALLEN_BACK}
"""Reasons of answers that allow: they make no entry in the log."""

HEAD = """# Events in the log

Every entry has MESSAGE_ID, PRIORITY, `EVENT=` and what fields its message speaks of: `FEATURE=`, `HOLDER=`, `LEASE=`,
`REASON=`, `SERIAL=`, `LIMIT=`, `IN_USE=`, `PORT=`, `CHANNEL=`, `COUNT=`, `BY=`, `UID=`, `PATH=`. A license key
stands in it by its first and last group only.

    journalctl -xu featurekeyd                      each entry with cause and cure
    journalctl -u featurekeyd EVENT=denied          refused calls
    journalctl -u featurekeyd HOLDER=asterisk -p warning

This page is made from `policy/events.py`, `policy/reasons.py` and `systemd/featurekeyd.catalog`: `./dev events`.
"""


@dataclass(frozen=True)
class Entry:
    """One entry of the message catalog."""

    message_id: str
    headers: dict[str, str]
    parts: dict[str, str]
    """What stands behind Cause, Calls and Do, each as one line."""


def entries(text: str) -> list[Entry]:
    """The entries of a message catalog, in their order."""
    return [_entry(chunk) for chunk in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]]


def _entry(chunk: str) -> Entry:
    head, _, body = chunk.partition("\n\n")
    message_id, *lines = head.splitlines()
    found = re.split(r"^(\w+):\s+", body.strip(), flags=re.MULTILINE)[1:]
    parts = {label: " ".join(said.split()) for label, said in zip(found[::2], found[1::2], strict=True)}
    return Entry(message_id, dict(line.split(": ", 1) for line in lines), parts)


def told() -> dict[str, tuple[str, Priority]]:
    """Each MESSAGE_ID that the log can carry, with the name and the priority of what it stands for."""
    events = {
        SORT[name].message_id: (str(name), SORT[name].priority) for name in EventName if name is not EventName.DENIED
    }
    denied = SORT[EventName.DENIED].priority
    refusals = {MEANING[it].message_id: (f"denied, {it}", denied) for it in Reason if it not in GRANTS}
    return events | refusals


def page(text: str) -> str:
    """docs/events.md for this message catalog."""
    names = told()
    lines = [
        HEAD,
        "| event | priority | what it means | for calls | what to do | MESSAGE_ID |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries(text):
        name, priority = names[entry.message_id]
        said = " | ".join(entry.parts[label] for label in LABELS)
        subject = entry.headers["Subject"]
        lines.append(f"| `{name}` | {priority.name.lower()} | **{subject}.** {said} | `{entry.message_id}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page((ROOT / CATALOG).read_text()))
