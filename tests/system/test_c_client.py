"""The C example client, as it is shipped: built as strict C99, and run against the real daemon.

Every test runs twice: plain, and with gcc's address and undefined behavior sanitizers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig_example import WAYS, Example, build

import rig
from featurekeyd.client.limits import key_text

TRUNKS = "sip-trunk-channels"
AWAY = "denied daemon_away"
LIMIT = 8
"""Trunks of the licensed site."""

Start = Callable[..., Example]


@pytest.fixture(scope="module", params=WAYS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    built = build(tmp_path_factory.mktemp("c"), request.param)
    if isinstance(built, str):
        pytest.skip(built)
    return built


@pytest.fixture
def start(program: Path) -> Iterator[Start]:
    """Starts the program on a socket, without a cool-down and with a time limit for loaded machines."""
    with contextlib.ExitStack() as stack:

        def started(path: object, *, holder: str = "switch", cool_down_ms: int = 0, limit_ms: int = 20_000) -> Example:
            return stack.enter_context(Example(program, holder, path, cool_down_ms, limit_ms))

        yield started


# The real daemon


def test_calls_are_granted_denied_with_limit_and_reason_and_given_back(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    place = ("port=trunk:carrier-a", "channel=7")
    assert switch.ask("acquire", "call-0", TRUNKS, *place) == ["allowed", "granted", TRUNKS, "1", "8", "daemon", ""]
    assert switch.acquire("call-0", TRUNKS) == "allowed already_held"
    for number in range(1, LIMIT):
        assert switch.acquire(f"call-{number}", TRUNKS) == "allowed granted"
    denied = switch.ask("acquire", "call-8", TRUNKS)
    assert denied[:6] == ["denied", "limit_reached", TRUNKS, "8", "8", "daemon"]
    assert "8" in denied[6]
    assert switch.ask("acquire", "x", "no-such-feature")[:2] == ["denied", "unknown_feature"]
    assert switch.ask("release", "call-0") == ["released"]
    assert switch.ask("release", "call-0") == ["nothing"]
    assert licensed.site.feature(TRUNKS)["in_use"] == LIMIT - 1
    assert switch.acquire("call-9", f"{TRUNKS}:2") == "denied limit_reached"


def test_a_call_is_found_as_it_stands(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    switch.acquire("a@host;tag=1", TRUNKS, "port=trunk:carrier-a", "channel=7")
    assert switch.ask("find", "a@host")[:4] == ["there", "setup", "trunk:carrier-a", "7"]
    switch.acquire("a@host;tag=1", TRUNKS, "phase=established")
    assert switch.ask("find", "a@host;tag=1")[:4] == ["there", "established", "trunk:carrier-a", "7"]
    assert switch.ask("find", "b@host")[0] == "none"


def test_an_emergency_call_passes_with_and_without_the_daemon(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    assert switch.ask("acquire", "help-1", TRUNKS, "dialed= 112 ")[:2] == ["allowed", "emergency"]
    assert switch.ask("acquire", "help-2", "no-such-feature", "emergency")[5] == "daemon"
    licensed.site.kill()
    for fields in ((TRUNKS, "dialed=911"), (TRUNKS, "emergency"), ()):
        answer = switch.ask("acquire", "help-3", *fields, "emergency")
        assert (answer[:2], answer[5]) == (["allowed", "emergency"], "client")
    assert switch.ask("acquire", "", TRUNKS, "emergency")[:2] == ["allowed", "emergency"]
    assert switch.acquire("call-1", TRUNKS, "dialed=1122") == AWAY


def test_a_restart_of_the_daemon_is_not_noticed(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    for number in range(3):
        assert switch.acquire(f"call-{number}", TRUNKS) == "allowed granted"
        licensed.site.restart()
    licensed.site.kill()
    licensed.site.start()
    assert switch.ask("release", "call-0") == ["released"]
    assert licensed.site.feature(TRUNKS)["in_use"] == 2


def test_without_the_daemon_the_trunk_decides_and_releases_wait(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    for key in ("a", "b", "c"):
        switch.acquire(key, TRUNKS)
    licensed.site.kill()
    assert switch.acquire("d", TRUNKS) == AWAY
    assert switch.acquire("d", TRUNKS, "open") == "allowed daemon_away"
    for key in ("a", "b", "a"):
        assert switch.ask("release", key) == ["queued"]
    assert switch.ask("pending") == ["2", "0"]
    licensed.site.start()
    assert switch.acquire("b", TRUNKS) == "allowed granted"  # released first, and then taken afresh
    assert switch.ask("pending") == ["0", "0"]
    assert {lease["key"] for lease in licensed.site.leases()} == {"b", "c"}


def test_the_queue_of_releases_is_bounded_and_the_oldest_goes_first(
    licensed: rig.Licensed, start: Start, tmp_path: Path
) -> None:
    switch = start(tmp_path / "nobody")
    for number in range(1027):
        assert switch.ask("release", f"call-{number}") == ["queued"]
    assert switch.ask("pending") == ["1024", "3"]


def test_in_the_cool_down_a_call_is_answered_on_the_spot_and_a_release_is_tried(
    licensed: rig.Licensed, start: Start
) -> None:
    switch = start(licensed.site.socket, cool_down_ms=3_600_000, limit_ms=50_000)
    switch.acquire("a", TRUNKS)
    licensed.site.kill()
    assert switch.acquire("b", TRUNKS) == AWAY
    licensed.site.start()
    assert switch.acquire("b", TRUNKS) == AWAY
    assert switch.ask("release", "a") == ["released"]
    assert switch.acquire("b", TRUNKS, "dialed=112") == "allowed emergency"


NAMES = {
    "long": "x" * 600,
    "longest that fits": "x" * 512,
    "not ASCII": "grüße-北京-😀@host;tag=ä",
    "long and not ASCII": "ü" * 513,
    "quotes": 'a"b\\c/{}[]:,\'@host;tag="1"',
    "control characters": "a\x01\x1b[2Jb\x7f",
    "of the right": "a\u202eb\u00a0c\u200bd",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_carried_as_the_python_client_carries_it(shared: rig.Licensed, start: Start, name: str) -> None:
    key = NAMES[name]
    switch = start(shared.site.socket, holder="names")
    assert switch.acquire(key, TRUNKS, f"port={key[:100]}", f"channel={key[:9]}") == "allowed granted"
    (lease,) = shared.site.leases(holder="names")
    assert lease["key"] == key_text(key)
    assert switch.ask("find", key)[0] == "there"
    assert switch.ask("release", key) == ["released"]


def test_bytes_that_are_no_text_are_a_key_too(shared: rig.Licensed, start: Start) -> None:
    switch = start(shared.site.socket, holder="bytes")
    for key in (b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"):
        assert switch.acquire(key, TRUNKS) == "allowed granted"
        assert switch.ask("release", key) == ["released"]


def test_what_the_daemon_refuses_is_denied_even_where_the_trunk_fails_open(
    licensed: rig.Licensed, start: Start
) -> None:
    site = licensed.site
    switch = start(site.socket)
    switch.acquire("a", TRUNKS)
    refused = switch.ask("acquire", "b", f"{TRUNKS}:99999", "open")
    assert (refused[:2], refused[5]) == (["denied", "refused"], "client")
    assert "InvalidParameter" in refused[6]
    assert switch.acquire("b", *[TRUNKS] * 9, "open") == "denied refused"
    assert switch.acquire("", TRUNKS, "open") == "denied refused"
    assert switch.acquire("b", TRUNKS) == "allowed granted"  # the connection goes on


def test_a_child_opens_a_connection_of_its_own(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    switch.acquire("parent", TRUNKS)
    for number in range(3):
        assert switch.ask("fork", f"child-{number}", TRUNKS)[:2] == ["allowed", "granted"]
        assert switch.ask("find", "parent")[0] == "there"
    licensed.site.kill()
    assert switch.ask("release", "parent") == ["queued"]
    licensed.site.start()
    # What is queued stays the parent's.
    assert switch.ask("fork", "child-3", TRUNKS)[:2] == ["allowed", "granted"]
    assert "parent" in {lease["key"] for lease in licensed.site.leases()}
    assert switch.ask("pending") == ["1", "0"]
