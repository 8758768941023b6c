"""The vendor's folder: made whole, kept private, never overwritten."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from featurekeyd.issuer import vendor as vendor_module
from featurekeyd.issuer.command import main
from featurekeyd.issuer.refusal import Refused
from featurekeyd.issuer.vendor import MASTER_SECRET, SIGNING_KEY, create_vendor, open_vendor, read_secret
from featurekeyd.policy.signedtext import key_id, read_vendor_key

if TYPE_CHECKING:
    from tests.issuer.conftest import Desk


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def asked_for_nothing() -> bytes:
    raise AssertionError("nobody should be asked")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_init_makes_the_folder_with_its_secrets_private(tmp_path: Path, open_umask: None) -> None:
    folder = tmp_path / "deep" / "vendor"
    result = CliRunner().invoke(main, ["--vendor", str(folder), "init"])
    assert result.exit_code == 0
    assert {path.name: mode(path) for path in folder.iterdir()} == {
        "signing.pem": 0o600,
        "vendor.pub": 0o644,
        "master.secret": 0o600,
        "register.sqlite": 0o600,
    }
    assert mode(folder) == 0o700
    name, public = read_vendor_key((folder / "vendor.pub").read_bytes())
    assert name == key_id(public)
    assert name in result.output
    assert open_vendor(folder, asked_for_nothing).signer == key_id(public)


def test_the_folder_may_be_named_by_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    result = CliRunner().invoke(main, ["init"], env={"FEATUREKEY_VENDOR": str(folder)})
    assert result.exit_code == 0
    assert (folder / "vendor.pub").exists()


def test_an_empty_folder_is_taken_and_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "vendor"
    folder.mkdir(mode=0o755)
    create_vendor(folder, None)
    assert mode(folder) == 0o700


def test_nothing_is_overwritten(desk: Desk) -> None:
    before = {path: path.read_bytes() for path in desk.folder.iterdir()}
    assert "is not empty, and nothing is overwritten" in desk.run("init", code=1).stderr
    assert {path: path.read_bytes() for path in desk.folder.iterdir()} == before


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("mine")
    with pytest.raises(Refused, match="nothing is overwritten"):
        create_vendor(tmp_path / "vendor", None)
    assert (tmp_path / "vendor").read_text() == "mine"


def test_a_folder_that_is_filled_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vendor"

    def create_and_be_overtaken(path: Path) -> None:
        folder.mkdir()
        (folder / "other").write_text("of another issuer")

    monkeypatch.setattr(vendor_module, "create_register", create_and_be_overtaken)
    with pytest.raises(Refused, match="nothing is overwritten"):
        create_vendor(folder, None)
    assert [path.name for path in folder.iterdir()] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["vendor"]


def test_a_broken_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(vendor_module, "create_register", fail)
    result = CliRunner().invoke(main, ["--vendor", str(tmp_path / "vendor"), "init"])
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("name", [SIGNING_KEY, MASTER_SECRET])
def test_a_secret_that_others_may_touch_is_refused(desk: Desk, name: str, bits: int) -> None:
    path = desk.folder / name
    path.chmod(bits)
    with pytest.raises(Refused, match=f"Others than its owner may read {path}"):
        _ = desk.vendor().signer if name == SIGNING_KEY else desk.vendor().master


def test_a_folder_that_others_may_enter_is_refused(desk: Desk) -> None:
    desk.folder.chmod(0o750)
    assert f"chmod 0700 {desk.folder}" in desk.run("register", code=1).stderr


def test_a_secret_of_another_user_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Refused, match="belongs to another user"):
        read_secret(desk.folder / MASTER_SECRET)


def test_a_secret_behind_a_link_is_refused(desk: Desk) -> None:
    path = desk.folder / MASTER_SECRET
    path.rename(desk.place / "moved")
    path.symlink_to(desk.place / "moved")
    with pytest.raises(Refused, match="cannot be read"):
        _ = desk.vendor().master


@pytest.mark.parametrize("content", ["", "00", "no hexadecimal digits", "00" * 33, "é"])
def test_a_damaged_master_secret_is_refused(desk: Desk, content: str) -> None:
    (desk.folder / MASTER_SECRET).write_text(content)
    with pytest.raises(Refused, match="32 bytes in hexadecimal"):
        _ = desk.vendor().master


def test_a_damaged_or_foreign_signing_key_is_refused(desk: Desk) -> None:
    path = desk.folder / SIGNING_KEY
    path.write_text("no key")
    with pytest.raises(Refused, match="is not a private key"):
        _ = desk.vendor().signer
    rsa_key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(Refused, match="not an Ed25519 key"):
        _ = desk.vendor().signer


def test_a_folder_without_a_register_is_no_vendor(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        result = CliRunner().invoke(main, ["--vendor", str(folder), "register"])
        assert result.exit_code == 1
        assert f"{folder} is no vendor folder" in result.output
        assert "featurekey-issue init" in result.output


# Passphrases.


def test_a_passphrase_is_asked_for_twice_and_encrypts_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "vendor"
    words = ["--vendor", str(folder), "init", "--passphrase"]
    result = CliRunner().invoke(main, words, input="open sesame\nopen sesame\n")
    assert result.exit_code == 0
    assert "open sesame" not in result.output
    assert b"ENCRYPTED" in (folder / SIGNING_KEY).read_bytes()
    assert open_vendor(folder, lambda: b"open sesame").signer
    with pytest.raises(Refused, match="does not open with this passphrase"):
        _ = open_vendor(folder, lambda: b"open barley").signer


def test_a_passphrase_comes_from_a_private_file(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("open sesame\n")
    secret.chmod(0o644)
    words = ["--vendor", str(tmp_path / "vendor"), "--passphrase-file", str(secret), "init"]
    refused = CliRunner().invoke(main, words)
    assert (refused.exit_code, "may read" in refused.output) == (1, True)
    secret.chmod(0o600)
    assert CliRunner().invoke(main, words).exit_code == 0
    assert open_vendor(tmp_path / "vendor", lambda: b"open sesame").signer
    secret.write_text("\n")
    assert "holds no passphrase" in CliRunner().invoke(main, words).output


def test_nobody_is_asked_where_the_signing_key_is_not_needed(tmp_path: Path) -> None:
    create_vendor(tmp_path / "vendor", b"open sesame")
    vendor = open_vendor(tmp_path / "vendor", asked_for_nothing)
    assert len(vendor.master) == 32
