"""The switch's list has calls that it never asked for."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("holder_drifts", cause="lost on the way", cure="sync_drift")
JOURNAL = Journal("sync_drift", cause="nobody had asked for", cure="configuration")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    for number in range(2):
        call = {"key": f"call-{number}", "wants": [{"feature": "sip-trunk-channels"}]}
        site.call("License.Sync", {"holder": "kamailio", "scope": "calls", "leases": [call]})
    site.log.wait("sync_drift")
