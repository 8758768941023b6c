"""What a support bundle of a real system tells of its calls: nothing, and enough to follow each of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rig

CALLS = ("SECRETCALL1@pbx.example;tag=7", "secret call 2 with blanks", "1700000000.4711", "PLAINSECRET3")
DIALED, PLACED = "01705550123", "+4917055501234"
MAC, ADDRESSES = "00:1b:21:5e:8a:01", ("192.0.2.77", "fe80::21b:21ff:fe5e:8a01", "2001:db8::17")
MADE_UP_KEY = "4Q7K-AB1D-9XYZ-0123-4567-89AB-CDEF-GHJK"
EXTENSION = "ext-2914-anna"

JOURNALCTL = """
import json, re, sys
number = sys.argv[sys.argv.index("-u") + 1]
for line in open({log!r}, encoding="utf-8") if number == "featurekeyd" else ():
    said, _, fields = line.rstrip("\\n").partition(" [")
    entry = {{"__REALTIME_TIMESTAMP": "1767225600000000", "MESSAGE": said, "PRIORITY": "4", "_PID": "7"}}
    found = re.findall(r"([A-Z_]+)=(.*?)(?= [A-Z_]+=|\\]$)", fields)
    print(json.dumps(entry | dict(found) if {native} else entry | {{"MESSAGE": line.rstrip("\\n")}}))
print(json.dumps({{"__REALTIME_TIMESTAMP": "1767225600000000", "MESSAGE": {noise!r}}}))
"""


@pytest.fixture
def licensed(tmp_path: Path) -> Iterator[rig.Licensed]:
    with rig.licensed_site(tmp_path, ("sip-trunk-channels:4", "vcm-channels:30")) as it:
        live(it.site)
        yield it


def live(site: rig.Site) -> None:
    """Have calls do all that is logged with their names."""
    switch = site.client("kamailio")
    for call in CALLS[:3]:  # each on the channel of the one before
        assert switch.acquire(call, "sip-trunk-channels", port="trunk:a", channel="7").allowed
    placed = f"PJSIP/{PLACED}-1"
    assert switch.acquire(CALLS[3], "sip-trunk-channels", port=f"trunk:{PLACED}", channel=placed, dialed=DIALED).allowed
    assert switch.acquire("SECRETCALL5@pbx", "sip-trunk-channels", dialed=DIALED, call_class="emergency").allowed
    assert not switch.acquire("SECRETCALL6@pbx", ["sip-trunk-channels:9"], channel=placed).allowed
    assert site.ctl("release", "--holder", "kamailio", "--key", CALLS[2], "--force", "--yes").status == 0
    assert site.ctl("reserve", "sip-trunk-channels", EXTENSION).status == 0


def bundle(site: rig.Site, folder: Path, *options: str, native: bool) -> str:
    """The bundle, with a journal that has what the daemon has logged, by field or as lines."""
    assert site.daemon is not None
    log = folder / "log"
    log.write_text("\n".join(site.daemon.errors.so_far()) + "\n", encoding="utf-8")
    noise = f"link {MAC} {MAC.replace(':', '-')} {MAC.replace(':', '')} at {' '.join(ADDRESSES)}, key {MADE_UP_KEY}"
    script = folder / "bin" / "journalctl"
    script.parent.mkdir(exist_ok=True)
    code = JOURNALCTL.format(log=str(log), native=native, noise=noise)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$@"\n')
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}"
    command = ("env", f"PATH={path}", rig.program("featurekeyctl"), "--socket", str(site.socket))
    ran = rig.run(*command, *options, "support-bundle", "-", "--yes")
    assert ran.status == 0, ran.err
    return ran.out


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_nothing_of_a_call_a_number_an_address_or_a_key_is_in_any_section(
    licensed: rig.Licensed, tmp_path: Path, *, native: bool, options: tuple[str, ...]
) -> None:
    text = bundle(licensed.site, tmp_path, *options, native=native)
    assert text.count("was still held by call-") >= 2  # in the troubles and in the journal
    planted = [
        *CALLS,
        "SECRETCALL",
        "PLAINSECRET",
        DIALED,
        PLACED.strip("+"),
        EXTENSION,
        "5e:8a:01",
        "5e8a01",
        "5e-8a-01",
    ]
    planted += [*ADDRESSES, MADE_UP_KEY[5:9], *(key[5:14] for key in licensed.keys)]
    assert [each for each in planted if each.lower() in text.lower()] == []


def test_a_call_can_be_followed_by_its_mark_and_a_license_told_from_another(
    licensed: rig.Licensed, tmp_path: Path
) -> None:
    found = json.loads(bundle(licensed.site, tmp_path, "--json", native=True))
    audit = found["replies"]["io.featurekey.Manage.ListAudit"]
    (freed,) = (entry for entry in audit if entry["what"] == "lease_forced")
    (mark,) = (field["value"] for field in freed["fields"] if field["name"] == "LEASE")
    assert re.fullmatch("call-[0-9a-f]{10}", mark)
    assert f"The lease {mark} of kamailio was freed" in freed["message"]
    assert f"LEASE={mark}" in found["journal"]
    licenses = found["replies"]["io.featurekey.Manage.ListLicenses"]
    assert [row["key"][:4] for row in licenses] == [key[:4] for key in licensed.keys]
