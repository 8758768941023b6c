"""The settings: every mistake is named by its key, and all of them at once."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon.peer import Peer
from featurekeyd.daemon.settings import Settings, parse_settings, read_settings
from featurekeyd.policy.alarms import Threshold
from featurekeyd.policy.system import System
from featurekeyd.policy.tables import FileMistakes, Mistake

PRODUCT = '[product]\ncatalog = "exchange"\nplatform = "large"\n'
ME = pwd.getpwuid(os.getuid())


def mistakes(text: str) -> dict[str, str]:
    """What is wrong with a text, by dotted key."""
    with pytest.raises(FileMistakes) as caught:
        parse_settings(text, "site.toml")
    assert all(line.startswith("site.toml: ") for line in str(caught.value).splitlines())
    return {it.where: it.what for it in caught.value.mistakes}


def test_the_product_is_enough() -> None:
    settings = parse_settings(PRODUCT, "site.toml")
    assert (settings.catalog, settings.system) == ("exchange", System(platform="large"))
    assert settings.reader == "auto"
    assert settings.rules.emergency_numbers == {"112", "911"}
    assert settings.socket == Path("/run/featurekeyd/io.featurekey.License")
    assert settings.access.may_manage(Peer(1, 0, frozenset()))
    assert not settings.access.may_ask(Peer(1, 54321, frozenset()))


def test_everything_can_be_set() -> None:
    text = f"""{PRODUCT}
