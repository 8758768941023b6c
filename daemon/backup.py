"""The backup: all of the state but the leases, as a text that can be carried to another host.

Layout: a BEGIN line, fields of a name and a value, an empty line, the content (compressed JSON in base64), an END line.

* The content is what the tables say and not a copy of them, so that a later release reads it, and restoring merges.
* It passes through the socket, so that whoever may manage can make and restore one without being root, and no path has
  to mean the same to the daemon and to its client. Therefore it must fit into one message; where it would not, the
  oldest entries of the audit are left out.
* The digest finds damage. It is no signature: who writes a backup of his own can take away, and gives himself no right
  (`merging`). The documents in it have signatures of their own, which are verified before anything is taken.
* The digests of the entries of the audit are reckoned anew from their content, and must end at the head that is named.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import re
import zlib
from collections.abc import Sequence

import msgspec

from featurekeyd.policy.audit import MAX_ENTRIES, START, Act, Entry, act_in, digest_before, extended, head_of, verify
from featurekeyd.policy.encoding import length_prefixed
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.reservations import Reservation

from .facts import Facts
from .limits import MAX_MESSAGE_BYTES
from .plausible import find_implausible
from .store import Documents, Kept

FORMAT = 1

MAX_BACKUP_BYTES = MAX_MESSAGE_BYTES - 4096
"""Longest backup as a JSON string: what a call of Restore has room for beside its name."""

MAX_CONTENT_BYTES = 32 * 1024 * 1024
"""Longest content: ten times 10,000 usual entries of the audit; what unpacks to more is no backup but a bomb."""

_AUDITS = (MAX_ENTRIES, 2_000, 200, 0)
"""Entries of the audit that are tried, until all fits."""

_BEGIN, _END = "-----BEGIN FEATUREKEYD BACKUP-----", "-----END FEATUREKEYD BACKUP-----"
_LABEL = b"featurekeyd backup"
_WIDTH = 120
_FIELD = re.compile(r"([A-Z][a-z]*): (.*)")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a backup comes from."""

    serial: str | None
    catalog: str
    version: str
    written: str
    """By the wall clock of that host, ISO 8601."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was read."""

    origin: Origin
    kept: Kept
    before_audit: str
    """The digest before the first entry of the audit."""


class BackupTooLarge(Exception):
    """The state does not fit into one message even without its audit."""


class _Audit(msgspec.Struct, frozen=True, kw_only=True):
    before: Head
    head: Head
    acts: tuple[Act, ...]


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    documents: Documents
    drained: dict[str, float]
    reservations: tuple[Reservation, ...]
    facts: Facts
    audit: _Audit


_read_content = msgspec.json.Decoder(_Content).decode


def write_backup(kept: Kept, *, serial: str | None, catalog: str, version: str, wall: float) -> str:
    """The text of a backup; raises BackupTooLarge.

    An audit that is not sound is left out: it would not be believed.
    """
    written = datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"Format": str(FORMAT), "Serial": serial or "none", "Catalog": catalog}
    fields |= {"Version": version, "Written": written}
    for entries in _AUDITS if verify(kept.audit).sound else (0,):
        content = _content(kept, entries)
        text = _text(fields, zlib.compress(content, 9)) if len(content) <= MAX_CONTENT_BYTES else None
        if text is not None and len(text) + text.count("\n") <= MAX_BACKUP_BYTES:  # a line end is two bytes in JSON
            return text
    raise BackupTooLarge(f"The state takes more than {MAX_BACKUP_BYTES} bytes, even without its audit.")


