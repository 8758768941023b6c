"""How the daemon starts and ends: what outlives it, what keeps it from starting, and how systemd starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rig

QUIET_SECONDS = 3.0
MOST_WAKE_UPS = 60
"""Wake-ups in that time. Due are a handful: one tick and one look at the key in 5 s."""


@pytest.fixture
def alone(tmp_path: Path) -> rig.Site:
    """A site that is not started and has no key."""
    site = rig.Site(tmp_path)
    site.runtime.mkdir(parents=True)
    return site


def test_licenses_and_leases_outlive_an_orderly_restart(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.client("kamailio").acquire("call-1", "sip-trunk-channels", port="trunk:carrier-a", channel="7")
    before = site.licenses(), [{**lease, "age_seconds": 0} for lease in site.leases()]
    site.restart()
    assert (site.licenses(), [{**lease, "age_seconds": 0} for lease in site.leases()]) == before
    status = site.status()
    assert (status["standing"], status["serial"], status["list_number"]) == ("licensed", licensed.serial, 1)
    assert "1 leases of the earlier run are restored" in site.log.wait("leases_restored")


def test_nobody_who_hears_notices_is_no_reason_to_fail(licensed: rig.Licensed) -> None:
    site = licensed.site
    (site.short / "notify").unlink()
    assert site.stop() == 0
    start = site.log.mark()
    site.spawn(site.command)
    site.log.wait("is ready", start)
    assert site.status()["standing"] == "licensed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_in_order_when_told(licensed: rig.Licensed, number: int) -> None:
    daemon = licensed.site.daemon
    assert daemon is not None
    daemon.signal(number)
    assert daemon.wait() == 0
    assert "featurekeyd stops" in licensed.site.log.wait("stopped")


def test_leases_of_an_earlier_boot_are_gone_and_licenses_are_not(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    site.stop()
    shutil.rmtree(site.runtime)
    site.start()
    assert site.leases() == []
    assert len(site.licenses()) == 2


def test_a_damaged_lease_file_is_kept_aside_and_told(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    site.kill()
    with (site.runtime / "leases").open("ab") as leases:
        leases.write(b"00000000 not what was written\n")
    site.start()
    site.log.wait("The lease file is not whole (1 of 3 lines, the first of them line 3)")
    assert [lease["key"] for lease in site.leases()] == ["call-1"]
    assert (site.runtime / "leases.damaged").exists()


@pytest.fixture
def silent_line() -> Iterator[str]:
    """A serial line at whose other end nobody answers."""
    ours, theirs = os.openpty()
    yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_calls_are_answered_while_a_slow_reader_is_still_asked(tmp_path: Path, silent_line: str) -> None:
    with rig.Site(tmp_path / "site", feature_key={"reader": f"serial:{silent_line}"}) as site:
        site.spawn(site.command)
        call = {"holder": "kamailio", "key": "sos", "wants": [{"feature": "sip-trunk-channels"}], "dialed": "112"}
        with site.connect_when_listening() as connection:
            assert connection.call("License.Acquire", call)["reason"] == "emergency"
            assert connection.call("License.Status")["feature_key"]["state"] == "not-looked-yet"
        assert site.stop() == 0  # SIGTERM is obeyed in that time too


def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on(licensed: rig.Licensed) -> None:
    second = licensed.site.run_daemon()
    assert second.status == 1
    assert re.search(r"cannot start: another process answers on \S+; stop it first", second.err)
    assert licensed.site.status()["standing"] == "licensed"


def test_a_socket_that_a_killed_daemon_left_is_taken_over(licensed: rig.Licensed) -> None:
    licensed.site.kill()
    assert licensed.site.socket.exists()
    licensed.site.start()
    assert licensed.site.status()["standing"] == "licensed"


def spoil_state(site: rig.Site) -> None:
    site.state.mkdir()
    (site.state / "featurekeyd.db").write_bytes(b"this is no database at all, only text\n" * 100)


def age_state(site: rig.Site) -> None:
    site.state.mkdir()
    with sqlite3.connect(site.state / "featurekeyd.db") as state:
        state.execute("PRAGMA user_version = 99")
    state.close()


Spoil = Callable[[rig.Site], object]

CANNOT_START: dict[str, tuple[Spoil, str]] = {
    "no settings": (lambda site: site.settings.unlink(), r"featurekeyd\.toml: No such file or directory"),
    "no TOML": (lambda site: site.settings.write_text("[product\n"), r"settings cannot be used:\n.*featurekeyd\.toml"),
    "not UTF-8": (lambda site: site.settings.write_bytes(b"\xff\xfe"), r"featurekeyd\.toml: not UTF-8 \(byte 0\)"),
    "unknown key": (lambda site: site.write_settings(feature_key={"raeder": "usb"}), r"feature_key\.raeder"),
    "wrong type": (lambda site: site.write_settings(emergency={"numbers": 112}), r"emergency\.numbers"),
    "unknown catalog": (
        lambda site: site.write_settings(product={"catalog": "no-such-pbx"}),
        r"product\.catalog: there is no catalog 'no-such-pbx'; shipped are .*ip-office",
    ),
    "unknown platform": (
        lambda site: site.write_settings(product={"platform": "no-such-box"}),
        r"product\.platform: ip-office has no platform 'no-such-box'; it has .*ip500-v2",
    ),
    "unknown reader": (lambda site: site.write_settings(feature_key={"reader": "usbx"}), r"feature_key\.reader"),
    "unknown user": (
        lambda site: site.write_settings(access={"ask_users": ["no-such-user"]}),
        r"access\.ask_users: this host has no user 'no-such-user'",
    ),
    "state file of a later release": (age_state, r"written by a later release"),
    "state folder that is a file": (lambda site: site.state.write_text(""), r"start: \S+/state: "),
    "no room for the socket": (
        lambda site: site.write_settings(paths={"socket": "/no/such/folder/s"}),
        r"start: /no/such/folder/s: No such file",
    ),
    "path of the socket too long": (
        lambda site: site.write_settings(paths={"socket": f"/tmp/{'x' * 120}"}),
        r"start: /tmp/x{120}: .*too long",
    ),
}


@pytest.mark.parametrize("what", CANNOT_START)
def test_what_keeps_the_daemon_from_starting_is_said_in_a_sentence(alone: rig.Site, what: str) -> None:
    spoil, sentence = CANNOT_START[what]
    with alone:
        spoil(alone)
        ended = alone.run_daemon()
    assert ended.status == 1
    assert ended.err.startswith("featurekeyd cannot start: ")
    assert re.search(sentence, ended.err), ended.err
    assert "Traceback" not in ended.err


def test_a_broken_state_file_is_set_aside_whole_and_told(alone: rig.Site) -> None:
    with alone:
        spoil_state(alone)
        before = (alone.state / "featurekeyd.db").read_bytes()
        alone.start()
        alone.log.wait("state_set_aside: ")
        (aside,) = alone.state.glob("featurekeyd.db.damaged-*")
        assert aside.read_bytes() == before
        assert alone.status()["standing"] == "deactivated"
        assert alone.client("kamailio").acquire("sos", "sip-trunk-channels", dialed="112").allowed
        (told,) = [it["entry"] for it in alone.each("Manage.ListAudit") if it["entry"]["what"] == "state_set_aside"]
        assert (told["who"], told["number"]) == ("featurekeyd", 1)


def test_wrong_usage_is_told_apart(alone: rig.Site) -> None:
    with alone:
        assert alone.run_daemon("--no-such-option").status == 2


def test_the_settings_can_be_checked_without_a_start(alone: rig.Site) -> None:
    with alone:
        assert alone.run_daemon("--check").status == 0
        alone.write_settings(ceilings={"trunk:a": -1})
        checked = alone.run_daemon("--check")
        assert checked.status == 1
        assert "trunk:a" in checked.err
        assert not alone.state.exists()


def test_systemd_hands_the_socket_over_and_hears_that_the_daemon_is_ready(licensed: rig.Licensed) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed (Debian package systemd)")
    site = licensed.site
    site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    site.stop()
    site.socket.unlink(missing_ok=True)
    passed = [f"-E{name}={value}" for name, value in site.environ.items() if name == "NOTIFY_SOCKET"]
    start = site.log.mark()
    site.spawn([activate, *passed, "-l", str(site.socket), *site.command])
    site.log.wait("Listening on", start)
    with site.connect() as connection:
        connection.send("License.Status")
        site.wait_ready()
        assert connection.reply()["parameters"]["leases"] == 1
    assert site.stop() == 0


def test_readiness_is_told_only_when_the_daemon_answers_and_the_key_was_looked_at(licensed: rig.Licensed) -> None:
    for _ in range(3):
        licensed.site.stop()
        licensed.site.start()
        assert licensed.site.status()["feature_key"]["state"] == "present"


def test_a_daemon_that_nobody_asks_sleeps(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, feature_key={"poll_seconds": 5}) as it, it.site.watch() as events:
        events.connection.socket.settimeout(QUIET_SECONDS)
        before = wake_ups(it.site.pid)
        with pytest.raises(TimeoutError):
            events.connection.socket.recv(1)
        assert wake_ups(it.site.pid) - before < MOST_WAKE_UPS


def wake_ups(pid: int) -> int:
    """Voluntary context switches of all threads of a process."""
    counted = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
    found = [counted.search(path.read_text()) for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(match[1]) for match in found if match)
