"""Trust to the second: every budget, expiry and answer just before and after its end, and what no history earns."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Catalog, Cause, CheckRule, HostRules
from featurekeyd.policy.checkevidence import MAX_OPEN, CheckEvidence
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.hostaddress import Announcement, SiteAddresses
from featurekeyd.policy.hostevidence import Evidence, HostAddress, HostComponent, HostNic
from featurekeyd.policy.licensekey import LicenseKey, Term
from featurekeyd.policy.licenses import Status
from featurekeyd.policy.localcheck import CheckItem, LocalCheck, Schedule, Trouble
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.rescue import Opening, RescueMark
from featurekeyd.policy.standing import Standing
from featurekeyd.policy.system import System
from featurekeyd.policy.timekeeping import TimeMark
from featurekeyd.policy.trust import Kept, Told, answered, asked, untold

if TYPE_CHECKING:
    from tests.policy.conftest import Site

HOUR, DAY = 3600, 86_400
TRUNK, PHONE = "sip-trunk-channels", "third-party-ip-endpoints"
EDITED = {CheckItem.STATE: Trouble("The state was edited.", "Restore a backup.")}
WHERE = SiteAddresses()
PARTS = ("product-uuid", "product-serial", "board-serial", "machine-id", "cpu-model")
BUDGETS = {
    Cause.FEATURE_KEY_ABSENT: (2 * HOUR, Standing.DEACTIVATED),
    Cause.UNLISTED_LICENSES: (72 * HOUR, Standing.LICENSED),
    Cause.HOST_CHANGED: (72 * HOUR, Standing.RESTRICTED),
    Cause.NO_CHECK: (72 * HOUR, Standing.DEACTIVATED),
}
"""Budget and what follows, of IP Office with a host that is bound."""


def host(name: str = "the host", address: str = "192.0.2.10", missing: str | None = None) -> Evidence:
    value = "" if missing else name
    return Evidence(
        components=tuple(HostComponent(name=part, value=value, missing=missing) for part in PARTS),
        nics=() if missing else (HostNic(name="enp1s0", permanent=f"nic of {name}", primary=True),),
        addresses=(HostAddress(interface="enp1s0", family="ipv4", address=address),),
    )


def see_host(site: Site, evidence: Evidence) -> None:
    enforcer, now = site.enforcer, site.now
    enforcer.trust.see_host(evidence, WHERE, site.licenses.certificate, now, enforcer.today(now))
    enforcer.update(now)


def check(site: Site, troubles: dict[CheckItem, Trouble] | None = None) -> LocalCheck:
    enforcer = site.enforcer
    found = enforcer.trust.take_check(enforcer.feature_key, site.licenses.certificate, troubles or {}, site.now)
    enforcer.update(site.now)
    return found


def answer(site: Site, seconds: int, *, retired: bool = False, revoked: tuple[LicenseKey, ...] = ()) -> None:
    """Let the vendor's answer count, which is good for so many seconds."""
    checked = datetime.datetime.fromtimestamp(site.wall, datetime.UTC)
    site.number += 1
    site.enforcer.trust.take_answer(
        CheckEvidence(
            serial=str(site.licenses.serial),
            catalog=site.catalog.id,
            number=site.number,
            nonce="0" * 32,
            checked=checked,
            until=checked + datetime.timedelta(seconds=seconds),
            retired=retired,
            revoked=revoked,
        )
    )
    check(site)


def open_up(site: Site) -> None:
    """Let a rescue code of today open the system."""
    day = site.enforcer.today(site.now)
    site.enforcer.trust.open_up(Opening(serial=str(site.licenses.serial), day=day), RescueMark(day=day), "tom")
    site.enforcer.update(site.now)


def begin(site: Site, cause: Cause) -> None:
    """Let a cause begin to last."""
    if cause is Cause.FEATURE_KEY_ABSENT:
        site.pull()
    elif cause is Cause.UNLISTED_LICENSES:
        site.type_in(site.key("receptionist", 1))
    elif cause is Cause.HOST_CHANGED:
        see_host(site, host("another host"))
    else:
        check(site, EDITED)


