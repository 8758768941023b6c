"""The issuer register: which systems, keys, revocations, lists, exchanges, rescues, checks and permits there are.

Rules of this module:

* Append-only: there is no method that changes a row, and the tables refuse it (see `registerschema`).
* Source: DESIGN, Issuer register.
* One act is one transaction that takes the write lock at its begin. Two issuers at once wait for each other, so numbers
  that an act reads and then uses up are given once.
* The journal is a rollback journal with full synchronization: what was given out is on the disk.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from featurekeyd.policy.licensekey import Term

from .refusal import Refused
from .registerschema import APPLICATION_ID, VERSION, create_schema, upgrade_schema

WAIT_SECONDS = 30.0
"""How long an act waits for another issuer: an act takes milliseconds, so 30 s mean that one hangs."""

SERIAL_NUMBERS = 10**10
"""Numbers behind the two type digits of a serial."""

T = TypeVar("T")


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A Feature Key and the serial it was given."""

    serial: str
    kind: str
    hardware_id: str
    simulated: bool
    day: datetime.date


class CertificateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was given out."""

    serial: str
    catalog: str
    signer: str
    digest: str
    """SHA-256 of its text."""
    day: datetime.date
    rescue_anchor: str | None = None
    """The end of its chain of rescue codes, None in rows of registers before version 3."""
    rescue_days: int | None = None


class ListRow(msgspec.Struct, frozen=True, kw_only=True):
    """A license list that was given out."""

    serial: str
    number: int
    catalog: str
    signer: str
    digest: str
    """SHA-256 of its text."""
    day: datetime.date


class LicenseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A license key that was given out; `id` is 0 and `revoked` None before it is recorded."""

    id: int = 0
    serial: str
    catalog: str
    feature: str
    feature_code: int
    title: str
    instances: int
    issued: datetime.date
    term: Term
    sequence: int
    key: str
    day: datetime.date
    license_set: str | None = None
    """The set of the catalog that it was ordered with."""
    revoked: datetime.date | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A Feature Key whose licenses went over to its replacement; the old serial is retired."""

    old_serial: str
    new_serial: str
    day: datetime.date


class RescueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rescue code that was given out; the code itself is not kept."""

    serial: str
    code_day: datetime.date
    """The day it is of."""
    certified: datetime.date
    """The day of the certificate it goes with."""
    issuer: str
    """Who gave it out."""
    reason: str
    time: datetime.datetime
    day: datetime.date


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """A check that was answered, and what the request said; None where it said nothing."""

    serial: str
    number: int
    nonce: str
    checked: datetime.datetime
    until: datetime.datetime
    retired: bool
    rolled_back: bool
    """Whether the host was further before."""
    state_head: str | None
    """None also where the request was answered before: it says nothing new."""
    audit_head: str | None
    emergency_claims: int | None
    catalog_digest: str | None
    list_number: int | None
    enrolled_host: str | None
    signer: str
    digest: str
    """SHA-256 of its text."""
    day: datetime.date


class PermitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A permit that was given out: what of a host may change, and until when."""

    serial: str
    number: int
    may_change: str
    hardware_id: str | None
    """The one host that it is for, None where any may take it."""
    until: datetime.date
    reason: str
    signer: str
    digest: str
    """SHA-256 of its text."""
    day: datetime.date


_LICENSES = (
    "SELECT license_keys.*, revocations.day AS revoked FROM license_keys "
    "LEFT JOIN revocations ON revocations.license_key = license_keys.id "
)


def create_register(path: Path) -> None:
    """Make the tables in an empty file; raises Refused."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            create_schema(connection)
    except sqlite3.Error as error:
        raise Refused(f"The register cannot be made: {error}.") from error


