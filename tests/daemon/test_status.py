"""What is said of over-use, ports with a ceiling and drift: by Status and ListFeatures, by the log and by Watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from featurekeyd.daemon.wire import LICENSE, MANAGE
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.events import EventName
from featurekeyd.policy.licensekey import Term

if TYPE_CHECKING:
    from tests.daemon.conftest import House

PORT = "trunk:carrier-a"
DAY = 86400.0


def status(house: House) -> dict[str, Any]:
    (reply,) = house.ask(f"{LICENSE}.Status")
    return cast("dict[str, Any]", reply["parameters"])


def feature(house: House, name: str = "trunk") -> dict[str, Any]:
    (reply,) = house.ask(f"{LICENSE}.ListFeatures")
    return next(it for it in reply["parameters"]["features"] if it["feature"] == name)


def acquire(house: House, *keys: str, **fields: Any) -> list[dict[str, Any]]:
    said = [house.ask(f"{LICENSE}.Acquire", **house.acquire(key, **fields)["parameters"]) for key in keys]
    house.site.settle()
    return [reply["parameters"] for (reply,) in said]


def release(house: House, *keys: str) -> None:
    for key in keys:
        house.ask(f"{LICENSE}.Release", holder="kamailio", key=key)
    house.site.settle()


def synchronize(house: House, *keys: str, **fields: Any) -> None:
    house.clock.run(10)  # what was taken just before a list is spared by it
    leases = [{"key": key, "wants": [{"feature": "trunk"}], **fields} for key in keys]
    house.ask(f"{LICENSE}.Sync", holder="kamailio", scope="calls", leases=leases)
    house.site.settle()


def over_use(house: House) -> list[tuple[EventName, str]]:
    names = {EventName.OVER_USE_BEGAN, EventName.OVER_USE_ENDED}
    return [(event.name, event.fields["IN_USE"]) for event in house.log.events if event.name in names]


# A limit that falls


def remove(house: House) -> None:
    """The trunks' license is removed: none is left."""
    (key,) = [key for key in house.enforcer.licenses.revocations if key.feature_code == 2]
    assert house.ask(f"{MANAGE}.RemoveLicense", key=key.text)[0]["parameters"]["finding"]["accepted"]


def deactivate(house: House) -> None:
    """The Feature Key is pulled, and the grace is over."""
    house.enforcer.see(house.seen("absent"), house.clock())
    house.clock.run(2 * 3600 + 1)
    house.enforcer.tick(house.clock())
    house.site.settle()
    assert house.enforcer.standing == "deactivated"


@pytest.mark.parametrize("fall", [remove, deactivate])
def test_leases_stay_when_their_limit_falls_and_drain(fall: Callable[[House], None], licensed: House) -> None:
    acquire(licensed, "a", "b", "c")
    fall(licensed)
    assert len(licensed.enforcer.ledger) == 3
    above = {"feature": "trunk", "limit": 0, "in_use": 3, "over": 3}
    assert status(licensed)["over_use"] == [above]
    assert {name: feature(licensed)[name] for name in above} == above
    (denied,) = acquire(licensed, "d")
    assert denied["allowed"] is False
    assert acquire(licensed, "a")[0]["reason"] == "already_held", "what is held stays good"
    release(licensed, "a", "b")
    assert status(licensed)["over_use"][0]["over"] == 1
    release(licensed, "c")
    assert status(licensed)["over_use"] == []
    assert "over" not in feature(licensed)
    assert over_use(licensed) == [(EventName.OVER_USE_BEGAN, "3"), (EventName.OVER_USE_ENDED, "0")]


def test_a_license_that_expires_leaves_its_calls_alone(house: House) -> None:
    keys = [house.vendor.key(1, 1), house.vendor.key(2, 2), house.vendor.key(2, 6, Term.MONTH)]
    house.licensed(*keys)
    acquire(house, *"abcde")
    house.clock.run(40 * DAY)
    house.enforcer.tick(house.clock())
    house.site.settle()
    assert len(house.enforcer.ledger) == 5
    began = house.log.one(EventName.OVER_USE_BEGAN)
    told = {"FEATURE": "trunk", "LIMIT": "2", "BEFORE": "8", "IN_USE": "5", "STANDING": "licensed"}
    assert began.fields == told
    assert began.message.startswith("The limit of Trunks fell from 8 to 2 while 5 are in use, 3 above it.")
    release(house, "a", "b", "c")
    assert house.log.one(EventName.OVER_USE_ENDED).fields["IN_USE"] == "2"
    assert acquire(house, "f")[0]["reason"] == "limit_reached"
    release(house, "d")
    assert acquire(house, "f")[0]["allowed"] is True


