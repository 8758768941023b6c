"""The log: nobody waits for it, nothing of it is lost without a word, and no client draws on a terminal with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon import journal
from featurekeyd.daemon.journal import QUEUE_LENGTH, Log, ToJournal, message_id, sink_for, to_standard_error
from featurekeyd.daemon.journalsocket import JournalSocket, entry
from featurekeyd.policy.events import SORT, Event, EventName
from featurekeyd.policy.reasons import MEANING, Reason

DEADLINE = 10


def event(message: str = "It started.", name: EventName = EventName.STARTED, **fields: str) -> Event:
    return Event(name=name, message=message, fields=fields)


class Sink:
    """Takes events, and waits for the test before each where it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.gate.set()

    def __call__(self, event: Event) -> None:
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        self.events.append(event)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_events_come_in_order(sink: Sink) -> None:
    log = Log(sink)
    for number in range(100):
        log.tell(event(f"{number}"))
    log.close()
    assert [it.message for it in sink.events] == [f"{number}" for number in range(100)]


def test_nobody_waits_for_a_sink_that_hangs_and_what_is_lost_is_counted(sink: Sink) -> None:
    sink.gate.clear()
    log = Log(sink)
    log.tell(event("first"))
    assert sink.entered.wait(DEADLINE)
    for _ in range(QUEUE_LENGTH + 7):
        log.tell(event("storm"))
    sink.gate.set()
    log.close()
    assert len(sink.events) == 1 + QUEUE_LENGTH + 1
    overflow = sink.events[-1]
    assert overflow.name is EventName.LOG_OVERFLOW
    assert overflow.fields["LOST"] == "7"


def test_a_sink_that_raises_loses_its_event_and_ends_nothing() -> None:
    taken: list[Event] = []

    def broken(event: Event) -> None:
        if event.message == "bad":
            raise OSError("the journal is gone")
        taken.append(event)

    log = Log(broken)
    for message in ("good", "bad", "bad", "good"):
        log.tell(event(message))
    log.close()
    assert [it.message for it in taken if it.name is EventName.STARTED] == ["good", "good"]
    assert sum(int(it.fields["LOST"]) for it in taken if it.name is EventName.LOG_OVERFLOW) == 2


def test_a_sink_that_always_raises_does_not_hold_up_the_end() -> None:
    def broken(_: Event) -> None:
        raise OSError("the journal is gone")

    log = Log(broken)
    log.tell(event())
    log.close()
    assert not log._writer.is_alive()


@pytest.mark.parametrize("waiting", [0, QUEUE_LENGTH])
def test_the_end_does_not_wait_for_ever(waiting: int, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CLOSE_SECONDS", 0.01)
    sink.gate.clear()
    log = Log(sink)
    log.tell(event())
    assert sink.entered.wait(DEADLINE)
    for _ in range(waiting):
        log.tell(event())
    log.close()
    assert log._writer.is_alive()
    sink.gate.set()
    log._queue.put(None, timeout=DEADLINE)
    log._writer.join(DEADLINE)


@pytest.mark.parametrize("reason", [reason for reason in Reason if MEANING[reason].remedy])
def test_a_denial_has_the_message_id_of_its_reason(reason: Reason) -> None:
    denied = event(name=EventName.DENIED, REASON=str(reason))
    assert message_id(denied) == MEANING[reason].message_id


def test_every_other_event_has_its_own_message_id() -> None:
    ids = {name: message_id(event(name=name)) for name in EventName if name is not EventName.DENIED}
    assert len({*ids.values(), *(meaning.message_id for meaning in MEANING.values())}) == len(ids) + len(MEANING)


def test_a_line_says_time_priority_name_sentence_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    to_standard_error(event("It started.", SERIAL="1", EMPTY=""))
    moment, _, rest = capsys.readouterr().err.partition(" ")
    assert moment.endswith("Z")
    assert rest == "notice started: It started. [SERIAL=1]\n"


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\x9b", "\0", "\x7f", "\u2028", "\u202e", "\ud800"])
def test_an_event_is_one_line_and_draws_nothing(character: str, capsys: pytest.CaptureFixture[str]) -> None:
    to_standard_error(event(f"A{character}B", HOLDER=f"a{character}[31mb", TRACEBACK=f"1{character}2"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert said.count(ascii(character)[1:-1]) == 3


def test_what_is_printable_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    to_standard_error(event("Grüße, 日本, C:\\n"))
    assert "Grüße, 日本, C:\\n\n" in capsys.readouterr().err


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """What journald reads from."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.settimeout(DEADLINE)
        opened.bind(str(tmp_path / "journal"))
        yield opened


def received(journald: socket.socket) -> dict[str, str]:
    """The fields of the next entry, read as journald reads them."""
    data, descriptors, *_ = socket.recv_fds(journald, 1 << 20, 1)
    for descriptor in descriptors:
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            data = file.read()
    fields = {}
    while data:
        head, _, data = data.partition(b"\n")
        name, plain, value = head.partition(b"=")
        if not plain:
            size = int.from_bytes(data[:8], "little")
            value, end, data = data[8 : 8 + size], data[8 + size : 9 + size], data[9 + size :]
            assert end == b"\n"
        fields[name.decode()] = value.decode()
    return fields


def test_an_entry_of_the_journal_has_its_fields(journald: socket.socket) -> None:
    with contextlib.closing(JournalSocket(journald.getsockname())) as opened:
        sink = ToJournal(opened)
        sink(event("Denied.", EventName.DENIED, REASON="limit_reached", PORT="", HOLDER="a\nPRIORITY=0"))
    assert received(journald) == {
        "MESSAGE": "Denied.",
        "MESSAGE_ID": MEANING[Reason.LIMIT_REACHED].message_id,
        "PRIORITY": str(int(SORT[EventName.DENIED].priority)),
        "SYSLOG_IDENTIFIER": "featurekeyd",
        "EVENT": "denied",
        "REASON": "limit_reached",
        "HOLDER": "a\nPRIORITY=0",
    }


def test_an_entry_too_long_for_a_datagram_comes_as_a_sealed_file(journald: socket.socket) -> None:
    text = "a line\n" * 200_000
    with contextlib.closing(JournalSocket(journald.getsockname())) as opened:
        opened.send({"MESSAGE": "long", "TRACEBACK": text})
    assert received(journald) == {"MESSAGE": "long", "TRACEBACK": text}


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,9}", fullmatch=True), st.text(max_size=50), min_size=1))
def test_whatever_the_values_are_the_fields_come_as_they_are(fields: dict[str, str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.send(entry(fields))
        assert received(theirs) == fields


def test_a_journal_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    sink = JournalSocket(str(tmp_path / "journal"))
    with pytest.raises(OSError, match="No such file"):
        sink.send({"MESSAGE": "nobody there"})
    for text in ("first", "second"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
            opened.bind(str(tmp_path / "journal"))
            if text == "second":
                with pytest.raises(ConnectionRefusedError):
                    sink.send({"MESSAGE": "to the one before"})
            sink.send({"MESSAGE": text})
            assert received(opened) == {"MESSAGE": text}
        (tmp_path / "journal").unlink()
    sink.close()
    sink.close()


@pytest.mark.parametrize(
    ("target", "stream", "sink"),
    [
        ("journal", None, ToJournal),
        ("stderr", "8:1", None),
        ("auto", "8:1", ToJournal),
        ("auto", None, None),
    ],
)
def test_the_settings_and_the_service_manager_name_the_sink(
    target: str, stream: str | None, sink: type[ToJournal] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    found = sink_for(target)
    assert found is to_standard_error if sink is None else isinstance(found, sink)
