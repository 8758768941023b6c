"""What follows from a look at the host: what is learned and adopted, and how it is enrolled again.

Rules of this module:

* One look gives one judgement: the verdict over components and addresses together, and the enrollment to store.
* A command enrolls again a host of which parts were replaced: something unique must be kept, the change may be no older
  than the window, and it is not done over and over. Anything else needs the vendor's permit. Where a Feature Key is the
  authority, a command always does.
* A certificate of the kind `host` names the digest of what the host was when it was requested. The host goes by that id
  for as long as its enrollment has this digest for its origin, whatever it has learned since.

Source: facts/hardware.md section 8, E; facts/field.md complaint 1.
"""

from __future__ import annotations

import datetime

import msgspec

from .catalog import UNIQUE_COMPONENTS, HostRules
from .certificate import Certificate
from .findings import Finding
from .hostaddress import (
    AddressScore,
    AddressState,
    Announcement,
    SiteAddresses,
    adopted,
    bound_addresses,
    compare_addresses,
    seconds_left,
)
from .hostbinding import Comparison, Enrolled, HostVerdict, PartState, compare, enroll, learned
from .hostevidence import Evidence, HostRefused, digests_of, hardware_id_of
from .instant import Now
from .permit import MayChange, Permit, refuse_permit
from .presence import Sighting

WINDOW_DAYS = 30
"""How long after a change was first seen a command still cures it: the facts give 30 days to enroll again, so a
technician comes in time who learns of it from the monthly visit, ten times the 72 hours of the meter."""

MAX_RENEWALS = 3
"""Enrollments by command between two permits: board, network card and disk may each fail once in the life of a host;
one that is enrolled more often is moved from host to host."""