def restart(site: Site, *, reboot: bool = True, tells_what_lasts: bool = True) -> None:
    """Go on with an Enforcer made of what is stored, which has seen neither the key nor the host yet."""
    before = site.enforcer
    if reboot:
        site.boot = 40.0
    site.enforcer = Enforcer(
        site.catalog,
        System(platform=site.platform),
        site.rules,
        site.now,
        released=site.released,
        drained={cause: meter.drained for cause, meter in before.meters.items()},
        lasting=frozenset(it for it, meter in before.meters.items() if meter.active) if tells_what_lasts else None,
        boot_id="the next boot" if reboot else "",
        kept=msgspec.json.decode(msgspec.json.encode(before.trust.kept), type=Kept),
    )
    site.enforcer.trust.answer = before.trust.answer
    site.enforcer.adopt_stored(before.licenses, site.now)


def left(site: Site) -> dict[str, int]:
    return {grace.cause: grace.seconds_left for grace in site.enforcer.grace}


def standing(site: Site) -> Standing:
    return site.enforcer.standing


@pytest.fixture(scope="session")
def open_office(make_site: Callable[..., Site], shipped: dict[str, Catalog]) -> Callable[..., Site]:
    """Opens IP Office systems with 8 trunks and 20 phones, whose host is bound; `asks` requires the vendor's answer."""

    def opened(*, asks: bool = False, addresses: bool = False) -> Site:
        rules = HostRules(binds=True, binds_addresses=addresses)
        catalog = msgspec.structs.replace(shipped["ip-office"], host=rules, checks=CheckRule(evidence=asks))
        site = make_site(catalog, "ip500-v2")
        site.certify()
        site.buy(**{TRUNK: 8, PHONE: 20})
        see_host(site, host())
        see_host(site, host())
        if asks:
            answer(site, 30 * DAY)
        assert standing(site) is Standing.LICENSED
        site.told()
        return site

    return opened


@pytest.fixture
def office(open_office: Callable[..., Site]) -> Site:
    return open_office()


# Boundaries.


@pytest.mark.parametrize("cause", BUDGETS)
def test_a_budget_ends_on_its_second_and_not_one_before(office: Site, cause: Cause) -> None:
    budget, then = BUDGETS[cause]
    begin(office, cause)
    assert (standing(office), left(office)) == (Standing.GRACE, {cause: budget})
    office.wait(budget - 1)
    assert (standing(office), left(office)) == (Standing.GRACE, {cause: 1})
    for _ in range(2):
        office.wait(1)
        assert (standing(office), left(office)) == (then, {cause: 0})


def test_unlisted_keys_stop_counting_on_the_second_and_not_one_before(office: Site) -> None:
    begin(office, Cause.UNLISTED_LICENSES)
    office.wait(72 * HOUR - 1)
    assert office.enforcer.entitlements["receptionist"].limit == 1
    office.wait(1)
    assert office.enforcer.entitlements["receptionist"].limit == 0
    assert office.enforcer.entitlements[TRUNK].limit == 8


def test_a_restricted_system_has_what_comes_free_and_nothing_bought(office: Site) -> None:
    begin(office, Cause.HOST_CHANGED)
    office.wait(72 * HOUR)
    assert (office.enforcer.limit(TRUNK), office.enforcer.limit("vcm-channels")) == (0, 4)
    check(office)
    office.wait(1000 * HOUR)
    assert standing(office) is Standing.RESTRICTED, "and a check that tells of the changed host makes it no worse"


@pytest.mark.parametrize("term", [term for term in Term if term is not Term.PERPETUAL])
def test_a_term_ends_with_its_last_day(office: Site, term: Term) -> None:
    key = office.key("receptionist", 1, term)
    office.bring(office.list_of(key))
    assert key.expires is not None
    end = datetime.datetime.combine(key.expires, datetime.time(), datetime.UTC).timestamp() + DAY
    office.wait(end - office.wall - 1)
    assert office.enforcer.entitlements["receptionist"].limit == 1
    office.wait(1)
    assert office.enforcer.entitlements["receptionist"].limit == 0
    assert EventName.LICENSE_EXPIRED in office.told()


