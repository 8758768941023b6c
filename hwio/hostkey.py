"""The host itself as a Feature Key, for catalogs that are sold without hardware.

Rules of this module:

* The lowest assurance: whoever is root on a host can copy what it says of itself.
* The hardware id is a digest over the digests of all components that were readable in this look. So it is another one
  as soon as a network card comes or a serial may not be read any more, and `check` says what changed. Whether it is the
  same host all the same, k of n, is decided elsewhere: who has kept the digests of the components of the first look can
  prove that they make the first id, which is the one on the certificate.
* A daemon without root reads less than root does; `detail` names what went in and what did not.
* Containers are refused: they show the host's hardware and a network of their own, and are copied with one command.

Source: facts/hardware.md section 8.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from .featurekey import Absent, Assurance, Kind, Reading, Unsupported, no_secret
from .hostidentity import HostIdentity, read_host_identity
from .hostnics import USB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .hostprobes import Probes

Components = dict[str, tuple[str, ...]]
"""Name of a component to its values; only the network addresses may have several."""

_COMPONENT_LABEL = "featurekeyd host component 1"
_HARDWARE_LABEL = "featurekeyd host 2"
_SERIALS = ("product-uuid", "product-serial", "board-serial", "device-tree-serial", "cpu-serial")
_OTHERS = ("machine-id", "cpu-model")
_ADDRESSES = "permanent-addresses"

COMPONENTS = (*_SERIALS, *_OTHERS, _ADDRESSES)
"""The names of all components of a hardware id."""


def strong_components(identity: HostIdentity) -> Components:
    """What of an identity goes into the hardware id: name to values, without what is missing."""
    found = {name: identity.component(name).value for name in (*_SERIALS, *_OTHERS)}
    components: Components = {name: (value,) for name, value in found.items() if value}
    if identity.permanent_addresses:
        components[_ADDRESSES] = identity.permanent_addresses
    return components


def component_digests(components: Mapping[str, tuple[str, ...]]) -> Components:
    """The same with a digest in place of each value, 64 hexadecimal digits, sorted: what may be stored.

    SHA-256 over label, name and value, each with its length in 4 bytes before.
    """
    return {
        name: tuple(sorted(_digest(_COMPONENT_LABEL, name, value) for value in values))
        for name, values in components.items()
    }


def hardware_id(components: Mapping[str, tuple[str, ...]]) -> str:
    """64 hexadecimal digits: SHA-256 over label, and by name each component's name, count (4 bytes) and digests.

    Each part has its length in 4 bytes before.
    """
    parts: list[str | bytes] = [_HARDWARE_LABEL]
    for name, digests in sorted(component_digests(components).items()):
        parts += [name, len(digests).to_bytes(4, "big"), *digests]
    return _digest(*parts)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


class HostKey:
    """The host as a Feature Key; fulfills FeatureKey."""

    def __init__(self, root: Path, probes: Probes | None, identity: HostIdentity) -> None:
        self._root = root
        self._probes = probes
        self._name = f"host:{root}" if identity.simulated else "host"
        self._components = strong_components(identity)
        self.identity = identity
        """What was found when the key was opened."""
        self.reading = Reading(
            kind=Kind.HOST,
            hardware_id=hardware_id(self._components),
            assurance=Assurance.A0,
            reader=self._name,
            simulated=identity.simulated,
            detail=_detail(identity, self._components),
        )

    @classmethod
    def open(cls, root: Path = Path("/"), *, probes: Probes | None = None) -> HostKey:
        """Read the host whose root is `root`, with the host's own probes unless given.

        Raises Unsupported in a container, and where neither a serial nor a permanent address can be read.
        """
        key = cls(root, probes, read_host_identity(root, probes=probes))
        key._refuse_container(key.identity)
        if not key._components.keys() & {*_SERIALS, _ADDRESSES}:
            what = f"this host has neither a serial nor a permanent network address ({key.reading.detail})"
            raise Unsupported(key._name, what, cure="let the daemon read the board serial, or use a USB key or SD card")
        return key

    def check(self) -> None:
        """Read the host again; raises Absent with what changed, Unsupported when it became a container."""
        identity = read_host_identity(self._root, probes=self._probes)
        self._refuse_container(identity)
        now = strong_components(identity)
        if now != self._components:
            changes = ", ".join(_changes(self._components, now, identity))
            raise Absent(self._name, f"the host changed: {changes}", cure="undo the change or enroll the host again")

    def prove(self, challenge: bytes) -> bytes:
        """Raise Unsupported: a host holds no secret that it could not be asked to give away."""
        raise no_secret(self._name, "a host", challenge, cure="use a USB key where answers are wanted")

    def close(self) -> None:
        """Nothing is held open."""

    def _refuse_container(self, identity: HostIdentity) -> None:
        if identity.container:
            what = f"a container cannot be a Feature Key: {identity.container}"
            raise Unsupported(self._name, what, cure="run on the host, or use a USB key or SD card")


def _detail(identity: HostIdentity, components: Components) -> str:
    missing = [_missing(identity, name) for name in (*_SERIALS, *_OTHERS, _ADDRESSES) if name not in components]
    left_out = [f"{nic.name} ({nic.skipped})" for nic in identity.nics if nic.bus == USB]
    return (
        f"with {', '.join(components) or 'nothing'}"
        + (f"; without {', '.join(missing)}" if missing else "")
        + (f"; left out {', '.join(left_out)}" if left_out else "")
    )


def _missing(identity: HostIdentity, name: str) -> str:
    if name == _ADDRESSES:
        return f"{name} ({len(identity.nics)} interfaces, none counts)"
    return f"{name} ({identity.component(name).missing})"


def _changes(before: Components, now: Components, identity: HostIdentity) -> list[str]:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [_change(name, before, now, identity) for name in changed]


def _change(name: str, before: Components, now: Components, identity: HostIdentity) -> str:
    if name == _ADDRESSES:
        old, new = set(before.get(name, ())), set(now.get(name, ()))
        gone = [f"{address} gone" for address in sorted(old - new)]
        return f"{name} ({', '.join([*gone, *(f'{address} new' for address in sorted(new - old))])})"
    if name not in now:
        return f"{_missing(identity, name)} now"
    return f"{name} is {'another' if name in before else 'new'}"
