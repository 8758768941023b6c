"""The host itself as a Feature Key, for catalogs that are sold without hardware.

Rules of this module:

* The lowest assurance: whoever is root on a host can copy what it says of itself.
* The digest covers what was readable. A daemon without root reads less than root does, so a host is enrolled by the
  same user that checks it later; `detail` names what went in and what did not.
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

_LABEL = "featurekeyd host 1"
_SERIALS = ("product-uuid", "product-serial", "board-serial", "device-tree-serial", "cpu-serial")
_OTHERS = ("machine-id", "cpu-model")
_ADDRESSES = "permanent-addresses"


def strong_components(identity: HostIdentity) -> Components:
    """What of an identity goes into the hardware id: name to values, without what is missing, in a fixed order."""
    found = {name: identity.component(name).value for name in (*_SERIALS, *_OTHERS)}
    components: Components = {name: (value,) for name, value in found.items() if value}
    if identity.permanent_addresses:
        components[_ADDRESSES] = identity.permanent_addresses
    return components


def hardware_id(components: Mapping[str, tuple[str, ...]]) -> str:
    """64 hexadecimal digits: SHA-256 over label, names and values, each with its length or count in 4 bytes before."""
    digest = hashlib.sha256()
    digest.update(_prefixed(_LABEL))
    for name, values in components.items():
        digest.update(_prefixed(name) + len(values).to_bytes(4, "big"))
        digest.update(b"".join(map(_prefixed, values)))
    return digest.hexdigest()


def _prefixed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


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
