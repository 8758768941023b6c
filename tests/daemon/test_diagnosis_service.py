"""Diagnose: what the daemon alone knows of its surroundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from featurekeyd.daemon.peer import Access
from featurekeyd.daemon.wire import MANAGE
from featurekeyd.policy.events import Event, EventName

if TYPE_CHECKING:
    import pytest

    from tests.daemon.conftest import House


def diagnose(house: House) -> dict[str, Any]:
    (reply,) = house.ask(f"{MANAGE}.Diagnose")
    answer: dict[str, Any] = reply["parameters"]
    return answer


def test_places_keys_and_troubles_are_told(house: House) -> None:
    house.site.tell(Event(name=EventName.STATE_TAMPERED, message="edited"))
    house.site.settings.vendor_keys.mkdir(exist_ok=True)
    (house.site.settings.vendor_keys / "bad.pub").write_text("no key")
    found = diagnose(house)
    assert [it["name"] for it in found["places"]] == ["state", "runtime", "vendor_keys"]
    assert all(it.get("problem") is None and it["free_bytes"] > 0 for it in found["places"])
    assert [it["event"] for it in found["troubles"]] == ["state_tampered"]
    assert found["vendor_keys_wrong"] == ["bad.pub is no public key: there is no public key in PEM form in it"]
    assert found["vendor_keys_in_use"] == sorted(house.site.vendor_keys)


def test_a_folder_that_is_not_there_or_full_is_told_with_the_reason(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(house.site.settings, vendor_keys=house.site.settings.state / "none")
    monkeypatch.setattr(house.site, "settings", settings)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featurekeyd.daemon.diagnosis_service.tempfile.TemporaryFile", full)
    problems = {it["name"]: it.get("problem") for it in diagnose(house)["places"]}
    assert problems["vendor_keys"] == "No such file or directory"
    assert problems["state"] == problems["runtime"] == "No space left on device"


def test_who_may_ask_is_told_as_the_settings_have_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(ask_users=frozenset({7}), ask_groups=frozenset({90, 80}), manage_users=frozenset({5}))
    monkeypatch.setattr(house.site, "settings", msgspec.structs.replace(house.site.settings, access=access))
    found = diagnose(house)
    assert (found["ask_users"], found["ask_groups"]) == ([5, 7], [80, 90])


def test_nothing_is_left_behind_by_the_try(house: House) -> None:
    before = sorted(house.site.settings.state.iterdir()) if house.site.settings.state.is_dir() else []
    diagnose(house)
    assert (sorted(house.site.settings.state.iterdir()) if house.site.settings.state.is_dir() else []) == before
