"""What a host shows of itself, as policy is told it: components, network interfaces, addresses.

Rules of this module:

* Evidence is what one look found. Why something has no value is part of it: "not allowed to read it" and "it is not
  there" lead to different conclusions (see `hostbinding`).
* The names are those of the reader, hwio's HostIdentity, which fits in as it is: `evidence_of`.

Source: facts/hardware.md section 8.
"""

from __future__ import annotations

import hashlib

import msgspec

from .catalog import HOST_COMPONENTS, PERMANENT_ADDRESSES
from .encoding import length_prefixed

UNREADABLE = frozenset({"no permission", "unreadable"})
"""Reasons that say nothing about the host: its component is there for others to read, or the device failed."""

GONE = "gone"
"""Why a component is missing that was only supposed away."""

_COMPONENT_LABEL = b"featurekeyd host component 1"
_HARDWARE_LABEL = b"featurekeyd host 2"

Digests = dict[str, tuple[str, ...]]
"""Name of a component to the digests of its values, sorted; only the permanent addresses may have several."""


class HostRefused(msgspec.Struct, frozen=True):
    """Something about the host is not done: why, and what a technician does about it."""

    why: str
    remedy: str


class HostComponent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may tell hosts apart, or why it has no value."""

    name: str
    value: str = ""
    missing: str | None = None


class HostNic(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface."""

    name: str
    permanent: str = ""
    """The permanent hardware address, empty when there is none."""
    primary: bool = False
    """True for the interface of the default route."""
    skipped: str = ""
    """Why its address does not count (virtual, on USB, ...), empty when it does."""
    detached: bool = False
    """True where nothing is behind it (loopback, dummy), so that its IP addresses say nothing."""


class HostAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One IP address."""

    interface: str
    family: str
    """`ipv4` or `ipv6`."""
    address: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the host found."""

    components: tuple[HostComponent, ...]
    nics: tuple[HostNic, ...] = ()
    addresses: tuple[HostAddress, ...] = ()
    simulated: bool = False
    container: str = ""
    """What says that this is a container, empty when nothing does."""

    @property
    def primary(self) -> HostNic | None:
        """The interface of the default route, None without one."""
        return next((nic for nic in self.nics if nic.primary), None)

    def values(self, name: str) -> tuple[str, ...]:
        """The values of a component, in an order that does not depend on how they were found."""
        if name == PERMANENT_ADDRESSES:
            return tuple(sorted({nic.permanent for nic in self.nics if not nic.skipped}))
        return tuple(it.value for it in self.components if it.name == name and it.missing is None)

    def missing(self, name: str) -> str | None:
        """Why a component has no value, None where it has one."""
        if self.values(name):
            return None
        if name == PERMANENT_ADDRESSES:
            # Every host has a loopback interface: none at all means that nobody could look.
            return "absent" if self.nics else "unreadable"
        return next((it.missing for it in self.components if it.name == name), "unreadable")


def evidence_of(identity: object) -> Evidence:
    """The evidence in anything with its attributes, such as hwio's HostIdentity; raises msgspec.ValidationError."""
    return msgspec.convert(identity, Evidence, from_attributes=True)


def digests_of(evidence: Evidence) -> Digests:
    """The digests of all components that have a value; the values themselves are never stored."""
    found = {name: evidence.values(name) for name in sorted(HOST_COMPONENTS)}
    return {
        name: tuple(sorted(component_digest(name, it) for it in values)) for name, values in found.items() if values
    }


def _digests(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(component_digest(name, it) for it in values))


def component_digest(name: str, value: str) -> str:
    """64 hexadecimal digits: SHA-256 over label, name and value, each behind its length."""
    return hashlib.sha256(length_prefixed(_COMPONENT_LABEL, name.encode(), value.encode())).hexdigest()


def hardware_id_of(digests: Digests) -> str:
    """The hardware id of a host with these components; the reader of the kind `host` works it out in the same way."""
    parts = [_HARDWARE_LABEL]
    for name in sorted(digests):
        parts += [name.encode(), len(digests[name]).to_bytes(4, "big"), *map(str.encode, sorted(digests[name]))]
    return hashlib.sha256(length_prefixed(*parts)).hexdigest()


def without(evidence: Evidence, what: str) -> Evidence | HostRefused:
    """The evidence as it would be were a component gone, or a network interface by name or permanent address."""
    names = {nic.name for nic in evidence.nics if what in {nic.name, nic.permanent}}
    if what == PERMANENT_ADDRESSES:
        names = {nic.name for nic in evidence.nics if not nic.skipped}
    known = {it.name for it in evidence.components}
    if not names and what not in known:
        there = ", ".join([*sorted(known), *sorted(nic.name for nic in evidence.nics)])
        return HostRefused(f"This host has no component and no network interface {what!r}.", f"There are: {there}.")
    return msgspec.structs.replace(
        evidence,
        components=tuple(_gone(it) if it.name == what else it for it in evidence.components),
        nics=tuple(nic for nic in evidence.nics if nic.name not in names),
        addresses=tuple(it for it in evidence.addresses if it.interface not in names),
    )


def _gone(component: HostComponent) -> HostComponent:
    return HostComponent(name=component.name, missing=component.missing or GONE)
