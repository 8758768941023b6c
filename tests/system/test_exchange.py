"""A Feature Key that failed: its replacement brings all licenses along, in one file and one step."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import rig

SPARE = "02544d53413034470a1b2c3d4e00f1"
"""The identifier of the replacement's card, 30 digits."""

ORDERS = ("sip-trunk-channels:8", "set:uc-small-business-20", "essential-edition")


def swap(licensed: rig.Licensed) -> str:
    """Put the replacement in, and wait until the daemon has seen it; the request to send the vendor."""
    licensed.simulator.tell(f"card {SPARE}")
    licensed.site.call("Manage.CheckNow")
    assert licensed.site.status()["feature_key"]["state"] == "wrong-key"
    return str(licensed.site.call("Manage.Request")["text"])


def statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The status of each license on the list, by feature."""
    return {row["feature"]: row["status"] for row in rows if row["source"] == "list 1"}


def exchange_file(licensed: rig.Licensed) -> Path:
    """The one file that the vendor sends for the replacement."""
    output = licensed.site.folder / "exchange.txt"
    licensed.vendor.run("exchange", licensed.serial, "-", "--output", str(output), text=swap(licensed))
    return output


def test_a_replacement_brings_all_licenses_in_one_file(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, ORDERS) as licensed:
        site = licensed.site
        kamailio = site.client("kamailio")
        assert kamailio.acquire("call-1", "sip-trunk-channels", phase="established").allowed
        listed = statuses(site.licenses())
        (typed,) = licensed.vendor.issue(licensed.serial, "softconsole:2")
        site.accept(site.call("Manage.AddLicense", {"key": typed})["finding"])
        before = {feature["feature"]: feature["limit"] for feature in site.call("License.ListFeatures")["features"]}

        ran = site.ctl("certificate", "import", str(exchange_file(licensed)))
        assert (ran.status, ran.err) == (0, "")
        lines = ran.out.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["imported", "imported"]
        new_serial = str(site.status()["serial"])
        assert new_serial != licensed.serial
        assert f"The certificate of serial {new_serial} is imported, for tests only." in lines[0]
        assert "License list 1 of " in lines[1]

        after = {feature["feature"]: feature["limit"] for feature in site.call("License.ListFeatures")["features"]}
        assert (after, site.status()["feature_key"]["state"]) == (before, "present")
        assert [lease["key"] for lease in site.leases()] == ["call-1"]
        rows = site.licenses()
        # The catalog's release may make one of the set obsolete; it does so on either key.
        assert statuses(rows) == listed | {"softconsole": "valid"}
        assert "valid" in listed.values()
        assert [row["status"] for row in rows if row["source"] == "typed"] == ["invalid"]
        assert sum(row.get("set") == "uc-small-business-20" for row in rows) == 3
        assert "uc-small-business-20" in site.ctl("licenses").out

        site.restart()
        assert (site.licenses(), site.status()["serial"]) == (rows, new_serial)


def test_the_key_before_opens_nothing_any_more(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.accept(site.call("Manage.ImportCertificate", {"text": exchange_file(licensed).read_text()})["finding"])
    licensed.vendor.run("list", licensed.serial)
    finding = site.call("Manage.AddLicense", {"key": licensed.keys[0]})["finding"]
    assert (finding["verdict"], finding["accepted"]) == ("other_serial", False)
    register = json.loads(licensed.vendor.run("register", "--json"))
    assert [row["exchanged_for"] for row in register] == [site.status()["serial"], None]


def test_with_the_wrong_card_in_neither_is_taken(licensed: rig.Licensed) -> None:
    site, text = licensed.site, exchange_file(licensed).read_text()
    licensed.simulator.tell("card 035344535530384780deadbeef0137")
    site.call("Manage.CheckNow")
    before = (site.status()["serial"], site.licenses())
    ran = site.ctl("certificate", "import", "-", text=text)
    assert ran.status != 0
    assert "other_hardware: " in ran.out
    assert "Neither the certificate nor the license list is taken." in ran.out
    assert (site.status()["serial"], site.licenses()) == before
    hint = site.ctl("import", "-", text=text)
    assert hint.status != 0
    assert "featurekeyctl certificate import FILE" in hint.out


def test_a_trial_ends_on_the_replacement_on_the_day_it_would_have_ended(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, ()) as licensed:
        site, vendor = licensed.site, licensed.vendor
        issued = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=20)
        vendor.run("issue", licensed.serial, "softconsole:2", "--term", "trial", "--date", issued.isoformat())
        site.accept(site.call("Manage.ImportCertificate", {"text": exchange_file(licensed).read_text()})["finding"])
        (row,) = site.licenses()
        last = issued + datetime.timedelta(days=59)
        assert (row["trial"], row["issued"], row["expires"]) == (True, issued.isoformat(), last.isoformat())
        assert site.feature("softconsole")["limit"] == 2
