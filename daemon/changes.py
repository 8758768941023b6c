"""Changes of the licenses: what somebody brings, made into a value that says what to store and what to tell.

Nothing here has an effect: a change is worked out, perhaps in a thread, and the Site stores it, lets it count, and
tells of it, in that order.
"""

from __future__ import annotations

import datetime

import msgspec

from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.findings import Finding, Verdict, accept, refuse
from featurekeyd.policy.licensekey import MAX_TYPED
from featurekeyd.policy.licenselist import LicenseList, TypedKey
from featurekeyd.policy.licenses import Licenses

from .products import shipped_products

_NEWS = {Verdict.UNLISTED, Verdict.VALID, Verdict.IMPORTED, Verdict.REMOVED}
"""Findings that change something, and are told of."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to make of the licenses."""

    licenses: Licenses
    findings: list[Finding]
    event: EventName
    """What each finding that is news is told as."""
    list_findings: list[Finding] = []
    """What was found of a license list that came with a certificate; told as a list is."""
    stored: bool
    """Whether there is anything to store."""
    texts: dict[str, str | None] = {}
    """Signed texts that are new, by kind; None for one that is to go."""

    @property
    def news(self) -> list[Finding]:
        """The findings to tell of."""
        found = [*self.findings, *self.list_findings] if self.stored else []
        return [finding for finding in found if finding.verdict in _NEWS]

    def event_of(self, finding: Finding) -> EventName:
        """What a finding that is news is told as."""
        return EventName.LIST_IMPORTED if finding in self.list_findings else self.event


def added(enforcer: Enforcer, text: str, today: datetime.date) -> Change:
    """One typed key more."""
    licenses, finding = enforcer.licenses.with_key(text, enforcer.catalog, today, shipped_products())
    return Change(
        licenses=licenses,
        findings=[finding],
        event=EventName.LICENSE_ADDED,
        stored=licenses is not enforcer.licenses,
    )


def removed(enforcer: Enforcer, text: str) -> Change:
    """One license less."""
    if len(text) > MAX_TYPED:  # each installed key would be held against the whole of it
        licenses, finding = enforcer.licenses, refuse(Verdict.NOT_FOUND, f"No key is named by {len(text)} characters.")
    else:
        licenses, finding = enforcer.licenses.without_key(text)
    return Change(licenses=licenses, findings=[finding], event=EventName.LICENSE_REMOVED, stored=finding.accepted)


def certified(enforcer: Enforcer, certificate: Certificate, text: str) -> Change:
    """The certificate of the Feature Key that is there; a list of another serial goes with the one before."""
    finding = enforcer.refuse_certificate(certificate) or _imported(certificate)
    licenses = enforcer.licenses.with_certificate(certificate)
    gone = enforcer.licenses.license_list is not None and licenses.license_list is None
    return Change(
        licenses=licenses,
        findings=[finding],
        event=EventName.CERTIFICATE_IMPORTED,
        stored=finding.accepted,
        texts={"certificate": text, "license_list": None} if gone else {"certificate": text},
    )


def certified_with_list(enforcer: Enforcer, certificate: Certificate, newer: LicenseList, text: str) -> Change:
    """The certificate and the license list of its serial in one text: both, or neither (an exchanged Feature Key)."""
    first = certified(enforcer, certificate, text)
    licenses, finding = first.licenses.with_list(newer)
    refused = next((it for it in (first.findings[0], finding) if not it.accepted), None)
    if refused is not None:
        return Change(licenses=enforcer.licenses, findings=[neither(refused)], event=first.event, stored=False)
    return Change(
        licenses=licenses,
        findings=first.findings,
        event=first.event,
        list_findings=[finding, *_unknown_features(enforcer, newer)],
        stored=True,
        texts={"certificate": text, "license_list": text},
    )


def neither(finding: Finding) -> Finding:
    """The finding that keeps a certificate and the list beside it from being taken, with that said."""
    message = f"{finding.message} Neither the certificate nor the license list is taken."
    return msgspec.structs.replace(finding, message=message)


def listed(enforcer: Enforcer, newer: LicenseList, text: str, *, dry_run: bool) -> Change:
    """A newer license list."""
    licenses, finding = enforcer.licenses.with_list(newer)
    return Change(
        licenses=licenses,
        findings=[finding, *_unknown_features(enforcer, newer)],
        event=EventName.LIST_IMPORTED,
        stored=licenses is not enforcer.licenses and not dry_run,
        texts={"license_list": text},
    )


def entered(
    enforcer: Enforcer, lines: list[TypedKey | Finding], today: datetime.date, *, dry_run: bool, all_or_nothing: bool
) -> Change:
    """The good keys of a plain CSV text, with a finding for each line."""
    texts = (line.text for line in lines if isinstance(line, TypedKey))
    licenses, read = enforcer.licenses.with_keys(texts, enforcer.catalog, today, shipped_products())
    found = iter(read)
    findings = [
        line if isinstance(line, Finding) else msgspec.structs.replace(next(found), line=line.line) for line in lines
    ]
    refused = all_or_nothing and not all(finding.accepted for finding in findings)
    return Change(
        licenses=licenses,
        findings=findings,
        event=EventName.LICENSE_ADDED,
        stored=licenses is not enforcer.licenses and not dry_run and not refused,
    )


def _unknown_features(enforcer: Enforcer, newer: LicenseList) -> list[Finding]:
    codes = {entry.key.feature_code for entry in newer.entries} - enforcer.catalog.by_code.keys()
    return [refuse(Verdict.UNKNOWN_FEATURE, f"The catalog has no feature with code {code}.") for code in sorted(codes)]


def _imported(certificate: Certificate) -> Finding:
    test = ", for tests only" if certificate.test else ""
    return accept(Verdict.IMPORTED, f"The certificate of serial {certificate.serial} is imported{test}.")
