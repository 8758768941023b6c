"""The host as it was enrolled and as it is now: k of n, what is learned, enrolling again, what a certificate names."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featurekeyd.hwio import hostkey
from featurekeyd.hwio.hostidentity import COMPONENT_NAMES, read_host_identity
from featurekeyd.hwio.hostprobes import foreign_root, read_file
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host
from featurekeyd.policy.catalog import (
    HOST_COMPONENTS,
    PERMANENT_ADDRESSES,
    SHIPPED_WEIGHTS,
    UNIQUE_COMPONENTS,
    Catalog,
    HostRules,
)
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.enrollment import (
    MAX_RENEWALS,
    WINDOW_DAYS,
    Judgement,
    Moment,
    Terms,
    enroll_host,
    goes_by,
    judge_host,
    renew,
    renew_by_permit,
    terms_of,
)
from featurekeyd.policy.findings import Finding, Verdict
from featurekeyd.policy.hostaddress import ANNOUNCED_SECONDS, AddressState, Announcement, SiteAddresses, announce
from featurekeyd.policy.hostbinding import (
    MAX_NICS,
    Comparison,
    Enrolled,
    HostVerdict,
    PartState,
    compare,
    enroll,
    learned,
    share,
)
from featurekeyd.policy.hostevidence import (
    Evidence,
    HostAddress,
    HostComponent,
    HostNic,
    HostRefused,
    digests_of,
    evidence_of,
    hardware_id_of,
    without,
)
from featurekeyd.policy.instant import Now
from featurekeyd.policy.permit import MayChange, Permit
from featurekeyd.policy.presence import Sighting

if TYPE_CHECKING:
    from pathlib import Path


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

TODAY = datetime.date(2026, 1, 31)
SERIAL = "130123456789"
RULES = HostRules()
BINDING = HostRules(binds=True, binds_addresses=True)
SITE = SiteAddresses()
TERMS = Terms(rules=BINDING, site=SITE, serial=SERIAL)

VALUES = {
    "product-uuid": "3c6f1a52-8d0e-4b7a-9f21-5a0c7e94d6b3",
    "product-serial": "PBX7-004411",
    "board-serial": "BRD-22-90817",
    "machine-id": "ab" * 32,
    "cpu-model": "vendor_id GenuineIntel model 92",
}
FIRST = HostNic(name="enp1s0", permanent="00:1b:21:5e:8a:01", primary=True)
SECOND = HostNic(name="enp2s0", permanent="00:1b:21:5e:8a:02")
TUNNEL = HostNic(name="tun0", skipped="type 65534 is not Ethernet")


def address(text: str, interface: str = "enp1s0") -> HostAddress:
    return HostAddress(interface=interface, family="ipv6" if ":" in text else "ipv4", address=text)


def component(name: str, value: str | None, missing: str = "absent") -> HostComponent:
    return HostComponent(name=name, value=value or "", missing=None if value else missing)


HOST = Evidence(
    components=(
        *(component(name, value) for name, value in VALUES.items()),
        component("device-tree-serial", None),
        component("cpu-serial", None),
    ),
    nics=(FIRST, SECOND),
    addresses=(address("192.0.2.10"),),
)
"""Components that weigh 3, 2, 3, 2, 1, and 2 for the network interfaces: 13, of which 8 are needed."""


def changed(host: Evidence = HOST, missing: str = "absent", **values: str | None) -> Evidence:
    """The host with other values, or without where that is None; underscores stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    components = tuple(
        component(it.name, named[it.name], missing) if it.name in named else it for it in host.components
    )
    return msgspec.structs.replace(host, components=components)


def with_nics(*nics: HostNic, host: Evidence = HOST) -> Evidence:
    return msgspec.structs.replace(host, nics=nics)


def at(*addresses: str | HostAddress, host: Evidence = HOST) -> Evidence:
    """The host with these addresses."""
    found = tuple(it if isinstance(it, HostAddress) else address(it) for it in addresses)
    return msgspec.structs.replace(host, addresses=found)


def enrolled(
    host: Evidence = HOST, rules: HostRules = BINDING, addresses: tuple[str, ...] = ("192.0.2.10",)
) -> Enrolled:
    found = enroll(host, rules, TODAY, addresses)
    assert isinstance(found, Enrolled), found
    return found


BLIND = msgspec.structs.replace(
    HOST, components=tuple(component(it.name, None, "no permission") for it in HOST.components), nics=()
)
"""The host where nothing may be read."""

STRANGER = with_nics(
    HostNic(name="eth0", permanent="00:1b:21:00:00:09", primary=True),
    host=changed(product_uuid="another", product_serial="X-1", board_serial="X-2", machine_id="cd" * 32),
)
"""Another host of the same model."""


