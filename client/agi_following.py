"""Follows the calls of one Asterisk: what the dialplan asks, what AMI tells, and what the daemon is told of it.

Rules:

* A lease ends with the hangup handler or with AMI's Hangup event, whichever comes. After a handler the event is waited
  for, a short time: events come in their order, so that by then it is known whom the channel dialed.
* Where the channel that ends has dialed others that live on, a fresh list decides: the lease goes on with one of them,
  or ends. Without AMI it ends.
* A list of channels that could not be had changes nothing, and a list is sent only once it is known which leases the
  daemon has: an empty memory after a restart is not the truth.
* A lease goes over to another key in this order: the list with the new key, then the release of the old one. Between
  the two one channel too many is counted, never one too few.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from .agi_calls import Call, Calls, Moved, is_remains
from .agi_log import ERROR, INFO, NOTICE, WARNING, Log
from .ami_link import AmiLink
from .answer import DAEMON_AWAY, EMERGENCY
from .call import CallError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .agi_asking import Asking
    from .agi_question import Question
    from .agi_settings import AgiSettings
    from .ami_link import TakenList
    from .ami_protocol import Message
    from .answer import Answer

LEG_SECONDS = 0.1
"""Seconds for the events of the legs that end with their call: AMI sends them some milliseconds later."""

HANGUP_SECONDS = 0.5
"""Seconds for AMI's Hangup event after a hangup handler: it comes some milliseconds later, after what tells whom the
channel dialed. Without it, as with a switch that tells no events, the lease ends after this time."""

TICK_SECONDS = 1.0
"""Seconds between two attempts to deliver what waits for the daemon: as long as the client lets it rest."""


class Following:
    """The calls of one Asterisk and what is done about them."""

    def __init__(self, settings: AgiSettings, asking: Asking, log: Log) -> None:
        self._settings = settings
        self._asking = asking
        self._log = log
        self.calls = Calls()
        self._link = None if settings.ami is None else AmiLink(settings.ami, log, self.event, self._hurry)
        self._known = False
        self._ending: set[str] = set()
        self._awaited: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leg_ended = asyncio.Event()
        self._now = asyncio.Event()
        self._undelivered = asyncio.Event()

    async def run(self) -> None:
        """Keep the daemon's leases as the channels are, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver())
            if self._link is not None:
                group.create_task(self._link.run())
                group.create_task(self._synchronize())

    # What the dialplan asks

    async def acquire(self, question: Question) -> Answer:
        """The answer to a question; a call that may go on is followed from now on."""
        answer = await self._asking.acquire(question)
        self._tell_of_daemon(answer)
        if answer.allowed and question.key:
            call = _call(question, answer)
            if not self.calls.add(call):
                self._log.say(WARNING, "too many calls are followed; this one is left to its hangup handler", "full")
        return answer

    def release(self, key: str, channel: str = "") -> None:
        """The hangup handler of a channel runs; it is not held up, for nothing may be in the way of a hangup."""
        if self._link is not None and self._link.is_up and is_remains(channel):
            return  # the call goes on in another channel, and AMI tells in which
        self._spawn(self._end_by_handler(key))

    async def established(self, key: str) -> None:
        """The dialplan says that a call is answered."""
        call = self.calls.answered(key)
        if call is not None:
            await self._tell_established(call)

    # What AMI tells

    def event(self, message: Message) -> None:
        """Take in one event."""
        name, channel = message.get("event", "").lower(), message.get("uniqueid", "")
        if name == "hangup":
            self._hung_up(channel)
        elif name == "dialbegin":
            self.calls.dialed(channel, message.get("destuniqueid", ""))
        elif self.calls.get(channel) is not None and _says_answered(name, message):
            self._spawn(self.established(channel))
        elif name == "rename":
            self._renamed(channel, message.get("channel", ""), message.get("newname", ""))

    def _hung_up(self, channel: str) -> None:
        self.calls.ended(channel)
        self._leg_ended.set()
        if channel in self._awaited:
            self._awaited[channel].set()
        elif self.calls.get(channel) is not None:
            self._spawn(self._end_if_followed(channel))

    def _renamed(self, channel: str, old: str, new: str) -> None:
        moved = self.calls.renamed(channel, old, new)
        if moved is not None and self.calls.move(moved, time.monotonic()) is not None:
            self._spawn(self._carry(moved))

    # How a lease ends or goes over

    async def _end_by_handler(self, key: str) -> None:
        """End a call whose hangup handler ran: once AMI has told of the hang-up, and so of all that was before it."""
        if self._link is not None and self._link.is_up and self.calls.get(key) is not None and key not in self._awaited:
            told = self._awaited[key] = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), HANGUP_SECONDS)
            del self._awaited[key]
        await self._end(key)

    async def _end_if_followed(self, key: str) -> None:
        """End what the hangup handler has not ended already."""
        if self.calls.get(key) is not None:
            await self._end(key)

    async def _end(self, key: str) -> None:
        if key in self._ending:
            return
        self._ending.add(key)
        try:
            moved, taken = await self._successor(key)
            if moved is not None and self.calls.move(moved, time.monotonic()) is not None:
                await self._carry(moved, taken)
            else:
                self.calls.remove(key)
                await self._give_back(key)
        finally:
            self._ending.discard(key)

    async def _successor(self, key: str) -> tuple[Moved | None, TakenList | None]:
        """Where the lease goes on, if it does, and the list that says so."""
        call = self.calls.get(key)
        if self._link is None or not self._link.is_up or call is None or not await self._has_legs(call):
            return None, None
        taken = await self._link.channels()
        return (None if taken is None else self.calls.successor(key, taken.channels)), taken

    async def _has_legs(self, call: Call) -> bool:
        """Whether channels that the call dialed live on after the time in which they would have ended with it."""
        deadline = time.monotonic() + LEG_SECONDS
        while call.legs and (left := deadline - time.monotonic()) > 0:
            self._leg_ended.clear()
            try:
                await asyncio.wait_for(self._leg_ended.wait(), left)
            except TimeoutError:
                break
        return bool(call.legs)

    async def _carry(self, moved: Moved, taken: TakenList | None = None) -> None:
        """Tell the daemon that a lease goes on under another key."""
        self._log.say(INFO, f"the lease of channel {moved.old} goes on with channel {moved.new}")
        if taken is None and self._link is not None:
            taken = await self._link.channels()
        if taken is not None and await self._send_list(taken):
            await self._give_back(moved.old)

    async def _give_back(self, key: str) -> None:
        if not await self._asking.release(key) and self._asking.pending_releases:
            self._undelivered.set()

    # Lists

    def _hurry(self) -> None:
        self._now.set()

    async def _synchronize(self) -> None:
        while True:
            await self._round()
            try:
                await asyncio.wait_for(self._now.wait(), self._settings.sync_seconds)
            except TimeoutError:
                continue
            self._now.clear()

    async def _round(self) -> None:
        """One list, from the switch to the daemon."""
        assert self._link is not None
        taken = await self._link.channels()
        if taken is None:
            return
        self.calls.learn(taken.channels)
        await self._send_list(taken)
        for call in self.calls:
            if call.established and not call.told:
                await self._tell_established(call)

    async def _send_list(self, taken: TakenList) -> bool:
        """Judge the calls by a list and send what there is; whether the daemon took it."""
        if not await self._restore():
            return False
        judged = self.calls.judge(taken.channels, taken.taken)
        for moved in judged.moved:
            self.calls.move(moved, time.monotonic())
        for key in judged.over:
            self.calls.remove(key)
        try:
            result = await self._asking.sync(list(self.calls.leases()), taken.taken)
        except CallError as trouble:
            self._log.say(WARNING, f"the list of calls did not reach featurekeyd: {trouble}", "sync")
            return False
        self._log.forget("sync")
        if result.adopted or result.freed:
            self._log.say(INFO, f"list of calls: {result.adopted} adopted, {result.freed} freed, {result.held} held")
        return True

    async def _restore(self) -> bool:
        """Learn once which leases the daemon has from before; whether that is known."""
        if self._known:
            return True
        try:
            leases = await self._asking.leases()
        except CallError as trouble:
            self._log.say(WARNING, f"featurekeyd was not asked which calls there are: {trouble}", "restore")
            return False
        for call in leases:
            if self.calls.get(call.key) is None:
                self.calls.add(call)
        self._known = True
        return True

    async def _deliver(self) -> None:
        while True:
            await self._undelivered.wait()
            self._undelivered.clear()
            while self._asking.pending_releases:
                await asyncio.sleep(TICK_SECONDS)
                await self._asking.deliver()

    async def _tell_established(self, call: Call) -> None:
        # What has ended meanwhile must not be taken again.
        if not call.told and call.wants and self.calls.get(call.key) is call:
            call.told = await self._asking.established(call)

    def _tell_of_daemon(self, answer: Answer) -> None:
        if self._asking.pending_releases:
            self._undelivered.set()
        if answer.from_daemon:
            self._log.forget("daemon")
        elif answer.reason in (DAEMON_AWAY, EMERGENCY):
            what = answer.message or "an emergency call passes"
            self._log.say(WARNING, f"featurekeyd gives no answer: {what}", "daemon")
        else:
            self._log.say(WARNING, f"featurekeyd refused the question: {answer.message}", "refused")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        trouble = None if task.cancelled() else task.exception()
        if trouble is not None:
            self._log.say(ERROR, f"a fault of this program: {trouble!r}", "fault")

    async def settle(self) -> None:
        """Wait for what is under way, before leaving."""
        self._log.say(NOTICE, f"ends; {len(self.calls)} calls are followed")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


def _says_answered(name: str, message: Message) -> bool:
    if name == "dialend":
        return message.get("dialstatus") == "ANSWER"
    return name == "newstate" and message.get("channelstate") == "6"


def _call(question: Question, answer: Answer) -> Call:
    call_class = "emergency" if answer.reason == EMERGENCY else question.said.get("class") or "normal"
    return Call(
        key=question.key,
        wants=() if question.mistake else question.wants,
        port=question.port,
        channel=question.channel,
        call_class=call_class,
        since=time.monotonic(),
    )
