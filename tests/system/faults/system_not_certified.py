"""A new system whose Feature Key was never certified."""

from rig_faults import Bench, Doctor, Journal

import rig

DOCTOR = Doctor("not_certified", cause="never licensed", cure="featurekeyctl request")
JOURNAL = Journal("started", cause="No certificate is imported yet", cure="featurekeyctl request")


def stage(bench: Bench) -> None:
    rig.Vendor(bench.folder / "vendor")
    simulator = bench.enter(rig.Simulator.sd_serial(bench.folder / "card"))
    bench.unlicensed(feature_key={"reader": simulator.reader}).start()
    bench.wait_for(lambda it: it["feature_key"]["state"] == "uncertified")
