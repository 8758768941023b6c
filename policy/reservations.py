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
"""Reservations of one feature: one for each extension of the largest system (facts/catalog.md section 5). A decision
about the feature walks them."""


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

    def unheld(self, ledger: Ledger, displaced: Lease | None = None) -> int:
        """Instances of it that its key does not hold; a displaced lease is counted as gone."""
        held = ledger.held(self.feature, self.key, self.holder)
        if displaced is not None and self.is_for(displaced.holder, displaced.key):
            held -= displaced.wants.get(self.feature, 0)
        return max(self.instances - held, 0)


class Shares(msgspec.Struct, frozen=True, gc=False):
    """The free instances of a feature: which are set aside, and for whom."""

    unreserved: int
    """Set aside for nobody."""
    aside: dict[str, tuple[Reservation, int]] = {}
    """By key: the reservation, and how many of the free instances are set aside for it."""

    def own(self, holder: str, key: str) -> int:
        """Instances that are set aside for that key."""
        found = self.aside.get(key)
        return found[1] if found is not None and found[0].is_for(holder, key) else 0

    @property
    def reserved(self) -> int:
        """Instances that are set aside, for whomever."""
        return sum(count for _, count in self.aside.values())


class Reservations:
    """All reservations by feature and key, each feature's in the order of their making; never changed in place."""

    def __init__(self, made: Iterable[Reservation] = ()) -> None:
        self._of: dict[str, dict[str, Reservation]] = {}
        for reservation in made:
            self._of.setdefault(reservation.feature, {})[reservation.key] = reservation

    def __iter__(self) -> Iterator[Reservation]:
        for reservations in self._of.values():
            yield from reservations.values()

    def of(self, feature: str) -> Mapping[str, Reservation]:
        """The reservations of a feature by key."""
        return self._of.get(feature, {})

    def shares(self, feature: str, free: int, ledger: Ledger, displaced: Lease | None = None) -> Shares:
        """How the free instances of a feature are shared out; a displaced lease is counted as gone."""
        left, aside = max(free, 0), {}
        for key, reservation in self.of(feature).items():
            share = min(reservation.unheld(ledger, displaced), left)
            aside[key] = (reservation, share)
            left -= share
        return Shares(left, aside)

    def with_one(
        self, wanted: Reservation, entitlement: Entitlement | None, limit: int, ledger: Ledger
    ) -> tuple[Reservations, Finding]:
        """These and one more, in place of the one for the same key; the same as before where it is refused."""
        if self.of(wanted.feature).get(wanted.key) == wanted:
            return self, accept(Verdict.ALREADY_THERE, f"{_told(wanted, entitlement)} already.")
        refusal = self._refusal(wanted, entitlement, limit, ledger)
        if refusal is not None:
            return self, refusal
        said = accept(Verdict.RESERVED, f"{_told(wanted, entitlement)}.", **_about(wanted))
        return Reservations([*self, wanted]), said

    def without(self, feature: str, key: str) -> tuple[Reservations, Finding]:
        """These without the one for that key; the same as before where there is none."""
        there = self.of(feature).get(key)
        if there is None:
            message = f"Nothing of {feature} is reserved for {key}."
            return self, refuse(Verdict.NOT_FOUND, message, remedy="featurekeyctl reservations lists them.")
        message = f"The reservation of {feature} for {key} is given up."
        return Reservations(it for it in self if it is not there), accept(Verdict.REMOVED, message, **_about(there))

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
        if wanted.key not in there and len(there) >= MAX_RESERVATIONS:
            return refuse(Verdict.TOO_MANY, f"There are {len(there)} reservations of {title}, the most there may be.")
        before = there.get(wanted.key)
        more = wanted.unheld(ledger) - (before.unheld(ledger) if before else 0)
        in_use = ledger.in_use(wanted.feature)
        reserved = sum(reservation.unheld(ledger) for reservation in there.values())
        if more <= 0 or in_use + reserved + more <= limit:
            return None
        message = f"Of {limit} instances of {title}, {in_use} are in use and {reserved} reserved; {more} more wanted."
        return refuse(Verdict.NOT_FREE, message, **_about(wanted))


def _told(reservation: Reservation, entitlement: Entitlement | None) -> str:
    title = entitlement.feature.title if entitlement else reservation.feature
    whose = f"{reservation.key} of {reservation.holder}" if reservation.holder else reservation.key
    return f"Reserved for {whose}: {reservation.instances} of {title}"


def _about(reservation: Reservation) -> dict[str, int | str | None]:
    return {"feature": reservation.feature, "instances": reservation.instances}
