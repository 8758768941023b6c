"""The check that a host makes of itself: when it is due, and what it looks at, item by item.

Rules of this module:

* Every item is told each time, also those that are good: a technician sees what was looked at.
* A check fails by what does not hold. A warning, such as a changed host beside a Feature Key, fails nothing.
* Due is reckoned in boot time: the first check comes with the start, however long the host was off, and one that was
  missed is made up once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from .certificate import Certificate
from .presence import PRESENT, Sighting

WRONG_ANSWER = "wrong-answer"
"""The state of a Feature Key that is there and proves the wrong secret (see `presence.judged`)."""


class Schedule(msgspec.Struct, frozen=True):
    """When the next check is due, in boot time."""

    every: float
    """Seconds."""
    last: float | None = None
    """Boot time of the last check of this boot, on demand or not."""

    def seconds_until(self, boot: float) -> float:
        """Seconds until it is due, 0 when it is."""
        if self.last is None or boot < self.last:
            return 0.0
        return max(self.last + self.every - boot, 0.0)

    def is_due(self, boot: float) -> bool:
        """Whether it is due."""
        return self.seconds_until(boot) == 0.0

    def done(self, boot: float) -> Schedule:
        """The same after a check at that time."""
        return msgspec.structs.replace(self, last=boot)


class CheckItem(enum.StrEnum):
    """What a check looks at, in the order it is shown."""

    FEATURE_KEY = "feature_key"
    """The certified key is there."""
    ANSWER = "answer"
    """It proves that it holds the right secret."""
    SIGNATURES = "signatures"
    """The stored documents are the vendor's, unchanged."""
    HOST = "host"
    """The host is the one that was enrolled."""
    DATES = "dates"
    """The clock was not set back, and no license has a date that cannot be."""
    STATE = "state"
    """Nobody has edited or rolled back what is stored."""
    EVIDENCE = "evidence"
    """The vendor's signed answer, where the catalog requires one."""


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong with one item, and the cure; a warning fails no check."""

    message: str
    remedy: str
    warning: bool = False


class ItemFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of one item."""

    item: CheckItem
    good: bool
    message: str
    remedy: str | None = None
    warning: bool = False


_GOOD = {
    CheckItem.SIGNATURES: "The certificate and the license list are signed by the vendor and unchanged.",
    CheckItem.HOST: "The host is the one that was enrolled.",
    CheckItem.DATES: "The date is plausible.",
    CheckItem.STATE: "The state is whole and unchanged.",
    CheckItem.EVIDENCE: "The vendor's answer is good.",
}
_SEE_KEY = "featurekeyctl key shows what is found; put the certified Feature Key in."


class LocalCheck(msgspec.Struct, frozen=True):
    """One check: a finding for each item."""

    findings: tuple[ItemFinding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.good for finding in self.findings)

    @property
    def failed(self) -> tuple[CheckItem, ...]:
        """The items that did not hold."""
        return tuple(finding.item for finding in self.findings if not finding.good)


def check_locally(
    feature_key: Sighting,
    certificate: Certificate | None,
    troubles: Mapping[CheckItem, Trouble],
    *,
    evidence_required: bool = False,
) -> LocalCheck:
    """The check as of now: the judged sighting of the Feature Key, and what is wrong with the other items."""
    findings = [_of_key(feature_key, certificate), _of_answer(feature_key, certificate)]
    for item, message in _GOOD.items():
        if item is not CheckItem.EVIDENCE or evidence_required:
            findings.append(_of(item, message, troubles.get(item)))
    return LocalCheck(tuple(findings))


def _of(item: CheckItem, message: str, trouble: Trouble | None) -> ItemFinding:
    if trouble is None:
        return ItemFinding(item=item, good=True, message=message)
    return ItemFinding(
        item=item, good=trouble.warning, message=trouble.message, remedy=trouble.remedy, warning=trouble.warning
    )


def _of_key(seen: Sighting, certificate: Certificate | None) -> ItemFinding:
    if certificate is None:
        cure = "featurekeyctl request, and featurekeyctl certificate import FILE with what the vendor sends."
        return _of(CheckItem.FEATURE_KEY, "", Trouble("No certificate of a Feature Key is imported.", cure))
    # A key with the right number is there, whatever it answers.
    there = seen.state in {PRESENT, WRONG_ANSWER}
    trouble = None if there else Trouble(seen.finding, _SEE_KEY)
    return _of(CheckItem.FEATURE_KEY, f"The Feature Key with serial {certificate.serial} is there.", trouble)


def _of_answer(seen: Sighting, certificate: Certificate | None) -> ItemFinding:
    if certificate is not None and not certificate.pairs:
        return _of(CheckItem.ANSWER, f"A Feature Key of kind {certificate.kind} is known by its number only.", None)
    trouble = None if seen.state == PRESENT else Trouble(f"The Feature Key gave no proof: {seen.finding}", _SEE_KEY)
    return _of(CheckItem.ANSWER, "The Feature Key proved itself.", trouble)
