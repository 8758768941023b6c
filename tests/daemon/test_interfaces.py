"""The interface files are the source of truth: what the code takes and what it answers is held against them.

The files are read with the `varlink` package, which is none of ours.
"""

from __future__ import annotations

import json
import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from varlink.scanner import Interface

from featurekeyd.daemon import backup, limits
from featurekeyd.daemon.service_info import INTERFACES, description
from featurekeyd.daemon.wire import LICENSE, MANAGE, SERVICE
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.findings import Verdict
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass, Phase
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from tests.daemon.conftest import House

PARSED = {name: Interface(description(name)) for name in INTERFACES}
MEMBERS = {f"{interface}.{name}": it for interface in INTERFACES for name, it in PARSED[interface].members.items()}


def sort(member: object) -> str:
    """Alias, Method or Error."""
    return type(member).__name__.strip("_")


METHODS = {name: it for name, it in MEMBERS.items() if sort(it) == "Method"}
ERRORS = {name: it for name, it in MEMBERS.items() if sort(it) == "Error"}


def resolved(type_: Any, interface: str) -> Any:
    return MEMBERS[f"{interface}.{type_.name}"].type if sort(type_) == "CustomType" else type_


# What the code takes


def differences(ours: msgspec.inspect.Type, theirs: Any, interface: str, path: str) -> list[str]:
    """Where a type of the code and one of an interface file differ."""
    theirs = resolved(theirs, interface)
    if isinstance(ours, msgspec.inspect.UnionType):
        (ours,) = [member for member in ours.types if not isinstance(member, msgspec.inspect.NoneType)]
    if isinstance(ours, msgspec.inspect.StructType):
        return struct_differences(ours, theirs, interface, path)
    if isinstance(ours, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        return differences(ours.item_type, theirs.element_type, interface, f"{path}[]")
    if isinstance(ours, msgspec.inspect.EnumType):
        same = {str(member.value) for member in ours.cls} == set(theirs.fields)
        return [] if same else [f"{path}: other members"]
    plain = {msgspec.inspect.StrType: str, msgspec.inspect.IntType: int, msgspec.inspect.BoolType: bool}
    return [] if isinstance(theirs, plain[type(ours)]) else [f"{path}: {ours} is not {theirs!r}"]


def struct_differences(ours: msgspec.inspect.StructType, theirs: Any, interface: str, path: str) -> list[str]:
    fields = {field.encode_name: field for field in ours.fields}
    if set(fields) != set(theirs.fields):
        return [f"{path}: {sorted(set(fields) ^ set(theirs.fields))} is on one side only"]
    found = []
    for name, field in fields.items():
        said = theirs.fields[name]
        optional = sort(said) == "Maybe"
        if optional is field.required:
            found.append(f"{path}.{name}: optional on one side only")
        found += differences(field.type, said.element_type if optional else said, interface, f"{path}.{name}")
    return found


def test_every_method_of_the_files_is_there_and_no_other(house: House) -> None:
    assert set(house.server.methods) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_the_file_says(name: str, house: House) -> None:
    interface, _, _ = name.rpartition(".")
    ours = msgspec.inspect.type_info(house.server.methods[name].parameters.type)
    assert isinstance(ours, msgspec.inspect.StructType)
    assert struct_differences(ours, METHODS[name].in_type, interface, name) == []
    assert ours.cls.__struct_config__.forbid_unknown_fields


def with_nulls(type_: Any, interface: str) -> Any:
    """A value of a type of a file in which every optional member is null."""
    type_ = resolved(type_, interface)
    if sort(type_) == "Maybe":
        return None
    if sort(type_) == "Array":
        return [with_nulls(type_.element_type, interface)]
    if sort(type_) == "Enum":
        return next(iter(type_.fields))
    if sort(type_) == "Struct":
        return {name: with_nulls(member, interface) for name, member in type_.fields.items()}
    return {str: "x", int: 1, bool: True}[type(type_)]


def without_nulls(value: Any) -> Any:
    """The same with its nulls left out."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return value


ONE_OF_TWO: dict[str, dict[str, Any]] = {f"{LICENSE}.{name}": {"wants": []} for name in ("Acquire", "Explain")}
"""Where one of two optional members must be there."""


@pytest.mark.parametrize("name", METHODS)
def test_an_optional_member_may_be_left_out_or_null_and_that_means_the_same(name: str, house: House) -> None:
    parameters = with_nulls(METHODS[name].in_type, name.rpartition(".")[0]) | ONE_OF_TWO.get(name, {})
    decode = house.server.methods[name].parameters.decode
    assert decode(json.dumps(parameters)) == decode(json.dumps(without_nulls(parameters)))


@pytest.mark.parametrize("enum", [Reason, CallClass, Phase, Scope, Standing, Verdict])
def test_an_enumeration_has_the_members_that_the_file_names(enum: Any) -> None:
    interface = MANAGE if enum is Verdict else LICENSE
    assert list(MEMBERS[f"{interface}.{enum.__name__}"].type.fields) == [str(member) for member in enum]


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_declaration_has_a_comment(interface: str) -> None:
    assert [name for name, it in PARSED[interface].members.items() if not it.doc.strip()] == []


# What it answers


def misfits(value: object, type_: Any, interface: str, path: str) -> list[str]:
    """Where a value is not what an interface file declares."""
    type_ = resolved(type_, interface)
    kind = sort(type_)
    if kind == "Maybe":
        # What is not known is left out, never null.
        return misfits(value, type_.element_type, interface, path)
    if kind == "Array":
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no array"]
        inside = (misfits(item, type_.element_type, interface, f"{path}[]") for item in value)
        return [it for found in inside for it in found]
    if kind == "Enum":
        return [] if value in type_.fields else [f"{path}: {value!r} is no member"]
    if kind == "Struct":
        return struct_misfits(value, type_, interface, path)
    return [] if type(value) is type(type_) else [f"{path}: {value!r} is no {kind}"]


def struct_misfits(value: object, type_: Any, interface: str, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no object"]
    missing = [name for name, member in type_.fields.items() if sort(member) != "Maybe" and name not in value]
    unknown = value.keys() - type_.fields.keys()
    inside = [
        it
        for name in value.keys() & type_.fields.keys()
        for it in misfits(value[name], type_.fields[name], interface, f"{path}.{name}")
    ]
    return [*(f"{path}: no {name}" for name in missing), *(f"{path}: {name} is unknown" for name in unknown), *inside]


def test_the_checker_finds_what_does_not_fit() -> None:
    want = MEMBERS[f"{LICENSE}.Want"].type
    assert misfits({"feature": "x", "instances": 3}, want, LICENSE, "") == []
    assert misfits({"feature": "x"}, want, LICENSE, "") == []
    wrongs: tuple[object, ...] = (
        {},
        {"feature": 1},
        {"feature": "x", "instances": None},
        {"feature": "x", "y": 1},
        [],
        "x",
    )
    for wrong in wrongs:
        assert misfits(wrong, want, LICENSE, "") != []
    assert misfits("never", MEMBERS[f"{LICENSE}.Reason"].type, LICENSE, "") != []
    assert misfits(True, 0, LICENSE, "") != []


class Checked:
    """Calls methods, and holds every reply against the file."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.called: set[str] = set()
        self.errors: set[str] = set()

    def __call__(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The parameters of every reply."""
        self.called.add(name)
        replies = self.house.ask(name, more=self.house.server.methods[name].more, **parameters)
        return [self.held(reply, METHODS[name].out_type, name) for reply in replies]

    def held(self, reply: dict[str, Any], type_: Any, name: str) -> dict[str, Any]:
        error = reply.get("error")
        if error is not None:
            self.errors.add(error)
            name, type_ = error, ERRORS[error].type
        assert misfits(reply["parameters"], type_, name.rpartition(".")[0], name) == []
        parameters: dict[str, Any] = reply["parameters"]
        return parameters


@pytest.fixture
def checked(house: House) -> Checked:
    return Checked(house)


def test_every_reply_of_every_method_is_as_the_file_says(checked: Checked) -> None:
    house, vendor = checked.house, checked.house.vendor
    site = house.site
    describe_itself(checked)
    checked(f"{LICENSE}.Status")
    checked(f"{MANAGE}.Request")
    house.enforcer.see(house.seen(), house.clock())
    checked(f"{MANAGE}.Request")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "look", never_waits)
        patch.setattr(site.trusting, "_look", never_waits)
        manage(checked, vendor.certificate(), vendor.list_of(vendor.key(1, 1), vendor.key(2, 2)), vendor.key(2, 3).text)
    ask(checked)
    house.enforcer.see(house.seen("absent"), house.clock())
    (status,) = checked(f"{LICENSE}.Status")
    assert status["standing"] == "grace"
    (answer,) = checked(f"{LICENSE}.Acquire", **house.acquire("late")["parameters"])
    assert answer["grace"][0]["cause"] == "feature_key_absent"
    assert checked.called == set(METHODS)


async def never_waits() -> None:
    """In place of a look at the Feature Key."""


def describe_itself(checked: Checked) -> None:
    (info,) = checked(f"{SERVICE}.GetInfo")
    for name in info["interfaces"]:
        (said,) = checked(f"{SERVICE}.GetInterfaceDescription", interface=name)
        assert Interface(said["description"]).name == name
    assert checked(f"{SERVICE}.GetInterfaceDescription", interface="a.b") == [{"interface": "a.b"}]


def manage(checked: Checked, certificate: str, license_list: str, key: str) -> None:
    assert checked(f"{MANAGE}.ListLicenses") == [{}]
    for text in ("no certificate", certificate):
        checked(f"{MANAGE}.ImportCertificate", text=text)
    for text in ("", "no,key\n", license_list, license_list, key):
        checked(f"{MANAGE}.ImportList", text=text)
    checked(f"{MANAGE}.ImportCertificate", text=certificate + license_list)
    checked(f"{MANAGE}.ImportList", text=key, dry_run=True, all_or_nothing=True)
    for text in (key, key[:-1], "4", "0" * 32, key.replace(key[3], "Z" if key[3] != "Z" else "Y", 1)):
        checked(f"{MANAGE}.AddLicense", key=text)
    assert len(checked(f"{MANAGE}.ListLicenses")) == 3
    (exported,) = checked(f"{MANAGE}.ExportLicenses")
    assert license_list in exported["license_list"]  # the text as it came, with what stood around it
    assert exported["typed"].startswith(f"key,name\n{key},")
    for text in (key, key, "0"):
        checked(f"{MANAGE}.RemoveLicense", key=text)
    trust(checked)
    reserve(checked)
    checked(f"{MANAGE}.ReleaseLease", holder="nobody", key="none")
    rehearse(checked, key)
    keep(checked)


def keep(checked: Checked) -> None:
    checked(f"{MANAGE}.Diagnose")
    site = checked.house.site
    site.measuring.close(site.clock())
    assert checked(f"{MANAGE}.History", step="minute")[0]["uses"]
    listed = checked(f"{MANAGE}.ListAudit")
    assert len(listed) == checked(f"{MANAGE}.VerifyAudit")[0]["entries"] > 3
    assert checked(f"{MANAGE}.ListAudit", after=len(listed)) == [{}]
    (taken,) = checked(f"{MANAGE}.Backup")
    for text in ("", taken["text"], taken["text"].replace("Serial: 1", "Serial: 2")):
        checked(f"{MANAGE}.Restore", text=text, dry_run=True)
    assert checked(f"{MANAGE}.Restore", text=taken["text"])[0]["finding"]["accepted"]


def trust(checked: Checked) -> None:
    """Everything about checks, host, clock and rescue codes; tests/daemon/test_trust_service.py says what it does."""
    (found,) = checked(f"{MANAGE}.CheckNow")
    assert [it["item"] for it in found["findings"]][:2] == ["feature_key", "answer"]
    assert "Nonce: " in checked(f"{MANAGE}.RequestCheck")[0]["text"]
    checked(f"{MANAGE}.ImportCheck", text="no answer")
    checked(f"{MANAGE}.Rescue", code="4Q7K")
    (host,) = checked(f"{MANAGE}.GetHost")
    assert len(host["parts"]) == 8
    checked(f"{MANAGE}.EnrollHost")
    checked(f"{MANAGE}.EnrollHost", permit="no permit")
    checked(f"{MANAGE}.AnnounceAddress", address="192.0.2.10")
    checked(f"{MANAGE}.RepairClock")
    checked(f"{MANAGE}.WhatIf", without_host_part="machine-id")
    checked(f"{MANAGE}.WhatIf", without_host_part="no such part")


def rehearse(checked: Checked, key: str) -> None:
    orders = [{"feature": "trunk", "instances": 4}, {"feature": "recorder"}]
    (said,) = checked(f"{MANAGE}.WhatIf", add=orders, platform="large", release="9.1")
    assert said["changes"], said
    (said,) = checked(f"{MANAGE}.WhatIf", add=[{"feature": "nothing"}], remove=[key], platform="none", release="x")
    assert (said["changes"], len(said["findings"])) == ([], 4)
    assert checked(f"{MANAGE}.WhatIf") == [{"standing": "licensed", "changes": [], "findings": []}]
    good = (files("featurekeyd.policy") / "catalogs" / "ip-office.toml").read_text()
    assert checked(f"{MANAGE}.CheckCatalog", text=good)[0]["mistakes"] == []
    (said,) = checked(f"{MANAGE}.CheckCatalog", text=good.replace("code = 1\n", "code = 'one'\n", 1))
    assert said["mistakes"][0]["where"].endswith(".code")


def reserve(checked: Checked) -> None:
    assert checked(f"{MANAGE}.ListReservations") == [{}]
    for wanted in (
        {"feature": "trunk", "key": "201"},
        {"feature": "trunk", "key": "201"},
        {"feature": "trunk", "key": "202", "holder": "asterisk", "instances": 99},
        {"feature": "edition", "key": "201"},
        {"feature": "moon", "key": "201"},
    ):
        checked(f"{MANAGE}.Reserve", **wanted)
    assert [it["reservation"]["key"] for it in checked(f"{MANAGE}.ListReservations")] == ["201"]
    assert [it.get("reserved") for it in checked(f"{LICENSE}.ListFeatures")[0]["features"]] == [None, 1, None, None]
    for key in ("201", "201"):
        checked(f"{MANAGE}.Unreserve", feature="trunk", key=key)


def ask(checked: Checked) -> None:
    house = checked.house
    assert checked(f"{LICENSE}.ListLeases") == [{}]
    for wanted in (
        house.acquire("a", port="trunk:a", channel="1"),
        house.acquire("a"),
        house.acquire("b", dialed="112"),
        house.acquire("c", **{"class": "callback"}),
        house.acquire("d", feature="recorder"),
        house.acquire("d", feature="nothing"),
        house.acquire("e", wants=[{"feature": "trunk", "instances": 9}]),
        house.acquire("f", wants=[{"feature": "trunk", "instances": 2}], wait=True, rank="dect"),
    ):
        (answer,) = checked(f"{LICENSE}.Acquire", **wanted["parameters"])
        checked(f"{LICENSE}.Explain", **wanted["parameters"])
    assert answer["place"] == 1
    for named in ({}, {"mode": "lite"}, {"mode": "deluxe"}):
        request = {"holder": "desk", "key": "pc-1", "application": "desk", **named}
        checked(f"{LICENSE}.Acquire", **request)
        checked(f"{LICENSE}.Explain", **request)
    assert len(checked(f"{LICENSE}.ListLeases")) == 3
    (found,) = checked(f"{LICENSE}.FindCall", call="a", holder="kamailio")
    assert [lease["key"] for lease in found["leases"]] == ["a"]
    for holder, key in (("kamailio", "a"), ("kamailio", "a")):
        checked(f"{LICENSE}.Release", holder=holder, key=key)
    assert checked(f"{LICENSE}.FindCall", call="a")[0]["ended"] == [{"holder": "kamailio", "key": "a", "seconds": 0}]
    lease = {"key": "s", "wants": [{"feature": "trunk"}], "port": "p", "channel": "1", "class": "normal"}
    checked(f"{LICENSE}.Sync", holder="asterisk", scope="calls", leases=[lease])
    checked(f"{LICENSE}.Sync", holder="asterisk", scope="calls", leases=[], last=False)
    checked(f"{LICENSE}.ListFeatures")
    checked(f"{LICENSE}.Status")
    checked(f"{LICENSE}.Watch", decisions=True)


def raises(*_: object) -> bytes:
    raise ZeroDivisionError("a secret")


def checked_not_stored(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import a certificate on a full disk."""

    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    house = checked.house
    monkeypatch.setattr(house.store, "save_documents", full)
    house.enforcer.see(house.seen(), house.clock())
    assert "hint" in checked(f"{MANAGE}.ImportCertificate", text=house.vendor.certificate())[0]


def test_every_error_is_as_the_file_says(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    house = checked.house
    house.add_method("a.b.Raise", raises)
    monkeypatch.setattr(limits, "MAX_CONNECTIONS_PER_USER", 1)
    monkeypatch.setattr(limits, "MAX_SUBSCRIBERS", 0)
    house.ask(f"{LICENSE}.Acquire", **house.acquire(holder="asterisk", dialed="112")["parameters"], uid=1)
    caller = house.caller()
    second, stranger = house.caller(), house.caller(4242)
    caller.send(
        house.call("a.b.Raise"),
        house.call("Release", holder="asterisk", key="x"),
        house.call("Sync", holder="kamailio", scope="calls", leases=[], last=False),
        house.call("x.y.Z"),
        house.call("Nothing"),
        house.call("Status", x=1),
        house.call("Watch"),
        {**house.call("Watch"), "more": True},
        house.call(f"{MANAGE}.Request"),
        b"no call\0",
    )
    caller.leave()
    second.leave()
    house.enforcer.see(house.seen("absent"), house.clock())
    for name, parameters in (("RequestCheck", {}), ("RemoveLicense", {"key": "4Q7K"})):
        checked(f"{MANAGE}.{name}", **parameters)
    late = house.caller()
    late.send(b"{")
    house.loop.later(limits.HALF_MESSAGE_SECONDS + 1)
    late.leave()
    long = house.caller(1000)
    long.send(b"x" * (limits.MAX_TELEPHONY_BYTES + 1))
    for reply in (*caller.replies, *second.replies, *stranger.replies, *late.replies, *long.replies):
        checked.held(reply, None, "")
    with monkeypatch.context() as hanging:
        hanging.setattr(house.site.trusting._host, "_stuck", True)
        assert "hint" in checked(f"{MANAGE}.GetHost")[0]
    monkeypatch.setattr(backup, "MAX_BACKUP_BYTES", 0)
    assert checked(f"{MANAGE}.Backup")[0].keys() == {"hint"}
    checked_not_stored(checked, monkeypatch)
    # The specification names MethodNotImplemented, and every method of the files is there.
    assert set(ERRORS) - checked.errors == {f"{SERVICE}.MethodNotImplemented"}


def test_events_are_as_the_file_says(licensed: House) -> None:
    checked = Checked(licensed)
    watcher, caller = licensed.caller(), licensed.caller()
    watcher.send({**licensed.call("Watch", decisions=True), "more": True})
    caller.send(
        licensed.acquire("a", port="p", channel="1"),
        licensed.acquire("b", port="p", channel="1"),
        licensed.acquire("c", wants=[{"feature": "trunk", "instances": 99}]),
        licensed.acquire("d", **{"class": "emergency"}),
        licensed.call(f"{MANAGE}.ReleaseLease", holder="kamailio", key="d"),
    )
    licensed.enforcer.see(licensed.seen("absent"), licensed.clock())
    licensed.site.settle()
    for reply in watcher.replies:
        checked.held(reply, METHODS[f"{LICENSE}.Watch"].out_type, f"{LICENSE}.Watch")
        assert reply["continues"] is True
    kinds = {reply["parameters"]["event"]["kind"] for reply in watcher.replies[1:]}
    assert kinds == {"decision", "drift", "emergency_claim", "feature_key", "standing"}


def test_a_connection_says_no_more_than_the_file(house: House) -> None:
    """Members of replies besides `parameters` are those of the protocol."""
    caller = house.caller()
    caller.send({**house.call("ListLeases"), "more": True}, house.call("Status"))
    house.loop.turn(3)
    assert [set(reply) for reply in caller.replies] == [{"parameters"}, {"parameters"}]
