"""The lease file: every change to the live leases, appended before the answer that tells of it is sent.

One line for the changes of one turn: CRC-32 in 8 hexadecimal digits, a blank, and a JSON list: leases, holder and key
of those that are no more, and what is known of the holders. The first line names the boot of the host: leases of an
earlier boot are gone, as their calls are.

The file lives in the runtime directory, on tmpfs: it survives the daemon and dies with the host; so it is written
through and never synced to a disk. Leases that outlive the host are in the state file besides, which may lag behind.

Reading leaves out a last line without its end, which a write cut short by a kill leaves and nobody was told of. A bad
line before it is damage: it is passed over and told, and the file is set aside. A file that can be written no more is
put away as stale, so that a later run knows that more happened than it says.

When the file has grown to several times what it says, it is written anew, a slice at a time beside the decisions.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from featurekeyd.policy.holders import Known
from featurekeyd.policy.ledger import Change, Dropped, Lease, Ledger

SLACK_RECORDS = 4096
"""Records beyond twice the leases before the file is written anew: about 1 MB."""

SLICE_RECORDS = 128
"""Records of a new file written in one turn, some 50 microseconds: it is done long before the old one doubles."""

_ENCODER = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(list[Change]).decode


class _Head(msgspec.Struct, frozen=True):
    """The first line."""

    boot: str


_decode_head = msgspec.json.Decoder(_Head).decode


class Recovered(msgspec.Struct, frozen=True):
    """What an earlier run left: its leases and holders, and what was wrong with the file, if anything."""

    leases: list[Lease]
    holders: tuple[Known, ...] = ()
    damage: str = ""
    """Why a part of what happened is missing; the file is then kept beside the new one."""
    whole: bool = False
    """Whether these are all leases there were: the file is of this boot, undamaged, and was written to the end."""


class LeaseFile:
    """Appends changes, and writes itself anew."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.path = path
        self.stale = path.with_suffix(".stale")
        self._boot_id = boot_id
        self._descriptor: int | None = None
        self._records = 0
        self._fresh: _Fresh | None = None

    def recover(self) -> Recovered:
        """The leases of the file; damage is told, kept aside under `.damaged`, and never raises."""
        try:
            return self._recover()
        except OSError as error:
            return Recovered([], damage=f"the lease file cannot be read: {error.strerror}")

    def _recover(self) -> Recovered:
        data = _bytes_of(self.path)
        recovered = _replay(_bytes_of(self.stale) if data is None else data, self._boot_id)
        if recovered.damage:
            self._set_aside()
        elif recovered.whole and data is None:
            recovered = _not_whole(recovered, "recording had stopped")
        elif recovered.whole and not os.access(self.path.parent, os.W_OK):
            recovered = _not_whole(recovered, "its directory cannot be written, so recording may have stopped")
        return recovered

    def rewrite(self, records: Sequence[Change]) -> None:
        """Begin the file anew with these records, all at once; raises OSError and leaves the old file as it was."""
        self.begin_anew(records)
        while self._fresh is not None:
            self.write_slice()

    def begin_anew(self, records: Iterable[Change]) -> None:
        """Begin a new file beside the old one; `write_slice` writes what `records` gives, when it is its turn.

        What changes meanwhile is appended to both; so `records` has to give each lease as it is then. Raises OSError.
        """
        self._give_up_fresh()
        self._fresh = _Fresh(self.path.with_suffix(".new"), self._boot_id, iter(records))

    def write_slice(self) -> None:
        """Write the next records of the new file, and let it take the old one's place once all are written.

        Raises OSError; the old file is as it was then, and nothing is left of the new one.
        """
        fresh = self._fresh
        if fresh is None:
            return
        try:
            if fresh.write_slice():
                return
            fresh.path.replace(self.path)
        except OSError:
            self._give_up_fresh()
            raise
        self._fresh = None
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._records = fresh.descriptor, fresh.records
        with contextlib.suppress(OSError):
            self.stale.unlink()

    @property
    def being_rewritten(self) -> bool:
        """Whether a new file has been begun and is not whole yet."""
        return self._fresh is not None

    def append(self, changes: Sequence[Change]) -> None:
        """Record the changes with one write; raises OSError when they could not be recorded whole."""
        if self._descriptor is None:
            raise OSError("the lease file is not open")
        line = _line(changes)
        _write_all(self._descriptor, line)
        self._records += len(changes)
        if self._fresh is not None:
            self._append_to_fresh(self._fresh, line, len(changes))

    def overgrown(self, leases: int) -> bool:
        """Whether the file says much more than that many leases need, and is not being written anew."""
        return self._records > 2 * leases + SLACK_RECORDS and self._fresh is None

    def put_away(self) -> None:
        """Let go of a file that can be written no more, under a name that says so."""
        self.close()
        with contextlib.suppress(OSError):  # a read-only directory; a later run sees that by itself
            self.path.replace(self.stale)

    def close(self) -> None:
        """Let go of the file; calling it twice is harmless."""
        self._give_up_fresh()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append_to_fresh(self, fresh: _Fresh, line: bytes, records: int) -> None:
        try:
            _write_all(fresh.descriptor, line)
            fresh.records += records
        except OSError:
            self._give_up_fresh()  # the old file has the changes, and goes on

    def _give_up_fresh(self) -> None:
        if self._fresh is not None:
            self._fresh.give_up()
            self._fresh = None

    def _set_aside(self) -> None:
        with contextlib.suppress(OSError):  # a read-only directory; the damage is told all the same
            self.path.replace(self.path.with_suffix(".damaged"))


