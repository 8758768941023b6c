"""The library for cryptography was replaced by one that takes every signature."""

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("self_test_failed", cause="Ed25519", cure="apt install --reinstall")
JOURNAL = Journal("self_test_failed", cause="library was replaced", cure="apt install --reinstall")

REPLACED = """
from cryptography.hazmat.primitives.asymmetric import ed25519


class Gullible:
    def __init__(self, raw):
        self._raw = raw

    def verify(self, signature, data):
        pass


ed25519.Ed25519PublicKey = type("Ed25519PublicKey", (), {"from_public_bytes": staticmethod(Gullible)})
"""


def stage(bench: Bench) -> None:
    bench.licensed()
    folder = bench.folder / "replaced"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(REPLACED)
    bench.start_with(PYTHONPATH=str(folder))
