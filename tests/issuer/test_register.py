"""The register: acts are whole, numbers are given once, and a file that is none is refused."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.issuer import register as register_module
from featurekeyd.issuer.refusal import Refused
from featurekeyd.issuer.register import Register

if TYPE_CHECKING:
    from tests.issuer.conftest import Desk

DAY = datetime.date(2026, 1, 31)
ORDERS = 25
"""Orders and lists of each of two processes: enough that they meet in a file that syncs each time."""

ISSUER = f"""
import datetime, sys
from pathlib import Path
from featurekeyd.issuer.catalogfiles import find_catalog
from featurekeyd.issuer.order import Item, Order, issue
from featurekeyd.issuer.register import Register
from featurekeyd.issuer.signedlist import make_list
from featurekeyd.issuer.vendor import open_vendor
from featurekeyd.policy.licensekey import Term

vendor = open_vendor(Path(sys.argv[1]), lambda: b"")
register = Register.open(vendor.register_path)
catalog, day = find_catalog("ip-office"), datetime.date(2026, 1, 31)
order = Order(serial=sys.argv[2], items=(Item("softconsole", 1),), term=Term.PERPETUAL, day=day, today=day)
print("ready", flush=True)
sys.stdin.readline()
for _ in range({ORDERS}):
    print("sequence", issue(order, catalog, register)[0].sequence)
    print("list", make_list(sys.argv[2], vendor, register, day).licenses.number)
register.close()
"""


def enrolled(register: Register, hardware_id: str, preferred: str, *, simulated: bool = False) -> str:
    with register.act():
        system = register.enroll(
            kind="sd-card", hardware_id=hardware_id, simulated=simulated, preferred=preferred, day=DAY
        )
    return system.serial


def test_the_same_hardware_keeps_its_serial(register: Register) -> None:
    assert enrolled(register, "aa", "110000000005") == "110000000005"
    assert enrolled(register, "aa", "110000000099") == "110000000005"
    assert len(register.systems()) == 1


def test_other_hardware_with_the_same_digits_gets_the_next_free_number(register: Register) -> None:
    preferred = "110000000005"
    serials = [enrolled(register, hardware, preferred) for hardware in ("aa", "bb", "cc")]
    assert serials == ["110000000005", "110000000006", "110000000007"]
    assert enrolled(register, "dd", "110000000006") == "110000000008"


def test_behind_the_last_number_comes_the_first(register: Register) -> None:
    assert enrolled(register, "aa", "119999999999") == "119999999999"
    assert enrolled(register, "bb", "119999999999") == "110000000000"


def test_simulated_hardware_is_another_system_than_real_hardware_with_its_id(register: Register) -> None:
    assert enrolled(register, "aa", "110000000005") != enrolled(register, "aa", "110000000005", simulated=True)


def test_an_act_that_fails_records_nothing(register: Register) -> None:
    def enroll_and_fail() -> None:
        with register.act():
            register.enroll(kind="host", hardware_id="aa", simulated=False, preferred="130000000001", day=DAY)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enroll_and_fail()
    assert register.systems() == []
    assert enrolled(register, "bb", "130000000001") == "130000000001"


def test_nothing_is_recorded_outside_an_act(register: Register) -> None:
    with pytest.raises(AssertionError):
        register.record_programming("7654321", simulated=False, day=DAY)


def test_a_serial_that_is_not_there_is_refused(register: Register) -> None:
    with pytest.raises(Refused, match="no serial '110000000001'"):
        register.catalog_of("110000000001")


def test_two_processes_never_give_one_number_twice(desk: Desk) -> None:
    serial = desk.certified()
    words = [sys.executable, "-c", ISSUER, str(desk.folder), serial]
    issuers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for issuer in issuers:
        assert issuer.stdout is not None
        assert issuer.stdout.readline() == "ready\n", issuer.communicate()[1]
    for issuer in issuers:
        assert issuer.stdin is not None
        issuer.stdin.write("go\n")
        issuer.stdin.flush()
    said = [issuer.communicate(timeout=100) for issuer in issuers]
    assert [issuer.returncode for issuer in issuers] == [0, 0], said
    lines = [line.split() for out, _ in said for line in out.splitlines()]
    assert sorted(int(number) for what, number in lines if what == "sequence") == list(range(2 * ORDERS))
    assert sorted(int(number) for what, number in lines if what == "list") == list(range(1, 2 * ORDERS + 1))


def test_an_issuer_that_hangs_is_told_and_not_waited_for_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "WAIT_SECONDS", 0.05)
    path = desk.vendor().register_path
    one, other = Register.open(path), Register.open(path)

    def act_of_the_other() -> None:
        with other.act():
            pass

    with one.act(), pytest.raises(Refused, match="locked"):
        act_of_the_other()
    act_of_the_other()
    one.close()
    other.close()


def test_the_journal_is_no_write_ahead_log(desk: Desk, register: Register) -> None:
    enrolled(register, "aa", "110000000005")
    assert {path.name for path in desk.folder.iterdir()} == {
        "master.secret", "register.sqlite", "signing.pem", "vendor.pub",
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_file_that_is_no_register_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "register"
    path.write_bytes(content)
    with pytest.raises(Refused, match="register"):
        Register.open(path)


def test_a_register_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be opened"):
        Register.open(tmp_path / "register")
    assert not (tmp_path / "register").exists()


def test_a_register_of_a_newer_version_is_refused(desk: Desk) -> None:
    path = desk.vendor().register_path
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    with pytest.raises(Refused, match="version 5, and this release knows version 4"):
        Register.open(path)


def older_register(path: Path, version: int = 1) -> Path:
    """A register file of an earlier version."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / f"register-v{version}.sql").read_text(encoding="utf-8"))
    return path


def test_an_older_register_is_upgraded_when_it_is_opened(tmp_path: Path) -> None:
    path = older_register(tmp_path / "register")
    with contextlib.closing(Register.open(path)) as register:
        assert [(row.feature, row.license_set) for row in register.licenses("110877942912")] == [
            ("sip-trunk-channels", None),
            ("softconsole", None),
            ("softconsole", None),
        ]
        assert register.exchange_of("110877942912") is None
        assert (register.rescues("110877942912"), register.checks("110877942912")) == ([], [])


def test_the_version_before_is_upgraded_with_its_exchanges(tmp_path: Path) -> None:
    path = older_register(tmp_path / "register", 2)
    with contextlib.closing(Register.open(path)) as register:
        exchange = register.exchange_of("110877942912")
        assert exchange is not None
        assert exchange.new_serial == "110000000002"
        assert [row.rescue_anchor for row in register.certificates_of("110877942912")] == [None]


def test_two_issuers_may_open_an_older_register_at_once(tmp_path: Path) -> None:
    path, together = older_register(tmp_path / "register"), threading.Barrier(4)

    def opened() -> int:
        together.wait()
        with contextlib.closing(Register.open(path)) as register:
            return len(register.licenses("110877942912"))

    with ThreadPoolExecutor(4) as pool:
        assert [it.result() for it in [pool.submit(opened) for _ in range(4)]] == [3] * 4


def test_a_register_that_cannot_be_upgraded_is_refused_and_stays(tmp_path: Path) -> None:
    path = older_register(tmp_path / "register")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE exchanges (in_the_way)")
    with pytest.raises(Refused, match=r"cannot be upgraded: table exchanges already exists. It is as it was."):
        Register.open(path)


def test_a_path_with_odd_characters_is_opened(tmp_path: Path, desk: Desk) -> None:
    folder = tmp_path / "a ?#%20 folder"
    desk.folder.rename(folder)
    Register.open(folder / "register.sqlite").close()
