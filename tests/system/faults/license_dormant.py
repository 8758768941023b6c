"""A license waits for another one that was not ordered."""

from rig_faults import ORDERS, Bench, Doctor, Journal

DOCTOR = Doctor("license_dormant", what="1 request for", cause="preferred-edition", cure="Order what it waits for")
JOURNAL = Journal("prerequisite_missing", cause="wait for", cure="shows which; order it")


def stage(bench: Bench) -> None:
    site = bench.licensed(*ORDERS, "voicemail-pro-ports:4").site
    site.call("License.Acquire", {"holder": "asterisk", "key": "1", "wants": [{"feature": "voicemail-pro-ports"}]})
