"""What the interface carries, and what goes in place of a name that it does not carry; the standard library only.

The limits are those in the head of daemon/io.featurekey.License.varlink; a test compares the two. Rules:

* A far end chooses its Call-ID, so a key that cannot be carried is no mistake of anybody here: it is replaced by a
  stand-in and never refused. One refused key would make a whole Sync fail, and with it every lease of the holder.
* A name has one stand-in for ever, in the library and in featurekeyctl, and a stand-in is its own stand-in: whoever
  reads it in `featurekeyctl leases` can release it.
* A switch's script passes numbers where a name is wanted, as for a channel; they are taken as text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HOLDER = 64
MAX_KEY = 512
MAX_PLACE = 128
"""Of a port and of a channel."""
MAX_DIALED = 64
MAX_FEATURE = 64
"""Of a feature, an application and its mode."""
MAX_WANTS = 8
MAX_SYNC_LEASES = 256
MAX_MESSAGE = 524_288
"""Bytes of one message, from a user who need not be one that manages."""

SYNC_ROOM = MAX_MESSAGE - 4096
"""Bytes for the leases of one Sync. Two holder names of 64 letters, 12 bytes each in JSON, and the other members,
which are numbers, take less than 2,000."""

STAND_IN_HEAD = 60
"""Characters of the name at the beginning of its stand-in: enough to know a Call-ID again."""

STAND_IN_DIGITS = 32
"""Hexadecimal digits behind them, 128 bits: no far end finds two names with one stand-in."""


def carried(text: str, limit: int) -> str:
    """The text itself, or its stand-in when it is longer than the limit or not printable."""
    if len(text) <= limit and text.isprintable():
        return text
    head = "".join(itertools.islice(filter(str.isprintable, text), STAND_IN_HEAD))
    # Bytes that were not UTF-8 come in as lone surrogates, which plain UTF-8 does not know.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{head}~{digest[:STAND_IN_DIGITS]}"


def application_text(name: str, value: object) -> str | None:
    """The name of an application or its mode; raises ValueError for one that no catalog can have."""
    if value is None:
        return None
    text = text_of(name, value)
    if not (1 <= len(text) <= MAX_FEATURE and text.isprintable()):
        raise ValueError(f"{name} needs 1 to {MAX_FEATURE} printable characters")
    return text


def text_of(name: str, value: object) -> str:
    """A text or a whole number as text; raises ValueError for anything else."""
    if isinstance(value, str):
        # A text of a class of its own, as an enumeration has it, may show itself as something else.
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise ValueError(f"{name} must be a text or a whole number, not of type {type(value).__name__}")


def key_text(key: object) -> str:
    """A key as the interface carries it; raises ValueError for an empty one, or for neither text nor number."""
    text = text_of("key", key)
    if not text:
        raise ValueError("the key must not be empty")
    return carried(text, MAX_KEY)


def place_text(name: str, place: object) -> str | None:
    """A port or channel as the interface carries it, None for an empty one; raises ValueError."""
    text = "" if place is None else text_of(name, place)
    return carried(text, MAX_PLACE) if text else None


def dialed_text(dialed: object) -> str | None:
    """A dialed number without the space around it, None for one that cannot be carried; raises ValueError.

    A number is only compared with the emergency numbers, so a stand-in would be of no use, and a shortened number
    might be taken for one of them.
    """
    text = "" if dialed is None else text_of("dialed", dialed).strip()
    return text if 0 < len(text) <= MAX_DIALED and text.isprintable() else None


def holder_text(holder: object) -> str:
    """A holder name, which comes from a configuration file; raises ValueError when it cannot be carried."""
    text = text_of("holder", holder)
    if not text:
        raise ValueError("the holder must have a name")
    if len(text) > MAX_HOLDER or not text.isprintable():
        raise ValueError(f"the name of the holder must be printable and have at most {MAX_HOLDER} characters")
    return text


def sync_parts(leases: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The list in parts, each of which fits into one Sync; one empty part for an empty list."""
    parts: list[list[dict[str, Any]]] = [[]]
    room = SYNC_ROOM
    for lease in leases:
        size = len(json.dumps(lease)) + 1
        if parts[-1] and (size > room or len(parts[-1]) == MAX_SYNC_LEASES):
            parts.append([])
            room = SYNC_ROOM
        parts[-1].append(lease)
        room -= size
    return parts
