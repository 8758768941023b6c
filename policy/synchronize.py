"""Sync: the holder's own list is the truth about one scope of its leases.

Unknown leases are adopted, whatever the limit: the calls are there. Missing ones are freed, except those granted after
the list was taken. A list in several parts takes effect part by part for what it names, and with its last part for what
it leaves out (DESIGN: Leases).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

from .catalog import Scope
from .decision import Situation, expand, set_apart
from .instant import Now
from .ledger import Lease
from .requests import CallClass, Phase, SyncLease, SyncRequest

MARGIN_SECONDS = 2.0
"""Leases granted this long before the list was taken are spared too: the holder's list may not have had them yet."""


class Synced(msgspec.Struct, frozen=True):
    """What a Sync changed, and how many leases the scope has afterwards."""

    adopted: int
    changed: int
    freed: int
    held: int
    claims: tuple[str, ...] = ()
    """Keys that the list calls emergency calls and that were not granted as such."""


class ListRefused(msgspec.Struct, frozen=True):
    """The list cannot be used, and why."""

    hint: str


class _Round(msgspec.Struct):
    generation: int
    taken: float
    """Boot time at which the list was taken."""
    named: set[str]


class Rounds:
    """The lists that came in part, by holder and scope."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Scope], _Round] = {}
        self._newest: dict[tuple[str, Scope], int] = {}

    def synchronize(self, situation: Situation, request: SyncRequest, uid: int, now: Now) -> Synced | ListRefused:
        """Carry out one call of Sync; the caller has made sure whose names these are."""
        round_ = self._round(request, now)
        if isinstance(round_, ListRefused):
            return round_
        keys = {lease.key for lease in request.leases}
        most = situation.rules.max_leases
        if _together(keys, round_.named) > most:
            return ListRefused(f"a list has at most {most} leases")
        new = sum(key not in situation.ledger.of_holder(request.holder) for key in keys)
        if situation.ledger.of_user(uid) + new > 2 * most:
            return ListRefused(f"these would be more than {2 * most} leases: a whole list beside all that was before")
        claims = tuple(lease.key for lease in request.leases if _claims(situation, request, lease))
        changes = [_adopt(situation, request, lease, uid, now) for lease in request.leases]
        round_.named |= keys
        freed = self._close(situation, request, round_) if _is_last(request) else 0
        held = sum(lease.scope is request.scope for lease in situation.ledger.of_holder(request.holder).values())
        return Synced(changes.count("adopted"), changes.count("changed"), freed, held, claims)

    def forget(self, holder: str) -> None:
        """Drop what is open for a holder that is no more."""
        for place in [place for place in self._newest.keys() | self._open.keys() if place[0] == holder]:
            self._open.pop(place, None)
            self._newest.pop(place, None)

    def _round(self, request: SyncRequest, now: Now) -> _Round | ListRefused:
        place = (request.holder, request.scope)
        taken = now.boot - (request.list_age_ms or 0) / 1000
        if request.generation is None:
            whole = _Round(0, taken, set())
            return whole if _is_last(request) else ListRefused("a list in several parts needs a generation")
        newest = self._newest.get(place)
        if newest is not None and request.generation < newest:
            return ListRefused(f"generation {request.generation} is older than generation {newest}")
        open_ = self._open.get(place)
        if open_ is None and request.generation == newest:
            # That list is complete, or a whole one came since: the part is adopted, and what it leaves out stays.
            return _Round(request.generation, -math.inf, set())
        if open_ is None or open_.generation != request.generation:
            open_ = _Round(request.generation, taken, set())
        open_.taken = min(open_.taken, taken)
        self._open[place] = open_
        self._newest[place] = request.generation
        return open_

    def _close(self, situation: Situation, request: SyncRequest, round_: _Round) -> int:
        """Free what the whole list leaves out, of the holder and of the earlier one that it takes over."""
        self._open.pop((request.holder, request.scope), None)
        holders = dict.fromkeys(filter(None, (request.holder, request.takes_over)))
        missing = [
            (lease.holder, lease.key)
            for holder in holders
            for lease in situation.ledger.of_holder(holder).values()
            if lease.scope is request.scope
            and lease.key not in round_.named
            and lease.granted < round_.taken - MARGIN_SECONDS
        ]
        for holder, key in missing:
            situation.ledger.drop(holder, key)
        return len(missing)


def _is_last(request: SyncRequest) -> bool:
    return request.last is not False


def _claims(situation: Situation, request: SyncRequest, listed: SyncLease) -> bool:
    if listed.call_class in {None, CallClass.NORMAL}:
        return False
    held = situation.ledger.find(request.holder, listed.key)
    earlier = situation.ledger.find(request.takes_over, listed.key) if request.takes_over else None
    return not any(lease is not None and lease.emergency for lease in (held, earlier))


def _together(keys: set[str], known: Collection[str]) -> int:
    return len(known) + sum(key not in known for key in keys)


def _adopt(situation: Situation, request: SyncRequest, listed: SyncLease, uid: int, now: Now) -> str:
    ledger = situation.ledger
    held = ledger.find(request.holder, listed.key)
    earlier = None if request.takes_over in {None, request.holder} else ledger.drop(request.takes_over, listed.key)
    since = held or earlier
    wanted = _as_listed(situation, request, listed, since, uid)
    if held is not None and _same(held, wanted, expand(situation.catalog, listed.wants, Phase.SETUP)):
        return "held" if earlier is None else "changed"
    granted = since.granted if since else now.boot
    ledger.put(msgspec.structs.replace(wanted, granted=granted, bound=held.bound if held else None))
    return "adopted" if since is None else "changed"


def _as_listed(situation: Situation, request: SyncRequest, listed: SyncLease, since: Lease | None, uid: int) -> Lease:
    # The holder may not know that a call it dialed is an emergency call: the settings' numbers said so.
    listed_class = listed.call_class or CallClass.NORMAL
    call_class = since.call_class if since is not None and since.emergency else listed_class
    emergency = call_class is not CallClass.NORMAL
    port = listed.port or (since.port if since else None)
    wants = {} if emergency else expand(situation.catalog, listed.wants, Phase.ESTABLISHED)
    return Lease(
        holder=request.holder,
        key=listed.key,
        uid=uid,
        scope=request.scope,
        present=set_apart(wants, situation.presence),
        wants=wants,
        granted=0.0,
        port=port,
        channel=listed.channel or (since.channel if since and since.port == port else None),
        call_class=call_class,
    )


def _same(held: Lease, wanted: Lease, in_setup: dict[str, int]) -> bool:
    # During set-up a lease holds more than the list names; that is no drift.
    enough = all(held.wants.get(feature, 0) >= count for feature, count in wanted.wants.items())
    too_much = any(count > in_setup.get(feature, 0) for feature, count in held.wants.items())
    return enough and not too_much and _place(held) == _place(wanted)


def _place(lease: Lease) -> tuple[Scope, str | None, str | None, bool]:
    return lease.scope, lease.port, lease.channel, lease.emergency
