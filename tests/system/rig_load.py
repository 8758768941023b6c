"""Clients that load the daemon while it is killed, and what each of them knows of its leases.

Rules of this module:

* A client is one connection with keys of its own. It sends several requests at a time and then reads the answers, so
  that there is always something unanswered when the daemon dies.
* What it knows of a key is the set of states that the lease may be in: one where the last answer settled it, more
  where a request was not answered, or where its answer leaves the state open.
* An answer that contradicts what is known raises Violation. Nothing here asks the daemon which leases it has.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rig_process import DEADLINE, RigFailure
from rig_wire import Varlink

MOST_AT_ONCE = 12
"""Requests sent before the first answer is read."""

CHANNELS = 12
"""Channels of a client's port: fewer than its calls, so that calls also begin on channels that are still held."""

REMEMBERED = 64
"""Calls that are over and may still be repeated or released late."""

PART = 48
"""Leases in one part of a list: small, so that most lists come in parts."""


class Violation(RigFailure):
    """The daemon does not have the leases that it answered for; the text has the differences."""


@dataclass(frozen=True)
class Held:
    """What a lease holds, as ListLeases tells it."""

    scope: str
    wants: tuple[tuple[str, int], ...]
    port: str | None = None
    channel: str | None = None
    call_class: str = "normal"
    bound: bool = False

    @classmethod
    def of(cls, lease: Mapping[str, Any]) -> Held:
        """The same of one lease of ListLeases."""
        wants = tuple(sorted((want["feature"], want["instances"]) for want in lease["wants"]))
        return cls(lease["scope"], wants, lease.get("port"), lease.get("channel"), lease["class"], lease["bound"])


States = frozenset[Held | None]
"""The states that a lease may be in; None is a lease that is not there."""

ABSENT: States = frozenset({None})


@dataclass(frozen=True)
class Asked:
    """A request on its way: what the leases may be once it was carried out, by key."""

    method: str
    parameters: dict[str, Any]
    effects: dict[str, States]


class Beliefs:
    """What a client knows of its leases."""

    def __init__(self) -> None:
        self.known: dict[str, States] = {}
        """By key, as of the last answer; keys that are surely not held are left out."""
        self.asked: deque[Asked] = deque()
        """Unanswered requests, the oldest first."""

    def before(self, key: str) -> States:
        """The states of a lease before the oldest unanswered request."""
        return self.known.get(key, ABSENT)

    def possible(self) -> dict[str, States]:
        """The states of every lease that may be there, whichever of the unanswered requests were carried out."""
        possible = dict(self.known)
        for asked in self.asked:
            for key, states in asked.effects.items():
                possible[key] = possible.get(key, ABSENT) | states
        return possible

    def answered(self, *, done: bool) -> None:
        """Take note of the answer to the oldest request: whether it was carried out."""
        asked = self.asked.popleft()
        if done:
            self._note(asked.effects)

    def found(self, actual: Mapping[str, Held]) -> None:
        """Take the leases that there are, once they were compared, for what is known."""
        self.asked.clear()
        self.known = {key: frozenset({held}) for key, held in actual.items()}

    def connection_ended(self) -> None:
        """Take note that what was bound to the connection is to be freed."""
        unbound = {
            key: frozenset(None if held is not None and held.bound else held for held in states)
            for key, states in self.possible().items()
        }
        self.asked.clear()
        self.known.clear()
        self._note(unbound)

    def may_be_freed(self) -> None:
        """Take note that the daemon may have freed any of them."""
        self.known = {key: states | ABSENT for key, states in self.known.items()}

    def _note(self, effects: Mapping[str, States]) -> None:
        for key, states in effects.items():
            if states == ABSENT:
                self.known.pop(key, None)
            else:
                self.known[key] = states


@dataclass(frozen=True)
class Profile:
    """What a client does."""

    name: str
    holder: str
    feature: str
    scope: str = "calls"
    most: int = 20
    """Leases beyond which it asks for no new ones."""
    during_setup: tuple[tuple[str, int], ...] = ()
    """What a call takes besides while it is set up."""
    calls: bool = False
    """Whether its leases are calls on channels, some of them bound and some emergencies."""
    ttl_seconds: int | None = None
    """Silence after which its scope is freed; with it the client sends lists."""
    adopts: bool = False
    """Whether its lists name leases that it never asked for."""


