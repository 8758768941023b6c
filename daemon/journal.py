"""The log: events go through a bounded queue to one writer thread, so that nobody waits for journald or a terminal.

Under systemd an event is one journal entry with its MESSAGE_ID and fields; elsewhere it is one readable line on
standard error. What does not fit into the queue is counted, and the count is told once there is room.
"""

from __future__ import annotations

import datetime
import os
import queue
import sys
import threading
import time
from collections.abc import Callable

from featurekeyd.policy.events import SORT, Event, EventName, Priority
from featurekeyd.policy.reasons import MEANING, Reason

from .journalsocket import JournalSocket
from .troubles import Troubles

QUEUE_LENGTH = 1000
"""Entries that may wait: a second of a bad storm, in about 1 MB."""

CLOSE_SECONDS = 2.0
"""How long the end of the daemon waits for the writer."""

Sink = Callable[[Event], None]


class Log:
    """Takes events and never waits."""

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self.troubles = Troubles(clock)
        """What has gone wrong lately."""
        self._queue: queue.Queue[Event | None] = queue.Queue(QUEUE_LENGTH)
        self._lost = 0
        """Entries that found no room."""
        self._failed = 0
        """Entries that the sink did not take; counted by the writer alone."""
        self._told = 0
        """How many of both the log has told of."""
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def tell(self, event: Event) -> None:
        """Log the event, or count it as lost."""
        self.troubles.note(event)
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Let the writer finish what waits, within a time limit."""
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            return
        self._writer.join(CLOSE_SECONDS)

    def _write(self) -> None:
        while (event := self._queue.get()) is not None:
            if not self._taken(event):
                self._failed += 1
            if self._queue.empty():
                self._tell_lost()
        self._tell_lost()

    def _tell_lost(self) -> None:
        lost = self._lost + self._failed - self._told
        if not lost:
            return
        message = f"{lost} log entries were lost because the log could not keep up or could not be written."
        if self._taken(Event(name=EventName.LOG_OVERFLOW, message=message, fields={"LOST": str(lost)})):
            self._told += lost

    def _taken(self, event: Event) -> bool:
        try:
            self._sink(event)
        except Exception:  # noqa: BLE001 - the log is the place to tell of it, and the next entry may go through
            return False
        return True


def message_id(event: Event) -> str:
    """The MESSAGE_ID of an event: a denial has the one of its reason."""
    if event.name is EventName.DENIED:
        return MEANING[Reason(event.fields["REASON"])].message_id
    return SORT[event.name].message_id


def to_standard_error(event: Event) -> None:
    """One readable line: time, priority, name, sentence, fields."""
    moment = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = " ".join(f"{name}={value}" for name, value in event.fields.items() if value)
    line = f"{moment} {SORT[event.name].priority.name.lower()} {event.name}: {event.message}"
    line = f"{line} [{fields}]" if fields else line
    print(_one_line(line), file=sys.stderr, flush=True)  # noqa: T201 - the log where there is no journal


def _one_line(text: str) -> str:
    """The text with everything escaped that would end the line or steer the terminal: clients choose parts of it."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class ToJournal:
    """One journal entry for each event, with MESSAGE_ID, PRIORITY and the event's fields."""

    def __init__(self, journal: JournalSocket | None = None) -> None:
        self._journal = journal or JournalSocket()

    def __call__(self, event: Event) -> None:
        """Send the entry; raises OSError."""
        priority = Priority(SORT[event.name].priority)
        entry = {
            "MESSAGE": event.message,
            "MESSAGE_ID": message_id(event).replace("-", ""),
            "PRIORITY": str(int(priority)),
            "SYSLOG_IDENTIFIER": "featurekeyd",
            "EVENT": str(event.name),
        }
        self._journal.send(entry | {name: value for name, value in event.fields.items() if value})


def sink_for(target: str) -> Sink:
    """The sink that the settings name; `auto` takes the journal when standard error leads there (systemd.exec(5))."""
    if target == "journal" or (target == "auto" and "JOURNAL_STREAM" in os.environ):
        return ToJournal()
    return to_standard_error
