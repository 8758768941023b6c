"""A Debian 12 of its own, with systemd as its first process: what the package is installed into, started by nspawn.

Rules of this module:

* The root file system is made once by mmdebstrap, from where this machine's own apt has its packages, and is kept as an
  archive under build/, under a key of what is in it. Each container gets a copy, which outlives its reboots.
* A container is started in control groups of its own, and whatever happens is ended with its tree of files; nothing is
  awaited without a deadline.
* Where it cannot be (no root, no tools, no right to make control groups), `missing` says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Self

import pytest

from rig_process import DEADLINE, Lines, Process, Ran, RigFailure, environment

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build"

SUITE = "bookworm"
BASE = ("dbus", "libnss-systemd", "systemd", "systemd-sysv", "udev")
"""What every Debian server has; what our packages depend on comes to it."""

LEFT_OUT = ("man", "doc", "locale", "info")
"""Folders of /usr/share that nobody reads there."""

_TOOLS = ("systemd-nspawn", "mmdebstrap", "zstd", "nsenter", "dpkg-deb")
_BUILDERS = ("dpkg-buildpackage", "dh", "dh_python3")
_HIERARCHIES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
"""Where control groups are: systemd's own and the unified one on a host that has both kinds, else the unified one."""

MAKING = 600.0
"""Seconds in which the root file system must be made: ten times what it takes."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INTO_GROUPS = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""Puts the shell into the groups before the dashes, and becomes the command behind them."""

_ENVIRON = ("LANG=C.UTF-8", f"PATH={PATH}", "TERM=dumb", "NO_COLOR=1", "COLUMNS=250", "DEBIAN_FRONTEND=noninteractive")
_NAMESPACES = ("-m", "-u", "-i", "-n", "-p", "-C")
_ORDERLY_END = signal.SIGRTMIN + 3
"""What systemd halts by when it is the first process (systemd(1))."""


def impossible() -> str:
    """Why no container can be started here whatever is installed; empty where one can."""
    if os.geteuid() != 0:
        return "only root can start a container"
    return "" if _hierarchies() else "no control groups can be made on this machine"


def missing() -> str:
    """Why no container can be started here; empty where one can."""
    tools = [name for name in _TOOLS if shutil.which(name) is None]
    absent = f"{', '.join(tools)} not installed: ./dev test installs what is missing" if tools else ""
    return impossible() or absent


def leave_out(why: str) -> NoReturn:
    """Skip a test; or fail it where CI asks (FEATUREKEYD_CI=1) and the machine could do it: a skip would hide that."""
    if os.environ.get("FEATUREKEYD_CI") == "1" and not impossible():
        pytest.fail(f"left out, and CI must not leave it out on this machine: {why}")
    pytest.skip(why)


def cannot_build() -> str:
    """Why the packages cannot be built here; empty where they can."""
    tools = [name for name in _BUILDERS if shutil.which(name) is None]
    if tools:
        return f"{', '.join(tools)} not installed: ./dev deb installs what is missing"
    return "" if (BUILD / "vendored").is_dir() else "what the package carries is not fetched: ./dev deb does so"


def _hierarchies() -> list[Path]:
    """The hierarchies in which groups can be made."""
    two = [folder for folder in _HIERARCHIES[:2] if (folder / "cgroup.procs").exists()]
    found = two or [folder for folder in _HIERARCHIES[2:] if (folder / "cgroup.procs").exists()]
    return [] if any(not _may_make(folder) for folder in found) else found


def _may_make(folder: Path) -> bool:
    probe = folder / f"featurekeyd-{secrets.token_hex(4)}"
    try:
        probe.mkdir()
    except OSError:
        return False
    probe.rmdir()
    return True


# What is installed


def build_packages(version: str = "") -> list[Path]:
    """The built Debian packages of the checkout, as another version where one is given; raises RigFailure."""
    folder = BUILD / (f"deb-{version}" if version else "deb")
    command = [str(CHECKOUT / "debian/build"), *((version, str(folder)) if version else ())]
    # Another version is there to be upgraded to: its extension need not be fast.
    environ = {**os.environ, "DEB_BUILD_OPTIONS": "noopt"} if version else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKING, check=False, env=environ)
    if done.returncode:
        raise RigFailure(f"the Debian package is not built; ./dev deb does so:\n{done.stderr}")
    return sorted(folder.glob("*.deb"))


