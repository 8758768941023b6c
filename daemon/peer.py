"""Who is at the other end of a Unix socket, by the kernel's word, and what that user may do.

The groups come from SO_PEERGROUPS (socket(7)): the primary group of SO_PEERCRED alone leaves out every group that
`usermod -aG` gave. Nothing here asks a name service: names were turned into numbers when the settings were read.
"""

from __future__ import annotations

import socket
import struct
from typing import Protocol

import msgspec

SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("iII")
_GROUP_BYTES = 1024
"""The most that Python's getsockopt takes: 256 groups. A user in more is judged by the primary group."""


class Options(Protocol):
    """The part of a socket that is needed here; uvloop's stand-in for a socket has it too."""

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        """As socket.getsockopt with a buffer."""
        ...


class Peer(msgspec.Struct, frozen=True):
    """User, groups and process of a client, as they were when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The users and groups that may ask, and those that may manage; root may do both."""

    ask_users: frozenset[int] = frozenset()
    ask_groups: frozenset[int] = frozenset()
    manage_users: frozenset[int] = frozenset()
    manage_groups: frozenset[int] = frozenset()

    def may_manage(self, peer: Peer) -> bool:
        """Whether the peer may call io.featurekey.Manage."""
        return peer.uid in self.manage_users or peer.uid == 0 or not self.manage_groups.isdisjoint(peer.groups)

    def may_ask(self, peer: Peer) -> bool:
        """Whether the peer may call io.featurekey.License; who may manage may ask too."""
        allowed = peer.uid in self.ask_users or not self.ask_groups.isdisjoint(peer.groups)
        return allowed or self.may_manage(peer)


def read_peer(connection: Options) -> Peer:
    """The peer of a connected Unix socket."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid, _groups(connection) | {gid})


def _groups(connection: Options) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUP_BYTES)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))