def test_the_key_that_is_put_back_ends_over_use(licensed: House) -> None:
    acquire(licensed, "a", "b")
    deactivate(licensed)
    assert feature(licensed)["lack"] == "deactivated"
    licensed.enforcer.see(licensed.seen(), licensed.clock())
    licensed.site.settle()
    assert feature(licensed)["limit"] == 8
    assert "lack" not in feature(licensed)
    assert over_use(licensed) == [(EventName.OVER_USE_BEGAN, "2"), (EventName.OVER_USE_ENDED, "2")]


def test_a_list_that_brings_more_than_is_licensed_is_told(licensed: House) -> None:
    synchronize(licensed, *"abcdefghij")
    began = licensed.log.one(EventName.OVER_USE_BEGAN)
    assert began.message.startswith("10 of Trunks are in use and the limit is 8, 2 above it.")
    synchronize(licensed, *"abcdefghij")
    synchronize(licensed, *"abcdefgh")
    assert over_use(licensed) == [(EventName.OVER_USE_BEGAN, "10"), (EventName.OVER_USE_ENDED, "8")]


def test_a_limit_that_falls_again_is_told_again_and_one_that_rises_is_not(house: House) -> None:
    house.licensed(
        house.vendor.key(1, 1),
        house.vendor.key(2, 1),
        house.vendor.key(2, 2, Term.MONTH),
        house.vendor.key(2, 5, Term.TRIAL),
    )
    acquire(house, *"abcdefgh")
    for _ in range(4):
        house.clock.run(35 * DAY)
        house.site._tick()
    began = [event.fields for event in house.log.events if event.name is EventName.OVER_USE_BEGAN]
    assert [(it["BEFORE"], it["LIMIT"]) for it in began] == [("8", "6"), ("6", "1")]
    assert status(house)["over_use"][0]["over"] == 7


def test_who_watches_is_told_of_over_use(licensed: House) -> None:
    watcher = licensed.caller()
    watcher.send({**licensed.call("Watch"), "more": True})
    acquire(licensed, "a")
    deactivate(licensed)
    release(licensed, "a")
    events = [it["event"] for it in watcher.parameters[1:] if it["event"]["kind"] == "over_use"]
    assert [event["feature"] for event in events] == ["trunk"] * 2
    assert (events[0]["limit"], events[0]["in_use"]) == (0, 1)


def test_where_nothing_is_above_its_limit_nothing_is_told(licensed: House) -> None:
    acquire(licensed, *"abcdefghij")
    release(licensed, *"abc")
    licensed.enforcer.tick(licensed.clock())
    licensed.site.settle()
    assert over_use(licensed) == []


# Ports


@pytest.fixture
def ceiled(tmp_path: Path, house: House) -> Iterator[House]:
    """A site with 8 trunks, of which one port takes 2."""
    settings = {"rules": Rules(ceilings={PORT: 2, "trunk:carrier-b": 5})}
    place = tmp_path / "ceiled"
    place.mkdir()
    opened = type(house)(place, house.loop, house.catalog, **settings)
    yield opened.licensed(opened.vendor.key(code=1, instances=1), opened.vendor.key(code=2, instances=8))
    opened.close()


def port(house: House) -> dict[str, Any]:
    return next(it for it in status(house)["ports"] if it["port"] == PORT)


def test_a_port_with_a_ceiling_is_shown_with_its_use_and_its_peak(ceiled: House) -> None:
    assert port(ceiled) == {"port": PORT, "ceiling": 2, "in_use": 0, "peak": 0}
    acquire(ceiled, "a", "b", port=PORT)
    acquire(ceiled, "c", port="trunk:without")
    release(ceiled, "a")
    assert port(ceiled) == {"port": PORT, "ceiling": 2, "in_use": 1, "peak": 2}
    assert [it["port"] for it in status(ceiled)["ports"]] == [PORT, "trunk:carrier-b"]


def test_a_ceiling_denies_and_is_named_in_answer_explanation_and_log(ceiled: House) -> None:
    denied = acquire(ceiled, "a", "b", "c", "d", port=PORT)[2]
    assert (denied["reason"], denied["limit"], denied["in_use"]) == ("ceiling_reached", 2, 2)
    assert denied["message"] == f"2 of at most 2 calls are on port {PORT}."
    assert "[ceilings]" in denied["remedy"]
    (explained,) = ceiled.ask(f"{LICENSE}.Explain", **ceiled.acquire("c", port=PORT)["parameters"])
    last = explained["parameters"]["steps"][-1]
    assert (last["step"], last["subject"], last["passed"]) == ("ceiling", PORT, False)
    assert last["finding"] == denied["message"]
    fields = ceiled.log.one(EventName.DENIED).fields
    assert (fields["PORT"], fields["LIMIT"], fields["IN_USE"]) == (PORT, "2", "2")
    ceiled.site.close()
    assert ceiled.log.one(EventName.DENIALS_SUMMARIZED).fields["PORT"] == PORT
    assert acquire(ceiled, "c", port="trunk:carrier-b")[0]["allowed"] is True


