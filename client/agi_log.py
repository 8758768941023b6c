"""What featurekey-agi says: lines on standard error, with the priority before each where the journal reads them.

Rules: what may come in a storm (a stranger's connections, a switch that is away) is said once a minute for each kind,
with the number of times it was left unsaid. No secret and no line of the dialplan's is ever part of it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ERROR: Final = 3
WARNING: Final = 4
NOTICE: Final = 5
INFO: Final = 6

QUIET_SECONDS = 60
"""Seconds for which the same kind is not said again: what goes on is told once a minute."""


class Log:
    """Writes lines; `kind` names what is not to be repeated, and must be one of few words."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        # sd-daemon(3): a number in angle brackets at the beginning of a line is its priority.
        self._prefixed = "JOURNAL_STREAM" in os.environ

    def say(self, priority: int, text: str, kind: str = "") -> None:
        """Say it, unless the same kind was said within the minute."""
        if kind and not self._may_say(kind):
            return
        more = self._unsaid.pop(kind, 0)
        line = f"{text} ({more} more in the last minutes)" if more else text
        head = f"<{priority}>" if self._prefixed else "featurekey-agi: "
        print(head + _plain(line), file=sys.stderr, flush=True)  # noqa: T201 - standard error is where it goes

    def forget(self, kind: str) -> None:
        """Say the kind at once when it comes again: what it was about has ended."""
        self._said.pop(kind, None)
        self._unsaid.pop(kind, None)

    def _may_say(self, kind: str) -> bool:
        now = self._clock()
        if now - self._said.get(kind, float("-inf")) < QUIET_SECONDS:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return False
        self._said[kind] = now
        return True


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
