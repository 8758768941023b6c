"""What a method refuses to take, and how the refusal names the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon.license_service import Acquire, FindCall, ListLeases, Release, Watch
from featurekeyd.daemon.limits import LONG_MESSAGE_BYTES, MAX_TELEPHONY_BYTES
from featurekeyd.daemon.manage_service import AddLicense, ImportCertificate, ImportList
from featurekeyd.daemon.methods import (
    Calls,
    Client,
    Method,
    Nothing,
    Permission,
    call_method,
    method,
    one_by_one,
    parameter_of,
)
from featurekeyd.daemon.peer import Peer
from featurekeyd.daemon.service_info import Interface
from featurekeyd.daemon.wire import LICENSE, MANAGE, SERVICE, BadMessage, Call, read_call, reply
from featurekeyd.policy.licensekey import MAX_INSTANCES
from featurekeyd.policy.requests import MAX_SYNC_LEASES, Request, SyncRequest

if TYPE_CHECKING:
    from tests.daemon.conftest import House

CLIENT = Client(1, Peer(1, 1000, frozenset()), lambda _: True)
WANT = {"feature": "trunk"}
ACQUIRE = {"holder": "kamailio", "key": "call", "wants": [WANT]}
SYNC = {"holder": "kamailio", "scope": "calls", "leases": []}
LEASE = {"key": "k", "wants": [WANT]}


def refused(type_: type, parameters: object) -> str | None:
    """The parameter that InvalidParameter names; None when the parameters are taken."""
    taken = method(Permission.NONE, type_, lambda _, __: b'{"parameters":{}}\0')
    call = Call("a.b.C", msgspec.Raw(json.dumps(parameters).encode()))
    outcome = call_method({"a.b.C": taken}, call, CLIENT, frozenset({Permission.NONE}))
    assert isinstance(outcome, bytes)
    said = json.loads(outcome[:-1])
    if "error" not in said:
        return None
    assert said["error"] == f"{SERVICE}.InvalidParameter"
    named: str = said["parameters"]["parameter"]
    return named


@pytest.mark.parametrize(
    ("type_", "parameters", "named"),
    [
        (Acquire, {}, "holder"),
        (Acquire, {"holder": "a"}, "key"),
        (Acquire, {"holder": "a", "key": "b"}, "wants"),
        (Acquire, {**ACQUIRE, "application": "desk"}, "application"),
        (Acquire, {**ACQUIRE, "mode": "pro"}, "mode"),
        (Acquire, {"holder": "a", "key": "b", "application": "a\n"}, "application"),
        (Acquire, {**ACQUIRE, "holder": 7}, "holder"),
        (Acquire, {**ACQUIRE, "holder": None}, "holder"),
        (Acquire, {**ACQUIRE, "wants": {}}, "wants"),
        (Acquire, {**ACQUIRE, "wants": [WANT, []]}, "wants[1]"),
        (Acquire, {**ACQUIRE, "wants": [{}]}, "wants[0].feature"),
        (Acquire, {**ACQUIRE, "wants": [{**WANT, "instances": 0}]}, "wants[0].instances"),
        (Acquire, {**ACQUIRE, "wants": [WANT, {**WANT, "instances": "1"}]}, "wants[1].instances"),
        (Acquire, {**ACQUIRE, "wants": [{**WANT, "instances": 1.5}]}, "wants[0].instances"),
        (Acquire, {**ACQUIRE, "class": "other"}, "class"),
        (Acquire, {**ACQUIRE, "call_class": "normal"}, "call_class"),
        (Acquire, {**ACQUIRE, "phase": "SETUP"}, "phase"),
        (Acquire, {**ACQUIRE, "bound": 1}, "bound"),
        (Acquire, {**ACQUIRE, "zz": 1}, "zz"),
        (Acquire, {**ACQUIRE, "": 1}, ""),
        (
            SyncRequest,
            {**SYNC, "leases": [LEASE, {**LEASE, "wants": [WANT, {"feature": 1}]}]},
            "leases[1].wants[1].feature",
        ),
        (SyncRequest, {**SYNC, "leases": [{**LEASE, "phase": "setup"}]}, "leases[0].phase"),
        (SyncRequest, {**SYNC, "leases": [{"wants": []}]}, "leases[0].key"),
        (SyncRequest, {**SYNC, "scope": "all"}, "scope"),
        (Release, {"holder": "a", "key": "b", "more": True}, "more"),
        (ListLeases, {"feature": 7}, "feature"),
        (Watch, {"decisions": "yes"}, "decisions"),
        (Nothing, {"x": None}, "x"),
        (AddLicense, {}, "key"),
        (ImportList, {"text": "x", "dry-run": True}, "dry-run"),
        (ImportCertificate, {"text": []}, "text"),
        (Interface, {"interface": None}, "interface"),
    ],
)
def test_a_refusal_names_the_parameter(type_: type, parameters: dict[str, Any], named: str) -> None:
    assert refused(type_, parameters) == named


@pytest.mark.parametrize("parameters", [None, [], "x", 7, True])
def test_parameters_that_are_no_object_are_refused(parameters: object) -> None:
    assert refused(Nothing, parameters) == ""


def text(length: int) -> str:
    return "x" * length


LIMITS: list[tuple[type, dict[str, Any], str, Any, Any]] = [
    (Acquire, ACQUIRE, "holder", text(64), text(65)),
    (Acquire, ACQUIRE, "holder", text(1), ""),
    (Acquire, ACQUIRE, "key", text(512), text(513)),
    (Acquire, ACQUIRE, "key", text(1), ""),
    (Acquire, ACQUIRE, "port", text(128), text(129)),
    (Acquire, ACQUIRE, "port", text(1), ""),
    (Acquire, ACQUIRE, "channel", text(128), text(129)),
    (Acquire, ACQUIRE, "dialed", text(64), text(65)),
    (Acquire, ACQUIRE, "wants", [WANT] * 8, [WANT] * 9),
    (Release, {"holder": "a", "key": "b"}, "holder", text(64), text(65)),
    (Release, {"holder": "a", "key": "b"}, "key", text(512), text(513)),
    (ListLeases, {}, "feature", text(64), text(65)),
    (ListLeases, {}, "port", text(128), text(129)),
    (FindCall, {"call": "a"}, "call", text(512), text(513)),
    (FindCall, {"call": "a"}, "call", text(1), ""),
    (FindCall, {"call": "a"}, "holder", text(64), text(65)),
    (SyncRequest, SYNC, "leases", [LEASE] * MAX_SYNC_LEASES, [LEASE] * (MAX_SYNC_LEASES + 1)),
    (SyncRequest, SYNC, "list_age_ms", 600_000, 600_001),
    (SyncRequest, SYNC, "list_age_ms", 0, -1),
    (SyncRequest, SYNC, "ttl_seconds", 86_400, 86_401),
    (SyncRequest, SYNC, "ttl_seconds", 1, 0),
    (SyncRequest, SYNC, "generation", 2**53, 2**53 + 1),
    (SyncRequest, SYNC, "generation", 0, -1),
    (SyncRequest, SYNC, "part", 2**31, 2**31 + 1),
    (SyncRequest, SYNC, "part", 1, 0),
    (SyncRequest, SYNC, "takes_over", text(64), text(65)),
]


@pytest.mark.parametrize(("type_", "others", "name", "most", "beyond"), LIMITS)
def test_a_limit_is_taken_and_one_beyond_is_refused(
    type_: type, others: dict[str, Any], name: str, most: object, beyond: object
) -> None:
    assert refused(type_, {**others, name: most}) is None
    assert refused(type_, {**others, name: beyond}) == name


def test_instances_and_feature_names_of_a_want_have_limits() -> None:
    for name, most, beyond in (("instances", MAX_INSTANCES, MAX_INSTANCES + 1), ("feature", text(64), text(65))):
        assert refused(Acquire, {**ACQUIRE, "wants": [{**WANT, name: most}]}) is None
        assert refused(Acquire, {**ACQUIRE, "wants": [{**WANT, name: beyond}]}) == f"wants[0].{name}"


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x7f", "\0", "\u202e", "\u2028", "\x9b"])
@pytest.mark.parametrize(
    ("type_", "parameters", "name"),
    [
        *((Acquire, ACQUIRE, name) for name in ("holder", "key", "port", "channel", "dialed")),
        *((Release, {"holder": "a", "key": "b"}, name) for name in ("holder", "key")),
        *((SyncRequest, SYNC, name) for name in ("holder", "takes_over")),
    ],
)
def test_what_a_terminal_would_not_show_as_it_is_is_refused(
    type_: type, parameters: dict[str, Any], name: str, character: str
) -> None:
    assert refused(type_, {**parameters, name: f"a{character}b"}) == name


def test_the_longest_list_with_the_longest_names_fits_into_a_message() -> None:
    wants = [{"feature": text(64), "instances": MAX_INSTANCES}] * 8
    lease = {"key": text(512), "wants": wants, "port": text(128), "channel": text(128), "class": "emergency"}
    parameters = {
        "holder": text(64),
        "scope": "registrations",
        "leases": [lease] * MAX_SYNC_LEASES,
        "list_age_ms": 600_000,
        "ttl_seconds": 86_400,
        "generation": 2**53,
        "part": 2**31,
        "last": False,
        "takes_over": text(64),
    }
    message = json.dumps({"method": f"{LICENSE}.Sync", "parameters": parameters}).encode()
    assert refused(SyncRequest, parameters) is None
    assert MAX_TELEPHONY_BYTES == 512 * 1024
    assert len(message) < MAX_TELEPHONY_BYTES


@pytest.mark.parametrize(
    "parameters",
    [
        b'{"holder":"\xff","key":"k","wants":[]}',
        b'{"holder":"\\ud800","key":"k","wants":[]}',
        b'{"holder":"a","key":"k","wants":[],"\xff":1}',
        b'{"holder":"a\x01","key":"k","wants":[]}',
        b'{"holder":"\\x","key":"k","wants":[]}',
    ],
)
def test_parameters_that_are_no_json_are_a_bad_message_like_all_that_is_none(parameters: bytes, house: House) -> None:
    caller = house.caller()
    caller.send(b'{"method":"%b.Acquire","parameters":%b}\0' % (LICENSE.encode(), parameters))
    assert [reply["error"] for reply in caller.replies] == [f"{LICENSE}.MalformedMessage"]
    assert caller.wire.closed


@given(st.binary(max_size=60))
def test_whatever_the_parameters_are_a_method_is_run_or_refuses(data: bytes) -> None:
    taken = method(Permission.NONE, Acquire, lambda _, __: b"{}\0")
    try:
        call = read_call(b'{"method":"a.b.C","parameters":%b}' % data)
        outcome = call_method({"a.b.C": taken}, call, CLIENT, frozenset({Permission.NONE}))
    except BadMessage:
        return
    assert isinstance(outcome, bytes)


def test_permission_is_looked_at_before_the_parameters() -> None:
    def never(_: Client, __: object) -> bytes:
        raise AssertionError("the method was run")

    found = {f"{MANAGE}.X": method(Permission.MANAGE, AddLicense, never)}
    outcome = call_method(found, Call(f"{MANAGE}.X"), CLIENT, frozenset({Permission.ASK, Permission.NONE}))
    assert isinstance(outcome, bytes)
    assert json.loads(outcome[:-1]) == {"error": f"{SERVICE}.PermissionDenied", "parameters": {}}


@pytest.mark.parametrize(
    ("name", "error", "about"),
    [
        (f"{LICENSE}.Nothing", "MethodNotFound", {"method": f"{LICENSE}.Nothing"}),
        (f"{LICENSE}.acquire", "MethodNotFound", {"method": f"{LICENSE}.acquire"}),
        ("io.featurekey.Acquire", "InterfaceNotFound", {"interface": "io.featurekey"}),
        (f"{LICENSE}x.Acquire", "InterfaceNotFound", {"interface": f"{LICENSE}x"}),
        ("Acquire", "InterfaceNotFound", {"interface": ""}),
        ("", "InterfaceNotFound", {"interface": ""}),
        (f"{'x' * 10_000}.Y", "InterfaceNotFound", {"interface": "x" * 256}),
        (f"{LICENSE}.{'x' * 10_000}", "MethodNotFound", {"method": f"{LICENSE}.{'x' * 10_000}"[:256]}),
    ],
)
def test_what_is_not_there_is_named_and_not_at_any_length(
    name: str, error: str, about: dict[str, str], house: House
) -> None:
    assert house.ask(name) == [{"error": f"{SERVICE}.{error}", "parameters": about}]


def test_nobody_is_told_of_what_another_user_would_be_answered(licensed: House) -> None:
    wanted = licensed.acquire()["parameters"]
    licensed.ask(f"{LICENSE}.Acquire", **wanted, uid=1000)
    not_theirs = [{"error": f"{LICENSE}.HolderBelongsToAnotherUser", "parameters": {"holder": "kamailio"}}]
    for name, parameters in (
        ("Explain", wanted),
        ("Acquire", wanted),
        ("Release", {"holder": "kamailio", "key": "call"}),
        ("Sync", SYNC),
        ("Sync", {**SYNC, "holder": "other", "takes_over": "kamailio"}),
    ):
        assert licensed.ask(f"{LICENSE}.{name}", **parameters, uid=1001) == not_theirs
    assert licensed.ask(f"{LICENSE}.Explain", **wanted, uid=1000)[0]["parameters"]["reason"] == "already_held"
    # An emergency call is granted whoever asks, and explained so.
    emergency = {**wanted, "dialed": "112"}
    assert licensed.ask(f"{LICENSE}.Explain", **emergency, uid=1001)[0]["parameters"]["reason"] == "emergency"


def test_a_listing_must_be_called_with_more(house: House) -> None:
    for name in (f"{LICENSE}.ListLeases", f"{LICENSE}.Watch", f"{MANAGE}.ListLicenses"):
        assert house.ask(name) == [{"error": f"{SERVICE}.ExpectedMore", "parameters": {}}]


def test_a_listing_says_which_reply_is_the_last() -> None:
    def listed(count: int) -> list[dict[str, Any]]:
        replies = one_by_one("it", ({"n": number, "none": None} for number in range(count)))
        return [json.loads(reply[:-1]) for reply in replies]

    assert listed(0) == [{"parameters": {}}]
    assert listed(1) == [{"parameters": {"it": {"n": 0}}}]
    assert [reply.get("continues", False) for reply in listed(3)] == [True, True, False]


def test_a_path_is_read_from_the_words_of_msgspec() -> None:
    assert parameter_of("Expected `int` >= 1 - at `$.wants[0].instances`") == "wants[0].instances"
    assert parameter_of("Object missing required field `key` - at `$.leases[3]`") == "leases[3].key"
    assert parameter_of("Object contains unknown field `a.b`") == "a.b"
    assert isinstance(method(Permission.NONE, Nothing, lambda _, __: b""), Method)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"holder": "a", "key": "b\x1b[31m", "wants": []}, "key"),
        ({"holder": "a\n", "key": "b", "wants": []}, "holder"),
        ({"holder": "a", "key": "b", "wants": [{"feature": "x"}, {"feature": "x\x00"}]}, "wants[1].feature"),
    ],
)
def test_a_member_that_a_terminal_would_not_show_is_named(parameters: dict[str, object], path: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(msgspec.json.encode(parameters), type=Request)
    assert parameter_of(str(refused.value)) == path


# In one go


class Taken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: int


def echoed(_: Client, parameters: Taken) -> bytes:
    return reply(parameters)


def many(_: Client, __: Nothing) -> Iterator[bytes]:
    return iter([reply({})])


def broken(_: Client, __: Nothing) -> bytes:
    raise RuntimeError("a secret")


METHODS_IN_ONE_GO = {
    "a.b.Echo": method(Permission.ASK, Taken, echoed),
    "a.b.Many": method(Permission.ASK, Nothing, many, more=True),
    "a.b.Manage": method(Permission.MANAGE, Nothing, broken),
}


@pytest.mark.parametrize(
    "message",
    [
        b'{"method":"a.b.Echo","parameters":{"x":1}}',
        b'{"parameters":{"x":1},"method":"a.b.Echo"}',
        b'{"method":"a.b.Echo","parameters":{"x":1},"oneway":true}',
        b'{"method":"a.b.Echo","parameters":{"x":1},"z":{"method":"a.b.Many"}}',
        b'{"method":"a.b.Echo","parameters":{"x":"1"}}',
        b'{"method":"a.b.Echo","parameters":{"y":1}}',
        b'{"method":"a.b.Echo","parameters":null}',
        b'{"method":"a.b.Echo"}',
        b'{"method":"a.b.Echo","parameters":{"x":1},"oneway":1}',
        b'{"method":"a.b.Echo","parameters":{"x":1},"upgrade":1}',
        b'{"method":"a.b.Echo","parameters":{"x":1}',
        b'{"method":"a.b.None","parameters":{}}',
        b'{"method":"a.c.None","parameters":{}}',
        b'{"method":"a.b.Many"}',
        b'{"method":"a.b.Many","parameters":{}}',
        b'{"method":"a.b.Manage","parameters":{}}',
        b'{"method":5,"parameters":{}}',
        b"[]",
        b"\xff",
        b"[" * 5000,
    ],
)
def test_a_message_decoded_in_one_go_means_what_it_means_step_by_step(message: bytes) -> None:
    def by_steps() -> tuple[object, bool]:
        call = read_call(message)
        return call_method(METHODS_IN_ONE_GO, call, CLIENT, allowed), call.oneway

    def in_one_go() -> tuple[object, bool]:
        return Calls(METHODS_IN_ONE_GO, lambda _: b"").run(message, CLIENT, allowed)

    def outcome(run: Callable[[], tuple[object, bool]]) -> object:
        try:
            return run()
        except BadMessage as error:
            return error.reply

    allowed = frozenset({Permission.NONE, Permission.ASK})
    assert outcome(in_one_go) == outcome(by_steps)


def test_a_bug_in_a_method_is_answered_in_general_words() -> None:
    calls = Calls(METHODS_IN_ONE_GO, lambda error: repr(type(error)).encode())
    everything = frozenset(Permission)
    message = b'{"method":"a.b.Manage","parameters":{},"oneway":true}'
    assert calls.run(message, CLIENT, everything) == (b"<class 'RuntimeError'>", True)
    assert calls.run(b'{"method":"a.b.Manage"}', CLIENT, everything) == (b"<class 'RuntimeError'>", False)


def test_a_long_message_means_what_it_means_in_one_go() -> None:
    calls = Calls(METHODS_IN_ONE_GO, lambda _: b"")
    allowed = frozenset({Permission.ASK})
    blanks = b" " * LONG_MESSAGE_BYTES
    for parameters in (b'{"x":1}', b'{"x":"1"}'):
        message = b'{"method":"a.b.Echo","parameters":%b}' % parameters
        assert calls.run(message + blanks, CLIENT, allowed) == calls.run(message, CLIENT, allowed)
