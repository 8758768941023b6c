"""Alarms: a feature or a port is nearly full, raised at one level and cleared at a lower one.

* Raised at once when so much is in use; cleared when less has been in use for a minute (`CLEAR_SECONDS`), at every
  look. So an alarm stands for a minute at least, and what goes up and down around one level is told once.
* The levels are percentages of the limit in whole instances. The level that clears is always below the one that raises.
* Alarms are for what has a limit of two or more: with one, every use would be an alarm. What is not counted, not
  limited, or not licensed has none, and a feature that is taken by configuration only where the settings name it: as
  many telephones as licenses are no fault.
* Nothing of this is stored: after a restart what is nearly full is told anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from .catalog import UNLIMITED, Catalog, Mode
from .enforcer import Enforcer
from .events import Event, EventName
from .instant import Now
from .tables import Mistake
from .usage_history import NEVER, Series, Sort, Subject, UsageHistory

CLEAR_SECONDS = 60.0
"""For so long less must be in use before an alarm is cleared: a call that ends is often followed by another one."""

_OVER = "No longer nearly full: "

LEAST_LIMIT = 2
"""Where one is all there is, its use is no alarm."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """When an alarm is raised and cleared, in percent of the limit; the field's usual 90 and 80 (facts/field.md)."""

    raise_percent: int = 90
    clear_percent: int = 80
    off: bool = False
    """No alarm at all."""


class AlarmRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of alarms."""

    usual: Threshold = Threshold()
    features: dict[str, Threshold] = {}
    """For these another one than the usual."""
    ports: dict[str, Threshold] = {}


class Levels(msgspec.Struct, frozen=True):
    """When the alarm of one subject is raised and cleared, in instances."""

    raised: int
    """Raised when as many are in use."""
    cleared: int
    """Cleared when no more than that are."""


class Alarm(msgspec.Struct):
    """An alarm that stands."""

    subject: Subject
    limit: int
    since: float
    """Boot time at which it was raised."""
    series: Series
    low_since: float | None = None
    """Boot time since which no more is in use than what clears it."""

    @property
    def in_use(self) -> int:
        """In use now."""
        return self.series.level


def check_alarms(catalog: Catalog, rules: AlarmRules) -> list[Mistake]:
    """What the settings say of alarms that does not fit the catalog."""
    known = catalog.features
    unknown = {name: "the catalog has no such feature" for name in rules.features if name not in known}
    uncounted = {
        name: "nobody takes it, so it is never nearly full"
        for name in rules.features.keys() & known.keys()
        if known[name].mode is Mode.PRESENCE
    }
    return [Mistake(f"alarms.features.{name}", what) for name, what in sorted((unknown | uncounted).items())]


def levels(threshold: Threshold, limit: int) -> Levels | None:
    """The levels for a limit, None where there is no alarm."""
    if threshold.off or not LEAST_LIMIT <= limit < UNLIMITED:
        return None
    raised = max(math.ceil(limit * threshold.raise_percent / 100), 1)
    return Levels(raised, min(limit * threshold.clear_percent // 100, raised - 1))


class Alarms:
    """The alarms of one system; its history tells what comes to the level of an alarm."""

    def __init__(self, rules: AlarmRules, history: UsageHistory) -> None:
        self.raised: dict[Subject, Alarm] = {}
        """The alarms that stand, the earliest first."""
        self._rules = rules
        self._history = history
        self._known: tuple[object, object, object] | None = None
        """What the levels were last worked out of."""
        self._levels: dict[Subject, tuple[Levels, int]] = {}
        """Levels and limit."""

    def adopt(self, rules: AlarmRules) -> None:
        """Let other settings count from the next look on."""
        self._rules, self._known = rules, None

    def look(self, enforcer: Enforcer, moment: Now) -> list[Event]:
        """What is to be told; asked now and then, and next to nothing to do while no limit changes."""
        self.measure(enforcer, moment)
        boot = moment.boot
        told = self.tell_reached(enforcer, boot)
        return told + [event for alarm in list(self.raised.values()) for event in self._cleared(alarm, enforcer, boot)]

    def measure(self, enforcer: Enforcer, moment: Now) -> None:
        """Work the levels out anew where a limit may have changed; what is above its level is then reached."""
        known, now = self._known, (enforcer.entitlements, enforcer.standing, enforcer.rules)
        if known is None or any(one is not other for one, other in zip(known, now, strict=True)):
            self._known = now
            self._history.keep_apart(enforcer.rules.ceilings, enforcer.ledger, moment)
            self._set_levels(enforcer)

    def tell_reached(self, enforcer: Enforcer, boot: float) -> list[Event]:
        """What is to be told of that which has come to its level since the last time."""
        reached, self._history.reached = self._history.reached, []
        return [event for series in reached for event in self._raise(series, enforcer, boot)]

    def _set_levels(self, enforcer: Enforcer) -> None:
        limits = {(Sort.FEATURE, name): enforcer.limit(name) for name in enforcer.catalog.features}
        limits |= {(Sort.PORT, name): ceiling for name, ceiling in enforcer.rules.ceilings.items()}
        self._levels.clear()
        for subject, limit in limits.items():
            found = levels(self._threshold(subject, enforcer), limit)
            series = self._history.find(*subject)
            if found is not None:
                self._levels[subject] = (found, limit)
            if series is not None and subject not in self.raised:
                series.alarm_at = NEVER if found is None else found.raised
                if series.level >= series.alarm_at:
                    self._history.reached.append(series)

    def _threshold(self, subject: Subject, enforcer: Enforcer) -> Threshold:
        sort, name = subject
        if sort is Sort.PORT:
            return self._rules.ports.get(name, self._rules.usual)
        counted = enforcer.catalog.features[name].mode not in {Mode.PRESENCE, Mode.CONFIGURATION}
        return self._rules.features.get(name, self._rules.usual if counted else Threshold(off=True))

    def _raise(self, series: Series, enforcer: Enforcer, boot: float) -> Iterable[Event]:
        found = self._levels.get(series.subject)
        if found is None or series.subject in self.raised or series.level < found[0].raised:
            return
        series.alarm_at = NEVER  # it is told once; each later call pays nothing
        alarm = self.raised[series.subject] = Alarm(series.subject, found[1], boot, series)
        yield _event(
            EventName.ALARM_RAISED, alarm, enforcer, f"Nearly full: {_count(alarm, enforcer)} are in use.", found[0]
        )

    def _cleared(self, alarm: Alarm, enforcer: Enforcer, boot: float) -> Iterable[Event]:
        found = self._levels.get(alarm.subject)
        if found is not None:
            alarm.limit = found[1]
        if found is not None and alarm.in_use > found[0].cleared:
            alarm.low_since = None
            return
        if alarm.low_since is None:
            alarm.low_since = boot
        if boot - alarm.low_since < CLEAR_SECONDS:
            return
        del self.raised[alarm.subject]
        if found is not None:
            alarm.series.alarm_at = found[0].raised
        said = f"{_OVER}{_count(alarm, enforcer)} are in use." if found is not None else self._why_not(alarm, enforcer)
        yield _event(EventName.ALARM_CLEARED, alarm, enforcer, said, None if found is None else found[0])

    def _why_not(self, alarm: Alarm, enforcer: Enforcer) -> str:
        """Why there are no levels for what has an alarm."""
        sort, name = alarm.subject
        there = name in (enforcer.rules.ceilings if sort is Sort.PORT else enforcer.catalog.features)
        if there and self._threshold(alarm.subject, enforcer).off:
            return f"No alarm any more, as the settings say: {_count(alarm, enforcer)} are in use."
        return f"{_OVER}There is no limit to measure it by any more."


def _count(alarm: Alarm, enforcer: Enforcer) -> str:
    sort, name = alarm.subject
    title = f"calls on port {name}" if sort is Sort.PORT else enforcer.catalog.features[name].title
    return f"{alarm.in_use} of {alarm.limit} {title}"


def _event(name: EventName, alarm: Alarm, enforcer: Enforcer, said: str, at: Levels | None) -> Event:
    sort, subject = alarm.subject
    fields = {"FEATURE" if sort is Sort.FEATURE else "PORT": subject}
    fields |= {"LIMIT": str(alarm.limit), "IN_USE": str(alarm.in_use), "STANDING": str(enforcer.standing)}
    if at is not None:
        fields |= {"RAISED_AT": str(at.raised), "CLEARED_AT": str(at.cleared)}
    return Event(name=name, message=said, fields=fields)
