"""Reservations: instances set aside for a lease key (an extension, a user), kept while it holds nothing.

Rules (facts/catalog.md section 10):

* what a key holds uses its reservation first, and what is left of it counts as used for everybody else;
* a reservation is made only as far as instances are free;
* it cuts no lease: when fewer instances are free than are set aside, the reservations share them in the order of their
  making.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import msgspec

from .catalog import UNLIMITED, Mode
from .entitlements import Entitlement
from .findings import Finding, Verdict, accept, refuse
from .ledger import Lease, Ledger
from .licensekey import MAX_INSTANCES
from .requests import FeatureName, HolderName, LeaseKey, check_printable

MAX_RESERVATIONS = 2_000
"""Reservations of one feature: one for each extension of the largest system (facts/catalog.md section 5)."""

MAX_RESERVATIONS_IN_ALL = 10_000
"""Reservations of all features together: five for each of those extensions. Each change writes all of them to the state
file, some 30 ms in the storing thread."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """Instances of a feature that are set aside for one key; feature and key name it."""

    feature: FeatureName
    key: LeaseKey
    holder: HolderName | None = None
    """The holder whose key it is, None for the key of any holder."""
    instances: Annotated[int, msgspec.Meta(ge=1, le=MAX_INSTANCES)] = 1

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        check_printable(feature=self.feature, key=self.key, holder=self.holder)

    def is_for(self, holder: str, key: str) -> bool:
        """Whether it is set aside for that holder's key."""
        return self.key == key and self.holder in {None, holder}


class Kept(msgspec.Struct, gc=False):
    """A reservation, and how many instances of its feature its key holds."""

    reservation: Reservation
    held: int
    unheld: int = 0
    """Of the reservation, instances that its key does not hold."""

    def __post_init__(self) -> None:
        """Count what is unheld."""
        self.unheld = self.unheld_at(self.held)

    def unheld_at(self, held: int) -> int:
        """What is unheld where the key holds as many."""
        return max(self.reservation.instances - held, 0)


class Aside:
    """What is set aside of one feature; the sums are carried along, and the ledger notes here what it takes in or out.

    With them a decision costs the same with ten reservations and with two thousand.
    """

    def __init__(self, kept: Iterable[Kept]) -> None:
        self.kept = {it.reservation.key: it for it in kept}
        """By key, in the order of their making."""
        self.instances = sum(it.reservation.instances for it in self.kept.values())
        """Of all reservations together."""
        self.unheld = sum(it.unheld for it in self.kept.values())
        """Of these, instances that their keys do not hold."""

    def find(self, holder: str, key: str) -> Kept | None:
        """What is kept for that holder's key."""
        kept = self.kept.get(key)
        return kept if kept is not None and kept.reservation.is_for(holder, key) else None

    def note(self, holder: str, key: str, change: int) -> None:
        """Take note that the holder's key holds as many more, or fewer."""
        kept = self.find(holder, key)
        if kept is not None:
            before = kept.unheld
            kept.held += change
            kept.unheld = kept.unheld_at(kept.held)
            self.unheld += kept.unheld - before

    def given_back(self, displaced: Iterable[Lease]) -> dict[str, int]:
        """How many more are unheld of the reservations that displaced leases use, once those are gone; by key.

        They are of one holder, so each has a key of its own.
        """
        more = {}
        for lease in displaced:
            kept = self.find(lease.holder, lease.key)
            if kept is not None:
                left = kept.held - lease.wants.get(kept.reservation.feature, 0)
                more[lease.key] = kept.unheld_at(left) - kept.unheld
        return more


class Shares:
    """The free instances of a feature: which are set aside, and for whom; good until a lease changes."""

    __slots__ = ("_aside", "_given_back", "_in_order", "reserved", "unreserved")

    def __init__(self, free: int, aside: Aside | None = None, displaced: tuple[Lease, ...] = ()) -> None:
        self._aside = aside
        self._given_back = aside.given_back(displaced) if aside is not None and displaced else {}
        unheld = 0 if aside is None else aside.unheld + sum(self._given_back.values())
        self.unreserved = max(free - unheld, 0)
        """Set aside for nobody."""
        self.reserved = min(free, unheld)
        """Set aside, for whomever."""
        self._in_order = None if aside is None or unheld <= free else self._shared_in_order(aside, free)

    def own(self, holder: str, key: str) -> int:
        """Instances that are set aside for that key."""
        kept = None if self._aside is None else self._aside.find(holder, key)
        return 0 if kept is None else self.of(kept)

    def of(self, kept: Kept) -> int:
        """Instances that are set aside for that reservation."""
        if self._in_order is not None:
            return self._in_order.get(kept.reservation.key, 0)
        return kept.unheld + self._given_back.get(kept.reservation.key, 0)

    def _shared_in_order(self, aside: Aside, left: int) -> dict[str, int]:
        """By key, while fewer are free than are set aside: only then it matters who reserved before whom.

        A walk, of 0.1 ms for 2,000 reservations: a sum for each place in their order would have to be kept up at all
        times, for the rare days on which a limit has fallen.
        """
        shares = {}
        for key, kept in aside.kept.items():
            share = kept.unheld + self._given_back.get(key, 0)
            if share >= left:
                shares[key] = left
                break
            if share:
                shares[key] = share
                left -= share
        return shares


