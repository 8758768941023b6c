"""What only root may read of the host comes as a credential of the service, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekeyd.hwio import hostprobes
from featurekeyd.hwio.hostprobes import CREDENTIALS, NO_CREDENTIAL, read_file_or_credential

BOARD = "/sys/class/dmi/id/board_serial"


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the credentials; every file of the host itself may not be read."""
    read_file = hostprobes.read_file

    def refuse(path: Path) -> bytes:
        if not path.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        return read_file(path)

    monkeypatch.setattr(hostprobes, "read_file", refuse)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_file_that_may_not_be_read_is_read_from_its_credential(credentials: Path) -> None:
    (credentials / "board-serial").write_bytes(b"ABC123\n")
    assert read_file_or_credential(Path(BOARD)) == b"ABC123\n"


def test_the_default_of_the_unit_is_no_value(credentials: Path) -> None:
    (credentials / "board-serial").write_bytes(NO_CREDENTIAL)
    with pytest.raises(PermissionError):
        read_file_or_credential(Path(BOARD))


@pytest.mark.parametrize("path", [BOARD, "/proc/cpuinfo", "/sys/class/dmi/id/../id/board_serial"])
@pytest.mark.usefixtures("credentials")
def test_without_a_credential_it_stays_unreadable(path: str) -> None:
    with pytest.raises(PermissionError):
        read_file_or_credential(Path(path))


def test_without_the_folder_it_stays_unreadable(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (credentials / "board-serial").write_bytes(b"ABC123\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(PermissionError):
        read_file_or_credential(Path(BOARD))


def test_a_file_that_may_be_read_is_read_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"itself")
    monkeypatch.setitem(CREDENTIALS, str(file), "board-serial")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "board-serial").write_bytes(b"copy")
    assert read_file_or_credential(file) == b"itself"


def test_a_file_that_is_not_there_is_told_as_such(credentials: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file_or_credential(credentials / "none")


def test_only_the_host_itself_is_asked_that_way() -> None:
    assert hostprobes.running_host().read_file is read_file_or_credential
    assert hostprobes.foreign_root(Path("/nowhere")).read_file is not read_file_or_credential
