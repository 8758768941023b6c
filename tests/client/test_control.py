"""featurekeyctl: what each verb asks, what it shows, and how a run ends."""

from __future__ import annotations

import io
import json
import os
import pty
import pwd
import resource
import shlex
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import exits
from featurekeyd.client.call import Connection
from featurekeyd.client.console import MAX_INPUT, clean, span, write_new
from featurekeyd.client.control import EPILOG, run, tree
from featurekeyd.client.exits import FileTrouble
from featurekeyd.client.license import LicenseClient
from featurekeyd.client.limits import place_text
from featurekeyd.client.session import TIME_LIMIT, Session
from featurekeyd.daemon.site import LOOK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.conftest import Peer, StandIn

    Control = Callable[..., tuple[int, str, str]]

PROGRAM = [sys.executable, "-c", "from featurekeyd.client.control import main; main()"]
PATIENCE = 20
LICENSE = "io.featurekey.License"
FEATURE_KEY = {
    "state": "present",
    "finding": "the certified key is there",
    "reader": "serial:/dev/featurekey",
    "kind": "sd-card",
    "hardware_id": "03534453553038478012345678abcd",
    "assurance": "A1",
    "simulated": False,
}
STATUS = {
    "version": "0.1.0",
    "catalog": "ip-office",
    "platform": "ip500v2",
    "serial": "111311000001",
    "standing": "grace",
    "grace": [
        {"cause": "feature_key_absent", "seconds_left": 3900, "consequence": "deactivated", "remedy": "plug the key in"}
    ],
    "feature_key": FEATURE_KEY | {"state": "absent", "finding": "no card in the reader"},
    "simulated": False,
    "leases": 3,
    "holders": [
        {
            "holder": "kamailio",
            "uid": 107,
            "leases": 3,
            "silent_seconds": 2,
            "drift": 1,
            "channel_drift": 2,
            "drift_seconds": 40,
        },
        {"holder": "asterisk", "uid": 108, "leases": 0, "silent_seconds": 61, "drift": 0, "channel_drift": 0},
    ],
    "over_use": [{"feature": "sip-trunk-channels", "limit": 1, "in_use": 3, "over": 2}],
    "alarms": [{"port": "trunk:carrier-b", "limit": 1, "in_use": 2, "seconds": 75}],
    "ports": [
        {"port": "trunk:carrier-a", "ceiling": 10, "in_use": 3, "peak": 8},
        {"port": "trunk:carrier-b", "ceiling": 1, "in_use": 2, "peak": 2, "over": 1},
    ],
    "emergency_now": 0,
    "emergency_total": 2,
    "emergency_claims": 1,
    "granted": 40,
    "denied": 5,
    "list_number": 7,
    "list_date": "2026-08-01",
    "uptime_seconds": 93784,
}
FEATURES = [
    {
        "feature": "sip-trunk-channels",
        "title": "SIP trunk channels",
        "unit": "channel",
        "mode": "use",
        "limit": 4,
        "base": 0,
        "licensed": 4,
        "capacity": 128,
        "in_use": 3,
        "peak": 4,
        "granted": 40,
        "denied": 5,
    },
    {
        "feature": "voicemail-channels",
        "title": "Voicemail channels",
        "unit": "channel",
        "mode": "use",
        "limit": 0,
        "base": 0,
        "licensed": 0,
        "in_use": 0,
        "peak": 0,
        "granted": 0,
        "denied": 0,
        "lack": "not_licensed",
    },
]
LONG_KEY = "a84b4c76e66710" * 12 + "@pbx;from=314"


def _lease(key: str, channel: str | None, **others: Any) -> dict[str, Any]:
    lease = {
        "holder": "kamailio",
        "key": key,
        "scope": "calls",
        "wants": [{"feature": "sip-trunk-channels", "instances": 1}],
        "port": "trunk:carrier-a",
        "class": "normal",
        "age_seconds": 65,
        "bound": False,
    }
    return lease | ({} if channel is None else {"channel": channel}) | others


LEASES = [
    _lease(LONG_KEY, "1"),
    _lease("[red]b\x1b[2J", "2", wants=[{"feature": "sip-trunk-channels", "instances": 2}, {"feature": "recording"}]),
    _lease("c", None, holder="asterisk", port=None, **{"class": "emergency"}),
]


