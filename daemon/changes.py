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

_NEWS = {Verdict.UNLISTED, Verdict.VALID, Verdict.IMPORTED, Verdict.REMOVED}
"""Findings that change something, and are told of."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to make of the licenses."""

    licenses: Licenses
    findings: list[Finding]
    event: EventName
    """What each finding that is news is told as."""
    stored: bool
    """Whether there is anything to store."""
    texts: dict[str, str | None] = {}
    """Signed texts that are new, by kind; None for one that is to go."""

    @property
    def news(self) -> list[Finding]:
        """The findings to tell of."""
        return [finding for finding in self.findings if finding.verdict in _NEWS] if self.stored else []


def added(enforcer: Enforcer, text: str, today: datetime.date) -> Change:
    """One typed key more."""
    licenses, finding = enforcer.licenses.with_key(text, enforcer.catalog, today)
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


def listed(enforcer: Enforcer, newer: LicenseList, text: str, *, dry_run: bool) -> Change:
    """A newer license list."""
    licenses, finding = enforcer.licenses.with_list(newer)
    codes = {entry.key.feature_code for entry in newer.entries} - enforcer.catalog.by_code.keys()
    unknown = [
        refuse(Verdict.UNKNOWN_FEATURE, f"The catalog has no feature with code {code}.") for code in sorted(codes)
    ]
    return Change(
        licenses=licenses,
        findings=[finding, *unknown],
        event=EventName.LIST_IMPORTED,
        stored=licenses is not enforcer.licenses and not dry_run,
        texts={"license_list": text},
    )


def entered(
    enforcer: Enforcer, lines: list[TypedKey | Finding], today: datetime.date, *, dry_run: bool, all_or_nothing: bool
) -> Change:
    """The good keys of a plain CSV text, with a finding for each line."""
    texts = (line.text for line in lines if isinstance(line, TypedKey))
    licenses, read = enforcer.licenses.with_keys(texts, enforcer.catalog, today)
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


def _imported(certificate: Certificate) -> Finding:
    test = ", for tests only" if certificate.test else ""
    return accept(Verdict.IMPORTED, f"The certificate of serial {certificate.serial} is imported{test}.")
