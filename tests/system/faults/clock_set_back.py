"""The clock is set back by two hours while the daemon runs."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("clock_set_back", cause="battery", cure="timedatectl")
JOURNAL = Journal("clock_set_back", cause="more than an hour less", cure="clock repair")


def stage(bench: Bench) -> None:
    bench.licensed()
    bench.start_with_clock(0)
    bench.set_clock(-2 / 24)
    bench.wait_for(lambda told: told["clock"] == "set_back")
