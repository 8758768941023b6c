"""What one client costs the others: `./dev bench others`.

Others ask while a holder sends its list of 10,000 leases with Sync without a pause, and while another user floods the
daemon over 50 connections with 16 calls pipelined on each; against the same without, round by round. The flood is let
loose on the echo server too: what others lose there is due to a server that serves 51 connections and not one, and,
where there are only two processors, to two load generators that share the second.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from .bench import Bench
from .programs import FIFTY, ONE, Measured, Synced, other_user
from .report import Row, Target, ratio, table, under
from .servers import STRANGERS, Server, echo, featurekeyd

LEASES = 10_000
HOLDER = "pbx"

SECONDS = 3
"""The longest round: a disturbed server answers as few messages as it likes."""

SHAPES = {"1 connection": ONE, "50 connections": FIFTY}

Disturb = Callable[[], AbstractContextManager[None]]
"""Lets something loose on the server for as long as it is open."""


def run(bench: Bench) -> list[Row]:
    """Measure, and print what came out."""
    user = other_user(STRANGERS[0])
    if user is None:
        print("\nonly root can become another user: the flood and the lists come from this one")
    rows: list[Row] = []
    with echo(bench.programs.echo, bench.folder) as limit:
        rows += _flooded(bench, limit, user)
    with featurekeyd(bench.folder / "others") as ours:
        rows += _flooded(bench, ours, user)
        ours.check_sums()
        rows += _synchronizing(bench, ours, user)
        ours.check_sums(LEASES)
    return rows


def _flooded(bench: Bench, server: Server, user: int | None) -> list[Row]:
    flood: list[float] = []
    title = f"{server.name} flooded by one user"
    rows = _compare(bench, server, title, partial(bench.programs.flooding, server, user, flood))
    print(f"\nthe flood itself: {statistics.median(flood):,.0f} messages/s")
    return rows


def _synchronizing(bench: Bench, server: Server, user: int | None) -> list[Row]:
    done: list[Synced] = []
    bench.programs.adopt(server, HOLDER, LEASES, user)
    title = f"lists of {LEASES:,} leases without a pause"
    disturb = partial(bench.programs.synchronizing, server, HOLDER, LEASES, user, done)
    rows = _compare(bench, server, title, disturb, under(3))
    lists = statistics.median(it.lists / it.seconds for it in done)
    p50 = statistics.median(it.p50 for it in done)
    print(f"\nthe lists themselves: {lists:.1f} a second; a call of 256 leases {p50 / 1000:.2f} ms (median)")
    return rows


def _compare(bench: Bench, server: Server, title: str, disturb: Disturb, target: Target | None = None) -> list[Row]:
    """Measure without and with the disturbance, in turn; the target is for the p99 of one connection."""
    rows: list[Row] = []
    lines: list[list[str]] = []
    for name, shape in SHAPES.items():
        both = bench.interleaved((nullcontext, disturb), partial(_measure, bench, server, shape))
        quiet, disturbed = both.values()
        lines += [_line(name, quiet), _line(f"{name}, disturbed", disturbed)]
        asked = target if shape == ONE else None
        subject = f"{title}, {name} of others: "
        rows.append(ratio(f"{subject}p99", (it.p99 for it in disturbed), (it.p99 for it in quiet), asked))
        rows.append(ratio(f"{subject}p50", (it.p50 for it in disturbed), (it.p50 for it in quiet)))
        rows.append(ratio(f"{subject}messages/s", (it.per_second for it in disturbed), (it.per_second for it in quiet)))
    print(f"\n{title}\n\n{table(('others', 'messages/s', 'p50 µs', 'p99 µs'), lines)}")
    return rows


def _measure(bench: Bench, server: Server, shape: tuple[int, int], disturb: Disturb) -> Measured:
    with disturb():
        return bench.programs.measure(server, shape, bench.messages, SECONDS)


def _line(name: str, its: list[Measured]) -> list[str]:
    per_second, p50, p99 = (statistics.median(column) for column in list(zip(*its, strict=True))[:3])
    return [name, f"{per_second:,.0f}", f"{p50:.1f}", f"{p99:.1f}"]
