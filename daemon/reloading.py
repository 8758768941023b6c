"""Settings read anew (SIGHUP): access, owners of holder names, emergency numbers, ceilings, addresses, alarms, keys.

The file is read and checked whole in a thread; with a mistake in it nothing changes, and the log names every one. What
the state, the ledger or a device depend on counts after a restart only, and the log says so where it has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from featurekeyd.policy.decision import Rules
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.signedtext import VendorKeys
from featurekeyd.policy.tables import FileMistakes

from .documents import read_documents
from .server import Server
from .settings import Settings, read_settings
from .trusting import read_answer

LIVE = ("access", "rules", "addresses", "alarms")
"""Fields of the settings that count at once, as long as the catalog is the same; all others need a restart."""

_RULES = frozenset(Rules.__struct_fields__)
"""Fields of the rules, which count at once with them."""

_TABLES = {
    "access": "access",
    "owners": "holders",
    "emergency_numbers": "emergency",
    "ceilings": "ceilings",
    "max_leases": "leases",
    "addresses": "host",
    "alarms": "alarms",
    "catalog": "product.catalog",
    "system": "product and hardware",
    "reader": "feature_key.reader",
    "poll_seconds": "feature_key.poll_seconds",
    "socket": "paths.socket",
    "runtime": "paths.runtime",
    "state": "paths.state",
    "vendor_keys": "paths.vendor_keys",
    "log_target": "log.target",
    "call_control": "call_control",
}
"""What a field is called in the file."""

_KEYS = "vendor's public keys"
"""What else is read anew."""

Check = Callable[[Settings, str], object]
"""Raises FileMistakes where the settings of the file of that name do not fit the catalog."""

Keys = Callable[[Settings, VendorKeys], tuple[VendorKeys, list[Event]]]
"""The vendor's keys that are believed where those were believed before, and what is to be told of them."""


class _Read(NamedTuple):
    """What was read anew, and what is to be told of the keys."""

    settings: Settings
    vendor_keys: VendorKeys
    events: list[Event]


class Reloading:
    """Reads the settings of one daemon anew, once at a time."""

    def __init__(self, server: Server, path: Path, check: Check, keys: Keys, notify: Callable[[str], object]) -> None:
        """`notify` tells the service manager that a reload begins and ends (sd_notify(3))."""
        self._server = server
        self._notify = notify
        self._path = path
        self._check = check
        self._keys = keys
        self._task: asyncio.Task[None] | None = None
        self._again = False
        """Whether it was asked for while it was under way."""

    def begin(self) -> None:
        """Read the settings anew; what is under way is done once more, because the file may have changed since."""
        if self._task is not None:
            self._again = True
            return
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._task = self._server.loop.create_task(self._reload())
        self._task.add_done_callback(self._done)

    async def end(self) -> None:
        """Wait for what is under way."""
        self._again = False
        if self._task is not None:
            await asyncio.wait([self._task])

    def _done(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._notify("READY=1")
        if self._again:
            self._again = False
            self.begin()

    async def _reload(self) -> None:
        try:
            read = await self._read_or_refuse()
            if read is not None:
                await self._take(read)
        except Exception as error:  # noqa: BLE001 - the daemon goes on with what it has
            self._server.site.tell_unexpected(error, "while reading the settings anew")

    async def _read_or_refuse(self) -> _Read | None:
        """What was read; None where it cannot be taken, which is told then."""
        try:
            return await asyncio.to_thread(self._read)
        except FileMistakes as error:
            self._refuse(str(error))
        except OSError as error:
            self._refuse(f"{error.filename or self._path}: {error.strerror}")
        return None

    def _read(self) -> _Read:
        """Whatever waits for a disk or a name service."""
        settings, site = read_settings(self._path), self._server.site
        self._check(settings, str(self._path))
        return _Read(settings, *self._keys(site.settings, site.vendor_keys))

    def _refuse(self, reason: str) -> None:
        message = f"The settings were not taken, and the earlier ones stay: {reason}"
        cure = "Cure: correct the file, then systemctl reload featurekeyd."
        self._server.site.tell(Event(name=EventName.SETTINGS_REFUSED, message=f"{message}. {cure}"))

    async def _take(self, read: _Read) -> None:
        site = self._server.site
        for event in read.events:
            site.tell(event)
        changed, live = _changed(site.settings, read.settings), _live(site.settings, read.settings)
        self._adopt(read.settings, live)
        self._server.dismiss_outdated()
        # A key's name is made of its value, and not every release of the library can compare two keys.
        keys_changed = read.vendor_keys.keys() != site.vendor_keys.keys()
        if keys_changed:
            await site.alone(lambda: self._adopt_keys(read.vendor_keys))
        site.tell(Event(name=EventName.SETTINGS_READ_ANEW, message=_told(changed, live, keys_changed=keys_changed)))
        site.settle()

    async def _adopt_keys(self, vendor_keys: VendorKeys) -> None:
        """Believe these keys from now on, and what is stored as far as they have signed it."""
        site = self._server.site
        documents, answer, catalog = site.documents, site.trusting.answer, site.enforcer.catalog.id
        licenses, told = await asyncio.to_thread(read_documents, documents, vendor_keys, catalog)
        evidence, not_believed = await asyncio.to_thread(read_answer, answer, vendor_keys)
        site.vendor_keys = vendor_keys
        site.enforcer.trust.answer = evidence
        site.enforcer.adopt_stored(licenses, site.clock())
        # Without any key nothing stored can be believed: that is one trouble, and not one for each document.
        for event in [*told, *not_believed] if vendor_keys else ():
            site.tell(event)

    def _adopt(self, settings: Settings, live: Collection[str]) -> None:
        site = self._server.site
        site.settings = msgspec.structs.replace(site.settings, **{name: getattr(settings, name) for name in live})
        site.enforcer.adopt_rules(site.settings.rules)
        site.ports.adopt_ceilings(site.settings.rules.ceilings)
        site.trusting.addresses = site.settings.addresses
        site.measuring.alarms.adopt(site.settings.alarms)


def _live(before: Settings, after: Settings) -> tuple[str, ...]:
    """The fields that count at once; alarms name features of the catalog, and wait for the restart with another one."""
    return LIVE if after.catalog == before.catalog else tuple(name for name in LIVE if name != "alarms")


def _changed(before: Settings, after: Settings) -> list[str]:
    """The fields that differ; of the rules, each by itself."""
    fields = [name for name in after.__struct_fields__ if getattr(after, name) != getattr(before, name)]
    if "rules" in fields:
        fields.remove("rules")
        fields += [it for it in after.rules.__struct_fields__ if getattr(after.rules, it) != getattr(before.rules, it)]
    return fields


def _told(changed: list[str], live: Collection[str], *, keys_changed: bool) -> str:
    now = [_TABLES[it] for it in changed if it in live or it in _RULES] + [_KEYS] * keys_changed
    later = [_TABLES[it] for it in changed if it not in live and it not in _RULES]
    message = f"The settings were read anew: {', '.join(now) or 'nothing has changed that counts at once'}."
    return f"{message} After a restart only: {', '.join(later)}." if later else message
