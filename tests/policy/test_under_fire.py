"""The Enforcer under fire: any order of messages, twice, late or lost, restarts, clock jumps and limits that move.

Two machines look at it. The first holds every step against the rules said once more, as simply as they can be: a
dictionary of leases, and loops over all of it. The second stands where the switches stand: whatever the wire does to
their messages, the leases lie between the calls that there are and those plus what went unanswered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.enforcer import NotYours
from featurekeyd.policy.holders import Known
from featurekeyd.policy.ledger import Dropped, Lease
from featurekeyd.policy.licensekey import LicenseKey
from featurekeyd.policy.requests import CallClass, Phase, SyncLease, Want
from featurekeyd.policy.standing import Standing
from featurekeyd.policy.synchronize import ListRefused, Synced

if TYPE_CHECKING:
    from tests.policy.conftest import Site

OWNERS = {"kamailio": 1000, "standby": 1000, "asterisk": 1001}
CEILINGS = {"line": 2}
MOST = 6
"""Leases of one user; small, so that it is met."""
SCOPES = {"trunk": "calls", "coder": "calls", "phone": "registrations", "tenant": "configuration"}
SECONDS_SPARED = 2.0
SECONDS_OF_A_GENERATION = 60.0
LONG_AGO = float("-inf")

HOLDER = st.sampled_from(["kamailio", "kamailio", "kamailio", "standby", "asterisk"])
KEY = st.sampled_from("abcdef")
SCOPE = st.sampled_from(["calls", "calls", "registrations", "configuration"])
CLASS = st.sampled_from([None, None, None, None, "normal", "emergency", "callback"])
DIALED = st.sampled_from([None, None, None, None, "4711", "112"])
PHASE = st.sampled_from([None, "setup", "established"])
FEATURE = st.sampled_from(["trunk", "trunk", "trunk", "coder", "phone", "tenant", "moon"])
WANTS = st.lists(st.tuples(FEATURE, st.sampled_from([1, 1, 1, 2, 3])), min_size=1, max_size=2).map(tuple)
PORT = st.sampled_from([None, "line", "line", "far"])
CHANNEL = st.sampled_from([None, "1", "2"])
LISTED = st.dictionaries(KEY, st.tuples(WANTS, PORT, CHANNEL, CLASS), max_size=5)
SECONDS = st.floats(0.1, 5) | st.floats(0.1, 5) | st.floats(5, 70) | st.floats(70, 8000)

Wanted = tuple[tuple[str, int], ...]
Name = tuple[str, str]
ListedLease = tuple[Wanted, str | None, str | None, str | None]
"""Wants, port, channel, class."""


@dataclass(frozen=True)
class Held:
    """What the model knows of one lease."""

    wants: dict[str, int]
    scope: str
    granted: float
    port: str | None = None
    channel: str | None = None
    kind: str = "normal"
    established: bool = False
    bound: int | None = None

    @property
    def counted(self) -> bool:
        return self.kind == "normal"


@dataclass
class Parts:
    """A list that came in part."""

    generation: int
    taken: float
    named: set[str] = field(default_factory=set)
    count: int = 0
    late: bool = False
    """Whether the list is complete already."""


@dataclass
class Model:
    """The rules once more: every question is answered by looking at all leases."""

    leases: dict[Name, Held] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    deactivated: bool = False
    emergencies: dict[str, float] = field(default_factory=dict)
    successors: dict[str, str] = field(default_factory=dict)
    ended: dict[Name, float] = field(default_factory=dict)
    asked_again: dict[Name, float] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    ttls: dict[tuple[str, str], int] = field(default_factory=dict)
    parts: dict[tuple[str, str], Parts] = field(default_factory=dict)
    newest: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """Generation, and when a part of it was taken in."""

    def in_use(self, feature: str) -> int:
        return sum(held.wants.get(feature, 0) for held in self.leases.values())

    def on_port(self, port: str) -> int:
        return sum(held.port == port and held.counted for held in self.leases.values())

    def of_user(self, holder: str) -> int:
        return sum(OWNERS[other] == OWNERS[holder] for other, _ in self.leases)

    def put(self, name: Name, held: Held) -> None:
        if self.leases.get(name) != held:
            self.leases.pop(name, None)
            self.leases[name] = held

    # Acquire

    def acquire(
        self,
        name: Name,
        wants: Wanted,
        boot: float,
        *,
        port: str | None,
        channel: str | None,
        kind: str | None,
        dialed: str | None,
        phase: str | None,
        bound: int | None,
    ) -> bool:
        """Whether it is allowed; the leases are then as they should be."""
        self.heard[name[0]] = boot
        held = self.leases.get(name)
        asked_port, stays = port, held is not None and port in {None, held.port}
        there = held is not None and stays and channel in {None, held.channel}
        port = held.port if held and stays else port
        over = [] if there else self._on_channel(name[0], port, channel)
        channel = channel or (held.channel if held and stays else None)
        emergency = self._emergency(name[0], held, kind, dialed, boot)
        needs = self._needs(wants, phase, held)
        if emergency is None and not self._free(name, needs, held, asked_port, over):
            return False
        if emergency == "emergency":
            self.emergencies[name[0]] = boot
        if emergency and held is None and not over and self.of_user(name[0]) >= MOST:
            return True
        if held is not None:
            self.asked_again[name] = boot
        self.end(over, boot)
        scope = next((SCOPES[feature] for feature, _ in wants if feature in SCOPES), "calls")
        granted = held.granted if held else boot
        needs = {} if emergency else needs
        established = (phase or self._phase(held)) == "established"
        self.put(name, Held(needs, scope, granted, port, channel, emergency or "normal", established, bound))
        return True

    def _on_channel(self, holder: str, port: str | None, channel: str | None) -> list[Name]:
        return [
            other
            for other, held in self.leases.items()
            if other[0] == holder and None not in {port, channel} and (held.port, held.channel) == (port, channel)
        ]

    def _emergency(
        self, holder: str, held: Held | None, kind: str | None, dialed: str | None, boot: float
    ) -> str | None:
        if kind == "emergency" or dialed == "112":
            return "emergency"
        if held is not None and not held.counted:
            return held.kind
        last = self.emergencies.get(holder)
        return "callback" if kind == "callback" and last is not None and boot - last <= 1800 else None

    def _needs(self, wants: Wanted, phase: str | None, held: Held | None) -> dict[str, int]:
        return expanded(wants, setup=(phase or self._phase(held)) == "setup")

    @staticmethod
    def _phase(held: Held | None) -> str:
        return "established" if held is not None and held.established else "setup"

    def _free(self, name: Name, needs: dict[str, int], held: Held | None, port: str | None, over: list[Name]) -> bool:
        """Whether what is added may be taken, and where it is to be."""
        added = missing(needs, held)
        gone = [self.leases[other] for other in over]
        freed = sum(it.counted for it in gone)
        moves = port in CEILINGS and (held is None or held.port != port)
        if port is not None and moves and self.on_port(port) - freed >= CEILINGS[port]:
            return False
        if held is not None and not added:
            return True
        for feature, count in added.items():
            freed = sum(it.wants.get(feature, 0) for it in gone)
            if self.in_use(feature) - freed + count > self.limits.get(feature, 0):
                return False
        room = held is not None or bool(gone) or self.of_user(name[0]) < MOST
        return room and not self.deactivated

    # Release and Sync

    def release(self, name: Name, boot: float) -> bool:
        self.heard[name[0]] = boot
        self.ended[name] = boot
        return self.leases.pop(name, None) is not None

    def end(self, names: Iterable[Name], boot: float) -> None:
        for name in names:
            del self.leases[name]
            self.ended[name] = boot

    def sync(
        self,
        place: tuple[str, str],
        listed: dict[str, ListedLease],
        boot: float,
        *,
        age: float,
        generation: int | None,
        part: int | None,
        last: bool | None,
        takes_over: str | None,
        ttl: int | None,
    ) -> bool:
        """Whether the list is taken."""
        holder, scope = place
        self.heard[holder] = boot
        self.forget_unfinished(boot)
        parts = self._parts(place, boot, boot - age, generation, part, last)
        if parts is None:
            return False
        keys, new = set(listed), sum((holder, key) not in self.leases for key in listed)
        if len(parts.named | keys) > MOST or self.of_user(holder) + new > 2 * MOST:
            return False
        others = [it for other, it in self.parts.items() if other != place and OWNERS[other[0]] == OWNERS[holder]]
        if last is False and sum(len(it.named) for it in others) + len(parts.named | keys) > MOST:
            return False
        self._take_charge(holder, takes_over)
        listed = {key: it for key, it in listed.items() if not self._over(holder, takes_over, key, parts.taken)}
        if takes_over in self.emergencies:
            self.emergencies[holder] = max(self.emergencies[takes_over], self.emergencies.get(holder, LONG_AGO))
        for key, told in listed.items():
            self._adopt((holder, key), scope, told, boot, takes_over, parts.taken)
        parts.named |= keys
        if generation is not None and not parts.late:
            self.parts[place], self.newest[place] = parts, (generation, boot)
        if last is not False and not parts.late:
            self.parts.pop(place, None)
            self._free_others({holder, takes_over}, scope, parts)
        if ttl is not None:
            self.ttls[place] = ttl
        return True

    def _take_charge(self, holder: str, takes_over: str | None) -> None:
        if takes_over in {None, holder}:
            return
        if takes_over in self.heard:  # a name that nobody has used is remembered by nobody
            self.successors[takes_over] = holder
        self.successors.pop(holder, None)

    def forget_unfinished(self, boot: float) -> None:
        """Drop the lists whose next part has not come within a minute."""
        for place in [it for it in self.parts if boot - self.newest[it][1] > SECONDS_OF_A_GENERATION]:
            del self.parts[place], self.newest[place]

    def _parts(
        self,
        place: tuple[str, str],
        boot: float,
        taken: float,
        generation: int | None,
        part: int | None,
        last: bool | None,
    ) -> Parts | None:
        """What has come of the list with this part of it; None where it is refused."""
        single = last is not False and part in {None, 1}
        if not single and None in {generation, part}:
            return None
        if generation is None:
            return Parts(0, taken)
        begun, (newest, heard) = self.parts.get(place), self.newest.get(place, (0, LONG_AGO))
        if generation < newest and boot - heard <= SECONDS_OF_A_GENERATION:
            return None
        if begun is None and generation == newest:
            return Parts(generation, taken, late=True)
        if begun is None or begun.generation != generation:
            begun = Parts(generation, taken)
        count = max(begun.count, part or 1)
        return Parts(generation, min(begun.taken, taken), set(begun.named), count) if count <= begun.count + 1 else None

    def _over(self, holder: str, takes_over: str | None, key: str, taken: float) -> bool:
        names = [(holder, key)] + ([(takes_over, key)] if takes_over else [])
        held = any(name in self.leases for name in names)
        successor = self.successors.get(holder)
        while successor is not None and not held:
            if (successor, key) in self.leases:
                return True
            successor = self.successors.get(successor)
        return not held and any(self.ended.get(name, -1e9) > taken - SECONDS_SPARED for name in names)

    def _adopt(
        self,
        name: Name,
        scope: str,
        told: ListedLease,
        boot: float,
        takes_over: str | None,
        taken: float,
    ) -> None:
        wants, port, channel, kind = told
        held, before = self.leases.get(name), (str(takes_over), name[1])
        earlier = self.leases.pop(before, None) if takes_over not in {None, name[0]} else None
        since = held or earlier
        if earlier is not None:
            self.ended[before] = max(taken, self.ended.get(before, LONG_AGO))
        if kind == "emergency" and all(it is None or it.counted for it in (held, earlier)):
            self.emergencies[name[0]] = boot
        alarm = kind in {"emergency", "callback"} and since is not None and since.counted
        asked = self.asked(name if held else before, since) if since else LONG_AGO
        if since and asked >= taken - SECONDS_SPARED and not alarm:
            if held is None:
                self.put(name, replace(since, bound=None))
                self.asked_again[name] = asked
            return
        port = port or (since.port if since else None)
        channel = channel or (since.channel if since and since.port == port else None)
        emergency = kind in {"emergency", "callback"} or (since is not None and not since.counted)
        kind = since.kind if since and not since.counted else kind if emergency else "normal"
        needs = {} if emergency else expanded(wants, setup=False)
        if held and (held.scope, held.port, held.channel, held.counted) == (scope, port, channel, not emergency):
            most = expanded(wants, setup=True)
            if not missing(needs, held) and not missing(held.wants, Held(most, scope, 0)):
                self.put(name, replace(held, bound=None))
                return
        granted = since.granted if since else boot
        self.leases.pop(name, None)
        self.put(name, Held(needs, scope, granted, port, channel, kind or "normal", established=True))

    def asked(self, name: Name, held: Held) -> float:
        """When it was granted, or asked for again."""
        return max(held.granted, self.asked_again.get(name, LONG_AGO))

    def _free_others(self, holders: set[str | None], scope: str, parts: Parts) -> None:
        for name, held in list(self.leases.items()):
            listed = name[0] not in holders or held.scope != scope or name[1] in parts.named
            if not listed and self.asked(name, held) < parts.taken - SECONDS_SPARED:
                del self.leases[name]
                self.ended[name] = parts.taken - SECONDS_SPARED

    # Time and restarts

    def tick(self, boot: float) -> None:
        self.forget_unfinished(boot)
        for (holder, scope), ttl in list(self.ttls.items()):
            if boot - self.heard[holder] > ttl:
                del self.ttls[holder, scope]
                self.drop_scope(holder, scope)

    def drop_scope(self, holder: str, scope: str) -> None:
        self.drop_where(lambda name, held: (name[0], held.scope) == (holder, scope))

    def drop_where(self, ends: Callable[[Name, Held], bool]) -> None:
        self.leases = {name: held for name, held in self.leases.items() if not ends(name, held)}

    def restart(self, boot: float) -> None:
        """What a new run knows: the holders, and the leases that were recorded, but for those of connections."""
        self.drop_where(lambda _, held: held.bound is not None)
        for (holder, _), held in self.leases.items():
            if held.kind == "emergency":
                self.emergencies[holder] = max(held.granted, self.emergencies.get(holder, 0))
        self.heard = dict.fromkeys(self.heard, boot)
        self.ended, self.asked_again, self.parts, self.newest = {}, {}, {}, {}


def expanded(wants: Wanted, *, setup: bool) -> dict[str, int]:
    """Instances by feature; during set-up a trunk takes a coder besides."""
    needs: dict[str, int] = {}
    for feature, count in wants:
        needs[feature] = needs.get(feature, 0) + count
        if setup and feature == "trunk":
            needs["coder"] = needs.get("coder", 0) + count
    return needs


def missing(needs: dict[str, int], held: Held | None) -> dict[str, int]:
    """What the lease has not got yet."""
    has = held.wants if held else {}
    return {feature: count - has.get(feature, 0) for feature, count in needs.items() if count > has.get(feature, 0)}


def shown(lease: Lease) -> Held:
    """A lease of the ledger as the model has it."""
    place = lease.wants, lease.scope, lease.granted, lease.port, lease.channel
    return Held(*place, str(lease.call_class), lease.established, lease.bound)


def wanted(wants: Wanted) -> tuple[Want, ...]:
    return tuple(Want(feature, count) for feature, count in wants)


class World(RuleBasedStateMachine):
    """An Enforcer whose changes are recorded as the lease file records them, and what may happen to any host."""

    most = MOST

    def __init__(self, open_site: Callable[..., Site]) -> None:
        super().__init__()
        licensed = {"trunk": 5, "phone": 2, "tenant": 2}
        self.site = open_site(licensed=licensed, ceilings=CEILINGS, owners=OWNERS, max_leases=self.most)
        self.model = Model(limits={**licensed, "coder": 4})
        assert self.site.licenses.license_list is not None
        features = {self.site.catalog.features[name].code: name for name in SCOPES}
        self.keys = {entry.key: features[entry.key.feature_code] for entry in self.site.licenses.license_list.entries}
        self.recorded: dict[Name, Lease] = {}
        self.holders: dict[str, Known] = {}
        self.settle()

    def settle(self) -> None:
        """Record the changes, as the daemon does before it answers."""
        ledger = self.site.enforcer.ledger
        for change in ledger.changes:
            if isinstance(change, Lease):
                self.recorded.pop((change.holder, change.key), None)
                self.recorded[change.holder, change.key] = change
            elif isinstance(change, Dropped):
                self.recorded.pop((change.holder, change.key), None)
            else:
                self.holders[change.name] = change
        ledger.changes.clear()
        self.site.enforcer.events.clear()

    @property
    def deactivated(self) -> bool:
        return self.site.enforcer.standing is Standing.DEACTIVATED

    # What happens to the host

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.site.boot += seconds
        self.site.enforcer.tick(self.site.now)
        self.model.tick(self.site.boot)

    @rule(
        what=st.sampled_from(["clock jumps", "suspended", "key pulled", "key put back", "restart"]),
        seconds=st.floats(-3e8, 3e8),
    )
    def something_happens_to_the_host(self, what: str, seconds: float) -> None:
        site = self.site
        if what == "clock jumps":
            site.wall = max(site.wall + seconds, 0.0)
            site.enforcer.tick(site.now)
            self.model.tick(site.boot)
        elif what == "suspended":
            site.boot += 2 + abs(seconds) / 1e5
            site.enforcer.restart_silence(site.now)
            self.model.heard = dict.fromkeys(self.model.heard, site.boot)
            self.model.newest = {place: (it, site.boot) for place, (it, _) in self.model.newest.items()}
            site.enforcer.tick(site.now)
        elif what == "key pulled":
            site.pull()
        elif what == "key put back":
            site.put_back()
        else:
            self.the_daemon_restarts()

    @rule(bought=st.none() | FEATURE, count=st.integers(1, 3), data=st.data())
    def a_license_is_bought_or_revoked(self, bought: str | None, count: int, data: st.DataObject) -> None:
        if bought in SCOPES:
            self.keys[self.site.key(bought, count)] = bought
            self._list_licenses()
        elif self.keys:
            gone = data.draw(st.sampled_from(list(self.keys)))
            del self.keys[gone]
            self._list_licenses(gone)

    def _list_licenses(self, *revoked: LicenseKey) -> None:
        self.site.bring(self.site.list_of(*self.keys, revoked=revoked))
        limits = {"coder": 4}
        for key, feature in self.keys.items():
            limits[feature] = limits.get(feature, 0) + key.instances
        self.model.limits = limits

    def the_daemon_restarts(self) -> None:
        """With what was recorded; as on disk, the order is that of the last change."""
        self.settle()
        self.site = self.site.restarted()
        self.site.enforcer.restore(list(self.recorded.values()), self.site.now, list(self.holders.values()))
        self.model.restart(self.site.boot)
        self.recorded = {(it.holder, it.key): it for it in self.site.enforcer.ledger}
        self.site.put_back()

    # What must hold whatever happens

    @invariant()
    def every_sum_is_that_of_the_leases(self) -> None:
        self.settle()
        ledger = self.site.enforcer.ledger
        leases = list(ledger)
        counts = ledger.recount()
        for feature in [*SCOPES, "moon"]:
            assert ledger.in_use(feature) == counts.get(feature, 0)
        for port in ("line", "far"):
            assert ledger.on_port(port) == sum(it.port == port and not it.emergency for it in leases)
        for uid in (1000, 1001):
            assert ledger.of_user(uid) == sum(it.uid == uid for it in leases)
        assert ledger.emergencies == sum(it.emergency for it in leases)
        assert len(ledger) == len(leases)
        assert not any(it.emergency and it.wants for it in leases)

    @invariant()
    def what_is_recorded_is_what_is_held(self) -> None:
        assert self.recorded == {(it.holder, it.key): it for it in self.site.enforcer.ledger}
        assert self.holders == {it.name: it for it in self.site.enforcer.holders.known()}


class EnforcerAgainstModel(World):
    """Any order of calls, sensible or not, gives what the model gives."""

    @rule(
        name=st.tuples(HOLDER, KEY),
        wants=WANTS,
        port=PORT,
        channel=CHANNEL,
        kind=CLASS,
        dialed=DIALED,
        phase=PHASE,
        bound=st.sampled_from([None, None, None, 1, 2]),
        twice=st.booleans(),
    )
    def acquire(self, name: Name, twice: bool, **fields: Any) -> None:
        self.acquire_for(name, twice=twice, **fields)

    def acquire_for(self, name: Name, *, twice: bool, **fields: Any) -> None:
        ledger, limits = self.site.enforcer.ledger, self.model.limits
        before = {feature: ledger.in_use(feature) for feature in SCOPES}
        on_line = ledger.on_port("line")
        self._acquire(name, **fields)
        assert all(ledger.in_use(feature) <= max(limits.get(feature, 0), before[feature]) for feature in SCOPES)
        assert ledger.on_port("line") <= max(CEILINGS["line"], on_line)
        if twice:
            self.settle()
            self._acquire(name, **fields)
            assert ledger.changes == []

    @rule(name=st.tuples(HOLDER, KEY), port=PORT, kind=CLASS)
    def a_plain_call_asks(self, name: Name, port: str | None, kind: str | None) -> None:
        wants = (("trunk", 1),)
        fields: dict[str, Any] = {"channel": None, "dialed": None, "phase": "established", "bound": None}
        self.acquire_for(name, twice=False, wants=wants, port=port, kind=kind, **fields)

    def _acquire(
        self, name: Name, *, wants: Wanted, kind: str | None, phase: str | None, bound: int | None, **fields: Any
    ) -> None:
        request = self.site.ask(
            name[1],
            *wanted(wants),
            holder=name[0],
            call_class=CallClass(kind) if kind else None,
            phase=Phase(phase) if phase else None,
            **fields,
        )
        self.model.deactivated = self.deactivated
        decision = self.site.enforcer.acquire(request, OWNERS[name[0]], self.site.now, bound)
        assert isinstance(decision, Decision)
        allowed = self.model.acquire(name, wants, self.site.boot, kind=kind, phase=phase, bound=bound, **fields)
        assert decision.allowed is allowed, decision
        if kind == "emergency" or fields["dialed"] == "112":
            assert decision.allowed

    @rule(name=st.tuples(HOLDER, KEY), twice=st.booleans())
    def release(self, name: Name, twice: bool) -> None:
        holder, key = name
        expected = self.model.release(name, self.site.boot)
        assert self.site.release(key, holder, OWNERS[holder]) is expected
        if twice:
            assert self.site.release(key, holder, OWNERS[holder]) is self.model.release(name, self.site.boot) is False

    @rule(name=st.tuples(HOLDER, KEY), kind=CLASS)
    def another_user_asks_under_the_name(self, name: Name, kind: str | None) -> None:
        request = self.site.ask(name[1], "trunk", holder=name[0], call_class=CallClass(kind) if kind else None)
        answer = self.site.enforcer.acquire(request, 4242, self.site.now)
        assert isinstance(answer, Decision if kind == "emergency" else NotYours)
        assert isinstance(self.site.enforcer.release(*name, 4242, self.site.now), NotYours)
        listing = self.site.listing(holder=name[0])
        assert isinstance(self.site.enforcer.synchronize(listing, 4242, self.site.now), NotYours)

    @rule(data=st.data(), holder=HOLDER, age=st.integers(0, 4000), ttl=st.none() | st.integers(1, 60))
    def a_list_of_about_what_there_is(self, data: st.DataObject, holder: str, age: int, ttl: int | None) -> None:
        there = sorted(key for owner, key in self.model.leases if owner == holder)
        ended = sorted(key for owner, key in self.model.ended if owner == holder)
        keys = data.draw(st.sets(st.sampled_from([*there, *ended, "f"])))
        listed: dict[str, ListedLease] = dict.fromkeys(keys, ((("trunk", 1),), None, None, None))
        fields: dict[str, Any] = {"takes_over": None, "ttl": ttl, "generation": None, "part": None, "last": None}
        self.synchronize_for((holder, "calls"), listed, age, **fields)

    @rule(
        place=st.tuples(HOLDER, SCOPE),
        listed=LISTED,
        age=st.integers(0, 30_000),
        generation=st.none() | st.integers(1, 5),
        part=st.none() | st.integers(1, 2),
        last=st.sampled_from([None, True, False]),
        takes_over=st.sampled_from([None, None, "kamailio", "standby"]),
        ttl=st.none() | st.integers(1, 60),
    )
    def synchronize(
        self, place: tuple[str, str], listed: dict[str, ListedLease], age: int, takes_over: str | None, **fields: Any
    ) -> None:
        self.synchronize_for(place, listed, age, takes_over=takes_over, **fields)

    def synchronize_for(
        self,
        place: tuple[str, str],
        listed: dict[str, ListedLease],
        age: int,
        *,
        takes_over: str | None,
        ttl: int | None,
        **fields: Any,
    ) -> None:
        holder, scope = place
        leases = [
            SyncLease(
                key=key, wants=wanted(wants), port=port, channel=channel, call_class=CallClass(kind) if kind else None
            )
            for key, (wants, port, channel, kind) in listed.items()
        ]
        request = self.site.listing(
            *leases,
            scope=Scope(scope),
            holder=holder,
            list_age_ms=age,
            ttl_seconds=ttl,
            takes_over=takes_over,
            **fields,
        )
        synced = self.site.enforcer.synchronize(request, OWNERS[holder], self.site.now)
        if takes_over is not None and OWNERS[takes_over] != OWNERS[holder]:
            self.model.heard[holder] = self.site.boot
            assert synced == NotYours(takes_over)
            return
        taken = self.model.sync(
            place, listed, self.site.boot, age=age / 1000, takes_over=takes_over, ttl=ttl, **fields
        )  # fmt: skip
        assert isinstance(synced, Synced if taken else ListRefused), synced

    @rule(connection=st.none() | st.sampled_from([1, 2]), name=st.tuples(HOLDER, KEY))
    def a_connection_ends_or_a_technician_frees_a_lease(self, connection: int | None, name: Name) -> None:
        if connection is not None:
            self.site.enforcer.release_bound(connection, self.site.now)
            bound = [other for other, held in self.model.leases.items() if held.bound == connection]
            self.model.end(bound, self.site.boot)
            return
        there = [name] if name in self.model.leases else []
        assert self.site.enforcer.release_by_force(*name, "root", self.site.now) is bool(there)
        self.model.end(there, self.site.boot)

    @invariant()
    def the_leases_are_those_of_the_model(self) -> None:
        held = {(it.holder, it.key): shown(it) for it in self.site.enforcer.ledger}
        assert held == self.model.leases


@dataclass(frozen=True)
class Snapshot:
    """A list of calls as a switch took it; it may be sent late, with a part missing, or twice."""

    calls: tuple[str, ...]
    taken: float
    generation: int
    parts: int


class SwitchOverABadWire(World):
    """What lies in the ledger, seen from a switch: messages are late, doubled and lost, and so are the answers.

    Only a lost or late message makes a call unknown to the daemon, or leaves it one that is over (doubtful); a list
    that comes whole cures both. A key names one call for ever, as Call-ID and From-tag do.
    """

    most = 60

    def __init__(self, open_site: Callable[..., Site]) -> None:
        super().__init__(open_site)
        self.holder, self.earlier = "kamailio", "standby"
        self.calls: set[str] = set()
        self.unknown: set[str] = set()
        self.doubtful: set[str] = set()
        self.ends_heard: set[str] = set()
        """Calls of whose end this run of the daemon was told."""
        self.late: list[tuple[str, str]] = []
        """Questions that are still on their way."""
        self.lists: list[Snapshot] = []
        self.number = 0

    @property
    def held(self) -> set[str]:
        return {lease.key for lease in self.site.enforcer.ledger}

    def _ask(self, holder: str, key: str, dialed: str | None = None) -> bool:
        ledger = self.site.enforcer.ledger
        known = ledger.find(holder, key) is not None
        in_use = sum(not lease.emergency for lease in ledger)
        free = in_use < self.model.limits.get("trunk", 0) and not self.deactivated
        request = self.site.ask(key, "trunk", holder=holder, phase=Phase.ESTABLISHED, dialed=dialed)
        decision = self.site.enforcer.acquire(request, OWNERS[holder], self.site.now)
        assert isinstance(decision, Decision)
        assert decision.allowed is (known or free or dialed == "112")
        return decision.allowed

    @rule(
        dialed=DIALED,
        fate=st.sampled_from(["comes", "comes", "comes twice", "is lost", "is late", "is not answered"]),
        goes_on=st.booleans(),
    )
    def a_call_begins(self, dialed: str | None, fate: str, goes_on: bool) -> None:
        """A call whose question is not answered goes on or not, as the switch is set up."""
        self.number += 1
        key = f"call {self.number}"
        allowed = fate in {"comes", "comes twice", "is not answered"} and self._ask(self.holder, key, dialed)
        if fate == "comes twice":
            assert self._ask(self.holder, key, dialed) is allowed
        if fate == "is late":
            self.late.append((self.holder, key))
        if fate in {"comes", "comes twice"}:
            self.calls |= {key} if allowed else set()
        elif goes_on:
            self.calls.add(key)
            self.unknown |= set() if allowed else {key}
        elif allowed:
            self.doubtful.add(key)

    @precondition(lambda self: self.late)
    @rule()
    def a_late_question_comes(self) -> None:
        holder, key = self.late.pop(0)
        if self._ask(holder, key):
            self.unknown.discard(key)
            self.doubtful |= {key} - self.calls

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), releases=st.integers(0, 2))
    def a_call_ends(self, data: st.DataObject, releases: int) -> None:
        """Its release is lost, comes, or comes twice."""
        key = data.draw(st.sampled_from(sorted(self.calls)))
        self.calls.discard(key)
        self.unknown.discard(key)
        self.doubtful.add(key)
        for _ in range(releases):
            self.site.release(key, self.holder, OWNERS[self.holder])
            self.ends_heard.add(key)

    @rule(parts=st.integers(1, 3))
    def a_list_is_taken(self, parts: int) -> None:
        self.number += 1
        self.lists.append(Snapshot(tuple(sorted(self.calls)), self.site.boot, self.number, parts))

    @precondition(lambda self: self.lists)
    @rule(
        data=st.data(),
        lost=st.sampled_from([None, None, None, 1, 2, 3]),
        restart_before=st.sampled_from([None, None, None, 2, 3]),
        stays=st.booleans(),
    )
    def a_list_comes(self, data: st.DataObject, lost: int | None, restart_before: int | None, stays: bool) -> None:
        """Perhaps late, behind a newer one, without one of its parts, over a restart, or to come once more."""
        listed = data.draw(st.sampled_from(self.lists))
        if not stays or self.site.boot - listed.taken > 590:
            self.lists.remove(listed)
        if self.site.boot - listed.taken > 590:
            return
        newest = max((it.generation for it in self.lists), default=0) <= listed.generation
        whole = newest and not stays
        for part in range(1, listed.parts + 1):
            if part == restart_before:
                self.the_daemon_restarts()
            answer = None if part == lost else self._send(listed, part)
            whole = whole and isinstance(answer, Synced)
        if whole and self.site.enforcer._rounds._newest[self.holder, Scope.CALLS].generation == listed.generation:
            self._cured(listed)

    def _send(self, listed: Snapshot, part: int) -> Synced | ListRefused | NotYours:
        request = self.site.listing(
            *listed.calls[part - 1 :: listed.parts],
            holder=self.holder,
            list_age_ms=int((self.site.boot - listed.taken) * 1000) + 1,
            generation=listed.generation,
            part=part,
            last=part == listed.parts,
            takes_over=self.earlier,
        )
        before = self.held
        answer = self.site.enforcer.synchronize(request, OWNERS[self.holder], self.site.now)
        adopted = self.held - before
        assert not before - self.held & self.calls, "a call that there is was freed"
        assert not adopted & self.ends_heard, "a call was adopted of whose end the daemon had heard"
        self.unknown -= adopted
        self.doubtful |= adopted - self.calls
        return answer

    def _cured(self, listed: Snapshot) -> None:
        """What was there seconds before the list was taken is now as the list says; its age is told in milliseconds."""
        asked = {it.key: self.site.enforcer.lately.asked(it) for it in self.site.enforcer.ledger}
        old = {key for key, boot in asked.items() if boot < listed.taken - SECONDS_SPARED - 0.01}
        assert old <= set(listed.calls)
        assert not self.unknown & set(listed.calls)

    @rule()
    def the_other_switch_takes_over(self) -> None:
        """With the calls of the one that is gone; what that one had sent and was not read yet still comes."""
        self.holder, self.earlier = self.earlier, self.holder
        self.lists.clear()
        self.number += 1
        self.a_list_is_taken(1)
        self._send(self.lists.pop(), 1)

    def the_daemon_restarts(self) -> None:
        super().the_daemon_restarts()
        self.ends_heard.clear()

    @invariant()
    def the_leases_lie_between_the_calls_and_what_went_unanswered(self) -> None:
        self.doubtful &= self.held
        self.unknown -= self.held
        assert self.calls - self.unknown <= self.held <= self.calls | self.doubtful


def run(machine: Callable[[], RuleBasedStateMachine]) -> None:
    """Run a machine that needs a site to begin with."""
    limits = settings(max_examples=150, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]  # any factory will do


def test_any_order_of_calls_gives_what_the_simple_rules_give(open_site: Callable[..., Site]) -> None:
    run(lambda: EnforcerAgainstModel(open_site))


def test_the_leases_lie_between_the_calls_and_what_went_unanswered(open_site: Callable[..., Site]) -> None:
    run(lambda: SwitchOverABadWire(open_site))
