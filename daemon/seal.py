"""The seal of the state: a digest over what must only advance, so that editing it and rolling it back are noticed.

Sealed are the drained meters, the marks and trials of each serial, the facts (the mark of the clock, rescues, checks,
the enrolled host) and the head of the audit, with a number that advances by one with each change. The key is
derived from the machine id, which is not in the file.

What it stops, and what not (README says the same of the whole):

* An edit with a database tool is noticed at the next start, and so is a file of another host or of its backup.
* A file put back under a running boot, also while the daemon is stopped, is noticed: the runtime directory remembers
  the number until the next reboot.
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

from featurekeyd.policy.encoding import length_prefixed
from featurekeyd.policy.request_text import Head, read_head

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


def sealed(connection: sqlite3.Connection, key: bytes) -> Head:
    """Seal what the file holds now, within the transaction that changed it; raises sqlite3.Error."""
    before = stored_seal(connection)
    number = before.number + 1 if before else 1
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


class BootMemory:
    """A file in the runtime directory that remembers the last seal of this boot."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def recall(self) -> Head | None:
        """The last seal that this boot has seen, None where it has seen none."""
        try:
            boot_id, _, head = self._path.read_text(encoding="utf-8").strip().partition("\n")
            return read_head(head) if boot_id == self._boot_id else None
        except (OSError, ValueError):
            return None

    def remember(self, head: Head) -> None:
        """Remember a seal; one that cannot be written leaves an earlier one there, which accuses nobody."""
        beside = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            beside.write_text(f"{self._boot_id}\n{head}\n", encoding="utf-8")
            beside.replace(self._path)

    def forget(self) -> None:
        """Begin anew, as with a new state file."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _digest(connection: sqlite3.Connection, key: bytes, number: int) -> str:
    whole = hashlib.sha256()
    for table, rows in enumerate(_SEALED):
        for row in connection.execute(rows):
            whole.update(length_prefixed(str(table).encode(), *(repr(value).encode() for value in row)))
    return hmac.new(key, length_prefixed(str(number).encode(), whole.digest()), "sha256").hexdigest()
