"""What becomes of the state when a backup is restored into it: nothing that has advanced here goes back.

A backup is an unsigned text: it may take away, and gives no right but what the vendor has signed in it.

* Marks, drained time, trials, rescues and permits are the later or larger of both; the mark of the time, and the days
  of documents that are not in the backup, as far as the clock of this host has come. What the vendor is to be told is
  too, unless the vendor has answered here since the backup was made.
* License list and certificate are those with the higher number and the later day that either side has seen, and none
  where the side that has seen it has lost it: an earlier one would be refused as older.
* Typed keys and reservations are those of both. What was reserved here stays as it is.
* A host that is enrolled here stays enrolled; only its counters advance. Where none is, it is the one of the backup as
  it was first enrolled, which the certificate of a host vouches for: what it has learned since, nobody has signed.
* What a rescue code has opened is not restored, nor what waits for an answer or for an address: it was asked by what is
  no more. Nor is it restored which causes lasted and how the last check ended: here they are looked at.
* The vendor's answer is the newest for the certified serial, by its own signed text. Retired serials and revoked keys
  are those of both.
* The audit goes on from where it is. What only the backup has is recorded behind it, marked as brought.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from featurekeyd.policy.audit import Entry, joined
from featurekeyd.policy.checkevidence import CheckEvidence
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.rescue import RescueMark
from featurekeyd.policy.reservations import MAX_RESERVATIONS, MAX_RESERVATIONS_IN_ALL, Reservation
from featurekeyd.policy.timekeeping import TimeMark

from .facts import Answer, Facts
from .store import Documents, Kept

_Key = TypeVar("_Key")
_Size = TypeVar("_Size", int, float)
_NO_MARK = Mark()

COUNTS = ("emergency_claims", "tamperings", "state_losses", "clock_repairs")
"""What the vendor is told of with a request, and what an answer takes off."""


def merged(
    here: Kept, backup: Kept, serial: str | None, before_audit: str, wall: int, *, vouched: CheckEvidence | None = None
) -> Kept:
    """The state after a restore; `serial` is that of the backup, `before_audit` the digest before its first entry.

    `vouched` is what the answer in the backup says, its signature verified; None where it is not believed.
    """
    return Kept(
        documents=merged_documents(here.documents, backup.documents, serial or "", _today(here.facts, wall)),
        drained=_largest(here.drained, backup.drained),
        reservations=merged_reservations(here.reservations, backup.reservations),
        facts=merged_facts(here.facts, backup.facts, serial, wall, vouched),
        audit=tuple(joined(here.audit, backup.audit, before_audit, wall)),
    )


def merged_documents(here: Documents, other: Documents, serial: str, today: datetime.date) -> Documents:
    """The documents of both, for that serial; those of another serial here are none, as a restore needs that.

    The other's marks prove no date after `today`; what its documents prove themselves, they prove when they are read.
    """
    mine, its = here.marks.get(serial, _NO_MARK), other.marks.get(serial, _NO_MARK)
    ahead = (mine.list_number > its.list_number) - (mine.list_number < its.list_number)
    certified = (mine.certified > its.certified) - (mine.certified < its.certified)
    return Documents(
        certificate=_text_of(certified, here.certificate, other.certificate),
        license_list=_text_of(ahead, here.license_list, other.license_list),
        typed=tuple(dict.fromkeys((*here.typed, *other.typed))),
        removed=here.removed | other.removed if ahead == 0 else (here.removed if ahead > 0 else other.removed),
        marks=_merged_marks(here.marks, other.marks, today),
    )


def merged_facts(
    here: Facts, other: Facts, serial: str | None, wall: float, vouched: CheckEvidence | None = None
) -> Facts:
    """What is here, and what the facts of a backup take away from it, at `wall` by the clock of this host.

    `vouched` is what the answer in the backup says, its signature verified.
    """
    answered = {it for it, number in here.checks.items() if number > other.checks.get(it, 0)}
    counts = {} if serial in answered else {name: max(getattr(here, name), getattr(other, name)) for name in COUNTS}
    facts = msgspec.structs.replace(
        here,
        clock=_merged_clock(here.clock, other.clock, wall),
        host=_merged_host(here.host, other.host),
        permits=_largest(here.permits, other.permits),
        rescues=_merged_rescues(here.rescues, other.rescues),
        # A newer answer that is taken here has said that it is not retired, or not any more.
        retired=_joined(here.retired, (it for it in other.retired if it not in answered)),
        revoked=_joined_keys(here.revoked, {it: keys for it, keys in other.revoked.items() if it not in answered}),
        **counts,
    )
    if vouched is None or other.answer is None or not _replaces(vouched, here, serial):
        return facts
    retired = _joined(facts.retired, (vouched.serial,) if vouched.retired else ())
    answer = Answer(serial=vouched.serial, number=vouched.number, text=other.answer.text)
    checks = here.checks | {vouched.serial: vouched.number}
    revoked = {vouched.serial: tuple(key.text for key in vouched.revoked)} if vouched.revoked else {}
    revoked = _joined_keys(facts.revoked, revoked)
    return msgspec.structs.replace(facts, answer=answer, checks=checks, retired=retired, revoked=revoked)


def _replaces(vouched: CheckEvidence, here: Facts, serial: str | None) -> bool:
    """Whether a signed answer for the certified serial is newer than all that was taken here, or is the one lost here.

    One that a retired serial is to be good again counts only where it is imported itself.
    """
    if vouched.serial != serial or (serial in here.retired and not vouched.retired):
        return False
    taken = here.checks.get(vouched.serial, 0)
    lost = here.answer is None or here.answer.serial != serial
    return vouched.number > taken or (vouched.number == taken and lost)


def gone_on(remembered: Kept, file: Kept, wall: float) -> Kept:
    """What a state file says, beside what this boot of the host remembers, of which the file sets nothing back."""
    marks = _merged_marks(remembered.documents.marks, file.documents.marks, _today(remembered.facts, wall))
    return msgspec.structs.replace(
        file,
        documents=msgspec.structs.replace(file.documents, marks=marks),
        drained=_largest(file.drained, remembered.drained),
        facts=merged_facts(remembered.facts, file.facts, None, wall),
    )


def caught_up(before: Facts, after: Facts, current: Facts) -> Facts:
    """What was merged from `before`, with what has happened here meanwhile, where `current` is true now."""
    counted = {name: getattr(current, name) + getattr(after, name) - getattr(before, name) for name in COUNTS}
    return msgspec.structs.replace(
        current,
        clock=_merged_clock(current.clock, after.clock, math.inf),
        host=_merged_host(current.host, after.host),
        permits=_largest(current.permits, after.permits),
        rescues=_merged_rescues(current.rescues, after.rescues),
        answer=after.answer,
        checks=after.checks,
        retired=after.retired,
        revoked=after.revoked,
        **counted,
    )


def merged_reservations(here: tuple[Reservation, ...], other: tuple[Reservation, ...]) -> tuple[Reservation, ...]:
    """Those that are here, and of the others those for keys without one, as far as there is room."""
    kept, counts = list(here), Counter(it.feature for it in here)
    there = {(it.feature, it.key) for it in here}
    for it in other:
        room = counts[it.feature] < MAX_RESERVATIONS and len(kept) < MAX_RESERVATIONS_IN_ALL
        if (it.feature, it.key) not in there and room:
            counts[it.feature] += 1
            kept.append(it)
    return tuple(kept)


def differences(before: Kept, after: Kept) -> list[str]:
    """What a restore changes, a phrase for each; drained time is told by the meter."""
    told = [
        f"{what} from the backup"
        for what, old, new in (
            ("certificate", before.documents.certificate, after.documents.certificate),
            ("license list", before.documents.license_list, after.documents.license_list),
            ("answer of the vendor", before.facts.answer, after.facts.answer),
        )
        if old != new and new is not None
    ]
    if before.facts.host is None and after.facts.host is not None:
        told.append("enrolled host from the backup")
    if before.documents.license_list is not None and after.documents.license_list is None:
        told.append("no license list: the backup has seen a later one; import the newest")
    told += [
        f"{cause} drained to {seconds:.0f} s"
        for cause, seconds in sorted(after.drained.items())
        if seconds > before.drained.get(cause, 0.0)
    ]
    told += [
        f"{new - old} more {what}"
        for what, old, new in (
            ("typed keys", len(before.documents.typed), len(after.documents.typed)),
            ("reservations", len(before.reservations), len(after.reservations)),
            ("trials seen", _trials(before.documents), _trials(after.documents)),
            ("entries of the audit", _number(before.audit), _number(after.audit)),
        )
        if new > old
    ]
    marks = ("clock", "rescues", "permits", "checks", "retired", "revoked", *COUNTS)
    advanced = [name.replace("_", " ") for name in marks if getattr(before.facts, name) != getattr(after.facts, name)]
    return told + ([f"advanced: {', '.join(advanced)}"] if advanced else [])


def _text_of(ahead: int, here: str | None, other: str | None) -> str | None:
    if ahead == 0:
        return other if here is None else here
    return here if ahead > 0 else other


def _today(here: Facts, wall: float) -> datetime.date:
    """The date that this host goes by."""
    return Now(max(wall, here.clock.wall if here.clock else wall), 0.0).date


def _merged_marks(here: dict[str, Mark], other: dict[str, Mark], today: datetime.date) -> dict[str, Mark]:
    serials = sorted(here.keys() | other.keys())
    return {it: _merged_mark(here.get(it, _NO_MARK), other.get(it, _NO_MARK), today) for it in serials}


def _merged_mark(one: Mark, other: Mark, today: datetime.date) -> Mark:
    trials = one.trials.keys() | other.trials.keys()
    return Mark(
        list_number=max(one.list_number, other.list_number),
        listed=max(one.listed, min(other.listed, today)),
        certified=max(one.certified, min(other.certified, today)),
        trials={code: max(it.trials[code] for it in (one, other) if code in it.trials) for code in sorted(trials)},
    )


def _largest(one: dict[_Key, _Size], other: dict[_Key, _Size]) -> dict[_Key, _Size]:
    return {**one, **{key: max(value, one.get(key, value)) for key, value in other.items()}}


def _joined(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))


def _joined_keys(one: dict[str, tuple[str, ...]], other: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {**one, **{serial: _joined(one.get(serial, ()), keys) for serial, keys in other.items()}}


def _merged_clock(here: TimeMark | None, other: TimeMark | None, wall: float) -> TimeMark | None:
    """The later mark, the other's as far as this host's own clock: no unsigned text makes it later than it is.

    How the boot time goes is known here alone.
    """
    if other is None:
        return here
    if here is None:
        return msgspec.structs.replace(other, wall=min(other.wall, wall), boot=0.0, boot_id="")
    later = max(here.wall, min(other.wall, wall))
    return msgspec.structs.replace(here, wall=later, repairs=max(here.repairs, other.repairs))


def _merged_host(here: Enrolled | None, other: Enrolled | None) -> Enrolled | None:
    if here is None or other is None:
        return here if other is None else msgspec.structs.replace(other, parts=other.origin)
    # Under a later permit the renewals began anew.
    renewals = max(here.renewals, other.renewals) if other.permit >= here.permit else here.renewals
    changed_on = here.changed_on
    if changed_on is not None:
        changed_on = min(changed_on, other.changed_on or changed_on)
    permit = max(here.permit, other.permit)
    return msgspec.structs.replace(here, permit=permit, renewals=renewals, changed_on=changed_on)


def _merged_rescues(one: dict[str, RescueMark], other: dict[str, RescueMark]) -> dict[str, RescueMark]:
    return {**one, **{serial: mark.merged(one.get(serial, mark)) for serial, mark in other.items()}}


def _trials(documents: Documents) -> int:
    return sum(len(mark.trials) for mark in documents.marks.values())


def _number(audit: tuple[Entry, ...]) -> int:
    return audit[-1].number if audit else 0
