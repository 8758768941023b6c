"""Recording: a file that cannot be written is told once, decisions go on, and it is mended later."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from featurekeyd.daemon.leasefile import SLACK_RECORDS, SLICE_RECORDS, LeaseFile
from featurekeyd.daemon.recording import Recording
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.events import EventName
from featurekeyd.policy.holders import Holders, Known
from featurekeyd.policy.ledger import Lease, Ledger


class Kept:
    """A ledger and its recording."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "leases"
        self.ledger = Ledger()
        self.recording = Recording(LeaseFile(self.path, "boot"), self.ledger)
        assert self.recording.begin() is None

    def take(self, *keys: str) -> None:
        for key in keys:
            taken = Lease(holder="a", key=key, uid=0, scope=Scope.CALLS, wants={"trunk": 1}, granted=1.0)
            self.ledger.put(taken)

    def recovered(self, damage: str = "") -> set[str]:
        found = LeaseFile(self.path, "boot").recover()
        assert found.damage == damage
        assert found.whole is not bool(damage)
        return {lease.key for lease in found.leases}


STOPPED = "recording had stopped"


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


class Disk:
    """os.write on a disk with room for so many bytes more."""

    def __init__(self, room: int, error: int = errno.ENOSPC) -> None:
        self.room = room
        self._error = error
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(self._error, os.strerror(self._error))
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


def test_changes_are_recorded_once(kept: Kept) -> None:
    kept.take("a", "b")
    assert kept.recording.record() is None
    assert kept.recovered() == {"a", "b"}
    size = kept.path.stat().st_size
    assert kept.recording.record() is None
    assert kept.path.stat().st_size == size


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("room", [0, 1, 100, 190])
def test_a_failure_is_told_once_and_mended_with_the_whole_ledger(
    error: int, room: int, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.take("before")
    assert kept.recording.record() is None
    disk = Disk(room, error)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk.write)
        kept.take("lost 1", "lost 2")
        failed = kept.recording.record()
        assert failed is not None
        assert failed.name is EventName.LEASES_NOT_RECORDED
        assert os.strerror(error) in failed.message
        assert "forgets calls that began since, and brings back calls that ended since" in failed.message
        for number in range(5):
            kept.take(f"more {number}")
            assert kept.recording.record() is None
            assert kept.recording.keep_up() is None
        # A kill now finds a part of what was, and nothing that was not.
        assert {"before"} <= kept.recovered(STOPPED) <= {"before", "lost 1", "lost 2"}
    kept.ledger.drop("a", "lost 1")
    mended = kept.recording.keep_up()
    assert mended is not None
    assert mended.name is EventName.LEASES_RECORDED_AGAIN
    assert kept.recovered() == {"before", "lost 2", *(f"more {number}" for number in range(5))}
    kept.take("after")
    assert kept.recording.record() is None
    assert kept.recording.keep_up() is None
    assert "after" in kept.recovered()


def test_a_failure_after_the_mending_is_told_again(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(0).write)
            kept.take("a")
            assert kept.recording.record() is not None
        assert kept.recording.keep_up() is not None


