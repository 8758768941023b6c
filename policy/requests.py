"""What a holder asks for, checked field by field: the wire decodes straight into these values.

Limits, each with its reason:

* a holder name has 1 to 64 characters: it is a word from a configuration file;
* a key has 1 to 512: Call-ID and From-tag of SIP, where 255 is the longest Call-ID seen in the field;
* a port or channel has at most 128, a dialed number at most 64 (a SIP user part), the name of a feature, an
  application or its mode at most 64;
* the name of a rank has at most 64, as that of a feature;
* a request wants at most 8 features: a call takes two, a user profile five;
* instances fit into a license key's 14 bits.

All of them are printable, because technicians see them on a terminal and in a log. An optional member may be left out
or null, as Varlink has it.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from .catalog import Scope
from .licensekey import MAX_INSTANCES

MAX_SYNC_LEASES = 256
"""Leases in one Sync call: more come in several calls, so that nobody waits long behind a list."""

HolderName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
LeaseKey = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
PortName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Number = Annotated[str, msgspec.Meta(max_length=64)]
RankName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
FeatureName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class CallClass(enum.StrEnum):
    """What a call is for."""

    NORMAL = "normal"
    EMERGENCY = "emergency"
    CALLBACK = "callback"


class Phase(enum.StrEnum):
    """Where a call stands; during set-up some features take more (seed 001)."""

    SETUP = "setup"
    ESTABLISHED = "established"


class Want(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Instances of one feature."""

    feature: FeatureName
    instances: Annotated[int, msgspec.Meta(ge=1, le=MAX_INSTANCES)] | None = None
    """1 where nothing is said."""

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        if not self.feature.isprintable():
            check_printable(feature=self.feature)


Wants = Annotated[tuple[Want, ...], msgspec.Meta(max_length=8)]


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """One question: whether this holder may have these instances under this key."""

    holder: HolderName
    key: LeaseKey
    wants: Wants | None = None
    """None where an application is named instead."""
    port: PortName | None = None
    channel: PortName | None = None
    call_class: CallClass | None = msgspec.field(default=None, name="class")
    dialed: Number | None = None
    phase: Phase | None = None
    """None for the phase of the lease where there is one, else set-up."""
    wait: bool | None = None
    """Whether the key waits when instances are all that it lacks."""
    rank: RankName | None = None
    """Which of the feature's ranks it waits in."""
    application: FeatureName | None = None
    mode: FeatureName | None = None
    """The best mode of the application that is wanted, None for its first."""

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is, and what is neither features nor one application."""
        if not f"{self.holder}{self.key}{self.port}{self.channel}{self.dialed}{self.rank}".isprintable():  # which one?
            check_printable(holder=self.holder, key=self.key, port=self.port, channel=self.channel)
            check_printable(dialed=self.dialed, rank=self.rank)
        if self.wants is None or self.application is not None or self.mode is not None:
            _check_application(self)


class SyncLease(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """One lease in the list that a holder sends."""

    key: LeaseKey
    wants: Wants
    port: PortName | None = None
    channel: PortName | None = None
    call_class: CallClass | None = msgspec.field(default=None, name="class")
    dialed: Number | None = None

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        if not f"{self.key}{self.port}{self.channel}{self.dialed}".isprintable():
            check_printable(key=self.key, port=self.port, channel=self.channel, dialed=self.dialed)


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A holder's list of the leases of one scope, or a part of it."""

    holder: HolderName
    scope: Scope
    leases: Annotated[tuple[SyncLease, ...], msgspec.Meta(max_length=MAX_SYNC_LEASES)]
    list_age_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] | None = None
    taken_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    """Boot time (CLOCK_BOOTTIME) at which the list was taken; holds also for a list that waits to be read."""
    ttl_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    part: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    """Which part of the list this is; 1 where nothing is said."""
    last: bool | None = None
    """True where nothing is said."""
    takes_over: HolderName | None = None

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        check_printable(holder=self.holder, takes_over=self.takes_over)


def _check_application(request: Request) -> None:
    check_printable(application=request.application, mode=request.mode)
    if request.application is not None and request.wants:
        raise ValueError("`application` is refused: a request wants features or names an application")
    if request.application is None and request.wants is None:
        raise ValueError("`wants` is refused: a request wants features or names an application")
    if request.application is None and request.mode is not None:
        raise ValueError("`mode` is refused: it is one of an application, and none is named")


def check_printable(**texts: str | None) -> None:
    """Raise ValueError, which names the member, for a text that a terminal would not show as it is."""
    for name, text in texts.items():
        if text is not None and not text.isprintable():
            raise ValueError(f"`{name}` has printable characters only")
