"""Backups that somebody has written himself, and honest ones in every situation that a technician meets."""

from __future__ import annotations

import base64
import datetime
import json
import threading
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from featurekeyd.daemon import backup as backups
from featurekeyd.daemon import state_service, trusting
from featurekeyd.daemon.trusting import read_evidence
from featurekeyd.daemon.wire import MANAGE
from featurekeyd.hwio.simulated_host import SimulatedHost, SimulatedNic, write_simulated_host
from featurekeyd.policy.checkevidence import KIND as CHECK
from featurekeyd.policy.checkevidence import CheckEvidence, check_body
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.hostbinding import HostVerdict
from featurekeyd.policy.hostevidence import HostAddress, digests_of
from featurekeyd.policy.request_text import read_request
from featurekeyd.policy.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.daemon.conftest import House

SERIAL, OTHER = "110123456789", "110123456780"
DAY = 86_400.0
ANOTHER_HOST = SimulatedHost(
    product_uuid="11111111-2222-3333-4444-555555555555",
    machine_id="0" * 31 + "1",
    product_serial="X-1",
    board_serial="Y-2",
    nics=(SimulatedNic(name="enp1s0", address="00:1b:21:5e:8a:77", metric=100),),
)
REPLACED = msgspec.structs.replace(
    ANOTHER_HOST, product_serial=SimulatedHost().product_serial, board_serial=SimulatedHost().board_serial
)


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_: object) -> None:
        """In place of a look."""

    monkeypatch.setattr("featurekeyd.daemon.site.Site.look", look)


def ask(house: House, name: str, **parameters: Any) -> dict[str, Any]:
    (reply,) = house.ask(f"{MANAGE}.{name}", uid=1234, **parameters)
    answer: dict[str, Any] = reply["parameters"]
    return answer


def certified(house: House) -> House:
    """With certificate and list as they came, and the host enrolled."""
    vendor = house.vendor
    assert ask(house, "ImportCertificate", text=vendor.certificate())["finding"]["accepted"]
    keys = [vendor.key(code=1, instances=1), vendor.key(code=2, instances=8)]
    assert ask(house, "ImportList", text=vendor.list_of(*keys, number=2))["accepted"]
    look(house)
    return house


def stands(house: House, standing: Standing) -> bool:
    return house.enforcer.standing is standing


def look(house: House) -> None:
    house.loop.run_until_complete(house.site.trusting.look_at_host())


def becomes(house: House, host: SimulatedHost) -> None:
    write_simulated_host(house.place / "host", host)
    look(house)


def pass_time(house: House, seconds: float, step: float = 3600.0) -> None:
    for _ in range(round(seconds / step)):
        house.clock.run(step)
        house.enforcer.tick(house.clock())


def backup(house: House) -> str:
    return str(ask(house, "Backup")["text"])


def restore(house: House, text: str) -> list[str]:
    found = ask(house, "Restore", text=text)
    assert found["finding"]["accepted"], found
    changes: list[str] = found["changes"]
    return changes


