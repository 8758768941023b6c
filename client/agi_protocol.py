"""FastAGI without a socket: what Asterisk sends on one connection, bytes in and values out, and the commands to it.

Sources: the Asterisk documentation (Dialplan Applications, AGI; AGI Commands) and the behavior of `res_agi`. Rules:

* Asterisk opens the conversation with lines `agi_name: value` and an empty line; from then on it speaks only in answer
  to a command, but for one line `HANGUP` when the channel is hung up meanwhile.
* One command at a time: Asterisk reads a line through a buffer and then waits on the socket, so that a second command
  sent with the first may lie in the buffer until the call is over.
* Bytes that are not UTF-8 are kept (surrogateescape): a far end chooses numbers and names.
* What breaks a limit or the protocol raises `AgiGarbled`, after which the connection is of no use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE = 4096
"""Bytes of a line. Asterisk's own lines are bounded by 2,048 for a command, and a request with its arguments is one."""

MAX_ENVIRONMENT_LINES = 160
"""Lines before the empty one. Asterisk sends 23 and one for each of at most 127 arguments."""

MAX_USAGE_LINES = 64
"""Lines of the usage that follows a command which is wrong; the longest of Asterisk's has under 30."""

MAX_VALUE = 256
"""Characters of a value that is set: with each of them escaped, or of four bytes, the command stays below the 2,048
bytes that Asterisk reads, and a sentence for a technician fits."""

_ENVIRONMENT_LINE = re.compile(r"agi_([a-z0-9_]+):(?: (.*))?")
_REPLY = re.compile(r"(\d{3})(?:[ -](.*))?")
_RESULT = re.compile(r"result=(\S*)(?: \((.*)\))?.*")


class AgiGarbled(Exception):
    """What came is not FastAGI, or more of it than there may be; the text names line or limit."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What Asterisk says of the channel at the beginning; names without the `agi_` before them."""

    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """The value, empty where Asterisk said none or that it is unknown."""
        value = self.values.get(name, "")
        return "" if value == "unknown" else value

    @property
    def arguments(self) -> list[str]:
        """The arguments behind the first comma of the AGI application, in their order."""
        numbered = (name for name in self.values if re.fullmatch(r"arg_[1-9]\d{0,2}", name))
        return [self.values[name] for name in sorted(numbered, key=lambda name: int(name[4:]))]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one command: its code, what it says after `result=`, and the value in parentheses."""

    code: int
    result: str = ""
    value: str | None = None


@dataclass(frozen=True, slots=True)
class HungUp:
    """The channel was hung up; commands that may run on a dead channel still do."""


@dataclass(slots=True)
class AgiStream:
    """What one connection brings, read in pieces of any size."""

    _rest: bytes = b""
    _environment: dict[str, str] | None = field(default_factory=dict)
    _environment_lines: int = 0
    _usage_lines: int = 0

    def receive(self, data: bytes) -> list[Environment | Reply | HungUp]:
        """What the bytes complete, in order; raises AgiGarbled."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) > MAX_LINE for line in (*lines, self._rest)):
            raise AgiGarbled(f"a line has more than {MAX_LINE} bytes")
        found = (self._line(line.decode("utf-8", "surrogateescape").rstrip("\r")) for line in lines)
        return [it for it in found if it is not None]

    def _line(self, line: str) -> Environment | Reply | HungUp | None:
        if self._environment is not None:
            return self._environment_line(self._environment, line)
        if self._usage_lines:
            return self._usage_line(line)
        if line == "HANGUP":
            return HungUp()
        return self._reply(line)

    def _environment_line(self, values: dict[str, str], line: str) -> Environment | None:
        if not line:
            self._environment = None
            return Environment(values)
        self._environment_lines += 1
        found = _ENVIRONMENT_LINE.fullmatch(line)
        if found is None:
            raise AgiGarbled(f"line {self._environment_lines} is not one of agi_name: value")
        if self._environment_lines > MAX_ENVIRONMENT_LINES:
            raise AgiGarbled(f"the channel is told in more than {MAX_ENVIRONMENT_LINES} lines")
        # A number that was dialed may have a line end in it. What it forges comes twice, or is an argument with other
        # lines behind it: Asterisk tells the arguments last.
        name, is_argument = found[1], found[1].startswith("arg_")
        if name in values or (not is_argument and any(it.startswith("arg_") for it in values)):
            raise AgiGarbled(f"line {self._environment_lines} is told twice or behind the arguments; a forged number?")
        values[name] = found[2] or ""
        return None

    def _usage_line(self, line: str) -> Reply | None:
        if line.startswith("520 "):
            self._usage_lines = 0
            return Reply(520)
        self._usage_lines += 1
        if self._usage_lines > MAX_USAGE_LINES:
            raise AgiGarbled(f"a usage has more than {MAX_USAGE_LINES} lines")
        return None

    def _reply(self, line: str) -> Reply | None:
        found = _REPLY.fullmatch(line)
        if found is None:
            raise AgiGarbled("a line is no answer to a command")
        if line.startswith("520-"):
            self._usage_lines = 1
            return None
        code, result = int(found[1]), _RESULT.fullmatch(found[2] or "")
        if code < 200:
            return None  # a command that takes longer; its answer is still to come
        return Reply(code) if result is None else Reply(code, result[1], result[2])


def set_variable(name: str, value: str) -> bytes:
    """The command that sets a channel variable or writes a dialplan function, value shortened and in one line."""
    return _command("SET VARIABLE", name, value)


def get_variable(name: str) -> bytes:
    """The command that asks for a channel variable."""
    return _command("GET VARIABLE", name)


def evaluate(expression: str) -> bytes:
    """The command that asks what an expression such as `${CHANNEL(state)}` comes to."""
    return _command("GET FULL VARIABLE", expression)


def _command(verb: str, *words: str) -> bytes:
    return " ".join([verb, *map(_quoted, words)]).encode("utf-8", "surrogateescape") + b"\n"


def _quoted(word: str) -> str:
    plain = "".join(letter if _carried(letter) else " " for letter in word[:MAX_VALUE])
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _carried(letter: str) -> bool:
    """Whether a letter may stand in a command: printable, or a byte that came from Asterisk."""
    return letter.isprintable() or "\udc80" <= letter <= "\udcff"
