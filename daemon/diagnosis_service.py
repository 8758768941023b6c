"""The part of io.featurekey.Manage for a technician at night: what the daemon alone knows of its surroundings."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from .documents import read_vendor_keys
from .methods import Client, Method, Nothing, Permission, method, said
from .site import Site
from .wire import MANAGE, reply


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A folder that the daemon needs."""

    name: str
    path: str
    free_bytes: int | None = None
    used_percent: int | None = None
    problem: str | None = None


class DiagnosisService:
    """The method, which only reads; what takes a disk is done in a thread."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        return {f"{MANAGE}.Diagnose": method(Permission.MANAGE, Nothing, self.diagnose)}

    async def diagnose(self, _: Client, __: Nothing) -> bytes:
        """What the daemon sees around itself."""
        site, settings = self._site, self._site.settings
        places = await asyncio.to_thread(_places, settings.state, settings.runtime, settings.vendor_keys)
        keys, wrong = await asyncio.to_thread(read_vendor_keys, settings.vendor_keys)
        answer = {
            "reader": settings.reader,
            "uid": os.geteuid(),
            "ask_users": sorted(site.settings.access.ask_users | site.settings.access.manage_users),
            "ask_groups": sorted(site.settings.access.ask_groups | site.settings.access.manage_groups),
            "places": places,
            "vendor_keys": sorted(keys),
            "vendor_keys_wrong": wrong,
            "vendor_keys_in_use": sorted(site.vendor_keys),
            "troubles": site.log.troubles.listed(),
        }
        return reply(said(answer))


def _places(state: Path, runtime: Path, vendor_keys: Path) -> list[Place]:
    return [
        _place("state", state, writes=True),
        _place("runtime", runtime, writes=True),
        _place("vendor_keys", vendor_keys, writes=False),
    ]


def _place(name: str, path: Path, *, writes: bool) -> Place:
    try:
        usage = shutil.disk_usage(path)
        if writes:
            _try_to_write(path)
    except OSError as error:
        return Place(name=name, path=str(path), problem=error.strerror or type(error).__name__)
    percent = 100 * usage.used // max(usage.used + usage.free, 1)
    return Place(name=name, path=str(path), free_bytes=usage.free, used_percent=percent)


def _try_to_write(path: Path) -> None:
    """Write a page that has no name and is gone at once; raises OSError."""
    with tempfile.TemporaryFile(dir=path) as file:
        file.write(bytes(4096))
        file.flush()
