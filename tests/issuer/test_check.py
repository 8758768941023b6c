"""Checks from the vendor's side: what the register says is signed, and what is odd about the host is told."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from featurekeyd.issuer.check import make_check
from featurekeyd.issuer.refusal import Refused
from featurekeyd.policy.checkevidence import CheckEvidence, CheckResult, judge_check, read_check
from featurekeyd.policy.request_text import Head, Request, request_text

if TYPE_CHECKING:
    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk


def nonce(number: int) -> str:
    return f"{number:032x}"


def digest(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def asking(desk: Desk, card: Request) -> Request:
    """The first request of a certified host."""
    return msgspec.structs.replace(
        card,
        serial=desk.certified(),
        nonce=nonce(1),
        state_head=Head(10, digest(10)),
        audit_head=Head(5, digest(5)),
        emergency_claims=0,
        catalog_digest=digest(100),
        list_number=0,
        enrolled_host=digest(200),
    )


def changed(request: Request, **fields: object) -> Request:
    return msgspec.structs.replace(request, **fields)


def answer(desk: Desk, request: Request, *options: object) -> tuple[CheckEvidence, str]:
    """The answer as the host reads it, and what the vendor is told."""
    result = desk.run("check", "-", *options, stdin=request_text(request))
    return read_check(result.stdout, desk.keys()), result.stderr


def test_the_host_takes_the_answer_to_its_request_once(desk: Desk, asking: Request) -> None:
    evidence, _ = answer(desk, asking)
    now = desk.time.timestamp()
    judgment = judge_check(evidence, asking.serial, (nonce(1),), 0, now)
    assert (judgment.result, judgment.seconds) == (CheckResult.PASSED, 30 * 86_400)
    assert judge_check(evidence, asking.serial, (), evidence.number, now).result is CheckResult.OLDER_CHECK


def test_a_good_host_is_told_of_with_one_line(desk: Desk, asking: Request) -> None:
    _, told = answer(desk, asking, "--days", 3)
    assert told == f"Check 1 of {asking.serial}: good until 2026-02-03 12:00 UTC, 0 keys revoked.\n"


def test_the_number_advances_with_every_answer(desk: Desk, register: Register, asking: Request) -> None:
    assert [answer(desk, changed(asking, nonce=nonce(it)))[0].number for it in (1, 2, 3)] == [1, 2, 3]
    assert asking.serial is not None
    assert [(row.number, row.nonce) for row in register.checks(asking.serial)] == [(it, nonce(it)) for it in (1, 2, 3)]


@pytest.mark.parametrize(("days", "exit_code"), [(0, 2), (1, 0), (30, 0), (31, 2)])
def test_an_answer_is_good_for_one_to_thirty_days(desk: Desk, asking: Request, days: int, exit_code: int) -> None:
    result = desk.run("check", "-", "--days", days, stdin=request_text(asking), code=exit_code)
    if not exit_code:
        evidence = read_check(result.stdout, desk.keys())
        assert evidence.until - evidence.checked == datetime.timedelta(days=days)


def test_whoever_serves_it_is_held_to_the_same_bounds(desk: Desk, register: Register, asking: Request) -> None:
    for days in (0, 31):
        with pytest.raises(Refused, match=f"not for {days}"):
            make_check(asking, desk.vendor(), register, desk.time, days=days)
    late = desk.time.replace(microsecond=999_999)
    assert make_check(asking, desk.vendor(), register, late, days=1).evidence.checked == desk.time


@pytest.mark.parametrize("field", ["serial", "nonce"])
def test_a_request_that_asks_for_no_check_gets_none(desk: Desk, asking: Request, field: str) -> None:
    said = desk.run("check", "-", stdin=request_text(changed(asking, **{field: None})), code=1).stderr
    assert f"it has no '{field.capitalize()}'" in said


def test_a_request_of_other_hardware_or_an_unknown_serial_is_refused(
    desk: Desk, register: Register, asking: Request
) -> None:
    assert asking.serial is not None
    for wrong in ({"hardware_id": "00" * 15}, {"simulated": True}):
        said = desk.run("check", "-", stdin=request_text(changed(asking, **wrong)), code=1).stderr
        assert f"{asking.serial} was certified for sd-card 0353" in said
    said = desk.run("check", "-", stdin=request_text(changed(asking, serial="110000000001")), code=1).stderr
    assert "no serial '110000000001'" in said
    assert register.checks(asking.serial) == []


def test_revoked_keys_and_the_newest_list_are_in_the_answer(desk: Desk, asking: Request) -> None:
    first, _ = desk.issued(asking.serial, "softconsole", "sip-trunk-channels")
    desk.run("list", asking.serial)
    desk.run("revoke", asking.serial, first)
    desk.run("list", asking.serial)
    evidence, told = answer(desk, changed(asking, list_number=1))
    assert [key.text for key in evidence.revoked] == [first]
    assert evidence.newest_list == 2
    assert "The host has list 1, and the newest is 2." in told
    assert "1 keys revoked" in told
    _, told = answer(desk, changed(asking, list_number=3))
    assert "this register has made 2 only" in told


def test_a_retired_serial_is_told_no(desk: Desk, register: Register, card: Request, asking: Request) -> None:
    fresh = changed(card, hardware_id="00" * 15, serial=asking.serial)
    desk.run("exchange", asking.serial, "-", stdin=request_text(fresh))
    evidence, told = answer(desk, asking)
    assert evidence.retired
    assert ": no," in told
    assert judge_check(evidence, asking.serial, (), 0, desk.time.timestamp()).told_no
    assert any("was exchanged for" in remark for remark in evidence.remarks)
    assert asking.serial is not None
    assert [row.retired for row in register.checks(asking.serial)] == [True]


# What is odd about the host

BACK = "is not as far as it was at an earlier check."


@pytest.mark.parametrize(
    ("state", "audit", "back"),
    [
        (Head(12, digest(12)), Head(7, digest(7)), ()),
        (Head(11, digest(11)), Head(6, digest(6)), ()),
        (Head(10, digest(10)), Head(6, digest(6)), ("The state",)),
        (Head(99, digest(10)), Head(6, digest(6)), ("The state",)),
        (Head(11, digest(99)), Head(6, digest(6)), ("The state",)),
        (Head(5, digest(99)), Head(4, digest(99)), ("The state", "The audit")),
        (Head(12, digest(12)), Head(6, digest(66)), ("The audit",)),
    ],
)
def test_a_head_that_is_not_as_far_as_before_is_a_host_rolled_back(
    desk: Desk, register: Register, asking: Request, state: Head, audit: Head, back: tuple[str, ...]
) -> None:
    answer(desk, asking)
    answer(desk, changed(asking, nonce=nonce(2), state_head=Head(11, digest(11)), audit_head=Head(6, digest(6))))
    evidence, told = answer(desk, changed(asking, nonce=nonce(3), state_head=state, audit_head=audit))
    assert evidence.remarks == tuple(f"{what} {BACK}" for what in back)
    assert told.count(BACK) == len(back)
    assert asking.serial is not None
    assert [row.rolled_back for row in register.checks(asking.serial)] == [False, False, bool(back)]


def test_a_host_that_goes_on_from_its_backup_is_told_once(desk: Desk, asking: Request) -> None:
    heads = [
        Head(10, digest(10)),
        Head(20, digest(20)),
        Head(10, digest(10)),
        Head(10, digest(10)),
        Head(11, digest(0)),
    ]
    answers = [answer(desk, changed(asking, nonce=nonce(it), state_head=head)) for it, head in enumerate(heads)]
    assert [bool(evidence.remarks) for evidence, _ in answers] == [False, False, True, False, False]


def test_two_hosts_of_one_serial_are_told_in_turn(desk: Desk, asking: Request) -> None:
    heads = [Head(20, digest(20)), Head(11, digest(11)), Head(21, digest(21)), Head(12, digest(12))]
    answers = [answer(desk, changed(asking, nonce=nonce(it), state_head=head)) for it, head in enumerate(heads)]
    assert [bool(evidence.remarks) for evidence, _ in answers] == [False, True, False, True]


def test_the_answer_names_how_far_the_audit_had_come(desk: Desk, asking: Request) -> None:
    assert answer(desk, asking)[0].audit_head == Head(5, digest(5))
    assert answer(desk, changed(asking, nonce=nonce(2), audit_head=None))[0].audit_head is None


NOT_SHOWN = (
    "The host does not show its audit at check 2: that answer was not imported, or the state was put back since."
)


@pytest.mark.parametrize(
    ("since", "remarked", "told_of"),
    [
        (Head(6, digest(6)), False, False),
        (Head(6, digest(66)), True, False),  # put back to before check 2, and run on past it
        (Head(5, digest(5)), False, True),  # the answer of check 2 was not imported
        (Head(5, digest(55)), True, True),
        (None, False, True),
    ],
)
def test_an_audit_that_does_not_go_through_an_earlier_check_is_seen_though_it_is_further(
    desk: Desk, asking: Request, since: Head | None, *, remarked: bool, told_of: bool
) -> None:
    answer(desk, asking)
    second = changed(asking, nonce=nonce(2), state_head=Head(11, digest(11)), audit_head=Head(6, digest(6)))
    answer(desk, changed(second, audit_since=Head(5, digest(5))))
    further = changed(asking, nonce=nonce(3), state_head=Head(90, digest(90)), audit_head=Head(50, digest(50)))
    evidence, told = answer(desk, changed(further, audit_since=since))
    went_on = ("The audit does not go on from where it was at an earlier check.",)
    assert evidence.remarks == (went_on if remarked else ())
    assert (NOT_SHOWN in told) == told_of


def test_an_old_request_that_is_answered_again_accuses_nobody(desk: Desk, asking: Request) -> None:
    newer = changed(asking, nonce=nonce(2), state_head=Head(11, digest(11)), enrolled_host=digest(201))
    answer(desk, asking)
    answer(desk, newer)
    evidence, told = answer(desk, asking)
    assert (evidence.number, evidence.remarks) == (3, ())
    assert "The request was answered before: check 1 of 2026-01-31." in told
    assert "another than" not in told
    # What the newer one said stands.
    evidence, _ = answer(desk, changed(asking, nonce=nonce(3)))
    assert len(evidence.remarks) == 1


def test_what_else_is_odd_is_told_and_does_not_keep_the_answer_back(desk: Desk, asking: Request) -> None:
    answer(desk, asking)
    odd = changed(
        asking,
        nonce=nonce(2),
        catalog="ayrix",
        emergency_claims=2,
        tamperings=1,
        state_losses=2,
        clock_repairs=3,
        catalog_digest=digest(101),
        enrolled_host=digest(201),
        state_head=None,
    )
    evidence, told = answer(desk, odd)
    assert evidence.remarks == ()
    for sentence in (
        "The host runs the catalog 'ayrix', and its certificate is for 'ip-office'.",
        "2 emergency calls without a listed number since the check before.",
        "Somebody else had changed the state of the host at 1 starts since the check before.",
        "The state of the host was damaged, and begun anew, 2 times since the check before.",
        "The clock of the host was repaired by command 3 times since the check before.",
        "The enrolled host is another than at check 1.",
        "The catalog file is another than at check 1.",
        "The request says nothing of the state, and the one before did.",
    ):
        assert sentence in told


def test_everything_the_request_said_is_recorded(desk: Desk, register: Register, asking: Request) -> None:
    answer(desk, asking)
    assert asking.serial is not None
    (row,) = register.checks(asking.serial)
    assert (row.state_head, row.audit_head) == (str(asking.state_head), str(asking.audit_head))
    said = (row.emergency_claims, row.catalog_digest, row.list_number, row.enrolled_host)
    assert said == (0, asking.catalog_digest, 0, asking.enrolled_host)
    assert (row.checked, row.until) == (desk.time, desk.time + datetime.timedelta(days=30))
    (shown,) = json.loads(desk.run("register", "--json").stdout)
    assert (shown["checks"], shown["checked"]) == (1, "2026-01-31")


def test_a_host_that_says_little_is_answered(desk: Desk, card: Request) -> None:
    bare = changed(card, serial=desk.certified(), nonce=nonce(1))
    assert answer(desk, bare)[0].nonce == nonce(1)
    assert answer(desk, changed(bare, nonce=nonce(2)))[0].number == 2


def test_an_answer_goes_to_a_new_file_and_a_refusal_uses_up_no_number(
    desk: Desk, register: Register, asking: Request
) -> None:
    request, output = desk.place / "request.txt", desk.place / "check.txt"
    request.write_text(request_text(asking))
    assert desk.run("check", request, "--output", output).stdout == ""
    assert read_check(output.read_text(), desk.keys()).number == 1
    assert "is not overwritten" in desk.run("check", request, "--output", output, code=1).stderr
    assert asking.serial is not None
    assert len(register.checks(asking.serial)) == 1
