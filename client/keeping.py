"""The verbs of featurekeyctl for what is kept: the audit, a backup of the state, and restoring it."""

from __future__ import annotations

import pwd
import re
from typing import TYPE_CHECKING, Any

import click

from .call import MANAGE
from .console import clean, out, out_fields, out_json, read_text, write_new
from .exits import DONE, REFUSED
from .reading import member, needed
from .session import Session, examples, json_option
from .tables import Column, out_table

if TYPE_CHECKING:
    from collections.abc import Mapping

_UID = re.compile(r"uid ([0-9]{1,10})")


@click.command(
    short_help="What was done to this system, and by whom.",
    epilog=examples("featurekeyctl audit", "featurekeyctl audit --last 20", "featurekeyctl audit --verify"),
)
@click.option("--verify", is_flag=True, help="Reckon every entry anew, and say whether the audit is sound.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N entries.")
@json_option
@click.pass_obj
def audit(session: Session, last: int | None, *, verify: bool) -> int:
    """List the administrative acts and changes of the standing, the oldest first.

    With --verify, exit status 1 when an entry is not as it was recorded. User names are those of today: recorded is the
    number.
    """
    if verify:
        return _verify(session)
    found = session.collect(f"{MANAGE}.ListAudit", "entry", after=_before_last(session, last))
    if session.as_json:
        out_json({"entries": found})
        return DONE
    columns = [Column("NUMBER", number=True), *map(Column, ("TIME", "WHO", "WHAT", "MESSAGE"))]
    rows = [
        [it.get("number"), it.get("time"), _named(it.get("who")), it.get("what"), it.get("message")] for it in found
    ]
    out_table(columns, rows, empty="nothing is recorded yet")
    return DONE


def _before_last(session: Session, last: int | None) -> int | None:
    if last is None:
        return None
    head = needed(session.ask(f"{MANAGE}.VerifyAudit"), "head_number", int)
    return max(head - last, 0)


def _named(who: object) -> str:
    """The user with the name that the number has here, where it has one."""
    found = _UID.fullmatch(str(who))
    try:
        return f"{who} ({pwd.getpwuid(int(found[1])).pw_name})" if found else str(who)
    except (KeyError, OverflowError):
        return str(who)


def _verify(session: Session) -> int:
    reply = session.ask(f"{MANAGE}.VerifyAudit")
    sound = needed(reply, "sound", bool)
    if session.as_json:
        out_json(reply)
    else:
        broken = member(reply, "broken_at", int)
        fields: list[tuple[str, object]] = [
            ("Audit", "sound" if sound else f"BROKEN at entry {broken}"),
            ("Finding", reply.get("finding")),
            ("Entries", reply.get("entries")),
            ("Head", f"{reply.get('head_number')} {reply.get('head_digest')}"),
        ]
        out_fields(fields)
    return DONE if sound else REFUSED


@click.command(short_help="Write a backup of the state.", epilog=examples("featurekeyctl backup featurekeyd.backup"))
@click.argument("file")
@json_option
@click.pass_obj
def backup(session: Session, file: str) -> int:
    """Write all that is stored but the leases to a new file: documents, licenses, drained time, reservations, audit.

    Keep it as you keep the Feature Key: it has the license keys in whole. FILE may be - for standard output.
    """
    reply = session.ask(f"{MANAGE}.Backup")
    text = needed(reply, "text", str)
    if file != "-":
        write_new(file, text)
    if session.as_json:
        out_json(reply if file == "-" else {name: value for name, value in reply.items() if name != "text"})
    elif file == "-":
        out("\n".join(clean(line) for line in text.splitlines()))
    else:
        serial = member(reply, "serial", str) or "no serial yet"
        out(f"written to {clean(file)}: {clean(serial)}, {reply.get('audit_entries')} entries of the audit")
    return DONE


@click.command(
    short_help="Merge a backup into the state.",
    epilog=examples("featurekeyctl restore featurekeyd.backup --dry-run", "featurekeyctl restore featurekeyd.backup"),
)
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Only say what would change; change nothing.")
@json_option
@click.pass_obj
def restore(session: Session, file: str, *, dry_run: bool) -> int:
    """Merge a backup of the same serial, or of any into a system that has no certificate; FILE may be -.

    Nothing goes back: drained time, used trials and rescues, and the number of the list stay where they have come to.
    Leases are not in a backup. Exit status 1 when it is not taken.
    """
    reply = session.ask(f"{MANAGE}.Restore", text=read_text(file), dry_run=dry_run)
    finding = needed(reply, "finding", dict)
    accepted = needed(finding, "accepted", bool)
    if session.as_json:
        out_json(reply)
    else:
        out("\n".join(_told(finding, reply, accepted=accepted)))
    return DONE if accepted else REFUSED


def _told(finding: Mapping[str, Any], reply: Mapping[str, Any], *, accepted: bool) -> list[str]:
    said = [f"{clean(finding.get('verdict'))}: {clean(finding.get('message'))}"]
    said += [f"  {clean(finding['remedy'])}"] if finding.get("remedy") is not None else []
    changes = member(reply, "changes", list) or []
    said += [f"  {clean(change)}" for change in changes]
    return [*said, "  nothing changes by it"] if accepted and not changes else said
