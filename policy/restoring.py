"""What comes back after a restart of the daemon: the leases of the earlier run and the names of its holders."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .decision import Situation
from .holders import Known
from .ledger import Lease
from .requests import CallClass

ADOPTION_SECONDS = 600.0
"""How long after a restart of the daemon the name of a holder that was there before is kept for it: a switch that is
slow to start comes back within that time, and may have no lease until then."""


def restore(situation: Situation, leases: Iterable[Lease], boot: float, holders: Iterable[Known]) -> None:
    """Take back the leases, but for those whose connection ended with the earlier run; no change is noted.

    The holders' names stay with the users who had them, and their silence counts from that boot time on.
    """
    for known in holders:
        holder = situation.holders.hear(known.name, known.uid, boot)
        if holder is not None:  # the settings may have given the name to another user since
            holder.ttls = known.ttls
            holder.successor = known.successor
            if known.last_emergency is not None:
                holder.note_emergency(min(known.last_emergency, boot))
    for lease in leases:
        if lease.bound is None:
            _take_back(situation, lease, boot)
    situation.holders.await_all(boot, ADOPTION_SECONDS)
    situation.ledger.changes.clear()


def _take_back(situation: Situation, lease: Lease, boot: float) -> None:
    granted = min(lease.granted, boot)
    situation.ledger.put(msgspec.structs.replace(lease, granted=granted))
    holder = situation.holders.hear(lease.holder, lease.uid, boot)
    if holder is not None and lease.call_class is CallClass.EMERGENCY:
        holder.note_emergency(granted)
