"""The Enforcer: one object that owns all that is true now, and answers.

It is fed evidence (what was seen of the Feature Key), documents, requests and the time, and gives back decisions and
findings. What else happened collects in `events`, and what changed among the leases in `ledger.changes`; the daemon
takes both, logs, records and stores. Nothing in here waits, reads a clock or touches a file.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from .account import Account, Tally
from .applications import decide_application, explain_application
from .catalog import Catalog, Cause, Scope
from .certificate import Certificate
from .decision import Claim, Decision, Rules, Situation, Step, decide, decided, is_emergency, walk
from .ending import Ending
from .enrollment import goes_by
from .entitlements import Entitlements
from .events import EventName
from .findings import Finding, Verdict, refuse
from .holders import MAX_HOLDERS, MAX_HOLDERS_OF_USER, Holder, Known
from .installed import Installed
from .instant import Now
from .ledger import Lease, Ledger
from .legible import Legible
from .licenses import License, Licenses, Mark
from .presence import NOT_LOOKED_YET, PRESENT, Debounce, Presence, Sighting, refuse_certificate, told_change
from .reasons import Reason
from .rehearsal import Rehearsed, WhatIf
from .requests import Request, SyncRequest
from .reservations import Reservation, Reservations, Shares
from .restoring import restore
from .standing import (
    Grace,
    Standing,
    advance_meters,
    meters_of,
    rescue_grace,
    shared_counts,
    standing_of,
    told_standing,
    why_deactivated,
)
from .synchronize import ListRefused, Rounds, Steps, Synced, Syncing
from .system import System
from .timekeeping import first_mark
from .trust import Kept, Trust
from .whereabouts import whereabouts


class Silence(NamedTuple):
    """A holder that has not been heard for longer than it said, and since when."""

    holder: str
    scope: Scope
    since: float


class NotYours(msgspec.Struct, frozen=True):
    """The holder name belongs to another user, or there is no room for one more name."""

    holder: str


class Enforcer:
    """Catalog, licenses, entitlements, ledger, meters and standing of one system."""

    def __init__(
        self,
        catalog: Catalog,
        system: System,
        rules: Rules,
        now: Now,
        *,
        released: datetime.date = datetime.date.min,
        drained: dict[Cause, float] | None = None,
        lasting: frozenset[Cause] | None = None,
        boot_id: str = "",
        kept: Kept | None = None,
        debounce: Debounce | None = None,
    ) -> None:
        """`released` is the day this release was built: no date before it is believed; the others are as stored."""
        self.catalog = catalog
        self.system = system
        self.feature_key = NOT_LOOKED_YET
        self.meters = meters_of(catalog.meters, drained or {}, lasting)
        self.grace: tuple[Grace, ...] = ()
        """The causes that last, with the time left; empty when all is well."""
        self._situation = Situation(catalog, rules)
        self.holders = self._situation.holders
        self.adopt_rules = self._situation.adopt_rules
        self.account = Account(self._situation)
        self.events = self.account.events
        """What happened since the daemon last took note, in order."""
        self.lately = self._situation.lately
        """What became of keys lately."""
        self._rounds = Rounds(self.lately)
        self._ending = Ending(self._situation, self.account)
        self._syncing: dict[tuple[str, Scope], Syncing] = {}
        """Lists that are being worked through, by holder and scope."""
        self.presence = Presence(debounce or Debounce())
        self._advanced = now.boot
        self._installed = Installed(catalog, system, released)
        self.trust = Trust(catalog, self.meters, kept or Kept(first_mark(now, boot_id, released)), boot_id, released)
        self.update(now)

    @property
    def ledger(self) -> Ledger:
        """The leases."""
        return self._situation.ledger

    @property
    def tallies(self) -> dict[str, Tally]:
        """What was decided about each feature since the daemon started."""
        return self.account.tallies

    @property
    def emergencies_total(self) -> int:
        """Emergency calls since the daemon started."""
        return self.account.emergencies_total

    @property
    def emergency_claims(self) -> int:
        """Of these, calls without a listed number."""
        return self.account.emergency_claims

    @property
    def rules(self) -> Rules:
        """What the settings of the site add to the catalog."""
        return self._situation.rules

    @property
    def licenses(self) -> Licenses:
        """All that is installed."""
        return self._installed.licenses

    @property
    def entitlements(self) -> Entitlements:
        """What the licenses together allow, by feature."""
        return self._situation.entitlements

    @property
    def standing(self) -> Standing:
        """The state of the whole system."""
        return self._situation.standing

    @property
    def cause(self) -> str:
        """Why the system is deactivated, empty where it is not."""
        return self._situation.cause if self.standing is Standing.DEACTIVATED else ""

    # Telephony

    def acquire(self, request: Request, uid: int, now: Now, bound: int | None = None) -> Decision | NotYours:
        """Decide and carry out; an emergency call is granted whoever asks under whatever name.

        What is allowed is bound to the connection of that number from then on, or to none, whatever it was bound to.
        """
        if self._hear(request.holder, uid, now) is None:
            return self._foreign(request)
        decided_by = decide if request.application is None else decide_application
        decision, claim = decided_by(self._situation, request, now, uid, bound)
        self.account.count(decision, claim)
        return decision

    def acquire_unreadable(self, legible: Legible, uid: int, now: Now) -> tuple[Request, Decision] | None:
        """Grant a request that breaks a rule and is an emergency call, without a record; None for any other.

        The request is as it can be shown.
        """
        request = legible.request()
        if not is_emergency(self.rules, request):
            return None
        if legible.has_name(request.holder) and self._hear(request.holder, uid, now) is not None:
            self._situation.note_emergency(request.holder, now.boot)
        return request, self._unrecorded(request)

    def explain(self, request: Request, uid: int, now: Now) -> tuple[Decision, list[Step]] | NotYours:
        """What `acquire` would decide, step by step; changes nothing."""
        if self.holders.owner(request.holder) not in {uid, None} and not is_emergency(self.rules, request):
            return NotYours(request.holder)
        if request.application is not None:
            return explain_application(self._situation, request, now, uid)
        claim = Claim(self._situation, request, uid, now)
        ruling, steps = walk(claim)
        return decided(claim, ruling), steps

    def release(self, holder: str, key: str, uid: int, now: Now) -> bool | NotYours:
        """Free a lease; False where there is none. A name that is nobody's stays nobody's."""
        known = self.holders.find(holder)
        if known is not None and known.uid == uid:
            known.heard = now.boot
            self.lately.note_release(holder, key, now.boot)
        else:
            owner = self.holders.owner(holder)
            if owner not in {uid, None} or (owner is None and self._is_of_another(holder, key, uid)):
                return NotYours(holder)
            if owner is not None and self._meet(holder, uid, now) is not None:
                self.lately.note_release(holder, key, now.boot)
        situation = self._situation
        if situation.waiting.anyone:
            situation.waiting.leave(holder, key)
        return situation.ledger.drop(holder, key) is not None

    def release_by_force(self, holder: str, key: str, by: str, now: Now) -> bool:
        """Free a lease in place of its holder, on behalf of a technician; False where there is none."""
        if not self._ending.end(holder, key):
            return False
        self.lately.note_release(holder, key, now.boot)
        message = f"The lease {key} of {holder} was freed by {by}."
        self.account.tell(EventName.LEASE_FORCED, message, HOLDER=holder, LEASE=key, BY=by)
        return True

    def release_bound(self, connection: int, now: Now) -> None:
        """Free the leases that end with a connection, and the places of keys that wait no longer than it lasts."""
        _finish(self.ending_bound(connection, now))

    def ending_bound(self, connection: int, now: Now) -> Iterator[None]:
        """The same, a slice at a time: other requests may be decided between two of them."""
        return self._ending.bound(connection, now)

    def synchronize(self, request: SyncRequest, uid: int, now: Now) -> Synced | ListRefused | NotYours:
        """Make the holder's list of one scope true, all at once."""
        syncing = self.begin_sync(request, uid, now)
        return syncing if isinstance(syncing, NotYours) else syncing.finish()

    def begin_sync(self, request: SyncRequest, uid: int, now: Now) -> Syncing | NotYours:
        """Begin to make the holder's list of one scope true; one that is under way is finished before."""
        holder = self._hear(request.holder, uid, now)
        if holder is None:
            return NotYours(request.holder)
        if request.takes_over is not None and self.holders.owner(request.takes_over) not in {uid, None}:
            return NotYours(request.takes_over)
        place = (request.holder, request.scope)
        if place in self._syncing:
            self._syncing[place].finish()
        syncing = self._syncing[place] = Syncing(self._sync(holder, request, uid, now))
        return syncing

    def _sync(self, holder: Holder, request: SyncRequest, uid: int, now: Now) -> Steps:
        try:
            synced = yield from self._rounds.steps(self._situation, request, uid, now)
        finally:
            del self._syncing[request.holder, request.scope]
        if isinstance(synced, ListRefused):
            return synced
        if request.ttl_seconds is not None and holder.ttls.get(request.scope) != request.ttl_seconds:
            holder.ttls = {**holder.ttls, request.scope: float(request.ttl_seconds)}
            self.ledger.changes.append(holder.known())
        self.account.count_list(holder, request, synced)
        return synced

    def restore(self, leases: list[Lease], now: Now, holders: Iterable[Known] = ()) -> None:
        """Take back the leases of an earlier run, but for those whose connection ended with it.

        The holders' names stay with the users who had them, and their silence counts from now on.
        """
        restore(self._situation, leases, now.boot, holders)

    # Reservations, and who waits

    @property
    def reservations(self) -> Reservations:
        """What is set aside."""
        return self._situation.reservations

    def limit(self, feature: str) -> int:
        """How much of a feature may be in use now: nothing while the system is deactivated."""
        return 0 if self.standing is Standing.DEACTIVATED else self._situation.limit(feature)

    def shares(self, feature: str) -> Shares:
        """How the free instances of a feature are shared out."""
        return self._situation.shares(feature)

    def reserve(self, wanted: Reservation) -> tuple[Reservations, Finding]:
        """The reservations with one more, where as much is free; it counts once it is adopted."""
        limit, entitlement = self._situation.limit(wanted.feature), self.entitlements.get(wanted.feature)
        return self.reservations.with_one(wanted, entitlement, limit, self.ledger)

    def adopt_reservations(self, reservations: Reservations) -> None:
        """Let these reservations count from now on; the daemon has stored them."""
        self._situation.reservations = reservations
        self.ledger.aside = reservations.counted(self.ledger)

    @property
    def anyone_waits(self) -> bool:
        """Whether there may be somebody for `call_waiters` to call."""
        return self._situation.waiting.anyone

    def call_waiters(self, now: Now) -> None:
        """Tell of each key that waits and whose turn has come."""
        situation, waiting = self._situation, self._situation.waiting
        if situation.standing is Standing.DEACTIVATED:
            return
        for feature in waiting.features(now.boot):
            for waiter in waiting.call(feature, situation.shares(feature), now.boot):
                message = f"It is the turn of {waiter.key} of {waiter.holder}, which waits for {feature}."
                self.account.tell(EventName.TURN, message, FEATURE=feature, HOLDER=waiter.holder, LEASE=waiter.key)

    # Evidence and time

    def see(self, sighting: Sighting, now: Now) -> None:
        """Take in what a look at the Feature Key found."""
        known = goes_by(sighting, self.licenses.certificate, self.trust.kept.enrolled)
        self.presence.look(known, now.boot)
        self.update(now)

    def see_primary(self, now: Now, *, reachable: bool) -> None:
        """Take in whether the Primary of the network answers."""
        self.update(now)  # what has passed until now drains first
        self.trust.see_primary(reachable=reachable)
        self.update(now)

    def silent(self, now: Now) -> frozenset[Silence]:
        """Whose scopes the next `tick` frees."""
        silences = self.holders.silent(now.boot)
        return frozenset(Silence(holder.name, scope, holder.heard) for holder, scope in silences)

    def tick(self, now: Now, spared: frozenset[Silence] = frozenset()) -> None:
        """Let time pass: meters drain, terms end, silent holders lose their scopes, but for those to be spared."""
        _finish(self.freeing_silent(now, spared))
        self.update(now)

    def freeing_silent(self, now: Now, spared: frozenset[Silence] = frozenset()) -> Iterator[None]:
        """The part of `tick` that may take long, a slice at a time: silent holders lose their scopes.

        Other requests may be decided between two slices; one that is heard again meanwhile keeps what it has left.
        """
        self._rounds.forget_unfinished(now.boot)
        for holder, scope, since in [(*found, found[0].heard) for found in self.holders.silent(now.boot)]:
            if holder.heard == since and Silence(holder.name, scope, since) not in spared:
                yield from self._ending.silent(holder, scope)
                yield

    def restart_silence(self, now: Now) -> None:
        """Count every holder's silence from now on, because the daemon was not reading before."""
        self.holders.restart_silence(now.boot)
        self._rounds.restart(now.boot)
        self._situation.waiting.restart(now.boot)

    # Licenses

    def today(self, now: Now) -> datetime.date:
        """The date that terms are held against: never before what signed documents and the release prove."""
        return self._installed.today(self.trust.dated(now))

    def installed(self, now: Now) -> list[License]:
        """Every installed license with its status today, with the Feature Key as it was found."""
        where = whereabouts(self.feature_key.state, spent=self.meters[Cause.FEATURE_KEY_ABSENT].spent)
        return self._installed.statuses(self.trust.dated(now), self.entitlements, where)

    def what_if(self, supposed: WhatIf) -> list[Rehearsed]:
        """What would change under other licenses or on another system, in good standing; changes nothing."""
        return self._installed.what_if(supposed)

    def refuse_certificate(self, certificate: Certificate) -> Finding | None:
        """Why this certificate cannot be taken now, None where it can."""
        if certificate.catalog != self.catalog.id:
            message = f"The certificate is for catalog {certificate.catalog}; this system is {self.catalog.id}."
            return refuse(Verdict.OTHER_CATALOG, message)
        seen = goes_by(self.presence.believed, certificate, self.trust.kept.enrolled)
        return refuse_certificate(certificate, seen) or self.licenses.refuse_certificate(certificate)

    def adopt(self, licenses: Licenses, now: Now) -> None:
        """Let these licenses count from now on; the daemon has stored them."""
        before, self._installed.licenses = self.licenses.marks, licenses
        newer = licenses.mark.list_number > before.get(licenses.serial or "", Mark()).list_number
        self.update(now)
        if newer:
            self.meters[Cause.UNLISTED_LICENSES].refill()
            self.update(now)

    def adopt_stored(self, licenses: Licenses, now: Now) -> None:
        """Let the licenses of an earlier run count; their list is no newer one and refills nothing."""
        self._installed.licenses = licenses
        self.update(now)

    # What follows from all that

    def _hear(self, name: str, uid: int, now: Now) -> Holder | None:
        holder = self.holders.find(name)
        if holder is not None and holder.uid == uid:
            holder.heard = now.boot
            return holder
        return self._meet(name, uid, now)

    def _meet(self, name: str, uid: int, now: Now) -> Holder | None:
        """A holder of a new name; None where the name is another user's, or there is no room."""
        if self.holders.owner(name) is None and not self._make_room(uid, now):
            return None
        holder = self.holders.hear(name, uid, now.boot)
        if holder is not None:
            self.ledger.changes.append(holder.known())
        return holder

    def _make_room(self, uid: int, now: Now) -> bool:
        """Room for one more name, if need be in place of an idle one of the same user: nobody pushes others out."""
        own = [holder for holder in self.holders if holder.uid == uid]
        if len(self.holders) < MAX_HOLDERS and len(own) < MAX_HOLDERS_OF_USER:
            return True
        idle = [holder for holder in own if not self._keeps_its_name(holder, now)]
        if not idle:
            return False
        longest = min(idle, key=lambda holder: holder.heard)
        self.holders.forget(longest.name)
        self.ledger.changes.append(Known(name=longest.name, uid=uid, gone=True))
        self._rounds.forget(longest.name)
        self.lately.forget(longest.name)
        self._situation.waiting.leave_all(longest.name)
        return True

    def _keeps_its_name(self, holder: Holder, now: Now) -> bool:
        """Whether it has leases or a list under way, or may not have come back yet after a restart."""
        awaited = self.holders.awaited(holder, now.boot)
        under_way = any((holder.name, scope) in self._syncing for scope in Scope)
        return awaited or under_way or bool(self.ledger.of_holder(holder.name))

    def _is_of_another(self, holder: str, key: str, uid: int) -> bool:
        """Whether there is such a lease, and another user took it."""
        lease = self.ledger.find(holder, key)
        return lease is not None and lease.uid != uid

    def _foreign(self, request: Request) -> Decision | NotYours:
        """An emergency call under another user's name is granted and leaves that user's leases alone."""
        if not is_emergency(self.rules, request):
            return NotYours(request.holder)
        return self._unrecorded(request)

    def _unrecorded(self, request: Request) -> Decision:
        """An emergency call that is granted without a lease."""
        self.account.count_emergency(request.holder, request.key, request.dialed, request.port)
        return Decision(allowed=True, reason=Reason.EMERGENCY)

    def update(self, now: Now) -> None:
        """Draw every conclusion from what is known at this moment."""
        self.trust.advance(now)
        elapsed, self._advanced = max(now.boot - self._advanced, 0.0), now.boot
        advance_meters(self.meters, elapsed, looked=self.presence.believed is not NOT_LOOKED_YET)
        self._judge_feature_key()
        self.trust.drive_meters(self.licenses.serial, now)
        self._entitle(now)
        rescued = self.trust.rescue_left(self.licenses.serial, self.today(now))
        self.grace = tuple(meter.grace() for meter in self.meters.values() if meter.active)
        if rescued and self.grace:
            self.grace += (rescue_grace(rescued),)
        elif not rescued and self.licenses.serial is not None:
            # Before the licenses of an earlier run are back, nobody can tell whether it is over.
            self.trust.end_rescue(self.licenses.serial)
        self._stand(rescued=rescued > 0)
        self.events += self.trust.events
        self.trust.events.clear()

    def _judge_feature_key(self) -> None:
        before, certificate = self.feature_key, self.licenses.certificate
        self.feature_key = self.presence.judged(certificate)
        meter = self.meters[Cause.FEATURE_KEY_ABSENT]
        if self.feature_key.state != NOT_LOOKED_YET.state:
            meter.active = certificate is not None and self.feature_key.state != PRESENT
            meter.doubted = certificate is not None and self.presence.in_doubt
        elif self.presence.believed is NOT_LOOKED_YET:
            # A restart earns nothing: what lasted before lasts, and a spent budget stays spent, until the first look
            # says otherwise.
            meter.active = certificate is not None and meter.lasted
        self.events += told_change(before, self.feature_key, self.licenses.serial)

    def _entitle(self, now: Now) -> None:
        """Work the entitlements out anew where the licenses, the date or the unlisted meter changed."""
        installed, unlisted = self._installed, self.meters[Cause.UNLISTED_LICENSES]
        installed.revoked = self.trust.revoked(self.licenses.serial)
        told = installed.renew(self.trust.dated(now))
        if told is not None:
            unlisted.active = installed.unlisted
            self.events += told
        if installed.count(unlisted=not unlisted.spent, shared=shared_counts(self.meters)) or told is not None:
            self._situation.entitlements = installed.entitlements()

    def _stand(self, *, rescued: bool) -> None:
        situation, before = self._situation, self._situation.standing
        told_no = self.trust.told_no(self.licenses.serial)
        certified = self.licenses.certificate is not None
        situation.standing = standing_of(self.meters, certified=certified, told_no=told_no, rescued=rescued)
        situation.cause = why_deactivated(self.meters, self.licenses.serial, told_no=told_no)
        if situation.standing is not before:
            self.events.append(told_standing(situation.standing, before, situation.cause, self.grace))


def _finish(slices: Iterator[None]) -> None:
    for _ in slices:
        pass
