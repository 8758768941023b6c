"""The site: changes are whole or not at all, time is believed only when somebody listened, readers may hang."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.daemon import keywatch, site
from featurekeyd.daemon.changes import Change, added, certified
from featurekeyd.daemon.site import GAP_SECONDS, SLICES_AT_ONCE, STALE_SECONDS, TICK_SECONDS
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.daemon.wire import LICENSE, MANAGE
from featurekeyd.hwio.featurekey import Absent
from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.certificate import Pair, read_certificate
from featurekeyd.policy.ending import SLICE_ENDED
from featurekeyd.policy.events import EventName

if TYPE_CHECKING:
    from tests.daemon.conftest import House

DEADLINE = 10


def stored(house: House) -> Documents:
    """What another run would find."""
    store = Store(house.place / "featurekeyd.db")
    documents, _ = store.load()
    store.close()
    return documents


def add(house: House, text: str | None = None, by: str = "uid 7") -> Any:
    """A coroutine that adds a license key of three trunks."""
    key = text or house.vendor.key(code=2, instances=3).text
    return house.site.change(lambda: added(house.enforcer, key, house.enforcer.today(house.clock())), by)


def full(_: Documents) -> None:
    raise sqlite3.OperationalError("database or disk is full")


# Changes


def test_a_change_is_stored_counts_and_is_told_with_who_made_it(licensed: House) -> None:
    key = licensed.vendor.key(code=2, instances=3)
    change = licensed.loop.run_until_complete(add(licensed, key.text))
    assert change.licenses is licensed.enforcer.licenses
    assert licensed.enforcer.entitlements["trunk"].limit == 11
    assert stored(licensed) == licensed.site.documents
    assert len(stored(licensed).typed) == 1
    told = {"LICENSE": key.short, "FEATURE": "trunk", "SERIAL": "110123456789", "BY": "uid 7"}
    assert licensed.log.one(EventName.LICENSE_ADDED).fields == told
    # A key that is on no list yet begins to drain its meter, which is told before the key is.
    assert licensed.log.names() == [EventName.STANDING_GRACE, EventName.LICENSE_ADDED]


def test_a_change_is_stored_before_it_counts(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    save, counted = licensed.store.save_documents, []

    def spied(documents: Documents) -> None:
        counted.append((licensed.enforcer.entitlements["trunk"].limit, licensed.log.names()))
        save(documents)

    monkeypatch.setattr(licensed.store, "save_documents", spied)
    licensed.loop.run_until_complete(add(licensed))
    assert counted == [(8, [])]


def test_how_far_a_serial_has_come_is_stored_with_its_documents(licensed: House) -> None:
    licensed.loop.run_until_complete(add(licensed))
    mark = stored(licensed).marks["110123456789"]
    assert (mark.list_number, str(mark.listed), str(mark.certified)) == (1, "2026-12-01", "2026-01-01")


def test_a_change_that_cannot_be_stored_changes_nothing(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (licensed.enforcer.licenses, licensed.site.documents)
    with monkeypatch.context() as patch:
        patch.setattr(licensed.store, "save_documents", full)
        with pytest.raises(sqlite3.OperationalError):
            licensed.loop.run_until_complete(add(licensed))
    assert (licensed.enforcer.licenses, licensed.site.documents) == before
    assert licensed.enforcer.entitlements["trunk"].limit == 8
    assert licensed.log.names() == [EventName.STATE_NOT_STORED]
    licensed.loop.run_until_complete(add(licensed))
    assert licensed.enforcer.entitlements["trunk"].limit == 11


def test_a_change_of_nothing_stores_nothing(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Store, "save_documents")
    before = licensed.enforcer.licenses
    assert not licensed.loop.run_until_complete(add(licensed, "no key")).stored
    assert licensed.enforcer.licenses is before
    assert licensed.log.events == []


def test_changes_come_one_after_the_other_and_none_is_lost(licensed: House) -> None:
    async def many() -> None:
        await asyncio.gather(*(add(licensed) for _ in range(10)))

    licensed.loop.run_until_complete(many())
    assert licensed.enforcer.entitlements["trunk"].limit == 8 + 30
    assert len(stored(licensed).typed) == 10


def test_a_change_whose_client_goes_away_is_whole_all_the_same(
    licensed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, gate, begun = licensed.store.save_documents, threading.Event(), threading.Event()

    def slow(documents: Documents) -> None:
        begun.set()
        assert gate.wait(DEADLINE)
        save(documents)

    monkeypatch.setattr(licensed.store, "save_documents", slow)
    keys = [licensed.vendor.key(code=2, instances=3) for _ in range(2)]

    async def abandoned() -> None:
        task = asyncio.ensure_future(add(licensed, keys[0].text))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await add(licensed, keys[1].text)

    licensed.loop.run_until_complete(abandoned())
    assert licensed.enforcer.entitlements["trunk"].limit == 8 + 6
    assert stored(licensed) == licensed.site.documents
    assert len(stored(licensed).typed) == 2
    told = [it.fields["LICENSE"] for it in licensed.log.events if it.name is EventName.LICENSE_ADDED]
    assert told == [key.short for key in keys]


def test_a_disk_that_is_full_is_told_also_when_the_client_has_gone(
    licensed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(documents: Documents) -> None:
        begun.set()
        assert gate.wait(DEADLINE)
        full(documents)

    monkeypatch.setattr(licensed.store, "save_documents", slow)

    async def abandoned() -> None:
        task = asyncio.ensure_future(add(licensed))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        async with licensed.site._changing:
            """The change that nobody waits for is over."""

    licensed.loop.run_until_complete(abandoned())
    assert licensed.log.names() == [EventName.STATE_NOT_STORED]
    assert licensed.enforcer.entitlements["trunk"].limit == 8


def test_a_bug_in_a_change_is_told_also_when_the_client_has_gone(licensed: House) -> None:
    gate, begun = threading.Event(), threading.Event()

    def broken() -> Change:
        begun.set()
        assert gate.wait(DEADLINE)
        raise ZeroDivisionError

    async def abandoned() -> None:
        task = asyncio.ensure_future(licensed.site.change(broken, "uid 7"))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        async with licensed.site._changing:
            """The change that nobody waits for is over."""
        await asyncio.sleep(0)

    licensed.loop.run_until_complete(abandoned())
    assert licensed.log.one(EventName.UNEXPECTED).message == "Unexpected ZeroDivisionError in a change of the licenses."


def test_the_key_is_asked_by_a_new_certificate_also_when_the_client_has_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a key that can prove itself would count as there without ever having done so."""
    looks, looked, gate, begun = [], asyncio.Event(), threading.Event(), threading.Event()
    house.enforcer.see(house.seen(), house.clock())
    save = house.store.save_documents

    def slow(documents: Documents) -> None:
        begun.set()
        assert gate.wait(DEADLINE)
        save(documents)

    async def look() -> None:
        looks.append(house.enforcer.licenses.serial)
        looked.set()

    monkeypatch.setattr(house.store, "save_documents", slow)
    monkeypatch.setattr(house.site, "look", look)
    text = house.vendor.certificate()
    certificate = read_certificate(text, house.vendor.keys)

    async def abandoned() -> None:
        change = house.site.change(lambda: certified(house.enforcer, certificate, text), "uid 7")
        task = asyncio.ensure_future(change)
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await looked.wait()

    house.loop.run_until_complete(abandoned())
    assert looks == ["110123456789"]


