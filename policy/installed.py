"""The installed licenses in the course of time: what they allow today, and what is told as their terms end.

What follows from them is worked out anew only where they, the date, or the right of unlisted keys to count changed.
Each end is told once, and each warning of it; after a restart of the daemon what holds then is told again.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import msgspec

from .catalog import Catalog, Cause
from .entitlements import Entitlements, entitlements, with_statuses
from .events import Event, EventName
from .instant import Now
from .licensekey import LicenseKey
from .licenses import License, Licenses, Status
from .rehearsal import Rehearsed, WhatIf, rehearse
from .system import System
from .whereabouts import Whereabouts, under_key

WARNING_DAYS = (30, 14, 7, 3, 2, 1)
"""Days left at which it is told that a license is about to end: time to order, and time to hurry. A host that is off on
one of them tells it when it is on again."""


class Installed:
    """The licenses of one system, and what they come to on a day."""

    def __init__(self, catalog: Catalog, system: System, released: datetime.date) -> None:
        self.licenses = Licenses()
        """As they were brought; `renew` takes a change in."""
        self.count_unlisted = True
        """Whether keys that no list has confirmed still count."""
        self.count_shared = True
        """Whether what another system of the network shares still counts."""
        self.revoked: frozenset[LicenseKey] = frozenset()
        """Keys that the vendor's answer to a check has revoked, whatever the list says."""
        self._catalog = catalog
        self._system = system
        self._released = released
        self._basis: tuple[Licenses, datetime.date, frozenset[LicenseKey]] | None = None
        """What `_on_day` was worked out from."""
        self._on_day: list[License] = []
        self._expired: frozenset[LicenseKey] = frozenset()
        self._warned: dict[LicenseKey, int] = {}
        """The last of the warning days that was told."""

    @property
    def floor(self) -> datetime.date:
        """The date that signed documents and the release prove to have come."""
        return max(self.licenses.floor, self._released)

    def today(self, now: Now) -> datetime.date:
        """The date that terms are held against: never before what signed documents and the release prove."""
        return max(now.date, self.floor)

    def renew(self, now: Now) -> list[Event] | None:
        """Take in the licenses and the date as they are now, and what is to be told; None where both are as before."""
        today, before = self.today(now), self._basis
        if before is not None and before[0] is self.licenses and before[1:] == (today, self.revoked):
            return None
        self._basis, self._on_day = (self.licenses, today, self.revoked), self._on(today)
        return [*self._ended(), *self._about_to_end(today)]

    @property
    def unlisted(self) -> bool:
        """Whether there are keys that no list has confirmed yet."""
        return any(license_.status is Status.UNKNOWN for license_ in self._on_day)

    def _on(self, day: datetime.date) -> list[License]:
        """Every license as it stands by itself on that day."""
        licenses = self.licenses.on(day, self._catalog)
        return [_as_revoked(it) if it.key in self.revoked else it for it in licenses] if self.revoked else licenses

    def count(self, *, unlisted: bool, shared: bool) -> bool:
        """Say what still counts; whether that is another than before."""
        before = self.count_unlisted, self.count_shared
        self.count_unlisted, self.count_shared = unlisted, shared
        return before != (unlisted, shared)

    def entitlements(self) -> Entitlements:
        """What the licenses together allow, by feature."""
        system = self._system if self.count_shared else msgspec.structs.replace(self._system, shared=frozenset())
        return entitlements(self._catalog, system, self._on_day, count_unlisted=self.count_unlisted)

    def statuses(self, now: Now, allowed: Entitlements, where: Whereabouts) -> list[License]:
        """Every license with its status today: where together they allow as much, under the key where it is now."""
        alone = self._on(self.today(now))
        budget = self._catalog.meters[Cause.FEATURE_KEY_ABSENT].budget
        together = zip(alone, with_statuses(alone, allowed), strict=True)
        shown = (self._over(one) if self._is_over(one) else other for one, other in together)
        return [under_key(license_, where, self.licenses.serial, budget) for license_ in shown]

    def _is_over(self, license_: License) -> bool:
        return license_.status is Status.UNKNOWN and not self.count_unlisted

    def _over(self, license_: License) -> License:
        """A license that no list has confirmed in time, which is said before all that it waits for."""
        budget = self._catalog.meters[Cause.UNLISTED_LICENSES].budget
        finding = f"Not on the vendor's list, and its time of {budget} is over: import the vendor's newest list."
        return msgspec.structs.replace(license_, finding=finding)

    def what_if(self, supposed: WhatIf) -> list[Rehearsed]:
        """What would change under other licenses or on another system, in good standing; changes nothing."""
        return rehearse(self._catalog, self._system, self._on_day, supposed, count_unlisted=self.count_unlisted)

    def _ended(self) -> Iterator[Event]:
        expired = {license_.key: license_ for license_ in self._on_day if license_.status is Status.EXPIRED}
        for key in expired.keys() - self._expired:
            message = f"The license {key.short} for {expired[key].feature} expired on {key.expires}."
            yield _about(EventName.LICENSE_EXPIRED, expired[key], message)
        self._expired = frozenset(expired)

    def _about_to_end(self, today: datetime.date) -> Iterator[Event]:
        told, self._warned = self._warned, {}
        for license_ in self._on_day:
            key, good = license_.key, license_.status in {Status.VALID, Status.UNKNOWN}
            if key.expires is None or not good:
                continue
            left = key.days_left(today) or 0
            before, reached = told.get(key), [days for days in WARNING_DAYS if left <= days]
            day = min(reached if before is None else [*reached, before], default=None)
            if day is None:
                continue
            self._warned[key] = day
            if day != before:
                message = f"The license {key.short} for {license_.feature} ends in {_days(left)}, after {key.expires}."
                yield _about(EventName.LICENSE_EXPIRES_SOON, license_, message)


def _about(name: EventName, license_: License, message: str) -> Event:
    return Event(name=name, message=message, fields={"FEATURE": str(license_.feature), "LICENSE": license_.key.short})


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _as_revoked(license_: License) -> License:
    finding = "The vendor has revoked this key in the answer to a check."
    return msgspec.structs.replace(license_, status=Status.INVALID, finding=finding)
