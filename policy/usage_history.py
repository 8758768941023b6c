"""The history of use: peak, decisions and busy time of each feature and each port, minute by minute.

* Between two looks at the ledger nothing changes, so busy time is a sum of rectangles and exact: instances in use times
  the time for which they were. Time is handed in: the boot clock measures, the wall clock says which minute it is.
* Whoever owns the ledger shows in `take` what a batch of decisions has changed. Where a minute is over by then, it is
  finished at its very end; only the decisions of the batch that finds it over still count to it.
* What is shown is net: what comes and goes within one batch was in use for no time. Peaks of features are found by each
  grant all the same (`account.Tally`), those of ports at the end of each batch.
* Where the wall clock was set, or nobody looked for a while (`GAP_SECONDS`), there is no telling what belongs to which
  minute: the minute ends early, and the row `counting` says how much of it was counted.
* Memory is bounded: so many ports have a row of their own, the others one together, and so have the features that no
  catalog knows, as a list may bring them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import msgspec

from .account import Account
from .instant import Now
from .ledger import Ledger

MINUTE = 60.0
"""Seconds."""

MAX_PORTS = 64
"""Ports with a row of their own: the largest system of facts/catalog.md has 48 trunks, and a switch that names ports
without end fills no disk."""

IDLE_SECONDS = 86_400.0
"""After so long without a call a port gives its row to one that has calls, where there is none left."""

GAP_SECONDS = 600.0
"""Nobody looked for longer than this: the daemon was stopped or the host asleep, and that time is not counted. The
daemon looks every five seconds."""

STEP_SECONDS = 2.0
"""The two clocks differ by more than this from one look to the next: the wall clock was set."""

MARGIN = 0.001
"""Seconds after the end of a minute at which it is looked at: a timer that rings too early finds nothing over."""

NEVER = 1 << 62
"""An alarm level that is not reached."""


class Sort(enum.StrEnum):
    """What a row is about."""

    FEATURE = "feature"
    PORT = "port"
    OTHER_PORTS = "other_ports"
    """Ports beyond `MAX_PORTS`, together."""
    OTHER_FEATURES = "other_features"
    """Features that the catalog does not know, together."""
    COUNTING = "counting"
    """The daemon itself: its busy time is the time for which it counted."""


Subject = tuple[Sort, str]
"""What a row is about, and its name; without one where it stands for several."""

_OTHER_PORTS, _OTHER_FEATURES = (Sort.OTHER_PORTS, ""), (Sort.OTHER_FEATURES, "")
_COUNTING = (Sort.COUNTING, "")


class Use(msgspec.Struct, frozen=True):
    """What was in use in one minute."""

    peak: int = 0
    """Most instances, or calls on the port, at once."""
    granted: int = 0
    """Requests that were granted instances; of a port, calls that began on it."""
    denied: int = 0
    blocked: int = 0
    """Of the denials, those for want of instances."""
    busy: int = 0
    """Instance-milliseconds: the traffic carried, in thousandths of an Erlang-second."""


class Minute(msgspec.Struct, frozen=True):
    """A minute, or what was counted of it; rows without anything in them are left out."""

    start: int
    """Minutes since 1970-01-01 UTC."""
    uses: dict[Subject, Use]

    @property
    def idle(self) -> bool:
        """Whether nothing was in use, granted or denied."""
        return self.uses.keys() <= {_COUNTING}


class Series:
    """What is in use of one subject, now and since the minute began."""

    __slots__ = ("alarm_at", "area", "denials", "grants", "level", "peak", "since", "subject", "used")

    def __init__(self, subject: Subject, boot: float) -> None:
        self.subject = subject
        self.level = 0
        """In use now."""
        self.peak = 0
        self.area = 0.0
        """Instance-seconds since the minute began, up to `since`."""
        self.since = self.used = boot
        """Boot time of the last change, and when it was last in use."""
        self.grants = 0
        self.denials = (0, 0)
        """Denied and blocked."""
        self.alarm_at = NEVER
        """The level that is to be told of."""

    def move(self, level: int, boot: float) -> bool:
        """Take in how much is in use from now on; whether it has come to the level of the alarm."""
        self.area += self.level * (boot - self.since)
        self.since = self.used = boot
        self.level = level
        self.peak = max(self.peak, level)
        return level >= self.alarm_at

    def use(self, boot: float) -> Use | None:
        """What was in use up to that boot time, None where nothing was; the next minute begins there."""
        area = self.area + self.level * max(boot - self.since, 0.0)
        found = Use(self.peak, self.grants, *self.denials, round(area * 1000))
        # A change that came with the wrong time, as after the clock was set, is counted from when it came.
        self.area, self.since = 0.0, max(boot, self.since)
        self.peak, self.grants, self.denials = self.level, 0, (0, 0)
        return found if any(msgspec.structs.astuple(found)) else None


class UsageHistory:
    """The minute that runs, and those that are finished and wait to be stored."""

    def __init__(self, account: Account, ports: tuple[str, ...], now: Now) -> None:
        """`ports` have a row each, whatever comes: those that the settings name."""
        self._account = account
        self._features = {name: Series((Sort.FEATURE, name), now.boot) for name in account.tallies}
        self._told = dict.fromkeys(self._features, (0, 0, 0))
        """Granted, denied and blocked of each feature at the end of the last minute."""
        self._up: set[str] = set()
        """Features that were in use at the last look."""
        self._kept = frozenset(ports)
        self._ports = {name: Series((Sort.PORT, name), now.boot) for name in ports}
        self._other_ports = Series(_OTHER_PORTS, now.boot)
        self._other_features = Series(_OTHER_FEATURES, now.boot)
        self._seen = now
        self._sorted = now.boot
        """Boot time at which it was last seen whether rows are not used any more."""
        self.finished: list[Minute] = []
        """Minutes that are over, the earliest first; whoever stores them takes them out."""
        self.reached: list[Series] = []
        """What has come to the level of its alarm; whoever tells of it takes them out."""
        self._begin(int(now.wall // MINUTE), now.boot)

    def find(self, sort: Sort, name: str) -> Series | None:
        """What is in use of a feature, or on a port that has a row of its own."""
        return (self._features if sort is Sort.FEATURE else self._ports).get(name)

    def keep_apart(self, ports: Iterable[str], ledger: Ledger, now: Now) -> None:
        """Give these ports a row each, whatever comes, and to no others any more."""
        self._kept = frozenset(ports)
        for port in self._kept - self._ports.keys():
            self._ports[port] = Series((Sort.PORT, port), now.boot)
        self.take(ledger, now)

    def take(self, ledger: Ledger, now: Now) -> None:
        """Take in what has changed among the leases up to that moment."""
        self.advance(now)
        boot, features, ports = now.boot, self._features, self._ports
        in_use, on_ports = ledger.sums, ledger.sums_on_ports
        if len(ports) < MAX_PORTS or self._stale(boot):
            self._make_rows(on_ports, boot)
        others = 0
        for name in in_use.keys() | self._up:
            level, series = in_use.get(name, 0), features.get(name)
            if series is None:
                others += level
            elif level != series.level:
                self._move(series, level, boot)
        if others != self._other_features.level:
            self._move(self._other_features, others, boot)
        self._up = {*in_use}
        others = sum(on_ports.values())
        for name, series in ports.items():
            level = on_ports.get(name, 0)
            others -= level
            if level != series.level:
                self._move(series, level, boot)
        if others != self._other_ports.level:
            self._move(self._other_ports, others, boot)
        self._take_decisions()

    def advance(self, now: Now) -> None:
        """Finish the minutes that are over."""
        before, self._seen = self._seen, now
        if self._begins <= now.wall < self._ends and now.boot - before.boot <= GAP_SECONDS:
            return
        elapsed = now.boot - before.boot
        if elapsed > GAP_SECONDS or abs(now.wall - before.wall - elapsed) > STEP_SECONDS:
            self._finish(now.boot if elapsed <= GAP_SECONDS else before.boot)
            self._begin(int(now.wall // MINUTE), now.boot)
            return
        while now.wall >= self._ends:
            end = max(now.boot - (now.wall - self._ends), self._boot)
            self._finish(end)
            self._begin(self._start + 1, end)
        if now.wall < self._begins:  # the clock went back by less than a step
            self._finish(now.boot)
            self._begin(int(now.wall // MINUTE), now.boot)

    def before_end(self, now: Now, seconds: float) -> float:
        """When to look next: in so many seconds, or sooner where the minute is over by then."""
        left = self._ends - now.wall
        return left + MARGIN if 0 < left < seconds else seconds

    def close(self, now: Now) -> None:
        """Finish the minute that runs, before its end."""
        self.advance(now)
        self._finish(now.boot)
        self._begin(self._start, now.boot)

    def _begin(self, start: int, boot: float) -> None:
        self._start, self._boot = start, boot
        self._begins, self._ends = start * MINUTE, (start + 1) * MINUTE
        for series in self._all():
            series.since = max(series.since, boot)

    def _finish(self, boot: float) -> None:
        for name, tally in self._account.tallies.items():
            series, told = self._features[name], self._told[name]
            series.peak = max(series.peak, tally.high)
            tally.begin_minute()
            series.grants = tally.granted - told[0]
            series.denials = (tally.denied - told[1], tally.blocked - told[2])
            self._told[name] = (tally.granted, tally.denied, tally.blocked)
        uses = {series.subject: series.use(boot) for series in self._all()}
        uses[_COUNTING] = Use(busy=round((boot - self._boot) * 1000))
        self.finished.append(Minute(self._start, {subject: use for subject, use in uses.items() if use is not None}))

    def _all(self) -> list[Series]:
        return [*self._features.values(), *self._ports.values(), self._other_ports, self._other_features]

    def _move(self, series: Series, level: int, boot: float) -> None:
        if series.move(level, boot):
            self.reached.append(series)

    def _take_decisions(self) -> None:
        """Count what was decided about calls on ports."""
        account = self._account
        for port, granted in account.granted_at.items():
            self._ports.get(port, self._other_ports).grants += granted
        for port, it in account.denied_at.items():
            series = self._ports.get(port, self._other_ports)
            denied, blocked = series.denials
            series.denials = (denied + it.denied, blocked + it.blocked)
        account.granted_at.clear()
        account.denied_at.clear()

    def _stale(self, boot: float) -> bool:
        """Whether it is time to see which of the rows are not used any more."""
        if boot - self._sorted < IDLE_SECONDS / 24:
            return False
        self._sorted = boot
        return True

    def _make_rows(self, on_ports: Mapping[str, int], boot: float) -> None:
        """Give ports with calls on them a row each, as long as there is room."""
        for port in on_ports.keys() - self._ports.keys():
            if not self._room(boot):
                return
            self._ports[port] = Series((Sort.PORT, port), boot)

    def _room(self, boot: float) -> bool:
        """Whether one more port may have a row, if need be in place of the one that was idle longest."""
        if len(self._ports) < MAX_PORTS:
            return True
        idle = [it for it in self._ports.values() if not it.level and it.subject[1] not in self._kept]
        longest = min(idle, key=lambda it: it.used, default=None)
        if longest is None or boot - longest.used < IDLE_SECONDS:
            return False
        del self._ports[longest.subject[1]]
        return True
