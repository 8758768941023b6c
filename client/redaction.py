"""What a support bundle leaves out: license keys, names of calls, addresses.

What is the same stays the same: the same call gets the same mark everywhere, so that its way can be followed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LICENSE_KEY = re.compile(r"\b([0-9A-Za-z]{4})(?:[ -]?[0-9A-Za-z]{4}){6}[ -]?([0-9A-Za-z]{4})\b")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_CALL = re.compile(r'(?P<before>"(?:key|dialed)": "|\b(?:LEASE|KEY|DIALED)=)(?P<name>(?:\\.|[^"\\\s\]])+)')
_IPV4 = re.compile(r"\b(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}\b")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2}[0-9a-fA-F:]*:[0-9a-fA-F]{1,4}(?![\w:])")
_MAC = re.compile(r"\b((?:[0-9a-fA-F]{2}:){2}[0-9a-fA-F]{2}):(?:[0-9a-fA-F]{2}:){2}[0-9a-fA-F]{2}\b")
_LOOPBACK = "127.0"


def redacted(text: str, *, addresses: bool = False) -> str:
    """The text without what is nobody's business; `addresses` leaves those as they are."""
    salt = secrets.token_bytes(16)  # so that nobody can try all telephone numbers against the marks
    text = _CALL.sub(_marked(salt), text)
    text = _LICENSE_KEY.sub(_shortened, text)
    if addresses:
        return text
    text = _MAC.sub(r"\1:xx:xx:xx", text)
    text = _IPV6.sub("(IPv6 address)", text)
    return _IPV4.sub(lambda it: it[0] if it[1] == _LOOPBACK else f"{it[1]}.x.x", text)


def _shortened(found: re.Match[str]) -> str:
    # 32 hexadecimal digits in one piece are a digest or a MESSAGE_ID; a key is shown in groups or in capitals.
    return found[0] if _DIGEST.fullmatch(found[0]) else f"{found[1]}-…-{found[2]}"


def _marked(salt: bytes) -> Callable[[re.Match[str]], str]:
    def mark(found: re.Match[str]) -> str:
        digest = hashlib.sha256(salt + found["name"].encode(errors="replace")).hexdigest()[:10]
        return f"{found['before']}call-{digest}"

    return mark
