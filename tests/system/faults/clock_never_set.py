"""The host has booted in 1970, and no time server was reached."""

import time

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("clock_unset", cause="no battery", cure="timedatectl")
JOURNAL = Journal("clock_unset", cause="before this program was made", cure="timedatectl")


def stage(bench: Bench) -> None:
    bench.licensed()
    bench.start_with_clock(-time.time() / 86_400 + 0.01)
    bench.wait_for(lambda told: told["clock"] == "unset")