def test_emergency_calls_do_not_count_on_a_port(ceiled: House) -> None:
    acquire(ceiled, "a", "b", port=PORT)
    assert acquire(ceiled, "sos", port=PORT, dialed="112")[0]["allowed"] is True
    assert port(ceiled)["in_use"] == port(ceiled)["peak"] == 2


def test_a_list_may_bring_a_port_above_its_ceiling_and_that_is_shown(ceiled: House) -> None:
    synchronize(ceiled, "a", "b", "c", port=PORT)
    assert port(ceiled) == {"port": PORT, "ceiling": 2, "in_use": 3, "peak": 3, "over": 1}
    synchronize(ceiled, "a", port=PORT)
    assert port(ceiled) == {"port": PORT, "ceiling": 2, "in_use": 1, "peak": 3}


def test_without_ceilings_no_port_is_listed(licensed: House) -> None:
    acquire(licensed, "a", port=PORT)
    assert status(licensed)["ports"] == []


# Drift


def holder(house: House) -> dict[str, Any]:
    (it,) = status(house)["holders"]
    return cast("dict[str, Any]", it)


def test_drift_is_counted_by_what_found_it_with_the_time_since(licensed: House) -> None:
    acquire(licensed, "a", port=PORT, channel="1")
    assert (holder(licensed)["drift"], holder(licensed)["channel_drift"]) == (0, 0)
    assert "drift_seconds" not in holder(licensed)
    licensed.clock.run(10)
    acquire(licensed, "b", port=PORT, channel="1")
    licensed.clock.run(5)
    assert (holder(licensed)["drift"], holder(licensed)["channel_drift"]) == (0, 1)
    assert (holder(licensed)["drift_seconds"], holder(licensed)["silent_seconds"]) == (5, 5)
    synchronize(licensed, "b", "c", port=PORT)
    synchronize(licensed, "b", "c", port=PORT)
    assert (holder(licensed)["drift"], holder(licensed)["channel_drift"]) == (1, 1)
    assert (holder(licensed)["drift_seconds"], holder(licensed)["silent_seconds"]) == (10, 0)


def test_the_longest_silence_that_was_announced_is_told_and_who_only_asks_has_none(licensed: House) -> None:
    acquire(licensed, "a", port=PORT)
    assert "ttl_seconds" not in holder(licensed)
    lease = {"key": "a", "wants": [{"feature": "trunk"}], "port": PORT}
    licensed.ask(f"{LICENSE}.Sync", holder="kamailio", scope="calls", leases=[lease], ttl_seconds=90)
    assert holder(licensed)["ttl_seconds"] == 90


# One call


def found(house: House, call: str, **fields: Any) -> dict[str, Any]:
    (reply,) = house.ask(f"{LICENSE}.FindCall", call=call, **fields)
    return cast("dict[str, Any]", reply["parameters"])


def test_a_call_is_found_with_its_phase_and_what_goes_along(licensed: House) -> None:
    wants = [{"feature": "edition"}, {"feature": "trunk", "instances": 2}]
    acquire(licensed, "a;tag=1", wants=wants, port=PORT, channel="7", phase="established")
    licensed.clock.run(90)
    (lease,) = found(licensed, "a")["leases"]
    assert lease["key"] == "a;tag=1"
    assert (lease["port"], lease["channel"], lease["phase"], lease["age_seconds"]) == (PORT, "7", "established", 90)
    assert lease["wants"] == [{"feature": "trunk", "instances": 2}]
    assert lease["presence"] == [{"feature": "edition", "instances": 1}]
    assert "given_back" not in lease  # trunks of this catalog take nothing besides


def test_a_call_that_ended_is_told_until_the_daemon_forgets(licensed: House) -> None:
    acquire(licensed, "a;tag=1")
    release(licensed, "a;tag=1")
    licensed.clock.run(5)
    assert found(licensed, "a") == {"leases": [], "ended": [{"holder": "kamailio", "key": "a;tag=1", "seconds": 5}]}
    assert found(licensed, "b") == {"leases": [], "ended": []}
