"""Reservations as technicians make them: stored before they count, told with who did it; and who waits is called."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.store import Store
from featurekeyd.daemon.wire import LICENSE, MANAGE
from featurekeyd.policy.events import EventName
from featurekeyd.policy.reservations import Reservation, Reservations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.conftest import House


def ask(house: House, name: str, *, uid: int = 0, **parameters: Any) -> dict[str, Any]:
    (reply,) = house.ask(name, uid=uid, **parameters)
    answer: dict[str, Any] = reply["parameters"]
    return answer


def reserve(house: House, key: str, **fields: Any) -> dict[str, Any]:
    finding: dict[str, Any] = ask(house, f"{MANAGE}.Reserve", feature="trunk", key=key, **fields)["finding"]
    return finding


def acquire(house: House, key: str, **fields: Any) -> dict[str, Any]:
    return ask(house, f"{LICENSE}.Acquire", **house.acquire(key, **fields)["parameters"])


def listed(house: House) -> list[dict[str, Any]]:
    replies = house.ask(f"{MANAGE}.ListReservations", more=True)
    return [reply["parameters"]["reservation"] for reply in replies if reply["parameters"]]


def test_a_reservation_is_stored_counts_and_is_told_with_who_made_it(licensed: House) -> None:
    assert reserve(licensed, "201", holder="asterisk", instances=8)["verdict"] == "reserved"
    assert list(licensed.store.load_reservations()[0]) == [
        Reservation(feature="trunk", key="201", holder="asterisk", instances=8)
    ]
    event = licensed.log.one(EventName.RESERVED)
    assert event.message == "Reserved for 201 of asterisk: 8 of Trunks."
    assert event.fields == {"FEATURE": "trunk", "LEASE": "201", "HOLDER": "asterisk", "BY": "uid 0"}
    assert acquire(licensed, "late")["reason"] == "reserved"
    assert acquire(licensed, "201", holder="asterisk")["allowed"] is True


def test_a_reservation_given_up_is_forgotten_and_told(licensed: House) -> None:
    reserve(licensed, "201", instances=8)
    finding = ask(licensed, f"{MANAGE}.Unreserve", feature="trunk", key="201")["finding"]
    assert (finding["verdict"], finding["accepted"]) == ("removed", True)
    assert list(licensed.store.load_reservations()[0]) == []
    assert licensed.log.one(EventName.UNRESERVED).fields == {"FEATURE": "trunk", "LEASE": "201", "BY": "uid 0"}
    assert acquire(licensed, "late")["allowed"] is True


def test_what_is_refused_or_there_already_is_neither_stored_nor_told(licensed: House) -> None:
    reserve(licensed, "201")
    licensed.log.events.clear()
    assert reserve(licensed, "201")["verdict"] == "already_there"
    assert reserve(licensed, "202", instances=8)["verdict"] == "not_free"
    assert ask(licensed, f"{MANAGE}.Unreserve", feature="trunk", key="202")["finding"]["verdict"] == "not_found"
    assert [it.key for it in licensed.store.load_reservations()[0]] == ["201"]
    assert licensed.log.events == []


def test_a_reservation_that_cannot_be_stored_does_not_count(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    reserve(licensed, "201")
    monkeypatch.setattr(licensed.store, "save_reservations", full)
    for name in ("Reserve", "Unreserve"):
        instances: dict[str, Any] = {"instances": 8} if name == "Reserve" else {}
        (reply,) = licensed.ask(f"{MANAGE}.{name}", feature="trunk", key="201", **instances)
        assert reply["error"] == f"{MANAGE}.StateNotStored"
        assert "disk is full" in reply["parameters"]["hint"]
    assert [(it.key, it.instances) for it in licensed.enforcer.reservations] == [("201", 1)]
    assert licensed.log.names() == [EventName.RESERVED, EventName.STATE_NOT_STORED, EventName.STATE_NOT_STORED]


def test_reservations_are_listed_in_the_order_of_their_making_with_what_is_held_and_free(licensed: House) -> None:
    assert listed(licensed) == []
    reserve(licensed, "202", instances=3)
    reserve(licensed, "201", holder="asterisk")
    acquire(licensed, "202")
    assert listed(licensed) == [
        {"feature": "trunk", "key": "202", "instances": 3, "held": 1, "free": 2},
        {"feature": "trunk", "key": "201", "holder": "asterisk", "instances": 1, "held": 0, "free": 1},
    ]
    (trunk,) = [it for it in ask(licensed, f"{LICENSE}.ListFeatures")["features"] if it["feature"] == "trunk"]
    assert (trunk["in_use"], trunk["reserved"]) == (1, 3)


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"key": ""}, "key"),
        ({"key": "k" * 513}, "key"),
        ({"key": "a\u202e"}, "key"),
        ({"key": "a", "instances": 0}, "instances"),
        ({"key": "a", "instances": 16384}, "instances"),
        ({"key": "a", "holder": "h" * 65}, "holder"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(licensed: House, parameters: dict[str, Any], wrong: str) -> None:
    (reply,) = licensed.ask(f"{MANAGE}.Reserve", feature="trunk", **parameters)
    assert reply == {"error": "org.varlink.service.InvalidParameter", "parameters": {"parameter": wrong}}


def test_those_who_watch_hear_of_reservations_and_of_whose_turn_it_is(licensed: House) -> None:
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send({**licensed.call("Watch"), "more": True})
    reserve(licensed, "201", instances=8)
    caller.send(licensed.acquire("a", wait=True))
    caller.send(licensed.acquire("b", wait=True))
    assert [reply["place"] for reply in caller.parameters] == [1, 2]
    ask(licensed, f"{MANAGE}.Unreserve", feature="trunk", key="201")
    events = [reply["event"] for reply in watcher.parameters[1:]]
    assert [(it["kind"], it["key"]) for it in events] == [
        ("reservation", "201"), ("reservation", "201"), ("turn", "a"), ("turn", "b"),
    ]  # fmt: skip
    assert (events[2]["holder"], events[2]["feature"]) == ("kamailio", "trunk")


def test_a_release_calls_who_waits_in_the_same_turn(licensed: House) -> None:
    caller, watcher = licensed.caller(), licensed.caller()
    watcher.send({**licensed.call("Watch"), "more": True})
    caller.send(licensed.acquire("all", wants=[{"feature": "trunk", "instances": 8}]))
    caller.send(licensed.acquire("a", wait=True))
    caller.send(licensed.call("Release", holder="kamailio", key="all"), licensed.acquire("late"))
    assert caller.parameters[-1]["reason"] == "granted"
    assert [reply["event"]["key"] for reply in watcher.parameters[1:]] == ["a"]


# The state file


def test_reservations_come_back_in_their_order(tmp_path: Path) -> None:
    made = [
        Reservation(feature="trunk", key="b", instances=3),
        Reservation(feature="trunk", key="a", holder="asterisk"),
        Reservation(feature="edition", key="a"),
    ]
    store = Store(tmp_path / "state.db")
    store.save_reservations(Reservations(made))
    store.close()
    store = Store(tmp_path / "state.db")
    assert list(store.load_reservations()[0]) == made
    store.save_reservations(Reservations(made[1:]))
    assert list(store.load_reservations()[0]) == made[1:]
    store.close()


@pytest.mark.parametrize("column", ["instances = 0", "instances = 16384", "key = ''", "holder = ''"])
def test_a_damaged_reservation_is_left_out_and_told(tmp_path: Path, column: str) -> None:
    store = Store(tmp_path / "state.db")
    store.save_reservations(Reservations([Reservation(feature="trunk", key="a")]))
    with sqlite3.connect(tmp_path / "state.db") as state:
        state.execute(f"UPDATE reservation SET {column}")
    state.close()
    found, damaged = store.load_reservations()
    assert list(found) == []
    (told,) = damaged
    assert told.startswith("a reservation is damaged and left out: ")
    store.close()
