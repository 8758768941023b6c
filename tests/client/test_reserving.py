"""The verbs for reservations, and a client that waits: what they ask, what they show, how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import exits
from featurekeyd.client.control import run
from featurekeyd.client.license import LicenseClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import StandIn

    Control = Callable[..., tuple[int, str, str]]

RESERVED = {"verdict": "reserved", "accepted": True, "message": "Reserved for 201: 1 of Phones."}
NOT_FREE = {
    "verdict": "not_free",
    "accepted": False,
    "message": "Of 4 instances of Phones, 4 are in use and 0 reserved; 1 more wanted.",
    "remedy": "Order more.",
}


@pytest.fixture
def control(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> Control:
    def start(*arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", daemon.path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def test_reserve_asks_for_one_instance_of_any_holder_unless_told(daemon: StandIn, control: Control) -> None:
    daemon.on("Reserve", {"finding": RESERVED})
    assert control("reserve", "phones", "201") == (0, "reserved: Reserved for 201: 1 of Phones.\n", "")
    assert daemon.parameters() == {"feature": "phones", "key": "201"}
    control("reserve", "phones", "201", "--holder", "asterisk", "--instances", "2")
    assert daemon.parameters() == {"feature": "phones", "key": "201", "holder": "asterisk", "instances": 2}


def test_a_reservation_that_is_refused_says_what_stands_in_the_way(daemon: StandIn, control: Control) -> None:
    daemon.on("Reserve", {"finding": NOT_FREE})
    status, out, _ = control("reserve", "phones", "201")
    assert (status, out) == (exits.REFUSED, f"not_free: {NOT_FREE['message']}\n  Order more.\n")
    status, out, _ = control("reserve", "phones", "201", "--json")
    assert (status, json.loads(out)) == (exits.REFUSED, {"finding": NOT_FREE})


@pytest.mark.parametrize("wrong", [["--instances", "0"], ["--instances", "16384"], ["--holder", ""]])
def test_what_cannot_be_reserved_is_wrong_usage(daemon: StandIn, control: Control, wrong: list[str]) -> None:
    assert control("reserve", "phones", "201", *wrong)[0] == exits.WRONG_USAGE
    assert control("reserve", "phones", "")[0] == exits.WRONG_USAGE
    assert daemon.asked() == []


@pytest.mark.parametrize(("accepted", "status"), [(True, exits.DONE), (False, exits.REFUSED)])
def test_unreserve_ends_as_it_was_found(daemon: StandIn, control: Control, accepted: bool, status: int) -> None:
    daemon.on("Unreserve", {"finding": {"verdict": "removed", "accepted": accepted, "message": "Given up."}})
    assert control("unreserve", "phones", "201") == (status, "removed: Given up.\n", "")
    assert daemon.parameters() == {"feature": "phones", "key": "201"}


def test_reservations_are_listed_with_what_is_held_and_free(daemon: StandIn, control: Control) -> None:
    first: dict[str, Any] = {"feature": "phones", "key": "201", "instances": 2, "held": 1, "free": 1}
    second = first | {"key": "202", "holder": "asterisk"}
    daemon.on("ListReservations", daemon.says({"reservation": first}, {"reservation": second}))
    assert control("reservations")[1] == (
        "FEATURE  KEY  HOLDER    INSTANCES  HELD  FREE\n"
        "phones   201  -                 2     1     1\n"
        "phones   202  asterisk          2     1     1\n"
    )
    assert json.loads(control("reservations", "--json")[1]) == {"reservations": [first, second]}
    daemon.on("ListReservations", {})
    assert control("reservations") == (0, "nothing is reserved\n", "")


def test_who_waits_says_so_and_is_told_its_place(daemon: StandIn, control: Control) -> None:
    daemon.on("Acquire", daemon.DENIED | {"place": 3})
    status, out, _ = control("acquire", "f", "--holder", "h", "--key", "k", "--wait", "--rank", "dect")
    assert status == exits.REFUSED
    assert "  waits as number 3; ask again within 150 s to keep the place\n" in out
    asked = daemon.parameters()
    assert (asked["wait"], asked["rank"]) == (True, "dect")
    control("acquire", "f", "--holder", "h", "--key", "k")
    assert daemon.parameters().keys().isdisjoint({"wait", "rank"})


def test_the_library_waits_when_told(daemon: StandIn) -> None:
    daemon.on("Acquire", daemon.DENIED | {"place": 3})
    with LicenseClient("h", daemon.path, daemon.PATIENCE) as client:
        assert client.acquire("k", "f", wait=True, rank="dect").place == 3
        asked = daemon.parameters()
        assert (asked["wait"], asked["rank"]) == (True, "dect")
        client.acquire("k", "f")
    assert daemon.parameters().keys().isdisjoint({"wait", "rank"})
