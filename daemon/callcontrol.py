"""One connection to the call_control socket: a worker of a switch that asks, one request after the other.

It is served in the same turns as all others, with the same shares of its user (`daemon.turns`). Rules of this module:

* The module of the switch connects once before the switch forks, and its workers would share that stream and take each
  other's answers. So the first connection of a process is shut for the client's sending as soon as it is accepted; then
  the worker finds it closed and opens its own (facts/telephony.md section 5).
* What was sent before is answered where it is one request. Of several nobody knows who would read which answer: they
  get none, and no lease. Of a process that cannot be known again each connection takes one request, or none for half a
  second.
* Who has hung up before its call was decided gets no lease, and who hangs up without having read that it has one gives
  it back: nobody else ever would.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import cast

from featurekeyd.policy.ledger import Lease

from . import limits
from .callcontrol_service import CallControlService
from .callcontrol_wire import ERROR, BadRequest, CallRequests
from .methods import Permission
from .peer import read_peer
from .server import Server


class CallControlConnection(asyncio.Protocol):
    """The protocol of one connection; it lives on the loop's thread."""

    def __init__(self, server: Server, service: CallControlService) -> None:
        self._server = server
        self._service = service
        self._requests = CallRequests()
        self._answers: list[bytes] = []
        """Answers of this turn."""
        self._unread: list[Lease] = []
        """What was granted anew since the client said something last."""
        self._wrong = ""
        """What came that is no request: the connection ends with that."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs while the client is to say something, or the rest of it."""
        self._no_more = False
        """Whether the client will send nothing more."""
        self._ended = False
        self._scheduled = False
        """Whether more work of the connection waits for its share already."""

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and turn away whom the settings do not name or who has too many connections."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.MAX_UNREAD_ANSWERS)
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._hung_up = select.poll()
        self._hung_up.register(self._socket.fileno(), 0)
        self._peer = peer = read_peer(self._socket)
        self._share = self._server.turns.join(peer.uid)
        most = self._server.admit(peer, self._transport)
        self._once = self._shut = False
        """Whether it takes one request; whether it was shut as soon as it was accepted."""
        if most is not None:
            self._turn_away(f"more than {most} connections")
        elif Permission.ASK not in self._server.permissions(peer):
            self._turn_away("this user may not ask")
        else:
            self._look_whether_shared()

    def _look_whether_shared(self) -> None:
        first = self._service.processes.meet(self._peer.pid, self._peer.uid)
        if first:
            self._shut = True
            self._socket.shutdown(socket.SHUT_RD)
        elif first is None:
            self._once = True
            self._timer = self._server.loop.call_later(limits.SILENT_MILLISECONDS / 1000, self._retire)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection; leases do not end with it, but for those whose grant was sent and never read."""
        if error is not None and not self._ended:
            self._take_back()
        self._ended = True
        self._stop_timer()
        self._server.dismiss(self._peer, self._transport)
        self._server.turns.leave(self._share)

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into requests and serve them."""
        if self._ended or self._wrong:
            return
        self._unread.clear()  # the module reads each answer before it asks again
        self._requests.feed(data)
        if self._shut and not self._requests.alone:
            self._requests.clear()
            self._transport.close()
            return
        if self._requests.waiting:
            self._stop_timer()
        self._serve()

    def eof_received(self) -> bool:
        """A client that will send nothing more still gets its answers; then the connection ends."""
        self._no_more = True
        return bool(self._requests.waiting or self._answers)

    def pause_writing(self) -> None:
        """The client asks and does not read."""
        self._take_back()
        self._turn_away("answers were not read")
        self._transport.abort()

    # Serving

    def _serve(self) -> None:
        """Serve what waits, up to the share of one turn; the rest comes after other connections had theirs."""
        turns, served = self._server.turns, 0
        end = turns.loop.time() + limits.TURN_MICROSECONDS / 1e6
        while self._requests.waiting and served < limits.CALLS_PER_TURN and not self._ended:
            self._serve_next()
            served += 1
            if turns.loop.time() >= end:  # what counts is how long others wait
                break
        turns.calls += served
        if served:
            turns.answer(self)
        self._regulate()
        if self._requests.waiting and not self._scheduled:
            self._scheduled = True
            turns.queue(self._share, self._go_on)
        elif self._requests.unfinished and self._timer is None and not self._ended:
            self._timer = self._server.loop.call_later(limits.HALF_MESSAGE_SECONDS, self._unfinished)

    def _go_on(self) -> None:
        self._scheduled = False
        if not self._ended:
            self._serve()

    def _serve_next(self) -> None:
        try:
            request = self._requests.take()
        except BadRequest as error:
            self._requests.clear()
            self._wrong = str(error)  # said once the answers before it are sent
            return
        if request.verb == "init" and self._hung_up.poll(0):
            return
        try:
            answer, granted = self._service.answer(self._peer, request)
        except Exception as error:  # noqa: BLE001 - a bug in one verb must not end the daemon
            self._server.unexpected(error)
            answer, granted = ERROR, None
        self._answers.append(answer)
        if granted is not None:
            self._unread.append(granted)

    def _regulate(self) -> None:
        """Read from the client only while its requests can be served, so that what waits stays bounded."""
        if self._ended or self._no_more or self._requests.waiting is not self._transport.is_reading():
            return
        if self._requests.waiting:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def send(self) -> None:
        """Send the answers in one write; the turn calls this when what they tell of is recorded."""
        if self._answers and not self._transport.is_closing():
            self._transport.write(b"".join(self._answers))
        self._answers.clear()
        if self._once:
            self._retire()
        if self._wrong:
            self._turn_away(self._wrong)
        if self._no_more and not self._requests.waiting:
            self._transport.close()

    # Ending

    def _retire(self) -> None:
        """Have the next worker that uses this connection open its own; what is on its way is still answered."""
        self._once = False
        if not self._ended:
            self._stop_timer()
            self._socket.shutdown(socket.SHUT_RD)

    def _take_back(self) -> None:
        self._service.take_back(self._unread)
        self._unread.clear()

    def _unfinished(self) -> None:
        self._timer = None
        self._turn_away(f"a request was begun and not ended within {limits.HALF_MESSAGE_SECONDS} s")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn_away(self, hint: str) -> None:
        """End the connection; the module takes that for trouble and tries again after a while."""
        if self._ended:
            return
        self._ended = True
        self._stop_timer()
        self._server.turned_away(self._peer, f"{hint} (call_control)")
        self._transport.close()
