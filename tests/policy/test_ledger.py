"""The ledger against a model that is nothing but a list of leases, counted by looking at each."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.ledger import MAX_DISPLACED, Change, Dropped, Lease, Ledger
from featurekeyd.policy.requests import CallClass

HOLDERS, KEYS, FEATURES = ["asterisk", "kamailio"], ["a", "b", "c", "d"], ["trunk", "coder", "phone"]
PORTS, CHANNELS, CONNECTIONS = ["x", "y"], ["1", "2"], [1, 2, 3]
HOLDER, KEY = st.sampled_from(HOLDERS), st.sampled_from(KEYS)


def lease(holder: str = "kamailio", key: str = "a", **fields: Any) -> Lease:
    given: dict[str, Any] = {"uid": 1000, "scope": Scope.CALLS, "wants": {"trunk": 1}, "granted": 0.0, **fields}
    return Lease(holder=holder, key=key, **given)


LEASES = st.builds(
    lease,
    HOLDER,
    KEY,
    wants=st.dictionaries(st.sampled_from(FEATURES), st.integers(1, 20), max_size=3),
    port=st.none() | st.sampled_from(PORTS),
    channel=st.none() | st.sampled_from(CHANNELS),
    bound=st.none() | st.sampled_from(CONNECTIONS),
    granted=st.floats(0, 100),
    scope=st.sampled_from(list(Scope)),
) | st.builds(
    lease,
    HOLDER,
    KEY,
    wants=st.just({}),
    port=st.none() | st.sampled_from(PORTS),
    channel=st.none() | st.sampled_from(CHANNELS),
    call_class=st.sampled_from([CallClass.EMERGENCY, CallClass.CALLBACK]),
)


class LedgerAgainstList(RuleBasedStateMachine):
    """Every count of the ledger, after every step, against the plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: list[Lease] = []
        self.changes: list[Change] = []

    def forget(self, holder: str, key: str) -> list[Lease]:
        gone = [each for each in self.model if (each.holder, each.key) == (holder, key)]
        self.model = [each for each in self.model if each not in gone]
        return gone

    @rule(taken=LEASES)
    def put(self, taken: Lease) -> None:
        self.forget(taken.holder, taken.key)
        self.model.append(taken)
        self.changes.append(taken)
        self.ledger.put(taken)

    @rule(data=st.data(), change=LEASES)
    def put_in_place_of_one(self, data: st.DataObject, change: Lease) -> None:
        if self.model:
            there = data.draw(st.sampled_from(self.model))
            self.put(Lease(**{**{n: getattr(change, n) for n in change.__struct_fields__}, "key": there.key}))

    @rule(holder=HOLDER, key=KEY)
    def drop(self, holder: str, key: str) -> None:
        gone = self.forget(holder, key)
        assert self.ledger.drop(holder, key) == (gone[0] if gone else None)
        self.changes += [Dropped(holder, key)] if gone else []

    @rule(connection=st.sampled_from(CONNECTIONS))
    def close(self, connection: int) -> None:
        bound = self.ledger.bound_to(connection)
        assert {(it.holder, it.key) for it in bound} == {
            (it.holder, it.key) for it in self.model if it.bound == connection
        }
        for each in bound:
            self.drop(each.holder, each.key)
        assert self.ledger.bound_to(connection) == []

    @invariant()
    def instances_in_use_are_the_sums(self) -> None:
        counts: Counter[str] = Counter()
        for each in self.model:
            counts.update(each.wants)
        assert self.ledger.recount() == dict(counts)
        assert {feature: self.ledger.in_use(feature) for feature in FEATURES} == {f: counts[f] for f in FEATURES}

    @invariant()
    def ports_count_normal_calls_and_emergencies_are_counted_apart(self) -> None:
        normal = [each for each in self.model if each.call_class is CallClass.NORMAL]
        assert {port: self.ledger.on_port(port) for port in PORTS} == {
            port: sum(each.port == port for each in normal) for port in PORTS
        }
        assert self.ledger.emergencies == len(self.model) - len(normal)

    @invariant()
    def a_channel_has_the_latest_lease_put_there(self) -> None:
        for holder in HOLDERS:
            for port in PORTS:
                for channel in CHANNELS:
                    there = [it for it in self.model if (it.holder, it.port, it.channel) == (holder, port, channel)]
                    assert self.ledger.on_channel(holder, port, channel) == tuple(reversed(there))
            assert self.ledger.on_channel(holder, None, "1") == ()
            assert self.ledger.on_channel(holder, "x", None) == ()

    @invariant()
    def the_leases_are_those_of_the_list(self) -> None:
        assert len(self.ledger) == len(self.model)
        assert sorted(self.ledger, key=str) == sorted(self.model, key=str)
        for holder in HOLDERS:
            assert dict(self.ledger.of_holder(holder)) == {it.key: it for it in self.model if it.holder == holder}
            for key in KEYS:
                found = [it for it in self.model if (it.holder, it.key) == (holder, key)]
                assert self.ledger.find(holder, key) == (found[0] if found else None)

    @invariant()
    def the_changes_tell_it_in_order(self) -> None:
        assert self.ledger.changes == self.changes
        told = Ledger()
        for change in self.ledger.changes:
            if isinstance(change, Lease):
                told.put(change)
            elif isinstance(change, Dropped):
                told.drop(change.holder, change.key)
        assert sorted(told, key=str) == sorted(self.ledger, key=str)


LedgerAgainstList.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLedgerAgainstList = LedgerAgainstList.TestCase


def test_an_empty_ledger_has_nothing() -> None:
    ledger = Ledger()
    assert (len(ledger), list(ledger), ledger.recount(), ledger.emergencies) == (0, [], {}, 0)
    assert (ledger.in_use("trunk"), ledger.on_port("x"), ledger.find("a", "b")) == (0, 0, None)
    assert ledger.drop("a", "b") is None
    assert ledger.changes == []


def test_nothing_is_left_behind_when_all_leases_are_gone() -> None:
    ledger = Ledger()
    for key in KEYS:
        ledger.put(lease(key=key, port="x", channel="1", bound=1))
        ledger.put(lease(key=key, port="y", channel="2", bound=2))
        ledger.drop("kamailio", key)
    ledger.changes.clear()
    assert {name: value for name, value in vars(ledger).items() if value} == {}


def test_the_mapping_of_a_stranger_is_empty_and_leaves_no_trace() -> None:
    ledger = Ledger()
    assert ledger.of_holder("nobody") == {}
    assert vars(ledger)["_leases"] == {}


def test_a_lease_that_wants_nothing_any_more_is_no_emergency_call() -> None:
    ledger = Ledger()
    ledger.put(lease(wants={}, port="x"))
    assert (ledger.emergencies, ledger.on_port("x"), len(ledger)) == (0, 1, 1)


def test_of_many_leases_on_a_channel_the_latest_are_found() -> None:
    assert MAX_DISPLACED == 32
    ledger = Ledger()
    for number in range(MAX_DISPLACED + 1):
        ledger.put(lease(key=f"{number}", port="x", channel="1"))
    assert [it.key for it in ledger.on_channel("kamailio", "x", "1")] == [f"{it}" for it in range(32, 0, -1)]


def test_the_earlier_lease_is_on_a_channel_again_when_the_later_one_is_gone() -> None:
    ledger = Ledger()
    ledger.put(lease(key="a", port="x", channel="1"))
    ledger.put(lease(key="b", port="x", channel="1"))
    ledger.drop("kamailio", "b")
    assert [it.key for it in ledger.on_channel("kamailio", "x", "1")] == ["a"]
