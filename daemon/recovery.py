"""The state file at the start of the daemon: looked through, and set aside where it is damaged.

A damaged file is kept under a dated name and never overwritten: the vendor may save something from it. The daemon then
starts from nothing, so that emergency calls are granted and somebody can ask what is wrong; without a certificate it is
deactivated until a backup is restored or the documents are imported anew.
"""

from __future__ import annotations

import datetime
import os
from itertools import count
from pathlib import Path

from featurekeyd.policy.events import Event, EventName

from .schema import StateDamaged
from .seal import BootMemory
from .store import Store


def recover_state(path: Path, *, machine_id: str, memory: BootMemory, wall: float) -> tuple[Store, list[Event]]:
    """The state file, sound or begun anew, and what to tell of it.

    Raises StateRefused where it is of a later release or cannot be opened, OSError where it cannot be set aside.
    """
    try:
        return _sound(path, machine_id, memory)
    except StateDamaged as error:
        aside = set_aside(path, wall)
        memory.forget()
        message = (
            f"{str(error).partition(';')[0]}. It was set aside as {aside.name}, and the daemon starts from nothing. "
            "Restore a backup (featurekeyctl restore FILE), or import certificate and license list anew."
        )
        told = Event(name=EventName.STATE_SET_ASIDE, message=message, fields={"PATH": str(aside)})
        return Store(path, machine_id=machine_id, memory=memory), [told]


def _sound(path: Path, machine_id: str, memory: BootMemory) -> tuple[Store, list[Event]]:
    store = Store(path, machine_id=machine_id, memory=memory)
    try:
        tampering = store.check()
        store.load()
    except BaseException:
        store.close()
        raise
    if tampering is None:
        return store, []
    message = (
        f"{path} was changed by somebody else: {tampering}. What it says counts all the same. If nobody moved or "
        "restored the disk of this host, see who had access to it; the vendor sees it at the next check."
    )
    return store, [Event(name=EventName.STATE_TAMPERED, message=message, fields={"PATH": str(path)})]


def set_aside(path: Path, wall: float) -> Path:
    """Move the file, and the journal that goes with it, to a dated name that nothing has yet; that name."""
    day = datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.damaged-{day}{f'-{number}' if number else ''}") for number in count())
    aside = next(name for name in names if not os.path.lexists(name))
    # The journal first: beside a new file it would be taken for that one's.
    for ending in ("-journal", "-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        if os.path.lexists(part):
            part.rename(aside.with_name(aside.name + ending))
    return aside
