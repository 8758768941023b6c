"""The card is pulled out of its reader."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("key_absent", cause="not plugged in", cure="Put it in", what="the system is deactivated")
JOURNAL = Journal("feature_key_trouble", cause="absent", cure="put it in, firmly")


def stage(bench: Bench) -> None:
    bench.licensed().simulator.tell("unplug")
    bench.wait_for(lambda it: it["feature_key"]["state"] == "absent")