[feature_key]
reader = "serial:/dev/featurekey"
poll_seconds = 1
[access]
ask_users = ["{ME.pw_name}", 4000]
ask_groups = [5000]
manage_users = [4001]
manage_groups = []
[holders]
kamailio = "{ME.pw_name}"
asterisk = 4002
[emergency]
numbers = ["110", "112"]
[ceilings]
"trunk:a" = 30
[host]
floating = ["192.0.2.10", "2001:DB8::1"]
bound_ipv6 = ["2001:db8:0::2"]
[paths]
socket = "/s"
runtime = "/r"
state = "/t"
vendor_keys = "/v"
[log]
target = "journal"
"""
    settings = parse_settings(text, "site.toml")
    assert settings.access.ask_users == {ME.pw_uid, 4000}
    assert settings.access.ask_groups == {5000}
    assert settings.access.manage_users == {4001, os.geteuid()}
    assert settings.access.manage_groups == frozenset()
    assert settings.rules.owners == {"kamailio": ME.pw_uid, "asterisk": 4002}
    assert settings.rules.ceilings == {"trunk:a": 30}
    assert settings.rules.emergency_numbers == {"110", "112"}
    assert [str(settings.socket), str(settings.runtime), str(settings.state), str(settings.vendor_keys)] == [
        "/s",
        "/r",
        "/t",
        "/v",
    ]
    assert settings.addresses.floating == {"192.0.2.10", "2001:db8::1"}
    assert settings.addresses.listed == {"2001:db8::2"}
    assert (settings.reader, settings.poll_seconds, settings.log_target) == ("serial:/dev/featurekey", 1.0, "journal")


def test_who_runs_the_daemon_may_manage_without_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    access = parse_settings(PRODUCT, "site.toml").access
    assert access.may_manage(Peer(1, 54321, frozenset()))
    assert access.may_ask(Peer(1, 54321, frozenset()))
    assert not access.may_manage(Peer(1, 54322, frozenset()))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "product"),
        ("product = 7", "product"),
        ("[product]\ncatalog = 'x'", "product.platform"),
        (f"{PRODUCT}color = 'red'", "product.color"),
        (f"{PRODUCT}[colors]\nred = 1", "colors"),
        (f"{PRODUCT}[feature_key]\npoll_second = 5", "feature_key.poll_second"),
        (f"{PRODUCT}[feature_key]\npoll_seconds = 0.04", "feature_key.poll_seconds"),
        (f"{PRODUCT}[feature_key]\npoll_seconds = 60.5", "feature_key.poll_seconds"),
        (f"{PRODUCT}[feature_key]\npoll_seconds = nan", "feature_key.poll_seconds"),
        (f"{PRODUCT}[feature_key]\nreader = 'dongle'", "feature_key.reader"),
        (f"{PRODUCT}[feature_key]\nreader = 'serial:relative'", "feature_key.reader"),
        (f'{PRODUCT}[feature_key]\nreader = "serial:/dev/\\u0000"', "feature_key.reader"),
        (f"{PRODUCT}[access]\nask_users = ['no-such-user-here']", "access.ask_users"),
        (f"{PRODUCT}[access]\nmanage_users = ['no-such-user-here']", "access.manage_users"),
        (f"{PRODUCT}[access]\nask_groups = ['no-such-group-here']", "access.ask_groups"),
        (f"{PRODUCT}[access]\nmanage_groups = ['no-such-group-here']", "access.manage_groups"),
        (f"{PRODUCT}[access]\nask_users = [1.5]", "access.ask_users[0]"),
        (f"{PRODUCT}[access]\nask_users = [true]", "access.ask_users[0]"),
        (f"{PRODUCT}[access]\nask_users = 'root'", "access.ask_users"),
        (f'{PRODUCT}[access]\nask_users = ["a\\u0000b"]', "access.ask_users"),
        (f'{PRODUCT}[access]\nask_groups = ["a\\u0000b"]', "access.ask_groups"),
        (f"{PRODUCT}[holders]\nkamailio = 'no-such-user-here'", "holders.kamailio"),
        (f"{PRODUCT}[holders]\nkamailio = []", "holders.kamailio"),
        (f'{PRODUCT}[holders]\nkamailio = "\\u0000"', "holders.kamailio"),
        (f"{PRODUCT}[emergency]\nnumbers = ['']", "emergency.numbers[0]"),
        (f"{PRODUCT}[emergency]\nnumbers = ['{'1' * 65}']", "emergency.numbers[0]"),
        (f"{PRODUCT}[emergency]\nnumbers = [112]", "emergency.numbers[0]"),
        (f"{PRODUCT}[ceilings]\n'trunk:a' = -1", "ceilings.trunk:a"),
        (f"{PRODUCT}[ceilings]\n'trunk:a' = 100001", "ceilings.trunk:a"),
        (f"{PRODUCT}[ceilings]\n'trunk:a' = '30'", "ceilings.trunk:a"),
        (f'{PRODUCT}[paths]\nsocket = "/a\\u0000"', "paths.socket"),
        (f"{PRODUCT}[paths]\nstate = 'relative'", "paths.state"),
        (f"{PRODUCT}[log]\ntarget = 'syslog'", "log.target"),
        (f"{PRODUCT}[host]\nfloating = ['192.0.2.256']", "host.floating"),
        (f"{PRODUCT}[host]\nfloating = [1]", "host.floating[0]"),
        (f"{PRODUCT}[host]\nbound_ipv6 = ['192.0.2.1']", "host.bound_ipv6"),
        (f"{PRODUCT}[host]\nbound_ipv6 = ['2001:db8::1/64']", "host.bound_ipv6"),
        (f"{PRODUCT}[host]\naddresses = []", "host.addresses"),
    ],
)
def test_a_mistake_is_named_by_its_key(text: str, where: str) -> None:
    assert list(mistakes(text)) == [where]


def test_limits_are_taken_at_their_edges() -> None:
    for number in ("0.05", "60"):
        parse_settings(f"{PRODUCT}[feature_key]\npoll_seconds = {number}", "site.toml")
    parse_settings(f"{PRODUCT}[ceilings]\na = 0\nb = 100000", "site.toml")
    parse_settings(f"{PRODUCT}[emergency]\nnumbers = ['1', '{'1' * 64}']", "site.toml")


def test_all_mistakes_of_form_are_told_at_once() -> None:
    text = (
        "[product]\ncatalog = 1\n[log]\ntarget = 'x'\n[nothing]\n[ceilings]\na = -1\nb = 'x'\n[access]\nask_user = []"
    )
    assert set(mistakes(text)) == {
        "product.catalog",
        "product.platform",
        "log.target",
        "nothing",
        "ceilings.a",
        "ceilings.b",
        "access.ask_user",
    }


def test_all_mistakes_of_sense_are_told_at_once() -> None:
    text = f"""{PRODUCT}
