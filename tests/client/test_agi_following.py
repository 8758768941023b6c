"""What is done about the calls of a switch, with daemon and AMI in the hand of the test; and what asks the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from featurekeyd.client import agi_asking, agi_following
from featurekeyd.client.agi_asking import Asking
from featurekeyd.client.agi_calls import Call
from featurekeyd.client.agi_following import Following
from featurekeyd.client.agi_log import Log
from featurekeyd.client.agi_question import Question
from featurekeyd.client.agi_settings import AgiSettings
from featurekeyd.client.ami_link import AmiLink, TakenList
from featurekeyd.client.ami_protocol import ChannelInfo, Message
from featurekeyd.client.answer import Answer, SyncResult
from featurekeyd.client.call import DaemonAway
from featurekeyd.client.license import LicenseClient, SyncLease

PATIENCE = 20
SHORT = 0.01


class Daemon:
    """In place of Asking: notes what the daemon is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.pending_releases = 0
        self.is_away = False
        self.held: list[Call] = []
        self.news = asyncio.Condition()
        self.answer = Answer(allowed=True, reason="granted")
        self.let = asyncio.Event()
        self.let.set()

    async def acquire(self, question: Question) -> Answer:
        await self._note(f"acquire {question.key}")
        await self.let.wait()
        return self.answer

    async def release(self, key: str) -> bool:
        await self._note(f"release {key}")
        self.pending_releases += self.is_away
        return not self.is_away

    async def deliver(self) -> int:
        self.pending_releases = 0
        await self._note("deliver")
        return 0

    async def established(self, call: Call) -> bool:
        await self._note(f"established {call.key}")
        return True

    async def sync(self, leases: Sequence[SyncLease], taken: float) -> SyncResult:
        await self._note(f"sync {' '.join(str(lease.key) for lease in leases)}")
        return SyncResult(0, 0, 0, held=len(leases))

    async def leases(self) -> list[Call]:
        if self.is_away:
            raise DaemonAway("away")
        return self.held

    async def wait_told(self, *told: str) -> None:
        async with self.news:
            await self.news.wait_for(lambda: self.told == list(told))

    async def _note(self, what: str) -> None:
        async with self.news:
            self.told.append(what)
            self.news.notify_all()


class Switch:
    """In place of AmiLink: has the channels that the test says."""

    def __init__(self, *channels: str) -> None:
        self.is_up = True
        self.there: tuple[str, ...] | None = channels

    async def channels(self) -> TakenList | None:
        if self.there is None:
            return None
        return TakenList({it: ChannelInfo(it, up=True) for it in self.there}, time.monotonic())


def follow(test: Callable[[Following, Daemon], Awaitable[None]], switch: Switch | None = None, *keys: str) -> None:
    async def run() -> None:
        daemon = Daemon()
        following = Following(AgiSettings(), cast("Asking", daemon), Log())
        following._link = cast("AmiLink | None", switch)
        for key in keys:
            following.calls.add(Call(key, ("trunk",)))
        async with asyncio.timeout(PATIENCE):
            await test(following, daemon)
            if following._tasks:
                await asyncio.wait(following._tasks)

    asyncio.run(run())


def event(name: str, **headers: str) -> Message:
    return {"event": name, **headers}


def test_a_lease_that_goes_over_is_listed_before_the_old_one_is_released() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.event(event("Hangup", uniqueid="1"))
        await daemon.wait_told("sync 2", "release 1")
        following.event(event("Hangup", uniqueid="2"))
        await daemon.wait_told("sync 2", "release 1", "release 2")

    follow(test, Switch("2"), "1")


def test_where_no_list_names_the_leg_the_lease_ends() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.hung_up("1")
        await daemon.wait_told("release 1")

    follow(test, Switch(), "1")


