"""The verb of featurekeyctl that says how many channels the traffic needs, and the reckoning behind it.

The reckoning is pure: rows of the history and numbers in, numbers out.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .call import LICENSE
from .console import clean, complain, out_fields, out_json
from .erlang import MAX_CHANNELS, blocking, channels_for
from .exits import DONE, REFUSED
from .moments import local
from .reading import member, needed, objects
from .session import Session, examples, json_option
from .uses import Counted, Use, read_counted

if TYPE_CHECKING:
    from .uses import Subject

LEAST_COUNTED = 1800.0
"""Seconds of an hour that must have been counted for it to be a busy hour."""

USUAL_HOLD = 180.0
"""Seconds that a call takes where no call was granted from which it could be known: the trade's three minutes."""


@dataclass(frozen=True)
class Offered:
    """The traffic of one hour."""

    start: int | None
    """Seconds since 1970 UTC; None where it was given by hand."""
    carried: float
    """Erlang."""
    lost: float = 0.0
    """Erlang, as estimated of what was blocked."""
    granted: int = 0
    blocked: int = 0
    hold: float = 0.0
    """Instance-seconds that a request which was granted took, on average."""

    @property
    def erlangs(self) -> float:
        """What was offered: carried and lost."""
        return self.carried + self.lost


def offered(found: Counted) -> list[Offered]:
    """The traffic of each hour that was counted for long enough.

    What was blocked would have taken as long as what was granted does on average, over the whole time that is given.
    """
    busy, granted = sum(use.busy_seconds for use in found.uses), sum(use.granted for use in found.uses)
    hold = busy / granted if granted else USUAL_HOLD
    return [_offered(found, use, hold) for use in found.uses if found.seconds.get(use.start, 0) >= LEAST_COUNTED]


def _offered(found: Counted, use: Use, hold: float) -> Offered:
    lost = use.blocked * hold / found.seconds[use.start]
    return Offered(use.start, found.erlangs(use), lost, use.granted, use.blocked, hold)


def busy_hour(hours: list[Offered]) -> Offered | None:
    """The hour with the most traffic offered."""
    return max(hours, key=lambda hour: hour.erlangs, default=None)


def usual_busy_hour(hours: list[Offered]) -> float:
    """The busiest hours of the days of this place, on average; Erlang."""
    days: dict[str, float] = {}
    for hour in hours:
        day = local(hour.start or 0).date().isoformat()
        days[day] = max(days.get(day, 0.0), hour.erlangs)
    return sum(days.values()) / len(days) if days else 0.0


def _read_grade(_: click.Context, parameter: click.Parameter, text: str) -> float:
    """A grade of service on the command line: the part of the calls that may be blocked, such as 1% or 0.01."""
    try:
        part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        part = -1.0
    if not 0 < part < 1:
        what = f"{text!r} is no grade of service; write the part that may be blocked, as 1% or 0.01"
        raise click.BadParameter(what, param=parameter)
    return part