def moment(wall: float = 0.0, boot: float = 0.0, days: int = 0, boot_id: str = "boot-1") -> Moment:
    return Moment(now=Now(1_770_000_000.0 + wall, boot), boot_id=boot_id, today=TODAY + datetime.timedelta(days=days))


def judged(
    evidence: Evidence, before: Enrolled | None = None, announcement: Announcement | None = None, days: int = 0
) -> Judgement:
    return judge_host(before or enrolled(), evidence, TERMS, moment(days=days), announcement)


def scored(evidence: Evidence, before: Enrolled | None = None, rules: HostRules = RULES) -> Comparison:
    return compare(before or enrolled(), evidence, rules)


def states(comparison: Comparison) -> dict[str, PartState]:
    return {part.name: part.state for part in comparison.parts}


# Comparing


def test_an_unchanged_host_is_the_same_with_every_point() -> None:
    found = scored(HOST)
    assert (found.verdict, found.kept, found.lost, found.unknown, found.needed) == (HostVerdict.SAME, 13, 0, 0, 8)
    assert found.why == "This is the enrolled host: 13 points are kept and 8 needed."
    assert states(found)["device-tree-serial"] is PartState.NOT_ENROLLED


def test_another_host_of_the_same_model_is_another() -> None:
    found = scored(STRANGER)
    assert (found.verdict, found.kept, found.lost) == (HostVerdict.CHANGED, 1, 12)
    assert "machine-id is another" in found.why


def test_a_new_network_card_is_no_new_host() -> None:
    found = scored(with_nics(HostNic(name="enp1s0", permanent="00:1b:21:00:00:09", primary=True)))
    assert (found.verdict, found.kept, found.lost) == (HostVerdict.SAME, 11, 2)
    assert states(found)[PERMANENT_ADDRESSES] is PartState.CHANGED


def test_a_copied_disk_is_no_host_whatever_its_weight() -> None:
    # Without root, network card, machine id and processor are all there is: 3 of 5 points go along with the disk.
    before = enrolled(changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None))
    copy = with_nics(
        HostNic(name="eth0", permanent="00:1b:21:00:00:09"),
        host=changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None),
    )
    found = scored(copy, before)
    assert (found.kept, found.needed, found.verdict) == (3, 3, HostVerdict.CHANGED)
    assert found.why.startswith("This is not the enrolled host: nothing unique is kept; 3 points are kept and 3 needed")


def test_a_board_that_was_replaced_is_another_host() -> None:
    board = changed(product_uuid="another", board_serial="X-2")
    found = scored(with_nics(HostNic(name="eno1", permanent="00:1b:21:00:00:09"), host=board))
    assert (found.verdict, found.kept, found.needed) == (HostVerdict.CHANGED, 5, 8)


@pytest.mark.parametrize(("needed", "verdict"), [(76, HostVerdict.SAME), (77, HostVerdict.CHANGED)])
def test_the_needed_share_decides_to_the_point(needed: int, verdict: HostVerdict) -> None:
    # 10 of 13 points are 76.9 percent.
    found = scored(changed(product_uuid="another"), rules=HostRules(needed=needed))
    assert (found.kept, found.verdict) == (10, verdict)


def test_the_share_is_rounded_up() -> None:
    assert [share(weight, RULES) for weight in (0, 1, 5, 13, 100)] == [0, 1, 3, 8, 60]


def test_what_may_not_be_read_any_more_counts_neither_way() -> None:
    user = changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None)
    found = scored(user)
    assert (found.verdict, found.kept, found.lost, found.unknown) == (HostVerdict.SAME, 5, 0, 8)
    assert found.why.startswith("This is the enrolled host: 5 points are kept and 3 needed (board-serial is unreadable")
    shown = next(part for part in found.parts if part.name == "board-serial")
    assert (shown.state, shown.now) == (PartState.UNREADABLE, "no permission")
    assert shown.enrolled


def test_a_host_that_shows_nothing_is_neither_the_same_nor_another() -> None:
    found = scored(BLIND)
    assert (found.verdict, found.unknown, found.total) == (HostVerdict.CANNOT_TELL, 13, 13)
    assert found.why.startswith("Nobody can tell")
    assert "board-serial is unreadable: no permission" in found.why


def test_a_copied_disk_that_hides_the_serials_is_not_called_the_same() -> None:
    hidden = changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None)
    found = scored(with_nics(HostNic(name="eth0", permanent="00:1b:21:00:00:09"), host=hidden))
    assert found.verdict is HostVerdict.CANNOT_TELL


