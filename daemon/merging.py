"""What becomes of the state when a backup is restored into it: nothing that has advanced goes back.

* Marks, drained time, trials, rescues, permits, checks and what the vendor is to be told are the later or larger of
  both, so that they come out the same whichever of the two is restored into the other, and however often.
* License list and certificate are those with the higher number and the later day that either side has seen, and none
  where the side that has seen it has lost it: an earlier one would be refused as older.
* Typed keys and reservations are those of both. What was reserved here stays as it is.
* The enrolled host is the one of the later permit, renewal or day. Where the host is another one, the host binding says
  so and not the backup.
* An answer of the vendor is kept where no newer check was taken here. What waits for an answer or for an address is
  not restored: it was asked by what is no more. Nor is it restored which causes lasted: here they are looked at.
* The audit goes on from where it is. What only the backup has is recorded behind it, marked as brought; where the
  backup is the same audit, only further, its entries come as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from featurekeyd.policy.audit import Entry, joined
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.reservations import MAX_RESERVATIONS, MAX_RESERVATIONS_IN_ALL, Reservation
from featurekeyd.policy.timekeeping import TimeMark

from .facts import Answer, Facts
from .store import Documents, Kept

_Key = TypeVar("_Key")
_Size = TypeVar("_Size", int, float)
_NO_MARK = Mark()


def merged(here: Kept, backup: Kept, serial: str | None, before_audit: str, wall: int) -> Kept:
    """The state after a restore; `serial` is that of the backup, `before_audit` the digest before its first entry."""
    return Kept(
        documents=merged_documents(here.documents, backup.documents, serial or ""),
        drained=_largest(here.drained, backup.drained),
        reservations=merged_reservations(here.reservations, backup.reservations),
        facts=merged_facts(here.facts, backup.facts),
        audit=tuple(joined(here.audit, backup.audit, before_audit, wall)),
    )


def merged_documents(here: Documents, other: Documents, serial: str) -> Documents:
    """The documents of both, for that serial; those of another serial here are none, as a restore needs that."""
    mine, its = here.marks.get(serial, _NO_MARK), other.marks.get(serial, _NO_MARK)
    ahead = (mine.list_number > its.list_number) - (mine.list_number < its.list_number)
    certified = (mine.certified > its.certified) - (mine.certified < its.certified)
    return Documents(
        certificate=_text_of(certified, here.certificate, other.certificate),
        license_list=_text_of(ahead, here.license_list, other.license_list),
        typed=tuple(dict.fromkeys((*here.typed, *other.typed))),
        removed=here.removed | other.removed if ahead == 0 else (here.removed if ahead > 0 else other.removed),
        marks={
            each: _merged_mark(here.marks.get(each, _NO_MARK), other.marks.get(each, _NO_MARK))
            for each in sorted(here.marks.keys() | other.marks.keys())
        },
    )


def merged_facts(here: Facts, other: Facts) -> Facts:
    """The facts of both; what waits is left as it is here."""
    checks = _largest(here.checks, other.checks)
    return Facts(
        clock=_merged_clock(here.clock, other.clock),
        host=max((it for it in (here.host, other.host) if it is not None), key=_age_of_host, default=None),
        permits=_largest(here.permits, other.permits),
        announced=here.announced,
        rescues=_merged_rescues(here.rescues, other.rescues),
        opening=max((it for it in (here.opening, other.opening) if it is not None), key=_age_of_opening, default=None),
        answer=_newest_answer((here.answer, other.answer), checks),
        checks=checks,
        retired=_merged_retired(here, other),
        nonces=here.nonces,
        told=here.told,
        emergency_claims=max(here.emergency_claims, other.emergency_claims),
        tamperings=max(here.tamperings, other.tamperings),
        clock_repairs=max(here.clock_repairs, other.clock_repairs),
        check_failing=here.check_failing or other.check_failing,
        lasting=here.lasting,
    )


def _merged_retired(here: Facts, other: Facts) -> tuple[str, ...]:
    """The serials that are retired by the newer answer for each."""
    newer = {serial for serial, number in other.checks.items() if number > here.checks.get(serial, 0)}
    kept = [serial for serial in here.retired if serial not in newer]
    return tuple(sorted({*kept, *(serial for serial in other.retired if serial in newer)}))


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
            ("enrolled host", before.facts.host, after.facts.host),
            ("answer of the vendor", before.facts.answer, after.facts.answer),
            ("rescue that is open", before.facts.opening, after.facts.opening),
        )
        if old != new and new is not None
    ]
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
    marks = ("clock", "rescues", "permits", "checks", "emergency_claims", "tamperings", "clock_repairs")
    advanced = [name.replace("_", " ") for name in marks if getattr(before.facts, name) != getattr(after.facts, name)]
    return told + ([f"advanced: {', '.join(advanced)}"] if advanced else [])


def _text_of(ahead: int, here: str | None, other: str | None) -> str | None:
    if ahead == 0:
        return other if here is None else here
    return here if ahead > 0 else other


def _merged_mark(one: Mark, other: Mark) -> Mark:
    trials = one.trials.keys() | other.trials.keys()
    return Mark(
        list_number=max(one.list_number, other.list_number),
        listed=max(one.listed, other.listed),
        certified=max(one.certified, other.certified),
        trials={code: max(it.trials[code] for it in (one, other) if code in it.trials) for code in sorted(trials)},
    )


def _largest(one: dict[_Key, _Size], other: dict[_Key, _Size]) -> dict[_Key, _Size]:
    return {**one, **{key: max(value, one.get(key, value)) for key, value in other.items()}}


def _merged_clock(one: TimeMark | None, other: TimeMark | None) -> TimeMark | None:
    if one is None or other is None:
        return one or other
    latest = max(one, other, key=lambda it: (it.wall, it.boot_id, it.boot))
    return msgspec.structs.replace(latest, ahead=min(one.ahead, other.ahead), repairs=max(one.repairs, other.repairs))


def _merged_rescues(one: dict[str, RescueMark], other: dict[str, RescueMark]) -> dict[str, RescueMark]:
    return {**one, **{serial: mark.merged(one.get(serial, mark)) for serial, mark in other.items()}}


def _age_of_host(host: Enrolled) -> tuple[object, ...]:
    return (host.permit, host.renewals, host.on, msgspec.json.encode(host, order="sorted"))


def _age_of_opening(opening: Opening) -> tuple[object, ...]:
    return (opening.day, opening.drained, opening.serial)


def _newest_answer(answers: Iterable[Answer | None], checks: dict[str, int]) -> Answer | None:
    """The newest of the answers that no newer check of their serial has replaced."""
    standing = [it for it in answers if it is not None and it.number >= checks.get(it.serial, 0)]
    return max(standing, key=lambda it: (it.number, it.serial, it.text), default=None)


def _trials(documents: Documents) -> int:
    return sum(len(mark.trials) for mark in documents.marks.values())


def _number(audit: tuple[Entry, ...]) -> int:
    return audit[-1].number if audit else 0
