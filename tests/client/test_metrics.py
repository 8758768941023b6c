"""The metrics: their names are those of the documents, their values those of the daemon, and strangers take little."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from featurekeyd.client import exits, exporting
from featurekeyd.client.call import DaemonAway, ReplyGarbled
from featurekeyd.client.control import run
from featurekeyd.client.exporting import MAX_REQUESTS, Exporter, application, read_address, replace
from featurekeyd.client.metrics import EXPECTED_DENIALS, METRICS, Collector, exposition, families

if TYPE_CHECKING:
    from tests.client.conftest import StandIn

    Control = Callable[..., tuple[int, str, str]]

DOCS = Path(__file__).parents[2] / "docs"
LABEL = re.compile(r'\b(\w+)(?:=~|!=|!~|=)"')

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "catalog": "ip-office",
    "platform": "ip500-v2",
    "standing": "grace",
    "simulated": False,
    "feature_key": {"state": "absent", "finding": "no card", "reader": "usb", "simulated": False},
    "leases": 7,
    "emergency_now": 1,
    "emergency_total": 4,
    "emergency_claims": 2,
    "granted": 40,
    "denied": 5,
    "uptime_seconds": 3600,
    "clock": "right",
    "host": "same",
    "check_passed": True,
    "check_seconds": 60,
    "rescue_seconds_left": 100,
    "meters": [{"cause": "feature_key_absent", "draining": True, "seconds_left": 7000, "budget_seconds": 7200}],
    "denials": [
        {"reason": "unknown_feature", "denied": 1},
        {"feature": "sip-trunk-channels", "reason": "limit_reached", "denied": 4},
    ],
    "holders": [
        {"holder": "kamailio", "leases": 7, "silent_seconds": 3, "ttl_seconds": 30, "drift": 2, "channel_drift": 1}
    ],
    "ports": [{"port": "trunk:carrier-a", "ceiling": 4, "in_use": 3, "peak": 4}],
    "alarms": [{"feature": "sip-trunk-channels", "limit": 8, "in_use": 8, "seconds": 3}],
    "turn_times": [{"microseconds": 50, "turns": 10}, {"microseconds": 100, "turns": 5}, {"turns": 1}],
    "turn_seconds": 0.5,
}
FEATURES = [
    {
        "feature": "sip-trunk-channels",
        "limit": 8,
        "in_use": 8,
        "peak": 8,
        "over": 1,
        "reserved": 2,
        "granted": 40,
        "denied": 4,
        "expires": "2027-01-31",
    },
    {"feature": "essential", "limit": 9_999_999, "unlimited": True, "in_use": 0, "peak": 0, "granted": 0, "denied": 0},
]


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, as a reader of another make understands it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(method: str) -> dict[str, Any]:
    return STATUS if method.endswith("Status") else {"features": FEATURES}


@pytest.fixture
def text() -> str:
    return exposition(Collector(asked, away_is_a_value=False))


def test_the_document_names_every_metric_with_type_labels_and_words() -> None:
    rows = re.findall(r"^\| `(featurekeyd_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", (DOCS / "metrics.md").read_text(), re.M)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), says) for name, kind, labels, says in rows}
    assert told == {name: (it.type, it.labels, it.says) for name, it in METRICS.items()}


def test_every_metric_of_the_table_is_there_and_no_other(text: str) -> None:
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    assert types == {name: it.type for name, it in METRICS.items()}


def test_every_sample_has_the_labels_of_the_table(text: str) -> None:
    for name, labels in values(text):
        known = METRICS.get(name) or METRICS[re.sub(r"_(bucket|sum|count)$", "", name)]
        assert {label for label, _ in labels} - {"le"} == set(known.labels), name


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("featurekeyd_up", {}, 1),
        ("featurekeyd_build_info", {"version": "0.1.0", "catalog": "ip-office", "platform": "ip500-v2"}, 1),
        ("featurekeyd_standing", {"standing": "grace"}, 1),
        ("featurekeyd_standing", {"standing": "licensed"}, 0),
        ("featurekeyd_feature_key_present", {}, 0),
        ("featurekeyd_feature_key_state", {"state": "absent"}, 1),
        ("featurekeyd_feature_key_state", {"state": "present"}, 0),
        ("featurekeyd_clock_state", {"state": "right"}, 1),
        ("featurekeyd_host_state", {"state": "changed"}, 0),
        ("featurekeyd_denied_total", {"feature": "sip-trunk-channels", "reason": "others_wait"}, 0),
        ("featurekeyd_meter_left_seconds", {"cause": "feature_key_absent"}, 7000),
        ("featurekeyd_meter_draining", {"cause": "feature_key_absent"}, 1),
        ("featurekeyd_feature_limit", {"feature": "sip-trunk-channels"}, 8),
        ("featurekeyd_feature_limit", {"feature": "essential"}, math.inf),
        ("featurekeyd_feature_over", {"feature": "essential"}, 0),
        ("featurekeyd_denied_total", {"feature": "sip-trunk-channels", "reason": "limit_reached"}, 4),
        ("featurekeyd_denied_total", {"feature": "", "reason": "unknown_feature"}, 1),
        ("featurekeyd_decisions_total", {"decision": "deny"}, 5),
        ("featurekeyd_holder_drift_total", {"holder": "kamailio", "kind": "channel"}, 1),
        ("featurekeyd_holder_ttl_seconds", {"holder": "kamailio"}, 30),
        ("featurekeyd_port_in_use", {"port": "trunk:carrier-a"}, 3),
        ("featurekeyd_alarm", {"feature": "sip-trunk-channels", "port": ""}, 1),
        ("featurekeyd_turn_seconds_bucket", {"le": "0.0001"}, 15),
        ("featurekeyd_turn_seconds_bucket", {"le": "+Inf"}, 16),
        ("featurekeyd_turn_seconds_count", {}, 16),
        ("featurekeyd_turn_seconds_sum", {}, 0.5),
    ],
)
def test_a_value_is_that_of_the_daemon(text: str, name: str, labels: dict[str, str], value: float) -> None:
    assert values(text)[name, frozenset(labels.items())] == value


def test_a_feature_without_a_limit_is_denied_to_nobody_and_has_no_such_series(text: str) -> None:
    denied = [dict(labels) for name, labels in values(text) if name == "featurekeyd_denied_total"]
    assert sorted({it["feature"] for it in denied}) == ["", "sip-trunk-channels"]
    assert len([it for it in denied if it["feature"]]) == len(EXPECTED_DENIALS)


@pytest.mark.parametrize("change", [{"clock": "unset"}, {"host": "changed"}, {"standing": "licensed"}])
def test_no_series_begins_or_ends_with_a_change_of_state(text: str, change: dict[str, Any]) -> None:
    def changed(method: str) -> dict[str, Any]:
        return asked(method) | change

    assert values(text).keys() == values(exposition(Collector(changed, away_is_a_value=False))).keys()


def test_a_license_ends_with_its_last_day(text: str) -> None:
    ends = values(text)["featurekeyd_feature_expiry_timestamp_seconds", frozenset({("feature", "sip-trunk-channels")})]
    assert datetime.datetime.fromtimestamp(ends, datetime.UTC).isoformat() == "2027-02-01T00:00:00+00:00"


def test_who_only_asks_has_said_nothing_of_its_silence() -> None:
    told = {
        family.name for family in families(STATUS | {"holders": [{**STATUS["holders"][0], "ttl_seconds": None}]}, [])
    }
    assert "featurekeyd_holder_silent_seconds" in told
    assert "featurekeyd_holder_ttl_seconds" not in told


def test_what_is_not_known_is_left_out() -> None:
    status = {name: value for name, value in STATUS.items() if name not in {"check_passed", "rescue_seconds_left"}}
    found = {family.name for family in families(status, [])}
    assert not found & {"featurekeyd_check_passed", "featurekeyd_check_age_seconds", "featurekeyd_rescue_left_seconds"}


@pytest.mark.parametrize(
    "wrong", [{"standing": 3}, {"turn_seconds": "x"}, {"turn_times": [{"turns": "x"}]}, {"meters": 1}, {"leases": None}]
)
def test_a_reply_without_what_was_promised_is_garbled(wrong: dict[str, Any]) -> None:
    with pytest.raises(ReplyGarbled):
        list(families({**STATUS, **wrong}, FEATURES))


def test_the_alerts_name_metrics_and_labels_that_there_are() -> None:
    rules = (DOCS / "alerts.example.yml").read_text()
    expressions = re.findall(r"^ +expr: (.+)$", rules, re.M)
    assert len(expressions) == len(re.findall(r"^ +- alert: ", rules, re.M)) > 10
    for expression in expressions:
        names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bfeaturekeyd_\w+", expression)}
        assert names, expression
        assert names <= METRICS.keys(), expression
        known = {label for name in names for label in METRICS[name].labels} | {"instance", "le", "file"}
        assert {*LABEL.findall(expression)} <= known, expression
    assert {*re.findall(r"\$labels\.(\w+)", rules)} <= {label for it in METRICS.values() for label in it.labels} | {
        "instance"
    }


def test_every_alert_has_a_cure() -> None:
    rules = (DOCS / "alerts.example.yml").read_text()
    assert rules.count("- alert:") == rules.count(" cure: ") == rules.count(" summary: ") == rules.count("{severity: ")


# The verb


@pytest.fixture
def control(capsys: pytest.CaptureFixture[str]) -> Control:
    def start(path: str, *arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", path, "metrics", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


@pytest.fixture
def serving(daemon: StandIn) -> StandIn:
    daemon.on("Status", STATUS)
    daemon.on("ListFeatures", {"features": FEATURES})
    return daemon


def test_they_are_printed(serving: StandIn, control: Control, text: str) -> None:
    assert control(serving.path) == (exits.DONE, text, "")


def test_json_has_the_same_samples(serving: StandIn, control: Control, text: str) -> None:
    found = json.loads(control(serving.path, "--json")[1])["metrics"]
    plain = {(it["name"], frozenset(it["labels"].items())): it["value"] for it in found}
    assert plain == {place: None if value == math.inf else value for place, value in values(text).items()}


def test_a_file_is_replaced_in_one_step(serving: StandIn, control: Control, tmp_path: Path, text: str) -> None:
    path = tmp_path / "folder" / "featurekeyd.prom"
    path.parent.mkdir()
    path.write_text("old")
    before = path.stat().st_ino
    assert control(serving.path, "--textfile", str(path)) == (exits.DONE, "", "")
    assert path.read_text() == text
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o644
    assert [it.name for it in path.parent.iterdir()] == ["featurekeyd.prom"]


def test_what_somebody_has_put_beside_the_file_is_not_followed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    path = tmp_path / "featurekeyd.prom"
    planted = tmp_path / ".featurekeyd.prom.guessed"
    planted.symlink_to(victim)
    monkeypatch.setattr("featurekeyd.client.exporting.secrets.token_hex", lambda _: "guessed")
    with pytest.raises(exits.FileTrouble, match="cannot be written: File exists"):
        replace(path, text)
    monkeypatch.undo()
    path.symlink_to(victim)
    (tmp_path / f".featurekeyd.prom.{os.getpid()}").symlink_to(victim)
    replace(path, text)
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious", 0o600)
    assert (path.is_symlink(), path.read_text()) == (False, text)
    assert planted.is_symlink(), "what somebody else has put there stays"


def test_a_daemon_that_is_away_is_a_value_in_the_file_and_an_error_of_the_run(
    absent: StandIn, control: Control, tmp_path: Path
) -> None:
    path = tmp_path / "featurekeyd.prom"
    status, out, err = control(absent.path, "--textfile", str(path))
    assert (status, out) == (exits.AWAY, "")
    assert "is featurekeyd running?" in err
    assert values(path.read_text()) == {("featurekeyd_up", frozenset()): 0.0}


def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left_beside_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(exits.FileTrouble, match="cannot be written"):
        replace(tmp_path / "folder.prom", text)
    assert [it.name for it in tmp_path.iterdir()] == ["folder.prom"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--textfile", "x", "--listen", "y"],
        ["--json", "--textfile", "x"],
        ["--listen", "127.0.0.1"],
        ["--listen", "host.example:80"],
        ["--listen", "127.0.0.1:65536"],
        ["--listen", "127.0.0.1:x"],
    ],
)
def test_wrong_usage_asks_nobody(absent: StandIn, control: Control, arguments: list[str]) -> None:
    status, out, err = control(absent.path, *arguments)
    assert (status, out) == (exits.WRONG_USAGE, "")
    assert "Error: " in err


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("127.0.0.1:9852", ("127.0.0.1", 9852)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("::1:80", ("::1", 80)),
    ],
)
def test_an_address_is_read(said: str, read: tuple[str, int]) -> None:
    assert read_address(said) == read


def test_an_address_that_is_taken_is_told(absent: StandIn, control: Control) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, err = control(absent.path, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert status == exits.FILE_TROUBLE
    assert "cannot listen on 127.0.0.1:" in err


# The exporter


@pytest.fixture
def exported(serving: StandIn) -> Iterator[Exporter]:
    with Served(serving.path) as exporter:
        yield exporter


class Served:
    """An exporter that serves in a thread."""

    def __init__(self, path: str) -> None:
        self.exporter = Exporter("127.0.0.1", 0, application(path))
        self.thread = threading.Thread(target=self.exporter.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Exporter:
        self.thread.start()
        return self.exporter

    def __exit__(self, *_: object) -> None:
        self.exporter.shutdown()
        self.thread.join(20)
        self.exporter.server_close()


def test_an_exporter_that_is_started_again_takes_its_port_at_once(daemon: StandIn) -> None:
    exporter = Exporter("127.0.0.1", 0, application(daemon.path))
    assert exporter.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    exporter.server_close()


def get(exporter: Exporter, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", exporter.server_port, timeout=20)
    try:
        connection.request(method, "/metrics")
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_it_is_served_over_http(exported: Exporter, text: str) -> None:
    status, body = get(exported)
    assert (status, values(body)) == (200, values(text))


def test_each_request_asks_the_daemon_anew(exported: Exporter, serving: StandIn) -> None:
    get(exported)
    serving.on("Status", STATUS | {"leases": 99})
    assert values(get(exported)[1])["featurekeyd_leases", frozenset()] == 99


def test_a_daemon_that_is_away_is_served_as_such_and_told_once(
    absent: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with Served(absent.path) as exporter:
        for _ in range(3):
            assert values(get(exporter)[1]) == {("featurekeyd_up", frozenset()): 0.0}
    assert capsys.readouterr().err.count("there is no socket") == 1


def test_clients_that_say_nothing_take_so_many_places_and_give_way_to_the_next(exported: Exporter) -> None:
    silent = [socket.create_connection(("127.0.0.1", exported.server_port), timeout=20) for _ in range(MAX_REQUESTS)]
    try:
        assert get(exported)[0] == 200
        assert silent[0].recv(1) == b"", "the one that was longest at it is closed"
        silent[1].settimeout(0)
        with pytest.raises(BlockingIOError):
            silent[1].recv(1)
    finally:
        for each in silent:
            each.close()


def test_a_client_that_speaks_slowly_is_given_up_after_the_limit_of_all(
    serving: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "WHOLE_SECONDS", 0.3)
    with (
        Served(serving.path) as exporter,
        socket.create_connection(("127.0.0.1", exporter.server_port), timeout=0.05) as slow,
    ):
        assert spoken_until_closed(slow) > 1
        assert get(exporter)[0] == 200


def spoken_until_closed(slow: socket.socket) -> int:
    """Say a letter whenever a moment has passed; how many, when the other end has closed."""
    for number in range(1000):
        try:
            slow.sendall(b"G")
            if slow.recv(1) == b"":
                return number
        except TimeoutError:
            continue
        except OSError:
            return number
    raise AssertionError("it was never given up")


def test_a_request_that_finds_no_place_is_closed_while_the_daemon_is_slow(
    serving: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROOM_SECONDS", 0.05)
    serving.on("Status", serving.never())
    asking = b"GET / HTTP/1.0\r\n\r\n"
    with Served(serving.path) as exporter, contextlib.ExitStack() as stack:
        for number in range(MAX_REQUESTS):
            waiting = socket.create_connection(("127.0.0.1", exporter.server_port), timeout=20)
            stack.enter_context(waiting).sendall(asking)
            serving.await_calls(number + 1)
        late = stack.enter_context(socket.create_connection(("127.0.0.1", exporter.server_port), timeout=20))
        assert late.recv(1) == b""


def test_a_client_that_is_silent_is_given_up_after_the_limit(serving: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting._Request, "timeout", 0.05)
    with (
        Served(serving.path) as exporter,
        socket.create_connection(("127.0.0.1", exporter.server_port), timeout=20) as silent,
    ):
        assert silent.recv(1) == b""
    assert exporting.REQUEST_SECONDS == 10


def test_a_trouble_that_is_none_of_the_daemon_is_not_hidden() -> None:
    def away(_: str) -> dict[str, Any]:
        raise DaemonAway("nobody")

    with pytest.raises(DaemonAway):
        exposition(Collector(away, away_is_a_value=False))
