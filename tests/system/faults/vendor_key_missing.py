"""The vendor's public key is gone from the host."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("no_vendor_key", cause="vendor's package is missing", cure="Install the vendor's public key")
JOURNAL = Journal("vendor_key_trouble", cause="no public key of the vendor", cure="Install the vendor's package anew")


def stage(bench: Bench) -> None:
    for key in bench.licensed().vendor.public.glob("*.pub"):
        key.unlink()
    bench.site.restart()
