"""The ledger: the set of leases, and nothing else.

Every count is derived from the set. For speed the sums are carried along, and only `put` and `drop` touch them, each
with the whole lease in hand, so that a sum cannot move without its lease; `recount` derives them anew, and the tests
hold the two against each other. A decision costs the same with ten leases and with a hundred thousand.

Each change is also noted in `changes`, which the daemon records before it answers, and once more in `configured` where
the lease outlives a reboot of the host.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from .catalog import Scope
from .holders import Known
from .requests import CallClass

if TYPE_CHECKING:
    from .reservations import Aside


MAX_DISPLACED = 32
"""Leases on one channel that one new call there ends. One is usual; a list may put thousands there, and ending 32 takes
0.1 ms, which keeps nobody waiting."""


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="lease"):
    """Instances that one holder has taken under one key."""

    holder: str
    key: str
    uid: int
    """The user who took it, and to whom the holder's name belongs."""
    scope: Scope
    wants: dict[str, int]
    """Instances by feature; empty for an emergency call, which takes none."""
    granted: float
    """Boot time at which it was granted or adopted."""
    present: dict[str, int] = {}
    """Features of mode presence that were asked for along with it: they are not taken and not counted."""
    port: str | None = None
    channel: str | None = None
    call_class: CallClass = CallClass.NORMAL
    established: bool = False
    """Whether it holds what an established call takes, and not what set-up does."""
    bound: int | None = None
    """Number of the connection whose end frees it, None for a lease that outlives its connection.

    It is that of the last Acquire which was allowed; a list that names the lease unbinds it.
    """

    @property
    def outlives_reboot(self) -> bool:
        """Whether it stands for something configured, which is there after a reboot too (DESIGN: Leases)."""
        return self.scope is Scope.CONFIGURATION and self.bound is None and not self.emergency

    @property
    def emergency(self) -> bool:
        """Whether it stands for an emergency call or a callback to one, which are counted apart."""
        return self.call_class is not CallClass.NORMAL


class Dropped(msgspec.Struct, frozen=True, gc=False, tag="dropped"):
    """The lease under this holder and key is no more."""

    holder: str
    key: str


Change = Lease | Dropped | Known

_Name = TypeVar("_Name", bound=Hashable)