def dependencies(packages: Sequence[Path]) -> list[str]:
    """The names of what the packages depend on, without one another; the first of what is an alternative."""
    own, wanted = set[str](), set[str]()
    for package in packages:
        name, depends = (_field(package, field) for field in ("Package", "Depends"))
        own.add(name)
        wanted |= {re.split(r"[ :(|]", each.strip())[0] for each in depends.split(",") if each.strip()}
    return sorted(wanted - own)


def _field(package: Path, field: str) -> str:
    done = subprocess.run(["dpkg-deb", "-f", package, field], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def root_archive(packages: Sequence[str]) -> Path:
    """The archive of a Debian 12 with these packages, made where it is not there yet; raises RigFailure."""
    wanted = sorted({*BASE, *packages})
    recipe = "\n".join([SUITE, platform.machine(), *wanted, *LEFT_OUT])
    archive = BUILD / "boot" / f"root-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar.zst"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _make_root(wanted, archive)
    return archive


def _make_root(packages: Sequence[str], archive: Path) -> None:
    sources, made = archive.with_name("sources.list"), archive.with_name(f"{os.getpid()}.tar.zst")
    sources.write_text("\n".join(_sources()) + "\n", encoding="utf-8")
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in LEFT_OUT]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    try:
        done = subprocess.run(
            [*command, *excluded, SUITE, str(made), str(sources)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAKING,
            check=False,
            env=environment(PATH=PATH),
        )
        if done.returncode:
            raise RigFailure(f"mmdebstrap failed:\n{done.stderr[-4000:]}")
        made.replace(archive)
    finally:
        made.unlink(missing_ok=True)


def _sources() -> list[str]:
    """Where this machine's apt gets the packages of this suite from, as lines of a sources.list."""
    wanted = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]
    filters = ["Created-By: Packages", "Origin: Debian"]
    for refresh in (False, True):
        if refresh:  # a machine whose lists were never fetched
            subprocess.run(["apt-get", "-q", "update"], capture_output=True, timeout=MAKING, check=False)
        done = subprocess.run([*wanted, *filters], capture_output=True, text=True, timeout=60, check=True)
        lines = sorted({line for line in done.stdout.splitlines() if line.split()[2].startswith(SUITE)})
        if lines:
            return lines
    raise RigFailure(f"this machine's apt knows no Debian {SUITE}")


# The container

_PLACE = "featurekeyd-boot-"


