"""The command `featurekeyd`: reads the settings, joins everything, serves until it is told to stop.

Exit status: 0 after SIGTERM or SIGINT; 1 when it cannot start, with the reason on standard error; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

from systemd.daemon import notify

from featurekeyd.policy.alarms import check_alarms
from featurekeyd.policy.catalog import Catalog, Cause
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.presence import Debounce
from featurekeyd.policy.selftest import self_test
from featurekeyd.policy.signedtext import VendorKeys
from featurekeyd.policy.system import check_system
from featurekeyd.policy.tables import FileMistakes, Mistake
from featurekeyd.policy.timekeeping import first_mark
from featurekeyd.policy.trust import Kept

from . import clock
from .callcontrol import CallControlConnection
from .callcontrol_service import CallControlService
from .callcontrol_settings import CallControl, check_wants
from .connection import Connection
from .documents import read_documents, read_vendor_keys
from .journal import Log, sink_for, to_standard_error
from .leasefile import LeaseFile, forget_others, with_stored
from .limits import MAX_CONNECTIONS, MAX_SWITCH_PROCESSES
from .listener import Accepting, SocketTaken, calls_socket, handed_over, listening_socket
from .notices import Notices, StatusLine, notice_socket
from .primary import FILE, BootRight
from .products import CATALOGS, shipped_products
from .recording import Recording
from .recovery import recover_state
from .reloading import Reloading
from .schema import StateRefused
from .seal import BootMemory
from .server import Server
from .settings import DEFAULT_PATH, Settings, read_settings
from .site import Site
from .socketwatch import SocketWatch
from .storing import Storing
from .stream import Stream
from .trusting import kept_of, read_answer
from .version import RELEASED, VERSION
from .watchdog import Watchdog, watchdog_seconds

ACCOUNT = "featurekeyd"
"""The user that the unit runs the daemon as."""

_UNREADABLE = "{0}: the daemon runs as {1}, which cannot read it; cure: chmod a+r {0}, and a+x its directories"

_TRY_SECONDS = 10.0
"""How long a check waits for a file system that hangs."""


def main() -> int:
    """Run the daemon; the exit status."""
    arguments = _parser().parse_args()
    refused = _refused_check if arguments.check else _cannot_start
    try:
        settings = read_settings(arguments.settings)
        catalog = _shipped_catalog(settings, str(arguments.settings))
        if arguments.check:
            return refused(_UNREADABLE.format(arguments.settings, ACCOUNT)) if _is_kept_from(arguments.settings) else 0
        asyncio.run(_serve(settings, catalog, arguments.settings))
    except FileMistakes as error:
        return refused(f"the settings cannot be used:\n{error}")
    except OSError as error:
        return refused(f"{error.filename or 'the system'}: {error.strerror}")
    except (StateRefused, SocketTaken) as error:
        return refused(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="featurekeyd", description="License-enforcement daemon for a PBX host.", epilog="See featurekeyctl --help."
    )
    parser.add_argument(
        "--settings", type=Path, default=DEFAULT_PATH, metavar="FILE", help=f"settings file (default {DEFAULT_PATH})"
    )
    parser.add_argument("--check", action="store_true", help="check the settings and exit")
    parser.add_argument("--version", action="version", version=f"featurekeyd {VERSION}")
    return parser


def _cannot_start(reason: str) -> int:
    """Say why in the journal where that is where words go, so that it has its priority there, and else plainly."""
    event = Event(name=EventName.NOT_STARTED, message=f"featurekeyd cannot start: {reason}")
    sink = sink_for("auto")
    if sink is not to_standard_error:
        with contextlib.suppress(OSError):
            sink(event)
            return 1
    print(event.message, file=sys.stderr)  # noqa: T201 - a terminal, or a journal that cannot be reached
    return 1


def _refused_check(reason: str) -> int:
    """Say plainly why the settings would not do; the daemon runs, or was not to start, so that nothing has happened."""
    print(f"featurekeyd: {reason}", file=sys.stderr)  # noqa: T201 - who asked reads it there
    return 1


def _is_kept_from(path: Path) -> bool:
    """Whether the daemon's user could not read its own settings file, where that can be tried: by root."""
    if path != DEFAULT_PATH or os.geteuid() != 0:
        return False
    try:
        account = pwd.getpwnam(ACCOUNT)
        groups = os.getgrouplist(ACCOUNT, account.pw_gid)
        command = ["test", "-r", str(path)]
        tried = subprocess.run(  # noqa: S603 - the words are our own
            command, user=account.pw_uid, group=account.pw_gid, extra_groups=groups, check=False, timeout=_TRY_SECONDS
        )
    except (KeyError, OSError, subprocess.SubprocessError):  # no such account here, or root that may not change itself
        return False
    return tried.returncode == 1


