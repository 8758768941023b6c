"""Draining: what is in use above its limit, from when it begins until it is over.

No lease is ever cut because a limit fell (DESIGN: The decision): those that are there stay, and new ones are refused
until fewer are in use than the limit allows. How far a feature is above its limit follows from the ledger and the limit
alone; what is kept here is only what was told of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from .catalog import UNLIMITED
from .enforcer import Enforcer
from .entitlements import Entitlements
from .events import Event, EventName
from .standing import Standing


def above_limit(enforcer: Enforcer, feature: str) -> int:
    """Instances of a feature in use beyond what may be in use now; 0 where there are none."""
    return max(enforcer.ledger.in_use(feature) - enforcer.limit(feature), 0)


class Draining:
    """What was told of features that are above their limits."""

    def __init__(self) -> None:
        self._over: dict[str, int] = {}
        """Features above their limits, with the limit as last told."""
        self._limits: dict[str, int] = {}
        """The limits at the last look at all features."""
        self._entitlements: Entitlements | None = None
        self._standing: Standing | None = None

    def look_at_all(self) -> None:
        """Look at every feature next time: a list may have brought more than is licensed."""
        self._entitlements = None

    def look(self, enforcer: Enforcer) -> list[Event]:
        """What is to be told now; next to nothing to do while no limit has changed and nothing is above one."""
        if enforcer.entitlements is not self._entitlements or enforcer.standing is not self._standing:
            self._entitlements, self._standing = enforcer.entitlements, enforcer.standing
            return self._compare(enforcer, enforcer.catalog.features)
        return self._compare(enforcer, list(self._over)) if self._over else []

    def _compare(self, enforcer: Enforcer, features: Iterable[str]) -> list[Event]:
        told = (self._change(enforcer, feature, enforcer.limit(feature)) for feature in features)
        return [event for event in told if event is not None]

    def _change(self, enforcer: Enforcer, feature: str, limit: int) -> Event | None:
        """The event where over-use of the feature begins, grows because the limit fell again, or is over."""
        before, in_use = self._limits.get(feature, limit), enforcer.ledger.in_use(feature)
        self._limits[feature] = limit
        told = self._over.get(feature)
        if in_use > limit:
            self._over[feature] = limit
            return _began(enforcer, feature, before) if told is None or limit < told else None
        return None if self._over.pop(feature, None) is None else _ended(enforcer, feature)


def _began(enforcer: Enforcer, feature: str, before: int) -> Event:
    limit, in_use = enforcer.limit(feature), enforcer.ledger.in_use(feature)
    title = enforcer.catalog.features[feature].title
    why = f"The limit of {title} fell from {_said(before)} to {limit} while {in_use} are in use"
    if before <= limit:
        why = f"{in_use} of {title} are in use and the limit is {limit}"
    message = f"{why}, {in_use - limit} above it. None is cut; new ones are refused until fewer are in use."
    return _event(EventName.OVER_USE_BEGAN, message, enforcer, feature, BEFORE=str(before))


def _ended(enforcer: Enforcer, feature: str) -> Event:
    limit, in_use = enforcer.limit(feature), enforcer.ledger.in_use(feature)
    title = enforcer.catalog.features[feature].title
    message = f"{in_use} of {title} are in use and the limit is {_said(limit)}: nothing is above it any more."
    return _event(EventName.OVER_USE_ENDED, message, enforcer, feature)


def _event(name: EventName, message: str, enforcer: Enforcer, feature: str, **more: str) -> Event:
    limit, in_use = enforcer.limit(feature), enforcer.ledger.in_use(feature)
    fields = {"FEATURE": feature, "LIMIT": str(limit), "IN_USE": str(in_use), "STANDING": str(enforcer.standing)}
    return Event(name=name, message=message, fields=fields | more)


def _said(limit: int) -> str:
    return "unlimited" if limit >= UNLIMITED else str(limit)
