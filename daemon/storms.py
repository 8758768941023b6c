"""Storms of log entries: the first of a kind at once, the rest within a minute in one sum.

What makes a kind is said for each event in `BOUNDS`; events that are not named there are entries each. So no client,
no list and no fault that goes on fills the log, and none hides what another does: kinds are counted apart, so many of
them for each event, and more together. Watch tells every event all the same; a subscriber that reads too slowly is
told how many it lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from featurekeyd.policy.events import Event, EventName

WINDOW_SECONDS = 60.0
"""How long a storm is counted before its sum is told: what goes on is in the log once a minute."""

MAX_KINDS = 256
"""Kinds of one event counted apart at once, as many as there may be holders; more are counted together."""

EMERGENCY_ENTRIES = 60
"""Emergency calls of one holder in a minute that are an entry each: one a second is more than a site makes after an
accident, so that every real one stands in the log by itself; a client that claims them in a loop is summed up."""

DEED_ENTRIES = 100
"""Deeds of technicians in a minute that are an entry each: the keys of a large order; a list that is imported has its
own entry besides."""

CARE_ENTRIES = 10
"""Acts of care of one user in a minute that are an entry each (backups, refused codes, enrollments): more than anybody
does by hand. What a program does over and over is a sum each minute, so that it pushes no act of others out of the
audit in less than days."""

BUG_ENTRIES = 10
"""Exceptions of one sort in a minute that are an entry each: enough to see what they have in common."""

_OTHERS: tuple[str, ...] = ("others",)
"""The kind of those that are counted together."""

_ANY = {
    "HOLDER": "other holders",
    "FEATURE": "various features",
    "REASON": "various reasons",
    "SCOPE": "various scopes",
}
"""What a sum says where a field has no value."""


class Bound(msgspec.Struct, frozen=True):
    """How entries of one event are bounded."""

    by: tuple[str, ...]
    """The fields of the event that make a kind."""
    more: str
    """What the sum says, with `{count}` and the fields in braces."""
    at_once: int = 1
    """Entries of a kind in one window that are told at once."""
    sum: EventName | None = None
    """What the sum is told as, None for the event itself."""


BOUNDS = {
    EventName.DENIED: Bound(
        ("HOLDER", "FEATURE", "REASON", "PORT"),
        "{count} more requests of {HOLDER} for {FEATURE} were denied ({REASON}).",
        sum=EventName.DENIALS_SUMMARIZED,
    ),
    EventName.EMERGENCY_CALL: Bound(
        ("HOLDER",), "{count} more emergency calls of {HOLDER}: granted.", EMERGENCY_ENTRIES
    ),
    EventName.EMERGENCY_CLAIM: Bound(
        ("HOLDER",), "{HOLDER} claims {count} more emergency calls to numbers that are not listed.", EMERGENCY_ENTRIES
    ),
    EventName.CHANNEL_DRIFT: Bound(("HOLDER",), "{HOLDER} began calls on {count} more channels that were still held."),
    EventName.SYNC_DRIFT: Bound(("HOLDER", "SCOPE"), "{count} more lists of {HOLDER} for {SCOPE} differed."),
    EventName.HOLDER_SILENT: Bound(("HOLDER", "SCOPE"), "{HOLDER} fell silent {count} more times ({SCOPE})."),
    EventName.CALLS_ENDED_UNTOLD: Bound(("HOLDER",), "Calls of {HOLDER} ended untold {count} more times."),
    EventName.OVER_USE_BEGAN: Bound(("FEATURE",), "{FEATURE} was above its limit anew {count} more times."),
    EventName.OVER_USE_ENDED: Bound(("FEATURE",), "{FEATURE} was back within its limit {count} more times."),
    EventName.TURN: Bound(("HOLDER", "FEATURE"), "It was the turn of {count} more keys of {HOLDER} for {FEATURE}."),
    EventName.LEASE_FORCED: Bound(("BY",), "{count} more leases were freed by {BY}.", DEED_ENTRIES),
    EventName.LICENSE_ADDED: Bound(("BY",), "{count} more licenses were added by {BY}.", DEED_ENTRIES),
    EventName.LICENSE_REMOVED: Bound(("BY",), "{count} more licenses were removed by {BY}.", DEED_ENTRIES),
    EventName.LICENSE_EXPIRED: Bound((), "{count} more licenses have expired.", DEED_ENTRIES),
    EventName.LICENSE_EXPIRES_SOON: Bound((), "{count} more licenses expire soon.", DEED_ENTRIES),
    EventName.RESERVED: Bound(("BY",), "{count} more reservations were made by {BY}.", DEED_ENTRIES),
    EventName.UNEXPECTED: Bound(
        ("ERROR",), "{count} more exceptions {ERROR} that nobody foresaw; those before show where.", BUG_ENTRIES
    ),
    EventName.UNRESERVED: Bound(("BY",), "{count} more reservations were given up by {BY}.", DEED_ENTRIES),
    EventName.CERTIFICATE_IMPORTED: Bound(("BY",), "{count} more certificates were imported by {BY}.", CARE_ENTRIES),
    EventName.LIST_IMPORTED: Bound(("BY",), "{count} more license lists were imported by {BY}.", CARE_ENTRIES),
    EventName.LICENSES_EXPORTED: Bound(("BY",), "{count} more lists of licenses were exported by {BY}.", CARE_ENTRIES),
    EventName.CLOCK_REPAIRED: Bound(("BY",), "{BY} said {count} more times that the clock is right.", CARE_ENTRIES),
    EventName.HOST_ENROLLED: Bound(("BY",), "The host was enrolled {count} more times by {BY}.", CARE_ENTRIES),
    EventName.ADDRESS_ANNOUNCED: Bound(("BY",), "{count} more addresses were announced by {BY}.", CARE_ENTRIES),
    EventName.RESCUE_REFUSED: Bound(("BY",), "{count} more rescue codes entered by {BY} were refused.", CARE_ENTRIES),
    EventName.STATE_BACKED_UP: Bound(("BY",), "{count} more backups of the state were taken by {BY}.", CARE_ENTRIES),
    EventName.STATE_RESTORED: Bound(("BY",), "{count} more backups were restored by {BY}.", CARE_ENTRIES),
}
"""The events that a client, a list or a fault can cause without end."""


class _Window(msgspec.Struct):
    begun: float
    count: int = 0


class Storms:
    """Counts events by kind."""

    def __init__(self) -> None:
        self._windows: dict[EventName, dict[tuple[str, ...], _Window]] = {}

    def passes(self, event: Event, boot: float) -> bool:
        """Whether the event is an entry of its own; it is counted where it is not."""
        bound = BOUNDS.get(event.name)
        if bound is None:
            return True
        return self.admits(event.name, tuple([event.fields.get(field, "") for field in bound.by]), boot)

    def admits(self, name: EventName, kind: tuple[str, ...], boot: float) -> bool:
        """The same for an event that has not been made yet, by the values that make its kind."""
        windows = self._windows.setdefault(name, {})
        if kind not in windows and len(windows) >= MAX_KINDS:
            kind = _OTHERS
        window = windows.get(kind)
        if window is None:
            window = windows[kind] = _Window(boot)
        window.count += 1
        return window.count <= BOUNDS[name].at_once

    def ended(self, boot: float) -> list[Event]:
        """A sum for each kind whose window is over and which went on after what was told at once."""
        return [event for name in list(self._windows) for event in self._ended(name, boot)]

    def _ended(self, name: EventName, boot: float) -> Iterable[Event]:
        windows = self._windows[name]
        # In a list first: bugs are told from other threads too.
        for kind in [kind for kind, window in list(windows.items()) if boot - window.begun >= WINDOW_SECONDS]:
            more = windows.pop(kind).count - BOUNDS[name].at_once
            if more > 0:
                yield _sum(name, kind, more)


def _sum(name: EventName, kind: tuple[str, ...], more: int) -> Event:
    bound = BOUNDS[name]
    values = dict.fromkeys(bound.by, "") if kind == _OTHERS else dict(zip(bound.by, kind, strict=True))
    message = bound.more.format(
        count=more, **{field: value or _ANY.get(field, "others") for field, value in values.items()}
    )
    if values.get("PORT"):
        message = f"{message.removesuffix('.')} on port {values['PORT']}."
    return Event(name=bound.sum or name, message=message, fields=values | {"COUNT": str(more)})