class _Number(click.FloatRange):
    """A number from 0 on; what Python reads as a number besides, `nan` and `inf`, is none here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; raises click.BadParameter."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return float(number)


@click.command(
    short_help="How many channels the traffic needs.",
    epilog=examples(
        "featurekeyctl sizing sip-trunk-channels",
        "featurekeyctl sizing sip-trunk-channels --days 90 --grade 0.5%",
        "featurekeyctl sizing --port trunk:carrier-a",
        "featurekeyctl sizing --erlang 12.4",
        "featurekeyctl sizing --calls 300 --hold 180 --grade 2%",
    ),
)
@click.argument("feature", required=False)
@click.option("--port", help="Of a port instead of a feature.")
@click.option("--days", type=click.IntRange(1, 400), default=28, show_default=True, help="Days of history to look at.")
@click.option(
    "--grade", default="1%", show_default=True, callback=_read_grade, help="Part of the calls that may be blocked."
)
@click.option("--erlang", type=_Number(0, 50_000), help="Traffic given by hand, in Erlang.")
@click.option("--calls", type=_Number(0), help="Calls in the busy hour, given by hand; with --hold.")
@click.option("--hold", type=_Number(0), help="Seconds that a call takes; with --calls.")
@click.option("--limit", type=click.IntRange(0, MAX_CHANNELS), help="Channels to compare with; else the present limit.")
@json_option
@click.pass_obj
def sizing(
    session: Session, *, feature: str | None, port: str | None, days: int, grade: float, erlang: float | None,
    calls: float | None, hold: float | None, limit: int | None,
) -> int:  # fmt: skip
    """Say how many channels the busiest hour needs, so that no more than a chosen part of the calls is blocked.

    The traffic is that of the history: what was carried in the busiest hour, and what was blocked in it, as if each of
    these calls had taken the average time. Or it is given by hand. Reckoned by Erlang B.
    """
    by_hand = _by_hand(erlang, calls, hold)
    subject = _subject(feature, port, by_hand=by_hand is not None)
    hours: list[Offered] = []
    if by_hand is None and subject is not None:
        until = int(time.time())
        hours = offered(read_counted(session, "hour", until - days * 86_400, until, subject))
    hour = by_hand or busy_hour(hours)
    if hour is None:
        complain(f"nothing of {clean(feature or port)} was counted in {days} days; give the traffic: --erlang NUMBER")
        return REFUSED
    if limit is None and subject is not None:
        limit = _present_limit(session, subject)
    try:
        needs = channels_for(hour.erlangs, grade)
    except ValueError as error:
        raise click.UsageError(f"the traffic needs {error}") from None
    answer = _answer(hour, hours, grade, needs, limit)
    if session.as_json:
        out_json(answer)
    else:
        out_fields(_fields(hour, answer, days))
    return DONE


def _by_hand(erlang: float | None, calls: float | None, hold: float | None) -> Offered | None:
    if (calls is None) is not (hold is None):
        raise click.UsageError("--calls and --hold go together: calls in the hour, and seconds of each")
    if erlang is not None and calls is not None:
        raise click.UsageError("give the traffic once: --erlang, or --calls and --hold")
    if calls is not None and hold is not None:
        return Offered(None, calls * hold / 3600)
    return None if erlang is None else Offered(None, erlang)


def _subject(feature: str | None, port: str | None, *, by_hand: bool) -> Subject | None:
    if feature is not None and port is not None:
        raise click.UsageError("choose a feature or --port")
    if feature is None and port is None and not by_hand:
        raise click.UsageError("name a feature, a --port, or the traffic; featurekeyctl features lists the names")
    if port is not None:
        return ("port", port)
    return None if feature is None else ("feature", feature)


def _present_limit(session: Session, subject: Subject) -> int | None:
    """What may be in use now; None where there is no limit, or nothing of that name."""
    sort, name = subject
    if sort == "port":
        found = [it for it in objects(session.ask(f"{LICENSE}.Status"), "ports") if it.get("port") == name]
        return needed(found[0], "ceiling", int) if found else None
    found = [it for it in objects(session.ask(f"{LICENSE}.ListFeatures"), "features") if it.get("feature") == name]
    unlimited = not found or member(found[0], "unlimited", bool)
    return None if unlimited else needed(found[0], "limit", int)


def _answer(hour: Offered, hours: list[Offered], grade: float, needs: int, limit: int | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "busy_hour": None if hour.start is None else local(hour.start).isoformat(),
        "carried_erlang": round(hour.carried, 3),
        "lost_erlang": round(hour.lost, 3),
        "offered_erlang": round(hour.erlangs, 3),
        "granted": hour.granted,
        "blocked": hour.blocked,
        "hold_seconds": round(hour.hold, 1),
        "usual_busy_hour_erlang": round(usual_busy_hour(hours), 3) if hours else None,
        "grade": grade,
        "needs": needs,
    }
    if limit is not None:
        answer |= {"limit": limit, "blocking": blocking(hour.erlangs, limit), "order": max(needs - limit, 0)}
    return {name: value for name, value in answer.items() if value is not None}


def _fields(hour: Offered, answer: dict[str, Any], days: int) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = []
    if hour.start is not None:
        fields += [
            ("busiest hour", f"{local(hour.start).strftime('%Y-%m-%d %H:%M')}, of {days} days"),
            ("carried", f"{hour.carried:.2f} Erlang, {hour.granted} requests granted"),
            ("lost, estimated", f"{hour.lost:.2f} Erlang, {hour.blocked} blocked of {hour.hold:.0f} s each"),
        ]
    fields.append(("offered", f"{hour.erlangs:.2f} Erlang"))
    if "usual_busy_hour_erlang" in answer:
        usual = f"{answer['usual_busy_hour_erlang']:.2f} Erlang in the busiest hour, on average of the days"
        fields.append(("usually", usual))
    fields.append((f"for {100 * answer['grade']:.3g} % blocked", f"{answer['needs']} channels"))
    if "limit" in answer:
        fields.append(("limit", f"{answer['limit']}, with which {answer['blocking']:.2%} would be blocked"))
        order = answer["order"]
        fields.append(("to order", order if order else "nothing: the limit is enough"))
    return fields
