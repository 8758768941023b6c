"""Applications: the best mode that is allowed, the reason where it is a lower one, and nothing taken by the lowest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.decision import Decision, Step
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request, Want

if TYPE_CHECKING:
    from tests.policy.conftest import Site

MODES = """
[applications.desk]
title = "Desk"
source = "test"
[[applications.desk.modes]]
id = "voice"
title = "Desk with Voice"
wants = ["trunk", "phone"]
[[applications.desk.modes]]
id = "pro"
title = "Desk Pro"
wants = ["phone"]
[[applications.desk.modes]]
id = "lite"
title = "Desk Lite"
"""


@pytest.fixture(scope="module")
def with_modes(catalog_text: str) -> Catalog:
    return load_catalog(catalog_text + MODES, "exchange.toml")


Open = Callable[..., "Site"]


@pytest.fixture(scope="module")
def opened(with_modes: Catalog, make_site: Open) -> Open:
    """Opens certified sites with these licenses."""

    def opened(**licensed: int) -> Site:
        site = make_site(with_modes)
        site.certify()
        site.buy(**licensed)
        site.told()
        return site

    return opened


def run(site: Site, key: str = "pc-1", mode: str | None = None, **fields: Any) -> Decision:
    """Start the application, or ask again."""
    uid = fields.pop("uid", 1000)
    request = Request(holder="desk", key=key, application="desk", mode=mode, **fields)
    decision = site.enforcer.acquire(request, uid, site.now)
    assert isinstance(decision, Decision)
    return decision


def explain(site: Site, **fields: Any) -> tuple[Decision, list[Step]]:
    request = msgspec.structs.replace(Request(holder="desk", key="pc-1", application="desk"), **fields)
    explained = site.enforcer.explain(request, 1000, site.now)
    assert isinstance(explained, tuple)
    return explained


def held(site: Site, key: str = "pc-1") -> Lease | None:
    return site.enforcer.ledger.find("desk", key)


def test_the_first_mode_is_granted_where_all_of_it_is_free(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    decision = run(site)
    assert (decision.allowed, decision.reason, decision.mode) == (True, Reason.GRANTED, "voice")
    assert (decision.feature, decision.limit, decision.in_use) == ("trunk", 1, 1)
    assert (decision.message, decision.remedy) == (None, None)
    assert (site.in_use("trunk"), site.in_use("phone"), site.in_use("coder")) == (1, 1, 1)


def test_a_lower_mode_is_granted_where_the_first_is_not_and_says_why(opened: Open) -> None:
    site = opened(phone=1)
    decision = run(site)
    assert (decision.allowed, decision.reason, decision.mode) == (True, Reason.FALLEN_BACK, "pro")
    assert (decision.feature, decision.fallback) == ("trunk", None)
    assert decision.message == "There is no license for Trunks."
    assert (decision.remedy or "").startswith("Order one")
    assert (site.in_use("trunk"), site.in_use("phone")) == (0, 1)


def test_the_lowest_mode_takes_nothing_and_leaves_no_lease(opened: Open) -> None:
    site = opened()
    decision = run(site)
    assert (decision.allowed, decision.reason, decision.mode) == (True, Reason.FALLEN_BACK, "lite")
    assert len(site.enforcer.ledger) == 0


def test_the_lowest_mode_asked_for_is_granted_and_no_fall(opened: Open) -> None:
    decision = run(opened(trunk=1, phone=1), mode="lite")
    assert (decision.allowed, decision.reason, decision.mode) == (True, Reason.GRANTED, "lite")
    assert decision.message is None


def test_no_mode_above_the_one_asked_for_is_granted(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    assert (run(site, mode="pro").reason, run(site, mode="pro").mode) == (Reason.GRANTED, "pro")
    assert site.in_use("trunk") == 0


def test_asking_again_climbs_up_once_instances_are_free_and_down_never_by_itself(opened: Open) -> None:
    site = opened(trunk=1, phone=2)
    run(site, "pc-1")
    assert (run(site, "pc-2").reason, run(site, "pc-2").mode) == (Reason.FALLEN_BACK, "pro")
    assert run(site, "pc-1").reason is Reason.ALREADY_HELD
    assert site.release("pc-1", "desk")
    assert (run(site, "pc-2").reason, run(site, "pc-2").mode) == (Reason.GRANTED, "voice")
    assert (site.in_use("trunk"), site.in_use("phone"), len(site.enforcer.ledger)) == (1, 1, 1)


def test_what_runs_keeps_its_mode_when_the_license_goes(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    run(site)
    site.bring(site.list_of())
    assert (run(site).reason, run(site).mode) == (Reason.ALREADY_HELD, "voice")
    assert run(site, "pc-2").mode == "lite"


def test_a_lower_mode_gives_back_what_only_the_higher_takes(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    run(site)
    assert run(site, mode="pro").mode == "pro"
    assert (site.in_use("trunk"), site.in_use("coder"), site.in_use("phone")) == (0, 0, 1)
    assert run(site, mode="lite").mode == "lite"
    assert (site.in_use("phone"), held(site)) == (0, None)


def test_a_deactivated_system_runs_the_mode_that_takes_nothing(with_modes: Catalog, make_site: Open) -> None:
    decision = run(make_site(with_modes))
    assert (decision.allowed, decision.reason, decision.mode) == (True, Reason.FALLEN_BACK, "lite")
    assert (decision.message or "").startswith("The system is deactivated")


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"application": "fax"}, "fax"), ({"mode": "deluxe"}, "desk with a mode deluxe")],
)
def test_a_name_that_the_catalog_has_not_is_denied_by_a_reason_of_its_own(
    fields: dict[str, str], named: str, opened: Open
) -> None:
    site = opened(trunk=1, phone=1)
    request = msgspec.structs.replace(Request(holder="desk", key="pc-1", application="desk"), **fields)
    decision = site.enforcer.acquire(request, 1000, site.now)
    assert isinstance(decision, Decision)
    assert (decision.allowed, decision.reason, decision.mode) == (False, Reason.UNKNOWN_APPLICATION, None)
    assert decision.message == f"The catalog has no application {named}."
    assert decision.remedy == "Mend the name in the configuration of the program that asks; known here: desk."
    assert explain(site, **fields)[1] == [
        Step("mode", fields.get("mode", request.application), passed=False, finding=decision.message)
    ]


@pytest.mark.parametrize("fields", [{}, {"mode": "lite"}, {"application": "fax"}, {"mode": "deluxe"}])
def test_an_emergency_comes_first_whatever_the_application(
    fields: dict[str, str], with_modes: Catalog, make_site: Open
) -> None:
    site = make_site(with_modes)
    request = msgspec.structs.replace(Request(holder="desk", key="pc-1", application="desk", dialed="112"), **fields)
    decision = site.enforcer.acquire(request, 1000, site.now)
    assert isinstance(decision, Decision)
    assert (decision.allowed, decision.reason) == (True, Reason.EMERGENCY)
    assert site.enforcer.emergencies_total == 1
    assert explain(site, dialed="112", **fields)[0].reason is Reason.EMERGENCY


def test_explain_walks_each_mode_and_changes_nothing(opened: Open) -> None:
    site = opened(phone=1)
    decision, steps = explain(site)
    assert (decision.reason, decision.mode) == (Reason.FALLEN_BACK, "pro")
    assert [step.subject for step in steps if step.step == "mode"] == ["voice", "pro"]
    assert [step.finding for step in steps if not step.passed] == [decision.message]
    assert steps[0].finding == "Desk with Voice takes trunk, phone"
    assert len(site.enforcer.ledger) == 0
    assert explain(site, mode="lite")[1] == [Step("mode", "lite", passed=True, finding="Desk Lite takes nothing")]


def test_a_fall_is_counted_as_denied_of_the_feature_that_was_short(opened: Open) -> None:
    site = opened(phone=1)
    run(site)
    tallies = site.enforcer.tallies
    assert (tallies["trunk"].denied, tallies["phone"].granted, tallies["phone"].peak) == (1, 1, 1)


def test_an_application_falls_back_and_does_not_wait(opened: Open) -> None:
    site = opened(trunk=1, phone=2)
    run(site)
    decision = run(site, "pc-2", wait=True)
    assert (decision.mode, decision.place) == ("pro", None)
    site.release("pc-1", "desk")
    assert site.acquire("call", "trunk").allowed, "nobody waits for it"


def test_a_program_that_starts_anew_on_a_channel_ends_the_earlier_one_there(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    run(site, "pc-1", port="seat", channel="7")
    assert run(site, "pc-2", mode="lite", port="seat", channel="7").mode == "lite"
    assert len(site.enforcer.ledger) == 0


def test_a_key_that_runs_an_application_waits_no_more_and_explaining_one_ends_no_waiting(opened: Open) -> None:
    site = opened(trunk=1, phone=1)
    run(site, "pc-1")
    waiting = site.enforcer._situation.waiting
    for mode in (None, "lite"):
        assert site.acquire("pc-2", "phone", holder="desk", wait=True).place == 1
        explain(site, key="pc-2")
        assert [waiter.key for waiter in waiting] == ["pc-2"]
        run(site, "pc-2", mode)
        assert not waiting.anyone


LADDER = ["voice", "pro", "lite"]


@given(
    trunks=st.integers(0, 2),
    phones=st.integers(0, 3),
    asked=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, *LADDER])), max_size=20),
)
def test_everybody_gets_the_best_mode_that_a_naive_count_allows(
    trunks: int, phones: int, asked: list[tuple[int, str | None]], opened: Open
) -> None:
    licensed = {name: count for name, count in {"trunk": trunks, "phone": phones}.items() if count}
    site = opened(**licensed)
    runs: dict[int, str] = {}
    for number, mode in asked:
        others = [mode for other, mode in runs.items() if other != number]
        free_phones, free_trunks = phones - len(others), trunks - others.count("voice")
        best = "voice" if free_trunks and free_phones else "pro" if free_phones else "lite"
        got = max(mode or "voice", best, key=LADDER.index)
        assert run(site, f"pc-{number}", mode).mode == got
        runs.pop(number, None)
        if got != "lite":
            runs[number] = got
        assert (site.in_use("phone"), site.in_use("trunk")) == (len(runs), list(runs.values()).count("voice"))


def test_an_application_goes_without_wants_and_a_mode_with_an_application() -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"application": "desk", "wants": (Want("trunk"),)}, "application"),
        ({"mode": "pro", "wants": (Want("trunk"),)}, "mode"),
        ({}, "wants"),
    )
    for fields, member in wrong:
        with pytest.raises(ValueError, match=f"^`{member}` is refused"):
            Request(**{"holder": "desk", "key": "pc-1", **fields})
    assert Request(holder="desk", key="pc-1", application="desk", wants=()).application == "desk"


def test_an_application_that_a_terminal_would_not_show_is_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"application": "a\n"}, {"application": "desk", "mode": "\x1b[2J"})
    for fields in wrong:
        with pytest.raises(ValueError, match="printable"):
            Request(**{"holder": "desk", "key": "pc-1", **fields})