@contextlib.contextmanager
def workplace(parent: str = "") -> Iterator[Path]:
    """A folder for the files of a container, which is gone afterwards; what a killed run has left goes before.

    Not one of pytest's own: it keeps those of the last runs, and a container has 230 MB.
    """
    for left in Path(parent or tempfile.gettempdir()).glob(f"{_PLACE}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PLACE, dir=parent or None) as folder, _locked(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder as one that is in use; raises BlockingIOError where somebody holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


class Container:
    """One machine with a root file system of its own; its first process is systemd once it was booted."""

    def __init__(self, archive: Path, folder: Path) -> None:
        """`folder` is where its root file system will be."""
        self.root = folder / "root"
        self.binds: list[tuple[str, str]] = []
        """What is bound in from the next boot on: path here, path there."""
        self.console = Lines()
        self.leader = 0
        """Process id of its first process; 0 while it is off."""
        self._process: Process | None = None
        self._groups: list[Path] = []
        self.root.mkdir(parents=True)
        subprocess.run(["tar", "--zstd", "-xpf", archive, "-C", self.root], timeout=MAKING, check=True)

    def boot(self) -> None:
        """Start it and wait until its systemd has started what it starts; raises RigFailure with its console."""
        self._make_groups()
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        binds = [f"--bind={here}:{there}" for here, there in self.binds]
        groups = [str(group) for group in self._groups]
        # Where this process is killed the container ends with it.
        tied = ["setpriv", "--pdeathsig", "KILL", *command, *binds, "-b", "-D", str(self.root)]
        start = ["/bin/sh", "-c", _INTO_GROUPS, "sh", *groups, "--", *tied]
        self._process = Process(start, environ={"PATH": PATH, "LANG": "C.UTF-8"}, errors=self.console)
        self.leader = self._wait_for(self._find_leader, "its first process does not start")
        self._wait_for(self._is_up, "systemd is not up")

    def halt(self) -> None:
        """End it in order; raises RigFailure where it does not end. One that has not come up is left to `close`."""
        process = self._process
        if process is None or not self.leader:  # number 0 would be this process and all of its group
            return
        os.kill(self.leader, _ORDERLY_END)
        process.wait()
        self._forget()

    def close(self) -> None:
        """End it whatever it does, and remove its files."""
        with contextlib.suppress(RigFailure, ProcessLookupError):
            self.halt()
        if self._process is not None:
            if self.leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)  # the kernel ends all of its namespace with it
            with contextlib.suppress(RigFailure):
                self._process.end()
            self._forget()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command: str, text: str = "", user: str = "", seconds: float = DEADLINE) -> Ran:
        """Run a command inside to its end, as root or as a user with all of that user's groups."""
        prefix = ["runuser", "-u", user, "--"] if user else []
        inside = ["nsenter", "-t", str(self.leader), *_NAMESPACES, "--", "env", "-i", *_ENVIRON]
        done = subprocess.run(
            [*inside, *prefix, *command],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=seconds,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def do(self, *command: str, text: str = "", user: str = "", seconds: float = DEADLINE) -> str:
        """As `run`, for what must succeed: its output; raises RigFailure otherwise."""
        ran = self.run(*command, text=text, user=user, seconds=seconds)
        if ran.status:
            raise RigFailure(f"{' '.join(command)}: status {ran.status}\n{ran.out}{ran.err}")
        return ran.out

    def put(self, path: str, text: str) -> None:
        """Write a file inside, readable for all."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)

    def shows(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.do("systemctl", "show", "--value", "--property", what, unit).strip()

    def wait_until(self, true: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Wait for something inside, looking again and again; raises RigFailure with what `what` says."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise RigFailure(f"{what} within {seconds} s\n{self.journal()}")
            _let_others_work()

    def journal(self, *arguments: str) -> str:
        """What the journal has."""
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", *(arguments or ("-n", "200"))).out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Starting and ending

    def _make_groups(self) -> None:
        name = f"featurekeyd-{secrets.token_hex(4)}"
        self._groups = [folder / name for folder in _hierarchies()]
        for group in self._groups:
            group.mkdir()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process, self.leader = None, 0
        for group in self._groups:
            _remove_groups(group)
        self._groups = []

    def _wait_for(self, look: Callable[[], int], what: str) -> int:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + DEADLINE
        while not (found := look()):
            if not process.running or time.monotonic() > deadline:
                raise RigFailure(f"the container does not boot, {what}:\n{self.console}\n{process.output}")
            _let_others_work()
        return found

    def _find_leader(self) -> int:
        assert self._process is not None
        for child in _children(self._process.pid):
            status = Path(f"/proc/{child}/status")
            with contextlib.suppress(OSError):
                found = re.search(r"^NSpid:\s+(?:\d+\s+)*?(\d+)\s+1$", status.read_text(), re.MULTILINE)
                if found:
                    return child
        return 0

    def _is_up(self) -> int:
        ran = self.run("systemctl", "is-system-running")
        return int(ran.out.strip() in {"running", "degraded"})


def _let_others_work() -> None:
    """Wait a little before something is looked at again: what happens inside a container tells nobody here."""
    time.sleep(0.05)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _remove_groups(group: Path) -> None:
    """Remove a control group and those below it, from the inmost on."""
    below = [Path(folder) for folder, _, _ in os.walk(group)]
    for folder in sorted(below, key=lambda it: -len(it.parts)):
        with contextlib.suppress(OSError):
            folder.rmdir()
