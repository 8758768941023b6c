"""A switch that sends its list every second has stopped."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("holder_silent", what="kamailio has been silent", cause="stopped or hung", cure="Is it running")
JOURNAL = Journal("holder_silent", cause="stopped, hung", cure="Is it running")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    call = {"key": "call-1", "wants": [{"feature": "sip-trunk-channels"}]}
    site.call("License.Acquire", {"holder": "kamailio", **call})
    site.call("License.Sync", {"holder": "kamailio", "scope": "calls", "leases": [call], "ttl_seconds": 1})
    site.log.wait("warning holder_silent")
