"""What a license key string says, and what the register knows of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import msgspec

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.findings import Finding
from featurekeyd.policy.licensekey import LicenseKey, read_key

from .order import NAME_OF_TERM
from .register import CertificateRow, Register


class KeyStory(msgspec.Struct, frozen=True, kw_only=True):
    """A good license key in words."""

    feature_code: int
    feature: str | None
    """By the catalog of the serial it fits, None when it fits none or the catalog has no such code."""
    title: str | None
    instances: int
    issued: datetime.date
    term: str
    expires: datetime.date | None
    """Its last good day."""
    sequence: int
    serial: str | None
    """The serial of this register that it fits."""
    catalog: str | None
    license_set: str | None
    """The set that it was ordered with."""
    recorded: datetime.date | None
    """The day it was given out, None when the register does not have it."""
    revoked: datetime.date | None


def tell_key(text: str, register: Register, find_catalog: Callable[[str], Catalog]) -> KeyStory | Finding:
    """What the key says, or what is wrong with it, with a suggestion that fits a serial of the register."""
    certificates = register.certificates()
    key = read_key(text)
    if isinstance(key, Finding):
        return _better_finding(text, key, certificates)
    return _story(key, certificates, register, find_catalog)


def _better_finding(text: str, finding: Finding, certificates: list[CertificateRow]) -> Finding:
    pairs = dict.fromkeys((it.catalog, it.serial) for it in certificates)
    for catalog, serial in pairs:
        better = read_key(text, catalog=catalog, serial=serial)
        if isinstance(better, Finding) and better.suggestion is not None:
            return better
    if finding.suggestion is None:
        return finding
    message = f"{finding.message} Corrected so, it fits no serial of this register; perhaps more than that is wrong."
    return msgspec.structs.replace(finding, message=message, suggestion=None)


def _story(
    key: LicenseKey, certificates: list[CertificateRow], register: Register, find_catalog: Callable[[str], Catalog]
) -> KeyStory:
    fits = next((it for it in certificates if key.made_for(it.catalog, it.serial)), None)
    feature = find_catalog(fits.catalog).by_code.get(key.feature_code) if fits else None
    recorded = register.find_license(key.text)
    return KeyStory(
        feature_code=key.feature_code,
        feature=feature.id if feature else None,
        title=feature.title if feature else None,
        instances=key.instances,
        issued=key.issued,
        term=NAME_OF_TERM[key.term],
        expires=key.expires,
        sequence=key.sequence,
        serial=fits.serial if fits else None,
        catalog=fits.catalog if fits else None,
        license_set=recorded.license_set if recorded else None,
        recorded=recorded.day if recorded else None,
        revoked=recorded.revoked if recorded else None,
    )