def test_a_term_that_ended_does_not_begin_again_for_a_clock_that_is_set_back(office: Site) -> None:
    office.bring(office.list_of(office.key("receptionist", 1, Term.TRIAL)))
    for _ in range(70):
        office.wait(DAY)
    assert office.enforcer.entitlements["receptionist"].limit == 0
    office.wall -= 60 * DAY
    office.wait(0)
    assert office.enforcer.entitlements["receptionist"].limit == 0
    restart(office)
    assert office.enforcer.entitlements["receptionist"].limit == 0


def test_a_check_is_due_every_three_hours_to_the_second(office: Site) -> None:
    schedule = Schedule(every=float(office.catalog.checks.seconds or 0)).done(office.boot)
    assert not schedule.is_due(office.boot + 3 * HOUR - 1)
    assert schedule.is_due(office.boot + 3 * HOUR)


def test_a_check_that_passes_in_the_last_second_gives_all_back(office: Site) -> None:
    check(office, EDITED)
    office.wait(72 * HOUR - 1)
    assert check(office).passed
    assert (standing(office), office.drained(Cause.NO_CHECK)) == (Standing.LICENSED, 0)


def test_an_answer_is_good_until_its_second_and_72_hours_follow(open_office: Callable[..., Site]) -> None:
    site = open_office(asks=True)
    site.wait(30 * DAY - 1)
    assert standing(site) is Standing.LICENSED
    site.wait(1)
    assert (standing(site), left(site)) == (Standing.GRACE, {Cause.NO_CHECK: 72 * HOUR})
    site.wait(72 * HOUR - 1)
    assert standing(site) is Standing.GRACE
    site.wait(1)
    assert standing(site) is Standing.DEACTIVATED
    answer(site, HOUR)
    assert standing(site) is Standing.LICENSED


def test_a_new_ayrix_has_72_hours_for_the_first_answer_and_says_how_to_get_it(
    make_site: Callable[..., Site], shipped: dict[str, Catalog]
) -> None:
    site = make_site(shipped["ayrix"], "server")
    site.wait(100 * HOUR)
    assert left(site) == {}, "nothing is counted before there is a certificate"
    site.certify()
    (grace,) = site.enforcer.grace
    assert (standing(site), grace.cause, grace.seconds_left) == (Standing.GRACE, Cause.NO_CHECK, 72 * HOUR)
    assert "featurekeyctl check --request" in grace.remedy
    site.wait(72 * HOUR - 1)
    assert standing(site) is Standing.GRACE
    site.wait(1)
    assert standing(site) is Standing.DEACTIVATED
    answer(site, 3 * HOUR)
    assert standing(site) is Standing.LICENSED
    site.wait(3 * HOUR)
    assert (standing(site), left(site)) == (Standing.GRACE, {Cause.NO_CHECK: 72 * HOUR}), (
        "a short outage changes nothing"
    )


def test_a_rescue_ends_after_seven_days_to_the_second_and_is_told_once(office: Site) -> None:
    office.pull()
    office.wait(2 * HOUR)
    open_up(office)
    office.wait(7 * DAY - 1)
    assert (standing(office), left(office)) == (Standing.GRACE, {Cause.FEATURE_KEY_ABSENT: 0, "rescue": 1})
    office.told()
    office.wait(1)
    assert (standing(office), left(office)) == (Standing.DEACTIVATED, {Cause.FEATURE_KEY_ABSENT: 0})
    assert set(office.told()) == {EventName.RESCUE_ENDED, EventName.STANDING_DEACTIVATED}
    office.wait(1)
    assert office.told() == []


def test_an_announced_address_is_over_after_a_month_also_for_a_host_that_boots_in_1970(
    open_office: Callable[..., Site],
) -> None:
    site = open_office(addresses=True)
    site.enforcer.trust.announce(Announcement(address="192.0.2.20", wall=site.wall, boot=site.boot, boot_id=""), "tom")
    for _ in range(30):
        site.wait(DAY)
    site.wall = 82_800.0
    restart(site)
    site.wait(23 * HOUR)
    see_host(site, host(address="192.0.2.20"))
    assert standing(site) is Standing.GRACE


