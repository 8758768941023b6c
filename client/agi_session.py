"""One FastAGI connection: a question of the dialplan, its answer in channel variables, the hangup handler.

Rules:

* The hangup handler is pushed before the status is set: a call that may go on has its end prepared.
* Where the connection ends before the status is set, the dialplan knows of no answer and refuses the call; so what was
  taken for it is given back.
* Nobody is trusted to speak on: the whole of it has a limit, and what is no FastAGI ends the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from .agi_log import WARNING, Log
from .agi_protocol import AgiGarbled, AgiStream, Environment, HungUp, Reply, evaluate, get_variable, set_variable
from .agi_question import Question, denied, missing, read_question, variables

if TYPE_CHECKING:
    from .agi_following import Following
    from .agi_settings import AgiSettings
    from .answer import Answer

OPENING_SECONDS = 2
"""Seconds from the connection to the end of the environment: Asterisk sends it in one go."""

SESSION_SECONDS = 5
"""Seconds for a whole connection, the question to the daemon and its answer in ten commands: Asterisk answers each at
once, unless its host stands still."""

CONTEXT_SECONDS = 60
"""Seconds for which a context that was there is believed to be there: a dialplan is seldom loaded anew."""

READ_BYTES = 4096
"""Bytes read at once: the environment of a channel has under 1,000."""


class ConnectionOver(Exception):
    """Asterisk has closed the connection, or the channel was hung up."""


class HangupContext:
    """Whether the dialplan has the context for hangup handlers, asked now and then."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handler = f"{name},s,1"
        self._seen = float("-inf")

    @property
    def was_there(self) -> bool:
        """Whether it was seen lately."""
        return time.monotonic() - self._seen < CONTEXT_SECONDS

    def note(self) -> None:
        """It is there."""
        self._seen = time.monotonic()


class AgiSession:
    """Serves one connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        following: Following,
        settings: AgiSettings,
        context: HangupContext,
        log: Log,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._following = following
        self._settings = settings
        self._context = context
        self._log = log
        self._stream = AgiStream()
        self._items: deque[Environment | Reply | HungUp] = deque()
        self.waiting_since: float | None = time.monotonic()
        """Since when something is to come from the far end, None while the daemon is asked."""

    async def serve(self) -> None:
        """Answer the question of the connection, then let Asterisk go on."""
        try:
            await self._serve()
        except (ConnectionOver, ConnectionError):
            pass  # whoever asked is gone
        except TimeoutError:
            self._log.say(WARNING, "a FastAGI connection was closed: nothing came in time", "agi slow")
        except AgiGarbled as garbled:
            self._log.say(WARNING, f"a FastAGI connection was closed: {garbled}", "agi garbled")
        finally:
            self._writer.close()

    async def _serve(self) -> None:
        async with asyncio.timeout(SESSION_SECONDS):
            await self._converse()

    async def _converse(self) -> None:
        async with asyncio.timeout(OPENING_SECONDS):
            environment = await self._next()
        if not isinstance(environment, Environment):
            raise AgiGarbled("it does not begin with the environment of a channel")
        self.waiting_since = None
        found = {name: await self._variable(f"FEATUREKEY_{name.upper()}") for name in missing(environment)}
        question = read_question(environment, found, self._settings.emergency_numbers)
        if question.mistake:
            self._log.say(WARNING, f"the dialplan asks wrongly: {question.mistake}", "mistake")
        await self._carry_out(question)

    async def _carry_out(self, question: Question) -> None:
        if question.verb == "hangup" and question.key:
            self._following.hung_up(question.key, question.channel_name)
        elif question.verb == "release" and question.key:
            await self._following.release(question.key)
        elif question.verb == "answered" and question.key:
            await self._following.established(question.key)
        else:
            await self._acquire(question)

    async def _acquire(self, question: Question) -> None:
        if question.mistake and not question.emergency:
            await self._say(question, denied(question.mistake))
            return
        question = await self._following.named(question)
        held_before = self._following.calls.get(question.key) is not None
        answer = await self._following.acquire(question)
        try:
            if answer.allowed:
                await self._push_handler(question.key)
            await self._say(question, answer)
        except BaseException:
            # An emergency call goes on also where the dialplan was told nothing.
            if answer.allowed and not held_before and not question.emergency:
                self._following.undo(question.key)
            raise

    async def _say(self, question: Question, answer: Answer) -> None:
        for name, value in variables(question, answer).items():
            await self._ask(set_variable(name, value))

    async def _push_handler(self, key: str) -> None:
        call = self._following.calls.get(key)
        if call is not None and call.has_handler:
            return
        if not await self._has_context():
            what = f"the dialplan has no context {self._context.name}, so only AMI tells when a call ends"
            self._log.say(WARNING, f"{what}; see client/asterisk/extensions.conf", "context")
            return
        await self._ask(set_variable("CHANNEL(hangup_handler_push)", self._context.handler))
        if call is not None:
            call.has_handler = True

    async def _has_context(self) -> bool:
        if not self._context.was_there:
            reply = await self._ask(evaluate(f"${{DIALPLAN_EXISTS({self._context.handler})}}"))
            if reply.value != "1":
                return False
            self._context.note()
        return True

    async def _variable(self, name: str) -> str:
        reply = await self._ask(get_variable(name))
        return reply.value or ""

    async def _ask(self, command: bytes) -> Reply:
        """The answer to one command; raises ConnectionOver where the channel is gone."""
        self._writer.write(command)
        self.waiting_since = time.monotonic()
        item = await self._next()
        self.waiting_since = None
        if isinstance(item, HungUp):
            raise ConnectionOver
        if not isinstance(item, Reply):
            raise AgiGarbled("a second environment came")
        if item.code >= 500:
            self._log.say(WARNING, f"Asterisk does not carry out a command (code {item.code})", "agi command")
        return item

    async def _next(self) -> Environment | Reply | HungUp:
        while not self._items:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionOver
            self._items.extend(self._stream.receive(data))
        return self._items.popleft()
