"""What the site shows of Feature Key, clock, host, checks and rescue code; several methods tell it."""

from __future__ import annotations

from featurekeyd.policy.presence import Sighting

from .hosting import verdict_of
from .methods import said
from .site import Site


def feature_key_state(site: Site, seen: Sighting | None = None) -> dict[str, object]:
    """The Feature Key as type FeatureKeyState, and as CheckNow answers; what counts unless a sighting is given."""
    seen = seen or site.enforcer.feature_key
    return said(
        {
            "state": seen.state,
            "finding": seen.finding,
            "reader": seen.reader or site.settings.reader,
            "kind": seen.kind,
            "hardware_id": seen.hardware_id,
            "assurance": seen.assurance,
            "simulated": seen.simulated,
        }
    )


def trust_status(site: Site) -> dict[str, object]:
    """Clock, host, checks and rescue code, as Status tells them."""
    enforcer, trusting, boot = site.enforcer, site.trusting, site.clock().boot
    trust, serial = enforcer.trust, enforcer.licenses.serial
    rescue = trust.rescue_left(serial, enforcer.today(site.clock()))
    checked = trusting.checked
    return {
        "clock": trust.clock,
        "host": verdict_of(trust),
        "check_passed": trust.check_passed,
        "check_seconds": None if checked is None else round(boot - checked),
        "check_due_seconds": None if serial is None else round(trusting.schedule.seconds_until(boot)),
        "rescue_seconds_left": round(rescue) if rescue else None,
    }