@pytest.mark.parametrize("missing", ["absent", "placeholder"])
def test_what_is_gone_for_everybody_is_lost(missing: str) -> None:
    found = scored(changed(missing=missing, board_serial=None))
    assert (states(found)["board-serial"], found.lost) == (PartState.MISSING, 3)


def test_without_any_interface_shown_nobody_could_look_and_with_loopback_alone_they_are_gone() -> None:
    assert states(scored(with_nics()))[PERMANENT_ADDRESSES] is PartState.UNREADABLE
    loopback = HostNic(name="lo", skipped="type 772 is not Ethernet")
    assert states(scored(with_nics(loopback)))[PERMANENT_ADDRESSES] is PartState.MISSING


@pytest.mark.parametrize("flag", [{"simulated": True}, {"container": "lxc (/run/systemd/container)"}])
def test_a_simulated_host_and_a_container_are_no_real_host_with_the_same_parts(flag: dict[str, object]) -> None:
    other = msgspec.structs.replace(HOST, **flag)
    for before, now in ((HOST, other), (other, HOST)):
        found = compare(enrolled(before, RULES), now, RULES)
        assert found.verdict is HostVerdict.CHANGED
        assert "simulated" in found.why or "container" in found.why


def test_a_catalog_that_weighs_nothing_of_what_was_enrolled_tells_nothing() -> None:
    found = scored(HOST, rules=HostRules(weights={"cpu-serial": 1, "machine-id": 1}))
    assert found.verdict is HostVerdict.CANNOT_TELL


NAMES = [*VALUES, PERMANENT_ADDRESSES]


def damaged(parts: dict[str, str]) -> Evidence:
    """The host with some parts changed, gone or unreadable."""
    host = HOST
    for name, what in parts.items():
        if name == PERMANENT_ADDRESSES:
            nics = {"changed": (HostNic(name="a", permanent="00:1b:21:00:00:09"),), "gone": (TUNNEL,), "unreadable": ()}
            host = with_nics(*nics[what], host=host)
        else:
            value = "something else" if what == "changed" else None
            missing = "no permission" if what == "unreadable" else "absent"
            host = changed(host, missing, **{name.replace("-", "_"): value})
    return host


DAMAGE = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["changed", "gone", "unreadable"]))


@relaxed
@given(DAMAGE)
def test_any_k_parts_with_something_unique_among_them_are_the_same_host(parts: dict[str, str]) -> None:
    kept = {name for name in NAMES if name not in parts}
    assume(kept & UNIQUE_COMPONENTS)
    assume(sum(SHIPPED_WEIGHTS[name] for name in kept) >= 8)
    assert scored(damaged(parts)).verdict is HostVerdict.SAME


@relaxed
@given(DAMAGE)
def test_a_host_is_changed_only_where_no_reading_of_what_is_unreadable_could_make_it_the_same(
    parts: dict[str, str],
) -> None:
    lost = {name for name, what in parts.items() if what != "unreadable"}
    at_best = {name for name in NAMES if name not in lost}
    good = at_best & UNIQUE_COMPONENTS and sum(SHIPPED_WEIGHTS[name] for name in at_best) >= 8
    found = scored(damaged(parts))
    assert (found.verdict is HostVerdict.CHANGED) == (not good)
    assert found.kept + found.lost + found.unknown == found.total == 13


@relaxed
@given(DAMAGE, st.sampled_from(NAMES))
def test_a_part_that_comes_back_never_makes_it_worse(parts: dict[str, str], name: str) -> None:
    order = [HostVerdict.CHANGED, HostVerdict.CANNOT_TELL, HostVerdict.SAME]
    worse = scored(damaged(parts)).verdict
    parts.pop(name, None)
    assert order.index(scored(damaged(parts)).verdict) >= order.index(worse)


@relaxed
@given(st.permutations(HOST.components), st.permutations(HOST.nics), st.booleans())
def test_the_order_of_components_and_interfaces_and_which_is_primary_are_irrelevant(
    components: list[HostComponent], nics: list[HostNic], turned: bool
) -> None:
    other = [msgspec.structs.replace(it, primary=not it.primary) for it in nics] if turned else nics
    host = msgspec.structs.replace(HOST, components=tuple(components), nics=tuple(other))
    assert digests_of(host) == digests_of(HOST)
    assert enrolled(host) == enrolled()
    assert scored(host) == scored(HOST)


