"""Which calls hold a lease, and where a lease goes when channels are transferred, joined or renamed."""

from __future__ import annotations

from featurekeyd.client.agi_calls import (
    MAX_CALLS,
    MAX_LEGS,
    MAX_RENAMES,
    MAX_USES,
    Call,
    Calls,
    Moved,
    channel_of,
    is_remains,
)
from featurekeyd.client.ami_protocol import ChannelInfo, ChannelList


def following(*keys: str) -> Calls:
    calls = Calls()
    for key in keys:
        calls.add(Call(key, ("trunk",), port="p"))
    return calls


def there(*uniqueids: str, up: bool = True, bridge: str = "", dialed: bool = False) -> ChannelList:
    return {it: ChannelInfo(it, up=up, bridge=bridge, dialed=dialed) for it in uniqueids}


def test_a_call_that_is_in_the_list_stays_and_one_that_is_not_is_over() -> None:
    judged = following("1", "2").judge(there("1", "9"), asked_at=1.0)
    assert (judged.over, judged.moved) == (["2"], [])


def test_a_call_granted_after_the_list_was_asked_for_is_not_judged_by_it() -> None:
    calls = Calls()
    calls.add(Call("1", ("trunk",), since=5.0))
    assert calls.judge({}, asked_at=5.0).over == []
    assert calls.judge({}, asked_at=5.1).over == ["1"]


def test_a_leg_that_answered_and_lives_on_takes_the_lease() -> None:
    calls = following("1")
    calls.dialed("1", "2")
    calls.dialed("1", "3")
    calls.ended("2")
    assert calls.successor("1", there("3", up=False)) is None
    assert calls.successor("1", there("2")) is None
    moved = calls.successor("1", there("3"))
    assert moved == Moved("1", "3")
    follower = calls.move(moved, now=7.0)
    assert follower is not None
    assert (follower.key, follower.port, follower.since) == ("3", "p", 7.0)
    assert calls.get("1") is None
    assert [lease.key for lease in calls.leases()] == ["3"]


def test_a_leg_that_asked_for_itself_has_what_it_inherits_besides() -> None:
    calls = following("1", "2")
    calls.dialed("1", "2")
    moved = calls.successor("1", there("2"))
    assert moved == Moved("1", "2")
    follower = calls.move(moved, now=0.0)
    assert follower is not None
    assert (follower.key, follower.uniqueid, follower.direction) == ("2;2", "2", "in")
    assert [call.key for call in calls.of("2")] == ["2", "2;2"]


def test_who_is_put_in_the_place_of_a_channel_with_a_lease_has_that_one() -> None:
    calls = following("1", "2")
    assert calls.move(Moved("1", "2"), now=0.0) is None
    assert len(calls) == 2


def asks(calls: Calls, uniqueid: str, line: str, name: str = "PJSIP/alice-1", port: str = "trunk:a") -> Call:
    direction = calls.direction(uniqueid, name, port, line)
    call = Call(calls.key_for(uniqueid, line, direction), ("trunk",), port=port, direction=direction, line=line)
    assert calls.add(call)
    return call


def test_who_asks_again_by_the_same_line_asks_for_what_he_has() -> None:
    calls = Calls()
    asks(calls, "1", "in", "PJSIP/a-1")
    asks(calls, "1", "in", "PJSIP/a-1")
    asks(calls, "1", "out", "PJSIP/a-1")
    asks(calls, "1", "out", "PJSIP/a-1")
    assert [(call.key, call.direction) for call in calls] == [("1", "in"), ("1;2", "out")]


def test_a_trunk_whose_dial_failed_gives_its_place_to_the_next_one() -> None:
    calls = Calls()
    asks(calls, "1", "first")
    calls.dialed("1", "2", "PJSIP/a-2")
    second = asks(calls, "1", "second", port="trunk:b")
    assert (second.key, len(calls), second.legs) == ("1", 1, set())
    assert calls.ended("2") is None


def test_what_is_asked_beside_a_leg_that_talks_is_a_further_use() -> None:
    calls = Calls()
    asks(calls, "1", "first")
    calls.dialed("1", "2", "PJSIP/a-2")
    calls.answers("2")
    assert asks(calls, "1", "second").key == "1;2"
    calls.dialed("1", "3", "PJSIP/a-3")
    assert calls.ended("3") is calls.get("1;2")
    assert calls.judge(there("1", "2"), asked_at=1.0).over == ["1;2"]


def test_of_two_uses_each_ends_with_what_was_dialed_for_it_and_an_inherited_one_with_its_channel() -> None:
    calls = Calls()
    asks(calls, "0", "out")
    calls.dialed("0", "1", "PJSIP/a-1")
    asks(calls, "1", "out", "PJSIP/a-1")
    assert calls.move(Moved("0", "1"), now=0.5) is not None
    calls.dialed("1", "2", "PJSIP/a-2")
    assert calls.judge(there("1", "2"), asked_at=1.0).over == []
    assert calls.ended("2") is calls.get("1")
    assert calls.judge(there("1"), asked_at=1.0).over == ["1"]


def test_where_the_direction_is_not_known_a_call_that_is_answered_goes_on_beside_another() -> None:
    calls = Calls()
    asks(calls, "1", "first")
    assert calls.answered("1") is not None
    assert asks(calls, "1", "second").key == "1;2"


