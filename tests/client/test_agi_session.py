"""One FastAGI connection, with streams in memory: what is asked in which order, and what is undone."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from featurekeyd.client import agi_session
from featurekeyd.client.agi_calls import Call, Calls
from featurekeyd.client.agi_following import Following
from featurekeyd.client.agi_log import QUIET_SECONDS, WARNING, Log
from featurekeyd.client.agi_question import Question
from featurekeyd.client.agi_session import OPENING_SECONDS, SESSION_SECONDS, AgiSession, HangupContext
from featurekeyd.client.agi_settings import AgiSettings
from featurekeyd.client.answer import Answer

OPENING = (
    b"agi_network: yes\nagi_network_script: acquire?wants=trunk\nagi_uniqueid: 1.2\nagi_extension: %s\n"
    b"agi_channel: PJSIP/a-1\n\n"
)


class Followed:
    """In place of Following: grants everything and notes what is asked."""

    def __init__(self) -> None:
        self.calls = Calls()
        self.done: list[str] = []

    async def named(self, question: Question) -> Question:
        return question

    async def acquire(self, question: Question) -> Answer:
        self.done.append(f"acquire {question.key}")
        self.calls.add(Call(question.key, question.wants))
        return Answer(allowed=True, reason="granted")

    def undo(self, key: str) -> None:
        self.done.append(f"undo {key}")

    def hung_up(self, uniqueid: str, channel: str = "") -> None:
        self.done.append(f"hung up {uniqueid} {channel}")

    async def release(self, uniqueid: str) -> None:
        self.done.append(f"release {uniqueid}")


class Asterisk:
    """In place of the connection: answers each command with the next of some lines."""

    def __init__(self, reader: asyncio.StreamReader, answers: list[bytes]) -> None:
        self.commands: list[str] = []
        self._reader = reader
        self._answers = answers

    def write(self, command: bytes) -> None:
        self.commands.append(command.decode().strip())
        if self._answers:
            self._reader.feed_data(self._answers.pop(0))

    def close(self) -> None:
        self.commands.append("closed")


def serve(
    answers: list[bytes], *, opening: bytes = OPENING % b"100", followed: Followed | None = None
) -> tuple[Asterisk, Followed]:
    followed = followed or Followed()

    async def run() -> Asterisk:
        reader = asyncio.StreamReader()
        asterisk = Asterisk(reader, answers)
        reader.feed_data(opening)
        session = AgiSession(
            reader,
            cast("asyncio.StreamWriter", asterisk),
            following=cast("Following", followed),
            settings=AgiSettings(),
            context=HangupContext("featurekey-release"),
            log=Log(),
        )
        await session.serve()
        return asterisk

    return asyncio.run(run()), followed


GOOD = [b"200 result=1 (1)\n"] + [b"200 result=1\n"] * 8


def test_the_hangup_handler_is_there_before_the_status_is_said() -> None:
    asterisk, followed = serve(GOOD.copy())
    assert asterisk.commands[0] == 'GET FULL VARIABLE "${DIALPLAN_EXISTS(featurekey-release,s,1)}"'
    assert asterisk.commands[1] == 'SET VARIABLE "CHANNEL(hangup_handler_push)" "featurekey-release,s,1"'
    assert asterisk.commands[-2:] == ['SET VARIABLE "FEATUREKEY_STATUS" "allowed"', "closed"]
    assert followed.done == ["acquire 1.2"]


@pytest.mark.parametrize("answered", range(9))
def test_a_hangup_before_the_status_is_taken_gives_back(answered: int) -> None:
    _, followed = serve([*GOOD[:answered], b"HANGUP\n"])
    assert followed.done == ["acquire 1.2", "undo 1.2"]


def test_an_emergency_call_keeps_its_lease_whatever_the_dialplan_was_told() -> None:
    _, followed = serve([b"HANGUP\n"], opening=OPENING % b"112")
    assert followed.done == ["acquire 1.2"]


def test_a_call_that_held_a_lease_before_keeps_it_when_a_second_question_breaks_off() -> None:
    followed = Followed()
    followed.calls.add(Call("1.2", ("trunk",), has_handler=True))
    _, followed = serve([b"HANGUP\n"], followed=followed)
    assert followed.done == ["acquire 1.2"]


@pytest.mark.parametrize(
    ("verb", "done"), [(b"hangup", "hung up 1.2 PJSIP/a-1"), (b"release", "release 1.2"), (b"acquire", "acquire 1.2")]
)
def test_a_hangup_handler_and_a_release_are_told_apart(verb: bytes, done: str) -> None:
    opening = (OPENING % b"100").replace(b"script: acquire", b"script: " + verb)
    _, followed = serve(GOOD.copy(), opening=opening)
    assert followed.done == [done]


def test_a_switch_that_answers_no_command_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SESSION_SECONDS == 5
    monkeypatch.setattr(agi_session, "SESSION_SECONDS", 0.05)
    asterisk, followed = serve([])
    assert asterisk.commands[-1] == "closed"
    assert followed.done == ["acquire 1.2", "undo 1.2"]


def test_who_does_not_say_the_environment_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPENING_SECONDS == 2
    monkeypatch.setattr(agi_session, "OPENING_SECONDS", 0.01)
    asterisk, followed = serve([], opening=b"agi_network: yes\n")
    assert (asterisk.commands, followed.done) == (["closed"], [])


def test_a_command_that_asterisk_does_not_know_spoils_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    asterisk, followed = serve([*GOOD[:2], b"510 Invalid or unknown command\n", *GOOD[2:]])
    assert followed.done == ["acquire 1.2"]
    assert asterisk.commands[-2] == 'SET VARIABLE "FEATUREKEY_STATUS" "allowed"'
    assert "code 510" in capsys.readouterr().err


# The log


def test_the_same_kind_is_said_once_a_minute_with_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    now: list[float] = [0.0]
    log = Log(clock=lambda: now[0])
    for _ in range(5):
        log.say(WARNING, "a storm", "kind")
    log.say(WARNING, "another", "other")
    now[0] = float(QUIET_SECONDS)
    log.say(WARNING, "a storm\x1b", "kind")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "featurekey-agi: a storm",
        "featurekey-agi: another",
        "featurekey-agi: a storm? (4 more in the last minutes)",
    ]


def test_the_journal_gets_the_priority_before_each_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log = Log()
    log.say(WARNING, "something", "kind")
    log.forget("kind")
    log.say(WARNING, "something", "kind")
    assert capsys.readouterr().err == "<4>something\n<4>something\n"
