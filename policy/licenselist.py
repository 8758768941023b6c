"""License lists: the vendor's signed list of the keys that are good for one serial, and plain CSV texts of keys.

A signed list is the authority: a key on it is *valid*. Its fields are `Serial`, `Catalog`, `List` (a number that only
advances), `Date`, and any number of `Trial` (a feature code and the newest issue day of a trial of it); behind them
stands CSV with a header line and the columns key, name, state (`valid` or `revoked`) and set (the order item of the
catalog that the key came with, empty where it was ordered by itself).

A plain CSV text has a key in the first column, and whatever stands behind it is not even looked at: names are written
by people and by spreadsheets, with quotes and separators as they please. It vouches for nothing: its keys are *unknown*
until a list has them.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterable, Iterator

import msgspec

from .certificate import read_date
from .findings import Finding, Unreadable, Verdict, refuse
from .licensekey import LicenseKey, read_key
from .signedtext import Line, SignedText, VendorKeys, one_field, unseal

KIND = "LICENSE LIST"
"""Kind of the signed text."""

HEADER = "key,name,state,set"
MAX_KEYS = 10_000
"""Keys on one list or in one CSV text: far more than the largest site orders, and read in under a second."""

_SET = re.compile(r"[a-z0-9-]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
_HEADERS = frozenset({"key", "license", "license key"})
_FIRST = re.compile(r'\s*(?:"([^"]*)"\s*(?=[,;\t]|$)|([^",;\t][^,;\t]*))')
"""The first column, in quotes or not; spreadsheets of many countries separate by semicolons."""


class Entry(msgspec.Struct, frozen=True):
    """One key on the vendor's list."""

    key: LicenseKey
    name: str
    revoked: bool
    license_set: str | None = None
    """The set of the catalog that it came with, None where it was ordered by itself."""


class LicenseList(msgspec.Struct, frozen=True, kw_only=True):
    """What a signed list says, its signature verified."""

    serial: str
    catalog: str
    number: int
    date: datetime.date
    entries: tuple[Entry, ...]
    trials: dict[int, datetime.date]
    """Newest issue day of a trial, by feature code."""


class TypedKey(msgspec.Struct, frozen=True):
    """A key in a line of a plain CSV text, as it was typed."""

    line: int
    text: str


def list_body(licenses: LicenseList) -> str:
    """The text to sign."""
    lines = [
        f"Serial: {licenses.serial}",
        f"Catalog: {licenses.catalog}",
        f"List: {licenses.number}",
        f"Date: {licenses.date.isoformat()}",
        *(f"Trial: {code} {day.isoformat()}" for code, day in sorted(licenses.trials.items())),
        HEADER,
        *(
            f"{entry.key.text},{_plain(entry.name)},{_state(entry)},{entry.license_set or ''}"
            for entry in licenses.entries
        ),
    ]
    return "\n".join(lines)


def read_list(text: str, vendor_keys: VendorKeys) -> LicenseList:
    """The signed license list in a text; raises Unreadable naming the field or the line."""
    document = unseal(KIND, text, vendor_keys)
    number = one_field(document, "List")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field 'List' is {number!r} instead of a number.")
    serial, catalog = one_field(document, "Serial"), one_field(document, "Catalog")
    return LicenseList(
        serial=serial,
        catalog=catalog,
        number=int(number),
        date=read_date("Date", one_field(document, "Date")),
        entries=tuple(_entries(document, catalog, serial)),
        trials=dict(_trial(line) for line in document.fields.get("Trial", [])),
    )


def read_plain(text: str) -> Iterator[TypedKey | Finding]:
    """The keys of a plain CSV text, and a finding for each line that is none; raises Unreadable for too many lines."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    if not lines[-1]:
        lines.pop()
    if len(lines) > MAX_KEYS:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The text has more than {MAX_KEYS} lines.")
    for number, line in enumerate(lines, 1):
        first = _first(line)
        if not line.strip() or line.lstrip().startswith("#") or first.lower() in _HEADERS:
            continue
        if first:
            yield TypedKey(number, first)
        else:
            yield refuse(Verdict.BAD_LINE, f"Line {number} does not begin with a license key.", line=number)


def _first(line: str) -> str:
    """What stands in the first column; what stands behind it is nobody's business."""
    match = _FIRST.match(line)
    return "" if match is None else (match[1] or match[2] or "").strip()


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _entries(document: SignedText, catalog: str, serial: str) -> Iterable[Entry]:
    if not document.rows or document.rows[0].text != HEADER:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The header line {HEADER!r} is missing.")
    if len(document.rows) - 1 > MAX_KEYS:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The list has more than {MAX_KEYS} keys.")
    return (_entry(row, catalog, serial) for row in document.rows[1:])


def _entry(row: Line, catalog: str, serial: str) -> Entry:
    cells = _cells(row.text)
    if len(cells) != 4 or cells[2] not in {"valid", "revoked"} or not _SET.fullmatch(cells[3]):
        message = f"Line {row.number} is not a key, a name, a state and a set."
        raise Unreadable(Verdict.BAD_LINE, message, line=row.number)
    key = read_key(cells[0], catalog=catalog, serial=serial)
    if isinstance(key, Finding):
        raise Unreadable(key.verdict, f"Line {row.number}: {key.message}", line=row.number)
    return Entry(key, cells[1], cells[2] == "revoked", cells[3] or None)


def _trial(line: Line) -> tuple[int, datetime.date]:
    match = re.fullmatch(r"([0-9]{1,4}) (\S+)", line.text)
    if match is None:
        raise Unreadable(Verdict.BAD_DOCUMENT, "The field 'Trial' is not a code and a date.", line=line.number)
    return int(match[1]), read_date("Trial", match[2])


def _plain(name: str) -> str:
    return re.sub(r'[,"\r\n]', " ", name)


def _state(entry: Entry) -> str:
    return "revoked" if entry.revoked else "valid"
