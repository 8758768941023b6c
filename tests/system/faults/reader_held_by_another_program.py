"""Another program has the USB key open, such as a tool that was left running."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("key_busy", what="busy", cause="Another program holds the device open", cure="End that program")
JOURNAL = Journal("feature_key_trouble", cause="held by another program", cure="end what else opens the port")


def stage(bench: Bench) -> None:
    simulator = bench.licensed(kind="usb-otp").simulator
    for verb in ("unplug", "hold", "plug"):
        simulator.tell(verb)
    bench.wait_for(lambda it: it["feature_key"]["state"] == "busy")
