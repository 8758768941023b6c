"""What the issuer says when it will not do something: one sentence why, and the cure."""

from __future__ import annotations


class Refused(Exception):
    """The act is not done; the text says why in one sentence, and what to do about it."""

    def __init__(self, why: str, cure: str = "") -> None:
        super().__init__(f"{why} {cure}".strip())
        self.why = why
        self.cure = cure
