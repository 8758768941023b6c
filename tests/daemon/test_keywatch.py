"""The watch on the Feature Key: it never holds anybody up, whatever the reader does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekeyd.daemon import keywatch
from featurekeyd.daemon.keywatch import KeyWatch
from featurekeyd.daemon.settings import FeatureKeyTable
from featurekeyd.daemon.site import STALE_SECONDS
from featurekeyd.hwio.buspirate import Timeouts
from featurekeyd.hwio.featurekey import (
    LONGEST_LOOK_SECONDS,
    Absent,
    Assurance,
    Busy,
    DeviceFault,
    FeatureKey,
    FeatureKeyError,
    Garbled,
    Kind,
    NoPermission,
    Reading,
    TouchRequired,
    Unconfigured,
    Unsupported,
)
from featurekeyd.hwio.sdcard import Command
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import SimulatedCard
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend, create
from featurekeyd.hwio.usbkey import UsbKey
from featurekeyd.policy.presence import Sighting

DEADLINE = 10
NEVER = 3600.0
CHALLENGE = bytes(range(32))
READING = Reading(
    kind=Kind.USB_OTP,
    hardware_id="4711",
    assurance=Assurance.A2,
    reader="usb:1-4",
    simulated=True,
    detail="version 5.4.3",
)


class Key:
    """A Feature Key that does what the test says, and notes what it is asked."""

    def __init__(self, *, check: Exception | None = None, prove: Exception | None = None) -> None:
        self.reading = READING
        self.asked: list[str] = []
        self.closing: Exception | None = None
        self._check, self._prove = check, prove

    def check(self) -> None:
        self.asked.append("check")
        if self._check is not None:
            raise self._check

    def prove(self, challenge: bytes) -> bytes:
        self.asked.append("prove")
        if self._prove is not None:
            raise self._prove
        return challenge[::-1]

    def close(self) -> None:
        self.asked.append("close")
        if self.closing is not None:
            raise self.closing


class Reader:
    """Opens the keys it is given, one after the other, or raises; the last one again and again."""

    def __init__(self) -> None:
        self.finds: list[Key | Exception] = []
        self.opened = 0
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.gate.set()

    def open(self, reader: str) -> Key:
        assert reader == "slot"
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        found = self.finds[min(self.opened, len(self.finds) - 1)]
        self.opened += 1
        if isinstance(found, Exception):
            raise found
        return found


class Watched:
    """A running watch, and what it reports."""

    def __init__(self, poll_seconds: float = NEVER) -> None:
        self.reports: queue.Queue[tuple[Sighting, int]] = queue.Queue()
        self.challenge: bytes | None = None
        self.unexpected: queue.Queue[Exception] = queue.Queue()
        self.watch = KeyWatch("slot", poll_seconds, lambda: self.challenge, self._report, self.unexpected.put)

    def _report(self, sighting: Sighting, number: int) -> None:
        self.reports.put((sighting, number))

    def report(self) -> tuple[Sighting, int]:
        return self.reports.get(timeout=DEADLINE)

    def state(self) -> str:
        return self.report()[0].state

    def look(self) -> Sighting:
        """Ask for a look, and wait until its number is reported."""
        wanted = self.watch.look_now()
        while True:
            sighting, number = self.report()
            if number >= wanted:
                return sighting


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(keywatch, "open_feature_key", made.open)
    return made


class News:
    """Stands in for HotPlug: tells what the test says, and has no thread and no descriptor."""

    def __init__(self, reader: str, wake: Callable[[], object], note: Callable[[str], object]) -> None:
        self.reader = reader
        self.wake = wake

    def start(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def news(monkeypatch: pytest.MonkeyPatch) -> list[News]:
    """What stands in for HotPlug in each watch that the test makes."""
    made: list[News] = []

    def make(reader: str, wake: Callable[[], object], note: Callable[[str], object]) -> News:
        made.append(News(reader, wake, note))
        return made[-1]

    monkeypatch.setattr(keywatch, "HotPlug", make)
    return made


@pytest.fixture
def begin() -> Iterator[Callable[..., Watched]]:
    begun: list[Watched] = []

    def begin(poll_seconds: float = NEVER, challenge: bytes | None = None) -> Watched:
        begun.append(Watched(poll_seconds))
        begun[-1].challenge = challenge
        begun[-1].watch.start()
        return begun[-1]

    yield begin
    for watched in begun:
        watched.watch.close()
        assert not watched.watch._thread.is_alive()


def test_a_key_is_reported_with_all_that_was_read(reader: Reader, begin: Callable[..., Watched]) -> None:
    reader.finds = [Key()]
    sighting, number = begin().report()
    assert number == 1
    assert sighting == Sighting(
        state="present",
        finding="version 5.4.3",
        reader="usb:1-4",
        kind="usb-otp",
        hardware_id="4711",
        assurance="A2",
        simulated=True,
    )


def test_an_open_key_is_asked_for_no_more_than_whether_it_is_there(
    reader: Reader, begin: Callable[..., Watched]
) -> None:
    key = Key()
    reader.finds = [key]
    watched = begin(0.001, CHALLENGE)
    assert [watched.report()[0].answer for _ in range(20)] == [CHALLENGE[::-1]] * 20
    assert key.asked[:20] == ["prove", *["check"] * 19]
    assert reader.opened == 1


def test_a_look_on_demand_opens_and_proves_anew(reader: Reader, begin: Callable[..., Watched]) -> None:
    first, second = Key(), Key()
    reader.finds = [first, second]
    watched = begin(challenge=CHALLENGE)
    watched.report()
    assert watched.look().challenge == CHALLENGE
    assert first.asked == ["prove", "close"]
    assert second.asked == ["prove"]


def test_without_a_challenge_nothing_is_to_be_proved(reader: Reader, begin: Callable[..., Watched]) -> None:
    reader.finds = [Key(prove=DeviceFault("usb", "asked"))]
    sighting, _ = begin().report()
    assert (sighting.state, sighting.answer) == ("present", None)


@pytest.mark.parametrize(
    ("error", "state", "finding"),
    [
        (Absent("slot", "no card there"), "absent", "no card there"),
        (Busy("slot", "somebody has it", cure="stop that"), "busy", "somebody has it; stop that"),
        (FeatureKeyError("slot", "odd"), "fault", "odd"),
        (OSError(5, "I/O error"), "fault", "unexpected OSError in the reader"),
        (ZeroDivisionError("a secret"), "fault", "unexpected ZeroDivisionError in the reader"),
        (ValueError("slot"), "fault", "unexpected ValueError in the reader"),
        (MemoryError(), "fault", "unexpected MemoryError in the reader"),
    ],
)
def test_whatever_a_reader_raises_is_a_sighting(
    error: Exception, state: str, finding: str, reader: Reader, begin: Callable[..., Watched]
) -> None:
    reader.finds = [error, Key()]
    watched = begin()
    sighting, _ = watched.report()
    details = "; the log has the details" if finding.startswith("unexpected") else ""
    assert (sighting.state, sighting.finding, sighting.reader) == (state, f"{finding}{details}", "slot")
    assert watched.look().state == "present"
    # What a reader is expected to raise says all in its sighting; anything else goes to the log as it is.
    expected = isinstance(error, FeatureKeyError)
    assert list(watched.unexpected.queue) == ([] if expected else [error])


def test_an_unforeseen_failure_is_logged_once_until_the_reader_is_well_again(
    reader: Reader, begin: Callable[..., Watched]
) -> None:
    errors = [ZeroDivisionError(str(number)) for number in range(4)]
    reader.finds = [errors[0], errors[1], errors[2], Key(check=Absent("slot", "pulled")), errors[3]]
    watched = begin()
    watched.report()
    states = [watched.look().state for _ in range(4)]
    assert states == ["fault", "fault", "present", "fault"]
    assert list(watched.unexpected.queue) == [errors[0], errors[3]]


@pytest.mark.parametrize("error", [Absent("slot", "pulled"), OSError(19, "No such device")])
def test_a_key_that_fails_is_closed_and_opened_afresh(
    error: Exception, reader: Reader, begin: Callable[..., Watched]
) -> None:
    pulled, back = Key(check=error), Key()
    reader.finds = [pulled, back]
    watched = begin(0.001)
    assert [watched.state() for _ in range(3)][::2] == ["present", "present"]
    assert pulled.asked == ["check", "close"]
    assert reader.opened == 2


def test_a_key_that_cannot_prove_itself_is_closed(reader: Reader, begin: Callable[..., Watched]) -> None:
    key = Key(prove=DeviceFault("slot", "no answer"))
    reader.finds = [key, Absent("slot", "gone")]
    watched = begin(challenge=CHALLENGE)
    assert watched.state() == "fault"
    assert watched.look().state == "absent"
    assert key.asked == ["prove", "close"]


def test_a_key_that_cannot_even_be_closed_ends_nothing(reader: Reader, begin: Callable[..., Watched]) -> None:
    stuck = Key(check=Absent("slot", "pulled"))
    stuck.closing = OSError(5, "I/O error")
    reader.finds = [stuck, Key()]
    watched = begin(0.001)
    assert [watched.state() for _ in range(3)] == ["present", "absent", "present"]


def test_a_look_that_hangs_holds_up_nobody_and_is_counted_when_it_ends(
    reader: Reader, begin: Callable[..., Watched]
) -> None:
    reader.finds = [Key()]
    reader.gate.clear()
    watched = begin()
    assert reader.entered.wait(DEADLINE)
    assert [watched.watch.look_now() for _ in range(3)] == [2, 2, 2]
    reader.gate.set()
    assert [watched.report()[1] for _ in range(2)] == [1, 2]
    assert reader.opened == 2


def test_a_look_asked_for_is_never_older_than_the_question(reader: Reader, begin: Callable[..., Watched]) -> None:
    keys: list[Key | Exception] = [Key() for _ in range(50)]
    reader.finds = keys
    watched = begin(0.001)
    for _ in range(20):
        before = reader.opened
        assert watched.look().state == "present"
        assert reader.opened > before


def test_the_end_leaves_a_look_that_hangs_to_its_fate(
    reader: Reader, begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key()
    reader.finds = [key]
    reader.gate.clear()
    watched = begin()
    assert reader.entered.wait(DEADLINE)
    with monkeypatch.context() as patch:
        patch.setattr(keywatch, "CLOSE_SECONDS", 0.01)
        watched.watch.close()
    assert watched.watch._thread.is_alive()
    reader.gate.set()
    watched.watch._thread.join(DEADLINE)
    assert key.asked == ["close"]


def test_the_end_closes_the_key(reader: Reader, begin: Callable[..., Watched]) -> None:
    key = Key()
    reader.finds = [key]
    watched = begin()
    watched.report()
    watched.watch.close()
    assert key.asked == ["close"]


def test_a_watch_that_never_began_can_be_closed() -> None:
    Watched().watch.close()


# A device that came just now


FORBIDDEN = NoPermission("slot", "may not open it", cure="add the rule")


@pytest.fixture
def hasty_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywatch, "PERMISSION_PAUSE", 0.0)


@pytest.mark.parametrize("tries", [1, keywatch.PERMISSION_TRIES])
def test_a_device_whose_permission_comes_a_moment_later_is_never_reported_as_forbidden(
    tries: int, reader: Reader, begin: Callable[..., Watched], hasty_permission: None
) -> None:
    reader.finds = [Absent("slot", "gone"), *[FORBIDDEN] * tries, Key()]
    watched = begin(0.001)
    assert [watched.state() for _ in range(2)] == ["absent", "present"]
    assert reader.opened == 2 + tries


def test_a_device_that_stays_forbidden_is_told_and_then_tried_once_a_look(
    reader: Reader, begin: Callable[..., Watched], hasty_permission: None
) -> None:
    reader.finds = [FORBIDDEN]
    watched = begin()
    sighting, _ = watched.report()
    assert (sighting.state, sighting.finding) == ("no-permission", "may not open it; add the rule")
    assert reader.opened == 1 + keywatch.PERMISSION_TRIES
    assert watched.look().state == "no-permission"
    assert reader.opened == 2 + keywatch.PERMISSION_TRIES


def test_after_news_of_a_device_permission_is_waited_for_anew(
    reader: Reader, begin: Callable[..., Watched], news: list[News], hasty_permission: None
) -> None:
    reader.finds = [*[FORBIDDEN] * (1 + keywatch.PERMISSION_TRIES), FORBIDDEN, FORBIDDEN, Key()]
    watched = begin()
    assert watched.state() == "no-permission"
    news[-1].wake()
    assert watched.state() == "present"


def test_permission_is_waited_for_no_longer_than_a_second() -> None:
    assert keywatch.PERMISSION_TRIES * keywatch.PERMISSION_PAUSE <= 1


def test_the_end_does_not_wait_for_permission(
    reader: Reader, begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keywatch, "PERMISSION_PAUSE", NEVER)
    reader.finds = [FORBIDDEN]
    watched = begin()
    assert reader.entered.wait(DEADLINE)
    watched.watch.close()
    assert watched.state() == "no-permission"


def test_a_key_that_may_not_be_asked_is_closed_before_it_is_tried_again(
    reader: Reader, begin: Callable[..., Watched], hasty_permission: None
) -> None:
    first = Key(prove=FORBIDDEN)
    reader.finds = [first, Key()]
    assert begin(challenge=CHALLENGE).state() == "present"
    assert first.asked == ["prove", "close"]


def test_news_of_a_device_cause_a_look_that_asks_no_more_than_a_poll(
    reader: Reader, begin: Callable[..., Watched], news: list[News]
) -> None:
    key = Key()
    reader.finds = [key]
    watched = begin(challenge=CHALLENGE)
    watched.report()
    news[0].wake()
    assert watched.report()[1] == 2
    assert (news[0].reader, key.asked, reader.opened) == ("slot", ["prove", "check"], 1)


# What a key is asked


@pytest.mark.parametrize("refusal", [Unsupported, Unconfigured, TouchRequired])
def test_a_key_that_will_never_prove_itself_is_known_by_its_number_and_asked_no_more(
    refusal: type[FeatureKeyError], reader: Reader, begin: Callable[..., Watched]
) -> None:
    key = Key(prove=refusal("usb:1-4", "cannot", cure="program it"))
    reader.finds = [key]
    watched = begin(0.001, CHALLENGE)
    for _ in range(5):
        sighting, _ = watched.report()
        assert (sighting.state, sighting.hardware_id, sighting.answer) == (refusal.state, "4711", None)
        assert sighting.finding == "cannot; program it"
    assert key.asked[:5] == ["prove", *["check"] * 4]


def idle(watched: Watched, looks: int) -> None:
    """Let the watch look that often and stop; it looks as fast as it can, so an hour takes a moment."""
    while watched.report()[1] < looks:
        pass
    watched.watch.close()


def test_in_an_idle_hour_a_card_is_read_once_and_then_asked_720_times_for_its_status(
    begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = round(3600 / FeatureKeyTable().poll_seconds)
    assert looks == 720
    card = SimulatedCard()
    line = SimulatedLine(SimulatedBusPirate(card).answer)
    monkeypatch.setattr(keywatch, "open_feature_key", lambda _: SerialCard.on_line(line))
    watched = begin(0.0)
    idle(watched, looks)
    assert card.commands.count(Command.SEND_CID) == 1
    assert card.commands.count(Command.GO_IDLE) == 1
    assert card.commands.count(Command.SEND_STATUS) == watched.watch._looks - 1 >= looks - 1


class CountingBus(SimulatedUsbBackend):
    """Counts the transfers, and those that hand a question over."""

    transfers = questions = 0

    def ctrl_transfer(self, *question: Any) -> int:
        self.transfers += 1
        # Every question begins with its first chunk: flag 80 in the last byte of the report (facts/hardware.md 2).
        self.questions += question[1] == 0x21 and question[5][7] == 0x80
        return super().ctrl_transfer(*question)


def test_in_an_idle_hour_a_usb_key_proves_itself_once_and_each_look_is_one_transfer(
    begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create(tmp_path / "key")
    bus = CountingBus(tmp_path / "key")
    key = UsbKey.open(bus)
    key.program_challenge_response(bytes(range(20)))
    key.close()
    opening = bus.transfers, bus.questions
    UsbKey.open(bus).close()
    opening = bus.transfers - opening[0], bus.questions - opening[1]
    before = bus.transfers, bus.questions
    monkeypatch.setattr(keywatch, "open_feature_key", lambda _: UsbKey.open(bus))
    watched = begin(0.0, CHALLENGE)
    idle(watched, 720)
    transfers, questions = bus.transfers - before[0], bus.questions - before[1]
    assert questions == opening[1] + 1
    assert transfers - (watched.watch._looks - 1) < 2 * opening[0] + 30


def test_each_check_puts_a_challenge_of_its_own_to_the_key_and_the_polls_between_none(
    reader: Reader, begin: Callable[..., Watched], news: list[News]
) -> None:
    reader.finds = [Key()]
    watched = begin(challenge=CHALLENGE)
    watched.report()
    for number in range(5):
        watched.challenge = bytes([number]) * 32
        news[-1].wake()
        assert watched.report()[0].challenge != watched.challenge
        assert watched.look().challenge == watched.challenge


# A reader that never answers


def open_now() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()


def test_a_reader_that_falls_silent_is_told_and_found_again_and_leaves_nothing_behind(
    begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = Timeouts(answer=0.3, ready=0.3, power_up=0.05, quiet=0.01)

    def open_hastily(reader: str) -> FeatureKey:
        return SerialCard.open(device.port, timeouts=hasty)

    def wait_for(*states: str) -> None:
        end = time.monotonic() + DEADLINE
        while watched.state() not in states:
            assert time.monotonic() < end

    monkeypatch.setattr(keywatch, "open_feature_key", open_hastily)
    with SimulatedBusPirate() as device:
        watched = begin(0.01)
        wait_for("present")
        first = open_now()
        for _ in range(5):
            device.silence()
            wait_for("absent")
            device.well()
            wait_for("present")
            assert open_now() == first


def test_a_reader_counts_as_hanging_only_after_the_longest_look() -> None:
    assert LONGEST_LOOK_SECONDS < STALE_SECONDS


def test_looks_that_hang_never_pile_up_threads(reader: Reader, begin: Callable[..., Watched], news: list[News]) -> None:
    reader.finds = [Garbled("slot", "noise"), Key()]
    reader.gate.clear()
    watched = begin()
    assert reader.entered.wait(DEADLINE)
    threads = threading.active_count()
    for _ in range(50):
        watched.watch.look_now()
        news[-1].wake()
    assert threading.active_count() <= threads
    reader.gate.set()
    assert [watched.state() for _ in range(2)] == ["garbled", "present"]
    assert reader.opened == 2
