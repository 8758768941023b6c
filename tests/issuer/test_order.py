"""Orders: equal ones differ, a second trial is refused, and what is printed is good."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import pytest

from featurekeyd.issuer.catalogfiles import find_catalog
from featurekeyd.issuer.order import LAST_DAY, TERMS, Item, Order, SetItem, issue, read_item
from featurekeyd.issuer.refusal import Refused
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key, read_key
from featurekeyd.policy.licenselist import TypedKey, read_list, read_plain
from featurekeyd.policy.request_text import Request

if TYPE_CHECKING:
    from pathlib import Path

    from featurekeyd.issuer.register import Register
    from tests.issuer.conftest import Desk


@pytest.fixture
def serial(desk: Desk) -> str:
    return desk.certified()


def good(key: str, serial: str) -> LicenseKey:
    read = read_key(key)
    assert isinstance(read, LicenseKey)
    assert read.made_for("ip-office", serial)
    return read


def test_a_key_says_what_was_ordered(desk: Desk, serial: str) -> None:
    (text,) = desk.issued(serial, "sip-trunk-channels:8", "--term", "year", "--date", "2026-01-15")
    key = good(text, serial)
    assert (key.feature_code, key.instances, key.term, key.sequence) == (10, 8, Term.YEAR, 0)
    assert key.issued == datetime.date(2026, 1, 15)


def test_the_issue_day_is_today_in_utc_unless_given(desk: Desk, serial: str) -> None:
    assert good(desk.issued(serial, "softconsole")[0], serial).issued == desk.today


@pytest.mark.parametrize(("name", "term"), TERMS.items())
def test_every_term_can_be_ordered(desk: Desk, serial: str, name: str, term: Term) -> None:
    assert good(desk.issued(serial, "softconsole", "--term", name)[0], serial).term is term


def test_there_is_a_name_for_every_term() -> None:
    assert set(TERMS.values()) == set(Term)


def test_what_is_printed_can_be_imported_as_it_is(desk: Desk, serial: str) -> None:
    printed = desk.run("issue", serial, "essential-edition", "sip-trunk-channels:8").stdout
    assert '"SIP Trunk Channels",8' in printed
    found = list(read_plain(printed))
    assert len(found) == 2
    for typed in found:
        assert isinstance(typed, TypedKey)
        good(typed.text, serial)


def test_keys_are_shown_as_json(desk: Desk, serial: str) -> None:
    (row,) = json.loads(desk.run("issue", serial, "softconsole:3", "--term", "trial", "--json").stdout)
    good(row.pop("key"), serial)
    assert row == {
        "feature": "softconsole",
        "title": "SoftConsole",
        "instances": 3,
        "issued": "2026-01-31",
        "term": "trial",
        "sequence": 0,
        "set": None,
        "revoked": None,
    }


def test_equal_orders_give_different_keys(desk: Desk, serial: str) -> None:
    keys = [
        *desk.issued(serial, "softconsole", "softconsole"),
        *desk.issued(serial, "softconsole"),
        *desk.issued(serial, "softconsole"),
    ]
    assert [good(key, serial).sequence for key in keys] == [0, 1, 2, 3]
    assert len(set(keys)) == 4


def test_orders_that_differ_anyway_begin_at_zero(desk: Desk, serial: str) -> None:
    desk.issued(serial, "softconsole")
    others = [
        *desk.issued(serial, "softconsole:2"),
        *desk.issued(serial, "sip-trunk-channels"),
        *desk.issued(serial, "softconsole", "--term", "year"),
        *desk.issued(serial, "softconsole", "--date", "2026-01-30"),
    ]
    assert {good(key, serial).sequence for key in others} == {0}


def test_1024_equal_orders_are_given_and_not_one_more(desk: Desk, register: Register, serial: str) -> None:
    def order(count: int, day: datetime.date) -> Order:
        items = (Item("softconsole", 1),) * count
        return Order(serial=serial, items=items, term=Term.PERPETUAL, day=day, today=day)

    catalog = find_catalog("ip-office")
    rows = issue(order(1024, desk.today), catalog, register)
    assert [row.sequence for row in rows] == list(range(1024))
    with pytest.raises(Refused, match="1024 equal keys were issued: softconsole:1"):
        issue(order(1, desk.today), catalog, register)
    assert len(register.licenses(serial)) == 1024
    assert issue(order(1, desk.today + datetime.timedelta(days=1)), catalog, register)[0].sequence == 0


def test_a_second_trial_is_refused_at_the_source(desk: Desk, register: Register, serial: str) -> None:
    (first,) = desk.issued(serial, "softconsole:2", "--term", "trial")
    desk.today += datetime.timedelta(days=400)
    said = desk.run("issue", serial, "softconsole:3", "--term", "trial", code=1).stderr
    assert f"SoftConsole had its trial on {serial}, issued 2026-01-31 as {first[:4]}…{first[-4:]}" in said
    assert first not in said
    assert len(register.licenses(serial)) == 1
    desk.issued(serial, "softconsole", "--term", "month")
    desk.issued(serial, "sip-trunk-channels", "--term", "trial")


def test_revoking_a_trial_gives_no_second_one(desk: Desk, serial: str) -> None:
    (first,) = desk.issued(serial, "softconsole", "--term", "trial")
    desk.run("revoke", serial, first)
    desk.run("issue", serial, "softconsole", "--term", "trial", code=1)


def test_one_order_does_not_bring_two_trials_of_one_feature(desk: Desk, register: Register, serial: str) -> None:
    desk.run("issue", serial, "softconsole", "softconsole", "--term", "trial", code=1)
    assert register.licenses(serial) == []


def test_another_serial_has_a_trial_of_its_own(desk: Desk, serial: str) -> None:
    other = desk.certified(other_card())
    assert other != serial
    desk.issued(serial, "softconsole", "--term", "trial")
    desk.issued(other, "softconsole", "--term", "trial")


def other_card() -> Request:
    return Request(
        kind="sd-card",
        hardware_id="00" * 15,
        assurance="A1",
        reader="slot:mmc0:aaaa",
        simulated=False,
        catalog="ip-office",
        platform="ip500",
        version="0.1.0",
    )


def test_an_order_is_given_whole_or_not_at_all(desk: Desk, register: Register, serial: str) -> None:
    desk.issued(serial, "softconsole", "--term", "trial")
    desk.run("issue", serial, "sip-trunk-channels", "softconsole", "--term", "trial", code=1)
    assert [row.feature for row in register.licenses(serial)] == ["softconsole"]


def test_an_unknown_feature_is_refused_with_what_was_likely_meant(desk: Desk, serial: str) -> None:
    assert "Did you mean softconsole?" in desk.run("issue", serial, "softconsol", code=1).stderr
    assert "It has: " in desk.run("issue", serial, "zzz", code=1).stderr


def test_a_serial_that_is_not_there_is_refused(desk: Desk) -> None:
    assert "no serial '110000000001'" in desk.run("issue", "110000000001", "softconsole", code=1).stderr


@pytest.mark.parametrize("day", ["1999-12-31", "2044-11-09"])
def test_a_day_that_keys_cannot_say_is_refused(desk: Desk, serial: str, day: str) -> None:
    assert f"{day} cannot be an issue day" in desk.run("issue", serial, "softconsole", "--date", day, code=1).stderr


@pytest.mark.parametrize("term", TERMS)
def test_no_license_is_issued_on_a_day_to_come(desk: Desk, register: Register, serial: str, term: str) -> None:
    said = desk.run("issue", serial, "softconsole", "--term", term, "--date", "2026-02-01", code=1).stderr
    assert "2026-02-01 cannot be an issue day: it lies after today, 2026-01-31 in UTC." in said
    assert register.licenses(serial) == []
    desk.issued(serial, "softconsole", "--term", term, "--date", "2026-01-31")


def test_the_first_and_the_last_day_that_keys_can_say_are_taken(desk: Desk, serial: str) -> None:
    desk.today = LAST_DAY
    for day in ("2000-01-01", "2044-11-08"):
        assert good(desk.issued(serial, "softconsole", "--date", day)[0], serial).issued.isoformat() == day
    assert LAST_DAY.isoformat() == "2044-11-08"


@pytest.mark.parametrize(
    "words",
    [
        ["a:b"],
        ["a:0"],
        ["a:16384"],
        ["A"],
        ["a", "--term", "week"],
        ["a", "--date", "31.1.2026"],
        ["a:1:2"],
        ["set:a:2"],
        ["set:A"],
        [],
        [""],
    ],
)
def test_wrong_usage_is_told_apart_from_a_refusal(desk: Desk, serial: str, words: list[str]) -> None:
    assert "Usage:" in desk.run("issue", serial, *words, code=2).stderr


def test_an_item_is_a_feature_and_perhaps_instances() -> None:
    assert read_item("softconsole") == Item("softconsole", 1)
    assert read_item("softconsole:16383") == Item("softconsole", 16383)
    assert read_item("set:uc-small-business-20") == SetItem("uc-small-business-20")


# Sets.


def test_a_set_gives_a_key_for_each_of_its_features_and_is_recorded(
    desk: Desk, register: Register, serial: str, pair: Path
) -> None:
    keys = desk.issued(serial, "set:test-pair", "softconsole:3", "--catalog", pair)
    assert [(good(key, serial).feature_code, good(key, serial).instances) for key in keys] == [
        (10, 4),
        (30, 2),
        (30, 3),
    ]
    assert [row.license_set for row in register.licenses(serial)] == ["test-pair", "test-pair", None]


def test_a_set_is_shown_with_its_keys_wherever_they_are_shown(desk: Desk, serial: str, pair: Path) -> None:
    printed = desk.run("issue", serial, "set:test-pair", "--catalog", pair).stdout
    assert printed.splitlines()[1].endswith(',"SIP Trunk Channels",4,test-pair')
    assert len([it for it in read_plain(printed) if isinstance(it, TypedKey)]) == 2
    rows = json.loads(desk.run("issue", serial, "set:test-pair", "--catalog", pair, "--json").stdout)
    assert [row["set"] for row in rows] == ["test-pair"] * 2
    assert desk.run("register", serial).stdout.count("test-pair") == 4
    assert json.loads(desk.run("show", rows[0]["key"], "--json").stdout)["license_set"] == "test-pair"
    licenses = read_list(desk.run("list", serial).stdout, desk.keys())
    assert [entry.license_set for entry in licenses.entries] == ["test-pair"] * 4


def test_equal_sets_give_different_keys(desk: Desk, serial: str, pair: Path) -> None:
    keys = desk.issued(serial, "set:test-pair", "set:test-pair", "--catalog", pair)
    assert [good(key, serial).sequence for key in keys] == [0, 0, 1, 1]
    assert len(set(keys)) == 4


def test_a_set_on_trial_is_given_whole_or_not_at_all(desk: Desk, register: Register, serial: str, pair: Path) -> None:
    desk.issued(serial, "softconsole", "--term", "trial")
    said = desk.run("issue", serial, "set:test-pair", "--catalog", pair, "--term", "trial", code=1).stderr
    assert "SoftConsole had its trial" in said
    assert [row.feature for row in register.licenses(serial)] == ["softconsole"]
    other = desk.certified(other_card())
    desk.run("issue", other, "set:test-pair", "set:test-pair", "--catalog", pair, "--term", "trial", code=1)
    assert register.licenses(other) == []
    desk.issued(other, "set:test-pair", "--catalog", pair, "--term", "trial")
    desk.run("issue", other, "set:test-pair", "--catalog", pair, "--term", "trial", code=1)
    assert len(register.licenses(other)) == 2


def test_an_unknown_set_is_refused_with_what_was_likely_meant(desk: Desk, serial: str, pair: Path) -> None:
    near = desk.run("issue", serial, "set:test-pears", "--catalog", pair, code=1).stderr
    assert "has no set 'test-pears'. Did you mean set:test-pair?" in near
    assert "See: featurekey-issue sets" in desk.run("issue", serial, "set:zzz", "--catalog", pair, code=1).stderr
    unmarked = desk.run("issue", serial, "test-pair", "--catalog", pair, code=1).stderr
    assert "'test-pair' is a set and no feature. Order it as set:test-pair" in unmarked


def test_the_sets_of_a_catalog_are_listed(desk: Desk, pair: Path) -> None:
    lines = desk.run("sets", "--catalog", pair).stdout.splitlines()
    assert lines[0].split() == ["catalog", "set", "title", "adds", "unverified"]
    (line,) = [line for line in lines if "test-pair" in line]
    assert "A pair for tests" in line
    assert "sip-trunk-channels:4 softconsole:2" in line
    in_json = json.loads(desk.run("sets", "ip-office", "--catalog", pair, "--json").stdout)
    assert in_json["ip-office"]["test-pair"]["adds"] == {"sip-trunk-channels": 4, "softconsole": 2}
    assert (
        "is the catalog 'ip-office', and 'other' is wanted"
        in desk.run("sets", "other", "--catalog", pair, code=1).stderr
    )


def test_the_sets_of_all_shipped_catalogs_are_listed_without_a_vendor(desk: Desk) -> None:
    shipped = json.loads(desk.run("sets", "--json").stdout)
    assert "ip-office" in shipped
    for name, sets in shipped.items():
        assert json.loads(desk.run("sets", name, "--json").stdout) == {name: sets}
        assert sets or "No set is in the catalog" in desk.run("sets", name).stderr
    assert "No catalog 'none' is shipped" in desk.run("sets", "none", code=1).stderr


# Revocation.


def test_a_key_is_revoked_once_and_the_day_is_kept(desk: Desk, register: Register, serial: str) -> None:
    (key,) = desk.issued(serial, "softconsole")
    said = desk.run("revoke", serial, key.lower().replace("-", " "), "--reason", "exchanged").stdout
    assert f"featurekey-issue list {serial}" in said
    assert key not in said
    desk.today += datetime.timedelta(days=1)
    assert "was revoked on 2026-01-31" in desk.run("revoke", serial, key).stdout
    assert [str(row.revoked) for row in register.licenses(serial)] == ["2026-01-31"]


def test_a_mistyped_key_is_not_revoked(desk: Desk, register: Register, serial: str) -> None:
    (key,) = desk.issued(serial, "softconsole")
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    said = desk.run("revoke", serial, wrong, code=1).stderr
    assert "Character 32 of the key is wrong" in said
    assert f"Did you mean {key}?" in said
    assert register.licenses(serial)[0].revoked is None
    assert "32" in desk.run("revoke", serial, "hello", code=1).stderr


def test_a_key_of_another_serial_or_of_nobody_is_not_revoked(desk: Desk, serial: str) -> None:
    other = desk.certified(other_card())
    (key,) = desk.issued(other, "softconsole")
    assert f"was issued for serial {other}" in desk.run("revoke", serial, key, code=1).stderr
    foreign = make_key(
        feature_code=30,
        instances=1,
        issued=desk.today,
        term=Term.PERPETUAL,
        sequence=9,
        catalog="ip-office",
        serial=serial,
    )
    assert "is not in this register" in desk.run("revoke", serial, foreign.text, code=1).stderr
