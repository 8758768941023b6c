"""Licenses that come, go and are replaced on a running daemon."""

from __future__ import annotations

import contextlib
import sqlite3

import rig


def test_a_newer_list_replaces_the_older_which_is_refused_from_then_on(licensed: rig.Licensed) -> None:
    site, vendor = licensed.site, licensed.vendor
    second = vendor.license_list(licensed.serial)
    vendor.issue(licensed.serial, "softconsole:2")
    third = vendor.license_list(licensed.serial)
    site.import_list(third)
    assert site.feature("softconsole")["limit"] == 2
    (finding,) = site.call("Manage.ImportList", {"text": second})["findings"]
    assert (finding["verdict"], finding["accepted"]) == ("older_list", False)
    assert "List 2 is not newer than list 3" in finding["message"]
    (again,) = site.call("Manage.ImportList", {"text": third})["findings"]
    assert (again["verdict"], again["accepted"]) == ("already_there", True)
    assert (site.feature("softconsole")["limit"], site.status()["list_number"]) == (2, 3)


def test_a_list_pasted_from_a_mail_is_good(licensed: rig.Licensed) -> None:
    text = licensed.vendor.license_list(licensed.serial)
    quoted = "\r\n".join(f"> {line}" for line in text.splitlines())
    licensed.site.import_list(f"Dear technician,\r\n\r\n{quoted}\r\n\r\nBest regards\r\n")
    assert licensed.site.status()["list_number"] == 2


def test_a_revoked_key_stops_counting_and_its_calls_go_on(licensed: rig.Licensed) -> None:
    site, vendor = licensed.site, licensed.vendor
    kamailio = site.client("kamailio")
    kamailio.acquire("call-1", "sip-trunk-channels")
    vendor.run("revoke", licensed.serial, licensed.keys[0], "--reason", "returned")
    site.import_list(vendor.license_list(licensed.serial))
    assert [lease["key"] for lease in site.leases()] == ["call-1"]
    denied = kamailio.acquire("call-2", "sip-trunk-channels")
    assert (denied.allowed, denied.limit, denied.in_use) == (False, 0, 1)
    finding = site.call("Manage.AddLicense", {"key": licensed.keys[0]})["finding"]
    assert (finding["verdict"], finding["accepted"]) == ("revoked", False)


def test_a_typed_key_counts_at_once_and_for_a_limited_time(licensed: rig.Licensed) -> None:
    site = licensed.site
    (key,) = licensed.vendor.issue(licensed.serial, "sip-trunk-channels:4")
    finding = site.call("Manage.AddLicense", {"key": key})["finding"]
    assert (finding["verdict"], finding["accepted"], finding["instances"]) == ("unlisted", True, 4)
    assert site.feature("sip-trunk-channels")["limit"] == 12
    (grace,) = site.status()["grace"]
    assert grace["cause"] == "unlisted_licenses"
    assert 72 * 3600 - 60 < grace["seconds_left"] <= 72 * 3600
    site.restart()
    assert site.feature("sip-trunk-channels")["limit"] == 12
    assert [row["source"] for row in site.licenses()] == ["list 1", "list 1", "typed"]


def test_a_removed_license_lowers_the_limit_below_the_calls_that_go_on(licensed: rig.Licensed) -> None:
    site = licensed.site
    kamailio = site.client("kamailio")
    for number in range(3):
        kamailio.acquire(f"call-{number}", "sip-trunk-channels", phase="established")
    removed = site.ctl("remove", licensed.keys[0])
    assert removed.status == 0
    feature = site.feature("sip-trunk-channels")
    assert (feature["limit"], feature["in_use"]) == (0, 3)
    assert kamailio.acquire("call-0", "sip-trunk-channels", phase="established").allowed
    assert kamailio.acquire("call-9", "sip-trunk-channels").reason == "not_licensed"
    site.call("Manage.AddLicense", {"key": licensed.keys[0]})
    assert site.feature("sip-trunk-channels")["limit"] == 8


def test_a_dry_run_changes_nothing(licensed: rig.Licensed) -> None:
    (key,) = licensed.vendor.issue(licensed.serial, "softconsole:2")
    before = licensed.site.licenses()
    ran = licensed.site.ctl("import", "-", "--dry-run", text=f"{key},SoftConsole\n")
    assert ran.status == 0
    assert "would be taken" in ran.out
    listed = licensed.vendor.license_list(licensed.serial)
    assert licensed.site.call("Manage.ImportList", {"text": listed, "dry_run": True})["accepted"]
    assert licensed.site.licenses() == before


def test_what_was_imported_is_on_disk_before_the_answer_comes(licensed: rig.Licensed) -> None:
    site = licensed.site
    for number in range(5):
        (key,) = licensed.vendor.issue(licensed.serial, "sip-trunk-channels:1")
        assert site.call("Manage.AddLicense", {"key": key})["finding"]["accepted"]
        site.kill()
        site.start()
        assert site.feature("sip-trunk-channels")["limit"] == 8 + number + 1


def test_a_state_file_that_another_program_locks_holds_up_nobody_but_the_import(licensed: rig.Licensed) -> None:
    site = licensed.site
    (key,) = licensed.vendor.issue(licensed.serial, "softconsole:1")
    kamailio = site.client("kamailio")
    state = sqlite3.connect(site.state / "featurekeyd.db", isolation_level=None)
    with contextlib.closing(state), site.connect() as importing:
        state.execute("BEGIN EXCLUSIVE")
        importing.send("Manage.AddLicense", {"key": key})
        for number in range(100):
            assert kamailio.acquire(f"call-{number}", "sip-trunk-channels").reason in {"granted", "limit_reached"}
        assert site.feature("softconsole")["limit"] == 0
        state.execute("ROLLBACK")
        assert importing.reply()["parameters"]["finding"]["accepted"]
    assert site.feature("softconsole")["limit"] == 1
