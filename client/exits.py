"""What featurekeyctl's exit status means, and the one sentence that goes with an error.

| status | meaning |
|---|---|
| 0 | done, or allowed |
| 1 | denied, not accepted, or the Feature Key is not present: the daemon answered, and the answer is no |
| 2 | wrong usage: an unknown option, a missing argument, a value that cannot be |
| 3 | the daemon is away: no socket, nobody behind it, or the connection ended |
| 4 | permission is missing |
| 5 | the daemon answered with an error, or with something that is no answer |
| 6 | the daemon is there and did not answer in time |
| 7 | a file on this side or standard output could not be read or written |
| 130 | interrupted (Ctrl-C) |
| 141 | the reader of the output went away (a closed pipe) |
"""

from __future__ import annotations

from .call import IS_IT_RUNNING, LICENSE, MANAGE, CallError, CallRefused, DaemonAway, DaemonSlow, PermissionRefused
from .reading import Said

DONE = 0
REFUSED = 1
WRONG_USAGE = 2
AWAY = 3
NO_PERMISSION = 4
DAEMON_ERROR = 5
SLOW = 6
FILE_TROUBLE = 7
INTERRUPTED = 130
PIPE_CLOSED = 141

_STATUS: tuple[tuple[type[CallError], int], ...] = (
    (DaemonAway, AWAY),
    (PermissionRefused, NO_PERMISSION),
    (DaemonSlow, SLOW),
    (CallError, DAEMON_ERROR),
)

_OLDER = "the running featurekeyd does not know this question ({error}); restart it after an update"

_SENTENCES = {
    f"{LICENSE}.MessageTooLarge": "the text is too long for the daemon, which takes {limit} bytes; split the list",
    f"{LICENSE}.TooManyConnections": "{limit} connections are open already, which is the limit; close some and repeat",
    f"{LICENSE}.HolderBelongsToAnotherUser": (
        "the holder name {holder} belongs to another user; ask as that user or under another name"
    ),
    f"{LICENSE}.UnexpectedCondition": "the daemon met a condition it has no answer for; see journalctl -u featurekeyd",
    f"{MANAGE}.BackupTooLarge": "{hint}",
    f"{MANAGE}.Deactivated": "the system is deactivated, and this does not cure it: {cause} {remedy}",
    f"{MANAGE}.NotCertified": "{hint} (featurekeyctl request, and certificate import FILE with what the vendor sends)",
    f"{MANAGE}.StateNotStored": "{hint}",
    f"{MANAGE}.HostNotReadable": "{hint}",
    f"{MANAGE}.FeatureKeyNotReadable": "the Feature Key cannot be read ({state}): {finding}",
    "org.varlink.service.InvalidParameter": "the daemon does not accept the value of {parameter}; compare --help",
    "org.varlink.service.MethodNotFound": _OLDER,
    "org.varlink.service.MethodNotImplemented": _OLDER,
    "org.varlink.service.InterfaceNotFound": _OLDER,
}

_GROUPS = {
    MANAGE: "managing licenses needs root (sudo) or a user of the group featurekey-admin",
    LICENSE: "asking needs root (sudo) or a user of the group featurekey",
}


class FileTrouble(Exception):
    """A file on this side or standard output could not be read or written; the text is the whole sentence."""


def status_of(error: CallError) -> int:
    """The exit status for an error of a call."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def sentence(error: CallError, method: str) -> str:
    """One sentence that says what happened and what to do."""
    if isinstance(error, PermissionRefused):
        groups = _GROUPS.get(method.rpartition(".")[0], _GROUPS[LICENSE])
        return f"{error.what}; {groups}; after joining a group log in anew"
    if error.cure == IS_IT_RUNNING:
        return f"{error.what}; {error.cure} look with: systemctl status featurekeyd.socket featurekeyd"
    if isinstance(error, CallRefused) and error.error in _SENTENCES:
        return _SENTENCES[error.error].format_map(Said(error.parameters, error=error.error))
    return str(error)
