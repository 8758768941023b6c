"""Who connects: accepted in bounded batches, and waited with while the system has no descriptors left."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import limits
from featurekeyd.daemon.listener import Accepting, listening_socket

if TYPE_CHECKING:
    from tests.daemon.conftest import House, Loop


class Scarce(socket.socket):
    """A listening socket of a process that may have no more descriptors while `scarce` is set."""

    scarce: int | None = None
    asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        type(self).asked += 1
        if self.scarce is not None:
            raise OSError(self.scarce, os.strerror(self.scarce))
        return super().accept()


class Door:
    """A listening socket, who came through it, and who knocks."""

    def __init__(self, path: Path, loop: Loop) -> None:
        self.loop = loop
        self.path = path
        bound = listening_socket(path)
        Scarce.asked = 0
        self.listening = Scarce(fileno=bound.detach())
        self.came: list[socket.socket] = []
        self.refusals: list[int | None] = []
        self.knocking: list[socket.socket] = []
        self.accepting = Accepting(
            self.listening, loop, self.came.append, lambda error: self.refusals.append(error.errno)
        )

    def knock(self, times: int) -> None:
        for _ in range(times):
            self.knocking.append(socket.socket(socket.AF_UNIX))
            self.knocking[-1].connect(str(self.path))

    def close(self) -> None:
        self.accepting.close()
        for each in (*self.came, *self.knocking, self.listening):
            each.close()


@pytest.fixture
def door(house: House, tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path / "door", house.loop)
    yield opened
    opened.close()


def test_all_who_connect_are_accepted_so_many_at_once(door: Door) -> None:
    door.knock(2 * limits.ACCEPTED_AT_ONCE + 1)
    door.loop.turn()
    assert len(door.came) == limits.ACCEPTED_AT_ONCE
    door.loop.turn(2)
    assert len(door.came) == 2 * limits.ACCEPTED_AT_ONCE + 1


def test_nobody_there_costs_nothing(door: Door) -> None:
    door.loop.turn(10)
    assert Scarce.asked == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_want_of_descriptors_is_told_once_and_tried_again_after_the_pause(number: int, door: Door) -> None:
    door.listening.scarce = number
    door.knock(3)
    door.loop.turn(50)
    assert door.refusals == [number]
    assert Scarce.asked == 1, "asking all the time frees no descriptor"
    door.loop.later(limits.ACCEPT_AGAIN_SECONDS - 0.1)
    assert Scarce.asked == 1
    door.loop.later(0.2)
    assert Scarce.asked == 2
    door.listening.scarce = None
    door.loop.later(limits.ACCEPT_AGAIN_SECONDS)
    door.loop.turn()
    assert len(door.came) == 3, "who waited meanwhile is served"
    assert door.loop.timers == 0


def test_a_client_that_left_before_it_was_accepted_is_no_trouble(door: Door) -> None:
    door.knock(1)
    door.knocking.pop().close()
    door.listening.scarce = errno.ECONNABORTED
    door.loop.turn(2)
    door.listening.scarce = None
    door.knock(1)
    door.loop.turn(2)
    assert (len(door.came), door.refusals) == (2, [])


def test_closing_in_the_pause_leaves_no_timer(door: Door) -> None:
    door.listening.scarce = errno.EMFILE
    door.knock(1)
    door.loop.turn(2)
    door.accepting.close()
    assert door.loop.timers == 0
    door.listening.scarce = None
    door.loop.later(2 * limits.ACCEPT_AGAIN_SECONDS)
    assert door.came == []


def test_closing_ends_accepting_and_leaves_the_socket_open(door: Door) -> None:
    door.accepting.close()
    door.knock(1)
    door.loop.turn(3)
    assert (door.came, door.listening.fileno() >= 0) == ([], True)


def test_the_log_is_told_of_it_once_a_minute(house: House) -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for _ in range(59):
        house.server.cannot_accept(error)
        house.clock.run(limits.ACCEPT_AGAIN_SECONDS)
    assert len(house.log.events) == 1
    assert "Too many open files" in house.log.events[0].message
    house.clock.run(1)
    house.server.cannot_accept(error)
    assert len(house.log.events) == 2
