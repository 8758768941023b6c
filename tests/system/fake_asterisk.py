"""A peer that behaves to featurekey-agi as Asterisk does: channels that run a dialplan, FastAGI and AMI.

What it takes over from Asterisk, because it decides about right and wrong counts (Asterisk documentation: AGI, Hangup
Handlers, AMI; behavior of res_agi):

* AGI is split at commas; a channel has one Uniqueid for life; one command is read at a time, and bytes that come with
  it are lost for good, which is noted in `faults`; an answer is `200 result=`, 510, 511 on a dead channel, 520 in
  several lines.
* Hangup handlers are contexts, run newest first when the channel ends, before AMI's Hangup event, each over a FastAGI
  connection of its own. A kill runs none of them.
* AMI opens with a banner, takes a login by challenge or plain, tells events to whoever is logged in, and gives a list
  with its number of items at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rig_process import DEADLINE

BANNER = b"Asterisk Call Manager/9.0.0\r\n"
USAGE = (
    b"520-Invalid command syntax.  Proper usage follows:\n"
    b"Usage: SET VARIABLE <name> <value>\n"
    b"520 End of proper usage.\n"
)
FULLY_BOOTED = {"Privilege": "system,all", "Status": "Fully Booted"}

Dialplan = Callable[["Channel"], None]


def release(channel: Channel) -> None:
    """The context of client/asterisk/extensions.conf that the hangup handler runs."""
    channel.agi("agi://127.0.0.1/hangup")


class Channel:
    """One channel: variables, hangup handlers, and what AMI tells of it."""

    def __init__(self, asterisk: FakeAsterisk, name: str, uniqueid: str, linkedid: str, exten: str) -> None:
        self.asterisk = asterisk
        self.name = name
        self.uniqueid = uniqueid
        self.linkedid = linkedid
        self.exten = exten
        self.up = False
        self.bridge = ""
        self.application = "AGI"
        self.variables: dict[str, str] = {}
        self.handlers: list[str] = []
        self.dead = False
        self.hang_up_after: int | None = None
        """Commands of an AGI after which the caller hangs up, None for never."""

    @property
    def status(self) -> str:
        """What the dialplan goes by."""
        return self.variables.get("FEATUREKEY_STATUS", "")

    # The dialplan

    def agi(self, line: str) -> bool:
        """Run the AGI application; whether it could be reached. The address of the line has no port: it is put in."""
        url, *arguments = line.split(",")
        try:
            with socket.create_connection(("127.0.0.1", self.asterisk.agi_port), DEADLINE) as connected:
                connected.sendall(self._environment(url, arguments))
                self._serve(connected)
        except OSError:
            return False
        return True

    def dial(self, name: str) -> Channel:
        """Dial another channel, which rings."""
        leg = self.asterisk.channel(name, linkedid=self.linkedid)
        leg.application = "AppDial"
        self.asterisk.tell("DialBegin", {**self.headers(), **leg.headers("Dest"), "DialString": name})
        return leg

    def answer(self, leg: Channel) -> None:
        """The leg answers, and the two are bridged."""
        leg.set_up()
        self.asterisk.tell("DialEnd", {**self.headers(), **leg.headers("Dest"), "DialStatus": "ANSWER"})
        self.set_up()
        self.bridge = leg.bridge = f"bridge-{leg.uniqueid}"

    def set_up(self) -> None:
        """The channel is answered."""
        if not self.up:
            self.up = True
            self.asterisk.tell("Newstate", self.headers())

    def hang_up(self, cause: int = 16) -> None:
        """End: the hangup handlers run, newest first, then the channel is gone and AMI tells of it."""
        self.dead = True
        while self.handlers:
            context = self.handlers.pop().partition(",")[0]
            self.asterisk.contexts[context](self)
        self.asterisk.gone(self, cause)

    def _environment(self, url: str, arguments: list[str]) -> bytes:
        script = url.partition("://")[2].partition("/")[2]
        values = {
            "network": "yes",
            "network_script": script,
            "request": url,
            "channel": self.name,
            "language": "en",
            "type": "PJSIP",
            "uniqueid": self.uniqueid,
            "version": "22.0.0",
            "callerid": "unknown",
            "dnid": "unknown",
            "context": "from-inside",
            "extension": self.exten,
            "priority": "1",
            "enhanced": "0.0",
            "accountcode": "",
            "threadid": "139",
        } | {f"arg_{number}": value for number, value in enumerate(arguments, 1)}
        return "".join(f"agi_{name}: {value}\n" for name, value in values.items()).encode() + b"\n"

    def _serve(self, connected: socket.socket) -> None:
        for number in itertools.count(1):
            line = self._command(connected)
            if not line:
                return
            connected.sendall(self._answer(line))
            if number == self.hang_up_after:
                self.dead = True
                connected.sendall(b"HANGUP\n")

    def _command(self, connected: socket.socket) -> str:
        received = b""
        while not received.endswith(b"\n"):
            chunk = connected.recv(4096)
            if not chunk:
                return ""
            received += chunk
        if received.count(b"\n") > 1:
            self.asterisk.faults.append(f"several commands at once: {received!r}")
        return received.decode().split("\n")[0]

    def _answer(self, line: str) -> bytes:
        words = [plain or quoted for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)]
        words = [re.sub(r"\\(.)", r"\1", word) for word in words]
        match [*(word.upper() for word in words[:2]), *words[2:]]:
            case ["SET", "VARIABLE", name, value]:
                return self._set(name, value)
            case ["SET", "VARIABLE", *_]:
                return USAGE
            case ["GET", "VARIABLE", name]:
                return _value(self.variables.get(name))
            case ["GET", "FULL", *rest]:
                exists = re.search(r"DIALPLAN_EXISTS\(([^,]+),s,1\)", rest[-1])
                return _value("1" if exists and exists[1] in self.asterisk.contexts else "0")
            case ["ANSWER", *_] if self.dead:
                return b"511 Command Not Permitted on a dead channel or intercept routine\n"
        self.asterisk.faults.append(f"no such command: {line}")
        return b"510 Invalid or unknown command\n"

    def _set(self, name: str, value: str) -> bytes:
        if name == "CHANNEL(hangup_handler_push)":
            self.handlers.append(value)
        else:
            self.variables[name] = value
        return b"200 result=1\n"

    # What AMI tells

    def headers(self, prefix: str = "") -> dict[str, str]:
        """The snapshot of a channel in an event."""
        values = {
            "Channel": self.name,
            "ChannelState": "6" if self.up else "4",
            "ChannelStateDesc": "Up" if self.up else "Ring",
            "CallerIDNum": "<unknown>",
            "Context": "from-inside",
            "Exten": self.exten,
            "Priority": "1",
            "Uniqueid": self.uniqueid,
            "Linkedid": self.linkedid,
        }
        return {prefix + name: value for name, value in values.items()}

    def listed(self) -> dict[str, str]:
        """The channel in a list."""
        return {**self.headers(), "BridgeId": self.bridge, "Application": self.application, "Duration": "00:00:01"}


def _value(value: str | None) -> bytes:
    return b"200 result=0\n" if value is None else f"200 result=1 ({value})\n".encode()


class FakeAsterisk:
    """The switch; `agi_port` is where its dialplan finds featurekey-agi."""

    def __init__(self, *, username: str = "featurekey", secret: str = "s3cret") -> None:
        self.agi_port = 0
        self.contexts: dict[str, Dialplan] = {"featurekey-release": release}
        self.faults: list[str] = []
        self.username, self.secret = username, secret
        self.may_list = True
        self.gives_challenge = True
        self.cuts_lists = False
        """True to end each list with a wrong number of items."""
        self.logins = 0
        self.lists = 0
        self.changed = threading.Condition()
        self._channels: dict[str, Channel] = {}
        self._numbers = itertools.count()
        self._guard = threading.RLock()
        self._sessions: list[_Session] = []
        self._listener: socket.socket | None = None
        self.ami_port = 0
        self.open_ami()

    # Channels

    def channel(self, name: str, *, exten: str = "100", linkedid: str = "") -> Channel:
        """A new channel; a number is put behind its name, as drivers do."""
        with self._guard:
            number = next(self._numbers)
            uniqueid = f"1763784000.{number}"
            channel = Channel(self, f"{name}-{number:08x}", uniqueid, linkedid or uniqueid, exten)
            self._channels[uniqueid] = channel
        self.tell("Newchannel", channel.headers())
        return channel

    def local(self, exten: str = "100") -> tuple[Channel, Channel]:
        """The two halves of a Local channel; the second one runs the dialplan."""
        one = self.channel(f"Local/{exten}@out", exten=exten)
        two = self.channel(f"Local/{exten}@out", exten=exten, linkedid=one.linkedid)
        one.name, two.name = f"{one.name};1", f"{one.name};2"
        return one, two

    def gone(self, channel: Channel, cause: int) -> None:
        """Forget a channel and tell of it."""
        with self._guard:
            found = self._channels.pop(channel.uniqueid, None)
        if found is not None:
            self.tell("Hangup", {**channel.headers(), "Cause": str(cause), "Cause-txt": "Normal Clearing"})

    def lose(self, channel: Channel) -> None:
        """Forget a channel without a word: no handler runs, no event is told."""
        with self._guard:
            del self._channels[channel.uniqueid]

    def attended_transfer(self, first: Channel, second: Channel, one: Channel, other: Channel) -> None:
        """`first` and `second` are the calls of who transfers; `one` and `other`, their far ends, go on together."""
        one.bridge = other.bridge = second.bridge
        headers = {**first.headers("OrigTransferer"), **second.headers("SecondTransferer")}
        headers |= {**one.headers("Transferee"), **other.headers("TransferTarget")}
        self.tell("AttendedTransfer", {"Result": "Success", **headers})
        first.hang_up()
        second.hang_up()

    def masquerade(self, clone: Channel, original: Channel) -> None:
        """What `clone` is made of goes into `original`, which takes its name; the rest of `clone` ends as a zombie."""
        name, old = clone.name, original.name
        self._rename(clone, f"{name}<MASQ>")
        self._rename(original, name)
        self._rename(clone, f"{old}<ZOMBIE>")
        clone.hang_up()

    def _rename(self, channel: Channel, name: str) -> None:
        self.tell("Rename", {"Channel": channel.name, "Newname": name, "Uniqueid": channel.uniqueid})
        channel.name = name

    def kill(self) -> None:
        """End as by SIGKILL: no hangup handler runs, AMI is cut off."""
        with self._guard:
            self._channels.clear()
        self.close_ami()

    def stop(self) -> None:
        """End in order: every channel is hung up, then AMI is closed."""
        for channel in list(self._channels.values()):
            channel.hang_up()
        self.close_ami()

    def put_right(self) -> None:
        """Have everything as it was at the beginning, but for the channels."""
        self.contexts = {"featurekey-release": release}
        self.may_list, self.cuts_lists = True, False
        if self._listener is None:
            self.open_ami()

    # AMI

    def open_ami(self) -> None:
        """Listen for AMI, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.ami_port))
        self.ami_port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close_ami(self) -> None:
        """Listen no longer, and cut off who is connected."""
        if self._listener is not None:
            # Without it a thread that waits in accept keeps the socket open.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut_ami()

    def cut_ami(self) -> None:
        """Cut off who is connected."""
        with self._guard:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def tell(self, event: str, headers: Mapping[str, str]) -> None:
        """Tell an event to all who are logged in, in one order for all."""
        with self._guard:
            for session in self._sessions:
                if session.logged_in:
                    session.send({"Event": event, "Privilege": "call,all", **headers})

    def wait_for(self, count: str, more: int = 1) -> None:
        """Wait until `logins` or `lists` has grown by so many."""
        with self.changed:
            goal = getattr(self, count) + more
            assert self.changed.wait_for(lambda: getattr(self, count) >= goal, DEADLINE), f"no {count} in time"

    def counted(self, count: str) -> None:
        """Count a login or a list."""
        with self.changed:
            setattr(self, count, getattr(self, count) + 1)
            self.changed.notify_all()

    def snapshot(self) -> list[Channel]:
        """The channels that there are."""
        with self._guard:
            return list(self._channels.values())

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            session = _Session(self, connected)
            with self._guard:
                self._sessions.append(session)
            threading.Thread(target=session.serve, daemon=True).start()

    def __enter__(self) -> FakeAsterisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_ami()
        assert self.faults == []


