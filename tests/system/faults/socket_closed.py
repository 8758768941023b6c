"""Somebody has closed the socket to all but root."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("socket_closed", cause="mode is 0600", cure="chmod 666")
JOURNAL = Journal("socket_trouble", cause="mode 0600", cure="chmod 666")


def stage(bench: Bench) -> None:
    site = bench.licensed().site
    site.socket.chmod(0o600)
    site.log.wait("error socket_trouble")
