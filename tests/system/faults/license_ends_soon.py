"""A license with a term of a month ends in a few days."""

import datetime

from rig_faults import ORDERS, Bench, Doctor, Journal

DOCTOR = Doctor("license_ends_soon", cause="term", cure="Order another one in time")
JOURNAL = Journal("license_expires_soon", cause="comes to its end", cure="Order a new one in time")


def stage(bench: Bench) -> None:
    it = bench.licensed(*ORDERS)
    issued = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=26)
    it.vendor.run("issue", it.serial, "receptionist:2", "--term", "month", "--date", issued.isoformat())
    it.site.import_list(it.vendor.license_list(it.serial))