@pytest.mark.parametrize(("seconds", "seen"), [(DAY - 1, Standing.LICENSED), (DAY, Standing.GRACE)])
def test_an_announced_address_is_good_for_24_hours_to_the_second(
    open_office: Callable[..., Site], seconds: int, seen: Standing
) -> None:
    site = open_office(addresses=True)
    new = host(address="192.0.2.20")
    site.enforcer.trust.announce(Announcement(address="192.0.2.20", wall=site.wall, boot=site.boot, boot_id=""), "tom")
    site.wait(seconds)
    see_host(site, new)
    assert standing(site) is seen


@pytest.mark.parametrize(("back", "told"), [(HOUR, False), (HOUR + 1, True)])
def test_a_clock_is_set_back_from_one_hour_and_a_second_on(office: Site, back: int, told: bool) -> None:
    office.wall -= back
    office.wait(0)
    assert (EventName.CLOCK_SET_BACK in office.told()) is told
    assert standing(office) is Standing.LICENSED


@pytest.mark.parametrize(("ahead", "told"), [(3 * DAY, False), (3 * DAY + 1, True)])
def test_a_clock_is_far_ahead_from_two_days_on_that_nothing_explains(office: Site, ahead: int, told: bool) -> None:
    office.wall += ahead  # the mark follows by one day at once
    office.wait(0)
    assert (EventName.CLOCK_AHEAD in office.told()) is told
    found = check(office)
    warned = {it.item: it.remedy for it in found.findings if it.warning}
    assert found.passed
    assert ("clock repair" in str(warned.get(CheckItem.DATES))) is told
    assert standing(office) is Standing.LICENSED


def test_a_clock_that_is_far_ahead_and_right_is_believed_in_time_or_by_command(office: Site) -> None:
    for cure in ("time", "command"):
        office.wall += 10 * DAY
        office.wait(0)
        assert office.told() == [EventName.CLOCK_AHEAD]
        if cure == "command":
            office.enforcer.trust.repair_clock(office.now, datetime.date.min, "tom")
            office.enforcer.update(office.now)
            assert office.told() == [EventName.CLOCK_REPAIRED, EventName.CLOCK_RIGHT]
            continue
        for _ in range(6):
            office.wait(DAY)
            assert office.told() == []
        office.wait(DAY)
        assert office.told() == [EventName.CLOCK_RIGHT]
        office.wait(5 * DAY)


# Which cause decides.


def test_of_several_causes_the_worst_decides_and_each_is_told_with_its_time_left(office: Site) -> None:
    for cause in BUDGETS:
        begin(office, cause)
    office.wait(HOUR)
    assert standing(office) is Standing.GRACE
    assert left(office) == {cause: budget - HOUR for cause, (budget, _) in BUDGETS.items()}
    office.wait(HOUR)
    assert standing(office) is Standing.DEACTIVATED
    assert left(office) == {cause: budget - 2 * HOUR for cause, (budget, _) in BUDGETS.items()}
    office.put_back()
    assert standing(office) is Standing.GRACE
    office.wait(70 * HOUR)
    assert standing(office) is Standing.DEACTIVATED
    check(office)
    assert standing(office) is Standing.RESTRICTED
    see_host(office, host())
    assert standing(office) is Standing.LICENSED


def test_a_signed_no_beats_grace_and_rescue_and_says_what_cures_it(open_office: Callable[..., Site]) -> None:
    site = open_office(asks=True)
    site.pull()
    open_up(site)
    assert standing(site) is Standing.GRACE
    site.enforcer.events.clear()
    answer(site, HOUR, retired=True)
    assert standing(site) is Standing.DEACTIVATED
    (told,) = (event for event in site.enforcer.events if event.name is EventName.STANDING_DEACTIVATED)
    assert "has retired" in told.message
    assert "certificate" in told.message
    site.put_back()
    open_up(site)
    assert site.acquire("call", TRUNK).reason is Reason.DEACTIVATED


