"""The settings of featurekey-agi: a mistake names file, key and cure; the secret is told nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from featurekeyd.client.agi_server import main
from featurekeyd.client.agi_settings import (
    MAX_SECRET,
    MAX_SETTINGS,
    AgiSettings,
    AmiSettings,
    SettingsMistake,
    checked_address,
    parse_settings,
    read_secret,
    read_settings,
)

WHOLE = b"""
holder = "pbx-1"
socket = "/run/x"
release_context = "my-release"
[fastagi]
address = "127.0.0.2"
port = 4574
[ami]
username = "featurekey"
secret_file = "/etc/featurekeyd/ami-secret"
login = "plain"
[emergency]
numbers = ["112", "999"]
[sync]
seconds = 3
ttl = 30
"""


def test_every_key_is_read() -> None:
    assert parse_settings(WHOLE, "file") == AgiSettings(
        holder="pbx-1",
        socket="/run/x",
        release_context="my-release",
        address="127.0.0.2",
        port=4574,
        emergency_numbers=("112", "999"),
        ami=AmiSettings("featurekey", Path("/etc/featurekeyd/ami-secret"), plain=True),
        sync_seconds=3.0,
        ttl_seconds=30,
    )


@pytest.mark.parametrize(
    ("text", "key", "cure"),
    [
        ("holdr = 'x'", "holdr", "no key"),
        ("holder = ''", "holder", "must have a name"),
        ("socket = 'run/x'", "socket", "absolute"),
        ("release_context = 'a b'", "release_context", "name of a dialplan context"),
        ("fastagi = 3", "fastagi", "table"),
        ("[fastagi]\naddress = 'localhost'", "fastagi.address", "127.0.0.1"),
        ("[fastagi]\nport = 70000", "fastagi.port", "65535"),
        ("[fastagi]\nbeyond_loopback = 'yes'", "fastagi.beyond_loopback", "true or false"),
        ("[ami]\nusername = 'x'", "ami.secret_file", "ami-secret"),
        ("[ami]\nsecret_file = '/x'", "ami.username", "manager.conf"),
        ("[ami]\nusername = 'x'\nsecret = 'y'\nsecret_file = '/x'", "ami.secret", "no key"),
        ("[ami]\nusername = 'x'\nsecret_file = '/x'\nlogin = 'md5'", "ami.login", "challenge"),
        ("[emergency]\nnumbers = []", "emergency.numbers", "one at least"),
        ("[emergency]\nnumbers = '112'", "emergency.numbers", "list"),
        ("[sync]\nseconds = 0", "sync.seconds", "0.1"),
        ("[sync]\nttl = 1.5", "sync.ttl", "whole number"),
        ("[sync]\nseconds = 10\nttl = 15", "sync.ttl", "twice"),
        ("holder = \n[sync]\n", "line 1", "no TOML"),
    ],
)
def test_a_mistake_names_file_key_and_cure(text: str, key: str, cure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SettingsMistake) as mistake:
        parse_settings(text.encode(), "featurekey-agi.toml")
    assert str(mistake.value).startswith("featurekey-agi.toml: ")
    assert key in str(mistake.value)
    assert cure in str(mistake.value)


def test_the_credential_of_systemd_serves_where_no_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/featurekey-agi.service")
    settings = parse_settings(b"[ami]\nusername = 'x'", "file")
    assert settings.ami is not None
    assert settings.ami.secret_file == Path("/run/credentials/featurekey-agi.service/ami-secret")


def test_without_a_file_the_shipped_settings_hold_unless_one_was_named(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none", needed=False) == AgiSettings()
    with pytest.raises(SettingsMistake, match="no such file"):
        read_settings(tmp_path / "none", needed=True)


def test_the_file_has_so_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"#" * MAX_SETTINGS)
    assert read_settings(path, needed=True) == AgiSettings()
    path.write_bytes(b"#" * (MAX_SETTINGS + 1))
    with pytest.raises(SettingsMistake, match=str(MAX_SETTINGS)):
        read_settings(path, needed=True)


def test_the_secret_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(" s3cret \n# not this\n", encoding="utf-8")
    assert read_secret(AmiSettings("x", path)) == "s3cret"


@pytest.mark.parametrize(
    ("content", "cure"),
    [(b"", "first line"), (b"\n\n", "first line"), (b"a\0b", "printable"), (b"\xff", "UTF-8"), (b"x" * 1025, "1024")],
)
def test_a_secret_that_is_none_is_told_without_it(tmp_path: Path, content: bytes, cure: str) -> None:
    assert MAX_SECRET == 1024
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SettingsMistake, match=cure) as mistake:
        read_secret(AmiSettings("x", path))
    assert "xxxx" not in str(mistake.value)
    with pytest.raises(SettingsMistake, match="cannot be read"):
        read_secret(AmiSettings("x", tmp_path / "none"))


def test_an_address_that_others_reach_is_refused_unless_it_is_said_twice() -> None:
    assert checked_address(AgiSettings()) == ""
    assert checked_address(AgiSettings(address="127.9.9.9")) == ""
    with pytest.raises(SettingsMistake, match="neither passwords nor users"):
        checked_address(AgiSettings(address="192.0.2.1"))
    assert "neither passwords nor users" in checked_address(AgiSettings(address="192.0.2.1", beyond_loopback=True))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--check"], 0, ""),
        (["--check", "--listen", "0.0.0.0:4573"], 2, "beyond_loopback"),
        (["--check", "--listen", "127.0.0.1:x"], 2, "port"),
        (["--check", "--listen", "here:4573"], 2, "IPv4"),
        (["--check", "--settings", "/nowhere/featurekey-agi.toml"], 2, "no such file"),
        (["--check", "--secret", "x"], 2, "No such option"),
    ],
)
def test_the_command_line_checks_and_says_what_is_wrong(arguments: list[str], status: int, said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status
    assert said in result.output