HOST_KIND = "host"
"""The kind of certificate whose Feature Key is the host itself."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the host says."""

    verdict: HostVerdict
    """Over the components, and where they are bound the addresses."""
    why: str
    comparison: Comparison
    address: AddressScore | None
    """None where addresses are not bound."""
    enrolled: Enrolled
    """The enrollment from now on; to be stored where it is another one than before."""
    told: tuple[str, ...] = ()
    """What was learned or adopted, each a thing to log."""
    announcement: Announcement | None = None
    """The announcement that is good still; to be forgotten where it is None."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is held to: the catalog's rules, the settings' addresses, and the serial it is certified for."""

    rules: HostRules
    """With `binds` as it is here: where the host is the Feature Key, it binds whatever the catalog says."""
    site: SiteAddresses
    serial: str | None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When the host was looked at, by the time that is believed: both clocks, which boot it was, and the date."""

    now: Now
    boot_id: str
    today: datetime.date


def terms_of(rules: HostRules, site: SiteAddresses, certificate: Certificate | None) -> Terms:
    """The terms under a certificate, or without one."""
    binds = rules.binds or (certificate is not None and certificate.kind == HOST_KIND)
    serial = None if certificate is None else certificate.serial
    return Terms(rules=msgspec.structs.replace(rules, binds=binds), site=site, serial=serial)


def enroll_host(evidence: Evidence, terms: Terms, today: datetime.date) -> Enrolled | HostRefused:
    """Take the host as it is, with the addresses that are to be bound."""
    addresses = bound_addresses(evidence, terms.site) if terms.rules.binds_addresses else ()
    return enroll(evidence, terms.rules, today, addresses)


def judge_host(
    enrolled: Enrolled, evidence: Evidence, terms: Terms, moment: Moment, announcement: Announcement | None = None
) -> Judgement:
    """Hold the host against its enrollment, learn what may be learned and adopt what was announced."""
    comparison = compare(enrolled, evidence, terms.rules)
    after, told = learned(enrolled, evidence, comparison)
    if announcement is not None and not seconds_left(announcement, moment.now, moment.boot_id):
        announcement = None
    address = None
    if terms.rules.binds_addresses:
        if comparison.verdict is HostVerdict.SAME:
            after, more, announcement = _adopt(after, evidence, terms.site, announcement)
            told += more
        address = compare_addresses(after.addresses, evidence, terms.site)
    verdict, why = _together(comparison, address)
    return Judgement(
        verdict=verdict,
        why=why,
        comparison=comparison,
        address=address,
        enrolled=_dated(after, verdict, moment.today),
        told=told,
        announcement=announcement,
    )


def renew(enrolled: Enrolled, evidence: Evidence, terms: Terms, today: datetime.date) -> Enrolled | HostRefused:
    """Enroll again by command; addresses stay as they are bound, since a change of them is announced."""
    fresh = enroll(evidence, terms.rules, today, enrolled.addresses)
    if isinstance(fresh, HostRefused):
        return fresh
    comparison, binds = compare(enrolled, evidence, terms.rules), terms.rules.binds
    refusal = _refuse_command(enrolled, comparison, today) if binds else None
    if refusal is not None:
        return refusal
    unread = {it.name for it in comparison.parts if it.state is PartState.UNREADABLE}
    kept = unread if comparison.verdict is HostVerdict.SAME else set()
    return msgspec.structs.replace(
        fresh,
        origin=enrolled.origin,
        # A look that shows less than the one before makes the enrollment of the same host no weaker.
        parts=fresh.parts | {name: enrolled.parts[name] for name in kept},
        permit=enrolled.permit,
        renewals=enrolled.renewals + (1 if binds else 0),
    )


def renew_by_permit(
    enrolled: Enrolled, evidence: Evidence, terms: Terms, permit: Permit, today: datetime.date, *, last_used: int
) -> Enrolled | Finding | HostRefused:
    """Enroll again what a permit lets change; `last_used` is the highest number that was used for this serial."""
    here = hardware_id_of(digests_of(evidence))
    refusal = refuse_permit(permit, serial=terms.serial, hardware_id=here, last_used=last_used, today=today)
    if refusal is not None:
        return refusal
    after = enrolled
    if MayChange.HARDWARE in permit.may_change:
        fresh = enroll(evidence, terms.rules, today, enrolled.addresses)
        if isinstance(fresh, HostRefused):
            return fresh
        after = msgspec.structs.replace(fresh, origin=enrolled.origin)
    if MayChange.ADDRESSES in permit.may_change:
        after = msgspec.structs.replace(after, addresses=bound_addresses(evidence, terms.site) or after.addresses)
    return msgspec.structs.replace(after, permit=permit.number, renewals=0)


def goes_by(sighting: Sighting, certificate: Certificate | None, enrolled: Enrolled | None) -> Sighting:
    """The sighting of a host as its certificate knows it; whether it is still that host is judged by its enrollment.

    Everything else than a host, and a host whose enrollment is not the one of the certificate, is left as it was seen.
    """
    if certificate is None or enrolled is None or {certificate.kind, sighting.kind} != {HOST_KIND}:
        return sighting
    if enrolled.hardware_id != certificate.hardware_id or enrolled.simulated != sighting.simulated:
        return sighting
    return msgspec.structs.replace(sighting, hardware_id=certificate.hardware_id)


def _adopt(
    enrolled: Enrolled, evidence: Evidence, site: SiteAddresses, announcement: Announcement | None
) -> tuple[Enrolled, tuple[str, ...], Announcement | None]:
    score = compare_addresses(enrolled.addresses, evidence, site)
    addresses = adopted(enrolled.addresses, score, announcement)
    if addresses is None:
        return enrolled, (), announcement
    what = "announced address is there" if enrolled.addresses else "first address is bound"
    told = f"the {what}: {', '.join(addresses)}"
    if enrolled.addresses:
        told += f" in place of {', '.join(enrolled.addresses)}"
        announcement = None
    return msgspec.structs.replace(enrolled, addresses=addresses), (told,), announcement


def _together(comparison: Comparison, address: AddressScore | None) -> tuple[HostVerdict, str]:
    if address is None or comparison.verdict is HostVerdict.CHANGED:
        return comparison.verdict, comparison.why
    if address.state is AddressState.CHANGED:
        return HostVerdict.CHANGED, f"The address is another: {address.why}"
    if comparison.verdict is HostVerdict.SAME and address.state is AddressState.CANNOT_TELL:
        return HostVerdict.CANNOT_TELL, f"Nobody can tell whether the address is the same: {address.why}"
    return comparison.verdict, comparison.why


def _dated(enrolled: Enrolled, verdict: HostVerdict, today: datetime.date) -> Enrolled:
    """The enrollment with the first day of a change; what nobody can tell neither begins nor ends one."""
    if verdict is HostVerdict.CANNOT_TELL:
        return enrolled
    changed_on = (enrolled.changed_on or today) if verdict is HostVerdict.CHANGED else None
    if changed_on == enrolled.changed_on:
        return enrolled
    return msgspec.structs.replace(enrolled, changed_on=changed_on)


def _refuse_command(enrolled: Enrolled, comparison: Comparison, today: datetime.date) -> HostRefused | None:
    permit = "Ask the vendor for a permit: send the request of this host (featurekeyctl request)."
    if comparison.verdict is HostVerdict.CANNOT_TELL:
        return HostRefused(comparison.why, "Let the daemon read what it cannot read now; see: featurekeyctl host")
    kept = [it for it in comparison.parts if it.state is PartState.MATCHES and it.name in UNIQUE_COMPONENTS]
    if not kept:
        return HostRefused(f"Nothing unique of the enrolled host is left. {comparison.why}", permit)
    since = enrolled.changed_on
    if since is not None and today > since + datetime.timedelta(days=WINDOW_DAYS):
        return HostRefused(f"The host has been another since {since}, longer than {WINDOW_DAYS} days.", permit)
    if enrolled.renewals >= MAX_RENEWALS:
        return HostRefused(f"It was enrolled again by command {enrolled.renewals} times already.", permit)
    return None
