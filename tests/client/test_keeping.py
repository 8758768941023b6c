"""The verbs for what is kept: what they ask, what they show, how they end."""

from __future__ import annotations

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

ENTRY: dict[str, Any] = {
    "number": 7,
    "time": "2026-12-01T12:00:00Z",
    "who": "uid 0",
    "what": "reserved",
    "message": "Reserved for 201: 1 of Phones.",
    "fields": [],
    "digest": "ab" * 32,
}
SOUND = {
    "sound": True,
    "finding": "Every entry is as it was recorded.",
    "entries": 7,
    "head_number": 7,
    "head_digest": "ab" * 32,
}
TEXT = "-----BEGIN FEATUREKEYD BACKUP-----\nFormat: 1\n\nAAAA\n-----END FEATUREKEYD BACKUP-----\n"
RESTORED = {"verdict": "restored", "accepted": True, "message": "The backup is restored."}


@pytest.fixture
def control(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> Control:
    def start(*arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", daemon.path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def test_the_audit_is_listed_with_names_for_users_that_have_one(daemon: StandIn, control: Control) -> None:
    nobody = ENTRY | {"number": 8, "who": "uid 4294967294", "what": "unreserved", "message": "Given\x1b up."}
    daemon.on("ListAudit", daemon.says({"entry": ENTRY}, {"entry": nobody}))
    assert control("audit") == (
        exits.DONE,
        (
            "NUMBER  TIME                  WHO             WHAT        MESSAGE\n"
            "     7  2026-12-01T12:00:00Z  uid 0 (root)    reserved    Reserved for 201: 1 of Phones.\n"
            "     8  2026-12-01T12:00:00Z  uid 4294967294  unreserved  Given\\x1b up.\n"
        ),
        "",
    )
    assert json.loads(control("audit", "--json")[1]) == {"entries": [ENTRY, nobody]}
    daemon.on("ListAudit", {})
    assert control("audit") == (exits.DONE, "nothing is recorded yet\n", "")


def test_the_last_entries_are_asked_for_by_the_number_before_them(daemon: StandIn, control: Control) -> None:
    daemon.on("VerifyAudit", SOUND)
    daemon.on("ListAudit", {"entry": ENTRY})
    assert control("audit", "--last", "3")[0] == exits.DONE
    assert daemon.parameters() == {"after": 4}
    control("audit", "--last", "30")
    assert daemon.parameters() == {"after": 0}
    assert control("audit", "--last", "0")[0] == exits.WRONG_USAGE


def test_a_sound_audit_ends_with_success_and_shows_its_head(daemon: StandIn, control: Control) -> None:
    daemon.on("VerifyAudit", SOUND)
    assert control("audit", "--verify") == (
        exits.DONE,
        f"Audit    sound\nFinding  Every entry is as it was recorded.\nEntries  7\nHead     7 {'ab' * 32}\n",
        "",
    )
    assert json.loads(control("audit", "--verify", "--json")[1]) == SOUND


def test_a_broken_audit_ends_with_refusal_and_names_the_place(daemon: StandIn, control: Control) -> None:
    broken = SOUND | {"sound": False, "broken_at": 5, "finding": "Entry 5 is missing."}
    daemon.on("VerifyAudit", broken)
    status, out, _ = control("audit", "--verify")
    assert status == exits.REFUSED
    assert out.startswith("Audit    BROKEN at entry 5\nFinding  Entry 5 is missing.\n")
    assert control("audit", "--verify", "--json")[0] == exits.REFUSED


def test_a_backup_goes_into_a_new_file_that_nobody_else_reads(
    daemon: StandIn, control: Control, tmp_path: Path
) -> None:
    daemon.on("Backup", {"text": TEXT, "serial": "110123456789", "audit_entries": 12})
    file = tmp_path / "backup"
    assert control("backup", str(file)) == (
        exits.DONE,
        f"written to {file}: 110123456789, 12 entries of the audit\n",
        "",
    )
    assert (file.read_text(), file.stat().st_mode & 0o777) == (TEXT, 0o600)
    assert control("backup", str(file))[0] == exits.FILE_TROUBLE, "nothing is overwritten"
    assert control("backup", "-")[1] == TEXT
    assert json.loads(control("backup", "-", "--json")[1])["text"] == TEXT
    said = json.loads(control("backup", str(tmp_path / "other"), "--json")[1])
    assert said == {"serial": "110123456789", "audit_entries": 12}, "the keys in whole are in the file only"


def test_a_backup_without_a_serial_says_so(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("Backup", {"text": TEXT, "audit_entries": 0})
    assert "no serial yet, 0 entries" in control("backup", str(tmp_path / "backup"))[1]


def test_a_state_too_large_for_a_backup_is_a_sentence(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    daemon.on("Backup", daemon.refuses("io.featurekey.Manage.BackupTooLarge", hint="Stop the daemon and copy it."))
    file = tmp_path / "backup"
    assert control("backup", str(file)) == (exits.DAEMON_ERROR, "", "featurekeyctl: Stop the daemon and copy it.\n")
    assert not file.exists()


def test_restore_sends_the_text_and_shows_what_changes(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text(TEXT)
    daemon.on("Restore", {"finding": RESTORED, "changes": ["license list from the backup", "2 more reservations"]})
    assert control("restore", str(file)) == (
        exits.DONE,
        "restored: The backup is restored.\n  license list from the backup\n  2 more reservations\n",
        "",
    )
    assert daemon.parameters() == {"text": TEXT, "dry_run": False}
    control("restore", str(file), "--dry-run")
    assert daemon.parameters() == {"text": TEXT, "dry_run": True}
    daemon.on("Restore", {"finding": RESTORED, "changes": []})
    assert control("restore", str(file))[1].endswith("\n  nothing changes by it\n")


def test_a_backup_that_is_not_taken_ends_with_refusal(daemon: StandIn, control: Control, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("no backup")
    finding = {"verdict": "bad_backup", "accepted": False, "message": "It is damaged.", "remedy": "Take another."}
    daemon.on("Restore", {"finding": finding, "changes": []})
    assert control("restore", str(file)) == (exits.REFUSED, "bad_backup: It is damaged.\n  Take another.\n", "")
    status, out, _ = control("restore", str(file), "--json")
    assert (status, json.loads(out)) == (exits.REFUSED, {"finding": finding, "changes": []})
    assert control("restore", str(tmp_path / "none"))[0] == exits.FILE_TROUBLE
