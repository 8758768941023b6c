"""The index of calls: every lease of a Call-ID, also of before, and nothing looked at twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon import callcontrol_index
from featurekeyd.daemon.callcontrol_index import CallIndex
from featurekeyd.daemon.switchprocesses import NO_SWITCH
from featurekeyd.policy.callrules import call_key
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.ledger import Lease, Ledger


def lease(call_id: str, tag: str = "1", granted: float = 0.0) -> Lease:
    return Lease(
        holder="kamailio", key=call_key(call_id, tag), uid=7, scope=Scope.CALLS, wants={"trunk": 1}, granted=granted
    )


def test_calls_of_before_and_of_now_are_found_together() -> None:
    ledger = Ledger()
    ledger.put(lease("six", "0"))
    index = CallIndex(ledger, "kamailio")
    ledger.put(lease("six", "1"))
    index.note(call_key("six", "1"), "six", 1)
    assert [it.key for it in index.leases("six")] == ["six;tag=1", "six;tag=0"]


def test_an_unknown_call_id_costs_no_look_at_what_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, looked = Ledger(), list[str]()

    def watched(key: str) -> str:
        looked.append(key)
        return key

    monkeypatch.setattr(callcontrol_index, "filed_under", watched)
    for n in range(1000):
        ledger.put(lease(f"{n}@b"))
    index = CallIndex(ledger, "kamailio")
    assert index.leases("unknown@b") == []
    assert len(looked) == 1000
    ledger.put(lease("new@b"))
    assert index.leases("unknown@b") == []
    assert looked[1000:] == ["new@b;tag=1"]
    ledger.drop("kamailio", "new@b;tag=1")
    index.freed("new@b;tag=1", NO_SWITCH)
    assert index.leases("unknown@b") == []
    assert len(looked) == 1001


CHANGES = st.tuples(st.sampled_from(["put", "note", "stop", "drop"]), st.integers(0, 3), st.integers(0, 2))


@given(st.lists(CHANGES, max_size=60))
def test_whatever_happens_the_index_finds_what_the_ledger_has(changes: list[tuple[str, int, int]]) -> None:
    ledger = Ledger()
    index = CallIndex(ledger, "kamailio")
    for what, call, tag in changes:
        call_id, key = f"{call}@b", call_key(f"{call}@b", str(tag))
        if what in {"put", "note"}:
            ledger.put(lease(call_id, str(tag)))
        if what == "note":
            index.note(key, call_id, NO_SWITCH)
        if what == "stop" and (found := index.leases(call_id)):
            ledger.drop("kamailio", found[0].key)
            index.freed(found[0].key, NO_SWITCH)
        if what == "drop":
            ledger.drop("kamailio", key)
        for number in range(4):
            held = {it.key for it in ledger if it.key.startswith(f"{number}@b;")}
            assert {it.key for it in index.leases(f"{number}@b")} == held
