"""featurekeyctl doctor: what it finds in the daemon's answers and around them, and how it says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import bundle, exits, surroundings
from featurekeyd.client.control import run
from featurekeyd.client.faults import Fault, Severity, in_licenses, in_silences, in_status, in_surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.client.conftest import StandIn

    Control = Callable[..., tuple[int, str, str]]

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "serial": "110123456789",
    "standing": "licensed",
    "grace": [],
    "feature_key": {"state": "present", "finding": "there", "reader": "slot", "simulated": False},
    "simulated": False,
    "holders": [],
    "over_use": [],
    "ports": [],
    "emergency_claims": 0,
    "clock": "right",
    "host": "same",
    "check_passed": True,
    "uptime_seconds": 7200,
}
HOLDER = {"holder": "kamailio", "uid": 1, "leases": 4, "silent_seconds": 1, "drift": 0, "channel_drift": 0}
LICENSE = {"key": "4Q7K-…-GHJK", "title": "SIP Trunk Channels", "finding": "said", "status": "valid"}
DIAGNOSIS: dict[str, Any] = {
    "reader": "slot",
    "uid": 990,
    "places": [{"name": "state", "path": "/var/lib/x", "free_bytes": 10**9, "used_percent": 40}],
    "vendor_keys": ["ab"],
    "vendor_keys_wrong": [],
    "vendor_keys_in_use": ["ab"],
    "troubles": [],
}


def names(faults: Iterable[Fault]) -> list[str]:
    return [fault.name for fault in faults]


def test_a_system_in_order_has_no_fault() -> None:
    assert names(in_status(STATUS)) == []
    assert names(in_licenses([LICENSE])) == []
    assert names(in_surroundings(DIAGNOSIS)) == []


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"serial": None, "standing": "deactivated"}, "not_certified"),
        ({"standing": "deactivated"}, "retired"),
        ({"edition": "unlicensed"}, "edition_unlicensed"),
        ({"clock": "set_back"}, "clock_set_back"),
        ({"clock": "ahead"}, "clock_ahead"),
        ({"clock": "unset"}, "clock_unset"),
        ({"host": "changed"}, "host_is_changed"),
        ({"check_passed": False}, "check_failing"),
        ({"simulated": True}, "simulated"),
        ({"emergency_claims": 2}, "emergency_claims"),
        ({"over_use": [{"feature": "x", "in_use": 5, "limit": 4, "over": 1}]}, "over_use"),
        ({"ports": [{"port": "trunk:a", "in_use": 10, "ceiling": 10}]}, "port_full"),
        ({"holders": [HOLDER | {"silent_seconds": 300, "ttl_seconds": 30}]}, "holder_silent"),
        ({"holders": [HOLDER | {"drift": 1, "drift_seconds": 5}]}, "holder_drifts"),
    ],
)
def test_what_the_status_shows_is_named(more: dict[str, Any], found: str) -> None:
    (fault,) = in_status(STATUS | more)
    assert fault.name == found
    assert all((fault.what, fault.cause, fault.cure))


@pytest.mark.parametrize(
    "state",
    ["absent", "no-permission", "busy", "garbled", "wrong-key", "wrong-answer", "unconfigured", "touch-required",
     "unsupported", "fault", "not-looked-yet", "uncertified", "new-in-a-later-release"],
)  # fmt: skip
def test_each_state_of_the_feature_key_has_a_cause_and_a_cure_of_its_own(state: str) -> None:
    key = STATUS["feature_key"] | {"state": state}
    (fault,) = in_status(STATUS | {"feature_key": key})
    assert fault.name == f"key_{state.replace('-', '_')}"
    assert fault.severity is Severity.WARNING
    (spent,) = (it for it in in_status(STATUS | {"feature_key": key, "standing": "deactivated"}) if "key_" in it.name)
    assert spent.severity is Severity.FAULT


def test_a_holder_that_is_silent_without_calls_and_drift_of_long_ago_are_nothing() -> None:
    quiet = HOLDER | {"leases": 0, "silent_seconds": 9999, "ttl_seconds": 30}
    mended = HOLDER | {"drift": 3, "drift_seconds": 86_400}
    assert names(in_status(STATUS | {"holders": [quiet, mended]})) == []


def test_who_only_asks_or_said_that_it_may_be_silent_is_not_told_as_silent() -> None:
    only_asks = HOLDER | {"silent_seconds": 86_000}
    not_yet = HOLDER | {"silent_seconds": 3600, "ttl_seconds": 3601}
    assert names(in_status(STATUS | {"holders": [only_asks, not_yet]})) == []


@pytest.mark.parametrize(("left", "severity"), [(1, Severity.WARNING), (0, Severity.FAULT)])
def test_a_cause_is_a_fault_once_its_time_is_over(left: int, severity: Severity) -> None:
    grace = [{"cause": "feature_key_absent", "seconds_left": left, "consequence": "it is dark", "remedy": "do it"}]
    (fault,) = in_status(STATUS | {"grace": grace})
    assert (fault.name, fault.severity, fault.cure) == ("feature_key_absent", severity, "do it")


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"status": "expired"}, "license_expired"),
        ({"status": "dormant"}, "license_dormant"),
        ({"status": "invalid"}, "license_invalid"),
        ({"status": "unknown"}, "license_unknown"),
        ({"status": "obsolete"}, "license_obsolete"),
        ({"days_left": 30, "expires": "2026-12-01"}, "license_ends_soon"),
        ({"days_left": 31, "expires": "2026-12-02"}, None),
    ],
)
def test_what_the_licenses_show_is_named(more: dict[str, Any], found: str | None) -> None:
    assert names(in_licenses([LICENSE | more])) == ([found] if found else [])


def test_an_expired_license_beside_one_that_counts_is_a_warning() -> None:
    expired = LICENSE | {"feature": "trunk", "status": "expired", "trial": True}
    severities = [
        [fault.severity for fault in in_licenses([expired, LICENSE | {"feature": feature}])]
        for feature in ("trunk", "other")
    ]
    assert severities == [[Severity.WARNING], [Severity.FAULT]]


def test_licenses_that_lack_the_same_are_one_fault_that_names_the_first() -> None:
    rows = [LICENSE | {"status": "invalid", "title": f"Feature {number}"} for number in range(7)]
    (fault,) = in_licenses([*rows, LICENSE])
    assert fault.what.startswith("7 licenses are invalid: Feature 0 (4Q7K-…-GHJK), ")
    assert fault.what.endswith("Feature 4 (4Q7K-…-GHJK) and 2 more.")
    two = in_licenses([rows[0], rows[1] | {"finding": "another"}])
    assert [fault.cause for fault in two] == ["said", "another"]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"vendor_keys": [], "vendor_keys_in_use": []}, ["no_vendor_key"]),
        ({"vendor_keys": ["ab", "cd"]}, ["vendor_keys_changed"]),
        ({"vendor_keys_wrong": ["x.pub is no public key"]}, ["vendor_key_bad"]),
        ({"places": [{"name": "state", "path": "/s", "problem": "No space left on device"}]}, ["state_unusable"]),
        ({"places": [{"name": "run", "path": "/r", "free_bytes": 10**9, "used_percent": 95}]}, ["run_nearly_full"]),
        ({"places": [{"name": "state", "path": "/s", "free_bytes": 1, "used_percent": 3}]}, ["state_nearly_full"]),
        ({"places": [{"name": "vendor_keys", "path": "/v", "problem": "No such file or directory"}]}, []),
    ],
)  # fmt: skip
def test_what_the_daemon_sees_around_itself_is_named(more: dict[str, Any], found: list[str]) -> None:
    assert names(in_surroundings(DIAGNOSIS | more)) == found


def test_entries_of_the_log_that_are_faults_by_themselves_are_named_and_others_are_not() -> None:
    entry = {"priority": "error", "message": "edited", "seconds_ago": 60, "count": 2}
    entries = [entry | {"event": event} for event in ("state_tampered", "sync_drift", "denied")]
    (fault,) = in_surroundings(DIAGNOSIS | {"troubles": entries})
    assert (fault.name, fault.cause, fault.severity) == ("state_tampered", "edited", Severity.FAULT)
    assert fault.what == "The state file was changed by another program, 1 min ago, 2 times since the daemon started."


def trouble(event: str, message: str = "said", ago: int = 60) -> dict[str, Any]:
    return {"event": event, "priority": "error", "message": message, "seconds_ago": ago, "count": 1}


def test_a_program_that_was_turned_away_long_ago_is_no_fault_any_more() -> None:
    found = [in_surroundings(DIAGNOSIS | {"troubles": [trouble("client_refused", ago=ago)]}) for ago in (600, 601)]
    assert [names(faults) for faults in found] == [["client_refused"], []]


def test_a_state_that_can_be_written_again_is_a_warning() -> None:
    found = DIAGNOSIS | {"troubles": [trouble("state_not_stored")]}
    (fault,) = in_surroundings(found)
    assert (fault.severity, "It can be written again now." in fault.what) == (Severity.WARNING, True)
    full = {"name": "state", "path": "/s", "problem": "No space left on device"}
    assert {it.severity for it in in_surroundings(found | {"places": [full]})} == {Severity.FAULT}


@pytest.mark.parametrize(("silent", "found"), [(60, ["holder_silent"]), (59, []), (86_400, [])])
def test_who_fell_silent_is_named_until_it_is_heard_again_or_forgotten(silent: int, found: list[str]) -> None:
    reply = DIAGNOSIS | {"troubles": [trouble("holder_silent", "kamailio fell silent: its 2 leases are freed.")]}
    holder = HOLDER | {"leases": 0, "silent_seconds": silent}
    assert names(in_silences(reply, STATUS | {"holders": [holder, holder | {"holder": "asterisk"}]})) == found


# The verbs


@pytest.fixture
def control(daemon: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Control:
    monkeypatch.setattr(surroundings, "processes", lambda: iter(()))
    monkeypatch.setattr(surroundings, "group_faults", lambda *_: iter(()))
    monkeypatch.setattr(surroundings, "agi_faults", lambda: iter(()))
    Path(daemon.path).chmod(0o666)

    def start(*arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", daemon.path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def prepared(daemon: StandIn, **more: Any) -> None:
    """Let the stand-in answer everything that the doctor asks."""
    daemon.on("Status", STATUS | more)
    daemon.on("ListFeatures", {"features": []})
    daemon.on("ListLicenses", {})
    daemon.on("Diagnose", DIAGNOSIS)
    daemon.on("History", {"uses": []})


def test_a_simulated_system_is_told_and_well_all_the_same(daemon: StandIn, control: Control) -> None:
    prepared(daemon, simulated=True)
    status, out, err = control("doctor")
    assert (status, "SIMULATED" in err) == (exits.DONE, True)
    assert out.endswith("\n\nall is well on this simulated system\n")


def test_all_is_well(daemon: StandIn, control: Control) -> None:
    prepared(daemon)
    assert control("doctor") == (exits.DONE, "all is well\n", "")
    status, out, _ = control("doctor", "--json")
    assert (status, json.loads(out)) == (exits.DONE, {"well": True, "faults": [], "not_seen": []})


def test_faults_come_before_warnings_each_with_cause_and_cure(daemon: StandIn, control: Control) -> None:
    prepared(daemon, clock="unset", over_use=[{"feature": "x", "in_use": 5, "limit": 4, "over": 1}])
    status, out, _ = control("doctor")
    first, second, last = out.split("\n\n")
    assert status == exits.REFUSED
    assert first.startswith("FAULT: 5 of x are in use, and 4 are allowed.\n  cause: The limit fell")
    assert second.startswith("warning: The clock was never set.\n")
    assert "  do:    See that it gets its time: timedatectl" in second
    assert last == "1 fault, 1 warning\n"


def test_warnings_alone_are_no_failure(daemon: StandIn, control: Control) -> None:
    prepared(daemon, clock="unset")
    assert control("doctor")[0] == exits.DONE


def test_what_this_user_may_not_ask_is_said_and_the_rest_is_examined(daemon: StandIn, control: Control) -> None:
    prepared(daemon, clock="unset")
    daemon.on("Diagnose", daemon.refuses("org.varlink.service.PermissionDenied"))
    status, out, _ = control("doctor")
    assert status == exits.DONE
    assert "The clock was never set." in out
    assert "not seen: Diagnose: only root and the group featurekey-admin may ask for it" in out


def test_all_is_well_also_for_who_may_only_ask_as_far_as_that_goes(daemon: StandIn, control: Control) -> None:
    prepared(daemon)
    for method in ("Diagnose", "ListLicenses", "History"):
        daemon.on(method, daemon.refuses("org.varlink.service.PermissionDenied"))
    status, out, err = control("doctor")
    not_seen, well = out.splitlines()
    assert (status, well, err) == (exits.DONE, "all is well, as far as this user may see", "")
    assert not_seen == (
        "not seen: ListLicenses, Diagnose, History: only root and the group featurekey-admin may ask for it"
    )


def test_a_daemon_that_refuses_this_user_altogether_is_a_fault_with_a_cure(daemon: StandIn, control: Control) -> None:
    daemon.on("Status", daemon.refuses("org.varlink.service.PermissionDenied"))
    status, out, _ = control("doctor")
    assert status == exits.REFUSED
    assert "add this user to the group featurekey-admin" in out


def test_a_daemon_that_is_away_is_examined_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--socket", str(tmp_path / "none"), "doctor", "--json"]) == exits.REFUSED
    found = json.loads(capsys.readouterr().out)
    assert found["faults"][0]["name"] == "socket_missing"


def test_a_bundle_is_shown_and_written_only_when_agreed_and_for_nobody_else_to_read(
    daemon: StandIn, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(daemon)
    daemon.on("GetHost", {"nics": [{"permanent": "00:1b:21:5e:8a:01", "addresses": ["192.0.2.17"]}]})
    daemon.on("ListAudit", {})
    place = tmp_path / "bundle.txt"
    for agreed, status in ((False, exits.REFUSED), (True, exits.DONE)):
        monkeypatch.setattr(bundle, "agreed", lambda _, yes=agreed: yes)
        found, out, _ = control("support-bundle", str(place))
        assert found == status
        assert "00:1b:21:xx:xx:xx" in out
        assert place.exists() is agreed
    assert place.stat().st_mode & 0o777 == 0o600
    assert "192.0.x.x" in place.read_text()
    assert control("support-bundle", str(place), "--yes")[0] == exits.FILE_TROUBLE  # nothing is written over


def test_a_bundle_for_programs_is_one_json_document(daemon: StandIn, control: Control) -> None:
    prepared(daemon, clock="unset")
    daemon.on("GetHost", {})
    daemon.on("ListAudit", {})
    status, out, _ = control("--json", "support-bundle", "-")
    found = json.loads(out)
    assert status == exits.DONE
    assert [fault["name"] for fault in found["faults"]] == ["clock_unset"]
    assert found["replies"]["io.featurekey.License.Status"]["clock"] == "unset"
    assert {"settings", "units", "journal"} <= found.keys()


def test_a_bundle_has_the_end_of_journal_and_audit(
    daemon: StandIn, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(daemon)
    daemon.on("GetHost", {})
    daemon.on("ListAudit", daemon.says(*({"entry": {"number": number}} for number in range(300))))
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(surroundings, "command", lambda *words: asked.append(words))
    found = json.loads(control("--json", "support-bundle", "-")[1])
    audit = found["replies"]["io.featurekey.Manage.ListAudit"]
    assert [entry["number"] for entry in audit] == list(range(300 - bundle.AUDIT_ENTRIES, 300))
    journals = [words for words in asked if words[0] == "journalctl"]
    assert [words[words.index("-n") + 1] for words in journals] == [str(bundle.JOURNAL_LINES)] * 2


def test_an_entry_of_the_journal_is_read_whatever_is_in_it() -> None:
    binary = {"__REALTIME_TIMESTAMP": "0", "MESSAGE": [98, 255], "LEASE": None, "_PID": "7"}
    assert bundle._entry(json.dumps(binary)) == {
        "time": "1970-01-01T00:00:00.000+00:00", "PRIORITY": "6", "MESSAGE": "b\ufffd", "LEASE": "None"
    }  # fmt: skip
    assert bundle._entry("-- no entries --") == "-- no entries --"
