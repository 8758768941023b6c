"""A license was typed by hand, and no list of the vendor has confirmed it yet."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor(
    "license_unknown", what="stop counting", cause="Not on the vendor's list yet", cure="featurekeyctl import"
)
JOURNAL = Journal("standing_grace", cause="unlisted_licenses", cure="featurekeyctl import LIST.csv")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    (key,) = it.vendor.issue(it.serial, "receptionist:2")
    it.site.accept(it.site.call("Manage.AddLicense", {"key": key})["finding"])
    bench.wait_for(lambda told: told["standing"] == "grace")