def read_backup(text: str) -> Backup:
    """What is in the text of a backup; raises Unreadable."""
    fields, packed = _parsed(text)
    if fields.get("Format") != str(FORMAT):
        format_ = fields.get("Format", "none")[:20]
        raise _bad(f"The backup has format {format_}, and this release reads {FORMAT}. Update featurekeyd.")
    digest = fields.pop("Digest", "")
    if digest != _digest(fields, packed):
        raise _bad("The backup is damaged: its digest does not fit what is in it.")
    try:
        content = _read_content(_unpacked(packed))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"The content of the backup cannot be read: {error}") from None
    implausible = find_implausible(content)
    if implausible is not None:
        raise _bad(f"The content of the backup cannot be: {implausible}.")
    serial = fields.get("Serial", "none")
    origin = Origin(
        serial=None if serial == "none" else serial,
        catalog=fields.get("Catalog", ""),
        version=fields.get("Version", ""),
        written=fields.get("Written", ""),
    )
    return Backup(origin=origin, kept=_kept(content), before_audit=content.audit.before.digest)


def _content(kept: Kept, entries: int) -> bytes:
    facts = msgspec.structs.replace(kept.facts, announced=None, nonces=(), told={}, lasting=None)
    content = _Content(
        documents=kept.documents,
        drained=kept.drained,
        reservations=kept.reservations,
        facts=facts,
        audit=_audit(kept.audit, entries),
    )
    # First plain: the encoder puts no dictionary in order whose keys are numbers, as those of trials are.
    return msgspec.json.encode(msgspec.to_builtins(content, str_keys=True, order="sorted"))


def _audit(audit: Sequence[Entry], entries: int) -> _Audit:
    newest = audit[max(len(audit) - entries, 0) :]
    if not newest:
        return _Audit(before=START, head=START, acts=())
    earlier = audit[: len(audit) - len(newest)]
    before = head_of(earlier).digest if earlier else digest_before(newest)
    begins = Head(newest[0].number - 1, before or "")
    return _Audit(before=begins, head=head_of(newest), acts=tuple(map(act_in, newest)))


def _kept(content: _Content) -> Kept:
    audit = extended(content.audit.before, content.audit.acts)
    if audit and head_of(audit) != content.audit.head:
        raise _bad("The audit in the backup does not end at the head that it names.")
    return Kept(
        documents=content.documents,
        drained=content.drained,
        reservations=content.reservations,
        facts=content.facts,
        audit=tuple(audit),
    )


def _text(fields: dict[str, str], packed: bytes) -> str:
    coded = base64.b64encode(packed).decode()
    lines = [f"{name}: {value}" for name, value in {**fields, "Digest": _digest(fields, packed)}.items()]
    rows = [coded[place : place + _WIDTH] for place in range(0, len(coded), _WIDTH)]
    return "\n".join([_BEGIN, *lines, "", *rows, _END, ""])


def _parsed(text: str) -> tuple[dict[str, str], bytes]:
    lines = [line.strip() for line in text.splitlines()]
    try:
        begin, end = lines.index(_BEGIN), lines.index(_END)
        empty = lines.index("", begin, end)
    except ValueError:
        raise _bad("The text is no backup, or a part of it is missing.") from None
    fields = {}
    for number, line in enumerate(lines[begin + 1 : empty], begin + 2):
        found = _FIELD.fullmatch(line)
        if found is None or found[1] in fields:
            raise _bad(f"Line {number} of the backup is no field of its own.", line=number)
        fields[found[1]] = found[2]
    try:
        return fields, base64.b64decode("".join(lines[empty:end]), validate=True)
    except (binascii.Error, ValueError):
        raise _bad("The content of the backup is no base64: a character was changed.") from None


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(packed, MAX_CONTENT_BYTES)
    except zlib.error as error:
        raise _bad(f"The content of the backup cannot be unpacked: {error}") from None
    if not unpacking.eof:
        raise _bad(f"The content of the backup is cut off, or longer than {MAX_CONTENT_BYTES} bytes.")
    return content


def _digest(fields: dict[str, str], packed: bytes) -> str:
    parts = [text.encode("utf-8", "surrogatepass") for pair in fields.items() for text in pair]
    return hashlib.sha256(length_prefixed(_LABEL, packed, *parts)).hexdigest()


def _bad(message: str, *, line: int | None = None) -> Unreadable:
    return Unreadable(Verdict.BAD_BACKUP, message, line=line)
