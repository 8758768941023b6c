"""Keys, lists and certificates that are not good: each is refused with a reason and a cure, and nothing is lost.

Every test here runs beside a client that goes on asking, and ends with the licenses, the certificate and the list as
they were before.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import rig
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenselist import MAX_KEYS
from featurekeyd.policy.request_text import Request, request_text

pytestmark = pytest.mark.usefixtures("nothing_lost", "bystander")


@pytest.fixture
def nothing_lost(shared: rig.Licensed) -> Iterator[None]:
    """What is installed is the same after the test, and no whole key was logged."""
    before = installed(shared.site)
    start = shared.site.log.mark()
    yield
    assert installed(shared.site) == before
    logged = "\n".join(shared.site.log.so_far(start))
    assert not re.search(r"(?:[0-9A-Z]{4}-){7}[0-9A-Z]{4}", logged)


def installed(site: rig.Site) -> tuple[object, ...]:
    status = site.status()
    return site.licenses(), status["serial"], status["list_number"], status["standing"]


def add(it: rig.Licensed, key: str) -> dict[str, Any]:
    finding: dict[str, Any] = it.site.call("Manage.AddLicense", {"key": key})["finding"]
    return finding


def import_text(it: rig.Licensed, text: str, **options: bool) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = it.site.call("Manage.ImportList", {"text": text, **options})["findings"]
    return findings


def import_certificate(it: rig.Licensed, text: str) -> dict[str, Any]:
    finding: dict[str, Any] = it.site.call("Manage.ImportCertificate", {"text": text})["finding"]
    return finding


def request_of(hardware_id: str, *, simulated: bool = True) -> str:
    """What a host with that card would send the vendor."""
    request = Request(
        kind="sd-card",
        hardware_id=hardware_id,
        assurance="A1",
        reader="serial:/dev/ttyUSB0",
        simulated=simulated,
        catalog="ip-office",
        platform="ip500-v2",
        serial=None,
        version="0.1.0",
    )
    return request_text(request)


def other_serial(it: rig.Licensed) -> str:
    """The serial of another customer's card."""
    certificate = it.vendor.certify(request_of("0a" * 15))
    return re.search(r"^Serial: (\d+)$", certificate, re.MULTILINE)[1]  # type: ignore[index]  # a certificate has one


def mistyped(key: str, place: int) -> str:
    """The key with another digit at that place, counted from 1 without dashes."""
    plain = key.replace("-", "")
    wrong = "7" if plain[place - 1] != "7" else "8"
    return plain[: place - 1] + wrong + plain[place:]


def refused(finding: dict[str, Any], verdict: str) -> None:
    """The finding is a refusal of that sort, with a sentence and a cure."""
    assert (finding["verdict"], finding["accepted"]) == (verdict, False)
    assert len(finding["message"].split()) > 3
    assert finding["remedy"]


@pytest.mark.parametrize("place", [1, 14, 32])
def test_a_mistyped_key_is_refused_with_the_place_and_what_was_meant(shared: rig.Licensed, place: int) -> None:
    (key,) = shared.vendor.issue(shared.serial, "softconsole:2")
    finding = add(shared, mistyped(key, place))
    refused(finding, "mistyped")
    assert (finding["position"], finding["suggestion"]) == (place, key)


def test_featurekeyctl_points_at_the_wrong_character(shared: rig.Licensed) -> None:
    (key,) = shared.vendor.issue(shared.serial, "softconsole:2")
    ran = shared.site.ctl("add", mistyped(key, 3))
    assert ran.status == 1
    assert f"did you mean  {key}" in ran.out
    assert "\n    ^\n" in ran.out


def test_exchanged_neighbors_are_found(shared: rig.Licensed) -> None:
    (key,) = shared.vendor.issue(shared.serial, "softconsole:3")
    plain = list(key.replace("-", ""))
    place = next(number for number in range(31) if plain[number] != plain[number + 1])
    plain[place], plain[place + 1] = plain[place + 1], plain[place]
    finding = add(shared, "".join(plain))
    refused(finding, "mistyped")
    assert (finding["position"], finding["suggestion"]) == (place + 1, key)


@pytest.mark.parametrize(
    ("text", "position"), [("", None), ("4Q7K-AB1D", None), ("U" * 32, 1), ("0" * 31 + "ß", 32), ("1" * 4096, None)]
)
def test_what_is_no_key_at_all_is_told_apart(shared: rig.Licensed, text: str, position: int | None) -> None:
    finding = add(shared, text)
    refused(finding, "not_a_key")
    assert finding.get("position") == position


def test_a_key_for_another_serial_is_refused(shared: rig.Licensed) -> None:
    (key,) = shared.vendor.issue(other_serial(shared), "softconsole:2")
    finding = add(shared, key)
    refused(finding, "other_serial")
    assert shared.serial in finding["message"]


