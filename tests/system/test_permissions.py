"""Who may ask and who may manage, by the kernel's word about the other end of the socket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import pytest

import rig

DENIED = "org.varlink.service.PermissionDenied"
ASKER, MANAGER, OWNER = 54322, 54323, 54324
ASKING_GROUP, MANAGING_GROUP = 54330, 54331
MANAGE_METHODS = {
    "AddLicense": {"key": "4Q7K"},
    "ImportList": {"text": ""},
    "RemoveLicense": {"key": "4Q7K"},
    "ImportCertificate": {"text": ""},
    "Request": {},
    "CheckNow": {},
    "ReleaseLease": {"holder": "kamailio", "key": "call-1"},
}


@pytest.fixture(scope="module")
def site(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Site]:
    access = {
        "ask_users": [ASKER, OWNER],
        "ask_groups": [ASKING_GROUP],
        "manage_users": [MANAGER],
        "manage_groups": [MANAGING_GROUP],
    }
    with rig.licensed_site(tmp_path_factory.mktemp("site"), access=access, holders={"asterisk": OWNER}) as it:
        yield it.site


def may(site: rig.Site, user: int, groups: Sequence[int] = ()) -> tuple[bool, bool]:
    """Whether a user may ask, and may manage."""
    with site.connect_as(user, extra_groups=groups) as connection:
        asks = allowed(connection, "License.Status")
        return asks, asks and allowed(connection, "Manage.CheckNow")


def allowed(connection: rig.Varlink, method: str) -> bool:
    connection.send(method)
    reply = connection.reply()
    assert reply.get("error") in {None, DENIED}
    return "error" not in reply


def test_a_stranger_is_told_closed_and_logged(site: rig.Site) -> None:
    with site.connect_as(rig.STRANGER) as connection:
        assert connection.reply() == {"error": DENIED, "parameters": {}}
        assert connection.at_end()
    assert f"uid {rig.STRANGER} " in site.log.wait("this user may not ask")


def test_a_stranger_that_asks_at_once_is_told_just_the_same(site: rig.Site) -> None:
    for _ in range(20):
        with site.connect_as(rig.STRANGER) as connection, pytest.raises(rig.Refused, match=DENIED):
            connection.call("License.Acquire", {"holder": "x", "key": "y", "wants": [{"feature": "vcm-channels"}]})
    assert site.leases(holder="x") == []


@pytest.mark.parametrize(
    ("user", "groups", "rights"),
    [
        (ASKER, (), (True, False)),
        (MANAGER, (), (True, True)),
        (0, (), (True, True)),
        (rig.STRANGER, (), (False, False)),
        (rig.STRANGER, (ASKING_GROUP,), (True, False)),
        (rig.STRANGER, (MANAGING_GROUP,), (True, True)),
        (rig.STRANGER, (*range(60000, 60040), ASKING_GROUP), (True, False)),
        (rig.STRANGER, (ASKING_GROUP + 5,), (False, False)),
    ],
)
def test_user_and_supplementary_groups_decide(
    site: rig.Site, user: int, groups: tuple[int, ...], rights: tuple[bool, bool]
) -> None:
    assert may(site, user, groups) == rights


def test_who_may_only_ask_may_call_no_method_that_manages(site: rig.Site) -> None:
    with site.connect_as(ASKER) as connection:
        for method, parameters in MANAGE_METHODS.items():
            with pytest.raises(rig.Refused, match=DENIED):
                connection.call(f"Manage.{method}", parameters)
        connection.send("Manage.ListLicenses", more=True)
        assert connection.reply()["error"] == DENIED
        assert connection.call("License.Status")["standing"] == "licensed"


def test_who_may_only_ask_may_send_shorter_messages(site: rig.Site) -> None:
    with site.connect_as(ASKER) as connection:
        connection.socket.sendall(b"x" * (512 * 1024) + b"xx")
        reply = connection.reply()
        assert reply["error"] == "io.featurekey.License.MessageTooLarge"
        assert reply["parameters"] == {"limit": 512 * 1024}


def test_a_holder_name_belongs_to_the_user_who_used_it_first(site: rig.Site) -> None:
    call = {"holder": "kamailio", "key": "call-1"}
    wants = [{"feature": "sip-trunk-channels"}]
    with site.connect_as(ASKER) as first, site.connect_as(OWNER) as second:
        assert first.call("License.Acquire", {**call, "wants": wants})["allowed"]
        listed = {"holder": "kamailio", "scope": "calls", "leases": []}
        for method, parameters in (("Acquire", {**call, "wants": wants}), ("Release", call), ("Sync", listed)):
            with pytest.raises(rig.Refused) as refused:
                second.call(f"License.{method}", parameters)
            assert refused.value.error == "io.featurekey.License.HolderBelongsToAnotherUser"
            assert refused.value.parameters == {"holder": "kamailio"}
        assert [lease["key"] for lease in site.leases(holder="kamailio")] == ["call-1"]
        emergency = second.call("License.Acquire", {**call, "wants": wants, "dialed": "112"})
        assert (emergency["allowed"], emergency["reason"]) == (True, "emergency")
        assert first.call("License.Release", call) == {"released": True}


def test_a_holder_name_of_the_settings_is_kept_for_its_user(site: rig.Site) -> None:
    request = {"holder": "asterisk", "key": "call-1", "wants": [{"feature": "sip-trunk-channels"}]}
    with site.connect_as(ASKER) as other, pytest.raises(rig.Refused, match="HolderBelongsToAnotherUser"):
        other.call("License.Acquire", request)
    with site.connect_as(OWNER) as owner:
        assert owner.call("License.Acquire", request)["allowed"]
        assert owner.call("License.Release", {"holder": "asterisk", "key": "call-1"})["released"]


def test_a_holder_name_stays_with_its_user_over_a_restart_while_it_holds_something(site: rig.Site) -> None:
    request = {"holder": "freeswitch", "key": "call-1", "wants": [{"feature": "sip-trunk-channels"}]}
    with site.connect_as(ASKER) as first:
        assert first.call("License.Acquire", request)["allowed"]
    site.kill()
    site.start()
    with site.connect_as(OWNER) as other, pytest.raises(rig.Refused, match="HolderBelongsToAnotherUser"):
        other.call("License.Release", {"holder": "freeswitch", "key": "call-1"})
    with site.connect_as(ASKER) as first:
        assert first.call("License.Release", {"holder": "freeswitch", "key": "call-1"})["released"]


def test_featurekeyctl_tells_a_stranger_what_is_missing(site: rig.Site) -> None:
    if not reachable(site):
        pytest.skip("another user cannot run the programs of this environment (permissions of a folder above it)")
    ran = site.ctl("status", user=rig.STRANGER)
    assert ran.status == 4
    assert "group featurekey" in ran.err
    ran = site.ctl("licenses", user=ASKER)
    assert ran.status == 4
    assert "managing licenses needs root" in ran.err
    assert site.ctl("licenses", user=rig.STRANGER, extra_groups=[MANAGING_GROUP]).status == 0


def reachable(site: rig.Site) -> bool:
    shell = shutil.which("test")
    assert shell, "coreutils are there"
    return rig.run(shell, "-x", rig.program("featurekeyctl"), user=rig.STRANGER).status == 0
