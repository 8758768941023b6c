"""Somebody has edited the state file, to have more time."""

import sqlite3

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("state_tampered", cause="changed by somebody else", cure="check --request")
JOURNAL = Journal("state_tampered", cause="somebody edited it", cure="check --request")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    site.stop()
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        state.execute("INSERT OR REPLACE INTO meter VALUES ('feature_key_absent', 1)")
    state.close()
    site.start()
