"""The verbs of featurekeyctl that show what is going on, and those that ask as a telephony system would."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .call import LICENSE, MANAGE
from .callstate import explain_call
from .console import agreed, clean, out, out_fields, out_json, span, user_name, warn_simulated
from .exits import DONE, REFUSED
from .limits import application_text, dialed_text, holder_text, key_text, place_text
from .proving import status_fields
from .reading import member, needed, objects
from .session import Session, examples, json_option
from .tables import Column, out_table
from .usage import GROUPINGS, sums, with_limits
from .wantsyntax import Want, parse_wants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _read_wants(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[Want, ...]:
    """FEATURE or FEATURE:N on the command line."""
    try:
        return parse_wants(texts) if texts else ()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _carried(read: Callable[[str], str | None]) -> Callable[..., str | None]:
    """A name on the command line as the library carries it, so that the tool finds the library's leases."""

    def carry(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return carry


_APPLICATION = _carried(partial(application_text, "--application"))
_MODE = _carried(partial(application_text, "--mode"))
_HOLDER = _carried(holder_text)
_KEY = _carried(key_text)
_PORT = _carried(partial(place_text, "port"))
_PORT_FILTER = _carried(lambda text: place_text("port", text) or text)
"""An empty one stays: a list of everything is not what was asked for."""
_RANK = _carried(partial(application_text, "--rank"))
_CHANNEL = _carried(partial(place_text, "channel"))
_DIALED = _carried(dialed_text)


def _question_options(verb: Callable[..., int], *, named: bool = True) -> Callable[..., int]:
    """The arguments that acquire and explain have in common; `named` where a holder and a key must be."""
    options = [
        click.argument("wants", nargs=-1, callback=_read_wants, metavar="FEATURE[:N]..."),
        click.option("--application", callback=_APPLICATION, help="Instead of features, e.g. phone-manager."),
        click.option("--mode", callback=_MODE, help="Its best mode that is wanted; the first when left out."),
        click.option("--holder", required=named, callback=_HOLDER, help="Name of the telephony system, e.g. kamailio."),
        click.option("--key", required=named, callback=_KEY, help="Name of the call: for SIP, Call-ID and From-tag."),
        click.option("--port", callback=_PORT, help="Port, e.g. trunk:carrier-a."),
        click.option("--channel", callback=_CHANNEL, help="Channel on that port, e.g. 7."),
        click.option("--class", "call_class", type=click.Choice(["normal", "emergency", "callback"]), help="Class."),
        click.option("--dialed", callback=_DIALED, help="Dialed number; emergency numbers are always allowed."),
        click.option("--phase", type=click.Choice(["setup", "established"]), help="Where the call stands."),
        click.option("--wait", is_flag=True, default=None, help="Wait in order where instances are all that it lacks."),
        click.option(
            "--rank", callback=_RANK, help="Rank in the waiting order, as the catalog names it, e.g. dect-handset."
        ),
    ]
    for option in reversed(options):
        verb = option(verb)
    return verb


def _request(wants: tuple[Want, ...], call_class: str | None, others: Mapping[str, Any]) -> dict[str, Any]:
    application = others["application"]
    if (application is None) is not bool(wants):
        raise click.UsageError("name either features or --application")
    if application is None and others["mode"] is not None:
        raise click.UsageError("--mode goes with --application")
    return {**others, "wants": [want.on_wire() for want in wants], "class": call_class}


@click.command(
    short_help="Take instances, as a telephony system does.",
    epilog=examples(
        "featurekeyctl acquire sip-trunk-channels --holder test --key night-test",
        "featurekeyctl acquire sip-trunk-channels:2 voicemail-channels --holder test --key t2 --port trunk:carrier-a",
        "featurekeyctl acquire --application phone-manager --mode pro --holder desk --key pc-17",
    ),
)
@_question_options
@json_option
@click.pass_obj
def acquire(session: Session, /, wants: tuple[Want, ...], call_class: str | None, **others: str | None) -> int:
    """Take instances of one or several features under a key, all of them or none; or what an application's mode takes.

    Exit status 0 when allowed, 1 when denied. What was taken stays taken until `release`.
    """
    reply = session.ask(f"{LICENSE}.Acquire", **_request(wants, call_class, others))
    return _show_decision(session, reply)


@click.command(
    short_help="Say what would be answered, and why; or how a call stands.",
    epilog=examples(
        "featurekeyctl explain sip-trunk-channels --holder kamailio --key test --port trunk:carrier-a",
        "featurekeyctl explain --call a84b4c76e66710@pc33.example.com",
        "featurekeyctl explain --call 1700000000.12 --holder asterisk",
    ),
)
@click.option("--call", callback=_KEY, metavar="ID", help="A call in progress: Call-ID, whole key or uniqueid.")
@partial(_question_options, named=False)
@json_option
@click.pass_obj
def explain(session: Session, /, call: str | None, call_class: str | None, **others: Any) -> int:
    """Say what `acquire` would be answered, step by step; nothing is changed.

    With --call, show a call in progress instead: who holds it, on which port and channel, in which phase, what it
    holds, which licenses cover that, and what it has given back. Several calls that go by the name are all shown.

    Exit status 0 when it would be allowed, or the call is there; 1 when denied, or no call goes by the name.
    """
    wants: tuple[Want, ...] = others.pop("wants")
    if call is not None:
        if wants or call_class or any(value is not None for name, value in others.items() if name != "holder"):
            raise click.UsageError("--call takes --holder beside it and nothing else")
        return explain_call(session, call, others["holder"])
    for name in ("holder", "key"):
        if others[name] is None:
            raise click.UsageError(f"Missing option '--{name}', or --call for a call in progress.")
    reply = session.ask(f"{LICENSE}.Explain", **_request(wants, call_class, others))
    if not session.as_json:
        columns = [Column(heading) for heading in ("STEP", "SUBJECT", "RESULT", "FINDING")]
        rows = [_step_row(step) for step in objects(reply, "steps")]
        out_table(columns, rows, empty="the daemon named no steps")
    return _show_decision(session, reply)


def _step_row(step: Mapping[str, Any]) -> list[object]:
    result = "passed" if needed(step, "passed", bool) else "STOPPED"
    return [step.get("step"), step.get("subject"), result, step.get("finding")]


def _show_decision(session: Session, reply: Mapping[str, Any]) -> int:
    allowed = needed(reply, "allowed", bool)
    if session.as_json:
        out_json(reply)
    else:
        out("\n".join(_decision_lines(reply, allowed=allowed)))
    return DONE if allowed else REFUSED


def _decision_lines(reply: Mapping[str, Any], *, allowed: bool) -> list[str]:
    lines = [f"{'allowed' if allowed else 'DENIED'}: {clean(reply.get('reason'))}{_count(reply)}"]
    if reply.get("mode") is not None:
        lines.append(f"  runs in mode {clean(reply['mode'])}")
    lines += [f"  {clean(reply[name])}" for name in ("message", "remedy") if reply.get(name) is not None]
    if reply.get("place") is not None:
        lines.append(f"  waits as number {clean(reply['place'])}; ask again within 150 s to keep the place")
    if reply.get("fallback") is not None:
        lines.append(f"  may run as {clean(reply['fallback'])} instead")
    return lines + _grace_lines(reply)


def _count(reply: Mapping[str, Any]) -> str:
    if reply.get("feature") is None:
        return ""
    # Of these reasons limit and count are a port's or a user's, as the message says.
    measured = reply.get("limit") is not None and reply.get("reason") not in {"ceiling_reached", "too_many_leases"}
    count = f", {reply.get('in_use')} of {reply.get('limit')} in use" if measured else ""
    return clean(f", {reply['feature']}{count}")


def _grace_lines(reply: Mapping[str, Any]) -> list[str]:
    return [
        f"  GRACE {clean(grace.get('cause'))}: {span(needed(grace, 'seconds_left', int))} left, "
        f"then {clean(grace.get('consequence'))}; {clean(grace.get('remedy'))}"
        for grace in objects(reply, "grace")
    ]


@click.command(
    short_help="Give back what a key holds.",
    epilog=examples(
        "featurekeyctl release --holder test --key night-test",
        "featurekeyctl release --holder kamailio --key 'a84b4c76e66710@host;from=314' --force",
        "featurekeyctl release --holder kamailio --key 'a84b4c76e66710@host;from=314' --force --yes",
    ),
)
@click.option("--holder", required=True, callback=_HOLDER, help="Name of the telephony system, e.g. kamailio.")
@click.option("--key", required=True, callback=_KEY, help="Name of the call, as shown by `featurekeyctl leases`.")
@click.option("--force", is_flag=True, help="Free it in place of its holder; needs the permission to manage.")
@click.option("--yes", is_flag=True, help="With --force: do not ask first, as a terminal is.")
@json_option
@click.pass_obj
def release(session: Session, holder: str, key: str, *, force: bool, yes: bool) -> int:
    """Give back what a key holds; to give back what is not held is no error.

    With --force a lease is freed whose holder will not free it, such as that of a switch that is no more. A call that
    goes on all the same is then counted no more, until its holder names it again. The log tells who did it. On a
    terminal you are asked first; exit status 1 when you say no.
    """
    if force and not yes and not agreed(f"Free {clean(key)} in place of {clean(holder)}, whose call may still go on?"):
        out("nothing was done")
        return REFUSED
    method = f"{MANAGE}.ReleaseLease" if force else f"{LICENSE}.Release"
    reply = session.ask(method, holder=holder, key=key)
    released = needed(reply, "released", bool)
    if session.as_json:
        out_json(reply)
    else:
        by = f"; the log names {user_name()}" if force else ""
        out(f"released{by}" if released else f"nothing to do: {clean(holder)} holds nothing under this key")
    return DONE


@click.command(short_help="The state of the whole system.", epilog=examples("featurekeyctl status"))
@json_option
@click.pass_obj
def status(session: Session) -> int:
    """Show the state of the whole system: standing, grace, Feature Key, who uses it."""
    reply = session.ask(f"{LICENSE}.Status")
    if session.as_json:
        out_json(reply)
        return DONE
    if reply.get("simulated"):
        warn_simulated()
    out_fields(_status_fields(reply))
    if lines := _grace_lines(reply) + _over_use_lines(reply) + _alarm_lines(reply):
        out("\n".join(lines))
    out("")
    _show_holders(objects(reply, "holders"))
    return DONE


def _status_fields(reply: Mapping[str, Any]) -> list[tuple[str, object]]:
    feature_key = needed(reply, "feature_key", dict)
    number, date = reply.get("list_number"), reply.get("list_date")
    return [
        ("Standing", needed(reply, "standing", str)),
        ("Feature Key", f"{feature_key.get('state')}: {feature_key.get('finding')}"),
        ("Simulated", "YES" if reply.get("simulated") else "no"),
        ("Serial", reply.get("serial")),
        ("Edition", reply.get("edition")),
        ("Catalog", f"{reply.get('catalog')} on {reply.get('platform')}"),
        ("License list", "none" if number is None else f"{number} of {date}"),
        ("Leases", needed(reply, "leases", int)),
        ("Granted, denied", f"{reply.get('granted')}, {reply.get('denied')}"),
        ("Emergency calls", _emergency_calls(reply)),
        *status_fields(reply),
        ("Version", reply.get("version")),
        ("Running for", span(needed(reply, "uptime_seconds", int))),
    ]


def _emergency_calls(reply: Mapping[str, Any]) -> str:
    calls = f"{reply.get('emergency_now')} now, {reply.get('emergency_total')} in all"
    return f"{calls}, {reply.get('emergency_claims')} of them to numbers that are not listed"


def _over_use_lines(reply: Mapping[str, Any]) -> list[str]:
    return [_over_use_line(*(clean(it.get(name)) for name in _OVER_USE)) for it in objects(reply, "over_use")]


def _alarm_lines(reply: Mapping[str, Any]) -> list[str]:
    return [
        f"  NEARLY FULL {clean(it.get('feature') or it.get('port'))}: {clean(it.get('in_use'))} of "
        f"{clean(it.get('limit'))} in use, for {span(needed(it, 'seconds', int))}; see featurekeyctl history"
        for it in objects(reply, "alarms")
    ]


_OVER_USE = ("feature", "in_use", "over", "limit")


def _over_use_line(feature: str, in_use: str, over: str, limit: str) -> str:
    count = f"{in_use} in use, {over} above the limit of {limit}"
    return f"  OVER-USE {feature}: {count}; none is cut, new ones are refused until fewer are in use"


def _show_holders(holders: list[dict[str, Any]]) -> None:
    headings = ("UID", "LEASES", "SILENT", "DRIFT", "CHANNEL DRIFT", "LAST DRIFT")
    columns = [Column("HOLDER")] + [Column(heading, number=True) for heading in headings]
    out_table(columns, [_holder_row(row) for row in holders], empty="no telephony system has asked yet")


def _holder_row(row: Mapping[str, Any]) -> list[object]:
    drifted = member(row, "drift_seconds", int)
    ago = None if drifted is None else f"{span(drifted)} ago"
    counts = [row.get("drift"), row.get("channel_drift"), ago]
    return [row.get("holder"), row.get("uid"), row.get("leases"), span(needed(row, "silent_seconds", int)), *counts]


@click.command(short_help="Who asks, and how far its lists differ.", epilog=examples("featurekeyctl holders"))
@json_option
@click.pass_obj
def holders(session: Session) -> int:
    """List the telephony systems that ask: how much they hold, how long they are silent, and how often they drifted.

    Drift counts the lists that differed from what was held, channel drift the calls that began on a channel that was
    still held: a switch that forgets to give back.
    """
    found = objects(session.ask(f"{LICENSE}.Status"), "holders")
    if session.as_json:
        out_json({"holders": found})
    else:
        _show_holders(found)
    return DONE


@click.command(short_help="Ports with a ceiling, and the calls on them.", epilog=examples("featurekeyctl ports"))
@json_option
@click.pass_obj
def ports(session: Session) -> int:
    """List the ports that the settings give a ceiling, with the calls on each now and at most since the start."""
    found = objects(session.ask(f"{LICENSE}.Status"), "ports")
    if session.as_json:
        out_json({"ports": found})
        return DONE
    numbers = ("ceiling", "in_use", "peak", "over")
    columns = [Column("PORT"), *(Column(name.upper().replace("_", " "), number=True) for name in numbers)]
    rows = [[row.get("port"), *(row.get(name) for name in numbers)] for row in found]
    out_table(columns, rows, empty="no port has a ceiling; give it one in featurekeyd.toml under [ceilings]")
    return DONE


@click.command(
    short_help="Who holds what.", epilog=examples("featurekeyctl leases", "featurekeyctl leases --port trunk:carrier-a")
)
@click.option("--holder", callback=_HOLDER, help="Only leases of this telephony system.")
@click.option("--feature", help="Only leases of this feature.")
@click.option("--port", callback=_PORT_FILTER, help="Only leases on this port.")
@json_option
@click.pass_obj
def leases(session: Session, holder: str | None, feature: str | None, port: str | None) -> int:
    """List the leases: who holds what, since when, on which port and channel."""
    found = session.collect(f"{LICENSE}.ListLeases", "lease", holder=holder, feature=feature, port=port)
    if session.as_json:
        out_json({"leases": found})
        return DONE
    columns = [Column(name) for name in ("HOLDER", "KEY", "WANTS", "PORT", "CHANNEL", "SCOPE", "CLASS")]
    out_table([*columns, Column("AGE", number=True)], [_lease_row(row) for row in found], empty="no leases")
    return DONE


def _lease_row(lease: Mapping[str, Any]) -> list[object]:
    wants = " ".join(f"{want.get('feature')}:{want.get('instances', 1)}" for want in objects(lease, "wants"))
    names = ("port", "channel", "scope", "class")
    age = member(lease, "age_seconds", int)
    places = [lease.get(name) for name in names]
    return [lease.get("holder"), lease.get("key"), wants, *places, None if age is None else span(age)]


@click.command(short_help="What may be used, and how much is in use.", epilog=examples("featurekeyctl features"))
@json_option
@click.pass_obj
def features(session: Session) -> int:
    """List every feature of the catalog with its limit, what is in use, and why nothing is allowed where it is not.

    Columns that only some systems need stand where a feature has something in them: instances above the capacity
    (SURPLUS), set aside (RESERVED) or above the limit (OVER), hours and the like (MEASURES), what its licenses wait
    for, and why this system does not use it.
    """
    reply = session.ask(f"{LICENSE}.ListFeatures")
    if session.as_json:
        out_json(reply)
        return DONE
    found = [row | {name: read(row) for name, read in _IN_WORDS.items()} for row in objects(reply, "features")]
    names = [name for name in _OF_FEATURE if name not in _WHERE_THERE or any(row.get(name) for row in found)]
    columns = [Column(_HEADING.get(name, name.upper().replace("_", " ")), name in _NUMBERS) for name in names]
    out_table(columns, [[row.get(name) for name in names] for row in found], empty="the catalog has no features")
    return DONE


def _measures(row: Mapping[str, Any]) -> str | None:
    """The second quantities of a feature, such as hours."""
    return " ".join(f"{it.get('name')}:{it.get('amount')}" for it in objects(row, "measures")) or None


_IN_WORDS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "measures": _measures,
    "missing": lambda row: " ".join(row.get("missing") or ()) or None,
}
_COUNTS = ("limit", "in_use", "over", "peak", "base", "licensed", "capacity", "surplus", "reserved")
_NUMBERS = (*_COUNTS, "granted", "denied")
_OF_FEATURE = ("feature", *_NUMBERS, "unit", "mode", "measures", "lack", "missing", "unused")
_WHERE_THERE = frozenset({"over", "surplus", "reserved", "measures", "missing", "unused"})
"""Columns that are shown where a feature has something in them."""
_HEADING = {"missing": "WAITS FOR"}


