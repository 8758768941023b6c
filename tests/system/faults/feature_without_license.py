"""The switch uses a feature for which no license was ordered."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("refused_not_licensed", what="1 request for Receptionist", cause="no license for it", cure="Order one")
JOURNAL = Journal("not_licensed", cause="no license for receptionist", cure="Order one")


def stage(bench: Bench) -> None:
    call = {"holder": "asterisk", "key": "201", "wants": [{"feature": "receptionist"}]}
    bench.licensed().site.call("License.Acquire", call)