def test_a_signed_no_gives_no_time_back(open_office: Callable[..., Site]) -> None:
    site = open_office(asks=True)
    site.wait(30 * DAY)
    site.wait(HOUR)
    answer(site, HOUR, retired=True)
    assert site.drained(Cause.NO_CHECK) == HOUR


def test_what_has_a_budget_of_its_own_is_not_counted_as_a_missing_check(office: Site) -> None:
    office.pull()
    see_host(office, host("another host"))
    assert check(office).failed == (CheckItem.FEATURE_KEY, CheckItem.HOST)
    assert set(left(office)) == {Cause.FEATURE_KEY_ABSENT, Cause.HOST_CHANGED}
    office.put_back()
    see_host(office, host())
    assert standing(office) is Standing.LICENSED, "all at once well, without waiting for the next check"
    check(office)
    assert EventName.CHECK_PASSED in office.told()


def test_a_host_that_nobody_can_read_neither_begins_nor_ends_a_change(office: Site) -> None:
    unreadable = host(missing="no permission")
    see_host(office, unreadable)
    assert check(office).passed
    assert standing(office) is Standing.LICENSED
    see_host(office, host("another host"))
    office.wait(HOUR)
    see_host(office, unreadable)
    office.wait(HOUR)
    assert left(office) == {Cause.HOST_CHANGED: 70 * HOUR}


def test_a_check_before_the_certificate_costs_nothing(open_office: Callable[..., Site], fresh: Site) -> None:
    site = open_office(asks=True)
    fresh.catalog, fresh.platform = site.catalog, site.platform
    fresh.enforcer = Enforcer(site.catalog, System(platform=site.platform), fresh.rules, fresh.now)
    assert not check(fresh).passed
    fresh.wait(100 * HOUR)
    fresh.certify()
    assert left(fresh) == {Cause.NO_CHECK: 72 * HOUR}


# Restarts.


@pytest.mark.parametrize("reboot", [True, False])
@pytest.mark.parametrize("cause", BUDGETS)
def test_a_restart_earns_nothing(office: Site, cause: Cause, reboot: bool) -> None:
    budget, then = BUDGETS[cause]
    begin(office, cause)
    office.wait(budget - 10)
    restart(office, reboot=reboot)
    assert (standing(office), left(office)) == (Standing.GRACE, {cause: 10})
    if cause is Cause.FEATURE_KEY_ABSENT:
        office.pull()
    else:
        office.put_back()
    see_host(office, host("another host") if cause is Cause.HOST_CHANGED else host())
    office.wait(9)
    assert (standing(office), left(office)) == (Standing.GRACE, {cause: 1})
    office.wait(1)
    restart(office, reboot=reboot)
    assert (standing(office), left(office)) == (then, {cause: 0}), "and what is spent stays spent"


@pytest.mark.parametrize("cause", [Cause.FEATURE_KEY_ABSENT, Cause.HOST_CHANGED])
def test_a_restart_while_a_meter_refills_tells_no_grace(office: Site, cause: Cause) -> None:
    begin(office, cause)
    office.wait(HOUR)
    office.put_back()
    see_host(office, host())
    assert (standing(office), office.drained(cause)) == (Standing.LICENSED, HOUR)
    office.told()
    for _ in range(2):  # once more before anybody has looked
        restart(office)
        assert (standing(office), left(office), office.drained(cause)) == (Standing.LICENSED, {}, HOUR)
    assert EventName.STANDING_GRACE not in office.told()
    restart(office, tells_what_lasts=False)
    assert standing(office) is Standing.GRACE, "where nobody stored it, what has drained is taken to last"


def test_a_change_of_a_host_that_is_enrolled_no_more_does_not_last(office: Site) -> None:
    begin(office, Cause.HOST_CHANGED)
    office.wait(HOUR)
    office.enforcer.trust.kept = msgspec.structs.replace(office.enforcer.trust.kept, enrolled=None)
    restart(office)
    assert Cause.HOST_CHANGED not in left(office)


def test_a_restart_ends_no_rescue(office: Site) -> None:
    office.pull()
    office.wait(2 * HOUR)
    open_up(office)
    office.wait(DAY)
    for reboot in (False, True):
        restart(office, reboot=reboot)
        office.pull()
        assert standing(office) is Standing.GRACE
        assert left(office)["rescue"] == 6 * DAY
        assert EventName.RESCUE_ENDED not in office.told()


