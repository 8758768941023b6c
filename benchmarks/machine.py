"""The machine: which processor runs what, and what the system says of a process (proc(5))."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
"""Where a host has it: memory as a file system, as /run is."""

ENOUGH_BYTES = 1 << 30
"""Room that the append-only file of Redis may take before it is rewritten, and more."""


def on_processor(number: int) -> list[str]:
    """What pins a command to one of our processors: 0 is the server's, 1 the load's, 2 another load's.

    Where there are fewer, the last one serves for the rest; where there is one only, nothing is pinned.
    """
    ours = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(ours[min(number, len(ours) - 1)])] if len(ours) > 1 else []


def pin(pid: int, number: int) -> None:
    """Pin a process that runs already, with all its threads."""
    if pinned := on_processor(number):
        subprocess.run(["taskset", "-pac", pinned[-1], str(pid)], check=True, capture_output=True)


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    return _numbers(Path(f"/proc/{pid}/status"))["VmRSS"] * 1024


def wake_ups(pid: int) -> int:
    """How often the threads of a process have waited and were woken since they began."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_numbers(task / "status")["voluntary_ctxt_switches"] for task in tasks)


def threads(pid: int) -> int:
    """Threads of a process."""
    return _numbers(Path(f"/proc/{pid}/status"))["Threads"]


def _numbers(status: Path) -> dict[str, int]:
    pairs = (line.partition(":") for line in status.read_text().splitlines())
    words = ((name, text.split()) for name, _, text in pairs)
    return {name: int(text[0]) for name, text in words if text and text[0].isdigit()}


def runtime_folder() -> str | None:
    """Where sockets and the records of all servers go: a file system in memory, as in service; None for the usual."""
    if not (SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)):
        return None
    room = os.statvfs(SHARED_MEMORY)
    return str(SHARED_MEMORY) if room.f_bavail * room.f_frsize >= ENOUGH_BYTES else None


def environment() -> str:
    """The machine in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    pinned = "pinned" if on_processor(0) else "not pinned"
    words = [
        model,
        f"{len(os.sched_getaffinity(0))} processors ({pinned})",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"records in {'memory' if runtime_folder() else tempfile.gettempdir()}",
        f"load {os.getloadavg()[0]:.1f}",
    ]
    return ", ".join(filter(None, words))
