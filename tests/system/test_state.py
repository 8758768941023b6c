"""The state of a real daemon: swapped under a running boot, edited, backed up and restored by the command."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING

import rig

if TYPE_CHECKING:
    from pathlib import Path


def audit(site: rig.Site) -> list[str]:
    return [it["what"] for it in json.loads(site.ctl("audit", "--json").out)["entries"]]


def test_an_orderly_life_tells_of_no_tampering_and_keeps_a_sound_audit(licensed: rig.Licensed) -> None:
    site = licensed.site
    for _ in range(3):
        site.kill()
        site.start()
    assert site.ctl("audit", "--verify").out.startswith("Audit    sound\n")
    acts = audit(site)
    assert "certificate_imported" in acts
    assert "state_tampered" not in acts


def test_a_state_file_swapped_under_a_running_boot_is_told_and_recorded(licensed: rig.Licensed, tmp_path: Path) -> None:
    site = licensed.site
    state = site.state / "featurekeyd.db"
    site.kill()
    earlier = shutil.copy(state, tmp_path / "earlier")
    site.start()
    (key,) = licensed.vendor.issue(licensed.serial, "softconsole:1")
    assert site.call("Manage.AddLicense", {"key": key})["finding"]["accepted"]
    assert "license_added" in audit(site)  # and so it is stored
    site.kill()
    shutil.copy(earlier, state)
    site.start()
    assert "it is an earlier one" in site.log.wait("state_tampered: ")
    assert "state_tampered" in audit(site)
    assert "state: " in site.ctl("check").out
    site.kill()
    site.start()
    assert audit(site).count("state_tampered") == 1
    request, answer = tmp_path / "check.txt", tmp_path / "answer.txt"
    assert (site.ctl("check").status, site.status()["standing"]) == (1, "grace"), "a restart ends nothing"
    assert site.ctl("check", "--request", str(request)).status == 0
    assert "\nTamperings: 1\n" in request.read_text()
    licensed.vendor.run("check", str(request), "--days", "30", "--output", str(answer))
    assert site.ctl("check", "--import", str(answer)).status == 0
    assert (site.ctl("check").status, site.status()["standing"]) == (0, "licensed")


def test_an_edited_entry_is_named_by_the_command(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.kill()
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        state.execute("UPDATE audit SET who = 'uid 4242' WHERE number = 1")
    state.close()
    site.start()
    ended = site.ctl("audit", "--verify")
    assert ended.status == 1
    assert "BROKEN at entry 1" in ended.out


def test_a_backup_brings_back_what_a_damaged_state_has_lost(licensed: rig.Licensed, tmp_path: Path) -> None:
    site = licensed.site
    file = tmp_path / "backup"
    before = audit(site)
    assert site.ctl("backup", str(file)).status == 0
    site.kill()
    (site.state / "featurekeyd.db").write_bytes(b"no database" * 1000)
    site.start()
    assert site.status()["standing"] == "deactivated"
    assert site.ctl("restore", str(file), "--dry-run").status == 0
    assert site.status()["standing"] == "deactivated"
    assert site.ctl("restore", str(file)).status == 0
    assert site.status()["standing"] == "licensed"
    acts = audit(site)
    assert acts[0] == "state_set_aside"
    assert set(before) <= set(acts)
    assert site.ctl("audit", "--verify").status == 0
    again = site.ctl("restore", str(file))
    assert (again.status, "nothing changes by it" in again.out) == (0, True)