@relaxed
@given(
    st.lists(
        st.builds(
            HostNic,
            name=st.text(min_size=1),
            permanent=st.text(),
            skipped=st.sampled_from(["virtual, no device behind it", "a bridge", "a USB adapter, which moves"]),
        )
    )
)
def test_interfaces_that_do_not_count_change_nothing(more: list[HostNic]) -> None:
    host = with_nics(*more, FIRST, *more, SECOND)
    assert scored(host) == scored(HOST)
    assert judged(host).enrolled == enrolled()
    assert hardware_id_of(digests_of(host)) == hardware_id_of(digests_of(HOST))


# Enrolling


def test_an_enrollment_keeps_digests_and_says_what_could_not_be_read() -> None:
    host = changed(missing="no permission", product_uuid=None)
    found = enrolled(host)
    stored = msgspec.json.encode(found).decode()
    assert not [value for value in [*VALUES.values(), FIRST.permanent] if value in stored]
    assert found.unread == {"cpu-serial": "absent", "device-tree-serial": "absent", "product-uuid": "no permission"}
    assert msgspec.json.decode(stored, type=Enrolled) == found


def test_a_host_without_anything_unique_is_not_enrolled_and_told_why() -> None:
    bare = with_nics(TUNNEL, host=changed(product_uuid=None, product_serial=None, board_serial=None))
    refusal = enroll(bare, RULES, TODAY)
    assert isinstance(refusal, HostRefused)
    assert "board-serial (absent)" in refusal.why
    assert "serial of the board" in refusal.remedy


def test_a_container_is_enrolled_only_where_nothing_is_bound_to_it() -> None:
    host = msgspec.structs.replace(HOST, container="lxc (/run/systemd/container)")
    assert isinstance(enroll(host, RULES, TODAY), Enrolled)
    refusal = enroll(host, BINDING, TODAY)
    assert isinstance(refusal, HostRefused)
    assert "lxc" in refusal.why


def test_addresses_are_enrolled_where_the_catalog_binds_them() -> None:
    for rules, addresses in ((BINDING, ("192.0.2.10",)), (HostRules(binds=True), ())):
        found = enroll_host(HOST, Terms(rules=rules, site=SITE, serial=None), TODAY)
        assert isinstance(found, Enrolled)
        assert found.addresses == addresses


# Learning


def test_a_part_that_was_replaced_is_learned_and_told() -> None:
    found = judged(with_nics(SECOND, HostNic(name="enp3s0", permanent="00:1b:21:00:00:09", primary=True)))
    assert found.told == ("permanent-addresses 00:1b:21:00:00:09 new",)
    assert (found.enrolled.digest == enrolled().digest, enrolled().digest) == (False, enrolled().hardware_id)
    again = judged(with_nics(HostNic(name="enp3s0", permanent="00:1b:21:00:00:09", primary=True)), found.enrolled)
    assert (again.comparison.kept, again.told) == (13, ())
    assert found.enrolled.hardware_id == enrolled().hardware_id == hardware_id_of(digests_of(HOST))


def test_a_new_processor_is_learned_and_counts_from_then_on() -> None:
    upgraded = changed(cpu_model="vendor_id GenuineIntel model 151")
    found = judged(upgraded)
    assert found.told == ("cpu-model is another",)
    assert judged(upgraded, found.enrolled).comparison.kept == 13


def test_what_becomes_readable_is_learned_so_that_a_host_gets_stronger() -> None:
    before = enrolled(changed(missing="no permission", product_uuid=None))
    found = judged(HOST, before)
    assert found.told == ("product-uuid is readable now",)
    assert "product-uuid" not in found.enrolled.unread
    assert (judged(HOST, found.enrolled).comparison.total, scored(HOST, before).total) == (13, 10)


def test_what_is_gone_stays_enrolled_and_is_welcome_back() -> None:
    found = judged(changed(board_serial=None))
    assert (found.enrolled, found.told, found.comparison.lost) == (enrolled(), (), 3)


def test_nothing_is_learned_from_another_host_or_from_a_glance() -> None:
    assert judged(STRANGER).enrolled.parts == enrolled().parts
    # The network card alone is readable: enough for the same host, not enough to learn another processor.
    glance = changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None)
    glance = changed(glance, cpu_model="another", machine_id=None)
    found = judged(changed(glance, "no permission", machine_id=None))
    assert (found.verdict, found.comparison.kept, found.told) == (HostVerdict.SAME, 2, ())


def test_so_many_permanent_addresses_are_kept_and_then_those_that_are_gone_are_forgotten() -> None:
    def nics(start: int, count: int) -> tuple[HostNic, ...]:
        return tuple(HostNic(name=f"e{n}", permanent=f"00:1b:21:00:00:{n:02x}") for n in range(start, start + count))

    full = enrolled(with_nics(*nics(0, MAX_NICS - 1)))
    grown, _ = learned(full, with_nics(*nics(1, MAX_NICS - 1)), scored(HOST, full))
    assert len(grown.parts[PERMANENT_ADDRESSES]) == MAX_NICS
    fewer, told = learned(grown, with_nics(*nics(2, MAX_NICS - 1)), scored(HOST, grown))
    assert len(fewer.parts[PERMANENT_ADDRESSES]) == MAX_NICS - 1
    assert told == ("permanent-addresses 00:1b:21:00:00:40 new",)


