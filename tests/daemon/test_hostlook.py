"""Looks at the host: one at a time, in a thread of their own, and one that hangs takes nothing else with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import trusting
from featurekeyd.daemon.hostlook import HOST_LOOK_SECONDS, HostLook, LookHangs
from featurekeyd.policy.events import EventName
from featurekeyd.policy.hostevidence import Evidence

if TYPE_CHECKING:
    from tests.daemon.conftest import House, Loop

MANAGE = "io.featurekey.Manage"
FOUND = Evidence(components=())
PATIENCE = 30.0


class Reader:
    """A reader of the host that hangs while it is told to, and counts."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.begun: list[threading.Thread] = []
        self.fails: Exception | None = None

    def __call__(self) -> Evidence:
        self.begun.append(threading.current_thread())
        assert self.goes_on.wait(PATIENCE)
        if self.fails is not None:
            raise self.fails
        return FOUND

    def end(self) -> None:
        """Let the looks that hang come back, and wait for the ends of their threads."""
        self.goes_on.set()
        for thread in self.begun:
            thread.join(PATIENCE)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.end()


def until(loop: Loop, true: Callable[[], bool]) -> None:
    """Let the loop run until that is true; its clock stands still."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        loop.turn()


def test_a_look_gives_what_is_read(house: House, reader: Reader) -> None:
    reader.goes_on.set()
    assert house.loop.run_until_complete(HostLook(reader).look()) is FOUND
    assert [(thread.name, thread.daemon) for thread in reader.begun] == [("hostlook", True)]


def test_what_a_look_raises_is_raised_and_the_next_one_looks_anew(house: House, reader: Reader) -> None:
    look = HostLook(reader)
    reader.goes_on.set()
    reader.fails = OSError(24, "Too many open files")
    with pytest.raises(OSError, match="Too many open files"):
        house.loop.run_until_complete(look.look())
    reader.fails = None
    assert house.loop.run_until_complete(look.look()) is FOUND


def test_there_is_one_look_at_a_time_and_who_comes_meanwhile_has_one_after_it(house: House, reader: Reader) -> None:
    look = HostLook(reader)
    tasks = [house.loop.create_task(look.look()) for _ in range(3)]
    until(house.loop, lambda: len(reader.begun) == 1)
    house.loop.turn(50)
    assert len(reader.begun) == 1
    reader.goes_on.set()
    until(house.loop, lambda: all(task.done() for task in tasks))
    assert [task.result() for task in tasks] == [FOUND] * 3
    assert len(reader.begun) == 3


def test_a_look_that_hangs_is_waited_for_so_long_and_then_told_at_once_until_it_is_back(
    house: House, reader: Reader
) -> None:
    look, loop = HostLook(reader), house.loop
    first = loop.create_task(look.look())
    until(loop, lambda: len(reader.begun) == 1)
    loop.later(HOST_LOOK_SECONDS - 1)
    assert not first.done()
    loop.later(1)
    until(loop, first.done)
    told = first.exception()
    assert isinstance(told, LookHangs)
    assert told.first
    with pytest.raises(LookHangs) as again:
        loop.run_until_complete(look.look())
    assert not again.value.first
    reader.end()
    until(loop, lambda: not look._stuck)
    assert loop.run_until_complete(look.look()) is FOUND
    assert len(reader.begun) == 2


def test_who_has_gone_leaves_nothing_behind(house: House, reader: Reader) -> None:
    look, loop = HostLook(reader), house.loop
    task = loop.create_task(look.look())
    until(loop, lambda: len(reader.begun) == 1)
    task.cancel()
    until(loop, task.done)
    reader.fails = ZeroDivisionError()
    reader.end()
    until(loop, lambda: look._under_way is None)
    assert loop.failures == []


def test_while_the_host_hangs_the_administration_goes_on_and_the_check_counts_as_failed(
    bound: House, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hanging(_: Path) -> Evidence:
        return reader()

    monkeypatch.setattr(trusting, "read_evidence", hanging)
    site, loop = bound.site, bound.loop
    site.trusting.begin()
    for _ in range(60):
        bound.clock.run(60)
        site.trusting.tick(bound.clock())
        while site.trusting._tasks:
            loop.later(1)
    assert len(reader.begun) == 1
    assert site.trusting.facts.check_failing
    assert "A look at the host hangs" in bound.log.one(EventName.CHECK_FAILED).message
    assert len([it for it in bound.log.events if it.name is EventName.UNEXPECTED]) == 1
    assert bound.ask(f"{MANAGE}.GetHost", uid=1234)[0]["error"] == f"{MANAGE}.HostNotReadable"
    assert loop.run_until_complete(asyncio.to_thread(lambda: 1)) == 1
    monkeypatch.undo()
    reader.end()
    until(loop, lambda: not site.trusting._host._stuck)
    bound.clock.run(60)
    site.trusting.tick(bound.clock())
    bound.wait()
    assert site.trusting.evidence is not None
