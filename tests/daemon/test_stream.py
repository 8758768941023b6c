"""One stream over a real socket: what is read and sent when, and that nothing of it is left when it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon import limits
from featurekeyd.daemon.connection import Connection
from featurekeyd.daemon.stream import READ_BYTES, Stream
from featurekeyd.daemon.turns import Turns
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House

MUCH = 8 * 1024 * 1024
"""Bytes that no socket's buffer takes at once."""


class Listener(asyncio.Protocol):
    """A protocol that notes what it is told, and may do something then."""

    def __init__(self) -> None:
        self.acts: list[str] = []
        self.got = b""
        self.lost: list[Exception | None] = []
        self.stays_open = False
        """What it answers to the end of the client's side."""
        self.on_data: Callable[[], None] = lambda: None
        self.on_resume: Callable[[], None] = lambda: None

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        self.acts.append("made")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.on_data()

    def eof_received(self) -> bool:
        self.acts.append("eof")
        return self.stays_open

    def pause_writing(self) -> None:
        self.acts.append("pause")

    def resume_writing(self) -> None:
        self.acts.append("resume")
        self.on_resume()

    def connection_lost(self, error: Exception | None) -> None:
        self.acts.append("lost")
        self.lost.append(error)


class Ends:
    """Both ends of a connection: the stream, and the client's socket."""

    def __init__(self, loop: Any, turns: Turns) -> None:
        self.loop = loop
        self.turns = turns
        self.client, theirs = socket.socketpair()
        self.client.setblocking(False)
        self.number = theirs.fileno()
        self.protocol = Listener()
        self.stream = Stream(turns, theirs, self.protocol)
        self.stream.set_write_buffer_limits(high=1000)

    def sees(self) -> bytes:
        """All that the client has been sent and has not read; the stream goes on meanwhile."""
        got = b""
        for _ in range(10_000):
            self.loop.turn()
            try:
                more = self.client.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):  # reset: what the daemon had not read when it closed
                return got
            if not more:
                return got
            got += more
        raise AssertionError("it never ends")

    def ended(self) -> bool:
        """Whether the daemon's end is closed and forgotten."""
        forgotten = self.number not in self.turns._streams
        return forgotten and self.stream._socket.fileno() == -1 and self.protocol.acts.count("lost") == 1

    def turns_made(self, times: int = 10) -> int:
        """How many turns are served in so many rounds of the loop."""
        made = 0
        settle = self.turns._settle

        def count() -> None:
            nonlocal made
            made += 1
            settle()

        self.turns._settle = count
        self.loop.turn(times)
        self.turns._settle = settle
        return made


@pytest.fixture
def turns(house: House) -> Turns:
    return house.server.turns


@pytest.fixture
def ends(house: House, turns: Turns) -> Iterator[Ends]:
    opened = Ends(house.loop, turns)
    yield opened
    opened.client.close()
    opened.stream.abort()
    opened.loop.turn(2)
    assert opened.ended()
    assert turns._shares == {}


# Reading


def test_what_comes_is_handed_over_in_a_turn(ends: Ends, turns: Turns) -> None:
    running: list[bool] = []
    ends.protocol.on_data = lambda: running.append(turns.running)
    ends.client.send(b"some")
    ends.loop.turn()
    assert (ends.protocol.got, running) == (b"some", [True])


def test_so_much_is_read_at_once_and_the_rest_in_later_turns(ends: Ends) -> None:
    sent = ends.client.send(bytes(3 * READ_BYTES))
    ends.loop.turn()
    assert len(ends.protocol.got) == min(sent, READ_BYTES)
    ends.loop.turn(5)
    assert len(ends.protocol.got) == sent


def test_a_paused_stream_is_read_only_when_it_is_resumed(ends: Ends) -> None:
    ends.stream.pause_reading()
    assert not ends.stream.is_reading()
    ends.client.send(b"some")
    ends.loop.turn(3)
    assert ends.protocol.got == b""
    ends.stream.resume_reading()
    ends.loop.turn()
    assert ends.protocol.got == b"some"


