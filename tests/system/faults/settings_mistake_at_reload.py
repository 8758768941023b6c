"""A key of the settings is misspelled, and the daemon was reloaded."""

import signal

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("settings_refused", cause="feature_key.raeder", cure="featurekeyd --check")
JOURNAL = Journal("settings_refused", cause="feature_key.raeder", cure="featurekeyd --check")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    site.write_settings(feature_key={"raeder": "auto"})
    assert site.daemon is not None
    site.daemon.signal(signal.SIGHUP)
    site.log.wait("settings_refused")