[feature_key]
reader = "dongle"
[access]
ask_users = ["no-such-user-here"]
manage_groups = ["no-such-group-here"]
[holders]
kamailio = "no-such-user-here"
"""
    assert set(mistakes(text)) == {
        "feature_key.reader",
        "access.ask_users",
        "access.manage_groups",
        "holders.kamailio",
    }
    assert mistakes(text)["access.ask_users"] == (
        "this host has no user 'no-such-user-here'; create it or write its number"
    )


def test_the_groups_of_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("grp.getgrnam", nobody)
    settings = parse_settings(PRODUCT, "site.toml")
    assert settings.access.ask_groups == settings.access.manage_groups == frozenset()
    found = mistakes(f"{PRODUCT}[access]\nask_groups = ['featurekey', 'telephony']")
    assert list(found) == ["access.ask_groups"]


def test_what_is_no_toml_is_told_with_its_line() -> None:
    assert "line 2" in mistakes("[product]\ncatalog = x\n")[""]


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(b"[product]\ncatalog = 'caf\xe9'")
    with pytest.raises(FileMistakes, match="not UTF-8"):
        read_settings(path)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "none")


def test_alarms_are_said_for_all_and_for_one() -> None:
    settings = parse_settings(
        f"{PRODUCT}\n[ceilings]\n'trunk:a' = 4\n[alarms]\nraise_percent = 85\n[alarms.features.trunk]\noff = true\n"
        "[alarms.ports.'trunk:a']\nraise_percent = 100\nclear_percent = 50\n",
        "site.toml",
    )
    assert settings.alarms.usual == Threshold(raise_percent=85)
    assert settings.alarms.features == {"trunk": Threshold(off=True)}
    assert settings.alarms.ports == {"trunk:a": Threshold(raise_percent=100, clear_percent=50)}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[alarms]\nclear_percent = 95", "alarms.clear_percent", "95 is not below raise_percent, which is 90"),
        ("[alarms.features.x]\nraise_percent = 80", "alarms.features.x.clear_percent", "80 is not below"),
        ("[alarms.ports.'trunk:b']", "alarms.ports.trunk:b", "the port has no ceiling"),
        ("[alarms]\nraise_percent = 101", "alarms.raise_percent", "<= 100"),
        ("[alarms]\nrise_percent = 80", "alarms.rise_percent", "no such key"),
    ],
)
def test_what_cannot_be_an_alarm_is_a_mistake_with_its_key(text: str, where: str, what: str) -> None:
    with pytest.raises(FileMistakes) as caught:
        parse_settings(f"{PRODUCT}\n{text}\n", "site.toml")
    (mistake,) = caught.value.mistakes
    assert mistake.where == where
    assert what in mistake.what


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


VALUE = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1).map(str)
    | st.floats().map(str)
    | st.sampled_from(["'x'", "'root'", '"\\u0000"', "''", "'auto'", "1979-05-27", "'/a'", "5"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(map(_toml, items))}]"),
    max_leaves=4,
).map(_toml)
TABLES = {
    "product": ["catalog", "platform"],
    "feature_key": ["reader", "poll_seconds"],
    "access": ["ask_users", "ask_groups", "manage_users", "manage_groups"],
    "holders": ["a", "'b c'"],
    "emergency": ["numbers"],
    "ceilings": ["'trunk:a'"],
    "alarms": ["raise_percent", "clear_percent", "off", "features", "ports"],
    "alarms.features.x": ["raise_percent", "clear_percent", "off"],
    "paths": ["socket", "runtime", "state", "vendor_keys"],
    "log": ["target"],
    "other": ["x"],
}


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = []
    for table in draw(st.lists(st.sampled_from(sorted(TABLES)), unique=True)):
        lines.append(f"[{table}]")
        keys = draw(st.lists(st.sampled_from(TABLES[table]), unique=True))
        lines += [f"{key} = {draw(VALUE)}" for key in keys]
    return "\n".join(lines)


@given(files() | files().map(lambda text: text.replace("[product]", PRODUCT, 1) if "catalog" not in text else text))
def test_any_file_gives_settings_or_names_its_mistakes(text: str) -> None:
    found: list[Mistake] = []
    settings = None
    try:
        settings = parse_settings(text, "site.toml")
    except FileMistakes as error:
        found = error.mistakes
    assert isinstance(settings, Settings) is (found == [])


@given(st.text())
def test_any_text_gives_settings_or_names_its_mistakes(text: str) -> None:
    with pytest.raises(FileMistakes):
        parse_settings(text, "site.toml")