def test_a_technician_is_told_when_the_disk_is_full_and_the_log_too(
    licensed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(licensed.store, "save_documents", full)
    caller = licensed.caller()
    caller.send(licensed.call(f"{MANAGE}.AddLicense", key=licensed.vendor.key().text))
    deadline = 1000
    while not caller.replies and deadline:
        licensed.storing._thread.submit(int).result(DEADLINE)
        licensed.loop.turn()
        deadline -= 1
    (answer,) = caller.replies
    assert answer["error"] == f"{MANAGE}.StateNotStored"
    hint = answer["parameters"]["hint"]
    assert hint.startswith("The state file cannot be written (database or disk is full).")
    assert licensed.log.one(EventName.STATE_NOT_STORED).message == f"Nothing was changed. {hint}"
    assert licensed.log.names() == [EventName.STATE_NOT_STORED]


# Time


def tick(house: House, seconds: float = TICK_SECONDS) -> None:
    """Let time pass, and the site see it, again in a moment where it wants to look sooner than after a whole tick."""
    house.clock.run(seconds)
    house.site._tick()
    for _ in range(3):
        left = house.site._due - house.clock.boot
        if left < TICK_SECONDS:
            house.clock.run(left)
            house.site._tick()


def silent_holder(house: House, ttl: int = 30) -> None:
    lease = {"key": "call", "wants": [{"feature": "trunk"}]}
    house.ask(f"{LICENSE}.Sync", holder="kamailio", scope="calls", leases=[lease], ttl_seconds=ttl)


def test_a_holder_that_falls_silent_loses_its_scope(licensed: House) -> None:
    silent_holder(licensed)
    for _ in range(6):
        tick(licensed)
    assert licensed.enforcer.ledger.in_use("trunk") == 1
    tick(licensed)
    assert licensed.enforcer.ledger.in_use("trunk") == 0
    assert licensed.log.one(EventName.HOLDER_SILENT).fields["HOLDER"] == "kamailio"
    assert licensed.recorded() == set()


@pytest.mark.parametrize(("late", "frees"), [(GAP_SECONDS - 0.1, True), (GAP_SECONDS + 0.1, False), (3600, False)])
def test_silence_counts_only_while_somebody_listened(late: float, frees: bool, licensed: House) -> None:
    tick(licensed)
    silent_holder(licensed, ttl=5)
    tick(licensed, TICK_SECONDS + late)
    assert (licensed.enforcer.ledger.in_use("trunk") == 0) is frees


def test_who_is_heard_in_the_moment_after_falling_silent_loses_nothing(licensed: House) -> None:
    silent_holder(licensed, ttl=4)
    licensed.clock.run(TICK_SECONDS + GAP_SECONDS - 0.1)  # stopped meanwhile, which nobody can tell from a slow tick
    licensed.site._tick()
    assert licensed.enforcer.ledger.in_use("trunk") == 1
    silent_holder(licensed, ttl=4)  # it waited to be read
    licensed.clock.run(GAP_SECONDS)
    licensed.site._tick()
    assert licensed.enforcer.ledger.in_use("trunk") == 1


def test_the_leases_of_a_silent_holder_are_freed_between_the_turns(licensed: House) -> None:
    count = SLICES_AT_ONCE * SLICE_ENDED + 10
    for place in range(0, count, 256):
        leases = [{"key": f"{it}", "wants": [{"feature": "trunk"}]} for it in range(place, min(place + 256, count))]
        part: dict[str, Any] = {"generation": 1, "part": place // 256 + 1, "last": place + 256 >= count}
        licensed.ask(f"{LICENSE}.Sync", holder="kamailio", scope="calls", leases=leases, ttl_seconds=4, **part)
    tick(licensed)
    assert licensed.enforcer.ledger.in_use("trunk") == 10
    licensed.loop.turn(2)
    assert licensed.enforcer.ledger.in_use("trunk") == 0
    assert str(count) in licensed.log.one(EventName.HOLDER_SILENT).message
    assert licensed.recorded() == set()


def test_the_end_frees_nobody_as_silent(licensed: House) -> None:
    silent_holder(licensed, ttl=4)
    licensed.clock.run(3600)
    licensed.site.close()
    assert licensed.enforcer.ledger.in_use("trunk") == 1
    assert EventName.HOLDER_SILENT not in licensed.log.names()


def test_a_reader_that_reports_nothing_counts_as_a_fault(licensed: House) -> None:
    limit = STALE_SECONDS + licensed.settings.poll_seconds
    for _ in range(int(limit / TICK_SECONDS)):
        tick(licensed)
    assert licensed.enforcer.feature_key.state == "present"
    tick(licensed)
    assert licensed.enforcer.feature_key.state == "hanging"
    assert "has not answered for 70 s; replug it" in licensed.enforcer.feature_key.finding
    assert licensed.enforcer.standing == "grace"
    told = [event for event in licensed.log.events if event.name is EventName.FEATURE_KEY_TROUBLE]
    for _ in range(10):
        tick(licensed)
    assert [event for event in licensed.log.events if event.name is EventName.FEATURE_KEY_TROUBLE] == told
    licensed.site._see(licensed.seen(), 7)
    assert licensed.enforcer.standing == "licensed"


@pytest.mark.parametrize("late", [GAP_SECONDS + 0.1, STALE_SECONDS + 60, 3600])
def test_a_daemon_that_was_stopped_or_asleep_does_not_accuse_the_reader(late: float, licensed: House) -> None:
    tick(licensed)
    tick(licensed, TICK_SECONDS + late)
    assert licensed.enforcer.feature_key.state == "present"
    end = licensed.clock.boot + STALE_SECONDS + licensed.settings.poll_seconds
    while licensed.clock.boot + 2 * TICK_SECONDS <= end:
        tick(licensed)
    assert licensed.enforcer.feature_key.state == "present", "it has its whole time from then on"
    while licensed.clock.boot <= end:
        tick(licensed)
    assert licensed.enforcer.feature_key.state == "hanging"


def test_a_tick_records_logs_and_stores(licensed: House) -> None:
    licensed.site._see(licensed.seen("absent"), 1)
    tick(licensed)
    tick(licensed, 60)
    licensed.storing._thread.submit(int).result(DEADLINE)
    _, drained = licensed.store.load()
    assert drained[Cause.FEATURE_KEY_ABSENT] == 65.0


def test_the_sum_of_a_storm_is_told_by_the_tick(licensed: House) -> None:
    for number in range(50):
        wanted = licensed.acquire(f"{number}", wants=[{"feature": "trunk", "instances": 9}])
        licensed.ask(f"{LICENSE}.Acquire", **wanted["parameters"])
    for _ in range(13):
        tick(licensed)
    assert licensed.log.names().count(EventName.DENIED) == 1
    assert licensed.log.one(EventName.DENIALS_SUMMARIZED).fields["COUNT"] == "49"
    assert (licensed.site.granted, licensed.site.denied) == (0, 50)


def test_denials_that_were_only_counted_are_told_at_the_end(licensed: House) -> None:
    wanted = licensed.acquire(wants=[{"feature": "trunk", "instances": 9}])
    for _ in range(3):
        licensed.ask(f"{LICENSE}.Acquire", **wanted["parameters"])
    licensed.site.close()
    assert licensed.log.one(EventName.DENIALS_SUMMARIZED).fields["COUNT"] == "2"


def test_the_end_stores_what_drained_until_then(licensed: House) -> None:
    licensed.site._see(licensed.seen("absent"), 1)
    tick(licensed)
    licensed.clock.run(3)
    licensed.site.close()
    store = Store(licensed.place / "featurekeyd.db")
    assert store.load()[1][Cause.FEATURE_KEY_ABSENT] == 8.0
    store.close()


def test_the_next_tick_comes_even_when_this_one_fails(licensed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(licensed.enforcer, "update", broken)
    with pytest.raises(ZeroDivisionError):
        licensed.site._tick()
    assert licensed.loop.timers == 1


# The Feature Key


class Reader:
    """Finds nothing, and waits for the test where it is told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def open(self, reader: str) -> Any:
        assert self.gate.wait(DEADLINE)
        raise Absent(reader, "no card there")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(keywatch, "open_feature_key", made.open)
    return made


def test_the_site_begins_at_once_and_looks_for_the_key_meanwhile(house: House, reader: Reader) -> None:
    house.site.start()
    assert house.enforcer.feature_key.state == "not-looked-yet"
    emergency = house.acquire(dialed="112")
    assert house.ask(f"{LICENSE}.Acquire", **emergency["parameters"])[0]["parameters"]["allowed"] is True
    reader.gate.set()
    house.loop.run_until_complete(house.site.wait_for_look(1))
    assert house.enforcer.feature_key.state == "absent"
    house.loop.run_until_complete(house.site.look())
    assert house.site._looks >= 2
    house.site.close()


def test_a_reader_that_hangs_at_the_start_is_waited_for_and_then_told(
    house: House, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.site.start()
    with monkeypatch.context() as patch:
        patch.setattr(site, "LOOK_SECONDS", 0)
        house.loop.run_until_complete(house.site.wait_for_look(1))
    assert house.enforcer.feature_key.state == "hanging"
    reader.gate.set()
    house.loop.run_until_complete(house.site.wait_for_look(1))
    assert house.enforcer.feature_key.state == "absent"
    assert house.site._awaited == {}
    house.site.close()


def test_what_a_reader_was_not_expected_to_raise_is_told_to_the_log_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> Any:
        raise ZeroDivisionError("what the log alone is told")

    monkeypatch.setattr(keywatch, "open_feature_key", broken)
    house.site.start()
    house.loop.run_until_complete(house.site.wait_for_look(1))
    house.site.close()
    event = next(it for it in house.log.events if it.name is EventName.UNEXPECTED)
    assert event.message == "Unexpected ZeroDivisionError in the reader of the Feature Key."
    assert "what the log alone is told" in event.fields["TRACEBACK"]
    assert "in broken" in event.fields["TRACEBACK"]
    assert "the log has the details" in house.enforcer.feature_key.finding


def test_many_may_wait_for_a_look_and_each_is_woken_by_its_own_or_a_later_one(house: House) -> None:
    async def wait() -> list[bool]:
        waits = [asyncio.ensure_future(house.site.wait_for_look(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        house.site._see(house.seen(), 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done = [it.done() for it in waits]
        house.site._see(house.seen(), 3)
        await asyncio.gather(*waits)
        return done

    assert house.loop.run_until_complete(wait()) == [True, True, False]
    assert house.site._awaited == {}


def test_a_challenge_is_one_of_the_certificate(licensed: House) -> None:
    assert licensed.site._challenge() is None
    certificate = licensed.enforcer.licenses.certificate
    assert certificate is not None
    pairs = tuple(Pair(bytes([number]), b"") for number in range(3))
    proving = msgspec.structs.replace(certificate, pairs=pairs)
    licensed.enforcer.adopt(licensed.enforcer.licenses.with_certificate(proving), licensed.clock())
    assert {licensed.site._challenge() for _ in range(200)} == {b"\0", b"\1", b"\2"}


def test_a_report_after_the_end_of_the_loop_is_dropped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.loop, "is_closed", lambda: True)
    house.site._report(house.seen(), 1)
    assert house.site._looks == 0
