"""The file of the vendor's public key is damaged."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("vendor_key_bad", what="vendor.pub", cause="damaged", cure="Install the vendor's public key")
JOURNAL = Journal("vendor_key_trouble", cause="vendor.pub is no public key", cure="Install the vendor's package anew")


def stage(bench: Bench) -> None:
    for key in bench.licensed().vendor.public.glob("*.pub"):
        key.write_text("-----BEGIN PUBLIC KEY-----\nMCowBQ\n-----END PUBLIC KEY-----\n")
    bench.site.restart()
