"""Calls through a real Kamailio that end badly: the count is right again within the time that docs/kamailio.md says.

Times are those of the page plus what a loaded machine takes. Timers that a site sets are set low here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig_kamailio import CHECKOUT, Callee, Caller, Kamailio, dead_telephone
from rig_kamailio_script import dialog_database, rest, scripted, settings, stored_dialogs, until
from rig_sip import Answerer, Call, Telephone

import rig
from featurekeyd.client.kamailio_script import CALLS_TTL

LIMIT = 4
TRUNK = "sip-trunk-channels"

SLACK = 5.0
"""Seconds more than promised that a loaded machine may take."""

AT_ONCE = 1.0
NEXT_LIST = 5.0
"""Seconds until a list, sent every 2 s, frees what was asked for up to 2 s before it was taken; and one to spare."""

KEPT_ALIVE = 60.0
"""Seconds until OPTIONS have found out that a caller is gone: they begin after 30 s, and are given up after 16 more."""

LIFETIME, NO_ACK, FIRST_ANSWER_MS = 4, 3, 2000

LONG = "FEATUREKEYD_LONG_TESTS"


@dataclass(frozen=True)
class Calls:
    """A site with 4 channels, and telephones through one Kamailio."""

    site: rig.Site
    kamailio: Kamailio
    callee: Answerer
    caller: Telephone
    folder: Path

    def in_use(self) -> int:
        return int(self.site.feature(TRUNK)["in_use"])

    def until_in_use(self, number: int, seconds: float) -> float:
        return until(lambda: self.in_use() == number, f"{number} of {TRUNK} in use", seconds + SLACK)

    def talk(self, *, acknowledges: bool = True) -> list[Call]:
        """As many calls as are licensed, which go on until they are hung up."""
        calls = [self.caller.invite(self.callee.address, acknowledges=acknowledges) for _ in range(LIMIT)]
        assert [call.answered.status for call in calls] == [200] * LIMIT
        assert self.in_use() == LIMIT
        return calls

    def refused(self) -> str:
        """The Reason with which one more call is refused."""
        answered = self.caller.call(self.callee.address)
        assert answered.status == 503
        return answered.header("Reason")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Site]:
    with rig.licensed_site(tmp_path_factory.mktemp("site"), (f"{TRUNK}:{LIMIT}", "vcm-channels:30")) as licensed:
        yield licensed.site


@contextlib.contextmanager
def through(site: rig.Site, folder: Path, *, holder: str, time_limit_ms: int = 5000, **defines: str) -> Iterator[Calls]:
    """Telephones through a Kamailio of that name."""
    more = settings(holder=holder, no_ack_seconds=str(NO_ACK))
    with (
        scripted(folder, site, more=more, time_limit_ms=time_limit_ms, **defines) as kamailio,
        Answerer() as callee,
        Telephone(kamailio.port) as caller,
    ):
        kamailio.start()
        yield Calls(site, kamailio, callee, caller, folder)


@pytest.fixture(scope="module")
def brief(site: rig.Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Where callers that vanish are ended soon, and callees that say nothing are given up soon."""
    folder = tmp_path_factory.mktemp("brief")
    with through(site, folder, holder="brief", DIALOG_LIFETIME=str(LIFETIME), FR_TIMER=str(FIRST_ANSWER_MS)) as calls:
        yield calls