def test_a_key_of_a_feature_that_nobody_knows_here_is_refused(shared: rig.Licensed, tmp_path: Path) -> None:
    shipped = files("featurekeyd.policy").joinpath("catalogs/ip-office.toml").read_text(encoding="utf-8")
    later = (
        '\n[features.mind-reading]\ncode = 4000\ntitle = "Mind Reading"\nunit = "mind"\nmode = "use"\nsource = "none"\n'
    )
    catalog = tmp_path / "ip-office.toml"
    catalog.write_text(shipped + later, encoding="utf-8")
    printed = shared.vendor.run("issue", shared.serial, "mind-reading:1", "--catalog", str(catalog))
    finding = add(shared, printed.splitlines()[1].partition(",")[0])
    refused(finding, "unknown_feature")
    assert "4000" in finding["message"]


def test_the_same_key_counts_once_however_often_it_is_entered(shared: rig.Licensed) -> None:
    for key in (shared.keys[0], shared.keys[0].lower().replace("-", " "), shared.keys[0].replace("0", "o")):
        finding = add(shared, key)
        assert (finding["verdict"], finding["accepted"]) == ("already_there", True)
    assert shared.site.feature("sip-trunk-channels")["limit"] == 8


def test_a_list_for_another_serial_is_refused(shared: rig.Licensed) -> None:
    serial = other_serial(shared)
    shared.vendor.issue(serial, "softconsole:2")
    (finding,) = import_text(shared, shared.vendor.license_list(serial))
    refused(finding, "other_serial")
    assert serial in finding["message"]


@pytest.mark.parametrize("place", ["Serial: ", "key,name,state,set\n", "-----SIGNATURE-----\n"])
def test_a_list_with_one_changed_byte_is_refused(shared: rig.Licensed, place: str) -> None:
    text = shared.vendor.license_list(shared.serial)
    at = text.index(place) + len(place) + 5
    changed = text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]
    (finding,) = import_text(shared, changed)
    assert finding["verdict"] in {"bad_signature", "unknown_signer"}
    refused(finding, finding["verdict"])


