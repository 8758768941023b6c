"""The signed license list of one serial, made from the register."""

from __future__ import annotations

import datetime
import hashlib

import msgspec

from featurekeyd.policy.findings import Finding
from featurekeyd.policy.licensekey import Term, read_key
from featurekeyd.policy.licenselist import KIND, MAX_KEYS, Entry, LicenseList, list_body, read_list

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
    signer = vendor.signer  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        catalog = register.catalog_of(serial)
        rows = register.licenses(serial)
        licenses = _list(serial, catalog, register.next_list_number(serial), rows, today)
        body = list_body(licenses)
        text = vendor.seal(KIND, body)
        # What a host could not read must not be given out.
        read_list(text, {signer: vendor.public_key})
        register.record_list(
            ListRow(
                serial=serial,
                number=licenses.number,
                catalog=catalog,
                signer=signer,
                digest=hashlib.sha256(text.encode()).hexdigest(),
                day=today,
            )
        )
    return Listed(licenses=licenses, text=text, left_out=len(rows) - len(licenses.entries))


def _list(serial: str, catalog: str, number: int, rows: list[LicenseRow], today: datetime.date) -> LicenseList:
    mine = [row for row in rows if row.catalog == catalog]
    if len(mine) > MAX_KEYS:
        raise Refused(f"{serial} has {len(mine)} keys, and a list takes {MAX_KEYS}.")
    trials: dict[int, datetime.date] = {}
    for row in mine:
        if row.term is Term.TRIAL:
            trials[row.feature_code] = max(row.issued, trials.get(row.feature_code, row.issued))
    return LicenseList(
        serial=serial,
        catalog=catalog,
        number=number,
        date=today,
        entries=tuple(_entry(row) for row in mine),
        trials=trials,
    )


def _entry(row: LicenseRow) -> Entry:
    key = read_key(row.key)
    assert not isinstance(key, Finding)  # the register holds what make_key made
    return Entry(key, row.title, row.revoked is not None)
