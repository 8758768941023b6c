"""The connection to the Asterisk Manager Interface: kept up, made anew after each end, one list under way at a time.

Rules:

* Whoever asks for a list gets one that was begun after the asking; those who ask meanwhile share the next one.
* A list that does not come in time ends the connection: a switch that hangs is as good as none.
* The secret is read anew for each login, so that it can be changed without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .agi_log import ERROR, NOTICE, WARNING, Log
from .agi_settings import AmiSettings, SettingsMistake, read_secret
from .ami_protocol import AmiConversation, AmiGarbled, AmiRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ami_protocol import ChannelList, Message

LOGIN_SECONDS = 10
"""Seconds from the connection to the end of the login: Asterisk itself gives up after 30."""

LIST_SECONDS = 5
"""Seconds for a list: one of 20,000 channels comes within two."""

FIRST_PAUSE = 0.5
"""Seconds after a connection that was up; each attempt that fails doubles it."""

LONGEST_PAUSE = 15.0
"""Seconds between two attempts at most: four of them within the time to live of the leases."""

READ_BYTES = 65_536
"""Bytes read at once; others are served between."""


@dataclass(frozen=True, slots=True)
class TakenList:
    """A whole list, and when it was asked for, by the monotonic clock."""

    channels: ChannelList
    taken: float


class AmiLink:
    """Keeps one connection; `on_event` gets what happens, `on_up` is called after each login."""

    def __init__(
        self, settings: AmiSettings, log: Log, on_event: Callable[[Message], None], on_up: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._log = log
        self._on_event = on_event
        self._on_up = on_up
        self._conversation: AmiConversation | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: asyncio.Future[TakenList | None] | None = None
        self._current: tuple[str, float, asyncio.Future[TakenList | None]] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the switch is there and has taken the login."""
        return self._conversation is not None and self._conversation.logged_in

    async def run(self) -> None:
        """Connect and converse for ever."""
        pause = FIRST_PAUSE
        while True:
            # After a login a quick attempt: the switch was restarted, or the connection cut.
            pause = FIRST_PAUSE if await self._attempt() else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def channels(self) -> TakenList | None:
        """A list begun from now on, None where it cannot be had."""
        if not self.is_up:
            return None
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        wanted = self._waiting
        self._ask_next()
        try:
            return await asyncio.wait_for(asyncio.shield(wanted), LIST_SECONDS)
        except TimeoutError:
            self._log.say(WARNING, f"Asterisk gave no list of channels within {LIST_SECONDS} s", "list")
            self._drop()
            return None

    async def _attempt(self) -> bool:
        """One connection, from its begin to its end; whether it came to a login."""
        place = f"{self._settings.address}:{self._settings.port}"
        was_up = False
        try:
            await self._converse(read_secret(self._settings))
        except SettingsMistake as mistake:
            self._log.say(ERROR, f"AMI: {mistake}", "ami secret")
        except AmiRefused as refused:
            self._log.say(ERROR, f"AMI at {place}: {refused}", "ami refused")
        except AmiGarbled as garbled:
            self._log.say(WARNING, f"AMI at {place}: {garbled}", "ami garbled")
        except TimeoutError:
            self._log.say(WARNING, f"AMI at {place}: no login within {LOGIN_SECONDS} s", "ami slow")
        except OSError as error:
            what = (
                f"AMI at {place} cannot be reached ({error.strerror or error}); is Asterisk running, and AMI enabled?"
            )
            self._log.say(WARNING, what, "ami away")
        finally:
            was_up = self.is_up
            self._end()
        return was_up

    async def _converse(self, secret: str) -> None:
        ami = self._settings
        conversation = AmiConversation(ami.username, secret, plain=ami.plain)
        async with asyncio.timeout(LOGIN_SECONDS):
            reader, self._writer = await asyncio.open_connection(ami.address, ami.port)
            while not conversation.logged_in:
                if not await self._exchange(conversation, reader):
                    raise AmiRefused("it closed the connection before the login was done; see permit and deny there")
        self._conversation = conversation
        self._log.forget("ami away")
        self._log.say(NOTICE, f"connected to {conversation.banner} at {ami.address}:{ami.port}")
        self._on_up()
        while await self._exchange(conversation, reader):
            self._finish()
        self._log.say(WARNING, "Asterisk closed the connection of AMI")

    async def _exchange(self, conversation: AmiConversation, reader: asyncio.StreamReader) -> bool:
        """Take in what comes next and answer it; false at the end."""
        data = await reader.read(READ_BYTES)
        if not data:
            return False
        for event in conversation.receive(data):
            self._on_event(event)
        self._send(conversation)
        return True

    def _send(self, conversation: AmiConversation) -> None:
        output = conversation.to_send()
        if output and self._writer is not None:
            self._writer.write(output)

    def _ask_next(self) -> None:
        """Begin the list that is waited for, when no other is under way."""
        if self._current is None and self._waiting is not None and self._conversation is not None:
            waiting, self._waiting = self._waiting, None
            self._current = (self._conversation.ask_channels(), time.monotonic(), waiting)
            self._send(self._conversation)

    def _finish(self) -> None:
        """Hand out the list that has come to its end."""
        if self._current is None or self._conversation is None:
            return
        action, taken, future = self._current
        if action not in self._conversation.finished:
            return
        channels = self._conversation.finished.pop(action)
        if channels is None:
            self._log.say(
                WARNING, "Asterisk did not give a whole list of channels; does the user have write = reporting?", "list"
            )
        self._current = None
        _settle(future, None if channels is None else TakenList(channels, taken))
        self._ask_next()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    def _end(self) -> None:
        """Leave nothing of a connection behind; who waits for a list gets none."""
        self._drop()
        self._writer = self._conversation = None
        current, waiting = self._current, self._waiting
        self._current = self._waiting = None
        for future in (current[2] if current else None, waiting):
            if future is not None:
                _settle(future, None)


def _settle(future: asyncio.Future[TakenList | None], result: TakenList | None) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_result(result)
