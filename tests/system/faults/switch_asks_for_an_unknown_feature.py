"""The switch's configuration has a feature's name misspelled."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("refused_unknown_feature", what="in no catalog", cause="no such feature", cure="Mend the name")
JOURNAL = Journal("unknown_feature", cause="sip-trunk-chanels", cure="Mend the name in the switch's configuration")


def stage(bench: Bench) -> None:
    call = {"holder": "kamailio", "key": "call-1", "wants": [{"feature": "sip-trunk-chanels"}]}
    bench.licensed().site.call("License.Acquire", call)
