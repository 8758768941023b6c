"""What the client hands back: frozen values read from replies, or made on the spot when the daemon cannot be asked.

Standard library only, since telephony processes import it. A refusal is a value here, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .call import CallError, ReplyGarbled

if TYPE_CHECKING:
    from collections.abc import Mapping

DAEMON_AWAY = "daemon_away"
"""Reason of an answer that the client made because it got none: allowed or not as the caller chose."""

EMERGENCY = "emergency"
"""Reason of an answer that the client made for an emergency call; the daemon uses the same word."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Grace:
    """A meter that drains: what lasts, the seconds left, what then, and the cure."""

    cause: str
    seconds_left: int
    consequence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Allow or deny, and why; members as in the reply to Acquire of io.featurekey.License.

    `from_daemon` is false for an answer that the client made itself, with the reason `daemon_away` or `emergency`.
    """

    allowed: bool
    reason: str
    feature: str | None = None
    limit: int | None = None
    in_use: int | None = None
    fallback: str | None = None
    message: str | None = None
    remedy: str | None = None
    grace: tuple[Grace, ...] = ()
    from_daemon: bool = True


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a synchronization mended: leases adopted, changed, freed, and held afterwards in that scope."""

    adopted: int
    changed: int
    freed: int
    held: int


def read_answer(reply: Mapping[str, Any]) -> Answer:
    """The answer in a reply to Acquire; raises ReplyGarbled when a member is missing or of the wrong type."""
    return Answer(
        allowed=_needed(reply, "allowed", bool),
        reason=_needed(reply, "reason", str),
        feature=_member(reply, "feature", str),
        limit=_member(reply, "limit", int),
        in_use=_member(reply, "in_use", int),
        fallback=_member(reply, "fallback", str),
        message=_member(reply, "message", str),
        remedy=_member(reply, "remedy", str),
        grace=tuple(_read_grace(grace) for grace in _member(reply, "grace", list) or ()),
    )


def read_sync_result(reply: Mapping[str, Any]) -> SyncResult:
    """The numbers in a reply to Sync; raises ReplyGarbled."""
    names = ("adopted", "changed", "freed", "held")
    return SyncResult(*(_needed(reply, name, int) for name in names))


def without_daemon(trouble: CallError, feature: str, *, allowed: bool) -> Answer:
    """The answer when the daemon gave none."""
    return Answer(
        allowed=allowed,
        reason=DAEMON_AWAY,
        feature=feature,
        message=trouble.what,
        remedy=trouble.cure or None,
        from_daemon=False,
    )


def emergency_granted() -> Answer:
    """The answer to an emergency call that the daemon did not grant, for whatever cause."""
    return Answer(allowed=True, reason=EMERGENCY, from_daemon=False)


def _read_grace(grace: object) -> Grace:
    if not isinstance(grace, dict):
        raise ReplyGarbled("reply: an element of grace is not an object")
    return Grace(
        cause=_needed(grace, "cause", str),
        seconds_left=_needed(grace, "seconds_left", int),
        consequence=_needed(grace, "consequence", str),
        remedy=_needed(grace, "remedy", str),
    )


def _member(reply: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value | None:
    value = reply.get(name)
    # In Python a bool is an int; in JSON it is not.
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ReplyGarbled(f"reply: member {name} has the wrong type")
    return value


def _needed(reply: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    value = _member(reply, name, kind)
    if value is None:
        raise ReplyGarbled(f"reply: member {name} is missing")
    return value