class Client:
    """One connection of one holder."""

    def __init__(self, profile: Profile, seed: str, stops: Sequence[tuple[float, float]] = ()) -> None:
        """`stops` are the times, from and to, in which the daemon was stopped and could hear nobody."""
        self.profile = profile
        self.beliefs = Beliefs()
        self.decisions = 0
        self.excused = 0
        """How often the daemon may have freed its leases, because it was silent for too long."""
        self.synchronized = False
        """Whether the daemon has a list of it, and so knows how long it may be silent."""
        self._chance = random.Random(seed)
        self._past: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._templates: dict[str, dict[str, Any]] = {}
        """The request by which each lease was asked for."""
        self._numbers = 0
        self._generation = 0
        self._heard = self._sent = time.monotonic()
        self._stops = stops
        self._connection: Varlink | None = None

    @property
    def connected(self) -> bool:
        """Whether neither side has closed the connection."""
        return self._connection is not None

    def connect(self, connection: Varlink) -> None:
        """Go on with a new connection."""
        self.close()
        self._connection = connection

    def move(self, connection: Varlink) -> None:
        """Go on with a new connection, on which every bound lease is asked for again before the old one is closed."""
        old, self._connection = self._connection, connection
        known = self.beliefs.known.items()
        bound = [key for key, states in known if any(it is not None and it.bound for it in states)]
        for key in bound:
            self._acquire(self._templates[key] | {"phase": "established", "bound": True})
        self._read_answers()
        for key in bound:
            if None in self.beliefs.before(key):  # it was denied, so it was not there any more
                self.beliefs.known.pop(key, None)
        if old is not None:
            old.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def drive(self, over: threading.Event) -> None:
        """Ask until it is over and all is answered, or until the daemon is gone; raises Violation."""
        try:
            while not over.is_set():
                self._ask_some()
                self._read_answers()
        except EOFError:
            self.close()
        except TimeoutError:
            raise Violation(f"{self.profile.name}: no answer within {DEADLINE} s to {self.beliefs.asked[0]}") from None

    def heard(self) -> None:
        """Take note that the daemon has heard the holder, and whether it was silent for too long before."""
        ttl = self.profile.ttl_seconds
        if self.synchronized and ttl is not None and self._silent_seconds() > ttl:
            self.beliefs.may_be_freed()
            self.excused += 1
        self._heard = self._sent

    def restarted(self, moment: float) -> None:
        """Take note that the daemon was started then, so that silence counts from then on."""
        self._heard = self._sent = moment

    def _silent_seconds(self) -> float:
        now = time.monotonic()
        stopped = sum(max(0.0, min(end, now) - max(start, self._heard)) for start, end in self._stops)
        return now - self._heard - stopped

    def forget_ended(self) -> None:
        """Forget the requests of leases that are no more, but for some that may be repeated late."""
        for key in self._templates.keys() - self.beliefs.known.keys():
            self._past.append(self._templates.pop(key))

    # What it asks

    def _ask_some(self) -> None:
        self.forget_ended()
        if self.profile.ttl_seconds is not None and (not self.synchronized or self._chance.random() < 0.1):
            self._send_list()
            return
        for _ in range(self._chance.randint(1, MOST_AT_ONCE)):
            self._ask_once()

    def _ask_once(self) -> None:
        draw = self._chance.random()
        mine = list(self._templates)
        if draw < 0.05 and self._past:
            self._repeat_late(self._chance.choice(self._past))
        elif draw < 0.15 and mine:
            self._acquire(self._templates[self._chance.choice(mine)])
        elif draw < 0.3 and mine:
            self._acquire(self._changed(self._templates[self._chance.choice(mine)]))
        elif draw < 0.6 and mine:
            self._release(self._chance.choice(mine))
        elif len(mine) < self.profile.most:
            self._acquire(self._new_request())
        elif mine:
            self._release(self._chance.choice(mine))

    def _repeat_late(self, request: dict[str, Any]) -> None:
        if self._chance.random() < 0.7 or len(self._templates) >= self.profile.most:
            self._release(request["key"])
        else:
            self._acquire(request)

    def _new_request(self) -> dict[str, Any]:
        request: dict[str, Any] = {
            "holder": self.profile.holder,
            "key": self._new_key(),
            "wants": [{"feature": self.profile.feature}],
            "phase": "setup",
        }
        draw = self._chance.random()
        if not self.profile.calls:
            return request
        if draw < 0.03:
            return request | {"dialed": "112"}
        if draw < 0.5:
            request |= {"port": f"trunk:{self.profile.name}", "channel": str(self._chance.randint(1, CHANNELS))}
        return request | {"bound": True} if self._chance.random() < 0.25 else request

    def _new_key(self) -> str:
        self._numbers += 1
        return f"{self.profile.name}-{self._numbers}"

    def _changed(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.profile.calls:
            return request | {"phase": "established"}
        return request | {"wants": [{"feature": self.profile.feature, "instances": self._chance.randint(1, 3)}]}

    def _acquire(self, request: dict[str, Any]) -> None:
        held = self._as_held(request)
        effects = dict.fromkeys(self._displaced(request["key"], held), ABSENT) | {request["key"]: frozenset({held})}
        self._templates[request["key"]] = request
        self._send("Acquire", request, effects)

    def _as_held(self, request: Mapping[str, Any]) -> Held:
        if "dialed" in request:
            return Held(self.profile.scope, (), call_class="emergency")
        wants = {self.profile.feature: request["wants"][0].get("instances", 1)}
        if request["phase"] == "setup":
            wants |= dict(self.profile.during_setup)
        place = request.get("port"), request.get("channel")
        return Held(self.profile.scope, tuple(sorted(wants.items())), *place, bound=request.get("bound", False))

    def _displaced(self, key: str, held: Held) -> list[str]:
        """The keys whose leases end where a call begins on their channel."""
        if held.channel is None:
            return []
        return [
            other
            for other, states in self.beliefs.possible().items()
            if other != key and any(it is not None and it.channel == held.channel for it in states)
        ]

    def _release(self, key: str) -> None:
        self._send("Release", {"holder": self.profile.holder, "key": key}, {key: ABSENT})

    def _send(self, method: str, parameters: dict[str, Any], effects: dict[str, States]) -> None:
        if self._connection is None:
            raise EOFError
        self._sent = time.monotonic()
        self.beliefs.asked.append(Asked(method, parameters, effects))
        self._connection.send(f"License.{method}", parameters)

    # Its lists

    def _send_list(self) -> None:
        """Send a list of what is surely held, without some of it and, where it adopts, with some that is new."""
        known = dict(self.beliefs.known)
        left_out = {key for key in known if self._chance.random() < 0.03}
        rows = [(key, {key: known[key]}) for key in known if key not in left_out and None not in known[key]]
        rows += self._adopted() if self.profile.adopts else []
        left_out |= known.keys() - {key for key, _ in rows}
        self._generation += 1
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)] or [[]]
        for number, part in enumerate(parts, 1):
            effects = {key: states | _unbound(states) for _, effect in part for key, states in effect.items()}
            last = number == len(parts)
            if last:
                effects |= {key: known[key] | ABSENT for key in left_out}
            self._send("Sync", self._part([key for key, _ in part], number, last=last), effects)

    def _adopted(self) -> list[tuple[str, dict[str, States]]]:
        """Leases it never asked for, and one that is over and is named by mistake: that depends on when it ended."""
        room = max(0, self.profile.most - len(self._templates))
        rows = [self._new_request() for _ in range(min(room, self._chance.randint(0, 5)))]
        adopted: list[tuple[str, dict[str, States]]]
        adopted = [(row["key"], {row["key"]: frozenset({self._as_held(row)})}) for row in rows]
        over = [row for row in self._past if row["key"] not in self._templates]
        if over and room > len(rows):
            rows.append(late := self._chance.choice(over) | {"wants": [{"feature": self.profile.feature}]})
            adopted.append((late["key"], {late["key"]: frozenset({self._as_held(late), None})}))
        self._templates |= {row["key"]: row for row in rows}
        return adopted

    def _part(self, keys: list[str], number: int, *, last: bool) -> dict[str, Any]:
        return {
            "holder": self.profile.holder,
            "scope": self.profile.scope,
            "leases": [self._row(key) for key in keys],
            "ttl_seconds": self.profile.ttl_seconds,
            "generation": self._generation,
            "part": number,
            "last": last,
        }

    def _row(self, key: str) -> dict[str, Any]:
        """The lease as a list names it: as it is held, but for what a call takes only while it is set up."""
        states = self.beliefs.before(key)
        held = next((it for it in states if it is not None), None) or self._as_held(self._templates[key])
        wants = [{"feature": self.profile.feature, "instances": dict(held.wants).get(self.profile.feature, 1)}]
        place = {"port": held.port, "channel": held.channel} if held.port else {}
        return {"key": key, "wants": wants, "class": held.call_class, **place}

    # The answers

    def _read_answers(self) -> None:
        while self.beliefs.asked and self._connection is not None:
            asked = self.beliefs.asked[0]
            reply = self._connection.reply()
            if "error" in reply:
                raise Violation(f"{self.profile.name}: {asked.method} {asked.parameters} was answered with {reply}")
            for wrong in self._contradictions(asked, reply["parameters"]):
                raise Violation(f"{self.profile.name}: {asked.method} {asked.parameters}: {wrong}")
            self.beliefs.answered(done=asked.method != "Acquire" or reply["parameters"]["allowed"])
            self.synchronized |= asked.method == "Sync"
            self.decisions += 1
        self.heard()

    def _contradictions(self, asked: Asked, answer: Mapping[str, Any]) -> Iterator[str]:
        if asked.method == "Sync":
            return
        key = asked.parameters["key"]
        before = self.beliefs.before(key)
        there = None not in before
        if asked.method == "Release":
            if (there or before == ABSENT) and answer["released"] != there:
                yield f"released is {answer['released']}, and the lease was {_words(before)}"
            return
        if answer["reason"] not in {"granted", "already_held", "emergency", "limit_reached"}:
            yield f"no such answer was expected: {answer}"
        if answer["reason"] == "already_held" and before == ABSENT:
            yield "already held, and the lease was not there"
        if answer["reason"] not in {"already_held", "emergency"} and before == asked.effects[key]:
            yield f"answered {answer}, and the lease was {_words(before)}"


def _unbound(states: States) -> States:
    """The same without the binding, which a list ends where the lease was not asked for after it was taken."""
    return frozenset(None if held is None else replace(held, bound=False) for held in states)


def _words(states: States) -> str:
    return " or ".join("not there" if held is None else f"there: {held}" for held in states)
