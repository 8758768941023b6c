"""The verb of featurekeyctl that shows the history of use."""

from __future__ import annotations

import csv
import io
import time
from typing import TYPE_CHECKING, Any

import click

from .console import clean, out, out_json
from .exits import DONE
from .moments import FORMS, local, read_moment
from .session import Session, examples, json_option
from .tables import Column, out_table
from .uses import LENGTHS, Counted, Use, read_counted

if TYPE_CHECKING:
    from .uses import Subject

USUAL = {"minute": 3600, "hour": 86_400, "day": 30 * 86_400}
"""Seconds that are shown where nothing is said, by period."""

_FORMAT = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d"}
_NAMES = {"other_ports": "other ports", "other_features": "other features"}
_FIELDS = ("time", "sort", "name", "peak", "erlang", "busy_seconds", "granted", "denied", "blocked", "counted_seconds")


@click.command(
    short_help="What was in use, by minute, hour or day.",
    epilog=examples(
        "featurekeyctl history",
        "featurekeyctl history --by minute --from 2026-11-22T10:00 --to 2026-11-22T11:00",
        "featurekeyctl history --feature sip-trunk-channels --by day --from 90d",
        "featurekeyctl history --port trunk:carrier-a --by hour --from 365d --csv > year.csv",
    ),
)
@click.option("--by", type=click.Choice(list(LENGTHS)), default="hour", show_default=True, help="Period of a row.")
@click.option("--feature", help="Only this feature.")
@click.option("--port", help="Only this port.")
@click.option("--from", "since", metavar="TIME", callback=read_moment, help=f"Rows from then on: {FORMS}.")
@click.option(
    "--to", "until", metavar="TIME", callback=read_moment, help="Rows that begin before then; now when left out."
)
@click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values, for a spreadsheet.")
@json_option
@click.pass_obj
def history(
    session: Session, *, by: str, feature: str | None, port: str | None, since: int | None, until: int | None,
    as_csv: bool,
) -> int:  # fmt: skip
    """Show peak use, traffic and denials of each feature and port, as far back as a year; minutes for a week.

    ERLANG is the traffic carried: how many were in use on average. BLOCKED are the denials for want of instances. Days
    are those of this place. Without --from it is the last hour of minutes, the last day of hours, or 30 days.
    """
    if as_csv and session.as_json:
        raise click.UsageError("choose one of --csv and --json")
    end = int(time.time()) + 1 if until is None else until
    begin = end - USUAL[by] if since is None else since
    if begin >= end:
        raise click.UsageError("--from is not before --to")
    found = read_counted(session, by, begin, end, _subject(feature, port))
    rows = [_row(found, use) for use in found.uses]
    if session.as_json:
        out_json({"by": by, "rows": rows})
    elif as_csv:
        out(_csv(rows))
    else:
        _show(found, by)
    return DONE


def _subject(feature: str | None, port: str | None) -> Subject | None:
    if feature is not None and port is not None:
        raise click.UsageError("choose one of --feature and --port: a row is about one of them")
    if feature is not None:
        return ("feature", feature)
    return None if port is None else ("port", port)


def _row(found: Counted, use: Use) -> dict[str, Any]:
    sort, name = use.subject
    row: dict[str, Any] = {"time": local(use.start).isoformat(), "sort": sort, "name": name or None, "peak": use.peak}
    row |= {"erlang": round(found.erlangs(use), 3), "busy_seconds": round(use.busy_seconds, 3)}
    row |= {"granted": use.granted, "denied": use.denied, "blocked": use.blocked}
    return row | {"counted_seconds": round(found.seconds.get(use.start, 0.0), 3)}


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue().rstrip("\n")


def _plain(value: Any) -> Any:
    """A text that a spreadsheet takes for a text: a switch chooses the names of its ports (OWASP, CSV injection)."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _show(found: Counted, by: str) -> None:
    partly = any(found.seconds.get(use.start, 0.0) < found.whole(use.start) * 0.98 for use in found.uses)
    columns = [Column("TIME"), Column("FEATURE OR PORT")]
    columns += [Column(name, number=True) for name in ("PEAK", "ERLANG", "GRANTED", "DENIED", "BLOCKED")]
    columns += [Column("COUNTED", number=True)] if partly else []
    rows = [_cells(found, use, by) for use in found.uses]
    kept = "minutes are kept for a week" if by == "minute" else "hours are kept for 400 days"
    empty = f"nothing was in use or denied in that time, or it was not counted; {kept}"
    out_table(columns, [row[: len(columns)] for row in rows], empty=empty)


def _cells(found: Counted, use: Use, by: str) -> list[object]:
    sort, name = use.subject
    part = found.seconds.get(use.start, 0.0) / found.whole(use.start)
    return [
        local(use.start).strftime(_FORMAT[by]),
        name or _NAMES.get(sort, sort),
        use.peak,
        f"{found.erlangs(use):.2f}",
        use.granted,
        use.denied,
        use.blocked,
        f"{min(part, 1.0):.0%}",
    ]
