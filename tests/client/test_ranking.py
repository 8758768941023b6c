"""The order of what doctor tells: one fault for each cause, and nothing that only follows from it."""

from __future__ import annotations

import pytest

from featurekeyd.client.faults import Fault, Severity
from featurekeyd.client.ranking import ranked


def fault(name: str, *, worst: bool = False, effect: str = "") -> Fault:
    severity = Severity.FAULT if worst else Severity.WARNING
    return Fault(name, severity, f"{name} is.", f"cause of {name}", f"cure of {name}", effect)


def names(*found: str) -> list[str]:
    return [it.name for it in ranked(map(fault, found))]


def test_faults_come_before_warnings_and_the_simulation_last() -> None:
    found = [fault("simulated"), fault("a"), fault("b", worst=True), fault("c"), fault("d", worst=True)]
    assert [it.name for it in ranked(found)] == ["b", "d", "a", "c", "simulated"]


def test_a_cause_is_told_with_its_effect_its_own_cure_and_the_worse_weight() -> None:
    running = fault("feature_key_absent", worst=True, effect="In 2 h the system is deactivated.")
    (told,) = ranked([running, fault("key_absent")])
    assert (told.name, told.severity) == ("key_absent", Severity.FAULT)
    assert told.what == "key_absent is. In 2 h the system is deactivated."
    assert told.cure == "cure of key_absent"


def test_an_effect_without_its_cause_is_told_by_itself() -> None:
    assert names("feature_key_absent", "no_check") == ["feature_key_absent", "no_check"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["not_certified", "no_vendor_key", "vendor_key_bad", "license_invalid"], ["vendor_key_bad"]),
        (["not_certified", "state_refused", "no_vendor_key"], ["no_vendor_key"]),
        (["not_certified", "state_set_aside"], ["state_set_aside"]),
        (["state_refused", "self_test_failed", "vendor_keys_changed"], ["self_test_failed"]),
        (["key_garbled", "port_held", "feature_key_absent"], ["port_held"]),
        (["client_refused", "user_not_in_group"], ["user_not_in_group"]),
        (["socket_closed", "socket_trouble"], ["socket_closed"]),
        (["socket_trouble"], ["socket_trouble"]),
        (["state_not_stored"], ["state_not_stored"]),
        (["clock_unset", "check_failing"], ["clock_unset"]),
    ],
)
def test_what_only_follows_is_left_out(found: list[str], told: list[str]) -> None:
    assert names(*found) == told


def test_a_cause_weighs_as_much_as_what_follows_from_it() -> None:
    (told,) = ranked([fault("port_held"), fault("key_busy", worst=True)])
    assert told.severity is Severity.FAULT


def test_faults_that_have_nothing_to_do_with_each_other_are_all_told() -> None:
    found = ["key_absent", "clock_unset", "license_expired", "holder_silent"]
    assert names(*found) == found
