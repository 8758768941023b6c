"""The part of io.featurekey.Manage about the state: its audit, its backup, and restoring one."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from featurekeyd.policy.audit import Entry, Soundness, verify
from featurekeyd.policy.catalog import Cause
from featurekeyd.policy.checkevidence import CheckEvidence, read_check
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Finding, Unreadable, Verdict, accept, refuse
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.request_text import Head
from featurekeyd.policy.reservations import Reservations

from .backup import Backup, BackupTooLarge, read_backup, write_backup
from .documents import read_documents
from .facts import Answer
from .merging import differences, merged
from .methods import Client, ErrorReply, Method, Nothing, Permission, method, one_by_one, said
from .schema import StateRefused
from .site import Site
from .store import Kept, Store
from .storing import not_stored
from .trusting import kept_of, read_answer
from .version import RELEASED, VERSION
from .wire import MANAGE, error_reply, reply

_Done = TypeVar("_Done")


class ListAudit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ListAudit."""

    after: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None = None


class Restore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of Restore."""

    text: str
    dry_run: bool | None = None


class StateService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        manage = Permission.MANAGE
        return {
            f"{MANAGE}.ListAudit": method(manage, ListAudit, self.list_audit, more=True),
            f"{MANAGE}.VerifyAudit": method(manage, Nothing, self.verify_audit),
            f"{MANAGE}.Backup": method(manage, Nothing, self.back_up),
            f"{MANAGE}.Restore": method(manage, Restore, self.restore),
        }

    async def list_audit(self, _: Client, parameters: ListAudit) -> bytes:
        """What was recorded, one in each reply."""
        after = parameters.after or 0
        # Written in that thread too: ten thousand entries would hold up the loop.
        return await self._asked(lambda store: b"".join(one_by_one("entry", map(_listed, store.load_audit(after)))))

    async def verify_audit(self, _: Client, __: Nothing) -> bytes:
        """Whether each entry of the audit is as it was recorded."""

        def verified(store: Store) -> tuple[Soundness, int, Head]:
            entries = store.load_audit()
            return verify(entries, store.audit_head), len(entries), store.audit_head

        found, entries, head = await self._asked(verified)
        answer = {"sound": found.sound, "finding": found.finding, "broken_at": found.broken_at, "entries": entries}
        return reply(said({**answer, "head_number": head.number, "head_digest": head.digest}))

    async def back_up(self, client: Client, _: Nothing) -> bytes:
        """The state as a text."""
        site = self._site
        serial, catalog, wall = site.enforcer.licenses.serial, site.enforcer.catalog.id, site.clock().wall

        def written(store: Store) -> tuple[str, int]:
            text = write_backup(store.load_kept(), serial=serial, catalog=catalog, version=VERSION, wall=wall)
            return text, len(read_backup(text).kept.audit)

        try:
            text, entries = await self._asked(written)
        except BackupTooLarge as error:
            hint = f"{error} Stop the daemon and copy its state directory."
            raise ErrorReply(error_reply(f"{MANAGE}.BackupTooLarge", {"hint": hint})) from error
        self._tell(EventName.STATE_BACKED_UP, "A backup of the state was taken.", client)
        return reply(said({"text": text, "serial": serial, "audit_entries": entries}))

    async def restore(self, client: Client, parameters: Restore) -> bytes:
        """Merge a backup into the state."""
        try:
            backup = await asyncio.to_thread(read_backup, parameters.text)
        except Unreadable as error:
            return reply({"finding": error.finding, "changes": []})
        dry_run, before = bool(parameters.dry_run), self._site.documents.certificate
        finding, changes = await self._site.alone(lambda: self._restored(backup, client, dry_run=dry_run))
        if self._site.documents.certificate != before:
            await self._site.look()  # the key has not proved itself by this certificate yet
        return reply({"finding": finding, "changes": changes})

    async def _restored(self, backup: Backup, client: Client, *, dry_run: bool) -> tuple[Finding, list[str]]:
        site, wall = self._site, int(self._site.clock().wall)
        refusal, vouched = await asyncio.to_thread(_judged, backup, site)
        if refusal is not None:
            return refusal, []

        def both(store: Store) -> tuple[Kept, Kept]:
            here = store.load_kept()
            return here, merged(here, backup.kept, backup.origin.serial, backup.before_audit, wall, vouched=vouched)

        def stored(store: Store) -> tuple[Kept, Kept]:
            before, after = both(store)  # anew: acts were recorded meanwhile, and time has drained
            store.save_kept(after, wall)
            return before, after

        site.keep_drained()
        before, after = await self._asked(both)
        licenses = await asyncio.to_thread(_tried_out, after, site)
        if isinstance(licenses, Finding):
            return licenses, []
        of = f"of {backup.origin.written}, serial {backup.origin.serial or 'none'}"
        if dry_run:
            return accept(Verdict.RESTORED, f"The backup {of} would be restored."), differences(before, after)
        with site.trusting.held():
            before, after = await self._asked(stored)
            site.take_back(before, after, licenses)
        site.keep_drained()
        message, changes = f"The backup {of} is restored.", differences(before, after)
        self._tell(EventName.STATE_RESTORED, message, client, CHANGES="; ".join(changes))
        return accept(Verdict.RESTORED, message), changes

    def _tell(self, name: EventName, message: str, client: Client, **fields: str) -> None:
        about = {"SERIAL": self._site.enforcer.licenses.serial or "", "BY": f"uid {client.peer.uid}", **fields}
        self._site.tell(Event(name=name, message=message, fields={key: it for key, it in about.items() if it}))

    async def _asked(self, work: Callable[[Store], _Done]) -> _Done:
        """What the storing thread answers; raises ErrorReply where the state file cannot be read or written."""
        try:
            return await self._site.storing.ask(work)
        except (sqlite3.Error, StateRefused) as error:
            raise ErrorReply(error_reply(f"{MANAGE}.StateNotStored", {"hint": _hint(error)})) from error


def _hint(error: sqlite3.Error | StateRefused) -> str:
    return not_stored(error) if isinstance(error, sqlite3.Error) else str(error)


def _judged(backup: Backup, site: Site) -> tuple[Finding | None, CheckEvidence | None]:
    """Why a backup is not taken here, None where it is, and what its answer of the vendor says, verified."""
    return _refusal(backup, site), _vouched(backup.kept.facts.answer, site)


def _refusal(backup: Backup, site: Site) -> Finding | None:
    """Why a backup is not taken here, None where it is; its documents are verified as if they had been imported."""
    origin, here = backup.origin, site.enforcer.licenses.serial
    catalog = site.enforcer.catalog.id
    if here is not None and origin.serial != here:
        message = f"The backup is of serial {origin.serial or 'none'}, and this system is {here}."
        return refuse(Verdict.OTHER_SERIAL, message, remedy="Restore it on the system with that Feature Key.")
    if origin.catalog != catalog:
        return refuse(
            Verdict.OTHER_CATALOG, f"The backup is of catalog {origin.catalog}, and this system is {catalog}."
        )
    licenses, refused = read_documents(backup.kept.documents, site.vendor_keys, catalog)
    if refused:
        return refuse(Verdict.BAD_BACKUP, f"What is in the backup is not believed: {refused[0].message}")
    if licenses.serial != origin.serial:
        message = f"The backup says serial {origin.serial or 'none'}, and its certificate {licenses.serial or 'none'}."
        return refuse(Verdict.BAD_BACKUP, message)
    return None


def _vouched(answer: Answer | None, site: Site) -> CheckEvidence | None:
    """What the vendor's answer in a backup says, whatever stands beside it there; None where it is not believed."""
    try:
        evidence = None if answer is None else read_check(answer.text, site.vendor_keys)
    except Unreadable:
        return None  # another one can be asked for
    return evidence if evidence is not None and evidence.catalog == site.enforcer.catalog.id else None


