"""Metrics: what Status and ListFeatures tell, as metric families of the Prometheus client library.

`METRICS` is the one table of names; docs/metrics.md says the same to people, and a test holds the two together. Names
and labels are stable: dashboards and alerts are built on them. Counters begin at 0 when the daemon starts, as
Prometheus expects of them (`rate` and `increase` know restarts). A series that is not known is left out, never 0.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .call import LICENSE, CallError, ReplyGarbled
from .reading import member, needed, objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    Ask = Callable[[str], dict[str, Any]]

STANDINGS = ("licensed", "grace", "restricted", "deactivated")

KEY_STATES = (
    "present", "absent", "no-permission", "busy", "touch-required", "unconfigured", "garbled", "unsupported", "fault",
    "wrong-key", "wrong-answer", "uncertified", "not-looked-yet",
)  # fmt: skip
CLOCKS = ("right", "set_back", "ahead", "unset")
HOSTS = ("same", "changed", "cannot_tell", "not_enrolled", "not_looked_yet")

EXPECTED_DENIALS = ("limit_reached", "reserved", "others_wait", "ceiling_reached")
"""Reasons that begin at 0 for each feature: of a series that begins with its first denials, `increase` sees none."""

DAY = 86_400


class Named(NamedTuple):
    """A metric: its type, its labels and what it says."""

    type: str
    labels: tuple[str, ...]
    says: str


METRICS = {
    "featurekeyd_up": Named("gauge", (), "Whether the daemon answers; all others are left out while it does not."),
    "featurekeyd_build_info": Named("gauge", ("version", "catalog", "platform"), "Always 1."),
    "featurekeyd_simulated": Named("gauge", (), "Whether anything of the system is simulated."),
    "featurekeyd_uptime_seconds": Named("gauge", (), "Time since the daemon started."),
    "featurekeyd_standing": Named("gauge", ("standing",), "1 for the standing that the system has, 0 for the others."),
    "featurekeyd_feature_key_present": Named("gauge", (), "Whether the certified Feature Key is there."),
    "featurekeyd_feature_key_state": Named("gauge", ("state",), "1 for what is found of the key, 0 for the rest."),
    "featurekeyd_meter_left_seconds": Named("gauge", ("cause",), "Time until the consequence of a cause that lasts."),
    "featurekeyd_meter_budget_seconds": Named("gauge", ("cause",), "The whole budget of a meter."),
    "featurekeyd_meter_draining": Named("gauge", ("cause",), "Whether the cause lasts now."),
    "featurekeyd_feature_limit": Named("gauge", ("feature",), "Instances that may be in use; +Inf where all may."),
    "featurekeyd_feature_in_use": Named("gauge", ("feature",), "Instances in use."),
    "featurekeyd_feature_peak": Named("gauge", ("feature",), "Most instances in use since the start."),
    "featurekeyd_feature_over": Named("gauge", ("feature",), "Instances in use above the limit."),
    "featurekeyd_feature_reserved": Named("gauge", ("feature",), "Free instances that are set aside."),
    "featurekeyd_feature_expiry_timestamp_seconds": Named(
        "gauge", ("feature",), "When the first license that counts ends; left out where none has a term."
    ),
    "featurekeyd_feature_granted_total": Named("counter", ("feature",), "Requests that were granted instances."),
    "featurekeyd_denied_total": Named(
        "counter", ("feature", "reason"), "Requests denied; without a feature where the catalog has none such."
    ),
    "featurekeyd_decisions_total": Named("counter", ("decision",), "Decisions, allow or deny."),
    "featurekeyd_turn_seconds": Named("histogram", (), "How long turns took, in which calls are answered."),
    "featurekeyd_leases": Named("gauge", (), "Leases."),
    "featurekeyd_holder_leases": Named("gauge", ("holder",), "Leases of a telephony system."),
    "featurekeyd_holder_silent_seconds": Named("gauge", ("holder",), "Time since a telephony system was heard."),
    "featurekeyd_holder_ttl_seconds": Named(
        "gauge", ("holder",), "Silence that a telephony system has announced; left out where it has not."
    ),
    "featurekeyd_holder_drift_total": Named(
        "counter", ("holder", "kind"), "Lists that differed, and channels that were still held."
    ),
    "featurekeyd_port_ceiling": Named("gauge", ("port",), "Calls that may be on a port, by the settings."),
    "featurekeyd_port_in_use": Named("gauge", ("port",), "Calls on a port that has a ceiling."),
    "featurekeyd_port_peak": Named("gauge", ("port",), "Most calls on it since the start."),
    "featurekeyd_alarm": Named("gauge", ("feature", "port"), "1 for each feature or port that is nearly full."),
    "featurekeyd_emergency_calls": Named("gauge", (), "Emergency calls now."),
    "featurekeyd_emergency_calls_total": Named("counter", (), "Emergency calls."),
    "featurekeyd_emergency_claims_total": Named("counter", (), "Emergency calls whose number is not on the list."),
    "featurekeyd_check_passed": Named("gauge", (), "Whether the last check passed."),
    "featurekeyd_check_age_seconds": Named("gauge", (), "Time since the last check."),
    "featurekeyd_rescue_left_seconds": Named("gauge", (), "Time for which a rescue code holds the system open."),
    "featurekeyd_clock_right": Named("gauge", (), "Whether the clock is believed."),
    "featurekeyd_clock_state": Named("gauge", ("state",), "1 for what the clock is, 0 for the rest."),
    "featurekeyd_host_same": Named("gauge", (), "Whether this is the enrolled host."),
    "featurekeyd_host_state": Named("gauge", ("state",), "1 for what the host is, 0 for the rest."),
}
"""Every metric by name, in the order of its exposition."""

Samples = dict[str, list[tuple[tuple[str, ...], float]]]
"""Values by name, each with its labels."""


class Collector:
    """Asks the daemon when it is asked for metrics; for a CollectorRegistry."""

    def __init__(self, ask: Ask, *, away_is_a_value: bool) -> None:
        """`ask` asks a method of io.featurekey.License; a daemon that is away is `featurekeyd_up 0`, or a CallError."""
        self._ask = ask
        self._away_is_a_value = away_is_a_value
        self.trouble: CallError | None = None
        """Why the daemon did not answer the last time."""

    def collect(self) -> Iterator[Metric]:
        """The families, in the order of `METRICS`; raises CallError."""
        self.trouble = None
        try:
            status, features = self._ask(f"{LICENSE}.Status"), self._ask(f"{LICENSE}.ListFeatures")
            found = [*families(status, objects(features, "features"))]
        except CallError as error:
            if not self._away_is_a_value:
                raise
            self.trouble = error
            yield _family("featurekeyd_up", [((), 0.0)])
            return
        yield from found


def exposition(collector: Collector) -> str:
    """The metrics as text; raises CallError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return bytes(generate_latest(registry)).decode()


