"""The lease file: whatever happens to it, no lease is invented and the daemon goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from featurekeyd.daemon import leasefile
from featurekeyd.daemon.leasefile import SLACK_RECORDS, LeaseFile
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.ledger import Change, Dropped, Lease
from featurekeyd.policy.requests import CallClass

BOOT = "this-boot"


def lease(key: str, granted: float = 1.5, holder: str = "kamailio") -> Lease:
    return Lease(
        holder=holder,
        key=key,
        uid=1000,
        scope=Scope.CALLS,
        wants={"trunk": 1},
        granted=granted,
        port="trunk:a",
        channel="7",
    )


def recovered(path: Path, boot: str = BOOT) -> list[Lease]:
    """What another run finds, without damage."""
    found = LeaseFile(path, boot).recover()
    assert found.damage == ""
    return found.leases


def written(path: Path, *changes: Change) -> LeaseFile:
    opened = LeaseFile(path, BOOT)
    opened.rewrite([])
    for change in changes:
        opened.append([change])
    return opened


HISTORY: tuple[Lease | Dropped, ...] = (
    lease("a"),
    lease("b"),
    Dropped("kamailio", "a"),
    lease("b", granted=9.0),
    lease("a", holder="asterisk"),
    Dropped("kamailio", "b"),
    Dropped("kamailio", "b"),
    lease("c"),
)


def states(history: tuple[Lease | Dropped, ...]) -> list[list[Lease]]:
    """The set of leases before the history, and after each change of it."""
    there: dict[tuple[str, str], Lease] = {}
    states: list[list[Lease]] = [[]]
    for change in history:
        there.pop((change.holder, change.key), None)
        if isinstance(change, Lease):
            there[change.holder, change.key] = change
        states.append(list(there.values()))
    return states


def same(leases: list[Lease], others: list[Lease]) -> bool:
    return {(it.holder, it.key): it for it in leases} == {(it.holder, it.key): it for it in others}


def test_a_lease_comes_back_with_every_member(tmp_path: Path) -> None:
    kept = [
        lease("a"),
        Lease(holder="b", key='ü \\ "', uid=0, scope=Scope.REGISTRATIONS, wants={"x": 2, "y": 1}, granted=0.125),
        Lease(
            holder="c",
            key="e",
            uid=2**32 - 2,
            scope=Scope.CALLS,
            wants={},
            granted=1e9,
            call_class=CallClass.EMERGENCY,
            bound=7,
        ),
    ]
    opened = LeaseFile(tmp_path / "leases", BOOT)
    opened.rewrite(kept)
    opened.close()
    assert recovered(tmp_path / "leases") == kept


def test_no_file_and_an_empty_file_hold_no_lease(tmp_path: Path) -> None:
    assert recovered(tmp_path / "none") == []
    (tmp_path / "empty").touch()
    found = LeaseFile(tmp_path / "empty", BOOT).recover()
    assert (found.leases, found.damage) == ([], "it has no whole line, not even the first")
    assert (tmp_path / "empty.damaged").exists()


def test_leases_of_an_earlier_boot_are_gone(tmp_path: Path) -> None:
    written(tmp_path / "leases", lease("a")).close()
    assert recovered(tmp_path / "leases", "next-boot") == []
    assert recovered(tmp_path / "leases") == [lease("a")]


def test_a_file_cut_at_any_byte_gives_a_part_of_its_history_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, *HISTORY).close()
    data, seen = path.read_bytes(), set()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        lines = data[:length].count(b"\n")
        found = recovered(path) if lines else LeaseFile(path, BOOT).recover().leases
        assert same(found, states(HISTORY)[max(lines - 1, 0)])
        seen.add(lines)
    assert seen == set(range(len(HISTORY) + 2))


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_flipped_bit_is_told_the_rest_counts_and_the_file_is_kept_aside(bit: int, tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, *HISTORY).close()
    data = path.read_bytes()
    for place in range(len(data) - 1):  # the last line end: see the next test
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << bit
        path.write_bytes(spoiled)
        found = LeaseFile(path, BOOT).recover()
        number = data[:place].count(b"\n") + 1
        # A line end that is none any more spoils the line behind it too.
        lost = {number, number + 1} if data[place] == ord("\n") else {number}
        if 1 in lost:
            assert (found.leases, found.damage) == ([], "its first line, which names the boot, is damaged")
        else:
            rest = tuple(change for line, change in enumerate(HISTORY, 2) if line not in lost)
            assert same(found.leases, states(rest)[-1])
            assert f"the first of them line {number}" in found.damage
        assert path.with_suffix(".damaged").read_bytes() == spoiled
        assert not path.exists()


def test_damaged_lines_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, lease("a"), lease("b"), lease("c"), lease("d")).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1], b"no\n", lines[3], b"\n"]))
    found = LeaseFile(path, BOOT).recover()
    assert found.leases == [lease("a"), lease("c")]
    assert found.damage == "2 of 5 lines, the first of them line 3"


def test_the_file_of_another_boot_is_no_damage_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, lease("a")).close()
    path.write_bytes(path.read_bytes() + b"no line of ours\n")
    assert recovered(path, "next-boot") == []
    assert path.exists()


def test_a_last_line_without_its_end_is_left_out_and_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, lease("a"), lease("b")).close()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert recovered(path) == [lease("a")]


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_give_no_lease_and_no_exception(data: bytes) -> None:
    found = leasefile._replay(data, BOOT)
    assert found.leases == []


def test_leases_without_a_boot_before_them_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    written(path, lease("a")).close()
    head, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(rest)
    found = LeaseFile(path, BOOT).recover()
    assert found.leases == []
    assert found.damage == "its first line, which names the boot, is damaged"
    path.write_bytes(head + b"\n" + head + b"\n" + rest)
    again = LeaseFile(path, BOOT).recover()
    assert again.leases == [lease("a")]
    assert again.damage == "1 of 3 lines, the first of them line 2"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    found = LeaseFile(tmp_path / "leases", BOOT).recover()
    assert found.leases == []
    assert "cannot be read: Is a directory" in found.damage


def test_damage_is_told_where_the_file_cannot_be_kept_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "leases"
    path.write_bytes(b"nothing of ours\n")
    monkeypatch.setattr(Path, "replace", refuse)
    assert "first line" in LeaseFile(path, BOOT).recover().damage


def test_a_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, writes, write = written(tmp_path / "leases"), [], os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    opened.append([lease(f"{number}") for number in range(500)])
    assert len(writes) == 1
    opened.close()


def test_a_partial_write_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, write = written(tmp_path / "leases"), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    opened.append([lease("a"), lease("b")])
    opened.close()
    assert recovered(tmp_path / "leases") == [lease("a"), lease("b")]


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    written(tmp_path / "leases").close()
    assert (tmp_path / "leases").stat().st_mode & 0o777 == 0o600


def test_a_rewrite_that_fails_leaves_the_old_file_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "leases"
    opened = written(path, lease("a"))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            opened.rewrite([lease("b")])
    assert recovered(path) == [lease("a")]
    assert sorted(it.name for it in tmp_path.iterdir()) == ["leases"], "what was begun takes the room that is short"
    opened.append([lease("c")])
    opened.close()
    assert recovered(path) == [lease("a"), lease("c")]


def test_nothing_is_appended_before_the_file_was_begun(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not open"):
        LeaseFile(tmp_path / "leases", BOOT).append([lease("a")])


def test_the_file_is_overgrown_one_record_beyond_its_limit(tmp_path: Path) -> None:
    opened = LeaseFile(tmp_path / "leases", BOOT)
    opened.rewrite([])
    opened.append([Dropped("a", "b")] * SLACK_RECORDS)
    assert not opened.overgrown(0)
    opened.append([Dropped("a", "b")])
    assert opened.overgrown(0)
    assert not opened.overgrown(1)
    opened.rewrite([])
    assert not opened.overgrown(0)
    opened.close()
    opened.close()


KEYS = st.sampled_from(["a", "b", "c", "\u00fc"])


class FileAgainstDictionary(RuleBasedStateMachine):
    """Any order of changes, rewrites, restarts and kills gives what a dictionary gives."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile  # noqa: PLC0415 - hypothesis gives a machine no tmp_path

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "leases")
        self.there: dict[tuple[str, str], Lease] = {}
        self.file = LeaseFile(self.path, BOOT)
        self.file.rewrite([])
        self.moment = 0.0

    @rule(keys=st.lists(st.tuples(KEYS, KEYS, st.booleans()), max_size=4))
    def change(self, keys: list[tuple[str, str, bool]]) -> None:
        changes: list[Change] = []
        for holder, key, taken in keys:
            self.moment += 1
            self.there.pop((holder, key), None)
            if taken:
                self.there[holder, key] = lease(key, self.moment, holder)
            changes.append(self.there[holder, key] if taken else Dropped(holder, key))
        self.file.append(changes)

    @rule()
    def rewrite(self) -> None:
        self.file.rewrite(list(self.there.values()))

    @precondition(lambda self: not self.file.being_rewritten)
    @rule()
    def begin_anew(self) -> None:
        # Each lease as it is when it is its turn, and none that has ended by then.
        places = list(self.there)
        self.file.begin_anew(self.there[place] for place in places if place in self.there)

    @rule()
    def write_slice(self) -> None:
        self.file.write_slice()

    @rule()
    def restart(self) -> None:
        self.file.close()
        self.file = LeaseFile(self.path, BOOT)
        self.file.rewrite(self.file.recover().leases)

    @rule(length=st.integers(1, 30))
    def kill_in_a_write(self, length: int) -> None:
        self.file.close()
        with self.path.open("ab") as file:
            file.write(leasefile._line([lease("never")])[:length])
        self.file = LeaseFile(self.path, BOOT)
        self.file.rewrite(self.file.recover().leases)

    @precondition(lambda self: self.there)
    @rule()
    def reboot(self) -> None:
        assert recovered(self.path, "next-boot") == []

    @invariant()
    def same(self) -> None:
        assert same(recovered(self.path), list(self.there.values()))

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()


FileAgainstDictionary.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestFileAgainstDictionary = FileAgainstDictionary.TestCase
