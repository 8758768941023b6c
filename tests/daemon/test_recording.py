"""Recording: a file that cannot be written is told once, decisions go on, and it is mended later."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from featurekeyd.daemon.leasefile import SLACK_RECORDS, LeaseFile
from featurekeyd.daemon.recording import Recording
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.events import EventName
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

    def recovered(self) -> set[str]:
        found = LeaseFile(self.path, "boot").recover()
        assert found.damage == ""
        return {lease.key for lease in found.leases}


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
        assert {"before"} <= kept.recovered() <= {"before", "lost 1", "lost 2"}
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
    assert kept.recovered() == set()
    assert kept.recording.keep_up() is not None
    assert kept.recovered() == {"torn", "next"}


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


def overgrown(kept: Kept) -> None:
    """Let the file grow to much more than the one lease it tells of."""
    for _ in range(SLACK_RECORDS // 64 + 1):
        for number in range(32):
            kept.take(f"{number}")
            kept.ledger.drop("a", f"{number}")
        assert kept.recording.record() is None
    kept.take("last")
    assert kept.recording.record() is None


def test_an_overgrown_file_that_cannot_be_rewritten_is_appended_to_and_rewritten_later(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    overgrown(kept)
    before = kept.path.stat().st_size
    for number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(0).write)
            assert kept.recording.keep_up() is None
        kept.take(f"next {number}")
        assert kept.recording.record() is None
    assert kept.recovered() == {"last", "next 0", "next 1", "next 2"}
    assert kept.path.stat().st_size > before
    assert kept.recording.keep_up() is None
    assert kept.path.stat().st_size < before / 10
    assert kept.recovered() == {"last", "next 0", "next 1", "next 2"}


def test_an_overgrown_file_is_rewritten_silently(kept: Kept) -> None:
    overgrown(kept)
    before = kept.path.stat().st_size
    assert kept.recording.keep_up() is None
    assert kept.path.stat().st_size < before / 100
    assert kept.recovered() == {"last"}
