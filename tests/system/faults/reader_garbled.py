"""The reader answers nonsense, as with a bad contact."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("key_garbled", cause="bad contact", cure="another cable")
JOURNAL = Journal("feature_key_trouble", cause="garbled", cure="another cable, port or reader")


def stage(bench: Bench) -> None:
    bench.licensed().simulator.tell("garble cid")
    bench.site.call("Manage.CheckNow")
    bench.wait_for(lambda it: it["feature_key"]["state"] == "garbled")