def forged(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    """The same backup with something else in it, and a digest that fits."""
    begin, content = text.split("\n\n")
    fields = dict(line.split(": ", 1) for line in begin.splitlines()[1:] if not line.startswith("Digest"))
    state = json.loads(zlib.decompress(base64.b64decode("".join(content.splitlines()[:-1]))))
    change(state)
    return backups._text(fields, zlib.compress(json.dumps(state).encode(), 9))


def with_facts(text: str, **facts: Any) -> str:
    return forged(text, lambda state: state["facts"].update(facts))


def answer(house: House, **fields: Any) -> str:
    """The vendor's answer to a request of this host."""
    nonce = read_request(ask(house, "RequestCheck")["text"]).nonce
    checked = datetime.datetime.fromtimestamp(house.clock().wall, datetime.UTC)
    until = checked + datetime.timedelta(days=30)
    about = {"serial": SERIAL, "catalog": "exchange", "number": 1, "nonce": nonce, "checked": checked, "until": until}
    return house.vendor.sealed(CHECK, check_body(CheckEvidence(**{**about, **fields})))


def answered(house: House, **fields: Any) -> str:
    text = answer(house, **fields)
    ask(house, "ImportCheck", text=text)
    return text


# Backups that somebody has written


def test_no_backup_opens_a_deactivated_system(bound: House) -> None:
    certified(bound).enforcer.see(bound.seen("absent"), bound.clock())
    pass_time(bound, 80 * 3600)
    assert stands(bound, Standing.DEACTIVATED)
    opening = {"serial": SERIAL, "day": "2026-12-04", "drained": 0.0}
    restore(bound, with_facts(backup(bound), opening=opening))
    assert stands(bound, Standing.DEACTIVATED)
    assert bound.enforcer.trust.kept.opening is None


def test_no_backup_makes_another_host_the_enrolled_one(bound: House) -> None:
    certified(bound)
    becomes(bound, ANOTHER_HOST)
    seen = bound.site.trusting.evidence
    assert seen is not None
    here = {name: list(values) for name, values in digests_of(seen).items()}
    host = {"origin": here, "parts": here, "unread": {}, "on": "2026-12-01", "permit": 9, "simulated": True}
    restore(bound, with_facts(backup(bound), host=host))
    look(bound)
    judged = bound.enforcer.trust.host
    assert judged is not None
    assert judged.verdict is HostVerdict.CHANGED
    assert ask(bound, "EnrollHost")["finding"]["accepted"] is False


def test_no_backup_undoes_a_signed_no(bound: House) -> None:
    good = answered(certified(bound))
    assert stands(bound, Standing.LICENSED)
    answered(bound, number=2, retired=True)
    assert stands(bound, Standing.DEACTIVATED)
    genuine = {"serial": SERIAL, "number": 999_999_999, "text": good}
    restore(bound, with_facts(backup(bound), retired=[], checks={SERIAL: 999_999_999}, answer=genuine))
    assert stands(bound, Standing.DEACTIVATED)
    kept = bound.enforcer.trust.kept
    assert (kept.retired, kept.check_numbers) == ((SERIAL,), {SERIAL: 2})


def test_an_answer_whose_signature_does_not_hold_is_left_out(bound: House) -> None:
    text = answered(certified(bound))
    edited = {"serial": SERIAL, "number": 2, "text": text.replace("Check: 1", "Check: 2")}
    restore(bound, with_facts(backup(bound), answer=edited))
    assert bound.enforcer.trust.kept.check_numbers == {SERIAL: 1}
    assert stands(bound, Standing.LICENSED)


def test_nothing_is_stored_of_a_backup_that_nothing_can_run_by(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text, before = backup(certified(bound)), bound.store.load_facts()

    def fails(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr(Enforcer, "tick", fails)
    found = ask(bound, "Restore", text=text)["finding"]
    assert (found["verdict"], found["message"]) == (
        "bad_backup",
        "Nothing can run by what is in the backup: OverflowError.",
    )
    assert bound.store.load_facts() == before


@pytest.mark.parametrize(
    "facts",
    [
        {"clock": {"wall": 1e30, "boot": 0.0, "boot_id": "x", "ahead": 0.0, "repairs": 0}},
        {"opening": {"serial": SERIAL, "day": "9999-12-31", "drained": 0.0}},
        {"emergency_claims": 10**30},
    ],
)
def test_a_backup_with_what_nothing_real_has_is_refused_whole(bound: House, facts: dict[str, Any]) -> None:
    text, before = backup(certified(bound)), bound.store.load_facts()
    assert ask(bound, "Restore", text=with_facts(text, **facts))["finding"]["verdict"] == "bad_backup"
    assert bound.store.load_facts() == before
    pass_time(bound, 3600)
    assert read_request(ask(bound, "RequestCheck")["text"]).emergency_claims == 0


# Honest ones


def test_an_announced_address_that_was_adopted_stays_bound(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def has(address: str) -> None:
        def read(root: Path) -> Any:
            found = (HostAddress(interface="enp1s0", family="ipv4", address=address),)
            return msgspec.structs.replace(read_evidence(root), addresses=found)

        monkeypatch.setattr(trusting, "read_evidence", read)
        look(bound)

    has("192.0.2.10")
    text = backup(certified(bound))
    assert ask(bound, "AnnounceAddress", address="192.0.2.77")["finding"]["accepted"]
    has("192.0.2.77")
    bound.clock.run(30 * DAY)
    assert restore(bound, text) == []
    look(bound)
    enrolled = bound.enforcer.trust.kept.enrolled
    assert enrolled is not None
    assert enrolled.addresses == ("192.0.2.77",)
    assert bound.enforcer.trust.host is not None
    assert bound.enforcer.trust.host.verdict is HostVerdict.SAME


def test_a_window_that_has_closed_stays_closed(bound: House) -> None:
    text = backup(certified(bound))
    becomes(bound, REPLACED)
    bound.clock.run(40 * DAY)
    look(bound)
    restore(bound, text)
    found = ask(bound, "EnrollHost")["finding"]
    assert found["accepted"] is False
    assert "longer than 30 days" in found["message"]


def test_a_rescue_that_is_over_stays_over(bound: House) -> None:
    certified(bound).enforcer.see(bound.seen("absent"), bound.clock())
    pass_time(bound, 3 * 3600)
    code = bound.vendor.rescue_code(bound.clock().date)
    assert ask(bound, "Rescue", code=code)["finding"]["accepted"]
    text = backup(bound)
    pass_time(bound, 7 * DAY + 3600, 1800.0)
    assert stands(bound, Standing.DEACTIVATED)
    restore(bound, text)
    assert stands(bound, Standing.DEACTIVATED)
    assert ask(bound, "Rescue", code=code)["finding"]["verdict"] == "already_used"


def test_a_rescue_goes_on_as_it_does_where_a_backup_is_restored_meanwhile(bound: House) -> None:
    text = backup(certified(bound))
    bound.enforcer.see(bound.seen("absent"), bound.clock())
    pass_time(bound, 3 * 3600)
    assert ask(bound, "Rescue", code=bound.vendor.rescue_code(bound.clock().date))["finding"]["accepted"]
    before = bound.enforcer.trust.kept.opening
    restore(bound, text)
    assert bound.enforcer.trust.kept.opening == before
    assert stands(bound, Standing.GRACE)


def test_after_an_exchange_of_the_key_the_answer_for_the_new_one_stays(bound: House) -> None:
    answered(certified(bound), number=50)
    assert ask(bound, "ImportCertificate", text=bound.vendor.certificate(serial=OTHER))["finding"]["accepted"]
    text = backup(bound)
    answered(bound, serial=OTHER, number=1)
    assert stands(bound, Standing.LICENSED)
    restore(bound, text)
    assert stands(bound, Standing.LICENSED)
    assert bound.enforcer.grace == ()


def test_after_disk_trouble_all_is_as_it_was_on_the_same_host(bound: House, tmp_path: Path) -> None:
    answered(certified(bound))
    text = backup(bound)
    (tmp_path / "again").mkdir()
    write_simulated_host(tmp_path / "again" / "host")
    again = type(bound)(tmp_path / "again", bound.loop, bound.catalog, reader=f"host:{tmp_path / 'again' / 'host'}")
    try:
        again.vendor, again.site.vendor_keys = bound.vendor, bound.vendor.keys
        again.enforcer.see(again.seen(), again.clock())
        assert restore(again, text)[:4] == [
            "certificate from the backup",
            "license list from the backup",
            "answer of the vendor from the backup",
            "enrolled host from the backup",
        ]
        look(again)
        assert again.enforcer.trust.kept.enrolled == bound.enforcer.trust.kept.enrolled
        assert stands(again, Standing.LICENSED)
        becomes(again, ANOTHER_HOST)
        pass_time(again, 73 * 3600)
        assert stands(again, Standing.DEACTIVATED), "a spare host has 72 hours"
    finally:
        again.close()


# What happens meanwhile


def test_what_happens_during_a_restore_is_not_lost(bound: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text = backup(certified(bound))
    tried_out, counted = state_service._tried_out, threading.Event()

    def claim() -> None:
        bound.enforcer.account.emergency_claims += 3
        bound.site.trusting.tick(bound.clock())
        counted.set()

    def slow(*arguments: Any) -> Any:
        bound.loop.call_soon_threadsafe(claim)
        assert counted.wait(10)
        return tried_out(*arguments)

    monkeypatch.setattr(state_service, "_tried_out", slow)
    restore(bound, text)
    assert bound.enforcer.trust.kept.claims == 3
    bound.storing._thread.submit(int).result()
    assert bound.store.load_facts()[0].emergency_claims == 3


def test_what_happens_while_it_is_stored_is_not_lost_and_overwrites_nothing(
    bound: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_facts(backup(certified(bound)), permits={SERIAL: 7}, emergency_claims=10)
    save_kept, counted = bound.store.save_kept, threading.Event()

    def claim() -> None:
        bound.enforcer.account.emergency_claims += 3
        bound.site.trusting.tick(bound.clock())
        counted.set()

    def slow(*arguments: Any) -> None:
        save_kept(*arguments)
        bound.loop.call_soon_threadsafe(claim)
        assert counted.wait(10)

    monkeypatch.setattr(bound.store, "save_kept", slow)
    restore(bound, text)
    bound.storing._thread.submit(int).result()
    facts = bound.store.load_facts()[0]
    assert (facts.emergency_claims, facts.permits) == (13, {SERIAL: 7})
    assert bound.enforcer.trust.kept.claims == 13
