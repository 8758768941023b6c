"""The connections that Watch, and the events they are told."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import msgspec

from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request

from .wire import reply_continues

KINDS = {
    EventName.STANDING_LICENSED: "standing",
    EventName.STANDING_GRACE: "standing",
    EventName.STANDING_RESTRICTED: "standing",
    EventName.STANDING_DEACTIVATED: "standing",
    EventName.FEATURE_KEY_FOUND: "feature_key",
    EventName.FEATURE_KEY_TROUBLE: "feature_key",
    EventName.CERTIFICATE_IMPORTED: "licenses",
    EventName.LICENSE_ADDED: "licenses",
    EventName.LICENSE_REMOVED: "licenses",
    EventName.LIST_IMPORTED: "licenses",
    EventName.LICENSE_EXPIRED: "licenses",
    EventName.LICENSE_EXPIRES_SOON: "licenses",
    EventName.CHANNEL_DRIFT: "drift",
    EventName.SYNC_DRIFT: "drift",
    EventName.HOLDER_SILENT: "drift",
    EventName.LEASE_FORCED: "drift",
    EventName.EMERGENCY_CLAIM: "emergency_claim",
    EventName.RESERVED: "reservation",
    EventName.UNRESERVED: "reservation",
    EventName.TURN: "turn",
}
"""What subscribers are told of, and as what; other events are for the log alone."""


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as io.featurekey.License, type Event, describes it."""

    kind: str
    time: str
    message: str
    allowed: bool | None = None
    reason: Reason | None = None
    feature: str | None = None
    holder: str | None = None
    key: str | None = None
    limit: int | None = None
    in_use: int | None = None


class _Reply(msgspec.Struct, omit_defaults=True):
    event: Told | None = None
    lost: int | None = None


class Subscriber:
    """One connection that watches; `push` sends a reply, or says that the client reads too slowly to take it."""

    def __init__(self, push: Callable[[bytes], bool], *, decisions: bool) -> None:
        self.decisions = decisions
        self._push = push
        self._lost = 0

    def welcome(self) -> bytes:
        """The first reply, which says that the subscription stands."""
        return reply_continues(_Reply())

    def tell(self, told: Told) -> None:
        """Send the event, or count it as lost and say so with the next one."""
        if self._push(reply_continues(_Reply(told, self._lost or None))):
            self._lost = 0
        else:
            self._lost += 1


class Subscribers:
    """All connections that watch."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Tell it events from now on."""
        self._subscribers.add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Tell it nothing more."""
        self._subscribers.discard(subscriber)

    def tell_event(self, event: Event, wall: float) -> None:
        """Tell everybody of an event that is for subscribers."""
        kind = KINDS.get(event.name)
        if kind is None or not self._subscribers:
            return
        fields = event.fields
        told = Told(
            kind=kind,
            time=_iso(wall),
            message=event.message,
            feature=fields.get("FEATURE"),
            holder=fields.get("HOLDER"),
            key=fields.get("LEASE"),
        )
        for subscriber in self._subscribers:
            subscriber.tell(told)

    def tell_decision(self, request: Request, decision: Decision, wall: float) -> None:
        """Tell those who asked for decisions of one."""
        listeners = [subscriber for subscriber in self._subscribers if subscriber.decisions]
        if not listeners:
            return
        told = Told(
            kind="decision",
            time=_iso(wall),
            message=decision.message or f"{decision.reason} to {request.holder}",
            allowed=decision.allowed,
            reason=decision.reason,
            feature=decision.feature,
            holder=request.holder,
            key=request.key,
            limit=decision.limit,
            in_use=decision.in_use,
        )
        for subscriber in listeners:
            subscriber.tell(told)


def _iso(wall: float) -> str:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
