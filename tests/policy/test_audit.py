"""The audit's chain: whatever is edited, taken out or moved is found, and joining two chains loses nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.audit import (
    AUDITED,
    BROUGHT,
    CHECKPOINT,
    GENESIS,
    MAX_BROUGHT,
    MAX_FIELDS,
    MAX_TEXT,
    NOT_AUDITED,
    START,
    Act,
    Entry,
    act_in,
    act_of,
    checkpoint,
    digest_before,
    extended,
    head_of,
    joined,
    verify,
)
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.request_text import Head

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
ACTS = st.builds(
    Act,
    wall=st.integers(0, 2**40),
    who=TEXT,
    what=TEXT,
    message=TEXT,
    fields=st.dictionaries(TEXT, TEXT, max_size=3),
)
CHAINS = st.lists(ACTS, min_size=1, max_size=8).map(lambda acts: extended(START, acts))


def act(name: str, **fields: str) -> Act:
    return Act(wall=1, who="uid 0", what=name, message=f"{name}.", fields=fields)


def chain(*names: str) -> list[Entry]:
    return extended(START, map(act, names))


def names(entries: list[Entry]) -> list[str]:
    return [entry.what for entry in entries]


@given(CHAINS)
def test_a_chain_as_it_was_recorded_is_sound_to_its_head(entries: list[Entry]) -> None:
    found = verify(entries, head_of(entries))
    assert (found.sound, found.head) == (True, head_of(entries))
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))


def test_a_chain_without_entries_is_sound_unless_some_were_recorded() -> None:
    assert verify([]).sound
    assert verify([], START).sound
    found = verify([], Head(3, "a" * 64))
    assert (found.broken_at, found.finding) == (1, "The last entry is 0, and entry 3 was recorded last.")


@given(CHAINS, st.data())
def test_an_entry_that_was_edited_is_named(entries: list[Entry], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    old = entries[place]
    field = data.draw(st.sampled_from(["wall", "who", "what", "message", "fields", "digest"]))
    new = data.draw({"wall": st.integers(0, 2**40), "fields": st.dictionaries(TEXT, TEXT)}.get(field, TEXT))
    if new == getattr(old, field):
        return
    entries[place] = msgspec.structs.replace(old, **{field: new})
    found = verify(entries)
    assert (found.broken_at, found.head.number) == (place + 1, place)


@given(CHAINS, st.data())
def test_an_entry_that_was_taken_out_is_missed(entries: list[Entry], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    head = head_of(entries)
    del entries[place]
    assert verify(entries, head).broken_at is not None
    if place < len(entries):  # what was cut off the end is missed only by who knows the head
        assert verify(entries).broken_at == place + 1


@given(CHAINS, st.data())
def test_entries_that_were_exchanged_are_found(entries: list[Entry], data: st.DataObject) -> None:
    if len(entries) < 2:
        return
    place = data.draw(st.integers(0, len(entries) - 2))
    entries[place], entries[place + 1] = entries[place + 1], entries[place]
    assert verify(entries).broken_at is not None
    one, other = entries[place], entries[place + 1]
    if act_in(one) != act_in(other):
        entries[place] = msgspec.structs.replace(one, number=other.number)
        entries[place + 1] = msgspec.structs.replace(other, number=one.number)
        assert verify(entries).broken_at == place + 1


@given(CHAINS, ACTS)
def test_an_entry_put_in_between_is_found(entries: list[Entry], more: Act) -> None:
    (false,) = extended(START, [more])
    if false != entries[0]:
        assert not verify([false, *entries]).sound


def test_a_chain_reckoned_anew_is_found_by_its_head() -> None:
    head = head_of(chain("a", "b"))
    found = verify(chain("a", "c"), head)
    assert (found.broken_at, found.sound) == (2, False)
    assert "reckoned anew" in found.finding


def test_fields_cannot_be_split_in_another_way() -> None:
    one, other = act("x", A="1", B="2"), act("x", A="1B2")
    assert extended(START, [one])[0].digest != extended(START, [other])[0].digest


# Old entries dropped


def shortened(entries: list[Entry], first: int) -> list[Entry]:
    before = entries[first - 2].digest
    return [*entries[first - 1 :], *extended(head_of(entries), [checkpoint(first, before, 5)])]


@given(CHAINS, st.data())
def test_a_checkpoint_accounts_for_entries_that_were_dropped(entries: list[Entry], data: st.DataObject) -> None:
    if len(entries) < 2:
        return
    left = shortened(entries, data.draw(st.integers(2, len(entries))))
    assert verify(left).sound
    assert digest_before(left) is not None
    if len(left) > 2:
        assert verify(left[1:]).broken_at == 1, "more is gone than the checkpoint says"
    assert verify(left[:-1]).broken_at == 1


def test_a_checkpoint_of_another_chain_is_passed_over() -> None:
    left = shortened(chain("a", "b", "c"), 2)
    left += extended(head_of(left), [checkpoint(2, "f" * 64, 5)])
    assert verify(left).sound


def test_a_checkpoint_edited_to_hide_a_gap_breaks_the_chain() -> None:
    left = shortened(chain("a", "b", "c"), 2)
    left[-1] = msgspec.structs.replace(left[-1], fields={"FIRST": "3", "BEFORE": left[0].digest})
    assert not verify(left[1:]).sound


# Two chains made one


def test_a_chain_that_has_all_of_the_other_stays_as_it_is() -> None:
    own = chain("a", "b", "c")
    assert joined(own, own[:2], GENESIS, 5) == own
    assert joined(own, [], GENESIS, 5) == own


def test_a_chain_that_goes_on_from_this_one_is_marked_as_brought_too() -> None:
    other = chain("a", "b", "c")
    both = joined(other[:1], other, GENESIS, 5)
    assert names(both) == ["a", "b", "c"]
    assert [it.fields.get(BROUGHT) for it in both] == [None, other[1].digest, other[2].digest]
    assert joined(both, other, GENESIS, 5) == both


def test_a_chain_without_entries_takes_the_other_as_it_is() -> None:
    other = chain("a", "b", "c")
    assert joined([], other, GENESIS, 5) == other


def test_so_many_entries_are_brought_and_of_more_the_newest() -> None:
    own, other = chain("a"), chain(*map(str, range(MAX_BROUGHT + 7)))
    both = joined(own, other, GENESIS, 5)
    assert len(both) == 1 + MAX_BROUGHT
    assert (both[0], both[-1].what) == (own[0], str(MAX_BROUGHT + 6))
    assert joined(both, chain(*"bcd"), GENESIS, 5) == both


def test_what_only_the_other_has_comes_after_marked_as_brought() -> None:
    base = chain("a")
    own = [*base, *extended(head_of(base), [act("mine")])]
    other = [*base, *extended(head_of(base), [act("its")])]
    both = joined(own, other, GENESIS, 5)
    assert names(both) == ["a", "mine", "its"]
    assert both[2].fields == {BROUGHT: other[1].digest}
    assert verify(both, head_of(both)).sound
    assert joined(both, other, GENESIS, 5) == both
    assert joined(both, own, GENESIS, 5) == both
    assert names(joined(other, both, GENESIS, 5)) == ["a", "its", "mine"], "what comes back is known"


def test_a_chain_without_its_beginning_gets_the_checkpoint_that_it_needs() -> None:
    whole = chain("a", "b", "c")
    both = joined([], whole[1:], whole[0].digest, 5)
    assert names(both) == ["b", "c", CHECKPOINT]
    assert verify(both).sound
    assert joined(both, whole[1:], whole[0].digest, 6) == both


@given(CHAINS, CHAINS, st.integers(0, 7))
def test_joining_loses_nothing_moves_nothing_and_does_so_once(
    own: list[Entry], other: list[Entry], common: int
) -> None:
    base = other[:common]
    own = [*base, *extended(head_of(base), map(act_in, own))]
    both = joined(own, other, GENESIS, 5)
    assert verify(both).sound
    assert both[: len(own)] == own
    assert {it.digest for it in other} <= {it.fields.get(BROUGHT, it.digest) for it in both}
    assert joined(both, other, GENESIS, 6) == both
    assert joined(both, own, GENESIS, 6) == both


@given(CHAINS, CHAINS)
def test_the_same_happened_whichever_is_joined_to_which(one: list[Entry], other: list[Entry]) -> None:
    def happened(entries: list[Entry]) -> list[str]:
        return sorted(it.fields.get(BROUGHT, it.digest) for it in entries)

    assert happened(joined(one, other, GENESIS, 5)) == happened(joined(other, one, GENESIS, 5))


# What is recorded


def test_of_each_event_it_is_said_whether_it_is_recorded() -> None:
    assert set(EventName) - AUDITED - NOT_AUDITED == set(), "say in policy/audit.py whether these are recorded"
    assert set() == AUDITED & NOT_AUDITED


def test_every_change_of_the_standing_is_recorded() -> None:
    assert {name for name in EventName if name.startswith("standing_")} <= AUDITED


def test_an_event_is_recorded_with_who_did_it() -> None:
    event = Event(name=EventName.RESERVED, message="Reserved.", fields={"BY": "uid 7", "FEATURE": "trunk"})
    assert act_of(event, 12.9) == Act(
        wall=12, who="uid 7", what="reserved", message="Reserved.", fields={"FEATURE": "trunk"}
    )
    standing = act_of(Event(name=EventName.STANDING_GRACE, message="Grace."), 0)
    assert standing is not None
    assert standing.who == "featurekeyd"
    assert act_of(Event(name=EventName.DENIED, message="No."), 0) is None


def test_long_texts_and_many_fields_are_cut() -> None:
    fields = {f"F{number}": "x" * (MAX_TEXT + 1) for number in range(MAX_FIELDS + 5)}
    found = act_of(Event(name=EventName.RESERVED, message="y" * MAX_TEXT, fields=fields), 0)
    assert found is not None
    assert (len(found.fields), found.message) == (MAX_FIELDS, "y" * MAX_TEXT)
    assert {len(value) for value in found.fields.values()} == {MAX_TEXT}
    assert found.fields["F0"].endswith("x…")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_spelled_out(text: str) -> None:
    found = act_of(Event(name=EventName.RESERVED, message=text), 0)
    assert found is not None
    assert verify(extended(START, [found])).sound
    assert "\\ud" in found.message