@relaxed
@given(DAMAGE)
def test_what_was_learned_scores_no_worse_and_is_learned_once(parts: dict[str, str]) -> None:
    first = judged(damaged(parts))
    second = judged(damaged(parts), first.enrolled)
    assert second.comparison.kept >= first.comparison.kept
    assert (second.verdict, second.enrolled, second.told) == (first.verdict, first.enrolled, ())


# Judging, with addresses


def test_an_address_that_was_not_announced_is_a_change_and_going_back_ends_it() -> None:
    found = judged(at("192.0.2.11"))
    assert found.verdict is HostVerdict.CHANGED
    assert found.why == "The address is another: 192.0.2.10 is gone; 192.0.2.11 was not announced."
    assert found.enrolled.changed_on == TODAY
    back = judged(HOST, found.enrolled, days=2)
    assert (back.verdict, back.enrolled) == (HostVerdict.SAME, enrolled())


def test_addresses_decide_nothing_where_they_are_not_bound() -> None:
    terms = Terms(rules=HostRules(binds=True), site=SITE, serial=SERIAL)
    found = judge_host(enrolled(), at("192.0.2.11"), terms, moment())
    assert (found.verdict, found.address) == (HostVerdict.SAME, None)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(ANNOUNCED_SECONDS - 1, HostVerdict.SAME), (ANNOUNCED_SECONDS, HostVerdict.CHANGED),
     (ANNOUNCED_SECONDS + 1, HostVerdict.CHANGED)],
)  # fmt: skip
@pytest.mark.parametrize("clock", ["wall clock after a reboot", "boot clock"])
def test_an_announced_address_is_adopted_within_24_hours(clock: str, seconds: float, verdict: HostVerdict) -> None:
    start = moment()
    announced = announce("192.0.2.11", ("192.0.2.10",), SITE, start.now, start.boot_id)
    assert isinstance(announced, Announcement)
    later = moment(boot=seconds)
    if clock != "boot clock":
        later = msgspec.structs.replace(moment(wall=seconds), boot_id="the next boot")
    found = judge_host(enrolled(), at("192.0.2.11"), TERMS, later, announced)
    assert (found.verdict, found.announcement) == (verdict, None)
    adopted = ("192.0.2.11",) if verdict is HostVerdict.SAME else ("192.0.2.10",)
    assert found.enrolled.addresses == adopted


def test_an_announcement_waits_until_the_address_appears_and_is_used_up_by_it() -> None:
    announced = Announcement(address="192.0.2.11", wall=moment().now.wall, boot=0.0, boot_id="boot-1")
    waiting = judged(HOST, None, announced)
    assert (waiting.verdict, waiting.announcement, waiting.enrolled) == (HostVerdict.SAME, announced, enrolled())
    there = judged(at("192.0.2.11"), None, announced)
    assert there.told == ("the announced address is there: 192.0.2.11 in place of 192.0.2.10",)
    assert there.announcement is None
    assert judged(at("192.0.2.12"), there.enrolled).verdict is HostVerdict.CHANGED


def test_another_address_than_the_announced_one_is_a_change_and_the_announcement_still_waits() -> None:
    announced = Announcement(address="192.0.2.11", wall=moment().now.wall, boot=0.0, boot_id="boot-1")
    found = judged(at("192.0.2.99"), None, announced)
    assert (found.verdict, found.announcement) == (HostVerdict.CHANGED, announced)


def test_an_announcement_after_the_fact_cures_the_change() -> None:
    found = judged(at("192.0.2.11"))
    announced = announce("192.0.2.11", found.enrolled.addresses, SITE, moment().now, "boot-1")
    assert isinstance(announced, Announcement)
    cured = judged(at("192.0.2.11"), found.enrolled, announced, days=1)
    assert (cured.verdict, cured.enrolled.changed_on) == (HostVerdict.SAME, None)


def test_another_host_adopts_no_announced_address() -> None:
    announced = Announcement(address="192.0.2.11", wall=moment().now.wall, boot=0.0, boot_id="boot-1")
    other = at("192.0.2.11", host=STRANGER)
    other = msgspec.structs.replace(other, addresses=(address("192.0.2.11", "eth0"),))
    found = judged(other, None, announced)
    assert (found.verdict, found.enrolled.addresses) == (HostVerdict.CHANGED, ("192.0.2.10",))


