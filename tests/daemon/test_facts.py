"""Facts: each comes back as it was, and one that is damaged costs no other."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.plausible import LAST_YEAR, MAX_NUMBER, find_implausible
from featurekeyd.daemon.products import CATALOGS as SHIPPED
from featurekeyd.daemon.store import Store
from featurekeyd.daemon.trusting import kept_of
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.hostaddress import Announcement
from featurekeyd.policy.hostbinding import Enrolled
from featurekeyd.policy.instant import Now
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.system import System
from featurekeyd.policy.timekeeping import TimeMark, first_mark
from featurekeyd.policy.trust import Kept, Told

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
    revoked={SERIAL: ("4Q7K-...",)},
    nonces=("aa", "bb"),
    told={"aa": Told(claims=2)},
    emergency_claims=9,
    tamperings=1,
    state_losses=3,
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


IMPLAUSIBLE = {
    "clock": '{"wall":1e30,"boot":0.0,"boot_id":"x"}',
    "opening": f'{{"serial":"{SERIAL}","day":"9999-12-31","drained":0.0}}',
    "host": '{"origin":{},"parts":{},"unread":{},"on":"2026-01-01","changed_on":"9999-12-31"}',
    "rescues": f'{{"{SERIAL}":{{"day":"9000-01-01","count":1}}}}',
    "emergency_claims": "1" + "0" * 30,
    "tamperings": "-1",
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_what_nothing_real_has_is_left_out_and_told(path: Path, name: str) -> None:
    keep(path, FULL)
    edit(path, "UPDATE fact SET value = ? WHERE name = ?", IMPLAUSIBLE[name], name)
    facts, (told,) = kept(path)
    assert told.startswith(f"the fact {name!r} is damaged and left out: ")
    assert getattr(facts, name) == getattr(Facts(), name)


# Whatever is left in: time passes by it

NUMBERS = st.integers(0, MAX_NUMBER)
SECONDS = st.floats(0, MAX_NUMBER)
DAYS = st.dates(max_value=datetime.date(LAST_YEAR, 12, 31))
ANY = st.builds(
    Facts,
    clock=st.none()
    | st.builds(TimeMark, wall=SECONDS, boot=SECONDS, boot_id=st.text(), ahead=SECONDS, repairs=NUMBERS),
    host=st.none()
    | st.builds(
        Enrolled,
        origin=st.just({}),
        parts=st.dictionaries(st.text(), st.lists(st.text()).map(tuple)),
        unread=st.dictionaries(st.text(), st.text()),
        addresses=st.lists(st.text()).map(tuple),
        on=DAYS,
        changed_on=st.none() | DAYS,
        renewals=NUMBERS,
        permit=NUMBERS,
    ),
    announced=st.none() | st.builds(Announcement, address=st.text(), wall=SECONDS, boot=SECONDS, boot_id=st.text()),
    rescues=st.dictionaries(st.text(), st.builds(RescueMark, day=DAYS, count=NUMBERS)),
    opening=st.none() | st.builds(Opening, serial=st.sampled_from([SERIAL, ""]), day=DAYS, drained=SECONDS),
    checks=st.dictionaries(st.text(), NUMBERS),
    permits=st.dictionaries(st.text(), NUMBERS),
    nonces=st.lists(st.text()).map(tuple),
    told=st.dictionaries(st.text(), st.builds(Told, claims=NUMBERS, tamperings=NUMBERS, repairs=NUMBERS)),
    emergency_claims=NUMBERS,
    tamperings=NUMBERS,
    state_losses=NUMBERS,
    clock_repairs=NUMBERS,
    check_failing=st.booleans(),
)
CATALOG = load_catalog(SHIPPED.joinpath("ayrix.toml").read_text(encoding="utf-8"), "ayrix.toml")


@given(ANY, st.floats(0, MAX_NUMBER))
def test_whatever_the_facts_are_time_passes_by_them(facts: Facts, wall: float) -> None:
    assert find_implausible(facts) is None
    begins = Now(wall, 10.0)
    kept = kept_of(facts, Kept(first_mark(begins, "boot", DAY)))
    enforcer = Enforcer(CATALOG, System(platform="server"), Rules(), begins, released=DAY, boot_id="boot", kept=kept)
    for passed in (1.0, 86_400.0, 40 * 86_400.0):
        enforcer.tick(Now(wall + passed, 10.0 + passed))
        assert enforcer.trust.rescue_left(SERIAL, enforcer.today(Now(wall + passed, 10.0 + passed))) >= 0
