"""The Primary of a network: 15 days without it, to the second, and none after a reboot of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.policy.catalog import Catalog, Cause, Consequence, MeterRule, Need, Refill
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.standing import Standing
from featurekeyd.policy.system import System
from featurekeyd.policy.tables import FileMistakes
from featurekeyd.policy.trust import Kept

if TYPE_CHECKING:
    from tests.policy.conftest import Site

DAY = 86_400
PRIMARY = Cause.PRIMARY_UNREACHABLE
SHARED, PROFILE, OWN = "preferred-edition", "power-user", "sip-trunk-channels"


def reaches(site: Site, *, reachable: bool) -> None:
    """Let somebody find out whether the Primary answers."""
    site.enforcer.see_primary(site.now, reachable=reachable)


def begin(site: Site, **fields: Any) -> None:
    """Go on with an Enforcer of a system that takes the shared edition from another one."""
    before = site.enforcer
    site.enforcer = Enforcer(
        site.catalog, System(platform=site.platform, shared=frozenset({SHARED})), site.rules, site.now, **fields
    )
    site.enforcer.trust.primary_seen = fields.get("boot_id") != "next" and before.trust.primary_seen
    site.enforcer.adopt_stored(before.licenses, site.now)
    site.put_back()


def restart(site: Site, *, reboot: bool = False) -> None:
    """Begin with what is stored; the right to grace lives as long as the boot."""
    before = site.enforcer
    begin(
        site,
        boot_id="next" if reboot else "",
        drained={cause: meter.drained for cause, meter in before.meters.items()},
        lasting=frozenset(cause for cause, meter in before.meters.items() if meter.active),
        kept=msgspec.json.decode(msgspec.json.encode(before.trust.kept), type=Kept),
    )


def stands(site: Site) -> tuple[Standing, int | None, int, int]:
    """The standing, the seconds left without the Primary, and what may be in use of the profile and of the trunks."""
    left = {grace.cause: grace.seconds_left for grace in site.enforcer.grace}.get(PRIMARY)
    return site.enforcer.standing, left, site.enforcer.limit(PROFILE), site.enforcer.limit(OWN)


@pytest.fixture
def office(make_site: Callable[..., Site], shipped: dict[str, Catalog]) -> Site:
    """A system with 8 trunks of its own, and 4 profiles that need the edition of another system."""
    rule = shipped["ip-office-server-edition"].meters[PRIMARY]
    catalog = shipped["ip-office"]
    site = make_site(msgspec.structs.replace(catalog, meters={**catalog.meters, PRIMARY: rule}), "ip500-v2")
    site.certify()
    site.buy(**{OWN: 8, PROFILE: 4})
    begin(site)
    site.told()
    return site


GOOD = (Standing.LICENSED, None, 4, 8)
STOPPED = (Standing.LICENSED, 0, 0, 8)
"""Only what came from the Primary stops."""


def test_with_nobody_who_asks_nothing_changes(office: Site) -> None:
    office.wait(100 * DAY)
    assert stands(office) == GOOD
    for reboot in (False, True):
        restart(office, reboot=reboot)
        assert stands(office) == GOOD


def test_without_the_primary_15_days_remain_to_the_second_and_then_only_what_came_from_it_stops(office: Site) -> None:
    reaches(office, reachable=True)
    assert stands(office) == GOOD
    reaches(office, reachable=False)
    assert stands(office) == (Standing.GRACE, 15 * DAY, 4, 8)
    office.wait(15 * DAY - 1)
    assert stands(office) == (Standing.GRACE, 1, 4, 8)
    office.wait(1)
    assert stands(office) == STOPPED
    office.wait(100 * DAY)
    assert stands(office) == STOPPED


def test_contact_gives_everything_back_at_once(office: Site) -> None:
    reaches(office, reachable=True)
    for days in (14, 15):
        reaches(office, reachable=False)
        office.wait(days * DAY)
        reaches(office, reachable=True)
        assert (stands(office), office.drained(PRIMARY)) == (GOOD, 0)


def test_each_look_that_finds_it_away_goes_on_with_the_same_grace(office: Site) -> None:
    reaches(office, reachable=True)
    reaches(office, reachable=False)
    office.wall += DAY
    office.boot += DAY
    reaches(office, reachable=False)
    assert stands(office) == (Standing.GRACE, 14 * DAY, 4, 8)


def test_a_restart_of_the_daemon_neither_ends_nor_renews_it(office: Site) -> None:
    reaches(office, reachable=True)
    reaches(office, reachable=False)
    office.wait(10 * DAY)
    restart(office)
    assert stands(office) == (Standing.GRACE, 5 * DAY, 4, 8), "also before anybody has asked again"
    reaches(office, reachable=False)
    office.wait(5 * DAY - 1)
    assert stands(office) == (Standing.GRACE, 1, 4, 8)
    office.wait(1)
    restart(office)
    assert stands(office) == STOPPED


def test_a_reboot_voids_it_until_the_primary_answers_again(office: Site) -> None:
    reaches(office, reachable=True)
    reaches(office, reachable=False)
    office.wait(60)
    restart(office, reboot=True)
    assert stands(office) == STOPPED
    reaches(office, reachable=False)
    assert stands(office) == STOPPED
    reaches(office, reachable=True)
    assert stands(office) == GOOD
    reaches(office, reachable=False)
    assert stands(office) == (Standing.GRACE, 15 * DAY, 4, 8)


def test_a_reboot_while_the_primary_is_there_costs_nothing_until_it_is_missed(office: Site) -> None:
    reaches(office, reachable=True)
    restart(office, reboot=True)
    assert stands(office) == GOOD
    reaches(office, reachable=False)
    assert stands(office) == STOPPED, "nobody has seen it in this boot"


def test_the_grace_says_what_follows_and_that_a_restart_ends_it(office: Site) -> None:
    reaches(office, reachable=True)
    reaches(office, reachable=False)
    (grace,) = office.enforcer.grace
    assert grace.consequence == "features that another system of the network shares stop counting"
    assert "Do not restart this host" in grace.remedy
    assert office.told() == [EventName.STANDING_GRACE]


def test_a_catalog_without_that_meter_takes_no_notice(make_site: Callable[..., Site], catalog: Catalog) -> None:
    site = make_site(catalog)
    site.certify()
    reaches(site, reachable=False)
    site.wait(100 * DAY)
    assert (site.enforcer.standing, site.enforcer.grace) == (Standing.LICENSED, ())


def test_the_server_edition_has_the_15_days_of_the_document(shipped: dict[str, Catalog]) -> None:
    rules = {name: catalog.meters.get(PRIMARY) for name, catalog in shipped.items()}
    rule = rules.pop("ip-office-server-edition")
    assert isinstance(rule, MeterRule)
    assert (rule.seconds, rule.refill, rule.then) == (15 * DAY, Refill.ON_CONTACT, Consequence.SHARED_STOPS)
    assert rule.needs is Need.THIS_BOOT
    assert set(rules.values()) == {None}


@pytest.mark.parametrize(
    ("key", "value"), [("needs", "this_boot"), ("refill", "on_contact"), ("then", "shared_stops"), ("needs", "money")]
)
def test_no_other_meter_may_have_what_only_the_primarys_can_keep(catalog_text: str, key: str, value: str) -> None:
    table = {"budget": "72h", "refill": "by_check", "then": "deactivated", key: value}
    lines = [f'{name} = "{text}"' for name, text in table.items()]
    with pytest.raises(FileMistakes, match=rf"meters\.no_check\.{key}"):
        load_catalog("\n".join([catalog_text, "[meters.no_check]", *lines, ""]), "exchange.toml")
