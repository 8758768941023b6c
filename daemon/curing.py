"""What may be done while the system is deactivated: whatever reads, and whatever cures.

A deactivated system waits for its activation, and for nothing else: what is neither is refused with the cause and its
cure. The table names every method of io.featurekey.Manage, so that a new one is put into its place before it is there.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from .methods import Client, Method, Outcome
from .site import Site
from .wire import MANAGE, error_reply


class Sort(enum.Enum):
    """What a method does to a system."""

    READS = "reads"
    CURES = "cures"
    WAITS = "waits"
    """Neither: it waits until the system is active again."""


SORTS = {
    "AddLicense": Sort.CURES,
    "ImportList": Sort.CURES,
    "RemoveLicense": Sort.WAITS,
    "ListLicenses": Sort.READS,
    "ExportLicenses": Sort.READS,
    "ImportCertificate": Sort.CURES,
    "Request": Sort.READS,
    "CheckNow": Sort.CURES,
    "RequestCheck": Sort.CURES,
    "ImportCheck": Sort.CURES,
    "Rescue": Sort.CURES,
    "GetHost": Sort.READS,
    "EnrollHost": Sort.CURES,
    "AnnounceAddress": Sort.CURES,
    "RepairClock": Sort.CURES,
    "ReleaseLease": Sort.CURES,
    "WhatIf": Sort.READS,
    "CheckCatalog": Sort.READS,
    "Reserve": Sort.WAITS,
    "Unreserve": Sort.WAITS,
    "ListReservations": Sort.READS,
    "Diagnose": Sort.READS,
    "ListAudit": Sort.READS,
    "History": Sort.READS,
    "VerifyAudit": Sort.READS,
    "Backup": Sort.READS,
    "Restore": Sort.CURES,
}
"""Every method of io.featurekey.Manage. To free a lease by force cures what a switch that is gone has left behind."""


def locked(methods: dict[str, Method], site: Site) -> dict[str, Method]:
    """The same methods, those that wait refused while the site is deactivated."""
    waiting = {f"{MANAGE}.{name}" for name, sort in SORTS.items() if sort is Sort.WAITS}
    return {name: _locked(found, site) if name in waiting else found for name, found in methods.items()}


def _locked(method: Method, site: Site) -> Method:
    run = method.run

    def run_when_active(client: Client, parameters: Any) -> Outcome:
        cause = site.enforcer.cause
        return error_reply(f"{MANAGE}.Deactivated", _told(site, cause)) if cause else run(client, parameters)

    return msgspec.structs.replace(method, run=run_when_active)


def _told(site: Site, cause: str) -> dict[str, object]:
    cures = [it.remedy for it in site.enforcer.grace]
    return {"cause": cause, "remedy": " ".join(cures) or "featurekeyctl status shows the cause and its cure."}
