"""The Primary of a network: asked for in time by whoever plugs in, and the right of this boot in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon import primary
from featurekeyd.daemon.primary import FILE, PRIMARY_SECONDS, BootRight, PrimaryWatch
from featurekeyd.policy.catalog import Cause, Consequence, MeterRule, Need, Refill
from featurekeyd.policy.events import EventName
from featurekeyd.policy.standing import Meter, Standing

if TYPE_CHECKING:
    from tests.daemon.conftest import House

DAY = 86_400.0
PRIMARY = Cause.PRIMARY_UNREACHABLE
RULE = MeterRule("15d", Refill.ON_CONTACT, Consequence.SHARED_STOPS, Need.THIS_BOOT)


@pytest.fixture
def networked(bound: House) -> House:
    """A site whose catalog lets the Primary be away, in the boot `this-boot`."""
    bound.enforcer.meters[PRIMARY] = Meter(PRIMARY, RULE)
    bound.site.trusting.primary = watch(bound)
    bound.site.trusting.begin()
    return bound


def watch(house: House, boot_id: str = "this-boot") -> PrimaryWatch:
    """Who looks for the Primary in a run of the daemon in that boot."""
    right = BootRight(house.place / FILE, boot_id)
    return PrimaryWatch(enforcer=house.enforcer, right=right, clock=house.clock, settle=house.site.settle)


def answers(house: House, answer: Callable[[], bool | None]) -> list[float]:
    """Plug in somebody who asks; the boot times at which he was asked."""
    asked: list[float] = []

    async def ask() -> bool | None:
        asked.append(house.clock().boot)
        return answer()

    house.site.trusting.primary.ask = ask
    return asked


def tick(house: House, seconds: float = 0.0) -> None:
    house.clock.run(seconds)
    house.site.trusting.tick(house.clock())
    house.wait()


def left(house: House) -> int | None:
    return {it.cause: it.seconds_left for it in house.enforcer.grace}.get(PRIMARY)


def test_where_nobody_is_plugged_in_nothing_changes_and_nothing_is_recorded(networked: House) -> None:
    for _ in range(3):
        tick(networked, 10 * DAY)
    assert left(networked) is None
    assert not (networked.place / FILE).exists()


def test_a_catalog_without_the_meter_has_nobody_asked(bound: House) -> None:
    asked = answers(bound, lambda: False)
    bound.site.trusting.begin()
    tick(bound)
    assert asked == []


def test_the_primary_is_asked_for_every_minute(networked: House) -> None:
    asked = answers(networked, lambda: True)
    for seconds in (0, PRIMARY_SECONDS - 1, 1):
        tick(networked, seconds)
    assert [it - asked[0] for it in asked] == [0, PRIMARY_SECONDS]


def test_contact_is_recorded_with_the_boot_and_gives_15_days(networked: House) -> None:
    reachable = True
    answers(networked, lambda: reachable)
    tick(networked)
    assert (networked.place / FILE).read_text() == "this-boot\n"
    reachable = False
    tick(networked, PRIMARY_SECONDS)
    assert (left(networked), networked.enforcer.standing) == (15 * DAY, Standing.GRACE)


@pytest.mark.parametrize(("boot_id", "held"), [("this-boot", True), ("the-next-boot", False)])
def test_the_right_outlives_a_restart_of_the_daemon_and_no_reboot(networked: House, boot_id: str, held: bool) -> None:
    answers(networked, lambda: True)
    tick(networked)
    networked.site.trusting.primary = watch(networked, boot_id)
    answers(networked, lambda: False)
    tick(networked, PRIMARY_SECONDS)
    assert left(networked) == (15 * DAY if held else 0)


@pytest.mark.parametrize("record", [None, b"", b"\n", b"another\n", b"\xff\xfe", b"this-boot\nthis-boot\n"])
def test_no_record_or_a_damaged_one_is_no_right(tmp_path: Path, record: bytes | None) -> None:
    if record is not None:
        (tmp_path / FILE).write_bytes(record)
    assert not BootRight(tmp_path / FILE, "this-boot").is_held()
    assert not BootRight(tmp_path / FILE, "").is_held()


def test_a_record_is_written_whole_in_place_of_one_of_an_earlier_boot(tmp_path: Path) -> None:
    BootRight(tmp_path / FILE, "earlier").record()
    right = BootRight(tmp_path / FILE, "this-boot")
    right.record()
    assert right.is_held()
    assert [it.name for it in tmp_path.iterdir()] == [FILE]


def test_a_record_that_cannot_be_written_is_told_and_tried_again(networked: House) -> None:
    (networked.place / FILE).mkdir()
    answers(networked, lambda: True)
    tick(networked)
    assert networked.log.one(EventName.UNEXPECTED).message.endswith("while asking for the Primary.")
    assert left(networked) is None, "the right counts in this run all the same"
    (networked.place / FILE).rmdir()
    tick(networked, PRIMARY_SECONDS)
    assert BootRight(networked.place / FILE, "this-boot").is_held()


def test_an_answer_that_does_not_come_is_no_contact(networked: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primary, "ANSWER_SECONDS", 0.01)

    async def silence() -> bool:
        await asyncio.get_running_loop().create_future()
        return True

    watching = watch(networked)
    watching.ask = silence
    asyncio.run(watching.look())  # on a loop whose time passes
    assert left(networked) == 0, "it was never seen in this boot"


def test_somebody_who_fails_to_ask_has_found_nothing_out(networked: House) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    answers(networked, broken)
    tick(networked)
    assert left(networked) is None
    told = networked.log.one(EventName.UNEXPECTED).message
    assert told == "Unexpected ZeroDivisionError while asking for the Primary."
