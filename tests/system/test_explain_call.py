"""A technician asks how a call stands, of the real daemon: by Call-ID, whole key or uniqueid, and after its end."""

from __future__ import annotations

import pytest

import rig

TRUNKS = "sip-trunk-channels"
CALL = "a84b4c76e66710@pc33.example.com"


@pytest.mark.parametrize("name", [CALL, f"{CALL};tag=314"])
def test_a_call_is_explained_from_its_set_up_to_its_end(licensed: rig.Licensed, name: str) -> None:
    site = licensed.site
    kamailio = site.client("kamailio")
    kamailio.acquire(f"{CALL};tag=314", TRUNKS, port="trunk:carrier-a", channel="7")
    ran = site.ctl("explain", "--call", name, "--json")
    (call,) = ran.json()["calls"]
    assert (call["phase"], "given_back" in call, call["port"]) == ("setup", False, "trunk:carrier-a")
    assert {row["feature"]: (row["in_use"], row["limit"]) for row in call["features"]} == {
        TRUNKS: (1, 8),
        "vcm-channels": (1, 34),
    }
    kamailio.acquire(f"{CALL};tag=314", TRUNKS, phase="established")
    ran = site.ctl("explain", "--call", name)
    assert ran.status == 0
    assert "Phase       established" in ran.out
    assert "Given back  vcm-channels:1" in ran.out
    key = licensed.keys[0]
    assert f"license {key[:4]}…{key[-4:]} (8)" in ran.out
    kamailio.release(f"{CALL};tag=314")
    ran = site.ctl("explain", "--call", name)
    assert (ran.status, "was given back 0 s ago" in ran.out) == (1, True)


def test_calls_of_two_switches_and_an_emergency_call_are_told_apart(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.client("kamailio").acquire(f"{CALL};tag=1", TRUNKS)
    site.client("asterisk").acquire(f"{CALL};tag=2", TRUNKS)
    site.client("asterisk").acquire("1700000000.12", TRUNKS, dialed="112")
    assert site.ctl("explain", "--call", CALL).out.startswith("2 calls go by this name\n")
    narrowed = site.ctl("explain", "--call", CALL, "--holder", "asterisk", "--json").json()["calls"]
    assert [call["holder"] for call in narrowed] == ["asterisk"]
    emergency = site.ctl("explain", "--call", "1700000000.12")
    assert "emergency: granted before every other test" in emergency.out
    assert site.ctl("explain", "--call", "1700000000").status == 1


def test_after_a_restart_a_call_is_still_there_and_an_ended_one_forgotten(licensed: rig.Licensed) -> None:
    site = licensed.site
    kamailio = site.client("kamailio")
    for key in ("a;tag=1", "b;tag=1"):
        kamailio.acquire(key, TRUNKS, phase="established")
    kamailio.release("b;tag=1")
    site.restart()
    assert "Phase       established" in site.ctl("explain", "--call", "a").out
    ran = site.ctl("explain", "--call", "b")
    assert (ran.status, "none was given back lately" in ran.out) == (1, True)


def test_who_may_only_ask_sees_no_licenses(shared: rig.Licensed, as_root: None) -> None:
    shared.site.client("kamailio").acquire("stranger;tag=1", TRUNKS)
    with shared.site.connect_as(rig.STRANGER) as connection:
        found = connection.call("License.FindCall", {"call": "stranger"})
        assert [lease["key"] for lease in found["leases"]] == ["stranger;tag=1"]
        with pytest.raises(rig.Refused, match="PermissionDenied"):
            list(connection.each("Manage.ListLicenses"))
