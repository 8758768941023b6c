"""What all connections share: the methods, who is admitted, and what is told of those who are not."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from typing import cast

from featurekeyd.policy.events import Event, EventName

from . import limits
from .curing import locked
from .diagnosis_service import DiagnosisService
from .history_service import HistoryService
from .license_service import LicenseService
from .manage_service import ManageService
from .methods import Calls, Permission
from .peer import Peer
from .rehearsal_service import RehearsalService
from .reservation_service import ReservationService
from .service_info import service_methods
from .site import Site
from .state_service import StateService
from .trust_service import TrustService
from .turns import Turns
from .wire import LICENSE, error_reply

_TOLD_SECONDS = 60.0
"""A user whose clients break limits again and again is told of once in this time."""

_CLOSING_TURNS = 100
"""Turns of the loop that the end waits for connections to end; an aborted one needs two."""

_NOBODY = -1
"""In place of a user, for what no client is the cause of."""

_MAX_TOLD = 1024
"""Users remembered as told of; more are forgotten all at once."""


class Server:
    """Shared by the connections of one daemon."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.site = site
        self.loop = loop
        self.turns = Turns(loop, site.settle, self.unexpected, site.turn_times)
        services = (LicenseService(site), ManageService(site), RehearsalService(site), ReservationService(site))
        self.methods = service_methods()
        for service in (
            *services,
            StateService(site),
            TrustService(site),
            DiagnosisService(site),
            HistoryService(site),
        ):
            self.methods |= service.methods()
        self.methods = locked(self.methods, site)
        self.calls = Calls(self.methods, self.unexpected)
        self._numbers = count(1)
        self._connections: Counter[int] = Counter()
        """Connections by user."""
        self._transports: dict[asyncio.BaseTransport, tuple[Peer, frozenset[Permission]]] = {}
        """Of the connections that have not ended: whose each is, and what it was allowed when it was made."""
        self._told: dict[tuple[int, str], float] = {}
        self._closed = False

    def next_number(self) -> int:
        """A number that no other connection of this run has."""
        return next(self._numbers)

    def permissions(self, peer: Peer) -> frozenset[Permission]:
        """What the peer may do; nothing at all for a stranger."""
        access = self.site.settings.access
        if access.may_manage(peer):
            return frozenset(Permission)
        return frozenset({Permission.NONE, Permission.ASK}) if access.may_ask(peer) else frozenset()

    def admit(self, peer: Peer, transport: asyncio.BaseTransport) -> int | None:
        """Count a new connection; the limit that it is beyond, if any."""
        self._transports[transport] = peer, self.permissions(peer)
        self._connections[peer.uid] += 1
        if self._closed:  # it was accepted just before the end
            cast("asyncio.Transport", transport).abort()
            return None
        if self._connections[peer.uid] > limits.MAX_CONNECTIONS_PER_USER:
            return limits.MAX_CONNECTIONS_PER_USER
        manages = self.site.settings.access.may_manage(peer)
        most = limits.MAX_CONNECTIONS - (0 if manages else limits.KEPT_FOR_MANAGERS)
        return most if len(self._transports) > most else None

    def dismiss(self, peer: Peer, transport: asyncio.BaseTransport) -> None:
        """Count a connection as ended."""
        self._transports.pop(transport, None)
        self._connections[peer.uid] -= 1
        if not self._connections[peer.uid]:
            del self._connections[peer.uid]

    def dismiss_outdated(self) -> None:
        """End the connections that were allowed more than the settings allow them now; they may connect anew."""
        for transport, (peer, allowed) in list(self._transports.items()):
            if not allowed <= self.permissions(peer):
                self.turned_away(peer, "the settings do not allow it any more what it was allowed before")
                cast("asyncio.Transport", transport).close()

    async def close(self) -> None:
        """End every connection, so that nothing is granted after the lease file is closed."""
        self._closed = True
        for transport in list(self._transports):
            cast("asyncio.Transport", transport).abort()
        for _ in range(_CLOSING_TURNS):
            if not self._transports:
                break
            await asyncio.sleep(0)
        self.turns.close()

    def turned_away(self, peer: Peer, hint: str) -> None:
        """Log that a client was turned away, but not each time of a storm."""
        # Where in a message a mistake stands is the client's choice, so it makes no hint a new one.
        if self._is_news(peer.uid, hint.partition(" (byte ")[0]):
            message = f"A client of uid {peer.uid} (process {peer.pid}) was turned away: {hint}."
            self.site.log.tell(Event(name=EventName.CLIENT_REFUSED, message=message, fields={"UID": str(peer.uid)}))

    def _is_news(self, uid: int, kind: str) -> bool:
        now = self.site.clock().boot
        if now - self._told.get((uid, kind), float("-inf")) < _TOLD_SECONDS:
            return False
        if len(self._told) >= _MAX_TOLD:
            self._told.clear()
        self._told[uid, kind] = now
        return True

    def cannot_accept(self, error: OSError) -> None:
        """Log that the system gives no more connections, but not each time."""
        if self._is_news(_NOBODY, error.strerror or ""):
            message = f"Clients must wait to connect: {error.strerror}. See which process holds so many descriptors."
            self.site.log.tell(Event(name=EventName.CLIENT_REFUSED, message=message))

    def unexpected(self, error: Exception) -> bytes:
        """Log an exception nobody foresaw; the reply to send, which says nothing of it."""
        self.site.tell_unexpected(error, "while answering a call")
        return error_reply(f"{LICENSE}.UnexpectedCondition")
