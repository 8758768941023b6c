"""One client: its bytes in, its answers out, and the limits that keep it from disturbing anybody else.

Calls of a connection are answered in their order. A call that must wait (for the disk, for the Feature Key) holds up
its own connection and no other. All answers of one turn (`daemon.turns`) leave in one write, after the leases they tell
of are recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from itertools import chain
from typing import cast

from . import limits
from .methods import Client, ErrorReply, Outcome, Permission, Slices
from .peer import read_peer
from .server import Server
from .subscribers import Subscriber
from .wire import LICENSE, SERVICE, BadMessage, Messages, error_reply

_DONE = object()


class Connection(asyncio.Protocol):
    """The protocol of one connection; it lives on the loop's thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._calls: deque[bytes] = deque()
        """Messages that have come and are not served yet."""
        self._replies: list[bytes] = []
        """Answers of this turn."""
        self._task: asyncio.Task[None] | None = None
        """The call that waits, None while none does."""
        self._listing: Iterator[bytes] | None = None
        """The listing that is being sent."""
        self._slices: Iterator[bytes] | None = None
        """The work that is being done a slice at a time."""
        self._subscriber: Subscriber | None = None
        self._half_message: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        """Runs while the client does not read; None while it does."""
        self._cut_off: asyncio.TimerHandle | None = None
        """Runs once the client was turned away."""
        self._scheduled = False
        """Whether more work of the connection waits for its share already."""
        self._paused = False
        """Whether nothing is read from the client for now."""
        self._no_more = False
        """Whether the client has said that it will send nothing more."""
        self._ended = False
        self._held_up = False
        """Whether the next call must wait; `_reconsider` says when."""

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and turn away whom the settings do not name or who has too many connections."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.MAX_UNREAD_BYTES)
        peer = read_peer(transport.get_extra_info("socket"))
        self._share = self._server.turns.join(peer.uid)
        self._client = Client(self._server.next_number(), peer, self._push)
        self._permissions = self._server.permissions(peer)
        manages = Permission.MANAGE in self._permissions
        self._messages = Messages(limits.MAX_MESSAGE_BYTES if manages else limits.MAX_TELEPHONY_BYTES)
        most = self._server.admit(peer, self._transport)
        if most is not None:
            reply = error_reply(f"{LICENSE}.TooManyConnections", {"limit": most})
            self._turn_away(reply, f"more than {most} connections")
        elif Permission.ASK not in self._permissions:
            self._turn_away(error_reply(f"{SERVICE}.PermissionDenied"), "this user may not ask")

    def connection_lost(self, _: Exception | None) -> None:
        """Free what was bound to this connection, and forget it."""
        self._ended = self._held_up = True
        self._server.dismiss(self._client.peer, self._transport)
        for timer in (self._half_message, self._unread, self._cut_off):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._subscriber is not None:
            self._server.site.subscribers.discard(self._subscriber)
        site = self._server.site
        # A list that was begun is taken to its end: one that is half true is worse than none.
        self._end_by_slices(chain(self._slices or (), site.enforcer.ending_bound(self._client.number, site.clock())))
        site.settle()

    def _end_by_slices(self, work: Iterator[object]) -> None:
        """Do the next slice of what the end of the connection leaves to do, the rest in later shares of its user."""
        turns = self._server.turns
        piece: object = None
        try:
            piece = next(work, _DONE)
        except Exception as error:  # noqa: BLE001 - a bug in a list must not keep what was bound
            self._server.unexpected(error)
        if piece is _DONE:
            turns.leave(self._share)
            return
        turns.calls += limits.CALLS_OF_TURN
        turns.queue(self._share, lambda: self._end_by_slices(work))

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into messages and serve them."""
        if self._ended:
            return
        try:
            messages = self._messages.feed(data)
        except BadMessage as error:
            self._turn_away(error.reply, str(error))
            return
        self._calls.extend(messages)
        if self._half_message is not None or self._messages.unfinished:
            self._time_half_message(ended=bool(messages))
        self._serve()

    def eof_received(self) -> bool:
        """A client that will send nothing more still gets its answers; then the connection ends."""
        self._no_more = True
        return self._busy() or bool(self._replies)

    def pause_writing(self) -> None:
        """The client does not read its answers: give it a limited time, and take nothing more from it."""
        self._unread = self._loop.call_later(limits.UNREAD_SECONDS, self._give_up)
        self._reconsider()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._reconsider()
        if self._subscriber is not None:
            self._subscriber.reads_again()
        self._go_on_later()

    # Serving

    def _serve(self) -> None:
        """Serve what waits, up to the share of one turn; the rest comes after other connections had theirs."""
        calls, turns, served = self._calls, self._server.turns, 0
        while calls and served < limits.CALLS_PER_TURN and not self._held_up:
            self._serve_one(calls.popleft())
            served += 1
        turns.calls += served
        turns.answer(self)
        if calls and not self._held_up:
            self._go_on_later()
        if calls or self._held_up or self._paused:
            self._regulate()

    def _go_on_later(self) -> None:
        """Go on in a later share of the user's: once, however often this is asked for."""
        if not self._scheduled:
            self._scheduled = True
            self._server.turns.queue(self._share, self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        if self._ended:
            return
        if self._listing is not None:
            self._send_listing(self._listing)
        elif self._slices is not None:
            self._do_slice(self._slices)
        self._reconsider()
        self._serve()

    def _reconsider(self) -> None:
        """Work out anew whether the next call must wait; whatever that depends on has changed."""
        under_way = self._task is not None or self._listing is not None or self._slices is not None
        self._held_up = under_way or self._subscriber is not None or self._unread is not None or self._ended

    def _busy(self) -> bool:
        under_way = self._task is not None or self._listing is not None or self._slices is not None
        return under_way or bool(self._calls)

    def _serve_one(self, message: bytes) -> None:
        try:
            outcome, oneway = self._server.calls.run(message, self._client, self._permissions)
        except BadMessage as error:
            self._turn_away(error.reply, str(error))
            return
        if outcome.__class__ is bytes and not oneway:  # as nearly always
            self._replies.append(outcome)
        else:
            self._answer(outcome, oneway=oneway)
            self._reconsider()

    def _answer(self, outcome: Outcome, *, oneway: bool) -> None:
        if isinstance(outcome, bytes):
            if not oneway:
                self._replies.append(outcome)
        elif isinstance(outcome, Awaitable):
            self._task = self._loop.create_task(self._wait_for(outcome, oneway=oneway))
        elif isinstance(outcome, Subscriber):
            self._watch(outcome, oneway=oneway)
        elif isinstance(outcome, Slices):
            self._do_slice(_unanswered(outcome.pieces) if oneway else outcome.pieces)
        elif not oneway:
            self._listing = outcome
            self._go_on_later()

    def _watch(self, subscriber: Subscriber, *, oneway: bool) -> None:
        if oneway:  # nobody will hear of the events
            self._server.site.subscribers.discard(subscriber)
            return
        self._subscriber = subscriber
        self._replies.append(subscriber.welcome())

    async def _wait_for(self, outcome: Awaitable[bytes], *, oneway: bool) -> None:
        try:
            reply = await outcome
        except ErrorReply as error:
            reply = error.reply
        except Exception as error:  # noqa: BLE001 - a bug in one method must not end the daemon
            reply = self._server.unexpected(error)
        self._task = None
        if not oneway:
            self._replies.append(reply)
        self._reconsider()
        self._serve()

    def _send_listing(self, listing: Iterator[bytes]) -> None:
        """Send the next replies of a listing, as many as one turn allows and the client takes."""
        if self._unread is not None:
            return
        try:
            ended = self._take_replies(listing)
        except Exception as error:  # noqa: BLE001 - a bug in one method must not end the daemon
            self._replies.append(self._server.unexpected(error))
            ended = True
        if ended:
            self._listing = None
        else:
            self._go_on_later()

    def _take_replies(self, listing: Iterator[bytes]) -> bool:
        """Take the next replies, up to an empty one, which ends a slice; whether the listing is at its end."""
        for taken in range(limits.REPLIES_PER_TURN):
            reply = next(listing, None)
            if reply:
                self._replies.append(reply)
            else:
                self._server.turns.calls += max(taken, limits.CALLS_PER_TURN)
                return reply is None
        self._server.turns.calls += limits.REPLIES_PER_TURN
        return False

    def _do_slice(self, slices: Iterator[bytes]) -> None:
        """Do the next slice, which takes the user's share of the turn; nothing is left once there is a reply."""
        try:
            reply = next(slices, None)
        except Exception as error:  # noqa: BLE001 - a bug in one method must not end the daemon
            reply = self._server.unexpected(error)
        self._server.turns.calls += limits.CALLS_OF_TURN
        self._slices = slices if reply == b"" else None
        if reply == b"":
            self._go_on_later()
        elif reply is not None:
            self._replies.append(reply)

    def _push(self, reply: bytes) -> bool:
        """Send an event to a subscriber, unless it has not read what it was sent before."""
        if self._ended or self._unread is not None:
            return False
        waits = bool(self._replies)  # for earlier calls, and leaves with their answers
        self._replies.append(reply)
        if not waits:
            self._server.turns.answer(self)
        return True

    def send(self) -> None:
        """Send the answers in one write; the turn calls this when what they tell of is recorded."""
        replies = self._replies
        if replies:
            if not self._transport.is_closing():
                self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))
            replies.clear()
        if self._no_more and not self._busy():
            self._transport.close()

    # Limits

    def _regulate(self) -> None:
        """Read from the client only while its calls can be served, so that what waits for it stays bounded."""
        if self._subscriber is not None and self._calls:
            hint = "a connection that watches takes no more calls; open another one"
            self._turn_away(error_reply(f"{LICENSE}.MalformedMessage", {"hint": hint}), hint)
        # A connection that watches is read: only so its end is noticed.
        pause = self._unread is not None or (self._busy() and self._subscriber is None)
        if pause is self._paused or self._ended:
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _time_half_message(self, *, ended: bool) -> None:
        unfinished = self._messages.unfinished
        if self._half_message is not None and (ended or not unfinished):
            self._half_message.cancel()
            self._half_message = None
        if unfinished and self._half_message is None:
            self._half_message = self._loop.call_later(limits.HALF_MESSAGE_SECONDS, self._unfinished)

    def _unfinished(self) -> None:
        seconds = limits.HALF_MESSAGE_SECONDS
        if self._paused:  # it is the daemon that does not read
            self._half_message = self._loop.call_later(seconds, self._unfinished)
            return
        reply = error_reply(f"{LICENSE}.MessageUnfinished", {"seconds": seconds})
        self._turn_away(reply, f"a message was begun and not ended within {seconds} s")

    def _turn_away(self, reply: bytes, hint: str) -> None:
        """Tell the client why, and end the connection once it has read that, or soon."""
        if self._ended:
            return
        self._replies.append(reply)
        self._server.site.settle()
        self.send()
        self._ended = self._held_up = True
        self._server.turned_away(self._client.peer, hint)
        self._transport.close()
        self._cut_off = self._loop.call_later(limits.UNREAD_SECONDS, self._transport.abort)

    def _give_up(self) -> None:
        self._server.turned_away(self._client.peer, f"answers were not read for {limits.UNREAD_SECONDS} s")
        self._transport.abort()


def _unanswered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same work without its reply."""
    return (b"" for _ in pieces)
