"""io.featurekey.Manage: what technicians and their tools do."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from collections.abc import Callable, Iterator

import msgspec

from featurekeyd.policy.certificate import KIND as CERTIFICATE_KIND
from featurekeyd.policy.certificate import read_certificate
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.licenselist import KIND as LIST_KIND
from featurekeyd.policy.licenselist import read_list, read_plain
from featurekeyd.policy.licenses import License
from featurekeyd.policy.request_text import request_text
from featurekeyd.policy.signedtext import is_signed

from . import changes
from .asking import request_of
from .changes import Change
from .license_service import Release
from .methods import Client, ErrorReply, Method, Nothing, Permission, method, one_by_one, said
from .site import Site
from .storing import not_stored
from .wire import MANAGE, error_reply, reply

_TAKE_BOTH = "The text holds a certificate too; take both at once: featurekeyctl certificate import FILE"


class AddLicense(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of AddLicense and RemoveLicense."""

    key: str


class ImportList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ImportList."""

    text: str
    dry_run: bool | None = None
    all_or_nothing: bool | None = None


class ImportCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ImportCertificate."""

    text: str


class ManageService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        manage = Permission.MANAGE
        return {
            f"{MANAGE}.AddLicense": method(manage, AddLicense, self.add_license),
            f"{MANAGE}.ImportList": method(manage, ImportList, self.import_list),
            f"{MANAGE}.RemoveLicense": method(manage, AddLicense, self.remove_license),
            f"{MANAGE}.ListLicenses": method(manage, Nothing, self.list_licenses, more=True),
            f"{MANAGE}.ExportLicenses": method(manage, Nothing, self.export_licenses),
            f"{MANAGE}.ImportCertificate": method(manage, ImportCertificate, self.import_certificate),
            f"{MANAGE}.Request": method(manage, Nothing, self.request),
            f"{MANAGE}.ReleaseLease": method(manage, Release, self.release_lease),
        }

    async def add_license(self, client: Client, parameters: AddLicense) -> bytes:
        """Take one typed key."""
        enforcer, today = self._site.enforcer, self._today()
        change = await self._change(lambda: changes.added(enforcer, parameters.key, today), client)
        return reply({"finding": change.findings[0]})

    async def remove_license(self, client: Client, parameters: AddLicense) -> bytes:
        """Remove one key."""
        change = await self._change(lambda: changes.removed(self._site.enforcer, parameters.key), client)
        return reply({"finding": change.findings[0]})

    async def import_certificate(self, client: Client, parameters: ImportCertificate) -> bytes:
        """Take the certificate of the Feature Key that is there, and the license list where the text holds one."""
        text, keys = parameters.text, self._site.vendor_keys
        with_list = is_signed(LIST_KIND, text)
        try:
            certificate = read_certificate(text, keys)
            newer = await asyncio.to_thread(read_list, text, keys) if with_list else None
        except Unreadable as error:
            return reply({"finding": changes.neither(error.finding) if with_list else error.finding})
        enforcer = self._site.enforcer
        if newer is None:
            change = await self._change(lambda: changes.certified(enforcer, certificate, text), client)
            return reply({"finding": change.findings[0]})
        change = await self._change(lambda: changes.certified_with_list(enforcer, certificate, newer, text), client)
        return reply({"finding": change.findings[0], "list_findings": change.list_findings})

    async def import_list(self, client: Client, parameters: ImportList) -> bytes:
        """Take a signed license list, or a plain CSV text of keys."""
        try:
            if is_signed(LIST_KIND, parameters.text):
                return await self._import_signed(client, parameters)
            return await self._import_plain(client, parameters)
        except Unreadable as error:
            return reply({"accepted": False, "stored": False, "findings": [error.finding]})

    async def _import_signed(self, client: Client, parameters: ImportList) -> bytes:
        newer = await asyncio.to_thread(read_list, parameters.text, self._site.vendor_keys)
        enforcer, dry_run = self._site.enforcer, bool(parameters.dry_run)
        change = await self._change(lambda: changes.listed(enforcer, newer, parameters.text, dry_run=dry_run), client)
        first, *others = change.findings
        if not first.accepted and is_signed(CERTIFICATE_KIND, parameters.text):
            first = msgspec.structs.replace(first, remedy=_TAKE_BOTH)
        answer = {"accepted": first.accepted, "stored": change.stored, "list_number": newer.number}
        return reply({**answer, "findings": [first, *others]})

    async def _import_plain(self, client: Client, parameters: ImportList) -> bytes:
        lines = list(read_plain(parameters.text))
        if not lines:
            raise Unreadable(Verdict.BAD_DOCUMENT, "The text holds neither a signed license list nor a license key.")
        enforcer, today = self._site.enforcer, self._today()
        dry_run, whole = bool(parameters.dry_run), bool(parameters.all_or_nothing)
        change = await self._change(
            lambda: changes.entered(enforcer, lines, today, dry_run=dry_run, all_or_nothing=whole), client
        )
        accepted = all(finding.accepted for finding in change.findings)
        return reply({"accepted": accepted, "stored": change.stored, "findings": change.findings})

    def list_licenses(self, _: Client, __: Nothing) -> Iterator[bytes]:
        """The installed licenses, one in each reply."""
        site = self._site
        newest = site.enforcer.licenses.license_list
        source = f"list {newest.number}" if newest else ""
        sets = {entry.key: entry.license_set for entry in newest.entries} if newest else {}
        licenses = site.enforcer.installed(site.clock())
        return one_by_one("license", (self._license(it, source, sets.get(it.key)) for it in licenses))

    def export_licenses(self, client: Client, _: Nothing) -> bytes:
        """The signed list as it came, and the typed keys as CSV."""
        features = self._site.enforcer.catalog.by_code
        typed = self._site.enforcer.licenses.typed
        rows = [
            f"{key.text},{features[key.feature_code].title if key.feature_code in features else ''}" for key in typed
        ]
        about = {"BY": f"uid {client.peer.uid}", "SERIAL": self._site.enforcer.licenses.serial or ""}
        message = f"The licenses were exported by {about['BY']}."
        self._site.tell(Event(name=EventName.LICENSES_EXPORTED, message=message, fields=about))
        text = self._site.documents.license_list if self._site.enforcer.licenses.license_list else None
        return reply(said({"license_list": text, "typed": "\n".join(["key,name", *rows, ""])}))

    def request(self, _: Client, __: Nothing) -> bytes:
        """What the vendor needs to know."""
        request = request_of(self._site)
        if isinstance(request, bytes):
            return request
        about = {"kind": request.kind, "hardware_id": request.hardware_id, "simulated": request.simulated}
        return reply({"text": request_text(request), **about})

    def release_lease(self, client: Client, parameters: Release) -> bytes:
        """Free a lease in place of its holder."""
        by, now = f"uid {client.peer.uid}", self._site.clock()
        return reply({"released": self._site.enforcer.release_by_force(parameters.holder, parameters.key, by, now)})

    def _license(self, license_: License, source: str, license_set: str | None) -> dict[str, object]:
        key, features = license_.key, self._site.enforcer.catalog.features
        feature = features.get(license_.feature or "")
        return {
            "key": key.short,
            "feature": license_.feature or f"code {key.feature_code}",
            "title": feature.title if feature else "unknown feature",
            "instances": key.instances,
            "status": license_.status,
            "finding": license_.finding,
            "issued": key.issued.isoformat(),
            "expires": key.expires.isoformat() if key.expires else None,
            "days_left": key.days_left(self._today()),
            "trial": key.term is Term.TRIAL,
            "source": source if license_.listed else "typed",
            "set": license_set,
        }

    def _today(self) -> datetime.date:
        return self._site.enforcer.today(self._site.clock())

    async def _change(self, make: Callable[[], Change], client: Client) -> Change:
        """Store a change and let it count; raises ErrorReply where it cannot be stored, and then nothing changed."""
        try:
            return await self._site.change(make, f"uid {client.peer.uid}")
        except sqlite3.Error as error:
            raise ErrorReply(error_reply(f"{MANAGE}.StateNotStored", {"hint": not_stored(error)})) from error