class Reservations:
    """All reservations by feature and key, each feature's in the order of their making; never changed in place."""

    def __init__(self, made: Iterable[Reservation] = ()) -> None:
        self._of: dict[str, dict[str, Reservation]] = {}
        for reservation in made:
            self._of.setdefault(reservation.feature, {})[reservation.key] = reservation

    def __iter__(self) -> Iterator[Reservation]:
        for reservations in self._of.values():
            yield from reservations.values()

    def __len__(self) -> int:
        return sum(len(reservations) for reservations in self._of.values())

    def of(self, feature: str) -> Mapping[str, Reservation]:
        """The reservations of a feature by key."""
        return self._of.get(feature, {})

    def counted(self, ledger: Ledger) -> dict[str, Aside]:
        """What is set aside, by feature; only a reservation that the ledger does not know yet is counted anew."""
        return {
            feature: Aside(Kept(it, _held(it, ledger)) for it in reservations.values())
            for feature, reservations in self._of.items()
        }

    def shares(self, feature: str, free: int, ledger: Ledger, displaced: tuple[Lease, ...] = ()) -> Shares:
        """How the free instances of a feature are shared out; displaced leases are counted as gone."""
        aside = ledger.aside[feature] if feature in self._of else None
        return Shares(max(free, 0), aside, displaced)

    def with_one(
        self, wanted: Reservation, entitlement: Entitlement | None, limit: int, ledger: Ledger
    ) -> tuple[Reservations, Finding]:
        """These and one more, in place of the one for the same key; the same as before where it is refused."""
        there = self.of(wanted.feature)
        if there.get(wanted.key) == wanted:
            return self, accept(Verdict.ALREADY_THERE, f"{_told(wanted, entitlement)} already.")
        refusal = self._refusal(wanted, entitlement, limit, ledger)
        if refusal is not None:
            return self, refusal
        said = accept(Verdict.RESERVED, f"{_told(wanted, entitlement)}.", **_about(wanted))
        return self._with(wanted.feature, {**there, wanted.key: wanted}), said

    def without(self, feature: str, key: str) -> tuple[Reservations, Finding]:
        """These without the one for that key; the same as before where there is none."""
        left = {**self.of(feature)}
        there = left.pop(key, None)
        if there is None:
            message = f"Nothing of {feature} is reserved for {key}."
            return self, refuse(Verdict.NOT_FOUND, message, remedy="featurekeyctl reservations lists them.")
        message = f"The reservation of {feature} for {key} is given up."
        return self._with(feature, left), accept(Verdict.REMOVED, message, **_about(there))

    def _with(self, feature: str, reservations: dict[str, Reservation]) -> Reservations:
        changed = Reservations()
        changed._of = {**self._of, feature: reservations}
        if not reservations:
            del changed._of[feature]
        return changed

    def _refusal(
        self, wanted: Reservation, entitlement: Entitlement | None, limit: int, ledger: Ledger
    ) -> Finding | None:
        if entitlement is None:
            message = f"The catalog has no feature {wanted.feature}."
            return refuse(Verdict.UNKNOWN_FEATURE, message, remedy="featurekeyctl features lists the names.")
        title, there = entitlement.feature.title, self.of(wanted.feature)
        if entitlement.limit >= UNLIMITED:
            return refuse(Verdict.NOT_LIMITED, f"{title} has no limit here, so there is nothing to set aside.")
        if entitlement.feature.mode is Mode.PRESENCE:
            return refuse(Verdict.NOT_LIMITED, f"Nobody takes {title}: it is licensed for all, or for none.")
        if wanted.key not in there and (len(there) >= MAX_RESERVATIONS or len(self) >= MAX_RESERVATIONS_IN_ALL):
            message = f"There are {len(there)} reservations of {title} and {len(self)} in all, the most there may be."
            return refuse(Verdict.TOO_MANY, message)
        aside = ledger.aside.get(wanted.feature)
        before = aside.kept.get(wanted.key) if aside else None
        more = Kept(wanted, _held(wanted, ledger)).unheld - (before.unheld if before else 0)
        in_use, reserved = ledger.in_use(wanted.feature), aside.unheld if aside else 0
        if more <= 0 or in_use + reserved + more <= limit:
            return None
        message = f"Of {limit} instances of {title}, {in_use} are in use and {reserved} reserved; {more} more wanted."
        return refuse(Verdict.NOT_FREE, message, **_about(wanted))


def _held(reservation: Reservation, ledger: Ledger) -> int:
    """Instances of its feature that its key holds: known where it counts already, else counted."""
    aside = ledger.aside.get(reservation.feature)
    kept = aside.kept.get(reservation.key) if aside else None
    if kept is not None and kept.reservation.holder == reservation.holder:
        return kept.held
    return ledger.held(reservation.feature, reservation.key, reservation.holder)


def _told(reservation: Reservation, entitlement: Entitlement | None) -> str:
    title = entitlement.feature.title if entitlement else reservation.feature
    whose = f"{reservation.key} of {reservation.holder}" if reservation.holder else reservation.key
    return f"Reserved for {whose}: {reservation.instances} of {title}"


def _about(reservation: Reservation) -> dict[str, int | str | None]:
    return {"feature": reservation.feature, "instances": reservation.instances}