def test_a_further_use_is_over_when_two_lists_lack_what_it_dialed() -> None:
    calls = Calls()
    asks(calls, "1", "in", "PJSIP/a-1")
    asks(calls, "1", "out")
    calls.dialed("1", "2")
    calls.learn(there("1"))
    assert calls.judge(there("1"), asked_at=1.0).over == []
    calls.learn(there("1"))
    assert calls.judge(there("1"), asked_at=1.0).over == ["1;2"]


def test_what_is_on_the_trunk_itself_hands_its_lease_to_no_telephone() -> None:
    calls = Calls()
    asks(calls, "1", "in", "PJSIP/a-1")
    calls.dialed("1", "2", "PJSIP/bob-2")
    assert calls.successor("1", there("2")) is None
    assert calls.judge(there("2"), asked_at=1.0).over == ["1"]


def test_a_channel_that_was_dialed_is_not_inbound_whatever_its_name() -> None:
    calls = Calls()
    asks(calls, "1", "out")
    calls.dialed("1", "2", "PJSIP/a-2")
    assert calls.direction("2", "PJSIP/a-2", "trunk:a") == ""
    assert calls.direction("3", "PJSIP/a-3", "trunk:a") == "in"
    assert calls.direction("3", "PJSIP/a", "trunk:a") == ""
    early = asks(calls, "4", "out", "PJSIP/a-4")
    assert early.direction == "in"
    calls.dialed("1", "4", "PJSIP/a-4")
    assert early.direction == ""


def test_of_several_legs_the_one_that_is_named_as_the_trunk_goes_on() -> None:
    calls = Calls()
    asks(calls, "1", "out")
    channels = {it: ChannelInfo(it, name=name, up=True) for it, name in (("2", "PJSIP/bob-2"), ("3", "PJSIP/a-3"))}
    calls.dialed("1", "2")
    calls.dialed("1", "3")
    assert calls.successor("1", channels) == Moved("1", "3")


def test_so_many_leases_of_a_channel_are_followed() -> None:
    calls = Calls()
    for number in range(MAX_USES + 2):
        call = asks(calls, "1", str(number))
        call.direction = "in"
    assert [call.key for call in calls] == ["1", *(f"1;{number}" for number in range(2, MAX_USES + 1))]


def test_the_channel_of_a_key_is_what_stands_before_the_number() -> None:
    assert [channel_of(key) for key in ("1.2", "1.2;2", "pbx;a-1.2")] == ["1.2", "1.2", "pbx;a-1.2"]


def test_a_channel_that_shares_a_bridge_and_was_not_dialed_takes_nothing() -> None:
    calls = following("1")
    calls.learn({**there("1", bridge="room"), **there("5", bridge="room")})
    assert calls.successor("1", there("5")) is None


def test_a_dialed_channel_that_is_seen_in_the_same_bridge_is_a_leg() -> None:
    calls = following("1")
    news = calls.learn({**there("1", bridge="b"), **there("2", bridge="b", dialed=True), **there("3", dialed=True)})
    assert [call.key for call in news] == ["1"]
    assert calls.successor("1", there("2", "3")) == Moved("1", "2")
    assert calls.learn(there("1", bridge="b")) == []


def test_three_renames_are_a_masquerade_and_one_is_none() -> None:
    calls = following("1")
    assert calls.renamed("1", "PJSIP/a", "PJSIP/b") is None
    assert calls.renamed("1", "PJSIP/b", "PJSIP/b<MASQ>") is None
    assert calls.renamed("2", "Async/x", "PJSIP/b") == Moved("1", "2")
    assert calls.renamed("1", "PJSIP/b<MASQ>", "Async/x<ZOMBIE>") is None
    assert calls.renamed("3", "PJSIP/c", "PJSIP/b") is None
    assert is_remains("Async/x<ZOMBIE>")
    assert not is_remains("Async/x")


def test_a_call_that_asks_again_keeps_what_is_known_of_it() -> None:
    calls = following("1")
    calls.dialed("1", "2")
    assert calls.answered("1") is not None
    assert calls.answered("1") is None
    calls.add(Call("1", ("trunk", "vcm")))
    call = calls.get("1")
    assert call is not None
    assert (call.wants, call.legs, call.established) == (("trunk", "vcm"), {"2"}, True)


def test_a_call_without_a_feature_is_in_no_list_but_for_an_emergency_call() -> None:
    calls = Calls()
    calls.add(Call("1", ()))
    calls.add(Call("2", (), call_class="emergency", dialed="112"))
    calls.add(Call("3", ("trunk",), dialed="113"))
    assert [(lease.key, lease.dialed) for lease in calls.leases()] == [("2", "112"), ("3", None)]


def test_so_many_calls_are_followed() -> None:
    calls = following(*map(str, range(MAX_CALLS)))
    assert not calls.add(Call("one more", ("trunk",)))
    assert calls.add(Call("7", ("other",)))
    assert len(calls) == MAX_CALLS


def test_so_many_legs_of_a_call_are_followed() -> None:
    calls = following("1")
    for number in range(MAX_LEGS + 1):
        calls.dialed("1", f"leg-{number}")
    call = calls.get("1")
    assert call is not None
    assert len(call.legs) == MAX_LEGS


def test_so_many_masquerades_are_remembered_and_the_oldest_goes_first() -> None:
    calls = following("0", "1")
    for number in range(MAX_RENAMES + 1):
        calls.renamed(str(number), f"PJSIP/{number}", f"PJSIP/{number}<MASQ>")
    assert calls.renamed("x", "Async/0", "PJSIP/0") is None
    assert calls.renamed("x", "Async/1", "PJSIP/1") == Moved("1", "x")
