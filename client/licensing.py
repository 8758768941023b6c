"""The verbs of featurekeyctl for the Feature Key and the licenses on it.

Rule: a whole license key is written only back to the person who typed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .call import LICENSE, MANAGE, PermissionRefused
from .console import clean, complain, out, out_fields, out_json, read_line, read_text, warn_simulated, write_new
from .exits import DONE, REFUSED
from .keytext import mark, shown
from .reading import needed, objects
from .session import Session, examples, json_option
from .tables import Column, out_table

if TYPE_CHECKING:
    from collections.abc import Mapping

Finding = dict[str, Any]


@click.command(short_help="Look at the Feature Key now.", epilog=examples("featurekeyctl key"))
@json_option
@click.pass_obj
def key(session: Session) -> int:
    """Look at the Feature Key now and say what is there.

    Exit status 0 when a key is present, 1 when not. Without the permission to look, the result of the daemon's own
    last look is shown.
    """
    status = session.ask(f"{LICENSE}.Status")
    found, looked = _look(session, status)
    present = needed(found, "state", str) == "present"
    if session.as_json:
        out_json(found | {name: status.get(name) for name in ("serial", "standing")} | {"looked_now": looked})
        return DONE if present else REFUSED
    if found.get("simulated"):
        warn_simulated()
    out_fields(
        [
            ("Feature Key", f"{found['state']}{' (SIMULATED)' if found.get('simulated') else ''}"),
            ("Finding", found.get("finding")),
            ("Reader", found.get("reader")),
            ("Kind", found.get("kind")),
            ("Hardware id", found.get("hardware_id")),
            ("Assurance", found.get("assurance")),
            ("Serial", status.get("serial")),
            ("Standing", status.get("standing")),
            ("Looked", "just now" if looked else "at the daemon's last turn (no permission to look now)"),
        ]
    )
    return DONE if present else REFUSED


def _look(session: Session, status: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What the key's state is, and whether it was looked at just now."""
    try:
        return session.ask(f"{MANAGE}.CheckNow"), True
    except PermissionRefused:
        return needed(status, "feature_key", dict), False


@click.command(
    short_help="Write the text to send the vendor.",
    epilog=examples("featurekeyctl request", "featurekeyctl request --output request.txt"),
)
@click.option("--output", metavar="FILE", help="Write the text to this new file instead of standard output (-).")
@json_option
@click.pass_obj
def request(session: Session, output: str | None) -> int:
    """Write what the vendor needs to know to certify this system.

    Send the text to the vendor; the certificate that comes back goes in with `certificate import`.
    """
    new_file = None if output == "-" else output
    reply = session.ask(f"{MANAGE}.Request")
    text = needed(reply, "text", str)
    if reply.get("simulated"):
        warn_simulated()
    if new_file is not None:
        write_new(new_file, text)
    if session.as_json:
        out_json(reply)
    elif new_file is None:
        # Line by line, since the text is sent on as it stands.
        out("\n".join(clean(line) for line in text.splitlines()))
    else:
        out(f"written to {clean(new_file)}; send this file to the vendor")
    return DONE


@click.group(short_help="The vendor's certificate of the Feature Key.")
def certificate() -> None:
    """The vendor's certificate of the Feature Key."""


@certificate.command(
    "import",
    short_help="Take the certificate of the key that is there.",
    epilog=examples(
        "featurekeyctl certificate import certificate.txt", "featurekeyctl certificate import - < certificate.txt"
    ),
)
@click.argument("file")
@json_option
@click.pass_obj
def import_certificate(session: Session, file: str) -> int:
    """Take the vendor's certificate of the Feature Key that is plugged in; FILE may be - for standard input.

    When a Feature Key was exchanged, the vendor's file holds the certificate and the license list of the new one:
    both are taken, or neither.
    """
    reply = session.ask(f"{MANAGE}.ImportCertificate", text=read_text(file))
    status = _show_finding(session, reply)
    of_list = objects(reply, "list_findings")
    if not session.as_json:
        _show_findings(of_list, "")
    return status if all(map(_is_fine, of_list)) else REFUSED


