"""Settings read anew: what counts at once, what only after a restart, and that a mistake changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from featurekeyd.daemon import main
from featurekeyd.daemon.facts import Answer
from featurekeyd.daemon.main import _believed_keys
from featurekeyd.daemon.reloading import _TABLES, LIVE, Reloading
from featurekeyd.daemon.settings import Settings
from featurekeyd.daemon.store import Documents
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.events import EventName
from featurekeyd.policy.tables import FileMistakes, Mistake

if TYPE_CHECKING:
    from tests.daemon.conftest import House, Vendor

SETTINGS = """
[product]
catalog = "exchange"
platform = "large"

[access]
ask_users = [1000]
"""


class Anew:
    """A settings file, and what reads it anew."""

    def __init__(self, house: House, path: Path) -> None:
        self.house = house
        self.path = path
        self.told: list[str] = []
        self.mistakes: list[Mistake] = []
        self.on_told: Callable[[], None] = lambda: None
        self.reloading = Reloading(house.server, path, self._check, _believed_keys, self._tell)
        self.of(SETTINGS)
        house.log.events.clear()

    def of(self, text: str) -> None:
        """Read this text anew, to the end."""
        self.path.write_text(text)
        self.wait_for(1)

    def wait_for(self, times: int) -> None:
        async def ended() -> None:
            for _ in range(times):
                self.reloading.begin()
            await self.reloading.end()
            await asyncio.sleep(0)

        self.house.loop.run_until_complete(ended())

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.on_told()

    def _check(self, _: Settings, name: str) -> None:
        if self.mistakes:
            raise FileMistakes(name, self.mistakes)


@pytest.fixture
def anew(house: House, tmp_path: Path) -> Anew:
    return Anew(house, tmp_path / "featurekeyd.toml")


def test_rules_and_access_count_at_once(house: House, anew: Anew) -> None:
    more = '[emergency]\nnumbers = ["999"]\n[ceilings]\n"trunk:a" = 4\n[holders]\npbx = 1000\n'
    anew.of(SETTINGS.replace("1000", "1001") + more)
    rules = house.enforcer.rules
    assert rules.emergency_numbers == {"999"}
    assert (rules.ceilings, rules.owners) == ({"trunk:a": 4}, {"pbx": 1000})
    assert [port.name for port in house.site.ports] == ["trunk:a"]
    assert house.enforcer.holders.owner("pbx") == 1000
    assert house.site.settings.access.ask_users == {1001}
    told = house.log.one(EventName.SETTINGS_READ_ANEW).message
    assert told.startswith("The settings were read anew: access, emergency, ceilings, holders. After a restart only: ")


def test_addresses_count_from_the_next_look_at_the_host_on(house: House, anew: Anew) -> None:
    anew.of(SETTINGS + '[host]\nfloating = ["192.0.2.10"]\n')
    assert house.site.trusting.addresses.floating == {"192.0.2.10"}


def test_every_field_of_the_settings_has_a_name_that_a_technician_knows() -> None:
    fields = {*Settings.__struct_fields__, *Rules.__struct_fields__} - {"rules"}
    assert fields == set(_TABLES)
    assert set(LIVE) <= set(Settings.__struct_fields__)


def test_what_needs_a_restart_is_told_and_does_not_count(house: House, anew: Anew) -> None:
    before = house.site.settings
    anew.of(SETTINGS + '[feature_key]\nreader = "slot:/elsewhere"\n[paths]\nsocket = "/elsewhere"\n')
    told = house.log.one(EventName.SETTINGS_READ_ANEW).message
    assert "nothing has changed that counts at once" in told
    assert "After a restart only: " in told
    for table in ("feature_key.reader", "paths.socket"):
        assert table in told.partition("After a restart only: ")[2]
    assert (house.site.settings.reader, house.site.settings.socket) == (before.reader, before.socket)


ALARM = "[alarms.features.trunk]\nraise_percent = 50\nclear_percent = 10\n"


def test_alarms_of_the_catalog_that_runs_count_at_once(house: House, anew: Anew) -> None:
    anew.of(SETTINGS + ALARM)
    assert house.site.settings.alarms.features["trunk"].raise_percent == 50
    assert "alarms" in house.log.one(EventName.SETTINGS_READ_ANEW).message.partition("After a restart only: ")[0]


def test_alarms_of_another_catalog_wait_for_the_restart_as_that_does(house: House, anew: Anew) -> None:
    before, adopted = house.site.settings.alarms, house.site.measuring.alarms._rules
    anew.of(SETTINGS.replace("exchange", "other-exchange") + ALARM)
    assert house.site.settings.alarms == before
    assert house.site.measuring.alarms._rules is adopted
    later = house.log.one(EventName.SETTINGS_READ_ANEW).message.partition("After a restart only: ")[2]
    assert {"alarms", "product.catalog"} <= set(later.rstrip(".").split(", "))


def test_what_fails_while_the_settings_are_taken_is_told_and_ends_the_reload(
    house: House, anew: Anew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(house.server, "dismiss_outdated", fail)
    anew.told.clear()
    anew.of(SETTINGS)
    assert house.log.one(EventName.UNEXPECTED).message == "Unexpected RuntimeError while reading the settings anew."
    assert anew.told[-1] == "READY=1"
    assert house.loop.failures == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SETTINGS + '[ceilings]\n"trunk:a" = -1\n', "ceilings.trunk:a"),
        (SETTINGS + "[emergency\n", "featurekeyd.toml"),
        (SETTINGS + '[host]\nfloating = ["nowhere"]\n', "host.floating"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(house: House, anew: Anew, text: str, said: str) -> None:
    before = house.site.settings, house.enforcer.rules
    anew.of(text)
    assert (house.site.settings, house.enforcer.rules) == before
    told = house.log.one(EventName.SETTINGS_REFUSED).message
    assert said in told
    assert told.endswith("Cure: correct the file, then systemctl reload featurekeyd.")


def test_a_catalog_that_does_not_fit_is_a_mistake_too(house: House, anew: Anew) -> None:
    anew.mistakes = [Mistake("product.platform", "there is none of that name")]
    anew.of(SETTINGS)
    assert "product.platform" in house.log.one(EventName.SETTINGS_REFUSED).message


def test_a_file_that_is_gone_is_told_and_changes_nothing(house: House, anew: Anew) -> None:
    anew.path.unlink()
    anew.wait_for(1)
    assert "No such file" in house.log.one(EventName.SETTINGS_REFUSED).message


def test_the_service_manager_is_told_of_beginning_and_end(anew: Anew) -> None:
    anew.told.clear()
    anew.of(SETTINGS)
    begun, ended = anew.told
    assert begun.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ended == "READY=1"


def test_signals_in_a_row_are_no_more_than_two_readings(house: House, anew: Anew) -> None:
    async def many() -> None:
        twice = asyncio.Event()
        anew.on_told = lambda: twice.set() if anew.told.count("READY=1") == 2 else None
        for _ in range(50):
            anew.reloading.begin()
        await twice.wait()

    anew.told.clear()
    house.loop.run_until_complete(many())
    assert [told.partition("=")[0] for told in anew.told] == ["RELOADING", "READY", "RELOADING", "READY"]
    assert house.log.names().count(EventName.SETTINGS_READ_ANEW) == 2


def test_a_connection_that_is_allowed_less_now_is_ended_and_others_stay(house: House, anew: Anew) -> None:
    stays, goes = house.caller(1000), house.caller(1001)
    assert goes.replies[0]["error"] == "org.varlink.service.PermissionDenied"
    anew.of(SETTINGS.replace("1000", "1000, 1001"))
    allowed = house.caller(1001)
    anew.of(SETTINGS)
    assert (stays.wire.closed, allowed.wire.closed) == (False, True)


def put(house: House, vendor: Vendor, name: str = "vendor.pub") -> Path:
    """Install a vendor's public key."""
    path = house.settings.vendor_keys / name
    path.write_bytes(vendor.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def store(house: House) -> None:
    """Certificate and list are stored and, as after a start without the vendor's key, not believed."""
    vendor = house.vendor
    house.site.documents = Documents(certificate=vendor.certificate(), license_list=vendor.list_of(vendor.key()))
    house.site.vendor_keys = {}


def test_where_the_cryptography_is_wrong_nothing_signed_is_believed_after_it_either_until_it_is_right(
    house: House, anew: Anew, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(house, house.vendor)
    store(house)
    anew.of(SETTINGS)
    with monkeypatch.context() as patched:
        patched.setattr(main, "self_test", lambda: ["Ed25519"])
        anew.of(SETTINGS)
    assert house.site.vendor_keys == {}
    assert house.enforcer.licenses.certificate is None
    assert house.log.one(EventName.SELF_TEST_FAILED).message
    anew.of(SETTINGS)
    assert house.enforcer.licenses.certificate is not None


def test_a_new_key_of_the_vendor_is_believed_and_one_that_is_gone_beside_it_is_not(house: House, anew: Anew) -> None:
    house.site.vendor_keys = {"old": house.vendor.public_key}
    put(house, house.vendor)
    anew.of(SETTINGS)
    assert list(house.site.vendor_keys) == [house.vendor.signer]
    assert house.log.one(EventName.SETTINGS_READ_ANEW).message.startswith(
        "The settings were read anew: vendor's public keys. "
    )


def test_what_is_stored_is_believed_when_the_key_has_come_that_was_missing_at_the_start(
    house: House, anew: Anew
) -> None:
    store(house)
    put(house, house.vendor)
    anew.of(SETTINGS)
    licenses = house.enforcer.licenses
    assert licenses.certificate is not None
    assert len(licenses.keys()) == 1
    assert EventName.STATE_REFUSED not in house.log.names()


def test_a_stored_answer_of_the_vendor_is_read_anew_with_the_keys(house: House, anew: Anew) -> None:
    store(house)
    house.site.trusting.answer = Answer(serial="110123456789", number=1, text="no check")
    put(house, house.vendor)
    anew.of(SETTINGS)
    assert "The stored answer of the vendor is not believed" in house.log.one(EventName.STATE_REFUSED).message


def test_what_another_key_signed_is_told_and_counts_no_more(house: House, anew: Anew) -> None:
    store(house)
    put(house, house.vendor)
    anew.of(SETTINGS)
    put(house, type(house.vendor)(seed=2))
    anew.of(SETTINGS)
    assert house.enforcer.licenses.certificate is None
    assert house.log.one(EventName.STATE_REFUSED).fields["REASON"] == "unknown_signer"


def test_documents_are_read_anew_only_when_a_change_that_is_under_way_is_stored(
    house: House, anew: Anew, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(house)
    put(house, house.vendor)

    async def both() -> None:
        async def change() -> None:
            begun.set()
            await read.wait()
            for _ in range(10):
                await asyncio.sleep(0)
            house.site.documents = Documents(certificate=house.vendor.certificate())

        begun, read = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(house.server, "dismiss_outdated", read.set)
        changing = asyncio.ensure_future(house.site.alone(change))
        await begun.wait()
        anew.reloading.begin()
        await changing
        await anew.reloading.end()

    house.loop.run_until_complete(both())
    assert house.enforcer.licenses.certificate is not None
    assert house.enforcer.licenses.license_list is None


@pytest.mark.parametrize("damage", ["gone", "no key"])
def test_a_key_that_is_gone_or_damaged_at_a_reload_stays_believed_and_it_is_told(
    house: House, anew: Anew, damage: str
) -> None:
    store(house)
    path = put(house, house.vendor)
    anew.of(SETTINGS)
    path.unlink() if damage == "gone" else path.write_text(damage)
    anew.of(SETTINGS)
    assert list(house.site.vendor_keys) == [house.vendor.signer]
    assert house.enforcer.licenses.certificate is not None
    told = house.log.one(EventName.VENDOR_KEY_TROUBLE).message
    assert str(house.settings.vendor_keys) in told
    assert "The keys that were read before stay believed until a restart." in told
    assert told.endswith("Install the vendor's public key (*.pub) there, then systemctl reload featurekeyd.")


def test_a_good_key_beside_a_damaged_one_is_believed_with_the_earlier_ones(house: House, anew: Anew) -> None:
    other = type(house.vendor)(seed=2)
    put(house, other, "new.pub")
    (house.settings.vendor_keys / "vendor.pub").write_text("no key")
    anew.of(SETTINGS)
    assert house.site.vendor_keys.keys() == {house.vendor.signer, other.signer}
