"""The daemon was stopped."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("daemon_away", cause="The daemon ended", cure="systemctl restart featurekeyd")
JOURNAL = Journal("stopped", cause="Somebody stopped the unit", cure="systemctl start featurekeyd")


def stage(bench: Bench) -> None:
    bench.licensed().site.stop()