class _Session:
    """One connection of AMI."""

    def __init__(self, asterisk: FakeAsterisk, connected: socket.socket) -> None:
        self._asterisk = asterisk
        self._socket = connected
        self._guard = threading.Lock()
        self.logged_in = False
        self._challenge = "840415273"

    def serve(self) -> None:
        with contextlib.suppress(OSError), self._socket:
            self._socket.sendall(BANNER)
            received = b""
            while chunk := self._socket.recv(4096):
                received += chunk
                while (end := received.find(b"\r\n\r\n")) >= 0:
                    self._act(_headers(received[:end].decode()))
                    received = received[end + 4 :]

    def send(self, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with contextlib.suppress(OSError), self._guard:
            self._socket.sendall(lines.encode() + b"\r\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _act(self, action: dict[str, str]) -> None:
        match action["Action"].lower():
            case "challenge":
                self._give_challenge(action)
            case "login":
                self._login(action)
            case "coreshowchannels" if self.logged_in and self._asterisk.may_list:
                self._list(action)
            case _:
                self._respond(action, "Error", Message="Permission denied")

    def _respond(self, action: dict[str, str], response: str, **more: str) -> None:
        self.send({"Response": response, "ActionID": action["ActionID"], **more})

    def _give_challenge(self, action: dict[str, str]) -> None:
        if self._asterisk.gives_challenge:
            self._respond(action, "Success", Challenge=self._challenge)
        else:
            self._respond(action, "Error", Message="Must specify AuthType")

    def _login(self, action: dict[str, str]) -> None:
        secret = self._asterisk.secret
        key = hashlib.md5((self._challenge + secret).encode()).hexdigest()
        right = action.get("Key") == key or action.get("Secret") == secret
        if not right or action["Username"] != self._asterisk.username:
            self._respond(action, "Error", Message="Authentication failed")
            self.close()
            return
        self._respond(action, "Success", Message="Authentication accepted")
        self.send({"Event": "FullyBooted", **FULLY_BOOTED})
        self.logged_in = True
        self._asterisk.counted("logins")

    def _list(self, action: dict[str, str]) -> None:
        mine = {"ActionID": action["ActionID"]}
        self._respond(action, "Success", EventList="start", Message="Channels will follow")
        channels = self._asterisk.snapshot()
        for channel in channels:
            self.send({"Event": "CoreShowChannel", **mine, **channel.listed()})
        items = len(channels) + (1 if self._asterisk.cuts_lists else 0)
        end: dict[str, Any] = {"EventList": "Complete", "ListItems": items}
        self.send({"Event": "CoreShowChannelsComplete", **mine, **end})
        self._asterisk.counted("lists")


def _headers(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.split("\r\n"))
