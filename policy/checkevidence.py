"""Check evidence: the vendor's signed answer to a host that asked whether its licenses still hold.

Fields of the signed text:

    Serial     12 digits
    Catalog    product, e.g. ip-office
    Check      number of the check, which only advances for a serial
    Nonce      the one-time nonce of the host's request, 32 hexadecimal digits
    Checked    when the vendor checked, e.g. 2026-01-31T12:00:00Z
    Until      until when the answer is good, 30 days later at most
    Retired    yes or no; yes where the serial was exchanged, and nothing on it counts any more
    List       number of the newest license list of the serial, 0 where there is none
    Revoked    a license key that is good no more; any number of them
    Remark     a sentence for the technician; any number of them up to 8
    Audit-Head how far the host's audit had come, as its request said; the next request shows what it has at that number

Rules of this module:

* "Could not ask" and "was told no" are different facts: the first starts a meter, the second ends the licenses at once,
  whatever grace is left (facts/field.md complaint 4).
* A nonce opens one answer. What is kept of an answer is its signed text, verified and held against the date at each
  start: nothing about it has to be believed of a file that a host could edit, but for the number.
* A signed no needs no nonce and never gets old: a serial stays retired, over restarts, other serials and backups, until
  the vendor takes that back by a newer answer to a request of this host. So a mistake of the vendor can be mended, and
  nobody else undoes a no.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Collection

import msgspec

from .findings import Finding, Unreadable, Verdict
from .licensekey import LicenseKey, read_key
from .licenselist import MAX_KEYS
from .request_text import Head, read_head
from .signedtext import Line, SignedText, VendorKeys, one_field, unseal

KIND = "CHECK"
"""Kind of the signed text."""

NONCE_SIZE = 16
"""Bytes of a nonce: drawn at random, never drawn twice."""

MAX_OPEN = 16
"""Nonces of a host that wait for their answer: two weeks of asking once a day by mail; the oldest is given up."""

MAX_GOOD_DAYS = 30
"""Days that an answer may be good for: an offline site brings one every month."""

MAX_REMARKS = 8
MAX_REMARK = 200
"""Characters of a remark: a sentence."""

_SERIAL = re.compile(r"[0-9]{12}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class CheckEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says, its signature verified; times are in UTC and in whole seconds."""

    serial: str
    catalog: str
    number: int
    nonce: str
    checked: datetime.datetime
    until: datetime.datetime
    retired: bool = False
    newest_list: int = 0
    revoked: tuple[LicenseKey, ...] = ()
    remarks: tuple[str, ...] = ()
    audit_head: Head | None = None
    """Of the request: that the audit still goes through it, the next request shows."""

    def seconds_left(self, serial: str | None, now: float) -> float:
        """Seconds for which it is still good at `now`, seconds since 1970; 0 when it is over, a no, or another's.

        The time is at least that of the check: the vendor has signed that it has come.
        """
        if self.retired or serial != self.serial:
            return 0.0
        return max(self.until.timestamp() - max(now, self.checked.timestamp()), 0.0)

    def says_no_to(self, serial: str | None) -> bool:
        """Whether the vendor has signed that nothing on this serial counts any more."""
        return self.retired and serial == self.serial


class CheckResult(enum.StrEnum):
    """What came of asking the vendor; the names are stable."""

    PASSED = "passed"
    TOLD_NO = "told_no"
    COULD_NOT_ASK = "could_not_ask"
    NOT_ASKED = "not_asked"
    OLDER_CHECK = "older_check"
    CHECK_OVER = "check_over"
    OTHER_SERIAL = "other_serial"


_REMEDY = {
    CheckResult.PASSED: "",
    CheckResult.TOLD_NO: "Put the Feature Key in that replaced it, and import its certificate and list. If it was "
    "retired by mistake, the vendor's answer to a new request takes that back: featurekeyctl check --request FILE",
    CheckResult.COULD_NOT_ASK: "Bring the connection back, or ask by mail: featurekeyctl check --request FILE",
    CheckResult.NOT_ASKED: "Send the vendor a new request, and import the answer to that one.",
    CheckResult.OLDER_CHECK: "Import the newest answer of the vendor.",
    CheckResult.CHECK_OVER: "Check the date of this host (timedatectl), or send the vendor a new request.",
    CheckResult.OTHER_SERIAL: "Import it on the system with that Feature Key.",
}


