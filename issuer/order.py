"""Orders: from serial, features and term to license keys; and their revocation."""

from __future__ import annotations

import datetime
import difflib
import re

import msgspec

from featurekeyd.policy.catalog import Catalog, Feature
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.licensekey import (
    EPOCH,
    MAX_INSTANCES,
    MAX_SEQUENCE,
    Term,
    make_key,
    read_key,
    shorten,
)

from .refusal import Refused
from .register import LicenseRow, Register

TERMS = {
    "perpetual": Term.PERPETUAL,
    "trial": Term.TRIAL,
    "month": Term.MONTH,
    "year": Term.YEAR,
    "three-years": Term.THREE_YEARS,
    "five-years": Term.FIVE_YEARS,
}
"""Terms by the name on the command line."""

NAME_OF_TERM = {term: name for name, term in TERMS.items()}

LAST_DAY = EPOCH + datetime.timedelta(days=(1 << 14) - 1)
"""The last issue day that 14 bits can say: in November 2044."""

_ITEM = re.compile(r"([a-z0-9-]{1,100})(?::([0-9]{1,6}))?")


class Item(msgspec.Struct, frozen=True):
    """One line of an order."""

    feature: str
    instances: int


def read_item(text: str) -> Item:
    """FEATURE or FEATURE:INSTANCES; raises ValueError with a sentence."""
    match = _ITEM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not FEATURE or FEATURE:INSTANCES, such as sip-trunk-channels:8.")
    instances = int(match[2] or 1)
    if not 1 <= instances <= MAX_INSTANCES:
        raise ValueError(f"{text!r}: a key carries 1 to {MAX_INSTANCES} instances.")
    return Item(match[1], instances)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is ordered for one serial: `day` is the issue day on the keys, `today` the day of the act."""

    serial: str
    items: tuple[Item, ...]
    term: Term
    day: datetime.date
    today: datetime.date


def issue(order: Order, catalog: Catalog, register: Register) -> list[LicenseRow]:
    """The license keys of an order, all recorded or none; raises Refused."""
    if not EPOCH <= order.day <= LAST_DAY:
        raise Refused(f"{order.day} cannot be an issue day: keys know {EPOCH} to {LAST_DAY}.")
    features = [(_feature(item.feature, catalog), item.instances) for item in order.items]
    with register.act():
        # Read inside the act: a new certificate may have come since the caller looked.
        if register.catalog_of(order.serial) != catalog.id:
            raise Refused(f"The certificate of {order.serial} is for another catalog than {catalog.id!r}.")
        return [_issue_one(order, feature, instances, catalog.id, register) for feature, instances in features]


def revoke(serial: str, text: str, reason: str, register: Register, today: datetime.date) -> tuple[LicenseRow, bool]:
    """Revoke a license key of a serial; gives it, and False when it was revoked before; raises Refused."""
    key = read_key(text, catalog=register.catalog_of(serial), serial=serial)
    if isinstance(key, Finding):
        raise Refused(key.message, f"Did you mean {key.suggestion}?" if key.suggestion else key.remedy or "")
    with register.act():
        found = register.find_license(key.text)
        if found is None:
            raise Refused(f"The key {key.short} is not in this register.", "See: featurekey-issue show KEY")
        if found.serial != serial:
            raise Refused(f"The key {key.short} was issued for serial {found.serial}.", "Revoke it there.")
        if found.revoked is None:
            register.record_revocation(found, reason, today)
    return found, found.revoked is None


def _feature(name: str, catalog: Catalog) -> Feature:
    feature = catalog.features.get(name)
    if feature is None:
        near = difflib.get_close_matches(name, catalog.features, n=1)
        cure = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(catalog.features))}."
        raise Refused(f"The catalog {catalog.id!r} has no feature {name!r}.", cure)
    return feature


def _issue_one(order: Order, feature: Feature, instances: int, catalog: str, register: Register) -> LicenseRow:
    if order.term is Term.TRIAL:
        _refuse_second_trial(order.serial, feature, catalog, register)
    blank = LicenseRow(
        serial=order.serial,
        catalog=catalog,
        feature=feature.id,
        feature_code=feature.code,
        title=feature.title,
        instances=instances,
        issued=order.day,
        term=order.term,
        sequence=0,
        key="",
        day=order.today,
    )
    sequence = register.next_sequence(blank)
    if sequence > MAX_SEQUENCE:
        why = f"{MAX_SEQUENCE + 1} equal keys were issued: {feature.id}:{instances} for {order.serial} on {order.day}."
        raise Refused(why, "Order more instances on one key, or give another --date.")
    row = msgspec.structs.replace(blank, sequence=sequence, key=_key(blank, sequence))
    register.record_license(row)
    return row


def _key(row: LicenseRow, sequence: int) -> str:
    return make_key(
        feature_code=row.feature_code,
        instances=row.instances,
        issued=row.issued,
        term=row.term,
        sequence=sequence,
        catalog=row.catalog,
        serial=row.serial,
    ).text


def _refuse_second_trial(serial: str, feature: Feature, catalog: str, register: Register) -> None:
    for row in register.licenses(serial):
        if (row.catalog, row.feature_code, row.term) == (catalog, feature.code, Term.TRIAL):
            why = f"{feature.title} had its trial on {serial}, issued {row.issued} as {shorten(row.key)}."
            raise Refused(why, "A feature has one trial per serial; issue another --term.")
