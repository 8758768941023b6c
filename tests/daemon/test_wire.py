"""The wire: any bytes, cut up in any way."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon.limits import MAX_MESSAGE_BYTES, MAX_TELEPHONY_BYTES
from featurekeyd.daemon.wire import BadMessage, Call, Messages, error_reply, read_call, reply, reply_continues

LIMIT = 64
MESSAGE = st.binary(max_size=LIMIT).map(lambda data: data.replace(b"\0", b"."))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces that begin at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@given(st.lists(MESSAGE, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cutting_up_gives_the_same_messages(messages: list[bytes], places: list[int]) -> None:
    stream = Messages(LIMIT)
    data = b"".join(message + b"\0" for message in messages)
    got = [message for piece in cut(data, places) for message in stream.feed(piece)]
    assert got == messages
    assert not stream.unfinished


@given(MESSAGE, st.lists(st.integers(0, 10_000), max_size=20))
def test_what_has_not_ended_is_unfinished_and_no_message(begun: bytes, places: list[int]) -> None:
    stream = Messages(LIMIT)
    assert [message for piece in cut(begun, places) for message in stream.feed(piece)] == []
    assert stream.unfinished is bool(begun)
    assert stream.feed(b"\0") == [begun]


@given(st.lists(st.binary(max_size=3 * LIMIT), max_size=12))
def test_a_message_is_too_long_or_whole_and_never_anything_else(pieces: list[bytes]) -> None:
    stream, got, whole, refused = Messages(LIMIT), [], b"".join(pieces), None
    try:
        for piece in pieces:
            got += stream.feed(piece)
    except BadMessage as error:
        refused = json.loads(error.reply[:-1])["error"]
    if any(len(message) > LIMIT for message in whole.split(b"\0")):
        assert refused == "io.featurekey.License.MessageTooLarge"
    else:
        assert (refused, got) == (None, whole.split(b"\0")[:-1])


@pytest.mark.parametrize("limit", [LIMIT, MAX_TELEPHONY_BYTES, MAX_MESSAGE_BYTES])
def test_a_message_may_be_as_long_as_the_limit_and_not_one_byte_longer(limit: int) -> None:
    assert Messages(limit).feed(b"x" * limit + b"\0") == [b"x" * limit]
    with pytest.raises(BadMessage, match=f"longer than {limit} bytes"):
        Messages(limit).feed(b"x" * (limit + 1) + b"\0")


def test_a_message_is_refused_as_soon_as_it_is_too_long_not_when_it_ends() -> None:
    stream = Messages(LIMIT)
    for _ in range(LIMIT):
        assert stream.feed(b"x") == []
    with pytest.raises(BadMessage):
        stream.feed(b"x")
    assert not stream.unfinished


def test_a_message_in_ten_thousand_pieces_is_put_together_once() -> None:
    stream = Messages(100_000)
    kept: list[int] = []
    for _ in range(10_000):
        stream.feed(b"abc")
        kept.append(len(stream._parts))
    # Every piece waits as it came: nothing is put together before the end, so each byte is copied once.
    assert kept == list(range(1, 10_001))
    assert [len(message) for message in stream.feed(b"\0")] == [30_000]
    assert stream._parts == []


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_a_bad_message(data: bytes) -> None:
    try:
        outcome: Call | BadMessage = read_call(data)
    except BadMessage as error:
        outcome = error
    if isinstance(outcome, Call):
        return
    said = json.loads(outcome.reply[:-1])
    assert outcome.reply.endswith(b"\0")
    assert said == {"error": "io.featurekey.License.MalformedMessage", "parameters": {"hint": str(outcome)}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBER = st.sampled_from(["method", "parameters", "oneway", "more", "upgrade", "other"])


@given(st.dictionaries(MEMBER, JSON | st.just("a.B")))
def test_any_envelope_is_a_call_or_a_bad_message(envelope: dict[str, object]) -> None:
    flags = [envelope.get(name, False) for name in ("oneway", "more", "upgrade")]
    good = isinstance(envelope.get("method"), str) and all(isinstance(flag, bool) for flag in flags)
    try:
        call = read_call(json.dumps(envelope).encode())
    except BadMessage:
        assert not good
    else:
        assert good
        assert [call.method, call.oneway, call.more, call.upgrade] == [envelope["method"], *flags]
        assert json.loads(bytes(call.parameters)) == envelope.get("parameters", {})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b'"a.B"',
        b'{"method":null}',
        b'{"method":7}',
        b'{"method":"a.B"',
        b'{"method":"a.B"} x',
        b'{"method":"a\0B"}',
        b'{"method":"a\\ud800"}',
        b'{"method":"a\xff"}',
        b'{"method":"a.B","oneway":1}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b'{"method":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"method":"a.B","parameters":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"method":"a.B","other":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
)
def test_what_is_no_call_is_told(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        read_call(data)
    assert json.loads(caught.value.reply[:-1])["parameters"]["hint"] == str(caught.value)


def test_unknown_members_of_the_envelope_are_ignored() -> None:
    assert read_call(b'{"x":[1],"method":"a.B","y":{"method":"c.D"}}').method == "a.B"


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    call = read_call(b'{"method":"a.B","parameters":{"x":1},"method":"c.D","parameters":{"x":2}}')
    assert (call.method, bytes(call.parameters)) == ("c.D", b'{"x":2}')


def test_a_zero_character_in_a_reply_does_not_end_it_early() -> None:
    for data in (reply({"text": "a\0b"}), reply_continues({"text": "a\0b"}), error_reply("x.Y", {"text": "a\0b"})):
        assert data.count(b"\0") == 1
        assert json.loads(data[:-1])["parameters"] == {"text": "a\0b"}


def test_replies_have_the_members_that_varlink_names() -> None:
    assert json.loads(reply({})[:-1]) == {"parameters": {}}
    assert json.loads(reply_continues({})[:-1]) == {"parameters": {}, "continues": True}
    assert json.loads(error_reply("x.Y")[:-1]) == {"error": "x.Y", "parameters": {}}


def test_parameters_are_not_decoded_before_the_method_is_known() -> None:
    call = read_call(b'{"method":"a.B","parameters":{"x":1}}')
    assert isinstance(call.parameters, msgspec.Raw)