def test_a_host_without_an_address_for_now_is_not_called_changed() -> None:
    found = judged(at())
    assert found.verdict is HostVerdict.CANNOT_TELL
    assert "enp1s0 has no address" in found.why
    assert found.address is not None
    assert found.address.state is AddressState.CANNOT_TELL


def test_the_first_address_is_bound_when_it_appears() -> None:
    before = enrolled(addresses=())
    assert judged(at(), before).verdict is HostVerdict.SAME
    found = judged(HOST, before)
    assert found.told == ("the first address is bound: 192.0.2.10",)
    assert found.enrolled == enrolled()


def test_the_first_day_of_a_change_is_kept_and_what_nobody_can_tell_leaves_it() -> None:
    first = judged(STRANGER)
    later = judged(STRANGER, first.enrolled, days=9)
    assert later.enrolled.changed_on == TODAY
    unsure = judged(BLIND, later.enrolled, days=10)
    assert (unsure.verdict, unsure.enrolled) == (HostVerdict.CANNOT_TELL, later.enrolled)
    assert judged(HOST, unsure.enrolled).enrolled.changed_on is None


# Enrolling again

NEW_BOARD = with_nics(FIRST, host=changed(product_uuid="another", board_serial="X-2", product_serial="X-1"))
"""Board and chassis replaced; a network card, the disk and the processor came along: 5 of 13 points."""


def day(days: int) -> datetime.date:
    return TODAY + datetime.timedelta(days=days)


@pytest.mark.parametrize(("days", "taken"), [(0, True), (WINDOW_DAYS, True), (WINDOW_DAYS + 1, False)])
def test_a_command_enrolls_replaced_hardware_within_the_window(days: int, taken: bool) -> None:
    seen = judged(NEW_BOARD)
    assert seen.verdict is HostVerdict.CHANGED
    again = renew(seen.enrolled, NEW_BOARD, TERMS, day(days))
    if not taken:
        assert isinstance(again, HostRefused)
        assert f"longer than {WINDOW_DAYS} days" in again.why
        assert "permit" in again.remedy
        return
    assert isinstance(again, Enrolled)
    assert (again.renewals, again.changed_on, again.addresses) == (1, None, ("192.0.2.10",))
    assert again.hardware_id == enrolled().hardware_id
    assert judged(NEW_BOARD, again).comparison.kept == 13


def test_a_command_enrolls_no_other_host() -> None:
    refusal = renew(judged(STRANGER).enrolled, STRANGER, TERMS, TODAY)
    assert isinstance(refusal, HostRefused)
    assert refusal.why.startswith("Nothing unique of the enrolled host is left.")


def test_a_command_enrolls_no_host_that_hides_what_it_is() -> None:
    hidden = changed(missing="no permission", product_uuid=None, product_serial=None, board_serial=None)
    copy = with_nics(HostNic(name="eth0", permanent="00:1b:21:00:00:09"), host=hidden)
    refused = renew(enrolled(), copy, TERMS, TODAY)
    assert isinstance(refused, HostRefused)
    assert refused.why.startswith("Nobody can tell")
    assert "read" in refused.remedy


def test_a_command_forgets_nothing_of_the_same_host_that_it_cannot_read() -> None:
    hidden = changed(missing="no permission", product_uuid=None, cpu_model="another")
    again = renew(enrolled(), hidden, TERMS, TODAY)
    assert isinstance(again, Enrolled)
    assert again.parts["product-uuid"] == enrolled().parts["product-uuid"]
    assert again.parts["cpu-model"] != enrolled().parts["cpu-model"]


def test_a_command_enrolls_so_often_and_then_asks_for_a_permit() -> None:
    host = enrolled()
    for count in range(MAX_RENEWALS):
        again = renew(host, HOST, TERMS, TODAY)
        assert isinstance(again, Enrolled)
        assert again.renewals == count + 1
        host = again
    refusal = renew(host, HOST, TERMS, TODAY)
    assert isinstance(refusal, HostRefused)
    assert f"{MAX_RENEWALS} times" in refusal.why


def test_with_a_feature_key_a_command_enrolls_any_host_any_time() -> None:
    terms = Terms(rules=RULES, site=SITE, serial=SERIAL)
    again = renew(judged(STRANGER).enrolled, STRANGER, terms, day(1000))
    assert isinstance(again, Enrolled)
    assert again.renewals == 0
    assert compare(again, STRANGER, RULES).kept == compare(again, STRANGER, RULES).total


