"""What the question costs a call of Asterisk: `./dev run python -m benchmarks.agi`.

Calls of a peer that speaks FastAGI go through featurekey-agi and the daemon, each followed by the same call to a bare
FastAGI server that sends the same commands and knows nothing. What is timed is what the dialplan waits: from the
connection to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from .report import Void, shown, table
from .servers import HERE

from fake_asterisk import Channel, FakeAsterisk  # isort: skip - found through the path that .servers adds
from rig import licensed_site  # isort: skip
from rig_agi import Agi  # isort: skip
from rig_process import Process, environment  # isort: skip

LINE = "agi://127.0.0.1/acquire?port=trunk:carrier-a&wants=sip-trunk-channels"
ORDERS = ("sip-trunk-channels:128", "vcm-channels:128")
NAMES = ("REASON", "LIMIT", "IN_USE", "MESSAGE", "CAUSE", "CHANNEL", "STATUS")
WARM_UP = 50


async def bare() -> None:
    """Serve FastAGI, set as many variables and ask nobody; the port is printed."""
    server = await asyncio.start_server(_bare_session, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _bare_session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\n\n")
    for name in ["CHANNEL(hangup_handler_push)", *(f"FEATUREKEY_{name}" for name in NAMES)]:
        writer.write(f'SET VARIABLE "{name}" "featurekey-release,s,1"\n'.encode())
        await reader.readline()
    writer.close()


def timed(channel: Channel) -> float:
    """Microseconds that the dialplan waits."""
    begun = time.perf_counter()
    reached = channel.agi(LINE)
    if not reached:
        raise Void("FastAGI was not reached")
    return (time.perf_counter() - begun) * 1e6


def through(asterisk: FakeAsterisk, port: int) -> float:
    """One call through the server at that port, and its end."""
    asterisk.agi_port = port
    channel = asterisk.channel("PJSIP/alice")
    took = timed(channel)
    channel.handlers = channel.handlers if channel.status == "allowed" else []
    channel.hang_up()
    return took


def measure(folder: Path, calls: int) -> dict[str, list[float]]:
    """The times of so many calls each way, one after the other."""
    found: dict[str, list[float]] = {"featurekey-agi and featurekeyd": [], "bare FastAGI, the same commands": []}
    command = [sys.executable, "-m", "benchmarks.agi", "--bare"]
    with (
        Process(command, environ=environment(PYTHONPATH=str(HERE.parent))) as other,
        licensed_site(folder, ORDERS) as licensed,
        FakeAsterisk() as asterisk,
    ):
        agi = Agi(folder, licensed.site.socket, asterisk, login="challenge", ttl=60)
        try:
            agi.start()
            ways = dict(zip(found, (agi.port, int(other.output.wait(bool))), strict=True))
            for number in range(calls + WARM_UP):
                for name, port in ways.items():
                    took = through(asterisk, port)
                    if number >= WARM_UP:
                        found[name].append(took)
        finally:
            agi.close()
        feature = licensed.site.feature("sip-trunk-channels")
        if feature["granted"] != calls + WARM_UP or feature["denied"]:
            raise Void(f"{feature['granted']} granted and {feature['denied']} denied of {calls + WARM_UP}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(": ")[2].partition("`.")[2])
    parser.add_argument("--calls", type=int, default=500, help="calls each way (default 500)")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        asyncio.run(bare())
    with tempfile.TemporaryDirectory(prefix="fk-") as folder:
        found = measure(Path(folder), arguments.calls)
    rows = []
    for name, times in found.items():
        cuts = statistics.quantiles(times, n=100)
        rows.append((name, *(f"{shown(it / 1000)} ms" for it in (cuts[49], cuts[94], cuts[98], max(times)))))
    print(table(("from the connection to its end", "p50", "p95", "p99", "longest"), rows))


if __name__ == "__main__":
    main()
