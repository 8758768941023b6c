"""How often an idle server wakes up: `./dev bench idle`.

The daemon with its shipped settings, licensed and asked nothing, all its threads; Redis beside it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from .bench import Bench
from .machine import processor_time, threads, wake_ups
from .report import Row
from .servers import featurekeyd, redis

SETTLE_SECONDS = 6.0
"""Longer than the time between two looks at the key: what the start left to do is done by then."""

WATCH_SECONDS = 20.0


def run(bench: Bench) -> list[Row]:
    """Watch them do nothing."""
    with ExitStack() as stack:
        ours = stack.enter_context(featurekeyd(bench.folder / "idle"))
        servers = (ours, stack.enter_context(redis(bench.folder)))
        time.sleep(SETTLE_SECONDS)
        before = {server: (wake_ups(server.pid), processor_time(server.pid)) for server in servers}
        time.sleep(WATCH_SECONDS)
        rows = []
        for server, (woken, used) in before.items():
            minute = 60 / WATCH_SECONDS
            often = (wake_ups(server.pid) - woken) * minute
            busy = (processor_time(server.pid) - used) * minute * 1000
            subject = f"{server.name} idle, {threads(server.pid)} threads: "
            rows.append(Row(f"{subject}wake-ups a minute", often, ""))
            rows.append(Row(f"{subject}processor time a minute", busy, "ms"))
        ours.check_sums()
    return rows
