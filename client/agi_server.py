"""featurekey-agi: the small process between Asterisk and featurekeyd. It listens for FastAGI and follows AMI.

FastAGI is TCP and has no credentials, so it is not in the daemon: this process has a user of its own, who may ask the
daemon and nothing else, and listens on the loopback address unless the site says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .agi_asking import Asking
from .agi_following import Following
from .agi_log import NOTICE, WARNING, Log
from .agi_session import AgiSession, HangupContext
from .agi_settings import (
    DEFAULT_PATH,
    AgiSettings,
    SettingsMistake,
    address,
    checked_address,
    read_secret,
    read_settings,
)

if TYPE_CHECKING:
    from typing import NoReturn

MAX_CONNECTIONS = 256
"""FastAGI connections at once. A call holds one for some milliseconds while it is set up and when it ends: this is
room for an orderly stop of Asterisk with as many calls."""

BACKLOG = 512
"""Connections that wait to be accepted: calls that come or end at the same moment."""

WRONG_SETTINGS = 2
CANNOT_LISTEN = 1


class AgiServer:
    """Listens for FastAGI; one session for each connection."""

    def __init__(self, settings: AgiSettings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._asking = Asking(settings)
        self._following = Following(settings, self._asking, log)
        self._context = HangupContext(settings.release_context)
        self._sessions: dict[AgiSession, asyncio.StreamWriter] = {}

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises OSError when it cannot listen."""
        over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        server = await asyncio.start_server(
            self._serve, self._settings.address, self._settings.port, family=socket.AF_INET, backlog=BACKLOG
        )
        following = asyncio.create_task(self._following.run())
        async with server:
            where, port = server.sockets[0].getsockname()
            self._log.say(NOTICE, f"listens for FastAGI at {where}:{port}, asks as {self._settings.holder}")
            tell_systemd("READY=1")
            await self._wait(over, following)
        tell_systemd("STOPPING=1")
        following.cancel()
        await self._following.settle()
        await self._asking.deliver()
        self._asking.close()

    async def _wait(self, over: asyncio.Event, following: asyncio.Task[None]) -> None:
        """Until the end is asked for, or following the calls has failed, which raises."""
        ended = asyncio.create_task(over.wait())
        await asyncio.wait((ended, following), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if following.done():
            following.result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._sessions) >= MAX_CONNECTIONS and not self._made_room():
            self._log.say(WARNING, f"{MAX_CONNECTIONS} FastAGI connections are open; a further one was closed", "full")
            writer.close()
            return
        session = AgiSession(
            reader, writer, following=self._following, settings=self._settings, context=self._context, log=self._log
        )
        self._sessions[session] = writer
        try:
            await session.serve()
        finally:
            self._sessions.pop(session, None)

    def _made_room(self) -> bool:
        """Close the connection whose far end has said nothing for longest; whether there was one.

        Who only connects, or asks and takes no answer, must not keep calls out.
        """
        waiting = {session: since for session in self._sessions if (since := session.waiting_since) is not None}
        if not waiting:
            return False
        self._log.say(WARNING, f"{MAX_CONNECTIONS} FastAGI connections are open; the silent ones are closed", "full")
        self._sessions.pop(min(waiting, key=waiting.__getitem__)).transport.abort()
        return True


def tell_systemd(state: str) -> None:
    """Send a state to the service manager where there is one (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + place[1:] if place.startswith("@") else place)
        out.send(state.encode())


def _settings(path: Path | None, daemon: str | None, listen: str | None) -> AgiSettings:
    settings = read_settings(path or DEFAULT_PATH, needed=path is not None)
    if daemon:
        settings = replace(settings, socket=daemon)
    if listen:
        host, _, port = listen.rpartition(":")
        try:
            settings = replace(settings, address=address(host), port=_port(port))
        except ValueError as error:
            raise SettingsMistake(f"--listen {listen}: {error}") from None
    return settings


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535):
        raise ValueError("behind the colon goes a port, 0 (any free one) to 65535")
    return int(text)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--settings", type=click.Path(path_type=Path), metavar="FILE", help=f"Settings [default: {DEFAULT_PATH}]."
)
@click.option("--socket", "daemon", metavar="PATH", help="Socket of featurekeyd, in place of the settings'.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Where to listen for FastAGI, in place of the settings'.")
@click.option("--check", is_flag=True, help="Check the settings and leave.")
@click.version_option(package_name="featurekeyd", prog_name="featurekey-agi")
def main(settings: Path | None, daemon: str | None, listen: str | None, *, check: bool) -> NoReturn:
    """Ask featurekeyd in the name of Asterisk: a question over FastAGI, the answer in channel variables.

    See docs/asterisk.md for the line in the dialplan and for manager.conf.
    """
    log = Log()
    try:
        read = _settings(settings, daemon, listen)
        warning = checked_address(read)
        if check and read.ami is not None:
            read_secret(read.ami)
    except SettingsMistake as mistake:
        click.echo(f"featurekey-agi: {mistake}", err=True)
        sys.exit(WRONG_SETTINGS)
    if warning:
        log.say(WARNING, warning)
    sys.exit(0 if check else _run(read, log))


def _run(settings: AgiSettings, log: Log) -> int:
    try:
        asyncio.run(AgiServer(settings, log).run())
    except OSError as error:
        place = f"{settings.address}:{settings.port}"
        click.echo(f"featurekey-agi: cannot listen at {place}: {error.strerror or error}", err=True)
        return CANNOT_LISTEN
    return 0
