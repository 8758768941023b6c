"""The watchdog: fed by an answer and by nothing else, cheap, and in nobody's way."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.daemon import watchdog as module
from featurekeyd.daemon.notices import STATUS_SECONDS, Notices
from featurekeyd.daemon.watchdog import QUESTIONS_PER_WATCHDOG, Watchdog, watchdog_seconds
from featurekeyd.policy.catalog import Catalog, Platform
from featurekeyd.policy.events import EventName
from featurekeyd.policy.system import System

if TYPE_CHECKING:
    from tests.daemon.conftest import House

SECONDS = 20.0
EVERY = SECONDS / QUESTIONS_PER_WATCHDOG
TURNS = 20
"""Turns of the loop in which a question and its answer have come and gone."""


class Told:
    """The service manager's end."""

    def __init__(self, place: Path) -> None:
        self.address = str(place / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.setblocking(False)

    def take(self) -> list[str]:
        """Everything it was told since the last time, line by line."""
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    it = Told(tmp_path)
    yield it
    it.socket.close()


@pytest.fixture
def watchdog(house: House, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    monkeypatch.setattr(faulthandler, "enable", lambda _: None)  # it would be pytest's own from then on
    it = Watchdog(house.server, Notices(told.address), SECONDS)
    it.start()
    house.loop.turn(TURNS)
    yield it
    it.close()
    house.loop.turn(TURNS)


@pytest.mark.usefixtures("watchdog")
def test_an_answered_question_feeds_it_and_tells_how_the_site_stands(told: Told) -> None:
    fed, status = told.take()
    assert fed == "WATCHDOG=1"
    assert status.startswith("STATUS=deactivated, Feature Key ")


@pytest.mark.usefixtures("watchdog")
def test_it_is_fed_three_times_in_the_time_it_has_and_tells_only_news(house: House, told: Told) -> None:
    told.take()
    for _ in range(QUESTIONS_PER_WATCHDOG):
        house.loop.later(EVERY)
        house.loop.turn(TURNS)
    assert told.take() == ["WATCHDOG=1"] * QUESTIONS_PER_WATCHDOG


@pytest.mark.usefixtures("watchdog")
def test_the_question_decides_and_changes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    explain = house.enforcer.explain

    def spy(request: Any, uid: int, now: Any) -> Any:
        asked.append(request.holder)
        return explain(request, uid, now)

    monkeypatch.setattr(house.enforcer, "explain", spy)
    house.loop.later(EVERY)
    house.loop.turn(TURNS)
    assert asked == ["featurekeyd"]
    assert (len(house.enforcer.ledger), len(house.enforcer.holders)) == (0, 0)
    assert (house.site.granted, house.site.denied) == (0, 0)


@pytest.mark.usefixtures("watchdog")
def test_a_decision_that_fails_does_not_feed_it(house: House, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.take()

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(house.enforcer, "explain", fail)
    for _ in range(3):
        house.loop.later(EVERY)
        house.loop.turn(TURNS)
    assert told.take() == []
    assert {event.name for event in house.log.events} == {EventName.UNEXPECTED}
    monkeypatch.undo()
    house.loop.later(EVERY)
    house.loop.turn(TURNS)
    assert "WATCHDOG=1" in told.take()


@pytest.mark.usefixtures("watchdog")
def test_turns_that_serve_nobody_do_not_feed_it(house: House, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.take()
    monkeypatch.setattr(house.server.turns, "_serve", lambda *_: False)
    for _ in range(3):
        house.loop.later(EVERY)
        house.loop.turn(TURNS)
    assert told.take() == []
    monkeypatch.undo()  # so that the connections come to their end


@pytest.mark.usefixtures("watchdog")
def test_a_name_that_somebody_took_does_not_starve_it(house: House, told: Told) -> None:
    told.take()
    assert house.enforcer.holders.hear("featurekeyd", 54321, 0.0) is not None
    house.loop.later(EVERY)
    house.loop.turn(TURNS)
    assert "WATCHDOG=1" in told.take()


def test_a_connection_that_was_ended_is_made_anew(house: House, told: Told, watchdog: Watchdog) -> None:
    told.take()
    for transport in list(house.server._transports):
        transport.close()
    house.loop.turn(TURNS)
    for _ in range(2):
        house.loop.later(EVERY)
        house.loop.turn(TURNS)
    assert "WATCHDOG=1" in told.take()
    assert len(house.server._transports) == 1


def test_it_leaves_nothing_behind(house: House, told: Told, watchdog: Watchdog) -> None:
    watchdog.close()
    house.loop.turn(TURNS)
    assert house.server._transports == {}
    told.take()
    house.loop.later(10 * SECONDS)
    house.loop.turn(TURNS)
    assert told.take() == []


def test_a_service_manager_that_reads_nothing_holds_nothing_up(house: House, watchdog: Watchdog) -> None:
    for _ in range(2000):
        watchdog._notices.tell("WATCHDOG=1")
    assert house.loop.failures == []


def test_without_a_watchdog_only_news_of_the_site_are_told(house: House, told: Told) -> None:
    it = Watchdog(house.server, Notices(told.address), None)
    it.start()
    (status,) = told.take()
    assert status.startswith("STATUS=deactivated")
    house.loop.later(STATUS_SECONDS)
    assert told.take() == []
    house.site.granted += 1
    house.loop.later(STATUS_SECONDS)
    assert told.take() == [status.replace("0 granted", "1 granted")]
    assert house.server._transports == {}
    it.close()


def test_without_a_service_manager_nothing_wakes_the_loop(house: House) -> None:
    before = house.loop.timers
    Watchdog(house.server, Notices(""), SECONDS).start()
    assert house.loop.timers == before


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_time_is_that_of_the_environment(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds


def test_the_question_is_one_call() -> None:
    question = module._question("trunk")
    assert question.endswith(b"\0")
    assert json.loads(question[:-1])["method"] == "io.featurekey.License.Explain"


@pytest.mark.parametrize(
    ("platform", "features", "asked"),
    [
        ("large", ("edition", "fax"), "fax"),
        ("small", ("fax", "edition"), "edition"),
        ("small", ("fax", "edition", "trunk"), "trunk"),
        ("small", ("fax",), "fax"),
    ],
)
def test_it_asks_for_what_calls_take_where_the_platform_has_it(
    catalog: Catalog, platform: str, features: tuple[str, ...], asked: str
) -> None:
    fax = msgspec.structs.replace(catalog.features["trunk"], id="fax", platforms=("large",))
    known = {**catalog.features, "fax": fax}
    platforms = {**catalog.platforms, "small": Platform(title="Small")}
    other = msgspec.structs.replace(catalog, features={name: known[name] for name in features}, platforms=platforms)
    assert module._feature(other, System(platform=platform)) == asked
