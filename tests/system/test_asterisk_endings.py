"""Asterisk, and what goes wrong around it: kills, restarts, lost connections, bad peers; the count is right again."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig_agi import LICENSED, LINE, ORDERS, Switch, asking, switch, until

import rig
from featurekeyd.client.agi_server import MAX_CONNECTIONS
from rig_process import DEADLINE


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Switch, rig.Simulator]]:
    """One switch for all tests of the module."""
    folder = tmp_path_factory.mktemp("switch")
    with rig.licensed_site(folder, ORDERS) as licensed, asking(folder, licensed.site) as it:
        yield it, licensed.simulator


@pytest.fixture
def pbx(shared: tuple[Switch, rig.Simulator]) -> Iterator[Switch]:
    """The switch, put right afterwards."""
    it, _ = shared
    yield it
    it.put_right()


# The switch


def test_a_killed_switch_loses_its_leases_after_the_time_to_live(tmp_path: Path) -> None:
    with switch(tmp_path, ttl=1) as pbx, pbx.site.watch() as events:
        pbx.calls(LICENSED)
        pbx.wait_synced()
        pbx.asterisk.kill()
        assert "asterisk fell silent" in events.wait("drift", "silent")["message"]
        pbx.until_in_use(0)


def test_a_switch_that_was_killed_and_is_back_says_by_its_first_list_what_is_over(pbx: Switch) -> None:
    pbx.calls(LICENSED)
    pbx.asterisk.kill()
    pbx.asterisk.open_ami()
    pbx.until_in_use(0)
    pbx.wait_synced()
    channel = pbx.call()
    assert channel.status == "allowed"
    channel.hang_up()
    pbx.until_in_use(0)


def test_an_orderly_stop_gives_everything_back(pbx: Switch) -> None:
    pbx.calls(LICENSED)
    mark = pbx.agi.log.mark()
    pbx.asterisk.stop()
    pbx.until_in_use(0)
    assert [line for line in pbx.agi.log.so_far(mark) if "freed" in line] == []


# AMI


def test_without_ami_for_a_while_calls_go_on_and_what_ended_unseen_is_freed_when_it_is_back(pbx: Switch) -> None:
    first, second, third = pbx.calls(3)
    pbx.wait_synced()
    pbx.asterisk.close_ami()
    first.hang_up()
    pbx.until_keys(second, third)
    second.handlers.clear()
    second.hang_up()
    fourth = pbx.call()
    assert fourth.status == "allowed"
    pbx.asterisk.open_ami()
    pbx.asterisk.wait_for("logins")
    pbx.until_keys(third, fourth)


def test_a_connection_of_ami_that_is_cut_costs_no_lease(pbx: Switch) -> None:
    calls = pbx.calls(LICENSED)
    pbx.asterisk.cut_ami()
    pbx.asterisk.wait_for("logins")
    pbx.wait_synced()
    pbx.until_keys(*calls)
    assert pbx.call().status == "denied"


def test_a_transfer_while_ami_connects_anew_costs_no_lease(pbx: Switch) -> None:
    channel = pbx.call()
    trunk = channel.dial("PJSIP/carrier-a")
    channel.answer(trunk)
    pbx.wait_synced()
    mark = pbx.agi.log.mark()
    pbx.asterisk.close_ami()
    pbx.agi.log.wait("closed the connection of AMI", mark)
    channel.hang_up()
    pbx.asterisk.open_ami()
    pbx.until_keys(trunk)
    pbx.wait_synced()
    assert pbx.in_use() == 1


def test_a_list_that_is_not_whole_frees_nothing(pbx: Switch) -> None:
    calls = pbx.calls(2)
    pbx.wait_synced()
    pbx.asterisk.cuts_lists = True
    for channel in calls:
        channel.handlers.clear()
        pbx.asterisk.gone(channel, 16) if channel is calls[0] else None
    pbx.asterisk.wait_for("lists", 2)
    pbx.agi.log.wait("did not give a whole list")
    pbx.until_keys(calls[1])
    # The end of the first came as an event. Now one without: only a list can tell, and none does until it is whole.
    pbx.asterisk.lose(calls[1])
    pbx.asterisk.wait_for("lists", 3)
    assert pbx.held() == {calls[1].uniqueid}
    pbx.asterisk.cuts_lists = False
    pbx.until_in_use(0)


def test_a_user_of_ami_who_may_not_list_is_told_of_in_the_log_and_frees_nothing(pbx: Switch) -> None:
    channel = pbx.call()
    pbx.wait_synced()
    pbx.asterisk.may_list = False
    pbx.agi.log.wait("write = reporting")
    assert pbx.held() == {channel.uniqueid}
    channel.hang_up()
    pbx.until_in_use(0)


def test_a_plain_login_works_where_the_switch_gives_no_challenge(tmp_path: Path) -> None:
    with switch(tmp_path, login="plain") as pbx:
        channel = pbx.call()
        channel.handlers.clear()
        channel.hang_up()
        pbx.until_in_use(0)


def test_a_wrong_secret_is_told_with_the_cure_and_never_itself(pbx: Switch) -> None:
    pbx.agi.stop()
    pbx.agi.secret.write_text("guessed-wr0ng\n", encoding="utf-8")
    mark = pbx.agi.log.mark()
    pbx.agi.start()
    line = pbx.agi.log.wait("refuses the login", mark)
    assert "manager.conf" in line
    channel = pbx.call()
    assert channel.status == "allowed"
    channel.hang_up()
    pbx.until_in_use(0)
    pbx.agi.secret.write_text(pbx.asterisk.secret + "\n", encoding="utf-8")
    pbx.asterisk.wait_for("logins")
    assert "guessed-wr0ng" not in str(pbx.agi.log)
    assert pbx.asterisk.secret not in str(pbx.agi.log)


# The daemon


def test_a_daemon_that_restarts_costs_no_lease_and_no_release(pbx: Switch) -> None:
    calls = pbx.calls(LICENSED)
    pbx.site.restart()
    pbx.until_keys(*calls)
    assert pbx.call().status == "denied"
    for channel in calls:
        channel.hang_up()
    pbx.until_in_use(0)


def test_calls_that_end_while_the_daemon_is_away_are_given_back_when_it_is_there(pbx: Switch) -> None:
    calls = pbx.calls(LICENSED)
    pbx.site.kill()
    for channel in calls[:3]:
        channel.hang_up()
    pbx.site.start()
    pbx.until_keys(calls[3])


def test_while_the_daemon_is_away_a_trunk_fails_closed_or_open_as_its_line_says(pbx: Switch) -> None:
    pbx.site.kill()
    closed = pbx.call()
    assert (closed.status, closed.variables["FEATUREKEY_CAUSE"]) == ("away", "38")
    assert closed.variables["FEATUREKEY_REASON"] == "daemon_away"
    opened = pbx.call(line=f"{LINE},fail=open")
    assert (opened.status, opened.variables["FEATUREKEY_REASON"]) == ("allowed", "daemon_away")
    pbx.site.start()
    pbx.until_keys(opened)
    closed.hang_up()
    opened.hang_up()
    pbx.until_in_use(0)


def test_a_daemon_that_stands_still_holds_no_call_up_for_long_and_keeps_nothing_of_it(pbx: Switch) -> None:
    pid = pbx.site.pid
    pbx.site._running().signal(signal.SIGSTOP)
    try:
        refused = pbx.calls(5)
        emergency = pbx.call("112")
    finally:
        pbx.site._running().signal(signal.SIGCONT)
    assert {channel.status for channel in refused} == {"away"}
    assert emergency.status == "allowed"
    assert pbx.site.pid == pid
    for channel in refused:
        channel.hang_up()
    pbx.until_in_use(0)


# Emergency calls


def test_an_emergency_call_passes_at_the_limit_with_the_key_pulled_and_with_the_daemon_killed(
    pbx: Switch, shared: tuple[Switch, rig.Simulator]
) -> None:
    simulator = shared[1]
    calls = pbx.calls(LICENSED)
    assert pbx.call().status == "denied"
    first = pbx.call("112")
    assert (first.status, first.variables["FEATUREKEY_REASON"]) == ("allowed", "emergency")
    simulator.tell("unplug")
    until(lambda: pbx.site.status()["standing"] == "grace", "the key is missed")
    assert pbx.call("911").status == "allowed"
    pbx.site.kill()
    second = pbx.call("112")
    assert (second.status, second.variables["FEATUREKEY_REASON"]) == ("allowed", "emergency")
    simulator.tell("plug")
    pbx.site.start()
    until(lambda: pbx.site.status()["standing"] == "licensed", "the key is back")
    for channel in calls:
        channel.hang_up()
    pbx.until_in_use(0)


def test_an_emergency_call_is_known_by_the_number_of_the_line_inside_a_subroutine(pbx: Switch) -> None:
    pbx.calls(LICENSED)
    assert pbx.call("s", line=f"{LINE},dialed=112").status == "allowed"
    assert pbx.call("s", line=f"{LINE},class=emergency").status == "allowed"
    assert pbx.call("s", line=f"{LINE},dialed=113").status == "denied"


def test_an_emergency_call_passes_where_the_system_is_deactivated(tmp_path: Path) -> None:
    with rig.Site(tmp_path) as site:
        site.start()
        assert site.status()["standing"] == "deactivated"
        with asking(tmp_path, site) as pbx:
            refused = pbx.call()
            assert (refused.status, refused.variables["FEATUREKEY_REASON"]) == ("denied", "deactivated")
            assert pbx.call("112").status == "allowed"


def test_an_emergency_call_keeps_its_lease_when_featurekey_agi_starts_again(pbx: Switch) -> None:
    emergency = pbx.call("112")
    pbx.wait_synced()
    pbx.agi.kill()
    pbx.agi.start()
    pbx.wait_synced()
    pbx.until_keys(emergency)


def test_an_emergency_call_made_while_the_daemon_was_away_raises_no_alarm(pbx: Switch) -> None:
    pbx.site.kill()
    emergency = pbx.call("112")
    pbx.site.start()
    pbx.until_keys(emergency)
    assert pbx.site.status()["emergency_claims"] == 0


# featurekey-agi itself


def test_killed_and_started_again_it_has_the_right_count_after_the_next_list(pbx: Switch) -> None:
    kept, ended, unseen, _ = pbx.calls(LICENSED)
    pbx.wait_synced()
    pbx.agi.kill()
    ended.hang_up()
    unseen.handlers.clear()
    unseen.hang_up()
    assert pbx.in_use() == LICENSED
    assert pbx.call().status == ""
    pbx.agi.start()
    until(lambda: pbx.in_use() == LICENSED - 2, "the count after the next list")
    assert kept.uniqueid in pbx.held()
    kept.hang_up()
    until(lambda: kept.uniqueid not in pbx.held(), "the kept call's end")


def test_started_while_the_daemon_is_away_it_frees_nothing_of_the_calls_that_there_are(pbx: Switch) -> None:
    calls = pbx.calls(2)
    pbx.agi.kill()
    pbx.site.kill()
    pbx.agi.start()
    pbx.asterisk.wait_for("lists", 2)
    pbx.site.start()
    pbx.wait_synced()
    pbx.until_keys(*calls)


def test_it_ends_in_order(pbx: Switch) -> None:
    pbx.call()
    assert pbx.agi.stop() == 0


def test_strangers_who_connect_and_say_nothing_keep_no_call_out(pbx: Switch) -> None:
    strangers = [socket.create_connection(("127.0.0.1", pbx.agi.port), DEADLINE) for _ in range(MAX_CONNECTIONS)]
    try:
        assert pbx.call().status == "allowed"
        pbx.agi.log.wait("the silent ones are closed")
    finally:
        for stranger in strangers:
            stranger.close()


def test_strangers_who_ask_and_take_no_answer_keep_no_call_out(pbx: Switch) -> None:
    opening = b"agi_network_script: acquire?wants=sip-trunk-channels\nagi_uniqueid: stranger-%d\n\n"
    with contextlib.ExitStack() as stack:
        for number in range(MAX_CONNECTIONS + 10):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", pbx.agi.port), DEADLINE))
            stranger.sendall(opening % number)
        # The one that was silent for longest goes, and what it took is given back.
        assert pbx.call("112").status == "allowed"
    until(lambda: not [key for key in pbx.held() if key.startswith("stranger")], "the strangers' leases given back")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"agi_request: x\n" * 200 + b"\n",
        b"agi_request: " + b"x" * 5000,
        b"\xff\xfe\x00\n\n",
        b"agi_network: yes\n\nnonsense\n",
    ],
)
def test_what_is_no_fastagi_is_closed_and_the_next_call_is_served(pbx: Switch, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", pbx.agi.port), DEADLINE) as stranger:
        stranger.settimeout(DEADLINE)
        stranger.sendall(sent)
        received = b""
        try:
            while chunk := stranger.recv(4096):
                received += chunk
        except ConnectionResetError:
            pass
    assert b"allowed" not in received
    assert pbx.call().status == "allowed"
