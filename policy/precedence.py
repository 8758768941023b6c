"""Precedence: for whom free instances are kept, and who stands where in the waiting order.

An instance that is free goes to the key that it is reserved for, else to those who wait, else to whoever asks. The
instances step of the decision asks `kept_back`, and a denied claim takes its place with `line_up`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .ledger import instances
from .reasons import Reason
from .reservations import Shares
from .waiting import Waiter, rank_of

if TYPE_CHECKING:
    from .decision import Claim, Ruling

_WAITED_FOR = frozenset({Reason.LIMIT_REACHED, Reason.RESERVED, Reason.OTHERS_WAIT})


def kept_back(claim: Claim, feature: str, count: int) -> tuple[Reason, int] | None:
    """Why free instances are not for this claim, and how many; None where enough of them are."""
    situation, request = claim.situation, claim.request
    if feature not in situation.ledger.aside and not situation.waiting.any_for(feature):
        return None
    shares = situation.shares(feature, claim.displaced)
    own = shares.own(request.holder, request.key)
    if count > own + shares.unreserved:
        return Reason.RESERVED, shares.reserved - own
    lacking = _lacking(claim, feature, shares)
    # What a call frees by displacing others on its channel is its own: it was in use until now.
    freed = instances(claim.displaced, feature)
    if count - own - freed > max(shares.unreserved - freed - lacking, 0):
        return Reason.OTHERS_WAIT, lacking
    return None


def _lacking(claim: Claim, feature: str, shares: Shares) -> int:
    """How many of the unreserved instances those lack who come before the claim.

    Who waits for a reservation of others to be given up keeps nobody off meanwhile.
    """
    lacking, aside = 0, claim.situation.ledger.aside.get(feature)
    most = claim.situation.limit(feature) - (aside.instances if aside else 0)
    for waiter in _before(claim, feature):
        kept = aside.find(waiter.holder, waiter.key) if aside else None
        if waiter.instances <= most + (kept.reservation.instances if kept else 0):
            lacking += waiter.lacks(shares)
        if lacking >= shares.unreserved:
            return shares.unreserved
    return lacking


def _before(claim: Claim, feature: str) -> Iterator[Waiter]:
    """Those who wait for the feature and come before the claim."""
    request = claim.request
    rank = _rank(claim, feature) if request.wait else None
    return claim.situation.waiting.before(feature, request.holder, request.key, rank, claim.now.boot)


def _rank(claim: Claim, feature: str) -> int:
    known = claim.situation.catalog.features.get(feature)
    return rank_of(known.ranks if known else (), claim.request.rank)


def _may_wait(claim: Claim, ruling: Ruling) -> bool:
    """Whether the denied claim waits: it says so, it lacks instances alone, and there can ever be as many."""
    request, feature = claim.request, ruling.subject or ""
    if not request.wait or ruling.reason not in _WAITED_FOR or request.application is not None:
        return False
    enough = claim.wants.get(feature, 0) <= (ruling.limit or 0)
    waiting, boot = claim.situation.waiting, claim.now.boot
    return enough and waiting.has_room(feature, request.holder, request.key, claim.uid, boot)


def place_in_line(claim: Claim, ruling: Ruling) -> int | None:
    """Where the denied claim stands among those who wait, 1 for the next; None where it does not wait."""
    return sum(1 for _ in _before(claim, ruling.subject or "")) + 1 if _may_wait(claim, ruling) else None


def line_up(claim: Claim, ruling: Ruling, bound: int | None) -> None:
    """Let the denied claim wait, until `bound` ends if it names a connection; who got another answer waits no more."""
    waiting, request, feature = claim.situation.waiting, claim.request, ruling.subject or ""
    if _may_wait(claim, ruling):
        rank = _rank(claim, feature)
        lacking = claim.added[feature]
        waiting.wait(
            feature, request.holder, request.key, lacking, uid=claim.uid, rank=rank, boot=claim.now.boot, bound=bound
        )  # fmt: skip
    else:
        waiting.leave(request.holder, request.key)
