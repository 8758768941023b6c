"""One Varlink connection: time limits, sizes, stale sockets, errors, several replies."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client.call import (
    MAX_PARAMETERS,
    MAX_SAID,
    CallError,
    CallRefused,
    Connection,
    DaemonAway,
    DaemonSlow,
    PermissionRefused,
    ReplyGarbled,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.conftest import Clock, Peer, StandIn

STATUS = "io.featurekey.License.Status"
LONG = 20.0
ROOM = 1024 * 1024
SHORT = 0.05


@pytest.fixture
def connection(absent: StandIn, clock: Clock) -> Iterator[Connection]:
    """A connection whose clock stands still: each step has the whole time limit, on a loaded host too."""
    made = Connection(absent.path, max_reply=ROOM, clock=clock)
    yield made
    made.close()


def test_a_call_is_json_with_a_nul_and_leaves_out_what_is_none() -> None:
    assert encode("a.B", {"x": 1, "y": None}, more=True) == b'{"method":"a.B","parameters":{"x":1},"more":true}\0'


def test_several_calls_share_one_connection(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", {"n": 1}, {"n": 2})
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 1}
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 2}
    assert daemon.connections == 1


def test_a_missing_socket_is_named(connection: Connection) -> None:
    with pytest.raises(DaemonAway, match=r"there is no socket .*; is featurekeyd running") as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert (caught.value.errno, caught.value.doubtful) == (2, False)


def test_a_socket_with_nobody_behind_it_is_told_from_a_missing_one(tmp_path: Path) -> None:
    path = str(tmp_path / "left")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with pytest.raises(DaemonAway, match="nobody listens"):
        Connection(path, max_reply=ROOM).call(STATUS, {}, timeout=LONG)


@pytest.mark.parametrize("path", ["x" * 200, "a\0b", ""])
def test_a_path_that_cannot_be_a_socket_is_an_error_of_ours(path: str) -> None:
    with pytest.raises(DaemonAway):
        Connection(path, max_reply=ROOM).call(STATUS, {}, timeout=LONG)


def test_a_socket_that_may_not_be_opened_is_a_missing_permission(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("featurekeyd.client.call.socket.socket", Locked)
    with pytest.raises(PermissionRefused) as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert caught.value.errno == 13


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_a_process_that_can_open_nothing_more_is_an_error_of_ours(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("featurekeyd.client.call.socket.socket", full)
    with pytest.raises(DaemonAway, match=f"{os.strerror(number)}.*limit on open files") as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert (caught.value.errno, caught.value.doubtful) == (number, False)


def test_a_connection_that_cannot_even_be_closed_is_an_error_of_ours(
    daemon: StandIn, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(socket.socket):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "Input/output error")

    # Not in the module itself, from which the stand-in takes its sockets too.
    monkeypatch.setattr("featurekeyd.client.call.socket", SimpleNamespace(**vars(socket) | {"socket": Stuck}))
    daemon.on("Status", daemon.hangs_up())
    with pytest.raises(DaemonAway, match="without an answer"):
        connection.call(STATUS, {}, timeout=LONG)


def test_a_stranger_is_told_even_when_the_daemon_closed_before_the_question(
    daemon: StandIn, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def turn_away(peer: Peer) -> None:
        daemon.refuses("org.varlink.service.PermissionDenied")(peer)
        peer.hang_up()
        closed.set()

    daemon.greeting = turn_away
    send = Connection._send

    def send_late(self: Connection, message: bytes, deadline: float) -> None:
        assert closed.wait(LONG)
        send(self, message, deadline)

    monkeypatch.setattr(Connection, "_send", send_late)
    with pytest.raises(PermissionRefused):
        connection.call(STATUS, {}, timeout=LONG)


def test_an_error_has_its_name_and_its_parameters(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", daemon.refuses("org.varlink.service.InvalidParameter", parameter="wants[0].feature"), {"n": 1})
    with pytest.raises(CallRefused, match=r"InvalidParameter \(parameter: wants\[0\].feature\)") as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert (caught.value.error, caught.value.doubtful) == ("org.varlink.service.InvalidParameter", False)
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 1}
    assert daemon.connections == 1


def test_an_unexpected_condition_leaves_doubt(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", daemon.refuses("io.featurekey.License.UnexpectedCondition"))
    with pytest.raises(CallRefused) as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert caught.value.doubtful


def test_silence_ends_at_the_time_limit_and_a_late_reply_is_never_taken_for_the_next(
    daemon: StandIn, connection: Connection
) -> None:
    late = threading.Event()
    daemon.on("Status", daemon.waits(late, daemon.says({"n": "late"})), {"n": "right"})
    with pytest.raises(DaemonSlow) as caught:
        connection.call(STATUS, {}, timeout=SHORT)
    assert caught.value.doubtful
    late.set()
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": "right"}
    assert daemon.connections == 2


def test_bytes_that_trickle_in_do_not_stretch_the_time_limit(daemon: StandIn) -> None:
    ticks = iter(range(1000))
    connection = Connection(daemon.path, max_reply=ROOM, clock=lambda: float(next(ticks)))

    def trickle(peer: Peer) -> None:
        while not peer.over.is_set():
            peer.say(b" ")

    daemon.on("Status", trickle)
    with pytest.raises(DaemonSlow):
        connection.call(STATUS, {}, timeout=10)
    assert next(ticks) < 20


def test_a_full_queue_of_new_connections_is_a_slow_daemon_and_leaves_no_doubt(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    waiting = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(path)
        except BlockingIOError:
            pass
        with pytest.raises(DaemonSlow) as caught:
            Connection(path, max_reply=ROOM).call(STATUS, {}, timeout=SHORT)
        assert not caught.value.doubtful
        for opened in waiting:
            opened.close()


def test_a_connection_found_closed_before_asking_is_opened_anew(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", {"n": 1})
    connection.call(STATUS, {}, timeout=LONG)
    daemon.vanish()
    daemon.appear()
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 1}
    assert len(daemon.calls) == 2


def test_a_used_connection_that_ends_before_the_reply_is_tried_once_more(
    daemon: StandIn, connection: Connection
) -> None:
    daemon.on("Status", {"n": 1}, daemon.hangs_up(), {"n": 2})
    connection.call(STATUS, {}, timeout=LONG)
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 2}
    assert (len(daemon.calls), daemon.connections) == (3, 2)


def test_it_is_not_tried_a_second_time(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", {"n": 1}, daemon.hangs_up())
    connection.call(STATUS, {}, timeout=LONG)
    with pytest.raises(DaemonAway) as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert caught.value.doubtful
    assert len(daemon.calls) == 3


def test_a_new_connection_that_ends_is_not_tried_again(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", daemon.hangs_up())
    with pytest.raises(DaemonAway, match="without an answer"):
        connection.call(STATUS, {}, timeout=LONG)
    assert len(daemon.calls) == 1


def test_half_a_reply_is_not_tried_again(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", {"n": 1}, daemon.hangs_up(b'{"parameters":'))
    connection.call(STATUS, {}, timeout=LONG)
    with pytest.raises(DaemonAway) as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert (caught.value.stale, caught.value.doubtful, len(daemon.calls)) == (False, True, 2)


def test_the_doubt_of_the_first_attempt_outlives_a_second_that_finds_nobody(
    daemon: StandIn, connection: Connection
) -> None:
    def leave(peer: Peer) -> None:
        daemon.vanish()

    daemon.on("Status", {"n": 1}, leave)
    connection.call(STATUS, {}, timeout=LONG)
    with pytest.raises(DaemonAway) as caught:
        connection.call(STATUS, {}, timeout=LONG)
    assert caught.value.doubtful


@pytest.mark.parametrize("stray", [b'{"parameters":{"n":"stray"}}\0', b"half"])
def test_a_stray_reply_is_not_taken_for_the_next_answer(daemon: StandIn, connection: Connection, stray: bytes) -> None:
    daemon.on("Status", daemon.raw(b'{"parameters":{"n":1}}\0' + stray), {"n": 2})
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 1}
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 2}


def test_the_size_limit_holds_to_the_byte(daemon: StandIn) -> None:
    exact = b'{"parameters":{}}'
    daemon.on("Status", daemon.raw(exact + b"\0"))
    connection = Connection(daemon.path, max_reply=len(exact))
    assert connection.call(STATUS, {}, timeout=LONG) == {}
    connection.close()
    with pytest.raises(ReplyGarbled, match=f"longer than {len(exact) - 1} bytes"):
        Connection(daemon.path, max_reply=len(exact) - 1).call(STATUS, {}, timeout=LONG)


def test_a_reply_without_an_end_is_given_up(daemon: StandIn, connection: Connection) -> None:
    def pour(peer: Peer) -> None:
        while True:
            peer.say(b"x" * 65536)

    daemon.on("Status", pour)
    with pytest.raises(ReplyGarbled, match=f"longer than {ROOM} bytes"):
        connection.call(STATUS, {}, timeout=LONG)


def test_an_error_with_nested_or_endless_parameters_is_shortened() -> None:
    for depth in range(0, 1000, 7):
        with pytest.raises((CallRefused, ReplyGarbled)) as caught:
            decode(b'{"error":"e","parameters":{"p":' + b"[" * depth + b'"x"' + b"]" * depth + b"}}")
        assert len(str(caught.value)) < 100
    many = {f"n{n}": "v" * 1000 for n in range(100)}
    refused = CallRefused("e", many | {"x" * 1000: 1})
    assert refused.parameters == {f"n{n}": "v" * MAX_SAID for n in range(MAX_PARAMETERS)}
    assert CallRefused("e", {"a": 1, "b": True, "c": None, "d": {}}).parameters == (
        {"a": 1, "b": True, "c": None, "d": "(dict)"}
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"nonsense",
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"parameters":{"n":NaN}}',
        b'{"parameters":[]}',
        b'{"error":1}',
        b'{"continues":"yes"}',
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_reply_is_garbled(raw: bytes) -> None:
    with pytest.raises(ReplyGarbled):
        decode(raw)


def test_several_replies_come_one_by_one_wherever_the_bytes_are_split(daemon: StandIn, connection: Connection) -> None:
    whole = b"".join(
        b'{"parameters":{"n":%d},"continues":%s}\0' % (n, b"false" if n == 4 else b"true") for n in range(5)
    )

    def crumble(peer: Peer) -> None:
        for place in range(0, len(whole), 7):
            peer.say(whole[place : place + 7])

    daemon.on("ListLeases", crumble)
    daemon.on("Status", {"n": "next"})
    replies = connection.replies("io.featurekey.License.ListLeases", {}, timeout=LONG)
    assert [reply["n"] for reply in replies] == [0, 1, 2, 3, 4]
    assert daemon.calls[0]["more"] is True
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": "next"}
    assert daemon.connections == 1


def test_a_reader_who_stops_early_does_not_spoil_the_next_call(daemon: StandIn, connection: Connection) -> None:
    daemon.on("ListLeases", daemon.says({"n": 1}, {"n": 2}, {"n": 3}))
    daemon.on("Status", {"n": "next"})
    replies = connection.replies("io.featurekey.License.ListLeases", {}, timeout=LONG)
    assert next(iter(replies)) == {"n": 1}
    del replies
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": "next"}


def test_the_time_limit_of_several_replies_holds_for_all_unless_they_are_endless(
    daemon: StandIn, connection: Connection, clock: Clock
) -> None:
    later = threading.Event()

    def dawdle(peer: Peer) -> None:
        peer.say(b'{"parameters":{"n":1},"continues":true}\0')
        assert later.wait(LONG)
        peer.say(b'{"parameters":{"n":2}}\0')

    daemon.on("Watch", dawdle)
    with pytest.raises(DaemonSlow):
        list(connection.replies("io.featurekey.License.Watch", {}, timeout=SHORT))
    seen = []
    for reply in connection.replies("io.featurekey.License.Watch", {}, timeout=LONG, endless=True):
        seen.append(reply["n"])
        clock.now += 10 * LONG
        later.set()
    assert seen == [1, 2]


def test_an_error_after_some_replies_is_raised(daemon: StandIn, connection: Connection) -> None:
    first = b'{"parameters":{"n":1},"continues":true}\0'
    daemon.on("Watch", daemon.raw(first + b'{"error":"io.featurekey.License.UnexpectedCondition"}\0'))
    replies = connection.replies("io.featurekey.License.Watch", {}, timeout=LONG)
    assert next(replies) == {"n": 1}
    with pytest.raises(CallRefused):
        next(replies)


def test_several_replies_to_a_call_for_one_are_garbled(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", daemon.says({"n": 1}, {"n": 2}), {"n": 3})
    with pytest.raises(ReplyGarbled, match="asked for one"):
        connection.call(STATUS, {}, timeout=LONG)
    assert connection.call(STATUS, {}, timeout=LONG) == {"n": 3}


def test_a_closed_connection_kills_no_process_that_has_sigpipe_at_its_default(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, socket
        from featurekeyd.client.call import Connection, DaemonAway
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        Connection._is_fit = lambda self, opened: True
        connection = Connection("/nowhere", max_reply=9)
        connection._socket, other = socket.socketpair()
        other.close()
        try:
            connection.call("a.B", {}, timeout=1)
        except DaemonAway as away:
            print(away.errno == 32)
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_every_error_is_a_call_error() -> None:
    for kind in (DaemonAway, DaemonSlow, PermissionRefused, CallRefused, ReplyGarbled):
        assert issubclass(kind, CallError)


def test_a_descriptor_that_came_over_a_fork_is_closed_and_not_used(daemon: StandIn, connection: Connection) -> None:
    daemon.on("Status", {"n": 1})
    connection.call(STATUS, {}, timeout=LONG)
    inherited = connection._socket
    assert inherited is not None
    connection._process = os.getppid()
    connection.call(STATUS, {}, timeout=LONG)
    assert inherited.fileno() == -1
    assert daemon.connections == 2
