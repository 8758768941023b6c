"""The card was away for longer than its grace of two hours."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("key_absent", what="Its time is over", cause="not plugged in", cure="Put it in")
JOURNAL = Journal("standing_deactivated", cause="feature_key_absent for longer than", cure="rescue CODE")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    it.site.stop()
    it.simulator.tell("unplug")
    bench.drain("feature_key_absent", 7199.5)
    it.site.start()
    bench.wait_for(lambda told: told["standing"] == "deactivated")
