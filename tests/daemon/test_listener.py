"""The listening socket: a stale file is replaced, one that answers is not, and anybody may connect."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from featurekeyd.daemon import listener
from featurekeyd.daemon.listener import SocketTaken, bound_socket, calls_socket, handed_over, listening_socket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True


def test_a_new_socket_listens_and_anybody_may_connect(path: Path) -> None:
    with listening_socket(path):
        assert answers(path)
        assert path.stat().st_mode & 0o777 == 0o666


def test_the_file_of_a_daemon_that_is_gone_is_replaced(path: Path) -> None:
    listening_socket(path).close()
    assert path.is_socket()
    with listening_socket(path):
        assert answers(path)


def test_a_socket_that_answers_is_left_alone(path: Path) -> None:
    with listening_socket(path):
        with pytest.raises(SocketTaken, match=r"another process answers on .*/socket; stop it first"):
            listening_socket(path)
        assert answers(path)


def test_a_socket_that_is_too_busy_to_answer_is_left_alone(path: Path) -> None:
    """connect(2) says EAGAIN when the backlog is full: somebody is there."""
    waiting = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(SocketTaken):
            listening_socket(path)
        assert path.is_socket()
        for it in waiting:
            it.close()


@pytest.mark.parametrize("error", [errno.EACCES, errno.ETIMEDOUT])
def test_a_socket_of_which_nothing_can_be_said_is_left_alone(
    error: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(socket.socket):
        def connect(self, _: object) -> None:
            raise OSError(error, os.strerror(error))

    with listening_socket(path):
        monkeypatch.setattr("socket.socket", Refusing)
        with pytest.raises(SocketTaken):
            listening_socket(path)
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone_and_named(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OSError, match="Address already in use") as caught:
        listening_socket(path)
    assert caught.value.filename == str(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    with pytest.raises(OSError, match="too long") as caught:
        listening_socket(path)
    assert caught.value.filename == str(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        listening_socket(tmp_path / "none" / "socket")
    assert caught.value.filename == str(tmp_path / "none" / "socket")


def test_a_socket_that_is_handed_over_is_taken_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(path))
    given.listen()
    number = given.detach()
    monkeypatch.setattr(listener, "listen_fds", lambda: [number])
    with listening_socket(path.with_name("never"), handed_over()) as taken:
        assert taken.getsockname() == str(path)
        assert answers(path)
    assert not path.with_name("never").exists()


def test_of_the_sockets_that_are_handed_over_each_is_found_by_its_path(path: Path) -> None:
    calls, elsewhere = path.with_name("calls"), path.with_name("elsewhere")
    with bound_socket(calls) as second, bound_socket(path) as first:
        handed = [second, first]
        assert listening_socket(path, handed) is first
        assert calls_socket(calls, handed) is second
        with calls_socket(elsewhere, handed) as own:
            assert own.getsockname() == str(elsewhere)
    with calls_socket(path.with_name("alone")):
        assert answers(path.with_name("alone"))
