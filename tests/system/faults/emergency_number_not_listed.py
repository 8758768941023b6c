"""A switch marks calls as emergencies whose number the settings do not list."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("emergency_claims", cause="lack a number", cure="[emergency]")
JOURNAL = Journal("emergency_claim", cause="do not list", cure="[emergency] numbers")


def stage(bench: Bench) -> None:
    call = {"holder": "kamailio", "key": "call-1", "wants": [{"feature": "sip-trunk-channels"}]}
    bench.licensed().site.call("License.Acquire", {**call, "dialed": "110", "class": "emergency"})
