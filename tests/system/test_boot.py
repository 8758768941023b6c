"""The package on a clean Debian 12 with systemd as its first process: from its installation to its removal.

The tests are one story, in the order they stand in: each begins where the one before it has left the host.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig_boot
import rig_nspawn
from rig_boot import IDENTIFIERS, MEMBER, SERVICE, SETTINGS, SOCKET, STRANGER, TECHNICIAN, Host

from rig_process import RigFailure

pytestmark = pytest.mark.timeout(900)  # the first to run may have to make the root file system and the packages

KILLS = 10
DENIED = 1
"""Exit status of featurekeyctl for a denial."""
CALLS = {"call-1", "call-2", "call-3"}
MOST_MEMORY = 45 * 1024 * 1024
"""Bytes of its own that the daemon has at rest, at most; it has some 28 MB."""
LONGEST_START = 5.0
"""Seconds from start to READY on a loaded machine; it takes some 0.3 s."""
SERIALS = """
mkdir -p /class/dmi/id && cd /class/dmi/id
echo BOARD-4711 > board_serial && echo PRODUCT-4711 > product_serial && chmod 400 *
chown daemon product_serial
mkdir product_uuid
mount --bind /class /sys/class
"""
"""One that root may read, one that it may not without a capability, as in a container, and one whose reading fails."""
OTHERS = ("featurekey-agi.service", "featurekey-exporter.service", "featurekey-textfile.timer")
"""What only some sites want."""
TEXTFILE = "/var/lib/prometheus/node-exporter/featurekeyd.prom"
OTHER_VERSION = "0.1.0+again"


def test_a_machine_that_does_not_boot_is_told_and_cleared_away(tmp_path: Path) -> None:
    if why := rig_nspawn.missing():
        rig_nspawn.leave_out(why)
    archive = tmp_path / "empty.tar.zst"
    (tmp_path / "empty").mkdir()
    subprocess.run(["tar", "--zstd", "-cf", archive, "-C", tmp_path / "empty", "."], timeout=60, check=True)
    machine = rig_nspawn.Container(archive, tmp_path)
    with pytest.raises(RigFailure, match="does not boot"), machine:
        machine.boot()
    assert not machine.root.exists()


def test_what_a_killed_run_has_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    with rig_nspawn.workplace(str(tmp_path)) as used:
        left = used.with_name(f"{used.name}-left")
        (left / "root").mkdir(parents=True)
        with rig_nspawn.workplace(str(tmp_path)):
            assert used.exists()
            assert not left.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    if why := rig_nspawn.missing() or rig_nspawn.cannot_build():
        rig_nspawn.leave_out(why)
    return rig_nspawn.build_packages()


@pytest.fixture(scope="module")
def host(packages: list[Path]) -> Iterator[Host]:
    archive = rig_nspawn.root_archive(rig_nspawn.dependencies(packages))
    with rig_nspawn.workplace() as folder, rig_boot.new_host(archive, folder) as it:
        yield it
        figures = json.dumps(it.figures, indent=2)
        (rig_nspawn.BUILD / "boot/figures.json").write_text(figures)
        print(f"figures: {figures}")
        print(it.container.journal("-u", "featurekeyd*") if it.container.leader else "")


def states(host: Host, what: str) -> list[str]:
    """A property of each unit that only some sites want."""
    return [host.container.shows(unit, what) for unit in OTHERS]


def test_the_package_is_installed_and_the_daemon_runs(host: Host, packages: list[Path]) -> None:
    said = host.install(packages)
    assert "rror" not in said
    assert host.is_active()
    assert [host.container.shows(unit, "UnitFileState") for unit in (SERVICE, SOCKET)] == ["enabled", "enabled"]
    assert host.container.do("systemctl", "--failed", "--no-legend") == ""
    assert states(host, "UnitFileState") == ["disabled"] * len(OTHERS)
    assert states(host, "ActiveState") == ["inactive"] * len(OTHERS)
    assert "Feature Key absent" in host.status_line
    assert "next: featurekeyctl request" in host.container.journal("-u", SERVICE)
    rig_boot.add_users(host)


def test_systemd_has_nothing_to_say_about_the_installed_units(host: Host) -> None:
    listed = host.container.do("systemctl", "list-unit-files", "featurekey*", "--no-legend")
    units = [line.split()[0] for line in listed.splitlines()]
    assert {SERVICE, SOCKET} <= set(units)
    ran = host.container.run("systemd-analyze", "verify", "--man=no", *units)
    assert (ran.status, ran.err) == (0, "")
    assert host.container.run("systemd-analyze", "security", "--threshold=15", SERVICE).status == 0


def test_udev_has_nothing_to_say_about_the_rules(host: Host) -> None:
    ran = host.container.run("udevadm", "test", "/sys/devices/virtual/mem/null")
    said = [line for line in f"{ran.out}\n{ran.err}".splitlines() if "70-featurekeyd.rules" in line]
    assert len(said) == 1, said
    assert said[0].startswith("Reading rules file")


def test_the_daemon_is_nobody_and_may_do_nothing(host: Host) -> None:
    status = host.container.do("cat", f"/proc/{host.pid}/status")
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert found["Uid"].split("\t")[0] == host.container.do("id", "-u", "featurekeyd").strip()
    assert {found[name].strip("0") for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_a_serial_that_only_root_may_read_comes_to_it_as_a_credential(host: Host) -> None:
    host.container.do("sh", "-c", SERIALS)
    host.container.do("systemctl", "restart", IDENTIFIERS, SERVICE)
    parts = {part["name"]: part["state"] for part in host.host()["parts"]}
    copies = host.container.do("ls", "-A", "/run/featurekeyd-identifiers").split()
    host.container.do("umount", "/sys/class")
    host.container.do("systemctl", "restart", IDENTIFIERS)
    names = ("board-serial", "product-serial", "product-uuid")
    assert [parts[name] for name in names] == ["new", "not_enrolled", "not_enrolled"]
    assert copies == ["board-serial"]
    assert host.container.run("ls", "/run/featurekeyd-identifiers", user="daemon").status != 0


def test_it_is_licensed_by_the_card_in_a_simulated_reader(host: Host) -> None:
    host.write_settings()
    host.container.do("systemctl", "restart", SERVICE)
    serial = host.license("sip-trunk-channels:8", "vcm-channels:30")
    status = host.status()
    assert (status["standing"], status["serial"]) == ("licensed", serial)
    assert status["feature_key"]["simulated"] is True
    host.container.wait_until(lambda: "licensed, Feature Key present" in host.status_line, "the status is not told")
    assert "SIMULATED" in host.status_line


def test_a_member_of_the_group_asks_and_a_technician_manages(host: Host) -> None:
    for key in sorted(CALLS):
        ran = host.call(key)
        assert (ran.status, ran.err) == (0, ""), ran
    assert host.ctl("licenses", user=TECHNICIAN).status == 0
    assert host.ctl("licenses", user=MEMBER).status == 4
    assert host.keys() == CALLS


def test_a_stranger_is_refused_and_told_in_the_log(host: Host) -> None:
    ran = host.call("call-of-a-stranger", STRANGER)
    assert ran.status == 4
    assert host.keys() == CALLS
    uid = host.container.do("id", "-u", STRANGER).strip()
    assert "this user may not ask" in host.container.journal("-u", SERVICE, f"UID={uid}")


def test_metrics_are_served_by_a_unit_of_their_own_and_written_to_a_file(host: Host) -> None:
    host.container.do("systemctl", "start", "featurekey-exporter.service")
    fetch = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9852/metrics').read().decode())"
    host.container.wait_until(lambda: host.container.run("python3", "-c", fetch).status == 0, "nobody serves metrics")
    assert "featurekey" in host.container.do("python3", "-c", fetch)
    host.container.do("systemctl", "stop", "featurekey-exporter.service")
    host.container.do("mkdir", "-p", "/var/lib/prometheus/node-exporter")
    host.container.do("systemctl", "start", "featurekey-textfile.service")
    assert "featurekey" in host.container.do("cat", TEXTFILE)


def test_the_process_for_asterisk_is_there_to_be_enabled(host: Host) -> None:
    unit = "featurekey-agi.service"
    assert host.container.shows(unit, "UnitFileState") == "disabled"
    host.container.do("systemctl", "start", unit)
    assert host.container.shows(unit, "ActiveState") == "active"
    host.container.do("systemctl", "stop", unit)


def test_the_shell_completes_commands_and_options(host: Host) -> None:
    script = """
        source /usr/share/bash-completion/completions/featurekeyctl
        COMP_WORDS=(featurekeyctl statu) COMP_CWORD=1
        _featurekeyctl_completion featurekeyctl; echo "${COMPREPLY[@]}"
        COMP_WORDS=(featurekeyctl status --js) COMP_CWORD=2 COMPREPLY=()
        _featurekeyctl_completion featurekeyctl; echo "${COMPREPLY[@]}"
    """
    assert host.container.do("bash", "-c", script).split() == ["status", "--json"]


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_no_lease_is_lost(host: Host) -> None:
    before = host.pid
    host.signal(signal.SIGSTOP)
    begun = time.monotonic()
    host.wait_for_another(before)
    host.figures["seconds from a hang to the next READY"] = f"{time.monotonic() - begun:.1f}"
    assert host.keys() == CALLS
    log = host.container.journal("-u", SERVICE)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log, "what every thread was doing is not in the log"


def test_an_idle_daemon_goes_on_feeding_the_watchdog(host: Host) -> None:
    before = host.pid
    fed = int(host.container.shows(SERVICE, "WatchdogTimestampMonotonic"))
    needed = rig_boot.WATCHDOG_SECONDS * 1_000_000
    seconds = 4 * rig_boot.WATCHDOG_SECONDS
    host.container.wait_until(
        lambda: int(host.container.shows(SERVICE, "WatchdogTimestampMonotonic")) > fed + needed, "not fed", seconds
    )
    assert host.pid == before


def test_it_is_killed_ten_times_in_a_row_and_no_lease_is_lost(host: Host) -> None:
    for _ in range(KILLS):
        before = host.pid
        host.signal(signal.SIGKILL)
        host.wait_for_another(before)
        assert host.keys() == CALLS
    assert host.container.shows(SOCKET, "ActiveState") == "active"
    assert host.status()["standing"] == "licensed"


def test_a_stop_and_a_start_lose_nothing(host: Host) -> None:
    host.container.do("systemctl", "stop", SERVICE)
    assert host.pid == 0
    assert "leases" in host.container.do("ls", "/run/featurekeyd")
    host.container.do("systemctl", "start", SERVICE)
    assert host.keys() == CALLS


def test_a_question_starts_a_stopped_daemon(host: Host) -> None:
    host.container.do("systemctl", "stop", SERVICE)
    ran = host.call("call-that-starts")
    assert ran.status == 0, ran
    host.container.wait_until(host.is_active, "it does not become ready")
    assert host.ctl("release", "--holder", "pbx", "--key", "call-that-starts", user=MEMBER).status == 0


def test_a_reload_takes_what_may_change_and_keeps_what_was_right(host: Host) -> None:
    before = host.pid
    assert host.call("call-4", MEMBER, "--port", "trunk:a").status == 0
    host.write_settings('[ceilings]\n"trunk:a" = 1\n')
    host.container.do("systemctl", "reload", SERVICE)
    host.container.wait_until(lambda: host.asks("call-5", "trunk:a") == DENIED, "no ceiling")
    host.write_settings('[ceilings]\n"trunk:a" = "many"\n')
    assert host.container.run("systemctl", "reload", SERVICE).status != 0
    log = host.container.journal("-u", SERVICE)
    assert "The settings were not taken, and the earlier ones stay" in log
    assert "ceilings.trunk:a" in log
    assert host.asks("call-5", "trunk:a") == DENIED
    host.write_settings()
    host.container.do("systemctl", "reload", SERVICE)
    assert host.is_active()
    assert host.pid == before
    assert host.ctl("release", "--holder", "pbx", "--key", "call-4", user=MEMBER).status == 0


def test_an_upgrade_restarts_the_daemon_and_keeps_leases_and_settings(host: Host) -> None:
    before, socket = host.pid, host.container.shows(SOCKET, "ActiveEnterTimestampMonotonic")
    settings = host.container.do("cat", SETTINGS)
    host.container.do("systemctl", "start", *OTHERS)
    others = states(host, "InvocationID")
    host.install(rig_nspawn.build_packages(OTHER_VERSION))
    assert host.installed("featurekeyd") == f"install ok installed {OTHER_VERSION}"
    host.wait_for_another(before)
    assert host.keys() == CALLS
    assert host.container.do("cat", SETTINGS) == settings
    assert host.container.shows(SOCKET, "ActiveEnterTimestampMonotonic") == socket, "clients were refused meanwhile"
    again = "what ran does not run again"
    host.container.wait_until(lambda: set(states(host, "ActiveState")) == {"active"}, again)
    assert not set(states(host, "InvocationID")) & set(others), "they run the earlier version"


def test_a_pulled_card_is_told_with_cause_and_cure(host: Host) -> None:
    host.simulator.tell("unplug")
    host.container.wait_until(lambda: host.status()["standing"] == "grace", "the card is not missed")
    host.container.wait_until(
        lambda: host.status_line.startswith("SIMULATED, grace") or "grace," in host.status_line, ""
    )
    assert host.call("call-in-grace").status == 0
    explained = host.container.journal("-x", "-u", SERVICE, "-o", "short")
    entry = explained.rpartition("The standing is grace")[2]
    for word in ("Cause:", "Calls:", "Do:"):
        assert word in entry, explained
    host.simulator.tell("plug")
    host.container.wait_until(lambda: host.status()["standing"] == "licensed", "the card is not found again")
    assert host.ctl("release", "--holder", "pbx", "--key", "call-in-grace", user=MEMBER).status == 0


def test_it_starts_quickly_and_is_small_at_rest(host: Host) -> None:
    host.container.do("systemctl", "restart", SERVICE)
    started = int(host.container.shows(SERVICE, "ExecMainStartTimestampMonotonic"))
    ready = int(host.container.shows(SERVICE, "ActiveEnterTimestampMonotonic"))
    seconds = (ready - started) / 1e6
    own, shared = memory(host)
    host.figures["seconds from start to READY"] = f"{seconds:.2f}"
    host.figures["MB of its own at rest"] = f"{own / 1e6:.1f}"
    host.figures["MB resident at rest"] = f"{shared / 1e6:.1f}"
    assert 0 < seconds < LONGEST_START
    assert own < MOST_MEMORY


def memory(host: Host) -> tuple[int, int]:
    """Bytes that only the daemon has, and all that it has in memory."""
    rollup = host.container.do("cat", f"/proc/{host.pid}/smaps_rollup")
    sizes = {
        name: 1024 * int(kilobytes) for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB$", rollup, re.MULTILINE)
    }
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Rss"]


def test_after_a_boot_the_leases_are_gone_and_the_licenses_are_there(host: Host) -> None:
    assert host.keys() == CALLS
    host.container.halt()
    host.container.boot()
    host.container.wait_until(host.is_active, "it does not start with the host")
    host.container.wait_until(lambda: host.status()["standing"] == "licensed", "it is not licensed after a boot")
    assert host.keys() == set()
    assert host.call("call-after-the-boot").status == 0


def test_removal_ends_what_runs_and_keeps_settings_and_licenses(host: Host) -> None:
    host.container.put("/etc/featurekeyd/ami-secret", "a secret of Asterisk\n")
    host.container.do("systemctl", "start", *OTHERS, "featurekey-textfile.service")
    assert host.container.run("ls", TEXTFILE).status == 0
    host.container.do("apt-get", "remove", "-q", "-y", "featurekeyd", "featurekey-issue", seconds=rig_boot.INSTALLING)
    for unit in (SERVICE, SOCKET, IDENTIFIERS, *OTHERS):
        assert host.container.run("systemctl", "is-active", unit).out.strip() == "inactive", unit
    assert host.container.run("ls", TEXTFILE).status != 0, "node_exporter goes on telling what is long past"
    assert (host.container.root / SETTINGS.lstrip("/")).exists()
    assert host.container.run("ls", "/var/lib/featurekeyd/featurekeyd.db").status == 0


def test_purging_leaves_nothing_but_the_users(host: Host) -> None:
    names = ("featurekeyd", "python3-featurekeyd")
    host.container.do("apt-get", "purge", "-q", "-y", *names, seconds=rig_boot.INSTALLING)
    places = ["/etc/featurekeyd", "/var/lib/featurekeyd", "/run/featurekeyd", "/usr/lib/featurekeyd", TEXTFILE]
    found = host.container.run("find", *places, "/usr/lib/python3/dist-packages/featurekeyd", "-print").out
    assert found == ""
    assert host.container.run("id", "featurekeyd").status == 0
    assert host.container.run("systemctl", "list-unit-files", "featurekey*", "--no-legend").out == ""
