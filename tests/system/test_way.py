"""The whole way of a license through real processes: key read, certified, licensed, used and given back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import rig

CARD = "035344535530384780deadbeef0136"
"""What identifies the simulator's example card: the first 15 bytes of its CID."""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def unlicensed(tmp_path: Path) -> Iterator[tuple[rig.Site, rig.Vendor]]:
    vendor = rig.Vendor(tmp_path / "vendor")
    with (
        rig.Simulator.sd_serial(tmp_path / "card") as simulator,
        rig.Site(tmp_path, feature_key={"reader": simulator.reader}) as site,
    ):
        site.start()
        yield site, vendor


def test_a_technician_goes_the_whole_way_with_featurekeyctl(
    unlicensed: tuple[rig.Site, rig.Vendor], tmp_path: Path
) -> None:
    site, vendor = unlicensed
    key = site.ctl("key", "--json")
    # Exit status 1: a key that is not certified is not present yet.
    assert (key.status, key.json()["state"], key.json()["hardware_id"]) == (1, "uncertified", CARD)

    assert site.ctl("request", "--output", str(tmp_path / "request.txt")).status == 0
    certificate = vendor.certify((tmp_path / "request.txt").read_text(encoding="utf-8"))
    imported = site.ctl("certificate", "import", write(tmp_path / "certificate.txt", certificate))
    assert imported.status == 0, imported
    serial = site.status()["serial"]

    (typed,) = vendor.issue(serial, "sip-trunk-channels:8")
    added = site.ctl("add", "-", text=f"{typed.lower()}\n")
    assert added.status == 0, added
    assert site.status()["standing"] == "grace"
    listed = site.ctl("import", write(tmp_path / "list.csv", vendor.license_list(serial)))
    assert listed.status == 0, listed
    assert site.status()["standing"] == "licensed"

    want = ("sip-trunk-channels", "--holder", "kamailio", "--key", "call-1", "--port", "trunk:carrier-a")
    taken = site.ctl("acquire", *want, "--json")
    assert (taken.status, taken.json()["limit"], taken.json()["in_use"]) == (0, 8, 1)
    shown = site.ctl("leases", "--json").json()["leases"]
    assert [(lease["key"], lease["port"]) for lease in shown] == [("call-1", "trunk:carrier-a")]
    assert site.ctl("release", "--holder", "kamailio", "--key", "call-1").out == "released\n"
    assert site.ctl("usage", "--by", "port").out == "nothing is in use\n"


def test_every_tool_says_that_the_key_is_simulated(unlicensed: tuple[rig.Site, rig.Vendor]) -> None:
    site, vendor = unlicensed
    assert "SIMULATED" in site.ctl("status").err
    assert "SIMULATED" in site.log.wait("is ready")
    assert site.status()["simulated"] is True
    assert "Test: yes" in vendor.certify(site.call("Manage.Request")["text"])


def test_before_the_certificate_only_emergency_calls_are_granted(unlicensed: tuple[rig.Site, rig.Vendor]) -> None:
    site, _ = unlicensed
    asterisk = site.client("asterisk")
    denied = asterisk.acquire("call-1", "sip-trunk-channels")
    assert (denied.allowed, denied.reason) == (False, "deactivated")
    assert denied.message is not None
    assert "certificate" in denied.message
    granted = asterisk.acquire("call-2", "sip-trunk-channels", dialed="112")
    assert (granted.allowed, granted.reason, granted.from_daemon) == (True, "emergency", True)


def test_the_python_client_takes_and_gives_back(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    answer = kamailio.acquire("call-1", "sip-trunk-channels", port="trunk:carrier-a", channel="7")
    assert (answer.allowed, answer.reason, answer.limit, answer.in_use) == (True, "granted", 8, 1)
    again = kamailio.acquire("call-1", "sip-trunk-channels", port="trunk:carrier-a", channel="7")
    assert (again.reason, again.in_use) == ("already_held", 1)
    assert kamailio.release("call-1") is True
    assert kamailio.release("call-1") is False
    assert licensed.site.leases() == []


def test_a_call_takes_a_voice_channel_during_set_up_only(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    kamailio.acquire("call-1", "sip-trunk-channels")
    assert licensed.site.feature("vcm-channels")["in_use"] == 1
    kamailio.acquire("call-1", "sip-trunk-channels", phase="established")
    assert licensed.site.feature("vcm-channels")["in_use"] == 0
    assert licensed.site.feature("sip-trunk-channels")["in_use"] == 1


def test_a_usb_key_proves_itself(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, kind="usb-otp") as it:
        seen = it.site.status()["feature_key"]
        assert (seen["state"], seen["kind"], seen["assurance"]) == ("present", "usb-otp", "A2")
        assert "proved itself" in seen["finding"]
        assert it.site.client("kamailio").acquire("call-1", "sip-trunk-channels").reason == "granted"


def test_a_usb_key_with_the_same_number_and_another_secret_is_found_out(tmp_path: Path) -> None:
    forger = rig.Vendor(tmp_path / "forger")
    with rig.Simulator.usb_otp(tmp_path / "forged"):
        forger.program(tmp_path / "forged")
    with rig.licensed_site(tmp_path / "site", kind="usb-otp") as it, it.site.watch() as events:
        it.simulator.tell("unplug")
        events.wait("feature_key", "absent")
        os.replace(tmp_path / "forged", it.simulator.reader.removeprefix("usb-simulator:"))  # noqa: PTH105 - one step
        it.simulator.tell("plug")
        assert "does not prove the right secret" in events.wait("feature_key", "wrong-answer")["message"]
        assert it.site.status()["standing"] == "grace"
        assert it.site.ctl("key").status == 1
