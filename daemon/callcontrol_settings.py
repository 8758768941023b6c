"""`[call_control]`: the socket for a switch that asks by the module call_control, and the rules of the site for it.

Without the table there is no such socket: without rules nobody would know what a call takes, and what is not there
needs no watching over.
"""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from featurekeyd.policy.callrules import MAX_CONDITIONS, MAX_ENTRIES, MAX_PATTERN, MAX_RULES, CallRule, Network
from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.licensekey import MAX_INSTANCES
from featurekeyd.policy.requests import CallClass, HolderName, PortName, Want
from featurekeyd.policy.tables import Mistake

_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATTERN)]
_Patterns = Annotated[tuple[_Pattern, ...], msgspec.Meta(max_length=MAX_CONDITIONS)]


class RuleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[call_control.rules]]`: what calls take that meet the conditions."""

    source: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CONDITIONS)] = ()
    """Addresses or networks that the INVITE comes from."""
    dialed: _Patterns = ()
    """Patterns of the user part of the Request-URI."""
    host: _Patterns = ()
    """Patterns of its host."""
    diverter: _Patterns = ()
    """Patterns of who diverted the call."""
    port: PortName | None = None
    wants: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()
    """`FEATURE` or `FEATURE:INSTANCES`; none where such calls are not counted."""
    call_class: CallClass | None = msgspec.field(default=None, name="class")


class CallControlTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[call_control]`."""

    rules: Annotated[tuple[RuleTable, ...], msgspec.Meta(min_length=1, max_length=MAX_RULES)]
    socket: str = "/run/featurekeyd/call_control"
    holder: HolderName = "kamailio"
    dialogs: Literal["memory", "database"] = "memory"
    """Where the switch keeps its dialogs: whether they outlive it."""
    longest_call_seconds: Annotated[int, msgspec.Meta(ge=10, le=30 * 86_400)] = 43_500
    """After so long from the INVITE on the switch itself has ended a call: the `default_timeout` of its dialogs, 12 h
    where nothing is said, and the time that it lets one ring."""


class CallControl(msgspec.Struct, frozen=True, kw_only=True):
    """The same, checked."""

    socket: Path
    holder: str
    survive: bool
    """Whether calls outlive the processes of the switch."""
    longest_call: float
    """Seconds."""
    rules: tuple[CallRule, ...]


def read_call_control(table: CallControlTable | None, mistakes: list[Mistake]) -> CallControl | None:
    """What the table says, None where there is none; mistakes are added by dotted key."""
    if table is None:
        return None
    if not table.socket.startswith("/") or "\0" in table.socket:
        mistakes.append(Mistake("call_control.socket", f"{table.socket!a} is no absolute path"))
    if not table.holder.isprintable():
        mistakes.append(Mistake("call_control.holder", "it has printable characters only"))
    rules = tuple(_rule(f"call_control.rules[{n}]", rule, mistakes) for n, rule in enumerate(table.rules))
    entries = sum(rule.entries for rule in rules)
    if entries > MAX_ENTRIES:
        what = f"the rules have {entries} addresses and patterns, and at most {MAX_ENTRIES} keep answers quick"
        mistakes.append(Mistake("call_control.rules", what))
    return CallControl(
        socket=Path(table.socket),
        holder=table.holder,
        survive=table.dialogs == "database",
        longest_call=float(table.longest_call_seconds),
        rules=rules,
    )


def check_wants(control: CallControl | None, catalog: Catalog) -> list[Mistake]:
    """Features that the rules want and the catalog does not have, by dotted key."""
    return [
        Mistake(f"call_control.rules[{number}].wants", f"{catalog.id} has no feature {want.feature!r}")
        for number, rule in enumerate(control.rules if control else ())
        for want in rule.wants
        if want.feature not in catalog.features
    ]


def _rule(where: str, table: RuleTable, mistakes: list[Mistake]) -> CallRule:
    if table.port is not None and not table.port.isprintable():
        mistakes.append(Mistake(f"{where}.port", "it has printable characters only"))
    if table.port is not None and not table.wants:
        mistakes.append(Mistake(f"{where}.port", "a call that wants nothing is not counted on a port; add wants"))
    wants = [_want(f"{where}.wants", text, mistakes) for text in table.wants]
    return CallRule(
        source=tuple(itertools.chain(*(_network(f"{where}.source", text, mistakes) for text in table.source))),
        dialed=table.dialed,
        host=tuple(pattern.lower() for pattern in table.host),
        diverter=table.diverter,
        port=table.port,
        wants=tuple(want for want in wants if want is not None),
        call_class=table.call_class,
    )


def _network(where: str, text: str, mistakes: list[Mistake]) -> list[Network]:
    try:
        return [ipaddress.ip_network(text)]
    except ValueError as error:
        mistakes.append(Mistake(where, f"{text[:64]!a} is no network ({error}); write one such as 192.0.2.0/24"))
        return []


def _want(where: str, text: str, mistakes: list[Mistake]) -> Want | None:
    feature, colon, count = text.strip().partition(":")
    instances = int(count) if count.isascii() and count.isdigit() and len(count) <= 5 else 0
    if not 1 <= len(feature) <= 64 or not feature.isprintable() or (colon and not 1 <= instances <= MAX_INSTANCES):
        mistakes.append(Mistake(where, f"{text[:80]!a} is no want; write FEATURE or FEATURE:INSTANCES"))
        return None
    return Want(feature, instances if colon else None)
