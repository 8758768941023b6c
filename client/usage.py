"""Sums over the leases: who uses how much of what.

An emergency call is never in use: its lease is listed and its instances are not summed (DESIGN: The decision).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from .reading import member, needed, objects

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUPINGS = {
    "feature": ("feature",),
    "holder": ("holder", "feature"),
    "port": ("port", "feature"),
    "channel": ("port", "channel", "feature"),
}
"""What each grouping counts by."""

FEATURE_NUMBERS = ("limit", "in_use", "peak", "granted", "denied")
"""Members of a feature that go beside its sum."""

Row = dict[str, Any]


def sums(leases: Iterable[Row], by: str) -> list[Row]:
    """Leases and instances for each group, sorted by the group's names; raises ReplyGarbled."""
    found: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(lambda: [0, 0])
    for lease in leases:
        emergency = lease.get("class") == "emergency"
        for want in objects(lease, "wants"):
            values = {**lease, "feature": needed(want, "feature", str)}
            total = found[tuple(member(values, name, str) for name in GROUPINGS[by])]
            total[0] += 1
            total[1] += 0 if emergency else _instances(want)
    groups = sorted(found.items(), key=lambda item: [name or "" for name in item[0]])
    return [
        dict(zip(GROUPINGS[by], names, strict=True)) | {"leases": leases_, "instances": instances}
        for names, (leases_, instances) in groups
    ]


def with_limits(rows: list[Row], features: list[Row]) -> list[Row]:
    """Every feature in the catalog's order with its limit, free instances, peak, granted and denied.

    Features that are in use and not in the catalog any more come last, with None for what is not known of them.
    """
    by_name = {row["feature"]: row for row in rows}
    known = [_with_limit(feature, by_name) for feature in features]
    names = {row["feature"] for row in known}
    unknown = dict.fromkeys((*FEATURE_NUMBERS, "free"))
    return known + [row | unknown for row in rows if row["feature"] not in names]


def _with_limit(feature: Row, by_name: dict[str, Row]) -> Row:
    name = needed(feature, "feature", str)
    row: Row = {"feature": name, "leases": 0, "instances": 0} | by_name.get(name, {})
    row |= {number: needed(feature, number, int) for number in FEATURE_NUMBERS}
    row["free"] = max(0, row["limit"] - row["in_use"])
    return row


def _instances(want: Row) -> int:
    instances = member(want, "instances", int)
    return 1 if instances is None else instances
