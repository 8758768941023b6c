"""The verbs about trust over time: what they ask, what they show, how they end."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import exits
from featurekeyd.client.control import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.conftest import StandIn

    Control = Callable[..., tuple[int, str, str]]

CODE = "4Q7K-AB1D-9XYZ-0123-4567-89AB-CDEF-GHJK"
KEY = {"state": "present", "finding": "there", "reader": "slot", "simulated": False}
GOOD = {"item": "feature_key", "good": True, "message": "The Feature Key is there."}
CHANGED = {"item": "host", "good": True, "warning": True, "message": "Another host.", "remedy": "Enroll it."}
BACK = {"item": "dates", "good": False, "message": "The clock\x1b is back.", "remedy": "Set it."}
HOST: dict[str, Any] = {
    "verdict": "same",
    "why": "This is the enrolled host.",
    "binds": True,
    "binds_addresses": True,
    "parts": [
        {"name": "cpu-model", "weight": 1, "unique": False, "state": "matches", "enrolled": "a1b2", "now": "a1b2"},
        {"name": "cpu-serial", "weight": 3, "unique": True, "state": "not_enrolled", "enrolled": "", "now": "absent"},
    ],
    "kept": 1,
    "lost": 0,
    "unknown": 0,
    "needed": 1,
    "total": 1,
    "nics": [
        {"name": "enp1s0", "permanent": "00:1b:21:5e:8a:01", "primary": True, "addresses": ["192.0.2.1"]},
        {"name": "tun0", "primary": False, "skipped": "virtual", "addresses": []},
    ],
    "addresses_bound": ["192.0.2.1"],
    "addresses_now": ["192.0.2.1"],
    "renewals": 1,
    "max_renewals": 3,
    "enrolled_on": "2026-12-01",
    "simulated": False,
    "hardware_id": "ab" * 32,
}


@pytest.fixture
def control(daemon: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Control:
    def start(*arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = run(["--socket", daemon.path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def asked(daemon: StandIn) -> dict[str, Any]:
    """The parameters of the last call."""
    parameters: dict[str, Any] = daemon.calls[-1]["parameters"]
    return parameters


# Checks


def test_a_check_shows_each_item_and_ends_with_the_cures(daemon: StandIn, control: Control) -> None:
    daemon.on("CheckNow", KEY | {"passed": False, "findings": [GOOD, CHANGED, BACK]})
    assert control("check") == (
        exits.REFUSED,
        (
            "ITEM         RESULT   FINDING\n"
            "feature_key  good     The Feature Key is there.\n"
            "host         warning  Another host.\n"
            "dates        FAILED   The clock\\x1b is back.\n"
            "the check FAILED\n"
            "  host: Enroll it.\n"
            "  dates: Set it.\n"
        ),
        "",
    )


@pytest.mark.parametrize(("passed", "status"), [(True, exits.DONE), (False, exits.REFUSED)])
def test_a_check_ends_by_what_was_found_as_json_too(
    daemon: StandIn, control: Control, passed: bool, status: int
) -> None:
    reply = KEY | {"passed": passed, "findings": [GOOD], "simulated": True}
    daemon.on("CheckNow", reply)
    assert control("check", "--json") == (status, json.dumps(reply) + "\n", "")
    ended, out, err = control("check")
    assert (ended, out.splitlines()[-1]) == (status, "the check passed" if passed else "the check FAILED")
    assert "SIMULATED" in err


def test_a_request_goes_to_a_new_file_or_to_standard_output(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("RequestCheck", {"text": "BEGIN\nNonce: 1\nEND\n"})
    assert control("check", "--request") == (exits.DONE, "BEGIN\nNonce: 1\nEND\n", "")
    file = tmp_path / "check.txt"
    status, out, _ = control("check", "--request", str(file))
    assert (status, file.read_text()) == (exits.DONE, "BEGIN\nNonce: 1\nEND\n")
    assert out.startswith("written to ")
    assert control("check", "--request", str(file))[0] == exits.FILE_TROUBLE
    assert json.loads(control("check", "--request", "--json")[1]) == {"text": "BEGIN\nNonce: 1\nEND\n"}


def test_an_answer_is_brought_from_a_file(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    refusal = {"verdict": "not_asked", "accepted": False, "message": "Nobody asked.", "remedy": "Ask."}
    daemon.on(
        "ImportCheck", {"finding": {"verdict": "checked", "accepted": True, "message": "Good."}}, {"finding": refusal}
    )
    file = tmp_path / "answer.txt"
    file.write_text("the answer")
    assert control("check", "--import", str(file)) == (exits.DONE, "checked: Good.\n", "")
    assert asked(daemon) == {"text": "the answer"}
    assert control("check", "--import", "-", stdin=b"x") == (exits.REFUSED, "not_asked: Nobody asked.\n  Ask.\n", "")


def test_asking_and_bringing_the_answer_are_two_steps(control: Control) -> None:
    status, _, err = control("check", "--request=x", "--import", "y")
    assert status == exits.WRONG_USAGE
    assert "two steps" in err


# Rescue


def test_a_rescue_code_is_given_or_asked_for(daemon: StandIn, control: Control) -> None:
    opened = {"verdict": "rescued", "accepted": True, "message": "Open."}
    daemon.on("Rescue", {"finding": opened, "seconds_left": 604_800})
    said = (exits.DONE, "rescued: Open.\n  open for 7 d 0 h\n", "")
    assert control("rescue", CODE) == said
    assert asked(daemon) == {"code": CODE}
    assert control("rescue", *CODE.split("-")) == said
    assert asked(daemon) == {"code": CODE.replace("-", " ")}
    assert control("rescue", stdin=f"\n {CODE}\n".encode()) == said
    assert asked(daemon) == {"code": CODE}


def test_a_refused_rescue_code_ends_with_status_1_and_is_not_repeated(daemon: StandIn, control: Control) -> None:
    refusal = {"verdict": "not_a_code", "accepted": False, "message": "'U'.", "remedy": "See it.", "position": 3}
    daemon.on("Rescue", {"finding": refusal, "seconds_left": 0})
    assert control("rescue", CODE) == (exits.REFUSED, "not_a_code (character 3): 'U'.\n  See it.\n", "")


def test_no_rescue_code_at_all_is_wrong_usage(control: Control) -> None:
    status, _, err = control("rescue", stdin=b"\n")
    assert (status, "no rescue code" in err) == (exits.WRONG_USAGE, True)


# The host


def test_the_host_is_shown_part_by_part(daemon: StandIn, control: Control) -> None:
    daemon.on("GetHost", HOST)
    status, out, _ = control("host")
    assert status == exits.DONE
    assert out.splitlines()[:6] == [
        "PART        WEIGHT  STATE         ENROLLED  NOW",
        "cpu-model        1  matches       a1b2      a1b2",
        "cpu-serial       3  not_enrolled  -         absent",
        "",
        "INTERFACE         PERMANENT          ADDRESSES  NOT COUNTED",
        "enp1s0 (primary)  00:1b:21:5e:8a:01  192.0.2.1  -",
    ]
    assert "Score            1 of 1 points kept, 1 needed, 0 lost, 0 unknown" in out
    assert f"Hardware id      {'ab' * 32}" in out


def test_a_changed_host_says_how_long_a_command_cures_it(daemon: StandIn, control: Control) -> None:
    changed = {"verdict": "changed", "changed_on": "2026-12-03", "window_days_left": 28}
    announced = {"announced": "192.0.2.7", "announced_seconds_left": 7200, "container": "docker", "simulated": True}
    daemon.on("GetHost", HOST | changed | announced)
    status, out, _ = control("host")
    assert status == exits.REFUSED
    for said in ("2026-12-03; host enroll cures it for 28 days more", "192.0.2.7, good for 2 h 0 min", "SIMULATED"):
        assert said in out
    assert control("host", "--json")[0] == exits.REFUSED


def test_a_host_that_binds_nothing_shows_no_addresses(daemon: StandIn, control: Control) -> None:
    bare = {name: value for name, value in HOST.items() if name != "enrolled_on"}
    daemon.on("GetHost", bare | {"binds": False, "binds_addresses": False, "verdict": "not_enrolled"})
    status, out, _ = control("host")
    assert (status, "Addresses" in out) == (exits.DONE, False)
    assert "Enrolled     not yet" in out


def test_the_host_is_enrolled_with_a_permit_or_without(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("EnrollHost", {"finding": {"verdict": "enrolled", "accepted": True, "message": "Done."}})
    assert control("host", "enroll") == (exits.DONE, "enrolled: Done.\n", "")
    assert asked(daemon).get("permit") is None
    permit = tmp_path / "permit.txt"
    permit.write_text("signed")
    assert control("host", "enroll", "--permit", str(permit))[0] == exits.DONE
    assert asked(daemon) == {"permit": "signed"}


def test_another_address_is_announced(daemon: StandIn, control: Control) -> None:
    refusal = {"verdict": "not_announced", "accepted": False, "message": "No address.", "remedy": "Give one."}
    daemon.on("AnnounceAddress", {"finding": refusal})
    assert control("host", "change-address", "x") == (exits.REFUSED, "not_announced: No address.\n  Give one.\n", "")
    assert asked(daemon) == {"address": "x"}


# The clock


@pytest.mark.parametrize(
    ("state", "status"),
    [("right", exits.DONE), ("unset", exits.DONE), ("set_back", exits.REFUSED), ("ahead", exits.REFUSED)],
)
def test_the_clock_says_what_it_is_good_for(daemon: StandIn, control: Control, state: str, status: int) -> None:
    daemon.on("Status", {"clock": state})
    ended, out, _ = control("clock")
    assert (ended, out.startswith(f"{state}: ")) == (status, True)
    assert control("--json", "clock") == (status, json.dumps({"clock": state}) + "\n", "")


def test_the_clock_is_repaired_by_command(daemon: StandIn, control: Control) -> None:
    daemon.on("RepairClock", {"finding": {"verdict": "repaired", "accepted": True, "message": "Right."}})
    assert control("clock", "repair") == (exits.DONE, "repaired: Right.\n", "")
    assert json.loads(control("clock", "repair", "--json")[1])["finding"]["verdict"] == "repaired"


# What other verbs say of it


def test_what_if_says_what_a_host_would_be_without_a_part(daemon: StandIn, control: Control) -> None:
    daemon.on("WhatIf", {"standing": "licensed", "changes": [], "findings": [], "host": "same", "host_why": "Enough."})
    status, out, _ = control("what-if", "--without-host-part", "enp1s0")
    assert (status, out) == (exits.DONE, "host same: Enough.\nnothing would change\n")
    assert asked(daemon)["without_host_part"] == "enp1s0"


def test_a_deactivated_system_names_the_cause_and_the_cure(daemon: StandIn, control: Control) -> None:
    refusal = daemon.refuses("io.featurekey.Manage.Deactivated", cause="no key.", remedy="Put it back.")
    daemon.on("Reserve", refusal)
    status, _, err = control("reserve", "users", "201")
    assert (status, err) == (
        exits.DAEMON_ERROR,
        "featurekeyctl: the system is deactivated, and this does not cure it: no key. Put it back.\n",
    )


def test_the_status_tells_clock_host_last_check_and_rescue(daemon: StandIn, control: Control) -> None:
    status = {
        "standing": "grace",
        "feature_key": KEY,
        "leases": 0,
        "uptime_seconds": 60,
        "clock": "set_back",
        "host": "changed",
        "check_passed": False,
        "check_seconds": 3600,
        "check_due_seconds": 7200,
        "rescue_seconds_left": 86_400,
    }
    daemon.on("Status", status, {name: it for name, it in status.items() if not name.startswith(("check", "rescue"))})
    lines = control("status")[1].splitlines()
    assert "Clock            set_back" in lines
    assert "Host             changed" in lines
    assert "Last check       FAILED (featurekeyctl check), 1 h 0 min ago; the next in 2 h 0 min" in lines
    assert "Rescue           a rescue code holds it open for 1 d 0 h" in lines
    assert "Last check       none since the start" in control("status")[1].splitlines()
