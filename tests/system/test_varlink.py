"""An independent Varlink client (the package varlink) asks the daemon what it is, and calls every method.

Each answer is held against the interface as that client's own parser reads it: no member that is not described, none
missing that is not optional, and every value of the type that is stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import varlink
from varlink import scanner

import rig

SERVICE = "org.varlink.service"
LICENSE = "io.featurekey.License"
MANAGE = "io.featurekey.Manage"
WANTS = [{"feature": "sip-trunk-channels", "instances": 1}]
CALL = {"holder": "kamailio", "key": "call-1"}


@pytest.fixture
def client(licensed: rig.Licensed) -> Iterator[Any]:
    with varlink.Client.new_with_address(f"unix:{licensed.site.socket}") as client:
        yield client


def methods(interface: Any) -> set[str]:
    return {name for name, member in interface.members.items() if isinstance(member, scanner._Method)}


def wrong(interface: Any, stated: Any, value: Any, where: str) -> list[str]:
    """Where a value differs from the type that the description states."""
    if isinstance(stated, scanner._CustomType):
        return wrong(interface, interface.members[stated.name].type, value, where)
    if isinstance(stated, scanner._Maybe):
        return [] if value is None else wrong(interface, stated.element_type, value, where)
    if isinstance(stated, scanner._Array):
        return [
            it
            for place, element in enumerate(value)
            for it in wrong(interface, stated.element_type, element, f"{where}[{place}]")
        ]
    if isinstance(stated, scanner._Enum):
        return [] if value in stated.fields else [f"{where} is {value!r}"]
    if isinstance(stated, scanner._Struct):
        return wrong_members(interface, stated.fields, value, where)
    # The parser states a plain type by an example of it: `bool()`, `int()`, `str()`.
    return [] if type(value) is type(stated) else [f"{where} is {value!r}"]


def wrong_members(interface: Any, stated: dict[str, Any], value: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}.{name} is not described" for name in value.keys() - stated.keys()]
    for name, member in stated.items():
        if name in value:
            found += wrong(interface, member, value[name], f"{where}.{name}")
        elif not isinstance(member, scanner._Maybe):
            found.append(f"{where}.{name} is missing")
    return found


def assert_described(
    licensed: rig.Licensed, client: Any, method: str, parameters: dict[str, Any], *, more: bool = False
) -> None:
    """Call a method raw and hold each answer against the description."""
    name, _, member = method.rpartition(".")
    interface = client.get_interface(name)
    site = licensed.site
    replies = site.each(method, parameters) if more else [site.call(method, parameters)]
    for reply in replies:
        assert wrong(interface, interface.get_method(member).out_type, reply, member) == []


def test_the_daemon_says_what_it_is_and_which_interfaces_it_has(client: Any) -> None:
    assert client.get_interfaces() == [SERVICE, LICENSE, MANAGE]
    assert client.info["product"] == "featurekeyd"
    assert client.info["version"]


@pytest.mark.parametrize("interface", [SERVICE, LICENSE, MANAGE])
def test_the_daemon_describes_itself_with_the_shipped_file(licensed: rig.Licensed, interface: str) -> None:
    text = licensed.site.call(f"{SERVICE}.GetInterfaceDescription", {"interface": interface})["description"]
    assert text == files("featurekeyd.daemon").joinpath(f"{interface}.varlink").read_text(encoding="utf-8")


def test_every_method_of_the_license_interface_answers(client: Any) -> None:
    called = set()
    with client.open(LICENSE) as asking:
        assert asking.Acquire(**CALL, wants=WANTS, phase="setup", **{"class": "normal"})["reason"] == "granted"
        assert asking.Explain(**CALL, wants=WANTS)["steps"][0]["step"] == "emergency"
        listed = [{"key": "call-1", "wants": WANTS}]
        assert asking.Sync("kamailio", "calls", listed)["held"] == 1
        assert asking.Status()["standing"] == "licensed"
        assert {row["feature"] for row in asking.ListFeatures()["features"]} >= {"sip-trunk-channels", "vcm-channels"}
        assert [it["lease"]["key"] for it in asking.ListLeases(_more=True)] == ["call-1"]
        assert [it["key"] for it in asking.FindCall("call-1")["leases"]] == ["call-1"]
        assert asking.Release(**CALL) == {"released": True}
        called |= {"Acquire", "Explain", "FindCall", "Sync", "Status", "ListFeatures", "ListLeases", "Release"}
    with client.open(LICENSE) as watching, client.open(LICENSE) as asking:
        events = watching.Watch(True, _more=True)
        assert next(events) == {}
        asking.Acquire(**CALL, wants=WANTS)
        assert next(events)["event"]["key"] == "call-1"
        called.add("Watch")
    assert called == methods(client.get_interface(LICENSE))


def test_every_method_of_the_manage_interface_answers(client: Any, licensed: rig.Licensed) -> None:
    licensed.site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    text = licensed.vendor.certify(licensed.site.call("Manage.Request")["text"])
    (key,) = licensed.vendor.issue(licensed.serial, "softconsole:2")
    with client.open(MANAGE) as managing:
        assert managing.Request()["kind"] == "sd-card"
        assert managing.ImportCertificate(text)["finding"]["verdict"] == "imported"
        assert managing.AddLicense(key)["finding"]["verdict"] == "unlisted"
        assert managing.ImportList(licensed.vendor.license_list(licensed.serial))["list_number"] == 2
        shown = [it["license"]["feature"] for it in managing.ListLicenses(_more=True)]
        assert sorted(shown) == ["sip-trunk-channels", "softconsole", "vcm-channels"]
        assert key in managing.ExportLicenses()["typed"]
        assert managing.RemoveLicense(key)["finding"]["verdict"] == "removed"
        assert managing.CheckNow()["state"] == "present"
        assert managing.ReleaseLease(**CALL) == {"released": True}
        (change,) = managing.WhatIf([{"feature": "softconsole", "instances": 3}])["changes"]
        assert (change["feature"], change["before"], change["after"]) == ("softconsole", 0, 3)
        assert managing.CheckCatalog("id = 1")["mistakes"]
        assert managing.Reserve("sip-trunk-channels", "201", instances=2)["finding"]["verdict"] == "reserved"
        assert [it["reservation"]["key"] for it in managing.ListReservations(_more=True)] == ["201"]
        assert managing.Unreserve("sip-trunk-channels", "201")["finding"]["verdict"] == "removed"
        called = trust(managing, licensed) | state(managing)
    called |= {"ExportLicenses", "WhatIf", "CheckCatalog", "Reserve", "ListReservations", "Unreserve"}
    called |= {"Request", "ImportCertificate", "AddLicense", "ImportList", "ListLicenses", "RemoveLicense"}
    assert called | {"CheckNow", "ReleaseLease"} == methods(client.get_interface(MANAGE))


def trust(managing: Any, licensed: rig.Licensed) -> set[str]:
    """Call every method about trust over time; their names."""
    answer = licensed.vendor.run("check", "-", text=managing.RequestCheck()["text"])
    assert managing.ImportCheck(answer)["finding"]["verdict"] == "checked"
    assert managing.Rescue("4Q7K")["finding"]["verdict"] == "not_a_code"
    assert managing.GetHost()["binds"] is False
    assert managing.EnrollHost()["finding"]["verdict"] in {"already_there", "enrolled", "not_enrolled"}
    assert managing.AnnounceAddress("192.0.2.10")["finding"]["verdict"] == "already_there"
    assert managing.RepairClock()["finding"]["verdict"] == "already_there"
    return {"RequestCheck", "ImportCheck", "Rescue", "GetHost", "EnrollHost", "AnnounceAddress", "RepairClock"}


def state(managing: Any) -> set[str]:
    """Call every method about the state; their names."""
    numbers = [it["entry"]["number"] for it in managing.ListAudit(_more=True)]
    assert numbers[0] == 1
    assert managing.VerifyAudit()["sound"] is True
    assert managing.Restore(managing.Backup()["text"])["finding"]["verdict"] == "restored"
    assert isinstance(managing.History("minute")["uses"], list)
    assert [it["name"] for it in managing.Diagnose()["places"]] == ["state", "runtime", "vendor_keys"]
    return {"ListAudit", "VerifyAudit", "Backup", "Restore", "History", "Diagnose"}


def test_answers_are_as_the_interface_describes_them(client: Any, licensed: rig.Licensed) -> None:
    licensed.simulator.tell("unplug")
    licensed.site.call("Manage.CheckNow")
    for want in ("sip-trunk-channels", "softconsole", "no-such-feature"):
        request = {"holder": "kamailio", "key": f"call-{want}", "wants": [{"feature": want}]}
        assert_described(licensed, client, f"{LICENSE}.Acquire", request)
        assert_described(licensed, client, f"{LICENSE}.Explain", request)
    for method in ("Status", "ListFeatures"):
        assert_described(licensed, client, f"{LICENSE}.{method}", {})
    assert_described(licensed, client, f"{LICENSE}.Sync", {"holder": "asterisk", "scope": "calls", "leases": []})
    assert_described(licensed, client, f"{LICENSE}.Release", CALL)
    assert_described(licensed, client, f"{LICENSE}.ListLeases", {}, more=True)
    for key in ("what", licensed.keys[0], licensed.keys[0][:-1]):
        assert_described(licensed, client, f"{MANAGE}.AddLicense", {"key": key})
    assert_described(licensed, client, f"{MANAGE}.ImportList", {"text": f"what,name\n{licensed.keys[0]}\n"})
    assert_described(licensed, client, f"{MANAGE}.ImportList", {"text": "nothing"})
    assert_described(licensed, client, f"{MANAGE}.ImportCertificate", {"text": "nothing"})
    for method in ("CheckNow", "GetHost", "EnrollHost", "RepairClock"):
        assert_described(licensed, client, f"{MANAGE}.{method}", {})
    assert_described(licensed, client, f"{MANAGE}.Rescue", {"code": "4Q7K"})
    assert_described(licensed, client, f"{MANAGE}.RemoveLicense", {"key": licensed.keys[1]})
    assert_described(licensed, client, f"{MANAGE}.ListLicenses", {}, more=True)
    for feature in ("vcm-channels", "sip-trunk-channels", "no-such-feature"):
        wanted = {"feature": feature, "key": "201", "holder": "asterisk", "instances": 7}
        assert_described(licensed, client, f"{MANAGE}.Reserve", wanted)
    assert_described(licensed, client, f"{MANAGE}.ListReservations", {}, more=True)
    assert_described(licensed, client, f"{LICENSE}.ListFeatures", {})
    waiting = {"holder": "kamailio", "key": "w", "wants": [{"feature": "sip-trunk-channels", "instances": 2}]}
    assert_described(licensed, client, f"{LICENSE}.Acquire", {**waiting, "wait": True, "rank": "dect"})
    assert_described(licensed, client, f"{MANAGE}.Unreserve", {"feature": "sip-trunk-channels", "key": "201"})


def test_events_are_as_the_interface_describes_them(client: Any, licensed: rig.Licensed) -> None:
    described = client.get_interface(LICENSE)
    with licensed.site.watch(decisions=True) as events:
        licensed.site.client("kamailio").acquire("call-1", "softconsole")
        denied = events.wait("decision")
        licensed.simulator.tell("unplug")
        changed = events.wait("feature_key", "absent")
    for event in (denied, changed):
        assert wrong(described, described.members["Event"].type, event, "event") == []
    assert denied["allowed"] is False


def test_a_method_of_many_replies_wants_to_be_called_with_more(licensed: rig.Licensed) -> None:
    for method in ("License.ListLeases", "License.Watch", "Manage.ListLicenses"):
        with pytest.raises(rig.Refused) as refused:
            licensed.site.call(method)
        assert refused.value.error == f"{SERVICE}.ExpectedMore"


def test_a_oneway_call_is_carried_out_and_not_answered(licensed: rig.Licensed) -> None:
    with licensed.site.connect() as connection:
        connection.send("License.Acquire", {**CALL, "wants": WANTS}, oneway=True)
        connection.send("License.Status")
        assert connection.reply()["parameters"]["leases"] == 1


def test_pipelined_calls_are_answered_in_their_order(licensed: rig.Licensed) -> None:
    with licensed.site.connect() as connection:
        for number in range(200):
            connection.send("License.Release", {"holder": "kamailio", "key": f"call-{number}"})
            connection.send("Manage.CheckNow" if number == 100 else "License.Status")
        replies = [connection.reply()["parameters"] for _ in range(400)]
    assert all(reply == {"released": False} for reply in replies[::2])
    assert "reader" in replies[201]
    assert "leases" in replies[203]


def test_a_bound_lease_ends_with_its_connection(licensed: rig.Licensed) -> None:
    with licensed.site.connect() as connection, licensed.site.watch() as events:
        connection.call("License.Acquire", {**CALL, "wants": WANTS, "bound": True})
        assert [lease["bound"] for lease in licensed.site.leases()] == [True]
        connection.close()
        licensed.simulator.tell("unplug")
        events.wait("feature_key")
    assert licensed.site.leases() == []