def listed(collector: Collector) -> list[dict[str, Any]]:
    """The same as plain values, for JSON, which knows no infinity: it is null; raises CallError."""
    return [
        {"name": it.name, "labels": dict(it.labels), "value": None if it.value == float("inf") else it.value}
        for family in collector.collect()
        for it in family.samples
    ]


def families(status: Mapping[str, Any], features: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """The families of these replies; raises ReplyGarbled."""
    samples: Samples = {name: [] for name in METRICS}
    _add_system(samples, status)
    _add_trust(samples, status)
    for feature in features:
        _add_feature(samples, feature)
    _add_lists(samples, status)
    _add_expected_denials(samples)
    for name, values in samples.items():
        if name == "featurekeyd_turn_seconds":
            yield _histogram(name, status)
        elif values:
            yield _family(name, values)


def _family(name: str, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    named = METRICS[name]
    kind = CounterMetricFamily if named.type == "counter" else GaugeMetricFamily
    family = kind(name, named.says, labels=named.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histogram(name: str, status: Mapping[str, Any]) -> Metric:
    buckets, so_far = [], 0
    for each in objects(status, "turn_times"):
        so_far += needed(each, "turns", int)
        bound = member(each, "microseconds", int)
        buckets.append(("+Inf" if bound is None else str(bound / 1e6), so_far))
    return HistogramMetricFamily(name, METRICS[name].says, buckets=buckets, sum_value=_number(status, "turn_seconds"))


def _add_system(samples: Samples, status: Mapping[str, Any]) -> None:
    samples["featurekeyd_up"] = [((), 1.0)]
    build = tuple(needed(status, name, str) for name in ("version", "catalog", "platform"))
    samples["featurekeyd_build_info"] = [(build, 1.0)]
    samples["featurekeyd_simulated"] = [((), needed(status, "simulated", bool))]
    samples["featurekeyd_standing"] = _one_of(STANDINGS, needed(status, "standing", str))
    state = needed(needed(status, "feature_key", dict), "state", str)
    samples["featurekeyd_feature_key_present"] = [((), state == "present")]
    samples["featurekeyd_feature_key_state"] = _one_of(KEY_STATES, state)
    decisions = (("allow", "granted"), ("deny", "denied"))
    samples["featurekeyd_decisions_total"] = [((name,), needed(status, of, int)) for name, of in decisions]
    plain = {
        "featurekeyd_uptime_seconds": "uptime_seconds",
        "featurekeyd_leases": "leases",
        "featurekeyd_emergency_calls": "emergency_now",
        "featurekeyd_emergency_calls_total": "emergency_total",
        "featurekeyd_emergency_claims_total": "emergency_claims",
    }
    for name, of in plain.items():
        samples[name] = [((), needed(status, of, int))]


def _one_of(known: tuple[str, ...], state: str) -> list[tuple[tuple[str, ...], float]]:
    """1 for the state and 0 for all others, so that no series begins or ends with a change."""
    return [((name,), name == state) for name in dict.fromkeys((*known, state))]


def _add_trust(samples: Samples, status: Mapping[str, Any]) -> None:
    clock, host = needed(status, "clock", str), needed(status, "host", str)
    samples["featurekeyd_clock_right"] = [((), clock == "right")]
    samples["featurekeyd_clock_state"] = _one_of(CLOCKS, clock)
    samples["featurekeyd_host_same"] = [((), host == "same")]
    samples["featurekeyd_host_state"] = _one_of(HOSTS, host)
    passed, age = member(status, "check_passed", bool), member(status, "check_seconds", int)
    if passed is not None and age is not None:
        samples["featurekeyd_check_passed"] = [((), passed)]
        samples["featurekeyd_check_age_seconds"] = [((), age)]
    rescue = member(status, "rescue_seconds_left", int)
    if rescue is not None:
        samples["featurekeyd_rescue_left_seconds"] = [((), rescue)]


def _add_feature(samples: Samples, feature: Mapping[str, Any]) -> None:
    name = (needed(feature, "feature", str),)
    limit = float("inf") if member(feature, "unlimited", bool) else needed(feature, "limit", int)
    samples["featurekeyd_feature_limit"].append((name, limit))
    for of in ("in_use", "peak"):
        samples[f"featurekeyd_feature_{of}"].append((name, needed(feature, of, int)))
    for of in ("over", "reserved"):
        samples[f"featurekeyd_feature_{of}"].append((name, member(feature, of, int) or 0))
    samples["featurekeyd_feature_granted_total"].append((name, needed(feature, "granted", int)))
    expires = member(feature, "expires", str)
    if expires is not None:
        samples["featurekeyd_feature_expiry_timestamp_seconds"].append((name, _end_of(expires)))


def _end_of(day: str) -> float:
    """The end of a day in UTC."""
    try:
        date = datetime.date.fromisoformat(day)
    except ValueError:
        raise ReplyGarbled("reply: member expires is no day") from None
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp() + DAY


_LISTS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("featurekeyd_denied_total", "denials", ("feature", "reason"), "denied"),
    ("featurekeyd_meter_left_seconds", "meters", ("cause",), "seconds_left"),
    ("featurekeyd_meter_budget_seconds", "meters", ("cause",), "budget_seconds"),
    ("featurekeyd_holder_leases", "holders", ("holder",), "leases"),
    ("featurekeyd_holder_silent_seconds", "holders", ("holder",), "silent_seconds"),
    ("featurekeyd_port_ceiling", "ports", ("port",), "ceiling"),
    ("featurekeyd_port_in_use", "ports", ("port",), "in_use"),
    ("featurekeyd_port_peak", "ports", ("port",), "peak"),
)
"""Metric, the list in Status it is made of, the members that are its labels, and the one that is its value."""


def _add_lists(samples: Samples, status: Mapping[str, Any]) -> None:
    for name, of, labels, value in _LISTS:
        for each in objects(status, of):
            named = tuple(member(each, label, str) or "" for label in labels)
            samples[name].append((named, needed(each, value, int)))
    for meter in objects(status, "meters"):
        cause = (needed(meter, "cause", str),)
        samples["featurekeyd_meter_draining"].append((cause, needed(meter, "draining", bool)))
    for holder in objects(status, "holders"):
        ttl = member(holder, "ttl_seconds", int)
        if ttl is not None:
            samples["featurekeyd_holder_ttl_seconds"].append(((needed(holder, "holder", str),), ttl))
        for kind, of in (("list", "drift"), ("channel", "channel_drift")):
            labels = (needed(holder, "holder", str), kind)
            samples["featurekeyd_holder_drift_total"].append((labels, needed(holder, of, int)))
    for alarm in objects(status, "alarms"):
        labels = (member(alarm, "feature", str) or "", member(alarm, "port", str) or "")
        samples["featurekeyd_alarm"].append((labels, 1.0))


def _add_expected_denials(samples: Samples) -> None:
    """0 for each feature that has a limit, and each reason that a busy hour may bring."""
    there = {labels for labels, _ in samples["featurekeyd_denied_total"]}
    limited = [labels[0] for labels, limit in samples["featurekeyd_feature_limit"] if limit != float("inf")]
    expected = [(feature, reason) for feature in limited for reason in EXPECTED_DENIALS]
    samples["featurekeyd_denied_total"] += [(labels, 0) for labels in expected if labels not in there]


def _number(reply: Mapping[str, Any], name: str) -> float:
    value = reply.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReplyGarbled(f"reply: member {name} is no number")
    return float(value)
