"""The verbs of featurekeyctl for reservations: instances set aside for a key, such as an extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .call import MANAGE
from .console import clean, out, out_json
from .exits import DONE, REFUSED
from .limits import holder_text, key_text
from .reading import needed
from .session import Session, examples, json_option
from .tables import Column, out_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_INSTANCES = 16_383
"""Instances of one reservation: what a license key can hold."""


def _carried(read: Callable[[str], str]) -> Callable[..., str | None]:
    """A name on the command line as the library carries it, so that a reservation is for the library's key."""

    def carry(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return carry


@click.command(
    short_help="Set instances aside for a key.",
    epilog=examples(
        "featurekeyctl reserve avaya-ip-endpoints 201",
        "featurekeyctl reserve avaya-ip-endpoints 201 --holder asterisk --instances 2",
    ),
)
@click.argument("feature")
@click.argument("key", callback=_carried(key_text))
@click.option("--holder", callback=_carried(holder_text), help="Only for the key of this telephony system.")
@click.option("--instances", type=click.IntRange(1, MAX_INSTANCES), help="How many; 1 when left out.")
@json_option
@click.pass_obj
def reserve(session: Session, feature: str, key: str, holder: str | None, instances: int | None) -> int:
    """Set instances of a feature aside for a key (an extension, a user), also while it holds nothing.

    A second reservation for the same key replaces the first. Exit status 1 when too few instances are free.
    """
    reply = session.ask(f"{MANAGE}.Reserve", feature=feature, key=key, holder=holder, instances=instances)
    return _show_finding(session, reply)


@click.command(short_help="Give a reservation up.", epilog=examples("featurekeyctl unreserve avaya-ip-endpoints 201"))
@click.argument("feature")
@click.argument("key", callback=_carried(key_text))
@json_option
@click.pass_obj
def unreserve(session: Session, feature: str, key: str) -> int:
    """Give the reservation for a key up; what the key holds it keeps. Exit status 1 when there is none."""
    return _show_finding(session, session.ask(f"{MANAGE}.Unreserve", feature=feature, key=key))


@click.command(short_help="What is set aside, and for whom.", epilog=examples("featurekeyctl reservations"))
@json_option
@click.pass_obj
def reservations(session: Session) -> int:
    """List the reservations: how many of each the key holds now, and how many are free for it."""
    found = session.collect(f"{MANAGE}.ListReservations", "reservation")
    if session.as_json:
        out_json({"reservations": found})
        return DONE
    columns = [Column(heading) for heading in ("FEATURE", "KEY", "HOLDER")]
    columns += [Column(heading, number=True) for heading in ("INSTANCES", "HELD", "FREE")]
    names = ("feature", "key", "holder", "instances", "held", "free")
    out_table(columns, [[row.get(name) for name in names] for row in found], empty="nothing is reserved")
    return DONE


def _show_finding(session: Session, reply: Mapping[str, Any]) -> int:
    finding = needed(reply, "finding", dict)
    accepted = needed(finding, "accepted", bool)
    if session.as_json:
        out_json(reply)
    else:
        said = [f"{clean(finding.get('verdict'))}: {clean(finding.get('message'))}"]
        said += [f"  {clean(finding['remedy'])}"] if finding.get("remedy") is not None else []
        out("\n".join(said))
    return DONE if accepted else REFUSED
