"""The bench of staged faults: one thing is made wrong on a site in order, and what a technician then reads is gathered.

Each script in `tests/system/faults/` stages one fault:

* its docstring is what is wrong, in one sentence;
* `stage(bench)` makes it so on real processes, and returns when the daemon has noticed;
* `DOCTOR` is what `featurekeyctl doctor` must find: whatever else it finds is a false alarm;
* `ALONE`, where it stands, lets the doctor see the processes of this machine, and keeps other such faults away;
* `JOURNAL` is the entry of the log that must name it; `journalctl -x` shows the message catalog's text with it.

The doctor runs on a host of its own as far as accounts go: in a mount namespace with users and groups of the bench.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import mmap
import os
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Any, Self, cast

import rig
from featurekeyd.daemon.seal import BootMemory
from featurekeyd.daemon.store import Store
from featurekeyd.policy.events import SORT, EventName
from featurekeyd.policy.reasons import MEANING, Reason
from rig_process import PROGRAMS

HERE = Path(__file__).parent
SCRIPTS = HERE / "faults"
CATALOG = HERE.parents[1] / "systemd" / "featurekeyd.catalog"

ORDERS = ("essential-edition:1", "sip-trunk-channels:8", "vcm-channels:30")
"""What a site in order has: nothing waits for anything."""

DAEMON_USER, ASKING_GROUP, SWITCH_USER, OTHER_USER = 54310, 54311, 54312, 54313
"""Numbers of the bench's own accounts: user featurekeyd, group featurekey, user kamailio and somebody else."""

SIMULATED = "simulated"
"""The one warning of a site in order: no real Feature Key is at a test."""

_BENCH_ACCOUNTS = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@"'


AT_ONCE = 6
"""Faults that are staged at the same time: two processors are busy with it, and some wait for seconds to pass."""


class CannotStage(Exception):
    """The fault cannot be staged on this machine; the text says why."""


@dataclass(frozen=True)
class Doctor:
    """What doctor must find: the stable name, and words of cause, cure and what it is."""

    name: str
    cause: str
    cure: str
    what: str = ""


@dataclass(frozen=True)
class Journal:
    """The log entry that must name it: the event or the reason of a denial, and words of cause and cure."""

    event: str
    cause: str
    cure: str


@dataclass(frozen=True)
class Entry:
    """An entry of the log, and what the message catalog says to it."""

    event: str
    message: str
    cause: str
    cure: str


