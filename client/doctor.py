"""featurekeyctl doctor: everything that is wrong, with its cause and its cure; and the bundle for the vendor's support.

The daemon is asked for what it knows, and this host is looked at for what stands between the daemon and those who ask.
Nothing is changed, and the Feature Key is not read for it.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import redaction, surroundings
from .call import DEFAULT_SOCKET, LICENSE, MANAGE, CallError, CallRefused, DaemonAway, PermissionRefused
from .console import agreed, clean, out, out_json, warn_simulated, write_new
from .exits import DONE, REFUSED
from .faults import Fault, Severity, in_licenses, in_silences, in_status, in_surroundings, number_of
from .ranking import LAST, ranked
from .refusals import in_refusals, read_day
from .session import Session, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SETTINGS = Path("/etc/featurekeyd/featurekeyd.toml")
"""Where the package has the settings."""

JOURNAL_LINES = 500
"""Entries of the journal in a bundle: some days of a quiet system, an evening of a noisy one."""

AUDIT_ENTRIES = 200
"""The latest entries of the audit in a bundle."""


_ONLY_MANAGERS = f"only root and the group {surroundings.GROUP}-admin may ask for it"


class Examination:
    """What was asked and seen for one diagnosis: replies by method, and the faults that they show."""

    def __init__(self, session: Session, path: str) -> None:
        self.replies: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.not_seen: list[str] = []
        """What could not be asked, and why."""
        self._session = session
        self._path = path

    def examine(self) -> None:
        """Ask and look."""
        try:
            status = self._ask(f"{LICENSE}.Status")
        except CallError as error:
            self._examine_silence(error)
        else:
            self.faults += in_status(status)
            self._examine_the_rest(status)
        self.faults = ranked(self.faults)

    def _examine_the_rest(self, status: Mapping[str, Any]) -> None:
        licenses = self._try(lambda: self._collect(f"{MANAGE}.ListLicenses", "license"))
        if licenses is not None:
            self.faults += in_licenses(licenses)
        around = self._try(lambda: self._ask(f"{MANAGE}.Diagnose"))
        if around is not None:
            self.faults += [*in_surroundings(around), *in_silences(around, status)]
        self._examine_refusals(status)
        seen = list(surroundings.processes())
        self.faults += surroundings.socket_faults(self._path)
        self.faults += surroundings.group_faults(seen)
        reader = str((status.get("feature_key") or {}).get("reader"))
        self.faults += surroundings.port_faults(reader, seen, None if around is None else around.get("uid"))

    def _examine_refusals(self, status: Mapping[str, Any]) -> None:
        now = int(time.time())
        day = self._try(lambda: read_day(self._session, now))
        features = self._try(lambda: self._ask(f"{LICENSE}.ListFeatures"))
        if features is not None:
            self.faults += in_refusals(status, features, day, now)

    def _examine_silence(self, error: CallError) -> None:
        """Nobody answers, or not this user: what can be seen without the daemon."""
        seen = list(surroundings.processes())
        if isinstance(error, PermissionRefused):
            cure = f"Run it as root, or add this user to the group {surroundings.GROUP}-admin and log in anew."
            self.faults.append(
                Fault("not_allowed", Severity.FAULT, "The daemon does not serve this user.", str(error), cure)
            )
        elif isinstance(error, DaemonAway):
            self.faults += surroundings.socket_faults(self._path)
            if self._path == DEFAULT_SOCKET:
                self.faults += surroundings.unit_faults()
        else:
            cure = "journalctl -xu featurekeyd; systemctl restart featurekeyd"
            self.faults.append(Fault("daemon_silent", Severity.FAULT, "The daemon does not answer.", str(error), cure))
        self.faults += surroundings.group_faults(seen)
        if not self.faults:
            cure = "Ask again; journalctl -xu featurekeyd shows whether it is being restarted."
            self.faults.append(Fault("daemon_away", Severity.FAULT, "The daemon did not answer.", str(error), cure))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        reply = self.replies[method] = self._session.ask(method, **parameters)
        return reply

    def _collect(self, method: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        found = self.replies[method] = self._session.collect(method, name, **parameters)
        return found

    def _try(self, question: Callable[[], Any]) -> Any:
        """What the daemon answers, None where this user may not ask that or the daemon is of another release."""
        try:
            return question()
        except (PermissionRefused, CallRefused) as error:
            why = _ONLY_MANAGERS if isinstance(error, PermissionRefused) else error.what
            self.not_seen.append(f"{self._session.asked.rpartition('.')[2]}: {why}")
            return None

    def gather(self) -> dict[str, Any]:
        """What else a bundle has, asked and looked up."""
        self._try(lambda: self._ask(f"{MANAGE}.GetHost"))
        audit = self._try(lambda: self._collect(f"{MANAGE}.ListAudit", "entry"))
        if audit is not None:
            self.replies[f"{MANAGE}.ListAudit"] = audit[-AUDIT_ENTRIES:]
        return {
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "host": {"system": platform.platform(), "python": platform.python_version()},
            "faults": [fault.as_json() for fault in self.faults],
            "not_seen": self.not_seen,
            "replies": self.replies,
        }


@click.command(
    short_help="What is wrong, why, and what to do.",
    epilog=examples("featurekeyctl doctor", "sudo featurekeyctl doctor", "featurekeyctl doctor --json"),
)
@json_option
@click.pass_obj
def doctor(session: Session) -> int:
    """Say everything that is wrong, with its cause and its cure; exit status 1 when calls are or will be refused by it.

    Works also while the daemon is away, and sees more as root. Nothing is changed.
    """
    examination = Examination(session, session.path)
    examination.examine()
    worst = any(fault.severity is Severity.FAULT for fault in examination.faults)
    if session.as_json:
        faults = [fault.as_json() for fault in examination.faults]
        out_json({"well": not faults, "faults": faults, "not_seen": examination.not_seen})
        return REFUSED if worst else DONE
    if any(fault.name == LAST for fault in examination.faults):
        warn_simulated()
    out("\n\n".join([*map(_paragraph, examination.faults), _sum(examination)]))
    return REFUSED if worst else DONE


def _paragraph(fault: Fault) -> str:
    mark = "FAULT" if fault.severity is Severity.FAULT else "warning"
    lines = (f"{mark}: {fault.what}", f"  cause: {fault.cause}", f"  do:    {fault.cure}")
    return "\n".join(map(clean, lines))


def _sum(examination: Examination) -> str:
    worst = sum(fault.severity is Severity.FAULT for fault in examination.faults)
    rest = len(examination.faults) - worst
    lines = [f"not seen: {clean(each)}" for each in _together(examination.not_seen)]
    if not {fault.name for fault in examination.faults} - {LAST}:
        seen = ", as far as this user may see" if lines else ""
        return "\n".join([*lines, f"all is well{seen}{' on this simulated system' * bool(rest)}"])
    return "\n".join([*lines, f"{number_of(worst, 'fault')}, {number_of(rest, 'warning')}"])


def _together(not_seen: list[str]) -> list[str]:
    """What could not be asked, with those together that have the same reason."""
    methods: dict[str, list[str]] = {}
    for method, _, why in (each.partition(": ") for each in not_seen):
        methods.setdefault(why, []).append(method)
    return [f"{', '.join(names)}: {why}" for why, names in methods.items()]


@click.command(
    "support-bundle",
    short_help="Gather what the vendor's support needs.",
    epilog=examples("featurekeyctl support-bundle bundle.txt", "sudo featurekeyctl support-bundle - --yes"),
)
@click.argument("new_file", metavar="FILE")
@click.option("--yes", is_flag=True, help="Write it without showing it first.")
@click.option("--addresses", is_flag=True, help="Leave IP and hardware addresses as they are.")
@json_option
@click.pass_obj
def support_bundle(session: Session, new_file: str, *, yes: bool, addresses: bool) -> int:
    """Gather the state of the daemon, its faults, its settings and the end of its journal in one text to send.

    License keys are shortened, names of calls are replaced by marks that are the same for the same call, and addresses
    are cut. All of it is shown before it is written.
    """
    examination = Examination(session, session.path)
    examination.examine()
    text = redaction.redacted(_bundle(examination, as_json=session.as_json), addresses=addresses)
    if new_file == "-":
        out(text)
        return DONE
    if not yes:
        out(text)
        if not agreed(f"Write this to {clean(new_file)}?"):
            return REFUSED
    write_new(new_file, text)
    out(f"written to {clean(new_file)}: {len(text.encode())} bytes")
    return DONE


def _bundle(examination: Examination, *, as_json: bool) -> str:
    gathered = examination.gather()
    sections = {"settings": _settings(), **dict(_commands())}
    if as_json:
        return json.dumps(gathered | sections, indent=1, ensure_ascii=False)
    sections = {"state": json.dumps(gathered, indent=1, ensure_ascii=False), **sections}
    return "\n".join(f"===== {name} =====\n{text.rstrip()}\n" for name, text in sections.items())


def _settings() -> str:
    try:
        return SETTINGS.read_text(errors="replace")
    except OSError as error:
        return f"(not readable: {error.strerror})"


def _commands() -> Iterator[tuple[str, str]]:
    units = ("featurekeyd.service", "featurekeyd.socket", "featurekey-agi.service")
    for name, words in {
        "units": ("systemctl", "show", *units, "--property=Id,ActiveState,SubState,Result,NRestarts,MemoryCurrent"),
        "journal": ("journalctl", "-u", "featurekeyd", "-n", str(JOURNAL_LINES), "-o", "short-iso", "--no-pager"),
    }.items():
        done = surroundings.command(*words)
        yield name, "(not there)" if done is None else done.stdout + done.stderr