@pytest.fixture(scope="module")
def lasting(site: rig.Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Where calls last, and a question has the time limit that sites have."""
    with through(site, tmp_path_factory.mktemp("lasting"), holder="lasting", time_limit_ms=250) as calls:
        yield calls


@pytest.fixture(autouse=True)
def nothing_left(site: rig.Site) -> Iterator[None]:
    daemon = site.pid
    yield
    until(lambda: site.feature(TRUNK)["in_use"] == 0, "all is given back")
    if site.pid != daemon:
        rest()


# The telephones.


def test_a_call_that_is_cancelled_while_it_rings_is_given_back_at_once(brief: Calls) -> None:
    with Callee(brief.folder, "uas_rings") as callee:
        through = brief.kamailio.port
        with Caller(brief.folder, through, callee.address, calls=LIMIT, scenario="uac_cancels") as caller:
            assert caller.finals().counts == {487: LIMIT}
        brief.until_in_use(0, AT_ONCE)
    assert brief.site.feature(TRUNK)["peak"] == LIMIT


def test_a_call_that_is_refused_as_busy_is_given_back_at_once(brief: Calls) -> None:
    with Callee(brief.folder, "uas_busy") as callee:
        with Caller(brief.folder, brief.kamailio.port, callee.address, calls=LIMIT) as caller:
            finals = caller.finals()
        brief.until_in_use(0, AT_ONCE)
    # The far end's own answer, without a word about licenses.
    assert (finals.counts, finals.reasons(486)) == ({486: LIMIT}, {""})


def test_a_call_to_a_dead_telephone_is_given_back_when_it_is_given_up(brief: Calls) -> None:
    with dead_telephone() as nobody:
        with Caller(brief.folder, brief.kamailio.port, nobody, calls=LIMIT) as caller:
            brief.until_in_use(LIMIT, AT_ONCE)
            assert caller.finals().counts == {408: LIMIT}
        brief.until_in_use(0, AT_ONCE)


def test_a_caller_that_vanishes_is_ended_by_the_lifetime_of_the_dialog(brief: Calls) -> None:
    with Telephone(brief.kamailio.port) as caller:
        calls = [caller.invite(brief.callee.address) for _ in range(LIMIT)]
        assert [call.answered.status for call in calls] == [200] * LIMIT
    assert brief.in_use() == LIMIT
    assert brief.until_in_use(0, LIFETIME + AT_ONCE) > LIFETIME - 2


def test_a_call_that_is_never_acknowledged_is_left_out_of_the_list(lasting: Calls) -> None:
    lasting.talk(acknowledges=False)
    lasting.until_in_use(0, NO_ACK + NEXT_LIST)
    assert lasting.kamailio.dialogs() >= LIMIT, "Kamailio itself knows them still"


# The daemon.


def test_a_daemon_that_is_restarted_knows_the_calls_and_gives_them_back(lasting: Calls) -> None:
    calls = lasting.talk()
    lasting.site.restart()
    assert lasting.in_use() == LIMIT
    assert lasting.refused() == 'Q.850;cause=34;text="4 of 4 channels in use"'
    for call in calls:
        call.hang_up()
    lasting.until_in_use(0, AT_ONCE)


def test_a_daemon_that_lost_its_leases_adopts_the_calls(lasting: Calls) -> None:
    calls = lasting.talk()
    lasting.site.kill()
    (lasting.site.runtime / "leases").unlink()
    lasting.site.start()
    lasting.until_in_use(LIMIT, NEXT_LIST)
    for call in calls:
        call.hang_up()
    lasting.until_in_use(0, AT_ONCE)


def test_calls_that_end_while_the_daemon_is_away_are_given_back_when_it_is_there_again(lasting: Calls) -> None:
    calls = lasting.talk()
    lasting.site.kill()
    for call in calls:
        call.hang_up()
    lasting.site.start()
    lasting.until_in_use(0, NEXT_LIST)


def test_calls_that_end_while_the_daemon_is_stopped_are_given_back_when_it_goes_on(lasting: Calls) -> None:
    calls = lasting.talk()
    os.kill(lasting.site.pid, signal.SIGSTOP)
    try:
        for call in calls:
            call.hang_up()
    finally:
        os.kill(lasting.site.pid, signal.SIGCONT)
        rest()
    lasting.until_in_use(0, NEXT_LIST)


def test_grants_that_come_after_the_call_was_refused_are_given_back(lasting: Calls) -> None:
    os.kill(lasting.site.pid, signal.SIGSTOP)
    try:
        reasons = {lasting.refused() for _ in range(LIMIT)}
    finally:
        os.kill(lasting.site.pid, signal.SIGCONT)
        rest()
    assert reasons == {'Q.850;cause=38;text="license daemon is away"'}
    lasting.until_in_use(0, NEXT_LIST)


def test_an_emergency_call_passes_while_the_daemon_is_stopped(lasting: Calls) -> None:
    os.kill(lasting.site.pid, signal.SIGSTOP)
    try:
        assert lasting.caller.call(lasting.callee.address, "112").status == 200
    finally:
        os.kill(lasting.site.pid, signal.SIGCONT)
        rest()


# Kamailio itself.


@pytest.mark.parametrize("end", [Kamailio.stop, Kamailio.kill], ids=["SIGTERM", "SIGKILL"])
def test_a_kamailio_with_a_database_keeps_its_calls_over_a_restart(
    site: rig.Site, tmp_path: Path, end: Callable[[Kamailio], None]
) -> None:
    path = tmp_path / "dialogs.sqlite"
    with through(site, tmp_path, holder="with-database", DIALOG_DB=dialog_database(path)) as it:
        calls = it.talk()
        until(lambda: stored_dialogs(path) == LIMIT, "each call is stored as acknowledged")
        end(it.kamailio)
        it.kamailio.start()
        assert it.in_use() == LIMIT
        variables = [dialog["variables"] for dialog in it.kamailio.rpc("dlg.list")]
        assert sum("featurekey" in pair for pairs in variables for pair in pairs) == LIMIT
        assert it.refused() == 'Q.850;cause=34;text="4 of 4 channels in use"'
        for call in calls:
            call.hang_up()
        it.until_in_use(0, AT_ONCE)


@pytest.mark.parametrize("end", [Kamailio.stop, Kamailio.kill], ids=["SIGTERM", "SIGKILL"])
def test_a_kamailio_without_a_database_forgets_its_calls_and_they_are_given_back(
    site: rig.Site, tmp_path: Path, end: Callable[[Kamailio], None]
) -> None:
    with through(site, tmp_path, holder="without-database") as it:
        it.talk()
        end(it.kamailio)
        it.kamailio.start()
        it.until_in_use(0, NEXT_LIST)


def test_a_kamailio_that_is_silent_loses_its_calls_and_has_them_again_when_it_is_back(
    site: rig.Site, tmp_path: Path
) -> None:
    path = tmp_path / "dialogs.sqlite"
    with through(site, tmp_path, holder="silent", DIALOG_DB=dialog_database(path)) as it:
        # What no dialog stands behind is freed by a list: so one has come, and the daemon knows how long to wait.
        site.call("License.Acquire", {"holder": "silent", "key": "stray", "wants": [{"feature": TRUNK}]})
        it.until_in_use(0, NEXT_LIST)
        calls = it.talk()
        until(lambda: stored_dialogs(path) == LIMIT, "each call is stored as acknowledged")
        it.kamailio.kill()
        it.until_in_use(0, CALLS_TTL + AT_ONCE)
        it.kamailio.start()
        it.until_in_use(LIMIT, NEXT_LIST)
        for call in calls:
            call.hang_up()
        it.until_in_use(0, AT_ONCE)


def test_the_page_names_only_tests_that_are_there() -> None:
    page = (CHECKOUT / "docs" / "kamailio.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    assert len(named) > 10
    assert {name for name in named if not any(f"def {name}(" in text for text in texts)} == set()


@pytest.mark.skipif(LONG not in os.environ, reason=f"takes a minute; {LONG}=1 runs it")
def test_a_caller_that_vanishes_is_found_out_by_options_and_one_that_answers_them_keeps_its_call(
    lasting: Calls,
) -> None:
    alive = [lasting.caller.invite(lasting.callee.address, reached_at=lasting.callee.address) for _ in range(2)]
    with Telephone(lasting.kamailio.port) as vanishing:
        assert [vanishing.invite(lasting.callee.address).answered.status for _ in range(2)] == [200, 200]
    assert lasting.in_use() == LIMIT
    assert lasting.until_in_use(2, KEPT_ALIVE) > AT_ONCE
    for call in alive:
        call.hang_up()
