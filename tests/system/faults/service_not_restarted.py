"""The switch's user was put into the group featurekey, and the switch was not restarted since."""

import contextlib

from rig_faults import SWITCH_USER, Bench, Doctor, Journal

import rig

ALONE = True
DOCTOR = Doctor("service_not_restarted", cause="after its service was started", cure="systemctl restart kamailio")
JOURNAL = Journal("client_refused", cause="may not ask", cure="groups count from its next start")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    bench.needs_mounts()
    bench.members["featurekey"] = "kamailio"
    bench.process("kamailio", user=SWITCH_USER)
    with site.connect_as(SWITCH_USER) as refused, contextlib.suppress(rig.Refused):
        refused.call("License.Status")
    site.log.wait("client_refused")
