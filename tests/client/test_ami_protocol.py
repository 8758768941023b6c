"""AMI without a socket: logging in, lists that are whole or none, whatever comes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client.ami_protocol import (
    MAX_CHANNELS,
    MAX_LINE,
    MAX_LINES,
    AmiConversation,
    AmiGarbled,
    AmiRefused,
    AmiStream,
    ChannelList,
    channel_info,
)

BANNER = b"Asterisk Call Manager/9.0.0\r\n"
SECRET = "s3cret"


def message(**headers: object) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"


def headers(sent: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in sent.decode().strip().split("\r\n"))


def logged_in() -> AmiConversation:
    conversation = AmiConversation("featurekey", SECRET, plain=True)
    conversation.receive(BANNER)
    login = headers(conversation.to_send())
    conversation.receive(message(Response="Success", ActionID=login["ActionID"]))
    assert conversation.logged_in
    return conversation


def channel(action: str, number: int) -> bytes:
    values = {"Uniqueid": f"1.{number}", "Linkedid": "1.0", "Channel": f"PJSIP/a-{number}", "ChannelState": 6}
    values |= {"BridgeId": "b", "Application": "AppDial"}
    return message(Event="CoreShowChannel", ActionID=action, **values)


def listing(count: int, items: int | None = None, end: str = "Complete") -> ChannelList | None:
    conversation = logged_in()
    action = conversation.ask_channels()
    conversation.receive(message(Response="Success", ActionID=action, EventList="start"))
    for number in range(count):
        conversation.receive(channel(action, number))
    assert conversation.finished == {}
    last = {"EventList": end, "ListItems": count if items is None else items}
    assert conversation.receive(message(Event="CoreShowChannelsComplete", ActionID=action, **last)) == []
    return conversation.finished[action]


def test_a_line_feed_in_a_value_begins_no_line() -> None:
    (event,) = logged_in().receive(b"Event: Hangup\r\nExten: 100\nUniqueid: 9.9\r\nUniqueid: 1.2\r\n\r\n")
    assert (event["uniqueid"], event["exten"]) == ("1.2", "100\nUniqueid: 9.9")


@pytest.mark.parametrize("forged", [b"Uniqueid: 9.9", b"Event: Hangup", b"uniqueid: 1.2"])
def test_a_message_that_names_two_channels_or_events_is_left_out_and_the_next_is_not(forged: bytes) -> None:
    conversation = logged_in()
    event = b"Event: Newstate\r\nExten: 1\r\n%sUniqueid: 1.2\r\n\r\n"
    events = conversation.receive(event % (forged + b"\r\n") + event % b"")
    assert [it["uniqueid"] for it in events] == ["1.2"]


def test_a_list_with_a_forged_channel_is_none() -> None:
    conversation = logged_in()
    action = conversation.ask_channels()
    conversation.receive(channel(action, 1) + channel(action, 2).replace(b"\r\n\r\n", b"\r\nUniqueid: 9.9\r\n\r\n"))
    conversation.receive(message(Event="CoreShowChannelsComplete", ActionID=action, EventList="Complete", ListItems=2))
    assert conversation.finished[action] is None


@pytest.mark.parametrize(("application", "dialed"), [("AppDial", True), ("AppQueue", True), ("Dial", False)])
def test_a_channel_that_was_dialed_is_known_by_its_application(application: str, dialed: bool) -> None:
    assert channel_info({"uniqueid": "1.2", "application": application}).dialed is dialed


def test_the_secret_is_sent_as_a_digest_of_the_challenge() -> None:
    conversation = AmiConversation("featurekey", SECRET)
    assert conversation.to_send() == b""
    conversation.receive(BANNER)
    challenge = headers(conversation.to_send())
    assert (challenge["Action"], challenge["AuthType"]) == ("Challenge", "MD5")
    conversation.receive(message(Response="Success", ActionID=challenge["ActionID"], Challenge="840415273"))
    login = headers(conversation.to_send())
    assert login["Key"] == hashlib.md5(f"840415273{SECRET}".encode()).hexdigest()
    assert login["Events"] == "call"
    assert SECRET not in login.values()
    assert not conversation.logged_in
    conversation.receive(message(Response="Success", ActionID=login["ActionID"]))
    assert conversation.logged_in


@pytest.mark.parametrize("plain", [True, False])
def test_a_refused_login_says_the_switchs_reason_and_no_secret(plain: bool) -> None:
    conversation = AmiConversation("featurekey", SECRET, plain=plain)
    conversation.receive(BANNER)
    asked = headers(conversation.to_send())
    with pytest.raises(AmiRefused, match="Authentication failed") as refused:
        conversation.receive(message(Response="Error", ActionID=asked["ActionID"], Message="Authentication failed"))
    assert SECRET not in str(refused.value)


def test_a_list_is_whole_when_its_end_names_as_many_channels_as_came() -> None:
    channels = listing(3)
    assert channels is not None
    assert sorted(channels) == ["1.0", "1.1", "1.2"]
    first = channels["1.0"]
    assert (first.linkedid, first.name, first.up, first.bridge, first.dialed) == ("1.0", "PJSIP/a-0", True, "b", True)


@pytest.mark.parametrize(("count", "items", "end"), [(3, 4, "Complete"), (3, 2, "Complete"), (3, 3, "cancelled")])
def test_a_list_that_is_not_whole_is_none(count: int, items: int, end: str) -> None:
    assert listing(count, items, end) is None


def test_an_empty_list_is_a_list() -> None:
    assert listing(0) == {}


def test_a_refused_list_is_none() -> None:
    conversation = logged_in()
    action = conversation.ask_channels()
    conversation.receive(message(Response="Error", ActionID=action, Message="Permission denied"))
    assert conversation.finished == {action: None}


def test_a_channel_without_a_uniqueid_spoils_the_list() -> None:
    conversation = logged_in()
    action = conversation.ask_channels()
    conversation.receive(message(Event="CoreShowChannel", ActionID=action, Channel="PJSIP/a"))
    end = message(Event="CoreShowChannelsComplete", ActionID=action, EventList="Complete", ListItems=1)
    conversation.receive(end)
    assert conversation.finished == {action: None}


def test_events_among_a_list_go_to_the_caller_and_lists_do_not() -> None:
    conversation = logged_in()
    action = conversation.ask_channels()
    event = message(Event="Hangup", Uniqueid="1.7")
    assert conversation.receive(channel(action, 1) + event) == [{"event": "Hangup", "uniqueid": "1.7"}]


def test_something_else_at_the_port_is_told_by_its_first_line() -> None:
    with pytest.raises(AmiGarbled, match="banner"):
        AmiStream().receive(b"SSH-2.0-OpenSSH_9.2\r\n")


@given(st.integers(1, 60))
def test_pieces_of_any_size_mean_the_same(size: int) -> None:
    whole = BANNER + message(Event="Newchannel", Uniqueid="1.1") + message(Event="Hangup", Uniqueid="1.1")
    stream = AmiStream()
    found = [it for at in range(0, len(whole), size) for it in stream.receive(whole[at : at + size])]
    assert [it["event"] for it in found] == ["Newchannel", "Hangup"]


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=100),
        st.sampled_from([
            message(Response="Success", ActionID="featurekey-1", Challenge="1"),
            message(Response="Success", ActionID="featurekey-1", Challenge="?").replace(b"?", b"\xff"),
            message(Response="Error", ActionID="featurekey-1"),
            message(Response="Success", ActionID="featurekey-2"),
            channel("featurekey-2", 1),
            channel("featurekey-3", 1),
            message(Event="CoreShowChannelsComplete", ActionID="featurekey-3", EventList="Complete", ListItems=1),
            message(Event="Rename", Uniqueid="1.1"),
            BANNER,
        ]),
    ),
    max_size=20,
)  # fmt: skip


@given(PIECES)
def test_whatever_comes_is_read_or_refused_and_no_list_is_made_up(pieces: list[bytes]) -> None:
    conversation = AmiConversation("featurekey", SECRET)
    conversation.receive(BANNER)
    trouble = ""
    for piece in pieces:
        try:
            assert all("event" in event for event in conversation.receive(piece))
        except (AmiGarbled, AmiRefused) as over:
            trouble = str(over)
            break
        if conversation.logged_in and conversation.to_send() == b"":
            conversation.ask_channels()
    assert SECRET not in trouble
    assert all(channels is None or set(channels) <= {"1.1"} for channels in conversation.finished.values())


def test_a_line_has_so_many_bytes() -> None:
    stream = AmiStream()
    stream.receive(BANNER + b"Event: ".ljust(MAX_LINE, b"x"))
    with pytest.raises(AmiGarbled, match=str(MAX_LINE)):
        stream.receive(b"x")


def test_a_message_has_so_many_lines() -> None:
    stream = AmiStream()
    stream.receive(BANNER + b"Variable: x\r\n" * MAX_LINES)
    with pytest.raises(AmiGarbled, match=str(MAX_LINES)):
        stream.receive(b"Variable: x\r\n")


def test_a_list_has_so_many_channels() -> None:
    conversation = logged_in()
    action = conversation.ask_channels()
    conversation.receive(b"".join(channel(action, number) for number in range(MAX_CHANNELS)))
    with pytest.raises(AmiGarbled, match="20000"):
        conversation.receive(channel(action, MAX_CHANNELS))
