"""io.featurekey.Manage: what technicians and their tools do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from featurekeyd.policy.certificate import Certificate, read_certificate
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Finding, Unreadable, Verdict, accept, refuse
from featurekeyd.policy.licensekey import Term
from featurekeyd.policy.licenselist import KIND as LIST_KIND
from featurekeyd.policy.licenselist import LicenseList, TypedKey, read_list, read_plain
from featurekeyd.policy.licenses import License, Licenses
from featurekeyd.policy.request_text import Request, request_text
from featurekeyd.policy.signedtext import is_signed

from .license_service import Release, feature_key_state
from .methods import Client, Method, Nothing, Permission, method, one_by_one
from .site import Site
from .version import VERSION
from .wire import MANAGE, error_reply, reply


class AddLicense(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of AddLicense and RemoveLicense."""

    key: str


class ImportList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ImportList."""

    text: str
    dry_run: bool = False
    all_or_nothing: bool = False


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
            f"{MANAGE}.ImportCertificate": method(manage, ImportCertificate, self.import_certificate),
            f"{MANAGE}.Request": method(manage, Nothing, self.request),
            f"{MANAGE}.CheckNow": method(manage, Nothing, self.check_now),
            f"{MANAGE}.ReleaseLease": method(manage, Release, self.release_lease),
        }

    async def add_license(self, client: Client, parameters: AddLicense) -> bytes:
        """Take one typed key."""
        findings: list[Finding] = []

        def change() -> tuple[Licenses, bool]:
            site = self._site
            today = site.enforcer.today(site.clock())
            licenses, finding = site.enforcer.licenses.with_key(parameters.key, site.enforcer.catalog, today)
            findings.append(finding)
            return licenses, licenses is not site.enforcer.licenses

        await self._site.change(change)
        if findings[0].verdict in {Verdict.UNLISTED, Verdict.VALID}:
            self._tell(EventName.LICENSE_ADDED, findings[0], client)
        return reply({"finding": findings[0]})

    async def remove_license(self, client: Client, parameters: AddLicense) -> bytes:
        """Remove one key."""
        findings: list[Finding] = []

        def change() -> tuple[Licenses, bool]:
            licenses, finding = self._site.enforcer.licenses.without_key(parameters.key)
            findings.append(finding)
            return licenses, finding.accepted

        await self._site.change(change)
        if findings[0].accepted:
            self._tell(EventName.LICENSE_REMOVED, findings[0], client)
        return reply({"finding": findings[0]})

    async def import_list(self, client: Client, parameters: ImportList) -> bytes:
        """Take a signed license list, or a plain CSV text of keys."""
        try:
            if is_signed(LIST_KIND, parameters.text):
                return await self._import_signed(client, parameters)
            return await self._import_plain(client, parameters)
        except Unreadable as error:
            return reply({"accepted": False, "findings": [error.finding]})

    async def import_certificate(self, client: Client, parameters: ImportCertificate) -> bytes:
        """Take the certificate of the Feature Key that is there."""
        try:
            certificate = read_certificate(parameters.text, self._site.vendor_keys)
        except Unreadable as error:
            return reply({"finding": error.finding})
        findings: list[Finding] = []

        def change() -> tuple[Licenses, bool]:
            finding = self._site.enforcer.refuse_certificate(certificate) or _imported(certificate)
            findings.append(finding)
            return self._site.enforcer.licenses.with_certificate(certificate), finding.accepted

        await self._site.change(change, certificate=parameters.text)
        if findings[0].accepted:
            self._tell(EventName.CERTIFICATE_IMPORTED, findings[0], client)
            await self._site.look()
        return reply({"finding": findings[0]})

    def list_licenses(self, _: Client, __: Nothing) -> Iterator[bytes]:
        """The installed licenses, one in each reply."""
        site = self._site
        newest = site.enforcer.licenses.license_list
        source = f"list {newest.number}" if newest else ""
        licenses = site.enforcer.installed(site.clock())
        return one_by_one("license", (self._license(license_, source) for license_ in licenses))

    def request(self, _: Client, __: Nothing) -> bytes:
        """What the vendor needs to know."""
        enforcer = self._site.enforcer
        seen = enforcer.feature_key
        if seen.kind is None or seen.hardware_id is None or seen.assurance is None:
            said_why = {"state": seen.state, "finding": seen.finding}
            return error_reply(f"{MANAGE}.FeatureKeyNotReadable", said_why)
        request = Request(
            kind=seen.kind,
            hardware_id=seen.hardware_id,
            assurance=seen.assurance,
            reader=seen.reader,
            simulated=seen.simulated,
            catalog=enforcer.catalog.id,
            platform=enforcer.platform,
            serial=enforcer.licenses.serial,
            version=VERSION,
        )
        about = {"kind": seen.kind, "hardware_id": seen.hardware_id, "simulated": seen.simulated}
        return reply({"text": request_text(request), **about})

    async def check_now(self, _: Client, __: Nothing) -> bytes:
        """Look at the Feature Key and say what was found."""
        await self._site.look()
        return reply(feature_key_state(self._site))

    def release_lease(self, client: Client, parameters: Release) -> bytes:
        """Free a lease in place of its holder."""
        by = f"uid {client.peer.uid}"
        return reply({"released": self._site.enforcer.release_by_force(parameters.holder, parameters.key, by)})

    async def _import_signed(self, client: Client, parameters: ImportList) -> bytes:
        newer = await asyncio.to_thread(read_list, parameters.text, self._site.vendor_keys)
        findings: list[Finding] = []

        def change() -> tuple[Licenses, bool]:
            before = self._site.enforcer.licenses
            licenses, finding = before.with_list(newer)
            findings.append(finding)
            return licenses, licenses is not before and not parameters.dry_run

        await self._site.change(change, license_list=parameters.text)
        if findings[0].verdict is Verdict.IMPORTED and not parameters.dry_run:
            self._tell(EventName.LIST_IMPORTED, findings[0], client)
        answer = {"accepted": findings[0].accepted, "list_number": newer.number}
        return reply({**answer, "findings": [*findings, *self._unknown_features(newer)]})

    async def _import_plain(self, client: Client, parameters: ImportList) -> bytes:
        lines = list(read_plain(parameters.text))
        if not lines:
            raise Unreadable(Verdict.BAD_DOCUMENT, "The text holds neither a signed license list nor a license key.")
        findings: list[Finding] = []

        def change() -> tuple[Licenses, bool]:
            licenses = self._entered(lines, findings)
            good = all(finding.accepted for finding in findings) or not parameters.all_or_nothing
            return licenses, good and not parameters.dry_run and licenses is not self._site.enforcer.licenses

        await self._site.change(change)
        accepted = all(finding.accepted for finding in findings)
        stored = not parameters.dry_run and (accepted or not parameters.all_or_nothing)
        for finding in findings if stored else ():
            if finding.verdict in {Verdict.UNLISTED, Verdict.VALID}:
                self._tell(EventName.LICENSE_ADDED, finding, client)
        return reply({"accepted": accepted, "findings": findings})

    def _entered(self, lines: list[TypedKey | Finding], findings: list[Finding]) -> Licenses:
        """The licenses with every good key of the lines; what was found in each line goes into `findings`."""
        site = self._site
        today = site.enforcer.today(site.clock())
        texts = (line.text for line in lines if isinstance(line, TypedKey))
        licenses, read = site.enforcer.licenses.with_keys(texts, site.enforcer.catalog, today)
        found = iter(read)
        for line in lines:
            at_line = line if isinstance(line, Finding) else msgspec.structs.replace(next(found), line=line.line)
            findings.append(at_line)
        return licenses

    def _unknown_features(self, newer: LicenseList) -> list[Finding]:
        codes = {entry.key.feature_code for entry in newer.entries}
        unknown = codes - self._site.enforcer.catalog.by_code.keys()
        return [
            refuse(Verdict.UNKNOWN_FEATURE, f"The catalog has no feature with code {it}.") for it in sorted(unknown)
        ]

    def _license(self, license_: License, source: str) -> dict[str, object]:
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
            "trial": key.term is Term.TRIAL,
            "source": source if license_.listed else "typed",
        }

    def _tell(self, name: EventName, finding: Finding, client: Client) -> None:
        fields = {"LICENSE": finding.key, "FEATURE": finding.feature, "BY": f"uid {client.peer.uid}"}
        fields |= {"SERIAL": self._site.enforcer.licenses.serial}
        about = {key: value for key, value in fields.items() if value}
        self._site.tell(Event(name=name, message=finding.message, fields=about))


def _imported(certificate: Certificate) -> Finding:
    test = ", for tests only" if certificate.test else ""
    return accept(Verdict.IMPORTED, f"The certificate of serial {certificate.serial} is imported{test}.")