def test_a_key_that_the_vendor_revokes_in_an_answer_counts_no_more_and_cuts_nothing(office: Site) -> None:
    before = {name: it.limit for name, it in office.enforcer.entitlements.items()}
    revoked = office.licenses.keys()[0]
    feature = office.catalog.by_code[revoked.feature_code].id
    answer(office, 30 * DAY, revoked=(revoked,))
    after = {name: it.limit for name, it in office.enforcer.entitlements.items()}
    assert after[feature] < before[feature]
    (license_,) = [it for it in office.enforcer.installed(office.now) if it.key == revoked]
    assert (license_.status, license_.finding) == (
        Status.INVALID,
        "The vendor has revoked this key in the answer to a check.",
    )
    answer(office, 30 * DAY)
    assert {name: it.limit for name, it in office.enforcer.entitlements.items()} == before, "the newest answer counts"


def test_a_key_stays_revoked_when_another_serial_is_answered_for_until_the_vendor_takes_it_back(office: Site) -> None:
    serial, revoked = office.licenses.serial, office.licenses.keys()[0]
    answer(office, 30 * DAY, revoked=(revoked,))
    trust = office.enforcer.trust
    assert trust.answer is not None
    trust.take_answer(msgspec.structs.replace(trust.answer, serial="110000000001", number=9, revoked=()))
    for again in (False, True):
        assert trust.revoked(serial) == {revoked}
        assert trust.revoked("110000000001") == frozenset()
        if not again:
            restart(office)
            trust = office.enforcer.trust
    answer(office, 30 * DAY)
    assert trust.revoked(serial) == frozenset()
    assert trust.kept.revoked == {}


def test_an_answer_that_an_earlier_release_has_kept_revokes_by_itself(office: Site) -> None:
    serial, revoked = office.licenses.serial, office.licenses.keys()[0]
    answer(office, 30 * DAY, revoked=(revoked,))
    trust = office.enforcer.trust
    trust.kept = msgspec.structs.replace(trust.kept, revoked={"110000000001": ("no key",)})
    assert trust.revoked(serial) == {revoked}
    assert trust.revoked("110000000001") == frozenset()


def test_a_serial_stays_retired_when_another_is_answered_for(office: Site) -> None:
    serial = str(office.licenses.serial)
    answer(office, DAY, retired=True)
    trust = office.enforcer.trust
    assert trust.answer is not None
    trust.take_answer(msgspec.structs.replace(trust.answer, serial="110000000001", number=9, retired=False))
    office.enforcer.update(office.now)
    assert (trust.told_no(serial), standing(office)) == (True, Standing.DEACTIVATED)


def test_a_serial_that_was_retired_by_mistake_is_good_again_by_a_newer_answer(office: Site) -> None:
    serial = str(office.licenses.serial)
    answer(office, DAY, retired=True)
    retired = office.enforcer.trust.kept
    assert (retired.retired, standing(office)) == ((serial,), Standing.DEACTIVATED)
    answer(office, 30 * DAY)
    assert (office.enforcer.trust.told_no(serial), office.enforcer.trust.kept.retired) == (False, ())
    assert standing(office) is not Standing.DEACTIVATED


def test_a_rescue_where_all_is_well_changes_nothing_until_it_is_needed(office: Site) -> None:
    open_up(office)
    assert (standing(office), left(office)) == (Standing.LICENSED, {})
    office.pull()
    office.wait(2 * HOUR)
    assert standing(office) is Standing.GRACE
    assert left(office)["rescue"] == 7 * DAY - 2 * HOUR


def test_a_clock_that_stands_ahead_for_a_while_ends_no_rescue(office: Site) -> None:
    office.pull()
    office.wait(2 * HOUR)
    open_up(office)
    office.wait(HOUR)
    office.wall += 3650 * DAY
    office.wait(60)
    assert standing(office) is Standing.DEACTIVATED
    office.wall -= 3650 * DAY
    office.wait(60)
    assert standing(office) is Standing.GRACE
    assert left(office)["rescue"] == 7 * DAY - HOUR - 120
    assert EventName.RESCUE_ENDED not in office.told()


