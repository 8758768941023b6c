"""A real Kamailio that asks by the script, with the configuration as shipped: what calls and phones are answered."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig_kamailio import Callee, Caller, Finals, Kamailio
from rig_kamailio_script import rest, scripted, until
from rig_sip import Answerer, Telephone

import rig

LIMIT = 4
TRUNK = "sip-trunk-channels"
PHONES = "third-party-ip-endpoints"
FULL = 'Q.850;cause=34;text="4 of 4 channels in use"'
AWAY = 'Q.850;cause=38;text="license daemon is away"'
QUICK_PHONES = '"name=featurekey_phones;interval=1;mode=1;"'
SHORT_REGISTRATIONS = 'modparam("registrar", "min_expires", 1)'


@dataclass(frozen=True)
class Switch:
    """A licensed site, a Kamailio that asks its daemon, and a telephone behind it."""

    licensed: rig.Licensed
    kamailio: Kamailio
    callee: Callee
    folder: Path

    @property
    def site(self) -> rig.Site:
        return self.licensed.site

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
            yield [call.answered.status for call in held]
            for call in held:
                call.hang_up()

    def in_use(self, feature: str = TRUNK) -> int:
        return int(self.site.feature(feature)["in_use"])

    def until_in_use(self, number: int, feature: str = TRUNK) -> float:
        return until(lambda: self.in_use(feature) == number, f"{number} of {feature} in use")


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    folder = tmp_path_factory.mktemp("switch")
    orders = (f"{TRUNK}:{LIMIT}", "vcm-channels:30", f"{PHONES}:2")
    with (
        rig.licensed_site(folder, orders) as licensed,
        scripted(folder, licensed.site, more=SHORT_REGISTRATIONS, PHONES_TIMER=QUICK_PHONES) as kamailio,
        Callee(folder) as callee,
    ):
        kamailio.start()
        yield Switch(licensed, kamailio, callee, folder)


@pytest.fixture(autouse=True)
def nothing_left(switch: Switch) -> Iterator[None]:
    """After each test all is given back."""
    yield
    switch.until_in_use(0)


def test_of_12_calls_exactly_4_are_answered_and_8_are_told_why_not(switch: Switch) -> None:
    finals = switch.calls(12, rate=12, talks_ms=2000)
    assert finals.counts == {200: 4, 503: 8}
    assert finals.reasons(503) == {FULL}
    assert {final.retry_after for final in finals.all} == {""}
    assert switch.site.feature(TRUNK)["peak"] == LIMIT


def test_a_burst_of_60_calls_in_a_tenth_of_a_second_gives_exactly_4(switch: Switch) -> None:
    finals = switch.calls(60, rate=600, talks_ms=3000)
    assert finals.counts == {200: 4, 503: 56}
    assert switch.site.feature(TRUNK)["peak"] == LIMIT


def test_12_calls_that_share_one_call_id_are_12_calls(switch: Switch) -> None:
    with switch.talking(12, call_id=b"the-same") as answered:
        assert Counter(answered) == {200: LIMIT, 503: 8}
        assert switch.in_use() == LIMIT


def test_an_invite_that_comes_several_times_is_one_question(switch: Switch) -> None:
    before = switch.site.feature(TRUNK)["granted"]
    with switch.talking(LIMIT, copies=5) as answered:
        assert answered == [200] * LIMIT
        assert switch.in_use() == LIMIT
    assert switch.site.feature(TRUNK)["granted"] - before == LIMIT


def test_another_trunk_refuses_as_its_words_say(switch: Switch) -> None:
    with switch.talking():
        finals = switch.calls(1, number="900")
    assert (finals.counts, finals.reasons(486)) == ({486: 1}, {FULL})


def test_an_answered_call_keeps_its_channel_and_gives_back_what_its_set_up_took(switch: Switch) -> None:
    with switch.talking(2):
        switch.until_in_use(0, "vcm-channels")
        assert switch.in_use() == 2
        assert {lease.get("port") for lease in switch.site.leases(feature=TRUNK)} == {"trunk:carrier-a"}
    assert switch.site.feature("vcm-channels")["peak"] > 0


def test_an_emergency_call_passes_at_the_limit_and_is_counted_apart(switch: Switch) -> None:
    before = switch.site.status()["emergency_total"]
    with switch.talking():
        assert switch.calls(1, number="112").counts == {200: 1}
        assert switch.in_use() == LIMIT
    assert switch.site.status()["emergency_total"] == before + 1


def test_an_emergency_call_passes_with_the_key_pulled(switch: Switch) -> None:
    switch.licensed.simulator.tell("unplug")
    try:
        until(lambda: switch.site.status()["standing"] == "grace", "the key is missed")
        assert switch.calls(1, number="112").counts == {200: 1}
    finally:
        switch.licensed.simulator.tell("plug")
    until(lambda: switch.site.status()["standing"] == "licensed", "the key is back")


def test_an_emergency_call_passes_where_the_system_is_deactivated(tmp_path: Path) -> None:
    with rig.Site(tmp_path) as site, Answerer() as callee:
        site.start()
        assert site.status()["standing"] == "deactivated"
        with scripted(tmp_path, site) as kamailio, Telephone(kamailio.port) as caller:
            kamailio.start()
            assert caller.call(callee.address, "112").status == 200
            refused = caller.call(callee.address)
            assert (refused.status, refused.header("Reason")) == (503, 'Q.850;cause=34;text="deactivated"')


def test_with_the_daemon_killed_each_trunk_does_as_its_words_say(switch: Switch) -> None:
    switch.site.kill()
    try:
        closed = switch.calls(3)
        assert (closed.counts, closed.reasons(503)) == ({503: 3}, {AWAY})
        assert switch.calls(3, number="900").counts == {200: 3}
        assert switch.calls(1, number="112").counts == {200: 1}
        with switch.talking(2, number="900"):
            switch.site.start()
            # Allowed without the daemon, and counted by it from the next list on.
            switch.until_in_use(2)
            rest()
            assert {lease.get("port") for lease in switch.site.leases(feature=TRUNK)} == {"trunk:carrier-b"}
    finally:
        if switch.site.daemon is None:
            switch.site.start()


def test_a_call_id_that_is_no_text_is_a_call_like_any_other(switch: Switch) -> None:
    with switch.talking(1, call_id=b'\xff\xfe"\\') as answered:
        assert answered == [200]
        (lease,) = switch.site.leases(feature=TRUNK)
        switch.site.call("Manage.ReleaseLease", {"holder": lease["holder"], "key": lease["key"]})
        assert switch.in_use() == 0
        switch.until_in_use(1)  # by the list
        assert [lease["key"] for lease in switch.site.leases(feature=TRUNK)] == [lease["key"]]


def test_phones_are_counted_while_they_are_registered(switch: Switch) -> None:
    through = switch.kamailio.port
    with Telephone(through, "201") as first, Telephone(through, "202") as second, Telephone(through, "203") as third:
        assert [first.register().status, second.register().status] == [200, 200]
        assert switch.in_use(PHONES) == 2
        refused = third.register()
        assert (refused.status, refused.header("Reason")) == (403, 'Q.850;cause=34;text="2 of 2 endpoints in use"')
        assert first.register().status == 200  # a refresh takes nothing
        assert first.register(0).status == 200
        switch.until_in_use(1, PHONES)
        assert third.register(1).status == 200
        switch.until_in_use(2, PHONES)
        # It does not register again: the list misses it once it has expired.
        switch.until_in_use(1, PHONES)
        assert second.register(0).status == 200
    switch.until_in_use(0, PHONES)
