"""More calls came at once than are licensed."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("requests_refused", what="4 requests", cause="At most 8 were in use", cure="Order 4 more")
JOURNAL = Journal("limit_reached", cause="8 of 8", cure="order more")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    for number in range(12):
        wants = [{"feature": "sip-trunk-channels"}]
        site.call("License.Acquire", {"holder": "kamailio", "key": f"call-{number}", "wants": wants})
