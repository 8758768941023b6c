"""What has gone wrong lately: the latest log entry of each kind at warning or worse, for a technician who asks.

The journal may have rotated, and not everybody may read it. There are as many entries as there are kinds of events and
reasons, so the memory is bounded by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from featurekeyd.policy.events import SORT, Event, EventName, Priority

ENDED_BY: dict[EventName, EventName] = {
    EventName.STATE_NOT_STORED: EventName.STATE_RESTORED,
    EventName.LEASES_NOT_RECORDED: EventName.LEASES_RECORDED_AGAIN,
    EventName.OVER_USE_BEGAN: EventName.OVER_USE_ENDED,
    EventName.CLOCK_SET_BACK: EventName.CLOCK_RIGHT,
    EventName.HOST_CHANGED: EventName.HOST_SAME,
    EventName.CHECK_FAILED: EventName.CHECK_PASSED,
    EventName.SETTINGS_REFUSED: EventName.SETTINGS_READ_ANEW,
    EventName.SOCKET_TROUBLE: EventName.SOCKET_RIGHT,
    EventName.FEATURE_KEY_TROUBLE: EventName.FEATURE_KEY_FOUND,
}
"""What was wrong, and the event that says that it is over: then it is no trouble any more."""

PRIVATE = ("LEASE", "DIALED", "CHANNEL")
"""Fields that are kept: what a message says of a single call, which a support bundle leaves out of it."""

MAX_MESSAGE = 1000
"""Characters of a message that are kept: clients choose parts of some."""


class PrivateField(msgspec.Struct, frozen=True):
    """A field of an event."""

    name: str
    value: str


class RecentTrouble(msgspec.Struct, frozen=True):
    """The latest entry of its kind, and how many there were since the daemon started."""

    event: str
    priority: str
    message: str
    seconds_ago: int
    count: int
    fields: tuple[PrivateField, ...] = ()


class _Noted(msgspec.Struct):
    event: Event
    boot: float
    count: int


class Troubles:
    """Takes note of entries as they are logged, from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._noted: dict[tuple[EventName, str], _Noted] = {}
        self._lock = threading.Lock()

    def note(self, event: Event) -> None:
        """Keep the entry if something is wrong by it, and forget what it ends."""
        with self._lock:
            for begun in [begun for begun, end in ENDED_BY.items() if end is event.name]:
                self._forget(begun)
            if SORT[event.name].priority <= Priority.WARNING:
                self._keep(event)

    def _keep(self, event: Event) -> None:
        reason = event.fields.get("REASON", "") if event.name is EventName.DENIED else ""
        before = self._noted.get((event.name, reason))
        fields = {name: event.fields[name][:MAX_MESSAGE] for name in PRIVATE if event.fields.get(name)}
        kept = Event(name=event.name, message=event.message[:MAX_MESSAGE], fields=fields)
        self._noted[event.name, reason] = _Noted(kept, self._clock(), (before.count if before else 0) + 1)

    def _forget(self, name: EventName) -> None:
        for noted in [noted for noted in self._noted if noted[0] is name]:
            del self._noted[noted]

    def listed(self) -> list[RecentTrouble]:
        """All of them, the latest first."""
        now = self._clock()
        with self._lock:
            noted = sorted(self._noted.values(), key=lambda it: -it.boot)
        return [
            RecentTrouble(
                event=str(it.event.name),
                priority=SORT[it.event.name].priority.name.lower(),
                message=it.event.message,
                seconds_ago=max(int(now - it.boot), 0),
                count=it.count,
                fields=tuple(PrivateField(name, value) for name, value in it.event.fields.items()),
            )
            for it in noted
        ]
