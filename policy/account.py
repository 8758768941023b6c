"""The account: what was decided about calls, counted and told.

Tallies by feature, emergency calls, channels on which a call began before the earlier one was given back, and lists
that differed from the leases. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .decision import Claim, Decision, Situation, is_emergency_number
from .events import Event, EventName
from .holders import Holder
from .ledger import Lease
from .reasons import Reason
from .requests import Request, SyncRequest
from .synchronize import Synced

BLOCKED = frozenset({Reason.LIMIT_REACHED, Reason.RESERVED, Reason.OTHERS_WAIT, Reason.CEILING_REACHED})
"""The denials for want of instances: what teletraffic calls blocked. Others say nothing about how many are needed, and
an application that falls back does its work in another way."""


class Tally(msgspec.Struct):
    """What was decided about one feature since the daemon started."""

    granted: int = 0
    denied: int = 0
    blocked: int = 0
    """Of the denials, those for want of instances."""
    high: int = 0
    """Most in use after a grant since `begin_minute`."""
    before: int = 0
    """The same of the time before."""

    @property
    def peak(self) -> int:
        """Most in use at once since the daemon started."""
        return max(self.high, self.before)

    def begin_minute(self) -> None:
        """Find the most in use anew from now on; the peak remembers what it was."""
        self.before, self.high = self.peak, 0


MAX_PORTS_DENIED = 1024
"""Ports of which denials are counted apart until the history takes note, five seconds later at most: a client that
makes up a new one for each request fills no memory. Those of more are counted together."""


class PortDenials(msgspec.Struct):
    """Denials of calls on one port since the history last took note."""

    denied: int = 0
    blocked: int = 0


class Account:
    """What was decided since the daemon started."""

    def __init__(self, situation: Situation) -> None:
        self.tallies = {feature: Tally() for feature in situation.catalog.features}
        self.events: list[Event] = []
        """What happened since the daemon last took note, in order."""
        self.emergencies_total = 0
        self.emergency_claims = 0
        """Emergency calls without a listed number."""
        self.denials: dict[tuple[str, Reason], int] = {}
        """Requests that were denied, by feature and reason; without a feature where the catalog has none such."""
        self.granted_at: dict[str, int] = {}
        """Calls that began on each port since the history last took note."""
        self.denied_at: dict[str, PortDenials] = {}
        """Denials of calls on each port since then."""
        self._situation = situation

    def count(self, decision: Decision, claim: Claim) -> None:
        """Take note of a decision that was carried out."""
        if decision.reason is Reason.GRANTED:
            self._count_granted(claim)
        elif decision.reason is Reason.EMERGENCY:
            if claim.held is None or not claim.held.emergency:
                request = claim.request
                self.count_emergency(request.holder, request.key, request.dialed, request.port)
        elif decision.reason is Reason.FALLEN_BACK:
            self._count_denied(decision, claim)
            self._count_granted(claim)
        elif not decision.allowed:
            self._count_denied(decision, claim)
        if claim.displaced and decision.allowed:
            self._tell_displaced(claim.request, claim.displaced)

    def count_emergency(self, holder: str, key: str, dialed: str | None, port: str | None) -> None:
        """Take note of an emergency call, and raise the alarm where its number is not a listed one."""
        self.emergencies_total += 1
        number = dialed or "a number it did not name"
        about = {"HOLDER": holder, "LEASE": key, "DIALED": dialed or "", "PORT": port or ""}
        self.tell(EventName.EMERGENCY_CALL, f"Emergency call of {holder} to {number}: granted.", **about)
        if not is_emergency_number(self._situation.rules, dialed):
            self.emergency_claims += 1
            message = f"{holder} claims an emergency call to {number}, which is not on the list of emergency numbers."
            self.tell(EventName.EMERGENCY_CLAIM, message, **about)

    def count_list(self, holder: Holder, request: SyncRequest, synced: Synced) -> None:
        """Take note of what a list brought, and tell where it differed from the leases."""
        for feature, tally in self.tallies.items():
            tally.high = max(tally.high, self._situation.ledger.in_use(feature))
        claimed = {lease.key: lease for lease in request.leases} if synced.claims else {}
        for key in synced.claims:
            self.count_emergency(request.holder, key, claimed[key].dialed, claimed[key].port)
        if not (synced.adopted or synced.changed or synced.freed):
            return
        holder.drift += 1
        holder.drifted = holder.heard
        counts = f"{synced.adopted} adopted, {synced.changed} changed, {synced.freed} freed"
        message = f"The list of {holder.name} for {request.scope} differed: {counts}."
        self.tell(EventName.SYNC_DRIFT, message, HOLDER=holder.name, SCOPE=str(request.scope))

    def tell(self, name: EventName, message: str, **fields: str) -> None:
        """Say that something happened."""
        self.events.append(Event(name=name, message=message, fields=fields))

    def _count_denied(self, decision: Decision, claim: Claim) -> None:
        reason, feature = decision.reason, decision.feature or ""
        tally, blocked = self.tallies.get(feature), reason in BLOCKED
        if tally is None:
            feature = ""
        else:
            tally.denied += 1
            tally.blocked += blocked
        self.denials[feature, reason] = self.denials.get((feature, reason), 0) + 1
        port = claim.request.port
        if port is not None:
            known = port in self.denied_at or len(self.denied_at) < MAX_PORTS_DENIED
            at_port = self.denied_at.setdefault(port if known else "", PortDenials())
            at_port.denied += 1
            at_port.blocked += blocked

    def _count_granted(self, claim: Claim) -> None:
        in_use = self._situation.ledger.in_use
        for feature in claim.added:
            tally = self.tallies[feature]
            tally.granted += 1
            level = in_use(feature)
            tally.high = max(tally.high, level)
        port = claim.port
        if port is not None and claim.held is None:
            self.granted_at[port] = self.granted_at.get(port, 0) + 1

    def _tell_displaced(self, request: Request, displaced: Iterable[Lease]) -> None:
        holder = self._situation.holders.find(request.holder)
        for lease in displaced:
            if holder is not None:
                holder.displaced += 1
                holder.drifted = holder.heard
            message = (
                f"Channel {request.channel} of {lease.port} was still held by {lease.key}; "
                f"{request.holder} begins a new call on it, so the earlier one is over."
            )
            about = {"HOLDER": request.holder, "LEASE": lease.key, "PORT": str(lease.port)}
            self.tell(EventName.CHANNEL_DRIFT, message, **about, CHANNEL=str(request.channel))
