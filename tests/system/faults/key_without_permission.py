"""The daemon's user may not open the port of the reader, because the udev rules did not apply to it."""

import os
from pathlib import Path

from rig_faults import OTHER_USER, Bench, Doctor, Journal

DOCTOR = Doctor("key_no_permission", cause="may not open the device", cure="udevadm")
JOURNAL = Journal("feature_key_trouble", cause="may not be opened", cure="No permission: ")


def stage(bench: Bench) -> None:
    bench.needs_root()
    port = Path(bench.licensed().simulator.reader.partition(":")[2]).resolve()
    bench.site.stop()
    os.chown(port, OTHER_USER, OTHER_USER)
    port.chmod(0o600)
    bench.start_with("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    bench.wait_for(lambda it: it["feature_key"]["state"] == "no-permission")
