"""featurekeyctl explain --call: what is asked, what is shown of a call, and how the run ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.client import exits
from featurekeyd.client.control import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import StandIn

    Control = Callable[..., tuple[int, str, str]]

TRUNKS, CODERS = "sip-trunk-channels", "vcm-channels"
LEASE: dict[str, Any] = {
    "holder": "kamailio",
    "key": "a@host;tag=1",
    "scope": "calls",
    "wants": [{"feature": TRUNKS, "instances": 1}],
    "given_back": [{"feature": CODERS, "instances": 1}],
    "phase": "established",
    "port": "trunk:carrier-a",
    "channel": "7",
    "class": "normal",
    "age_seconds": 125,
    "bound": False,
}
FEATURE: dict[str, Any] = {"feature": TRUNKS, "in_use": 3, "limit": 8, "base": 0, "licensed": 8}
LICENSE: dict[str, Any] = {"key": "4Q7K…WXYZ", "feature": TRUNKS, "instances": 8, "status": "valid"}


@pytest.fixture
def control(absent: StandIn, capsys: pytest.CaptureFixture[str]) -> Control:
    def start(*arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", absent.path, "explain", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def tell(daemon: StandIn, *leases: dict[str, Any], features: Any = (FEATURE,), licenses: Any = (LICENSE,)) -> None:
    daemon.on("FindCall", {"leases": list(leases), "ended": []})
    daemon.on("ListFeatures", {"features": list(features)})
    daemon.on("ListLicenses", daemon.says(*({"license": it} for it in licenses)) if licenses else {})


def test_a_call_is_shown_with_what_it_holds_and_what_covers_that(daemon: StandIn, control: Control) -> None:
    tell(daemon, LEASE)
    assert control("--call", "a@host") == (
        exits.DONE,
        (
            "Key         a@host;tag=1\n"
            "Holder      kamailio\n"
            "Class       normal\n"
            "Phase       established\n"
            "Since       2 min ago\n"
            "Where       port trunk:carrier-a, channel 7\n"
            "Scope       calls\n"
            "Given back  vcm-channels:1: taken for call set-up alone\n"
            "FEATURE             HOLDS  IN USE  LIMIT  COVERED BY\n"
            "sip-trunk-channels      1       3      8  license 4Q7K…WXYZ (8)\n"
        ),
        "",
    )
    assert daemon.calls[0]["parameters"] == {"call": "a@host"}


def test_a_holder_narrows_the_search(daemon: StandIn, control: Control) -> None:
    tell(daemon, LEASE)
    assert control("--call", "a@host", "--holder", "kamailio")[0] == exits.DONE
    assert daemon.calls[0]["parameters"] == {"call": "a@host", "holder": "kamailio"}


def covered(daemon: StandIn, control: Control, feature: dict[str, Any] | None, *licenses: dict[str, Any]) -> str:
    """What stands below COVERED BY."""
    tell(daemon, LEASE, features=[feature] if feature else [], licenses=licenses)
    return control("--call", "a")[1].splitlines()[-1].partition("  1  ")[2].strip()


def test_what_covers_a_feature_is_said_in_words(daemon: StandIn, control: Control) -> None:
    assert "free  nothing needed" in covered(daemon, control, FEATURE | {"unlimited": True})
    assert "nothing now (license_expired); the call is not cut" in covered(
        daemon, control, FEATURE | {"limit": 0, "lack": "license_expired"}
    )
    assert "the catalog has no such feature any more" in covered(daemon, control, None)
    base = covered(daemon, control, FEATURE | {"base": 4}, LICENSE | {"expires": "2027-01-31"})
    assert base.endswith("4 that come with the system; license 4Q7K…WXYZ (8, until 2027-01-31)")


def test_only_licenses_that_count_are_named(daemon: StandIn, control: Control) -> None:
    others = [LICENSE | {"key": "old", "status": "expired"}, LICENSE | {"key": "x", "feature": CODERS}]
    shown = covered(daemon, control, FEATURE, *others, LICENSE | {"key": "new", "status": "unknown"})
    assert shown.endswith("license new (8, not on a list yet)")
    assert "old" not in shown


def test_who_may_not_manage_sees_what_is_allowed_all_the_same(daemon: StandIn, control: Control) -> None:
    tell(daemon, LEASE)
    daemon.on("ListLicenses", daemon.refuses("org.varlink.service.PermissionDenied"))
    status, out, err = control("--call", "a")
    assert (status, err) == (exits.DONE, "")
    assert out.endswith("1       3      8  licenses are shown to who may manage\n")


def test_an_emergency_call_is_shown_as_one_that_takes_nothing(daemon: StandIn, control: Control) -> None:
    tell(daemon, {**LEASE, "class": "emergency", "wants": [], "given_back": None})
    _, out, _ = control("--call", "a")
    assert "Class   emergency: granted before every other test, takes nothing" in out
    assert out.endswith("It holds no instance of any feature.\n")


def test_all_calls_that_go_by_the_name_are_shown(daemon: StandIn, control: Control) -> None:
    tell(daemon, LEASE, {**LEASE, "key": "a@host;tag=2"})
    daemon.on("FindCall", {"leases": [LEASE, {**LEASE, "key": "a@host;tag=2"}], "ended": [], "omitted": 3})
    _, out, _ = control("--call", "a@host")
    assert out.startswith("5 calls go by this name, the first 2 are shown\n\nKey ")
    assert "a@host;tag=1" in out
    assert "a@host;tag=2" in out


def test_a_call_that_is_over_is_told_with_status_1(daemon: StandIn, control: Control) -> None:
    daemon.on("FindCall", {"leases": [], "ended": [{"holder": "kamailio", "key": "a;tag=1", "seconds": 62}]})
    expected = "no lease goes by a\n  a;tag=1 of kamailio was given back 1 min ago\n"
    assert control("--call", "a") == (exits.REFUSED, expected, "")


def test_a_call_that_nobody_knows_is_told_with_status_1(daemon: StandIn, control: Control) -> None:
    daemon.on("FindCall", {"leases": [], "ended": []})
    status, out, _ = control("--call", "\x1b[2J")
    assert status == exits.REFUSED
    assert "\x1b" not in out
    assert "none was given back lately" in out
    assert daemon.asked() == ["FindCall"]


def test_as_json_it_has_the_same(daemon: StandIn, control: Control) -> None:
    tell(daemon, LEASE)
    status, out, _ = control("--call", "a@host", "--json")
    document = json.loads(out)
    assert status == exits.DONE
    (row,) = document["calls"][0]["features"]
    assert (row["limit"], row["in_use"], row["licenses"][0]["key"]) == (8, 3, "4Q7K…WXYZ")
    daemon.on("FindCall", {"leases": [], "ended": []})
    status, out, _ = control("--call", "a@host", "--json")
    assert (status, json.loads(out)) == (exits.REFUSED, {"calls": [], "ended": [], "omitted": None})


def test_a_garbled_answer_is_an_error_and_no_traceback(daemon: StandIn, control: Control) -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"leases": [{}]},
        {"leases": 1},
        {"leases": [{**LEASE, "wants": [{}]}]},
        {"ended": [{}]},
    )
    for wrong in wrongs:
        tell(daemon)
        daemon.on("FindCall", {"leases": [], "ended": []} | wrong)
        assert control("--call", "a")[0] == exits.DAEMON_ERROR


@pytest.mark.parametrize(
    "arguments",
    [
        ("--call", "a", TRUNKS),
        ("--call", "a", "--key", "b"),
        ("--call", "a", "--wait"),
        ("--call", ""),
        (TRUNKS, "--holder", "h"),
        (TRUNKS, "--key", "k"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(
    daemon: StandIn, control: Control, arguments: tuple[str, ...]
) -> None:
    status, _, err = control(*arguments)
    assert (status, daemon.calls) == (exits.WRONG_USAGE, [])
    assert "--call" in err or "key must not be empty" in err
