"""The state that outlives a reboot, in one SQLite file: what was brought, taken, drained, recorded and measured.

Documents are stored as they came, signature and all, and verified again when they are read: what is in the file is not
believed because it is in the file. Every method may wait for the disk and is called from the storing thread only, but
for those that load, which the daemon calls once before it serves anybody. What must only advance is sealed anew with
each change of it (`seal`).
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from featurekeyd.policy.audit import Act, Entry
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.reservations import Reservation, Reservations
from featurekeyd.policy.usage_history import Minute

from .audit import append_acts, audit_head, head_at, load_audit, replace_audit
from .facts import Facts, load_facts, save_facts
from .history import Page, Wanted, load_page, save_minutes
from .plausible import find_implausible
from .schema import SCHEMA_VERSION, StateDamaged, StateRefused, check_whole, open_state, transaction, unusable
from .seal import BootMemory, Remembered, find_tampering, seal_key, sealed, stored_seal

__all__ = ["SCHEMA_VERSION", "Documents", "Kept", "StateDamaged", "StateRefused", "Store"]

_Loaded = TypeVar("_Loaded")

_UNSEALED = Head(0, "0" * 64)


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought to this system: signed texts as they came, and keys as text."""

    certificate: str | None = None
    license_list: str | None = None
    typed: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()
    marks: dict[str, Mark] = {}
    """How far the documents of each serial have come."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backup is made of: everything but the leases, which stand for what is there now."""

    documents: Documents = Documents()
    drained: dict[str, float] = {}
    """Drained seconds of each meter by its cause."""
    reservations: tuple[Reservation, ...] = ()
    facts: Facts = Facts()
    audit: tuple[Entry, ...] = ()


_SAVE_METER = "INSERT OR REPLACE INTO meter VALUES (?, ?)"

_decode_lease = msgspec.json.Decoder(Lease).decode


