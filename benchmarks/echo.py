"""A bare echo server: the least that an asyncio server on a Unix socket can do; what it reaches is the limit for ours.

python benchmarks/echo.py asyncio|uvloop SOCKET
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def serve(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(Echo, path)
    print("ready", flush=True)
    await server.serve_forever()


def main() -> None:
    loop, path = sys.argv[1:]
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - the other loop does without

        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(serve(path))
    else:
        asyncio.run(serve(path))


if __name__ == "__main__":
    main()
