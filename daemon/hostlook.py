"""Looks at the host in a thread of its own, so that a look that hangs takes nothing else with it.

Rules of this module:

* There is one look at a time. Whoever comes while one is under way waits for its end and has another one: what was
  done just before is seen.
* Whoever waits waits a limited time. A look that outlasts that is stuck in the kernel, behind a device or a file system
  that does not answer; a second one would be stuck there too. Until it comes back, everybody is told at once.
* The thread is none of the shared ones, which the administration needs, and the end of the daemon does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from featurekeyd.policy.hostevidence import Evidence

from .methods import ErrorReply
from .wire import MANAGE, error_reply

HOST_LOOK_SECONDS = 10.0
"""How long a look at the host is waited for. It reads some thirty small files of the kernel and takes 2 ms; on a loaded
host with slow firmware tables a hundred times that."""

_HANGS = (
    "A look at the host has not ended within 10 seconds. See which disk or device does not answer (dmesg); "
    "what was known of the host before still counts."
)


class LookHangs(ErrorReply):
    """A look at the host has not ended in time; `first` where nobody has been told of that."""

    def __init__(self, *, first: bool) -> None:
        super().__init__(error_reply(f"{MANAGE}.HostNotReadable", {"hint": _HANGS}))
        self.first = first


class HostLook:
    """Runs `read` in a thread of its own, one at a time."""

    def __init__(self, read: Callable[[], Evidence]) -> None:
        self._read = read
        self._under_way: asyncio.Future[Evidence] | None = None
        self._stuck = False
        """Whether the look under way has outlasted its time."""

    async def look(self) -> Evidence:
        """Look anew; raises LookHangs, and what the look raises."""
        if self._stuck:
            raise LookHangs(first=False)
        try:
            async with asyncio.timeout(HOST_LOOK_SECONDS):
                while self._under_way is not None:
                    await asyncio.wait([self._under_way])
                return await asyncio.shield(self._begun())
        except TimeoutError:
            first, self._stuck = not self._stuck, self._under_way is not None
            raise LookHangs(first=first) from None

    def _begun(self) -> asyncio.Future[Evidence]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Evidence] = loop.create_future()
        self._under_way = future
        threading.Thread(target=self._run, args=(loop, future), name="hostlook", daemon=True).start()
        return future

    def _run(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Evidence]) -> None:
        found: Evidence | Exception
        try:
            found = self._read()
        except Exception as error:  # noqa: BLE001 - it is raised where the look is waited for
            found = error
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(self._ended, future, found)

    def _ended(self, future: asyncio.Future[Evidence], found: Evidence | Exception) -> None:
        self._under_way, self._stuck = None, False
        if isinstance(found, Exception):
            future.set_exception(found)
            future.exception()  # whoever waited may have gone: then nobody fetches it
        else:
            future.set_result(found)