class _Fresh:
    """A new file that is not whole yet."""

    def __init__(self, path: Path, boot_id: str, records: Iterator[Change]) -> None:
        self.path = path
        self.records = 0
        self._left = records
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self.descriptor, _line(_Head(boot_id)))
        except OSError:
            self.give_up()
            raise

    def write_slice(self) -> bool:
        """Write the next records; False when there were none left. Raises OSError."""
        part = list(islice(self._left, SLICE_RECORDS))
        if part:
            _write_all(self.descriptor, _line(part))
            self.records += len(part)
        return bool(part)

    def give_up(self) -> None:
        os.close(self.descriptor)
        with contextlib.suppress(OSError):  # what was begun takes the room that is short
            self.path.unlink()


def with_stored(recovered: Recovered, stored: list[Lease], boot: float) -> list[Lease]:
    """The leases to begin with: those of a whole file, else the stored ones for what is configured and its others.

    What a file that is not whole does not know, as after a reboot, counts as granted just now.
    """
    if recovered.whole:
        return recovered.leases
    granted = {(lease.holder, lease.key): lease.granted for lease in recovered.leases}
    live = [lease for lease in recovered.leases if not lease.outlives_reboot]
    return live + [
        msgspec.structs.replace(lease, granted=granted.get((lease.holder, lease.key), boot)) for lease in stored
    ]


def forget_others(ledger: Ledger, stored: list[Lease]) -> None:
    """Note the stored leases that are no more, so that the state file forgets them: they ended before they could be."""
    for lease in stored:
        if ledger.find(lease.holder, lease.key) is None:
            ledger.configured[lease.holder, lease.key] = None


def _line(what: object) -> bytes:
    body = _ENCODER.encode(what)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _not_whole(recovered: Recovered, damage: str) -> Recovered:
    return msgspec.structs.replace(recovered, damage=damage, whole=False)


def _replay(data: bytes | None, boot_id: str) -> Recovered:
    lines = (data or b"").split(b"\n")
    lines.pop()  # empty, or cut short by a kill before anybody was told of it
    if not lines:
        return Recovered([], damage="" if data is None else "it has no whole line, not even the first")
    head = _checked(lines[0])
    try:
        boot = _decode_head(head).boot if head is not None else None
    except msgspec.MsgspecError:
        boot = None
    if boot is None:
        return Recovered([], damage="its first line, which names the boot, is damaged")
    return _replay_changes(lines[1:]) if boot == boot_id else Recovered([])


def _replay_changes(lines: list[bytes]) -> Recovered:
    leases: dict[tuple[str, str], Lease] = {}
    holders: dict[str, Known] = {}
    damaged: list[int] = []
    for number, line in enumerate(lines, 2):
        records = _records(line)
        if records is None:
            damaged.append(number)
            continue
        for record in records:
            _replay_record(record, leases, holders)
    damage = f"{len(damaged)} of {len(lines) + 1} lines, the first of them line {damaged[0]}" if damaged else ""
    return Recovered(list(leases.values()), tuple(holders.values()), damage, whole=not damaged)


def _replay_record(record: Change, leases: dict[tuple[str, str], Lease], holders: dict[str, Known]) -> None:
    if isinstance(record, Lease):
        leases[record.holder, record.key] = record
    elif isinstance(record, Dropped):
        leases.pop((record.holder, record.key), None)
    elif record.gone:
        holders.pop(record.name, None)
    else:
        holders[record.name] = record


def _records(line: bytes) -> list[Change] | None:
    body = _checked(line)
    try:
        return None if body is None else _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _checked(line: bytes) -> bytes | None:
    """The body of a line whose sum is right."""
    checksum, _, body = line.partition(b" ")
    return body if checksum == b"%08x" % zlib.crc32(body) else None
