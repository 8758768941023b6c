"""The license client: whatever the daemon does, calls are answered and leases come back."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.client.answer import Answer, Grace, SyncResult
from featurekeyd.client.call import DEFAULT_SOCKET, CallError, DaemonAway, DaemonSlow, ReplyGarbled, encode
from featurekeyd.client.license import (
    COOL_DOWN,
    EMERGENCY_NUMBERS,
    TIME_LIMIT,
    LicenseClient,
    SyncLease,
)
from featurekeyd.client.limits import MAX_MESSAGE, key_text, place_text
from featurekeyd.client.wantsyntax import Want

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.conftest import Clock, Peer, StandIn

TRUNK = "sip-trunk-channels"
LONG = 20.0
SHORT = 0.05


@pytest.fixture
def client(absent: StandIn, clock: Clock) -> Iterator[LicenseClient]:
    """A client whose clock stands still: a time limit of 20 s is never met, however loaded the host is."""
    with LicenseClient("kamailio", absent.path, LONG, clock=clock) as made:
        yield made


@pytest.fixture
def hasty(absent: StandIn, clock: Clock) -> Iterator[LicenseClient]:
    """A client that gives up after 50 ms, for questions that are never answered."""
    with LicenseClient("kamailio", absent.path, SHORT, clock=clock) as made:
        yield made


# Answers.


def test_a_grant_comes_with_its_numbers(daemon: StandIn, client: LicenseClient) -> None:
    assert client.acquire("a", TRUNK) == Answer(allowed=True, reason="granted", feature=TRUNK, limit=4, in_use=1)


def test_a_refusal_is_a_value_with_reason_count_and_cure(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", daemon.DENIED)
    made = {"grace": (), "from_daemon": True, "mode": None, "place": None}
    assert dataclasses.asdict(client.acquire("a", TRUNK)) == daemon.DENIED | made


def test_grace_comes_with_the_answer(daemon: StandIn, client: LicenseClient) -> None:
    meter = {"cause": "feature_key_absent", "seconds_left": 60, "consequence": "deactivated", "remedy": "plug it in"}
    daemon.on("Acquire", daemon.GRANTED | {"grace": [meter]})
    assert client.acquire("a", TRUNK).grace == (Grace("feature_key_absent", 60, "deactivated", "plug it in"),)


def test_everything_the_caller_says_is_asked(daemon: StandIn, client: LicenseClient) -> None:
    wants: list[Want | str] = [Want(TRUNK, 2), "voicemail-channels:3", "recording"]
    client.acquire("a", wants, port="trunk:x", channel="7", call_class="callback", dialed="100", phase="established")
    assert daemon.parameters() == {
        "holder": "kamailio",
        "key": "a",
        "wants": [
            {"feature": TRUNK, "instances": 2},
            {"feature": "voicemail-channels", "instances": 3},
            {"feature": "recording", "instances": 1},
        ],
        "port": "trunk:x",
        "channel": "7",
        "class": "callback",
        "dialed": "100",
        "phase": "established",
    }


def test_an_application_is_asked_for_in_place_of_wants_and_the_answer_names_its_mode(
    daemon: StandIn, client: LicenseClient
) -> None:
    fallen = {"reason": "fallen_back", "mode": "pro", "message": "No license.", "remedy": "Order one."}
    daemon.on("Acquire", daemon.GRANTED | fallen)
    answer = client.acquire("pc-1", application="phone-manager", mode="pc-softphone")
    assert (answer.allowed, answer.reason, answer.mode, answer.message) == (True, "fallen_back", "pro", "No license.")
    asked = {"holder": "kamailio", "key": "pc-1", "wants": [], "application": "phone-manager"}
    assert daemon.parameters() == asked | {"mode": "pc-softphone"}
    client.acquire("pc-1", application="phone-manager")
    assert daemon.parameters() == asked


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"mode": "pro", "wants": TRUNK},
        {"application": "phone-manager", "wants": TRUNK},
        {"application": ""},
        {"application": "a\n"},
        {"application": "x" * 65},
        {"application": "phone-manager", "mode": ""},
        {"application": b"phone-manager"},
    ],
)
def test_what_names_neither_features_nor_one_application_is_a_mistake_of_the_caller(
    said: dict[str, Any], daemon: StandIn, client: LicenseClient
) -> None:
    with pytest.raises(ValueError, match=r"application|at least one feature|mode"):
        client.acquire("pc-1", **said)
    assert daemon.calls == []


def test_an_application_without_a_daemon_is_answered_as_the_caller_chose(
    absent: StandIn, client: LicenseClient
) -> None:
    for allowed in (False, True):
        answer = client.acquire("pc-1", application="phone-manager", fail_open=allowed)
        assert (answer.allowed, answer.reason, answer.mode, answer.feature) == (allowed, "daemon_away", None, None)


def test_an_emergency_call_of_an_application_is_an_emergency_call(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", {"allowed": True, "reason": "emergency"})
    assert client.acquire("pc-1", application=7, mode="a\n", dialed="112").allowed  # type: ignore[arg-type]
    assert daemon.parameters()["class"] == "emergency"
    assert "application" not in daemon.parameters()


@pytest.mark.parametrize("key", ["x" * 513, "call\n1", b"call\xff".decode("utf-8", "surrogateescape"), "\x00" * 600])
def test_a_key_that_cannot_be_carried_has_one_stand_in_for_every_question(
    daemon: StandIn, client: LicenseClient, key: str
) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 1})
    client.acquire(key, TRUNK)
    client.release(key)
    client.sync("calls", [SyncLease(key, (TRUNK,)), SyncLease(key_text(key), (TRUNK,))])
    asked = [daemon.parameters(0)["key"], daemon.parameters(1)["key"]]
    asked += [lease["key"] for lease in daemon.parameters(2)["leases"]]
    assert set(asked) == {key_text(key)} != {key}
    assert len(asked[0]) <= 512
    assert asked[0].isprintable()


def test_a_queued_release_of_a_stand_in_is_dropped_when_its_call_is_on_the_list(
    absent: StandIn, client: LicenseClient, clock: Clock
) -> None:
    client.release("x" * 600)
    clock.now += 1
    absent.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 1})
    absent.appear()
    client.sync("calls", [SyncLease("x" * 600, (TRUNK,))])
    assert absent.asked() == ["Sync"]


def test_numbers_are_taken_as_text_and_empty_names_are_left_out(daemon: StandIn, client: LicenseClient) -> None:
    client.acquire(17, TRUNK, port=3, channel=7, dialed=100)
    client.release(17)
    client.acquire("a", TRUNK, port="", channel="", dialed="")
    wants = [{"feature": TRUNK, "instances": 1}]
    said = {"holder": "kamailio", "key": "17", "wants": wants, "port": "3", "channel": "7", "dialed": "100"}
    assert daemon.parameters(0) == said
    assert daemon.parameters(1)["key"] == "17"
    assert daemon.parameters(2) == {"holder": "kamailio", "key": "a", "wants": wants}
    assert SyncLease(17, (TRUNK,), 3, 7).on_wire() == {"key": "17", "wants": wants, "port": "3", "channel": "7"}
    emergency = SyncLease("a", (), call_class="emergency", dialed=112)
    assert emergency.on_wire() == {"key": "a", "wants": [], "class": "emergency", "dialed": "112"}


def test_places_that_cannot_be_carried_are_shortened_and_such_a_number_is_left_out(
    daemon: StandIn, client: LicenseClient
) -> None:
    client.acquire("a", TRUNK, port="p" * 129, channel="c\n", dialed="1" * 65)
    said = daemon.parameters()
    assert said["port"] == place_text("port", "p" * 129)
    assert said["channel"] == place_text("channel", "c\n")
    assert "dialed" not in said


@pytest.mark.parametrize(
    ("key", "wants", "others"),
    [
        ("", TRUNK, {}),
        ("a", [], {}),
        ("a", "", {}),
        ("a", f"{TRUNK}:0", {}),
        ("a", TRUNK, {"call_class": "urgent"}),
        ("a", TRUNK, {"phase": "ringing"}),
        ("a", TRUNK, {"phase": ["setup"]}),
        ("a", TRUNK, {"call_class": 7}),
        ("a", TRUNK, {"port": 1.5}),
        ("a", TRUNK, {"channel": True}),
        ("a", TRUNK, {"dialed": b"100"}),
        (None, TRUNK, {}),
        ("a", None, {}),
        ("a", 7, {}),
        ("a", [("sip", 1)], {}),
        ("a", itertools.repeat(TRUNK), {}),
    ],
)
def test_a_mistake_of_the_program_is_a_value_error(
    client: LicenseClient, key: Any, wants: Any, others: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"must|needs|at least"):
        client.acquire(key, wants, **others)


def test_a_release_without_a_key_is_a_value_error(client: LicenseClient) -> None:
    with pytest.raises(ValueError, match="key must not be empty"):
        client.release("")


@pytest.mark.parametrize(
    "arguments",
    [
        {"holder": ""},
        {"holder": "h" * 65},
        {"holder": "a\n"},
        {"holder": None},
        {"timeout": 0},
        {"timeout": 61},
        {"timeout": float("nan")},
        {"emergency_numbers": "112"},
        {"emergency_numbers": b"112"},
        {"emergency_numbers": 112},
        {"emergency_numbers": [None]},
    ],
)
def test_a_client_that_cannot_work_is_not_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|collection"):
        LicenseClient(**({"holder": "kamailio"} | arguments))


def test_the_socket_and_the_time_limit_are_those_of_the_design() -> None:
    client = LicenseClient("kamailio")
    assert (client.path, client._timeout) == (DEFAULT_SOCKET, TIME_LIMIT)
    assert (TIME_LIMIT, COOL_DOWN, EMERGENCY_NUMBERS) == (0.25, 1.0, ("112", "911"))


def test_the_socket_may_be_given_as_a_path(daemon: StandIn) -> None:
    with LicenseClient("h" * 64, Path(daemon.path), LONG) as client:
        assert client.path == daemon.path
        assert client.acquire("a", TRUNK).from_daemon
        assert client.acquire("a", TRUNK, dialed="112").allowed


def test_release_says_whether_anything_was_held(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Release", {"released": True}, {"released": False})
    assert client.release("a") is True
    assert client.release("a") is False
    assert client.pending_releases == 0


def test_status_is_the_daemons_own(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Status", {"standing": "licensed"})
    assert client.status() == {"standing": "licensed"}


# When the socket is opened, and whose it is.


def test_the_socket_is_opened_with_the_first_question_and_kept(absent: StandIn, client: LicenseClient) -> None:
    absent.appear()
    assert absent.connections == 0
    client.acquire("a", TRUNK)
    client.release("a")
    assert absent.connections == 1


def test_a_daemon_that_was_restarted_is_found_again_within_the_question(daemon: StandIn, client: LicenseClient) -> None:
    client.acquire("a", TRUNK)
    daemon.vanish()
    daemon.appear()
    assert client.acquire("b", TRUNK).from_daemon


def test_a_child_uses_neither_the_connection_nor_the_queue_of_its_parent(daemon: StandIn) -> None:
    script = """if True:
        import os, sys
        from featurekeyd.client.license import LicenseClient
        client = LicenseClient("kamailio", sys.argv[1], 20)
        assert client.acquire("parent", "f").allowed
        lane = client._lane()
        opened = lane.connection._socket.fileno()
        lane.queue.add("parents-release", 0)
        child = os.fork()
        if child == 0:
            answer = client.acquire("child", "f")
            assert answer.allowed, answer
            assert client.pending_releases == 0
            try:
                os.fstat(opened)
                reused = client._lane().connection._socket.fileno() == opened
            except OSError:
                reused = True
            os._exit(0 if reused else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert client.acquire("parent-again", "f").allowed
        print(client.pending_releases, flush=True)
    """
    ended = subprocess.run([sys.executable, "-c", script, daemon.path], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
    order = ["Acquire parent", "Acquire child", "Release parents-release", "Acquire parent-again"]
    assert daemon.asked() == order
    assert daemon.connections == 2


def test_threads_share_one_client_and_each_gets_its_own_answer(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", lambda peer: daemon.says(daemon.GRANTED | {"feature": peer.call["parameters"]["key"]})(peer))
    wrong = []

    def ask(name: str) -> None:
        for number in range(20):
            key = f"{name}-{number}"
            if client.acquire(key, TRUNK).feature != key or not client.release(key):
                wrong.append(key)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert wrong == []
    assert (len(daemon.calls), daemon.connections) == (240, 1)


def test_waiting_for_another_thread_counts_against_the_time_limit(daemon: StandIn, hasty: LicenseClient) -> None:
    with hasty._lane().lock:
        answer = hasty.acquire("a", TRUNK)
        assert hasty.release("b") is False
    assert (answer.allowed, answer.reason, daemon.calls) == (False, "daemon_away", [])
    assert hasty.pending_releases == 1


# Trouble.


def test_a_missing_daemon_is_a_refusal_that_says_so(client: LicenseClient) -> None:
    answer = client.acquire("a", TRUNK)
    assert (answer.allowed, answer.reason, answer.feature, answer.from_daemon) == (False, "daemon_away", TRUNK, False)
    assert answer.message is not None
    assert "there is no socket" in answer.message
    assert answer.remedy == "is featurekeyd running?"
    assert isinstance(client.last_trouble, DaemonAway)


def test_the_caller_may_choose_to_let_the_call_through(client: LicenseClient) -> None:
    answer = client.acquire("a", TRUNK, fail_open=True)
    assert (answer.allowed, answer.reason, answer.from_daemon) == (True, "daemon_away", False)


def test_fail_open_does_not_overrule_a_refusal_of_the_daemon(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", daemon.DENIED)
    assert not client.acquire("a", TRUNK, fail_open=True).allowed


_ERRORS = [
    ("org.varlink.service.InvalidParameter", {"parameter": "key"}, "as key; the limits stand in io.featurekey.License"),
    ("org.varlink.service.InvalidParameter", {}, "passes as ?;"),
    ("io.featurekey.License.HolderBelongsToAnotherUser", {"holder": "kamailio"}, "the name kamailio belongs to"),
    ("io.featurekey.License.MessageTooLarge", {"limit": 9}, "journalctl"),
    ("org.varlink.service.MethodNotFound", {"method": "m"}, "restart featurekeyd"),
]


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize(("error", "parameters", "remedy"), _ERRORS)
def test_an_error_of_the_daemon_is_a_refusal_for_fail_open_too_and_without_a_cool_down(
    daemon: StandIn, client: LicenseClient, error: str, parameters: dict[str, Any], remedy: str, fail_open: bool
) -> None:
    daemon.on("Acquire", daemon.refuses(error, **parameters), daemon.GRANTED)
    answer = client.acquire("a", TRUNK, fail_open=fail_open)
    assert (answer.allowed, answer.reason, answer.feature, answer.from_daemon) == (False, "refused", TRUNK, False)
    assert error in str(answer.message)
    assert all(f"{name}: {value}" in str(answer.message) for name, value in parameters.items())
    assert remedy in str(answer.remedy)
    assert client.acquire("a", TRUNK).allowed
    assert daemon.asked() == ["Acquire a", "Acquire a"]


def test_a_missing_permission_is_a_refusal_for_fail_open_too(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", daemon.refuses("org.varlink.service.PermissionDenied"))
    answer = client.acquire("a", TRUNK, fail_open=True)
    assert (answer.allowed, answer.reason) == (False, "refused")
    assert "section [access]" in str(answer.remedy)


@pytest.mark.parametrize("trouble", ["unexpected", "connections", "garbled", "closed", "slow"])
def test_fail_open_holds_where_the_daemon_could_not_be_asked(
    daemon: StandIn, client: LicenseClient, hasty: LicenseClient, trouble: str
) -> None:
    said = {
        "unexpected": daemon.refuses("io.featurekey.License.UnexpectedCondition"),
        "connections": daemon.refuses("io.featurekey.License.TooManyConnections", limit=9),
        "garbled": daemon.raw(b"]\0"),
        "closed": daemon.hangs_up(),
        "slow": daemon.never(),
    }
    daemon.on("Acquire", said[trouble])
    asking = hasty if trouble == "slow" else client
    answer = asking.acquire("a", TRUNK, fail_open=True)
    assert (answer.allowed, answer.reason, answer.from_daemon) == (True, "daemon_away", False)


def test_a_far_end_that_chooses_a_long_key_gains_nothing_by_it(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Acquire", daemon.DENIED)
    answer = client.acquire("x" * 100_000, TRUNK, fail_open=True)
    assert (answer.allowed, answer.reason) == (False, "limit_reached")


def test_after_trouble_acquire_is_answered_on_the_spot_for_one_second(
    absent: StandIn, client: LicenseClient, clock: Clock
) -> None:
    client.acquire("a", TRUNK)
    absent.appear()
    clock.now += 0.99
    answer = client.acquire("b", TRUNK)
    assert (answer.allowed, absent.calls) == (False, [])
    assert str(answer.message).count("a moment ago") == 1
    clock.now += 0.02
    assert client.acquire("c", TRUNK).from_daemon


def test_the_message_of_the_cool_down_does_not_grow(client: LicenseClient) -> None:
    answers = [client.acquire("a", TRUNK) for _ in range(5)]
    assert answers[1] == answers[4]


def test_a_release_is_tried_even_during_the_cool_down(absent: StandIn, client: LicenseClient) -> None:
    client.acquire("a", TRUNK)
    absent.appear()
    assert client.release("b") is True


def test_a_release_takes_a_fifth_of_the_time_limit_during_the_cool_down(daemon: StandIn, clock: Clock) -> None:
    limits = []
    with LicenseClient("kamailio", daemon.path, 0.25, clock=clock) as client:
        lane = client._lane()
        lane.rests_until = clock.now + 1
        call = lane.connection.call

        def note(method: str, parameters: Any, *, timeout: float) -> dict[str, Any]:
            limits.append(round(timeout, 6))
            return call(method, parameters, timeout=LONG)

        lane.connection.call = note  # type: ignore[method-assign]
        client.release("a")
    assert limits == [0.05]


def test_the_time_limit_covers_queued_releases_and_the_question(daemon: StandIn, clock: Clock) -> None:
    with LicenseClient("kamailio", daemon.path, 1.0, clock=clock) as client:
        for number in range(10):
            client._lane().queue.add(f"r{number}", clock.now)

        def take_time(peer: Peer) -> None:
            clock.now += 0.2
            daemon.says({"released": True})(peer)

        daemon.on("Release", take_time)
        assert client.acquire("a", TRUNK).allowed
        assert daemon.asked() == ["Release r0", "Release r1", "Release r2", "Acquire a"]
        assert client.pending_releases == 7


def test_a_process_without_a_free_descriptor_still_answers_calls_and_keeps_releases(daemon: StandIn) -> None:
    script = """if True:
        import os, resource, sys
        from featurekeyd.client.license import LicenseClient
        client = LicenseClient("kamailio", sys.argv[1], 20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        answers = [client.acquire("a", "f", **how) for how in ({}, {"fail_open": True}, {"dialed": "112"})]
        print([answer.allowed for answer in answers], client.release("b"), client.pending_releases)
        print(client.last_trouble.errno)
    """
    ended = subprocess.run([sys.executable, "-c", script, daemon.path], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == (f"[False, True, True] False 1\n{errno.EMFILE}\n", "")


# The release queue.


def test_releases_wait_for_the_daemon_and_go_before_the_next_question(
    absent: StandIn, client: LicenseClient, clock: Clock
) -> None:
    assert [client.release(key) for key in "abc"] == [False] * 3
    assert client.pending_releases == 3
    absent.appear()
    clock.now += COOL_DOWN
    assert client.acquire("d", TRUNK).allowed
    assert absent.asked() == ["Release a", "Release b", "Release c", "Acquire d"]
    assert client.pending_releases == 0


def test_queued_releases_can_be_delivered_in_an_idle_moment(absent: StandIn, client: LicenseClient) -> None:
    for key in "ab":
        client.release(key)
    assert client.deliver() == 2
    absent.appear()
    assert client.deliver() == 0
    assert client.deliver() == 0
    assert absent.asked() == ["Release a", "Release b"]


def test_a_refused_call_whose_question_was_not_answered_is_released(
    daemon: StandIn, hasty: LicenseClient, clock: Clock
) -> None:
    daemon.on("Acquire", daemon.never(), daemon.GRANTED)
    assert hasty.acquire("a", TRUNK).reason == "daemon_away"
    assert isinstance(hasty.last_trouble, DaemonSlow)
    assert hasty.pending_releases == 1
    clock.now += COOL_DOWN
    hasty._timeout = LONG
    assert hasty.acquire("b", TRUNK).allowed
    assert daemon.asked() == ["Acquire a", "Release a", "Acquire b"]


@pytest.mark.parametrize(
    "said", [b"", b'{"parameters":{"allowed":tr', b"nonsense\0", b'{"parameters":{"allowed":1}}\0']
)
def test_a_question_that_got_no_proper_answer_is_doubtful_too(
    daemon: StandIn, client: LicenseClient, said: bytes
) -> None:
    daemon.on("Acquire", daemon.hangs_up(said))
    assert not client.acquire("a", TRUNK).allowed
    assert client.pending_releases == 1


def test_the_doubt_about_a_queued_release_is_not_about_the_question_behind_it(
    daemon: StandIn, client: LicenseClient, clock: Clock
) -> None:
    client._lane().queue.add("r", clock.now)
    daemon.on("Release", daemon.hangs_up())
    assert not client.acquire("a", TRUNK).allowed
    assert client._lane().queue.keys() == ["r"]


def test_a_question_that_never_left_is_not_doubtful(client: LicenseClient) -> None:
    client.acquire("a", TRUNK)
    assert client.pending_releases == 0


@pytest.mark.parametrize(
    "how", [{"fail_open": True}, {"dialed": "112"}, {"call_class": "emergency"}, {"phase": "established"}]
)
def test_a_call_that_goes_on_anyway_is_not_released(
    daemon: StandIn, client: LicenseClient, how: dict[str, Any]
) -> None:
    daemon.on("Acquire", daemon.hangs_up())
    client.acquire("a", TRUNK, **how)
    assert client.pending_releases == 0


def test_a_key_that_is_acquired_again_is_released_first_and_then_keeps_its_lease(
    daemon: StandIn, client: LicenseClient, clock: Clock
) -> None:
    daemon.on("Acquire", daemon.hangs_up(), daemon.GRANTED)
    assert not client.acquire("a", TRUNK).allowed
    for key in ("older", "a"):
        client._lane().queue.add(key, clock.now)
    clock.now += COOL_DOWN
    assert client.acquire("a", TRUNK).allowed
    client.release("z")
    assert daemon.asked()[1:] == ["Release a", "Release older", "Acquire a", "Release z"]


def test_a_key_that_is_allowed_is_in_the_queue_no_longer(daemon: StandIn, client: LicenseClient, clock: Clock) -> None:
    daemon.on("Release", daemon.refuses("io.featurekey.License.UnexpectedCondition"), {"released": True})
    assert client.release("a") is False
    assert client.pending_releases == 1
    daemon.on("Release", daemon.refuses("io.featurekey.License.UnexpectedCondition"))
    assert client.acquire("a", TRUNK).allowed
    assert client.pending_releases == 0


def test_a_call_that_goes_on_without_the_daemon_is_in_the_queue_no_longer(client: LicenseClient) -> None:
    client.release("a")
    client.release("b")
    assert client.acquire("a", TRUNK, fail_open=True).allowed
    assert client.acquire("b", TRUNK, dialed="112").allowed
    assert client.pending_releases == 0


def test_a_release_that_will_never_be_taken_is_given_up_and_counted(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Release", daemon.refuses("org.varlink.service.InvalidParameter", parameter="key"), {"released": True})
    assert client.release("x" * 5000) is False
    assert (client.pending_releases, client.lost_releases) == (0, 1)
    assert client.release("b") is True


def test_a_release_that_met_a_missing_permission_is_kept(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Release", daemon.refuses("org.varlink.service.PermissionDenied"), {"released": True})
    assert client.release("a") is False
    assert client.pending_releases == 1
    assert client.release("b") is True
    assert daemon.asked() == ["Release a", "Release a", "Release b"]


def test_the_queue_is_bounded_and_says_what_it_lost(client: LicenseClient) -> None:
    for number in range(1030):
        client.release(f"k{number}")
    assert (client.pending_releases, client.lost_releases) == (1024, 6)


# Emergency calls.

EMERGENCIES: list[dict[str, Any]] = [{"call_class": "emergency"}, {"dialed": "112"}, {"dialed": " 911 "}]


@pytest.mark.parametrize("how", EMERGENCIES)
def test_an_emergency_call_is_allowed_with_the_daemon_away_and_in_the_cool_down(
    client: LicenseClient, how: dict[str, Any]
) -> None:
    expected = Answer(allowed=True, reason="emergency", from_daemon=False)
    assert [client.acquire("a", TRUNK, **how) for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize("how", EMERGENCIES)
@pytest.mark.parametrize("trouble", ["error", "denial", "garbled", "closed"])
def test_an_emergency_call_is_allowed_whatever_the_daemon_says(
    daemon: StandIn, client: LicenseClient, how: dict[str, Any], trouble: str
) -> None:
    said = {
        "error": daemon.refuses("org.varlink.service.PermissionDenied"),
        "denial": daemon.says(daemon.DENIED),
        "garbled": daemon.raw(b"]\0"),
        "closed": daemon.hangs_up(),
    }
    daemon.on("Acquire", said[trouble])
    assert client.acquire("a", TRUNK, **how) == Answer(allowed=True, reason="emergency", from_daemon=False)
    assert daemon.parameters()["class"] == "emergency"


def test_an_emergency_call_of_a_slow_daemon_is_allowed(daemon: StandIn, hasty: LicenseClient) -> None:
    daemon.on("Acquire", daemon.never())
    assert hasty.acquire("a", TRUNK, dialed="112").reason == "emergency"


def test_an_emergency_call_is_allowed_even_without_a_key_and_without_wants(client: LicenseClient) -> None:
    assert client.acquire("", [], call_class="emergency").allowed


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({"dialed": 112}, {"dialed": "112"}),
        ({"dialed": "112\n"}, {"dialed": "112"}),
        ({"dialed": b"112"}, {}),
        ({"dialed": " " * 99 + "112"}, {"dialed": "112"}),
        ({"call_class": "Emergency"}, {}),
        ({"dialed": "112", "wants": None}, {"wants": [], "dialed": "112"}),
        ({"dialed": "112", "wants": [("sip", 1)]}, {"wants": [], "dialed": "112"}),
        ({"dialed": "112", "channel": 7, "port": 3}, {"channel": "7", "port": "3", "dialed": "112"}),
        ({"dialed": "112", "channel": 1.5, "port": "p"}, {"port": "p", "dialed": "112"}),
        ({"dialed": "112", "phase": "ringing", "call_class": 5}, {"dialed": "112"}),
    ],
)
def test_mistakes_of_the_program_do_not_keep_an_emergency_from_the_daemon(
    daemon: StandIn, client: LicenseClient, members: dict[str, Any], asked: dict[str, Any]
) -> None:
    daemon.on("Acquire", {"allowed": True, "reason": "emergency"})
    assert client.acquire("a", **{"wants": TRUNK} | members) == Answer(allowed=True, reason="emergency")
    usual = {"holder": "kamailio", "key": "a", "wants": [{"feature": TRUNK, "instances": 1}], "class": "emergency"}
    assert daemon.parameters() == usual | asked


class _Hostile:
    """A value whose every use fails."""

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("used")

    __str__ = __repr__ = __eq__ = __bool__ = __iter__ = __len__ = __index__ = __format__ = _fail
    __hash__ = None  # type: ignore[assignment]


_TAME = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary(max_size=9)
    | st.text(st.characters(), max_size=700) | st.builds(object) | st.just(10**5000)
    | st.builds(lambda: itertools.repeat(TRUNK)) | st.sampled_from(["normal", "callback", "emergency", TRUNK])
)  # fmt: skip


def _nested(atoms: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return atoms | st.lists(atoms, max_size=10) | st.lists(atoms, max_size=3).map(tuple) | st.builds(dict)


_VALUES = _nested(_TAME | st.builds(_Hostile))


def _said(values: st.SearchStrategy[Any], *optional: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"key": values, "wants": values}, optional=dict.fromkeys(optional, values))


_NUMBERS = st.sampled_from(["112", "911 ", "\t112\r\n", 112, 911, b"911"])


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=_said(_VALUES, "port", "channel", "phase", "fail_open"),
    how=st.fixed_dictionaries({"dialed": _NUMBERS, "call_class": _VALUES})
    | st.fixed_dictionaries({"dialed": _VALUES, "call_class": st.just("emergency")}),
    away=st.booleans(),
)
def test_no_value_of_any_type_keeps_an_emergency_call_from_being_allowed(
    daemon: StandIn, tmp_path: Path, said: dict[str, Any], how: dict[str, Any], away: bool
) -> None:
    path = tmp_path / "nobody" if away else daemon.path
    with LicenseClient("kamailio", path, LONG) as client:
        assert client.acquire(**said, **how).allowed is True


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=_said(_nested(_TAME), "port", "channel", "phase", "fail_open", "dialed", "call_class"))
def test_an_ordinary_call_is_answered_or_is_a_value_error(daemon: StandIn, said: dict[str, Any]) -> None:
    with LicenseClient("kamailio", daemon.path, LONG) as client:
        with contextlib.suppress(ValueError):
            assert isinstance(client.acquire(**said), Answer)
        with contextlib.suppress(ValueError):
            assert isinstance(client.release(said["key"]), bool)


def test_an_emergency_call_is_allowed_even_when_the_client_itself_breaks(client: LicenseClient) -> None:
    def broken() -> float:
        raise RuntimeError("no clock")

    client._clock = broken
    assert client.acquire("a", TRUNK, dialed="112").allowed


def test_an_emergency_call_that_the_daemon_grants_has_the_daemons_answer(
    daemon: StandIn, client: LicenseClient
) -> None:
    daemon.on("Acquire", {"allowed": True, "reason": "emergency"})
    assert client.acquire("a", TRUNK, dialed="112").from_daemon


def test_the_emergency_numbers_of_the_site_are_handed_in(absent: StandIn) -> None:
    client = LicenseClient("kamailio", absent.path, emergency_numbers=("110",))
    assert client.acquire("a", TRUNK, dialed="110").allowed
    assert not client.acquire("a", TRUNK, dialed="112").allowed
    client = LicenseClient("kamailio", absent.path, emergency_numbers=(110,))
    assert client.acquire("a", TRUNK, dialed="110").allowed


# Sync.


def _lease(number: int) -> SyncLease:
    return SyncLease(f"k{number}", (Want(TRUNK),), port="trunk:x", channel=str(number))


def test_a_long_list_goes_in_chunks_of_256_with_one_generation(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Sync", *({"adopted": n, "changed": 1, "freed": 0, "held": 100 * n} for n in (1, 2, 3)))
    result = client.sync("calls", map(_lease, range(600)), list_age_ms=40, ttl_seconds=7, takes_over="old")
    assert result == SyncResult(adopted=6, changed=3, freed=0, held=300)
    sent = [daemon.parameters(n) for n in range(3)]
    assert [len(p["leases"]) for p in sent] == [256, 256, 88]
    assert [p["last"] for p in sent] == [False, False, True]
    assert len({p["generation"] for p in sent}) == 1
    del sent[2]["leases"][1:]
    assert sent[2] == {
        "holder": "kamailio",
        "scope": "calls",
        "leases": [{"key": "k512", "wants": [{"feature": TRUNK, "instances": 1}], "port": "trunk:x", "channel": "512"}],
        "taken_ms": sent[0]["taken_ms"],
        "ttl_seconds": 7,
        "generation": sent[0]["generation"],
        "part": 3,
        "last": True,
        "takes_over": "old",
    }


def test_a_list_of_the_longest_keys_fits_into_the_messages_the_daemon_takes(
    daemon: StandIn, client: LicenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 0})
    sizes = []

    def note(method: str, parameters: dict[str, Any]) -> bytes:
        sizes.append(len(encode(method, parameters)))
        return encode(method, parameters)

    monkeypatch.setattr("featurekeyd.client.call.encode", note)
    leases = [SyncLease(f"{n:03}" + "\U0001f4de" * 509, (TRUNK,), "p" * 128, "c" * 128) for n in range(200)]
    client.sync("calls", leases, takes_over="h" * 64)
    assert len(sizes) == len(daemon.calls) == 3
    assert max(sizes) <= MAX_MESSAGE
    sent = [daemon.parameters(n) for n in range(len(sizes))]
    assert [lease["key"] for part in sent for lease in part["leases"]] == [lease.key for lease in leases]
    assert [part["last"] for part in sent] == [False, False, True]


@pytest.mark.parametrize(("leases", "chunks"), [(0, [0]), (1, [1]), (256, [256]), (257, [256, 1])])
def test_the_last_chunk_is_neither_missing_nor_empty(
    daemon: StandIn, client: LicenseClient, leases: int, chunks: list[int]
) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 0})
    client.sync("registrations", map(_lease, range(leases)))
    assert [len(daemon.parameters(n)["leases"]) for n in range(len(daemon.calls))] == chunks


def test_the_generation_rises_even_when_the_clock_stands_still_or_the_process_is_new(
    daemon: StandIn, client: LicenseClient, clock: Clock
) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 0})
    client.sync("calls", [])
    client.sync("calls", [])
    clock.now += 1
    with LicenseClient("kamailio", daemon.path, LONG, clock=clock) as restarted:
        restarted.sync("calls", [])
    generations = [daemon.parameters(n)["generation"] for n in range(3)]
    assert generations == sorted(set(generations))


def test_each_part_says_when_the_whole_list_was_taken(
    daemon: StandIn, client: LicenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(5_000)
    monkeypatch.setattr("time.clock_gettime", lambda _: float(next(ticks)))
    daemon.on("Sync", *[{"adopted": 0, "changed": 0, "freed": 0, "held": 0}] * 2)
    client.sync("calls", map(_lease, range(300)), list_age_ms=100)
    assert [daemon.parameters(n)["taken_ms"] for n in range(2)] == [4_999_900, 4_999_900]


def test_a_call_that_is_on_the_list_is_not_released_unless_it_ended_since(
    absent: StandIn, client: LicenseClient, clock: Clock
) -> None:
    client.release("k1")
    clock.now += 2
    client.release("k2")
    clock.now += 1
    absent.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 2})
    absent.appear()
    client.sync("calls", [_lease(1), _lease(2)], list_age_ms=2000)
    assert absent.asked() == ["Release k2", "Sync"]


def test_sync_and_status_raise_what_went_wrong(client: LicenseClient) -> None:
    with pytest.raises(DaemonAway):
        client.sync("calls", [])
    with pytest.raises(DaemonAway):
        client.status()


def test_a_lease_without_a_key_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="key of a lease"):
        SyncLease("", (Want(TRUNK),))


# Whatever comes back.

_WORDS = st.sampled_from(["allowed", "reason", "grace", "limit", "parameters", "error", "continues", "granted"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=8,
)
_REPLIES = st.fixed_dictionaries({"parameters": st.dictionaries(_WORDS, _JSON, max_size=6)}) | _JSON


def _as_bytes(value: object) -> bytes:
    return json.dumps(value).encode() + b"\0"


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.binary(max_size=60) | _REPLIES.map(_as_bytes), verb=st.sampled_from(["acquire", "release", "others"]))
def test_no_reply_makes_the_client_raise_anything_but_its_own_errors(
    daemon: StandIn, said: bytes, verb: Literal["acquire", "release", "others"]
) -> None:
    for method in ("Acquire", "Release", "Sync", "Status"):
        daemon.on(method, daemon.hangs_up(said))
    with LicenseClient("kamailio", daemon.path, LONG) as client:
        if verb == "acquire":
            assert isinstance(client.acquire("a", TRUNK), Answer)
            assert client.acquire("a", TRUNK, call_class="emergency").allowed
        elif verb == "release":
            assert isinstance(client.release("a"), bool)
        else:
            for ask in (lambda: client.sync("calls", []), client.status):
                with pytest.raises(CallError) if b"\0" not in said else _own_errors():
                    ask()


def _own_errors() -> Any:
    return contextlib.suppress(CallError)


def test_a_sync_reply_that_lacks_a_number_is_garbled(daemon: StandIn, client: LicenseClient) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": True, "freed": 0, "held": 0})
    with pytest.raises(ReplyGarbled, match="changed has the wrong type"):
        client.sync("calls", [])
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0})
    with pytest.raises(ReplyGarbled, match="held is missing"):
        client.sync("calls", [])


def test_the_library_needs_nothing_but_the_standard_library() -> None:
    script = """if True:
        import sys
        for name in ("click", "rich", "msgspec", "cryptography"):
            sys.modules[name] = None
        before = {name.partition(".")[0] for name in sys.modules}
        import featurekeyd.client.call, featurekeyd.client.license
        loaded = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
        print(sorted(loaded), sorted(n for n in sys.modules if n.startswith("featurekeyd.")))
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = ("answer", "call", "callrequest", "license", "limits", "reading", "releasequeue", "wantsyntax")
    assert ended.stdout == f"['featurekeyd'] {['featurekeyd.client', *(f'featurekeyd.client.{m}' for m in modules)]}\n"
