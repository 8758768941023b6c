"""Which calls hold a lease, and where a lease goes when channels are transferred, joined or renamed."""

from __future__ import annotations

from featurekeyd.client.agi_calls import MAX_CALLS, MAX_LEGS, MAX_RENAMES, Call, Calls, Moved, is_remains
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


def test_a_leg_with_a_lease_of_its_own_takes_no_other() -> None:
    calls = following("1", "2")
    calls.dialed("1", "2")
    assert calls.successor("1", there("2")) is None
    assert calls.move(Moved("1", "2"), now=0.0) is None
    assert len(calls) == 2


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


def test_a_call_without_a_feature_is_in_no_list() -> None:
    calls = Calls()
    calls.add(Call("1", (), call_class="emergency"))
    assert list(calls.leases()) == []


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