def test_a_list_that_was_cut_off_is_refused(shared: rig.Licensed) -> None:
    text = shared.vendor.license_list(shared.serial)
    (finding,) = import_text(shared, text[: len(text) * 2 // 3])
    refused(finding, "bad_document")


def test_a_list_of_a_vendor_nobody_knows_is_refused(shared: rig.Licensed, tmp_path: Path) -> None:
    pretender = rig.Vendor(tmp_path / "pretender")
    certificate = pretender.certify(request_of("035344535530384780deadbeef0136"))
    serial = re.search(r"^Serial: (\d+)$", certificate, re.MULTILINE)
    assert serial
    pretender.issue(serial[1], "softconsole:2")
    (finding,) = import_text(shared, pretender.license_list(serial[1]))
    refused(finding, "unknown_signer")
    refused(import_certificate(shared, certificate), "unknown_signer")


def test_a_csv_text_is_judged_line_by_line_whatever_made_it(shared: rig.Licensed) -> None:
    new = shared.vendor.issue(shared.serial, "softconsole:1", "third-party-ip-endpoints:5")
    lines = [
        "\ufeffkey,name",
        "# ordered by the branch office",
        f'{new[0]},"SoftConsole, for the lobby"',
        "",
        f"{mistyped(new[1], 20)},3rd Party IP End-Points",
        "what is this",
        ",a name without a key",
        f'"{new[1]}",3rd Party IP End-Points',
        f'"{new[1]},3rd Party IP End-Points',
    ]
    findings = import_text(shared, "\r\n".join(lines), dry_run=True)
    told = [(finding["line"], finding["verdict"]) for finding in findings]
    assert told == [
        (3, "unlisted"),
        (5, "mistyped"),
        (6, "not_a_key"),
        (7, "bad_line"),
        (8, "unlisted"),
        (9, "bad_line"),
    ]
    assert findings[1]["suggestion"] == new[1]


def test_a_csv_text_with_a_bad_line_is_taken_whole_or_not_at_all_where_asked(shared: rig.Licensed) -> None:
    new = shared.vendor.issue(shared.serial, "softconsole:1")
    text = f"{new[0]}\n{mistyped(new[0], 5)}\n"
    findings = import_text(shared, text, all_or_nothing=True)
    assert [finding["verdict"] for finding in findings] == ["unlisted", "mistyped"]


def test_a_text_without_any_key_is_told(shared: rig.Licensed) -> None:
    for text in ("", "\n\r\n", "# nothing\n"):
        (finding,) = import_text(shared, text)
        refused(finding, "bad_document")


def test_a_text_with_too_many_lines_is_refused(shared: rig.Licensed) -> None:
    (finding,) = import_text(shared, "x\n" * (MAX_KEYS + 1))
    refused(finding, "bad_document")
    assert str(MAX_KEYS) in finding["message"]


def test_ten_thousand_keys_in_one_text_hold_nobody_up(shared: rig.Licensed) -> None:
    issued = datetime.date.fromisoformat(shared.site.status()["list_date"])
    keys = [
        make_key(
            feature_code=10,
            instances=1 + number,
            issued=issued,
            term=Term.PERPETUAL,
            sequence=number % 1000,
            catalog="ip-office",
            serial=shared.serial,
        )
        for number in range(MAX_KEYS)
    ]
    # The bystander gives up on an answer after 5 s, and in the time of this import it asks some hundred times.
    findings = import_text(shared, "\n".join(key.text for key in keys), dry_run=True)
    assert {finding["verdict"] for finding in findings} == {"unlisted"}
    assert [finding["line"] for finding in findings] == list(range(1, MAX_KEYS + 1))


def test_a_certificate_for_other_hardware_is_refused(shared: rig.Licensed) -> None:
    finding = import_certificate(shared, shared.vendor.certify(request_of("0b" * 15)))
    refused(finding, "other_hardware")
    assert "0b" * 15 in finding["message"]


def test_a_simulated_key_takes_no_certificate_but_one_marked_test(tmp_path: Path, shared: rig.Licensed) -> None:
    # A vendor of its own, since the shared one knows this card as a simulated one.
    vendor = rig.Vendor(tmp_path / "vendor")
    text = vendor.certify(request_of("035344535530384780deadbeef0136", simulated=False))
    with (
        rig.Simulator.sd_serial(tmp_path / "card") as simulator,
        rig.Site(tmp_path, feature_key={"reader": simulator.reader}) as site,
    ):
        site.start()
        finding = site.call("Manage.ImportCertificate", {"text": text})["finding"]
        refused(finding, "test_mismatch")
        assert "serial" not in site.status()


def test_a_certificate_with_a_changed_byte_is_refused(shared: rig.Licensed) -> None:
    text = shared.vendor.certify(shared.site.call("Manage.Request")["text"])
    refused(import_certificate(shared, text.replace("Catalog: ip-office", "Catalog: ip-offiCe")), "bad_signature")
    refused(import_certificate(shared, text.replace("SIGNATURE", "SIGNED")), "bad_document")
    refused(import_certificate(shared, shared.vendor.license_list(shared.serial)), "bad_document")


@pytest.mark.parametrize("kind", ["cid", "crc16", "crc7"])
def test_a_garbled_card_is_told_as_garbled_and_read_again_when_it_is_well(shared: rig.Licensed, kind: str) -> None:
    shared.simulator.tell(f"garble {kind}")
    try:
        seen = shared.site.call("Manage.CheckNow")
        assert seen["state"] == "garbled"
        assert seen["finding"]
        assert shared.site.ctl("key").status == 1
        deadline = time.monotonic() + rig.DEADLINE
        while shared.site.status()["feature_key"]["state"] != "garbled":  # doubted first: it may be over in a moment
            assert time.monotonic() < deadline
        with pytest.raises(rig.Refused) as refusal:
            shared.site.call("Manage.Request")
        assert refusal.value.error == "io.featurekey.Manage.FeatureKeyNotReadable"
        assert refusal.value.parameters["state"] == "garbled"
        refused(import_certificate(shared, shared.vendor.certify(request_of("0c" * 15))), "key_not_readable")
    finally:
        shared.simulator.tell("well")
    assert shared.site.call("Manage.CheckNow")["state"] == "present"


def test_another_card_is_told_as_the_wrong_key(shared: rig.Licensed) -> None:
    shared.simulator.tell(f"card {'0d' * 15}")
    try:
        seen = shared.site.call("Manage.CheckNow")
        assert (seen["state"], seen["hardware_id"]) == ("wrong-key", "0d" * 15)
    finally:
        shared.simulator.tell("card 035344535530384780deadbeef0136")
    assert shared.site.call("Manage.CheckNow")["state"] == "present"


def test_to_remove_what_is_not_there_is_told(shared: rig.Licensed) -> None:
    finding = shared.site.call("Manage.RemoveLicense", {"key": "ZZZZ"})["finding"]
    assert (finding["verdict"], finding["accepted"]) == ("not_found", False)
    finding = shared.site.call("Manage.RemoveLicense", {"key": "40"})["finding"]
    assert (finding["verdict"], finding["accepted"]) == ("not_found", False)  # too little to remove anything by
