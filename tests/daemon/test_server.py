"""What connections share: numbers, and a log that no client can flood."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from featurekeyd.daemon import server
from featurekeyd.daemon.peer import Peer
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House


def peer(uid: int) -> Peer:
    return Peer(1, uid, frozenset())


def test_no_two_connections_have_one_number(house: House) -> None:
    assert len({house.server.next_number() for _ in range(1000)}) == 1000


def test_each_user_and_each_mistake_is_told_once_in_a_while(house: House) -> None:
    for _ in range(3):
        for uid in (1, 2):
            for hint in ("more than 256 connections", "JSON is not UTF-8"):
                house.server.turned_away(peer(uid), hint)
    assert house.log.names() == [EventName.CLIENT_REFUSED] * 4
    assert house.log.events[0].message == ("A client of uid 1 (process 1) was turned away: more than 256 connections.")
    house.clock.run(59)
    house.server.turned_away(peer(1), "JSON is not UTF-8")
    assert len(house.log.events) == 4
    house.clock.run(1)
    house.server.turned_away(peer(1), "JSON is not UTF-8")
    assert len(house.log.events) == 5


def test_the_users_that_were_told_of_are_so_many_at_most(house: House) -> None:
    for uid in range(3 * server._MAX_TOLD):
        house.server.turned_away(peer(uid), "this user may not ask")
        assert len(house.server._told) <= server._MAX_TOLD


def test_an_exception_is_told_to_the_log_whole_and_to_the_client_not_at_all(house: House) -> None:
    reply = house.server.unexpected(RuntimeError("the serial of the owner"))
    assert json.loads(reply[:-1]) == {"error": "io.featurekey.License.UnexpectedCondition", "parameters": {}}
    assert "the serial of the owner" in house.log.one(EventName.UNEXPECTED).fields["TRACEBACK"]


def test_connections_are_counted_by_user_and_forgotten_when_there_are_none(house: House) -> None:
    assert [house.server.admit(peer(uid)) for uid in (1, 2, 2)] == [None] * 3
    for uid in (2, 1, 2):
        house.server.dismiss(peer(uid))
    assert house.server._connections == {}
