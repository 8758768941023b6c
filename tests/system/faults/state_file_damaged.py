"""The state file is no database any more, as after a fault of the disk."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("state_set_aside", cause="set aside", cure="featurekeyctl restore")
JOURNAL = Journal("state_set_aside", cause="the disk", cure="featurekeyctl restore")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    site.stop()
    (site.state / "featurekeyd.db").write_bytes(b"no database" * 1000)
    site.start()