def _shipped_catalog(settings: Settings, name: str) -> Catalog:
    """The catalog that the settings name; raises FileMistakes where there is none or it does not fit the settings."""
    if settings.catalog not in shipped_products():
        what = f"there is no catalog {settings.catalog!r}; shipped are {', '.join(shipped_products())}"
        raise FileMistakes(name, [Mistake("product.catalog", what)])
    file = f"{settings.catalog}.toml"
    catalog = load_catalog((CATALOGS / file).read_text(encoding="utf-8"), file)
    mistakes = check_system(catalog, settings.system) + check_wants(settings.call_control, catalog)
    mistakes += check_alarms(catalog, settings.alarms)
    if mistakes:
        raise FileMistakes(name, mistakes)
    return catalog


async def _serve(settings: Settings, catalog: Catalog, path: Path) -> None:
    log = Log(sink_for(settings.log_target))
    try:
        with contextlib.ExitStack() as stack:
            await _serve_site(settings, catalog, log, stack, path)
    finally:
        log.close()


async def _serve_site(settings: Settings, catalog: Catalog, log: Log, stack: contextlib.ExitStack, path: Path) -> None:
    _raise_descriptor_limit()
    settings.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    handed = handed_over()
    for it in handed:  # one that is not served, since the settings have no [call_control], as well
        stack.callback(it.close)
    listening = listening_socket(settings.socket, handed)
    stack.callback(listening.close)
    called = None if settings.call_control is None else calls_socket(settings.call_control.socket, handed)
    if called is not None:
        stack.callback(called.close)
    site = _site(settings, catalog, log)
    stack.callback(site.close)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    site.start()
    server = Server(site, asyncio.get_running_loop())
    # Calls are answered from now on, also while a slow reader is still being asked.
    accepting = Accepting(
        listening,
        server.loop,
        lambda connected: Stream(server.turns, connected, Connection(server)),
        server.cannot_accept,
    )
    if settings.call_control is not None and called is not None:
        _accept_calls(server, settings.call_control, called, stack)
    _notify("STATUS=looking for the Feature Key")
    watchdog = Watchdog(server, Notices(notice_socket()), watchdog_seconds())
    reloading = Reloading(server, path, _shipped_catalog, _believed_keys, _notify)
    server.loop.add_signal_handler(signal.SIGHUP, reloading.begin)
    await _until_looked(site, stop)
    if not stop.is_set():
        _announce(site)
    watchdog.start()
    watches = [SocketWatch(it, server.loop, site.tell) for it in (listening, called) if it is not None]
    for watch in watches:
        watch.start()
    await stop.wait()
    _notify("STOPPING=1")
    accepting.close()
    watchdog.close()
    for watch in watches:
        watch.close()
    await reloading.end()
    await server.close()
    site.tell(Event(name=EventName.STOPPED, message="featurekeyd stops; live leases stay recorded for the next start."))


def _accept_calls(server: Server, control: CallControl, listening: socket.socket, stack: contextlib.ExitStack) -> None:
    """Serve switches that ask by call_control, until the end."""
    service = CallControlService(server, control)
    stack.callback(service.close)
    accepting = Accepting(
        listening,
        server.loop,
        lambda connected: Stream(server.turns, connected, CallControlConnection(server, service)),
        server.cannot_accept,
    )
    stack.callback(accepting.close)


