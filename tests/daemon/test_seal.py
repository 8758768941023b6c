"""The seal: what edits and roll-backs it shows, and what it leaves alone."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from featurekeyd.daemon.facts import Facts
from featurekeyd.daemon.seal import BootMemory, Remembered, seal_key
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.policy.audit import Act
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.reservations import Reservation, Reservations

ACT = Act(wall=1, who="uid 0", what="reserved", message="Reserved.")


class Host:
    """A state file, and what the boots of its host remember."""

    def __init__(self, place: Path) -> None:
        self.path = place / "featurekeyd.db"
        self.memory = place / "state-seal"

    def store(self, machine: str = "this", boot: str = "boot-1") -> Store:
        return Store(self.path, machine_id=machine, memory=BootMemory(self.memory, boot))

    def found(self, machine: str = "this", boot: str = "boot-1") -> str | None:
        """What a start of the daemon finds."""
        with contextlib.closing(self.store(machine, boot)) as store:
            return store.check()

    def change(self, *changes: Callable[[Store], object]) -> Head:
        with contextlib.closing(self.store()) as store:
            for change in changes:
                change(store)
            return store.state_head

    def edit(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as state:
            assert state.execute(statement).rowcount == 1
            state.commit()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    it = Host(tmp_path)
    it.change(
        lambda store: store.save_documents(Documents(typed=("A",), marks={"110123456789": Mark(7, trials={2: DAY})})),
        lambda store: store.save_meters({"feature_key_absent": 3600.25}),
        lambda store: store.save_facts(Facts(emergency_claims=3)),
        lambda store: store.append_acts([ACT]),
    )
    return it


DAY = Mark().listed


def test_a_state_that_only_the_daemon_changed_is_in_order(host: Host, tmp_path: Path) -> None:
    assert host.found() is None
    assert host.found(boot="boot-2") is None
    new = Host(tmp_path / "new")
    new.path.parent.mkdir()
    assert new.found() is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meter SET drained = 0",
        "DELETE FROM meter",
        "UPDATE mark SET list_number = 6",
        "DELETE FROM trial",
        "UPDATE fact SET value = '0' WHERE name = 'emergency_claims'",
        "DELETE FROM fact",
        "UPDATE audit SET digest = replace(digest, '0', '1') || 'x'",
        "DELETE FROM audit",
        "UPDATE seal SET number = number + 1",
        "UPDATE seal SET digest = upper(digest) || 'x'",
    ],
)
def test_an_edit_is_told(host: Host, statement: str) -> None:
    host.edit(statement)
    assert host.found() == "it was edited, or comes from another host"


def test_a_seal_that_was_taken_away_is_told(host: Host) -> None:
    host.edit("DELETE FROM seal")
    assert host.found() == "the seal is missing"


def test_the_file_of_another_machine_is_told(host: Host) -> None:
    assert host.found(machine="other") == "it was edited, or comes from another host"


def test_what_is_not_sealed_may_be_changed(host: Host) -> None:
    host.edit("DELETE FROM typed_key")
    host.change(lambda store: store.save_reservations(Reservations([Reservation(feature="trunk", key="1")])))
    assert host.found() is None


def test_a_file_put_back_under_the_same_boot_is_told(host: Host, tmp_path: Path) -> None:
    earlier = shutil.copy(host.path, tmp_path / "earlier")
    seen = host.change(lambda store: store.save_meters({"feature_key_absent": 7000.0}))
    shutil.copy(earlier, host.path)
    assert (
        host.found() == f"it is an earlier one: change {seen.number - 1}, and this boot has seen change {seen.number}"
    )


def test_another_file_of_the_same_age_is_told_under_the_same_boot(host: Host, tmp_path: Path) -> None:
    earlier = shutil.copy(host.path, tmp_path / "earlier")
    forked = Host(tmp_path / "elsewhere")
    forked.path.parent.mkdir()
    shutil.copy(earlier, forked.path)
    forked.change(lambda store: store.save_meters({"feature_key_absent": 1.0}))
    host.change(lambda store: store.save_meters({"feature_key_absent": 7000.0}))
    shutil.copy(forked.path, host.path)
    assert (host.found() or "").startswith("it is another one than this boot has seen at change ")


def test_a_file_put_back_across_a_reboot_is_left_to_the_vendor(host: Host, tmp_path: Path) -> None:
    earlier = shutil.copy(host.path, tmp_path / "earlier")
    seen = host.change(lambda store: store.save_meters({"feature_key_absent": 7000.0}))
    shutil.copy(earlier, host.path)
    with contextlib.closing(host.store(boot="boot-2")) as store:
        assert store.check() is None, "as far as a host can tell"
        assert store.state_head.number < seen.number, "what the vendor sees at the next check"


def test_a_crash_between_storing_and_remembering_accuses_nobody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BootMemory, "remember", lambda _, __: None)
    host.change(lambda store: store.save_meters({"feature_key_absent": 7000.0}))
    assert host.found() is None


def test_what_was_told_once_is_not_told_again_after_the_next_change(host: Host) -> None:
    host.edit("UPDATE meter SET drained = 0")
    assert host.found() is not None
    host.change(lambda store: store.append_acts([ACT]))
    assert host.found() is None


def test_the_number_of_the_seal_advances_by_one_with_each_change(host: Host) -> None:
    first = host.change(lambda store: store.save_meters({"a": 1.0}))
    second = host.change(lambda store: store.save_meters({"a": 1.0}))
    assert (second.number - first.number, second.digest != first.digest) == (1, True)


def test_a_change_that_fails_is_not_sealed(host: Host) -> None:
    with contextlib.closing(host.store()) as store:
        before = store.state_head
        with pytest.raises(sqlite3.Error):
            store.save_documents(Documents(typed=("A", "A")))
        assert store.state_head == before
        assert store.check() is None


def test_a_memory_that_cannot_be_read_or_written_accuses_nobody(host: Host, tmp_path: Path) -> None:
    host.memory.write_text("boot-1\nno head\n")
    assert host.found() is None
    host.memory.write_bytes(b"\xff\xfe")
    assert host.found() is None
    nowhere = BootMemory(tmp_path / "none" / "state-seal", "boot-1")
    nowhere.remember(Remembered(head=Head(1, "a" * 64)))
    assert nowhere.recall() is None


def test_what_the_file_was_sealed_with_is_remembered_for_this_boot_and_no_other(host: Host) -> None:
    head = host.change(lambda store: store.save_meters({"feature_key_absent": 7000.0}))
    remembered = BootMemory(host.memory, "boot-1").recall()
    assert remembered is not None
    assert (remembered.head, remembered.drained["feature_key_absent"]) == (head, 7000.0)
    with contextlib.closing(host.store()) as store:
        documents, drained = store.load()
        assert remembered == Remembered(head=head, drained=drained, marks=documents.marks, facts=store.load_facts()[0])
    assert BootMemory(host.memory, "boot-2").recall() is None
    assert host.memory.stat().st_mode & 0o777 == 0o600


def test_each_machine_has_a_key_of_its_own_that_does_not_show_its_id() -> None:
    assert seal_key("a") != seal_key("b")
    assert seal_key("a\n") == seal_key("a")
    assert b"0123456789abcdef" not in seal_key("0123456789abcdef")
