"""A license was removed while its channels were in use."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("over_use", cause="limit fell", cure="featurekeyctl leases")
JOURNAL = Journal("over_use_began", cause="limit fell", cure="featurekeyctl leases")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    for number in range(5):
        wants = [{"feature": "sip-trunk-channels"}]
        it.site.call("License.Acquire", {"holder": "kamailio", "key": f"call-{number}", "wants": wants})
    it.site.accept(it.site.call("Manage.RemoveLicense", {"key": it.keys[1]})["finding"])
    bench.wait_for(lambda told: told["over_use"])
