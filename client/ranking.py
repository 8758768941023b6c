"""Puts what was found in order: one fault for each cause, the worst first, and what only follows from it left out.

A technician reads the first paragraph and acts on it. So a cause is told with what it does and how long that may last,
and not beside it; and no cure is shown that would not help while its cause lasts. Pure: faults in, faults out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .faults import Fault, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_TRUST = (
    "not_certified", "key_uncertified", "state_refused", "vendor_keys_changed", "edition_unlicensed", "license_",
    "check_failing", "no_check", "refused_",
)  # fmt: skip
"""What follows where nothing signed is believed."""

TOLD_WITH = {
    "key_": ("feature_key_absent", "license_invalid"),
    "host_is_changed": ("host_changed",),
    "check_failing": ("no_check",),
    "license_unknown": ("unlisted_licenses", "refused_license_unlisted"),
    "license_expired": ("refused_license_expired",),
    "license_dormant": ("refused_prerequisite_missing",),
    "port_full": ("refused_ceiling_reached",),
}
"""Beginning of a cause's name, and what is told in the same breath: it says what the cause does."""

FOLLOWS = {
    "self_test_failed": (*_NO_TRUST, "no_vendor_key"),
    "vendor_key_bad": (*_NO_TRUST, "no_vendor_key"),
    "no_vendor_key": _NO_TRUST,
    "state_set_aside": ("not_certified", "check_failing"),
    "state_refused": ("not_certified", "check_failing"),
    "state_tampered": ("check_failing",),
    "state_unusable": ("state_not_stored", "state_nearly_full"),
    "runtime_unusable": ("leases_not_recorded", "runtime_nearly_full"),
    "settings_bad": ("socket_missing", "daemon_away", "unit_down"),
    "port_held": ("key_garbled", "key_busy", "key_absent", "modem_manager"),
    "user_not_in_group": ("client_refused",),
    "service_not_restarted": ("client_refused",),
    "socket_": ("socket_trouble",),
    "key_": ("check_failing", "refused_not_licensed"),
    "host_is_changed": ("check_failing",),
    "license_unknown": ("check_failing",),
    "license_expired": ("refused_not_licensed", "check_failing"),
    "license_dormant": ("edition_unlicensed",),
    "clock_": ("check_failing",),
    "retired": ("license_", "check_failing"),
}
"""Beginning of a cause's name, and what is left out beside it: it would be cured with it."""

LAST = "simulated"
"""Told after everything else: it is no news to whoever tries something out."""


def ranked(found: Iterable[Fault]) -> list[Fault]:
    """The faults to be told, the worst first."""
    faults = list(found)
    for cause, followers in TOLD_WITH.items():
        faults = _told_with(faults, cause, followers)
    for cause, followers in FOLLOWS.items():
        faults = _without_followers(faults, cause, followers)
    return sorted(faults, key=lambda it: (it.name == LAST, it.severity is not Severity.FAULT))


def _told_with(faults: list[Fault], cause: str, followers: tuple[str, ...]) -> list[Fault]:
    first = next((it for it in faults if it.name.startswith(cause)), None)
    if first is None:
        return faults
    added = [it for it in faults if it.name in followers]
    what = " ".join(_sentence(each) for each in (first.what, *(it.effect or it.what for it in added)))
    told = Fault(first.name, _worst([first, *added]), what, first.cause, first.cure)
    return [told if it is first else it for it in faults if it not in added]


def _without_followers(faults: list[Fault], cause: str, followers: tuple[str, ...]) -> list[Fault]:
    roots = [it for it in faults if it.name.startswith(cause) and it.name not in followers]
    if not roots:
        return faults
    left_out = [it for it in faults if it.name.startswith(followers) and it not in roots]
    worst = _worst([roots[0], *left_out])
    told = Fault(roots[0].name, worst, roots[0].what, roots[0].cause, roots[0].cure)
    return [told if it is roots[0] else it for it in faults if it not in left_out]


def _sentence(text: str) -> str:
    """The text with the full stop that what a reader says may lack."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _worst(faults: list[Fault]) -> Severity:
    return min((it.severity for it in faults), key=list(Severity).index)
