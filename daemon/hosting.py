"""The host beside its enrollment, as a technician is shown it, and what a command makes of it.

Everything here goes by the last look that `trusting` has taken, and changes nothing.
"""

from __future__ import annotations

import msgspec

from featurekeyd.policy.enrollment import (
    MAX_RENEWALS,
    WINDOW_DAYS,
    Judgement,
    Moment,
    Terms,
    enroll_host,
    judge_host,
    renew,
    renew_by_permit,
    terms_of,
)
from featurekeyd.policy.findings import Finding, Unreadable, Verdict, accept, refuse
from featurekeyd.policy.hostaddress import Announcement, announce, bound_addresses, seconds_left
from featurekeyd.policy.hostbinding import Comparison, Enrolled, HostVerdict, PartScore, compare
from featurekeyd.policy.hostevidence import Evidence, HostNic, HostRefused, digests_of, hardware_id_of, without
from featurekeyd.policy.permit import read_permit
from featurekeyd.policy.trust import Trust

from .methods import said
from .site import Site

NOT_LOOKED_YET = "not_looked_yet"
NOT_ENROLLED = "not_enrolled"


def verdict_of(trust: Trust) -> str:
    """Whether this is the enrolled host, in a word."""
    if trust.kept.enrolled is None:
        return NOT_ENROLLED
    return NOT_LOOKED_YET if trust.host is None else str(trust.host.verdict)


def host_shown(site: Site) -> dict[str, object]:
    """The host as GetHost tells it; what is not known is None."""
    evidence, trust, terms = _evidence(site), site.enforcer.trust, _terms(site)
    enrolled, judged = trust.kept.enrolled, trust.host
    comparison = judged.comparison if judged else _beside_nothing(site, evidence, terms)
    return {
        "verdict": verdict_of(trust),
        "why": judged.why if judged else "No host is enrolled yet: it is when a certificate is imported.",
        "binds": terms.rules.binds,
        "binds_addresses": terms.rules.binds_addresses,
        "parts": [_part(it) for it in comparison.parts],
        **{name: getattr(comparison, name) for name in ("kept", "lost", "unknown", "needed", "total")},
        "nics": [_nic(it, evidence) for it in evidence.nics],
        "addresses_now": list(bound_addresses(evidence, terms.site)),
        "simulated": evidence.simulated,
        "container": evidence.container or None,
        "hardware_id": hardware_id_of(digests_of(evidence)),
        "max_renewals": MAX_RENEWALS,
        **(_enrollment_shown(site, enrolled) if enrolled else {"addresses_bound": [], "renewals": 0}),
        **_announced_shown(site),
    }


def enrollment(site: Site, permit: str | None) -> Enrolled | Finding:
    """What to enroll by a command, with a permit or without; a finding says why nothing."""
    evidence, terms, enrolled = _evidence(site), _terms(site), site.enforcer.trust.kept.enrolled
    if terms.serial is None:
        return refuse(Verdict.NO_CERTIFICATE, "No certificate of a Feature Key is imported yet.")
    today = site.enforcer.today(site.clock())
    if enrolled is None:
        return _taken(enroll_host(evidence, terms, today))
    if permit is not None:
        return _with_permit(site, permit, enrolled, evidence, terms)
    judged = judge_host(enrolled, evidence, terms, _moment(site), site.enforcer.trust.kept.announcement)
    if judged.comparison.verdict is HostVerdict.SAME:
        return _nothing_to_enroll(judged)
    return _taken(renew(enrolled, evidence, terms, today))


def _with_permit(site: Site, permit: str, enrolled: Enrolled, evidence: Evidence, terms: Terms) -> Enrolled | Finding:
    try:
        read = read_permit(permit, site.vendor_keys)
    except Unreadable as error:
        return error.finding
    last, today = site.enforcer.trust.last_permit(terms.serial), site.enforcer.today(site.clock())
    return _taken(renew_by_permit(enrolled, evidence, terms, read, today, last_used=last))


def _nothing_to_enroll(judged: Judgement) -> Finding:
    if judged.verdict is HostVerdict.SAME:
        return accept(Verdict.ALREADY_THERE, f"{judged.why} Nothing was changed.")
    remedy = "Announce its address: featurekeyctl host change-address NEW; or the vendor permits another."
    return refuse(Verdict.NOT_ENROLLED, f"The hardware is the one that was enrolled. {judged.why}", remedy=remedy)


