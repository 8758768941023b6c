"""A deactivated system lets technicians read and cure, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.curing import SORTS, Sort
from featurekeyd.daemon.wire import MANAGE
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from tests.daemon.conftest import House

PARAMETERS: dict[str, dict[str, Any]] = {
    "AddLicense": {"key": "4Q7K"},
    "RemoveLicense": {"key": "4Q7K"},
    "ImportList": {"text": "x"},
    "ImportCertificate": {"text": "x"},
    "ImportCheck": {"text": "x"},
    "Rescue": {"code": "4Q7K"},
    "AnnounceAddress": {"address": "192.0.2.1"},
    "ReleaseLease": {"holder": "h", "key": "k"},
    "CheckCatalog": {"text": "x"},
    "Reserve": {"feature": "trunk", "key": "201"},
    "Unreserve": {"feature": "trunk", "key": "201"},
    "Restore": {"text": "x"},
}


def errors(house: House, name: str) -> set[str]:
    more = house.server.methods[f"{MANAGE}.{name}"].more
    replies = house.ask(f"{MANAGE}.{name}", more=more, **PARAMETERS.get(name, {}))
    return {reply.get("error", "") for reply in replies}


def test_every_method_has_its_place_in_the_table(house: House) -> None:
    named = {name for name in house.server.methods if name.startswith(f"{MANAGE}.")}
    assert {f"{MANAGE}.{name}" for name in SORTS} == named


@pytest.mark.parametrize("name", SORTS)
def test_while_deactivated_only_what_neither_reads_nor_cures_is_refused(bound: House, name: str) -> None:
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    bound.clock.run(2 * 3600 + 1)
    bound.enforcer.tick(bound.clock())
    assert bound.enforcer.standing is Standing.DEACTIVATED
    refused = f"{MANAGE}.Deactivated" in errors(bound, name)
    assert refused is (SORTS[name] is Sort.WAITS)


@pytest.mark.parametrize("name", [name for name, sort in SORTS.items() if sort is Sort.WAITS])
def test_in_grace_and_when_all_is_well_nothing_waits(bound: House, name: str) -> None:
    assert errors(bound, name) == {""}
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    assert bound.enforcer.standing is Standing.GRACE
    assert errors(bound, name) == {""}


def test_the_refusal_names_the_cause_and_the_cure(bound: House) -> None:
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    bound.clock.run(2 * 3600 + 1)
    bound.enforcer.tick(bound.clock())
    (reply,) = bound.ask(f"{MANAGE}.Reserve", feature="trunk", key="201")
    assert reply["parameters"]["cause"] == "feature_key_absent for longer than 2h."
    assert "Put the certified Feature Key back" in reply["parameters"]["remedy"]
    assert len(bound.enforcer.reservations) == 0
