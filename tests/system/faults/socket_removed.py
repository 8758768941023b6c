"""Somebody has removed the socket, as by cleaning /run."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("socket_removed", cause="Somebody removed it", cure="systemctl restart featurekeyd.socket")
JOURNAL = Journal("socket_trouble", cause="somebody removed it", cure="systemctl restart featurekeyd.socket")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    site.socket.unlink()
    site.log.wait("error socket_trouble")
