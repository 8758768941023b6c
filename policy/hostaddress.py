"""The IP addresses that licenses are bound to, and the announcement of a change of them.

Rules of this module:

* Bound are the IPv4 addresses of the primary interface, those that the settings list as floating excepted (they move
  between hosts), and the IPv6 addresses that the settings list.
* The host keeps its address while any interface has one of those that are bound: a VPN that takes the default route
  and an address that is added change nothing. An interface with nothing behind it (loopback, dummy) keeps none: what it
  has says nothing about where the host is.
* An interface without any address, or a host without a default route, tells nothing.
* A new address is adopted only while an announcement of it is good: 24 hours of the boot clock, which nobody sets, and
  over a reboot by the date that is believed then.

Source: facts/catalog.md section 13; DESIGN, Time.
"""

from __future__ import annotations

import enum
import ipaddress

import msgspec

from .hostevidence import Evidence, HostRefused
from .instant import Now
from .timekeeping import TOLERANCE_SECONDS

ANNOUNCED_SECONDS = 86_400.0
"""How long an announced address may take to appear: a change that is put off to the next night is in time."""

LOOPBACK = "lo"
"""The interface that every host has and nobody reaches."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class SiteAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings of the site say about addresses."""

    floating: frozenset[str] = frozenset()
    """Addresses that move between hosts, and bind none."""
    listed: frozenset[str] = frozenset()
    """IPv6 addresses that are bound."""


class AddressState(enum.StrEnum):
    """How the addresses stand to those that are bound."""

    KEPT = "kept"
    CHANGED = "changed"
    UNBOUND = "unbound"
    """None was bound yet: the first that appears will be."""
    CANNOT_TELL = "cannot_tell"


class AddressScore(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of a host held against those that are bound."""

    state: AddressState
    bound: tuple[str, ...]
    now: tuple[str, ...]
    """What the primary interface has that could be bound."""
    why: str


class Announcement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A technician's word that the host will have another address, for the daemon to store."""

    address: str
    wall: float
    """The date that was believed at the announcement, seconds since 1970-01-01 UTC."""
    boot: float
    """Boot clock at the announcement."""
    boot_id: str


def read_address(text: str) -> str | None:
    """An IP address in its usual form, None for anything else."""
    address = _parsed(text)
    return None if address is None else str(address)


def bound_addresses(evidence: Evidence, site: SiteAddresses) -> tuple[str, ...]:
    """The addresses of the primary interface that are to be bound, sorted; none without a default route."""
    primary = evidence.primary
    if primary is None:
        return ()
    mine = (it.address for it in evidence.addresses if it.interface == primary.name)
    return tuple(sorted(text for text in map(read_address, mine) if text is not None and _is_bound(text, site)))


def compare_addresses(bound: tuple[str, ...], evidence: Evidence, site: SiteAddresses) -> AddressScore:
    """Score the addresses."""
    now = bound_addresses(evidence, site)
    state, why = _judged(_still_bound(bound, site), now, evidence)
    return AddressScore(state=state, bound=bound, now=now, why=why)


def announce(
    text: str, bound: tuple[str, ...], site: SiteAddresses, now: Now, boot_id: str
) -> Announcement | HostRefused:
    """Take note that the host will have that address; who may say so was asked before.

    `now` has the date that is believed.
    """
    address = read_address(text)
    if address is None:
        return HostRefused(f"{text[:64]!r} is no IP address.", "Give one such as 192.0.2.10.")
    if address in bound:
        return HostRefused(f"{address} is bound already.", "Nothing is to be done.")
    if address in site.floating:
        why = f"{address} is floating in the settings, so it binds nothing."
        return HostRefused(why, "Nothing is to be done; or take it off [host] floating.")
    if not _is_bound(address, site):
        why = f"{address} is never bound: it is a local one, or an IPv6 address that the settings do not list."
        return HostRefused(why, "Announce the IPv4 address of the primary interface.")
    return Announcement(address=address, wall=now.wall, boot=now.boot, boot_id=boot_id)


def seconds_left(announcement: Announcement, now: Now, boot_id: str) -> float:
    """How long an announcement is good still; 0 when it is not. `now` has the date that is believed (`Trust.dated`).

    After a reboot the boot clock says only how long this boot has lasted. One that was made at a date that has not come
    yet was made by a wrong clock, and nobody knows how long ago.
    """
    if boot_id == announcement.boot_id:
        passed = now.boot - announcement.boot
    elif now.wall < announcement.wall - TOLERANCE_SECONDS:
        return 0.0
    else:
        passed = max(now.boot, now.wall - announcement.wall)
    return max(ANNOUNCED_SECONDS - max(passed, 0.0), 0.0)


def adopted(bound: tuple[str, ...], score: AddressScore, announcement: Announcement | None) -> tuple[str, ...] | None:
    """The addresses that are bound from now on, None where it stays as it was; the announcement is good still.

    Those that are gone make way for the announced one; those that are still there stay beside it.
    """
    if not bound:
        return score.now or None
    if announcement is None or announcement.address not in score.now:
        return None
    return tuple(sorted({announcement.address, *(it for it in bound if it in score.now)}))


def _judged(bound: tuple[str, ...], now: tuple[str, ...], evidence: Evidence) -> tuple[AddressState, str]:
    if not bound:
        return AddressState.UNBOUND, "No address was bound yet."
    detached = {nic.name for nic in evidence.nics if nic.detached and not nic.primary} | {LOOPBACK}
    anywhere = {read_address(it.address) for it in evidence.addresses if it.interface not in detached}
    if kept := [it for it in bound if it in anywhere]:
        return AddressState.KEPT, f"{', '.join(kept)} is there."
    gone = ", ".join(bound)
    if evidence.primary is None:
        return AddressState.CANNOT_TELL, f"{gone} is not there, and there is no default route."
    if not now:
        why = f"{gone} is not there, and the primary interface {evidence.primary.name} has no address."
        return AddressState.CANNOT_TELL, why
    return AddressState.CHANGED, f"{gone} is gone; {', '.join(now)} was not announced."


def _still_bound(bound: tuple[str, ...], site: SiteAddresses) -> tuple[str, ...]:
    """Without those that the settings have called floating since."""
    return tuple(it for it in bound if it not in site.floating)


def _is_bound(text: str, site: SiteAddresses) -> bool:
    address = _parsed(text)
    if address is None or text in site.floating:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return text in site.listed
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def _parsed(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
