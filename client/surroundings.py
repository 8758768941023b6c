"""What this host shows without the daemon: its socket, its groups, who holds the reader, what systemd says of it.

Everything is read below a `root` that a test can set up, and nothing is changed. What this user may not see is left
out: `sudo featurekeyctl doctor` sees more.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .faults import Fault, Severity
from .reading import member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ASTERISK, AGI = "asterisk", "featurekey-agi"

SWITCHES = frozenset({"kamailio", ASTERISK, "opensips", "freeswitch", AGI})
"""Names of processes that ask: the switches, and our program that asks for Asterisk. A user's other processes, as a
shell or cron, ask nothing."""

DAEMON = "featurekeyd"
"""The name of the daemon's process and unit."""

GROUP = "featurekey"
"""The group whose members may ask, as shipped."""

SETTINGS = Path("/etc/featurekeyd/featurekeyd.toml")
"""Where the package has the settings."""

COMMAND_SECONDS = 5.0
"""How long a command of the system may take; systemctl answers in some 20 ms."""

MAX_LINES = 20
"""Lines of a command's output that are shown."""


@dataclass(frozen=True)
class ProcessSeen:
    """A running process: its number, its name, and whom it runs as."""

    number: int
    name: str
    uid: int
    groups: frozenset[int]


def processes(root: Path = Path("/")) -> Iterator[ProcessSeen]:
    """The processes of the host; those that end meanwhile are left out."""
    for folder in sorted((root / "proc").glob("[0-9]*"), key=lambda it: int(it.name) if it.name.isdigit() else 0):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            yield _process(folder)


def _process(folder: Path) -> ProcessSeen:
    lines = (line.partition(":") for line in (folder / "status").read_text(errors="replace").splitlines())
    told = {name: value.split() for name, _, value in lines}
    groups = frozenset(int(it) for it in (told["Gid"][1], *told.get("Groups", [])))
    return ProcessSeen(int(folder.name), " ".join(told["Name"]), int(told["Uid"][1]), groups)


# The socket


def socket_faults(path: str, root: Path = Path("/")) -> Iterator[Fault]:
    """Why the socket cannot be used by everybody, if so."""
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        yield _no_socket(path, still_bound=path in _bound_sockets(root))
        return
    except PermissionError:
        cure = f"chmod 755 {place.parent}; RuntimeDirectory= and tmpfiles.d of the package set it so."
        yield _fault(
            "socket_hidden", f"{path} cannot be reached.", f"A folder above it is closed: ls -ld {place.parent}", cure
        )
        return
    except OSError as error:
        yield _fault("socket_unusable", f"{path}: {error.strerror}.", "The path is none of a socket.", "See --socket.")
        return
    if not stat.S_ISSOCK(mode):
        yield _fault("socket_replaced", f"{path} is no socket.", "Something else was put there.", _RESTART)
        return
    if mode & 0o666 != 0o666:
        cause = f"Its mode is {stat.S_IMODE(mode):04o}; who may ask is decided inside, by the peer's credentials."
        yield _fault(
            "socket_closed", f"Not everybody may connect to {path}.", cause, f"chmod 666 {path}, or: {_RESTART}"
        )
    yield from _nobody_listens(path)


_RESTART = "systemctl restart featurekeyd.socket featurekeyd.service"