def test_a_stream_that_is_paused_in_the_turn_its_data_came_in_reads_it_later(ends: Ends, turns: Turns) -> None:
    ends.client.send(b"some")
    turns.queue(turns.join(os.getuid()), ends.stream.pause_reading)
    ends.loop.turn(2)
    assert ends.protocol.got == b""
    ends.stream.resume_reading()
    ends.loop.turn()
    assert ends.protocol.got == b"some"
    turns.leave(turns.join(os.getuid()))
    turns.leave(ends.stream._share)


def test_a_client_that_is_paused_and_hangs_up_costs_no_turns_and_is_noticed_when_it_is_read(ends: Ends) -> None:
    ends.stream.pause_reading()
    ends.client.close()
    assert ends.turns_made() == 0
    ends.stream.resume_reading()
    ends.loop.turn(3)
    assert ends.ended()


def test_a_silent_client_costs_no_turns(ends: Ends) -> None:
    ends.loop.turn(2)
    assert ends.turns_made() == 0


# Sending


def test_a_short_answer_leaves_at_once(ends: Ends) -> None:
    ends.stream.write(b"answer")
    assert ends.client.recv(100) == b"answer"
    assert ends.stream.get_write_buffer_size() == 0


def test_a_long_answer_leaves_in_parts_as_the_client_reads_and_in_order(ends: Ends) -> None:
    long = os.urandom(MUCH)
    ends.stream.write(long)
    ends.stream.write(b"next")
    assert 0 < ends.stream.get_write_buffer_size() < MUCH
    assert ends.protocol.acts == ["made", "pause"]
    assert ends.sees() == long + b"next"
    assert ends.protocol.acts == ["made", "pause", "resume"]
    assert ends.turns_made() == 0, "an empty socket is ready for sending all the time"


def test_the_protocol_is_told_once_of_a_client_that_does_not_read(ends: Ends) -> None:
    for _ in range(5):
        ends.stream.write(bytes(MUCH))
    ends.loop.turn(3)
    assert ends.protocol.acts == ["made", "pause"]
    assert ends.turns_made() == 0, "a full socket is ready for nothing"


def test_a_client_that_goes_on_reading_may_be_sent_more_at_once(ends: Ends) -> None:
    ends.protocol.on_resume = lambda: ends.stream.write(b"more")
    ends.stream.write(bytes(MUCH))
    assert ends.sees() == bytes(MUCH) + b"more"


def test_calls_are_taken_while_a_long_answer_waits(ends: Ends) -> None:
    ends.stream.write(bytes(MUCH))
    ends.client.send(b"call")
    ends.loop.turn()
    assert ends.protocol.got == b"call"


# Ends


def test_a_client_that_ends_its_side_still_gets_its_answers(ends: Ends) -> None:
    ends.protocol.stays_open = True
    ends.client.send(b"call")
    ends.client.shutdown(socket.SHUT_WR)
    ends.loop.turn(3)
    assert (ends.protocol.got, ends.protocol.acts) == (b"call", ["made", "eof"])
    assert ends.turns_made() == 0, "a socket at its end is ready for reading all the time"
    ends.stream.write(bytes(MUCH))
    ends.stream.close()
    assert len(ends.sees()) == MUCH
    ends.loop.turn(2)
    assert (ends.protocol.lost, ends.ended()) == ([None], True)


def test_a_client_with_nothing_open_is_closed_when_it_ends_its_side(ends: Ends) -> None:
    ends.client.shutdown(socket.SHUT_WR)
    ends.loop.turn(3)
    assert ends.protocol.acts == ["made", "eof", "lost"]
    assert ends.client.recv(10) == b""


def test_closing_sends_what_waits_and_reads_no_more(ends: Ends) -> None:
    ends.stream.write(bytes(MUCH))
    ends.stream.close()
    ends.stream.close()
    ends.client.send(b"late")
    ends.stream.write(b"not sent")
    assert ends.sees() == bytes(MUCH)
    ends.loop.turn(2)
    assert (ends.protocol.got, ends.protocol.lost) == (b"", [None])


