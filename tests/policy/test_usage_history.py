"""The history of use: against a model that knows every half second, and what bounds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.account import MAX_PORTS_DENIED
from featurekeyd.policy.catalog import Catalog, Scope
from featurekeyd.policy.instant import Now
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Phase, SyncLease, SyncRequest, Want
from featurekeyd.policy.usage_history import GAP_SECONDS, IDLE_SECONDS, MAX_PORTS, Minute, Sort, UsageHistory, Use

if TYPE_CHECKING:
    from tests.policy.conftest import Site

    Open = Callable[..., Site]

TRUNK, COUNTING = (Sort.FEATURE, "trunk"), (Sort.COUNTING, "")


class Measured:
    """A site and its history, shown after every deed; both clocks run alike unless a test says otherwise."""

    def __init__(self, site: Site, *ports: str) -> None:
        self.site = site
        self.site.wall = 60.0 * 1000
        self.history = UsageHistory(site.enforcer.account, ports, site.now)
        self.look()

    def run(self, seconds: float) -> None:
        """Let time pass in steps that the history may not overlook, and look at the end of each minute."""
        while seconds > 0:
            step = min(seconds, 60 - self.site.wall % 60)
            self.site.wall += step
            self.site.boot += step
            seconds -= step
            self.look()

    def look(self) -> None:
        self.history.take(self.site.enforcer.ledger, self.site.now)

    def call(self, key: str, *, port: str | None = None, **fields: Any) -> bool:
        decision = self.site.acquire(key, "trunk", port=port, phase=Phase.ESTABLISHED, **fields)
        self.look()
        return decision.allowed

    def end(self, key: str) -> None:
        self.site.release(key)
        self.look()

    def minutes(self) -> list[Minute]:
        """The minutes so far, the one that runs too."""
        self.history.close(self.site.now)
        return self.history.finished

    def uses(self, subject: tuple[Sort, str]) -> list[Use]:
        return [minute.uses.get(subject, Use()) for minute in self.minutes()]


@pytest.fixture
def measured(site: Site) -> Measured:
    return Measured(site)


def test_busy_time_is_instances_times_the_time_they_were_in_use(measured: Measured) -> None:
    measured.call("one")
    measured.run(30)
    measured.call("two")
    measured.run(45)
    measured.end("one")
    measured.run(15)
    assert measured.uses(TRUNK)[:2] == [
        Use(peak=2, granted=2, busy=30_000 + 2 * 30_000),
        Use(peak=2, granted=0, busy=2 * 15_000 + 15_000),
    ]


def test_each_minute_says_how_much_of_it_was_counted(measured: Measured) -> None:
    measured.run(75)
    assert [(it.start, it.uses[COUNTING].busy) for it in measured.minutes()] == [(1000, 60_000), (1001, 15_000)]


def test_a_minute_in_which_nothing_happened_is_idle_and_has_no_other_rows(measured: Measured) -> None:
    measured.run(60)
    measured.call("one")
    measured.run(60)
    quiet, busy = measured.history.finished
    assert (quiet.idle, [*quiet.uses]) == (True, [COUNTING])
    assert (busy.idle, sorted(busy.uses)) == (False, [COUNTING, TRUNK])


def test_denials_are_counted_and_those_for_want_of_instances_are_blocked(measured: Measured) -> None:
    for number in range(10):
        measured.call(f"call-{number}", port="trunk:a")
    measured.site.enforcer.account.denials.clear()
    assert not measured.site.acquire("unknown", "nothing-like-it", port="trunk:a").allowed
    measured.look()
    (minute,) = measured.minutes()
    use, port = minute.uses[TRUNK], minute.uses[Sort.PORT, "trunk:a"]
    assert (use.peak, use.granted, use.denied, use.blocked) == (8, 8, 2, 2)
    assert (port.peak, port.granted, port.denied, port.blocked) == (8, 8, 3, 2)
    assert measured.site.enforcer.account.denials == {("", Reason.UNKNOWN_FEATURE): 1}


def test_an_emergency_call_is_in_no_row(measured: Measured) -> None:
    assert measured.call("help", dialed="112", port="trunk:a")
    measured.run(60)
    assert [*measured.minutes()[0].uses] == [COUNTING]


def test_what_comes_and_goes_in_one_batch_is_a_peak_and_no_busy_time(measured: Measured) -> None:
    measured.site.acquire("one", "trunk")
    measured.site.release("one")
    measured.look()
    measured.run(60)
    assert measured.uses(TRUNK)[0] == Use(peak=1, granted=1)


def test_the_peak_since_the_start_outlives_the_minutes(measured: Measured) -> None:
    measured.call("one")
    measured.call("two")
    measured.end("one")
    measured.end("two")
    measured.run(120)
    assert measured.site.enforcer.tallies["trunk"].peak == 2
    assert [use.peak for use in measured.uses(TRUNK)] == [2, 0, 0]


def test_a_list_of_the_switch_counts_as_use(measured: Measured) -> None:
    leases = tuple(SyncLease(key=f"c{n}", wants=(Want("trunk"),), port="trunk:a") for n in range(12))
    request = SyncRequest(holder="kamailio", scope=Scope.CALLS, leases=leases)
    measured.site.enforcer.synchronize(request, 1000, measured.site.now)
    measured.look()
    measured.run(60)
    assert measured.uses(TRUNK)[0] == Use(peak=12, busy=12 * 60_000)
    assert measured.uses((Sort.PORT, "trunk:a"))[0] == Use(peak=12, busy=12 * 60_000)


def test_features_that_no_catalog_knows_are_one_row(measured: Measured) -> None:
    leases = tuple(SyncLease(key=f"c{n}", wants=(Want(f"made-up-{n}"),)) for n in range(3))
    request = SyncRequest(holder="kamailio", scope=Scope.CALLS, leases=leases)
    measured.site.enforcer.synchronize(request, 1000, measured.site.now)
    measured.look()
    measured.run(60)
    assert measured.uses((Sort.OTHER_FEATURES, ""))[0] == Use(peak=3, busy=3 * 60_000)


# The clocks


def test_a_clock_that_is_set_ends_the_minute_and_moves_no_busy_time(measured: Measured) -> None:
    measured.call("one")
    measured.run(20)
    measured.site.wall += 3600 * 5
    measured.run(10)
    measured.site.wall -= 3600 * 9
    measured.run(10)
    starts = [(it.start, it.uses[TRUNK].busy, it.uses[COUNTING].busy) for it in measured.minutes()]
    assert starts == [(1000, 30_000, 30_000), (1300, 10_000, 10_000), (760, 0, 0)]


def test_time_in_which_nobody_looked_is_not_counted(measured: Measured) -> None:
    measured.call("one")
    measured.run(20)
    measured.site.wall += GAP_SECONDS + 1
    measured.site.boot += GAP_SECONDS + 1
    measured.look()
    measured.run(5)
    assert [(it.start, it.uses[TRUNK].busy, it.uses[COUNTING].busy) for it in measured.minutes()] == [
        (1000, 20_000, 20_000),
        (1010, 5_000, 5_000),
    ]


def test_a_look_that_comes_late_finds_every_minute_whole(measured: Measured) -> None:
    measured.call("one")
    measured.site.wall += 150
    measured.site.boot += 150
    measured.end("one")
    assert [use.busy for use in measured.uses(TRUNK)] == [60_000, 60_000, 30_000]


def test_the_next_look_is_due_at_the_end_of_the_minute_or_before(measured: Measured) -> None:
    now = measured.site.now
    assert measured.history.before_end(now, 5.0) == 5.0
    late = Now(now.wall + 58, now.boot + 58)
    assert measured.history.before_end(late, 5.0) == pytest.approx(2.0, abs=0.01)
    assert measured.history.before_end(Now(now.wall + 61, now.boot + 61), 5.0) == 5.0


# The bounds


def test_so_many_ports_have_a_row_each_and_the_others_one_together(open_site: Open) -> None:
    site = open_site(licensed={"trunk": 200})
    measured = Measured(site, "trunk:contract")
    for number in range(MAX_PORTS + 5):
        measured.call(f"call-{number}", port=f"made-up-{number}")
    measured.call("contract", port="trunk:contract")
    measured.run(60)
    uses = measured.minutes()[0].uses
    assert sum(sort is Sort.PORT for sort, _ in uses) == MAX_PORTS
    assert uses[Sort.OTHER_PORTS, ""].peak == 6
    assert uses[Sort.OTHER_PORTS, ""].busy == 6 * 60_000
    assert uses[Sort.PORT, "trunk:contract"] == Use(peak=1, granted=1, busy=60_000)


def test_a_port_that_was_idle_for_a_day_gives_its_row_to_one_with_calls(open_site: Open) -> None:
    measured = Measured(open_site(licensed={"trunk": 200}))
    for number in range(MAX_PORTS):
        measured.call(f"call-{number}", port=f"old-{number}")
        measured.end(f"call-{number}")
    measured.call("new", port="trunk:new")
    assert measured.history.find(Sort.PORT, "trunk:new") is None
    measured.run(IDLE_SECONDS)
    measured.history.finished.clear()
    measured.run(IDLE_SECONDS / 24)
    assert measured.history.find(Sort.PORT, "trunk:new") is not None
    assert measured.history.find(Sort.PORT, "old-0") is None
    measured.run(60)
    assert measured.history.finished[-1].uses[Sort.PORT, "trunk:new"].busy == 60_000


def test_a_port_that_the_settings_name_later_takes_its_calls_along(open_site: Open) -> None:
    measured = Measured(open_site(licensed={"trunk": 200}))
    for number in range(MAX_PORTS + 2):
        measured.call(f"call-{number}", port=f"made-up-{number}")
    late = [it for it in (f"made-up-{n}" for n in range(MAX_PORTS + 2)) if not measured.history.find(Sort.PORT, it)]
    measured.run(60)
    measured.history.keep_apart(late[:1], measured.site.enforcer.ledger, measured.site.now)
    measured.run(60)
    uses = measured.history.finished[-1].uses
    assert uses[Sort.PORT, late[0]].busy == 60_000
    assert uses[Sort.OTHER_PORTS, ""].busy == 60_000


def test_denials_on_ports_that_are_made_up_fill_no_memory(fresh: Site) -> None:
    measured = Measured(fresh)
    for number in range(3000):
        measured.site.acquire("call", "trunk", port=f"made-up-{number}")
    assert len(measured.site.enforcer.account.denied_at) == MAX_PORTS_DENIED + 1
    measured.look()
    measured.run(60)
    assert measured.uses((Sort.OTHER_PORTS, ""))[0].denied == 3000


# Against a model that knows every half second

DEEDS = st.lists(
    st.tuples(
        st.integers(0, 260),  # half seconds before the deed
        st.sampled_from(["call", "call", "call", "end", "emergency"]),
        st.integers(0, 11),  # which call
        st.sampled_from([None, "trunk:a", "trunk:b"]),
    ),
    max_size=40,
)


class Naive:
    """What is in use by subject, and what has been in each minute, summed up half second by half second."""

    def __init__(self, start: int) -> None:
        self.halves = start * 120
        self.calls: dict[str, str | None] = {}
        self.busy: dict[tuple[int, tuple[Sort, str]], int] = {}
        self.peaks: dict[tuple[int, tuple[Sort, str]], int] = {}

    def levels(self) -> dict[tuple[Sort, str], int]:
        found = {TRUNK: len(self.calls)}
        for port in self.calls.values():
            if port is not None:
                found[Sort.PORT, port] = found.get((Sort.PORT, port), 0) + 1
        return {subject: level for subject, level in found.items() if level}

    def note_peaks(self) -> None:
        for subject, level in self.levels().items():
            place = self.halves // 120, subject
            self.peaks[place] = max(self.peaks.get(place, 0), level)

    def run(self, halves: int) -> None:
        for _ in range(halves):
            self.note_peaks()
            for subject, level in self.levels().items():
                place = self.halves // 120, subject
                self.busy[place] = self.busy.get(place, 0) + level * 500
            self.halves += 1
        self.note_peaks()


@given(DEEDS)
def test_it_agrees_with_a_model_that_knows_every_half_second(make_site: Open, catalog: Catalog, deeds: Any) -> None:
    site = make_site(catalog)
    site.certify()
    site.buy(trunk=8)
    measured, naive = Measured(site), Naive(1000)
    for halves, deed, number, port in deeds:
        naive.run(halves)
        measured.run(halves / 2)
        if deed == "end":
            measured.end(f"c{number}")
            naive.calls.pop(f"c{number}", None)
        elif deed == "emergency":
            measured.call(f"e{number}", port=port, call_class=CallClass.EMERGENCY)
        elif measured.call(f"c{number}", port=port):
            # What is asked for again without a port stays where it is.
            naive.calls[f"c{number}"] = port or naive.calls.get(f"c{number}")
        naive.note_peaks()
    naive.run(30)
    measured.run(15)
    minutes = measured.minutes()
    rows = {(it.start, subject): use for it in minutes for subject, use in it.uses.items() if subject != COUNTING}
    assert {place: use.busy for place, use in rows.items() if use.busy} == naive.busy
    assert {place: use.peak for place, use in rows.items() if use.peak} == naive.peaks
    assert (
        sum(use.granted for (_, subject), use in rows.items() if subject == TRUNK)
        == site.enforcer.tallies["trunk"].granted
    )
    for sort, name in ((Sort.FEATURE, "trunk"), (Sort.PORT, "trunk:a")):
        series = measured.history.find(sort, name)
        assert (0 if series is None else series.level) == naive.levels().get((sort, name), 0)