@click.command(
    "import",
    short_help="Take a license list or a CSV of license keys.",
    epilog=examples(
        "featurekeyctl import licenses.csv --dry-run",
        "featurekeyctl import licenses.csv --all-or-nothing",
        "featurekeyctl import - < mail.txt",
    ),
)
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken; change nothing.")
@click.option("--all-or-nothing", is_flag=True, help="Take a plain CSV only when every line of it is good.")
@json_option
@click.pass_obj
def import_list(session: Session, file: str, *, dry_run: bool, all_or_nothing: bool) -> int:
    """Take the vendor's signed license list, or a plain CSV (key first, name second); FILE may be -.

    Exit status 1 when the list or a line of it was not taken.
    """
    text = read_text(file)
    reply = session.ask(f"{MANAGE}.ImportList", text=text, dry_run=dry_run, all_or_nothing=all_or_nothing)
    findings = objects(reply, "findings")
    refused = [finding for finding in findings if not _is_fine(finding)]
    if session.as_json:
        out_json(reply)
    else:
        _show_findings(findings, text)
        good = len(findings) - len(refused)
        out(_summary(reply, good, len(refused), dry_run=dry_run, all_or_nothing=all_or_nothing))
    return DONE if needed(reply, "accepted", bool) and not refused else REFUSED


def _summary(reply: Mapping[str, Any], good: int, refused: int, *, dry_run: bool, all_or_nothing: bool) -> str:
    number = reply.get("list_number")
    taken = "taken" if reply.get("accepted") else "NOT taken"
    if dry_run:
        taken = "would be " + taken
    if number is not None:
        return f"license list {number} {taken}"
    if good and refused and not all_or_nothing:
        taken = taken.replace("NOT taken", "taken in part")
    return f"plain list {taken}: {good} good, {refused} refused"


@click.command(
    short_help="Enter one license key.",
    epilog=examples(
        "featurekeyctl add 4Q7K-AB1D-9XYZ-0123-4567-89AB-CDEF-GHJK",
        "featurekeyctl add 4q7k ab1d 9xyz 0123 4567 89ab cdef ghjk",
        "featurekeyctl add -",
    ),
)
@click.argument("key", nargs=-1, required=True)
@json_option
@click.pass_obj
def add(session: Session, key: tuple[str, ...]) -> int:
    """Enter one license key as it is printed: upper or lower case, with or without dashes and spaces.

    With - the key is read from standard input, so it stays out of the shell's history.
    """
    typed = _typed(key)
    return _show_finding(session, session.ask(f"{MANAGE}.AddLicense", key=typed), typed)


@click.command(
    short_help="Remove one license.", epilog=examples("featurekeyctl remove 4Q7K-AB1D", "featurekeyctl remove -")
)
@click.argument("key", nargs=-1, required=True)
@json_option
@click.pass_obj
def remove(session: Session, key: tuple[str, ...]) -> int:
    """Remove one license: give the whole key, or enough of its beginning to name it, or - for standard input.

    Calls in progress go on; only new ones find fewer instances.
    """
    typed = _typed(key)
    return _show_finding(session, session.ask(f"{MANAGE}.RemoveLicense", key=typed), typed)


@click.command(short_help="List the installed licenses.", epilog=examples("featurekeyctl licenses"))
@json_option
@click.pass_obj
def licenses(session: Session) -> int:
    """List the installed licenses with their status; keys are shortened to their first and last group."""
    found = session.collect(f"{MANAGE}.ListLicenses", "license")
    if session.as_json:
        out_json({"licenses": found})
        return DONE
    found = [row | {"trial": "trial" if row.get("trial") else None} for row in found]
    names = [
        name for name in _OF_LICENSE if name not in _WHERE_THERE or any(row.get(name) is not None for row in found)
    ]
    columns = [Column(name.upper().replace("_", " "), number=name in {"instances", "days_left"}) for name in names]
    rows = [[row.get(name) for name in names] for row in found]
    out_table(columns, rows, empty="no license is installed; enter one with: featurekeyctl add KEY")
    return DONE


_DATES = ("issued", "expires", "days_left", "trial")
_OF_LICENSE = ("key", "feature", "instances", "status", *_DATES, "source", "set", "finding")
_WHERE_THERE = frozenset({"days_left", "trial", "set"})
"""Columns that are shown where a license has something in them."""


