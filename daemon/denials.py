"""Denials as log entries; `daemon.storms` says which of them are told one by one."""

from __future__ import annotations

from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request


def kind_of_denial(request: Request, decision: Decision) -> tuple[str, str, str, str]:
    """What makes denials one storm: holder, feature, reason, and the port where its ceiling is the reason.

    A feature that the catalog does not know is a name that the client made up, so it makes no kind.
    """
    reason = decision.reason
    feature = "" if reason is Reason.UNKNOWN_FEATURE else decision.feature
    port = request.port if reason is Reason.CEILING_REACHED else None
    return (request.holder, feature or "", str(reason), port or "")


def denial(request: Request, decision: Decision) -> Event:
    """The entry for a denial."""
    message = f"Denied to {request.holder}: {decision.message} {decision.remedy}".rstrip()
    return Event(name=EventName.DENIED, message=message, fields=_fields(request, decision))


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
