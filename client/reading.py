"""Members of a reply, taken out with their type checked; the standard library only.

A reply that lacks what the interface promises raises ReplyGarbled with the name of the member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .call import ReplyGarbled

if TYPE_CHECKING:
    from collections.abc import Mapping

_Value = TypeVar("_Value")


def member(reply: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value | None:
    """The member, None when it is left out; raises ReplyGarbled for another type."""
    value = reply.get(name)
    # In Python a bool is an int; in JSON it is not.
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ReplyGarbled(f"reply: member {name} has the wrong type")
    return value


def needed(reply: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    """The member; raises ReplyGarbled when it is left out or of another type."""
    value = member(reply, name, kind)
    if value is None:
        raise ReplyGarbled(f"reply: member {name} is missing")
    return value


def objects(reply: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The member as a list of objects, empty when it is left out; raises ReplyGarbled."""
    listed = member(reply, name, list) or []
    if not all(isinstance(element, dict) for element in listed):
        raise ReplyGarbled(f"reply: an element of {name} is not an object")
    return listed


class Said(dict[str, object]):
    """Parameters of an error for a sentence; one that the daemon left out reads as a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"
