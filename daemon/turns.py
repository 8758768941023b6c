"""Turns: all that clients have sent is read, decided, recorded with one write, and only then answered.

The sockets of the clients are in an epoll of their own, inside the loop's. One turn serves whoever is ready, so that
recording is paid once for all calls of a user, and the waking of the loop once for all users (facts/speed.md: read all,
decide, write all). What this module promises:

* no answer leaves before what it tells of is recorded;
* every user has a share of each turn, the one who wants least the first: who floods the daemon waits for its next turn,
  and nobody else does;
* work that one connection leaves over goes to the end of its user's queue.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Protocol

from . import limits
from .turntimes import TurnTimes


class Ready(Protocol):
    """What the turns wake: a stream whose socket can be read or written."""

    def ready(self, events: int) -> None:
        """Take note of what epoll says of the socket."""
        ...


class Answers(Protocol):
    """A connection that has answers to send once they are recorded."""

    def send(self) -> None:
        """Send them in one write."""
        ...


Queue = deque[Callable[[], None]]
"""Work that waits."""


class Share:
    """One user's part of every turn: the work that waits for it."""

    def __init__(self, user: int) -> None:
        self.user = user
        self.queue: Queue = deque()
        self.parts = 0
        """How often it was joined."""


class Turns:
    """The epoll of the clients, and the work that waits by user."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[], None],
        unexpected: Callable[[Exception], object],
        times: TurnTimes | None = None,
    ) -> None:
        self.running = False
        """Whether a turn is being served: answers wait for its end."""
        self.calls = 0
        """Calls served so far; connections count them."""
        self.loop = loop
        self._settle = settle
        self._unexpected = unexpected
        self._times = times or TurnTimes()
        self._begun = 0.0
        """When the turn was begun whose answers are still to leave, by the loop's clock."""
        self._epoll = select.epoll()
        self._streams: dict[int, Ready] = {}
        self._shares: dict[int, Share] = {}
        """By user."""
        self._answers: list[Answers] = []
        self._scheduled = False
        loop.add_reader(self._epoll.fileno(), self._turn)

    def close(self) -> None:
        """Serve no more turns; calling it twice is harmless."""
        if self._epoll.closed:
            return
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, descriptor: int, stream: Ready, events: int) -> None:
        """Wake the stream on these events of its socket from now on; on none where there are none."""
        known = descriptor in self._streams
        if not events:
            self.forget(descriptor)
        elif known:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
            self._streams[descriptor] = stream

    def forget(self, descriptor: int) -> None:
        """Wake nobody for that socket any more."""
        if self._streams.pop(descriptor, None) is not None and not self._epoll.closed:
            self._epoll.unregister(descriptor)

    def join(self, user: int) -> Share:
        """The share of that user, for a new connection; it is there until all who joined have left."""
        share = self._shares.setdefault(user, Share(user))
        share.parts += 1
        return share

    def leave(self, share: Share) -> None:
        """Take note that a connection of the user has ended."""
        share.parts -= 1
        if not share.parts:
            del self._shares[share.user]

    def queue(self, share: Share, work: Callable[[], None]) -> None:
        """Do this in a share of that user: in this turn or in one soon."""
        share.queue.append(work)
        if not self.running and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def answer(self, connection: Answers) -> None:
        """Let the connection send its answers: at the end of the turn, or at once where none is being served."""
        self._answers.append(connection)
        if not self.running:
            self._end()

    def _turn(self) -> None:
        self._scheduled = False
        if self._epoll.closed:
            return
        self.running = True
        try:
            for descriptor, events in self._epoll.poll(0):
                stream = self._streams.get(descriptor)
                if stream is not None:  # none where another one's turn has ended it
                    stream.ready(events)
            left = self._serve_all([share.queue for share in self._shares.values() if share.queue])
        finally:
            if self.running:
                self._end()
        if left:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _serve_all(self, queues: list[Queue]) -> bool:
        """Serve every user who waits, and the one who wants least first; whether anything is left over."""
        if len(queues) == 1:
            return self._serve(queues[0], 1)
        for queue in sorted(queues, key=len):
            self.running = True
            self._serve(queue, len(queues))
            self._end()  # its answers need not wait for what others want
        return any(queues)

    def _serve(self, queue: Queue, users: int) -> bool:
        """Serve one of so many users for its share of the turn; whether anything is left over."""
        most = self.calls + (limits.CALLS_OF_TURN // users or 1)
        self._begun = begun = self.loop.time()
        end = begun + limits.TURN_MICROSECONDS / 1e6 / users
        while queue and self.calls < most:
            work = queue.popleft()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a bug in one connection must not hold the others up
                self._unexpected(error)
            if self.loop.time() >= end:  # few calls may take long: what counts is how long others wait
                break
        return bool(queue)

    def _end(self) -> None:
        """Record what changed, and only then send the answers; what settling tells subscribers leaves with them.

        Where settling meets a bug the answers leave all the same: telephony waits for them.
        """
        self.running = True
        try:
            self._settle()
        except Exception as error:  # noqa: BLE001 - the next turn shall be served
            self._unexpected(error)
        self.running = False
        answers, self._answers = self._answers, []
        for connection in answers:
            try:
                connection.send()
            except Exception as error:  # noqa: BLE001 - a bug in one connection must not keep the others' answers
                self._unexpected(error)
        if answers:
            self._times.note(self.loop.time() - self._begun)
