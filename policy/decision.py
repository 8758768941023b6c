"""The decision, in its order, as one table of steps.

`STEPS` is the order (DESIGN: The decision). Each step looks at a claim and either rules or lets it pass. `decide` walks
the steps and carries the ruling out; `explain` walks the same steps, writes down what each found, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .catalog import Catalog, Mode, Scope
from .entitlements import Entitlement, Entitlements
from .holders import Holders
from .instant import Now
from .lately import Lately
from .ledger import Lease, Ledger, instances
from .precedence import kept_back, line_up, place_in_line
from .reasons import MEANING, Reason
from .requests import CallClass, Phase, Request, Want
from .reservations import Reservations, Shares
from .standing import Standing
from .waiting import Waiting

CALLBACK_SECONDS = 1800
"""A callback within this time after an emergency call of the same holder is granted (DESIGN: The decision, step 1)."""

ALLOWING = frozenset(
    {Reason.GRANTED, Reason.ALREADY_HELD, Reason.EMERGENCY, Reason.EMERGENCY_CALLBACK, Reason.FALLEN_BACK}
)
"""The reasons that mean yes."""

_MEASURED = frozenset({Reason.GRANTED, Reason.ALREADY_HELD})
"""Those of them that carry a limit and a count."""

_CLASS_OF = {Reason.EMERGENCY: CallClass.EMERGENCY, Reason.EMERGENCY_CALLBACK: CallClass.CALLBACK}
"""What a lease is recorded as; any other call is a normal one."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings of the site add to the catalog."""

    emergency_numbers: frozenset[str] = frozenset({"112", "911"})
    ceilings: dict[str, int] = {}
    """The most calls on a port, whatever is licensed: a carrier's contract."""
    owners: dict[str, int] = {}
    """The user that a holder name belongs to."""
    max_leases: int = 20_000
    """Leases one user may have, under all its holder names: ten times the largest system of facts/catalog.md section 5,
    in some 20 MB."""


class Situation:
    """All that a decision depends on, as it is now."""

    def __init__(self, catalog: Catalog, rules: Rules) -> None:
        self.catalog = catalog
        self.rules = rules
        self.presence = frozenset(name for name, it in catalog.features.items() if it.mode is Mode.PRESENCE)
        """Features that nobody takes: to be licensed for them is enough (facts/catalog.md section 2)."""
        self.holders = Holders(rules.owners)
        self.ledger = Ledger()
        self.lately = Lately()
        self.entitlements: Entitlements = {}
        self.standing = Standing.DEACTIVATED
        self.cause = ""
        """Why the standing is deactivated, as a sentence."""
        self.reservations = Reservations()
        self.waiting = Waiting()

    def adopt_rules(self, rules: Rules) -> None:
        """Let other settings of the site count from now on; what is leased stays leased."""
        self.rules = rules
        self.holders.adopt_owners(rules.owners)

    def limit(self, feature: str) -> int:
        """How much of a feature may be in use in this standing."""
        entitlement = self.entitlements.get(feature)
        if entitlement is None:
            return 0
        restricted = self.standing is Standing.RESTRICTED
        return min(entitlement.base, entitlement.limit) if restricted else entitlement.limit

    def shares(self, feature: str, displaced: tuple[Lease, ...] = ()) -> Shares:
        """How the free instances of a feature are shared out; displaced leases are counted as gone."""
        free = self.limit(feature) - self.ledger.in_use(feature) + instances(displaced, feature)
        return self.reservations.shares(feature, free, self.ledger, displaced)

    def note_emergency(self, name: str, boot: float) -> None:
        """Remember an emergency call of that holder, also over a restart: a callback to it is granted for a while."""
        holder = self.holders.find(name)
        if holder is not None and holder.note_emergency(boot):
            self.ledger.changes.append(holder.known())

    def share_emergency(self, earlier: str | None, name: str) -> None:
        """Let a callback to an emergency call of an earlier holder come to the one that took over, too."""
        holder = None if earlier is None else self.holders.find(earlier)
        if holder is not None and holder.last_emergency is not None:
            self.note_emergency(name, holder.last_emergency)


