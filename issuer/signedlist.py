"""The signed license list of one serial, made from the register."""

from __future__ import annotations

import datetime
import hashlib

import msgspec

from featurekeyd.policy.licenselist import KIND, MAX_KEYS, Entry, LicenseList, list_body, read_list

from .order import key_of
from .refusal import Refused
from .register import LicenseRow, ListRow, Register
from .vendor import Vendor


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A license list, its signed text, and how many keys of an earlier catalog are not on it."""

    licenses: LicenseList
    text: str
    left_out: int


def make_list(serial: str, vendor: Vendor, register: Register, today: datetime.date) -> Listed:
    """The next list of a serial, recorded: its number is one more than that of the list before; raises Refused."""
    _ = vendor.signer  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        return list_within(serial, vendor, register, today)


def list_within(serial: str, vendor: Vendor, register: Register, today: datetime.date) -> Listed:
    """The same inside an act that has begun.

    A retired serial gets its list as well: all on it is revoked, so it grants nothing, and it is what takes the
    licenses from a host where the old Feature Key turns up again.
    """
    catalog, rows = register.catalog_of(serial), register.licenses(serial)
    mine = [row for row in rows if row.catalog == catalog]
    if len(mine) > MAX_KEYS:
        raise Refused(f"{serial} has {len(mine)} keys, and a list takes {MAX_KEYS}.")
    licenses = LicenseList(
        serial=serial,
        catalog=catalog,
        number=register.next_list_number(serial),
        date=today,
        entries=tuple(_entry(row) for row in mine),
        trials=_trials(serial, catalog, register),
    )
    text = vendor.seal(KIND, list_body(licenses))
    # What a host could not read must not be given out.
    read_list(text, {vendor.signer: vendor.public_key})
    register.record_list(
        ListRow(
            serial=serial,
            number=licenses.number,
            catalog=catalog,
            signer=vendor.signer,
            digest=hashlib.sha256(text.encode()).hexdigest(),
            day=today,
        )
    )
    return Listed(licenses=licenses, text=text, left_out=len(rows) - len(mine))


def _trials(serial: str, catalog: str, register: Register) -> dict[int, datetime.date]:
    """The newest issue day of a trial by feature code; those of a serial that this one replaced count too."""
    newest: dict[int, datetime.date] = {}
    for row in register.trials(serial):
        if row.catalog == catalog:
            newest[row.feature_code] = max(row.issued, newest.get(row.feature_code, row.issued))
    return newest


def _entry(row: LicenseRow) -> Entry:
    return Entry(key_of(row), row.title, row.revoked is not None, row.license_set)