@pytest.fixture
def control(absent: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Control:
    """Runs featurekeyctl in this process; gives status, standard output and standard error."""

    def start(*arguments: str, stdin: bytes | None = None, path: str = absent.path) -> tuple[int, str, str]:
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = run(["--socket", path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def _verb(*verb: str) -> list[str]:
    """A verb with the arguments it cannot do without."""
    needed = {
        "import": ["-"],
        "add": ["4Q7K"],
        "remove": ["4Q7K"],
        "acquire": ["f", "--holder", "h", "--key", "k"],
        "explain": ["f", "--holder", "h", "--key", "k"],
        "release": ["--holder", "h", "--key", "k"],
        "reserve": ["f", "201"],
        "unreserve": ["f", "201"],
        "check": ["-"] if verb[0] == "catalog" else [],
        "what-if": ["--add", "f"],
        "backup": ["-"],
        "restore": ["-"],
        "support-bundle": ["-"],
        "sizing": ["f"],
    }
    return [*verb, *needed.get(verb[-1], [])]


GROUPS = {"certificate": "import", "catalog": "check"}
VERBS = [_verb(name, *([GROUPS[name]] if name in GROUPS else [])) for name in tree.commands]
ASKING = [verb for verb in VERBS if verb[0] not in {"doctor", "support-bundle"}]
"""Those that have nothing to say without the daemon; the others look for the reason."""


def _name(verb: list[str]) -> str:
    return " ".join(verb[: 1 + (verb[0] in GROUPS)])


# Errors and how a run ends.


@pytest.mark.parametrize("verb", ASKING, ids=_name)
def test_a_missing_daemon_ends_every_verb_with_one_sentence_and_the_cure(control: Control, verb: list[str]) -> None:
    status, out, err = control(*verb, stdin=b"text")
    assert (status, out) == (exits.AWAY, "")
    assert err.startswith("featurekeyctl: there is no socket /")
    assert err.endswith("is featurekeyd running? look with: systemctl status featurekeyd.socket featurekeyd\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ASKING, ids=_name)
def test_a_missing_permission_names_the_group(daemon: StandIn, control: Control, verb: list[str]) -> None:
    denied = daemon.refuses("org.varlink.service.PermissionDenied")
    methods = "Status CheckNow Request ImportCertificate ImportList AddLicense RemoveLicense ListLicenses"
    methods += (
        " ExportLicenses WhatIf CheckCatalog Reserve Unreserve ListReservations ListAudit Backup Restore Rescue GetHost"
        " History"
    )
    for method in [*methods.split(), "ListFeatures", "ListLeases", "Acquire", "Release", "Explain", "Watch"]:
        daemon.on(method, denied)
    status, out, err = control(*verb, stdin=b"text")
    assert (status, out) == (exits.NO_PERMISSION, "")
    managing = verb[0] in {
        "request",
        "certificate",
        "import",
        "add",
        "remove",
        "licenses",
        "export",
        "what-if",
        "audit",
        "backup",
        "restore",
        "catalog",
    }
    managing = managing or verb[0] in {"reserve", "unreserve", "reservations", "check", "rescue", "host"}
    managing = managing or verb[0] in {"history", "sizing"}
    assert ("group featurekey-admin;" in err) is managing
    assert ("group featurekey;" in err) is not managing


@pytest.mark.parametrize("verb", VERBS, ids=_name)
def test_a_reply_without_what_was_promised_is_an_error_and_no_traceback(
    daemon: StandIn, control: Control, verb: list[str]
) -> None:
    for reply in ({"allowed": 1, "finding": "x", "lease": 1, "license": 1, "event": 1, "features": [1]}, {"n": 1}):
        for method in ("Status", "CheckNow", "Request", "ImportCertificate", "ImportList", "AddLicense", "Explain"):
            daemon.on(method, reply)
        for method in ("RemoveLicense", "ListLicenses", "ListFeatures", "ListLeases", "Acquire", "Release", "Watch"):
            daemon.on(method, reply)
        for method in ("Reserve", "Unreserve", "ListReservations"):
            daemon.on(method, reply | {"reservation": 1})
        for method in ("Rescue", "GetHost"):
            daemon.on(method, reply)
        daemon.on("History", reply | {"uses": [{"time": "never"}]})
        assert control(*verb, stdin=b"text")[0] in {exits.DAEMON_ERROR, exits.DONE}


def test_a_daemon_that_closes_without_an_answer_is_away(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", daemon.hangs_up())
    assert control("status")[0] == exits.AWAY


def test_a_slow_daemon_has_a_status_of_its_own_after_ten_seconds(
    daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TIME_LIMIT == 10
    monkeypatch.setattr("featurekeyd.client.session.TIME_LIMIT", 0.05)
    daemon.on("Status", daemon.never())
    status, _, err = control("status")
    assert status == exits.SLOW
    assert err.startswith("featurekeyctl: no answer in time at ")


@pytest.mark.parametrize("name", ["CheckNow", "ImportCertificate", "ImportCheck", "ImportList", "Restore", "Audit"])
def test_a_question_that_reads_the_feature_key_waits_longer_than_the_daemon_does(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    limits: list[float] = []

    def called(_: Connection, __: str, ___: dict[str, object], *, timeout: float) -> dict[str, object]:
        limits.append(timeout)
        return {}

    monkeypatch.setattr(Connection, "call", called)
    Session("socket", as_json=False).ask(f"io.featurekey.Manage.{name}")
    assert limits == [TIME_LIMIT if name == "Audit" else LOOK_SECONDS + 10]


@pytest.mark.parametrize(
    ("error", "parameters", "sentence"),
    [
        (f"{LICENSE}.MessageTooLarge", {"limit": 9}, "the text is too long for the daemon, which takes 9 bytes"),
        (f"{LICENSE}.HolderBelongsToAnotherUser", {"holder": "h"}, "the holder name h belongs to another user"),
        (f"{LICENSE}.TooManyConnections", {"limit": 3}, "3 connections are open already"),
        (f"{LICENSE}.UnexpectedCondition", {}, "see journalctl -u featurekeyd"),
        ("org.varlink.service.InvalidParameter", {"parameter": "key"}, "does not accept the value of key"),
        ("org.varlink.service.InvalidParameter", {}, "does not accept the value of ?"),
        ("org.varlink.service.MethodNotFound", {"method": "m"}, "does not know this question (org.varlink"),
        (f"{LICENSE}.New", {"a": "\x1b[2J"}, "the daemon answered with io.featurekey.License.New (a: \\x1b[2J)"),
    ],
)
def test_errors_of_the_daemon_become_sentences(
    daemon: StandIn, control: Control, error: str, parameters: dict[str, Any], sentence: str
) -> None:
    daemon.on("Status", daemon.refuses(error, **parameters))
    status, out, err = control("status")
    assert (status, out) == (exits.DAEMON_ERROR, "")
    assert sentence in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["acquire", "--holder", "h", "--key", "k"],
        ["acquire", "f:0", "--holder", "h", "--key", "k"],
        ["acquire", "f", "--holder", "h"],
        ["acquire", "f", "--application", "a", "--holder", "h", "--key", "k"],
        ["acquire", "f", "--mode", "pro", "--holder", "h", "--key", "k"],
        ["acquire", "--application", "", "--holder", "h", "--key", "k"],
        ["explain", "--mode", "pro", "--holder", "h", "--key", "k"],
        ["usage", "--by", "moon"],
        ["add"],
        ["add", " "],
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_asked(
    daemon: StandIn, control: Control, arguments: list[str]
) -> None:
    status, out, err = control(*arguments)
    assert (status, out, daemon.calls) == (exits.WRONG_USAGE, "", [])
    assert "Error: " in err


def test_the_exit_statuses_in_the_help_and_in_the_module_are_the_same() -> None:
    listed = {line.split()[0] for line in EPILOG.partition("Exit status:")[2].splitlines() if line.strip()}
    table = {line.split("|")[1].strip() for line in str(exits.__doc__).splitlines() if line.startswith("|")}
    constants = {str(value) for value in vars(exits).values() if isinstance(value, int)}
    assert listed == constants == table - {"status", "---"}


@pytest.mark.parametrize("verb", VERBS, ids=_name)
def test_every_verb_explains_itself_with_an_example_and_knows_json(control: Control, verb: list[str]) -> None:
    status, out, _ = control(*verb[: 1 + (verb[0] in GROUPS)], "--help")
    assert status == 0
    assert "--json" in out
    assert f"\n    featurekeyctl {_name(verb)}" in out
    assert "\n  Example" in out


def test_the_version_is_that_of_the_package(control: Control) -> None:
    assert control("--version") == (0, "featurekeyctl, version 0.1.0\n", "")


def test_the_socket_may_come_from_the_environment(daemon: StandIn) -> None:
    daemon.on("Release", {"released": True})
    ended = subprocess.run(
        [*PROGRAM, "release", "--holder", "h", "--key", "k"],
        env=os.environ | {"FEATUREKEYD_SOCKET": daemon.path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "released\n", "")


def _watching(daemon: StandIn) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    # A shell without job control has SIGINT ignored in what it runs in the background, as the tests may be.
    command = ["env", "--default-signal=INT", *PROGRAM, "--socket", daemon.path, "watch"]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe)


def test_ctrl_c_ends_quietly(daemon: StandIn) -> None:
    def one_event(peer: Peer) -> None:
        peer.say(b'{"parameters":{"event":{"kind":"drift","message":"m"}},"continues":true}\0')

    daemon.on("Watch", one_event)
    with _watching(daemon) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == b"drift  m\n"
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, out, err.strip()) == (exits.INTERRUPTED, b"", b"")


def test_a_closed_pipe_ends_quietly(daemon: StandIn) -> None:
    closed = threading.Event()

    def two_events(peer: Peer) -> None:
        event = b'{"parameters":{"event":{"kind":"drift","message":"m"}},"continues":true}\0'
        peer.say(event)
        assert closed.wait(PATIENCE)
        peer.say(event)

    daemon.on("Watch", two_events)
    with _watching(daemon) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        watching.stdout.readline()
        watching.stdout.close()
        closed.set()
        assert watching.stderr.read() == b""
        assert watching.wait(PATIENCE) == exits.PIPE_CLOSED


def _in_shell(daemon: StandIn, line: str) -> subprocess.CompletedProcess[bytes]:
    """A run by a shell, in which $CTL is the tool."""
    daemon.on("Status", STATUS)
    environment = os.environ | {"FEATUREKEYD_SOCKET": daemon.path}
    words = " ".join(map(shlex.quote, PROGRAM))
    return subprocess.run(["sh", "-c", line.replace("$CTL", words)], env=environment, capture_output=True, check=False)


_NO_ROOM = b"featurekeyctl: standard output cannot be written: No space left on device\n"
_NO_OUTPUT = b"featurekeyctl: standard output is closed, where the answer goes; nothing was asked\n"
_NO_INPUT = b"featurekeyctl: standard input is closed\n"


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("$CTL status > /dev/full", exits.FILE_TROUBLE, _NO_ROOM),
        ("$CTL status --json > /dev/full", exits.FILE_TROUBLE, _NO_ROOM),
        ("$CTL --help > /dev/full", exits.FILE_TROUBLE, _NO_ROOM),
        ("$CTL status --help > /dev/full", exits.FILE_TROUBLE, _NO_ROOM),
        ("$CTL --version > /dev/full", exits.FILE_TROUBLE, _NO_ROOM),
        ("$CTL status >&-", exits.FILE_TROUBLE, _NO_OUTPUT),
        ("$CTL --help >&-", exits.FILE_TROUBLE, _NO_OUTPUT),
        ("$CTL status >&- 2>&-", exits.FILE_TROUBLE, b""),
        ("$CTL status >/dev/full 2>/dev/full", exits.FILE_TROUBLE, b""),
        ("$CTL status >/dev/null 2>&-", exits.DONE, b""),
        ("$CTL nonsense 2>/dev/full", exits.WRONG_USAGE, b""),
        ("$CTL nonsense 2>&-", exits.WRONG_USAGE, b""),
        ("$CTL --socket /nowhere status 2>/dev/full", exits.AWAY, b""),
        ("$CTL --socket /nowhere status 2>&-", exits.AWAY, b""),
        ("$CTL import - <&-", exits.FILE_TROUBLE, _NO_INPUT),
        ("$CTL add - <&-", exits.FILE_TROUBLE, _NO_INPUT),
    ],
)
def test_streams_that_are_full_or_closed_end_a_run_with_one_sentence(
    daemon: StandIn, line: str, status: int, said: bytes
) -> None:
    ended = _in_shell(daemon, line)
    assert (ended.returncode, ended.stderr) == (status, said)


# The Feature Key and the licenses.


def test_key_says_what_is_there(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS)
    daemon.on("CheckNow", FEATURE_KEY)
    assert control("key") == (
        0,
        (
            "Feature Key  present\n"
            "Finding      the certified key is there\n"
            "Reader       serial:/dev/featurekey\n"
            "Kind         sd-card\n"
            "Hardware id  03534453553038478012345678abcd\n"
            "Assurance    A1\n"
            "Serial       111311000001\n"
            "Standing     grace\n"
            "Looked       just now\n"
        ),
        "",
    )


def test_a_simulated_key_is_said_loudly(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS | {"simulated": True})
    daemon.on("CheckNow", FEATURE_KEY | {"simulated": True})
    for verb in ("key", "status"):
        _, out, err = control(verb)
        assert "*** SIMULATED" in err
        assert "present (SIMULATED)" in out or "Simulated        YES" in out


def test_key_without_the_permission_to_look_shows_the_last_look(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS)
    daemon.on("CheckNow", daemon.refuses("org.varlink.service.PermissionDenied"))
    status, out, _ = control("key")
    assert status == exits.REFUSED
    assert "Feature Key  absent\n" in out
    assert "the daemon's last turn" in out
    document = json.loads(control("key", "--json")[1])
    assert (document["state"], document["looked_now"], document["serial"]) == ("absent", False, "111311000001")


def test_request_prints_the_text_or_writes_it(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    reply = {"text": "begin\nkind: sd-card\n", "kind": "sd-card", "hardware_id": "03", "simulated": True}
    daemon.on("Request", reply)
    status, out, err = control("request")
    assert (status, out) == (0, "begin\nkind: sd-card\n")
    assert "SIMULATED" in err
    target = tmp_path / "request.txt"
    assert control("request", "--output", str(target))[0] == 0
    assert target.read_text() == reply["text"]
    status, _, err = control("request", "--output", str(target))
    assert status == exits.FILE_TROUBLE
    assert f"{target} exists already and is not overwritten" in err
    assert control("request", "--output", "-")[:2] == (0, reply["text"])
    status, _, err = control("request", "--output", str(tmp_path / "no" / "where"))
    assert status == exits.FILE_TROUBLE
    assert "cannot be written: No such file" in err


def test_a_file_that_is_there_is_left_as_it_is_and_half_a_file_does_not_stay(tmp_path: Path) -> None:
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_text("mine")
    with pytest.raises(FileTrouble, match="exists already"):
        write_new(str(there), "text")
    assert there.read_text() == "mine"
    write_new(str(new), "\ud800")
    assert new.read_text() == "\\ud800"
    new.unlink()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limit[1]))
    try:
        with pytest.raises(FileTrouble, match="new cannot be written: File too large"):
            write_new(str(new), "longer than four bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not new.exists()


def test_request_without_a_readable_key_says_why(daemon: StandIn, control: Control) -> None:
    error = daemon.refuses("io.featurekey.Manage.FeatureKeyNotReadable", state="absent", finding="plug it in")
    daemon.on("Request", error)
    assert control("request")[0::2] == (
        exits.DAEMON_ERROR,
        "featurekeyctl: the Feature Key cannot be read (absent): plug it in\n",
    )


def test_a_certificate_is_read_from_a_file_or_standard_input(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("ImportCertificate", {"finding": {"verdict": "imported", "accepted": True, "message": "taken"}})
    source = tmp_path / "certificate.txt"
    source.write_text("signed")
    assert control("certificate", "import", str(source)) == (0, "imported: taken\n", "")
    control("certificate", "import", "-", stdin=b"\xef\xbb\xbfpiped")
    assert [daemon.parameters(n)["text"] for n in range(2)] == ["signed", "piped"]


def test_what_came_with_a_certificate_is_told_as_well(daemon: StandIn, control: Control) -> None:
    taken = {"verdict": "imported", "accepted": True, "message": "certificate taken"}
    listed = {"verdict": "imported", "accepted": True, "message": "list taken"}
    daemon.on("ImportCertificate", {"finding": taken, "list_findings": [listed]})
    expected = "imported: certificate taken\nimported: list taken\n"
    assert control("certificate", "import", "-", stdin=b"x") == (0, expected, "")
    assert json.loads(control("certificate", "import", "-", "--json", stdin=b"x")[1])["list_findings"] == [listed]
    unknown = {"verdict": "unknown_feature", "accepted": False, "message": "no feature with code 9"}
    daemon.on("ImportCertificate", {"finding": taken, "list_findings": [listed, unknown]})
    expected += "unknown_feature: no feature with code 9\n"
    assert control("certificate", "import", "-", stdin=b"x") == (exits.REFUSED, expected, "")


def test_a_refused_certificate_names_the_line_and_the_cure(daemon: StandIn, control: Control) -> None:
    finding = {
        "verdict": "bad_document",
        "accepted": False,
        "message": "the signature is missing",
        "remedy": "copy the whole text",
        "line": 9,
    }
    daemon.on("ImportCertificate", {"finding": finding})
    expected = "line 9: bad_document: the signature is missing\n  copy the whole text\n"
    assert control("certificate", "import", "-", stdin=b"x") == (exits.REFUSED, expected, "")


@pytest.mark.parametrize(
    ("raw", "text"), [("4Q7K,é".encode("utf-16"), "4Q7K,é"), ("4Q7K,é".encode("latin-1"), "4Q7K,é"), (b"", "")]
)
def test_a_list_in_the_coding_of_a_spreadsheet_is_read(
    daemon: StandIn, control: Control, raw: bytes, text: str
) -> None:
    daemon.on("ImportList", {"accepted": True, "findings": []})
    control("import", "-", stdin=raw)
    assert daemon.parameters() == {"text": text, "dry_run": False, "all_or_nothing": False}


def test_a_file_that_cannot_be_a_list_is_refused_before_it_is_sent(
    daemon: StandIn, control: Control, tmp_path: Path
) -> None:
    daemon.on("ImportList", {"accepted": True, "findings": []})
    largest = tmp_path / "largest"
    largest.write_bytes(b"x" * MAX_INPUT)
    assert control("import", str(largest))[0] == 0
    largest.write_bytes(b"x" * (MAX_INPUT + 1))
    status, _, err = control("import", str(largest))
    assert (status, len(daemon.calls)) == (exits.FILE_TROUBLE, 1)
    assert f"longer than {MAX_INPUT} bytes" in err
    assert control("import", str(tmp_path / "absent"))[0] == exits.FILE_TROUBLE


def test_a_list_shows_what_was_taken_and_what_is_wrong_in_the_rest(daemon: StandIn, control: Control) -> None:
    good = {"key": "4Q7K-…-GHJK", "feature": "sip-trunk-channels", "instances": 4, "message": "good"}
    findings = [
        good | {"verdict": "unlisted", "accepted": True, "line": 1},
        good | {"verdict": "already_there", "accepted": False, "line": 2},
        {
            "verdict": "mistyped",
            "accepted": False,
            "message": "character 3 does not fit",
            "line": 3,
            "position": 3,
            "suggestion": "4Q7K-AB",
        },
    ]
    daemon.on("ImportList", {"accepted": True, "findings": findings})
    status, out, _ = control("import", "-", "--dry-run", "--all-or-nothing", stdin=b"one\ntwo\n4Q-8K-AB;trunk\n")
    assert (status, out) == (
        exits.REFUSED,
        (
            "LINE  KEY          FEATURE             INSTANCES  VERDICT\n"
            "   1  4Q7K-…-GHJK  sip-trunk-channels          4  unlisted\n"
            "   2  4Q7K-…-GHJK  sip-trunk-channels          4  already_there\n"
            "line 3: mistyped: character 3 does not fit\n"
            "  4Q-8K-AB\n"
            "     ^\n"
            "  did you mean  4Q7K-AB\n"
            "plain list would be taken: 2 good, 1 refused\n"
        ),
    )
    assert daemon.parameters()["dry_run"] is True
    assert daemon.parameters()["all_or_nothing"] is True
    whole = {"verdict": "imported", "accepted": True, "message": "License list 7 is imported: 4 good keys."}
    daemon.on("ImportList", {"accepted": True, "list_number": 7, "findings": [whole]})
    expected = "imported: License list 7 is imported: 4 good keys.\nlicense list 7 taken\n"
    assert control("import", "-", stdin=b"")[:2] == (0, expected)
    daemon.on("ImportList", {"accepted": False, "findings": findings})
    status, out, _ = control("import", "-", stdin=b"")
    assert (status, out.splitlines()[-1]) == (exits.REFUSED, "plain list taken in part: 2 good, 1 refused")
    status, out, _ = control("import", "-", "--all-or-nothing", stdin=b"")
    assert (status, out.splitlines()[-1]) == (exits.REFUSED, "plain list NOT taken: 2 good, 1 refused")
    daemon.on("ImportList", {"accepted": False, "findings": []})
    assert control("import", "-", stdin=b"")[:2] == (exits.REFUSED, "plain list NOT taken: 0 good, 0 refused\n")


def test_a_key_may_be_typed_with_spaces_or_come_from_standard_input(daemon: StandIn, control: Control) -> None:
    finding = {"verdict": "unlisted", "accepted": True, "message": "good for 72 h", "feature": "f", "instances": 4}
    daemon.on("AddLicense", {"finding": finding})
    expected = (0, "unlisted: good for 72 h\n  f, instances: 4\n", "")
    assert control("add", "4q7k", "ab1d", "9xyz") == expected
    assert control("add", "-", stdin=b"\n 4q7k ab1d 9xyz \n\n") == expected
    assert [daemon.parameters(n)["key"] for n in range(2)] == ["4q7k ab1d 9xyz"] * 2


def test_a_key_is_asked_for_on_a_terminal_whatever_its_coding(
    daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    daemon.on("AddLicense", {"finding": {"verdict": "unlisted", "accepted": True, "message": "good"}})
    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"4q7k\xe9\nnext"), encoding="utf-8"))
    assert control("add", "-") == (0, "unlisted: good\n", "License key: ")
    assert daemon.parameters() == {"key": "4q7k\u00e9"}


def test_several_lines_are_no_key(daemon: StandIn, control: Control) -> None:
    status, _, err = control("add", "-", stdin=b"4q7k\nab1d\n")
    assert (status, daemon.calls) == (exits.FILE_TROUBLE, [])
    assert "use: featurekeyctl import -" in err


@pytest.mark.parametrize(
    ("typed", "position", "caret"),
    [("4q7k-ab1d", 5, 5), ("4q7k ab1d", 8, 8), ("4q7k\u2013ab1d", 5, 5), ("4q7k", 5, 4), ("4q\a7", 4, 3)],
)
def test_a_mistyped_key_is_shown_with_a_caret_under_the_wrong_character(
    daemon: StandIn, control: Control, typed: str, position: int, caret: int
) -> None:
    finding = {
        "verdict": "mistyped",
        "accepted": False,
        "message": "mistyped",
        "position": position,
        "suggestion": "4Q7K-CB1D",
        "remedy": "type it again",
    }
    daemon.on("AddLicense", {"finding": finding})
    status, out, _ = control("add", typed)
    lines = out.splitlines()
    assert status == exits.REFUSED
    assert lines[1] == "  " + typed.replace("\u2013", "-").replace("\a", "?")
    assert lines[2] == "  " + " " * caret + "^"
    assert lines[3:] == ["  did you mean  4Q7K-CB1D", "  type it again"]


def test_remove_names_the_license(daemon: StandIn, control: Control) -> None:
    daemon.on("RemoveLicense", {"finding": {"verdict": "ambiguous", "accepted": False, "message": "2 begin so"}})
    assert control("remove", "4Q7K", "AB1D") == (exits.REFUSED, "ambiguous: 2 begin so\n", "")
    assert daemon.parameters() == {"key": "4Q7K AB1D"}


def test_licenses_are_listed(daemon: StandIn, control: Control) -> None:
    license_ = {
        "key": "4Q7K-…-GHJK",
        "feature": "sip-trunk-channels",
        "title": "SIP trunk channels",
        "instances": 4,
        "status": "valid",
        "finding": "on the list",
        "issued": "2026-01-02",
        "trial": False,
        "source": "list 7",
    }
    daemon.on("ListLicenses", daemon.says({"license": license_}, {"license": license_ | {"expires": "2027-01-01"}}))
    assert control("licenses")[1] == (
        "KEY          FEATURE             INSTANCES  STATUS  ISSUED      EXPIRES     SOURCE  FINDING\n"
        "4Q7K-…-GHJK  sip-trunk-channels          4  valid   2026-01-02  -           list 7  on the list\n"
        "4Q7K-…-GHJK  sip-trunk-channels          4  valid   2026-01-02  2027-01-01  list 7  on the list\n"
    )
    assert len(json.loads(control("licenses", "--json")[1])["licenses"]) == 2
    of_set = license_ | {"set": "office-20"}
    daemon.on("ListLicenses", daemon.says({"license": license_ | {"set": None}}, {"license": of_set}))
    assert control("licenses")[1] == (
        "KEY          FEATURE             INSTANCES  STATUS  ISSUED      EXPIRES  SOURCE  SET        FINDING\n"
        "4Q7K-…-GHJK  sip-trunk-channels          4  valid   2026-01-02  -        list 7  -          on the list\n"
        "4Q7K-…-GHJK  sip-trunk-channels          4  valid   2026-01-02  -        list 7  office-20  on the list\n"
    )
    dated = license_ | {"expires": "2026-03-02", "days_left": 0, "trial": True}
    daemon.on("ListLicenses", daemon.says({"license": license_}, {"license": dated}))
    heading, plain, trial = control("licenses")[1].splitlines()
    assert "EXPIRES     DAYS LEFT  TRIAL  SOURCE" in heading
    assert plain.endswith(" -                   -  -      list 7  on the list")
    assert trial.endswith(" 2026-03-02          0  trial  list 7  on the list")
    daemon.on("ListLicenses", {})
    assert control("licenses")[1] == "no license is installed; enter one with: featurekeyctl add KEY\n"


def test_licenses_are_exported_as_they_came(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("ExportLicenses", {"license_list": "-----BEGIN-----\nSerial: 1\n", "typed": "key,name\n40A0,Trunks\n"})
    assert control("export")[:2] == (0, "-----BEGIN-----\nSerial: 1\n")
    assert control("export", "--typed") == (0, "key,name\n40A0,Trunks\n", "")
    file = tmp_path / "licenses.csv"
    assert control("export", "--output", str(file))[:2] == (0, f"written to {file}\n")
    assert file.read_text() == "-----BEGIN-----\nSerial: 1\n"
    assert file.stat().st_mode & 0o077 == 0
    assert control("export", "--output", str(file))[0] == exits.FILE_TROUBLE
    daemon.on("ExportLicenses", {"typed": "key,name\n"})
    assert control("export")[1] == "key,name\n"


def test_typed_keys_that_are_not_in_the_exported_list_are_told(
    daemon: StandIn, control: Control, tmp_path: Path
) -> None:
    signed = "-----BEGIN-----\n40A0-1,Trunks,good\n"
    daemon.on("ExportLicenses", {"license_list": signed, "typed": "key,name\n40A0-1,Trunks\n40B0-2,Phones\n"})
    told = "featurekeyctl: 1 typed key is not in this file; see --typed\n"
    assert control("export") == (0, signed, told)
    assert control("export", "--output", str(tmp_path / "list"))[2] == told
    assert control("export", "--typed")[2] == control("export", "--json")[2] == ""
    daemon.on("ExportLicenses", {"license_list": signed, "typed": "key,name\n40A0-1,Trunks\n"})
    assert control("export") == (0, signed, "")
    daemon.on("ExportLicenses", {"license_list": signed, "typed": "key,name\n40B0-2,Phones\n40C0-3,\n"})
    assert control("export")[2] == "featurekeyctl: 2 typed keys are not in this file; see --typed\n"
    daemon.on("ExportLicenses", {"typed": "key,name\n40B0-2,Phones\n"})
    assert control("export")[2] == ""


# What would be.


def test_what_would_change_is_shown(daemon: StandIn, control: Control) -> None:
    changes = [
        {"feature": "preferred-edition", "title": "Preferred", "before": 0, "after": 1},
        {"feature": "one-x-portal", "title": "Portal", "before": 2, "after": 0, "lack": "prerequisite_missing",
         "missing": ["preferred-edition"]},
    ]  # fmt: skip
    daemon.on("WhatIf", {"standing": "grace", "changes": changes, "findings": []})
    status, out, _ = control("what-if", "--add", "preferred-edition", "--add", "f:4", "--remove", "40A0…1JY4")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["FEATURE", "NOW", "THEN", "LACK", "WAITS", "FOR"],
        ["preferred-edition", "0", "1", "-"],
        ["one-x-portal", "2", "0", "prerequisite_missing", "preferred-edition"],
    ]
    asked = daemon.parameters()
    assert asked["add"] == [{"feature": "preferred-edition", "instances": 1}, {"feature": "f", "instances": 4}]
    assert (asked["remove"], "platform" in asked) == (["40A0…1JY4"], False)
    daemon.on("WhatIf", {"standing": "licensed", "changes": [], "findings": []})
    assert control("what-if", "--platform", "ip500") == (0, "nothing would change\n", "")


def test_what_would_change_is_shown_with_hours_surplus_and_over_use(daemon: StandIn, control: Control) -> None:
    changes = [
        {"feature": "voicemail", "title": "Voicemail", "before": 6, "after": 6, "surplus_after": 2,
         "measures": [{"name": "hours", "before": 20, "after": 25}]},
        {"feature": "trunks", "title": "Trunks", "before": 8, "after": 2, "over": 3, "surplus_before": 4,
         "surplus_after": 4},
        {"feature": "phones", "title": "Phones", "before": 8, "after": 2},
    ]  # fmt: skip
    daemon.on("WhatIf", {"standing": "licensed", "changes": changes, "findings": []})
    assert control("what-if", "--add", "voicemail")[1] == (
        "FEATURE           NOW  THEN  SURPLUS  OVER  LACK  WAITS FOR\n"
        "voicemail           6     6    0 → 2     -  -\n"
        "voicemail: hours   20    25\n"
        "trunks              8     2        4     3  -\n"
        "phones              8     2        -     -  -\n"
    )


@pytest.mark.parametrize("standing", ["deactivated", "restricted"])
def test_a_standing_that_allows_less_is_said_above_what_would_change(
    daemon: StandIn, control: Control, standing: str
) -> None:
    changes = [{"feature": "trunks", "title": "Trunks", "before": 5, "after": 6}]
    daemon.on("WhatIf", {"standing": standing, "changes": changes, "findings": []})
    first, heading, _ = control("what-if", "--add", "trunks")[1].splitlines()
    assert standing.upper() in first
    assert heading.startswith("FEATURE")


def test_what_cannot_be_supposed_is_said(daemon: StandIn, control: Control) -> None:
    finding = {"verdict": "unknown_feature", "accepted": False, "message": "The catalog has no feature f."}
    daemon.on("WhatIf", {"standing": "licensed", "changes": [], "findings": [finding]})
    assert control("what-if", "--add", "f") == (exits.REFUSED, "The catalog has no feature f.\n", "")
    assert control("what-if")[0] == exits.WRONG_USAGE


def test_every_mistake_of_a_catalog_is_explained(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    file = tmp_path / "product.toml"
    file.write_text("id = 1")
    mistakes = [{"where": "id", "what": "expected str, got int"}, {"where": "", "what": "not TOML"}]
    daemon.on("CheckCatalog", {"mistakes": mistakes})
    expected = f"{file}: id: expected str, got int\n{file}: not TOML\n"
    assert control("catalog", "check", str(file)) == (exits.REFUSED, expected, "")
    assert daemon.parameters() == {"text": "id = 1", "name": str(file)}
    daemon.on("CheckCatalog", {"catalog": "product", "features": 7, "mistakes": []})
    assert control("catalog", "check", str(file)) == (0, f"{file}: catalog product, 7 features, no mistake\n", "")


# What is going on.


def test_status_shows_standing_grace_and_holders(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS)
    assert control("status") == (
        0,
        (
            "Standing         grace\n"
            "Feature Key      absent: no card in the reader\n"
            "Simulated        no\n"
            "Serial           111311000001\n"
            "Edition          -\n"
            "Catalog          ip-office on ip500v2\n"
            "License list     7 of 2026-08-01\n"
            "Leases           3\n"
            "Granted, denied  40, 5\n"
            "Emergency calls  0 now, 2 in all, 1 of them to numbers that are not listed\n"
            "Version          0.1.0\n"
            "Running for      1 d 2 h\n"
            "  GRACE feature_key_absent: 1 h 5 min left, then deactivated; plug the key in\n"
            "  OVER-USE sip-trunk-channels: 3 in use, 2 above the limit of 1; none is cut, new ones are refused until "
            "fewer are in use\n"
            "  NEARLY FULL trunk:carrier-b: 2 of 1 in use, for 1 min; see featurekeyctl history\n"
            "\n" + HOLDERS
        ),
        "",
    )


HOLDERS = (
    "HOLDER    UID  LEASES  SILENT  DRIFT  CHANNEL DRIFT  LAST DRIFT\n"
    "kamailio  107       3     2 s      1              2    40 s ago\n"
    "asterisk  108       0   1 min      0              0           -\n"
)


def test_holders_show_drift_and_when_it_was_last(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS)
    assert control("holders") == (0, HOLDERS, "")
    assert json.loads(control("holders", "--json")[1]) == {"holders": STATUS["holders"]}


def test_ports_show_ceiling_use_and_peak(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", STATUS)
    table = (
        "PORT             CEILING  IN USE  PEAK  OVER\n"
        "trunk:carrier-a       10       3     8     -\n"
        "trunk:carrier-b        1       2     2     1\n"
    )
    assert control("ports") == (0, table, "")
    assert json.loads(control("ports", "--json")[1]) == {"ports": STATUS["ports"]}
    daemon.on("Status", STATUS | {"ports": []})
    assert control("ports")[1] == "no port has a ceiling; give it one in featurekeyd.toml under [ceilings]\n"


def test_features_above_their_limits_have_a_column_of_their_own(daemon: StandIn, control: Control) -> None:
    daemon.on("ListFeatures", {"features": [FEATURES[0] | {"limit": 1, "over": 2}, FEATURES[1]]})
    heading, trunk, voicemail = control("features")[1].splitlines()
    assert heading.split()[:5] == ["FEATURE", "LIMIT", "IN", "USE", "OVER"]
    assert (trunk.split()[1:4], voicemail.split()[1:4]) == (["1", "3", "2"], ["0", "0", "-"])


def test_what_only_some_features_have_has_columns_where_one_has_it(daemon: StandIn, control: Control) -> None:
    measures = [{"name": "hours", "amount": 25}, {"name": "boxes", "amount": 3}]
    rich = FEATURES[0] | {"surplus": 7, "reserved": 2, "measures": measures}
    asleep = FEATURES[1] | {"missing": ["preferred-edition", "vcm-channels"], "unused": "not on ip500"}
    daemon.on("ListFeatures", {"features": [rich, asleep]})
    heading, trunk, voicemail = control("features")[1].splitlines()
    assert "CAPACITY  SURPLUS  RESERVED  GRANTED" in heading
    assert heading.split()[-6:] == ["MODE", "MEASURES", "LACK", "WAITS", "FOR", "UNUSED"]
    assert trunk.split()[7:] == ["7", "2", "40", "5", "channel", "use", "hours:25", "boxes:3", "-", "-", "-"]
    end = ["-", "not_licensed", "preferred-edition", "vcm-channels", "not", "on", "ip500"]
    assert voicemail.split()[7:] == ["-", "-", "0", "0", "channel", "use", *end]


def test_a_ceiling_is_told_by_its_sentence_and_not_as_the_count_of_a_feature(daemon: StandIn, control: Control) -> None:
    message = "10 of at most 10 calls are on port trunk:carrier-a."
    daemon.on("Acquire", {"allowed": False, "reason": "ceiling_reached", "feature": "sip-trunk-channels"} | {
        "limit": 10, "in_use": 10, "message": message, "remedy": "See [ceilings]."})  # fmt: skip
    _, out, _ = control("acquire", "sip-trunk-channels", "--holder", "h", "--key", "k")
    assert out == f"DENIED: ceiling_reached, sip-trunk-channels\n  {message}\n  See [ceilings].\n"


def test_leases_into_a_pipe_have_whole_keys_and_no_control_characters(daemon: StandIn, control: Control) -> None:
    daemon.on("ListLeases", daemon.says(*({"lease": lease} for lease in LEASES)))
    _, out, _ = control("leases", "--holder", "kamailio", "--port", "trunk:carrier-a")
    lines = out.splitlines()
    assert len(lines) == 4
    assert LONG_KEY in lines[1]
    assert "[red]b\\x1b[2J" in lines[2]
    assert "sip-trunk-channels:2 recording:1" in lines[2]
    assert "\x1b" not in out
    assert daemon.parameters() == {"holder": "kamailio", "port": "trunk:carrier-a"}
    daemon.on("ListLeases", {})
    assert control("leases")[1] == "no leases\n"
    assert json.loads(control("--json", "leases")[1]) == {"leases": []}


def test_features_show_limit_and_lack(daemon: StandIn, control: Control) -> None:
    daemon.on("ListFeatures", {"features": FEATURES})
    heading, trunk, voicemail = control("features")[1].splitlines()
    assert heading.split() == (
        [
            "FEATURE",
            "LIMIT",
            "IN",
            "USE",
            "PEAK",
            "BASE",
            "LICENSED",
            "CAPACITY",
            "GRANTED",
            "DENIED",
            "UNIT",
            "MODE",
            "LACK",
        ]
    )
    assert trunk.split() == ["sip-trunk-channels", "4", "3", "4", "0", "4", "128", "40", "5", "channel", "use", "-"]
    assert voicemail.split() == [
        "voicemail-channels",
        "0",
        "0",
        "0",
        "0",
        "0",
        "-",
        "0",
        "0",
        "channel",
        "use",
        "not_licensed",
    ]


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("holder", ["asterisk sip-trunk-channels 1 0", "kamailio recording 1 1", "kamailio sip-trunk-channels 2 3"]),
        (
            "port",
            ["- sip-trunk-channels 1 0", "trunk:carrier-a recording 1 1", "trunk:carrier-a sip-trunk-channels 2 3"],
        ),
        (
            "channel",
            [
                "- - sip-trunk-channels 1 0",
                "trunk:carrier-a 1 sip-trunk-channels 1 1",
                "trunk:carrier-a 2 recording 1 1",
                "trunk:carrier-a 2 sip-trunk-channels 1 2",
            ],
        ),
        (
            "feature",
            ["sip-trunk-channels 3 3 4 1 4 40 5", "voicemail-channels 0 0 0 0 0 0 0", "recording 1 1 - - - - -"],
        ),
    ],
)
def test_usage_sums_leases_and_leaves_emergencies_out(
    daemon: StandIn, control: Control, by: str, rows: list[str]
) -> None:
    daemon.on("ListLeases", daemon.says(*({"lease": lease} for lease in LEASES)))
    daemon.on("ListFeatures", {"features": FEATURES})
    shown = [" ".join(line.split()) for line in control("usage", "--by", by)[1].splitlines()]
    assert shown[1:] == rows


def test_usage_by_feature_is_the_default_and_has_limits_in_json(daemon: StandIn, control: Control) -> None:
    daemon.on("ListLeases", daemon.says(*({"lease": lease} for lease in LEASES[:1])))
    daemon.on("ListFeatures", {"features": FEATURES[:1]})
    assert json.loads(control("usage", "--json")[1]) == {
        "by": "feature",
        "rows": [
            {
                "feature": "sip-trunk-channels",
                "leases": 1,
                "instances": 1,
                "limit": 4,
                "in_use": 3,
                "peak": 4,
                "granted": 40,
                "denied": 5,
                "free": 1,
            }
        ],
    }


def test_nothing_in_use_is_said(daemon: StandIn, control: Control) -> None:
    daemon.on("ListLeases", {})
    assert control("usage", "--by", "port") == (0, "nothing is in use\n", "")


# Asking as a telephony system does.


def test_acquire_asks_everything_and_shows_the_grant(daemon: StandIn, control: Control) -> None:
    options = "--holder h --key k --port trunk:x --channel 7 --class callback --dialed 100 --phase setup"
    assert control("acquire", "sip-trunk-channels:2", "recording", *options.split()) == (
        0,
        "allowed: granted, sip-trunk-channels, 1 of 4 in use\n",
        "",
    )
    assert daemon.parameters() == {
        "holder": "h",
        "key": "k",
        "wants": [{"feature": "sip-trunk-channels", "instances": 2}, {"feature": "recording", "instances": 1}],
        "port": "trunk:x",
        "channel": "7",
        "class": "callback",
        "dialed": "100",
        "phase": "setup",
    }


def test_an_application_that_falls_back_is_allowed_and_shows_the_mode_and_why(
    daemon: StandIn, control: Control
) -> None:
    daemon.on("Acquire", daemon.DENIED | {"allowed": True, "reason": "fallen_back", "fallback": None, "mode": "lite"})
    assert control("acquire", "--application", "phone-manager", "--mode", "pro", "--holder", "h", "--key", "k") == (
        0,
        (
            "allowed: fallen_back, sip-trunk-channels, 4 of 4 in use\n"
            "  runs in mode lite\n"
            "  all 4 sip-trunk-channels are in use\n"
            "  wait, or buy more\n"
        ),
        "",
    )
    asked = {"holder": "h", "key": "k", "wants": [], "application": "phone-manager", "mode": "pro"}
    assert daemon.parameters() == asked


def test_a_denial_ends_with_1_and_says_what_to_do(daemon: StandIn, control: Control) -> None:
    daemon.on("Acquire", daemon.DENIED)
    arguments = ("acquire", "sip-trunk-channels", "--holder", "h", "--key", "k")
    assert control(*arguments) == (
        exits.REFUSED,
        (
            "DENIED: limit_reached, sip-trunk-channels, 4 of 4 in use\n"
            "  all 4 sip-trunk-channels are in use\n"
            "  wait, or buy more\n"
            "  may run as emergency-calls-only instead\n"
        ),
        "",
    )
    status, out, _ = control(*arguments, "--json")
    assert (status, json.loads(out)) == (exits.REFUSED, daemon.DENIED)


def test_explain_shows_the_steps_and_changes_nothing(daemon: StandIn, control: Control) -> None:
    steps = [
        {"step": "emergency", "passed": True, "finding": "not an emergency"},
        {"step": "instances", "subject": "sip-trunk-channels", "passed": False, "finding": "4 of 4 in use"},
    ]
    daemon.on("Explain", daemon.DENIED | {"steps": steps})
    status, out, _ = control("explain", "sip-trunk-channels", "--holder", "h", "--key", "k")
    assert status == exits.REFUSED
    assert out.startswith(
        "STEP       SUBJECT             RESULT   FINDING\n"
        "emergency  -                   passed   not an emergency\n"
        "instances  sip-trunk-channels  STOPPED  4 of 4 in use\n"
        "DENIED: limit_reached"
    )
    assert daemon.asked() == ["Explain k"]
    document = json.loads(control("explain", "sip-trunk-channels", "--holder", "h", "--key", "k", "--json")[1])
    assert document["steps"] == steps


def test_release_tells_what_it_did_and_force_asks_the_other_interface(daemon: StandIn, control: Control) -> None:
    daemon.on("ReleaseLease", {"released": False})
    assert control("release", "--holder", "h", "--key", "k") == (0, "released\n", "")
    expected = "nothing to do: h holds nothing under this key\n"
    assert control("release", "--holder", "h", "--key", "k", "--force") == (0, expected, "")
    assert daemon.calls[-1]["method"] == "io.featurekey.Manage.ReleaseLease"


class Terminal(io.TextIOWrapper):
    """Standard input of a person who types this."""

    def __init__(self, typed: bytes) -> None:
        super().__init__(io.BytesIO(typed))

    def isatty(self) -> bool:
        return True


FORCED = ("release", "--holder", "h", "--key", "k", "--force")


@pytest.mark.parametrize("typed", [b"y\n", b"YES\n"])
def test_a_forced_release_asks_a_person_first_and_names_who_is_logged(
    typed: bytes, daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.on("ReleaseLease", {"released": True})
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    status, out, err = control(*FORCED)
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert (status, out) == (0, f"released; the log names uid {os.geteuid()} ({name})\n")
    assert err == "Free k in place of h, whose call may still go on? [y/N] "


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b""], ids=["no", "nothing", "end of file"])
def test_a_forced_release_that_is_not_agreed_to_does_nothing(
    typed: bytes, daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert control(*FORCED)[:2] == (exits.REFUSED, "nothing was done\n")
    assert daemon.calls == []


def test_a_forced_release_does_not_ask_in_a_script_or_with_yes(
    daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.on("ReleaseLease", {"released": True})
    assert control(*FORCED, stdin=b"")[0] == 0
    monkeypatch.setattr("sys.stdin", Terminal(b"n\n"))
    status, out, err = control(*FORCED, "--yes")
    assert (status, out.split(";")[0], err) == (0, "released", "")
    assert len(daemon.calls) == 2


def test_a_release_that_is_not_forced_asks_nobody(
    daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.on("Release", {"released": True})
    monkeypatch.setattr("sys.stdin", Terminal(b""))
    assert control("release", "--holder", "h", "--key", "k") == (0, "released\n", "")


@pytest.mark.parametrize("key", [b"call\xff", b"x" * 600, "\u00e9\u00ff\n".encode()])
def test_the_tool_finds_a_lease_that_the_library_took(daemon: StandIn, key: bytes) -> None:
    text = os.fsdecode(key)
    with LicenseClient("h", daemon.path, PATIENCE) as client:
        client.acquire(text, "f", port=text, channel=text)
    arguments = [b"acquire", b"f", b"--holder", b"h", b"--key", key, b"--port", key, b"--channel", key]
    for words in (arguments, [b"release", b"--holder", b"h", b"--key", key]):
        ended = subprocess.run([*PROGRAM, "--socket", daemon.path, *words], capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
    taken, again, released = (daemon.parameters(n) for n in range(3))
    assert taken == again
    assert (released["holder"], released["key"]) == ("h", taken["key"])


def test_names_that_cannot_be_are_wrong_usage_and_an_empty_filter_stays(daemon: StandIn, control: Control) -> None:
    daemon.on("ListLeases", {})
    for holder in ("", "h" * 65, "\udcff"):
        assert control("release", "--holder", holder, "--key", "k")[0] == exits.WRONG_USAGE
        assert control("leases", "--holder", holder)[0] == exits.WRONG_USAGE
    assert control("release", "--holder", "h", "--key", "")[0] == exits.WRONG_USAGE
    assert control("acquire", "f\udcff", "--holder", "h", "--key", "k")[0] == exits.WRONG_USAGE
    assert daemon.calls == []
    control("leases", "--port", "")
    control("leases", "--port", "p" * 129)
    assert [daemon.parameters(n) for n in range(2)] == [{"port": ""}, {"port": place_text("port", "p" * 129)}]


def test_a_key_that_is_not_utf8_keeps_its_caret(daemon: StandIn, control: Control) -> None:
    finding = {"verdict": "mistyped", "accepted": False, "message": "mistyped", "position": 3}
    daemon.on("AddLicense", {"finding": finding})
    assert control("add", "4q\udcff7") == (exits.REFUSED, "mistyped: mistyped\n  4q?7\n    ^\n", "")
    assert daemon.parameters() == {"key": "4q?7"}


def test_watch_shows_events_decisions_and_losses(daemon: StandIn, control: Control) -> None:
    decision = {
        "kind": "decision",
        "time": "2026-08-01T02:03:04Z",
        "message": "all in use",
        "allowed": False,
        "reason": "limit_reached",
        "feature": "sip-trunk-channels",
        "holder": "kamailio",
        "key": "a\x1b",
        "limit": 4,
        "in_use": 4,
    }
    standing = {"kind": "standing", "time": "2026-08-01T02:03:05Z", "message": "grace"}
    daemon.on("Watch", daemon.says({}, {"event": decision}, {"event": standing, "lost": 3}))
    assert control("watch", "--decisions")[:2] == (
        0,
        (
            "2026-08-01T02:03:04Z  decision  DENIED  limit_reached  kamailio  a\\x1b  all in use, "
            "sip-trunk-channels, 4 of 4 in use\n"
            "(3 events lost: they came faster than they could be shown)\n"
            "2026-08-01T02:03:05Z  standing  grace\n"
        ),
    )
    assert (daemon.calls[-1]["more"], daemon.parameters()) == (True, {"decisions": True})
    lines = control("watch", "--json")[1].splitlines()
    assert [json.loads(line) for line in lines] == [{"event": decision}, {"event": standing, "lost": 3}]


def test_watch_waits_for_ever_and_a_listing_does_not(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def note(*_: object, timeout: float, endless: bool) -> list[dict[str, Any]]:
        waits.append((timeout, endless))
        return []

    monkeypatch.setattr("featurekeyd.client.session.Connection.replies", note)
    control("watch")
    control("leases")
    assert waits == [(10, True), (10, False)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_spans_are_said_as_people_say_them(seconds: int, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "True"), ("é", "é"), ("\x1b[31m", "\\x1b[31m"), ("\ud800", "\\ud800")]
)
def test_text_for_a_terminal_is_clean(value: object, text: str) -> None:
    assert clean(value) == text


# Terminals.


def _on_terminal(daemon: StandIn, verb: str, **environment: str) -> str:
    """What featurekeyctl writes to a terminal of 80 columns."""
    master, slave = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    setting = inherited | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environment
    with subprocess.Popen([*PROGRAM, "--socket", daemon.path, verb], env=setting, stdin=slave, stdout=slave) as child:
        os.close(slave)
        written = b""
        try:
            while chunk := os.read(master, 65536):
                written += chunk
        except OSError:
            pass  # how Linux reports that the other side of the terminal is closed
        finally:
            os.close(master)
        assert child.wait(PATIENCE) == 0
    return written.decode()


def test_on_a_terminal_keys_are_folded_and_not_cut(daemon: StandIn) -> None:
    daemon.on("ListLeases", daemon.says(*({"lease": lease} for lease in LEASES)))
    written = _on_terminal(daemon, "leases")
    assert "…" not in written
    heading, *lines = written.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    column = slice(heading.index("KEY"), heading.index("WANTS"))
    assert "".join(line[column].strip() for line in lines).startswith(LONG_KEY + "[red]b")
    assert max(map(len, lines)) <= 80
    assert "\x1b[1m" in written


def test_no_color_is_respected(daemon: StandIn) -> None:
    daemon.on("ListLeases", daemon.says(*({"lease": lease} for lease in LEASES)))
    assert "\x1b[3" not in _on_terminal(daemon, "leases", NO_COLOR="1")


def test_json_and_acquire_do_not_load_rich(daemon: StandIn) -> None:
    script = "import sys; sys.modules['rich'] = None; from featurekeyd.client.control import main; main()"
    daemon.on("Status", STATUS)
    for verb in (["status", "--json"], ["acquire", "f", "--holder", "h", "--key", "k"]):
        command = [sys.executable, "-c", script, "--socket", daemon.path, *verb]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_a_terminal_without_the_letters_gets_their_numbers(daemon: StandIn) -> None:
    daemon.on("ListLeases", {"lease": LEASES[0] | {"key": "é"}})
    ended = subprocess.run(
        [*PROGRAM, "--socket", daemon.path, "leases"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\xe9" in ended.stdout
