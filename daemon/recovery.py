"""The state file at the start of the daemon: looked through, and set aside where it is damaged.

* A damaged file is kept under a dated name and never overwritten: the vendor may save something from it. The daemon
  then starts without licenses, so that emergency calls are granted and somebody can ask what is wrong; the system is
  deactivated until a backup is restored or the documents are imported anew.
* What this boot of the host remembers goes on: nothing that has drained comes back by damaging the file, by taking it
  away or by putting an earlier one in its place.
* Both are counted in the facts before anything else is stored, and the vendor is told of it at the next check.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterator
from itertools import count as numbers
from pathlib import Path

import msgspec

from featurekeyd.policy.events import Event, EventName

from .merging import gone_on
from .schema import StateDamaged, unusable
from .seal import BootMemory
from .store import Documents, Kept, Store


def recover_state(path: Path, *, machine_id: str, memory: BootMemory, wall: float) -> tuple[Store, list[Event]]:
    """The state file, sound or begun anew, and what to tell of it.

    Raises StateRefused where it is of a later release or cannot be opened, OSError where it cannot be set aside.
    """
    try:
        return _sound(path, machine_id, memory, wall)
    except StateDamaged as error:
        aside = set_aside(path, wall)
        message = (
            f"{str(error).partition(';')[0]}. It was set aside as {aside.name}, and the daemon starts without. "
            "Restore a backup (featurekeyctl restore FILE), or import certificate and license list anew."
        )
        told = Event(name=EventName.STATE_SET_ASIDE, message=message, fields={"PATH": str(aside)})
        store = Store(path, machine_id=machine_id, memory=memory)
        with _closing_what_fails(store):
            _go_on(store, memory, wall, "state_losses")
        return store, [told]


def _sound(path: Path, machine_id: str, memory: BootMemory, wall: float) -> tuple[Store, list[Event]]:
    store = Store(path, machine_id=machine_id, memory=memory)
    with _closing_what_fails(store):
        tampering = store.check()
        store.load()
        if tampering is None:
            return store, []
        _go_on(store, memory, wall, "tamperings")
    message = (
        f"{path} was changed by somebody else: {tampering}. What it says counts all the same. If nobody moved or "
        "restored the disk of this host, see who had access to it; the vendor sees it at the next check."
    )
    return store, [Event(name=EventName.STATE_TAMPERED, message=message, fields={"PATH": str(path)})]


@contextlib.contextmanager
def _closing_what_fails(store: Store) -> Iterator[None]:
    """Close the file where it cannot be used, and say of an error of the database what it means."""
    try:
        yield
    except sqlite3.Error as error:
        store.close()
        raise unusable(store.path, error) from error
    except BaseException:
        store.close()
        raise


def _go_on(store: Store, memory: BootMemory, wall: float, count: str) -> None:
    """Take in what this boot remembers, which the file must not be behind, and count one more of what was found."""
    here, remembered = store.load_kept(), memory.recall()
    if remembered is not None:
        before = Kept(documents=Documents(marks=remembered.marks), drained=remembered.drained, facts=remembered.facts)
        here = gone_on(before, here, wall)
    counted = {count: getattr(here.facts, count) + 1}
    kept = msgspec.structs.replace(here, facts=msgspec.structs.replace(here.facts, **counted))
    store.save_kept(kept, int(wall), remembered.head.number if remembered else 0)


def set_aside(path: Path, wall: float) -> Path:
    """Move the file, and the journal that goes with it, to a dated name that nothing has yet; that name."""
    day = datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.damaged-{day}{f'-{number}' if number else ''}") for number in numbers())
    aside = next(name for name in names if not os.path.lexists(name))
    # The journal first: beside a new file it would be taken for that one's.
    for ending in ("-journal", "-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        if os.path.lexists(part):
            part.rename(aside.with_name(aside.name + ending))
    return aside
