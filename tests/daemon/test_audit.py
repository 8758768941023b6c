"""The audit in the state file: in order, bounded, verifiable when shortened, and patient with a full disk."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekeyd.daemon import audit
from featurekeyd.daemon.audit import MAX_WAITING, Waiting
from featurekeyd.daemon.store import Store
from featurekeyd.policy.audit import CHECKPOINT, KEPT_ENTRIES, MAX_ENTRIES, START, Act, head_of, verify


def act(number: int) -> Act:
    return Act(wall=number, who="uid 0", what="reserved", message=f"Act {number}.", fields={"LEASE": str(number)})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path / "featurekeyd.db")) as opened:
        yield opened


def test_acts_come_back_in_their_order_and_chained(store: Store) -> None:
    assert (store.load_audit(), store.audit_head) == ([], START)
    store.append_acts([act(1), act(2)])
    store.append_acts([act(3)])
    entries = store.load_audit()
    assert [it.message for it in entries] == ["Act 1.", "Act 2.", "Act 3."]
    assert entries[2].fields == {"LEASE": "3"}
    assert verify(entries, store.audit_head).sound
    assert [it.number for it in store.load_audit(after=2)] == [3]


def test_another_run_goes_on_with_the_chain(store: Store) -> None:
    store.append_acts([act(1)])
    with contextlib.closing(Store(store.path)) as later:
        assert later.audit_head == store.audit_head
        later.append_acts([act(2)])
        assert verify(later.load_audit(), later.audit_head).sound


def test_acts_that_cannot_be_stored_leave_the_head_as_it_was(store: Store) -> None:
    store.append_acts([act(1)])
    head = store.audit_head
    store._connection.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(sqlite3.Error, match="disk full"):
        store.append_acts([act(2)])
    assert store.audit_head == head == head_of(store.load_audit())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET message = 'Nothing.' WHERE number = 2",
        "UPDATE audit SET who = 'uid 1' WHERE number = 2",
        "UPDATE audit SET wall = 0 WHERE number = 2",
        "UPDATE audit SET fields = '{}' WHERE number = 2",
        "UPDATE audit SET fields = 'no JSON' WHERE number = 2",
        "DELETE FROM audit WHERE number = 2",
    ],
)
def test_an_entry_edited_in_the_file_is_named(store: Store, statement: str) -> None:
    store.append_acts([act(1), act(2), act(3)])
    store._connection.execute(statement)
    assert verify(store.load_audit(), store.audit_head).broken_at == 2


def test_the_last_entries_cut_off_are_missed_while_the_daemon_runs(store: Store) -> None:
    store.append_acts([act(1), act(2)])
    store._connection.execute("DELETE FROM audit WHERE number = 2")
    assert verify(store.load_audit(), store.audit_head).broken_at == 2


def test_old_entries_are_dropped_with_a_checkpoint_and_the_rest_stays_sound(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 20)
    monkeypatch.setattr(audit, "KEPT_ENTRIES", 15)
    counts = set()
    for number in range(1, 61):
        store.append_acts([act(number)])
        entries = store.load_audit()
        assert verify(entries, store.audit_head).sound
        counts.add(len(entries))
    assert max(counts) == 20
    assert 15 in counts
    assert entries[-1].message == "Act 60."
    assert [it.what for it in entries].count(CHECKPOINT) in {2, 3}


def test_so_many_entries_are_kept(store: Store) -> None:
    store.append_acts([act(number) for number in range(1, MAX_ENTRIES + 1)])
    assert len(store.load_audit()) == MAX_ENTRIES
    store.append_acts([act(0)])
    entries = store.load_audit()
    assert len(entries) == KEPT_ENTRIES
    assert verify(entries, store.audit_head).sound


# What waits


def test_what_waits_comes_out_in_its_order_and_what_is_put_back_comes_first() -> None:
    waiting = Waiting()
    assert not waiting
    waiting.put([act(1), act(2)])
    taken = waiting.take()
    waiting.put([act(3)])
    waiting.put_back(taken)
    assert [it.wall for it in waiting.take()] == [1, 2, 3]
    assert not waiting


def test_so_many_acts_wait_and_the_others_are_counted() -> None:
    waiting = Waiting()
    waiting.put(act(number) for number in range(MAX_WAITING + 5))
    taken = waiting.take()
    assert (len(taken), taken[-1].what, taken[-1].fields) == (MAX_WAITING + 1, "acts_lost", {"COUNT": "5"})
    waiting.put([act(1)])
    assert [it.what for it in waiting.take()] == ["reserved"]
