"""The Asterisk Manager Interface without a socket: bytes in; events, lists and what to send out.

Sources: the Asterisk documentation (Configuration, Interfaces, AMI; AMI Actions Login, Challenge, CoreShowChannels;
AMI Events). Rules:

* The switch opens with a banner line. From then on both sides speak in messages: lines `Name: value` and an empty line,
  each ended by CR LF; a line feed alone belongs to a value. Names are compared without their case; of a name that comes
  twice the first counts, but a message that names two channels or events is forged by a value, and is left out. A list
  with such a one is not whole.
* Each action has an ActionID, and what answers it carries the same; an event without one of ours goes to the caller.
* A channel list is whole or it is none: its end must come, and name as many channels as came. Half a list, taken for
  the truth, would free the leases of calls in progress.
* The secret is sent as the MD5 of challenge and secret unless `plain` is asked for, and is told nowhere.
* What breaks a limit or the protocol raises `AmiGarbled`, a refused login `AmiRefused`; the connection is then over.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE = 8192
"""Bytes of a line: twice a FastAGI line, which events repeat as the data of an application."""

MAX_LINES = 256
"""Lines of a message. The longest event, of a transfer, has about 100, and sites add channel variables."""

MAX_CHANNELS = 20_000
"""Channels of a list: as many as one user may have leases."""

_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?: ?(.*))", re.DOTALL)

_ONCE = ("event", "uniqueid", "actionid")
"""Headers of which a message has one."""

Message = dict[str, str]
"""Headers by their names in lower case."""


class AmiGarbled(Exception):
    """What came is not AMI, or more of it than there may be; the text names what."""


class AmiRefused(Exception):
    """The switch refused the login; the text has its reason, and what to look at."""


@dataclass(slots=True)
class AmiStream:
    """What one connection brings, read in pieces of any size."""

    banner: str = ""
    _rest: bytes = b""
    _message: Message = field(default_factory=dict)
    _lines: int = 0
    _forged: bool = False

    def receive(self, data: bytes) -> list[Message]:
        """The messages that the bytes complete; raises AmiGarbled."""
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        if any(len(line) > MAX_LINE for line in (*lines, self._rest)):
            raise AmiGarbled(f"a line has more than {MAX_LINE} bytes")
        found = (self._line(line.decode("utf-8", "surrogateescape")) for line in lines)
        return [message for message in found if message]

    def _line(self, line: str) -> Message | None:
        if not self.banner:
            self.banner = _banner(line)
            return None
        if not line:
            message, forged = self._message, self._forged
            self._message, self._lines, self._forged = {}, 0, False
            return None if forged else message
        self._lines += 1
        if self._lines > MAX_LINES:
            raise AmiGarbled(f"a message has more than {MAX_LINES} lines")
        found = _HEADER.fullmatch(line)
        # The name of a caller may hold a line end; what is no header says nothing that is looked for here.
        if found is not None:
            name = found[1].lower()
            self._forged = self._forged or (name in _ONCE and name in self._message)
            self._message.setdefault(name, found[2] or "")
        return None


def _banner(line: str) -> str:
    if not re.match(r"\w[\w ]* Call Manager/\S", line):
        raise AmiGarbled("it does not begin with the banner of a Call Manager; does the port belong to AMI?")
    return line


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One channel of a list: what is looked at here."""

    uniqueid: str
    linkedid: str = ""
    name: str = ""
    up: bool = False
    bridge: str = ""
    dialed: bool = False
    """True for a channel that another one dialed, and that runs no dialplan of its own."""


ChannelList = dict[str, ChannelInfo]
"""The channels that there are, by Uniqueid."""


def channel_info(message: Mapping[str, str]) -> ChannelInfo:
    """What one CoreShowChannel event says; the application of a dialed channel is AppDial, of a queue's AppQueue."""
    return ChannelInfo(
        uniqueid=message.get("uniqueid", ""),
        linkedid=message.get("linkedid", ""),
        name=message.get("channel", ""),
        up=message.get("channelstate") == "6",
        bridge=message.get("bridgeid", ""),
        dialed=message.get("application", "").startswith(("AppDial", "AppQueue")),
    )


