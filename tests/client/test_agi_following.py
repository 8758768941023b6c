"""What is done about the calls of a switch, with daemon and AMI in the hand of the test; and what asks the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
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


@pytest.mark.parametrize("there", [(), None])
def test_where_no_list_names_the_leg_the_lease_ends(there: tuple[str, ...] | None) -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.release("1")
        await daemon.wait_told("release 1")

    switch = Switch()
    switch.there = there
    follow(test, switch, "1")


def test_a_leg_that_ends_with_its_call_needs_no_list() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.release("1")
        await asyncio.sleep(0)
        following.event(event("Hangup", uniqueid="2"))
        await daemon.wait_told("release 1")

    follow(test, Switch("2"), "1")


def test_a_handler_that_is_quicker_than_ami_does_not_end_what_goes_on() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.release("1")
        await asyncio.sleep(0)
        following.event(event("DialBegin", uniqueid="1", destuniqueid="2"))
        following.event(event("Hangup", uniqueid="1"))
        await daemon.wait_told("sync 2", "release 1")

    follow(test, Switch("2"), "1")


def test_the_handler_and_the_event_are_one_end() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.release("1")
        following.event(event("Hangup", uniqueid="1"))
        await daemon.wait_told("release 1")
        following.event(event("Hangup", uniqueid="1"))

    follow(test, Switch(), "1")


def test_what_a_masquerade_left_over_releases_nothing_while_ami_tells_the_rest() -> None:
    async def test(following: Following, daemon: Daemon) -> None:
        following.release("1", "Async/x<ZOMBIE>")
        assert following.calls.get("1") is not None
        cast("Switch", following._link).is_up = False
        following.release("1", "Async/x<ZOMBIE>")
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
        following.release("1")
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