class Register:
    """An opened register, used from one thread; close it when done."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Register:
        """The register in that file; raises Refused for anything that is none."""
        try:
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=WAIT_SECONDS
            )
        except sqlite3.Error as error:
            raise Refused(f"The register {path} cannot be opened: {error}.") from error
        connection.row_factory = sqlite3.Row
        register = cls(connection)
        try:
            register._check(path)
        except Refused:
            connection.close()
            raise
        return register

    def close(self) -> None:
        """Let go of the file; calling it twice is harmless."""
        self._connection.close()

    @contextlib.contextmanager
    def act(self) -> Iterator[None]:
        """One transaction with the write lock from its begin: all of it is recorded, or nothing is."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # What is recorded, each inside an act.

    def enroll(self, *, kind: str, hardware_id: str, simulated: bool, preferred: str, day: datetime.date) -> System:
        """The system of that hardware; a new one gets the preferred serial, or the next one that is free."""
        known = self.find_hardware(kind, hardware_id, simulated=simulated)
        if known is not None:
            return known
        serial = self._free_serial(preferred)
        system = System(serial=serial, kind=kind, hardware_id=hardware_id, simulated=simulated, day=day)
        self._insert("systems", system)
        return system

    def record_programming(self, hardware_id: str, *, simulated: bool, day: datetime.date) -> None:
        """A USB key carries a secret of this vendor."""
        self._add("programmings", {"hardware_id": hardware_id, "simulated": simulated, "day": day})

    def record_certificate(self, certificate: CertificateRow) -> None:
        """A certificate is given out."""
        self._insert("certificates", certificate)

    def record_license(self, license_key: LicenseRow) -> None:
        """A license key is given out."""
        row = msgspec.structs.asdict(license_key)
        self._add("license_keys", {name: value for name, value in row.items() if name not in {"id", "revoked"}})

    def record_revocation(self, license_key: LicenseRow, reason: str, day: datetime.date) -> None:
        """A license key is good no more."""
        self._add("revocations", {"license_key": license_key.id, "reason": reason, "day": day})

    def record_list(self, given: ListRow) -> None:
        """A license list is given out."""
        self._insert("lists", given)

    def record_exchange(self, exchange: Exchange) -> None:
        """A serial is retired; the new one takes its place."""
        self._insert("exchanges", exchange)

    def record_rescue(self, rescue: RescueRow) -> None:
        """A rescue code is given out."""
        self._insert("rescues", rescue)

    def record_check(self, check: CheckRow) -> None:
        """A check is answered."""
        self._insert("checks", check)

    def record_permit(self, permit: PermitRow) -> None:
        """A permit is given out."""
        self._insert("permits", permit)

    # What is looked up.

    def systems(self) -> list[System]:
        """All systems, in the order of their enrollment."""
        return self._rows(System, "SELECT * FROM systems ORDER BY rowid")

    def system(self, serial: str) -> System:
        """The system with that serial; raises Refused."""
        found = self._rows(System, "SELECT * FROM systems WHERE serial = ?", serial)
        if not found:
            raise Refused(f"This register has no serial {serial!r}.", "See: featurekey-issue register")
        return found[0]

    def find_hardware(self, kind: str, hardware_id: str, *, simulated: bool) -> System | None:
        """The system of that hardware."""
        query = "SELECT * FROM systems WHERE kind = ? AND hardware_id = ? AND simulated = ?"
        return next(iter(self._rows(System, query, kind, hardware_id, simulated)), None)

    def was_programmed(self, hardware_id: str, *, simulated: bool) -> bool:
        """Whether a USB key carries a secret of this vendor."""
        query = "SELECT 1 FROM programmings WHERE hardware_id = ? AND simulated = ?"
        return bool(self._execute(query, hardware_id, simulated))

    def certificates(self) -> list[CertificateRow]:
        """All certificates, oldest first."""
        return self._rows(CertificateRow, "SELECT * FROM certificates ORDER BY id")

    def certificates_of(self, serial: str) -> list[CertificateRow]:
        """The certificates of a serial, oldest first, at least one; raises Refused."""
        self.system(serial)
        return self._rows(CertificateRow, "SELECT * FROM certificates WHERE serial = ? ORDER BY id", serial)

    def catalog_of(self, serial: str) -> str:
        """The catalog on the newest certificate of a serial; raises Refused."""
        return self.certificates_of(serial)[-1].catalog

    def licenses(self, serial: str) -> list[LicenseRow]:
        """All license keys of a serial, revoked ones too, oldest first."""
        return self._rows(LicenseRow, f"{_LICENSES} WHERE serial = ? ORDER BY id", serial)

    def find_license(self, key: str) -> LicenseRow | None:
        """The license key that reads so."""
        return next(iter(self._rows(LicenseRow, f"{_LICENSES} WHERE key = ?", key)), None)

    def next_sequence(self, order: LicenseRow) -> int:
        """How many orders equal to this one were recorded."""
        query = (
            "SELECT COALESCE(MAX(sequence) + 1, 0) FROM license_keys WHERE serial = ? AND catalog = ? "
            "AND feature_code = ? AND instances = ? AND issued = ? AND term = ?"
        )
        about = (order.serial, order.catalog, order.feature_code, order.instances, order.issued, order.term)
        return int(self._execute(query, *about)[0][0])

    def exchange_of(self, serial: str) -> Exchange | None:
        """The exchange that retired a serial."""
        return next(iter(self._rows(Exchange, "SELECT * FROM exchanges WHERE old_serial = ?", serial)), None)

    def exchange_to(self, serial: str) -> Exchange | None:
        """The exchange that a serial replaced another by."""
        return next(iter(self._rows(Exchange, "SELECT * FROM exchanges WHERE new_serial = ?", serial)), None)

    def check_current(self, serial: str) -> None:
        """Raise Refused when the serial is not there, or retired by an exchange."""
        self.system(serial)
        exchange = self.exchange_of(serial)
        if exchange is not None:
            why = f"{serial} was exchanged for {exchange.new_serial} on {exchange.day} and gets nothing more."
            raise Refused(why, f"Go on with the Feature Key {exchange.new_serial}.")

    def trials(self, serial: str) -> list[LicenseRow]:
        """All trials of a serial and of those that it has replaced, one after the other; oldest serial last."""
        found: list[LicenseRow] = []
        place: str | None = serial
        while place is not None:
            found += [row for row in self.licenses(place) if row.term is Term.TRIAL]
            exchange = self.exchange_to(place)
            place = exchange.old_serial if exchange else None
        return found

    def lists(self, serial: str) -> list[ListRow]:
        """All license lists of a serial, oldest first."""
        return self._rows(ListRow, "SELECT * FROM lists WHERE serial = ? ORDER BY number", serial)

    def next_list_number(self, serial: str) -> int:
        """One more than the newest list has."""
        return int(self._execute("SELECT COALESCE(MAX(number), 0) + 1 FROM lists WHERE serial = ?", serial)[0][0])

    def rescues(self, serial: str) -> list[RescueRow]:
        """All rescue codes of a serial, oldest first."""
        return self._rows(RescueRow, "SELECT * FROM rescues WHERE serial = ? ORDER BY id", serial)

    def checks(self, serial: str) -> list[CheckRow]:
        """All checks of a serial, oldest first."""
        return self._rows(CheckRow, "SELECT * FROM checks WHERE serial = ? ORDER BY number", serial)

    def last_check(self, serial: str) -> CheckRow | None:
        """The newest check of a serial: an online host has thousands each year."""
        query = "SELECT * FROM checks WHERE serial = ? ORDER BY number DESC LIMIT 1"
        return next(iter(self._rows(CheckRow, query, serial)), None)

    def check_of(self, serial: str, nonce: str) -> CheckRow | None:
        """The first check that answered a nonce."""
        query = "SELECT * FROM checks WHERE serial = ? AND nonce = ? ORDER BY number LIMIT 1"
        return next(iter(self._rows(CheckRow, query, serial, nonce)), None)

    def last_head(self, serial: str, record: Literal["state_head", "audit_head"]) -> str | None:
        """The newest head of that record of a serial's host."""
        query = f"SELECT {record} FROM checks WHERE serial = ? AND {record} IS NOT NULL ORDER BY number DESC LIMIT 1"  # noqa: S608 - names of this module
        rows = self._execute(query, serial)
        return str(rows[0][0]) if rows else None

    def head_seen(self, serial: str, record: Literal["state_head", "audit_head"], digest: str) -> bool:
        """Whether a host of the serial ever had a head with that digest."""
        query = f"SELECT 1 FROM checks WHERE serial = ? AND substr({record}, -64) = ? LIMIT 1"  # noqa: S608 - names of this module
        return bool(self._execute(query, serial, digest))

    def permits(self, serial: str) -> list[PermitRow]:
        """All permits of a serial, oldest first."""
        return self._rows(PermitRow, "SELECT * FROM permits WHERE serial = ? ORDER BY number", serial)

    # Below: SQL.

    def _check(self, path: Path) -> None:
        application = self._execute("PRAGMA application_id")[0][0]
        version = self._execute("PRAGMA user_version")[0][0]
        if application != APPLICATION_ID:
            raise Refused(f"{path} is not a register of featurekey-issue.")
        if not 1 <= version <= VERSION:
            why = f"The register {path} is of version {version}, and this release knows version {VERSION}."
            raise Refused(why, "Update featurekeyd.")
        self._execute("PRAGMA foreign_keys = ON")
        self._execute("PRAGMA synchronous = FULL")
        if version < VERSION:
            self._upgrade(path)

    def _upgrade(self, path: Path) -> None:
        try:
            upgrade_schema(self._connection)
        except sqlite3.Error as error:
            raise Refused(f"The register {path} cannot be upgraded: {error}.", "It is as it was.") from error

    def _free_serial(self, preferred: str) -> str:
        kind, number = preferred[:2], int(preferred[2:])
        while self._execute("SELECT 1 FROM systems WHERE serial = ?", f"{kind}{number:010}"):
            number = (number + 1) % SERIAL_NUMBERS
        return f"{kind}{number:010}"

    def _insert(self, table: str, row: msgspec.Struct) -> None:
        self._add(table, msgspec.structs.asdict(row))

    def _add(self, table: str, row: dict[str, Any]) -> None:
        assert self._connection.in_transaction  # a record outside an act could be half of one
        marks = ", ".join("?" * len(row))
        # Tables and columns are names of this module.
        self._execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())  # noqa: S608

    def _rows(self, type_: type[T], query: str, *values: object) -> list[T]:
        # Not strict: SQLite keeps a flag as 0 or 1.
        return [msgspec.convert(dict(row), type_, strict=False) for row in self._execute(query, *values)]

    def _execute(self, query: str, *values: object) -> list[sqlite3.Row]:
        bound = [value.isoformat() if isinstance(value, datetime.date) else value for value in values]
        try:
            return self._connection.execute(query, bound).fetchall()
        except sqlite3.OperationalError as error:
            raise Refused(f"The register cannot be used: {error}.", "See whether another issuer hangs.") from error
        except sqlite3.DatabaseError as error:
            raise Refused(f"The register refuses: {error}.") from error
