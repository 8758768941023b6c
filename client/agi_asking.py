"""What featurekey-agi asks the daemon, off the loop: one thread for calls, in their order, and one for lists.

Rules:

* A release never overtakes the question before it.
* A list of thousands of calls takes a tenth of a second and more, and no call waits for it. The daemon keeps lists and
  calls apart by time: it judges by a list nothing that was granted or given back after the list was taken.
* A call waits for its answer for a bounded time, also when others wait before it; an emergency call then goes through.
* An answer that comes too late for a refused call is undone: nobody else would give the lease back.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .agi_calls import Call, channel_of, is_on
from .answer import DAEMON_AWAY, EMERGENCY_GRANTED, Answer
from .call import LICENSE, Connection, ReplyGarbled
from .license import MAX_REPLY, LicenseClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .agi_question import Question
    from .agi_settings import AgiSettings
    from .answer import SyncResult
    from .license import CallClass, SyncLease

ANSWER_MILLISECONDS = 500
"""The longest that a call waits: the time limit of two questions, its own and one before it; a caller's telephone
sends its INVITE again after as long."""

RESTORE_SECONDS = 5.0
"""The longest that the list of leases may take: 20,000 of them come in under a second."""

_Value = TypeVar("_Value")


class Asking:
    """Asks the daemon in the name of the holder; every method may be awaited from one loop."""

    def __init__(self, settings: AgiSettings) -> None:
        self._settings = settings
        numbers = settings.emergency_numbers
        self._client = LicenseClient(settings.holder, settings.socket, emergency_numbers=numbers)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calls")
        self._list_client = LicenseClient(settings.holder, settings.socket)
        self._list_thread = ThreadPoolExecutor(1, thread_name_prefix="lists")

    @property
    def pending_releases(self) -> int:
        """Releases that wait for the daemon to come back."""
        return self._client.pending_releases

    async def acquire(self, question: Question) -> Answer:
        """The answer to a question; never an exception, and never later than the limit."""
        asked = self._thread.submit(self._acquire, question)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asked)), ANSWER_MILLISECONDS / 1000)
        except TimeoutError:
            answer = _too_late(question)
            if not answer.allowed:
                asked.add_done_callback(lambda done: self._undo(question.key, done))
            return answer

    async def established(self, call: Call) -> bool:
        """Tell that a call is answered; whether the daemon took it."""
        return await self._do(lambda: self._established(call))

    async def release(self, key: str) -> bool:
        """Give back what a key holds, now or as soon as the daemon is there; whether the daemon freed it."""
        return await self._do(lambda: self._client.release(key))

    async def deliver(self) -> int:
        """Try queued releases again; how many still wait."""
        return await self._do(self._client.deliver)

    async def sync(self, leases: Sequence[SyncLease], taken: float) -> SyncResult:
        """Say which calls there were at the time `taken` of the monotonic clock; raises CallError."""
        ttl = self._settings.ttl_seconds

        def send() -> SyncResult:
            age = max(0, round((time.monotonic() - taken) * 1000))
            return self._list_client.sync("calls", leases, list_age_ms=age, ttl_seconds=ttl)

        return await asyncio.wrap_future(self._list_thread.submit(send))

    async def leases(self) -> list[Call]:
        """The calls that the daemon knows of this holder; raises CallError."""
        return await asyncio.wrap_future(self._list_thread.submit(self._leases))

    def close(self) -> None:
        """End the threads once what was handed in is done."""
        for thread, client in ((self._thread, self._client), (self._list_thread, self._list_client)):
            thread.shutdown()
            client.close()

    async def _do(self, work: Callable[[], _Value]) -> _Value:
        return await asyncio.wrap_future(self._thread.submit(work))

    def _acquire(self, question: Question) -> Answer:
        return self._client.acquire(
            question.key,
            question.wants,
            port=question.port or None,
            channel=question.channel or None,
            call_class=cast("CallClass | None", question.said.get("class") or None),
            dialed=question.dialed or None,
            fail_open=question.fail_open,
        )

    def _undo(self, key: str, done: Future[Answer]) -> None:
        """Give back what came too late; run by the thread that asked, right after the answer."""
        if done.result().allowed:
            self._client.release(key)

    def _established(self, call: Call) -> bool:
        answer = self._client.acquire(
            call.key,
            call.wants,
            port=call.port or None,
            channel=call.channel or None,
            call_class=cast("CallClass", call.call_class),
            phase="established",
        )
        return answer.from_daemon

    def _leases(self) -> list[Call]:
        connection = Connection(self._settings.socket, max_reply=MAX_REPLY)
        asked = {"holder": self._settings.holder}
        try:
            replies = list(connection.replies(f"{LICENSE}.ListLeases", asked, timeout=RESTORE_SECONDS))
        finally:
            connection.close()
        leases = [reply["lease"] for reply in replies if reply.get("lease")]
        return [_call(lease) for lease in leases if lease.get("scope") == "calls"]


def _too_late(question: Question) -> Answer:
    if question.emergency:
        return EMERGENCY_GRANTED
    message = f"no answer from featurekeyd within {ANSWER_MILLISECONDS} ms"
    return Answer(allowed=question.fail_open, reason=DAEMON_AWAY, message=message, from_daemon=False)


def _call(lease: Mapping[str, Any]) -> Call:
    established = lease.get("phase") == "established"
    port, channel = lease.get("port") or "", lease.get("channel") or ""
    try:
        wants = tuple(f"{want['feature']}:{want.get('instances') or 1}" for want in lease["wants"])
        return Call(
            key=lease["key"],
            wants=wants,
            port=port,
            channel=channel,
            call_class=lease.get("class") or "normal",
            since=float("-inf"),
            established=established,
            told=established,
            direction="in" if is_on(port, channel) and channel_of(lease["key"]) == lease["key"] else "",
        )
    except (KeyError, TypeError, AttributeError):
        raise ReplyGarbled("a lease in the reply to ListLeases lacks a member") from None
