"""The part of io.featurekey.Manage about reservations: instances set aside for a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Iterator
from typing import Annotated

import msgspec

from featurekeyd.policy.events import EventName
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.licensekey import MAX_INSTANCES
from featurekeyd.policy.requests import FeatureName, HolderName, LeaseKey, check_printable
from featurekeyd.policy.reservations import Kept, Reservation, Shares

from .methods import Client, ErrorReply, Method, Nothing, Permission, method, one_by_one
from .site import Site
from .storing import not_stored
from .wire import MANAGE, error_reply, reply


class Reserve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of Reserve."""

    feature: FeatureName
    key: LeaseKey
    holder: HolderName | None = None
    instances: Annotated[int, msgspec.Meta(ge=1, le=MAX_INSTANCES)] | None = None

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        check_printable(feature=self.feature, key=self.key, holder=self.holder)


class Unreserve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of Unreserve."""

    feature: FeatureName
    key: LeaseKey

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        check_printable(feature=self.feature, key=self.key)


class ReservationService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        manage = Permission.MANAGE
        return {
            f"{MANAGE}.Reserve": method(manage, Reserve, self.reserve),
            f"{MANAGE}.Unreserve": method(manage, Unreserve, self.unreserve),
            f"{MANAGE}.ListReservations": method(manage, Nothing, self.list_reservations, more=True),
        }

    async def reserve(self, client: Client, parameters: Reserve) -> bytes:
        """Set instances aside for a key."""
        wanted = Reservation(
            feature=parameters.feature,
            key=parameters.key,
            holder=parameters.holder,
            instances=parameters.instances or 1,
        )
        fields = {"FEATURE": wanted.feature, "LEASE": wanted.key, "HOLDER": wanted.holder or "", "BY": _by(client)}
        enforcer = self._site.enforcer
        return await _stored(
            self._site.change_reservations(lambda: enforcer.reserve(wanted), EventName.RESERVED, fields)
        )

    async def unreserve(self, client: Client, parameters: Unreserve) -> bytes:
        """Give a reservation up."""
        feature, key = parameters.feature, parameters.key
        fields = {"FEATURE": feature, "LEASE": key, "BY": _by(client)}
        enforcer = self._site.enforcer
        return await _stored(
            self._site.change_reservations(
                lambda: enforcer.reservations.without(feature, key), EventName.UNRESERVED, fields
            )
        )

    def list_reservations(self, _: Client, __: Nothing) -> Iterator[bytes]:
        """The reservations, one in each reply."""
        enforcer = self._site.enforcer
        shared = [(enforcer.shares(feature), aside) for feature, aside in enforcer.ledger.aside.items()]
        listed = [_listed(kept, shares) for shares, aside in shared for kept in aside.kept.values()]
        return one_by_one("reservation", listed)


def _listed(kept: Kept, shares: Shares) -> dict[str, object]:
    reservation = kept.reservation
    return {
        "feature": reservation.feature,
        "key": reservation.key,
        "holder": reservation.holder,
        "instances": reservation.instances,
        "held": reservation.instances - kept.unheld,
        "free": shares.of(kept),
    }


async def _stored(change: Awaitable[Finding]) -> bytes:
    """The reply to a change; raises ErrorReply where it cannot be stored, and then nothing changed."""
    try:
        return reply({"finding": await change})
    except sqlite3.Error as error:
        raise ErrorReply(error_reply(f"{MANAGE}.StateNotStored", {"hint": not_stored(error)})) from error


def _by(client: Client) -> str:
    return f"uid {client.peer.uid}"
