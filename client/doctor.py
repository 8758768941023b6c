"""featurekeyctl doctor: everything that is wrong, with its cause and its cure.

The daemon is asked for what it knows, and this host is looked at for what stands between the daemon and those who ask.
Nothing is changed, and the Feature Key is not read for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from . import surroundings
from .call import DEFAULT_SOCKET, LICENSE, MANAGE, CallError, CallRefused, DaemonAway, PermissionRefused
from .console import clean, out, out_json, warn_simulated
from .exits import DONE, REFUSED
from .faults import Fault, Severity, in_licenses, in_silences, in_status, in_surroundings, number_of
from .ranking import LAST, ranked
from .refusals import in_refusals, read_day
from .session import Session, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
            status = self.ask(f"{LICENSE}.Status")
        except CallError as error:
            self._examine_silence(error)
        else:
            self.faults += in_status(status)
            self._examine_the_rest(status)
        self.faults = ranked(self.faults)

    def _examine_the_rest(self, status: Mapping[str, Any]) -> None:
        licenses = self.attempt(lambda: self.collect(f"{MANAGE}.ListLicenses", "license"))
        if licenses is not None:
            self.faults += in_licenses(licenses)
        around = self.attempt(lambda: self.ask(f"{MANAGE}.Diagnose"))
        if around is not None:
            self.faults += [*in_surroundings(around), *in_silences(around, status)]
        self._examine_refusals(status)
        self.faults += surroundings.agi_faults()
        seen = list(surroundings.processes())
        self.faults += surroundings.socket_faults(self._path)
        self.faults += surroundings.group_faults(seen, surroundings.access_of(around))
        reader = str((status.get("feature_key") or {}).get("reader"))
        self.faults += surroundings.port_faults(reader, seen, None if around is None else around.get("uid"))

    def _examine_refusals(self, status: Mapping[str, Any]) -> None:
        now = int(time.time())
        day = self.attempt(lambda: read_day(self._session, now))
        features = self.attempt(lambda: self.ask(f"{LICENSE}.ListFeatures"))
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

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The reply to one call, kept; raises CallError."""
        reply = self.replies[method] = self._session.ask(method, **parameters)
        return reply

    def collect(self, method: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The object `name` of each reply to one call, kept; raises CallError."""
        found = self.replies[method] = self._session.collect(method, name, **parameters)
        return found

    def attempt(self, question: Callable[[], Any]) -> Any:
        """What the daemon answers, None where this user may not ask that or the daemon is of another release."""
        try:
            return question()
        except (PermissionRefused, CallRefused) as error:
            why = _ONLY_MANAGERS if isinstance(error, PermissionRefused) else error.what
            self.not_seen.append(f"{self._session.asked.rpartition('.')[2]}: {why}")
            return None


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
