"""ModemManager has the port of the reader open, and takes its answers."""

import os

from rig_faults import OTHER_USER, Bench, Doctor, Journal

ALONE = True
DOCTOR = Doctor(
    "port_held",
    what="ModemManager",
    cause="take each other's answers",
    cure="mask --now ModemManager",
)
JOURNAL = Journal("feature_key_trouble", cause="garbled", cure="ModemManager")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    port = os.open(it.simulator.reader.partition(":")[2], os.O_RDONLY | os.O_NOCTTY)
    bench.process("ModemManager", user=OTHER_USER, stdin=port)
    os.close(port)
    it.simulator.tell("garble cid")  # what two readers on one line come to
    bench.site.call("Manage.CheckNow")
    bench.wait_for(lambda told: told["feature_key"]["state"] == "garbled")
