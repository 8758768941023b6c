"""What the site has counted, as Status tells it: alarms, denials by reason, meters, and how long turns took."""

from __future__ import annotations

from featurekeyd.policy.usage_history import Sort

from .methods import said
from .site import Site
from .turntimes import BOUNDS


def alarms_of(site: Site) -> list[dict[str, object]]:
    """The alarms that stand, the earliest first."""
    boot = site.clock().boot
    return [
        {
            "feature" if alarm.subject[0] is Sort.FEATURE else "port": alarm.subject[1],
            "limit": alarm.limit,
            "in_use": alarm.in_use,
            "seconds": round(boot - alarm.since),
        }
        for alarm in site.measuring.alarms.raised.values()
    ]


def figures_of(site: Site) -> dict[str, object]:
    """Denials by feature and reason, meters, and how long turns took."""
    enforcer, times = site.enforcer, site.turn_times
    denials = sorted(enforcer.account.denials.items())
    return {
        "denials": [
            said({"feature": feature or None, "reason": reason, "denied": denied})
            for (feature, reason), denied in denials
        ],
        "meters": [
            {
                "cause": meter.cause,
                "draining": meter.active,
                "seconds_left": round(meter.left),
                "budget_seconds": round(meter.rule.seconds),
            }
            for meter in enforcer.meters.values()
        ],
        "turn_times": [
            said({"microseconds": bound, "turns": count})
            for bound, count in zip((*BOUNDS, None), times.turns, strict=True)
        ],
        "turn_seconds": times.seconds,
    }