class Store:
    """The state file; `machine_id` is what the seal's key is made of, `memory` what this boot remembers of it."""

    def __init__(self, path: Path, *, machine_id: str = "", memory: BootMemory | None = None) -> None:
        self.path = path
        self._key = seal_key(machine_id)
        self._memory = memory
        self._connection = open_state(path, self._seal)
        try:
            with self._readable():
                self.audit_head = audit_head(self._connection)
                """The last entry of the audit, as this run has recorded or found it."""
                self.state_head = stored_seal(self._connection) or _UNSEALED
                """The seal of the state, as this run has made or found it."""
        except StateRefused:
            self._connection.close()
            raise

    def check(self) -> str | None:
        """Look the whole file through; what shows that somebody else changed it. Raises StateRefused."""
        check_whole(self._connection, self.path)
        remembered = None if self._memory is None else self._memory.recall()
        with self._readable():
            return find_tampering(self._connection, self._key, remembered.head if remembered else None)

    def load(self) -> tuple[Documents, dict[str, float]]:
        """The documents, and the drained seconds of each meter by its cause; raises StateRefused."""
        with self._readable():
            return self._load()

    def _load(self) -> tuple[Documents, dict[str, float]]:
        texts = dict(self._connection.execute("SELECT kind, text FROM document"))
        documents = Documents(
            certificate=texts.get("certificate"),
            license_list=texts.get("license_list"),
            typed=tuple(row[0] for row in self._connection.execute("SELECT key FROM typed_key ORDER BY place")),
            removed=frozenset(row[0] for row in self._connection.execute("SELECT key FROM removed_key")),
            marks=self._load_marks(),
        )
        return documents, dict(self._connection.execute("SELECT cause, drained FROM meter"))

    def _load_marks(self) -> dict[str, Mark]:
        trials: dict[str, dict[int, datetime.date]] = {}
        for serial, code, issued in self._connection.execute("SELECT serial, code, issued FROM trial"):
            trials.setdefault(serial, {})[code] = _date(issued)
        rows = self._connection.execute("SELECT serial, list_number, listed, certified FROM mark")
        return {row[0]: Mark(row[1], _date(row[2]), _date(row[3]), trials.get(row[0], {})) for row in rows}

    def save_documents(self, documents: Documents) -> None:
        """Keep these documents instead of those before, in one transaction; raises sqlite3.Error."""
        with self._transaction(seal=True) as connection:
            _replace_documents(connection, documents)

    def load_reservations(self) -> tuple[Reservations, list[str]]:
        """The reservations, in the order of their making, and what is wrong with rows; raises StateRefused."""
        rows = "SELECT feature, key, holder, instances FROM reservation ORDER BY place"
        names = ("feature", "key", "holder", "instances")
        found, damaged = self._load_each(
            rows, lambda row: msgspec.convert(dict(zip(names, row, strict=True)), Reservation)
        )
        return Reservations(found), [f"a reservation is damaged and left out: {it}" for it in damaged]

    def save_reservations(self, reservations: Reservations) -> None:
        """Keep these reservations instead of those before, in one transaction; raises sqlite3.Error."""
        with self._transaction(seal=False) as connection:
            _replace_reservations(connection, reservations)

    def load_leases(self) -> tuple[list[Lease], list[str]]:
        """The leases that outlive a reboot, and what is wrong with rows that hold none; raises StateRefused."""
        found, damaged = self._load_each("SELECT lease FROM configuration_lease", lambda row: _decode_lease(row[0]))
        return found, [f"a lease is damaged and left out; the next Sync mends it: {it}" for it in damaged]

    def _load_each(self, rows: str, load: Callable[[tuple[Any, ...]], _Loaded]) -> tuple[list[_Loaded], list[str]]:
        """What each row holds, and why some hold nothing: one that is damaged takes nothing from the others."""
        found, damaged = [], []
        with self._readable():
            for row in self._connection.execute(rows):
                try:
                    found.append(load(row))
                except (msgspec.MsgspecError, ValueError) as error:
                    damaged.append(str(error))
        return found, damaged

    def save_leases(self, changed: Mapping[tuple[str, str], Lease | None]) -> None:
        """Keep these leases by holder and key, forget those that are None, in one transaction; raises sqlite3.Error."""
        kept = [(*place, msgspec.json.encode(lease).decode()) for place, lease in changed.items() if lease is not None]
        gone = [place for place, lease in changed.items() if lease is None]
        with self._transaction(seal=False) as connection:
            connection.executemany("DELETE FROM configuration_lease WHERE holder = ? AND key = ?", gone)
            connection.executemany("INSERT OR REPLACE INTO configuration_lease VALUES (?, ?, ?)", kept)

    def save_meters(self, drained: dict[str, float]) -> None:
        """Keep the drained seconds of each meter; raises sqlite3.Error."""
        with self._transaction(seal=True) as connection:
            connection.executemany(_SAVE_METER, drained.items())

    def load_facts(self) -> tuple[Facts, list[str]]:
        """The facts, and what is wrong with rows that hold none; raises StateRefused."""
        with self._readable():
            return load_facts(self._connection)

    def save_facts(self, facts: Facts) -> None:
        """Keep these facts instead of those before, in one transaction; raises sqlite3.Error."""
        with self._transaction(seal=True) as connection:
            save_facts(connection, facts)

    def load_audit(self, after: int = 0) -> list[Entry]:
        """The entries of the audit after that number; raises sqlite3.Error."""
        return load_audit(self._connection, after)

    def audit_at(self, number: int) -> Head | None:
        """The entry of that number as it is now, None where there is none any more; raises sqlite3.Error."""
        return head_at(self._connection, number)

    def append_acts(self, acts: Sequence[Act]) -> None:
        """Record the acts in the audit, in one transaction; raises sqlite3.Error."""
        with self._transaction(seal=True) as connection:
            head = append_acts(connection, acts)
        self.audit_head = head

    def save_minutes(self, minutes: Sequence[Minute]) -> None:
        """Add these minutes to the history, in one transaction; raises sqlite3.Error."""
        with self._transaction(seal=False) as connection:
            save_minutes(connection, minutes)

    def load_history(self, wanted: Wanted) -> Page:
        """One page of the history; raises sqlite3.Error."""
        return load_page(self._connection, wanted)

    def load_kept(self) -> Kept:
        """All that a backup is made of, as it is at one moment; raises sqlite3.Error and StateRefused."""
        with transaction(self._connection):
            documents, drained = self._load()
            reservations, facts = self.load_reservations()[0], self.load_facts()[0]
            audit = tuple(self.load_audit())
        return Kept(documents=documents, drained=drained, reservations=tuple(reservations), facts=facts, audit=audit)

    def save_kept(self, kept: Kept, wall: int, behind: int = 0) -> None:
        """Keep all of this instead of what was before, in one transaction; raises sqlite3.Error.

        The number of its seal is behind that of the file, and `behind` that one too.
        """
        with self._transaction(seal=True, behind=behind) as connection:
            _replace_documents(connection, kept.documents)
            _replace_reservations(connection, kept.reservations)
            connection.executemany(_SAVE_METER, kept.drained.items())
            save_facts(connection, kept.facts)
            replace_audit(connection, kept.audit, wall)
            head = audit_head(connection)
        self.audit_head = head

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Say of an error of the database what it means for the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise unusable(self.path, error) from error

    @contextlib.contextmanager
    def _transaction(self, *, seal: bool, behind: int = 0) -> Iterator[sqlite3.Connection]:
        """A change of the file; `seal` where it changes what the seal covers."""
        head = None
        with transaction(self._connection):
            yield self._connection
            if seal:
                head = sealed(self._connection, self._key, behind)
        if head is not None:
            self.state_head = head
            if self._memory is not None:
                with contextlib.suppress(StateRefused):  # it is stored all the same
                    self._memory.remember(self._to_remember(head))

    def _to_remember(self, head: Head) -> Remembered:
        documents, drained = self.load()
        return Remembered(head=head, drained=drained, marks=documents.marks, facts=self.load_facts()[0])

    def _seal(self, connection: sqlite3.Connection) -> Head:
        return sealed(connection, self._key)


