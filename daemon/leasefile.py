"""The lease file: every change to the live leases, appended before the answer that tells of it is sent.

One line per change: CRC-32 in 8 hexadecimal digits, a blank, and JSON: a lease, or the holder and key of one that is no
more. The first line names the boot of the host: leases of an earlier boot are gone, as their calls are.

The file lives in the runtime directory, on tmpfs: it survives the daemon and dies with the host; so it is written
through and never synced to a disk. Leases that outlive the host are in the state file besides, which may lag behind.

Reading leaves out a last line without its end, which a write cut short by a kill leaves and nobody was told of. A bad
line before it is damage: it is passed over and told, and the file is set aside. The file is rewritten when it has grown
to several times what it says.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

import msgspec

from featurekeyd.policy.ledger import Change, Dropped, Lease, Ledger

SLACK_RECORDS = 4096
"""Records beyond twice the leases before the file is rewritten: about 1 MB, rewritten in some milliseconds."""

_ENCODER = msgspec.json.Encoder()


class _Record(msgspec.Struct, omit_defaults=True):
    """One line: the boot of the host, a lease, or a place that became empty."""

    boot: str | None = None
    lease: Lease | None = None
    dropped: Dropped | None = None


_decode = msgspec.json.Decoder(_Record).decode


class Recovered(msgspec.Struct, frozen=True):
    """What an earlier run left: its leases, and what was wrong with the file, if anything."""

    leases: list[Lease]
    damage: str = ""
    """Why a part of the file could not be used; the file is then kept beside the new one."""
    whole: bool = False
    """Whether these are all leases there were: the file is of this boot, and nothing of it is damaged."""


class LeaseFile:
    """Appends changes, and knows when to rewrite itself."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.path = path
        self._boot_id = boot_id
        self._descriptor: int | None = None
        self._records = 0

    def recover(self) -> Recovered:
        """The leases of the file; damage is told, kept aside under `.damaged`, and never raises."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Recovered([])
        except OSError as error:
            return Recovered([], f"the lease file cannot be read: {error.strerror}")
        recovered = _replay(data, self._boot_id)
        if recovered.damage:
            self._set_aside()
        return recovered

    def rewrite(self, leases: list[Lease]) -> None:
        """Begin the file anew with these leases; raises OSError and leaves the old file as it was."""
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            head = _line(_Record(boot=self._boot_id))
            _write_all(descriptor, head + b"".join(_line(_Record(lease=lease)) for lease in leases))
            fresh.replace(self.path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):  # what was begun takes the room that is short
                fresh.unlink()
            raise
        self.close()
        self._descriptor = descriptor
        self._records = len(leases)

    def append(self, changes: list[Change]) -> None:
        """Record the changes with one write; raises OSError when they could not be recorded whole."""
        if self._descriptor is None:
            raise OSError("the lease file is not open")
        _write_all(self._descriptor, b"".join([_line(_recorded(change)) for change in changes]))
        self._records += len(changes)

    def overgrown(self, leases: int) -> bool:
        """Whether the file says much more than that many leases need."""
        return self._records > 2 * leases + SLACK_RECORDS

    def close(self) -> None:
        """Let go of the file; calling it twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _set_aside(self) -> None:
        try:
            self.path.replace(self.path.with_suffix(".damaged"))
        except OSError:
            return  # a read-only directory; the damage is told all the same


def with_stored(recovered: Recovered, stored: list[Lease], boot: float) -> list[Lease]:
    """The leases to begin with: those of the file, and of the stored ones those that a whole file would have had.

    After a reboot, which the file does not outlive, the stored ones count as granted just now.
    """
    if recovered.whole:
        return recovered.leases
    known = {(lease.holder, lease.key) for lease in recovered.leases}
    others = [lease for lease in stored if (lease.holder, lease.key) not in known]
    return recovered.leases + [msgspec.structs.replace(lease, granted=boot) for lease in others]


def forget_others(ledger: Ledger, stored: list[Lease]) -> None:
    """Note the stored leases that are no more, so that the state file forgets them: they ended before they could be."""
    for lease in stored:
        if ledger.find(lease.holder, lease.key) is None:
            ledger.configured[lease.holder, lease.key] = None


def _recorded(change: Change) -> _Record:
    return _Record(lease=change) if isinstance(change, Lease) else _Record(dropped=change)


def _line(record: _Record) -> bytes:
    body = _ENCODER.encode(record)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _replay(data: bytes, boot_id: str) -> Recovered:
    lines = data.split(b"\n")
    lines.pop()  # empty, or cut short by a kill before anybody was told of it
    head = _record(lines[0]) if lines else None
    if head is None or head.boot is None:
        return Recovered([], "its first line, which names the boot, is damaged" if lines else "")
    if head.boot != boot_id:
        return Recovered([])
    leases: dict[tuple[str, str], Lease] = {}
    damaged: list[int] = []
    for number, line in enumerate(lines[1:], 2):
        record = _record(line)
        if record is None:
            damaged.append(number)
        elif record.lease is not None:
            leases[record.lease.holder, record.lease.key] = record.lease
        elif record.dropped is not None:
            leases.pop((record.dropped.holder, record.dropped.key), None)
    if not damaged:
        return Recovered(list(leases.values()), whole=True)
    return Recovered(
        list(leases.values()), f"{len(damaged)} of {len(lines)} lines, the first of them line {damaged[0]}"
    )


def _record(line: bytes) -> _Record | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return None
