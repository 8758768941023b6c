"""Measuring: the history of use and the alarms, joined with the site.

A minute is handed to the storing thread when it is over. One in which nothing happened waits for others, so that an
idle host writes to its flash memory six times an hour and not sixty; what was in use never waits.
"""

from __future__ import annotations

from collections.abc import Callable

from featurekeyd.policy.alarms import AlarmRules, Alarms
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event
from featurekeyd.policy.instant import Now
from featurekeyd.policy.usage_history import Minute, UsageHistory

MAX_IDLE = 10
"""Idle minutes that are stored together."""


class Measuring:
    """What is measured of one site; `keep` stores minutes, and nobody waits for it."""

    def __init__(self, enforcer: Enforcer, rules: AlarmRules, keep: Callable[[list[Minute]], None], now: Now) -> None:
        self.history = UsageHistory(enforcer.account, tuple(enforcer.rules.ceilings), now)
        self.alarms = Alarms(rules, self.history)
        self._enforcer = enforcer
        self._keep = keep
        self._idle: list[Minute] = []
        self.history.take(enforcer.ledger, now)  # what is there from before a restart is in use from now on
        self.alarms.measure(enforcer, now)

    def take(self, now: Now) -> list[Event]:
        """Take in what has changed among the leases; what is to be told of it."""
        history = self.history
        history.take(self._enforcer.ledger, now)
        if history.finished:
            self._hand_over()
        return self.alarms.tell_reached(self._enforcer, now.boot) if history.reached else []

    def tick(self, now: Now) -> list[Event]:
        """Let time pass; what is to be told."""
        told = self.take(now)
        return told + self.alarms.look(self._enforcer, now)

    def close(self, now: Now) -> None:
        """Store the minute that runs, and all that waited."""
        self.history.take(self._enforcer.ledger, now)
        self.history.close(now)
        self._hand_over(at_once=True)

    def _hand_over(self, *, at_once: bool = False) -> None:
        self._idle += self.history.finished
        self.history.finished.clear()
        if at_once or len(self._idle) >= MAX_IDLE or not all(minute.idle for minute in self._idle):
            waiting, self._idle = self._idle, []
            self._keep(waiting)
