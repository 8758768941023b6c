"""The verbs of featurekeyctl that change nothing: what would be with other licenses, and whether a catalog is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .call import MANAGE
from .console import clean, out, out_json, read_text
from .exits import DONE, REFUSED
from .reading import objects
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
    ),
)
@click.option("--add", multiple=True, callback=_read_orders, metavar="FEATURE[:N]", help="A license to suppose.")
@click.option("--remove", multiple=True, metavar="KEY", help="An installed license to suppose away.")
@click.option("--platform", help="Another platform to suppose.")
@click.option("--release", help="Another release to suppose.")
@json_option
@click.pass_obj
def what_if(
    session: Session, add: tuple[Want, ...], remove: tuple[str, ...], platform: str | None, release: str | None
) -> int:
    """Show which limits would change with licenses added or removed, or on another platform or release.

    Nothing is changed. Exit status 1 when it cannot be supposed.
    """
    if not (add or remove or platform or release):
        raise click.UsageError("suppose something: --add, --remove, --platform or --release")
    supposed: dict[str, Any] = {"add": [want.on_wire() for want in add], "remove": list(remove)}
    supposed |= {name: value for name, value in (("platform", platform), ("release", release)) if value is not None}
    reply = session.ask(f"{MANAGE}.WhatIf", **supposed)
    findings = objects(reply, "findings")
    if session.as_json:
        out_json(reply)
    elif findings:
        out("\n".join(clean(finding.get("message")) for finding in findings))
    else:
        _show_changes(objects(reply, "changes"))
    return REFUSED if findings else DONE


def _show_changes(changes: list[dict[str, Any]]) -> None:
    columns = [Column("FEATURE"), Column("NOW", number=True), Column("THEN", number=True)]
    columns += [Column("LACK"), Column("WAITS FOR")]
    rows = [
        [it.get("feature"), it.get("before"), it.get("after"), it.get("lack"), " ".join(it.get("missing") or ())]
        for it in changes
    ]
    out_table(columns, rows, empty="no limit would change")
