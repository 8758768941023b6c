"""The Primary of a network of systems: whether it answers, and the right to go on without it in this boot of the host.

Rules of this module:

* Who asks is one function that is plugged in, `AskPrimary`. Nobody asks in this release, and then nothing changes.
* The right is a file in the runtime directory with the boot id: it outlives a restart and a crash of the daemon, and a
  reboot of the host ends it. No record, a damaged one and one of another boot are no right.
* An answer that does not come in time is none; a function that fails has found nothing out, and is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.instant import Now

PRIMARY_SECONDS = 60.0
"""How often the Primary is asked for: a minute is nothing of 15 days, and a network that is down is not flooded."""

ANSWER_SECONDS = 20.0
"""How long one answer is waited for: a network that is that slow is no contact."""

FILE = "primary-seen"
"""Name of the record in the runtime directory."""

AskPrimary = Callable[[], Awaitable[bool | None]]
"""Whether the Primary answers now; None where there is no network to ask in. It may raise anything."""


async def nobody_asks() -> None:
    """In place of a network of systems, which comes with a later issue."""


class BootRight:
    """The record that the Primary was seen in this boot of the host."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def is_held(self) -> bool:
        """Whether there is a record of this boot."""
        try:
            return bool(self._boot_id) and self._path.read_text(encoding="utf-8").strip() == self._boot_id
        except (OSError, ValueError):
            return False

    def record(self) -> None:
        """Write the record, whole or not at all; raises OSError."""
        beside = self._path.with_suffix(".new")
        beside.write_text(f"{self._boot_id}\n", encoding="utf-8")
        beside.replace(self._path)


class PrimaryWatch:
    """Asks for the Primary in time, and hands what it finds to the Enforcer."""

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        right: BootRight,
        clock: Callable[[], Now],
        settle: Callable[[], None],
        ask: AskPrimary = nobody_asks,
    ) -> None:
        self.ask = ask
        """Who finds out; whoever knows a network plugs in here."""
        self._enforcer = enforcer
        self._right = right
        self._clock = clock
        self._settle = settle
        self._asked = float("-inf")
        self._recorded = right.is_held()
        enforcer.trust.primary_seen = self._recorded

    def is_due(self, boot: float) -> bool:
        """Whether it is time to ask, which is asked once for each time."""
        if Cause.PRIMARY_UNREACHABLE not in self._enforcer.meters or boot - self._asked < PRIMARY_SECONDS:
            return False
        self._asked = boot
        return True

    async def look(self) -> None:
        """Find out whether the Primary answers, and let that count; raises what the function does, and OSError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reachable = await self.ask()
        except TimeoutError:
            reachable = False
        if reachable is None:
            return
        self._enforcer.see_primary(self._clock(), reachable=reachable)
        self._settle()
        if reachable and not self._recorded:
            self._right.record()
            self._recorded = True
