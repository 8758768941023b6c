"""A simulated year in seconds: the life of systems, as plain files that anybody can read, put to the real Enforcer.

A file opens with a title and prose. A line `System: NAME, PRODUCT, PLATFORM` begins a system, with no certificate and
no license; `, asks the vendor` behind it says that the product requires the vendor's answers. The indented lines below
say what happens and what is then true: each function marked `line` reads one kind, and a line that says nothing known
is an error. `at NAME` goes on with an earlier system, `12 times:` repeats the lines indented below it, and a line `* …`
is a heading. What was `told` is what the line before it made happen.

Time passes by `after` and `until` only, with a look and a check every 3 hours.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.policy.checkevidence import CheckResult
from featurekeyd.policy.events import EventName
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.licenses import License
from featurekeyd.policy.localcheck import CheckItem, Trouble
from featurekeyd.policy.rescue import Rescued

if TYPE_CHECKING:
    from tests.policy.life.conftest import Life, World

FOLDER = Path(__file__).parent
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
SYSTEM = re.compile(r"System: (\w+), ([\w-]+), ([\w-]+?)(, asks the vendor)?")
CALL = {"ip-office": "sip-trunk-channels", "ayrix": "calls"}
PHONE = {"ip-office": "third-party-ip-endpoints", "ayrix": "registrations"}
TERMS = {"bought": Term.PERPETUAL, "on trial": Term.TRIAL, "for a year": Term.YEAR}


def seconds_of(text: str) -> int:
    """The seconds in a duration such as 71h59m59s."""
    match = DURATION.fullmatch(text)
    assert match is not None, f"{text!r} is no duration"
    days, hours, minutes, seconds = (int(it or 0) for it in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def written(seconds: int) -> str:
    """Seconds as a file has them; days only where there are more than three."""
    rest, parts = seconds, []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if unit == "d" and seconds <= 3 * size:
            continue
        count, rest = divmod(rest, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "nothing"


def moment_of(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


# The lines of a file. One that says what is true gives what is found instead, to be held against the line.

Line = Callable[..., str | None]
LINES: list[tuple[re.Pattern[str], Line]] = []


def line(pattern: str) -> Callable[[Line], Line]:
    """Mark what reads the lines of that form; its groups are handed in."""

    def marked(function: Line) -> Line:
        LINES.append((re.compile(pattern), function))
        return function

    return marked


# What happens.


@line(r"after (\S+)")
def _after(life: Life, duration: str) -> None:
    life.world.run(seconds_of(duration))


@line(r"until ([0-9-]+(?: [0-9:]+)?)")
def _until(life: Life, moment: str) -> None:
    seconds = moment_of(moment) - life.world.time
    assert seconds > 0, f"{moment} is over"
    life.world.run(seconds)


@line(r"the key is put (?:in|back)")
def _put_in(life: Life) -> None:
    life.put_in()


@line(r"the key of another system is put in")
def _put_in_another(life: Life) -> None:
    life.put_in("f" * 30)


@line(r"the key is (pulled|garbled|busy|at fault)")
def _lost(life: Life, how: str) -> None:
    life.lose({"pulled": "absent", "at fault": "fault"}.get(how, how))


@line(r"the key moves on to (\w+)")
def _moves(life: Life, name: str) -> None:
    there = life.world.lives[name]
    life.key, there.key = None, life.key
    life.look()
    there.look()
    life.world.life = there


@line(r"the certificate is imported")
def _certified(life: Life) -> None:
    life.certify()


@line(r"the certificate and the list of (\w+) are imported")
def _copied(life: Life, name: str) -> None:
    life.enforcer.adopt(life.world.lives[name].enforcer.licenses, life.now)


@line(r"the vendor exchanges the key, for one with another serial, a certificate and a list")
def _exchanged(life: Life) -> None:
    life.serial += 500_000_000
    life.put_in()
    life.certify()
    life.bring_list()


@line(r"(bought|on trial|for a year): ([0-9]+) of (.+)")
def _ordered(life: Life, how: str, count: str, title: str) -> None:
    life.order(title, int(count), TERMS[how], listed=True)
    life.bring_list()


@line(r"typed in: ([0-9]+) of (.+)")
def _typed(life: Life, count: str, title: str) -> None:
    life.type_in(title, int(count))


@line(r"the vendor's newest list is imported")
def _list(life: Life) -> None:
    life.bring_list()


@line(r"the vendor answers, good for (?:([0-9]+) days|(\S+))")
def _answers(life: Life, days: str | None, duration: str | None) -> None:
    assert life.answer(seconds_of(duration or f"{days}d")) is CheckResult.PASSED


@line(r"the vendor says that the serial is retired")
def _retired(life: Life) -> None:
    assert life.answer(3600, retired=True) is CheckResult.TOLD_NO


@line(r"the clock is set (back|ahead) by (\S+)")
def _clock(life: Life, way: str, duration: str) -> None:
    life.set_clock(life.clock_error + seconds_of(duration) * (1 if way == "ahead" else -1))


@line(r"the clock is set right")
def _clock_right(life: Life) -> None:
    life.set_clock(0.0)


@line(r"a technician repairs the clock")
def _repaired(life: Life) -> None:
    life.repair_clock()


@line(r"reboot")
def _reboot(life: Life) -> None:
    life.start(life.stored())


@line(r"reboot, with the clock at ([0-9-]+)")
def _reboot_at(life: Life, date: str) -> None:
    stored = life.stored()
    life.clock_error = moment_of(date) - life.world.time
    life.start(stored)


@line(r"the daemon is restarted")
def _restarted(life: Life) -> None:
    life.resume(life.stored(reboot=False))


@line(r"switched off for (\S+)")
def _off(life: Life, duration: str) -> None:
    stored = life.stored()
    life.is_on = False
    life.world.run(seconds_of(duration))
    life.start(stored)


@line(r"the network card is replaced")
def _nic(life: Life) -> None:
    life.change(nic=life.host.nic + 1)


@line(r"the address becomes (\S+)")
def _address(life: Life, address: str) -> None:
    life.change(address=address)


@line(r"the host can(not)? be read")
def _readable(life: Life, no: str | None) -> None:
    life.change(readable=no is None)


@line(r"a technician announces (\S+)")
def _announced(life: Life, address: str) -> None:
    life.announce(address)


@line(r"a backup is made")
def _backup(life: Life) -> None:
    life.backup = life.stored()


@line(r"the backup is restored on a spare host")
def _spare(life: Life) -> None:
    assert life.backup is not None
    life.move_to(f"the spare of {life.name}")
    life.start(life.backup)


@line(r"the system goes back to its host")
def _back(life: Life) -> None:
    life.move_to(life.name)
    life.start(life.stored())


@line(r"somebody edits the state file")
def _edited(life: Life) -> None:
    life.troubles = {CheckItem.STATE: Trouble("The state was edited.", "Restore a backup.")}


@line(r"the state file is whole again")
def _whole(life: Life) -> None:
    life.troubles = {}


@line(r"a call begins and goes on")
def _call_begins(life: Life) -> None:
    assert life.ask(CALL[life.catalog.id], f"call {life.world.time}").allowed


# What is true.


@line(r"standing: .+")
def _standing(life: Life) -> str:
    causes = "; ".join(f"{written(grace.seconds_left)} left, {grace.cause}" for grace in life.enforcer.grace)
    return f"standing: {life.enforcer.standing}" + (f", {causes}" if causes else "")


@line(r"a call: .+")
def _call(life: Life) -> str:
    return f"a call: {life.try_out(CALL[life.catalog.id])}"


@line(r"an emergency call: .+")
def _emergency(life: Life) -> str:
    return f"an emergency call: {life.try_out(CALL[life.catalog.id], dialed='112')}"


@line(r"a phone (registers|registers again): .+")
def _phone(life: Life, how: str) -> str:
    return f"a phone {how}: {life.keep(PHONE[life.catalog.id], 'the phone')}"


@line(r"another phone registers: .+")
def _other_phone(life: Life) -> str:
    return f"another phone registers: {life.try_out(PHONE[life.catalog.id])}"


@line(r"a user is created: .+")
def _user(life: Life) -> str:
    return f"a user is created: {life.keep('users', f'user {life.world.time}')}"


@line(r"in use: [0-9]+ of (.+)")
def _in_use(life: Life, title: str) -> str:
    (name,) = (name for name, it in life.catalog.features.items() if it.title == title)
    return f"in use: {life.enforcer.ledger.in_use(name)} of {title}"


@line(r"license (.+): .+")
def _license(life: Life, title: str) -> str:
    return f"license {title}: {' and '.join(sorted({str(it.status) for it in _all(life, title)}))}"


@line(r"days left of (.+): [0-9]+")
def _days_left(life: Life, title: str) -> str:
    (only,) = _all(life, title)
    return f"days left of {title}: {only.key.days_left(life.enforcer.today(life.now))}"


def _all(life: Life, title: str) -> list[License]:
    titles = {name: it.title for name, it in life.catalog.features.items()}
    return [it for it in life.enforcer.installed(life.now) if titles[str(it.feature)] == title]


@line(r"a check: .+")
def _check(life: Life) -> str:
    life.look()
    found = life.check()
    return "a check: passed" if found.passed else f"a check: failed, {' '.join(found.failed)}"


@line(r"rescue code of (today|[0-9-]+): .+")
def _rescue(life: Life, day: str) -> str:
    found = life.enter_rescue_code(life.world.today if day == "today" else datetime.date.fromisoformat(day))
    return f"rescue code of {day}: {'taken' if isinstance(found, Rescued) else f'refused, {found.verdict}'}"


@line(r"the host is enrolled again: .+")
def _enrolled(life: Life) -> str:
    return f"the host is enrolled again: {'taken' if life.enroll_again() else 'refused'}"


@line(r"told: ([a-z_]+)")
def _told(life: Life, name: str) -> str:
    names = {event.name for event in life.enforcer.events}
    return f"told: {name if EventName(name) in names else sorted(names)}"


@line(r"told nothing of ([a-z_]+)")
def _not_told(life: Life, name: str) -> str:
    told = EventName(name) in {event.name for event in life.enforcer.events}
    return f"told {'something' if told else 'nothing'} of {name}"


# The reader.

Place = tuple[int, str]
"""Number and text of a line."""


def unrolled(lines: list[Place]) -> Iterator[Place]:
    """The lines with those below `N times:` repeated as often."""
    while lines:
        number, text = lines.pop(0)
        times = re.fullmatch(r"( *)([0-9]+) times:", text)
        if times is None:
            yield number, text
            continue
        inner = []
        while lines and (not lines[0][1] or lines[0][1].startswith(times[1] + "  ")):
            inner.append(lines.pop(0))
        assert inner, f"line {number}: nothing is repeated"
        for _ in range(int(times[2])):
            yield from unrolled(list(inner))


def live(world: World, text: str) -> None:
    """Let happen what a file says, and hold what it says is true against what is found; errors name the line."""
    for number, words in unrolled(list(enumerate(text.splitlines(), 1))):
        said = words.strip()
        if system := SYSTEM.fullmatch(words):
            world.begin(*system.groups()[:3], asks=system[4] is not None)
        elif at := re.fullmatch(r"at (\w+)", said):
            world.life = world.lives[at[1]]
        elif world.life is not None and said and not said.startswith("* "):
            _read(world.life, number, said)
    assert world.lives, "no system begins"


def _read(life: Life, number: int, said: str) -> None:
    readers = [(match, reads) for pattern, reads in LINES if (match := pattern.fullmatch(said))]
    assert len(readers) == 1, f"line {number}: {said!r} says nothing known"
    if not said.startswith("told"):
        life.enforcer.events.clear()
    match, reads = readers[0]
    found = reads(life, *match.groups())
    assert found in {None, said}, f"line {number}: {said!r}, and what is found is {found!r}"


FILES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_file_says_is_true(make_world: Callable[[], World], path: Path) -> None:
    live(make_world(), path.read_text())


def test_a_whole_year_is_among_the_files(make_world: Callable[[], World]) -> None:
    world = make_world()
    begin = world.time
    live(world, (FOLDER / "a-year-of-a-small-office.txt").read_text())
    assert world.time - begin >= 365 * 86_400


SHORT = """
System: Office, ip-office, ip500-v2

  the key is put in
  the certificate is imported
  bought: 8 of SIP Trunk Channels
  2 times:
    after 1h
    the key is pulled
    told: standing_grace
    the key is put back
  standing: licensed
"""


def test_the_short_example_is_true(make_world: Callable[[], World]) -> None:
    live(make_world(), SHORT)


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        ("standing: licensed", "standing: grace", 12),
        ("standing: licensed", "standing is licensed", 12),
        ("  after 1h", "  later", 8),
        ("told: standing_grace", "told: clock_set_back", 10),
        ("  the key is put back\n", "", 11),
    ],
)
def test_a_file_that_says_otherwise_fails_and_the_line_is_named(
    make_world: Callable[[], World], old: str, new: str, number: int
) -> None:
    assert old in SHORT
    with pytest.raises(AssertionError, match=f"line {number}: "):
        live(make_world(), SHORT.replace(old, new))