PERMIT = Permit(
    serial=SERIAL,
    number=3,
    may_change=(MayChange.HARDWARE, MayChange.ADDRESSES),
    issued=TODAY,
    until=TODAY + datetime.timedelta(days=14),
)


def permitted(evidence: Evidence, before: Enrolled | None = None, **fields: object) -> Enrolled:
    permit = msgspec.structs.replace(PERMIT, **fields)
    found = renew_by_permit(before or judged(evidence).enrolled, evidence, TERMS, permit, TODAY, last_used=2)
    assert isinstance(found, Enrolled), found
    return found


def test_a_permit_enrolls_whatever_host_and_its_address_and_its_number_is_used_up() -> None:
    other = msgspec.structs.replace(STRANGER, addresses=(address("198.51.100.7", "eth0"),))
    worn = msgspec.structs.replace(judged(other).enrolled, renewals=MAX_RENEWALS)
    found = permitted(other, worn)
    assert (found.permit, found.renewals, found.addresses) == (3, 0, ("198.51.100.7",))
    assert found.hardware_id == enrolled().hardware_id
    assert judged(other, found).verdict is HostVerdict.SAME
    again = renew_by_permit(found, STRANGER, TERMS, PERMIT, TODAY, last_used=3)
    assert isinstance(again, Finding)
    assert again.verdict is Verdict.ALREADY_THERE


def test_a_permit_changes_only_what_it_names() -> None:
    other = msgspec.structs.replace(STRANGER, addresses=(address("198.51.100.7", "eth0"),))
    hardware = permitted(other, may_change=(MayChange.HARDWARE,))
    assert hardware.addresses == ("192.0.2.10",)
    addresses = permitted(other, may_change=(MayChange.ADDRESSES,))
    assert (addresses.addresses, addresses.parts) == (("198.51.100.7",), enrolled().parts)


def test_a_permit_may_name_the_one_host_that_it_is_for() -> None:
    here = hardware_id_of(digests_of(STRANGER))
    assert permitted(STRANGER, hardware_id=here).permit == 3
    permit = msgspec.structs.replace(PERMIT, hardware_id=here)
    refusal = renew_by_permit(enrolled(), HOST, TERMS, permit, TODAY, last_used=0)
    assert isinstance(refusal, Finding)
    assert refusal.verdict is Verdict.OTHER_HARDWARE


def test_a_permit_for_a_host_that_shows_nothing_unique_is_not_used_up() -> None:
    bare = with_nics(TUNNEL, host=changed(product_uuid=None, product_serial=None, board_serial=None))
    assert isinstance(renew_by_permit(enrolled(), bare, TERMS, PERMIT, TODAY, last_used=0), HostRefused)


# What if


def test_what_if_answers_for_a_network_card() -> None:
    gone = without(HOST, "enp1s0")
    assert isinstance(gone, Evidence)
    assert (gone.nics, gone.addresses) == ((SECOND,), ())
    assert without(HOST, "00:1b:21:5e:8a:01") == gone
    assert scored(gone).verdict is HostVerdict.SAME
    assert judged(gone).verdict is HostVerdict.CANNOT_TELL  # its address is gone with it


def test_what_if_answers_for_a_component() -> None:
    gone = without(HOST, "board-serial")
    assert isinstance(gone, Evidence)
    assert (scored(gone).lost, states(scored(gone))["board-serial"]) == (3, PartState.MISSING)
    gone = without(HOST, PERMANENT_ADDRESSES)
    assert isinstance(gone, Evidence)
    assert gone.nics == ()


def test_what_if_refuses_what_is_not_there_and_names_what_is() -> None:
    refusal = without(HOST, "eth7")
    assert isinstance(refusal, HostRefused)
    assert "'eth7'" in refusal.why
    assert "board-serial" in refusal.remedy
    assert "enp2s0" in refusal.remedy


def test_what_is_already_missing_stays_missing_for_its_own_reason() -> None:
    gone = without(changed(missing="no permission", board_serial=None), "board-serial")
    assert isinstance(gone, Evidence)
    assert gone.missing("board-serial") == "no permission"


# Together with the reader and the certificate


def certificate(hardware_id: str, kind: str = "host") -> Certificate:
    return Certificate(
        serial=SERIAL, catalog="ayrix", kind=kind, hardware_id=hardware_id, issued=TODAY, test=True,
        rescue_anchor=bytes(20), rescue_days=1,
    )  # fmt: skip


def sighting(key: hostkey.HostKey) -> Sighting:
    reading = key.reading
    return Sighting(
        state="present", finding="", reader="host", kind="host", hardware_id=reading.hardware_id, simulated=True
    )


