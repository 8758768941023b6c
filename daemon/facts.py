"""Facts: what the state file keeps one of, by name; each as JSON in a row of its own.

A fact that nobody has told yet has no row. A row that cannot be read, or holds what nothing real has (`plausible`),
costs that fact and no other; one with a name that this release does not know is left as it is, for the later release
that wrote it.
"""

from __future__ import annotations

import sqlite3
import typing
from typing import Any

import msgspec

from featurekeyd.policy.hostaddress import Announcement
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.timekeeping import TimeMark
from featurekeyd.policy.trust import Told

from .plausible import find_implausible


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vendor's newest answer to a request for a check, verified again when it is read."""

    serial: str
    number: int
    """Number of the check."""
    text: str
    """The signed text as it came."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept as a fact; a field's name is the name of its row."""

    clock: TimeMark | None = None
    """How late it is at least."""
    host: Enrolled | None = None
    """The host as it was enrolled."""
    permits: dict[str, int] = {}
    """The highest number of a permit that was used, by serial."""
    announced: Announcement | None = None
    """The address that the host will have."""
    rescues: dict[str, RescueMark] = {}
    """The last rescue day and the number of rescues, by serial."""
    opening: Opening | None = None
    """What a rescue code has opened."""
    answer: Answer | None = None
    """The vendor's newest answer."""
    checks: dict[str, int] = {}
    """Number of the newest check that was taken, by serial."""
    retired: tuple[str, ...] = ()
    """Serials that the vendor has retired by an answer."""
    revoked: dict[str, tuple[str, ...]] = {}
    """License keys that the newest answer taken has revoked, by serial."""
    nonces: tuple[str, ...] = ()
    """Nonces of requests that wait for their answer."""
    told: dict[str, Told] = {}
    """What each of these requests has told that no answer covers yet."""
    emergency_claims: int = 0
    """Emergency calls without a listed number that no answer of the vendor covers."""
    tamperings: int = 0
    """Starts that found the state changed by somebody else, of which the same holds."""
    state_losses: int = 0
    """Starts that found it damaged and set it aside, of which the same holds."""
    clock_repairs: int = 0
    """Repairs of the clock, of which the same holds."""
    check_failing: bool = False
    """Whether the last check failed."""
    lasting: tuple[str, ...] | None = None
    """The causes that last, None where a release has stored it that did not tell."""


_NOTHING = Facts()
_TYPES: dict[str, Any] = typing.get_type_hints(Facts)


def load_facts(connection: sqlite3.Connection) -> tuple[Facts, list[str]]:
    """The facts, and what is wrong with rows that hold none; raises sqlite3.Error."""
    found, damaged = {}, []
    for name, value in connection.execute("SELECT name, value FROM fact ORDER BY name"):
        if name not in _TYPES:
            continue
        try:
            fact = msgspec.json.decode(value, type=_TYPES[name])
        except (msgspec.MsgspecError, ValueError) as error:
            damaged.append(f"the fact {name!r} is damaged and left out: {error}")
            continue
        implausible = find_implausible(fact)
        if implausible is None:
            found[name] = fact
        else:
            damaged.append(f"the fact {name!r} is damaged and left out: {implausible}")
    return Facts(**found), damaged


def save_facts(connection: sqlite3.Connection, facts: Facts) -> None:
    """Keep these facts instead of those before, within a transaction; raises sqlite3.Error."""
    for name in Facts.__struct_fields__:
        value = getattr(facts, name)
        if value == getattr(_NOTHING, name):
            connection.execute("DELETE FROM fact WHERE name = ?", (name,))
        else:
            row = (name, msgspec.json.encode(value).decode())
            connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", row)
