"""Findings: what is said about a license key, a line of a list, a certificate or a reservation that somebody brings.

A finding is a value. A document that cannot be read at all raises `Unreadable`, which carries the finding to give back.
"""

from __future__ import annotations

import enum

import msgspec


class Verdict(enum.StrEnum):
    """The closed list of findings; described member by member in io.featurekey.Manage, type Verdict."""

    VALID = "valid"
    UNLISTED = "unlisted"
    ALREADY_THERE = "already_there"
    IMPORTED = "imported"
    REMOVED = "removed"
    NOT_FOUND = "not_found"
    AMBIGUOUS = "ambiguous"
    NOT_A_KEY = "not_a_key"
    MISTYPED = "mistyped"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_FEATURE = "unknown_feature"
    OTHER_SERIAL = "other_serial"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_ISSUED = "not_yet_issued"
    BAD_LINE = "bad_line"
    BAD_DOCUMENT = "bad_document"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_SIGNER = "unknown_signer"
    OLDER_LIST = "older_list"
    OLDER_CERTIFICATE = "older_certificate"
    NOT_ON_LIST = "not_on_list"
    TRIAL_USED = "trial_used"
    OTHER_CATALOG = "other_catalog"
    OTHER_HARDWARE = "other_hardware"
    TEST_MISMATCH = "test_mismatch"
    KEY_NOT_READABLE = "key_not_readable"
    NO_CERTIFICATE = "no_certificate"
    RESERVED = "reserved"
    NOT_FREE = "not_free"
    NOT_LIMITED = "not_limited"
    TOO_MANY = "too_many"
    RESTORED = "restored"
    BAD_BACKUP = "bad_backup"
    CHECKED = "checked"
    TOLD_NO = "told_no"
    NOT_ASKED = "not_asked"
    OLDER_CHECK = "older_check"
    CHECK_OVER = "check_over"
    RESCUED = "rescued"
    NOT_A_CODE = "not_a_code"
    UNKNOWN_CODE = "unknown_code"
    OTHER_DAY = "other_day"
    ALREADY_USED = "already_used"
    ENROLLED = "enrolled"
    NOT_ENROLLED = "not_enrolled"
    ANNOUNCED = "announced"
    NOT_ANNOUNCED = "not_announced"
    REPAIRED = "repaired"
    NOT_REPAIRED = "not_repaired"


REMEDY = {
    Verdict.UNLISTED: "Import the vendor's newest license list to confirm it.",
    Verdict.AMBIGUOUS: "Give the whole key, or its first and last group as featurekeyctl licenses shows it.",
    Verdict.NOT_A_KEY: "A license key has 32 characters: digits and letters without I, L, O and U.",
    Verdict.MISTYPED: "Compare the key with the order, or paste it instead of typing.",
    Verdict.UNKNOWN_VERSION: "Update featurekeyd, or ask the vendor for a key of version 1.",
    Verdict.UNKNOWN_FEATURE: "Ask the vendor which product and release the key was made for.",
    Verdict.OTHER_SERIAL: "Enter it on the system with that Feature Key, or ask the vendor to exchange it.",
    Verdict.REVOKED: "Ask the vendor why; a replaced key stays on the list as revoked.",
    Verdict.EXPIRED: "Order a new license.",
    Verdict.NOT_YET_ISSUED: "Check the date of this host: timedatectl.",
    Verdict.BAD_LINE: "A line is: key, then a comma, then a name.",
    Verdict.BAD_DOCUMENT: "Take the whole text from the vendor's mail, from the BEGIN line to the END line.",
    Verdict.BAD_SIGNATURE: "Take the text from the vendor's mail again, unchanged.",
    Verdict.UNKNOWN_SIGNER: "Install the vendor's package that brings its public key, or ask whether it is genuine.",
    Verdict.OLDER_LIST: "Ask the vendor for the newest list of this serial.",
    Verdict.OLDER_CERTIFICATE: "Take the newest certificate the vendor has sent.",
    Verdict.NOT_ON_LIST: "Ask the vendor why the list leaves it out; it may have been exchanged.",
    Verdict.TRIAL_USED: "Order a license; a trial is issued once for each feature and Feature Key.",
    Verdict.NOT_FOUND: "featurekeyctl licenses shows what is installed; a key may be named as it is shown there.",
    Verdict.OTHER_CATALOG: "Set [product] catalog in featurekeyd.toml to the product that was bought.",
    Verdict.OTHER_HARDWARE: "Plug in the Feature Key it was made for, or send the vendor a new request.",
    Verdict.TEST_MISMATCH: "Ask for a certificate of the other sort.",
    Verdict.KEY_NOT_READABLE: "Plug the Feature Key in and see: featurekeyctl key",
    Verdict.NO_CERTIFICATE: "Import the certificate of the Feature Key first: featurekeyctl certificate import FILE",
    Verdict.NOT_FREE: "Give up another reservation (featurekeyctl reservations), wait for a free one, or order more.",
    Verdict.NOT_LIMITED: "Nothing is to be done: the feature never runs out.",
    Verdict.TOO_MANY: "Give some up: featurekeyctl unreserve FEATURE KEY",
    Verdict.NOT_REPAIRED: "Set the date of this host first: timedatectl.",
    Verdict.BAD_BACKUP: "Take the file as featurekeyctl backup wrote it, or an earlier backup.",
}
"""What a technician does about a verdict; verdicts that need nothing are left out."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding, as io.featurekey.Manage gives it back."""

    verdict: Verdict
    accepted: bool
    message: str
    remedy: str | None = None
    line: int | None = None
    position: int | None = None
    suggestion: str | None = None
    key: str | None = None
    feature: str | None = None
    instances: int | None = None


def accept(verdict: Verdict, message: str, **about: int | str | None) -> Finding:
    """A finding about something that was taken."""
    return _finding(verdict, message, about, accepted=True)


def refuse(verdict: Verdict, message: str, **about: int | str | None) -> Finding:
    """A finding about something that was not taken."""
    return _finding(verdict, message, about, accepted=False)


def _finding(verdict: Verdict, message: str, about: dict[str, int | str | None], *, accepted: bool) -> Finding:
    fields = {"verdict": verdict, "accepted": accepted, "message": message, "remedy": REMEDY.get(verdict), **about}
    return msgspec.convert(fields, Finding)


class Unreadable(ValueError):
    """A document that somebody brought cannot be taken; `finding` says why."""

    def __init__(self, verdict: Verdict, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.finding = refuse(verdict, message, line=line)
