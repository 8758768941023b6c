"""A real Kamailio that asks by call_control, with the configuration as shipped: answers, ends, and who dies when."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig_kamailio import CHECKOUT, Callee, Caller, Finals, Kamailio, dead_telephone
from rig_kamailio_script import dialog_database, until
from rig_sip import Answerer, Telephone

import rig

LIMIT = 4
TRUNK, SETUP = "sip-trunk-channels", "vcm-channels"
ORDERS = (f"{TRUNK}:{LIMIT}", f"{SETUP}:30")
CONFIGURATION = CHECKOUT / "client" / "kamailio_call_control.cfg"
FULL = 'Q.850;cause=34;text="all licensed channels in use"'
UNLICENSED = 'Q.850;cause=34;text="no license"'
AWAY = 'Q.850;cause=38;text="license daemon is away"'
RULES = [
    {"dialed": ["2??"]},
    {"source": ["127.0.0.0/8"], "dialed": ["9*"], "port": "trunk:carrier-b", "wants": ["sip-trunk-channels:2"]},
    {"source": ["127.0.0.0/8"], "port": "trunk:carrier-a", "wants": ["sip-trunk-channels"]},
]
PATIENT = {"ANSWER_LIMIT_MS": "5000"}
"""A loaded machine must not look like a daemon that is away."""

RETRY_SECONDS = 10
"""How long a worker of Kamailio refuses after it could not connect (facts/telephony.md section 5)."""


@dataclass(frozen=True)
class Switch:
    """A licensed site, a Kamailio that asks its daemon, and a telephone behind it."""

    site: rig.Site
    kamailio: Kamailio
    callee: Callee
    folder: Path

    def calls(self, calls: int, *, rate: int = 100, talks_ms: int = 300, number: str = "100") -> Finals:
        """Calls of SIPp, once all are over."""
        through, callee = self.kamailio.port, self.callee.address
        with Caller(self.folder, through, callee, calls=calls, rate=rate, talks_ms=talks_ms, number=number) as caller:
            return caller.finals()

    @contextlib.contextmanager
    def talking(self, calls: int = LIMIT, **said: Any) -> Iterator[list[int]]:
        """Calls that go on until the end of this context; what they were answered."""
        with Answerer() as callee, Telephone(self.kamailio.port) as caller:
            held = [caller.invite(callee.address, **said) for _ in range(calls)]
            try:
                yield [call.answered.status for call in held]
            finally:  # what one test leaves up no later one could take
                for call in held:
                    call.hang_up()

    def in_use(self, feature: str = TRUNK) -> int:
        return int(self.site.feature(feature)["in_use"])

    def until_in_use_by_lists(self, number: int) -> float:
        """Wait until so many are in use, with lists of the dialogs; what began within the last 2 s is spared."""
        return until(lambda: self.sync_dialogs() and self.in_use() == number, f"{number} in use, by lists")

    def sync_dialogs(self) -> rig.Ran:
        synced = self.site.ctl("sync-dialogs", "--rpc", str(self.kamailio.short / "rpc"), "--json")
        assert (synced.status, synced.err) == (0, "")
        assert synced.json()["adopted"] == synced.json()["changed"] == 0
        return synced

    def until_in_use(self, number: int, feature: str = TRUNK) -> float:
        return until(lambda: self.in_use(feature) == number, f"{number} of {feature} in use")


def asking(folder: Path, site: rig.Site, children: int = 4, *, patient: bool = True, **defines: str) -> Kamailio:
    """A Kamailio that asks this site's daemon by call_control, with the time limit as shipped or a longer one."""
    said = {"CALL_CONTROL_SOCKET": f'"{site.short / "calls"}"', "ANSWER_MS": "2000", **defines}
    said |= PATIENT if patient else {}
    return Kamailio(folder, CONFIGURATION, said, children=children)


@contextlib.contextmanager
def stood_still(site: rig.Site) -> Iterator[None]:
    """The daemon is stopped, and goes on at the end whatever happens."""
    os.kill(site.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.pid, signal.SIGCONT)


def table(site: rig.Site, **more: object) -> None:
    """Let the daemon serve call_control from its next start on."""
    site.write_settings(call_control={"socket": str(site.short / "calls"), "rules": RULES, **more})


