"""Restoring: what advances comes out the same whichever is restored into the other, and nothing goes back.

That the facts of a backup give no right at all is held for any facts in test_restored_facts.py.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.merging import differences, merged, merged_documents, merged_facts, merged_reservations
from featurekeyd.daemon.store import Documents, Kept
from featurekeyd.policy.audit import GENESIS, START, Act, extended, verify
from featurekeyd.policy.checkevidence import CheckEvidence
from featurekeyd.policy.hostaddress import Announcement
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.reservations import MAX_RESERVATIONS, MAX_RESERVATIONS_IN_ALL, Reservation
from featurekeyd.policy.timekeeping import TimeMark

SERIAL, OTHER = "110123456789", "110123456780"
WALL = 1_790_000_000
DAYS = st.dates(datetime.date(2026, 1, 1), datetime.date(2026, 1, 9))
NUMBERS = st.integers(0, 4)
SECONDS = st.floats(0, 9)
SERIALS = st.sampled_from([SERIAL, OTHER])
MARKS = st.dictionaries(
    SERIALS,
    st.builds(
        Mark,
        list_number=NUMBERS,
        listed=DAYS,
        certified=DAYS,
        trials=st.dictionaries(st.integers(1, 3), DAYS, max_size=2),
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> Documents:
    """Documents of one serial: what a list of that number or a certificate of that day says is always the same."""
    marks = draw(MARKS)
    mark = marks.get(SERIAL, Mark())
    has_list, has_certificate = draw(st.booleans()), draw(st.booleans())
    return Documents(
        certificate=f"certificate of {mark.certified}" if has_certificate else None,
        license_list=f"list {mark.list_number}" if has_list else None,
        typed=tuple(draw(st.lists(st.sampled_from("ABCD"), unique=True))),
        removed=frozenset(draw(st.lists(st.sampled_from("XYZ")))),
        marks=marks,
    )


FACTS = st.builds(
    Facts,
    clock=st.none()
    | st.builds(TimeMark, wall=SECONDS, boot=SECONDS, boot_id=st.sampled_from("ab"), ahead=SECONDS, repairs=NUMBERS),
    host=st.none()
    | st.builds(
        Enrolled,
        origin=st.just({"nic": ("aa",)}),
        parts=st.dictionaries(st.sampled_from(["nic", "board"]), st.tuples(st.sampled_from(["aa", "bb"]))),
        unread=st.just({}),
        on=DAYS,
        renewals=NUMBERS,
        permit=NUMBERS,
    ),
    rescues=st.dictionaries(SERIALS, st.builds(RescueMark, day=DAYS, count=NUMBERS)),
    opening=st.none() | st.builds(Opening, serial=SERIALS, day=DAYS, drained=SECONDS),
    permits=st.dictionaries(SERIALS, NUMBERS),
    emergency_claims=NUMBERS,
    tamperings=NUMBERS,
    state_losses=NUMBERS,
    clock_repairs=NUMBERS,
    check_failing=st.booleans(),
)
ACTS = st.lists(
    st.builds(Act, wall=NUMBERS, who=st.just("uid 0"), what=st.sampled_from("abc"), message=st.just("")), max_size=4
)
STATES = st.builds(
    Kept,
    documents=documents(),
    drained=st.dictionaries(st.sampled_from(["absent", "unlisted"]), SECONDS),
    facts=FACTS,
    audit=ACTS.map(lambda acts: tuple(extended(START, acts))),
)


def both(here: Kept, other: Kept) -> Kept:
    return merged(here, other, SERIAL, GENESIS, WALL)


def in_any_order(kept: Kept) -> tuple[object, ...]:
    """What is said of a state apart from the order of its keys and of what happened."""
    documents = msgspec.structs.replace(kept.documents, typed=tuple(sorted(kept.documents.typed)))
    happened = sorted((it.wall, it.what) for it in kept.audit)
    facts, clock = kept.facts, kept.facts.clock
    late = None if clock is None else (clock.wall, clock.repairs)
    counts = facts.emergency_claims, facts.tamperings, facts.clock_repairs
    return documents, kept.drained, late, facts.permits, facts.rescues, counts, happened


@given(STATES, STATES)
def test_it_does_not_matter_which_is_restored_into_which(here: Kept, other: Kept) -> None:
    assert in_any_order(both(here, other)) == in_any_order(both(other, here))


@given(STATES, STATES)
def test_to_restore_twice_changes_nothing_more(here: Kept, other: Kept) -> None:
    once = both(here, other)
    assert both(once, other) == once
    assert differences(once, both(once, other)) == []


@given(STATES, STATES, STATES)
def test_the_order_of_two_backups_does_not_matter(here: Kept, one: Kept, other: Kept) -> None:
    assert in_any_order(both(both(here, one), other))[:6] == in_any_order(both(both(here, other), one))[:6]


@given(STATES, STATES)
def test_nothing_goes_back(here: Kept, other: Kept) -> None:
    after = both(here, other)
    for before in (here, other):
        assert all(after.drained[cause] >= seconds for cause, seconds in before.drained.items())
        for serial, mark in before.documents.marks.items():
            now = after.documents.marks[serial]
            assert (now.list_number, now.listed, now.certified) >= (mark.list_number, mark.listed, mark.certified)
            assert all(now.trials[code] >= day for code, day in mark.trials.items())
        assert set(before.documents.typed) <= set(after.documents.typed)
        assert not_behind(before.facts, after.facts)
    assert verify(after.audit).sound
    assert len(after.audit) >= max(len(here.audit), len(other.audit))


def not_behind(before: Facts, after: Facts) -> bool:
    clock = before.clock is None or (after.clock is not None and after.clock.wall >= before.clock.wall)
    rescues = all(
        after.rescues[it].day >= mark.day and after.rescues[it].count >= mark.count
        for it, mark in before.rescues.items()
    )
    host = before.host is None or (after.host is not None and after.host.permit >= before.host.permit)
    permits = all(after.permits[it] >= number for it, number in before.permits.items())
    counts = ("emergency_claims", "tamperings", "clock_repairs")
    told = all(getattr(after, name) >= getattr(before, name) for name in counts)
    return clock and rescues and host and permits and told


@given(STATES, STATES)
def test_a_list_or_certificate_is_never_older_than_the_newest_that_was_seen(here: Kept, other: Kept) -> None:
    after = both(here, other).documents
    mark = after.marks.get(SERIAL, Mark())
    assert after.license_list in {None, f"list {mark.list_number}"}
    assert after.certificate in {None, f"certificate of {mark.certified}"}


# One by one


def test_an_empty_system_takes_all_of_the_backup() -> None:
    backup = Documents(certificate="c", license_list="l", typed=("A",), removed=frozenset("X"), marks={SERIAL: Mark(7)})
    assert merged_documents(Documents(), backup, SERIAL, DAY) == backup


def test_the_newer_list_stays_with_what_was_removed_from_it() -> None:
    here = Documents(license_list="list 7", removed=frozenset("X"), marks={SERIAL: Mark(7)})
    older = Documents(license_list="list 6", removed=frozenset("Y"), typed=("K",), marks={SERIAL: Mark(6)})
    after = merged_documents(here, older, SERIAL, DAY)
    assert (after.license_list, after.removed, after.typed) == ("list 7", frozenset("X"), ("K",))


def test_a_list_older_than_one_that_was_lost_here_is_not_brought_back() -> None:
    here, backup = Documents(marks={SERIAL: Mark(7)}), Documents(license_list="list 6", marks={SERIAL: Mark(6)})
    assert merged_documents(here, backup, SERIAL, DAY).license_list is None
    lost = Kept(documents=Documents(license_list="list 6", marks={SERIAL: Mark(6)}))
    assert differences(lost, both(lost, Kept(documents=here))) == [
        "no license list: the backup has seen a later one; import the newest"
    ]


def test_a_restored_backup_refills_nothing_and_its_drained_time_counts() -> None:
    here, backup = Kept(drained={"a": 5.0, "b": 1.0}), Kept(drained={"a": 2.0, "b": 3.0, "c": 1.0})
    assert both(here, backup).drained == {"a": 5.0, "b": 3.0, "c": 1.0}


def test_what_waits_here_goes_on_waiting_and_what_waited_there_does_not() -> None:
    announced = Announcement(address="192.0.2.10", wall=1.0, boot=2.0, boot_id="boot")
    waiting = Facts(nonces=("aa",), announced=announced)
    assert facts_of_both(waiting, Facts()) == waiting
    assert facts_of_both(Facts(), waiting) == Facts()


def test_the_mark_of_a_backup_counts_as_far_as_the_clock_here() -> None:
    def mark(wall: float, boot_id: str = "here") -> TimeMark:
        return TimeMark(wall=wall, boot=3.0, boot_id=boot_id, ahead=2.0)

    both = facts_of_both(Facts(clock=mark(5.0)), Facts(clock=mark(99.0, "there")))
    assert both.clock == mark(10.0)
    assert facts_of_both(Facts(clock=mark(12.0)), Facts(clock=mark(99.0))).clock == mark(12.0)
    alone = facts_of_both(Facts(), Facts(clock=mark(99.0, "there"))).clock
    assert alone == msgspec.structs.replace(mark(10.0, ""), boot=0.0)


def test_a_mark_of_a_backup_proves_no_day_after_today() -> None:
    here = Documents(marks={SERIAL: Mark(7, DAY, DAY)})
    forged = Documents(marks={it: Mark(7, datetime.date(8999, 1, 1), DAY_LATER) for it in (SERIAL, OTHER)})
    assert merged_documents(here, forged, SERIAL, DAY).marks == {it: Mark(7, DAY, DAY) for it in (SERIAL, OTHER)}
    assert both(Kept(documents=here), Kept(documents=forged)).documents.marks[OTHER].listed == TODAY


# The vendor's answer


def answer(number: int, serial: str = SERIAL, **more: Any) -> CheckEvidence:
    checked = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    until = checked + datetime.timedelta(days=30)
    about = {"catalog": "exchange", "nonce": "0" * 32, "checked": checked, "until": until, **more}
    return CheckEvidence(serial=serial, number=number, **about)


def holding(number: int, serial: str = SERIAL, **more: Any) -> Facts:
    """Facts of a host that has taken that answer."""
    text = f"answer {number} for {serial}"
    return Facts(answer=Answer(serial=serial, number=number, text=text), checks={serial: number}, **more)


def facts_of_both(here: Facts, other: Facts, vouched: CheckEvidence | None = None) -> Facts:
    return merged_facts(here, other, SERIAL, 10.0, vouched)


def test_an_answer_that_is_not_believed_is_not_taken_and_neither_are_numbers_of_checks() -> None:
    assert facts_of_both(Facts(), holding(3)) == Facts()
    assert facts_of_both(holding(3), holding(4)) == holding(3)


def test_the_number_and_the_serial_of_an_answer_are_those_of_its_signed_text() -> None:
    forged = msgspec.structs.replace(
        holding(999_999_999), answer=Answer(serial=SERIAL, number=999_999_999, text="answer 3 for 110123456789")
    )
    assert facts_of_both(Facts(), forged, answer(3)) == holding(3)
    assert facts_of_both(holding(4), forged, answer(3)) == holding(4)


def test_an_answer_that_a_newer_check_has_replaced_is_not_brought_back() -> None:
    assert facts_of_both(Facts(checks={SERIAL: 4}), holding(3), answer(3)) == Facts(checks={SERIAL: 4})
    assert facts_of_both(holding(4), holding(3), answer(3)) == holding(4)
    assert facts_of_both(Facts(), holding(3), answer(3)) == holding(3)
    assert facts_of_both(holding(3), holding(4), answer(4)) == holding(4)
    assert facts_of_both(Facts(checks={SERIAL: 3}), holding(3), answer(3)) == holding(3)


def test_after_an_exchange_the_answer_for_the_new_serial_stays_whatever_its_number() -> None:
    assert facts_of_both(holding(1), holding(50, OTHER), answer(50, OTHER)) == holding(1)
    lost = msgspec.structs.replace(holding(50, OTHER), checks={OTHER: 50, SERIAL: 1})
    assert facts_of_both(lost, holding(1), answer(1)).answer == holding(1).answer


def test_a_serial_that_was_retired_here_stays_so_whatever_a_backup_says() -> None:
    here = holding(2, retired=(SERIAL,))
    assert facts_of_both(here, holding(9), answer(9)) == here
    assert facts_of_both(here, holding(9)) == here
    assert facts_of_both(Facts(), Facts(retired=(OTHER, SERIAL))).retired == (OTHER, SERIAL)
    assert facts_of_both(Facts(), holding(2), answer(2, retired=True)).retired == (SERIAL,)


def test_a_retirement_that_the_vendor_has_taken_back_here_is_not_restored() -> None:
    assert facts_of_both(holding(3), holding(2, retired=(SERIAL,))).retired == ()
    assert facts_of_both(holding(2), holding(3, retired=(SERIAL,))).retired == (SERIAL,)


def test_revoked_keys_are_those_of_both_unless_a_newer_answer_was_taken_here() -> None:
    here = holding(2, revoked={SERIAL: ("b",)})
    other = holding(2, revoked={SERIAL: ("a",), OTHER: ("c",)})
    assert facts_of_both(here, other).revoked == {SERIAL: ("a", "b"), OTHER: ("c",)}
    assert facts_of_both(holding(3), other).revoked == {OTHER: ("c",)}, "the vendor has taken it back here"
    key = make_key(
        feature_code=2,
        instances=8,
        issued=datetime.date(2026, 1, 1),
        term=Term.PERPETUAL,
        sequence=1,
        catalog="exchange",
        serial=SERIAL,
    )
    vouched = answer(3, revoked=(key,))
    assert facts_of_both(here, holding(3), vouched).revoked == {SERIAL: (key.text, "b")}


def test_what_the_vendor_has_answered_for_since_the_backup_is_not_told_again() -> None:
    backup = holding(1, tamperings=1, emergency_claims=3, clock_repairs=2)
    assert facts_of_both(holding(2), backup) == holding(2)
    after = facts_of_both(holding(1, emergency_claims=1), backup)
    assert (after.tamperings, after.emergency_claims, after.clock_repairs) == (1, 3, 2)


# The host


def host(*parts: str, **more: Any) -> Enrolled:
    fields = {"origin": {"board": ("aa",)}, "parts": {"board": parts}, "unread": {}, "on": DAY, **more}
    return Enrolled(**fields)


DAY = datetime.date(2026, 1, 5)
DAY_LATER = datetime.date(2026, 1, 6)
TODAY = datetime.date(2026, 9, 21)
"""The date at WALL."""


def host_of_both(here: Enrolled | None, other: Enrolled | None) -> Enrolled | None:
    return facts_of_both(Facts(host=here), Facts(host=other)).host


def test_a_host_that_is_enrolled_here_stays_enrolled_and_its_counters_advance() -> None:
    here = host("aa", addresses=("192.0.2.20",), permit=1, renewals=1)
    forged = host("bb", addresses=("192.0.2.10",), permit=1, renewals=2, on=DAY_LATER)
    assert host_of_both(here, forged) == msgspec.structs.replace(here, renewals=2)
    assert host_of_both(here, msgspec.structs.replace(forged, permit=0)) == here
    assert host_of_both(here, msgspec.structs.replace(forged, permit=7, renewals=0)) == msgspec.structs.replace(
        here, permit=7
    )
    assert host_of_both(here, None) == here


def test_a_change_of_the_host_stays_as_old_as_it_is() -> None:
    changed, since = host("aa", changed_on=DAY_LATER), host("aa", changed_on=DAY)
    assert host_of_both(changed, host("aa")) == changed
    assert host_of_both(changed, since) == since
    assert host_of_both(since, changed) == since
    assert host_of_both(host("aa"), since) == host("aa"), "here it is the same host"


def test_a_host_of_the_backup_is_known_by_what_it_was_first_enrolled_with() -> None:
    assert host_of_both(None, host("bb", "cc", renewals=2)) == host("aa", renewals=2)


def test_a_rescue_is_not_opened_by_a_backup_nor_is_one_stretched() -> None:
    opening = Opening(serial=SERIAL, day=DAY, drained=5.0)
    assert facts_of_both(Facts(), Facts(opening=opening)).opening is None
    stretched = msgspec.structs.replace(opening, day=DAY_LATER, drained=0.0)
    assert facts_of_both(Facts(opening=opening), Facts(opening=stretched)).opening == opening


def reservations(count: int, feature: str = "trunk", first: int = 0) -> tuple[Reservation, ...]:
    return tuple(Reservation(feature=feature, key=str(first + it)) for it in range(count))


def test_reservations_here_stay_as_they_are_and_others_are_added() -> None:
    here = (Reservation(feature="trunk", key="1", instances=2),)
    after = merged_reservations(here, (Reservation(feature="trunk", key="1"), Reservation(feature="trunk", key="2")))
    assert [(it.key, it.instances) for it in after] == [("1", 2), ("2", 1)]
    assert merged_reservations(after, here) == after


def test_no_more_reservations_are_restored_than_there_may_be() -> None:
    after = merged_reservations(reservations(MAX_RESERVATIONS - 1), reservations(5, first=MAX_RESERVATIONS))
    assert len(after) == MAX_RESERVATIONS
    many = tuple(it for feature in "abcdef" for it in reservations(MAX_RESERVATIONS, feature))
    assert len(merged_reservations((), many)) == MAX_RESERVATIONS_IN_ALL


def test_what_a_restore_changes_is_told_in_phrases() -> None:
    acts = [Act(wall=1, who="uid 0", what="a", message="")]
    backup = Kept(
        documents=Documents(license_list="l", typed=("A",), marks={SERIAL: Mark(7, trials={2: datetime.date.max})}),
        drained={"absent": 60.4},
        reservations=reservations(2),
        facts=Facts(host=host("aa"), permits={SERIAL: 2}, rescues={SERIAL: RescueMark(day=datetime.date.max)}),
        audit=tuple(extended(START, acts)),
    )
    assert differences(Kept(), both(Kept(), backup)) == [
        "license list from the backup",
        "enrolled host from the backup",
        "absent drained to 60 s",
        "1 more typed keys",
        "2 more reservations",
        "1 more trials seen",
        "1 more entries of the audit",
        "advanced: rescues, permits",
    ]
