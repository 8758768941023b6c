"""The verbs of featurekeyctl about trust over time: checks, rescue codes, the host, the clock.

Rule: a rescue code is written nowhere; who does not want it in the shell's history leaves it out and is asked for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .call import LICENSE, MANAGE
from .console import clean, out, out_fields, out_json, read_line, read_text, span, warn_simulated, write_new
from .exits import DONE, REFUSED
from .reading import member, needed, objects
from .session import Session, examples, json_option
from .tables import Column, out_table

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command(
    short_help="Check all that can be verified, or ask the vendor.",
    epilog=examples(
        "featurekeyctl check",
        "featurekeyctl check --request check.txt",
        "featurekeyctl check --import answer.txt",
    ),
)
@click.option(
    "--request", "new_file", is_flag=False, flag_value="-", metavar="[FILE]",
    help="Write a request to send the vendor: to a new file, or to standard output.",
)  # fmt: skip
@click.option("--import", "answer", metavar="FILE", help="Take the vendor's answer; - for standard input.")
@json_option
@click.pass_obj
def check(session: Session, new_file: str | None, answer: str | None) -> int:
    """Check Feature Key, signatures, host, date and state now; exit status 1 when something does not hold.

    A check is made every three hours anyway. With --request the vendor is asked, by mail: the answer to that very
    request comes in with --import.
    """
    if new_file is not None and answer is not None:
        raise click.UsageError("--request and --import are two steps: send the request, then import the answer")
    if new_file is not None:
        return _request(session, new_file)
    if answer is not None:
        return _show_finding(session, session.ask(f"{MANAGE}.ImportCheck", text=read_text(answer)))
    return _check(session)


def _request(session: Session, new_file: str) -> int:
    reply = session.ask(f"{MANAGE}.RequestCheck")
    text = needed(reply, "text", str)
    if new_file != "-":
        write_new(new_file, text)
    if session.as_json:
        out_json(reply)
    elif new_file == "-":
        # Line by line, since the text is sent on as it stands.
        out("\n".join(clean(line) for line in text.splitlines()))
    else:
        out(f"written to {clean(new_file)}; send it to the vendor, and then: featurekeyctl check --import ANSWER")
    return DONE


def _check(session: Session) -> int:
    reply = session.ask(f"{MANAGE}.CheckNow")
    passed = needed(reply, "passed", bool)
    if session.as_json:
        out_json(reply)
        return DONE if passed else REFUSED
    if reply.get("simulated"):
        warn_simulated()
    columns = [Column("ITEM"), Column("RESULT"), Column("FINDING")]
    found = objects(reply, "findings")
    out_table(columns, [[it.get("item"), _result(it), it.get("message")] for it in found], empty="nothing was checked")
    cures = [f"  {clean(it.get('item'))}: {clean(it['remedy'])}" for it in found if it.get("remedy") is not None]
    out("\n".join(["the check passed" if passed else "the check FAILED", *cures]))
    return DONE if passed else REFUSED


def _result(finding: Mapping[str, Any]) -> str:
    if not needed(finding, "good", bool):
        return "FAILED"
    return "warning" if finding.get("warning") else "good"


@click.command(
    short_help="Open the system with a code from the vendor.",
    epilog=examples("featurekeyctl rescue", "featurekeyctl rescue 4Q7K-AB1D-9XYZ-0123-4567-89AB-CDEF-GHJK"),
)
@click.argument("code", nargs=-1)
@json_option
@click.pass_obj
def rescue(session: Session, code: tuple[str, ...]) -> int:
    """Open a system whose Feature Key has failed for seven days, with the code that the vendor reads out.

    Upper or lower case, with or without dashes and blanks. Left out, it is asked for, and stays out of the shell's
    history. A code is good once, for the date of this host and a day before or after.
    """
    typed = " ".join(code) if code else read_line("Rescue code: ")
    if not typed.strip():
        raise click.UsageError("no rescue code was given")
    reply = session.ask(f"{MANAGE}.Rescue", code=typed.strip().encode("utf-8", "replace").decode())
    left = needed(reply, "seconds_left", int)
    status = _show_finding(session, reply)
    if left and not session.as_json:
        out(f"  open for {span(left)}")
    return status


@click.group(
    invoke_without_command=True,
    short_help="The host that the licenses are bound to.",
    epilog=examples("featurekeyctl host", "featurekeyctl host enroll", "featurekeyctl host change-address 192.0.2.10"),
)
@json_option
@click.pass_context
def host(context: click.Context) -> int:
    """Show each part of the host as it was enrolled and as it is now, and the score; exit status 1 when it changed."""
    if context.invoked_subcommand is not None:
        return DONE
    session: Session = context.obj
    reply = session.ask(f"{MANAGE}.GetHost")
    verdict = needed(reply, "verdict", str)
    if session.as_json:
        out_json(reply)
    else:
        _show_host(reply)
    return REFUSED if verdict == "changed" else DONE


def _show_host(reply: Mapping[str, Any]) -> None:
    if reply.get("simulated"):
        out("this host is SIMULATED: a folder stands in for it")
    names = ("name", "weight", "state", "enrolled", "now")
    columns = [Column("PART"), Column("WEIGHT", number=True), Column("STATE"), Column("ENROLLED"), Column("NOW")]
    rows = [[it.get(name) or ("-" if name in {"enrolled", "now"} else it.get(name)) for name in names]
            for it in objects(reply, "parts")]  # fmt: skip
    out_table(columns, rows, empty="no part of this host counts")
    out("")
    _show_nics(objects(reply, "nics"))
    out("")
    out_fields(_host_fields(reply))


def _show_nics(nics: list[dict[str, Any]]) -> None:
    rows = [
        [f"{it.get('name')}{' (primary)' if it.get('primary') else ''}", it.get("permanent"),
         " ".join(map(str, it.get("addresses") or ())) or None, it.get("skipped")]
        for it in nics
    ]  # fmt: skip
    columns = [Column("INTERFACE"), Column("PERMANENT"), Column("ADDRESSES"), Column("NOT COUNTED")]
    out_table(columns, rows, empty="this host has no network interface")


def _host_fields(reply: Mapping[str, Any]) -> list[tuple[str, object]]:
    score = f"{reply.get('kept')} of {reply.get('total')} points kept, {reply.get('needed')} needed"
    fields: list[tuple[str, object]] = [
        ("Host", f"{reply.get('verdict')}: {reply.get('why')}"),
        ("Score", f"{score}, {reply.get('lost')} lost, {reply.get('unknown')} unknown"),
        ("A change", "counts" if reply.get("binds") else "is told, and nothing follows: the Feature Key decides"),
    ]
    if reply.get("binds_addresses"):
        fields.append(("Addresses bound", " ".join(reply.get("addresses_bound") or ()) or "none yet"))
        fields.append(("Addresses now", " ".join(reply.get("addresses_now") or ()) or "none"))
    if reply.get("announced") is not None:
        left = span(needed(reply, "announced_seconds_left", int))
        fields.append(("Announced", f"{reply['announced']}, good for {left}"))
    if reply.get("changed_on") is not None:
        days = reply.get("window_days_left")
        fields.append(("Changed since", f"{reply['changed_on']}; host enroll cures it for {days} days more"))
    enrolled = f"{reply.get('enrolled_on')}, again by command {reply.get('renewals')} of {reply.get('max_renewals')}"
    fields.append(("Enrolled", enrolled if reply.get("enrolled_on") is not None else "not yet"))
    if reply.get("container") is not None:
        fields.append(("Container", reply.get("container")))
    return [*fields, ("Hardware id", reply.get("hardware_id"))]


@host.command(
    short_help="Enroll the host as it is now.",
    epilog=examples("featurekeyctl host enroll", "featurekeyctl host enroll --permit permit.txt"),
)
@click.option("--permit", metavar="FILE", help="The vendor's signed permit; - for standard input.")
@json_option
@click.pass_obj
def enroll(session: Session, permit: str | None) -> int:
    """Enroll the host as it is now, after hardware was replaced; exit status 1 when it is not done.

    Without a permit this works for 30 days after the change, as long as something unique of the host is left, and three
    times. The log names who did it.
    """
    text = None if permit is None else read_text(permit)
    return _show_finding(session, session.ask(f"{MANAGE}.EnrollHost", permit=text))


@host.command(
    "change-address",
    short_help="Announce another address of this host.",
    epilog=examples("featurekeyctl host change-address 192.0.2.10"),
)
@click.argument("new")
@json_option
@click.pass_obj
def change_address(session: Session, new: str) -> int:
    """Announce the address NEW, which the host may then have within 24 hours.

    The network itself is changed with its own tools. A change that nobody announced may be announced afterwards. The
    log names who did it.
    """
    return _show_finding(session, session.ask(f"{MANAGE}.AnnounceAddress", address=new))


@click.group(
    invoke_without_command=True,
    short_help="What the clock of this host is good for.",
    epilog=examples("featurekeyctl clock", "featurekeyctl clock repair"),
)
@json_option
@click.pass_context
def clock(context: click.Context) -> int:
    """Say whether the clock of this host is believed; exit status 1 when it was set back or is far ahead."""
    if context.invoked_subcommand is not None:
        return DONE
    session: Session = context.obj
    state = needed(session.ask(f"{LICENSE}.Status"), "clock", str)
    if session.as_json:
        out_json({"clock": state})
    else:
        out(f"{clean(state)}: {_CLOCK.get(state, 'see journalctl -u featurekeyd')}")
    return REFUSED if state in {"set_back", "ahead"} else DONE


_CLOCK = {
    "right": "the clock is believed",
    "set_back": "it stands more than an hour before what it has been, and licenses with a date go by the later time. "
    "Set it (timedatectl); if it was ahead before and is right now: featurekeyctl clock repair",
    "ahead": "it is more than two days ahead of what the time explains that has passed here. Set it (timedatectl); if "
    "it is right and this host was off for long: featurekeyctl clock repair",
    "unset": "it was never set since the start (timedatectl); dates wait for the right time, and nothing is lost",
}


@clock.command(short_help="Believe the clock from now on.", epilog=examples("featurekeyctl clock repair"))
@json_option
@click.pass_obj
def repair(session: Session) -> int:
    """Believe the clock as it is now, after it had been ahead or the host was off; the log names who did it.

    It is never believed to be before what the vendor's documents prove.
    """
    return _show_finding(session, session.ask(f"{MANAGE}.RepairClock"))


def _show_finding(session: Session, reply: Mapping[str, Any]) -> int:
    finding = needed(reply, "finding", dict)
    accepted = needed(finding, "accepted", bool)
    if session.as_json:
        out_json(reply)
        return DONE if accepted else REFUSED
    position = member(finding, "position", int)
    where = "" if position is None else f" (character {position})"
    said = [f"{clean(finding.get('verdict'))}{where}: {clean(finding.get('message'))}"]
    said += [f"  {clean(finding['remedy'])}"] if finding.get("remedy") is not None else []
    out("\n".join(said))
    return DONE if accepted else REFUSED


def status_fields(reply: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Clock, host, checks and rescue code for `featurekeyctl status`, as far as the daemon tells of them."""
    fields: list[tuple[str, object]] = [
        (name, reply.get(key)) for name, key in (("Clock", "clock"), ("Host", "host")) if reply.get(key) is not None
    ]
    if reply.get("clock") is not None:
        fields.append(("Last check", _last_check(reply)))
    left = member(reply, "rescue_seconds_left", int)
    return fields if left is None else [*fields, ("Rescue", f"a rescue code holds it open for {span(left)}")]


def _last_check(reply: Mapping[str, Any]) -> str:
    passed, ago = member(reply, "check_passed", bool), member(reply, "check_seconds", int)
    due = member(reply, "check_due_seconds", int)
    last = "none since the start" if passed is None else "passed" if passed else "FAILED (featurekeyctl check)"
    last += "" if ago is None else f", {span(ago)} ago"
    return last if due is None else f"{last}; the next in {span(due)}"
