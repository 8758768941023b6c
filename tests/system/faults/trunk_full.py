"""A carrier's trunk carries as many calls as its contract allows."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("port_full", what="1 request", cause="contract", cure="[ceilings]")
JOURNAL = Journal("ceiling_reached", cause="contract", cure="[ceilings]")


def stage(bench: Bench) -> None:
    site = bench.licensed(ceilings={"trunk:carrier-a": 2}, alarms={"off": True}).site
    for number in range(3):
        call = {"holder": "kamailio", "key": f"call-{number}", "port": "trunk:carrier-a"}
        site.call("License.Acquire", {**call, "wants": [{"feature": "sip-trunk-channels"}]})
