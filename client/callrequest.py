"""From what a telephony process says of a call to the request that goes to the daemon; the standard library only.

Rules: what is said of an ordinary call is right or a ValueError that names the member. Of an emergency call everything
goes along that can be carried, the rest is left out, and no value of any type gets in the way of the call.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from .limits import application_text, dialed_text, key_text, place_text
from .wantsyntax import parse_wants

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

CLASSES = ("normal", "emergency", "callback")
PHASES = ("setup", "established")


def call_request(holder: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The request of an ordinary call, or of an application that starts; raises ValueError."""
    request: dict[str, Any] = {"holder": holder} | {n: read(said[n]) for n, read in _MEMBERS.items() if n != "wants"}
    application, mode = (application_text(name, said.get(name)) for name in ("application", "mode"))
    if application is None and mode is not None:
        raise ValueError("mode is one of an application, and none is named")
    if application is None:
        return request | {"wants": _wants(said["wants"])}
    if said["wants"]:
        raise ValueError("application stands in place of wants: give one of the two")
    return request | {"wants": [], "application": application, "mode": mode}


def emergency_request(holder: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The request of an emergency call, with what of it can be carried; raises ValueError without a key."""
    request: dict[str, Any] = {"holder": holder, "key": key_text(said["key"]), "wants": []}
    for name, read in _MEMBERS.items():
        # The caller's values are of any type, and each may fail in its own way.
        with contextlib.suppress(Exception):
            request[name] = read(said[name])
    # Said plainly, so that a number which the daemon's settings lack is granted there, with an alarm.
    return request | {"class": "emergency"}


def is_emergency(call_class: object, dialed: object, numbers: Collection[str]) -> bool:
    """Whether class or number says so, or a URN of the emergency services (RFC 5031), of any types; raises nothing."""
    number = _plain(dialed)
    if number in numbers or f"{number.lower()}.".startswith("urn:service:sos."):
        return True
    return _plain(call_class).lower() == "emergency"


def _plain(value: object) -> str:
    """The text of a value of any type without the space around it, empty when it has none."""
    try:
        if isinstance(value, bytes):
            return value.decode("latin-1").strip()
        text = str.__str__(value) if isinstance(value, str) else str(value)
        return str.strip(text)
    except Exception:  # noqa: BLE001 - a value of any type may fail in its own way
        return ""


def _wants(wants: Any) -> list[dict[str, Any]]:
    return [want.on_wire() for want in parse_wants(wants)]


def _word(name: str, words: Collection[str], value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value in words:
        return str.__str__(value)
    said = repr(value) if isinstance(value, str) else f"of type {type(value).__name__}"
    raise ValueError(f"{name} must be one of {', '.join(words)}, not {said}")


_MEMBERS: dict[str, Callable[[Any], Any]] = {
    "key": key_text,
    "wants": _wants,
    "port": partial(place_text, "port"),
    "channel": partial(place_text, "channel"),
    "class": partial(_word, "call_class", CLASSES),
    "dialed": dialed_text,
    "phase": partial(_word, "phase", PHASES),
    "wait": lambda value: True if value else None,
    "rank": partial(application_text, "rank"),
}
