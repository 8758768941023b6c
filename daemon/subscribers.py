"""The connections that Watch, and the events they are told.

An event is encoded once, however many watch, and not at all where nobody does. Who reads too slowly loses events and
nobody waits for it; how many they were is told with the next one, or by itself once the client reads again.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request

from . import limits
from .wire import reply_continues

_ENCODER = msgspec.json.Encoder()

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
    EventName.CALLS_ENDED_UNTOLD: "drift",
    EventName.LEASE_FORCED: "drift",
    EventName.OVER_USE_BEGAN: "over_use",
    EventName.OVER_USE_ENDED: "over_use",
    EventName.ALARM_RAISED: "alarm",
    EventName.ALARM_CLEARED: "alarm",
    EventName.EMERGENCY_CLAIM: "emergency_claim",
    EventName.RESERVED: "reservation",
    EventName.UNRESERVED: "reservation",
    EventName.TURN: "turn",
    EventName.CLOCK_SET_BACK: "trust",
    EventName.CLOCK_AHEAD: "trust",
    EventName.CLOCK_UNSET: "trust",
    EventName.CLOCK_RIGHT: "trust",
    EventName.CLOCK_REPAIRED: "trust",
    EventName.HOST_ENROLLED: "trust",
    EventName.HOST_NOT_ENROLLED: "trust",
    EventName.HOST_LEARNED: "trust",
    EventName.HOST_CHANGED: "trust",
    EventName.HOST_SAME: "trust",
    EventName.ADDRESS_ANNOUNCED: "trust",
    EventName.CHECK_PASSED: "trust",
    EventName.CHECK_FAILED: "trust",
    EventName.CHECK_ANSWERED: "trust",
    EventName.CHECK_TOLD_NO: "trust",
    EventName.CHECK_REMARK: "trust",
    EventName.RESCUE_OPENED: "trust",
    EventName.RESCUE_REFUSED: "trust",
    EventName.RESCUE_ENDED: "trust",
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


class Subscriber:
    """One connection that watches; `push` sends a reply, or says that the client reads too slowly to take it."""

    def __init__(self, push: Callable[[bytes], bool], uid: int, *, decisions: bool) -> None:
        self.uid = uid
        """The user whose connection it is."""
        self.decisions = decisions
        self._push = push
        self._lost = 0

    def welcome(self) -> bytes:
        """The first reply, which says that the subscription stands."""
        return reply_continues({})

    def tell(self, event: bytes, reply: bytes) -> None:
        """Send an event, encoded alone and as a reply, or count it as lost and say so with the next one."""
        if self._push(_reply_with_lost(event, self._lost) if self._lost else reply):
            self._lost = 0
        else:
            self._lost += 1

    def reads_again(self) -> None:
        """Tell how many events were lost while the client did not read: the next one may be long in coming."""
        if self._lost and self._push(reply_continues({"lost": self._lost})):
            self._lost = 0


class Subscribers:
    """All connections that watch."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._of_user: Counter[int] = Counter()
        self.decisions = False
        """Whether anybody is told of decisions."""

    def __len__(self) -> int:
        return len(self._subscribers)

    def full(self, uid: int) -> int | None:
        """The limit that one more subscriber of that user would be beyond, if any."""
        if self._of_user[uid] >= limits.MAX_SUBSCRIBERS_OF_USER:
            return limits.MAX_SUBSCRIBERS_OF_USER
        return limits.MAX_SUBSCRIBERS if len(self) >= limits.MAX_SUBSCRIBERS else None

    def add(self, subscriber: Subscriber) -> None:
        """Tell it events from now on."""
        self._subscribers.add(subscriber)
        self._of_user[subscriber.uid] += 1
        self.decisions = self.decisions or subscriber.decisions

    def discard(self, subscriber: Subscriber) -> None:
        """Tell it nothing more."""
        if subscriber not in self._subscribers:
            return
        self._subscribers.discard(subscriber)
        self._of_user -= Counter([subscriber.uid])
        self.decisions = any(it.decisions for it in self._subscribers)

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
            limit=int(fields["LIMIT"]) if "LIMIT" in fields else None,
            in_use=int(fields["IN_USE"]) if "IN_USE" in fields else None,
        )
        self._tell(told, self._subscribers)

    def tell_decision(self, request: Request, decision: Decision, wall: float) -> None:
        """Tell those who asked for decisions of one."""
        if not self.decisions:
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
        self._tell(told, [subscriber for subscriber in self._subscribers if subscriber.decisions])

    def _tell(self, told: Told, listeners: Iterable[Subscriber]) -> None:
        event = _ENCODER.encode(told)
        reply = b'{"parameters":{"event":' + event + b'},"continues":true}\0'
        for subscriber in listeners:
            subscriber.tell(event, reply)


def _reply_with_lost(event: bytes, lost: int) -> bytes:
    return b'{"parameters":{"event":%b,"lost":%d},"continues":true}\0' % (event, lost)


def _iso(wall: float) -> str:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
