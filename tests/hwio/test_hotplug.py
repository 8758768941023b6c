"""News of devices that come and go: they wake, they never hold anything up, and without them nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featurekeyd.hwio import hotplug
from featurekeyd.hwio.hotplug import HotPlug, Monitor, Sort, sorts_of

DEADLINE = 10


class News:
    """A monitor that the test feeds; `None` in it is an event of another sort, which pyudev takes and does not give."""

    def __init__(self) -> None:
        self.readable = os.eventfd(0, os.EFD_NONBLOCK)
        self.waiting: list[object | OSError | None] = []
        self.polled = threading.Event()
        self.endless = False

    def fileno(self) -> int:
        return self.readable

    def poll(self, timeout: float) -> object | None:
        assert timeout == 0
        if self.endless:
            return "add"
        event = self.waiting.pop(0) if self.waiting else None
        if not self.waiting:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.readable)
            self.polled.set()
        if isinstance(event, OSError):
            raise event
        return event

    def tell(self, *events: object | OSError | None) -> None:
        self.polled.clear()
        self.waiting += events
        os.eventfd_write(self.readable, 1)


class Listening:
    """A running HotPlug and what came of it."""

    def __init__(self, reader: str, opened: Callable[[tuple[Sort, ...]], Monitor]) -> None:
        self.woken = threading.Semaphore(0)
        self.notes: list[str] = []
        self.hotplug = HotPlug(reader, self.woken.release, self.notes.append, opened=opened)
        self.hotplug.start()

    def join(self) -> None:
        self.hotplug._thread.join(DEADLINE)
        assert not self.hotplug._thread.is_alive()


def open_now() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()


@pytest.fixture
def news() -> Iterator[News]:
    made = News()
    yield made
    os.close(made.readable)


@pytest.fixture
def listen(news: News) -> Iterator[Callable[..., Listening]]:
    begun: list[Listening] = []

    def listen(reader: str = "usb", opened: Callable[[tuple[Sort, ...]], Monitor] | None = None) -> Listening:
        begun.append(Listening(reader, opened or (lambda _: news)))
        return begun[-1]

    yield listen
    for listening in begun:
        listening.hotplug.close()
        listening.hotplug.close()
        assert not listening.hotplug._thread.is_alive()


def test_a_device_that_came_wakes(listen: Callable[..., Listening], news: News) -> None:
    listening = listen()
    for _ in range(3):
        news.tell("add")
        assert listening.woken.acquire(timeout=DEADLINE)
    assert listening.notes == []


def test_what_one_device_tells_of_itself_wakes_once(listen: Callable[..., Listening], news: News) -> None:
    listening = listen()
    news.tell("add", "bind", "change")
    assert listening.woken.acquire(timeout=DEADLINE)
    assert not listening.woken.acquire(timeout=2 * hotplug.SETTLE_SECONDS)


def test_devices_of_other_sorts_do_not_wake(listen: Callable[..., Listening], news: News) -> None:
    listening = listen()
    news.tell(None)
    assert news.polled.wait(DEADLINE)
    assert not listening.woken.acquire(timeout=2 * hotplug.SETTLE_SECONDS)


def test_events_that_were_lost_wake_too(listen: Callable[..., Listening], news: News) -> None:
    listening = listen()
    for _ in range(2):
        news.tell(OSError(errno.ENOBUFS, "No buffer space available"))
        assert listening.woken.acquire(timeout=DEADLINE)
    assert listening.notes == []


def test_a_storm_wakes_once_a_second_and_the_thread_can_still_be_ended(
    listen: Callable[..., Listening], news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(float(number) / 4 for number in range(10**9))
    monkeypatch.setattr(hotplug, "monotonic", lambda: next(moments))
    news.endless = True
    listening = listen()
    news.tell("add")
    for _ in range(5):
        assert listening.woken.acquire(timeout=DEADLINE)
    listening.hotplug.close()
    assert not listening.hotplug._thread.is_alive()
    # Each round of a storm asks for the time three times, so a second of this clock has one to two of them.
    woken = 5
    while listening.woken.acquire(blocking=False):
        woken += 1
    assert woken <= next(moments) / hotplug.STORM_SECONDS + 1


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'pyudev'"), OSError(errno.EAFNOSUPPORT, "no netlink"), RuntimeError("odd")]
)
def test_where_there_are_no_events_that_is_noted_once_and_nothing_else_happens(
    error: Exception, listen: Callable[..., Listening]
) -> None:
    def refuse(_: tuple[Sort, ...]) -> Monitor:
        raise error

    listening = listen(opened=refuse)
    listening.join()
    (note,) = listening.notes
    assert "polls alone" in note
    assert repr(error) in note


def test_a_socket_that_fails_ends_the_events_with_a_note(listen: Callable[..., Listening], news: News) -> None:
    listening = listen()
    news.tell(OSError(errno.EBADF, "Bad file descriptor"))
    listening.join()
    assert len(listening.notes) == 1


def test_a_host_without_pyudev_is_told_from_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pyudev"):
        hotplug.open_monitor((("usb", "usb_device"),))


@pytest.mark.parametrize(
    ("reader", "subsystems"),
    [
        ("auto", {"usb", "mmc"}),
        ("usb", {"usb"}),
        ("slot", {"mmc"}),
        ("slot:/folder", set()),
        ("serial:/dev/ttyUSB0", {"tty"}),
        ("host", set()),
        ("host:/folder", set()),
        ("usb-simulator:/path", set()),
    ],
)
def test_only_what_the_reader_opens_is_listened_to(reader: str, subsystems: set[str]) -> None:
    assert {subsystem for subsystem, _ in sorts_of(reader)} == subsystems


def test_of_usb_whole_devices_count_since_claiming_a_key_is_news_of_its_interfaces() -> None:
    assert ("usb", "usb_device") in sorts_of("auto")


def test_where_there_is_nothing_to_listen_to_no_thread_begins(listen: Callable[..., Listening]) -> None:
    threads = threading.active_count()
    listening = listen("host")
    assert threading.active_count() == threads
    listening.hotplug.close()
    assert listening.notes == []


def test_beginning_and_ending_leaves_no_descriptor_and_no_thread(news: News) -> None:
    before = open_now()
    for _ in range(20):
        Listening("usb", lambda _: news).hotplug.close()
    assert open_now() == before


def test_the_kernels_own_news_of_a_terminal_wake(listen: Callable[..., Listening]) -> None:
    pytest.importorskip("pyudev")
    opened = threading.Event()

    def open_monitor(sorts: tuple[Sort, ...]) -> Monitor:
        monitor = hotplug.open_monitor(sorts)
        opened.set()
        return monitor

    with kernel_news() as control:
        listening = listen("serial:/dev/ttyUSB0", open_monitor)
        assert opened.wait(DEADLINE), listening.notes
        try:
            next(Path("/sys/class/tty").glob("tty?*/uevent")).write_text("change")
        except (OSError, StopIteration):
            pytest.skip("only root can make the kernel tell of a device")
        if not control.poll(1000 * DEADLINE):
            pytest.skip("the kernel tells this network namespace nothing")
        assert listening.woken.acquire(timeout=DEADLINE)


@contextlib.contextmanager
def kernel_news() -> Iterator[select.poll]:
    """A socket of our own on the kernel's news (netlink(7), NETLINK_KOBJECT_UEVENT), to know whether there are any."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as opened:
        opened.bind((0, 1))
        control = select.poll()
        control.register(opened, select.POLLIN)
        yield control