def announcement(site: Site, address: str) -> Announcement | Finding:
    """The announcement of an address, or why there is none."""
    terms, trust = _terms(site), site.enforcer.trust
    if not terms.rules.binds_addresses:
        return accept(Verdict.ALREADY_THERE, "This product is bound to no address: it may change without a word.")
    enrolled = trust.kept.enrolled
    if enrolled is None:
        remedy = "Import the certificate first: the host is enrolled with its address then."
        return refuse(Verdict.NOT_ANNOUNCED, "No host is enrolled yet, so no address is bound.", remedy=remedy)
    announced = announce(address, enrolled.addresses, terms.site, trust.dated(site.clock()), trust.boot_id)
    if isinstance(announced, HostRefused):
        return refuse(Verdict.NOT_ANNOUNCED, announced.why, remedy=announced.remedy)
    return announced


def supposed_without(site: Site, part: str) -> tuple[HostVerdict, str] | Finding:
    """Whether it would be the enrolled host without a component or a network interface, and why."""
    evidence, enrolled = _evidence(site), site.enforcer.trust.kept.enrolled
    if enrolled is None:
        message = "No host is enrolled yet, so there is nothing to compare with."
        return refuse(Verdict.NOT_FOUND, message, remedy="Import the certificate first.")
    less = without(evidence, part)
    if isinstance(less, HostRefused):
        return refuse(Verdict.NOT_FOUND, less.why, remedy=less.remedy)
    judged = judge_host(enrolled, less, _terms(site), _moment(site))
    return judged.verdict, judged.why


def _taken(found: Enrolled | Finding | HostRefused) -> Enrolled | Finding:
    if isinstance(found, HostRefused):
        return refuse(Verdict.NOT_ENROLLED, found.why, remedy=found.remedy)
    return found


def _evidence(site: Site) -> Evidence:
    evidence = site.trusting.evidence
    assert evidence is not None, "nobody has looked at the host"
    return evidence


def _terms(site: Site) -> Terms:
    enforcer = site.enforcer
    return terms_of(enforcer.catalog.host, site.trusting.addresses, enforcer.licenses.certificate)


def _moment(site: Site) -> Moment:
    now, enforcer = site.clock(), site.enforcer
    return Moment(now=enforcer.trust.dated(now), boot_id=enforcer.trust.boot_id, today=enforcer.today(now))


def _beside_nothing(site: Site, evidence: Evidence, terms: Terms) -> Comparison:
    """The host held against an enrollment of nothing, so that each part is shown as new."""
    nothing = Enrolled(
        origin={},
        parts={},
        unread={},
        simulated=evidence.simulated,
        container=bool(evidence.container),
        on=site.enforcer.today(site.clock()),
    )
    return compare(nothing, evidence, terms.rules)


def _part(score: PartScore) -> dict[str, object]:
    return msgspec.structs.asdict(score)


def _nic(nic: HostNic, evidence: Evidence) -> dict[str, object]:
    addresses = [it.address for it in evidence.addresses if it.interface == nic.name]
    about = {"permanent": nic.permanent or None, "skipped": nic.skipped or None}
    return said({"name": nic.name, "primary": nic.primary, "addresses": addresses, **about})


def _enrollment_shown(site: Site, enrolled: Enrolled) -> dict[str, object]:
    changed, today = enrolled.changed_on, site.enforcer.today(site.clock())
    return {
        "enrolled_hardware_id": enrolled.hardware_id,
        "enrolled_on": enrolled.on.isoformat(),
        "addresses_bound": list(enrolled.addresses),
        "renewals": enrolled.renewals,
        "permit": enrolled.permit or None,
        "changed_on": None if changed is None else changed.isoformat(),
        "window_days_left": None if changed is None else max(WINDOW_DAYS - (today - changed).days, 0),
    }


def _announced_shown(site: Site) -> dict[str, object]:
    trust = site.enforcer.trust
    announced = trust.kept.announcement
    left = 0.0 if announced is None else seconds_left(announced, trust.dated(site.clock()), trust.boot_id)
    if announced is None or not left:
        return {}
    return {"announced": announced.address, "announced_seconds_left": round(left)}
