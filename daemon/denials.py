"""Denials as log entries: the first of a kind at once, the rest of a storm in one sum.

A kind is one holder, feature and reason. The first denial of a kind is an entry of its own; those that follow within
the window are counted, and told in one entry when the window ends.
"""

from __future__ import annotations

import msgspec

from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.requests import Request

WINDOW_SECONDS = 60.0
MAX_KINDS = 256
"""Kinds counted apart at once; more are counted together."""

_Kind = tuple[str, str, str]


class _Window(msgspec.Struct):
    begun: float
    more: int = 0


class Denials:
    """Counts denials by kind."""

    def __init__(self) -> None:
        self._windows: dict[_Kind, _Window] = {}

    def note(self, request: Request, decision: Decision, boot: float) -> Event | None:
        """The entry for a denial that is the first of its kind; None for one that is only counted."""
        kind = (request.holder, decision.feature or "", str(decision.reason))
        if kind not in self._windows and len(self._windows) >= MAX_KINDS:
            kind = ("", "", "others")
        window = self._windows.get(kind)
        if window is not None:
            window.more += 1
            return None
        self._windows[kind] = _Window(boot)
        return Event(name=EventName.DENIED, message=_sentence(request, decision), fields=_fields(request, decision))

    def ended(self, boot: float) -> list[Event]:
        """An entry for each kind whose window is over and which went on after its first denial."""
        over = [kind for kind, window in self._windows.items() if boot - window.begun >= WINDOW_SECONDS]
        windows = [(kind, self._windows.pop(kind)) for kind in over]
        return [_summary(kind, window.more) for kind, window in windows if window.more]


def _sentence(request: Request, decision: Decision) -> str:
    return f"Denied to {request.holder}: {decision.message} {decision.remedy}".rstrip()


def _fields(request: Request, decision: Decision) -> dict[str, str]:
    values = {
        "FEATURE": decision.feature,
        "HOLDER": request.holder,
        "LEASE": request.key,
        "REASON": str(decision.reason),
        "LIMIT": decision.limit,
        "IN_USE": decision.in_use,
        "PORT": request.port,
        "CHANNEL": request.channel,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _summary(kind: _Kind, more: int) -> Event:
    holder, feature, reason = kind
    message = f"{more} more requests of {holder or 'other holders'} for {feature or 'various features'} were denied."
    fields = {"HOLDER": holder, "FEATURE": feature, "REASON": reason, "COUNT": str(more)}
    return Event(name=EventName.DENIALS_SUMMARIZED, message=message, fields=fields)
