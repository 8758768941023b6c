"""The holders: who may use which name, when each was last heard, and which of their scopes fall silent.

A name belongs to the user that the settings name, else to the first that used it. Silence counts only while the daemon
was reading: after a gap the daemon calls `restart_silence`, and every time starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .catalog import Scope

MAX_HOLDERS = 256
"""Holder names at once; a host has a handful of telephony systems. An idle name of the same user makes room for a new
one, and a name of the settings always finds room."""


MAX_HOLDERS_OF_USER = 16
"""Of these, names that one user may have without the settings naming it: one for each telephony system it runs."""


class Holder(msgspec.Struct, kw_only=True):
    """One telephony system that has asked."""

    name: str
    uid: int
    """The user the name belongs to."""
    heard: float
    """Boot time at which it last asked or synchronized."""
    ttls: dict[Scope, float] = {}
    """Seconds of silence after which a scope is freed, for scopes that were synchronized with one."""
    drift: int = 0
    """How often Sync found something to mend."""
    displaced: int = 0
    """How often it began a call on a channel that an earlier lease of it still held."""
    drifted: float | None = None
    """Boot time of the last of either, None while there was none."""
    last_emergency: float | None = None
    """Boot time of its last emergency call, None while there was none."""
    successor: str | None = None
    """The holder that took its leases over last, None where it is the one in charge."""

    def known(self) -> Known:
        """What a restart shall not forget of it."""
        return Known(
            name=self.name,
            uid=self.uid,
            ttls=self.ttls,
            last_emergency=self.last_emergency,
            successor=self.successor,
        )

    def note_emergency(self, boot: float) -> bool:
        """Take note of an emergency call; False where as late a one is known."""
        if self.last_emergency is not None and self.last_emergency >= boot:
            return False
        self.last_emergency = boot
        return True


class Known(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="holder"):
    """What a restart of the daemon shall not forget of a holder."""

    name: str
    uid: int
    ttls: dict[Scope, float] = {}
    gone: bool = False
    """Whether the name is nobody's any more."""
    last_emergency: float | None = None
    """Boot time of its last emergency call: a callback to it is granted for a while."""
    successor: str | None = None
    """The holder that took its leases over last: it gets none of those back by a list of its own."""


class Holders:
    """All holders by name."""

    def __init__(self, owners: dict[str, int]) -> None:
        self._owners = owners
        self._holders: dict[str, Holder] = {}
        self._awaited: set[str] = set()
        """Names that were there before a restart; which of them were heard since, `awaited` tells."""
        self._until = float("-inf")
        """Boot time until which they are awaited."""
        self._anew = float("-inf")
        """When every silence began to count anew; whose `heard` it still is has not been heard since."""

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._holders.values())

    def __len__(self) -> int:
        return len(self._holders)

    def find(self, name: str) -> Holder | None:
        """The holder of that name."""
        return self._holders.get(name)

    def owner(self, name: str) -> int | None:
        """The user that the name belongs to, None while it is nobody's."""
        holder = self._holders.get(name)
        return self._owners.get(name, holder.uid if holder else None)

    def adopt_owners(self, owners: dict[str, int]) -> None:
        """Let names belong to whom these settings say; a name that another user has used until now changes hands."""
        self._owners = owners
        for name, uid in owners.items():
            holder = self._holders.get(name)
            if holder is not None:
                holder.uid = uid

    def known(self) -> list[Known]:
        """What a restart shall not forget."""
        return [holder.known() for holder in self]

    def hear(self, name: str, uid: int, boot: float) -> Holder | None:
        """The holder of that name, heard just now; None when the name belongs to another user."""
        holder = self._holders.get(name)
        if holder is not None and holder.uid == uid:
            holder.heard = boot
            return holder
        if self.owner(name) not in {uid, None}:
            return None
        holder = Holder(name=name, uid=uid, heard=boot)
        self._holders[name] = holder
        return holder

    def forget(self, name: str) -> None:
        """Let the name be anybody's again."""
        self._holders.pop(name, None)
        self._awaited.discard(name)

    def await_all(self, boot: float, seconds: float) -> None:
        """Take note that all of them were there before a restart, which is now; they are awaited for so long."""
        self._awaited = set(self._holders)
        self._until = boot + seconds
        self._begin_anew(boot)

    def take_over(self, earlier: str, name: str) -> list[Holder]:
        """Take note that a holder has taken over from an earlier one; those for whom that changes anything."""
        changed = []
        for holder, successor in ((self.find(earlier), name), (self.find(name), None)):
            if holder is not None and earlier != name and holder.successor != successor:
                holder.successor = successor
                changed.append(holder)
        return changed

    def successors(self, name: str) -> Iterator[str]:
        """Who took over from that holder, who from that one, and so on; nobody comes twice."""
        seen = {name}
        holder = self.find(name)
        while holder is not None and holder.successor is not None and holder.successor not in seen:
            seen.add(holder.successor)
            yield holder.successor
            holder = self.find(holder.successor)

    def awaited(self, holder: Holder, boot: float) -> bool:
        """Whether it was there before a restart not long ago and was not heard since; a gap in reading ends nothing."""
        return boot <= self._until and self._not_heard(holder)

    def _not_heard(self, holder: Holder) -> bool:
        return holder.heard == self._anew and holder.name in self._awaited

    def silent(self, boot: float) -> list[tuple[Holder, Scope]]:
        """The scopes whose holders have been silent for longer than they said they would be."""
        return [(holder, scope) for holder in self for scope, ttl in holder.ttls.items() if boot - holder.heard > ttl]

    def restart_silence(self, boot: float) -> None:
        """Count every holder's silence from now on, because nobody was listening before."""
        self._awaited = {holder.name for holder in self if self._not_heard(holder)}
        self._begin_anew(boot)

    def _begin_anew(self, boot: float) -> None:
        self._anew = boot
        for holder in self:
            holder.heard = boot