def test_the_reader_and_this_room_know_the_same_components_and_the_same_hardware_id(tmp_path: Path) -> None:
    assert HOST_COMPONENTS == {*COMPONENT_NAMES, PERMANENT_ADDRESSES} == set(hostkey.COMPONENTS)
    write_simulated_host(tmp_path)
    key = hostkey.HostKey.open(tmp_path)
    digests = digests_of(evidence_of(key.identity))
    assert digests == hostkey.component_digests(hostkey.strong_components(key.identity))
    assert hardware_id_of(digests) == key.reading.hardware_id


def test_a_host_goes_by_the_id_of_its_certificate_after_it_got_a_network_card(tmp_path: Path) -> None:
    plain = SimulatedHost()
    write_simulated_host(tmp_path, plain)
    first = hostkey.HostKey.open(tmp_path)
    before = enroll(evidence_of(first.identity), BINDING, TODAY)
    assert isinstance(before, Enrolled)
    paper = certificate(first.reading.hardware_id)
    card = SimulatedNic(name="enp3s0", address="00:1b:21:00:00:09")
    write_simulated_host(tmp_path, msgspec.structs.replace(plain, nics=(*plain.nics, card)))
    second = hostkey.HostKey.open(tmp_path)
    assert second.reading.hardware_id != paper.hardware_id
    assert goes_by(sighting(second), paper, before).hardware_id == paper.hardware_id
    assert judged(evidence_of(second.identity), before).verdict is HostVerdict.SAME


def test_an_enrollment_that_was_edited_or_is_another_systems_gives_no_id(tmp_path: Path) -> None:
    write_simulated_host(tmp_path)
    key = hostkey.HostKey.open(tmp_path)
    seen, paper = sighting(key), certificate("0" * 64)
    before = enroll(evidence_of(key.identity), BINDING, TODAY)
    assert isinstance(before, Enrolled)
    assert goes_by(seen, paper, before) == seen
    edited = msgspec.structs.replace(before, origin={**before.origin, "cpu-serial": ("0" * 64,)})
    assert goes_by(seen, certificate(before.hardware_id), edited) == seen
    for sight, text, host in (
        (seen, None, before),
        (seen, paper, None),
        (seen, certificate(before.hardware_id, "sd-card"), before),
        (msgspec.structs.replace(seen, kind="sd-card"), certificate(before.hardware_id), before),
        (msgspec.structs.replace(seen, simulated=False), certificate(before.hardware_id), before),
    ):
        assert goes_by(sight, text, host) == sight


def test_root_and_another_user_read_the_same_host(tmp_path: Path) -> None:
    write_simulated_host(tmp_path)
    secret = {"product_uuid", "product_serial", "board_serial"}

    def refuse(path: Path) -> bytes:
        if path.name in secret:
            raise PermissionError(13, "Permission denied")
        return read_file(path)

    root = evidence_of(read_host_identity(tmp_path))
    user = evidence_of(
        read_host_identity(tmp_path, probes=dataclasses.replace(foreign_root(tmp_path), read_file=refuse))
    )
    for before, now in ((root, user), (user, root)):
        assert scored(now, enrolled(before)).verdict is HostVerdict.SAME
    assert enrolled(user).unread["board-serial"] == "no permission"


def test_a_certificate_of_the_host_binds_whatever_the_catalog_says() -> None:
    assert not terms_of(RULES, SITE, certificate("0" * 64, "sd-card")).rules.binds
    found = terms_of(RULES, SITE, certificate("0" * 64))
    assert (found.rules.binds, found.rules.binds_addresses, found.serial) == (True, False, SERIAL)
    assert not terms_of(RULES, SITE, None).rules.binds


# The shipped catalogs


def test_the_shipped_catalogs_bind_where_there_is_no_feature_key(shipped: dict[str, Catalog]) -> None:
    bound = {name: (it.host.binds, it.host.binds_addresses) for name, it in shipped.items()}
    assert bound == {
        "ayrix": (True, True),
        "ip-office": (False, False),
        "ip-office-server-edition": (True, False),
    }
    assert [name for name, it in shipped.items() if not it.host.source] == []


@pytest.mark.parametrize("catalog", ["ayrix", "ip-office", "ip-office-server-edition"])
def test_in_every_shipped_catalog_a_new_card_or_disk_or_processor_is_no_new_host(
    shipped: dict[str, Catalog], catalog: str
) -> None:
    rules = shipped[catalog].host
    for part in (PERMANENT_ADDRESSES, "machine-id", "cpu-model"):
        assert scored(damaged({part: "changed"}), rules=rules).verdict is HostVerdict.SAME, part
    assert scored(STRANGER, rules=rules).verdict is HostVerdict.CHANGED
