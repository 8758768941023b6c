"""The host held against the one that was enrolled: each component with its weight, k of n, and a verdict.

Rules of this module:

* An enrollment keeps digests of components. `origin` is what made the Hardware-Id of a certificate of the kind `host`
  and never changes; `parts` is what the host is known by now, and learns.
* Kept are components with the enrolled value; of the permanent addresses any one enrolled is enough. Lost are those
  with another value or none. Unknown are those that nobody may read, or that fail to be read.
* The same host: of what can be told the needed share is kept, and something unique in it. Changed: it would not be the
  same even if all that is unknown were kept. Else nobody can tell, and nobody is punished.
* A component that has another value while the score of the whole enrollment holds is learned. One that is gone stays
  enrolled: it may come back.
* What does not count as a network interface (virtual, locally administered, on USB) the reader has skipped before.

Source: facts/hardware.md section 8, E; facts/field.md complaint 1.
"""

from __future__ import annotations

import datetime
import enum

import msgspec

from .catalog import PERMANENT_ADDRESSES, UNIQUE_COMPONENTS, HostRules
from .hostevidence import (
    UNREADABLE,
    Digests,
    Evidence,
    HostRefused,
    component_digest,
    digests_of,
    hardware_id_of,
)

MAX_NICS = 64
"""Permanent addresses kept enrolled: eight cards of eight ports. More are there only while they are plugged in."""

_SHOWN_DIGITS = 8


class PartState(enum.StrEnum):
    """How a component stands to what was enrolled."""

    MATCHES = "matches"
    CHANGED = "changed"
    MISSING = "missing"
    """Enrolled, and not there now."""
    UNREADABLE = "unreadable"
    """Enrolled, and now nobody may or can read it: it counts neither way."""
    NEW = "new"
    """There now, and not enrolled: it counts neither way until it is learned."""
    NOT_ENROLLED = "not_enrolled"
    """Neither enrolled nor there."""


class HostVerdict(enum.StrEnum):
    """Whether this is the host that was enrolled."""

    SAME = "same"
    CHANGED = "changed"
    CANNOT_TELL = "cannot_tell"


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host as it was enrolled, for the daemon to store."""

    origin: Digests
    """What made the Hardware-Id on the certificate of a host."""
    parts: Digests
    """What it is known by now."""
    unread: dict[str, str]
    """What could not be read when it was enrolled, and why."""
    addresses: tuple[str, ...] = ()
    """The IP addresses that are bound."""
    simulated: bool = False
    container: bool = False
    on: datetime.date
    """The day it was enrolled, or enrolled again."""
    changed_on: datetime.date | None = None
    """The first day that it was seen changed, None while it is the same."""
    renewals: int = 0
    """How often it was enrolled again by command since the vendor's last permit."""
    permit: int = 0
    """The number of the permit that enrolled it last; which are used up is kept beside, by serial."""

    @property
    def hardware_id(self) -> str:
        """The Hardware-Id of the certificate of this host: a record that was edited has another one."""
        return hardware_id_of(self.origin)

    @property
    def digest(self) -> str:
        """The same over what the host is known by now: tells the vendor at a check that something was learned."""
        return hardware_id_of(self.parts)


class PartScore(msgspec.Struct, frozen=True, kw_only=True):
    """One component in a comparison, as it is shown."""

    name: str
    weight: int
    unique: bool
    """Whether no other host has it by nature."""
    state: PartState
    enrolled: str
    """The first digits of each enrolled digest, empty where none is."""
    now: str
    """The same of what is there now, or why nothing is."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A host held against its enrollment."""

    parts: tuple[PartScore, ...]
    kept: int
    """Weight of what matches."""
    lost: int
    """Weight of what changed or is missing."""
    unknown: int
    """Weight of what cannot be read."""
    needed: int
    """Weight that must be kept of the whole."""
    verdict: HostVerdict
    why: str

    @property
    def total(self) -> int:
        """Weight of all that is enrolled and counts."""
        return self.kept + self.lost + self.unknown


def enroll(
    evidence: Evidence, rules: HostRules, today: datetime.date, addresses: tuple[str, ...] = ()
) -> Enrolled | HostRefused:
    """Take the host as it is; `addresses` are those of `hostaddress.bound_addresses`."""
    digests = digests_of(evidence)
    if rules.binds and evidence.container:
        why = f"A container is no host that licenses can be bound to: {evidence.container}."
        return HostRefused(why, "Run featurekeyd on the host itself.")
    if not digests.keys() & rules.weights.keys() & UNIQUE_COMPONENTS:
        reasons = ", ".join(f"{name} ({evidence.missing(name)})" for name in _unique(rules))
        remedy = "Let the daemon read the serial of the board, or use a Feature Key."
        return HostRefused(f"Nothing tells this host from others: {reasons}.", remedy)
    return Enrolled(
        origin=digests,
        parts=digests,
        unread=_unread(evidence),
        addresses=addresses,
        simulated=evidence.simulated,
        container=bool(evidence.container),
        on=today,
    )


def compare(enrolled: Enrolled, evidence: Evidence, rules: HostRules) -> Comparison:
    """Score the host; says nothing about its addresses (see `hostaddress`)."""
    parts = tuple(_score(name, weight, enrolled, evidence) for name, weight in sorted(rules.weights.items()))
    kept, lost, unknown = (_weight(parts, states) for states in (_KEPT, _LOST, _UNKNOWN))
    needed = share(kept + lost + unknown, rules)
    why = _other_kind(enrolled, evidence)
    verdict = HostVerdict.CHANGED if why else _verdict(parts, rules)
    return Comparison(
        parts=parts,
        kept=kept,
        lost=lost,
        unknown=unknown,
        needed=needed,
        verdict=verdict,
        # Of the same host only what can be read was held against its share.
        why=why or _told(verdict, parts, kept, share(kept + lost, rules) if verdict is HostVerdict.SAME else needed),
    )