def _tried_out(kept: Kept, site: Site) -> Licenses | Finding:
    """The licenses of what would be restored, or why nothing can run by it: no daemon would start with it again."""
    running, now = site.enforcer, site.clock()
    drained = {cause: kept.drained[cause] for cause in Cause if cause in kept.drained}
    try:
        licenses, _ = read_documents(kept.documents, site.vendor_keys, running.catalog.id)
        tried = Enforcer(
            running.catalog,
            running.system,
            running.rules,
            now,
            released=RELEASED,
            drained=drained,
            boot_id=running.trust.boot_id,
            kept=kept_of(kept.facts, running.trust.kept),
        )
        tried.trust.answer, _ = read_answer(kept.facts.answer, site.vendor_keys)
        tried.adopt_stored(licenses, now)
        tried.adopt_reservations(Reservations(kept.reservations))
        tried.tick(Now(now.wall + 1.0, now.boot + 1.0))
    except Exception as error:  # noqa: BLE001 - whatever it is, it would be met at each start
        return refuse(Verdict.BAD_BACKUP, f"Nothing can run by what is in the backup: {type(error).__name__}.")
    return licenses


def _listed(entry: Entry) -> dict[str, object]:
    time = datetime.datetime.fromtimestamp(entry.wall, datetime.UTC).isoformat().replace("+00:00", "Z")
    return {
        "number": entry.number,
        "time": time,
        "who": entry.who,
        "what": entry.what,
        "message": entry.message,
        "fields": [{"name": name, "value": value} for name, value in entry.fields.items()],
        "digest": entry.digest,
    }
