"""The clock is set a year ahead."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("clock_ahead", cause="Somebody set it", cure="timedatectl")
JOURNAL = Journal("clock_ahead", cause="set ahead", cure="clock repair")


def stage(bench: Bench) -> None:
    bench.licensed()
    bench.start_with_clock(365)
    bench.wait_for(lambda told: told["clock"] == "ahead")
