"""The file system of the runtime directory is full."""

import contextlib

from rig_faults import Bench, Doctor, Journal

DOCTOR = Doctor("runtime_unusable", cause="No space left", cure="make room")
JOURNAL = Journal("leases_not_recorded", cause="full", cure="Make room")


def stage(bench: Bench) -> None:
    it = bench.licensed()
    runtime = bench.folder / "runtime"  # without the socket, which could not be reached behind the mount
    runtime.mkdir()
    it.site.write_settings(paths={"runtime": str(runtime)})
    disk = bench.start_on_small_disk(runtime, 256)
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    with it.site.connect() as connection:
        for number in range(200):
            call = {"holder": "kamailio", "key": f"call-{number:040d}", "dialed": "112"}
            connection.call("License.Acquire", {**call, "wants": [{"feature": "sip-trunk-channels"}]})
    it.site.log.wait("leases_not_recorded")
