"""Each staged fault is named by doctor and by the log, with cause and cure; where none is, none is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rig_faults
from rig_faults import ASKING_GROUP, OTHER_USER, SIMULATED, Bench, Said

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

LEAST = 20
"""Faults that are to be staged at least."""


@pytest.fixture(scope="session")
def own_host() -> None:
    """Skip where doctor would see the accounts and processes of this machine."""
    if not rig_faults.can_mount():
        pytest.skip("only root can mount, and not in every container")


@pytest.fixture(scope="module")
def staged(own_host: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], Said]]:
    """All faults, staged side by side."""
    return dict(rig_faults.stage_all(rig_faults.names(), tmp_path_factory.mktemp("faults")))


@pytest.mark.parametrize("name", rig_faults.names())
def test_doctor_and_the_log_each_name_cause_and_cure(staged: dict[str, Callable[[], Said]], name: str) -> None:
    try:
        said = staged[name]()
    except rig_faults.CannotStage as reason:
        pytest.skip(str(reason))
    wanted, script = rig_faults.load(name).DOCTOR, rig_faults.load(name)
    fault = said.fault(wanted.name)
    assert wanted.what in fault["what"]
    assert wanted.cause in fault["cause"]
    assert wanted.cure in fault["cure"]
    assert all(fault[part] in said.text for part in ("cause", "cure"))  # what it is may tell the seconds that passed
    assert {it["name"] for it in said.faults} - {SIMULATED} == {wanted.name}, said.text
    assert said.faults[0]["name"] == wanted.name, "a technician acts on what is read first"
    assert script.JOURNAL.cause in f"{said.entry.message} {said.entry.cause}"
    assert script.JOURNAL.cure in f"{said.entry.message} {said.entry.cure}"


def test_each_script_says_in_a_sentence_what_is_wrong_and_there_are_enough() -> None:
    assert len(rig_faults.names()) >= LEAST
    titles = [(rig_faults.load(name).__doc__ or "").strip() for name in rig_faults.names()]
    assert len({*titles}) == len(titles)
    assert all(title.endswith(".") and "\n" not in title for title in titles)


def test_the_page_names_every_fault_as_doctor_and_the_log_do() -> None:
    rows = {line.split("`")[1]: line for line in PAGE.read_text(encoding="utf-8").splitlines() if "(`" in line}
    assert sorted(rows) == rig_faults.names(), "run ./dev faults"
    for name, row in rows.items():
        script = rig_faults.load(name)
        for word in (f"`{script.DOCTOR.name}`", f"`{script.JOURNAL.event}`", (script.__doc__ or "").strip()):
            assert word in row


@pytest.fixture
def bench(own_host: None, tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as it:
        yield it


def test_a_site_in_order_has_no_fault_also_after_a_busy_day(bench: Bench) -> None:
    site = bench.licensed().site
    switch = site.client("kamailio")
    for number in range(8):
        assert switch.acquire(f"call-{number}", "sip-trunk-channels").allowed
    for number in range(8):
        assert switch.release(f"call-{number}")
    site.restart()
    ran = bench.ctl("doctor")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "all is well on this simulated system")
    assert [fault["name"] for fault in bench.ctl("doctor", "--json").json()["faults"]] == [SIMULATED]


def test_all_is_well_for_a_member_of_the_group_too_who_is_told_what_was_not_seen(bench: Bench) -> None:
    bench.licensed()
    ran = bench.ctl("doctor", user=OTHER_USER, groups=[ASKING_GROUP])
    not_seen, last = ran.out.splitlines()[-2:]
    assert (ran.status, last) == (0, "all is well, as far as this user may see on this simulated system")
    assert not_seen.startswith("not seen: ListLicenses, Diagnose, History: only root and the group featurekey-admin")


def test_a_fault_that_is_cured_is_found_no_more(bench: Bench) -> None:
    it = bench.licensed()
    it.simulator.tell("unplug")
    bench.wait_for(lambda told: told["standing"] == "grace")
    assert "key_absent" in {fault["name"] for fault in bench.ctl("doctor", "--json").json()["faults"]}
    it.simulator.tell("plug")
    bench.wait_for(lambda told: told["standing"] == "licensed")
    assert "key_absent" not in {fault["name"] for fault in bench.ctl("doctor", "--json").json()["faults"]}
