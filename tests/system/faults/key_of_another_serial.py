"""Another customer's card is in the reader."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("key_wrong_key", cause="Another Feature Key", cure="Put the right one in", what="licenses are invalid")
JOURNAL = Journal("feature_key_trouble", cause="wrong-key", cure="put the right one in")


def stage(bench: Bench) -> None:
    bench.licensed().simulator.tell(f"card {'0d' * 15}")
    bench.wait_for(lambda it: it["feature_key"]["state"] == "wrong-key")
