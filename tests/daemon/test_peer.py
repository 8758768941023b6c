"""Who is at the other end: by the kernel's word over a real socket, and what such a user may do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.peer import SO_PEERGROUPS, Access, Peer, read_peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.daemon.conftest import Credentials, House

DEADLINE = 20
CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connecting:
    connecting.connect(bytes.fromhex(sys.argv[1]))
    connecting.recv(1)
"""
ACCESS = Access(
    ask_users=frozenset({10}),
    ask_groups=frozenset({100}),
    manage_users=frozenset({20}),
    manage_groups=frozenset({200}),
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_kernel_says_who_it_is(pair: tuple[socket.socket, socket.socket]) -> None:
    assert read_peer(pair[0]) == Peer(os.getpid(), os.getuid(), frozenset({os.getgid(), *os.getgroups()}))


def test_supplementary_groups_are_the_ones_at_the_time_of_connecting() -> None:
    """A child that took other groups and another user before it connected is known by those."""
    if os.getuid() != 0:
        pytest.skip("only root may take other groups")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # a free abstract name, which asks for no permission on a path
        listening.listen()
        name = listening.getsockname()
        # The interpreter behind the environment's link: the environment may be in a folder that is closed to others.
        command = [os.path.realpath(sys.executable), "-I", "-S", "-c", CONNECT, name.hex()]
        child = subprocess.Popen(command, user=4004, group=4003, extra_groups=[4001, 4002], cwd="/")
        listening.settimeout(DEADLINE)
        accepted, _ = listening.accept()
        with accepted:
            peer = read_peer(accepted)
        assert child.wait(DEADLINE) == 0
    assert peer == Peer(child.pid, 4004, frozenset({4001, 4002, 4003}))


class Refusing:
    """A peer in more groups than fit: the kernel says ERANGE."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        if name == SO_PEERGROUPS:
            raise OSError(34, "Numerical result out of range")
        return self._credentials.getsockopt(level, name, size)


def test_a_user_in_too_many_groups_is_judged_by_the_primary_one(house: House) -> None:
    credentials = house.credentials(10)
    assert read_peer(Refusing(credentials)) == Peer(99, 10, frozenset({7}))


def test_numbers_of_users_and_groups_have_32_bits(house: House) -> None:
    most = 2**32 - 2
    assert read_peer(house.credentials(most, most, gid=most)) == Peer(99, most, frozenset({most}))


@pytest.mark.parametrize(
    ("uid", "groups", "asks", "manages"),
    [
        (0, (), True, True),
        (10, (), True, False),
        (11, (100,), True, False),
        (11, (1, 2, 100), True, False),
        (20, (), True, True),
        (21, (200,), True, True),
        (11, (), False, False),
        (100, (10, 20), False, False),
        (200, (0,), False, False),
        (2**32 - 1, (), False, False),
    ],
)
def test_users_and_groups_of_the_settings_decide(uid: int, groups: tuple[int, ...], asks: bool, manages: bool) -> None:
    peer = Peer(1, uid, frozenset(groups))
    assert (ACCESS.may_ask(peer), ACCESS.may_manage(peer)) == (asks, manages)


def test_where_nobody_is_named_only_root_may() -> None:
    assert Access().may_manage(Peer(1, 0, frozenset()))
    assert not Access().may_ask(Peer(1, 1, frozenset({0, 1})))
