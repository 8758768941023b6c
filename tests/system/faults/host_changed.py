"""The disk runs in another host than the licensed one, which this product is bound to."""

import msgspec
from rig_faults import Bench, Doctor, Journal

import rig
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host

DOCTOR = Doctor("host_is_changed", cause="replaced", cure="featurekeyctl host enroll", what="the system is deactivated")
JOURNAL = Journal("host_changed", cause="Too many of its parts", cure="featurekeyctl host shows what changed")


def stage(bench: Bench) -> None:
    host = write_simulated_host(bench.folder / "host")
    vendor = rig.Vendor(bench.folder / "vendor")
    product = {"catalog": "ayrix", "platform": "server"}
    site = bench.unlicensed(product=product, feature_key={"reader": f"host:{host}"})
    site.start()
    serial = site.certify(vendor)
    vendor.issue(serial, "users:10")
    site.import_list(vendor.license_list(serial))
    request, answer = bench.folder / "request", bench.folder / "answer"
    site.ctl("check", "--request", str(request))
    vendor.run("check", str(request), "--days", "30", "--output", str(answer))
    site.ctl("check", "--import", str(answer))
    bench.wait_for(lambda told: told["standing"] == "licensed")
    nics = (SimulatedNic(name="enp1s0", address="00:1b:21:5e:8a:77", metric=100),)
    other = msgspec.structs.replace(SimulatedHost(), nics=nics, product_uuid="", board_serial="")
    write_simulated_host(host, other)
    site.ctl("host")
    bench.wait_for(lambda told: told["host"] == "changed" and told["standing"] == "grace")
