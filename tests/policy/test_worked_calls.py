"""docs/ports.md: its worked calls are played against the engine with the shipped catalog, row by row.

A row says what is asked, what is answered, what is taken and given back, and what is in use then; a row that is not so
fails. What the tables of the site and of the mapping say is held against the catalog.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.policy.catalog import Catalog, Mode
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.requests import CallClass, Phase, Want
from featurekeyd.policy.system import System

if TYPE_CHECKING:
    from tests.policy.conftest import Site

PAGE = (Path(__file__).parents[2] / "docs" / "ports.md").read_text(encoding="utf-8")
HOLDER = "switch"
CALLS: tuple[str, ...] = (
    "Internal",
    "Inbound on a SIP trunk",
    "Inbound on a PRI span",
    "Outbound",
    "Voicemail",
    "Blind transfer",
)
CALLS += ("Attended transfer", "Fork", "Park", "Conference", "Failed", "Recording", "Channels of a span set in service")

Row = dict[str, str]


def rows_of(text: str) -> list[Row]:
    """The rows of the one table in a part of the page, by heading."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in cells] for cells in lines)
    assert all(len(row) == len(head) for row in rows), "a row has as many cells as the head"
    return [dict(zip(head, row, strict=True)) for row in rows]


def part(heading: str, level: str = "##") -> str:
    """What stands below a heading, up to the next of its level or above."""
    _, _, behind = PAGE.partition(f"\n{level} {heading}\n")
    assert behind, f"the page has no part {heading!r}"
    return re.split(rf"\n#{{2,{len(level)}}} ", behind)[0]


SHORT = {row["short"]: row["feature"].strip("`") for row in rows_of(part("The site of the examples"))}


def counts(cell: str) -> dict[str, int]:
    """`1 trunk, 2 vcm` as features; a dash is nothing."""
    items = [] if cell == "-" else [item.split() for item in cell.split(", ")]
    return {SHORT[name]: int(count) for count, name in items}


@pytest.fixture
def site(make_site: Callable[..., Site], shipped: dict[str, Catalog]) -> Site:
    """The site of the examples, with what the page says it has bought."""
    it = make_site(shipped["ip-office"], "ip500-v2", ceilings={"trunk:carrier-b": 1})
    system = System(platform="ip500-v2", release="9.1", hardware={"vcm-card": 1, "pri-card": 1, "pri-card-t1": 1})
    it.enforcer = Enforcer(it.catalog, system, it.rules, it.now)
    it.certify()
    bought = {row["feature"].strip("`"): int(row["bought"]) for row in rows_of(part("The site of the examples"))}
    it.buy(**{feature: count for feature, count in bought.items() if count})
    it.told()
    return it


def asked(site: Site, line: str) -> str:
    """What is answered to a request as the page writes it."""
    verb, key, *words = shlex.split(line)
    if verb == "release":
        assert not words
        return "released" if site.release(key, holder=HOLDER) else "nothing held"
    assert verb == "acquire"
    options: dict[str, Any] = {}
    wants: list[Want] = []
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            options[word.removeprefix("--")] = words.pop(0)
        else:
            feature, _, count = word.partition(":")
            wants.append(Want(feature, int(count or 1)))
    if "phase" in options:
        options["phase"] = Phase(str(options["phase"]))
    assert options.keys() <= {"port", "channel", "dialed", "phase"}
    return str(site.acquire(key, *wants, holder=HOLDER, **options).reason)


def moved(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> tuple[dict[str, int], dict[str, int]]:
    """What each key took and gave back, summed by feature."""
    taken: dict[str, int] = {}
    given: dict[str, int] = {}
    for key in before.keys() | after.keys():
        had, has = before.get(key, {}), after.get(key, {})
        for feature in had.keys() | has.keys():
            more = has.get(feature, 0) - had.get(feature, 0)
            into = taken if more > 0 else given
            if more:
                into[feature] = into.get(feature, 0) + abs(more)
    return taken, given


def held(site: Site) -> dict[str, dict[str, int]]:
    return {lease.key: dict(lease.wants) for lease in site.enforcer.ledger if lease.call_class is CallClass.NORMAL}


def play(site: Site, row: Row) -> None:
    """Ask what a row asks, and hold what came of it against the row."""
    before = held(site)
    request = row["request"].strip("`")
    answer = "-" if request == "-" else asked(site, request)
    taken, given = moved(before, held(site))
    in_use = {name: site.in_use(name) for name in site.catalog.features if site.in_use(name)}
    found = (answer, taken, given, in_use)
    assert found == (row["answer"], counts(row["takes"]), counts(row["gives back"]), counts(row["in use then"])), row


def test_every_worked_call_is_there() -> None:
    assert sorted(re.findall(r"^### (.+)$", part("Worked calls", "##"), re.MULTILINE)) == sorted(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_worked_call_goes_as_the_page_says(site: Site, name: str) -> None:
    rows = rows_of(part(name, "###"))
    assert len(rows) >= 4
    for row in rows:
        site.wait(5)
        play(site, row)
    assert len(site.enforcer.ledger) == 0, "a call that is over leaves nothing"


@pytest.mark.parametrize("column", ["answer", "takes", "gives back", "in use then"])
@pytest.mark.parametrize("name", CALLS)
def test_a_row_that_lies_is_found(site: Site, name: str, column: str) -> None:
    first = next(row for row in rows_of(part(name, "###")) if row["request"] != "-")
    lie = {"answer": "nothing held"}.get(column, "7 phone")
    with pytest.raises(AssertionError):
        play(site, first | {column: lie})


def test_the_site_may_use_what_the_page_says(site: Site) -> None:
    said = {row["feature"].strip("`"): int(row["limit"]) for row in rows_of(part("The site of the examples"))}
    assert {name: site.enforcer.limit(name) for name in said} == said


def test_features_of_the_mapping_are_taken_as_the_catalog_says(shipped: dict[str, Catalog]) -> None:
    rows = rows_of(part("What maps to what"))
    features = shipped["ip-office"].features
    wrong = [row for row in rows if features[row["feature"].strip("`")].mode is not Mode(row["taken"].split(":")[0])]
    assert wrong == []
    assert {row["feature"].strip("`") for row in rows} > {"sip-trunk-channels", "pri-channels-e1"}


def test_a_lost_end_on_a_channel_is_told_as_the_page_says(site: Site) -> None:
    for row in rows_of(part("Inbound on a PRI span", "###")):
        play(site, row)
    assert site.told().count(EventName.CHANNEL_DRIFT) == 1
