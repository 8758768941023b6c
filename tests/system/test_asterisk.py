"""Asterisk with one line: what a peer of FastAGI and AMI is granted, and what each end of a call gives back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_asterisk import Channel
from rig_agi import LICENSED, LINE, Switch, switch, until

VARIABLES = ["STATUS", "REASON", "LIMIT", "IN_USE", "MESSAGE", "CAUSE", "CHANNEL"]


@pytest.fixture
def pbx(tmp_path: Path) -> Iterator[Switch]:
    with switch(tmp_path) as it:
        yield it


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    """One switch for the tests that leave nothing behind."""
    with switch(tmp_path_factory.mktemp("switch")) as it:
        yield it


def said(channel: Channel) -> dict[str, str]:
    return {name: channel.variables.get(f"FEATUREKEY_{name}", "unset") for name in VARIABLES}


def by_status(channels: list[Channel]) -> dict[str, list[Channel]]:
    found: dict[str, list[Channel]] = {}
    for channel in channels:
        found.setdefault(channel.status, []).append(channel)
    return found


def test_twelve_calls_at_four_channels_are_four_through_and_eight_with_cause_34(quiet: Switch) -> None:
    calls = quiet.calls(12)
    found = by_status(calls)
    assert {status: len(those) for status, those in found.items()} == {"allowed": 4, "denied": 8}
    assert {channel.variables["FEATUREKEY_CAUSE"] for channel in found["denied"]} == {"34"}
    assert {channel.variables["FEATUREKEY_REASON"] for channel in found["denied"]} == {"limit_reached"}
    assert quiet.held() == {channel.uniqueid for channel in found["allowed"]}
    for channel in calls:
        channel.hang_up()
    quiet.until_in_use(0)


def test_the_answer_stands_in_the_channel_variables(quiet: Switch) -> None:
    calls = [quiet.call() for _ in range(LICENSED + 1)]
    first, last = said(calls[0]), said(calls[-1])
    assert first == {
        "STATUS": "allowed",
        "REASON": "granted",
        "LIMIT": "4",
        "IN_USE": "1",
        "MESSAGE": "",
        "CAUSE": "",
        "CHANNEL": calls[0].name,
    }
    assert (last["STATUS"], last["REASON"], last["LIMIT"], last["IN_USE"]) == ("denied", "limit_reached", "4", "4")
    assert "4" in last["MESSAGE"]
    assert (calls[0].handlers, calls[-1].handlers) == (["featurekey-release,s,1"], [])
    (lease,) = [it for it in quiet.site.leases() if it["key"] == calls[0].uniqueid]
    assert (lease["port"], lease["channel"]) == ("trunk:carrier-a", calls[0].name)
    for channel in calls:
        channel.hang_up()
    quiet.until_in_use(0)


def test_sixty_calls_in_a_burst_are_four_through_each_time(quiet: Switch) -> None:
    for _ in range(3):
        calls = quiet.calls(60)
        assert {status: len(those) for status, those in by_status(calls).items()} == {"allowed": 4, "denied": 56}
        for channel in calls:
            channel.hang_up()
        quiet.until_in_use(0)


def test_the_line_may_be_said_in_channel_variables(quiet: Switch) -> None:
    channel = quiet.asterisk.channel("PJSIP/alice")
    channel.variables |= {"FEATUREKEY_PORT": "trunk:carrier-b", "FEATUREKEY_WANTS": "sip-trunk-channels"}
    channel.agi("agi://127.0.0.1/acquire")
    assert channel.status == "allowed"
    (lease,) = quiet.site.leases()
    assert lease["port"] == "trunk:carrier-b"
    channel.hang_up()
    quiet.until_in_use(0)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("agi://127.0.0.1/acquire?port=a", "wants"),
        ("agi://127.0.0.1/acquire?wants=sip-trunk-channels&fail=opne", "fail=opne"),
        ("agi://127.0.0.1/acquire?wants=sip-trunk-channels&prot=a", "prot"),
        ("agi://127.0.0.1/aquire?wants=sip-trunk-channels", "aquire"),
        ("agi://127.0.0.1/", "acquire, answered, release"),
    ],
)
def test_a_wrong_line_is_denied_and_names_what_is_wrong(quiet: Switch, line: str, named: str) -> None:
    channel = quiet.call(line=line)
    assert (channel.status, channel.variables["FEATUREKEY_CAUSE"]) == ("denied", "38")
    assert named in channel.variables["FEATUREKEY_MESSAGE"]
    emergency = quiet.call("112", line=line)
    assert emergency.status == "allowed"
    for each in (channel, emergency):
        each.hang_up()


def test_the_refusal_may_be_busy_instead(quiet: Switch) -> None:
    calls = [quiet.call() for _ in range(LICENSED)]
    refused = [quiet.call(line=f"{LINE},refuse={answer}") for answer in ("486", "480", "503")]
    assert [channel.variables["FEATUREKEY_CAUSE"] for channel in refused] == ["17", "31", "34"]
    for channel in calls + refused:
        channel.hang_up()
    quiet.until_in_use(0)


def test_an_answered_call_gives_back_what_set_up_takes(quiet: Switch) -> None:
    line = "agi://127.0.0.1/acquire?wants=sip-trunk-channels"
    channel = quiet.call(line=line)
    assert quiet.in_use("vcm-channels") == 1
    leg = channel.dial("PJSIP/carrier-a")
    channel.answer(leg)
    until(lambda: quiet.in_use("vcm-channels") == 0, "the set-up's channel given back")
    other = quiet.call(line=line)
    assert quiet.in_use("vcm-channels") == 1
    other.agi("agi://127.0.0.1/answered")
    assert (quiet.in_use(), quiet.in_use("vcm-channels")) == (2, 0)
    for each in (leg, channel, other):
        each.hang_up()
    quiet.until_in_use(0)


@pytest.mark.parametrize("told_by", ["DialEnd", "Newstate"])
def test_an_event_tells_that_a_call_is_answered_where_no_list_can(quiet: Switch, told_by: str) -> None:
    quiet.asterisk.may_list = False
    channel = quiet.call(line="agi://127.0.0.1/acquire?wants=sip-trunk-channels")
    assert quiet.in_use("vcm-channels") == 1
    leg = channel.dial("PJSIP/carrier-a")
    if told_by == "DialEnd":
        channel.up = True  # the dialplan has answered before, so that no event of the state comes
        channel.answer(leg)
    else:
        channel.set_up()
    until(lambda: quiet.in_use("vcm-channels") == 0, "the set-up's channel given back")
    quiet.asterisk.may_list = True
    leg.hang_up()
    channel.hang_up()
    quiet.until_in_use(0)


def test_a_caller_who_hangs_up_while_the_answer_is_said_keeps_nothing(quiet: Switch) -> None:
    for commands in range(1, 9):
        channel = quiet.asterisk.channel("PJSIP/alice")
        channel.hang_up_after = commands
        channel.agi(LINE)
        channel.hang_up()
    quiet.until_in_use(0)


def test_a_call_that_nobody_answers_or_that_is_busy_gives_back_when_it_ends(quiet: Switch) -> None:
    for cause in (17, 19, 127):
        channel = quiet.call()
        channel.dial("PJSIP/carrier-a").hang_up(cause)
        channel.hang_up(cause)
    quiet.until_in_use(0)


# Without a hangup handler


def test_where_the_dialplan_has_no_context_ami_tells_of_the_end(pbx: Switch) -> None:
    pbx.asterisk.contexts.clear()
    channel = pbx.call()
    assert (channel.status, channel.handlers) == ("allowed", [])
    pbx.agi.log.wait("no context featurekey-release")
    channel.hang_up()
    pbx.until_in_use(0)


# Transfers, Local channels, masquerades


def outbound(pbx: Switch) -> tuple[Channel, Channel]:
    """A telephone's call over the trunk, answered: its channel and the trunk's."""
    channel = pbx.call()
    leg = channel.dial("PJSIP/carrier-a")
    channel.answer(leg)
    return channel, leg


def test_after_an_attended_transfer_the_trunk_channel_has_the_lease(quiet: Switch) -> None:
    mine, trunk = outbound(quiet)
    consultation = quiet.asterisk.channel("PJSIP/alice")
    colleague = consultation.dial("PJSIP/bob")
    consultation.answer(colleague)
    quiet.asterisk.attended_transfer(mine, consultation, trunk, colleague)
    quiet.until_keys(trunk)
    assert quiet.in_use() == 1
    quiet.wait_synced()
    assert quiet.held() == {trunk.uniqueid}
    trunk.hang_up()
    colleague.hang_up()
    quiet.until_in_use(0)


def test_two_trunk_calls_that_are_joined_are_two_until_they_end(quiet: Switch) -> None:
    mine, trunk = outbound(quiet)
    second, other = outbound(quiet)
    quiet.asterisk.attended_transfer(mine, second, trunk, other)
    quiet.until_keys(trunk, other)
    trunk.hang_up()
    quiet.until_keys(other)
    other.hang_up()
    quiet.until_in_use(0)


def test_an_inbound_call_that_is_transferred_keeps_its_lease_and_gives_it_back_once(quiet: Switch) -> None:
    trunk = quiet.asterisk.channel("PJSIP/carrier-a")
    trunk.agi(LINE)
    first = trunk.dial("PJSIP/alice")
    trunk.answer(first)
    consultation = quiet.asterisk.channel("PJSIP/alice")
    colleague = consultation.dial("PJSIP/bob")
    consultation.answer(colleague)
    quiet.asterisk.attended_transfer(first, consultation, trunk, colleague)
    quiet.wait_synced()
    assert quiet.held() == {trunk.uniqueid}
    colleague.hang_up()
    trunk.hang_up()
    quiet.until_in_use(0)


def test_the_half_of_a_local_channel_that_asked_hands_over_when_it_is_optimized_away(quiet: Switch) -> None:
    one, two = quiet.asterisk.local()
    two.agi(LINE)
    assert quiet.held() == {two.uniqueid}
    leg = two.dial("PJSIP/carrier-a")
    two.answer(leg)
    quiet.wait_synced()
    assert quiet.held() == {two.uniqueid}
    two.hang_up()
    one.hang_up()
    quiet.until_keys(leg)
    leg.hang_up()
    quiet.until_in_use(0)


def test_a_masquerade_takes_the_lease_along(quiet: Switch) -> None:
    channel = quiet.call()
    target = quiet.asterisk.channel("AsyncGoto/PJSIP")
    quiet.asterisk.masquerade(channel, target)
    quiet.until_keys(target)
    quiet.wait_synced()
    assert quiet.in_use() == 1
    target.hang_up()
    quiet.until_in_use(0)


# A channel that asks more than once

OUT = "agi://127.0.0.1/acquire?port=trunk:carrier-a&wants=sip-trunk-channels"
NEXT = "agi://127.0.0.1/acquire?port=trunk:carrier-b&wants=sip-trunk-channels"


def inbound(pbx: Switch) -> Channel:
    """A call from the trunk."""
    trunk = pbx.asterisk.channel("PJSIP/carrier-a")
    trunk.agi(LINE)
    return trunk


def test_inbound_calls_that_are_sent_out_again_take_two_channels_each(quiet: Switch) -> None:
    calls = [inbound(quiet) for _ in range(LICENSED - 1)]
    for channel in calls:
        channel.agi(OUT)
    assert [channel.status for channel in calls] == ["allowed", "denied", "denied"]
    assert quiet.held() == {*(channel.uniqueid for channel in calls), f"{calls[0].uniqueid};2"}
    leg = calls[0].dial("PJSIP/carrier-a")
    calls[0].answer(leg)
    quiet.wait_synced()
    assert quiet.in_use() == LICENSED
    leg.hang_up()
    quiet.until_keys(*calls)
    for channel in calls:
        channel.hang_up()
    quiet.until_in_use(0)


def test_what_was_dialed_out_again_keeps_its_lease_when_the_first_caller_is_gone(quiet: Switch) -> None:
    first = inbound(quiet)
    first.agi(OUT)
    leg = first.dial("PJSIP/carrier-a")
    first.answer(leg)
    quiet.wait_synced()
    first.hang_up()
    quiet.until_keys(leg)
    leg.hang_up()
    quiet.until_in_use(0)


def test_a_blind_transfer_to_outside_by_the_telephone_that_dialed_takes_a_second_channel(quiet: Switch) -> None:
    mine, trunk = outbound(quiet)
    trunk.agi(OUT)
    mine.hang_up()
    until(lambda: quiet.held() == {trunk.uniqueid, f"{trunk.uniqueid};2"}, "two leases of the trunk's channel")
    leg = trunk.dial("PJSIP/carrier-a")
    trunk.answer(leg)
    quiet.wait_synced()
    assert quiet.in_use() == 2
    trunk.hang_up()
    quiet.until_keys(leg)
    leg.hang_up()
    quiet.until_in_use(0)


def test_the_next_trunk_takes_the_place_of_the_one_that_failed(quiet: Switch) -> None:
    channel = quiet.call(line=OUT)
    channel.dial("PJSIP/carrier-a").hang_up(34)
    channel.agi(NEXT)
    (lease,) = quiet.site.leases()
    assert (channel.status, lease["key"], lease["port"]) == ("allowed", channel.uniqueid, "trunk:carrier-b")
    leg = channel.dial("PJSIP/carrier-b")
    channel.answer(leg)
    quiet.wait_synced()
    quiet.until_keys(channel)
    leg.hang_up()
    channel.hang_up()
    quiet.until_in_use(0)


def test_a_channel_that_gives_back_and_asks_again_has_its_lease(quiet: Switch) -> None:
    channel = quiet.call(line=OUT)
    channel.agi("agi://127.0.0.1/release")
    assert quiet.held() == set()
    channel.agi(NEXT)
    quiet.wait_synced()
    assert (channel.status, quiet.held()) == ("allowed", {channel.uniqueid})
    channel.hang_up()
    quiet.until_in_use(0)


def test_an_inbound_call_that_ends_leaves_no_lease_to_the_telephones_that_talk_on(quiet: Switch) -> None:
    trunk = inbound(quiet)
    phone = trunk.dial("PJSIP/alice")
    trunk.answer(phone)
    quiet.wait_synced()
    trunk.hang_up()
    quiet.until_in_use(0)
    quiet.wait_synced()
    assert quiet.held() == set()
    phone.hang_up()


def test_a_leg_that_was_seen_in_a_list_only_is_known_after_a_restart(pbx: Switch) -> None:
    mine, trunk = outbound(pbx)
    pbx.agi.kill()
    pbx.agi.start()
    pbx.wait_synced()
    mine.hang_up()
    pbx.until_keys(trunk)
    trunk.hang_up()
    pbx.until_in_use(0)
