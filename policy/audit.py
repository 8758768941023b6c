"""The audit: acts in a chain of hashes, so that none can be changed, taken out or moved unnoticed.

Rules of this module:

* Each entry holds SHA-256 over the digest of the entry before it and over itself, every field behind its length.
* The chain begins with the number 1 after `GENESIS`. When old entries are dropped, a checkpoint at the end of the chain
  names the first that is left and the digest before it; without one, entries that lack at the beginning are missed.
* Entries that were cut off the end are missed only by who remembers the head: the daemon while it runs, the seal of the
  state, and the vendor, who is told the head with each request. So is a chain that was reckoned anew as a whole.
* Which events are recorded is said here, for each of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from .encoding import length_prefixed
from .events import Event, EventName
from .request_text import Head

GENESIS = "0" * 64
"""The digest before the first entry."""

START = Head(0, GENESIS)
"""The head of a chain without entries."""

MAX_ENTRIES = 10_000
"""Entries that are kept: over a year with 25 acts a day, in some 4 MB; technicians look back months, and the vendor has
the heads of what came before."""

KEPT_ENTRIES = 9_000
"""Entries that stay when that many are exceeded: a tenth goes at once, so that checkpoints are few."""

MAX_BROUGHT = 5_000
"""Entries of other chains that backups bring into one, at most half of it: what somebody has written himself must not
push out what was recorded here."""

MAX_FIELDS = 16
"""Fields of an entry: the richest event has ten."""

MAX_TEXT = 512
"""Characters of a text in an entry: the longest lease key. What is longer is cut, and ends with an ellipsis."""

CHECKPOINT = "audit_shortened"
"""What an entry is that keeps the chain verifiable when older ones are dropped."""

BROUGHT = "WAS"
"""The field that names the digest which an entry of another chain had there."""

DAEMON = "featurekeyd"
"""Who did what nobody asked for."""

_LABEL = b"featurekeyd audit 1"

AUDITED = frozenset(
    {
        EventName.SELF_TEST_FAILED,
        EventName.SETTINGS_READ_ANEW,
        EventName.STANDING_LICENSED,
        EventName.STANDING_GRACE,
        EventName.STANDING_RESTRICTED,
        EventName.STANDING_DEACTIVATED,
        EventName.CERTIFICATE_IMPORTED,
        EventName.LICENSE_ADDED,
        EventName.LICENSE_REMOVED,
        EventName.LICENSES_EXPORTED,
        EventName.LIST_IMPORTED,
        EventName.EMERGENCY_CLAIM,
        EventName.LEASE_FORCED,
        EventName.RESERVED,
        EventName.UNRESERVED,
        EventName.CLOCK_SET_BACK,
        EventName.CLOCK_AHEAD,
        EventName.CLOCK_REPAIRED,
        EventName.HOST_ENROLLED,
        EventName.HOST_LEARNED,
        EventName.HOST_CHANGED,
        EventName.HOST_SAME,
        EventName.ADDRESS_ANNOUNCED,
        EventName.CHECK_ANSWERED,
        EventName.CHECK_TOLD_NO,
        EventName.RESCUE_OPENED,
        EventName.RESCUE_REFUSED,
        EventName.RESCUE_ENDED,
        EventName.VENDOR_KEY_TROUBLE,
        EventName.STATE_REFUSED,
        EventName.STATE_SET_ASIDE,
        EventName.STATE_TAMPERED,
        EventName.STATE_BACKED_UP,
        EventName.STATE_RESTORED,
    }
)
"""Administrative acts, changes of standing, and what the vendor asks about afterwards. An act in a storm is recorded as
it is logged: some one by one, the rest as a sum."""

NOT_AUDITED = frozenset(
    {
        EventName.NOT_STARTED,
        EventName.STARTED,
        EventName.STOPPED,
        EventName.SETTINGS_REFUSED,
        EventName.FEATURE_KEY_FOUND,
        EventName.FEATURE_KEY_TROUBLE,
        EventName.LICENSE_EXPIRES_SOON,
        EventName.LICENSE_EXPIRED,
        EventName.OVER_USE_BEGAN,
        EventName.OVER_USE_ENDED,
        EventName.ALARM_RAISED,
        EventName.ALARM_CLEARED,
        EventName.EMERGENCY_CALL,
        EventName.CHANNEL_DRIFT,
        EventName.SYNC_DRIFT,
        EventName.HOLDER_SILENT,
        EventName.CALLS_ENDED_UNTOLD,
        EventName.TURN,
        EventName.CLOCK_UNSET,
        EventName.CLOCK_RIGHT,
        EventName.HOST_NOT_ENROLLED,
        EventName.CHECK_PASSED,
        EventName.CHECK_FAILED,
        EventName.CHECK_REMARK,
        EventName.LEASES_RESTORED,
        EventName.LEASES_UNREADABLE,
        EventName.LEASES_NOT_RECORDED,
        EventName.LEASES_RECORDED_AGAIN,
        EventName.SOCKET_TROUBLE,
        EventName.SOCKET_RIGHT,
        EventName.STATE_NOT_STORED,
        EventName.DENIED,
        EventName.DENIALS_SUMMARIZED,
        EventName.CLIENT_REFUSED,
        EventName.LOG_OVERFLOW,
        EventName.UNEXPECTED,
    }
)
"""What goes on by itself: it is in the log, and would push the acts of people out of the audit."""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded."""

    wall: int
    """Seconds since 1970-01-01 UTC by the wall clock, which may be wrong: the order is that of the numbers."""
    who: str
    """The user as the kernel gave it, e.g. `uid 0`, or `featurekeyd`."""
    what: str
    """The name of the event."""
    message: str
    fields: dict[str, str] = {}


