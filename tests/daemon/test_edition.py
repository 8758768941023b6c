"""A system without its edition says so, and works as far as its other licenses go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurekeyd.daemon.wire import LICENSE, MANAGE

if TYPE_CHECKING:
    from tests.daemon.conftest import House


def shown(house: House) -> object:
    (answer,) = house.ask(f"{LICENSE}.Status")
    return answer["parameters"].get("edition")


def test_a_system_shows_unlicensed_until_its_edition_is_entered(house: House) -> None:
    assert shown(house) == "unlicensed"
    house.licensed(house.vendor.key(code=2, instances=8))
    assert shown(house) == "unlicensed"
    (answer,) = house.ask(f"{MANAGE}.AddLicense", key=house.vendor.key(code=1, instances=1).text)
    assert answer["parameters"]["finding"]["accepted"]
    assert shown(house) is None
