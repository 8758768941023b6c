"""A host's check of itself: when it is due, and one finding for each thing it looked at."""

from __future__ import annotations

import datetime

import pytest

from featurekeyd.policy.catalog import CheckRule
from featurekeyd.policy.certificate import Certificate, Pair
from featurekeyd.policy.localcheck import CheckItem, LocalCheck, Schedule, Trouble, check_locally
from featurekeyd.policy.presence import NOT_LOOKED_YET, Sighting, judged

CARD = "035344535530384780deadbeef0136"


def certificate(kind: str = "sd-card", pairs: tuple[Pair, ...] = ()) -> Certificate:
    return Certificate(
        serial="110123456789",
        catalog="ip-office",
        kind=kind,
        hardware_id=CARD,
        issued=datetime.date(2026, 1, 31),
        test=False,
        rescue_anchor=bytes(20),
        rescue_days=1,
        pairs=pairs,
    )


PROVING = certificate("usb-otp", (Pair(bytes(32), bytes(32)),))
THERE = Sighting(state="present", finding="There.", reader="r", kind="sd-card", hardware_id=CARD)
USB = Sighting(
    state="present", finding="There.", reader="r", kind="usb-otp", hardware_id=CARD, challenge=bytes(32), answer=b"x"
)
GONE = Sighting(state="absent", finding="Nothing is plugged in.", reader="r")


def checked(
    seen: Sighting, its: Certificate | None, troubles: dict[CheckItem, Trouble] | None = None, *, evidence: bool = False
) -> LocalCheck:
    return check_locally(judged(seen, its), its, troubles or {}, evidence_required=evidence)


def test_a_good_system_passes_and_every_item_is_told() -> None:
    check = checked(THERE, certificate())
    assert check.passed
    assert check.failed == ()
    assert [finding.item for finding in check.findings] == [it for it in CheckItem if it is not CheckItem.EVIDENCE]
    assert all(finding.message and finding.remedy is None for finding in check.findings)


def test_evidence_is_an_item_where_the_catalog_requires_it() -> None:
    check = checked(THERE, certificate(), evidence=True)
    assert [finding.item for finding in check.findings] == list(CheckItem)
    missing = checked(THERE, certificate(), {CheckItem.EVIDENCE: Trouble("None yet.", "Ask.")}, evidence=True)
    assert missing.failed == (CheckItem.EVIDENCE,)


@pytest.mark.parametrize("item", [CheckItem.SIGNATURES, CheckItem.HOST, CheckItem.DATES, CheckItem.STATE])
def test_one_trouble_fails_the_check_and_names_its_cure(item: CheckItem) -> None:
    check = checked(THERE, certificate(), {item: Trouble("Broken.", "Mend it.")})
    assert (check.passed, check.failed) == (False, (item,))
    (finding,) = [it for it in check.findings if it.item is item]
    assert (finding.good, finding.message, finding.remedy) == (False, "Broken.", "Mend it.")


def test_a_warning_is_told_and_fails_nothing() -> None:
    check = checked(THERE, certificate(), {CheckItem.HOST: Trouble("A new NIC.", "Enroll it.", warning=True)})
    assert check.passed
    assert [finding.message for finding in check.findings if finding.warning] == ["A new NIC."]


def test_an_absent_key_fails_both_of_its_items_and_one_without_pairs_only_one() -> None:
    assert checked(GONE, PROVING).failed == (CheckItem.FEATURE_KEY, CheckItem.ANSWER)
    assert checked(GONE, certificate()).failed == (CheckItem.FEATURE_KEY,)
    assert "Nothing is plugged in." in checked(GONE, certificate()).findings[0].message


def test_a_wrong_answer_comes_from_a_key_that_is_there() -> None:
    assert judged(USB, PROVING).state == "wrong-answer"
    assert checked(USB, PROVING).failed == (CheckItem.ANSWER,)


def test_a_key_that_was_not_looked_for_fails_the_check() -> None:
    assert checked(NOT_LOOKED_YET, certificate()).failed == (CheckItem.FEATURE_KEY,)


def test_without_a_certificate_the_first_thing_to_do_is_said() -> None:
    check = checked(THERE, None)
    assert CheckItem.FEATURE_KEY in check.failed
    assert "featurekeyctl request" in (check.findings[0].remedy or "")


# When it is due


def test_the_first_check_comes_at_once_and_the_next_exactly_three_hours_later() -> None:
    every = CheckRule().seconds
    assert every == 10_800
    schedule = Schedule(every)
    assert schedule.is_due(0.0)
    schedule = schedule.done(100.0)
    assert not schedule.is_due(10_899.0)
    assert schedule.seconds_until(10_899.0) == 1.0
    assert schedule.is_due(10_900.0)
    assert schedule.is_due(10_901.0)


def test_a_check_on_demand_counts_and_missed_ones_are_made_up_once() -> None:
    schedule = Schedule(10_800.0).done(0.0).done(5_000.0)
    assert schedule.seconds_until(10_800.0) == 5_000.0
    assert schedule.done(100_000.0).seconds_until(100_000.0) == 10_800.0


def test_after_a_reboot_it_is_due() -> None:
    assert Schedule(10_800.0, last=50_000.0).is_due(20.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("59s", None), ("7d", 604_800), ("8d", None), ("3 hours", None), ("0h", None)]
)
def test_how_often_is_a_duration_within_bounds(text: str, seconds: int | None) -> None:
    assert CheckRule(check_every=text).seconds == seconds