class Ledger:
    """The leases by holder and key."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        """What happened since the daemon last took note, in order."""
        self.configured: dict[tuple[str, str], Lease | None] = {}
        """Leases by holder and key as they are now, of those that outlive a reboot and changed since the daemon last
        took note; None for one that is no more."""
        self.aside: dict[str, Aside] = {}
        """What is set aside of the features with reservations; the leases that it counts are noted there."""
        self.emergencies = 0
        """Emergency calls among the leases."""
        self._leases: dict[str, dict[str, Lease]] = {}
        self._in_use: dict[str, int] = {}
        self._on_port: dict[str, int] = {}
        self._beside_calls: dict[tuple[str, Scope], int] = {}
        """Leases by holder and scope, but for the scope that nearly all are in."""
        self._of_user: dict[int, int] = {}
        self._channels: dict[tuple[str, str, str], dict[str, None]] = {}
        self._bound: dict[int, dict[tuple[str, str], None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Lease]:
        for leases in self._leases.values():
            yield from leases.values()

    def find(self, holder: str, key: str) -> Lease | None:
        """The lease under that holder and key."""
        leases = self._leases.get(holder)
        return leases.get(key) if leases else None

    def with_key(self, key: str) -> list[Lease]:
        """The leases under a key, of all holders."""
        return [leases[key] for leases in self._leases.values() if key in leases]

    def places(self) -> Iterator[tuple[str, str]]:
        """Holder and key of every lease that is there all the while; leases may come and go meanwhile."""
        for holder in list(self._leases):
            for key in list(self._leases.get(holder, ())):
                yield holder, key

    def of_holder(self, holder: str) -> Mapping[str, Lease]:
        """The holder's leases by key."""
        return self._leases.get(holder, {})

    def of_scope(self, holder: str, scope: Scope) -> int:
        """Leases of a holder in one scope."""
        if scope is not Scope.CALLS:
            return self._beside_calls.get((holder, scope), 0)
        return len(self.of_holder(holder)) - sum(self._beside_calls.get((holder, it), 0) for it in Scope)

    def of_user(self, uid: int) -> int:
        """Leases of a user, under whatever holder names."""
        return self._of_user.get(uid, 0)

    def in_use(self, feature: str) -> int:
        """Instances of a feature that the leases hold."""
        return self._in_use.get(feature, 0)

    def held(self, feature: str, key: str, holder: str | None = None) -> int:
        """Instances of a feature that are held under a key, counted: by that holder, or by all together."""
        total = 0
        for leases in self._leases.values() if holder is None else (self.of_holder(holder),):
            lease = leases.get(key)
            if lease is not None:
                total += lease.wants.get(feature, 0)
        return total

    def on_port(self, port: str) -> int:
        """Leases on a port, of all holders, emergency calls left out."""
        return self._on_port.get(port, 0)

    @property
    def sums(self) -> Mapping[str, int]:
        """Instances in use of each feature of which there are any."""
        return self._in_use

    @property
    def sums_on_ports(self) -> Mapping[str, int]:
        """Leases on each port on which there are any, emergency calls left out."""
        return self._on_port

    def on_channel(self, holder: str, port: str | None, channel: str | None) -> tuple[Lease, ...]:
        """The holder's leases on that port and channel, the latest first, of many the latest `MAX_DISPLACED`."""
        keys = None if port is None or channel is None else self._channels.get((holder, port, channel))
        return tuple(self._leases[holder][key] for key in islice(reversed(keys), MAX_DISPLACED)) if keys else ()

    def bound_to(self, connection: int) -> list[Lease]:
        """The leases that end with that connection."""
        found = (self.find(holder, key) for holder, key in self.places_bound(connection))
        return [lease for lease in found if lease is not None]

    def places_bound(self, connection: int) -> list[tuple[str, str]]:
        """Holder and key of the leases that end with that connection."""
        return list(self._bound.get(connection, ()))

    def put(self, lease: Lease) -> None:
        """Take the lease in, in place of the one under the same holder and key."""
        self._take_out(lease.holder, lease.key)
        leases = self._leases.get(lease.holder)
        if leases is None:
            leases = self._leases[lease.holder] = {}
        leases[lease.key] = lease
        self._sum(lease, 1)
        if lease.port is not None and lease.channel is not None:
            self._channels.setdefault((lease.holder, lease.port, lease.channel), {})[lease.key] = None
        if lease.bound is not None:
            self._bound.setdefault(lease.bound, {})[lease.holder, lease.key] = None
        if lease.scope is Scope.CONFIGURATION and lease.outlives_reboot:
            self.configured[lease.holder, lease.key] = lease
        self.changes.append(lease)

    def drop(self, holder: str, key: str) -> Lease | None:
        """Take the lease out; None where there is none."""
        lease = self._take_out(holder, key)
        if lease is not None:
            self.changes.append(Dropped(holder, key))
        return lease

    def recount(self) -> dict[str, int]:
        """Instances in use by feature, derived from the leases alone."""
        counts: dict[str, int] = {}
        for lease in self:
            for feature, instances in lease.wants.items():
                counts[feature] = counts.get(feature, 0) + instances
        return counts

    def _take_out(self, holder: str, key: str) -> Lease | None:
        leases = self._leases.get(holder)
        lease = leases.pop(key, None) if leases else None
        if leases is None or lease is None:
            return None
        if not leases:
            del self._leases[holder]
        self._sum(lease, -1)
        if lease.scope is Scope.CONFIGURATION and lease.outlives_reboot:
            self.configured[holder, key] = None
        if lease.port is not None and lease.channel is not None:
            self._leave_channel((holder, lease.port, lease.channel), key)
        if lease.bound is not None:
            self._unbind(lease.bound, holder, key)
        return lease

    def _sum(self, lease: Lease, sign: int) -> None:
        # Each sum in place and not by a function of its own: that would cost every decision more than the sums do.
        self._count += sign
        of_user, uid = self._of_user, lease.uid
        of_user[uid] = leases = of_user.get(uid, 0) + sign
        if not leases:
            del of_user[uid]
        if lease.scope is not Scope.CALLS:
            _add(self._beside_calls, (lease.holder, lease.scope), sign)
        if lease.call_class is not CallClass.NORMAL:
            self.emergencies += sign
            return
        in_use = self._in_use
        for feature, instances in lease.wants.items():
            more = sign * instances
            in_use[feature] = total = in_use.get(feature, 0) + more
            if not total:
                del in_use[feature]
            if feature in self.aside:
                self.aside[feature].note(lease.holder, lease.key, more)
        port = lease.port
        if port is not None:
            on_port = self._on_port
            on_port[port] = calls = on_port.get(port, 0) + sign
            if not calls:
                del on_port[port]

    def _leave_channel(self, place: tuple[str, str, str], key: str) -> None:
        keys = self._channels[place]
        del keys[key]
        if not keys:
            del self._channels[place]

    def _unbind(self, connection: int, holder: str, key: str) -> None:
        bound = self._bound[connection]
        del bound[holder, key]
        if not bound:
            del self._bound[connection]


def instances(leases: Iterable[Lease], feature: str) -> int:
    """Instances of a feature that these leases hold together."""
    return sum(lease.wants.get(feature, 0) for lease in leases)


def _add(sums: dict[_Name, int], name: _Name, amount: int) -> None:
    total = sums.get(name, 0) + amount
    if total:
        sums[name] = total
    else:
        del sums[name]