def share(weight: int, rules: HostRules) -> int:
    """How much of that weight must be kept, rounded up."""
    return -(-weight * rules.needed // 100)


def learned(enrolled: Enrolled, evidence: Evidence, comparison: Comparison) -> tuple[Enrolled, tuple[str, ...]]:
    """The enrollment with what is new in a host that is surely the same, and what that was in words."""
    if comparison.verdict is not HostVerdict.SAME or comparison.kept < comparison.needed:
        return enrolled, ()
    parts, told = dict(enrolled.parts), []
    for name, now in digests_of(evidence).items():
        before = parts.get(name, ())
        after = _together(before, now) if name == PERMANENT_ADDRESSES else now
        if after != before:
            parts[name] = after
            told.append(_lesson(name, before, evidence))
    if not told:
        return enrolled, ()
    unread = {name: why for name, why in enrolled.unread.items() if name not in parts}
    return msgspec.structs.replace(enrolled, parts=parts, unread=unread), tuple(told)


# Scoring.

_KEPT = frozenset({PartState.MATCHES})
_LOST = frozenset({PartState.CHANGED, PartState.MISSING})
_UNKNOWN = frozenset({PartState.UNREADABLE})


def _score(name: str, weight: int, enrolled: Enrolled, evidence: Evidence) -> PartScore:
    before = enrolled.parts.get(name, ())
    now = tuple(component_digest(name, value) for value in evidence.values(name))
    missing = evidence.missing(name)
    return PartScore(
        name=name,
        weight=weight,
        unique=name in UNIQUE_COMPONENTS,
        state=_state(before, now, missing),
        enrolled=_shown(before),
        now=missing or _shown(now),
    )


def _state(before: tuple[str, ...], now: tuple[str, ...], missing: str | None) -> PartState:
    if not before:
        return PartState.NEW if now else PartState.NOT_ENROLLED
    if missing in UNREADABLE:
        return PartState.UNREADABLE
    if not now:
        return PartState.MISSING
    return PartState.MATCHES if set(before) & set(now) else PartState.CHANGED


def _weight(parts: tuple[PartScore, ...], states: frozenset[PartState], *, unique: bool = False) -> int:
    return sum(part.weight for part in parts if part.state in states and (part.unique or not unique))


def _verdict(parts: tuple[PartScore, ...], rules: HostRules) -> HostVerdict:
    kept, lost, unknown = (_weight(parts, states) for states in (_KEPT, _LOST, _UNKNOWN))
    sure, perhaps = (_weight(parts, states, unique=True) for states in (_KEPT, _KEPT | _UNKNOWN))
    if sure and kept >= share(kept + lost, rules):
        return HostVerdict.SAME
    if not _weight(parts, _KEPT | _LOST | _UNKNOWN, unique=True):
        return HostVerdict.CANNOT_TELL  # the catalog has other weights now, and none for what was enrolled
    if not perhaps or kept + unknown < share(kept + lost + unknown, rules):
        return HostVerdict.CHANGED
    return HostVerdict.CANNOT_TELL


def _other_kind(enrolled: Enrolled, evidence: Evidence) -> str:
    if enrolled.simulated != evidence.simulated:
        return "A simulated host is not the real one." if evidence.simulated else "A real host is not a simulated one."
    if enrolled.container != bool(evidence.container):
        return f"This is a container now: {evidence.container}." if evidence.container else "This was a container."
    return ""


def _told(verdict: HostVerdict, parts: tuple[PartScore, ...], kept: int, needed: int) -> str:
    troubles = [part for part in parts if part.state in _LOST | _UNKNOWN]
    listed = "; ".join(f"{part.name} {_trouble(part)}" for part in troubles)
    score = f"{kept} points are kept and {needed} needed" + (f" ({listed})." if listed else ".")
    if verdict is HostVerdict.SAME:
        return f"This is the enrolled host: {score}"
    if verdict is HostVerdict.CANNOT_TELL:
        return f"Nobody can tell whether this is the enrolled host: {score}"
    if kept >= needed:
        return f"This is not the enrolled host: nothing unique is kept; {score}"
    return f"This is not the enrolled host: {score}"


def _trouble(part: PartScore) -> str:
    if part.state is PartState.CHANGED:
        return "is another"
    return f"is {part.state}: {part.now}"


def _shown(digests: tuple[str, ...]) -> str:
    return " ".join(sorted(digest[:_SHOWN_DIGITS] for digest in digests))


# Enrolling and learning.


def _unique(rules: HostRules) -> list[str]:
    return [name for name in sorted(rules.weights) if name in UNIQUE_COMPONENTS]


def _unread(evidence: Evidence) -> dict[str, str]:
    reasons = {it.name: evidence.missing(it.name) for it in evidence.components}
    reasons[PERMANENT_ADDRESSES] = evidence.missing(PERMANENT_ADDRESSES)
    return {name: why for name, why in sorted(reasons.items()) if why is not None}


def _together(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """All of them; where that is too many, only those that are there now."""
    both = tuple(sorted({*before, *now}))
    return both if len(both) <= MAX_NICS else now


def _lesson(name: str, before: tuple[str, ...], evidence: Evidence) -> str:
    if name != PERMANENT_ADDRESSES:
        return f"{name} is {'another' if before else 'readable now'}"
    new = [it for it in evidence.values(name) if component_digest(name, it) not in before]
    return f"{name} {', '.join(new)} new" if new else f"{name}: those that are gone are forgotten"
