"""featurekeyctl sync-dialogs: what a Kamailio that asks by call_control has lost the end of is given back.

The module call_control tells the end of a call once; where the daemon is away at that moment nobody tells it again.
Kamailio's own list of dialogs, by JSON-RPC over its datagram socket (module jsonrpcs), says which calls there are. The
leases of those stay as they are; the others are given back by Sync. A dialog that is just over stands in the list for
some seconds more, and then it is the next list that gives it back. No lease is taken for a dialog that has none: it may
be one that is not counted.

Source: facts/telephony.md sections 2 and 6; the documentation of the modules jsonrpcs and dialog (dlg.briefing).
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import click

from .call import LICENSE
from .console import out_fields, out_json
from .exits import DONE, FileTrouble
from .limits import holder_text, key_text, sync_parts
from .reading import needed
from .session import Session, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

RPC_SOCKET = "/run/kamailio/kamailio_rpc.sock"
"""Where Debian's Kamailio listens when its configuration loads jsonrpcs and says nothing else."""

SPARED_SECONDS = 2.0
"""A call that was granted so shortly before the list was taken may not have had its dialog yet."""

TIME_LIMIT = 10.0
"""Seconds for Kamailio's answer: a list of a thousand dialogs takes it some 20 ms."""

MAX_LIST = 8 * 1024 * 1024
"""Bytes of that answer, more than a datagram can have: the kernel's own limit decides."""

_COUNTS = ("adopted", "changed", "freed")


@click.command(
    "sync-dialogs",
    short_help="Give back calls that Kamailio knows no more.",
    epilog=examples("featurekeyctl sync-dialogs", "featurekeyctl sync-dialogs --holder sbc --rpc /run/sbc/rpc.sock"),
)
@click.option("--holder", default="kamailio", show_default=True, help="Name of the switch, as in [call_control].")
@click.option("--rpc", default=RPC_SOCKET, show_default=True, metavar="PATH", help="Datagram socket of its jsonrpcs.")
@json_option
@click.pass_obj
def sync_dialogs(session: Session, holder: str, rpc: str) -> int:
    """Give back the leases of calls that Kamailio's list of dialogs does not have.

    For a switch that asks by call_control: after the daemon was away some ends of calls may be lost. Run it as the user
    of the switch, to whom the holder name belongs; a timer of a minute is often enough.
    """
    try:
        name = holder_text(holder)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--holder") from None
    taken = time.clock_gettime(time.CLOCK_BOOTTIME) - SPARED_SECONDS
    found = session.collect(f"{LICENSE}.ListLeases", "lease", holder=name)
    calls = [lease for lease in found if needed(lease, "scope", str) == "calls"]
    if not calls:  # then there is nothing to give back, whatever Kamailio has
        return _show(session, 0, 0, dict.fromkeys(_COUNTS, 0))
    alive = set(keys_of(list_dialogs(rpc)))
    kept = [_on_wire(lease) for lease in calls if needed(lease, "key", str) in alive]
    return _show(session, len(calls), len(alive), _synchronize(session, name, kept, round(taken * 1000)))


def _show(session: Session, before: int, alive: int, counts: dict[str, int]) -> int:
    if session.as_json:
        out_json(counts)
    else:
        out_fields([("leases before", before), ("calls of Kamailio", alive), ("given back", counts["freed"])])
    return DONE


def list_dialogs(path: str) -> list[dict[str, Any]]:
    """The dialogs of the Kamailio whose RPC socket is at that path; raises FileTrouble."""
    question = {"jsonrpc": "2.0", "method": "dlg.briefing", "params": ["cF"], "id": 1}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIME_LIMIT)
            asking.bind("")  # a name of the kernel's choice, which needs no place in the file system (unix(7))
            asking.connect(path)
            asking.send(json.dumps(question).encode())
            # A far end may send anything as a Call-ID, and one that is no text must not hide the others.
            answer = json.loads(asking.recv(MAX_LIST).decode("utf-8", "surrogateescape"))
            return list(answer["result"])
    except TimeoutError:
        raise FileTrouble(f"{path}: Kamailio does not answer, or its list is too long for a datagram") from None
    except OSError as error:
        raise FileTrouble(f"{path}: {error.strerror}; is Kamailio running, with the module jsonrpcs?") from error
    except (ValueError, KeyError, TypeError):
        raise FileTrouble(f"{path}: that is no list of dialogs; does Kamailio load the module dialog?") from None


def keys_of(dialogs: list[dict[str, Any]]) -> Iterator[str]:
    """Their keys; raises FileTrouble for what is no dialog, because a list without it would lie."""
    for dialog in dialogs:
        try:
            key = f"{dialog['call-id']};tag={dialog['from_tag']}"
        except (KeyError, TypeError):
            raise FileTrouble("Kamailio lists a dialog without Call-ID or From-tag; nothing was changed") from None
        # As the daemon has it, to which the module has sent the same bytes.
        yield key_text(key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _on_wire(lease: dict[str, Any]) -> dict[str, Any]:
    """The lease as it is, for Sync."""
    names = ("key", "wants", "port", "channel", "class")
    return {name: lease[name] for name in names if lease.get(name) is not None}


def _synchronize(session: Session, holder: str, leases: list[dict[str, Any]], taken_ms: int) -> dict[str, int]:
    parts, sums = sync_parts(leases), dict.fromkeys(_COUNTS, 0)
    common = {"holder": holder, "scope": "calls", "taken_ms": max(taken_ms, 0), "generation": max(taken_ms, 0)}
    for number, part in enumerate(parts, 1):
        said = {**common, "leases": part, "part": number, "last": number == len(parts)}
        reply = session.ask(f"{LICENSE}.Sync", **said)
        sums = {name: count + needed(reply, name, int) for name, count in sums.items()}
    return sums