@click.command(
    short_help="Sums by feature, holder, port or channel.",
    epilog=examples("featurekeyctl usage", "featurekeyctl usage --by port"),
)
@click.option("--by", type=click.Choice(list(GROUPINGS)), default="feature", show_default=True, help="Sum by this.")
@json_option
@click.pass_obj
def usage(session: Session, by: str) -> int:
    """Sum up what is in use by feature, holder, port or channel; emergency calls are listed and never summed."""
    rows = sums(session.collect(f"{LICENSE}.ListLeases", "lease"), by)
    names = (*GROUPINGS[by], "leases", "instances")
    if by == "feature":
        rows = with_limits(rows, objects(session.ask(f"{LICENSE}.ListFeatures"), "features"))
        names += ("limit", "free", "peak", "granted", "denied")
    if session.as_json:
        out_json({"by": by, "rows": rows})
        return DONE
    columns = [Column(name.upper(), number=name not in GROUPINGS[by]) for name in names]
    out_table(columns, [[row[name] for name in names] for row in rows], empty="nothing is in use")
    return DONE


@click.command(
    short_help="Show events as they happen.",
    epilog=examples("featurekeyctl watch", "featurekeyctl watch --decisions", "featurekeyctl watch --json | jq ."),
)
@click.option("--decisions", is_flag=True, help="Also show every decision.")
@json_option
@click.pass_obj
def watch(session: Session, *, decisions: bool) -> int:
    """Show events as they happen, until Ctrl-C; with --json one object on each line."""
    for reply in session.each(f"{LICENSE}.Watch", endless=True, decisions=decisions):
        event, lost = member(reply, "event", dict), member(reply, "lost", int)
        if session.as_json and (event is not None or lost):
            out_json(reply)
        elif not session.as_json:
            _show_event(event, lost or 0)
    return DONE


def _show_event(event: Mapping[str, Any] | None, lost: int) -> None:
    if lost:
        out(f"({lost} events lost: they came faster than they could be shown)")
    if event is None:
        return
    words = [event.get("time"), event.get("kind")]
    allowed = member(event, "allowed", bool)
    if allowed is not None:
        words += ["allowed" if allowed else "DENIED", event.get("reason"), event.get("holder"), event.get("key")]
    out("  ".join(clean(word) for word in [*words, event.get("message")] if word is not None) + _count(event))
