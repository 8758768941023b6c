"""The seal of the state: a digest over what must only advance, so that editing it and rolling it back are noticed.

Sealed are the drained meters, the marks and trials of each serial, the facts (the mark of the clock, rescues, checks,
the enrolled host) and the head of the audit, with a number that advances by one with each change. The key is
derived from the machine id, which is not in the file.

What it stops, and what not (README says the same of the whole):

* An edit with a database tool is noticed at the next start, and so is a file of another host or of its backup.
* A file put back, taken away or damaged under a running boot, also while the daemon is stopped, gives nothing back: the
  runtime directory remembers the number, and what was drained, marked and told, until the next reboot.
* Root can read the machine id and this source, and reckon the seal anew. An earlier copy put back across a reboot has a
  good seal. Both are left to the vendor: the request for a check carries the number and the digest, which go back then.
* A mismatch is told and recorded, and stops nothing at once: a disk that was moved into a new host, or a machine id
  that was made anew, look the same. What is drained stays drained as it stands in the file. Checks fail from then on,
  through restarts too, until the vendor has answered a request that tells of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import sqlite3
from pathlib import Path

import msgspec

from featurekeyd.policy.encoding import length_prefixed
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.request_text import Head

from .facts import Facts

_KEY_LABEL = b"featurekeyd state seal 1"

_SEALED = (
    "SELECT cause, drained FROM meter ORDER BY cause",
    "SELECT serial, list_number, listed, certified FROM mark ORDER BY serial",
    "SELECT serial, code, issued FROM trial ORDER BY serial, code",
    "SELECT name, value FROM fact ORDER BY name",
    "SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1",
)


def seal_key(machine_id: str) -> bytes:
    """The key of this machine's seals; its id itself must never be shown (machine-id(5))."""
    return hmac.digest(machine_id.strip().encode(), _KEY_LABEL, "sha256")


def sealed(connection: sqlite3.Connection, key: bytes, behind: int = 0) -> Head:
    """Seal what the file holds now, within the transaction that changed it; raises sqlite3.Error.

    The number is behind that of the seal before, and `behind` that one too.
    """
    before = stored_seal(connection)
    number = max(before.number if before else 0, behind) + 1
    head = Head(number, _digest(connection, key, number))
    connection.execute("INSERT OR REPLACE INTO seal VALUES (1, ?, ?)", (head.number, head.digest))
    return head


def stored_seal(connection: sqlite3.Connection) -> Head | None:
    """The seal in the file, None where it has none; raises sqlite3.Error."""
    row = connection.execute("SELECT number, digest FROM seal").fetchone()
    return Head(*row) if row else None


def find_tampering(connection: sqlite3.Connection, key: bytes, remembered: Head | None) -> str | None:
    """What shows that somebody else has changed the state, None where nothing does; raises sqlite3.Error.

    `remembered` is the seal that this boot of the host has seen last.
    """
    seal = stored_seal(connection)
    if seal is None:
        return "the seal is missing"
    if not hmac.compare_digest(seal.digest, _digest(connection, key, seal.number)):
        return "it was edited, or comes from another host"
    if remembered is not None and seal.number < remembered.number:
        return f"it is an earlier one: change {seal.number}, and this boot has seen change {remembered.number}"
    if remembered is not None and seal.number == remembered.number and seal != remembered:
        return f"it is another one than this boot has seen at change {seal.number}"
    return None


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What this boot remembers beside the state file, so that a file that is damaged or put back gives nothing back."""

    head: Head
    """The last seal that this boot has seen."""
    drained: dict[str, float] = {}
    marks: dict[str, Mark] = {}
    facts: Facts = Facts()


_read_remembered = msgspec.json.Decoder(Remembered).decode


class BootMemory:
    """A file in the runtime directory that remembers what the state file was sealed with last in this boot.

    The first line is the boot id, the second what is remembered, as JSON.
    """

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def recall(self) -> Remembered | None:
        """What this boot has seen last, None where it has seen nothing."""
        try:
            boot_id, _, remembered = self._path.read_bytes().partition(b"\n")
            return _read_remembered(remembered) if boot_id == self._boot_id.encode() else None
        except (OSError, ValueError, msgspec.MsgspecError):
            return None

    def remember(self, remembered: Remembered) -> None:
        """Remember this; what cannot be written leaves an earlier one there, which accuses nobody."""
        beside = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            beside.touch(mode=0o600)
            beside.write_bytes(self._boot_id.encode() + b"\n" + msgspec.json.encode(remembered))
            beside.replace(self._path)


def _digest(connection: sqlite3.Connection, key: bytes, number: int) -> str:
    whole = hashlib.sha256()
    for table, rows in enumerate(_SEALED):
        for row in connection.execute(rows):
            whole.update(length_prefixed(str(table).encode(), *(repr(value).encode() for value in row)))
    return hmac.new(key, length_prefixed(str(number).encode(), whole.digest()), "sha256").hexdigest()
