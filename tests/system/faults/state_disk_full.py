"""The file system of the state directory is full."""

import contextlib
from pathlib import Path

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("state_unusable", cause="No space left", cure="make room")
JOURNAL = Journal("state_not_stored", cause="full", cure="Make room")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    disk = bench.start_on_small_disk(it.site.state, 2048)
    fill(disk)
    (key,) = it.vendor.issue(it.serial, "receptionist:2")
    bench.ctl("add", key)
    fill(disk)  # what the state file gave back when it could not be written


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