def test_an_append_that_fails_half_way_and_one_that_would_succeed_neither_lose_nor_invent(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(70)
    monkeypatch.setattr(os, "write", disk.write)
    kept.take("torn")
    assert kept.recording.record() is not None
    disk.room = 1 << 20
    kept.take("next")
    assert kept.recording.record() is None
    assert kept.recovered(STOPPED) == set()
    assert kept.recording.keep_up() is not None
    assert kept.recovered() == {"torn", "next"}
    assert not kept.path.with_suffix(".stale").exists()


def test_changes_do_not_pile_up_while_nothing_can_be_recorded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", Disk(0).write)
    for _ in range(3):
        kept.take("a", "b")
        kept.recording.record()
        assert kept.ledger.changes == []


def test_a_file_that_cannot_be_begun_is_told_and_begun_later(tmp_path: Path) -> None:
    ledger, path = Ledger(), tmp_path / "folder" / "leases"
    recording = Recording(LeaseFile(path, "boot"), ledger)
    failed = recording.begin()
    assert failed is not None
    assert "No such file or directory" in failed.message
    assert recording.keep_up() is None
    path.parent.mkdir()
    assert recording.keep_up() is not None
    assert path.exists()
    recording.close()


def grow(kept: Kept, records: int) -> None:
    """Let so many records be written that leave nothing behind."""
    for _ in range(records // 64):
        for number in range(32):
            kept.take(f"{number}")
            kept.ledger.drop("a", f"{number}")
        assert kept.recording.record() is None


def overgrown(kept: Kept) -> Path:
    """Let the file grow until a new one is begun; the new one."""
    new = kept.path.with_suffix(".new")
    assert kept.recording.record() is None
    for _ in range(1000):
        grow(kept, 64)
        if new.exists():
            return new
    raise AssertionError("the file grows and grows")


def test_an_overgrown_file_that_cannot_be_written_anew_is_appended_to_and_tried_again_on_a_tick(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, begun = kept.path.with_suffix(".new"), []
    opened = os.open

    def refuse(path: Path, *rest: int) -> int:
        begun.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        grow(kept, SLACK_RECORDS + 640)
        assert begun == [new], "once, and not in every turn"
        assert kept.recording.keep_up() is None
        assert begun == [new, new]
        kept.take("last")
        assert kept.recording.record() is None
    assert os.open is opened
    assert kept.recovered() == {"last"}
    before = kept.path.stat().st_size
    for _ in range(3):
        assert kept.recording.keep_up() is None
    assert kept.path.stat().st_size < before / 100
    assert kept.recovered() == {"last"}


def test_a_file_is_written_anew_beside_the_decisions_and_misses_none(kept: Kept) -> None:
    lasting = {f"lasting {number}" for number in range(10 * SLICE_RECORDS)}
    kept.take(*lasting)
    new = overgrown(kept)
    before = kept.path.stat().st_size
    # What ends and what begins meanwhile, in both files; a lease that has been written already, and one that has not.
    places = list(kept.ledger.places())
    ended, begun = {places[0][1], places[-1][1]}, set()
    for key in ended:
        kept.ledger.drop("a", key)
    turns = 0
    while new.exists():
        turns += 1
        begun.add(f"begun {turns}")
        kept.take(f"begun {turns}")
        assert kept.recording.record() is None
        assert kept.recovered() == (lasting - ended) | begun
    assert 8 <= turns <= 14
    assert kept.path.stat().st_size < before / 2
    assert kept.recovered() == (lasting - ended) | begun


def test_a_new_file_that_finds_no_room_is_given_up_and_the_old_one_goes_on(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.take(*(f"{number}" for number in range(100, 100 + 3 * SLICE_RECORDS)))
    new = overgrown(kept)
    inode, write = new.stat().st_ino, os.write

    def full(descriptor: int, data: bytes) -> int:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    kept.take("last")
    assert kept.recording.record() is None
    assert not new.exists()
    assert "last" in kept.recovered()
    assert len(kept.recovered()) == 3 * SLICE_RECORDS + 1


def test_a_file_of_a_directory_that_cannot_be_written_is_not_taken_for_the_whole(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.take("a")
    assert kept.recording.record() is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert kept.recovered("its directory cannot be written, so recording may have stopped") == {"a"}


def test_what_is_known_of_the_holders_comes_back(tmp_path: Path) -> None:
    path, ledger, holders = tmp_path / "leases", Ledger(), Holders({})
    for name, uid in (("a", 7), ("b", 8)):
        assert holders.hear(name, uid, 1.0) is not None
    recording = Recording(LeaseFile(path, "boot"), ledger, holders)
    assert recording.begin() is None
    changed = Known(name="a", uid=7, ttls={Scope.CALLS: 90.0})
    ledger.changes += [Known(name="c", uid=9), changed, Known(name="b", uid=8, gone=True)]
    assert recording.record() is None
    assert LeaseFile(path, "boot").recover().holders == (changed, Known(name="c", uid=9))
    recording.close()


def test_a_new_file_has_each_holder_as_it_is_when_it_is_its_turn(kept: Kept) -> None:
    holders, count = kept.recording._holders, 2 * SLICE_RECORDS
    for number in range(count):
        assert holders.hear(f"holder {number}", 7, 1.0) is not None
    overgrown(kept)
    last = holders.find(f"holder {count - 1}")
    assert last is not None
    last.ttls = {Scope.CALLS: 5.0}
    kept.ledger.changes.append(last.known())
    holders.forget("holder 200")
    kept.ledger.changes.append(Known(name="holder 200", uid=7, gone=True))
    for _ in range(5):
        kept.take("more")
        assert kept.recording.record() is None
    assert not kept.path.with_suffix(".new").exists()
    found = {known.name: known for known in LeaseFile(kept.path, "boot").recover().holders}
    assert found[last.name].ttls == {Scope.CALLS: 5.0}
    assert len(found) == count - 1
