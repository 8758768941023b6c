"""Follows the calls of one Asterisk: what the dialplan asks, what AMI tells, and what the daemon is told of it.

Rules:

* A lease ends with the hangup handler or with AMI's Hangup event, whichever comes. After a handler the event is waited
  for, a short time: events come in their order, so that by then it is known whom the channel dialed.
* Where the channel that ends has dialed others that live on, a list decides: the lease goes on with one of them, or
  ends. A list that cannot be had now, as while AMI connects anew, is waited for, up to the time to live of the leases.
* What is asked again meanwhile is not ended: an end that waits belongs to the use that it was begun for.
* A list of channels that could not be had changes nothing, and a list is sent only once it is known which leases the
  daemon has: an empty memory after a restart is not the truth.
* A lease goes over to another key in this order: the list with the new key, then the release of the old one. Between
  the two one channel too many is counted, never one too few.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
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
        self._asked: set[str] = set()
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

    async def named(self, question: Question) -> Question:
        """The question with the key of the use that it is about, and with its direction."""
        uniqueid = question.key
        for call in self.calls.of(uniqueid):
            if call.talking:
                await self._has_legs(call)  # AMI may still be about to tell that what was dialed has ended
        name, port, line = question.channel_name, question.port, question.line
        direction = question.direction or self.calls.direction(uniqueid, name, port, line)
        key = self.calls.key_for(uniqueid, line, direction)
        # Two leases on one channel of a port would be taken for one call whose end was lost.
        channel = question.said.get("channel") or question.channel_name + key.removeprefix(uniqueid)
        return replace(question, key=key, said={**question.said, "direction": direction, "channel": channel})

    async def acquire(self, question: Question) -> Answer:
        """The answer to a question that is `named`; a call that may go on is followed from now on."""
        before = self.calls.get(question.key)
        self._asked.add(question.key)
        try:
            answer = await self._asking.acquire(question)
        finally:
            self._asked.discard(question.key)
        self._tell_of_daemon(answer)
        if answer.allowed and question.key:
            call = _call(question, answer)
            if not self.calls.add(call):
                self._log.say(WARNING, "too many calls are followed; this one is left to its hangup handler", "full")
        elif before is not None and before.line not in ("", question.line):
            await self._over(before)  # the use that this one was to replace
        return answer

    def hung_up(self, uniqueid: str, channel: str = "") -> None:
        """The hangup handler of a channel runs; it is not held up, for nothing may be in the way of a hangup."""
        if self._link is not None and self._link.is_up and is_remains(channel):
            return  # the call goes on in another channel, and AMI tells in which
        self._spawn(self._end_by_handler(uniqueid))

    async def release(self, uniqueid: str) -> None:
        """The dialplan gives back what a channel has, which may go on and ask again."""
        for call in self.calls.of(uniqueid) or [Call(uniqueid, ())]:
            await self._over(call)

    def undo(self, key: str) -> None:
        """Give back what was granted for a question that has come to nothing."""
        self._spawn(self._over(self.calls.get(key) or Call(key, ())))

    async def established(self, uniqueid: str) -> None:
        """A channel is answered, or what it dialed."""
        news = [self.calls.answered(call.key) for call in self.calls.of(uniqueid)]
        for call in filter(None, news):
            await self._tell_established(call)

    # What AMI tells

    def event(self, message: Message) -> None:
        """Take in one event."""
        name, channel = message.get("event", "").lower(), message.get("uniqueid", "")
        if name == "hangup":
            self._hung_up(channel)
        elif name == "dialbegin":
            self.calls.dialed(channel, message.get("destuniqueid", ""), message.get("destchannel", ""))
        elif name == "rename":
            self._renamed(channel, message.get("channel", ""), message.get("newname", ""))
        elif self.calls.of(channel) and _says_answered(name, message):
            self.calls.answers(message.get("destuniqueid", ""))
            self._spawn(self.established(channel))

    def _hung_up(self, channel: str) -> None:
        dialed_by = self.calls.ended(channel)
        self._leg_ended.set()
        if channel in self._awaited:
            self._awaited[channel].set()
        else:
            for call in self.calls.of(channel):
                self._spawn(self._end(call))
        if dialed_by is not None and not dialed_by.legs:
            if dialed_by.is_over:
                self._spawn(self._over(dialed_by))
            elif self.calls.is_used_up(dialed_by):
                self._spawn(self._end_used_up(dialed_by))

    def _renamed(self, channel: str, old: str, new: str) -> None:
        moved = self.calls.renamed(channel, old, new)
        held = [] if moved is None else self.calls.of(moved.old)
        for call in held:
            follower = self.calls.move(Moved(call.key, channel), time.monotonic())
            if follower is not None:
                self._spawn(self._carry(call.key, follower))

    # How a lease ends or goes over

    def _is_current(self, call: Call) -> bool:
        """Whether a call is still what its key stands for, and is not being asked for again."""
        return self.calls.get(call.key) is call and call.key not in self._asked

    async def _end_by_handler(self, uniqueid: str) -> None:
        """End a channel whose hangup handler ran: once AMI has told of the hang-up, and so of all before it."""
        held = self.calls.of(uniqueid)
        if self._link is not None and self._link.is_up and held and uniqueid not in self._awaited:
            told = self._awaited[uniqueid] = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), HANGUP_SECONDS)
            del self._awaited[uniqueid]
        for call in held:
            await self._end(call)
        if not held and uniqueid not in self._asked:
            await self._give_back(uniqueid)

    async def _end(self, call: Call) -> None:
        """The channel of a call has ended: the lease ends, or goes on with a leg."""
        if call.key in self._ending or not self._is_current(call):
            return
        self._ending.add(call.key)
        try:
            await self._decide(call)
        finally:
            self._ending.discard(call.key)

    async def _decide(self, call: Call) -> None:
        if self._link is None or call.direction == "in" or not await self._has_legs(call):
            await self._over(call)
            return
        taken = await self._link.channels()
        if not self._is_current(call):
            return
        if taken is None:
            call.is_over = True
            asyncio.get_running_loop().call_later(self._settings.ttl_seconds, self._give_up, call)
            return
        moved = self.calls.successor(call.key, taken.channels)
        follower = None if moved is None else self.calls.move(moved, time.monotonic())
        await (self._over(call) if follower is None else self._carry(call.key, follower, taken))

    async def _end_used_up(self, call: Call) -> None:
        """All that was dialed for one of several uses has ended: unless a list knows of another one, so has the use."""
        taken = None if self._link is None else await self._link.channels()
        if taken is not None:
            self.calls.learn(taken.channels)
            if self.calls.is_used_up(call):
                await self._over(call)

    def _give_up(self, call: Call) -> None:
        """No list has come for the time to live."""
        if call.is_over:
            self._spawn(self._over(call))

    async def _over(self, call: Call) -> None:
        """The lease ends, unless it was asked for again meanwhile."""
        known = self.calls.get(call.key)
        if (known is None or known is call) and call.key not in self._asked:
            self.calls.remove(call.key)
            await self._give_back(call.key)

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

    async def _carry(self, old: str, follower: Call, taken: TakenList | None = None) -> None:
        """Tell the daemon that a lease goes on under another key."""
        self._log.say(INFO, f"the lease of channel {old} goes on with channel {follower.uniqueid}")
        if taken is None and self._link is not None:
            taken = await self._link.channels()
        if taken is not None and await self._send_list(taken):
            await self._give_back(old)

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
        await self._send_list(taken)
        for call in self.calls:
            if call.established and not call.told:
                await self._tell_established(call)

    async def _send_list(self, taken: TakenList) -> bool:
        """Judge the calls by a list and send what there is; whether the daemon took it."""
        if not await self._restore():
            return False
        self.calls.learn(taken.channels)
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
        dialed=question.dialed,
        since=time.monotonic(),
        direction=question.direction,
        line=question.line,
    )
