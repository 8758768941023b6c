"""The facts of a backup are an unsigned text: whatever they say, nothing is better here by them than it was."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.merging import COUNTS, merged_facts
from featurekeyd.daemon.plausible import LAST_YEAR, MAX_NUMBER
from featurekeyd.daemon.products import CATALOGS
from featurekeyd.daemon.trusting import facts_of, kept_of
from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.checkevidence import CheckEvidence
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.enrollment import enroll_host, terms_of
from featurekeyd.policy.hostaddress import Announcement, SiteAddresses
from featurekeyd.policy.hostbinding import Enrolled, HostVerdict
from featurekeyd.policy.hostevidence import (
    Evidence,
    HostAddress,
    HostComponent,
    HostNic,
    digests_of,
    hardware_id_of,
)
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenselist import Entry, LicenseList
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.standing import Standing
from featurekeyd.policy.system import System
from featurekeyd.policy.timekeeping import TimeMark, first_mark
from featurekeyd.policy.trust import Kept, Told

SERIAL, OTHER = "130123456789", "130123456780"
DAY = datetime.date(2026, 1, 5)
NOW = Now(datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC).timestamp(), 5_000.0)
BOOT = "this boot"
CATALOG = load_catalog(CATALOGS.joinpath("ayrix.toml").read_text(encoding="utf-8"), "ayrix.toml")
SITE = SiteAddresses()


def evidence(name: str, address: str = "192.0.2.10") -> Evidence:
    parts = ("product-uuid", "product-serial", "board-serial", "machine-id", "cpu-model")
    nic = HostNic(name="enp1s0", permanent=f"nic of {name}", primary=True)
    return Evidence(
        components=tuple(HostComponent(name=part, value=f"of {name}") for part in parts),
        nics=(nic,),
        addresses=(HostAddress(interface=nic.name, family="ipv4", address=address),),
    )


HERE, SPARE = evidence("here"), evidence("spare")
MOVED = evidence("here", "192.0.2.77")
CERTIFICATE = Certificate(
    serial=SERIAL,
    catalog=CATALOG.id,
    kind="host",
    hardware_id=hardware_id_of(digests_of(HERE)),
    issued=DAY,
    test=False,
    rescue_anchor=bytes(20),
    rescue_days=500,
)


def enrolled() -> Enrolled:
    found = enroll_host(HERE, terms_of(CATALOG.host, SITE, CERTIFICATE), DAY)
    assert isinstance(found, Enrolled)
    return found


KEYS = [
    make_key(feature_code=1, instances=5, issued=DAY, term=term, sequence=number, catalog=CATALOG.id, serial=SERIAL)
    for number, term in enumerate((Term.PERPETUAL, Term.TRIAL, Term.YEAR))
]
LICENSES = (
    Licenses()
    .with_certificate(CERTIFICATE)
    .with_list(
        LicenseList(
            serial=SERIAL,
            catalog=CATALOG.id,
            number=1,
            date=DAY,
            entries=tuple(Entry(key, "", False, None) for key in KEYS),
            trials={},
        )
    )[0]
)
ANSWER = CheckEvidence(
    serial=SERIAL,
    catalog=CATALOG.id,
    number=4,
    nonce="0" * 32,
    checked=datetime.datetime(2026, 2, 25, tzinfo=datetime.UTC),
    until=datetime.datetime(2026, 3, 20, tzinfo=datetime.UTC),
)

# Facts, any at all: what could matter here more often, and whatever else fits the types

SERIALS = st.sampled_from([SERIAL, OTHER]) | st.text(max_size=12)
NUMBERS = st.integers(0, 5) | st.integers(0, MAX_NUMBER)
SECONDS = st.sampled_from([0.0, NOW.boot, NOW.wall, 86_400.0, float(MAX_NUMBER)]) | st.floats(0, MAX_NUMBER)
DAYS = st.dates(datetime.date(2025, 12, 1), datetime.date(2026, 4, 1)) | st.dates(
    max_value=datetime.date(LAST_YEAR, 12, 31)
)
BOOTS = st.sampled_from([BOOT, "another boot", ""]) | st.text(max_size=5)
ADDRESSES = st.sampled_from(["192.0.2.10", "192.0.2.77", "127.0.0.1"]) | st.text(max_size=8)
DIGESTS = st.sampled_from([digests_of(HERE), digests_of(SPARE), {}]) | st.dictionaries(
    st.sampled_from(["board-serial", "machine-id", "x"]), st.lists(st.text(max_size=4)).map(tuple)
)
HOSTS = st.builds(
    Enrolled,
    origin=DIGESTS,
    parts=DIGESTS,
    unread=st.dictionaries(st.sampled_from(["board-serial", "machine-id"]), st.text(max_size=4)),
    addresses=st.lists(ADDRESSES, max_size=3).map(tuple),
    simulated=st.booleans(),
    container=st.booleans(),
    on=DAYS,
    changed_on=st.none() | DAYS,
    renewals=NUMBERS,
    permit=NUMBERS,
)
ANNOUNCED = st.builds(Announcement, address=ADDRESSES, wall=SECONDS, boot=SECONDS, boot_id=BOOTS)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "clock": st.none() | st.builds(TimeMark, wall=SECONDS, boot=SECONDS, boot_id=BOOTS, ahead=SECONDS, repairs=NUMBERS),
    "host": st.none() | HOSTS,
    "permits": st.dictionaries(SERIALS, NUMBERS),
    "announced": st.none() | ANNOUNCED,
    "rescues": st.dictionaries(SERIALS, st.builds(RescueMark, day=DAYS, count=NUMBERS)),
    "opening": st.none() | st.builds(Opening, serial=SERIALS, day=DAYS, drained=SECONDS),
    "answer": st.none() | st.builds(Answer, serial=SERIALS, number=NUMBERS, text=st.text(max_size=5)),
    "checks": st.dictionaries(SERIALS, NUMBERS),
    "retired": st.lists(SERIALS, max_size=3).map(tuple),
    "revoked": st.dictionaries(SERIALS, st.lists(st.text(max_size=4), max_size=3).map(tuple)),
    "nonces": st.lists(st.text(max_size=4), max_size=3).map(tuple),
    "told": st.dictionaries(
        st.text(max_size=4),
        st.builds(Told, claims=NUMBERS, tamperings=NUMBERS, losses=NUMBERS, repairs=NUMBERS),
        max_size=3,
    ),
    "emergency_claims": NUMBERS,
    "tamperings": NUMBERS,
    "state_losses": NUMBERS,
    "clock_repairs": NUMBERS,
    "check_failing": st.booleans(),
    "lasting": st.none() | st.lists(st.sampled_from([str(it) for it in Cause]), unique=True).map(tuple),
}
ARBITRARY = st.fixed_dictionaries(FIELDS).map(lambda fields: msgspec.structs.replace(Facts(), **fields))


@st.composite
def lived(draw: st.DrawFn) -> Facts:
    """The facts of a system that has run here: true to its clocks, and with any other trouble."""
    opening = draw(st.none() | st.builds(Opening, serial=SERIALS, day=st.just(datetime.date(2026, 2, 27))))
    if opening is not None:
        opening = msgspec.structs.replace(opening, drained=draw(st.sampled_from([0.0, 400_000.0, 604_800.0])))
    return Facts(
        clock=TimeMark(wall=NOW.wall - draw(st.floats(-90_000, 90_000)), boot=NOW.boot - 60, boot_id=BOOT),
        host=msgspec.structs.replace(
            enrolled(),
            changed_on=draw(st.none() | st.just(datetime.date(2026, 2, 27))),
            renewals=draw(st.integers(0, 3)),
        ),
        permits=draw(st.dictionaries(st.just(SERIAL), st.integers(0, 3))),
        rescues=draw(st.dictionaries(st.just(SERIAL), st.builds(RescueMark, day=st.just(DAY)))),
        opening=opening,
        answer=draw(st.none() | st.just(Answer(serial=SERIAL, number=4, text="answer"))),
        checks=draw(st.dictionaries(st.just(SERIAL), st.just(4))),
        retired=draw(st.sampled_from([(), (SERIAL,), (OTHER,)])),
        nonces=("a",),
        told={"a": Told(claims=1)},
        emergency_claims=draw(st.integers(0, 3)),
        tamperings=draw(st.integers(0, 2)),
        state_losses=draw(st.integers(0, 2)),
        clock_repairs=draw(st.integers(0, 2)),
        check_failing=draw(st.booleans()),
        lasting=draw(st.none() | st.just(("host_changed",))),
    )


class Judged(msgspec.Struct, frozen=True):
    """How a system stands by its facts."""

    standing: Standing
    left: dict[str, int]
    """Seconds that each cause has left which lasts; none where it does not."""
    instances: int
    """Of the feature that may be in use."""
    host: HostVerdict
    rescue: float
    window: datetime.date | None
    answered: float


def judged(facts: Facts, shown: Evidence, drained: float, after: float) -> Judged:
    """The system with these facts on that host, so many seconds later."""
    kept = kept_of(facts, Kept(first_mark(NOW, BOOT, DAY)))
    meters = dict.fromkeys(Cause, drained)
    enforcer = Enforcer(
        CATALOG, System(platform="server"), Rules(), NOW, released=DAY, drained=meters, boot_id=BOOT, kept=kept
    )
    enforcer.trust.answer = ANSWER if facts.answer is not None and facts.answer.text == "answer" else None
    enforcer.adopt_stored(LICENSES, NOW)
    later = Now(NOW.wall + after, NOW.boot + after)
    for now in (NOW, later):
        seen = Sighting(
            state="present",
            finding="",
            reader="",
            kind="host",
            hardware_id=hardware_id_of(digests_of(shown)),
            assurance="A0",
        )
        enforcer.see(seen, now)
        enforcer.trust.see_host(shown, SITE, CERTIFICATE, now, enforcer.today(now))
        enforcer.tick(now)
    trust = enforcer.trust
    assert trust.host is not None
    answer = 0.0 if trust.answer is None else trust.answer.seconds_left(SERIAL, trust.dated(later).wall)
    return Judged(
        standing=enforcer.standing,
        left={it.cause: it.seconds_left for it in enforcer.grace},
        instances=enforcer.limit("users"),
        host=trust.host.verdict,
        rescue=trust.rescue_left(SERIAL, enforcer.today(later)),
        window=trust.kept.enrolled.changed_on if trust.kept.enrolled else None,
        answered=answer,
    )


ORDER = list(Standing)


def no_better(after: Judged, before: Judged) -> bool:
    """Whether nothing is granted after the restore that was not before, nor for longer."""
    longer = {cause for cause, left in before.left.items() if cause not in after.left or after.left[cause] > left}
    window = before.window is None or (after.window is not None and after.window <= before.window)
    return (
        ORDER.index(after.standing) >= ORDER.index(before.standing)
        and not longer - ({"rescue"} if after.rescue <= before.rescue else set())
        and after.instances <= before.instances
        and not (before.host is HostVerdict.CHANGED and after.host is not HostVerdict.CHANGED)
        and after.rescue <= before.rescue
        and after.answered <= before.answered
        and window
    )


@settings(max_examples=200, deadline=None)
@given(
    lived(),
    ARBITRARY,
    st.sampled_from([HERE, SPARE, MOVED]),
    st.sampled_from([0.0, 100_000.0, 260_000.0]),
    st.sampled_from([0.0, 3600.0, 80 * 3600.0, 30 * 86_400.0]),
)
def test_no_facts_of_a_backup_give_a_better_standing_or_more_time_or_take_a_refusal_back(
    here: Facts, other: Facts, shown: Evidence, drained: float, after: float
) -> None:
    assert FIELDS.keys() == set(Facts.__struct_fields__), "a fact is missing in the strategy"
    both = merged_facts(here, other, SERIAL, NOW.wall)
    assert no_better(judged(both, shown, drained, after), judged(here, shown, drained, after))
    assert refuses_as_much(here, both)


def refuses_as_much(here: Facts, both: Facts) -> bool:
    """Whether each permit, code, answer and list that was refused as used or older still is."""
    permits = all(both.permits[it] >= number for it, number in here.permits.items())
    rescues = all(both.rescues[it].day >= mark.day for it, mark in here.rescues.items())
    enrolled = here.host is None or (both.host is not None and both.host.renewals >= here.host.renewals)
    told = (both.nonces, both.told, both.announced, both.lasting) == (
        here.nonces,
        here.told,
        here.announced,
        here.lasting,
    )
    counts = all(getattr(both, name) >= getattr(here, name) for name in COUNTS)
    return permits and rescues and enrolled and told and counts and both.checks == here.checks


@settings(deadline=None)
@given(lived(), ARBITRARY, st.integers(0, 4), st.booleans())
def test_an_answer_that_was_taken_here_already_or_is_older_gives_nothing_anew(
    here: Facts, other: Facts, number: int, retired: bool
) -> None:
    assume(SERIAL in here.checks and here.answer is not None)
    other = msgspec.structs.replace(other, answer=Answer(serial=SERIAL, number=999, text="answer"))
    vouched = msgspec.structs.replace(ANSWER, number=number, retired=retired)
    assert merged_facts(here, other, SERIAL, NOW.wall, vouched) == merged_facts(here, other, SERIAL, NOW.wall)


@settings(deadline=None)
@given(ARBITRARY, HOSTS)
def test_on_a_host_without_a_state_a_forged_backup_makes_no_spare_host_the_enrolled_one(
    other: Facts, forged: Enrolled
) -> None:
    forged = msgspec.structs.replace(forged, origin=digests_of(HERE))
    both = merged_facts(Facts(), msgspec.structs.replace(other, host=forged), SERIAL, NOW.wall)
    found = judged(both, SPARE, 0.0, 80 * 3600.0)
    assert (found.host, found.standing) == (HostVerdict.CHANGED, Standing.DEACTIVATED)


def test_all_that_is_kept_is_among_the_facts() -> None:
    kept = kept_of(Facts(), Kept(first_mark(NOW, BOOT, DAY)))
    assert kept_of(facts_of(kept, None), kept) == kept


@pytest.mark.parametrize("drained", [-1e12, 0.0])
def test_an_opening_without_end_opens_nothing(drained: float) -> None:
    forged = Facts(opening=Opening(serial=SERIAL, day=datetime.date(8000, 1, 1), drained=drained))
    assert merged_facts(Facts(), forged, SERIAL, NOW.wall).opening is None
