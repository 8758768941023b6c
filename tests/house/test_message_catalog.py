"""The message catalog: an entry for each event and each refusal, that journald takes, and its page docs/events.md."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.house.events_page import CATALOG, LABELS, PAGE, Entry, entries, page, told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.house.conftest import House

ENDING = re.compile(r"\.$|(^|[:;?.] )(featurekeyctl|journalctl|systemctl|df) .*$")
"""How a part ends: with its last sentence, or with a command as one types it."""

FIELDS = {"FEATURE", "HOLDER", "LEASE", "LIMIT", "IN_USE", "PORT"}
"""Fields that every entry has in which the catalog names one."""


@pytest.fixture(scope="module")
def catalog(house: House) -> list[Entry]:
    return entries(house.texts[CATALOG])


def test_each_event_and_each_refusal_has_one_entry(catalog: list[Entry]) -> None:
    names = told()
    assert [names.get(entry.message_id) for entry in catalog].count(None) == 0
    assert sorted(entry.message_id for entry in catalog) == sorted(names)


def test_each_entry_has_a_subject_and_tells_cause_calls_and_cure(catalog: list[Entry]) -> None:
    for entry in catalog:
        assert tuple(entry.parts) == LABELS, entry
        assert all(ENDING.search(said) for said in entry.parts.values()), entry


def test_subjects_are_told_apart(catalog: list[Entry]) -> None:
    subjects = [entry.headers["Subject"] for entry in catalog]
    assert len({*subjects}) == len(subjects)


def test_only_fields_that_every_such_entry_has_are_named(catalog: list[Entry]) -> None:
    named = {name for entry in catalog for said in entry.parts.values() for name in re.findall(r"@(\w+)@", said)}
    assert named <= FIELDS


def test_the_page_of_events_is_made_from_it(house: House) -> None:
    assert house.texts[PAGE] == page(house.texts[CATALOG]), "run ./dev events"


def test_journald_takes_the_whole_catalog(house: House, tmp_path: Path) -> None:
    journalctl = shutil.which("journalctl")
    assert journalctl is not None, "Debian's package systemd has it and belongs to what is installed for the tests"
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    (folder / "featurekeyd.catalog").write_text(house.texts[CATALOG])
    command = [journalctl, f"--root={tmp_path}", "--no-pager"]
    made = subprocess.run([*command, "--update-catalog"], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    listed = subprocess.run([*command, "--list-catalog"], capture_output=True, text=True, check=True)
    assert sorted(line.split()[0] for line in listed.stdout.splitlines()) == sorted(told())
