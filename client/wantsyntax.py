"""How wanted features are written: `sip-trunk-channels` for one instance, `sip-trunk-channels:4` for four.

Standard library only, since telephony processes import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_INSTANCES = 16383
"""The most that a license key can hold in its 14 bits, hence the most that can be wanted (io.featurekey.License)."""


@dataclass(frozen=True, slots=True)
class Want:
    """What one request takes of one feature; raises ValueError for an empty name or instances outside 1 to 16383."""

    feature: str
    instances: int = 1

    def __post_init__(self) -> None:
        if not self.feature:
            raise ValueError("a want needs the name of a feature")
        if not 1 <= self.instances <= MAX_INSTANCES:
            raise ValueError(f"{self.feature}: instances must be 1 to {MAX_INSTANCES}, not {self.instances}")

    def on_wire(self) -> dict[str, Any]:
        """The want as the interface has it."""
        return {"feature": self.feature, "instances": self.instances}


def parse_want(text: str) -> Want:
    """Read `FEATURE` or `FEATURE:N`; raises ValueError that says what is wrong."""
    feature, colon, count = text.strip().partition(":")
    if not colon:
        return Want(feature)
    if not (count.isascii() and count.isdigit()):
        raise ValueError(f"{text!r}: after the colon goes a number of instances, as in {feature or 'feature'}:4")
    # Six digits are more than enough to be out of bounds, and no text makes a number of unbounded size.
    return Want(feature, int(count[:6]) if len(count) <= 6 else MAX_INSTANCES + 1)


def parse_wants(wants: Iterable[Want | str] | Want | str) -> tuple[Want, ...]:
    """One or several wants, as values or as text; raises ValueError when there is none or one is wrong."""
    several = (wants,) if isinstance(wants, Want | str) else wants
    found = tuple(parse_want(want) if isinstance(want, str) else want for want in several)
    if not found:
        raise ValueError("at least one feature must be wanted")
    return found
