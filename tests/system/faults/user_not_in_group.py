"""The switch runs as a user who is not in the group featurekey."""

import contextlib

from rig_faults import SWITCH_USER, Bench, Doctor, Journal

import rig

ALONE = True
DOCTOR = Doctor("user_not_in_group", cause="turns away", cure="adduser kamailio featurekey")
JOURNAL = Journal("client_refused", cause="may not ask", cure="adduser")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    bench.needs_mounts()
    bench.process("kamailio", user=SWITCH_USER)
    with site.connect_as(SWITCH_USER) as refused, contextlib.suppress(rig.Refused):
        refused.call("License.Status")
    site.log.wait("client_refused")