def without_list(then: Callable[[Following, Switch], Awaitable[None]], *told: str, ttl: int = 60) -> None:
    """A call whose leg lives on ends while no list can be had; then something happens, and that is told."""
    switch = Switch("2")

    async def test(following: Following, daemon: Daemon) -> None:
        following._settings = replace(following._settings, ttl_seconds=ttl)
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        switch.there, switch.is_up = None, False
        following.hung_up("1")
        await asyncio.wait(following._tasks)
        assert daemon.told == []
        await then(following, switch)
        await daemon.wait_told(*told)

    follow(test, switch, "1")


def test_a_lease_whose_leg_lives_on_waits_for_ami_to_be_back() -> None:
    async def then(following: Following, switch: Switch) -> None:
        switch.there, switch.is_up = ("2",), True
        await following._round()

    without_list(then, "sync 2")


def test_a_lease_that_waits_for_ami_ends_with_its_leg() -> None:
    async def then(following: Following, switch: Switch) -> None:
        following.event(event("Hangup", uniqueid="2"))

    without_list(then, "release 1")


def test_a_lease_that_waits_for_ami_ends_after_the_time_to_live() -> None:
    async def then(following: Following, switch: Switch) -> None:
        pass

    without_list(then, "release 1", ttl=0)


def question(key: str, line: str, said: dict[str, str] | None = None) -> Question:
    return Question("acquire", key, {"wants": "trunk", "port": "trunk:a"} | (said or {}), line=line)


def test_what_is_asked_again_is_not_ended_by_the_end_that_waits() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        for line in ("first", "second"):
            await following.acquire(await following.named(question("1", line)))
            following.hung_up("1") if line == "first" else None
            await asyncio.sleep(0)
        following.event(event("Hangup", uniqueid="1"))
        await asyncio.wait(following._tasks)
        assert daemon.told == ["acquire 1", "acquire 1"]
        assert following.calls.get("1") is not None

    follow(test, Switch("1"))


def test_an_end_does_not_overtake_the_question_that_is_under_way() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        await following.acquire(await following.named(question("1", "first")))
        daemon.let.clear()
        asking = asyncio.create_task(following.acquire(await following.named(question("1", "second"))))
        await daemon.wait_told("acquire 1", "acquire 1")
        following.event(event("Hangup", uniqueid="1"))
        await asyncio.wait(following._tasks)
        daemon.let.set()
        await asking
        assert daemon.told == ["acquire 1", "acquire 1"]

    follow(test, Switch("1"))


def test_what_the_dialplan_gives_back_is_given_back_before_it_goes_on() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        for line in ("in", "out"):
            await following.acquire(await following.named(question("1", line, {"direction": line})))
        await following.release("1")
        assert daemon.told == ["acquire 1", "acquire 1;2", "release 1", "release 1;2"]
        await following.release("1")
        assert daemon.told[4:] == ["release 1"]

    follow(test, Switch("1"))


def test_where_the_next_trunk_is_denied_the_lease_of_the_first_one_ends() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        await following.acquire(await following.named(question("1", "first")))
        daemon.answer = Answer(allowed=False, reason="limit_reached")
        await following.acquire(await following.named(question("1", "first")))
        assert following.calls.get("1") is not None
        await following.acquire(await following.named(question("1", "second")))
        assert daemon.told == ["acquire 1", "acquire 1", "acquire 1", "release 1"]

    follow(test, Switch("1"))


def test_a_further_use_ends_with_what_it_dialed() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        for line in ("in", "out"):
            await following.acquire(await following.named(question("1", line, {"direction": line})))
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.event(event("DialEnd", uniqueid="1", destuniqueid="2", dialstatus="ANSWER"))
        await daemon.wait_told("acquire 1", "acquire 1;2", "established 1", "established 1;2")
        following.event(event("Hangup", uniqueid="2"))
        await asyncio.wait(following._tasks)
        assert daemon.told[4:] == ["release 1;2"]

    follow(test, Switch("1"))


def test_a_leg_that_ends_with_its_call_needs_no_list() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.hung_up("1")
        await asyncio.sleep(0)
        following.event(event("Hangup", uniqueid="2"))
        await daemon.wait_told("release 1")

    follow(test, Switch("2"), "1")


