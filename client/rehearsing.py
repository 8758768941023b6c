"""The verbs of featurekeyctl that change nothing: what would be with other licenses, and whether a catalog is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .call import MANAGE
from .console import clean, out, out_json, read_text
from .exits import DONE, REFUSED
from .reading import needed, objects
from .session import Session, examples, json_option
from .tables import Column, out_table
from .wantsyntax import Want, parse_wants

if TYPE_CHECKING:
    from collections.abc import Mapping


def _read_orders(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[Want, ...]:
    """FEATURE or FEATURE:N on the command line, none of them too."""
    try:
        return parse_wants(texts) if texts else ()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group("catalog", short_help="Catalogs of what can be licensed.")
def catalog() -> None:
    """Catalogs of what can be licensed."""


@catalog.command(
    "check", short_help="Check a catalog file.", epilog=examples("featurekeyctl catalog check my-product.toml")
)
@click.argument("file")
@json_option
@click.pass_obj
def check(session: Session, file: str) -> int:
    """Check a catalog file and explain every mistake in it by its dotted key; FILE may be -.

    Exit status 1 when there is a mistake.
    """
    reply = session.ask(f"{MANAGE}.CheckCatalog", text=read_text(file), name=file)
    mistakes = objects(reply, "mistakes")
    if session.as_json:
        out_json(reply)
    elif mistakes:
        out("\n".join(_sentence(file, mistake) for mistake in mistakes))
    else:
        out(
            f"{clean(file)}: catalog {clean(reply.get('catalog'))}, {clean(reply.get('features'))} features, no mistake"
        )
    return REFUSED if mistakes else DONE


def _sentence(file: str, mistake: Mapping[str, Any]) -> str:
    parts = (file, mistake.get("where"), mistake.get("what"))
    return ": ".join(clean(part) for part in parts if part)


@click.command(
    "what-if",
    short_help="What would change with other licenses.",
    epilog=examples(
        "featurekeyctl what-if --add preferred-edition --add voicemail-pro-ports:4",
        "featurekeyctl what-if --remove 40A0…1JY4",
        "featurekeyctl what-if --platform ip500 --release 8.0",
        "featurekeyctl what-if --without-host-part enp1s0",
    ),
)
@click.option("--add", multiple=True, callback=_read_orders, metavar="FEATURE[:N]", help="A license to suppose.")
@click.option("--remove", multiple=True, metavar="KEY", help="An installed license to suppose away.")
@click.option("--platform", help="Another platform to suppose.")
@click.option("--release", help="Another release to suppose.")
@click.option(
    "--without-host-part", metavar="PART", help="A part of the host, or a network interface, to suppose away."
)
@json_option
@click.pass_obj
def what_if(session: Session, /, add: tuple[Want, ...], remove: tuple[str, ...], **others: str | None) -> int:
    """Show what would change with licenses added or removed, on another platform or release, or without a host part.

    Limits, hours and the like are those in good standing; a standing that allows less is said first. Nothing is
    changed. Exit status 1 when it cannot be supposed.
    """
    named = {name: value for name, value in others.items() if value is not None}
    if not (add or remove or any(named.values())):
        raise click.UsageError("suppose something: --add, --remove, --platform, --release or --without-host-part")
    supposed: dict[str, Any] = {"add": [want.on_wire() for want in add], "remove": list(remove), **named}
    reply = session.ask(f"{MANAGE}.WhatIf", **supposed)
    findings = objects(reply, "findings")
    if session.as_json:
        out_json(reply)
    elif findings:
        out("\n".join(clean(finding.get("message")) for finding in findings))
    else:
        if reply.get("host") is not None:
            out(f"host {clean(reply['host'])}: {clean(reply.get('host_why'))}")
        if (said := _CURBED.get(needed(reply, "standing", str))) is not None:
            out(said)
        _show_changes(objects(reply, "changes"))
    return REFUSED if findings else DONE


_CURBED = {
    "deactivated": "the system is DEACTIVATED: none of these limits holds until that is cured (featurekeyctl status)",
    "restricted": "the system is RESTRICTED to what comes free until that is cured (featurekeyctl status)",
}
"""What is said above the table, by standing."""


def _show_changes(changes: list[dict[str, Any]]) -> None:
    surplus = any("surplus_before" in it or "surplus_after" in it for it in changes)
    over = any("over" in it for it in changes)
    columns = [Column("FEATURE"), Column("NOW", number=True), Column("THEN", number=True)]
    columns += [Column("SURPLUS", number=True)] * surplus + [Column("OVER", number=True)] * over
    columns += [Column("LACK"), Column("WAITS FOR")]
    rows = [row for it in changes for row in _rows(it, surplus=surplus, over=over)]
    out_table(columns, rows, empty="nothing would change")


def _rows(change: Mapping[str, Any], *, surplus: bool, over: bool) -> list[list[object]]:
    """A row for the limit, and one for each second quantity, such as hours."""
    end = [change.get("lack"), " ".join(change.get("missing") or ())]
    row = [change.get("feature"), change.get("before"), change.get("after")]
    row += [_now_and_then(change.get("surplus_before"), change.get("surplus_after"))] * surplus
    row += [change.get("over")] * over
    blank: list[object] = [""] * (len(row) + len(end) - 3)
    measures = objects(change, "measures")
    return [row + end, *([_named(change, it), it.get("before"), it.get("after"), *blank] for it in measures)]


def _named(change: Mapping[str, Any], measure: Mapping[str, Any]) -> str:
    return f"{change.get('feature')}: {measure.get('name')}"


def _now_and_then(now: int | None, then: int | None) -> str | None:
    if now is None and then is None:
        return None
    return str(now) if now == then else f"{now or 0} → {then or 0}"
