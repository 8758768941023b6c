"""From stored texts to verified licenses and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from featurekeyd.policy.certificate import Certificate, read_certificate
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.findings import Finding, Unreadable, Verdict
from featurekeyd.policy.licensekey import LicenseKey, read_key
from featurekeyd.policy.licenselist import read_list
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.signedtext import VendorKeys, read_vendor_key

from .store import Documents


def read_vendor_keys(folder: Path) -> tuple[VendorKeys, list[str]]:
    """The vendor's public keys (`*.pub`, PEM) in a folder by key id, and what is wrong with those that are none."""
    keys, wrong = {}, []
    for path in sorted(folder.glob("*.pub")) if folder.is_dir() else []:
        try:
            name, key = read_vendor_key(path.read_bytes())
        except (OSError, ValueError) as error:
            wrong.append(f"{path.name} is no public key: {error}")
            continue
        keys[name] = key
    return keys, wrong


def read_documents(documents: Documents, vendor_keys: VendorKeys, catalog: str) -> tuple[Licenses, list[Event]]:
    """The licenses that stored documents give, each verified anew, and an event for each that is refused."""
    licenses, refused = Licenses(marks=dict(documents.marks)), []
    try:
        if documents.certificate is not None:
            licenses = licenses.with_certificate(_for_catalog(documents.certificate, vendor_keys, catalog))
        if documents.license_list is not None and licenses.certificate is not None:
            licenses, finding = licenses.with_list(read_list(documents.license_list, vendor_keys))
            refused += [] if finding.accepted else [_refused("license list", finding)]
    except Unreadable as error:
        refused.append(_refused("document", error.finding))
    typed, removed = _keys(documents.typed, refused), frozenset(_keys(documents.removed, refused))
    return msgspec.structs.replace(licenses, typed=typed, removed=removed), refused


def _for_catalog(text: str, vendor_keys: VendorKeys, catalog: str) -> Certificate:
    certificate = read_certificate(text, vendor_keys)
    if certificate.catalog != catalog:
        message = f"It is for catalog {certificate.catalog}, and the settings say {catalog}."
        raise Unreadable(Verdict.OTHER_CATALOG, message)
    return certificate


def to_store(licenses: Licenses, before: Documents, **texts: str | None) -> Documents:
    """The documents to store for these licenses; `texts` are the signed texts that are new."""
    return msgspec.structs.replace(
        before,
        typed=tuple(key.text for key in licenses.typed),
        removed=frozenset(key.text for key in licenses.removed),
        marks=licenses.marks,
        **texts,
    )


def _keys(texts: Iterable[str], refused: list[Event]) -> tuple[LicenseKey, ...]:
    """The keys in these texts; an event for each text that is none any more goes into `refused`."""
    read = [read_key(text) for text in texts]
    refused += [_refused("license key", found) for found in read if isinstance(found, Finding)]
    return tuple(key for key in read if isinstance(key, LicenseKey))


def _refused(what: str, finding: Finding) -> Event:
    message = f"The stored {what} is not believed: {finding.message} {finding.remedy or 'Import it again.'}"
    return Event(name=EventName.STATE_REFUSED, message=message, fields={"REASON": str(finding.verdict)})