@contextlib.contextmanager
def licensed(folder: Path, **more: object) -> Iterator[rig.Site]:
    """A licensed site that serves call_control."""
    with rig.licensed_site(folder, ORDERS) as it:
        table(it.site, **more)
        it.site.restart()
        yield it.site


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    folder = tmp_path_factory.mktemp("switch")
    with licensed(folder) as site, asking(folder, site) as kamailio, Callee(folder) as callee:
        kamailio.start()
        yield Switch(site, kamailio, callee, folder)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on the shared switch all is given back, and it works."""
    yield
    if "switch" in request.fixturenames:
        request.getfixturevalue("switch").until_in_use(0)


# Answers


def test_of_12_calls_exactly_4_are_answered_and_8_are_told_why_not(switch: Switch) -> None:
    finals = switch.calls(12, rate=12, talks_ms=2000)
    assert finals.counts == {200: 4, 503: 8}
    assert finals.reasons(503) == {FULL}
    assert {final.retry_after for final in finals.all} == {""}
    switch.until_in_use(0)


def test_a_burst_of_60_calls_in_a_tenth_of_a_second_gives_exactly_4_each_time(switch: Switch) -> None:
    for _ in range(3):
        assert switch.calls(60, rate=600, talks_ms=1000).counts == {200: 4, 503: 56}
        switch.until_in_use(0)
    assert switch.site.feature(TRUNK)["peak"] == LIMIT


def test_12_calls_that_share_one_call_id_are_12_calls(switch: Switch) -> None:
    with switch.talking(12, call_id=b"the-same") as answered:
        assert Counter(answered) == {200: LIMIT, 503: 8}
        assert switch.in_use() == LIMIT
        keys = [lease["key"] for lease in switch.site.leases(feature=TRUNK)]
        assert all(key.startswith("the-same;tag=") for key in keys)


def test_the_rules_say_what_a_call_takes(switch: Switch) -> None:
    with switch.talking(2, number="900") as answered:
        assert answered == [200, 200]
        assert switch.in_use() == LIMIT
        assert {lease["port"] for lease in switch.site.leases(feature=TRUNK)} == {"trunk:carrier-b"}
        assert switch.calls(1).counts == {503: 1}
        assert switch.calls(1, number="201").counts == {200: 1}  # within the house: not counted


def test_a_switch_may_refuse_with_another_status_and_the_same_reason(switch: Switch, tmp_path: Path) -> None:
    other: dict[str, Any] = {"REFUSED_STATUS": '"486"', "REFUSED_PHRASE": '"Busy Here"'}
    with switch.talking(), asking(tmp_path, switch.site, **other) as kamailio:
        kamailio.start()
        finals = Switch(switch.site, kamailio, switch.callee, tmp_path).calls(2)
        assert (finals.counts, finals.reasons(486)) == ({486: 2}, {FULL})


def test_a_switch_may_go_on_while_the_daemon_is_away(switch: Switch, tmp_path: Path) -> None:
    with asking(tmp_path, switch.site, CALL_CONTROL_SOCKET='"/nowhere"', AWAY_OPEN="") as kamailio:
        kamailio.start()
        assert Switch(switch.site, kamailio, switch.callee, tmp_path).calls(2).counts == {200: 2}


def test_an_answered_call_keeps_its_channel_and_gives_back_what_its_set_up_took(switch: Switch) -> None:
    with switch.talking(2):
        switch.until_in_use(0, SETUP)
        assert switch.in_use() == 2
    assert switch.site.feature(SETUP)["peak"] > 0


def test_calls_that_turn_over_are_all_given_back_and_the_limit_holds(switch: Switch) -> None:
    before = switch.site.feature(TRUNK)["granted"]
    finals = switch.calls(200, rate=40, talks_ms=300)
    switch.until_in_use(0)
    feature = switch.site.feature(TRUNK)
    assert set(finals.counts) == {200, 503}
    assert feature["granted"] - before == finals.counts[200] > LIMIT
    assert feature["peak"] == LIMIT


# Ends


@pytest.mark.parametrize(("callee", "caller", "status"), [("uas_busy", "uac", 486), ("uas_rings", "uac_cancels", 487)])
def test_a_call_that_is_refused_or_given_up_is_given_back(
    switch: Switch, tmp_path: Path, callee: str, caller: str, status: int
) -> None:
    with Callee(tmp_path, callee) as telephone:
        through, address = switch.kamailio.port, telephone.address
        with Caller(tmp_path, through, address, calls=3, scenario=caller) as calls:
            assert calls.finals().counts == {status: 3}
    assert switch.until_in_use(0) < 5


def test_a_call_to_a_telephone_that_is_dead_is_given_back(switch: Switch, tmp_path: Path) -> None:
    with dead_telephone() as address, Caller(tmp_path, switch.kamailio.port, address) as caller:
        switch.until_in_use(1)
        assert caller.finals().counts == {408: 1}
    assert switch.until_in_use(0) < 5


# Emergency calls


def test_an_emergency_call_passes_at_the_limit_and_is_counted_apart(switch: Switch) -> None:
    before = switch.site.status()["emergency_total"]
    with switch.talking():
        with switch.talking(1, number="112") as answered:
            assert answered == [200]
            assert switch.site.status()["emergency_now"] == 1
        until(lambda: switch.site.status()["emergency_now"] == 0, "the emergency call is over")
        assert switch.in_use() == LIMIT
    status = switch.site.status()
    assert (status["emergency_total"], status["emergency_claims"]) == (before + 1, 0)


def test_an_emergency_call_passes_with_the_key_pulled_and_where_all_is_deactivated(tmp_path: Path) -> None:
    with rig.Site(tmp_path) as site, asking(tmp_path, site) as kamailio, Callee(tmp_path) as callee:
        table(site)
        site.start()
        kamailio.start()
        status = site.status()
        assert (status["standing"], status["feature_key"]["state"]) == ("deactivated", "absent")
        switch = Switch(site, kamailio, callee, tmp_path)
        refused = switch.calls(2)
        assert (refused.counts, refused.reasons(503)) == ({503: 2}, {UNLICENSED})
        assert switch.calls(2, number="112").counts == {200: 2}
        until(lambda: site.status()["emergency_now"] == 0, "the emergency calls are over")


def test_an_emergency_call_passes_in_every_form_while_the_daemon_is_away(switch: Switch, tmp_path: Path) -> None:
    with asking(tmp_path, switch.site, CALL_CONTROL_SOCKET='"/nowhere"') as kamailio, Answerer() as callee:
        kamailio.start()
        with Telephone(kamailio.port) as caller:
            for number in ("%31%31%32", "1-1-2", "9(1)1", "112;phone-context=+49"):
                assert caller.call(callee.address, number).status == 200
            assert caller.call(callee.address, "1%31").status == 503
            # No host stands in a URN: whoever has a route for it sends it there, and the example has none.
            assert [caller.ask(urn).status for urn in ("urn:service:sos", "urn:service:sos.fire")] == [478, 478]
            assert caller.ask("urn:service:sosimple").status == 503


# Who is there first, and who dies when


def test_with_the_daemon_killed_calls_are_refused_and_emergency_calls_pass(tmp_path: Path) -> None:
    with licensed(tmp_path) as site, asking(tmp_path, site) as kamailio, Callee(tmp_path) as callee:
        switch = Switch(site, kamailio, callee, tmp_path)
        site.kill()
        kamailio.start()
        refused = switch.calls(8)
        assert (refused.counts, refused.reasons(503)) == ({503: 8}, {AWAY})
        assert switch.calls(2, number="112").counts == {200: 2}
        # Kamailio was first: its workers connect by themselves, each not before its rest is over.
        site.start()
        assert until(lambda: 503 not in switch.calls(4, talks_ms=1).counts, "calls pass") < RETRY_SECONDS + 10
        switch.until_in_use(0)
        assert switch.calls(12, rate=60, talks_ms=1000).counts == {200: 4, 503: 8}
        switch.until_in_use(0)


def test_a_burst_at_the_start_of_kamailio_finds_every_worker_a_connection_of_its_own(tmp_path: Path) -> None:
    """The daemon is there first, so all workers begin with one shared connection."""
    with licensed(tmp_path) as site, asking(tmp_path, site, children=8) as kamailio, Answerer() as callee:
        for _ in range(3):
            kamailio.start()
            assert site.feature(TRUNK)["in_use"] == 0  # the daemon has had a turn since, and so has accepted
            with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as threads:
                telephones = [stack.enter_context(Telephone(kamailio.port)) for _ in range(8)]
                calls = list(threads.map(lambda it: it.invite(callee.address), telephones))
                assert Counter(call.answered.status for call in calls) == {200: LIMIT, 503: LIMIT}
                assert {call.answered.header("Reason") for call in calls if call.answered.status == 503} == {FULL}
                for call in calls:
                    call.hang_up()
            until(lambda: site.feature(TRUNK)["in_use"] == 0, "all is given back")
            kamailio.kill()


def test_calls_that_are_up_while_the_daemon_is_restarted_or_killed_are_given_back_at_their_end(switch: Switch) -> None:
    with switch.talking() as answered:
        assert answered == [200] * LIMIT
        # A worker that waits for an answer at this moment would rest, and lose the ends that it is to tell.
        switch.until_in_use(0, SETUP)
        switch.site.restart()
        assert switch.in_use() == LIMIT
        assert switch.calls(1).counts == {503: 1}
        switch.site.kill()
        switch.site.start()
        assert switch.in_use() == LIMIT
    assert switch.until_in_use(0) < 5
    assert switch.calls(12, rate=60, talks_ms=1000).counts == {200: 4, 503: 8}


def test_what_is_asked_while_the_daemon_stands_still_is_answered_when_it_goes_on_in_time(switch: Switch) -> None:
    with switch.talking(2), contextlib.ExitStack() as stack:
        switch.until_in_use(0, SETUP)
        with stood_still(switch.site):
            caller = Caller(switch.folder, switch.kamailio.port, switch.callee.address, number="112")
            stack.enter_context(caller)
            # A worker has asked, and waits.
            until(lambda: switch.kamailio.rpc("core.uptime"), "Kamailio lives")
        assert caller.finals().counts == {200: 1}
    assert switch.until_in_use(0) < 5


def test_ends_that_are_lost_while_the_daemon_stands_still_are_given_back_by_the_list_of_dialogs(tmp_path: Path) -> None:
    """With the time limit as shipped: each of the two workers waits once, and tells no end for 10 s."""
    with (
        licensed(tmp_path) as site,
        asking(tmp_path, site, children=2, patient=False) as kamailio,
        Callee(tmp_path) as callee,
    ):
        kamailio.start()
        switch = Switch(site, kamailio, callee, tmp_path)
        with contextlib.ExitStack() as ends:
            assert ends.enter_context(switch.talking()) == [200] * LIMIT
            switch.until_in_use(0, SETUP)
            with stood_still(site):
                ends.close()
        assert "did timeout waiting for an answer" in kamailio.log
        assert LIMIT - 2 <= switch.in_use() <= LIMIT
        until(lambda: switch.in_use() < LIMIT, "the ends are given back that were told")
        assert switch.in_use() >= LIMIT - 2
        switch.until_in_use_by_lists(0)


def test_calls_that_ended_while_the_daemon_was_away_are_given_back_by_the_list_of_dialogs(tmp_path: Path) -> None:
    with licensed(tmp_path) as site, asking(tmp_path, site) as kamailio, Callee(tmp_path) as callee:
        kamailio.start()
        switch = Switch(site, kamailio, callee, tmp_path)
        with switch.talking(1, number="112"), switch.talking(1) as answered:
            with switch.talking(3) as more:
                assert answered + more == [200] * LIMIT
                site.kill()
            site.start()
            assert switch.in_use() == LIMIT
            assert switch.until_in_use_by_lists(1) < 10
            assert site.status()["emergency_now"] == 1
        # The workers that found the daemon away rest, so these ends may be lost too.
        switch.until_in_use_by_lists(0)


def test_the_calls_of_a_kamailio_that_is_killed_are_given_back_and_the_next_one_has_all_channels(
    tmp_path: Path,
) -> None:
    with licensed(tmp_path) as site, asking(tmp_path, site) as kamailio, Callee(tmp_path) as callee:
        switch = Switch(site, kamailio, callee, tmp_path)
        for end in (kamailio.kill, kamailio.stop):
            kamailio.start()
            with switch.talking() as answered:
                assert answered == [200] * LIMIT
                end()
                assert switch.until_in_use(0) < 10
                kamailio.start()
                assert switch.calls(12, rate=60, talks_ms=1000).counts == {200: 4, 503: 8}
            switch.until_in_use(0)
            kamailio.kill()
        assert f"{LIMIT} calls of kamailio are given back whose end nobody told" in str(site.log)


def test_calls_in_a_database_outlive_their_kamailio(tmp_path: Path) -> None:
    database = dialog_database(tmp_path / "dialogs.sqlite")
    with (
        licensed(tmp_path, dialogs="database") as site,
        # One worker: SQLite refuses one of two who write at once, and Kamailio does not try again.
        asking(tmp_path, site, children=1, DIALOG_DB=database) as kamailio,
        Callee(tmp_path) as callee,
    ):
        switch = Switch(site, kamailio, callee, tmp_path)
        kamailio.start()
        with switch.talking() as answered:
            assert answered == [200] * LIMIT
            kamailio.kill()
            kamailio.start()
            assert switch.calls(1).counts == {503: 1}
            assert switch.in_use() == LIMIT
        assert switch.until_in_use(0) < 5


def test_a_call_whose_caller_vanished_is_given_back_when_the_switch_ends_it(tmp_path: Path) -> None:
    with (
        licensed(tmp_path) as site,
        asking(tmp_path, site, LONGEST_CALL="2") as kamailio,
        Callee(tmp_path) as callee,
    ):
        kamailio.start()
        switch = Switch(site, kamailio, callee, tmp_path)
        with Caller(tmp_path, kamailio.port, callee.address, calls=2, scenario="uac_vanishes") as caller:
            assert caller.finals().counts == {200: 2}
        assert switch.in_use() == 2
        assert switch.until_in_use(0) < 10
