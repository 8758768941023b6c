"""featurekey-issue: what it shows, and how it ends."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from featurekeyd.issuer import clock, texts
from featurekeyd.issuer.command import main
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.request_text import Head, Request, request_text

if TYPE_CHECKING:
    from tests.issuer.conftest import Desk


@pytest.fixture
def serial(desk: Desk) -> str:
    return desk.certified()


# request show


def test_a_request_is_shown_as_lines_and_as_json(desk: Desk, card: Request) -> None:
    quoted = "Hello,\n\n> " + request_text(card).replace("\n", "\n> ")
    shown = desk.run("request", "show", "-", stdin=quoted).stdout
    assert "hardware id  035344535530384780deadbeef0136\n" in shown
    assert "simulated    no\n" in shown
    assert json.loads(desk.run("request", "show", "--json", "-", stdin=quoted).stdout)["reader"] == card.reader


def test_a_request_for_a_check_is_shown_with_what_it_says_more(desk: Desk, card: Request) -> None:
    asking = msgspec.structs.replace(card, nonce="5f" * 16, audit_head=Head(88, "77" * 32), emergency_claims=0)
    shown = desk.run("request", "show", "-", stdin=request_text(asking)).stdout
    assert f"audit head        88 {'77' * 32}\n" in shown
    assert "emergency claims  0\n" in shown
    assert "state head" not in shown
    said = json.loads(desk.run("request", "show", "--json", "-", stdin=request_text(asking)).stdout)
    assert said["audit_head"] == {"number": 88, "digest": "77" * 32}


def test_a_request_needs_no_vendor(tmp_path: Path, card: Request) -> None:
    result = CliRunner().invoke(
        main, ["--vendor", str(tmp_path / "none"), "request", "show", "-"], input=request_text(card)
    )
    assert result.exit_code == 0


def test_a_wrong_request_is_refused_by_field_and_line(desk: Desk, card: Request) -> None:
    text = request_text(card).replace("Simulated: no", "Simulated: maybe")
    said = desk.run("request", "show", "-", stdin=text, code=1).stderr
    assert "Line 7: The field 'Simulated' is 'maybe' instead of yes or no." in said


def test_a_file_that_cannot_be_read_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in desk.run("request", "show", desk.place / "none", code=1).stderr
    long = desk.place / "long"
    long.write_bytes(b"x" * (texts.MAX_BROUGHT + 1))
    assert f"longer than {texts.MAX_BROUGHT} bytes" in desk.run("request", "show", long, code=1).stderr
    long.write_bytes(b"\xff\xfe" * 9)
    assert "is missing" in desk.run("request", "show", long, code=1).stderr


# show


def test_a_key_is_told_with_feature_term_and_serial(desk: Desk, serial: str) -> None:
    (key,) = desk.issued(serial, "sip-trunk-channels:8", "--term", "month")
    said = json.loads(desk.run("show", key, "--json").stdout)
    assert said == {
        "feature_code": 10,
        "feature": "sip-trunk-channels",
        "title": "SIP Trunk Channels",
        "instances": 8,
        "issued": "2026-01-31",
        "term": "month",
        "expires": "2026-02-27",
        "sequence": 0,
        "serial": serial,
        "catalog": "ip-office",
        "license_set": None,
        "recorded": "2026-01-31",
        "revoked": None,
    }
    desk.run("revoke", serial, key)
    assert "revoked       2026-01-31\n" in desk.run("show", key.lower()).stdout


def test_a_key_that_fits_no_serial_is_told_as_far_as_it_goes(desk: Desk, serial: str) -> None:
    foreign = make_key(
        feature_code=30,
        instances=2,
        issued=desk.today,
        term=Term.TRIAL,
        sequence=7,
        catalog="ip-office",
        serial="110000000001",
    )
    said = json.loads(desk.run("show", foreign.text, "--json").stdout)
    assert (said["feature_code"], said["instances"], said["expires"]) == (30, 2, "2026-03-31")
    assert (said["feature"], said["serial"], said["recorded"]) == (None, None, None)


def test_a_mistyped_key_is_told_with_position_and_suggestion(desk: Desk, serial: str) -> None:
    (key,) = desk.issued(serial, "softconsole")
    wrong = key[:5] + ("0" if key[5] != "0" else "1") + key[6:]
    said = json.loads(desk.run("show", wrong, "--json", code=1).stdout)
    assert (said["verdict"], said["position"], said["suggestion"]) == ("mistyped", 5, key)
    exchanged = key[:1] + key[2] + key[1] + key[3:]
    assert key[1] != key[2]
    said = json.loads(desk.run("show", exchanged, "--json", code=1).stdout)
    assert (said["position"], said["suggestion"]) == (2, key)


def test_nothing_is_suggested_that_fits_no_serial(desk: Desk, serial: str) -> None:
    key = make_key(
        feature_code=30,
        instances=2,
        issued=desk.today,
        term=Term.TRIAL,
        sequence=7,
        catalog="ip-office",
        serial="110000000001",
    ).text
    said = desk.run("show", "5" + key[1:], code=1).stdout
    assert "position  1\n" in said
    assert "Corrected so, it fits no serial of this register" in said
    assert "suggestion" not in said


def test_a_text_that_is_no_key_is_told(desk: Desk, serial: str) -> None:
    assert "2 characters instead of 32" in desk.run("show", "AB", code=1).stdout


# register


def test_the_register_is_shown_as_a_table_and_as_json(desk: Desk, serial: str) -> None:
    keys = desk.issued(serial, "softconsole", "sip-trunk-channels")
    desk.run("revoke", serial, keys[0])
    desk.run("list", serial)
    head, line = desk.run("register").stdout.splitlines()
    assert head.split()[:2] == ["serial", "kind"]
    assert line.split()[:2] == [serial, "sd-card"]
    (row,) = json.loads(desk.run("register", "--json").stdout)
    assert (row["keys"], row["revoked"], row["newest_list"], row["listed"]) == (2, 1, 1, "2026-01-31")


def test_one_serial_is_shown_with_its_keys_in_short(desk: Desk, serial: str) -> None:
    (key,) = desk.issued(serial, "softconsole:5")
    for options in ([], ["--json"]):
        shown = desk.run("register", serial, *options).stdout
        assert f"{key[:4]}…{key[-4:]}" in shown
        assert key not in shown
    (row,) = json.loads(desk.run("register", serial, "--json").stdout)["license_keys"]
    assert (row["feature"], row["instances"]) == ("softconsole", 5)


def test_an_empty_register_shows_nothing(desk: Desk) -> None:
    assert desk.run("register").stdout == ""
    assert json.loads(desk.run("register", "--json").stdout) == []
    assert "no serial 'x'" in desk.run("register", "x", code=1).stderr


# How it ends


@pytest.mark.parametrize("words", [["nonsense"], ["certify"], ["show"], ["register", "--nonsense"]])
def test_wrong_usage_ends_with_2(desk: Desk, words: list[str]) -> None:
    assert "Usage:" in desk.run(*words, code=2).stderr


def test_a_group_without_a_command_shows_its_help(desk: Desk) -> None:
    """With click 8.1 that is what was wanted (0), with later ones it is wrong usage (2)."""
    result = CliRunner().invoke(main, ["--vendor", str(desk.folder), "request"])
    assert result.exit_code in {0, 2}
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    "verb",
    [
        [],
        ["init"],
        ["request", "show"],
        ["program"],
        ["certify"],
        ["issue"],
        ["sets"],
        ["revoke"],
        ["list"],
        ["exchange"],
        ["check"],
        ["rescue"],
        ["show"],
    ],
)
def test_every_command_explains_itself(verb: list[str]) -> None:
    result = CliRunner().invoke(main, [*verb, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_clock_is_the_date_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    class Midnight(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Midnight:
            moment = datetime.datetime(2026, 1, 31, 23, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=-2)))
            there = moment.astimezone(tz)
            return cls(there.year, there.month, there.day, tzinfo=there.tzinfo)

    monkeypatch.setattr(datetime, "datetime", Midnight)
    assert clock.utc_today() == datetime.date(2026, 2, 1)


def test_the_time_is_in_utc_and_whole_seconds() -> None:
    time = clock.utc_time()
    assert (time.tzinfo, time.microsecond) == (datetime.UTC, 0)
