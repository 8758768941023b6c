"""The settings have a mistake, and the daemon was started anew."""

from rig_faults import Bench, Doctor, Journal

import rig

DOCTOR = Doctor("settings_bad", cause="product.platform", cure="featurekeyd --check")
JOURNAL = Journal("not_started", cause="product.platform", cure="featurekeyd --check")

SETTINGS = '[product]\ncatalog = "ip-office"\nplatform = "ip500-v9"\n'


def stage(bench: Bench) -> None:
    ended = bench.on_packaged_host(SETTINGS, "featurekeyd")
    bench.more_log.append(f"- critical not_started: {ended.err}")  # the form that the journal has, of what it printed


def ask(bench: Bench, *more: str) -> rig.Ran:
    return bench.on_packaged_host(SETTINGS, "featurekeyctl", "doctor", *more)
