"""Orders: from serial, features, sets and term to license keys; and their revocation."""

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
    LicenseKey,
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
_SET = re.compile(r"set:([a-z][a-z0-9-]{0,99})")


class Item(msgspec.Struct, frozen=True):
    """One line of an order: one license."""

    feature: str
    instances: int


class SetItem(msgspec.Struct, frozen=True):
    """One line of an order: all licenses of a set of the catalog."""

    license_set: str


def read_item(text: str) -> Item | SetItem:
    """FEATURE, FEATURE:INSTANCES or set:SET; raises ValueError with a sentence."""
    named = _SET.fullmatch(text)
    if named is not None:
        return SetItem(named[1])
    match = _ITEM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not FEATURE:INSTANCES or set:SET, such as sip-trunk-channels:8.")
    instances = int(match[2] or 1)
    if not 1 <= instances <= MAX_INSTANCES:
        raise ValueError(f"{text!r}: a key carries 1 to {MAX_INSTANCES} instances.")
    return Item(match[1], instances)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is ordered for one serial: `day` is the issue day on the keys, and `today` the day of the act, in UTC."""

    serial: str
    items: tuple[Item | SetItem, ...]
    term: Term
    day: datetime.date
    today: datetime.date


class _Line(msgspec.Struct, frozen=True):
    feature: Feature
    instances: int
    license_set: str | None = None


def issue(order: Order, catalog: Catalog, register: Register) -> list[LicenseRow]:
    """The license keys of an order, all recorded or none; raises Refused."""
    if not EPOCH <= order.day <= LAST_DAY:
        raise Refused(f"{order.day} cannot be an issue day: keys know {EPOCH} to {LAST_DAY}.")
    if order.day > order.today:
        # Terms count from the issue day: of one to come a trial would last for years.
        why = f"{order.day} cannot be an issue day: it lies after today, {order.today} in UTC."
        raise Refused(why, "Issue the license on the day on which it shall begin.")
    lines = [line for item in order.items for line in _lines(item, catalog)]
    with register.act():
        register.check_current(order.serial)
        # Read inside the act: a new certificate may have come since the caller looked.
        if register.catalog_of(order.serial) != catalog.id:
            raise Refused(f"The certificate of {order.serial} is for another catalog than {catalog.id!r}.")
        return [_issue_one(order, line, catalog.id, register) for line in lines]


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


def record_new(blank: LicenseRow, register: Register) -> LicenseRow:
    """Give a license its sequence and key and record it, inside an act; raises Refused."""
    sequence = register.next_sequence(blank)
    if sequence > MAX_SEQUENCE:
        what = f"{blank.feature}:{blank.instances} for {blank.serial} on {blank.issued}"
        why = f"{MAX_SEQUENCE + 1} equal keys were issued: {what}."
        raise Refused(why, "Order more instances on one key, or give another --date.")
    row = msgspec.structs.replace(blank, sequence=sequence, key=_key(blank, sequence))
    register.record_license(row)
    return row


def key_of(row: LicenseRow) -> LicenseKey:
    """The license key of a row of the register."""
    key = read_key(row.key)
    assert not isinstance(key, Finding)  # the register holds what make_key made
    return key


def _lines(item: Item | SetItem, catalog: Catalog) -> list[_Line]:
    if isinstance(item, Item):
        return [_Line(_feature(item.feature, catalog), item.instances)]
    name = item.license_set
    if name not in catalog.sets:
        near = difflib.get_close_matches(name, catalog.sets, n=1)
        cure = f"Did you mean set:{near[0]}?" if near else "See: featurekey-issue sets"
        raise Refused(f"The catalog {catalog.id!r} has no set {name!r}.", cure)
    return [_Line(catalog.features[feature], count, name) for feature, count in catalog.sets[name].adds.items()]


def _feature(name: str, catalog: Catalog) -> Feature:
    feature = catalog.features.get(name)
    if feature is None and name in catalog.sets:
        raise Refused(f"{name!r} is a set and no feature.", f"Order it as set:{name}")
    if feature is None:
        near = difflib.get_close_matches(name, catalog.features, n=1)
        cure = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(catalog.features))}."
        raise Refused(f"The catalog {catalog.id!r} has no feature {name!r}.", cure)
    return feature


def _issue_one(order: Order, line: _Line, catalog: str, register: Register) -> LicenseRow:
    feature = line.feature
    if order.term is Term.TRIAL:
        _refuse_second_trial(order.serial, feature, catalog, register)
    blank = LicenseRow(
        serial=order.serial,
        catalog=catalog,
        feature=feature.id,
        feature_code=feature.code,
        title=feature.title,
        instances=line.instances,
        issued=order.day,
        term=order.term,
        sequence=0,
        key="",
        day=order.today,
        license_set=line.license_set,
    )
    return record_new(blank, register)


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
    for row in register.trials(serial):
        if (row.catalog, row.feature_code) == (catalog, feature.code):
            why = f"{feature.title} had its trial on {row.serial}, issued {row.issued} as {shorten(row.key)}."
            raise Refused(why, "A feature has one trial per serial and its replacements; issue another --term.")
