"""A license with a term of a month has ended."""

import datetime

from rig_faults import ORDERS, Bench, Doctor, Journal

DOCTOR = Doctor("license_expired", cause="good until", cure="Order a new one")
JOURNAL = Journal("license_expired", cause="term is over", cure="Order a new one")


def stage(bench: Bench) -> None:
    it = bench.licensed(*ORDERS)
    issued = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=40)
    it.vendor.run("issue", it.serial, "receptionist:2", "--term", "month", "--date", issued.isoformat())
    it.site.import_list(it.vendor.license_list(it.serial))