async def _until_looked(site: Site, stop: asyncio.Event) -> None:
    """Wait until the Feature Key has been looked for once, or until the end."""
    waits = [asyncio.ensure_future(site.wait_for_look(1)), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _site(settings: Settings, catalog: Catalog, log: Log) -> Site:
    """Restore what earlier runs left, verified anew, and join it."""
    vendor_keys, told_of_keys = _believed_keys(settings, {})
    now = clock.now()
    memory = BootMemory(settings.runtime / "state-seal", clock.boot_id())
    store, told = recover_state(
        settings.state / "featurekeyd.db", machine_id=clock.machine_id(), memory=memory, wall=now.wall
    )
    documents, drained = store.load()
    facts, lost = store.load_facts()
    boot_id = clock.boot_id()
    enforcer = Enforcer(
        catalog,
        settings.system,
        settings.rules,
        now,
        released=RELEASED,
        drained={cause: drained[cause] for cause in Cause if cause in drained},
        lasting=None if facts.lasting is None else frozenset(it for it in Cause if it in facts.lasting),
        boot_id=boot_id,
        kept=kept_of(facts, Kept(first_mark(now, boot_id, RELEASED))),
        debounce=Debounce.of_polls(settings.poll_seconds),
    )
    enforcer.trust.answer, not_believed = read_answer(facts.answer, vendor_keys)
    licenses, refused = read_documents(documents, vendor_keys, catalog.id)
    # Without any key nothing stored can be believed: that is one trouble, and not one for each document.
    told += [*told_of_keys, *(refused if vendor_keys else ()), *(not_believed if vendor_keys else ())]
    enforcer.trust.primary_seen = BootRight(settings.runtime / FILE, boot_id).is_held()
    enforcer.adopt_stored(licenses, now)
    reservations, damaged = store.load_reservations()
    stored, damaged_too = store.load_leases()
    told += [
        Event(name=EventName.STATE_REFUSED, message=f"In {store.path}, {what}.")
        for what in (*damaged, *damaged_too, *lost)
    ]
    enforcer.adopt_reservations(reservations)
    site = Site(
        settings=settings,
        enforcer=enforcer,
        documents=documents,
        vendor_keys=vendor_keys,
        recording=_restored(settings, enforcer, log, stored),
        storing=Storing(store, log.tell),
        log=log,
        clock=clock.now,
        answer=facts.answer,
    )
    for event in told:
        site.tell(event)
    return site


def _believed_keys(settings: Settings, earlier: VendorKeys) -> tuple[VendorKeys, list[Event]]:
    """The vendor's keys, and events of what is wrong with them; none where the cryptography gives wrong answers.

    Without a key nothing signed is believed: no license counts then, and emergency calls are granted as ever. Keys that
    are gone or damaged while the daemon runs, as while a package is being replaced, leave the `earlier` ones believed.
    """
    failed = self_test()
    if failed:
        message = (
            f"The self-test failed ({', '.join(failed)}): no license is believed until the program is whole again."
        )
        return {}, [Event(name=EventName.SELF_TEST_FAILED, message=message)]
    vendor_keys, wrong = read_vendor_keys(settings.vendor_keys)
    if vendor_keys and not wrong:
        return vendor_keys, []
    told = [f"In {settings.vendor_keys}, {what}." for what in wrong]
    if not told:
        told = [f"There is no public key of the vendor in {settings.vendor_keys}{'' if earlier else _NONE_BELIEVED}."]
    cure = f"{_EARLIER_STAY if earlier else ''}{_KEY_CURE}"
    events = [Event(name=EventName.VENDOR_KEY_TROUBLE, message=f"{message} {cure}") for message in told]
    return {**earlier, **vendor_keys}, events


_NONE_BELIEVED = ": no license is believed"
_EARLIER_STAY = "The keys that were read before stay believed until a restart. "
_KEY_CURE = "Install the vendor's public key (*.pub) there, then systemctl reload featurekeyd."


def _restored(settings: Settings, enforcer: Enforcer, log: Log, stored: list[Lease]) -> Recording:
    """Bring the leases of an earlier run back, those that outlive a reboot from the state file, and go on recording."""
    lease_file = LeaseFile(settings.runtime / "leases", clock.boot_id())
    recovered = lease_file.recover()
    if recovered.damage:
        message = f"The lease file is not whole ({recovered.damage}); Sync of the holders mends the rest."
        log.tell(Event(name=EventName.LEASES_UNREADABLE, message=message))
    leases = with_stored(recovered, stored, clock.now().boot)
    enforcer.restore(leases, clock.now(), recovered.holders)
    forget_others(enforcer.ledger, stored)
    if leases:
        message = f"{len(leases)} leases of the earlier run are restored."
        log.tell(Event(name=EventName.LEASES_RESTORED, message=message))
    recording = Recording(lease_file, enforcer.ledger, enforcer.holders)
    failure = recording.begin()
    if failure is not None:
        log.tell(failure)
    return recording


def _announce(site: Site) -> None:
    enforcer = site.enforcer
    state = f"{enforcer.standing}, Feature Key {enforcer.feature_key.state}"
    simulated = " SIMULATED, for tests only;" if enforcer.feature_key.simulated else ""
    message = (
        f"featurekeyd {VERSION} is ready:{simulated} {enforcer.catalog.id} on {enforcer.system.platform}, {state}."
    )
    message += _first_steps(site)
    site.tell(Event(name=EventName.STARTED, message=message, fields={"SERIAL": enforcer.licenses.serial or ""}))
    _notify(f"READY=1\nSTATUS={StatusLine(site)}")


def _first_steps(site: Site) -> str:
    """What to do on a new host, in the entry that everybody reads there; nothing once it is certified."""
    if site.enforcer.licenses.certificate is not None:
        return ""
    install = f"(*.pub) into {site.settings.vendor_keys}, then systemctl reload featurekeyd"
    keyless = not site.vendor_keys and not self_test()
    if site.documents.certificate is not None:
        if not keyless:  # why it is not believed was told before
            return " The stored certificate is not believed; next: featurekeyctl doctor."
        without = "The stored certificate is not believed without the vendor's public key"
        return f" {without}; next: put the key {install}."
    steps = "featurekeyctl request --output request.txt, and send the file to the vendor"
    if keyless:
        steps += f"; put the vendor's public key {install}"
    return f" No certificate is imported yet; next: {steps}."


def _notify(text: str) -> None:
    """Tell who started the daemon (sd_notify(3)); that nobody hears it is no reason to fail."""
    with contextlib.suppress(OSError):
        notify(text)


def _raise_descriptor_limit() -> None:
    """Make room for as many connections as are allowed, and some files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + MAX_SWITCH_PROCESSES + 128
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


if __name__ == "__main__":
    sys.exit(main())