def _bound_sockets(root: Path) -> set[str]:
    """The paths that sockets are bound to, also where the path is gone (proc(5), /proc/net/unix)."""
    try:
        lines = (root / "proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    return {fields[7] for line in lines if len(fields := line.split(maxsplit=7)) == 8}


def _no_socket(path: str, *, still_bound: bool) -> Fault:
    if still_bound:
        what = f"The socket at {path} is gone, and somebody still listens on it."
        return _fault("socket_removed", what, "Somebody removed it, as by cleaning /run.", _RESTART)
    cause = "featurekeyd was not started since this host booted, or [paths] socket names another place."
    return _fault(
        "socket_missing",
        f"There is no socket at {path}.",
        cause,
        "systemctl enable --now featurekeyd.socket featurekeyd",
    )


def _nobody_listens(path: str) -> Iterator[Fault]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(COMMAND_SECONDS)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            what, cause = f"Nobody listens at {path}.", "The daemon ended, and systemd does not hold its socket."
            yield _fault("daemon_away", what, cause, _RESTART)
        except OSError as error:
            yield _fault("socket_unusable", f"{path} cannot be connected to.", f"{error.strerror or error}.", _RESTART)


# Groups


@dataclass(frozen=True)
class Access:
    """Who may ask, by number, as the daemon tells it; root may always."""

    users: frozenset[int]
    groups: frozenset[int]

    def allows(self, process: ProcessSeen) -> bool:
        """Whether a process may."""
        return process.uid == 0 or process.uid in self.users or not self.groups.isdisjoint(process.groups)


def access_of(reply: Mapping[str, Any] | None) -> Access | None:
    """Who may ask, as Diagnose says; None where it was not asked."""
    if reply is None or "ask_groups" not in reply:
        return None
    users, groups = (frozenset(member(reply, name, list) or []) for name in ("ask_users", "ask_groups"))
    return Access(users, groups)


def group_faults(seen: Sequence[ProcessSeen], access: Access | None = None, group: str = GROUP) -> Iterator[Fault]:
    """Telephony processes whose user may not ask, or that were started before it might.

    Where the daemon does not tell the `access`, the group as shipped stands for it, and what is found is a warning: the
    settings may name others.
    """
    shipped = _named_group(group)
    if shipped is None and (access is None or not (access.users or access.groups)):
        what, cause = f"There is no group {group}.", "The package's sysusers.d was not applied."
        yield Fault("group_missing", Severity.WARNING, what, cause, "systemd-sysusers")
        return
    usual = frozenset() if shipped is None else frozenset({shipped.gr_gid})
    allowed = access or Access(frozenset(), usual)
    entries = [it for it in map(_group, sorted(allowed.groups, key=lambda it: it not in usual)) if it is not None]
    severity = Severity.WARNING if access is None else Severity.FAULT
    for it in _switches(seen):
        if not allowed.allows(it):
            yield _process_fault(it, entries, entries[0].gr_name if entries else group, severity)


def _switches(seen: Sequence[ProcessSeen]) -> list[ProcessSeen]:
    """The first process that asks of each telephony system; Asterisk itself asks nothing where its helper runs."""
    found: dict[tuple[str, int], ProcessSeen] = {}
    for it in seen:
        found.setdefault((it.name, it.uid), it)
    helped = any(it.name == AGI for it in seen)
    return [it for it in found.values() if it.name in SWITCHES and not (helped and it.name == ASTERISK)]


def _process_fault(process: ProcessSeen, groups: Sequence[grp.struct_group], group: str, severity: Severity) -> Fault:
    name, primary = _account(process.uid)
    if any(name in it.gr_mem or primary == it.gr_gid for it in groups):
        what = f"{process.name} (process {process.number}) runs as {name} without the group {group}."
        cause = "The user was added to the group after its service was started: groups count from the next start."
        cure = f"Restart its service: systemctl restart {process.name}"
        return Fault("service_not_restarted", severity, what, cause, cure)
    what = f"{process.name} runs as {name}, who is not in the group {group}."
    cause = "The daemon turns away whom the settings do not name."
    cure = f"adduser {name} {group}, and restart its service; or: [access] ask_users, and systemctl reload featurekeyd"
    return Fault("user_not_in_group", severity, what, cause, cure)


def _account(uid: int) -> tuple[str, int | None]:
    """Name and primary group of a user; its number where it has no name."""
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return str(uid), None
    return found.pw_name, found.pw_gid


def _named_group(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def _group(number: int) -> grp.struct_group | None:
    try:
        return grp.getgrgid(number)
    except KeyError:
        return None


# Who holds the reader


def port_faults(
    reader: str, seen: Sequence[ProcessSeen], daemon_uid: int | None, root: Path = Path("/")
) -> Iterator[Fault]:
    """Programs that hold the serial port of the reader, or may take it."""
    kind, _, name = reader.partition(":")
    if kind != "serial" or not name:
        return
    port = os.path.realpath(name)
    holders = [it for it in seen if it.uid != daemon_uid and port in _open_files(it, root)]
    for it in holders:
        what = f"{it.name} (process {it.number}) has {name} open, where the Feature Key's reader is."
        cure = (
            f"End it, and keep it from coming back: {_KEEP_AWAY if it.name == 'ModemManager' else 'see its service.'}"
        )
        yield _fault("port_held", what, "Two programs on one serial line take each other's answers.", cure)
    modem = [it for it in seen if it.name == "ModemManager" and it not in holders]
    if modem and not _is_kept_away(port, root):
        what = f"ModemManager runs and may take {name}, where the Feature Key's reader is."
        cause = "It tries every serial port for a modem, and the port is not marked for it to leave alone."
        yield Fault("modem_manager", Severity.WARNING, what, cause, _KEEP_AWAY)


_KEEP_AWAY = "udevadm trigger, so that the package's udev rules mark the port; or: systemctl mask --now ModemManager"


def _open_files(process: ProcessSeen, root: Path) -> set[str]:
    """The files that a process has open; none where this user may not see them."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (root / "proc" / str(process.number) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
    return found


def _is_kept_away(port: str, root: Path) -> bool:
    """Whether udev's record of the port tells ModemManager to leave it alone."""
    try:
        number = Path(port).stat().st_rdev
        record = root / "run/udev/data" / f"c{os.major(number)}:{os.minor(number)}"
        marks = {"E:ID_MM_PORT_IGNORE=1", "E:ID_MM_DEVICE_IGNORE=1"}
        return not marks.isdisjoint(record.read_text(errors="replace").splitlines())
    except OSError:
        return False


# The daemon that is away


_REFUSED = "featurekeyd: the settings cannot be used: "
"""How a check begins to say what is wrong with the settings."""


def _may_read(settings: Path) -> bool:
    """Whether this user may read the settings; what a check says to who may not is no word on the settings."""
    try:
        settings.open("rb").close()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def unit_faults(daemon: str = DAEMON, settings: Path = SETTINGS) -> Iterator[Fault]:
    """What systemd and the program itself say of the package's daemon, which does not answer."""
    if shutil.which(daemon) is not None and _may_read(settings):
        checked = command(daemon, "--check")
        if checked is not None and checked.returncode:
            said = " ".join(_last(checked.stderr, MAX_LINES).split()).removeprefix(_REFUSED)
            yield _fault(
                "settings_bad", "The settings cannot be used.", said, f"{daemon} --check, until it says nothing."
            )
    states = _states(daemon)
    if states is None or states.get("ActiveState") == "active":
        return
    if states.get("LoadState") == "not-found":
        what, cause = f"systemd knows no unit {daemon}.", "The package is not installed."
        yield _fault("unit_missing", what, cause, f"apt install {daemon}")
        return
    yield _unit_down("unit_down", daemon, states)


def agi_faults(root: Path = Path("/")) -> Iterator[Fault]:
    """What systemd says of the program that asks for Asterisk, where it is there and is to run."""
    states = _states(AGI, root)
    if states is None or states.get("LoadState") != "loaded" or states.get("ActiveState") == "active":
        return
    if states.get("ActiveState") == "failed" or states.get("UnitFileState") == "enabled":
        yield _unit_down("agi_down", AGI, states)


def _states(unit: str, root: Path = Path("/")) -> dict[str, str] | None:
    """What systemd shows of a unit; None where there is no systemd."""
    if not (root / "run/systemd/system").is_dir():
        return None
    shown = command("systemctl", "show", unit, "--property=LoadState,ActiveState,SubState,Result,UnitFileState")
    if shown is None or shown.returncode:
        return None
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def _unit_down(name: str, unit: str, states: Mapping[str, str]) -> Fault:
    what = f"The unit {unit} is {states.get('ActiveState')} ({states.get('SubState')}), result {states.get('Result')}."
    told = command("journalctl", "-u", unit, "-p", "warning", "-n", "3", "-o", "cat", "--no-pager")
    said = " ".join((told.stdout if told else "").split())
    cause = f"Its last words: {said}" if said else "It was not started, or somebody stopped it."
    return _fault(name, what, cause, f"systemctl start {unit}; journalctl -xu {unit}")


def command(*words: str) -> subprocess.CompletedProcess[str] | None:
    """What a command of the system says; None where there is none or it takes too long."""
    try:
        return subprocess.run(  # noqa: S603 - the words are our own
            words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _last(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _fault(name: str, what: str, cause: str, cure: str) -> Fault:
    return Fault(name, Severity.FAULT, what, cause, cure)