def _replace_documents(connection: sqlite3.Connection, documents: Documents) -> None:
    texts = {"certificate": documents.certificate, "license_list": documents.license_list}
    marks = [(serial, it.list_number, str(it.listed), str(it.certified)) for serial, it in documents.marks.items()]
    trials = [
        (serial, code, str(issued)) for serial, it in documents.marks.items() for code, issued in it.trials.items()
    ]
    for table in ("document", "typed_key", "removed_key", "mark", "trial"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - five names of our own
    present = [(kind, text) for kind, text in texts.items() if text is not None]
    connection.executemany("INSERT INTO document VALUES (?, ?)", present)
    connection.executemany("INSERT INTO typed_key (key) VALUES (?)", [(key,) for key in documents.typed])
    connection.executemany("INSERT INTO removed_key VALUES (?)", [(key,) for key in documents.removed])
    connection.executemany("INSERT INTO mark VALUES (?, ?, ?, ?)", marks)
    connection.executemany("INSERT INTO trial VALUES (?, ?, ?)", trials)


def _replace_reservations(connection: sqlite3.Connection, reservations: Iterable[Reservation]) -> None:
    rows = [(it.feature, it.key, it.holder, it.instances) for it in reservations]
    connection.execute("DELETE FROM reservation")
    connection.executemany("INSERT INTO reservation (feature, key, holder, instances) VALUES (?, ?, ?, ?)", rows)


def _date(text: str) -> datetime.date:
    try:
        date = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a date is damaged: {error}") from None
    implausible = find_implausible(date)
    if implausible is not None:
        raise sqlite3.DatabaseError(f"a date is damaged: {implausible}")
    return date