@pytest.mark.parametrize(("released", "name"), [(None, "clock_set_back"), (datetime.date(2026, 2, 1), "clock_unset")])
def test_a_clock_that_is_wrong_at_the_start_is_told(office: Site, released: datetime.date | None, name: str) -> None:
    office.released = released or office.released
    office.wall -= 60 * DAY
    restart(office)
    assert EventName(name) in office.told()
    assert standing(office) is Standing.LICENSED


# What a deactivated system still does, and what is told.


def test_a_deactivated_system_keeps_its_phones_and_grants_emergency_calls_only(office: Site) -> None:
    assert office.acquire("phone", PHONE).allowed
    assert office.acquire("call", TRUNK).allowed
    office.pull()
    office.wait(2 * HOUR)
    assert office.acquire("phone", PHONE).reason is Reason.ALREADY_HELD
    assert office.acquire("call", TRUNK).allowed, "a call in progress is never cut"
    assert office.acquire("other phone", PHONE).reason is Reason.DEACTIVATED
    assert office.acquire("other call", TRUNK).reason is Reason.DEACTIVATED
    assert office.acquire("emergency", TRUNK, dialed="112").reason is Reason.EMERGENCY


def test_every_change_of_standing_is_one_event_with_cause_time_left_and_cure(office: Site) -> None:
    office.pull()
    office.wait(HOUR)
    office.wait(HOUR)
    office.wait(HOUR)
    open_up(office)
    office.put_back()
    office.wait(7 * DAY)
    events = [event for event in office.enforcer.events if event.name.startswith("standing_")]
    assert [event.name.removeprefix("standing_") for event in events] == ["grace", "deactivated", "grace", "licensed"]
    begun, ended, rescued, well = (event.message for event in events)
    assert "feature_key_absent: 7200 s left; Put the certified Feature Key back" in begun
    assert "feature_key_absent: 0 s left; Put the certified Feature Key back" in ended
    assert f"rescue: {7 * DAY} s left; Get the Feature Key exchanged" in rescued
    assert well.startswith("The standing is licensed (was grace).")


# What the vendor is told of.


def answer_to(nonce: str) -> CheckEvidence:
    day = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
    return CheckEvidence(serial="1", catalog="c", number=1, nonce=nonce, checked=day, until=day)


@given(st.lists(st.tuples(st.sampled_from(("claim", "ask", "answer")), st.integers(0, 3)), max_size=20))
def test_each_claim_is_told_until_an_answer_covers_it(history: list[tuple[str, int]]) -> None:
    kept = Kept(TimeMark(wall=0, boot=0, boot_id=""))
    claims: set[int] = set()
    told: dict[str, set[int]] = {}
    for step, (action, which) in enumerate(history):
        nonce = f"{which:032x}"
        if action == "claim":
            claims.add(step)
            kept = msgspec.structs.replace(kept, claims=kept.claims + 1)
        elif action == "ask":
            told[nonce] = set(claims)
            kept = asked(kept, nonce, untold(kept))
        else:
            claims -= told.pop(nonce, set())
            kept = answered(kept, answer_to(nonce))
        assert kept.claims == len(claims)
        assert kept.told.keys() == told.keys()


def test_a_request_that_is_given_up_is_forgotten_with_what_it_told() -> None:
    kept = Kept(TimeMark(wall=0, boot=0, boot_id=""))
    for number in range(MAX_OPEN + 1):
        kept = asked(kept, f"{number:032x}", Told(claims=number))
    assert list(kept.told) == list(kept.nonces)
    assert len(kept.told) == MAX_OPEN


# Against a naive model.