class Entry(Act, frozen=True, kw_only=True):
    """An act in its place in the chain."""

    number: int
    digest: str
    """64 hexadecimal digits."""


class Soundness(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    head: Head
    """The last entry that is sound in an unbroken row from the first."""
    broken_at: int | None
    """Number of the first entry that is not as it was recorded, or is missing; None where all are."""
    finding: str

    @property
    def sound(self) -> bool:
        """Whether every entry is as it was recorded."""
        return self.broken_at is None


def act_of(event: Event, wall: float) -> Act | None:
    """What to record of an event, None where it is not recorded."""
    if event.name not in AUDITED:
        return None
    fields = {name: _cut(value) for name, value in list(event.fields.items())[:MAX_FIELDS] if name != "BY"}
    who = _cut(event.fields.get("BY", DAEMON))
    return Act(wall=int(wall), who=who, what=str(event.name), message=_cut(event.message), fields=fields)


def extended(head: Head, acts: Iterable[Act]) -> list[Entry]:
    """The entries of these acts behind that head."""
    entries = []
    for act in acts:
        number = head.number + 1
        head = Head(number, _digest(head.digest, number, act))
        about = {name: getattr(act, name) for name in Act.__struct_fields__}
        entries.append(Entry(**about, number=number, digest=head.digest))
    return entries


def act_in(entry: Entry) -> Act:
    """The act of an entry."""
    return Act(**{name: getattr(entry, name) for name in Act.__struct_fields__})


def head_of(entries: Sequence[Entry]) -> Head:
    """The head of a chain."""
    return Head(entries[-1].number, entries[-1].digest) if entries else START


def checkpoint(first: int, before: str, wall: int) -> Act:
    """The act that lets the chain begin with that number, behind that digest."""
    message = f"Entries before {first} are dropped; their last digest is {before}."
    return Act(wall=wall, who=DAEMON, what=CHECKPOINT, message=message, fields={"FIRST": str(first), "BEFORE": before})


def verify(entries: Sequence[Entry], head: Head | None = None) -> Soundness:
    """Whether the entries are an unbroken chain, and end with that head where it is known."""
    if not entries:
        return _end(START, head)
    before = digest_before(entries)
    if before is None:
        finding = f"Entries before {entries[0].number} are missing, and no checkpoint accounts for them."
        return Soundness(head=START, broken_at=1, finding=finding)
    sound = Head(entries[0].number - 1, before)
    for entry in entries:
        wrong = _wrong(entry, sound)
        if wrong:
            return Soundness(head=sound, broken_at=sound.number + 1, finding=wrong)
        sound = Head(entry.number, entry.digest)
    return _end(sound, head)


def digest_before(entries: Sequence[Entry]) -> str | None:
    """The digest that the first entry follows on, None where no checkpoint names it."""
    first = entries[0]
    if first.number == 1:
        return GENESIS
    named = [it.fields.get("BEFORE", "") for it in entries if _names(it, first.number)]
    # A chain that was joined may have checkpoints of the other, with the same number.
    fitting = [it for it in named if _digest(it, first.number, first) == first.digest]
    return next(iter(fitting or named), None)


def joined(own: Sequence[Entry], other: Sequence[Entry], before_other: str, wall: int) -> list[Entry]:
    """The chain `own` and what only `other` has, which is sound behind `before_other`; it goes on from its head.

    They are recorded as what was brought, each with the digest that it had: nothing that is here is numbered anew, and
    none passes for what was recorded here, also where `other` is the same chain, only further: anybody can reckon on a
    chain. Of many the newest are brought. A chain that has nothing yet takes the other as it is.
    """
    if not own:
        return _begun(other, before_other, wall)
    brought = [it.fields[BROUGHT] for it in own if BROUGHT in it.fields]
    known = {it.digest for it in own} | set(brought)
    missing = [it for it in other if known.isdisjoint((it.digest, it.fields.get(BROUGHT, it.digest)))]
    room = max(MAX_BROUGHT - len(brought), 0)
    return [*own, *extended(head_of(own), map(_brought, missing[max(len(missing) - room, 0) :]))]


def _begun(other: Sequence[Entry], before: str, wall: int) -> list[Entry]:
    """A chain of the other's entries alone, with the checkpoint that it needs where its beginning is missing."""
    first = other[0].number if other else 1
    if first == 1 or any(_names(it, first) and it.fields.get("BEFORE") == before for it in other):
        return list(other)
    return [*other, *extended(head_of(other), [checkpoint(first, before, wall)])]


def _brought(entry: Entry) -> Act:
    return msgspec.structs.replace(act_in(entry), fields={BROUGHT: entry.digest, **entry.fields})


def _names(entry: Entry, first: int) -> bool:
    """Whether it is the checkpoint of a chain that begins with that number."""
    return entry.what == CHECKPOINT and entry.fields.get("FIRST") == str(first)


def _wrong(entry: Entry, before: Head) -> str | None:
    if entry.number != before.number + 1:
        return f"Entry {before.number + 1} is missing; entry {entry.number} follows on {before.number}."
    if entry.digest != _digest(before.digest, entry.number, entry):
        return f"Entry {entry.number} or the one before it is not as it was recorded."
    return None


def _end(sound: Head, head: Head | None) -> Soundness:
    if head is not None and head != sound:
        number = min(sound.number, head.number) + (sound.number != head.number)
        finding = f"The last entry is {sound.number}, and entry {head.number} was recorded last."
        if sound.number == head.number:
            finding = f"Entry {head.number} is another than was recorded: the chain was reckoned anew."
        return Soundness(head=sound, broken_at=number, finding=finding)
    return Soundness(head=sound, broken_at=None, finding="Every entry is as it was recorded.")


def _digest(before: str, number: int, act: Act) -> str:
    texts = [str(number), str(act.wall), act.who, act.what, act.message]
    texts += [text for name in sorted(act.fields) for text in (name, act.fields[name])]
    encoded = (text.encode() for text in texts)
    return hashlib.sha256(length_prefixed(_LABEL, before.encode(), *encoded)).hexdigest()


def _cut(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # no database takes half a surrogate pair
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
