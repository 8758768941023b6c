"""Facts: each comes back as it was, and one that is damaged costs no other."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from pathlib import Path

import pytest

from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.store import Store
from featurekeyd.policy.hostaddress import Announcement
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.timekeeping import TimeMark
from featurekeyd.policy.trust import Told

SERIAL = "110123456789"
DAY = datetime.date(2026, 12, 1)
FULL = Facts(
    clock=TimeMark(wall=1_796_000_000.5, boot=12.25, boot_id="boot", ahead=5.0, repairs=2),
    host=Enrolled(
        origin={"nic": ("ab",)}, parts={"nic": ("ab", "cd")}, unread={"board": "no permission"}, on=DAY, permit=4
    ),
    announced=Announcement(address="192.0.2.10", wall=1.0, boot=2.0, boot_id="boot"),
    rescues={SERIAL: RescueMark(day=DAY, count=2)},
    opening=Opening(serial=SERIAL, day=DAY, drained=7.5),
    answer=Answer(serial=SERIAL, number=3, text="-----BEGIN\nü"),
    checks={SERIAL: 3},
    permits={SERIAL: 4},
    retired=("110123456789",),
    nonces=("aa", "bb"),
    told={"aa": Told(claims=2)},
    emergency_claims=9,
    tamperings=1,
    clock_repairs=2,
    check_failing=True,
    lasting=("no_check",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "featurekeyd.db"


def kept(path: Path) -> tuple[Facts, list[str]]:
    with contextlib.closing(Store(path)) as store:
        return store.load_facts()


def keep(path: Path, facts: Facts) -> None:
    with contextlib.closing(Store(path)) as store:
        store.save_facts(facts)


def rows(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as state:
        return dict(state.execute("SELECT name, value FROM fact"))


def edit(path: Path, statement: str, *values: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as state:
        state.execute(statement, values)
        state.commit()


def test_a_new_file_has_no_fact(path: Path) -> None:
    assert kept(path) == (Facts(), [])


def test_facts_come_back_as_they_were(path: Path) -> None:
    assert all(getattr(FULL, name) != getattr(Facts(), name) for name in Facts.__struct_fields__), "a field is missing"
    keep(path, FULL)
    assert kept(path) == (FULL, [])
    assert set(rows(path)) == set(Facts.__struct_fields__)


def test_a_fact_that_is_no_more_leaves_no_row(path: Path) -> None:
    keep(path, FULL)
    keep(path, Facts(checks={SERIAL: 4}))
    assert kept(path) == (Facts(checks={SERIAL: 4}), [])
    assert rows(path) == {"checks": f'{{"{SERIAL}":4}}'}


@pytest.mark.parametrize("name", Facts.__struct_fields__)
@pytest.mark.parametrize("value", ["", "{", '"x', '{"no":"such"}', "[[]]"])
def test_a_damaged_fact_costs_no_other(path: Path, name: str, value: str) -> None:
    keep(path, FULL)
    edit(path, "UPDATE fact SET value = ? WHERE name = ?", value, name)
    facts, (told,) = kept(path)
    assert told.startswith(f"the fact {name!r} is damaged and left out: ")
    assert {it for it in Facts.__struct_fields__ if getattr(facts, it) != getattr(FULL, it)} == {name}


def test_a_fact_of_a_later_release_is_left_alone(path: Path) -> None:
    keep(path, FULL)
    edit(path, "INSERT INTO fact VALUES ('primary', '{}')")
    assert kept(path) == (FULL, [])
    keep(path, FULL)
    assert rows(path)["primary"] == "{}"
