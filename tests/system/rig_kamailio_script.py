"""Kamailio with the configuration and the script that are shipped, for the test bench.

The script runs in Kamailio's own Python and finds the package by PYTHONPATH, as a site with a virtual environment sets
it; a Debian package needs none.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rig_kamailio import CHECKOUT, UNPACKED, Kamailio

from featurekeyd.client.license import COOL_DOWN
from rig import Site
from rig_process import DEADLINE, RigFailure

CONFIGURATION = CHECKOUT / "client" / "kamailio.cfg"
SCRIPT = CHECKOUT / "client" / "kamailio_script.py"


PAUSE = 0.02
"""Seconds between two looks: nobody tells when a call was given back, and the machine stays free for the telephones."""

PATIENT_MS = 5000
"""Time limit of a question where a test is not about it: a loaded machine must not look like a daemon that is away."""


def scripted(folder: Path, site: Site, *, more: str = "", time_limit_ms: int = PATIENT_MS, **defines: str) -> Kamailio:
    """A Kamailio that asks this site's daemon; `defines` are those of client/kamailio.cfg, `more` further lines."""
    socket = settings(socket=str(site.socket), time_limit_ms=str(time_limit_ms))
    names = folder / "names"
    (names / "featurekeyd").mkdir(parents=True, exist_ok=True)
    if not (names / "featurekeyd" / "client").is_symlink():
        (names / "featurekeyd" / "client").symlink_to(CHECKOUT / "client")
    defined = {"FEATUREKEY_SCRIPT": f'"{SCRIPT}"', **defines}
    return Kamailio(folder, CONFIGURATION, defined, more=f"{socket}\n{more}", environ={"PYTHONPATH": str(names)})


def settings(**said: str) -> str:
    """The lines that give settings of the script."""
    return "\n".join(f'modparam("pv", "shvset", "featurekey_{name}=s:{value}")' for name, value in said.items())


def dialog_database(path: Path) -> str:
    """An empty database for the dialogs of a Kamailio, made with its own tables; the value of DIALOG_DB.

    It lies in memory, as docs/kamailio.md tells sites, and `path` is a link to it.
    """
    path.symlink_to(_memory() / f"{path.stem}-{time.monotonic_ns()}.sqlite")
    folders = (UNPACKED / "usr/share/kamailio/db_sqlite", Path("/usr/share/kamailio/db_sqlite"))
    folder = next(folder for folder in folders if folder.exists())
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        for name in ("standard-create.sql", "dialog-create.sql"):
            database.executescript((folder / name).read_text(encoding="utf-8"))
    database.close()
    return f'"sqlite://{path}"'


def stored_dialogs(path: Path) -> int:
    """Dialogs in that database which are answered and acknowledged, and have a variable."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (number,) = database.execute(
            "SELECT count(*) FROM dialog JOIN dialog_vars USING (hash_entry, hash_id) WHERE state = 4"
        ).fetchone()
    return int(number)


@functools.cache
def _memory() -> Path:
    """A folder in memory where there is one, until the tests are over."""
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fk-", dir=shared if os.access(shared, os.W_OK) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def rest() -> None:
    """Until no worker rests any more from a daemon that did not answer: what follows is asked again."""
    begun = time.monotonic()
    until(lambda: time.monotonic() > begun + COOL_DOWN, "the rest after a failure is over")


def until(holds: Callable[[], object], what: str, seconds: float = DEADLINE) -> float:
    """Wait until that holds; the seconds it took. Raises RigFailure at the deadline."""
    begun = time.monotonic()
    pause = threading.Event()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise RigFailure(f"not within {seconds} s: {what}")
        pause.wait(PAUSE)
    return time.monotonic() - begun
