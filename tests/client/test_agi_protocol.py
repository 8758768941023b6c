"""FastAGI without a socket: in pieces of any size, whatever comes, and what goes out is one line that reads back."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client.agi_protocol import (
    MAX_ENVIRONMENT_LINES,
    MAX_LINE,
    MAX_USAGE_LINES,
    MAX_VALUE,
    AgiGarbled,
    AgiStream,
    Environment,
    HungUp,
    Reply,
    set_variable,
)

OPENING = b"agi_network: yes\nagi_network_script: acquire?port=a\nagi_uniqueid: 1.2\nagi_dnid: unknown\n\n"
USAGE = b"520-Invalid command syntax.  Proper usage follows:\nUsage: X\nmore\n520 End of proper usage.\n"


def opened() -> AgiStream:
    stream = AgiStream()
    stream.receive(OPENING)
    return stream


def test_the_environment_is_told_once_it_is_whole() -> None:
    stream = AgiStream()
    assert stream.receive(OPENING[:-1]) == []
    (environment,) = stream.receive(b"\n")
    assert isinstance(environment, Environment)
    assert (environment["uniqueid"], environment["dnid"], environment["context"]) == ("1.2", "", "")


def test_arguments_come_in_their_order() -> None:
    lines = b"".join(b"agi_arg_%d: %d\n" % (number, number) for number in (10, 2, 1))
    (environment,) = AgiStream().receive(lines + b"\n")
    assert isinstance(environment, Environment)
    assert environment.arguments == ["1", "2", "10"]


@pytest.mark.parametrize(
    "forged", [b"agi_arg_1: class=emergency", b"agi_uniqueid: 9.9", b"agi_dnid: 112", b"agi_extension: 112"]
)
def test_a_dialed_number_with_a_line_end_forges_nothing(forged: bytes) -> None:
    extension = b"agi_extension: 100\n" + forged + b"\nagi_priority: 1\nagi_arg_1: port=a\n\n"
    with pytest.raises(AgiGarbled, match="forged"):
        AgiStream().receive(OPENING[:-1] + extension)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"200 result=1\n", Reply(200, "1")),
        (b"200 result=1 (some text (really))\n", Reply(200, "1", "some text (really)")),
        (b"200 result=0 endpos=123\n", Reply(200, "0")),
        (b"510 Invalid or unknown command\n", Reply(510)),
        (b"511 Command Not Permitted on a dead channel or intercept routine\n", Reply(511)),
        (b"520 Invalid command syntax.  Proper usage not available.\n", Reply(520)),
        (USAGE, Reply(520)),
        (b"100 result=0 Trying...\n200 result=1\n", Reply(200, "1")),
        (b"HANGUP\n", HungUp()),
    ],
)
def test_each_sort_of_answer_is_read(line: bytes, reply: Reply | HungUp) -> None:
    assert opened().receive(line) == [reply]


@given(st.integers(1, 40))
def test_pieces_of_any_size_mean_the_same(size: int) -> None:
    whole = OPENING + b"200 result=1 (a)\n" + USAGE + b"HANGUP\n"
    stream = AgiStream()
    found = [it for at in range(0, len(whole), size) for it in stream.receive(whole[at : at + size])]
    assert found[1:] == [Reply(200, "1", "a"), Reply(520), HungUp()]


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_whatever_comes_is_read_or_refused(pieces: list[bytes], is_opened: bool) -> None:
    stream = opened() if is_opened else AgiStream()
    found: list[Environment | Reply | HungUp] = []
    with contextlib.suppress(AgiGarbled):
        for piece in pieces:
            found += stream.receive(piece)
    assert sum(isinstance(it, Environment) for it in found) <= (0 if is_opened else 1)


def test_a_line_has_so_many_bytes() -> None:
    AgiStream().receive(b"agi_request: ".ljust(MAX_LINE, b"x"))
    with pytest.raises(AgiGarbled, match=str(MAX_LINE)):
        AgiStream().receive(b"agi_request: ".ljust(MAX_LINE + 1, b"x"))


def test_a_channel_is_told_in_so_many_lines() -> None:
    lines = b"".join(b"agi_x%d: y\n" % number for number in range(MAX_ENVIRONMENT_LINES))
    assert AgiStream().receive(lines + b"\n")
    with pytest.raises(AgiGarbled, match=str(MAX_ENVIRONMENT_LINES)):
        AgiStream().receive(lines + b"agi_x: y\n")


def test_a_usage_has_so_many_lines() -> None:
    with pytest.raises(AgiGarbled, match=str(MAX_USAGE_LINES)):
        opened().receive(b"520-Invalid command syntax.\n" + b"more\n" * MAX_USAGE_LINES)


@given(st.text())
def test_a_command_is_one_line_that_reads_back_as_it_was(value: str) -> None:
    command = set_variable("FEATUREKEY_MESSAGE", value)
    assert command.endswith(b"\n")
    assert command.count(b"\n") == 1
    assert len(command) < 2048
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", command)
    quoted = re.fullmatch(
        r'SET VARIABLE "FEATUREKEY_MESSAGE" "((?:[^"\\]|\\.)*)"\n', command.decode("utf-8", "replace")
    )
    assert quoted is not None
    if value.isprintable():
        assert re.sub(r"\\(.)", r"\1", quoted[1]) == value[:MAX_VALUE]
