"""What a decision costs beside Redis doing the same work, and beside a bare echo server: `./dev bench decisions`.

Throughput, time of a round trip and processor time, in three shapes, with one load generator for all servers. Messages
take and give back a lease in turn; both count. Ratios are taken round by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from .bench import Bench
from .programs import FIFTY, ONE, PIPELINED, SHAPES, Measured
from .report import Row, Target, Void, at_least, ratio, table, under
from .servers import FEATURE, Featurekeyd, Server, echo, featurekeyd, python_echo, redis

WARM_UP = 10
"""Part of a round's messages that each server is asked first, unmeasured."""

TARGETS: dict[tuple[str, tuple[int, int]], Target] = {
    ("Redis", FIFTY): at_least(1.5),
    ("Redis", PIPELINED): at_least(3),
    ("echo in C", FIFTY): at_least(0.35),
}
"""Messages a second of the daemon beside those of that server, in that shape."""


def run(bench: Bench) -> list[Row]:
    """Measure every server in every shape, and print what came out."""
    rows: list[Row] = []
    with ExitStack() as stack:
        ours = stack.enter_context(featurekeyd(bench.folder / "decisions"))
        theirs = stack.enter_context(redis(bench.folder))
        servers = [ours, theirs, theirs.indexed(), stack.enter_context(echo(bench.programs.echo, bench.folder))]
        if bench.python_echo:
            servers += [stack.enter_context(python_echo(loop, bench.folder)) for loop in ("uvloop", "asyncio")]
        print(f"\n{theirs.version}")
        for name, shape in SHAPES.items():
            results = _measure(bench, servers, shape)
            print(f"\n{name}\n\n{_details(results, ours)}")
            rows += _rows(name, shape, ours, results)
        _check(ours)
        theirs.check_sums()
    return rows


def _measure(bench: Bench, servers: list[Server], shape: tuple[int, int]) -> dict[Server, list[Measured]]:
    for server in servers:
        bench.programs.measure(server, shape, max(2, bench.messages // WARM_UP))
    return bench.interleaved(servers, lambda server: bench.programs.measure(server, shape, bench.messages))


def _details(results: dict[Server, list[Measured]], ours: Server) -> str:
    head = ("server", "messages/s", "p50 µs", "p99 µs", "CPU µs", "featurekeyd is")
    return table(head, (_line(server, its, results[ours]) for server, its in results.items()))


def _line(server: Server, its: list[Measured], ours: list[Measured]) -> list[str]:
    per_second, *times = [statistics.median(column) for column in zip(*its, strict=True)]
    against = ratio("", (it.per_second for it in ours), (it.per_second for it in its)).cells()[2]
    return [server.name, f"{per_second:,.0f}", *(f"{time:.1f}" for time in times), "" if its is ours else against]


def _rows(name: str, shape: tuple[int, int], ours: Server, results: dict[Server, list[Measured]]) -> Iterator[Row]:
    our = results[ours]
    for server, its in results.items():
        if server is ours:
            continue
        target = TARGETS.get((server.name, shape))
        subject = f"{name}: messages/s, of {server.name}"
        yield ratio(subject, (it.per_second for it in our), (it.per_second for it in its), target)
        if shape == ONE:
            target = under(2.5) if server.name == "echo in C" else None
            yield ratio(f"{name}: p99, of {server.name}", (it.p99 for it in our), (it.p99 for it in its), target)


def _check(ours: Featurekeyd) -> None:
    ours.check_sums()
    if not ours.bench.feature(FEATURE)["granted"]:
        raise Void("the daemon granted nothing")
