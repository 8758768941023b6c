"""A damaged state file is set aside whole and told, and the daemon has one to go on with."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from featurekeyd.daemon.facts import Facts
from featurekeyd.daemon.merging import merged
from featurekeyd.daemon.recovery import recover_state, set_aside
from featurekeyd.daemon.schema import StateRefused
from featurekeyd.daemon.seal import BootMemory
from featurekeyd.daemon.store import Documents, Kept, Store
from featurekeyd.policy.audit import GENESIS
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.rescue import RescueMark
from featurekeyd.policy.timekeeping import TimeMark

WALL = 1_796_000_000.0
SERIAL = "110123456789"
DAY = datetime.date(2026, 11, 30)
DATED = "featurekeyd.db.damaged-2026-11-30T005320Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "featurekeyd.db"


def start(path: Path) -> tuple[Documents, list[Event]]:
    kept, told = run(path, lambda _: None)
    return kept.documents, told


def run(path: Path, work: Callable[[Store], object], boot: str = "boot") -> tuple[Kept, list[Event]]:
    """Start with the file, do some work with it, and end; what was there at the start, and what was told."""
    memory = BootMemory(path.with_name("state-seal"), boot)
    store, told = recover_state(path, machine_id="this", memory=memory, wall=WALL)
    with contextlib.closing(store):
        kept = store.load_kept()
        work(store)
        store.save_facts(store.load_facts()[0])
        return kept, told


def edit(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute(statement)
        state.commit()


def fill(path: Path) -> None:
    with contextlib.closing(Store(path, machine_id="this")) as store:
        store.save_documents(Documents(certificate="text" * 3000, typed=("A",)))


def spoil_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def spoil_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute("DROP TABLE meter")


def spoil_seal(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute("DROP TABLE seal")


def spoil_date(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute("INSERT INTO mark VALUES ('110123456789', 1, 'yesterday', '2026-01-01')")
        state.commit()


SPOILS = {
    "no database": lambda path: path.write_bytes(b"no database" * 100),
    "pages": spoil_pages,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:6000]),
    "a table is gone": spoil_table,
    "the seal's table is gone": spoil_seal,
    "a date": spoil_date,
}


@pytest.mark.parametrize("how", SPOILS)
def test_a_damaged_file_is_set_aside_whole_and_told(path: Path, how: str) -> None:
    fill(path)
    SPOILS[how](path)
    before = path.read_bytes()
    documents, (event,) = start(path)
    assert documents == Documents()
    assert path.with_name(DATED).read_bytes() == before
    assert event.name is EventName.STATE_SET_ASIDE
    assert event.fields == {"PATH": str(path.with_name(DATED))}
    assert "is damaged: " in event.message
    assert "Restore a backup (featurekeyctl restore FILE)" in event.message
    assert start(path)[1] == [], "the new file is sound"


def test_a_sound_file_is_not_touched_and_nothing_is_told(path: Path) -> None:
    assert start(path) == (Documents(), [])
    fill(path)
    documents, told = start(path)
    assert (documents.typed, told) == (("A",), [])
    assert sorted(it.name for it in path.parent.iterdir()) == ["featurekeyd.db", "state-seal"]


def test_what_was_set_aside_is_never_overwritten(path: Path) -> None:
    for text in (b"one", b"two", b"three"):
        path.write_bytes(text)
        set_aside(path, WALL)
    assert path.with_name(DATED).read_bytes() == b"one"
    assert path.with_name(f"{DATED}-1").read_bytes() == b"two"
    assert path.with_name(f"{DATED}-2").read_bytes() == b"three"


def test_a_dangling_link_of_that_name_is_not_overwritten_either(path: Path) -> None:
    path.with_name(DATED).symlink_to("nowhere")
    path.write_bytes(b"one")
    assert set_aside(path, WALL).name == f"{DATED}-1"


def test_a_journal_goes_with_its_file(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    journal = path.with_name("featurekeyd.db-journal")
    journal.write_bytes(b"its journal")
    aside = set_aside(path, WALL)
    assert aside.with_name(f"{DATED}-journal").read_bytes() == b"its journal"
    assert not journal.exists()


def test_the_file_of_a_later_release_is_not_set_aside(path: Path) -> None:
    fill(path)
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute("PRAGMA user_version = 99")
    with pytest.raises(StateRefused, match="install that release again"):
        start(path)
    assert [it.name for it in path.parent.iterdir()] == ["featurekeyd.db"]


def test_a_file_that_somebody_locks_is_not_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    connect = sqlite3.connect
    with contextlib.closing(connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", lambda name, **options: connect(name, timeout=0, **options))
        with pytest.raises(StateRefused, match="database is locked"):
            start(path)
    monkeypatch.undo()
    assert start(path)[0].typed == ("A",)


def test_tampering_is_told_and_the_file_counts_all_the_same(path: Path) -> None:
    fill(path)
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute("INSERT INTO meter VALUES ('feature_key_absent', 0)")
        state.commit()
    documents, (event,) = start(path)
    assert documents.typed == ("A",)
    assert event.name is EventName.STATE_TAMPERED
    assert "was changed by somebody else: it was edited, or comes from another host." in event.message


def test_a_state_file_taken_away_under_the_same_boot_is_told(path: Path) -> None:
    fill(path)
    start(path)
    path.unlink()
    _, (event,) = start(path)
    assert event.name is EventName.STATE_TAMPERED
    assert "it is an earlier one: change 1" in event.message


# What goes on through it

OF_THEN = Facts(
    clock=TimeMark(wall=WALL, boot=5.0, boot_id="boot"),
    rescues={SERIAL: RescueMark(day=DAY, count=2)},
    retired=(SERIAL,),
    permits={SERIAL: 4},
    emergency_claims=2,
    check_failing=True,
)
MARKS = {SERIAL: Mark(7, trials={2: DAY})}


def live(store: Store) -> None:
    """What a system has done that must not come undone."""
    store.save_documents(Documents(certificate="text", marks=MARKS))
    store.save_meters({"feature_key_absent": 7200.0})
    store.save_facts(OF_THEN)


def damage(path: Path) -> None:
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])


UNDOING: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged": (damage, "state_losses"),
    "taken away": (Path.unlink, "tamperings"),
    "edited": (lambda path: edit(path, "UPDATE meter SET drained = 0"), "tamperings"),
    "facts deleted": (lambda path: edit(path, "DELETE FROM fact"), "tamperings"),
}


@pytest.mark.parametrize("how", UNDOING)
def test_nothing_that_has_advanced_in_this_boot_comes_undone(path: Path, how: str) -> None:
    undo, count = UNDOING[how]
    run(path, live)
    before = BootMemory(path.with_name("state-seal"), "boot").recall()
    assert before is not None
    undo(path)
    kept, (_,) = run(path, lambda _: None)
    assert (kept.drained, kept.documents.marks) == ({"feature_key_absent": 7200.0}, MARKS)
    assert kept.facts == msgspec.structs.replace(OF_THEN, **{count: 1})
    with contextlib.closing(Store(path, machine_id="this")) as store:
        assert store.state_head.number > before.head.number


def test_a_file_put_back_under_the_same_boot_gives_nothing_back(path: Path, tmp_path: Path) -> None:
    run(path, lambda store: store.save_meters({"feature_key_absent": 5.0}))
    earlier = shutil.copy(path, tmp_path / "earlier")
    run(path, live)
    shutil.copy(earlier, path)
    kept, _ = run(path, lambda _: None)
    assert kept.drained == {"feature_key_absent": 7200.0}
    assert kept.facts == msgspec.structs.replace(OF_THEN, tamperings=1)


@pytest.mark.parametrize("boots", [("boot", "boot"), ("next", "third")])
def test_an_edit_is_counted_once_and_no_restart_washes_it_out(path: Path, boots: tuple[str, str]) -> None:
    run(path, live)
    edit(path, "UPDATE meter SET drained = 0")
    told = []
    for boot in boots:
        kept, events = run(path, lambda store: store.save_meters({"no_check": 5.0}), boot)
        told += events
        assert kept.facts.tamperings == 1
    assert [it.name for it in told] == [EventName.STATE_TAMPERED]


def test_a_start_that_is_killed_after_it_has_told_has_counted(path: Path) -> None:
    run(path, live)
    edit(path, "UPDATE meter SET drained = 0")
    store, _ = recover_state(path, machine_id="this", memory=BootMemory(path.with_name("none"), "b"), wall=WALL)
    store.close()
    assert run(path, lambda _: None, "next")[0].facts.tamperings == 1


def test_a_backup_restored_into_a_new_file_gives_back_nothing_that_has_drained(path: Path) -> None:
    kept, _ = run(path, lambda store: store.save_meters({"feature_key_absent": 0.0}))
    run(path, live)
    damage(path)
    here, _ = run(path, lambda _: None)
    both = merged(here, kept, SERIAL, GENESIS, int(WALL))
    assert both.drained == {"feature_key_absent": 7200.0}
    assert both.facts == here.facts


def test_after_a_reboot_a_damaged_file_is_begun_anew_and_counted(path: Path) -> None:
    run(path, live)
    damage(path)
    kept, (event,) = run(path, lambda _: None, "next")
    assert event.name is EventName.STATE_SET_ASIDE
    assert (kept.drained, kept.facts) == ({}, Facts(state_losses=1))


def test_what_cannot_be_counted_because_the_disk_is_full_is_refused_with_the_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(path, live)
    edit(path, "UPDATE meter SET drained = 0")

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_kept", full)
        with pytest.raises(StateRefused, match="whether its disk is full"):
            start(path)
    assert run(path, lambda _: None)[0].facts.tamperings == 1, "it is found again"
