"""Phone Manager of IP Office (seed 001): PC Softphone, else Pro, else Lite, over the real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import rig

NAME = "phone-manager"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[rig.Site]:
    """A site with two instances of Pro, and PC Softphone for one of them."""
    with rig.licensed_site(tmp_path, ("phone-manager-pro:2", "phone-manager-pro-ip-audio:1", "cti-link-pro:1")) as it:
        yield it.site


def test_each_user_gets_the_best_mode_that_is_free_and_climbs_up_later(site: rig.Site) -> None:
    desk = site.client("desk")
    answers = [desk.acquire(f"pc-{number}", application=NAME) for number in range(3)]
    assert [(it.allowed, it.mode) for it in answers] == [(True, "pc-softphone"), (True, "pro"), (True, "lite")]
    assert [it.reason for it in answers] == ["granted", "fallen_back", "fallen_back"]
    assert (answers[1].message or "").startswith("1 of 1 licensed instances of Phone Manager Pro IP Audio Enabled")
    assert (site.feature("phone-manager-pro")["in_use"], len(site.leases())) == (2, 2)
    assert desk.release("pc-0")
    assert desk.acquire("pc-2", application=NAME, mode="pro").mode == "pro"
    assert desk.acquire("pc-1", application=NAME).mode == "pc-softphone"


def test_a_technician_sees_the_mode_and_each_step(site: rig.Site) -> None:
    asked = ("--application", NAME, "--mode", "pro", "--holder", "desk", "--key", "pc-1")
    ran = site.ctl("acquire", *asked)
    assert ran.status == 0
    assert "allowed: granted, phone-manager-pro, 1 of 2 in use\n  runs in mode pro\n" in ran.out
    ran = site.ctl("explain", "--application", NAME, "--holder", "desk", "--key", "pc-2")
    assert ran.status == 0
    assert "Phone Manager Pro PC Softphone takes phone-manager-pro, phone-manager-pro-ip-audio" in ran.out
    ran = site.ctl("acquire", "--application", "fax", "--holder", "desk", "--key", "pc-1")
    assert ran.status == 1
    assert "DENIED: unknown_application\n  The catalog has no application fax." in ran.out


def test_a_presence_can_be_asked_for_by_everybody_and_is_never_in_use(site: rig.Site) -> None:
    for holder in ("desk", "asterisk"):
        answer = site.client(holder).acquire("is-it-licensed", "cti-link-pro")
        assert (answer.allowed, answer.limit, answer.in_use) == (True, 1, 0)
    assert site.leases() == []
    assert site.client("desk").acquire("is-it-licensed", "voicemail-pro-vbscript").reason == "not_licensed"
