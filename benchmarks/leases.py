"""What many live leases cost: `./dev bench leases`.

The cost of a decision with 10, 10,000 and 100,000 of them, the memory that they take, and the time that a start needs
to restore 10,000. The leases come by Sync, 10,000 of each of ten users: one user may have 20,000. They are of another
feature than the one that is asked for, because they are more than any license allows.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from .bench import Bench
from .machine import pin, resident
from .programs import FIFTY, Measured, other_user
from .report import Row, ratio, table, under
from .servers import STRANGERS, Featurekeyd, featurekeyd

FEW = 10
MANY = 10_000
MOST = 100_000

OF_ONE_USER = 10_000

MEGABYTE = 1_000_000


def run(bench: Bench) -> list[Row]:
    """Measure, and print what came out."""
    counts = [FEW, MANY, MOST]
    if other_user(STRANGERS[0]) is None:
        print(f"\n{MOST:,} leases need users that only root can become: left out")
        counts.remove(MOST)
    with ExitStack() as stack:
        servers = {count: stack.enter_context(featurekeyd(bench.folder / f"leases-{count}")) for count in counts}
        at_rest = {count: resident(server.pid) for count, server in servers.items()}
        for count, server in servers.items():
            _adopt(bench, server, count)
        filled = {count: resident(server.pid) for count, server in servers.items()}
        print(f"\nmemory\n\n{_memory_table(at_rest, filled)}")
        rows = _decisions(bench, servers)
        rows += _memory(at_rest, filled)
        rows.append(_start(bench, servers[FEW], FEW))
        rows.append(_start(bench, servers[MANY], MANY))
    return rows


def _adopt(bench: Bench, server: Featurekeyd, count: int) -> None:
    """Have so many leases adopted, under as many users as that takes."""
    for number in range(0, count, OF_ONE_USER):
        place = number // OF_ONE_USER
        leases = min(OF_ONE_USER, count - number)
        bench.programs.adopt(server, f"pbx-{place}", leases, other_user(STRANGERS[place]))
    server.check_sums(count)


def _decisions(bench: Bench, servers: dict[int, Featurekeyd]) -> list[Row]:
    for server in servers.values():
        bench.programs.measure(server, FIFTY, max(2, bench.messages // 10))
    results = bench.interleaved(servers, lambda count: bench.programs.measure(servers[count], FIFTY, bench.messages))
    print(f"\na decision, 50 connections\n\n{_decision_table(results)}")
    for count, server in servers.items():
        server.check_sums(count)
    few = results[FEW]
    rows = []
    for count in list(results)[1:]:
        subject, target = f"{count:,} leases beside {FEW}: ", under(1.1) if count == MOST else None
        its = results[count]
        rows.append(ratio(f"{subject}CPU per message", (it.cpu for it in its), (it.cpu for it in few), target))
        rows.append(ratio(f"{subject}time per message", _times(its), _times(few)))
    return rows


def _times(its: list[Measured]) -> list[float]:
    return [1 / it.per_second for it in its]


def _decision_table(results: dict[int, list[Measured]]) -> str:
    lines = []
    for count, its in results.items():
        per_second, *times = [statistics.median(column) for column in zip(*its, strict=True)]
        lines.append([f"{count:,}", f"{per_second:,.0f}", *(f"{it:.1f}" for it in times)])
    return table(("leases", "messages/s", "p50 µs", "p99 µs", "CPU µs"), lines)


def _memory_table(at_rest: dict[int, int], filled: dict[int, int]) -> str:
    lines = [
        [f"{count:,}", f"{at_rest[count] / MEGABYTE:.1f} MB", f"{filled[count] / MEGABYTE:.1f} MB"] for count in filled
    ]
    return table(("leases", "before", "with them"), lines)


def _memory(at_rest: dict[int, int], filled: dict[int, int]) -> list[Row]:
    most = max(filled)
    target = under(1000) if most == MOST else None
    megabytes = [it / MEGABYTE for it in at_rest.values()]
    each = (filled[most] - at_rest[most]) / most
    return [
        Row("memory at rest, licensed", statistics.median(megabytes), "MB", under(40), megabytes),
        Row(f"memory for each of {most:,} leases", each, "bytes", target),
    ]


def _start(bench: Bench, server: Featurekeyd, count: int) -> Row:
    """From starting the program until it says that it is ready, after a kill."""
    rounds = []
    site = server.bench
    for _ in range(bench.rounds):
        site.kill()
        begun = time.perf_counter()
        site.start()
        rounds.append((time.perf_counter() - begun) * 1000)
        server.check_sums(count)
    pin(site.pid, 0)
    return Row(f"start to READY with {count:,} leases", statistics.median(rounds), "ms", None, rounds)