@click.command(
    short_help="Write the licenses in whole, to keep them.",
    epilog=examples("featurekeyctl export --output licenses.csv", "featurekeyctl export --typed"),
)
@click.option("--typed", is_flag=True, help="The keys that were typed, as CSV, instead of the signed list.")
@click.option("--output", metavar="FILE", help="Write the text to this new file instead of standard output (-).")
@json_option
@click.pass_obj
def export(session: Session, output: str | None, *, typed: bool) -> int:
    """Write the signed license list as it was imported, or the keys that were typed; `import` takes both.

    Keep the file as you keep the Feature Key: it has the license keys in whole. Without a signed list the typed keys
    are written. Typed keys that the list does not have come with --typed only; where there are some you are told.
    """
    reply = session.ask(f"{MANAGE}.ExportLicenses")
    text, of_typed = reply.get("license_list"), needed(reply, "typed", str)
    if typed or not isinstance(text, str):
        text = of_typed
    elif not session.as_json:
        _tell_left_out(text, of_typed)
    if output not in {None, "-"}:
        write_new(str(output), text)
    if session.as_json:
        out_json(reply)
    elif output in {None, "-"}:
        out("\n".join(clean(line) for line in text.splitlines()))
    else:
        out(f"written to {clean(output)}")
    return DONE


def _tell_left_out(license_list: str, typed: str) -> None:
    """Say that typed keys which the list does not have are not in what is written."""
    keys = [line.partition(",")[0] for line in typed.splitlines()[1:]]
    left_out = sum(key not in license_list for key in keys)
    if left_out:
        what = "1 typed key is" if left_out == 1 else f"{left_out} typed keys are"
        complain(f"{what} not in this file; see --typed")


def _typed(arguments: tuple[str, ...]) -> str:
    typed = read_line("License key: ").strip() if arguments == ("-",) else " ".join(arguments)
    if not typed.strip():
        raise click.UsageError("no license key was given")
    # One sign for each byte that is not UTF-8, so that the daemon counts the characters as they are shown.
    return typed.encode("utf-8", "replace").decode()


def _is_fine(finding: Finding) -> bool:
    return needed(finding, "accepted", bool) or finding.get("verdict") == "already_there"


def _show_finding(session: Session, reply: Mapping[str, Any], typed: str = "") -> int:
    finding = needed(reply, "finding", dict)
    if session.as_json:
        out_json(reply)
    else:
        out("\n".join(_finding_lines(finding, typed)))
    return DONE if _is_fine(finding) else REFUSED


def _show_findings(findings: list[Finding], text: str) -> None:
    """The keys of good lines in one table; what is said of the whole list, or is wrong in a line, below it."""
    good = [finding for finding in findings if _is_fine(finding) and finding.get("key") is not None]
    if good:
        columns = [Column("LINE", number=True), Column("KEY"), Column("FEATURE"), Column("INSTANCES", number=True)]
        names = ("line", "key", "feature", "instances", "verdict")
        out_table([*columns, Column("VERDICT")], [[row.get(name) for name in names] for row in good], empty="")
    lines = text.splitlines()
    for finding in findings:
        if finding not in good:
            out("\n".join(_finding_lines(finding, _key_in_line(lines, finding.get("line")))))


def _key_in_line(lines: list[str], number: object) -> str:
    """The first field of a line, where the key stands; an empty text when there is no such line."""
    if not isinstance(number, int) or not 1 <= number <= len(lines):
        return ""
    return lines[number - 1].replace(";", ",").replace("\t", ",").split(",")[0].strip().strip('"')


def _finding_lines(finding: Finding, typed: str) -> list[str]:
    line = finding.get("line")
    where = "" if line is None else f"line {line}: "
    lines = [f"{where}{clean(finding.get('verdict'))}: {clean(finding.get('message'))}"]
    position = finding.get("position")
    if typed and isinstance(position, int):
        lines += [f"  {shown(typed)}", f"  {mark(typed, position)}"]
    if finding.get("suggestion") is not None:
        lines.append(f"  did you mean  {clean(finding['suggestion'])}")
    if finding.get("feature") is not None:
        lines.append(f"  {clean(finding['feature'])}, instances: {clean(finding.get('instances'))}")
    if finding.get("remedy") is not None:
        lines.append(f"  {clean(finding['remedy'])}")
    return lines
