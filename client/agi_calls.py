"""The calls that hold a lease in the name of Asterisk, and what events and lists of AMI say of them; no I/O, no clock.

Rules:

* The key of a lease is the Uniqueid of a channel that is there. So a list of channels is all that is needed to say
  which leases there are, also after a restart of this process.
* A lease goes over to another channel, with that one's Uniqueid, in two cases. The channel was dialed by the one that
  held the lease, answered, and lives on when that one ends: a transfer, however it was made, or the end of a Local
  channel that was optimized away. Or Asterisk put what the channel is made of into another one (a masquerade), which
  AMI tells by three Rename events.
* The two halves of a Local channel (`;1`, `;2`) are two channels with two Uniqueids: the half that ran the dialplan
  has the lease, the other one is like any channel that holds none.
* What was granted after a list was asked for is not judged by that list.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from .license import SyncLease

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ami_protocol import ChannelList
    from .license import CallClass

MAX_CALLS = 20_000
"""Calls that are followed: as many as one user may have leases. More there are only while the daemon is away."""

MAX_LEGS = 32
"""Channels followed that one call dialed: as many telephones as a large ring group has."""

MAX_RENAMES = 256
"""Masquerades on their way: the three events of one come together, so that there are a few at most."""

_ASIDE = "<MASQ>"
_REMAINS = "<ZOMBIE>"


@dataclass(slots=True)
class Call:
    """One lease and the channels around it; `since` is the time of the grant, by the clock of the caller."""

    key: str
    wants: tuple[str, ...]
    port: str = ""
    channel: str = ""
    call_class: str = "normal"
    since: float = 0.0
    established: bool = False
    told: bool = False
    """True once the daemon knows that it is established."""
    has_handler: bool = False
    """True once the hangup handler is on the channel."""
    legs: set[str] = field(default_factory=set)
    """Uniqueids of the channels that it dialed and that have not ended."""

    def lease(self) -> SyncLease:
        """The call as a list for Sync has it."""
        place = {"port": self.port or None, "channel": self.channel or None}
        return SyncLease(self.key, self.wants, call_class=cast("CallClass", self.call_class), **place)


@dataclass(frozen=True, slots=True)
class Moved:
    """A lease that goes on under another key."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a list says: calls that moved, and keys of calls that are over."""

    moved: list[Moved]
    over: list[str]


class Calls:
    """The calls, by the Uniqueid of the channel that holds the lease."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._by_leg: dict[str, str] = {}
        self._aside: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def get(self, key: str) -> Call | None:
        """The call with that key, None where it holds nothing that is known here."""
        return self._calls.get(key)

    def add(self, call: Call) -> bool:
        """Follow a call, or what it wants from now on; false where there are too many."""
        before = self._calls.get(call.key)
        if before is None and len(self._calls) >= MAX_CALLS:
            return False
        if before is not None:
            call.legs, call.established, call.told = before.legs, before.established, before.told
            call.has_handler = before.has_handler
        self._calls[call.key] = call
        return True

    def remove(self, key: str) -> None:
        """Follow a call no longer."""
        call = self._calls.pop(key, None)
        for leg in () if call is None else call.legs:
            self._by_leg.pop(leg, None)

    def dialed(self, key: str, leg: str) -> None:
        """The channel of a call dials another one."""
        call = self._calls.get(key)
        if call is not None and leg and leg != key and len(call.legs) < MAX_LEGS:
            call.legs.add(leg)
            self._by_leg[leg] = key

    def answered(self, key: str) -> Call | None:
        """A call is answered; it where that is news."""
        call = self._calls.get(key)
        if call is None or call.established:
            return None
        call.established = True
        return call

    def ended(self, channel: str) -> str | None:
        """A channel is gone: forget it as a leg; the key of the call that dialed it, if one did."""
        key = self._by_leg.pop(channel, None)
        call = None if key is None else self._calls.get(key)
        if call is not None:
            call.legs.discard(channel)
        return key

    def renamed(self, channel: str, old: str, new: str) -> Moved | None:
        """A channel has another name; what that moves, where it is the second event of a masquerade."""
        if new.endswith(_ASIDE):
            self._aside[new.removesuffix(_ASIDE)] = channel
            while len(self._aside) > MAX_RENAMES:
                self._aside.popitem(last=False)
            return None
        if old.endswith(_ASIDE):
            self._aside.pop(old.removesuffix(_ASIDE), None)
            return None
        source = self._aside.get(new)
        return Moved(source, channel) if source is not None and source != channel else None

    def move(self, moved: Moved, now: float) -> Call | None:
        """Carry a move out; the call under its new key, None where there is nothing to be moved.

        A channel that holds a lease itself keeps its own. A list asked for before `now` may not have the new channel.
        """
        call = self._calls.get(moved.old)
        if call is None or moved.new in self._calls:
            return None
        self.remove(moved.old)
        follower = replace(call, key=moved.new, since=now, has_handler=False, legs=set())
        self._calls[moved.new] = follower
        for leg in call.legs - {moved.new}:
            self.dialed(moved.new, leg)
        return follower

    def successor(self, key: str, channels: ChannelList) -> Moved | None:
        """Where the lease of a channel that is over goes on: with a leg of it that is there and has answered."""
        call = self._calls.get(key)
        legs = () if call is None else sorted(call.legs)
        living = [leg for leg in legs if leg in channels and channels[leg].up and leg not in self._calls]
        return Moved(key, living[0]) if living else None

    def learn(self, channels: ChannelList) -> list[Call]:
        """Take in from a list what events may have missed; calls of which it is news that they are answered."""
        bridged: dict[str, list[str]] = {}
        for channel in channels.values():
            if channel.dialed and channel.bridge:
                bridged.setdefault(channel.bridge, []).append(channel.uniqueid)
        news = []
        for call in self:
            mine = channels.get(call.key)
            for leg in bridged.get(mine.bridge, []) if mine is not None else []:
                self.dialed(call.key, leg)
            if mine is not None and mine.up and mine.bridge and self.answered(call.key):
                news.append(call)
        return news

    def judge(self, channels: ChannelList, asked_at: float) -> Judged:
        """What a list says of the calls granted before it was asked for."""
        judged = Judged([], [])
        for call in self:
            if call.key in channels or call.since >= asked_at:
                continue
            moved = self.successor(call.key, channels)
            if moved is not None:
                judged.moved.append(moved)
            else:
                judged.over.append(call.key)
        return judged

    def leases(self) -> Iterable[SyncLease]:
        """All calls as a list for Sync; one without a feature holds nothing and is left out."""
        return [call.lease() for call in self if call.wants]


def is_remains(name: str) -> bool:
    """Whether a channel of that name is what a masquerade left over: its call goes on elsewhere."""
    return name.endswith(_REMAINS)
