"""What the service manager is told while all goes on (sd_notify(3)): alive, and how the site stands.

A notice never waits. A service manager that reads no more, as one that has failed, must stop no decision; that it is
not told then makes no difference to anybody.
"""

from __future__ import annotations

import contextlib
import os
import socket

from featurekeyd.policy.licenses import Licenses

from .datagramsocket import DatagramSocket
from .site import Site

STATUS_SECONDS = 10.0
"""How often the status line is looked at where no watchdog asks for more."""


class Notices:
    """Sends notices to the socket that the environment names, and none where it names none."""

    def __init__(self, address: str) -> None:
        """`address` is that of NOTIFY_SOCKET, empty for nobody; one in the abstract namespace begins with `@`."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = DatagramSocket(self._address)
        self._status = ""
        """What was told last."""

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def tell(self, *assignments: str, status: str = "") -> None:
        """Tell these, such as `WATCHDOG=1`, and the status line where it is another one than before."""
        news = [f"STATUS={status}"] if status and status != self._status else []
        if not self.wanted or not (assignments or news):
            return
        with contextlib.suppress(OSError):
            self._socket.connected().send("\n".join([*assignments, *news]).encode(), socket.MSG_DONTWAIT)
            self._status = status or self._status

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def notice_socket() -> str:
    """Where the service manager listens, empty where nobody does."""
    return os.environ.get("NOTIFY_SOCKET", "")


class StatusLine:
    """Says how the site stands, in a line of `systemctl status`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._counted: tuple[Licenses | None, int] = (None, 0)
        """The licenses that were counted last, and how many they are: to go through ten thousand takes milliseconds."""

    def __str__(self) -> str:
        """The line as it is now."""
        enforcer = self._site.enforcer
        standing = f"{enforcer.standing}, Feature Key {enforcer.feature_key.state}"
        if enforcer.feature_key.simulated:
            standing = f"SIMULATED, {standing}"
        graces = "".join(f"; {it.cause}: {_duration(it.seconds_left)} left" for it in enforcer.grace)
        decided = f"{self._site.granted} granted, {self._site.denied} denied"
        return f"{standing}{graces}; {self._licenses()} licenses, {len(enforcer.ledger)} leases, {decided}"

    def _licenses(self) -> int:
        licenses = self._site.enforcer.licenses
        if licenses is not self._counted[0]:
            self._counted = licenses, len(licenses.keys())
        return self._counted[1]


def _duration(seconds: int) -> str:
    """Time left as accurate as a status line needs it, so that it is not news every time."""
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 72 * 60 else f"{minutes // 1440} days"