class Ruling(msgspec.Struct, frozen=True, gc=False):
    """What a step found: the reason, what it looked at, its limit, and what was in use before the decision."""

    reason: Reason
    subject: str | None = None
    limit: int | None = None
    in_use: int | None = None
    kept: int | None = None
    """Free instances that are kept for others."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Allow or deny, with the numbers; what is said about a denial is added by `decided`."""

    allowed: bool
    reason: Reason
    feature: str | None = None
    limit: int | None = None
    in_use: int | None = None
    place: int | None = None
    """Where the key stands in the waiting order, 1 for the next."""
    fallback: str | None = None
    mode: str | None = None
    """The mode that an application may run in."""
    message: str | None = None
    remedy: str | None = None


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a decision, as Explain shows it."""

    step: str
    subject: str | None
    passed: bool
    finding: str


_NOBODYS: dict[str, int] = {}
"""What nearly every request wants of features that nobody takes; one for all, because nobody changes it."""


class Claim:
    """A request beside what its holder has already."""

    __slots__ = (
        "added", "channel", "displaced", "held", "now", "phase", "port", "present", "request", "situation", "uid",
        "wants",
    )  # fmt: skip

    def __init__(self, situation: Situation, request: Request, uid: int, now: Now) -> None:
        self.situation = situation
        self.request = request
        self.uid = uid
        self.now = now
        self.held = held = situation.ledger.find(request.holder, request.key)
        # Where no phase is named, a lease stays in the phase it is in.
        self.phase = request.phase or (Phase.ESTABLISHED if held is not None and held.established else Phase.SETUP)
        self.wants = wants = expand(situation.catalog, request.wants or (), self.phase)
        self.present = _NOBODYS
        if not situation.presence.isdisjoint(wants):
            self.present = set_apart(wants, situation.presence)
        self.added = wants if held is None else _beyond(wants, held.wants)
        if self.present:
            self.added = self.added | self._added_presence()
        self.port, self.channel = (request.port, request.channel) if held is None else self._place(held)
        self.displaced = () if request.channel is None else self._displaced()

    def _added_presence(self) -> dict[str, int]:
        """What must be licensed: nothing remembers it but a lease, so without one it is looked at each time."""
        known = self.held.present if self.held is not None and self.wants else {}
        return _beyond(self.present, known)

    def _place(self, held: Lease) -> tuple[str | None, str | None]:
        """Where the lease will be: as requested, and where it was as far as nothing is requested."""
        request = self.request
        if request.port is not None and request.port != held.port:
            return request.port, request.channel
        return held.port, request.channel or held.channel

    def _displaced(self) -> tuple[Lease, ...]:
        """The earlier leases on the same channel, which a new call there proves to be over.

        A call that is on the channel already proves nothing about others that a list put there beside it.
        """
        request, held = self.request, self.held
        if held is not None and (held.port, held.channel) == (self.port, request.channel):
            return ()
        return self.situation.ledger.on_channel(request.holder, self.port, request.channel)

    def entitlement(self, feature: str) -> Entitlement | None:
        """What the licenses allow of a feature, None where the catalog has no such feature."""
        return self.situation.entitlements.get(feature)

    def in_use(self, feature: str) -> int:
        """What others hold of it: the leases that this request displaces are counted as free."""
        freed = instances(self.displaced, feature) if self.displaced else 0
        return self.situation.ledger.in_use(feature) - freed

    def change(self, feature: str) -> int:
        """How many instances of it the holder has more under this key once the claim is carried out."""
        return self.wants.get(feature, 0) - (self.held.wants.get(feature, 0) if self.held else 0)


def expand(catalog: Catalog, wants: tuple[Want, ...], phase: Phase) -> dict[str, int]:
    """Instances by feature, with what the features take besides during set-up."""
    total: dict[str, int] = {}
    for want in wants:
        instances = want.instances or 1
        total[want.feature] = total.get(want.feature, 0) + instances
        feature = catalog.features.get(want.feature)
        if phase is Phase.SETUP and feature is not None:
            for name, count in feature.during_setup.items():
                total[name] = total.get(name, 0) + count * instances
    return total


def set_apart(wants: dict[str, int], presence: frozenset[str]) -> dict[str, int]:
    """Take the features out that nobody takes, and give them back by themselves."""
    return {feature: wants.pop(feature) for feature in list(wants) if feature in presence}


def _beyond(wants: dict[str, int], held: dict[str, int]) -> dict[str, int]:
    more = {feature: count - held.get(feature, 0) for feature, count in wants.items()}
    return {feature: count for feature, count in more.items() if count > 0}


EMERGENCY_URN = "urn:service:sos"
"""The emergency services, and with a dot and a word behind it one of them, in letters of either size (RFC 5031)."""


def is_emergency_number(rules: Rules, dialed: str | None) -> bool:
    """Whether it is a listed emergency number, or an emergency service by its URN, which no list need have."""
    if dialed in rules.emergency_numbers:
        return True
    return dialed is not None and f"{dialed.lower()}.".startswith(f"{EMERGENCY_URN}.")


def is_emergency(rules: Rules, request: Request) -> bool:
    """Whether the request dials an emergency number or claims the class."""
    return request.call_class is CallClass.EMERGENCY or is_emergency_number(rules, request.dialed)


def _emergency(claim: Claim) -> Ruling | None:
    request, situation = claim.request, claim.situation
    if is_emergency(situation.rules, request):
        return Ruling(Reason.EMERGENCY)
    if claim.held is not None and claim.held.emergency:
        # Once an emergency call, it stays one: what is asked about it later need not name the number again.
        called_back = claim.held.call_class is CallClass.CALLBACK
        return Ruling(Reason.EMERGENCY_CALLBACK if called_back else Reason.EMERGENCY)
    if request.call_class is CallClass.CALLBACK:
        holder = situation.holders.find(request.holder)
        last = None if holder is None else holder.last_emergency
        if last is not None and claim.now.boot - last <= CALLBACK_SECONDS:
            return Ruling(Reason.EMERGENCY_CALLBACK)
    return None


def _held(claim: Claim) -> Ruling | None:
    if claim.held is None or claim.added or not claim.wants:
        return None
    if claim.port != claim.held.port and _ceiling(claim) is not None:
        return None  # it holds enough, but not there
    return _measured(claim, Reason.ALREADY_HELD)


def _standing(claim: Claim) -> Ruling | None:
    return Ruling(Reason.DEACTIVATED) if claim.situation.standing is Standing.DEACTIVATED else None


def _entitled(claim: Claim) -> Ruling | None:
    if not (claim.wants or claim.present):
        return Ruling(Reason.UNKNOWN_FEATURE)  # only an emergency call may want nothing
    for feature in claim.added:
        entitlement = claim.entitlement(feature)
        if entitlement is None:
            return Ruling(Reason.UNKNOWN_FEATURE, feature)
        if entitlement.lack is not None:
            return Ruling(entitlement.lack, feature, 0, claim.in_use(feature))
    return None


def _instances(claim: Claim) -> Ruling | None:
    for feature, count in claim.added.items():
        limit, in_use = claim.situation.limit(feature), claim.in_use(feature)
        if in_use + count > limit:
            return Ruling(Reason.LIMIT_REACHED, feature, limit, in_use)
        kept = kept_back(claim, feature, count)
        if kept is not None:
            return Ruling(kept[0], feature, limit, in_use, kept[1])
    return None


def _ceiling(claim: Claim) -> Ruling | None:
    port = claim.request.port if claim.wants else None
    if port is None or (claim.held is not None and claim.held.port == port and not claim.held.emergency):
        return None
    ceiling = claim.situation.rules.ceilings.get(port)
    if ceiling is None:
        return None
    freed = sum(not lease.emergency for lease in claim.displaced)
    there = claim.situation.ledger.on_port(port) - freed
    return Ruling(Reason.CEILING_REACHED, port, ceiling, there) if there >= ceiling else None


def _leases(claim: Claim) -> Ruling | None:
    return _too_many(claim) if claim.wants else None


def _too_many(claim: Claim) -> Ruling | None:
    most = claim.situation.rules.max_leases
    count = claim.situation.ledger.of_user(claim.uid)
    full = claim.held is None and not claim.displaced and count >= most
    return Ruling(Reason.TOO_MANY_LEASES, claim.request.holder, most, count) if full else None


STEPS: tuple[tuple[str, Callable[[Claim], Ruling | None], str], ...] = (
    ("emergency", _emergency, "no emergency call"),
    ("held", _held, "the lease does not hold all of this yet, or its new port is full"),
    ("standing", _standing, "the standing allows new calls"),
    ("entitlement", _entitled, "every feature is known and licensed"),
    ("instances", _instances, "enough instances are free"),
    ("ceiling", _ceiling, "the port is below its ceiling, or has none"),
    ("leases", _leases, "the user may have one more lease"),
)
"""Name of the step, the step, and what it means to pass it. The first that rules decides."""

_IN_ORDER = tuple(step for _, step, _ in STEPS)


def rule(claim: Claim) -> Ruling:
    """The first ruling in the order of the steps, or granted."""
    for step in _IN_ORDER:
        ruling = step(claim)
        if ruling is not None:
            return ruling
    return _measured(claim, Reason.GRANTED)


def walk(claim: Claim) -> tuple[Ruling, list[Step]]:
    """The same ruling, and what each step on the way found."""
    steps = []
    for name, step, passed in STEPS:
        ruling = step(claim)
        if ruling is not None:
            stopped = ruling.reason not in ALLOWING
            steps.append(Step(name, ruling.subject, not stopped, _sentence(claim, ruling)))
            return ruling, steps
        steps.append(Step(name, None, True, passed))  # noqa: FBT003 - positional as in the table above
    return _measured(claim, Reason.GRANTED), steps


def decide(situation: Situation, request: Request, now: Now, uid: int, bound: int | None) -> tuple[Decision, Claim]:
    """Rule on the request and carry it out; what it displaced is left for the caller to report."""
    claim = Claim(situation, request, uid, now)
    ruling = rule(claim)
    if ruling.reason in ALLOWING:
        carry_out(claim, ruling.reason, bound)
    decision = decided(claim, ruling)
    if request.wait or situation.waiting.anyone:
        line_up(claim, ruling, bound)
    return decision, claim


def carry_out(claim: Claim, reason: Reason, bound: int | None) -> None:
    """Put the lease as the claim wants it, and take out those it displaces."""
    request, ledger, held = claim.request, claim.situation.ledger, claim.held
    call_class = _CLASS_OF.get(reason, CallClass.NORMAL)
    emergency = call_class is not CallClass.NORMAL
    if reason is Reason.EMERGENCY:
        claim.situation.note_emergency(request.holder, claim.now.boot)
    if emergency and held is None and _too_many(claim) is not None:
        return  # granted all the same; only its record finds no room
    for displaced in claim.displaced:
        _give_back(claim, displaced.key)
    if not claim.wants and not emergency:
        _give_back(claim, request.key)  # there is nothing to take
        return
    lease = _lease(claim, call_class, bound)
    if held is None:
        ledger.put(lease)
        return
    claim.situation.lately.note_asked_again(held, claim.now.boot)
    if lease != held:
        ledger.put(lease)


def _give_back(claim: Claim, key: str) -> None:
    """End what the holder has under a key, so that no older list brings it back."""
    situation, holder = claim.situation, claim.request.holder
    if situation.ledger.drop(holder, key) is not None:
        situation.lately.note_release(holder, key, claim.now.boot)
        situation.waiting.leave(holder, key)


def _lease(claim: Claim, call_class: CallClass, bound: int | None) -> Lease:
    request, held = claim.request, claim.held
    return Lease(
        holder=request.holder,
        key=request.key,
        uid=claim.uid,
        scope=_scope(claim),
        wants=claim.wants if call_class is CallClass.NORMAL else {},
        present=claim.present,
        granted=held.granted if held else claim.now.boot,
        port=claim.port,
        channel=claim.channel,
        call_class=call_class,
        established=claim.phase is Phase.ESTABLISHED,
        bound=bound,  # also where all is held: the answer goes to that connection, and an earlier one may be ending
    )


def _scope(claim: Claim) -> Scope:
    """That of the first feature that is taken."""
    for want in claim.request.wants or ():
        feature = claim.situation.catalog.features.get(want.feature)
        if feature is not None and feature.id not in claim.present:
            return feature.scope
    return Scope.CALLS


def _measured(claim: Claim, reason: Reason) -> Ruling:
    if not claim.request.wants:
        return Ruling(reason)
    feature = claim.request.wants[0].feature
    return Ruling(reason, feature, claim.situation.limit(feature), claim.in_use(feature))


def decided(claim: Claim, ruling: Ruling) -> Decision:
    """The ruling as an answer: with the count after it, and in words when it denies."""
    if ruling.reason in _MEASURED:
        in_use = None if ruling.in_use is None else ruling.in_use + claim.change(ruling.subject or "")
        return Decision(allowed=True, reason=ruling.reason, feature=ruling.subject, limit=ruling.limit, in_use=in_use)
    if ruling.reason in ALLOWING:
        return Decision(allowed=True, reason=ruling.reason)
    wanted = claim.wants | claim.present
    name = ruling.subject if ruling.subject in wanted else next(iter(wanted), None)
    return Decision(
        allowed=False,
        reason=ruling.reason,
        feature=name,
        limit=ruling.limit,
        in_use=ruling.in_use,
        place=place_in_line(claim, ruling),
        fallback=_fallback(claim, name),
        message=_sentence(claim, ruling),
        remedy=_filled(MEANING[ruling.reason].remedy, claim, ruling),
    )


def _fallback(claim: Claim, denied: str | None) -> str | None:
    """That of the denied feature, else of one that was wanted: the denied one may only go with it during set-up."""
    names = [denied, *(want.feature for want in claim.request.wants or ())]
    features = (claim.situation.catalog.features.get(name or "") for name in names)
    return next((feature.fallback for feature in features if feature and feature.fallback), None)


def _sentence(claim: Claim, ruling: Ruling) -> str:
    return _filled(MEANING[ruling.reason].message, claim, ruling)


def _filled(template: str, claim: Claim, ruling: Ruling) -> str:
    name = ruling.subject or ""
    feature = claim.situation.catalog.features.get(name)
    return template.format(
        title=feature.title if feature else name,
        feature=name or "without a name: the request wants nothing",
        unit=feature.unit if feature else "instance",
        limit=ruling.limit,
        in_use=ruling.in_use,
        kept=ruling.kept,
        wanted=claim.added.get(name, 0),
        port=claim.request.port,
        holder=claim.request.holder,
        cause=claim.situation.cause,
        known=", ".join(sorted(claim.situation.catalog.applications)) or "none",
    )