@dataclass(slots=True)
class _Listing:
    """A list on its way; `broken` once it cannot become whole."""

    channels: ChannelList = field(default_factory=dict)
    items: int = 0
    broken: bool = False


class AmiConversation:
    """One connection as the client's side sees it: logs in by itself, then asks for lists.

    `finished` has the lists that came to their end, by ActionID: None for one that could not be had.
    """

    def __init__(self, username: str, secret: str, *, plain: bool = False) -> None:
        self.logged_in = False
        self.finished: dict[str, ChannelList | None] = {}
        self._username = username
        self._secret = secret
        self._plain = plain
        self._stream = AmiStream()
        self._output = bytearray()
        self._listings: dict[str, _Listing] = {}
        self._number = 0
        self._login_id = ""
        self._challenge_id = ""

    @property
    def banner(self) -> str:
        """The line that the switch opened with, empty before it came."""
        return self._stream.banner

    def receive(self, data: bytes) -> list[Message]:
        """Take in what came; the events that belong to none of our actions. Raises AmiGarbled and AmiRefused."""
        begun = bool(self._stream.banner)
        messages = self._stream.receive(data)
        if self._stream.banner and not begun:
            self._begin()
        return [message for message in messages if self._take(message) and "event" in message]

    def to_send(self) -> bytes:
        """What is to be sent now; once."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def ask_channels(self) -> str:
        """Ask for the list of channels; the ActionID under which `finished` will have it."""
        action = self._act("CoreShowChannels")
        self._listings[action] = _Listing()
        return action

    def _begin(self) -> None:
        if self._plain:
            self._login_id = self._act("Login", Username=self._username, Secret=self._secret, Events="call")
        else:
            self._challenge_id = self._act("Challenge", AuthType="MD5")

    def _act(self, name: str, **headers: str) -> str:
        self._number += 1
        action = f"featurekey-{self._number}"
        lines = [f"Action: {name}", f"ActionID: {action}", *(f"{key}: {value}" for key, value in headers.items())]
        self._output += "\r\n".join([*lines, "", ""]).encode()
        return action

    def _take(self, message: Message) -> bool:
        """Take one message in; whether it is for the caller."""
        action = message.get("actionid", "")
        if action and action == self._challenge_id and "response" in message:
            self._challenged(message)
        elif action and action == self._login_id and "response" in message:
            self._answered(message)
        elif action in self._listings:
            self._listed(action, self._listings[action], message)
        else:
            return True
        return False

    def _challenged(self, message: Message) -> None:
        if message["response"] != "Success" or not message.get("challenge"):
            raise AmiRefused(f'it gives no challenge ({_said(message)}); set login = "plain" in [ami]')
        answer = (message["challenge"] + self._secret).encode("utf-8", "surrogateescape")
        key = hashlib.md5(answer, usedforsecurity=False).hexdigest()
        self._login_id = self._act("Login", AuthType="MD5", Username=self._username, Key=key, Events="call")

    def _answered(self, message: Message) -> None:
        if message["response"] != "Success":
            what = "compare user name, secret, permit and deny with manager.conf, and see the log of Asterisk"
            raise AmiRefused(f"it refuses the login of {self._username} ({_said(message)}); {what}")
        self.logged_in = True

    def _listed(self, action: str, listing: _Listing, message: Message) -> None:
        event = message.get("event", "").lower()
        if message.get("response", "Success") != "Success":
            listing.broken = True
            self._end(action, listing)
        elif event == "coreshowchannel":
            self._channel(listing, channel_info(message))
        elif event == "coreshowchannelscomplete":
            whole = message.get("eventlist", "").lower() == "complete" and message.get("listitems") == str(
                listing.items
            )
            listing.broken = listing.broken or not whole
            self._end(action, listing)

    def _channel(self, listing: _Listing, channel: ChannelInfo) -> None:
        listing.items += 1
        if listing.items > MAX_CHANNELS:
            raise AmiGarbled(f"a list has more than {MAX_CHANNELS} channels")
        if channel.uniqueid:
            listing.channels[channel.uniqueid] = channel
        else:
            listing.broken = True

    def _end(self, action: str, listing: _Listing) -> None:
        del self._listings[action]
        self.finished[action] = None if listing.broken else listing.channels


def _said(message: Message) -> str:
    said = message.get("message", "no reason given")[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in said)
