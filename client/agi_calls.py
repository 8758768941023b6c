"""The calls that hold a lease in the name of Asterisk, and what events and lists of AMI say of them; no I/O, no clock.

Rules:

* The key of a lease is the Uniqueid of a channel that is there, for each further use by the same channel with `;2`,
  `;3` behind it. So a list of channels is all that is needed to say which leases there are, also after a restart of
  this process.
* A channel that asks again by the same line asks for what it has. By another line it has a further use where it is on
  a trunk itself, or where what it dialed first is answered and there; else the new use replaces the first one, whose
  Dial has failed. A further use ends with the channels that were dialed for it.
* A lease goes over to another channel, with that one's Uniqueid, in two cases. The channel was dialed by the one that
  held the lease, answered, and lives on when that one ends: a transfer, however it was made, or the end of a Local
  channel that was optimized away. Or Asterisk put what the channel is made of into another one (a masquerade), which
  AMI tells by three Rename events. What is on the trunk itself hands its lease to nobody it dialed: those are
  telephones.
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

MAX_USES = 8
"""Leases of one channel: an inbound call that is sent out again has two, and each transfer of it ends one."""

MAX_RENAMES = 256
"""Masquerades on their way: the three events of one come together, so that there are a few at most."""

_ASIDE = "<MASQ>"
_REMAINS = "<ZOMBIE>"


def channel_of(key: str) -> str:
    """The Uniqueid of the channel whose lease has that key."""
    uniqueid, mark, number = key.rpartition(";")
    return uniqueid if mark and number.isdecimal() else key


def is_on(port: str, name: str) -> bool:
    """Whether a channel belongs to a port: its endpoint is named as the trunk, as in PJSIP/carrier-a-00000001."""
    endpoint = name.partition("/")[2].rpartition("-")[0]
    return bool(endpoint) and endpoint == port.rpartition(":")[2]


@dataclass(slots=True)
class Call:
    """One lease and the channels around it; `since` is the time of the grant, by the clock of the caller."""

    key: str
    wants: tuple[str, ...]
    port: str = ""
    channel: str = ""
    call_class: str = "normal"
    dialed: str = ""
    since: float = 0.0
    established: bool = False
    told: bool = False
    """True once the daemon knows that it is established."""
    has_handler: bool = False
    """True once the hangup handler is on the channel."""
    direction: str = ""
    """`in`: the channel is on the trunk itself; `out`: it dials a channel that is; empty where that is not known."""
    line: str = ""
    """What asked for it, by which the same question is known again."""
    legs: set[str] = field(default_factory=set)
    """Uniqueids of the channels that it dialed and that have not ended."""
    talking: set[str] = field(default_factory=set)
    """Those of them that have answered."""
    unseen: set[str] = field(default_factory=set)
    """Those of them that the last list did not have; it may have been begun before them."""
    has_dialed: bool = False
    is_over: bool = False
    """True once its channel has ended and it is not known yet whether a leg goes on."""

    @property
    def uniqueid(self) -> str:
        """The channel that holds it."""
        return channel_of(self.key)

    @property
    def goes_on(self) -> bool:
        """Whether what the channel asks by another line is a use beside this one."""
        return self.direction == "in" or bool(self.talking) or (not self.direction and self.established)

    def lease(self) -> SyncLease:
        """The call as a list for Sync has it."""
        place = {"port": self.port or None, "channel": self.channel or None}
        call_class = cast("CallClass", self.call_class)
        dialed = self.dialed or None if self.call_class != "normal" else None
        return SyncLease(self.key, self.wants, call_class=call_class, dialed=dialed, **place)


@dataclass(frozen=True, slots=True)
class Moved:
    """A lease that goes on with another channel: its key, and the Uniqueid of that one."""

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

    def of(self, uniqueid: str) -> list[Call]:
        """The calls that a channel holds, the first use first."""
        found = (self._calls.get(key) for key in _keys(uniqueid))
        return [call for call in found if call is not None]

    def direction(self, uniqueid: str, name: str, port: str, line: str = "") -> str:
        """The direction of a channel that asks for a port and says none: by its name, unless it was dialed."""
        for call in self.of(uniqueid):
            if line and call.line == line:
                return call.direction
        if any(call.direction == "in" for call in self.of(uniqueid)):
            return "out"
        return "in" if is_on(port, name) and uniqueid not in self._by_leg else ""

    def key_for(self, uniqueid: str, line: str, direction: str) -> str:
        """The key under which a question is asked: that of the use that it repeats or replaces, else a new one."""
        mine = self.of(uniqueid)
        same = [call for call in mine if call.line and call.line == line]
        same = same or [call for call in mine if call.direction == "in" == direction]
        same = same or [call for call in mine if not call.goes_on and direction != "in"]
        return same[0].key if same else self._free_key(uniqueid)

    def _free_key(self, uniqueid: str) -> str:
        keys = _keys(uniqueid)
        return next((key for key in keys if key not in self._calls), keys[-1])

    def add(self, call: Call) -> bool:
        """Follow a call, or what it wants from now on; false where there are too many."""
        before = self._calls.get(call.key)
        if before is None and len(self._calls) >= MAX_CALLS:
            return False
        call.has_handler = any(other.has_handler for other in self.of(call.uniqueid))
        if before is not None:
            self.remove(call.key)
            if before.line in ("", call.line):
                call.established, call.told, call.has_dialed = before.established, before.told, before.has_dialed
                call.legs, call.talking = before.legs, before.talking
                self._by_leg.update(dict.fromkeys(call.legs, call.key))
        self._calls[call.key] = call
        return True

    def remove(self, key: str) -> None:
        """Follow a call no longer."""
        call = self._calls.pop(key, None)
        for leg in () if call is None else call.legs:
            self._by_leg.pop(leg, None)

    def dialed(self, uniqueid: str, leg: str, name: str = "") -> None:
        """The channel of a call dials another one, for the use that it asked for last."""
        mine = self.of(uniqueid)
        if not mine or not leg or leg == uniqueid or self._by_leg.get(leg) in {call.key for call in mine}:
            return
        for asked in self.of(leg):
            if asked.line and asked.direction == "in":
                asked.direction = ""  # it was taken for inbound by its name, for it asked before this was told
        call = max(reversed(mine), key=lambda it: (it.direction != "in", it.since))
        if len(call.legs) >= MAX_LEGS:
            return
        call.legs.add(leg)
        call.has_dialed = True
        self._by_leg[leg] = call.key
        if not call.direction and is_on(call.port, name):
            call.direction = "out"

    def answers(self, leg: str) -> None:
        """A channel that was dialed has answered."""
        call = self._calls.get(self._by_leg.get(leg, ""))
        if call is not None:
            call.talking.add(leg)

    def answered(self, key: str) -> Call | None:
        """A call is answered; it where that is news."""
        call = self._calls.get(key)
        if call is None or call.established:
            return None
        call.established = True
        return call

    def ended(self, channel: str) -> Call | None:
        """A channel is gone: forget it as a leg; the call that dialed it, if one did."""
        key = self._by_leg.pop(channel, None)
        call = None if key is None else self._calls.get(key)
        if call is not None:
            call.legs.discard(channel)
            call.talking.discard(channel)
        return call

    def is_used_up(self, call: Call) -> bool:
        """Whether all that was dialed for one of several uses has ended, as far as is known."""
        return self._has_others(call) and call.has_dialed and not call.legs

    def _has_others(self, call: Call) -> bool:
        return call.direction != "in" and len(self.of(call.uniqueid)) > 1

    def renamed(self, channel: str, old: str, new: str) -> Moved | None:
        """A channel has another name; which channel's leases that moves, where it is the second of a masquerade."""
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

        A leg that inherits is on the trunk; what it asked for itself it keeps besides. Who is put in the place of
        another channel has that one's leases. A list asked for before `now` may not have the new channel.
        """
        call = self._calls.get(moved.old)
        is_leg = call is not None and moved.new in call.legs
        if call is None or (self.of(moved.new) and not is_leg):
            return None
        self.remove(moved.old)
        follower = replace(call, key=self._free_key(moved.new), since=now, line="", is_over=False)
        follower.has_handler = any(other.has_handler for other in self.of(moved.new))
        if is_leg:
            follower.direction, follower.has_dialed = "in", False
            follower.legs, follower.talking, follower.unseen = set(), set(), set()
        self._calls[follower.key] = follower
        self._by_leg.update(dict.fromkeys(follower.legs, follower.key))
        return follower

    def successor(self, key: str, channels: ChannelList) -> Moved | None:
        """Where the lease of a channel that is over goes on: with a leg of it that is there and has answered."""
        call = self._calls.get(key)
        if call is None or call.direction == "in":
            return None
        living = [leg for leg in call.legs if leg in channels and channels[leg].up]
        first = min(living, key=lambda leg: (not is_on(call.port, channels[leg].name), leg), default=None)
        return None if first is None else Moved(key, first)

    def learn(self, channels: ChannelList) -> list[Call]:
        """Take in from a list what events may have missed; calls of which it is news that they are answered."""
        bridged: dict[str, list[str]] = {}
        for channel in channels.values():
            if channel.dialed and channel.bridge:
                bridged.setdefault(channel.bridge, []).append(channel.uniqueid)
        news = []
        for call in self:
            mine = channels.get(call.uniqueid)
            for leg in bridged.get(mine.bridge, []) if mine is not None else []:
                self.dialed(call.uniqueid, leg, channels[leg].name)
                self.answers(leg)
            self._look_for_legs(call, channels)
            if mine is not None and mine.up and mine.bridge and self.answered(call.key):
                news.append(call)
        return news

    def _look_for_legs(self, call: Call, channels: ChannelList) -> None:
        """Forget a leg of one of several uses that two lists do not have: its end was not told."""
        unseen = {leg for leg in call.legs if leg not in channels} if self._has_others(call) else set()
        for leg in unseen & call.unseen:
            self.ended(leg)
        call.unseen = unseen

    def judge(self, channels: ChannelList, asked_at: float) -> Judged:
        """What a list says of the calls granted before it was asked for."""
        judged = Judged([], [])
        for call in self:
            if call.since >= asked_at or (call.uniqueid in channels and not self.is_used_up(call)):
                continue
            moved = None if call.uniqueid in channels else self.successor(call.key, channels)
            if moved is not None:
                judged.moved.append(moved)
            else:
                judged.over.append(call.key)
        return judged

    def leases(self) -> Iterable[SyncLease]:
        """All calls as a list for Sync; one that holds nothing is left out, and an emergency call is none such."""
        return [call.lease() for call in self if call.wants or call.call_class != "normal"]


def _keys(uniqueid: str) -> list[str]:
    return [uniqueid, *(f"{uniqueid};{number}" for number in range(2, MAX_USES + 1))]


def is_remains(name: str) -> bool:
    """Whether a channel of that name is what a masquerade left over: its call goes on elsewhere."""
    return name.endswith(_REMAINS)
