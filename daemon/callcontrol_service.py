"""What a switch asks by the module call_control, answered by the same Enforcer as everything else.

`init` names a call by Call-ID and From-tag; `start` and `stop` carry the Call-ID alone, and mean the oldest call of it,
`stop` the oldest emergency call where there is one.
Only a call that was answered with `Limited` is followed to its end by the switch, so that answer is given where there
is a lease, and `No limit` where there is none.

What the switch does not tell the end of is ended here: all its calls once its last process is gone, unless its dialogs
outlive it, and each call after the longest time that the switch lets one last.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

import msgspec

from featurekeyd.policy.callrules import (
    Call,
    CallRule,
    call_key,
    find_rule,
    read_target,
    wants_of_established,
)
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.decision import EMERGENCY_URN, is_emergency
from featurekeyd.policy.enforcer import NotYours
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.legible import Legible
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Phase, Request

from .callcontrol_index import CallIndex
from .callcontrol_settings import CallControl
from .callcontrol_wire import ERROR, LIMITED, LOCKED, NO_CREDIT, NO_LIMIT, NOT_FOUND, OK, CallRequest
from .peer import Peer
from .server import Server
from .switchprocesses import NO_SWITCH, SwitchProcesses

GONE_SECONDS = 2.0
"""How long after its last process the calls of a switch end: what it said last is still taken in."""

LOOK_SECONDS = 60.0
"""How often calls are looked for that last too long."""

FREED_AT_ONCE = 32
"""Leases that end before others are served, some 0.1 ms."""

_FULL = frozenset(
    {
        Reason.LIMIT_REACHED,
        Reason.RESERVED,
        Reason.OTHERS_WAIT,
        Reason.CEILING_REACHED,
        Reason.TOO_MANY_LEASES,
    }
)
"""The reasons for which a later call may pass as things are; for all others somebody must act first."""

_NO_KEY = Legible()


class CallControlService:
    """The verbs, and the end of calls that nobody tells."""

    def __init__(self, server: Server, control: CallControl) -> None:
        self._server = server
        self._site = server.site
        self._control = control
        self._index = CallIndex(server.site.enforcer.ledger, control.holder)
        self._granted: Lease | None = None
        """What the request that is being answered was granted anew."""
        self._timers: set[asyncio.TimerHandle] = set()
        self.processes = SwitchProcesses(server.loop, self._gone)
        self._look_later()

    def close(self) -> None:
        """End nothing more."""
        for timer in self._timers:
            timer.cancel()
        self.processes.close()

    def answer(self, peer: Peer, request: CallRequest) -> tuple[bytes, Lease | None]:
        """The answer to a request, and the lease that it grants anew."""
        self._granted = None
        answer = self._answer(peer, request)
        self._switch_of(peer)
        return answer, self._granted

    def take_back(self, leases: list[Lease]) -> None:
        """Free what was granted a moment ago to one who never read it."""
        for lease in leases:
            self._free_one(lease)
        if leases:
            self._later(0, self._site.settle)

    def _answer(self, peer: Peer, request: CallRequest) -> bytes:
        if request.verb == "init":
            return self._init(peer, request.fields)
        verbs = {"start": self._start, "stop": self._stop}
        call_id = request.fields.get("callid")
        if request.verb not in verbs or not call_id:
            return ERROR
        return verbs[request.verb](peer, call_id)

    def _switch_of(self, peer: Peer) -> int:
        """The number of the switch that asks; none where the holder name belongs to another user, or to nobody."""
        owner = self._site.enforcer.holders.owner(self._control.holder)
        return self.processes.note_asked(peer.pid) if peer.uid == owner else NO_SWITCH

    # The verbs

    def _init(self, peer: Peer, fields: dict[str, str]) -> bytes:
        call = _call(fields)
        rule = find_rule(self._control.rules, call)
        call_id, tag = fields.get("callid"), fields.get("fromtag")
        key = call_key(call_id, tag) if call_id and tag else ""
        try:
            request = _request(self._control.holder, key, call, rule)
        except ValueError as error:
            return self._unreadable(peer, call, rule, str(error))
        if not request.wants and not is_emergency(self._site.enforcer.rules, request):
            return NO_LIMIT
        return self._decided(peer, request, call_id or "")

    def _decided(self, peer: Peer, request: Request, call_id: str) -> bytes:
        site, now = self._site, self._site.moment()
        before = site.enforcer.ledger.find(request.holder, request.key)
        decision = site.enforcer.acquire(request, peer.uid, now)
        if isinstance(decision, NotYours):
            self._server.turned_away(peer, f"the holder name {decision.holder} belongs to another user")
            return LOCKED
        site.note_decision(request, decision, now)
        if not decision.allowed:
            return NO_CREDIT if decision.reason in _FULL else LOCKED
        lease = site.enforcer.ledger.find(request.holder, request.key)
        if lease is None:
            return NO_LIMIT
        self._granted = lease if before is None else None
        self._index.note(request.key, call_id, self._switch_of(peer))
        return LIMITED

    def _unreadable(self, peer: Peer, call: Call, rule: CallRule | None, hint: str) -> bytes:
        """An emergency call passes whatever else is wrong with it, without a lease; any other does not."""
        encode = msgspec.json.encode
        legible = msgspec.structs.replace(
            _NO_KEY,
            holder=msgspec.Raw(encode(self._control.holder)),
            dialed=msgspec.Raw(encode(call.target.number)),
            call_class=msgspec.Raw(encode(rule.call_class if rule else None)),
        )
        now = self._site.moment()
        granted = self._site.enforcer.acquire_unreadable(legible, peer.uid, now)
        if granted is not None:
            self._site.note_decision(*granted, now)
            return NO_LIMIT
        self._server.turned_away(peer, f"a call was refused: {hint}")
        return LOCKED

    def _start(self, peer: Peer, call_id: str) -> bytes:
        """The oldest call of that Call-ID which is not established yet is so from now on."""
        leases = self._index.leases(call_id)
        if not leases:
            return NOT_FOUND
        waiting = [lease for lease in leases if not (lease.established or lease.emergency)]
        if waiting:
            self._establish(peer, call_id, min(waiting, key=_granted))
        return OK

    def _establish(self, peer: Peer, call_id: str, lease: Lease) -> None:
        site, now = self._site, self._site.moment()
        request = Request(
            holder=lease.holder,
            key=lease.key,
            wants=wants_of_established(site.enforcer.catalog, lease.wants, lease.present),
            port=lease.port,
            channel=lease.channel,
            phase=Phase.ESTABLISHED,
        )
        decision = site.enforcer.acquire(request, peer.uid, now)
        if not isinstance(decision, NotYours):
            site.note_decision(request, decision, now)
            self._index.note(lease.key, call_id, self._switch_of(peer))

    def _stop(self, peer: Peer, call_id: str) -> bytes:
        """Free the oldest call of that Call-ID, which is all that is said, and an emergency call before any other.

        So no emergency call, which takes nothing, ever stands for one that does.
        """
        leases = self._index.leases(call_id)
        if not leases:
            return NOT_FOUND
        oldest = min(leases, key=lambda lease: (not lease.emergency, lease.granted))
        if self._site.enforcer.release(oldest.holder, oldest.key, peer.uid, self._site.moment()) is not True:
            return NOT_FOUND
        self._index.freed(oldest.key, self._switch_of(peer))
        return OK

    # Calls that end without a word

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            work()

        timer = self._server.loop.call_later(seconds, run)
        self._timers.add(timer)

    def _look_later(self) -> None:
        self._later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Free the calls that last longer than the switch lets any last."""
        longest = self._control.longest_call
        before = self._site.clock().boot - longest
        held = self._site.enforcer.ledger.of_holder(self._control.holder)
        old = [lease for lease in held.values() if lease.granted <= before and lease.scope is Scope.CALLS]
        self._free(old, f"it is older than {longest:.0f} s, the longest call")
        self._look_later()

    def _gone(self, switch: int) -> None:
        """The last process of a switch has ended."""
        if not self._control.survive:
            self._later(GONE_SECONDS, lambda: self._free_all_of(switch))

    def _free_all_of(self, switch: int) -> None:
        had = [lease for lease in self._index.ended(switch) if lease.scope is Scope.CALLS]
        self._free(had, "every process of the switch has ended")

    def _free(self, leases: list[Lease], why: str) -> None:
        """Free these leases, slice by slice."""
        if leases:
            self._free_slice(iter(leases), 0, why)

    def _free_slice(self, leases: Iterator[Lease], count: int, why: str) -> None:
        site = self._site
        for lease in itertools.islice(leases, FREED_AT_ONCE):
            count += self._free_one(lease)
        left = next(leases, None)
        if left is not None:
            rest = itertools.chain((left,), leases)
            self._later(0, lambda: self._free_slice(rest, count, why))
        elif count:
            holder = self._control.holder
            message = f"{count} calls of {holder} are given back whose end nobody told: {why}."
            fields = {"HOLDER": holder, "COUNT": str(count)}
            site.tell(Event(name=EventName.CALLS_ENDED_UNTOLD, message=message, fields=fields))
        site.settle()

    def _free_one(self, lease: Lease) -> bool:
        """Free it unless it ended since, also where another call has its key now; whether it was there."""
        enforcer = self._site.enforcer
        owner, held = enforcer.holders.owner(lease.holder), enforcer.ledger.find(lease.holder, lease.key)
        if owner is None or held is None or held.granted != lease.granted:
            return False
        return enforcer.release(lease.holder, lease.key, owner, self._site.clock()) is True


def _granted(lease: Lease) -> float:
    return lease.granted


def _call(fields: dict[str, str]) -> Call:
    diverter = fields.get("diverter", "")
    return Call(
        target=read_target(fields.get("ruri", "")),
        source=fields.get("sourceip", ""),
        diverter="" if diverter == "None" else diverter,
    )


def _dialed(number: str) -> str | None:
    if number.startswith(f"{EMERGENCY_URN}."):  # of the service nothing more is needed than that it is one
        return number[:64] if number.isprintable() else EMERGENCY_URN
    return number if 0 < len(number) <= 64 and number.isprintable() else None


def _request(holder: str, key: str, call: Call, rule: CallRule | None) -> Request:
    """The request for a call; raises ValueError, which names what is wrong."""
    if not key:
        raise ValueError("Call-ID or From-tag is missing")
    number = call.target.number
    return Request(
        holder=holder,
        key=key,
        wants=rule.wants if rule else (),
        port=rule.port if rule else None,
        call_class=rule.call_class if rule else None,
        dialed=_dialed(number),
    )
