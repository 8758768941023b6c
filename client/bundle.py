"""featurekeyctl support-bundle: what the vendor's support needs, in one text, without what is nobody's business.

What is gathered stays in its structure until `redaction` has been through all of it, the journal included: only so can
what one place names as a call be left out at every other.
"""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import surroundings
from .call import MANAGE
from .console import agreed, clean, out, write_new
from .doctor import Examination
from .exits import DONE, REFUSED
from .redaction import Redaction
from .session import Session, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {
    "settings": surroundings.SETTINGS,
    "settings of featurekey-agi": Path("/etc/featurekeyd/featurekey-agi.toml"),
}
"""Where the packages have the settings."""

JOURNALS = {"journal": "featurekeyd", "journal of featurekey-agi": "featurekey-agi"}
"""Whose journal is gathered."""

JOURNAL_LINES = 500
"""Entries of a journal in a bundle: some days of a quiet system, an evening of a noisy one."""

AUDIT_ENTRIES = 200
"""The latest entries of the audit in a bundle."""

_NOT_SHOWN = frozenset({"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID"})
"""Fields of the journal that are told otherwise, or tell nothing."""


@click.command(
    "support-bundle",
    short_help="Gather what the vendor's support needs.",
    epilog=examples("featurekeyctl support-bundle bundle.txt", "sudo featurekeyctl support-bundle - --yes"),
)
@click.argument("new_file", metavar="FILE")
@click.option("--yes", is_flag=True, help="Write it without showing it first.")
@click.option("--addresses", is_flag=True, help="Leave IP and hardware addresses as they are.")
@json_option
@click.pass_obj
def support_bundle(session: Session, new_file: str, *, yes: bool, addresses: bool) -> int:
    """Gather the state of the daemon, its faults, its settings and the end of its journal in one text to send.

    License keys are shortened, names of calls and telephone numbers are replaced by marks that are the same for the
    same call, and addresses are cut. All of it is shown before it is written.
    """
    examination = Examination(session, session.path)
    examination.examine()
    gathered = _state(examination) | dict(_on_this_host())
    redaction = Redaction(addresses=addresses)
    redaction.learn(gathered)
    text = _written(redaction.cleaned(gathered), as_json=session.as_json)
    if new_file == "-":
        out(text)
        return DONE
    if not yes:
        out(text)
        if not agreed(f"Write this to {clean(new_file)}?"):
            return REFUSED
    write_new(new_file, text)
    out(f"written to {clean(new_file)}: {len(text.encode())} bytes")
    return DONE


def _state(examination: Examination) -> dict[str, Any]:
    """What the daemon answers."""
    examination.attempt(lambda: examination.ask(f"{MANAGE}.GetHost"))
    audit = examination.attempt(lambda: examination.collect(f"{MANAGE}.ListAudit", "entry"))
    if audit is not None:
        examination.replies[f"{MANAGE}.ListAudit"] = audit[-AUDIT_ENTRIES:]
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": {"system": platform.platform(), "python": platform.python_version()},
        "faults": [fault.as_json() for fault in examination.faults],
        "not_seen": examination.not_seen,
        "replies": examination.replies,
    }


def _on_this_host() -> Iterator[tuple[str, Any]]:
    """What this host has without the daemon."""
    for name, path in SETTINGS.items():
        yield name, _read(path)
    units = ("featurekeyd.service", "featurekeyd.socket", "featurekey-agi.service")
    shown = "--property=Id,ActiveState,SubState,Result,NRestarts,MemoryCurrent"
    done = surroundings.command("systemctl", "show", *units, shown)
    yield "units", "(not there)" if done is None else done.stdout + done.stderr
    for name, unit in JOURNALS.items():
        yield name, _journal(unit)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"(not readable: {error.strerror})"


def _journal(unit: str) -> list[Any] | str:
    """The end of a unit's journal, with the fields of each entry; what journalctl says where it has none."""
    done = surroundings.command("journalctl", "-u", unit, "-n", str(JOURNAL_LINES), "-o", "json", "--no-pager")
    if done is None:
        return "(not there)"
    return [_entry(line) for line in done.stdout.splitlines()] or done.stderr


def _entry(line: str) -> dict[str, str] | str:
    """An entry: its fields by name as far as they are its sender's, and when it was (systemd.journal-fields(7))."""
    try:
        fields = json.loads(line)
        moment = datetime.datetime.fromtimestamp(int(fields["__REALTIME_TIMESTAMP"]) / 1e6, datetime.UTC)
    except (ValueError, KeyError, TypeError, OverflowError):
        return line
    told = {name: _value(value) for name, value in fields.items() if not name.startswith("_")}
    return {"time": moment.isoformat(timespec="milliseconds"), "PRIORITY": "6", "MESSAGE": ""} | told


def _value(value: object) -> str:
    """What a field says; one that is not printable comes as a list of bytes."""
    if isinstance(value, list) and all(isinstance(each, int) and 0 <= each < 256 for each in value):
        return bytes(value).decode(errors="replace")
    return str(value)


def _written(cleaned: dict[str, Any], *, as_json: bool) -> str:
    for name in JOURNALS:
        if isinstance(cleaned[name], list):
            cleaned[name] = "\n".join(map(_line, cleaned[name]))
    if as_json:
        return json.dumps(cleaned, indent=1, ensure_ascii=False)
    apart = [*SETTINGS, "units", *JOURNALS]
    state = {name: value for name, value in cleaned.items() if name not in apart}
    sections = {"state": json.dumps(state, indent=1, ensure_ascii=False)} | {name: cleaned[name] for name in apart}
    return "\n".join(f"===== {name} =====\n{text.rstrip()}\n" for name, text in sections.items())


def _line(entry: dict[str, str] | str) -> str:
    if isinstance(entry, str):
        return entry
    shown = [f"{name}={value}" for name, value in entry.items() if name != "time" and name not in _NOT_SHOWN]
    return f"{entry['time']} <{entry['PRIORITY']}> {entry['MESSAGE']}" + (f" [{' '.join(shown)}]" if shown else "")
