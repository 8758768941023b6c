"""Meters and the standing they give: budgets of time that drain while a cause lasts.

A meter runs on boot time. Its drained time is stored by the daemon and only its refill rule gives it back, so that a
restart earns nothing (DESIGN: Standing).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping

import msgspec

from .catalog import Cause, Consequence, MeterRule, Refill
from .events import Event, EventName

REFILL_RATE = 0.5
"""Seconds that a meter gets back for each second without its cause. At a second for a second, one Feature Key moved to
and fro between two hosts would keep both alive for ever: each would refill what it drained. At half of that, a host has
to have it for two thirds of the time."""


class Standing(enum.StrEnum):
    """The state of the whole system, from good to bad."""

    LICENSED = "licensed"
    GRACE = "grace"
    RESTRICTED = "restricted"
    DEACTIVATED = "deactivated"


class Grace(msgspec.Struct, frozen=True):
    """A cause that lasts: how long until its consequence, what that is, and the cure."""

    cause: str
    seconds_left: int
    consequence: str
    remedy: str


REMEDY = {
    Cause.FEATURE_KEY_ABSENT: "Put the certified Feature Key back; featurekeyctl key shows what is found.",
    Cause.UNLISTED_LICENSES: "Import the vendor's newest license list: featurekeyctl import LIST.csv",
    Cause.HOST_CHANGED: "featurekeyctl host shows what changed; featurekeyctl host enroll cures it, or the vendor.",
    Cause.NO_CHECK: "featurekeyctl check shows what failed, and the cure of each.",
    Cause.PRIMARY_UNREACHABLE: "See why the Primary does not answer. Do not restart this host: that ends the grace. "
    "featurekeyctl features shows what waits for it.",
}
"""The cure of each cause, where nothing more is known."""

_CONSEQUENCE = {
    Consequence.DEACTIVATED: "the system is deactivated: only emergency calls are granted",
    Consequence.RESTRICTED: "the system is restricted to what comes free",
    Consequence.KEYS_STOP: "license keys that the vendor's list has not confirmed stop counting",
    Consequence.SHARED_STOPS: "features that another system of the network shares stop counting",
}


class Meter:
    """One cause's budget and how much of it has drained."""

    def __init__(self, cause: Cause, rule: MeterRule, drained: float = 0.0, *, lasted: bool | None = None) -> None:
        """`drained` and whether the cause `lasted` are as an earlier run has stored them, None where it did not say."""
        self.cause = cause
        self.rule = rule
        self.drained = min(max(drained, 0.0), float(rule.seconds))
        self.active = False
        self.remedy = REMEDY[cause]
        """The cure, which may depend on what is wrong."""
        self.void = False
        """Whether there is no grace at all, because what the rule needs is not there."""
        self.lasted = self.drained > 0 if lasted is None else lasted
        """Whether the cause lasted when the earlier run ended: so it is taken to be until somebody has looked."""
        self.doubted = False
        """Whether the cause may last already: then it drains, and nothing is told or follows before that is sure."""

    @property
    def left(self) -> float:
        """Seconds until the consequence."""
        return 0.0 if self.void else self.rule.seconds - self.drained

    @property
    def spent(self) -> bool:
        """Whether the consequence has come: the cause lasts and the budget is gone."""
        return self.active and self.left <= 0

    def advance(self, elapsed: float) -> None:
        """Let boot time pass; the cause is as it was at the beginning of that time."""
        if self.active or self.doubted:
            self.drained = min(self.drained + elapsed, float(self.rule.seconds))
        elif self.rule.refill is Refill.AS_DRAINED:
            self.drained = max(self.drained - elapsed * REFILL_RATE, 0.0)

    def refill(self) -> None:
        """Give the whole budget back."""
        self.drained = 0.0

    def grace(self) -> Grace:
        """What to tell about it while it is active."""
        return Grace(str(self.cause), max(round(self.left), 0), _CONSEQUENCE[self.rule.then], self.remedy)


def meters_of(
    rules: Mapping[Cause, MeterRule], drained: Mapping[Cause, float], lasting: Collection[Cause] | None
) -> dict[Cause, Meter]:
    """The meters of a catalog, as an earlier run has left them; `lasting` is None where it did not store that."""
    lasted = {cause: None if lasting is None else cause in lasting for cause in rules}
    return {cause: Meter(cause, rule, drained.get(cause, 0), lasted=lasted[cause]) for cause, rule in rules.items()}


def advance_meters(meters: Mapping[Cause, Meter], elapsed: float, *, looked: bool) -> None:
    """Let boot time pass; before anybody has `looked`, a Feature Key that may be away refills no meter."""
    for cause, meter in meters.items():
        if looked or cause is not Cause.FEATURE_KEY_ABSENT:
            meter.advance(elapsed)


def rescue_grace(seconds: float) -> Grace:
    """What to tell while a rescue code holds the system open."""
    remedy = "Get the Feature Key exchanged before the time is over: the vendor certifies another one."
    return Grace("rescue", max(round(seconds), 0), _CONSEQUENCE[Consequence.DEACTIVATED], remedy)


def standing_of(
    meters: dict[Cause, Meter], *, certified: bool, told_no: bool = False, rescued: bool = False
) -> Standing:
    """The worst that the meters give; a system without a certificate is deactivated, and one that the vendor retired.

    A rescue code turns into grace what spent meters would take, and makes nothing else of it: where all is well, all
    is well.
    """
    if not certified or told_no:
        return Standing.DEACTIVATED
    if rescued and any(meter.spent for meter in meters.values()):
        return Standing.GRACE
    spent = {meter.rule.then for meter in meters.values() if meter.spent}
    if Consequence.DEACTIVATED in spent:
        return Standing.DEACTIVATED
    if Consequence.RESTRICTED in spent:
        return Standing.RESTRICTED
    return Standing.GRACE if any(meter.active and not meter.spent for meter in meters.values()) else Standing.LICENSED


def shared_counts(meters: Mapping[Cause, Meter]) -> bool:
    """Whether features that another system of the network shares still count."""
    return not any(meter.spent and meter.rule.then is Consequence.SHARED_STOPS for meter in meters.values())


def why_deactivated(meters: dict[Cause, Meter], serial: str | None, *, told_no: bool) -> str:
    """What would deactivate the system now, in words; empty where nothing would."""
    if serial is None:
        return "no Feature Key certificate is imported (featurekeyctl request, then certificate import)."
    if told_no:
        cure = "import the certificate and the list of the Feature Key that replaced it"
        return f"the vendor has retired serial {serial} ({cure})."
    spent = [meter for meter in meters.values() if meter.spent]
    return " ".join(f"{meter.cause} for longer than {meter.rule.budget}." for meter in spent)


def told_standing(standing: Standing, before: Standing, why: str, graces: Iterable[Grace]) -> Event:
    """The event of a change of standing: why a system is deactivated, and each cause with its time left and cure."""
    causes = " ".join(f"{grace.cause}: {grace.seconds_left} s left; {grace.remedy}" for grace in graces)
    because = f"Why: {why} " if why else ""
    message = f"The standing is {standing} (was {before}). {because}{causes}".strip()
    fields = {"STANDING": str(standing), "BEFORE": str(before)}
    return Event(name=EventName(f"standing_{standing}"), message=message, fields=fields)
