"""How wanted features are written: `sip-trunk-channels` for one instance, `sip-trunk-channels:4` for four.

Standard library only, since telephony processes import it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .limits import MAX_FEATURE, MAX_WANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_INSTANCES = 16383
"""The most that a license key can hold in its 14 bits, hence the most that can be wanted (io.featurekey.License)."""


@dataclass(frozen=True, slots=True)
class Want:
    """What one request takes of one feature.

    Raises ValueError for a name that is not 1 to 64 printable characters, and instances outside 1 to 16383.
    """

    feature: str
    instances: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.feature, str) and self.feature):
            raise ValueError("a want needs the name of a feature")
        if len(self.feature) > MAX_FEATURE or not self.feature.isprintable():
            raise ValueError(f"a want needs the name of a feature: printable, with at most {MAX_FEATURE} characters")
        if type(self.instances) is not int or not 1 <= self.instances <= MAX_INSTANCES:
            raise ValueError(f"{self.feature}: instances must be a whole number of 1 to {MAX_INSTANCES}")

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
    """One or several wants, as values or as text; raises ValueError when there is none, one is wrong, or over 8."""
    several = _several(wants)
    # No more than needed for the finding: nobody knows how long what was handed in goes on.
    found = tuple(_want(want) for want in itertools.islice(several, MAX_WANTS + 1))
    if not found:
        raise ValueError("at least one feature must be wanted")
    if len(found) > MAX_WANTS:
        raise ValueError(f"no more than {MAX_WANTS} features must be wanted at once")
    return found


def _several(wants: object) -> Iterator[object]:
    if isinstance(wants, Want | str):
        return iter((wants,))
    try:
        return iter(wants)  # type: ignore[call-overload,no-any-return]
    except TypeError:
        raise ValueError(f"wants must be features, as in sip-trunk-channels:4, not {type(wants).__name__}") from None


def _want(want: object) -> Want:
    if isinstance(want, Want):
        return want
    if isinstance(want, str):
        return parse_want(want)
    raise ValueError(f"a want must be a text, as in sip-trunk-channels:4, or a Want, not {type(want).__name__}")