class Judgment(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer means for this host: the result, what to say, and how long it is good."""

    result: CheckResult
    message: str
    remedy: str
    seconds: float = 0.0
    """Seconds of boot time for which no further check is needed."""
    evidence: CheckEvidence | None = None
    """What is to be kept in place of the answer before, None where nothing changes."""

    @property
    def passed(self) -> bool:
        """Whether the meter of the missing check gets its budget back."""
        return self.result is CheckResult.PASSED

    @property
    def told_no(self) -> bool:
        """Whether the vendor has said no, which no grace softens."""
        return self.result is CheckResult.TOLD_NO


def check_body(evidence: CheckEvidence) -> str:
    """The text to sign."""
    lines = [
        f"Serial: {evidence.serial}",
        f"Catalog: {evidence.catalog}",
        f"Check: {evidence.number}",
        f"Nonce: {evidence.nonce}",
        f"Checked: {_written(evidence.checked)}",
        f"Until: {_written(evidence.until)}",
        f"Retired: {'yes' if evidence.retired else 'no'}",
        f"List: {evidence.newest_list}",
        *(f"Revoked: {key.text}" for key in evidence.revoked),
        *(f"Remark: {remark}" for remark in evidence.remarks),
        *([] if evidence.audit_head is None else [f"Audit-Head: {evidence.audit_head}"]),
    ]
    return "\n".join(lines)


def read_check(text: str, vendor_keys: VendorKeys) -> CheckEvidence:
    """The check evidence in a text; raises Unreadable naming the field."""
    document = unseal(KIND, text, vendor_keys)
    if document.rows:
        line = document.rows[0]
        raise _bad(f"Line {line.number} is no field: a name, a colon, a value.", line=line.number)
    serial, catalog = _matched(document, "Serial", _SERIAL, "12 digits"), one_field(document, "Catalog")
    checked, until = _time(document, "Checked"), _time(document, "Until")
    if not datetime.timedelta(0) < until - checked <= datetime.timedelta(days=MAX_GOOD_DAYS):
        raise _bad(f"The field 'Until' is not within {MAX_GOOD_DAYS} days after 'Checked'.")
    return CheckEvidence(
        serial=serial,
        catalog=catalog,
        number=int(_matched(document, "Check", _NUMBER, "a number")),
        nonce=_matched(document, "Nonce", _NONCE, "32 hexadecimal digits"),
        checked=checked,
        until=until,
        retired=_matched(document, "Retired", re.compile("yes|no"), "yes or no") == "yes",
        newest_list=int(_matched(document, "List", _NUMBER, "a number")),
        revoked=_revoked(document, catalog, serial),
        remarks=_remarks(document),
        audit_head=_audit_head(document),
    )


def judge_check(
    evidence: CheckEvidence, serial: str | None, open_nonces: Collection[str], last_number: int, now: float
) -> Judgment:
    """What an answer means for the system with that serial.

    `last_number` is that of the newest answer taken for the serial, 0 for none; `now` the later of wall clock and mark,
    in seconds since 1970. A refused answer changes nothing, and its nonce stays open.
    """
    if evidence.serial != serial:
        return _judged(CheckResult.OTHER_SERIAL, f"The answer is for serial {evidence.serial}; this is {serial}.")
    if evidence.number <= last_number:
        message = f"The answer is check {evidence.number}, and check {last_number} was taken already."
        return _judged(CheckResult.OLDER_CHECK, message)
    if evidence.retired:
        message = f"The vendor has retired serial {serial}: its licenses count no more."
        return _judged(CheckResult.TOLD_NO, message, evidence=evidence)
    if evidence.nonce not in open_nonces:
        return _judged(CheckResult.NOT_ASKED, "The answer is to no request of this host that waits for one.")
    until, seconds = _written(evidence.until), evidence.seconds_left(serial, now)
    if not seconds:
        return _judged(CheckResult.CHECK_OVER, f"The answer was good until {until}, and this host is past that.")
    message = f"The vendor has checked serial {serial}: good until {until}."
    return _judged(CheckResult.PASSED, message, evidence=evidence, seconds=seconds)


def could_not_ask(why: str) -> Judgment:
    """Nobody answered: no fact about the licenses, so that only time counts."""
    return _judged(CheckResult.COULD_NOT_ASK, f"The vendor could not be asked: {why}")


def with_nonce(open_nonces: tuple[str, ...], nonce: str) -> tuple[str, ...]:
    """The open nonces and one more, the newest last; the oldest is given up where there are too many."""
    return (*(it for it in open_nonces if it != nonce), nonce)[-MAX_OPEN:]


def without_nonce(open_nonces: tuple[str, ...], nonce: str) -> tuple[str, ...]:
    """The open nonces but for one that is answered."""
    return tuple(it for it in open_nonces if it != nonce)


def _judged(
    result: CheckResult, message: str, *, evidence: CheckEvidence | None = None, seconds: float = 0.0
) -> Judgment:
    return Judgment(result=result, message=message, remedy=_REMEDY[result], evidence=evidence, seconds=seconds)


def _written(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(document: SignedText, field: str) -> datetime.datetime:
    value = _matched(document, field, _TIME, "a time such as 2026-01-31T12:00:00Z")
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        raise _bad(f"The field {field!r} is {value!r}, which no calendar has.") from None


def _matched(document: SignedText, field: str, form: re.Pattern[str], words: str) -> str:
    value = one_field(document, field)
    if not form.fullmatch(value):
        raise _bad(f"The field {field!r} is not {words}.")
    return value


def _revoked(document: SignedText, catalog: str, serial: str) -> tuple[LicenseKey, ...]:
    lines = document.fields.get("Revoked", [])
    if len(lines) > MAX_KEYS:
        raise _bad(f"The text has more than {MAX_KEYS} revoked keys.")
    return tuple(_key(line, catalog, serial) for line in lines)


def _key(line: Line, catalog: str, serial: str) -> LicenseKey:
    key = read_key(line.text, catalog=catalog, serial=serial)
    if isinstance(key, Finding):
        raise Unreadable(key.verdict, f"Line {line.number}: {key.message}", line=line.number)
    return key


def _remarks(document: SignedText) -> tuple[str, ...]:
    lines = document.fields.get("Remark", [])
    if len(lines) > MAX_REMARKS:
        raise _bad(f"The text has more than {MAX_REMARKS} remarks.")
    for line in lines:
        if len(line.text) > MAX_REMARK or not line.text.isprintable():
            message = f"Line {line.number}: a remark is at most {MAX_REMARK} characters that can be printed."
            raise _bad(message, line=line.number)
    return tuple(line.text for line in lines)


def _audit_head(document: SignedText) -> Head | None:
    if "Audit-Head" not in document.fields:
        return None
    try:
        return read_head(one_field(document, "Audit-Head"))
    except ValueError:
        raise _bad("The field 'Audit-Head' is not a number and 64 hexadecimal digits.") from None


def _bad(message: str, *, line: int | None = None) -> Unreadable:
    return Unreadable(Verdict.BAD_DOCUMENT, message, line=line)