def test_aborting_drops_what_waits_and_tells_once(ends: Ends) -> None:
    ends.stream.write(bytes(MUCH))
    ends.stream.abort()
    ends.stream.abort()
    assert ends.stream.get_write_buffer_size() == 0
    assert "lost" not in ends.protocol.acts, "not within what the protocol itself does"
    ends.loop.turn(2)
    assert (ends.protocol.lost, ends.ended()) == ([None], True)
    ends.stream.write(b"not sent")
    ends.stream.close()
    ends.loop.turn(2)
    assert len(ends.protocol.lost) == 1


def test_aborting_in_a_turn_leaves_the_read_that_waits_undone(ends: Ends) -> None:
    ends.client.send(b"call")
    share = ends.turns.join(os.getuid())
    ends.turns.queue(share, ends.stream.abort)
    ends.loop.turn(3)
    assert (ends.protocol.got, ends.ended()) == (b"", True)
    ends.turns.leave(share)


def test_aborting_when_data_comes_hands_no_more_of_it_over(ends: Ends) -> None:
    ends.protocol.on_data = ends.stream.abort
    ends.client.send(bytes(3 * READ_BYTES))
    ends.loop.turn(5)
    assert len(ends.protocol.got) <= READ_BYTES
    assert ends.ended()


@pytest.mark.parametrize("waits", [0, MUCH], ids=["nothing waits", "an answer waits"])
def test_a_client_that_goes_away_with_answers_unread_is_forgotten(waits: int, ends: Ends) -> None:
    ends.stream.write(b"unread" + bytes(waits))
    ends.client.close()
    ends.loop.turn(3)
    assert ends.ended()
    assert isinstance(ends.protocol.lost[0], ConnectionError)


def test_a_client_that_goes_away_while_it_is_written_to_is_forgotten(ends: Ends) -> None:
    ends.client.close()
    ends.stream.write(b"answer")
    assert ends.stream.is_closing()
    ends.loop.turn(3)
    assert ends.ended()
    assert isinstance(ends.protocol.lost[0], BrokenPipeError)


def test_a_client_that_goes_away_while_nothing_is_read_and_an_answer_waits_is_forgotten(ends: Ends) -> None:
    ends.stream.pause_reading()
    ends.stream.write(bytes(MUCH))
    ends.client.close()
    ends.loop.turn(3)
    assert ends.ended()


def test_a_closing_stream_whose_client_goes_away_ends(ends: Ends) -> None:
    ends.stream.write(bytes(MUCH))
    ends.stream.close()
    ends.client.close()
    ends.loop.turn(3)
    assert ends.ended()


# With a whole connection


def connect(house: House) -> socket.socket:
    client, theirs = socket.socketpair()
    client.setblocking(False)
    Stream(house.server.turns, theirs, Connection(house.server))
    return client


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_however_connections_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(house.server), "permissions", lambda *_: frozenset())  # each is told, and turned away
    before = descriptors()
    for number in range(60):
        client = connect(house)
        if number % 3 == 1:
            client.send(b"x" * 1000)
        if number % 3 == 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        house.loop.turn(3)
    house.loop.turn(3)
    assert descriptors() == before
    assert house.server._connections == {}
    assert house.server.turns._streams == {}
    assert house.loop.timers == 0


def test_a_client_that_reads_nothing_is_paused_and_forgotten_at_once_when_it_dies(licensed: House) -> None:
    client = connect(licensed)
    listing = b'{"method":"io.featurekey.License.ListFeatures"}\0'
    for _ in range(2000):
        try:
            client.send(listing * 20)
        except BlockingIOError:
            break
        licensed.loop.turn()
    (stream,) = licensed.server.turns._streams.values()
    assert isinstance(stream, Stream)
    assert not stream.is_reading()
    assert stream.get_write_buffer_size() > limits.MAX_UNREAD_BYTES
    client.close()
    licensed.loop.turn(5)
    assert licensed.server.turns._streams == {}
    assert licensed.server._connections == {}
    assert EventName.UNEXPECTED not in licensed.log.names()
