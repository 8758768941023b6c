"""Clients that break the rules of the wire: each is told and closed or answered, and nobody beside it notices."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

import rig
from featurekeyd.daemon import limits
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.holders import MAX_HOLDERS_OF_USER
from featurekeyd.policy.requests import MAX_SYNC_LEASES

pytestmark = pytest.mark.usefixtures("bystander")

LICENSE = "io.featurekey.License"
SERVICE = "org.varlink.service"
BURST = 200
"""Connections at once: as many as the workers of some large switches open after a restart."""

WANT = {"feature": "sip-trunk-channels"}
REQUEST: dict[str, Any] = {"holder": "kamailio", "key": "call-1", "wants": [WANT]}


def told_and_closed(site: rig.Site, data: bytes, error: str) -> dict[str, Any]:
    """Send bytes on a connection of their own: it must be answered with that error and closed; the parameters."""
    with site.connect() as connection:
        connection.socket.sendall(data)
        reply = connection.reply()
        assert reply["error"] == f"{LICENSE}.{error}"
        assert connection.at_end()
    parameters: dict[str, Any] = reply["parameters"]
    return parameters


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"what\0",
        b"{\0",
        b"[]\0",
        b"null\0",
        b"{}\0",
        b'{"method":5}\0',
        b'{"method":"io.featurekey.License.Status","more":"yes"}\0',
        b'{"method":"io.featurekey.License.Status\xff"}\0',
        b"[" * 100_000 + b"\0",
        b'{"method":"io.featurekey.License.Acquire","parameters":'
        + b'{"holder":' * 50_000
        + b"1"
        + b"}" * 50_000
        + b"}\0",
        b"GET / HTTP/1.1\r\n\r\n\0",
    ],
)
def test_what_is_no_call_is_told_and_closed(shared: rig.Licensed, data: bytes) -> None:
    assert told_and_closed(shared.site, data, "MalformedMessage")["hint"]


def test_good_calls_before_a_bad_one_are_still_answered(shared: rig.Licensed) -> None:
    with shared.site.connect() as connection:
        good = json.dumps({"method": f"{LICENSE}.Status"}).encode() + b"\0"
        connection.socket.sendall(good + good + b"what\0" + good)
        assert "leases" in connection.reply()["parameters"]
        assert "leases" in connection.reply()["parameters"]
        assert connection.reply()["error"] == f"{LICENSE}.MalformedMessage"
        assert connection.at_end()


@pytest.mark.parametrize(
    ("method", "error", "parameters"),
    [
        (f"{LICENSE}.Frobnicate", "MethodNotFound", {"method": f"{LICENSE}.Frobnicate"}),
        (f"{LICENSE}.status", "MethodNotFound", {"method": f"{LICENSE}.status"}),
        ("io.example.Nothing.Status", "InterfaceNotFound", {"interface": "io.example.Nothing"}),
        ("Status", "InterfaceNotFound", {"interface": ""}),
    ],
)
def test_an_unknown_method_or_interface_is_named_and_the_connection_goes_on(
    shared: rig.Licensed, method: str, error: str, parameters: dict[str, str]
) -> None:
    with shared.site.connect() as connection:
        connection.socket.sendall(json.dumps({"method": method}).encode() + b"\0")
        assert connection.reply() == {"error": f"{SERVICE}.{error}", "parameters": parameters}
        assert connection.call("License.Status")["standing"] == "licensed"


@pytest.mark.parametrize(
    ("changed", "parameter"),
    [
        ({"holder": 5}, "holder"),
        ({"holder": ""}, "holder"),
        ({"holder": None}, "holder"),
        ({"holder": "x" * 65}, "holder"),
        ({"holder": "a\x1b[2J"}, "holder"),
        ({"key": "x" * 513}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"port": "x" * 129}, "port"),
        ({"port": "a\u202eb"}, "port"),
        ({"channel": "x" * 129}, "channel"),
        ({"dialed": "1" * 65}, "dialed"),
        ({"rank": "x" * 65}, "rank"),
        ({"wants": [{"feature": "x" * 65}]}, "wants[0].feature"),
        ({"wants": None, "application": "x" * 65}, "application"),
        ({"wants": WANT}, "wants"),
        ({"wants": [WANT, "sip"]}, "wants[1]"),
        ({"wants": [{"instances": 1}]}, "wants[0].feature"),
        ({"wants": [{**WANT, "instances": "8"}]}, "wants[0].instances"),
        ({"wants": [{**WANT, "instances": 0}]}, "wants[0].instances"),
        ({"wants": [{**WANT, "instances": 16384}]}, "wants[0].instances"),
        ({"wants": [WANT] * 9}, "wants"),
        ({"class": "urgent"}, "class"),
        ({"phase": 1}, "phase"),
        ({"bound": "yes"}, "bound"),
        ({"prot": "trunk:carrier-a"}, "prot"),
    ],
)
def test_a_wrong_parameter_is_named_by_its_path_and_the_connection_goes_on(
    shared: rig.Licensed, changed: dict[str, Any], parameter: str
) -> None:
    with shared.site.connect() as connection:
        with pytest.raises(rig.Refused) as refused:
            connection.call("License.Acquire", REQUEST | changed)
        assert refused.value.error == f"{SERVICE}.InvalidParameter"
        assert refused.value.parameters == {"parameter": parameter}
        assert connection.call("License.Status")["standing"] == "licensed"
    assert shared.site.leases(holder="kamailio") == []


@pytest.mark.parametrize("emergency", [{"dialed": "112"}, {"class": "emergency"}])
@pytest.mark.parametrize(
    "changed",
    [
        {"wants": None},
        {"key": "x" * 513},
        {"key": "call\x1b[2J"},
        {"port": ""},
        {"wants": [WANT] * 9},
    ],
)
def test_an_emergency_call_is_granted_whatever_else_is_wrong_with_it(
    shared: rig.Licensed, changed: dict[str, Any], emergency: dict[str, Any]
) -> None:
    before = shared.site.call("License.Status")["emergency_total"]
    with shared.site.connect() as connection:
        granted = connection.call("License.Acquire", REQUEST | changed | emergency)
        assert granted == {"allowed": True, "reason": "emergency"}
        assert connection.call("License.Status")["emergency_total"] == before + 1
        with pytest.raises(rig.Refused):
            connection.call("License.Explain", REQUEST | changed | emergency)
    assert shared.site.leases(holder="kamailio") == []


def test_a_missing_parameter_is_named(shared: rig.Licensed) -> None:
    with pytest.raises(rig.Refused) as refused:
        shared.site.call("License.Acquire", {"holder": "kamailio", "wants": [WANT]})
    assert refused.value.parameters == {"parameter": "key"}


def test_a_message_that_is_too_long_is_refused_before_it_ends(shared: rig.Licensed) -> None:
    with shared.site.connect() as connection:
        for _ in range(limits.MAX_MESSAGE_BYTES // 65536):
            connection.socket.sendall(b"x" * 65536)
        connection.socket.sendall(b"x")
        assert connection.reply()["error"] == f"{LICENSE}.MessageTooLarge"
        assert connection.at_end()
        shared.site.log.wait(f"a message is longer than {limits.MAX_MESSAGE_BYTES} bytes")


def test_a_message_of_just_more_than_the_limit_is_told_so(shared: rig.Licensed) -> None:
    data = b"x" * (limits.MAX_MESSAGE_BYTES + 1) + b"\0"
    assert told_and_closed(shared.site, data, "MessageTooLarge") == {"limit": limits.MAX_MESSAGE_BYTES}


def test_a_long_message_within_the_limit_is_answered(shared: rig.Licensed) -> None:
    text = "x" * (limits.MAX_MESSAGE_BYTES - 1000)
    finding = shared.site.call("Manage.AddLicense", {"key": text})["finding"]
    assert finding["verdict"] == "not_a_key"


def test_a_message_that_comes_in_single_bytes_is_understood(shared: rig.Licensed) -> None:
    with shared.site.connect() as connection:
        for byte in json.dumps({"method": f"{LICENSE}.Status"}).encode() + b"\0":
            connection.socket.sendall(bytes([byte]))
        assert "leases" in connection.reply()["parameters"]


def test_a_client_that_ends_in_the_midst_of_a_message_leaves_nothing_behind(shared: rig.Licensed) -> None:
    for _ in range(50):
        with shared.site.connect() as connection:
            connection.socket.sendall(b'{"method":"io.featurekey.License.Acq')
    assert shared.site.status()["standing"] == "licensed"


def test_a_client_that_says_it_will_send_no_more_gets_its_answers_and_is_closed(shared: rig.Licensed) -> None:
    with shared.site.connect() as connection:
        connection.send("Manage.CheckNow")
        connection.send("License.Status")
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.reply()["parameters"]["state"] == "present"
        assert "leases" in connection.reply()["parameters"]
        assert connection.at_end()


def test_half_a_message_and_then_silence_is_ended_in_time(shared: rig.Licensed) -> None:
    error = "MessageUnfinished"
    assert told_and_closed(shared.site, b'{"method":', error) == {"seconds": limits.HALF_MESSAGE_SECONDS}


def test_a_client_that_never_reads_costs_a_bounded_amount_of_memory(shared: rig.Licensed) -> None:
    before = resident_kilobytes(shared.site.pid)
    message = {"method": f"{SERVICE}.GetInterfaceDescription", "parameters": {"interface": LICENSE}}
    burst = (json.dumps(message).encode() + b"\0") * 100
    with shared.site.connect(seconds=1.0) as connection:
        sent = send_until_nobody_takes_it(connection, burst)
        # Each of these calls has an answer a hundred times as long: all of them would be far over 100 MB.
        assert sent < 16 * 1024 * 1024
        assert resident_kilobytes(shared.site.pid) - before < 16 * 1024


def test_a_subscriber_that_never_reads_loses_events_and_holds_nobody_up(shared: rig.Licensed) -> None:
    with shared.site.connect() as lazy, shared.site.connect() as busy:
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.send("License.Watch", {"decisions": True}, more=True)
        lazy.reply()
        denied = {"holder": "kamailio", "key": "x" * 500, "wants": [{"feature": "no-such-feature"}]}
        for _ in range(2000):
            assert busy.call("License.Acquire", denied)["allowed"] is False


def test_a_call_behind_a_watch_is_told_and_the_connection_closed(shared: rig.Licensed) -> None:
    with shared.site.connect() as connection:
        connection.send("License.Watch", more=True)
        assert connection.reply()["continues"] is True
        connection.send("License.Status")
        assert connection.reply()["error"] == f"{LICENSE}.MalformedMessage"
        assert connection.at_end()


def test_a_subscriber_that_reads_again_is_told_what_it_lost_though_nothing_more_happens(shared: rig.Licensed) -> None:
    with shared.site.connect() as lazy, shared.site.connect() as busy:
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.send("License.Watch", {"decisions": True}, more=True)
        lazy.reply()
        denied = {"holder": "kamailio", "key": "x" * 500, "wants": [{"feature": "no-such-feature"}]}
        for _ in range(2000):
            busy.call("License.Acquire", denied)
        told = lost = 0
        while told + lost < 2000:
            parameters = lazy.reply()["parameters"]
            lost += parameters.get("lost", 0)
            told += (parameters.get("event") or {}).get("key") == denied["key"]
        assert lost > 0
        assert told < 2000


def test_one_user_may_not_take_every_place_of_those_who_watch(shared: rig.Licensed) -> None:
    connections = [shared.site.connect() for _ in range(limits.MAX_SUBSCRIBERS_OF_USER + 1)]
    try:
        for connection in connections:
            connection.send("License.Watch", more=True)
        replies = [connection.reply() for connection in connections]
        refused = [reply for reply in replies if "error" in reply]
        assert [reply["error"] for reply in refused] == [f"{LICENSE}.TooManySubscribers"]
        assert refused[0]["parameters"] == {"limit": limits.MAX_SUBSCRIBERS_OF_USER}
    finally:
        for connection in connections:
            connection.close()


def test_a_list_of_more_leases_than_a_call_takes_is_refused(shared: rig.Licensed) -> None:
    leases = [{"key": f"{number}", "wants": []} for number in range(MAX_SYNC_LEASES + 1)]
    with shared.site.connect() as connection, pytest.raises(rig.Refused) as refused:
        connection.call("License.Sync", {"holder": "asterisk", "scope": "calls", "leases": leases})
    assert refused.value.parameters == {"parameter": "leases"}


def test_one_user_may_have_so_many_leases_and_lists_are_refused_beyond(shared: rig.Licensed, as_root: None) -> None:
    """The lists bring leases whatever is licensed; what is asked for then is denied with the number."""
    del as_root
    most, part = Rules().max_leases, MAX_SYNC_LEASES
    keys = [f"{number}" for number in range(most)]
    parts = [keys[place : place + part] for place in range(0, most, part)]
    sync: dict[str, Any] = {"holder": "switch", "scope": "calls", "generation": 1}
    with shared.site.connect_as(rig.STRANGER) as connection:
        for number, some in enumerate(parts, 1):
            leases = [{"key": key, "wants": [{"feature": "softconsole"}]} for key in some]
            connection.send("License.Sync", sync | {"leases": leases, "part": number, "last": False})
            assert connection.reply()["parameters"]["adopted"] == len(some)
        denied = connection.call("License.Acquire", REQUEST | {"holder": "switch"})
        assert (denied["allowed"], denied["reason"], denied["limit"]) == (False, "too_many_leases", most)
        one_more = sync | {"leases": [{"key": "one more", "wants": []}], "part": len(parts) + 1}
        with pytest.raises(rig.Refused) as refused:
            connection.call("License.Sync", one_more)
        assert refused.value.error == f"{LICENSE}.ListRefused"
        assert str(most) in refused.value.parameters["hint"]
        # An empty list spares what was adopted in the two seconds before it.
        none = {"holder": "switch", "scope": "calls", "leases": []}
        for _ in range(100_000):
            if not connection.call("License.Sync", none)["held"]:
                break
    assert shared.site.leases(holder="switch") == []


def test_one_user_may_have_so_many_holder_names(shared: rig.Licensed, as_root: None) -> None:
    del as_root
    with shared.site.connect_as(rig.STRANGER) as connection:
        names = [f"holder {number}" for number in range(MAX_HOLDERS_OF_USER + 1)]
        for name in names[:-1]:
            request = {"holder": name, "key": "a", "wants": [{"feature": "sip-trunk-channels"}], "class": "emergency"}
            assert connection.call("License.Acquire", request)["allowed"]
        with pytest.raises(rig.Refused) as refused:
            connection.call("License.Acquire", REQUEST | {"holder": names[-1]})
        assert refused.value.error == f"{LICENSE}.HolderBelongsToAnotherUser"
        for name in names[:-1]:
            connection.call("License.Release", {"holder": name, "key": "a"})


def test_one_user_may_not_take_every_connection(shared: rig.Licensed) -> None:
    connections = [shared.site.connect() for _ in range(limits.MAX_CONNECTIONS_PER_USER)]
    try:
        reply = connections[-1].reply()  # the bystander has one of them too
        assert reply["error"] == f"{LICENSE}.TooManyConnections"
        assert reply["parameters"] == {"limit": limits.MAX_CONNECTIONS_PER_USER}
        assert connections[-1].at_end()
        assert connections[0].call("License.Status")["standing"] == "licensed"
    finally:
        for connection in connections:
            connection.close()


def test_a_burst_of_connections_waits_for_a_daemon_that_is_busy(shared: rig.Licensed) -> None:
    connections = [socket.socket(socket.AF_UNIX) for _ in range(BURST)]
    os.kill(shared.site.pid, signal.SIGSTOP)
    try:
        for connection in connections:
            connection.setblocking(False)  # so that a full queue is an error instead of a wait
            connection.connect(str(shared.site.socket))
    finally:
        os.kill(shared.site.pid, signal.SIGCONT)
        for connection in connections:
            connection.close()
    assert shared.site.status()["standing"] == "licensed"


def test_after_all_that_there_is_no_trace_of_an_unexpected_condition(shared: rig.Licensed) -> None:
    assert [line for line in shared.site.log.so_far() if re.search("unexpected|Traceback", line)] == []


def send_until_nobody_takes_it(connection: rig.Varlink, burst: bytes) -> int:
    """Send the same again and again; the bytes that were taken before the connection's time limit, 64 MB at most."""
    sent = 0
    try:
        while sent < 64 * 1024 * 1024:
            sent += connection.socket.send(burst)
    except TimeoutError:
        pass
    return sent


def resident_kilobytes(pid: int) -> int:
    """Memory that a process has in use now."""
    match = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1])
