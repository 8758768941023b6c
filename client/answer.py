"""What the client hands back: frozen values read from replies, or made on the spot when the daemon cannot be asked.

Standard library only, since telephony processes import it. A refusal is a value here, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .call import LICENSE, CallRefused
from .reading import Said, member, needed, objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .call import CallError

DAEMON_AWAY = "daemon_away"
"""Reason of an answer that the client made because it got none: allowed or not as the caller chose."""

REFUSED = "refused"
"""Reason of an answer that the client made because the daemon refused the question itself: never allowed."""

EMERGENCY = "emergency"
"""Reason of an answer that the client made for an emergency call; the daemon uses the same word."""


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

    `from_daemon` is false for an answer that the client made itself, with the reason `daemon_away`, `refused` or
    `emergency`.
    """

    allowed: bool
    reason: str
    feature: str | None = None
    limit: int | None = None
    in_use: int | None = None
    place: int | None = None
    fallback: str | None = None
    mode: str | None = None
    """The mode that an application may run in; None where the client made the answer itself."""
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
        allowed=needed(reply, "allowed", bool),
        reason=needed(reply, "reason", str),
        feature=member(reply, "feature", str),
        limit=member(reply, "limit", int),
        in_use=member(reply, "in_use", int),
        place=member(reply, "place", int),
        fallback=member(reply, "fallback", str),
        mode=member(reply, "mode", str),
        message=member(reply, "message", str),
        remedy=member(reply, "remedy", str),
        grace=tuple(_read_grace(grace) for grace in objects(reply, "grace")),
    )


def read_sync_result(reply: Mapping[str, Any]) -> SyncResult:
    """The numbers in a reply to Sync; raises ReplyGarbled."""
    names = ("adopted", "changed", "freed", "held")
    return SyncResult(*(needed(reply, name, int) for name in names))


def without_daemon(trouble: CallError, feature: str | None, *, fail_open: bool) -> Answer:
    """The answer when the daemon gave none: what the caller chose, but denied where the daemon refused the question.

    Else whoever can spoil a question, as a far end that chooses its Call-ID, would have a free call by it.
    """
    return Answer(
        allowed=fail_open and not trouble.final,
        reason=REFUSED if trouble.final else DAEMON_AWAY,
        feature=feature,
        message=trouble.what,
        remedy=_remedy(trouble),
        from_daemon=False,
    )


EMERGENCY_GRANTED = Answer(allowed=True, reason=EMERGENCY, from_daemon=False)
"""The answer to an emergency call that the daemon did not grant, for whatever cause."""

_UPDATED = "restart featurekeyd, which is older than this client"

_REMEDIES = {
    "org.varlink.service.InvalidParameter": (
        "mend what the telephony system passes as {parameter}; the limits stand in io.featurekey.License"
    ),
    "org.varlink.service.MethodNotFound": _UPDATED,
    "org.varlink.service.MethodNotImplemented": _UPDATED,
    "org.varlink.service.InterfaceNotFound": _UPDATED,
    f"{LICENSE}.HolderBelongsToAnotherUser": (
        "ask as the user whom the name {holder} belongs to, or under another name; featurekeyctl status lists them, "
        "and their number is limited"
    ),
}


def _remedy(trouble: CallError) -> str | None:
    if not isinstance(trouble, CallRefused):
        return trouble.cure or None
    return _REMEDIES.get(trouble.error, "see journalctl -u featurekeyd").format_map(Said(trouble.parameters))


def _read_grace(grace: Mapping[str, Any]) -> Grace:
    return Grace(
        cause=needed(grace, "cause", str),
        seconds_left=needed(grace, "seconds_left", int),
        consequence=needed(grace, "consequence", str),
        remedy=needed(grace, "remedy", str),
    )
