"""The table of events: one entry for each, and MESSAGE_IDs that the journal takes and nobody else has."""

from __future__ import annotations

import re

from featurekeyd.policy.events import SORT, EventName, Priority
from featurekeyd.policy.reasons import MEANING


def test_every_event_has_a_priority_and_a_message_id() -> None:
    assert SORT.keys() == set(EventName)
    assert {sort.priority for sort in SORT.values()} <= set(Priority)


def test_message_ids_are_32_hexadecimal_digits_and_unique_over_both_tables() -> None:
    ids = [sort.message_id for sort in SORT.values()] + [meaning.message_id for meaning in MEANING.values()]
    assert [each for each in ids if not re.fullmatch(r"[0-9a-f]{32}", each)] == []
    assert sorted(set(ids)) == sorted(ids)


def test_a_false_emergency_claim_is_the_loudest_event() -> None:
    assert SORT[EventName.EMERGENCY_CLAIM].priority == min(sort.priority for sort in SORT.values())
