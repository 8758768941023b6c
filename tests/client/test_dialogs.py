"""featurekeyctl sync-dialogs against a stand-in of Kamailio's RPC socket: which dialogs are calls; what is no list."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekeyd.client.dialogs import keys_of, list_dialogs
from featurekeyd.client.exits import FileTrouble
from featurekeyd.client.limits import key_text


def dialog(call_id: str = "a@b", tag: str = "1") -> dict[str, Any]:
    return {"h_entry": 1, "h_id": 2, "call-id": call_id, "from_tag": tag}


Answering = Callable[[bytes], str]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """Starts a stand-in that answers one question with these bytes; its path."""
    threads: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "rpc"))
        listening.settimeout(20)

        def answer(data: bytes) -> None:
            question, asker = listening.recvfrom(1 << 16)
            assert json.loads(question)["method"] == "dlg.briefing"
            listening.sendto(data, asker)

        def start(data: bytes) -> str:
            threads.append(threading.Thread(target=answer, args=(data,)))
            threads[-1].start()
            return str(tmp_path / "rpc")

        yield start
        for thread in threads:
            thread.join(20)


def test_each_dialog_is_a_call() -> None:
    assert list(keys_of([dialog(), dialog(tag="2")])) == ["a@b;tag=1", "a@b;tag=2"]
    assert list(keys_of([dialog(tag="x" * 600)])) == [key_text("a@b;tag=" + "x" * 600)]


@pytest.mark.parametrize("wrong", [{}, {"call-id": "a"}, {"from_tag": "1"}, None, 7])
def test_a_list_with_something_else_in_it_is_none_at_all(wrong: Any) -> None:
    with pytest.raises(FileTrouble, match="nothing was changed"):
        list(keys_of([dialog(), wrong]))


def test_the_list_comes_from_the_socket(answering: Answering) -> None:
    path = answering(json.dumps({"jsonrpc": "2.0", "result": [dialog()], "id": 1}).encode())
    assert list_dialogs(path) == [dialog()]


def test_a_call_id_that_is_no_text_is_named_as_the_daemon_has_it(answering: Answering) -> None:
    data = json.dumps({"result": [dialog("x@b"), dialog()]}).encode().replace(b"x@b", b"\xff@b")
    assert list(keys_of(list_dialogs(answering(data)))) == [r"\xff@b;tag=1", "a@b;tag=1"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"error": {"code": 500}}', b'{"result": 7}', b"\xff"])
def test_an_answer_that_is_no_list_is_told(answering: Answering, data: bytes) -> None:
    with pytest.raises(FileTrouble, match="no list of dialogs"):
        list_dialogs(answering(data))


def test_a_kamailio_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="is Kamailio running"):
        list_dialogs(str(tmp_path / "rpc"))


def test_a_kamailio_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurekeyd.client.dialogs.TIME_LIMIT", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "rpc"))
        with pytest.raises(FileTrouble, match="does not answer"):
            list_dialogs(str(tmp_path / "rpc"))