def test_a_handler_that_is_quicker_than_ami_does_not_end_what_goes_on() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.hung_up("1")
        await asyncio.sleep(0)
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.event(event("Hangup", uniqueid="1"))
        await daemon.wait_told("sync 2", "release 1")

    follow(test, Switch("2"), "1")


def test_the_handler_and_the_event_are_one_end() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.hung_up("1")
        following.event(event("Hangup", uniqueid="1"))
        await daemon.wait_told("release 1")
        following.event(event("Hangup", uniqueid="1"))

    follow(test, Switch(), "1")


def test_what_a_masquerade_left_over_releases_nothing_while_ami_tells_the_rest() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.hung_up("1", "Async/x<ZOMBIE>")
        assert following.calls.get("1") is not None
        cast("Switch", following._link).is_up = False
        following.hung_up("1", "Async/x<ZOMBIE>")
        await daemon.wait_told("release 1")

    follow(test, Switch("9"), "1")


def test_no_list_is_sent_before_the_daemon_has_said_what_there_is() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        daemon.is_away = True
        daemon.held = [Call("2", ("trunk",), since=float("-inf"))]
        await following._round()
        assert daemon.told == []
        daemon.is_away = False
        await following._round()
        assert daemon.told == ["sync 1 2"]

    follow(test, Switch("1", "2"), "1")


def test_a_call_that_has_ended_is_not_told_as_answered() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        call = following.calls.answered("1")
        assert call is not None
        following.calls.remove("1")
        await following._tell_established(call)
        assert daemon.told == []

    follow(test, Switch(), "1")


def test_what_could_not_be_given_back_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agi_following, "TICK_SECONDS", SHORT)

    async def test(following: Following, daemon: Daemon) -> None:
        running = asyncio.create_task(following.run())
        daemon.is_away = True
        following.hung_up("1")
        await daemon.wait_told("release 1", "deliver")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    follow(test, None, "1")


# What asks the daemon


class SlowClient:
    """In place of the client: answers when the test lets it."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.released: list[str] = []

    def acquire(self, *_: object, **__: object) -> Answer:
        assert self.let.wait(PATIENCE)
        return Answer(allowed=True, reason="granted")

    def release(self, key: str) -> bool:
        self.released.append(key)
        return True

    def sync(self, *_: object, **__: object) -> SyncResult:
        assert self.let.wait(PATIENCE)
        return SyncResult(0, 0, 0, held=0)

    def close(self) -> None:
        pass


def test_no_call_waits_for_a_list() -> None:
    async def run() -> None:
        client, lists = SlowClient(), SlowClient()
        asking = Asking(AgiSettings())
        asking._client, asking._list_client = cast("LicenseClient", client), cast("LicenseClient", lists)
        sending = asyncio.create_task(asking.sync([], 0.0))
        client.let.set()
        answer = await asking.acquire(Question("acquire", "1.2", {"wants": "trunk"}))
        assert (answer.allowed, answer.from_daemon, sending.done()) == (True, True, False)
        lists.let.set()
        assert (await sending).held == 0
        asking.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "emergency", "allowed", "released"),
    [({}, False, False, ["1.2"]), ({"fail": "open"}, False, True, []), ({}, True, True, [])],
)
def test_an_answer_too_late_for_a_refused_call_is_undone(
    said: dict[str, str], emergency: bool, allowed: bool, released: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agi_asking, "ANSWER_MILLISECONDS", 10)
    client = SlowClient()
    asking = Asking(AgiSettings())
    asking._client = cast("LicenseClient", client)
    values: dict[str, Any] = {"wants": "trunk", **said}
    question = Question("acquire", "1.2", values, emergency=emergency)
    answer = asyncio.run(asking.acquire(question))
    assert (answer.allowed, answer.from_daemon) == (allowed, False)
    client.let.set()
    asking.close()
    assert client.released == released
