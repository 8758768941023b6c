"""The path of the socket is looked at: one that is removed, replaced or closed to others is told, and its return."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekeyd.daemon import socketwatch
from featurekeyd.daemon.listener import bound_socket
from featurekeyd.daemon.socketwatch import SocketWatch
from featurekeyd.policy.events import Event, EventName


class Watched:
    """A socket that is looked at, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sock"
        self.listening = bound_socket(self.path)
        self.loop = asyncio.new_event_loop()
        self.told: list[Event] = []
        self.news = asyncio.Event()
        self.watch = SocketWatch(self.listening, self.loop, self._hear)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        self.news.set()

    def look(self) -> list[EventName]:
        """What is told at one more look."""
        self.told.clear()
        self.watch.look()
        return [event.name for event in self.told]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    it = Watched(tmp_path)
    yield it
    it.watch.close()
    it.listening.close()
    it.loop.close()


def test_a_socket_in_order_is_no_news(watched: Watched) -> None:
    assert watched.look() == []


def test_a_mode_that_keeps_others_out_is_told_once_and_its_end(watched: Watched) -> None:
    watched.path.chmod(0o600)
    assert watched.look() == [EventName.SOCKET_TROUBLE]
    assert "mode 0600" in watched.told[0].message
    assert watched.told[0].fields == {"PATH": str(watched.path)}
    assert watched.look() == []
    watched.path.chmod(0o666)
    assert watched.look() == [EventName.SOCKET_RIGHT]


def test_a_socket_that_was_removed_or_replaced_is_told(watched: Watched, tmp_path: Path) -> None:
    kept = watched.path.rename(tmp_path / "kept")
    assert watched.look() == [EventName.SOCKET_TROUBLE]
    assert "somebody removed it" in watched.told[0].message
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(watched.path))
        assert watched.look() == [EventName.SOCKET_TROUBLE]
        assert "another file" in watched.told[0].message
    kept.rename(watched.path)
    assert watched.look() == [EventName.SOCKET_RIGHT]


def test_it_goes_on_looking_until_it_is_closed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socketwatch, "LOOK_SECONDS", 0.001)

    async def until_told() -> None:
        watched.watch.start()
        watched.path.chmod(0o600)
        await watched.news.wait()

    watched.loop.run_until_complete(asyncio.wait_for(until_told(), 20))
    assert watched.told[0].name is EventName.SOCKET_TROUBLE
