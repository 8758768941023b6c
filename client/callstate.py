"""`featurekeyctl explain --call ID`: a call as it stands, what it holds, and which licenses cover that.

Rule: a call is found by what a technician has at hand, a Call-ID or a uniqueid; where several calls go by it, all are
shown. Which licenses there are is shown to who may manage; what they allow together is shown to everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .call import LICENSE, MANAGE, PermissionRefused
from .console import clean, out, out_fields, out_json, span
from .exits import DONE, REFUSED
from .reading import member, needed, objects
from .tables import Column, out_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .session import Session

Row = dict[str, Any]

_COUNTING = frozenset({"valid", "unknown"})
"""Statuses of licenses that count: on the list, or typed and within the time that keys may be missing there."""

_CLASSES = {
    "emergency": "emergency: granted before every other test, takes nothing and is not counted",
    "callback": "callback to an emergency call: granted, takes nothing and is not counted",
}


def explain_call(session: Session, call: str, holder: str | None) -> int:
    """Show every lease that goes by the name; status 1 where there is none."""
    found = session.ask(f"{LICENSE}.FindCall", call=call, holder=holder)
    leases = objects(found, "leases")
    features = objects(session.ask(f"{LICENSE}.ListFeatures"), "features") if leases else []
    licenses = _licenses(session) if leases else None
    calls = [lease | {"features": _covered(lease, features, licenses)} for lease in leases]
    if session.as_json:
        out_json({"calls": calls} | {name: found.get(name) for name in ("ended", "omitted")})
    elif calls:
        _show_calls(calls, member(found, "omitted", int) or 0)
    else:
        out("\n".join(_ended_lines(call, found)))
    return DONE if calls else REFUSED


def _licenses(session: Session) -> list[Row] | None:
    """The installed licenses, None where this user may not see them."""
    try:
        return session.collect(f"{MANAGE}.ListLicenses", "license")
    except PermissionRefused:
        return None


def _covered(lease: Mapping[str, Any], features: list[Row], licenses: list[Row] | None) -> list[Row]:
    """What the lease holds of each feature, beside what is in use, what is allowed, and by what."""
    by_name = {feature.get("feature"): feature for feature in features}
    return [_cover(want, by_name.get(needed(want, "feature", str)), licenses) for want in objects(lease, "wants")]


def _cover(want: Row, feature: Row | None, licenses: list[Row] | None) -> Row:
    name, count = needed(want, "feature", str), member(want, "instances", int)
    row: Row = {"feature": name, "instances": 1 if count is None else count}
    if feature is None:
        return row | {"in_use": None, "limit": None, "free": False, "base": 0, "licenses": [], "lack": None}
    row |= {number: needed(feature, number, int) for number in ("in_use", "limit", "base")}
    row |= {"free": feature.get("unlimited") is True, "lack": member(feature, "lack", str)}
    row["licenses"] = None if licenses is None else [_license(it) for it in licenses if _counts(it, name)]
    return row


def _counts(license_: Row, feature: str) -> bool:
    return license_.get("feature") == feature and license_.get("status") in _COUNTING


def _license(license_: Row) -> Row:
    return {name: license_.get(name) for name in ("key", "instances", "status", "expires")}


def _show_calls(calls: list[Row], omitted: int) -> None:
    if len(calls) > 1:
        out(f"{len(calls) + omitted} calls go by this name{f', the first {len(calls)} are shown' * bool(omitted)}")
    for number, call in enumerate(calls):
        if number or len(calls) > 1:
            out("")
        _show_call(call)


def _show_call(call: Row) -> None:
    call_class = needed(call, "class", str)
    place = None if call.get("port") is None else f"port {call['port']}, channel {clean(call.get('channel'))}"
    fields: list[tuple[str, object]] = [
        ("Key", needed(call, "key", str)),
        ("Holder", needed(call, "holder", str)),
        ("Class", _CLASSES.get(call_class, call_class)),
        ("Phase", call.get("phase")),
        ("Since", f"{span(needed(call, 'age_seconds', int))} ago"),
        ("Where", place),
        ("Scope", f"{call.get('scope')}{', freed with its connection' if call.get('bound') else ''}"),
    ]
    if given_back := _wants(call, "given_back"):
        fields.append(("Given back", f"{given_back}: taken for call set-up alone"))
    if presence := _wants(call, "presence"):
        fields.append(("Goes with", f"{presence}: to be licensed is enough, nothing is taken"))
    out_fields(fields)
    columns = [Column("FEATURE"), *(Column(name, number=True) for name in ("HOLDS", "IN USE", "LIMIT"))]
    rows = [_feature_row(row) for row in call["features"]]
    out_table([*columns, Column("COVERED BY")], rows, empty="It holds no instance of any feature.")


def _wants(call: Row, name: str) -> str:
    return ", ".join(f"{want.get('feature')}:{want.get('instances', 1)}" for want in objects(call, name))


def _feature_row(row: Row) -> list[object]:
    limit = "free" if row["free"] else row["limit"]
    return [row["feature"], row["instances"], row["in_use"], limit, _cover_text(row)]


def _cover_text(row: Row) -> str:
    if row["free"]:
        return "nothing needed: the feature is free"
    if row["limit"] is None:
        return "nothing: the catalog has no such feature any more"
    if row["limit"] == 0:
        return f"nothing now ({row['lack'] or 'not licensed'}); the call is not cut"
    said = [f"{row['base']} that come with the system"] if row["base"] else []
    if row["licenses"] is None:
        said.append("licenses are shown to who may manage")
    else:
        said += [_license_text(license_) for license_ in row["licenses"]]
    return "; ".join(said)


def _license_text(license_: Row) -> str:
    until = f", until {license_['expires']}" if license_["expires"] is not None else ""
    unlisted = ", not on a list yet" if license_["status"] == "unknown" else ""
    return f"license {license_['key']} ({license_['instances']}{until}{unlisted})"


def _ended_lines(call: str, found: Mapping[str, Any]) -> list[str]:
    lines = [f"no lease goes by {clean(call)}"]
    for ended in objects(found, "ended"):
        ago = span(needed(ended, "seconds", int))
        lines.append(f"  {clean(ended.get('key'))} of {clean(ended.get('holder'))} was given back {ago} ago")
    if len(lines) == 1:
        lines.append("  and none was given back lately; a call that was refused has none: journalctl -u featurekeyd")
    elif omitted := member(found, "omitted", int):
        lines.append(f"  and {omitted} more")
    return lines
