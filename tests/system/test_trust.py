"""Trust over time on the real daemon: checks, a pulled key and a rescue code, a host that is bound."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import rig
from featurekeyd.daemon.seal import BootMemory
from featurekeyd.daemon.store import Store
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host

REPLACED = (
    SimulatedNic(name="enp1s0", address="00:1b:21:5e:8a:77", metric=100),
    SimulatedNic(name="enp2s0", address="00:1b:21:5e:8a:78"),
)


def wait_for(site: rig.Site, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first Status of which that holds; raises RigFailure at the deadline."""
    deadline = time.monotonic() + rig.DEADLINE
    with site.connect() as connection:
        while time.monotonic() < deadline:
            told = connection.call("License.Status")
            if holds(told):
                return told
    raise rig.RigFailure(f"it never came to that:\n{told}")


def test_a_check_comes_by_itself_and_on_demand(licensed: rig.Licensed) -> None:
    site = licensed.site
    told = wait_for(site, lambda it: it.get("check_passed") is not None)
    assert (told["check_passed"], told["clock"], told["standing"]) == (True, "right", "licensed")
    assert 0 < told["check_due_seconds"] <= 3 * 3600
    ran = site.ctl("check")
    assert (ran.status, "the check passed" in ran.out) == (0, True)
    assert "Last check" in site.ctl("status").out


def test_a_pulled_key_fails_the_check_until_it_is_back(licensed: rig.Licensed) -> None:
    site = licensed.site
    licensed.simulator.tell("unplug")
    wait_for(site, lambda it: it["feature_key"]["state"] == "absent")
    ran = site.ctl("check")
    assert (ran.status, "feature_key: " in ran.out) == (1, True)
    assert site.status()["check_passed"] is False
    licensed.simulator.tell("plug")
    wait_for(site, lambda it: it["feature_key"]["state"] == "present" and it["check_passed"])
    assert site.ctl("check").status == 0


def test_the_vendor_answers_a_request_for_a_check(licensed: rig.Licensed, tmp_path: Path) -> None:
    site, vendor = licensed.site, licensed.vendor
    answer_check(site, vendor, tmp_path)
    again = site.ctl("check", "--import", str(tmp_path / "answer.txt"))
    assert (again.status, again.out.partition(":")[0]) == (1, "older_check")
    site.restart()
    audit = json.loads(site.ctl("audit", "--json").out)["entries"]
    assert "check_answered" in {entry["what"] for entry in audit}


def test_a_rescue_code_is_taken_once_and_outlives_a_restart(licensed: rig.Licensed) -> None:
    site = licensed.site
    licensed.simulator.tell("unplug")
    wait_for(site, lambda it: it["standing"] == "grace")
    code = licensed.vendor.run("rescue", licensed.serial).splitlines()[0]
    ran = site.ctl("rescue", text=f"{code.lower()}\n")
    assert (ran.status, ran.out.partition(":")[0]) == (0, "rescued")
    again = site.ctl("rescue", code)
    assert (again.status, again.out.partition(":")[0]) == (1, "already_used")
    site.restart()
    told = site.status()
    assert 6.9 * 86_400 < told["rescue_seconds_left"] <= 7 * 86_400
    assert "rescue" in {grace["cause"] for grace in told["grace"]}
    assert code not in str(site.log)
    assert code not in site.ctl("audit").out


def test_a_key_that_is_away_for_longer_than_its_grace_deactivates_and_a_rescue_code_opens(
    licensed: rig.Licensed,
) -> None:
    site = licensed.site
    licensed.simulator.tell("unplug")
    wait_for(site, lambda it: it["standing"] == "grace")
    site.stop()
    spend_the_grace(site)
    site.start()
    assert wait_for(site, lambda it: it["standing"] == "deactivated")["grace"] is not None
    refused = site.ctl("reserve", "sip-trunk-channels", "201")
    assert (refused.status, "the system is deactivated" in refused.err) == (5, True)
    kamailio = site.client("kamailio")
    assert not kamailio.acquire("call-1", "sip-trunk-channels").allowed
    code = licensed.vendor.run("rescue", licensed.serial).splitlines()[0]
    assert site.ctl("rescue", code).status == 0
    assert site.status()["standing"] == "grace"
    assert kamailio.acquire("call-2", "sip-trunk-channels").allowed


def spend_the_grace(site: rig.Site) -> None:
    """Let the two hours of a missing key be over, as if the daemon had stored it so."""
    machine_id = Path("/etc/machine-id")
    store = Store(
        site.state / "featurekeyd.db",
        machine_id=machine_id.read_text().strip() if machine_id.exists() else "",
        memory=BootMemory(site.runtime / "state-seal", Path("/proc/sys/kernel/random/boot_id").read_text().strip()),
    )
    store.save_meters({"feature_key_absent": 7200.0})
    store.close()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return write_simulated_host(tmp_path / "host")


def test_a_bound_host_is_enrolled_and_a_replaced_network_card_is_told(tmp_path: Path, host: Path) -> None:
    vendor = rig.Vendor(tmp_path / "vendor")
    product = {"catalog": "ayrix", "platform": "server"}
    with rig.Site(tmp_path, product=product, feature_key={"reader": f"host:{host}"}) as site:
        site.start()
        serial = site.certify(vendor)
        site.import_list(list_of(vendor, serial))
        (grace,) = site.status()["grace"]
        assert (grace["cause"], "check --request" in grace["remedy"]) == ("no_check", True)
        answer_check(site, vendor, tmp_path)
        assert site.status()["standing"] == "licensed"
        shown = site.ctl("host")
        assert (shown.status, "permanent-addresses" in shown.out, "SIMULATED" in shown.out) == (0, True, True)
        assert site.status()["host"] == "same"
        supposed = site.ctl("what-if", "--without-host-part", "enp2s0")
        assert (supposed.status, supposed.out.startswith("host same")) == (0, True)

        write_simulated_host(host, msgspec.structs.replace(SimulatedHost(), nics=REPLACED))
        found = json.loads(site.ctl("host", "--json").out)
        changed = {part["name"] for part in found["parts"] if part["state"] == "changed"}
        assert (found["verdict"], changed) == ("same", {"permanent-addresses"})
        assert wait_for(site, lambda it: it["feature_key"]["state"] == "present")["standing"] == "licensed"

        write_simulated_host(
            host, msgspec.structs.replace(SimulatedHost(), nics=REPLACED, product_uuid="", board_serial="")
        )
        assert site.ctl("host").status == 1
        assert wait_for(site, lambda it: it["standing"] == "grace")["host"] == "changed"
        ran = site.ctl("host", "enroll")
        assert (ran.status, ran.out.partition(":")[0]) == (0, "enrolled")
        assert wait_for(site, lambda it: it["host"] == "same")
        site.restart()
        assert site.ctl("host").status == 0


def answer_check(site: rig.Site, vendor: rig.Vendor, place: Path) -> None:
    """Let the vendor answer a request for a check."""
    request, answer = place / "check.txt", place / "answer.txt"
    assert site.ctl("check", "--request", str(request)).status == 0
    vendor.run("check", str(request), "--days", "30", "--output", str(answer))
    ran = site.ctl("check", "--import", str(answer))
    assert (ran.status, ran.out.partition(":")[0]) == (0, "checked")


def list_of(vendor: rig.Vendor, serial: str) -> str:
    """A license list for some users."""
    vendor.issue(serial, "users:10")
    return vendor.license_list(serial)
