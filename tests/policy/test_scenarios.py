"""The licensing examples of the documents: plain files that a salesperson can read, put to the real engine.

A file opens with a title and prose. A line `System: NAME` begins a system; below it `is` says platform, release and
cards, `shares` what another system of the file has for it, `has` what was bought, `may` what it may then use, and
`lacks` what it may not, with what that waits for. Licenses go by their titles in the catalog.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import msgspec
import pytest

from featurekeyd.policy.catalog import Catalog, Feature
from featurekeyd.policy.entitlements import Entitlements, entitlements
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenses import License, Status
from featurekeyd.policy.system import System, check_system

FOLDER = Path(__file__).with_name("scenarios")
DAY = datetime.date(2026, 1, 1)

IS = re.compile(r"(?P<platform>.+), release (?P<release>[0-9.]+), (?P<cards>[0-9]+) (?P<part>.+)")
COUNTED = re.compile(r"(?P<count>[0-9]+) of (?P<title>.+)")
SHARED = re.compile(r"(?P<title>.+) of (?P<owner>.+)")
LACKS = re.compile(r"(?P<title>[^:]+)(: it waits for (?P<waits>.+))?")


class Told(msgspec.Struct):
    """A system as the file tells it: each line's verb and what follows it."""

    name: str
    lines: list[tuple[str, str]]

    def all(self, verb: str) -> list[str]:
        return [rest for word, rest in self.lines if word == verb]


def read_scenario(text: str) -> list[Told]:
    """The systems of a scenario; a line that says nothing known is an error, so that none goes untested."""
    systems: list[Told] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("System: "):
            systems.append(Told(line.removeprefix("System: "), []))
        elif systems and line.strip():
            verb, _, rest = line.strip().partition(" ")
            assert verb in {"is", "shares", "has", "may", "lacks"}, f"line {number}: {verb!r} says nothing known"
            systems[-1].lines.append((verb, rest.strip()))
    return systems


def found(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    match = pattern.fullmatch(text)
    assert match is not None, f"{text!r} is not of the form {pattern.pattern}"
    return match.groupdict()


def feature(catalog: Catalog, title: str) -> Feature:
    (named,) = (feature for feature in catalog.features.values() if feature.title == title)
    return named


def system_of(catalog: Catalog, told: Told) -> System:
    (words,) = (found(IS, rest) for rest in told.all("is"))
    (platform,) = (name for name, it in catalog.platforms.items() if it.title == words["platform"])
    (part,) = (name for name, it in catalog.hardware.items() if it.title == words["part"])
    shared = frozenset(feature(catalog, found(SHARED, rest)["title"]).id for rest in told.all("shares"))
    return System(platform=platform, release=words["release"], hardware={part: int(words["cards"])}, shared=shared)


def bought(catalog: Catalog, told: Told) -> list[License]:
    licenses = []
    for number, rest in enumerate(told.all("has")):
        item = found(COUNTED, rest)
        named = feature(catalog, item["title"])
        key = make_key(
            feature_code=named.code,
            instances=int(item["count"]),
            issued=DAY,
            term=Term.PERPETUAL,
            sequence=number,
            catalog=catalog.id,
            serial="110123456789",
        )
        licenses.append(License(key=key, feature=named.id, status=Status.VALID, finding="", listed=True))
    return licenses


def entitled(catalog: Catalog, told: Told) -> Entitlements:
    system = system_of(catalog, told)
    assert check_system(catalog, system) == []
    return entitlements(catalog, system, bought(catalog, told), count_unlisted=True)


def check(catalog: Catalog, told: Told) -> None:
    """Hold what the file says of one system against what the engine finds."""
    limits = entitled(catalog, told)
    for rest in told.all("may"):
        item = found(COUNTED, rest)
        assert limits[feature(catalog, item["title"]).id].limit == int(item["count"]), f"{told.name}: may {rest}"
    for rest in told.all("lacks"):
        item = found(LACKS, rest)
        entitlement = limits[feature(catalog, item["title"]).id]
        waits = [catalog.features[name].title for name in entitlement.missing]
        assert entitlement.limit == 0, f"{told.name}: lacks {rest}"
        assert item["waits"] is None or waits == [item["waits"]], f"{told.name}: lacks {rest}"


def check_all(catalog: Catalog, text: str) -> None:
    for told in read_scenario(text):
        check(catalog, told)


SCENARIOS = [
    pytest.param(told, id=f"{path.stem}: {told.name}")
    for path in sorted(FOLDER.glob("*.txt"))
    for told in read_scenario(path.read_text())
]


@pytest.mark.parametrize("told", SCENARIOS)
def test_each_system_of_the_licensing_examples_may_do_what_the_file_says(
    shipped: dict[str, Catalog], told: Told
) -> None:
    assert told.all("may") or told.all("lacks")
    check(shipped["ip-office"], told)


def test_the_three_licensing_examples_are_there() -> None:
    assert [path.name for path in sorted(FOLDER.glob("*.txt"))] == [
        "1-small-community-network.txt",
        "2-voicemail-pro.txt",
        "3-contactstore.txt",
    ]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_what_a_system_shares_the_named_one_really_has(shipped: dict[str, Catalog], path: Path) -> None:
    catalog = shipped["ip-office"]
    systems = {told.name: told for told in read_scenario(path.read_text())}
    for told in systems.values():
        for rest in told.all("shares"):
            item = found(SHARED, rest)
            assert entitled(catalog, systems[item["owner"]])[feature(catalog, item["title"]).id].limit, rest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("may    3 of Power User", "may    4 of Power User"),
        ("lacks  Additional Voicemail Pro Ports\n", "lacks  Mobile Worker\n"),
        ("lacks  Mobile Worker: it waits for Pref", "lacks  Mobile Worker: it waits for No"),
        ("may    3 of Power User", "can    3 of Power User"),
    ],
)
def test_a_file_that_says_otherwise_fails(shipped: dict[str, Catalog], old: str, new: str) -> None:
    text = (FOLDER / "2-voicemail-pro.txt").read_text()
    assert old in text
    with pytest.raises(AssertionError):
        check_all(shipped["ip-office"], text.replace(old, new))