class Bench:
    """A folder in which one fault is staged; closes what it has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._site: rig.Site | None = None
        self.members: dict[str, str] = {"featurekey": ""}
        """Groups of the host and who is in each, with commas between."""

        self.sees_processes = False
        """Whether the doctor sees the processes of this machine, of which none is then another fault's."""
        self.more_log: list[str] = []
        """Entries of a daemon that is not the site's."""

    @property
    def site(self) -> rig.Site:
        """The site of the fault."""
        assert self._site is not None, "a script begins with a site"
        return self._site

    # What a script begins with

    def licensed(self, *orders: str, kind: str = "sd-serial", **tables: Mapping[str, object]) -> rig.Licensed:
        """A site in order, with these licenses instead of the usual; tables of the settings as for Site."""
        access = {"ask_groups": [ASKING_GROUP]} | dict(tables.pop("access", {}))
        it: rig.Licensed = self.enter(
            rig.licensed_site(self.folder, orders or ORDERS, kind=kind, access=access, **tables)
        )
        self._site = it.site
        return it

    def unlicensed(self, **tables: Mapping[str, object]) -> rig.Site:
        """A site whose daemon was not started yet."""
        self._site = self.enter(rig.Site(self.folder, access={"ask_groups": [ASKING_GROUP]}, **tables))
        return self._site

    def enter(self, context: Any) -> Any:
        """Enter a context until the end of the fault."""
        return self._stack.enter_context(context)

    # Ways to make things wrong

    def start_with(self, *prefix: str, **environ: str) -> None:
        """Stop the daemon, and start it again behind another command."""
        if self.site.daemon is not None:
            self.site.stop()
        settings = [f"{name}={value}" for name, value in environ.items()]
        self.site.spawn(["env", *settings, *prefix, *self.site.command])
        self.site.wait_ready()

    def start_with_clock(self, days: float) -> None:
        """Start the daemon again with its wall clock so many days ahead."""
        self.set_clock(days)
        library = str(clock_library(self.folder))
        self.start_with(LD_PRELOAD=library, FEATUREKEYD_TEST_CLOCK=str(self.folder / "ahead"))

    def set_clock(self, days: float) -> None:
        """Set the wall clock of a daemon that was started with one so many days ahead."""
        with (self.folder / "ahead").open("a+b") as file, mmap.mmap(_sized(file), 8) as ahead:
            ahead[:] = struct.pack("=q", round(days * 86_400))

    def drain(self, cause: str, seconds: float) -> None:
        """Leave a meter as the daemon, which must not run, would have stored it."""
        machine_id, boot_id = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        store = Store(
            self.site.state / "featurekeyd.db",
            machine_id=machine_id.read_text().strip() if machine_id.exists() else "",
            memory=BootMemory(self.site.runtime / "state-seal", boot_id),
        )
        store.save_meters({cause: seconds})
        store.close()

    def start_on_small_disk(self, folder: Path, kilobytes: int) -> Path:
        """Start the daemon again with that folder on a file system of its own; where this process reaches it."""
        self.needs_mounts()
        size = f"size={kilobytes}k"
        shell = (
            'cp -a "$1" "$1.kept" && mount -t tmpfs -o "$2",mode=700 small "$1" && cp -a "$1.kept/." "$1" && '
            'shift 2 && exec "$@"'
        )
        self.start_with("unshare", "--mount", "sh", "-c", shell, "sh", str(folder), size)
        return Path(f"/proc/{self.site.pid}/root{folder}")

    def process(self, name: str, *, user: int, groups: Sequence[int] = (), stdin: int | None = None) -> None:
        """Let a process of that name and user run that does nothing, with `stdin` open."""
        self.needs_root()
        place = self.site.short / "programs"  # another user can reach it there
        place.mkdir(mode=0o755)
        (place / name).symlink_to("/bin/sleep")
        running = subprocess.Popen(
            [place / name, "600"], stdin=stdin, user=user, group=user, extra_groups=list(groups), process_group=0
        )
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)

    def needs_root(self) -> None:
        """Raise CannotStage unless this is root."""
        if os.geteuid() != 0:
            raise CannotStage("only root can act as another user")

    def needs_mounts(self) -> None:
        """Raise CannotStage where there are no mounts of one's own."""
        if not can_mount():
            raise CannotStage("only root can mount, and not in every container")

    # What is read

    def ctl(self, *arguments: str, user: int = 0, groups: Sequence[int] = ()) -> rig.Ran:
        """Run featurekeyctl on the bench's host, as root or as another user."""
        command = [rig.program("featurekeyctl"), "--socket", str(self.site.socket), *arguments]
        return self.on_host(*command, user=user, groups=groups)

    def on_host(self, *command: str, user: int = 0, groups: Sequence[int] = ()) -> rig.Ran:
        """Run a command with the bench's accounts; where nothing can be mounted, with those of this machine."""
        if user:
            self.needs_mounts()
            kept = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", kept, *command)
        if not can_mount():
            return rig.run(*command)
        passwd, group = self._accounts()
        hidden = () if self.sees_processes else ("--pid", "--fork", "--mount-proc")
        shell = ("sh", "-c", _BENCH_ACCOUNTS, "sh", str(passwd), str(group))
        return rig.run("unshare", "--mount", *hidden, *shell, *command)

    def on_packaged_host(self, settings: str, *command: str) -> rig.Ran:
        """Run a command where everything has the places of the package, and /run is empty."""
        self.needs_mounts()
        etc = self.folder / "etc"
        if not etc.exists():
            shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
            for file, name in zip(self._accounts(), ("passwd", "group"), strict=True):
                shutil.copy(file, etc / name)
        (etc / "featurekeyd").mkdir(exist_ok=True)
        (etc / "featurekeyd" / "featurekeyd.toml").write_text(settings)
        shell = 'mount --bind "$1" /etc && mount -t tmpfs run /run && shift && exec "$@"'
        path = f"PATH={PROGRAMS}:{os.environ['PATH']}"
        return rig.run("env", path, "unshare", "--mount", "sh", "-c", shell, "sh", str(etc), *command)

    def _accounts(self) -> tuple[Path, Path]:
        passwd, group = self.folder / "passwd", self.folder / "group"
        users = {"root": 0, "featurekeyd": DAEMON_USER, "kamailio": SWITCH_USER, "somebody": OTHER_USER}
        passwd.write_text("".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in users.items()))
        numbers = {"featurekey": ASKING_GROUP} | {name: uid for name, uid in users.items() if name != "featurekey"}
        lines = (f"{name}:x:{number}:{self.members.get(name, '')}\n" for name, number in numbers.items())
        group.write_text("".join(lines))
        for file in (passwd, group):
            file.chmod(0o644)
        return passwd, group

    def wait_for(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first Status of which that holds; raises RigFailure at the deadline."""
        deadline = time.monotonic() + rig.DEADLINE
        with self.site.connect() as connection:
            while time.monotonic() < deadline:
                told = connection.call("License.Status")
                if holds(told):
                    return told
        raise rig.RigFailure(f"it never came to that:\n{told}")

    def entries(self) -> Iterator[Entry]:
        """The log so far, with the message catalog's texts."""
        for line in [*(self._site.log.so_far() if self._site else []), *self.more_log]:
            found = re.match(r"\S+ [a-z]+ ([a-z_]+): (.*)", line, re.DOTALL)
            if found:
                yield _entry(found[1], found[2])

    def entry(self, wanted: Journal) -> Entry:
        """The latest entry of that event; raises RigFailure where the log has none."""
        found = [entry for entry in self.entries() if entry.event == wanted.event]
        if not found:
            raise rig.RigFailure(f"no entry {wanted.event} among:\n{self.site.log}")
        return found[-1]

    def places(self) -> dict[str, str]:
        """Paths of the bench, and those that the package has, the longest first."""
        own = {"runtime": "/run/featurekeyd", "card": "/dev/featurekey"}
        own["vendor/public"] = "/usr/share/featurekeyd/vendor"
        known = {str(self.folder / name): place for name, place in own.items()}
        if self._site is not None:
            known[str(self._site.socket)] = "/run/featurekeyd/io.featurekey.License"
            known[str(self._site.runtime)] = "/run/featurekeyd"
            known[str(self._site.state)] = "/var/lib/featurekeyd"
            known[str(self._site.settings)] = "/etc/featurekeyd/featurekeyd.toml"
        return dict(sorted(known.items(), key=lambda it: -len(it[0])))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _sized(file: IO[bytes]) -> int:
    """The descriptor of a file, which has 8 bytes from now on."""
    file.truncate(8)
    return file.fileno()


@functools.cache
def can_mount() -> bool:
    """Whether a mount namespace of one's own and mounts in it are possible here."""
    return rig.run("unshare", "--mount", "mount", "-t", "tmpfs", "trial", "/mnt").status == 0


def clock_library(folder: Path) -> Path:
    """The library that sets the wall clock of one process, compiled."""
    library = folder / "clock.so"
    source = HERE / "clock.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@functools.cache
def catalog_texts() -> dict[str, tuple[str, str]]:
    """Cause and cure of each entry of the message catalog, by MESSAGE_ID."""
    texts = {}
    for chunk in re.split(r"^-- ", CATALOG.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        parts = re.split(r"^(\w+):\s+", chunk.partition("\n\n")[2].strip(), flags=re.MULTILINE)[1:]
        said = {label: " ".join(text.split()) for label, text in zip(parts[::2], parts[1::2], strict=True)}
        texts[chunk.split("\n", 1)[0]] = (said["Cause"], said["Do"])
    return texts


def _entry(event: str, line: str) -> Entry:
    fields = dict(_FIELD.findall(found[0])) if (found := _FIELDS.search(line)) else {}
    name = fields["REASON"] if event == EventName.DENIED else event
    message_id = MEANING[Reason(name)].message_id if event == EventName.DENIED else SORT[EventName(event)].message_id
    return Entry(name, _FIELDS.sub("", line), *(_filled(text, fields) for text in catalog_texts()[message_id]))


_FIELDS = re.compile(r" \[[A-Z_]+=[^]]*\]$")
_FIELD = re.compile(r"([A-Z_]+)=(.*?)(?= [A-Z_]+=|\])")


def _filled(text: str, fields: Mapping[str, str]) -> str:
    """A text of the message catalog with the fields of the entry in it, as journalctl shows it."""
    return re.sub(r"@(\w+)@", lambda found: fields.get(found[1], found[0]), text)


# The scripts


def names() -> list[str]:
    """The names of all scripts."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py"))


def load(name: str) -> ModuleType:
    """One script."""
    return importlib.import_module(f"faults.{name}")


@dataclass(frozen=True)
class Said:
    """What doctor and journal said of a staged fault."""

    text: str
    """The doctor's, for people."""
    faults: list[dict[str, str]]
    """The doctor's, for programs."""
    entry: Entry
    places: dict[str, str]
    """Paths of the bench, and those that the package has."""

    def fault(self, name: str) -> dict[str, str]:
        """The fault of that name; raises RigFailure where the doctor found none."""
        for fault in self.faults:
            if fault["name"] == name:
                return fault
        raise rig.RigFailure(f"doctor did not find {name}:\n{self.text}")


def stage_all(wanted: Sequence[str], folder: Path) -> Iterator[tuple[str, Callable[[], Said]]]:
    """Stage these faults, some at once since they mostly wait; each with a function that gives what was said of it.

    That function waits, and raises what the staging raises.
    """
    alone = {name for name in wanted if hasattr(load(name), "ALONE")}
    with ThreadPoolExecutor(AT_ONCE) as together, ThreadPoolExecutor(1) as one_by_one:
        begun = {
            name: (one_by_one if name in alone else together).submit(_stage_in, folder / name, name) for name in wanted
        }
        yield from ((name, future.result) for name, future in begun.items())


def _stage_in(folder: Path, name: str) -> Said:
    folder.mkdir()
    with Bench(folder) as bench:
        return stage(load(name), bench)


def stage(script: ModuleType, bench: Bench) -> Said:
    """Stage the fault, and read what a technician would; raises CannotStage, RigFailure."""
    bench.sees_processes = hasattr(script, "ALONE")
    script.stage(bench)
    doctor: Callable[..., rig.Ran] = getattr(script, "ask", lambda bench, *more: bench.ctl("doctor", *more))
    text, document = doctor(bench), doctor(bench, "--json")
    if text.status not in {0, 1} or document.status != text.status:
        raise rig.RigFailure(f"doctor ended with {text.status} and {document.status}:\n{text.err}{document.err}")
    faults = cast("list[dict[str, str]]", document.json()["faults"])
    return Said(text.out, faults, bench.entry(script.JOURNAL), bench.places())
