"""The watch on the Feature Key: it never holds anybody up, whatever the reader does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from featurekeyd.daemon import keywatch
from featurekeyd.daemon.keywatch import KeyWatch
from featurekeyd.hwio.featurekey import Absent, Assurance, DeviceFault, FeatureKeyError, Kind, NoPermission, Reading
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
        (
            NoPermission("slot", "may not open it", cure="add the rule"),
            "no-permission",
            "may not open it; add the rule",
        ),
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
