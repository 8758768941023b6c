"""Sync: the holder's own list is the truth about one scope of its leases.

Unknown leases are adopted, whatever the limit: the calls are there. Missing ones are freed, and others become as
listed. None of this holds for what happened after the list was taken: it frees and changes nothing that was granted or
asked for again since, and adopts nothing that was given back since (DESIGN: Leases). Only that a call is an emergency
call holds whenever it is said. A lease that is listed is bound to no connection any more: the list vouches for it.

Who took over from a holder keeps what it took: a list of the earlier one adopts none of that again, however new it is,
as it has when a switch comes back with its calls stored. Only a list that takes over in turn gets them back.

A list in several parts takes effect part by part for what it names, and with its last part for what it leaves out. The
parts are numbered, because a daemon that restarts in the middle of a list has not seen the first ones: what they named
would be missing from the rest.

A list is worked through in slices, because those who ask meanwhile must not wait for the whole of it. What is decided
between two slices is later than the list, and stays as it was decided.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from itertools import islice

import msgspec

from .catalog import Scope
from .decision import Situation, expand, set_apart
from .instant import Now
from .lately import Lately
from .ledger import Lease
from .requests import CallClass, Phase, SyncLease, SyncRequest

MARGIN_SECONDS = 2.0
"""Leases granted or asked for this long before the list was taken are spared too: the holder's list may not have had
them yet. Those given back as long before are not adopted: it may have had them still."""

GENERATION_SECONDS = 60.0
"""Boot time for which a list keeps those of lower generations off and its next part is waited for, counted anew when
the daemon was not reading. After it, a lower one is that of a client that counts from the beginning again, and a list
that was not finished never will be. A list that was sent before and overtaken
cannot come so late: it waits only while its connection is not read, and one that takes no answers for 30 s is dropped
(the daemon's UNREAD_SECONDS). And whatever comes, a list frees and changes nothing that is newer than itself."""

_NORMAL = (None, CallClass.NORMAL)

SLICE_ADOPTED = 32
"""Leases of a list that are compared one by one and adopted before others are served, some 0.1 ms."""

SLICE_COMPARED = 512
"""Leases that are looked for in a whole list before others are served, for the same time."""


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


Steps = Generator[None, None, Synced | ListRefused]
"""A Sync on its way: between two slices other requests may be decided."""


class Syncing:
    """One call of Sync, carried out a slice at a time; an exception is its outcome for everybody who waits for one."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._outcome: Synced | ListRefused | Exception | None = None

    def step(self) -> Synced | ListRefused | None:
        """Carry out the next slice; the outcome once there is none left."""
        if self._outcome is None:
            try:
                next(self._steps)
            except StopIteration as end:
                self._outcome = end.value
            except Exception as error:  # noqa: BLE001 - raised below, and whenever it is asked for again
                self._outcome = error
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def finish(self) -> Synced | ListRefused:
        """Carry out all that is left."""
        while (outcome := self.step()) is None:
            pass
        return outcome


class _Round(msgspec.Struct):
    generation: int
    taken: float
    """Boot time at which the list was taken."""
    uid: int
    """The user whose list it is."""
    named: set[str]
    parts: int = 0
    """Parts that have come, from the first on without a gap."""
    over: bool = False
    """Whether that list is complete, or a whole one came since: what it leaves out stays."""


class _Newest(msgspec.Struct):
    generation: int
    heard: float
    """Boot time at which a part of it was last taken in."""


class Rounds:
    """The lists that came in part, and the newest generation, by holder and scope."""

    def __init__(self, lately: Lately) -> None:
        self._lately = lately
        self._open: dict[tuple[str, Scope], _Round] = {}
        self._newest: dict[tuple[str, Scope], _Newest] = {}

    def steps(self, situation: Situation, request: SyncRequest, uid: int, now: Now) -> Steps:
        """Carry out one call of Sync; the caller has made sure whose names these are."""
        self.forget_unfinished(now.boot)
        round_ = self._round(request, uid, now)
        if isinstance(round_, ListRefused):
            return round_
        refused = _refusal(situation, request, uid, round_.named) or self._too_much(situation, request, uid, round_)
        if refused is not None:
            return refused
        self._take_in(request, round_, now)
        situation.share_emergency(request.takes_over, request.holder)
        _take_charge(situation, request)
        counts, claims = {"adopted": 0, "changed": 0, "held": 0}, []
        for number, lease in enumerate(request.leases):
            if number and number % SLICE_ADOPTED == 0:
                yield
            if _is_as_listed(situation, request, lease):
                counts["held"] += 1
            elif not self._is_over(situation, request, lease.key, round_.taken, uid):
                if _claims(situation, request, lease):
                    claims.append(lease.key)
                    if lease.call_class is CallClass.EMERGENCY:
                        situation.note_emergency(request.holder, now.boot)
                counts[_adopt(situation, request, lease, uid, now=now, taken=round_.taken)] += 1
        freed = (yield from self._close(situation, request, round_)) if _is_last(request) else 0
        held = situation.ledger.of_scope(request.holder, request.scope)
        return Synced(counts["adopted"], counts["changed"], freed, held, tuple(claims))

    def restart(self, boot: float) -> None:
        """Count the time of every list from now on, because the daemon was not reading before."""
        for newest in self._newest.values():
            newest.heard = boot

    def forget_unfinished(self, boot: float) -> None:
        """Drop the lists whose next part has not come in time."""
        for place in [it for it in self._open if boot - self._newest[it].heard > GENERATION_SECONDS]:
            del self._open[place], self._newest[place]

    def forget(self, holder: str) -> None:
        """Drop what is known of a holder that is no more."""
        for place in [place for place in self._newest.keys() | self._open.keys() if place[0] == holder]:
            self._open.pop(place, None)
            self._newest.pop(place, None)

    def _is_over(self, situation: Situation, request: SyncRequest, key: str, taken: float, uid: int) -> bool:
        """Whether the key is not theirs any more: it was given back when or after the list was taken, or taken over."""
        holders = [holder for holder in (request.holder, request.takes_over) if holder is not None]
        if any(situation.ledger.find(holder, key) is not None for holder in holders):
            return False
        if any(self._lately.given_back(holder, key) > taken - MARGIN_SECONDS for holder in holders):
            return True
        leases = (situation.ledger.find(name, key) for name in situation.holders.successors(request.holder))
        return any(lease is not None and lease.uid == uid for lease in leases)

    def _too_much(self, situation: Situation, request: SyncRequest, uid: int, round_: _Round) -> ListRefused | None:
        """Why no more of this list can be kept beside others of the user that are not finished either."""
        if _is_last(request):
            return None
        place, most = (request.holder, request.scope), situation.rules.max_leases
        others = sum(len(each.named) for other, each in self._open.items() if each.uid == uid and other != place)
        if others + _together({lease.key for lease in request.leases}, round_.named) > most:
            return ListRefused(f"lists that are not finished name at most {most} leases of a user")
        return None

    def _round(self, request: SyncRequest, uid: int, now: Now) -> _Round | ListRefused:
        place, part = (request.holder, request.scope), request.part or 1
        taken = _taken(request, now)
        if not (_is_last(request) and part == 1) and None in {request.generation, request.part}:
            return ListRefused("a list in several parts needs a generation, and each part its number")
        if request.generation is None:
            return _Round(0, taken, uid, set())
        newest, open_ = self._newest.get(place), self._open.get(place)
        if newest is not None and request.generation < newest.generation:
            if now.boot - newest.heard <= GENERATION_SECONDS:
                return ListRefused(_too_old(request.generation, newest.generation))
        elif open_ is None and newest is not None and request.generation == newest.generation:
            return _Round(request.generation, taken, uid, set(), over=True)
        if open_ is None or open_.generation != request.generation:
            open_ = _Round(request.generation, taken, uid, set())
        if part > open_.parts + 1:
            return ListRefused(f"part {part} came and part {open_.parts + 1} did not; send the whole list again")
        return msgspec.structs.replace(open_, taken=min(open_.taken, taken), parts=max(open_.parts, part))

    def _take_in(self, request: SyncRequest, round_: _Round, now: Now) -> None:
        """Remember what the list has named so far; a part that was refused never gets here."""
        round_.named.update(lease.key for lease in request.leases)
        if request.generation is not None and not round_.over:
            place = (request.holder, request.scope)
            self._open[place] = round_
            self._newest[place] = _Newest(request.generation, now.boot)

    def _close(self, situation: Situation, request: SyncRequest, round_: _Round) -> Generator[None, None, int]:
        """Free what the whole list leaves out, of the holder and of the earlier one that it takes over."""
        if round_.over:
            return 0
        self._open.pop((request.holder, request.scope), None)
        freed = 0
        for holder in dict.fromkeys(filter(None, (request.holder, request.takes_over))):
            leases = iter(list(situation.ledger.of_holder(holder).values()))
            while part := list(islice(leases, SLICE_COMPARED)):
                freed += self._free_missing(situation, request.scope, round_, part)
                if len(part) == SLICE_COMPARED:
                    yield
        return freed

    def _free_missing(self, situation: Situation, scope: Scope, round_: _Round, leases: list[Lease]) -> int:
        missing = [
            lease
            for lease in leases
            if lease.key not in round_.named
            and lease.scope is scope
            and self._lately.asked(lease) < round_.taken - MARGIN_SECONDS
            and situation.ledger.find(lease.holder, lease.key) is lease
        ]
        for lease in missing:
            situation.ledger.drop(lease.holder, lease.key)
            situation.waiting.leave(lease.holder, lease.key)
            # A list that is older than this one shall not bring it back; a newer one may at once.
            self._lately.note_release(lease.holder, lease.key, round_.taken - MARGIN_SECONDS)
        return len(missing)


def _take_charge(situation: Situation, request: SyncRequest) -> None:
    """Remember who took over from whom, also over a restart: the earlier one gets nothing back by a list of its own."""
    if request.takes_over is not None:
        for holder in situation.holders.take_over(request.takes_over, request.holder):
            situation.ledger.changes.append(holder.known())


def _refusal(situation: Situation, request: SyncRequest, uid: int, named: Collection[str]) -> ListRefused | None:
    keys, most = {lease.key for lease in request.leases}, situation.rules.max_leases
    if _together(keys, named) > most:
        return ListRefused(f"a list has at most {most} leases")
    there = situation.ledger.of_holder(request.holder)
    if situation.ledger.of_user(uid) + sum(key not in there for key in keys) > 2 * most:
        return ListRefused(f"these would be more than {2 * most} leases: a whole list beside all that was before")
    return None


def _too_old(generation: int, newest: int) -> str:
    older = f"generation {generation} is older than generation {newest}"
    return f"{older}; where it counts from the beginning again, it is taken {GENERATION_SECONDS:.0f} s after that one"


def _taken(request: SyncRequest, now: Now) -> float:
    """Boot time at which the list was taken: by its own word, else as old as it says when it is read."""
    if request.taken_ms is not None:
        return min(request.taken_ms / 1000, now.boot)
    return now.boot - (request.list_age_ms or 0) / 1000


def _is_last(request: SyncRequest) -> bool:
    return request.last is not False


def _is_as_listed(situation: Situation, request: SyncRequest, listed: SyncLease) -> bool:
    """Whether there is nothing to do, at first sight: as nearly always, for a list says again what is known."""
    held = situation.ledger.find(request.holder, listed.key)
    return (
        held is not None
        and held.bound is None
        and request.takes_over is None
        and held.scope is request.scope
        and held.call_class is CallClass.NORMAL
        and listed.call_class in _NORMAL
        and len(held.wants) == len(listed.wants) == len({want.feature for want in listed.wants})
        and all(held.wants.get(want.feature) == (want.instances or 1) for want in listed.wants)
        and listed.port in {None, held.port}
        and listed.channel in {None, held.channel}
    )


def _claims(situation: Situation, request: SyncRequest, listed: SyncLease) -> bool:
    if listed.call_class in _NORMAL:
        return False
    held = situation.ledger.find(request.holder, listed.key)
    earlier = situation.ledger.find(request.takes_over, listed.key) if request.takes_over else None
    return not any(lease is not None and lease.emergency for lease in (held, earlier))


def _together(keys: set[str], known: Collection[str]) -> int:
    return len(known) + sum(key not in known for key in keys)


def _adopt(situation: Situation, request: SyncRequest, listed: SyncLease, uid: int, *, now: Now, taken: float) -> str:
    ledger = situation.ledger
    held = ledger.find(request.holder, listed.key)
    earlier = None if request.takes_over in {None, request.holder} else ledger.drop(request.takes_over, listed.key)
    if earlier is not None:
        _end_taken_over(situation, earlier, taken)
    since = held or earlier
    newer = since is not None and _is_newer(situation, since, listed, taken)
    wanted = since if since is not None and newer else _as_listed(situation, request, listed, since, uid)
    if held is not None and (newer or _same(held, wanted, expand(situation.catalog, listed.wants, Phase.SETUP))):
        if held.bound is not None and not newer:
            ledger.put(msgspec.structs.replace(held, bound=None))  # the list vouches for it; that is no drift
        return "held" if earlier is None else "changed"
    granted = since.granted if since else now.boot
    lease = msgspec.structs.replace(wanted, holder=request.holder, uid=uid, granted=granted, bound=None)
    ledger.put(lease)
    situation.waiting.leave(request.holder, listed.key)
    if newer and earlier is not None:
        situation.lately.note_asked_again(lease, situation.lately.asked(earlier))
    return "adopted" if since is None else "changed"


def _end_taken_over(situation: Situation, earlier: Lease, taken: float) -> None:
    """Take note that an earlier holder's lease has gone over to another, so that no older list of it brings it back."""
    situation.waiting.leave(earlier.holder, earlier.key)
    before = situation.lately.given_back(earlier.holder, earlier.key)
    situation.lately.note_release(earlier.holder, earlier.key, max(taken, before))


def _is_newer(situation: Situation, since: Lease, listed: SyncLease, taken: float) -> bool:
    """Whether the lease is as it was asked for after the list was taken; an emergency call is one all the same."""
    emergency = listed.call_class not in _NORMAL and not since.emergency
    return not emergency and situation.lately.asked(since) >= taken - MARGIN_SECONDS


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
        established=True,
    )


def _same(held: Lease, wanted: Lease, in_setup: dict[str, int]) -> bool:
    # During set-up a lease holds more than the list names; that is no drift.
    enough = all(held.wants.get(feature, 0) >= count for feature, count in wanted.wants.items())
    too_much = any(count > in_setup.get(feature, 0) for feature, count in held.wants.items())
    return enough and not too_much and _place(held) == _place(wanted)


def _place(lease: Lease) -> tuple[Scope, str | None, str | None, bool]:
    return lease.scope, lease.port, lease.channel, lease.emergency