class Naive:
    """Budgets as one would keep them on paper."""

    def __init__(self) -> None:
        self.drained = dict.fromkeys(BUDGETS, 0.0)
        self.lasts = dict.fromkeys(BUDGETS, False)

    def wait(self, seconds: int) -> None:
        for cause, (budget, _) in BUDGETS.items():
            drained = self.drained[cause]
            if self.lasts[cause]:
                self.drained[cause] = min(drained + seconds, budget)
            elif cause in {Cause.FEATURE_KEY_ABSENT, Cause.HOST_CHANGED}:
                self.drained[cause] = max(drained - seconds / 2, 0.0)

    def check(self, *, edited: bool) -> None:
        here = self.lasts[Cause.FEATURE_KEY_ABSENT] or self.lasts[Cause.HOST_CHANGED]
        self.lasts[Cause.NO_CHECK] = edited
        if not edited and not here:
            self.drained[Cause.NO_CHECK] = 0.0

    def standing(self) -> Standing:
        spent = {then for cause, (budget, then) in BUDGETS.items() if self.lasts[cause] and self.left(cause) == 0}
        for worst in (Standing.DEACTIVATED, Standing.RESTRICTED):
            if worst in spent:
                return worst
        grace = any(self.lasts[cause] and self.left(cause) > 0 for cause in BUDGETS)
        return Standing.GRACE if grace else Standing.LICENSED

    def left(self, cause: Cause) -> float:
        return BUDGETS[cause][0] - self.drained[cause]


ACTIONS = (
    "pull",
    "put back",
    "edited",
    "check",
    "other host",
    "own host",
    "type",
    "list",
    "restart",
    "reboot",
    "clock",
)


def act(site: Site, naive: Naive, action: str, seconds: int) -> None:
    """Do the same to the system and on paper."""
    if action in {"pull", "put back"}:
        naive.lasts[Cause.FEATURE_KEY_ABSENT] = action == "pull"
        site.pull() if action == "pull" else site.put_back()
    elif action in {"edited", "check"}:
        naive.check(edited=action == "edited")
        check(site, EDITED if action == "edited" else None)
    elif action in {"other host", "own host"}:
        naive.lasts[Cause.HOST_CHANGED] = action == "other host"
        see_host(site, host("another host" if action == "other host" else "the host"))
    elif action == "type":
        naive.lasts[Cause.UNLISTED_LICENSES] = True
        site.type_in(site.key("receptionist", 1))
    elif action == "list":
        naive.lasts[Cause.UNLISTED_LICENSES], naive.drained[Cause.UNLISTED_LICENSES] = False, 0.0
        site.bring(site.list_of(*site.licenses.keys()))
    elif action == "clock":
        site.wall += (seconds - 150_000) * 50
        site.wait(0)
    else:
        restart(site, reboot=action == "reboot")
        act(site, naive, "pull" if naive.lasts[Cause.FEATURE_KEY_ABSENT] else "put back", 0)
        act(site, naive, "other host" if naive.lasts[Cause.HOST_CHANGED] else "own host", 0)


def earned_too_much(before: dict[Cause, float], site: Site, action: str, seconds: int) -> list[Cause]:
    """The causes that got more back than their refill rule gives."""
    allowed = {Cause.FEATURE_KEY_ABSENT: seconds / 2, Cause.HOST_CHANGED: seconds / 2}
    allowed[Cause.NO_CHECK] = before[Cause.NO_CHECK] if action == "check" else 0.0
    allowed[Cause.UNLISTED_LICENSES] = before[Cause.UNLISTED_LICENSES] if action == "list" else 0.0
    return [cause for cause in BUDGETS if before[cause] - site.drained(cause) > allowed[cause]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 300_000)), max_size=25))
def test_the_standing_is_that_of_a_naive_model_and_no_history_earns_time(
    open_office: Callable[..., Site], history: list[tuple[str, int]]
) -> None:
    site, naive = open_office(), Naive()
    for action, seconds in history:
        before = {cause: site.drained(cause) for cause in BUDGETS}
        act(site, naive, action, seconds)
        site.wait(seconds)
        naive.wait(seconds)
        assert {cause: site.drained(cause) for cause in BUDGETS} == naive.drained
        assert left(site) == {cause: round(naive.left(cause)) for cause in BUDGETS if naive.lasts[cause]}
        assert standing(site) is naive.standing()
        assert earned_too_much(before, site, action, seconds) == []
